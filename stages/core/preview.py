"""Small pictures of images: whether it worked, at a glance.

The image is averaged in blocks to a thousand pixels or so (pixels of small ones become squares), and
stretched by

    v = asinh((x - low) / s) / asinh((high - low) / s)

with low four standard deviations (from the median absolute deviation; s is ten of them) below the median,
high the 99.9th percentile. Blocks without a good pixel, and those with saturated ones, are coloured. Where
the sky is known, lines of equal right ascension and declination are drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, SATURATED
from upramp.stages.core.kernel import kernel

SIDE = 1024
"""Pixels of the longer side, at most."""

LEAST = 512
"""More than half as many the longer side has, so that labels have room."""

GREYS = 252
BAD, BRIGHT, LINE, TEXT = range(GREYS, 256)
PALETTE = np.array(
    [
        *([round(k * 255 / (GREYS - 1))] * 3 for k in range(GREYS)),
        (96, 24, 32),
        (255, 176, 0),
        (40, 110, 90),
        (150, 230, 200),
    ],
    np.uint8,
)
"""Red, green and blue of the picture's values: greys, then `BAD` (blocks without a good pixel), `BRIGHT`
(with saturated ones), `LINE` and `TEXT`."""

_SECONDS = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600]
STEPS = (
    np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, *_SECONDS]) / 240,
    np.array([0.1, 0.2, 0.5, *_SECONDS]) / 3600,
)
"""Distances between lines that are easily read, degrees: of right ascension (a second of time makes 15 of
angle) and of declination."""

NODES = 33
LINES = 5

Sky = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Label:
    """Where a line on the sky meets the picture's edge: column and row from the top, and its value, degrees.

    ``axis`` is 0 for right ascension, 1 for declination.
    """

    x: int
    y: int
    axis: int
    value: float


@dataclass(frozen=True)
class Picture:
    """Indices into `PALETTE`, uint8 (rows, columns), the first row being the top, and the lines' labels."""

    values: np.ndarray
    labels: tuple[Label, ...] = ()


@kernel
def average(sci, dq, by, means, bad, saturated):
    """Means of the good pixels of blocks ``by`` x ``by``; NaN, and ``bad``, where there is none.

    ``sci`` (ny, nx) float32, ``dq`` uint32; the others are smaller, and what is left over at the end of a row
    or column is a block of its own.
    """
    ny, nx = sci.shape
    rows, columns = means.shape
    for r in range(rows):
        for c in range(columns):
            total, n = 0.0, 0
            for y in range(r * by, min((r + 1) * by, ny)):
                for x in range(c * by, min((c + 1) * by, nx)):
                    saturated[r, c] |= dq[y, x] & SATURATED != 0
                    if not dq[y, x] & DO_NOT_USE and not np.isnan(sci[y, x]):
                        total += np.float64(sci[y, x])
                        n += 1
            means[r, c] = total / n if n else np.nan
            bad[r, c] = n == 0


