"""A mosaic that grows while its exposures arrive: a coarse preview, refreshed in a fraction of a second.

An image is averaged in blocks, so that its longer side has some five hundred, and the blocks are drizzled
(`resample.drizzle`, square kernel) onto a canvas: cells of equal size on a plane that touches the sky in the
middle of the first image, north up. A cell has the mean S of what fell on it and the weight W,

    W' = W + w      S' = S + w (s - b - S) / W'

where w is the exposure time that an image brings the cell (s; blocks weigh by how many of their pixels are
good, and cells by how much of them is covered) and s its value there. The level b of an image is the median
of s - S over the cells that it shares with what is there, so that no chessboard appears; 0 where it shares
none. Pointings are those of the images' own WCS, and outliers stay: the mosaic that is built in the end has
neither fault.

Memory is bounded whatever comes: the canvas grows as images fall beside it, and before a side would exceed
`LIMIT`, cells are joined two by two, which keeps all sums (S W and W, a quarter of it for the fourfold area).
Pairs are counted from the point of contact, so that it does not matter when cells are joined: but for levels
and rounding, the canvas is the same for any order of images after the first. S and W are float32, each change
is computed in float64, and there is no other state.

Source: Fruchter & Hook 2002, PASP 114, 144, equations 4 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, NON_SCIENCE
from upramp.stages.core.errors import NotApplicable
from upramp.stages.core.kernel import kernel
from upramp.stages.resample.combine import Drizzling, dropper
from upramp.stages.resample.drizzle import extent
from upramp.stages.resample.grid import Grid, Sky, pixel_scale, rotation
from upramp.stages.resample.pixmap import pixmap

SIDE = 512
"""Blocks of an image's longer side, at most."""

LIMIT = 2048
"""Cells of the canvas' longer side, at most."""

FEWEST = 25
"""Cells that an image must share with the canvas to be levelled; of fewer, a star may be the median."""

NORTH_UP = rotation(0.0, -1)

_UNUSABLE = DO_NOT_USE | NON_SCIENCE
_CORNER = -0.5  # a corner of cells lies at the point of contact, and does so however often they are joined
_PRECISION = 1e-3  # of positions, cells
_MARGIN = 2  # cells around an image: blocks over the rim would be left out
_ALONG = 65  # points along each side of an image that tell where it lies


@kernel
def averaged(sci, dq, by, amount, means, weight):
    """Means of the good pixels of blocks ``by`` x ``by``, and ``amount`` for each of these pixels.

    ``sci`` (ny, nx) float32, ``dq`` uint32; ``means`` and ``weight`` float32, smaller, are filled. What is
    left over at the end of a row or column is a block of its own.
    """
    ny, nx = sci.shape
    for r in range(means.shape[0]):
        for c in range(means.shape[1]):
            total, n = 0.0, 0
            for y in range(r * by, min((r + 1) * by, ny)):
                for x in range(c * by, min((c + 1) * by, nx)):
                    if not dq[y, x] & _UNUSABLE and np.isfinite(sci[y, x]):
                        total += np.float64(sci[y, x])
                        n += 1
            means[r, c] = total / n if n else 0.0
            weight[r, c] = n * amount


@kernel
def absorb(sums, level, sci, wht, y0, x0):
    """Add an image's sums (rows, columns, 2: weights, weighted values) to cells from row ``y0`` and column
    ``x0`` on, ``level`` taken off."""
    for r in range(sums.shape[0]):
        for c in range(sums.shape[1]):
            w, y, x = np.float64(sums[r, c, 0]), y0 + r, x0 + c
            if not w > 0:
                continue
            value, whole = sums[r, c, 1] / w - level, wht[y, x] + w
            before = np.float64(sci[y, x]) if wht[y, x] > 0 else 0.0
            sci[y, x] = before + w * (value - before) / whole
            wht[y, x] = whole


@kernel
def join(sci, wht, dy, dx, out_sci, out_wht):
    """Cells joined two by two. The first ones are the second of their pairs where ``dy``, ``dx`` are 1."""
    ny, nx = sci.shape
    for r in range(out_sci.shape[0]):
        for c in range(out_sci.shape[1]):
            total, whole = 0.0, 0.0
            for y in range(max(2 * r - dy, 0), min(2 * r - dy + 2, ny)):
                for x in range(max(2 * c - dx, 0), min(2 * c - dx + 2, nx)):
                    if wht[y, x] > 0:
                        whole += np.float64(wht[y, x])
                        total += np.float64(wht[y, x]) * np.float64(sci[y, x])
            out_sci[r, c] = total / whole if whole > 0 else np.nan
            out_wht[r, c] = whole / 4


