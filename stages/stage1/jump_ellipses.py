"""Regions of pixels that hang together, and the ellipses that stand for them: snowballs and showers.

A region is what hangs together by sides or corners. It counts if it is large enough with its holes filled
(what cannot be reached from outside by sides or corners). Its ellipse has the second moments of the region
(without what was filled): the full axes are

    4 sqrt(eigenvalues of the moments) - 1

and are made longer by a factor, both by as many pixels as the minor axis gains.

Source: moments, orientation and the pixels of a turned ellipse as scikit-image has them, down to the last
bit, since a circle's pixels on its very edge depend on that. What counts as large, the axes and their growth
were measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from upramp.stages.core.kernel import kernel

SMALL = 1 << 12  # pixels of a region, with those around it, that is remembered

Outline = tuple[int, int, int, int, float, float]
"""Row and column of the centre, minor and major half axis, cosine and sine of the angle."""


@dataclass(frozen=True)
class Ellipse:
    """Centre and full axes in pixels; the angle from the rows' axis to the major one, degrees."""

    x: float
    y: float
    minor: float
    major: float
    angle: float

    def half_axes(self, factor: float, limit: float) -> tuple[int, int]:
        """Minor and major half axis, pixels, with both longer by what the smaller gains by ``factor``."""
        return self.longer((factor - 1) * min(self.minor, self.major), limit)

    def longer(self, more: float, limit: float) -> tuple[int, int]:
        """Minor and major half axis, pixels, ``more`` being added to the full axes."""
        minor, major = (int(min(round((axis + more) / 2), limit)) for axis in (self.minor, self.major))
        return minor, major

    def outline(self, half_axes: tuple[int, int]) -> Outline:
        """About the nearest pixel, with these half axes (minor, major): a row for `paint`."""
        turn = np.radians(self.angle) % np.pi
        return (round(self.y), round(self.x), *half_axes, float(np.cos(turn)), float(np.sin(turn)))

    def pixels(self, factor: float, limit: float, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns (int64) within an image of ``shape`` that the longer ellipse covers, by rows."""
        row, column, minor, major, cos, sin = self.outline(self.half_axes(factor, limit))
        y0, x0 = (max(centre - max(minor, major), 0) for centre in (row, column))
        size = [
            max(min(centre + max(minor, major) + 1, end) - start, 0)
            for centre, end, start in zip((row, column), shape, (y0, x0), strict=True)
        ]
        image = np.zeros(size, np.uint8)
        paint(image, np.array([[row - y0, column - x0, minor, major, cos, sin]]), 0, 0, 1)
        rows, columns = np.nonzero(image)
        return rows + y0, columns + x0


@kernel
def paint(flags, outlines, unless, keep, put):
    """Make ``flags`` (uint8) ``flags & keep | put`` within ellipses, but where a bit of ``unless`` is set.

    ``outlines`` (n, 6) float64, rows as `Outline`. What lies on an edge does not belong to an ellipse. A half
    axis may be negative: of a line of pixels, thinner than nothing, little is left. Returns how many changed.
    """
    ny, nx = flags.shape
    changed = 0
    for k in range(len(outlines)):
        y, x, minor, major, cos, sin = outlines[k]
        if minor == 0 or major == 0:
            continue
        # what rounding leaves of a reach that is 0 must not make it negative
        high = int(np.floor(64 + (np.abs(major * cos) + minor * sin))) - 64
        wide = int(np.floor(64 + (major * sin + np.abs(minor * cos)))) - 64
        for v in range(max(int(y) - high, 0), min(int(y) + high + 1, ny)):
            dy, line = v - y, flags[v]
            for u in range(max(int(x) - wide, 0), min(int(x) + wide + 1, nx)):
                dx = u - x
                along, across = (dy * cos + dx * sin) / major, (dy * sin - dx * cos) / minor
                if along * along + across * across < 1 and line[u] & unless == 0:
                    new = np.uint8((line[u] & keep) | put)
                    changed += new != line[u]
                    line[u] = new
    return changed


@kernel
def find_regions(image, least, queue):
    """Regions of ``image`` whose area with holes filled is at least ``least``.

    ``image``: uint8, C-contiguous; left all 0. ``queue`` (int64) must hold as many elements as pixels are
    set; afterwards it holds the pixels (flat indices) of one region after the other. Returns an array
    (regions, 6): where a region begins and ends in ``queue``, its first row, the row past its last, and the
    same of columns.
    """
    ny, nx = image.shape
    flat = image.reshape(ny * nx)
    found = np.empty((16, 6), np.int64)
    k = end = 0
    words = flat[: ny * nx // 8 * 8].view(np.uint64)  # most are 0
    seed = -1
    while True:
        seed += 1
        while seed % 8 == 0 and seed // 8 < words.size and words[seed // 8] == 0:
            seed += 8
        if seed >= ny * nx:
            break
        if flat[seed] == 0:
            continue
        start = end
        flat[seed] = 0
        queue[end] = seed
        end += 1
        y0 = y1 = seed // nx
        x0 = x1 = seed % nx
        done = start
        while done < end:
            y, x = queue[done] // nx, queue[done] % nx
            done += 1
            y1, x0, x1 = max(y1, y), min(x0, x), max(x1, x)
            for v in range(max(y - 1, 0), min(y + 2, ny)):
                for u in range(max(x - 1, 0), min(x + 2, nx)):
                    if flat[v * nx + u]:
                        flat[v * nx + u] = 0
                        queue[end] = v * nx + u
                        end += 1
        if end - start < least:
            rows, columns = y1 - y0 + 1, x1 - x0 + 1
            if rows * columns < least or filled_area(queue[start:end], nx, y0, rows, x0, columns) < least:
                continue
        if k == len(found):
            more = np.empty((2 * k, 6), np.int64)
            more[:k] = found
            found = more
        found[k] = start, end, y0, y1 + 1, x0, x1 + 1
        k += 1
    return found[:k]


@kernel
def filled_area(pixels, nx, y0, rows, x0, columns):
    """Area of a region with its holes; ``pixels`` are flat indices of an image of ``nx`` columns."""
    ny, wide = rows + 2, columns + 2  # with a rim that is outside
    free = np.ones(ny * wide, np.bool_)
    for p in pixels:
        free[(p // nx - y0 + 1) * wide + p % nx - x0 + 1] = False
    queue = np.empty(ny * wide, np.int64)
    queue[0], end, done = 0, 1, 0
    free[0] = False
    while done < end:
        y, x = queue[done] // wide, queue[done] % wide
        done += 1
        for v in range(max(y - 1, 0), min(y + 2, ny)):
            for u in range(max(x - 1, 0), min(x + 2, wide)):
                if free[v * wide + u]:
                    free[v * wide + u] = False
                    queue[end] = v * wide + u
                    end += 1
    return ny * wide - end


@kernel
def find_centres(queue, found, nx, centres):
    """Mean column and row of each region into ``centres`` (regions, 2) float64; arrays of `find_regions`."""
    for k in range(len(found)):
        n, sx, sy = found[k, 1] - found[k, 0], 0, 0
        for p in queue[found[k, 0] : found[k, 1]]:
            sx += p % nx
            sy += p // nx
        centres[k, 0], centres[k, 1] = sx / n, sy / n


class Regions:
    """The regions of ``image`` (ny, nx; what is not 0) of at least ``least`` pixels.

    Attributes
    ----------
    centres : ndarray, float64, shape (n, 2)
        Mean column and row.
    reach : ndarray, int64, shape (n,)
        Rows and columns together: neither half axis of a region's ellipse is longer.
    """

    def __init__(self, image: np.ndarray, least: float) -> None:
        own = np.ascontiguousarray(image != 0).view(np.uint8)  # a new array
        self._nx = image.shape[1]
        self._queue = np.empty(np.count_nonzero(own), np.int64)
        self._found = find_regions(own, float(least), self._queue)
        self.centres = np.empty((len(self._found), 2))
        find_centres(self._queue, self._found, self._nx, self.centres)
        self.reach = self._found[:, 3] - self._found[:, 2] + self._found[:, 5] - self._found[:, 4]

    def __len__(self) -> int:
        return len(self._found)

    def ellipse(self, k: int) -> Ellipse:
        """The ellipse of a region."""
        start, end, y0, y1, x0, x1 = self._found[k].tolist()
        pixels = self._queue[start:end]
        region = np.zeros((y1 - y0, x1 - x0), np.uint8)
        region[pixels // self._nx - y0, pixels % self._nx - x0] = 1
        known = _axes if region.size <= SMALL else _axes.__wrapped__
        minor, major, angle = known(region.tobytes(), region.shape)
        x, y = self.centres[k].tolist()
        return Ellipse(x, y, minor, major, angle)


def find(image: np.ndarray, least: float) -> list[Ellipse]:
    """The ellipses of the regions of ``image`` (ny, nx; what is not 0) of at least ``least`` pixels."""
    regions = Regions(image, least)
    return [regions.ellipse(k) for k in range(len(regions))]


@lru_cache(maxsize=1024)
def _axes(pixels: bytes, shape: tuple[int, int]) -> tuple[float, float, float]:
    """Full axes and angle of a region; most are one hit with its neighbours, and so all alike."""
    from skimage.measure import inertia_tensor, inertia_tensor_eigvals, moments, moments_central

    region = np.frombuffer(pixels, np.uint8).reshape(shape)
    raw = moments(region, order=3)
    centre = np.array([raw[1, 0] / raw[0, 0], raw[0, 1] / raw[0, 0]])
    tensor = inertia_tensor(region, mu=moments_central(region, centre, order=3))
    major, minor = (float(4 * np.sqrt(value)) - 1 for value in inertia_tensor_eigvals(region, T=tensor))
    across = tensor[0, 0] - tensor[1, 1]
    if across == 0:
        return minor, major, 45.0 if tensor[0, 1] < 0 else -45.0
    return minor, major, math.degrees(0.5 * math.atan2(-2 * tensor[0, 1], -across))
