"""The background of an image in which sources are to be found: its level and spread.

Both come from boxes: median and standard deviation without what is more than three standard deviations off
(five rounds at most). A box counts if more than nine tenths of its pixels are left; the others get the mean
of their ten nearest, weighted by 1 / distance. The mesh is smoothed by a median of 3 x 3 and drawn out by
cubic splines. If no box counts, all pixels make one. Boxes are large, and few of their pixels are outliers:
so what is near the median is sorted once, and a round only counts what falls out on either side.

Source: JWST pipeline documentation; photutils (Background2D), whose results these are. Values are float32,
sums float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.frames import Crew
from upramp.stages.core.kernel import kernel
from upramp.stages.stage1.flicker_background import draw_out, fill_holes, taps

SIGMA, ROUNDS = 3.0, 5
GOOD = 0.9
SAMPLE = 4096
"""Values that tell where the middle lies."""

MARGIN = 0.03
"""What part of the values, on either side of the middle, is sorted."""


@dataclass(frozen=True)
class Levels:
    """An image (ny, nx) float32 less its background, and the spread of the background."""

    values: np.ndarray
    spread: np.ndarray


@kernel
def collect(box, mask, values):
    """Values of a box that are not masked, float32; returns how many."""
    n = 0
    for y in range(box.shape[0]):
        row, own = box[y], mask[y]
        for x in range(row.size):
            values[n] = row[x]
            n += not own[x]
    return n


@kernel
def near(values, rank, sample, inside):
    """Sort those values that may have a rank: returns how many lie below them, and how many they are."""
    n = values.size
    lo, hi = np.float32(-np.inf), np.float32(np.inf)
    if n > 4 * SAMPLE:
        step = n // SAMPLE
        for k in range(SAMPLE):
            sample[k] = values[k * step]
        sample.sort()
        middle = rank / n
        first, last = int((middle - MARGIN) * SAMPLE), int((middle + MARGIN) * SAMPLE)
        if first > 0:
            lo = sample[first]
        if last < SAMPLE - 1:
            hi = sample[last]
    below, found = 0, 0
    for k in range(n):
        v = values[k]
        below += v < lo
        inside[found] = v
        found += (v >= lo) & (v <= hi)
    inside[:found].sort()
    return below, found


@kernel
def clipped(values, sample, inside):
    """Median and standard deviation without outliers, and how many values are left.

    ``values`` finite float32; ``sample`` (`SAMPLE`) and ``inside`` (one more than values) are working memory.
    """
    n = values.size
    if n == 0:
        return np.nan, np.nan, 0
    low, high = np.float64(-np.inf), np.float64(np.inf)
    under, over = 0, 0
    below, found = near(values, n // 2, sample, inside)
    middle, spread = np.nan, np.nan
    for turn in range(ROUNDS + 1):
        left = n - under - over
        first, last = under + (left - 1) // 2, under + left // 2
        if first < below or last >= below + found:
            below, found = near(values, first, sample, inside)
            if first < below or last >= below + found:
                inside[:n] = values
                inside[:n].sort()
                below, found = 0, n
        middle = 0.5 * (np.float64(inside[first - below]) + np.float64(inside[last - below]))
        total, square = 0.0, 0.0
        for k in range(n):
            v = np.float64(values[k])
            d = v - middle if (v >= low) & (v <= high) else 0.0
            total += d
            square += d * d
        mean = total / left
        spread = np.sqrt(max(square / left - mean * mean, 0.0))
        if turn == ROUNDS:
            break
        low, high = max(low, middle - SIGMA * spread), min(high, middle + SIGMA * spread)
        less, more = 0, 0
        for k in range(n):
            v = np.float64(values[k])
            less += v < low
            more += v > high
        if less == under and more == over:
            break
        under, over = less, more
    return middle, spread, n - under - over


@kernel
def box_level(box, mask):
    """`clipped` of the good pixels of a box (rows, columns)."""
    values = np.empty(box.size + 1, np.float32)
    n = collect(box, mask, values)
    return clipped(values[:n], np.empty(SAMPLE, np.float32), np.empty(n + 1, np.float32))


def meshes(sci: np.ndarray, mask: np.ndarray, rows: int, columns: int, crew: Crew) -> np.ndarray | None:
    """Levels and spreads of boxes, float32 (2, boxes up, boxes across); None if no box counts."""
    ny, nx = sci.shape
    found = np.full((2, -(-ny // rows), -(-nx // columns)), np.nan, np.float32)

    def work(place: tuple[int, ...]) -> None:
        y, x = place[0] * rows, place[1] * columns
        box = np.s_[y : y + rows, x : x + columns]
        level, spread, left = box_level(sci[box], mask[box])
        if left > GOOD * rows * columns:
            found[:, place[0], place[1]] = level, spread

    crew.each(work, np.ndindex(found.shape[1:]))
    return None if np.isnan(found).all() else found


def smoothed(mesh: np.ndarray) -> np.ndarray:
    """A mesh without holes, medians of 3 x 3, cut short at the edges."""
    from scipy.ndimage import generic_filter

    fill_holes(mesh)
    return np.asarray(generic_filter(mesh, np.nanmedian, size=3, mode="constant", cval=np.nan))


def levels(sci: np.ndarray, mask: np.ndarray, side: int, crew: Crew | None = None) -> Levels | None:
    """Take off the background of an image; None if it has no good pixel.

    Parameters
    ----------
    sci : ndarray, float32 (ny, nx)
    mask : ndarray, bool
        Pixels that do not count; all that are not finite are among them.
    side : int
        Side of a box, pixels.
    crew : Crew, optional
    """
    from scipy.ndimage import spline_filter

    ny, nx = sci.shape
    rows, columns = min(side, ny), min(side, nx)
    found = meshes(sci, mask, rows, columns, crew or Crew())
    if found is None:
        level, spread, left = box_level(sci, mask)
        if not left:
            return None
        return Levels(sci - np.float32(level), np.full(sci.shape, spread, np.float32))
    planes = []
    for mesh in found:
        even = smoothed(mesh)
        coefficients = spline_filter(even, 3, np.float64, mode="reflect")
        out = np.empty((ny, nx), np.float32)
        up, across = taps(ny, rows, even.shape[0]), taps(nx, columns, even.shape[1])
        draw_out(coefficients, *up, *across, even.min(), even.max(), out)
        planes.append(out)
    values, spread = planes
    np.subtract(sci, values, out=values)
    return Levels(values, spread)