@dataclass
class Canvas:
    """Cells with a mean and a weight.

    Attributes
    ----------
    crval : tuple of float
        Point of contact: right ascension and declination, degrees.
    scale : float
        Side of a cell, degrees.
    x0, y0 : int
        Place of the first cell in the lattice whose corner (between cells -1 and 0) is the point of contact.
    sci : ndarray, float32 (ny, nx)
        Means, in the unit of the images; NaN where nothing fell.
    wht : ndarray, float32 (ny, nx)
        Exposure time, s.
    """

    crval: tuple[float, float]
    scale: float
    x0: int
    y0: int
    sci: np.ndarray
    wht: np.ndarray

    @classmethod
    def about(cls, sky: Sky, shape: tuple[int, int]) -> Canvas:
        """An empty canvas for an image of ``shape`` (ny, nx), in the middle of it.

        Raises
        ------
        NotApplicable
            If the image has no place on the sky.
        """
        y, x = ((n - 1) / 2 for n in shape)
        ra, dec = sky(np.array([x]), np.array([y]))
        scale = pixel_scale(sky, x, y) * _block(shape)
        if not (np.isfinite(ra[0]) and np.isfinite(dec[0]) and scale > 0):
            raise NotApplicable("it has no place on the sky")
        empty = np.zeros((0, 0), np.float32)
        return cls((float(ra[0]), float(dec[0])), scale, 0, 0, empty, empty.copy())

    @classmethod
    def on(cls, grid: Grid, sci: np.ndarray, wht: np.ndarray) -> Canvas:
        """The canvas that has these cells; ``grid`` is that of `grid` when it had them."""
        x0, y0 = (round(_CORNER - p) for p in grid.crpix)
        return cls(grid.crval, grid.scale, x0, y0, sci, wht)

    @property
    def grid(self) -> Grid:
        """Where its cells lie on the sky."""
        ny, nx = self.sci.shape
        return Grid(self.crval, (_CORNER - self.x0, _CORNER - self.y0), self.scale, NORTH_UP, (ny, nx))

    def put(self, sci: np.ndarray, dq: np.ndarray, sky: Sky, seconds: float) -> float:
        """Add an image; its level, which was taken off.

        Parameters
        ----------
        sci : ndarray, float32 (ny, nx)
        dq : ndarray, uint32 (ny, nx)
            Pixels with DO_NOT_USE or NON_SCIENCE are left out.
        sky : callable
            From its pixels to the sky, see `Sky`.
        seconds : float
            Its exposure time.

        Raises
        ------
        NotApplicable
            If it has no place on the canvas' plane; nothing is changed then.
        """
        shape = sci.shape[0], sci.shape[1]
        by = _block(shape)
        self._reserve(sky, shape)
        size = -(-shape[0] // by), -(-shape[1] // by)
        side = by * pixel_scale(sky, (shape[1] - 1) / 2, (shape[0] - 1) / 2)
        means, weight = np.empty((*size, 1), np.float32), np.empty(size, np.float32)
        amount = seconds * (side / self.scale / by) ** 2
        averaged(sci, dq, by, amount, means.reshape(size), weight)
        grid, centre = self.grid, (by - 1) / 2
        where = pixmap(lambda x, y: grid.pixels(*sky(x * by + centre, y * by + centre)), size, _PRECISION)
        r0, r1, c0, c1 = extent(where, grid.shape)
        sums = np.zeros((r1 - r0, c1 - c0, 2), np.float32)
        none, how = np.zeros((0, 0), np.uint32), Drizzling(scale_ratio=self.scale / side)
        dropper(how, means, weight, none, where, grid.shape)(r0, r1, c0, sums, None, None, none)
        part = np.s_[r0:r1, c0:c1]
        level = _level(sums, self.sci[part], self.wht[part])
        absorb(sums, level, self.sci, self.wht, r0, c0)
        return level

    def _reserve(self, sky: Sky, shape: tuple[int, int]) -> None:
        """Grow, and join cells, until an image has its place."""
        ny, nx = shape
        along = np.linspace(-0.5, 0.5, _ALONG)
        x = np.concatenate([nx * along, nx * along, np.full(_ALONG, -nx / 2), np.full(_ALONG, nx / 2)])
        y = np.concatenate([np.full(_ALONG, -ny / 2), np.full(_ALONG, ny / 2), ny * along, ny * along])
        ra, dec = sky(x + (nx - 1) / 2, y + (ny - 1) / 2)
        plane = Grid(self.crval, (0.0, 0.0), self.scale, NORTH_UP, (1, 1))
        ends = [(a.min(), a.max()) for a in plane.pixels(ra, dec)]
        if not np.isfinite(ends).all():
            raise NotApplicable("it has no place on the sky, or lies on the other side of it")
        while True:
            bounds = []
            for (low, high), first, n in zip(ends, (self.x0, self.y0), self.sci.shape[::-1], strict=True):
                lo, hi = int(np.floor(low)) - _MARGIN, int(np.ceil(high)) + _MARGIN
                bounds.append((min(lo, first), max(hi, first + n)) if n else (lo, hi))
            if max(hi - lo for lo, hi in bounds) <= LIMIT:
                break
            self.join()
            ends = [(low / 2, high / 2) for low, high in ends]
        (x0, x1), (y0, y1) = bounds
        if (x1 - x0, y1 - y0) == self.sci.shape[::-1]:
            return
        rows, columns = self.sci.shape
        part = np.s_[self.y0 - y0 : self.y0 - y0 + rows, self.x0 - x0 : self.x0 - x0 + columns]
        for name, nothing in (("sci", np.nan), ("wht", 0.0)):
            grown = np.full((y1 - y0, x1 - x0), nothing, np.float32)
            if rows:
                grown[part] = getattr(self, name)
            setattr(self, name, grown)
        self.x0, self.y0 = x0, y0

    def join(self) -> None:
        """Make cells twice as wide and high."""
        ny, nx = self.sci.shape
        dy, dx = self.y0 % 2, self.x0 % 2
        sci, wht = np.empty((2, -(-(ny + dy) // 2), -(-(nx + dx) // 2)), np.float32)
        join(self.sci, self.wht, dy, dx, sci, wht)
        self.sci, self.wht, self.scale = sci, wht, 2 * self.scale
        self.x0, self.y0 = self.x0 // 2, self.y0 // 2


def _block(shape: tuple[int, int]) -> int:
    """Side of the blocks of an image, pixels. It follows from the image alone."""
    return -(-max(shape) // SIDE)


def _level(sums: np.ndarray, sci: np.ndarray, wht: np.ndarray) -> float:
    """The median of what an image's values are above those of the cells."""
    both = (sums[..., 0] > 0) & (wht > 0)
    if np.count_nonzero(both) < FEWEST:
        return 0.0
    mine, there = sums[both], sci[both]
    return float(np.median(mine[:, 1] / mine[:, 0] - there))