def stretch(means: np.ndarray) -> np.ndarray:
    """Grey levels 0 to `GREYS` - 1, uint8; NaN becomes 0."""
    some = means[:: max(1, means.shape[0] // 256), :: max(1, means.shape[1] // 256)]
    good = some[np.isfinite(some)]
    if not good.size:
        return np.zeros(means.shape, np.uint8)
    middle = np.median(good)
    sigma = 1.4826 * np.median(np.abs(good - middle)) or np.ptp(good) or 1.0
    low, high, soft = middle - 4 * sigma, np.percentile(good, 99.9), 10 * sigma
    top = np.arcsinh(max(high - low, 8 * sigma) / soft)
    out = np.empty(means.shape, np.uint8)
    shade(means, low, soft, (GREYS - 1) / top, out)
    return out


@kernel
def shade(means, low, soft, scale, out):
    """Fill ``out`` (uint8) with ``scale`` asinh((``means`` - ``low``) / ``soft``), within the greys."""
    for r in range(means.shape[0]):
        for c in range(means.shape[1]):
            v = np.arcsinh((means[r, c] - low) / soft) * scale
            out[r, c] = min(v + 0.5, GREYS - 1) if v > 0 else 0


def _nodes(sky: Sky, shape: tuple[int, int]) -> np.ndarray:
    """Right ascension (without a jump) and declination on a coarse grid of the image, (2, NODES, NODES)."""
    ny, nx = shape
    y, x = np.linspace(0, ny - 1, NODES), np.linspace(0, nx - 1, NODES)
    ra, dec = sky(*(a.ravel() for a in np.meshgrid(x, y)))
    middle = ra[ra.size // 2]
    ra = (ra - middle + 180) % 360 - 180 + middle
    return np.array([ra.reshape(NODES, NODES), dec.reshape(NODES, NODES)])


def _places(n: int, by: float, size: int) -> np.ndarray:
    """Where ``size`` pixels of the picture lie, each ``by`` of the image's ``n`` wide, in units of nodes."""
    return np.clip((np.arange(size) + 0.5) * by - 0.5, -0.5, n - 0.5) * (NODES - 1) / max(n - 1, 1)


@kernel
def mark_lines(nodes, at_y, at_x, step, out, edge_y, edge_x):
    """Mark where values between ``nodes`` (2-D, interpolated) pass a multiple of ``step``, pixel to pixel.

    ``at_y``, ``at_x``: places of rows and columns in units of nodes. ``edge_y`` and ``edge_x`` are filled
    with the values along the first column and the first row.
    """
    rows, columns = out.shape
    before = np.empty(columns)
    for r in range(rows):
        i = min(int(at_y[r]), nodes.shape[0] - 2)
        v = at_y[r] - i
        left = 0.0
        for c in range(columns):
            j = min(int(at_x[c]), nodes.shape[1] - 2)
            u = at_x[c] - j
            value = (1 - v) * ((1 - u) * nodes[i, j] + u * nodes[i, j + 1])
            value += v * ((1 - u) * nodes[i + 1, j] + u * nodes[i + 1, j + 1])
            cell = np.floor(value / step)
            if (c > 0 and cell != left) or (r > 0 and cell != before[c]):
                out[r, c] = LINE
            if r == 0:
                edge_x[c] = value
            if c == 0:
                edge_y[r] = value
            left = before[c] = cell


def _labels(edge_y: np.ndarray, edge_x: np.ndarray, step: float, axis: int) -> list[Label]:
    """Where lines meet the bottom edge or else the left one (right ascension; declination the other way)."""
    found: list[Label] = []
    for edge in (edge_x, edge_y) if axis == 0 else (edge_y, edge_x):
        cell = np.floor(edge / step)
        for k in np.flatnonzero(cell[1:] != cell[:-1]) + 1:
            value = float(max(cell[k], cell[k - 1]) * step)
            x, y = (int(k), edge_y.size - 1) if edge is edge_x else (0, edge_y.size - 1 - int(k))
            found.append(Label(x, y, axis, value))
        if found:
            break
    return found


def draw(
    sci: np.ndarray, dq: np.ndarray, sky: Sky | None = None, side: int = SIDE, least: int = LEAST
) -> Picture:
    """Make a picture of an image.

    Parameters
    ----------
    sci : ndarray, float32, shape (ny, nx)
    dq : ndarray, uint32, shape (ny, nx)
    sky : callable, optional
        ``sky(x, y)``, 0-based pixels, float64 -> right ascension and declination, degrees; lines are drawn.
    side, least : int
        Pixels of the picture's longer side, at most; and that it has more than half of.
    """
    ny, nx = sci.shape
    by = max(1, -(-max(ny, nx) // side))
    size = -(-ny // by), -(-nx // by)
    means, bad, saturated = np.empty(size), np.zeros(size, bool), np.zeros(size, bool)
    average(sci, dq, by, means, bad, saturated)
    values = stretch(means)
    values[bad] = BAD
    values[saturated] = BRIGHT
    times = max(1, min(least, side) // max(size))
    if times > 1:
        values = values.repeat(times, axis=0).repeat(times, axis=1)
    labels: list[Label] = []
    for axis, nodes in enumerate(() if sky is None else _nodes(sky, (ny, nx))):
        if not np.isfinite(nodes).all():
            continue
        steps = STEPS[axis]
        step = float(steps[min(np.searchsorted(steps, np.ptp(nodes) / LINES), steps.size - 1)])
        rows, columns = values.shape
        edge_y, edge_x = np.empty(rows), np.empty(columns)
        places = _places(ny, by / times, rows), _places(nx, by / times, columns)
        mark_lines(nodes, *places, step, values, edge_y, edge_x)
        labels += _labels(edge_y, edge_x, step, axis)
    return Picture(np.ascontiguousarray(values[::-1]), tuple(labels))
