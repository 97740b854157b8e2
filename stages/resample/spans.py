"""Which pixels of an input image are drizzled: those that lie on the output grid, row by row.

On the output, the image is taken as the quadrilateral between its corners. What the grid has of it is a
polygon, whose corners are looked up on the input and joined by straight lines. In a row, pixels count from
the left to the right side of that polygon, where a pixel must lie within over its whole height. Two sides
that meet in a row both count if they meet below the row's middle, else the lower one. Where the polygon
begins within a row, the side at the row's middle counts; where it ends, the side at the row's lower end, and
the middle must lie within.

Source: measured on the drizzle package. On grids that cut an image at random, five in six have the same
pixels, and the others differ in some six, because that package finds the corners to some 0.003 pixels alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from upramp.stages.resample.pixmap import Pixmap, row_of

Point = tuple[float, float]
Side = tuple[Point, Point]
"""From its lower to its upper end."""

PRECISION = 1e-9
"""Of the polygon's corners, relative."""

SLACK = 0.03
"""Pixels by which a centre may lie beyond a side, or a corner beyond the middle of a row."""

EVEN = 1e-3
"""Rows by which either end of a row may lie beyond the polygon and is still taken as within."""

FLAT = 1 / 160
"""Sides of the polygon that rise by less are taken as level: they bound no row."""


def spans(where: Pixmap, shape: tuple[int, int]) -> np.ndarray:
    """First and end (half open) column of each row of the input that are drizzled, int64 (ny, 2).

    Parameters
    ----------
    where : Pixmap
    shape : tuple of int
        Rows and columns of the output.

    Notes
    -----
    Where positions do not allow to find the polygon's corners, all pixels count: those that reach the output.
    """
    ny, nx = where.shape
    found = np.zeros((ny, 2), np.int64)
    corners = [_position(where, x, y)[0] for x in (-0.5, nx - 0.5) for y in (-0.5, ny - 0.5)]
    overlap = clipped([corners[k] for k in (0, 1, 3, 2)], shape[1] - 0.5, shape[0] - 0.5)
    polygon = [_place(where, x, y) for x, y in overlap]
    if not np.isfinite([*corners, *polygon]).all():
        found[:, 1] = nx
        return found
    if len(polygon) < 3:
        return found
    sides = flanks(polygon)
    for y in range(ny):
        begin, end = limits(*sides, y)
        first, last = np.ceil(begin - SLACK), np.floor(end + SLACK)
        if end - begin >= 1 and last >= first:  # less than a pixel is taken for none
            found[y] = max(first, 0), min(last + 1, nx)
    return found


def _position(where: Pixmap, x: float, y: float) -> tuple[Point, np.ndarray]:
    """Where (x, y) of the input lies on the output, and derivatives (2, 2); beyond the image, straight on."""
    (ny, nx), row = where.shape, np.empty((2, 2, where.shape[1] + 2))
    i, j = (int(np.clip(np.floor(a), 0, max(n - 2, 0))) for a, n in ((x, nx), (y, ny)))
    for k in range(2):
        row_of(where.x, where.step, j + k, row[0, k])
        row_of(where.y, where.step, j + k, row[1, k])
    (a, b), (c, d) = np.moveaxis(row[:, :, i + 1 : i + 3], 0, -1)
    u, v = x - i, y - j
    here = (1 - v) * ((1 - u) * a + u * b) + v * ((1 - u) * c + u * d)
    slope = np.column_stack([(1 - v) * (b - a) + v * (d - c), (1 - u) * (c - a) + u * (d - b)])
    return (float(here[0]), float(here[1])), slope


def _place(where: Pixmap, x: float, y: float) -> Point:
    """The place on the input that lies at (x, y) of the output, by Newton's method; NaN if there is none."""
    ny, nx = where.shape
    at = np.array([(nx - 1) / 2, (ny - 1) / 2])
    for _ in range(100):
        here, slope = _position(where, at[0], at[1])
        determinant = slope[0, 0] * slope[1, 1] - slope[0, 1] * slope[1, 0]
        if not np.isfinite(determinant) or determinant == 0:
            break
        step = np.linalg.solve(slope, np.array([x, y]) - here)
        at = at + step
        if np.abs(step).max() < PRECISION * (1 + np.abs(at).max()):
            return float(at[0]), float(at[1])
    return np.nan, np.nan


def clipped(polygon: Sequence[Point], right: float, top: float) -> list[Point]:
    """What a box from (-0.5, -0.5) on has of a convex polygon (Sutherland & Hodgman 1974)."""
    for axis, bound, sign in ((0, -0.5, 1), (0, right, -1), (1, -0.5, 1), (1, top, -1)):
        kept: list[Point] = []
        for a, b in zip((polygon[-1], *polygon[:-1]) if polygon else (), polygon, strict=True):
            inside = [sign * (p[axis] - bound) >= 0 for p in (a, b)]
            if inside[0] != inside[1]:
                t = (bound - a[axis]) / (b[axis] - a[axis])
                kept.append((a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])))
            if inside[1]:
                kept.append(b)
        polygon = kept
    return list(polygon)


def flanks(polygon: Sequence[Point]) -> tuple[list[Side], list[Side]]:
    """The sides left and right of a convex polygon, each from its lowest corner upwards."""
    n = len(polygon)
    turn = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(polygon, (*polygon[1:], polygon[0]), strict=True))
    around = list(polygon) if turn > 0 else list(polygon)[::-1]  # counter-clockwise
    lowest = min(range(n), key=lambda k: around[k][1])
    around = around[lowest:] + around[:lowest]
    highest = max(range(n), key=lambda k: around[k][1])
    right, left = around[: highest + 1], [around[0], *around[: highest - 1 : -1]]
    return _rising(left), _rising(right)


def _rising(corners: Sequence[Point]) -> list[Side]:
    return [(a, b) for a, b in pairwise(corners) if b[1] - a[1] > FLAT]


def limits(left: Sequence[Side], right: Sequence[Side], y: int) -> tuple[float, float]:
    """Where a row begins and ends in a polygon of these flanks; it begins beyond its end if it is outside."""
    outside = np.inf, -np.inf
    if not (left and right):
        return outside
    bottom, top = left[0][0][1], left[-1][1][1]
    if not bottom - 0.5 < y <= top + SLACK:
        return outside
    ends = max(y - 0.5, bottom), min(y + 0.5, top)
    levels = [y - 0.5] if y - 0.5 > bottom - EVEN else []
    if y + 0.5 <= top + EVEN or not levels:
        levels.append(y - SLACK)

    def bound(flank: Sequence[Side], tightest: Callable[..., float]) -> float:
        found = []
        for level in levels:
            (x0, y0), (x1, y1) = next((side for side in flank if side[1][1] >= level), flank[-1])
            found += [x0 + (x1 - x0) * (end - y0) / (y1 - y0) for end in ends]
        return tightest(found)

    return bound(left, max), bound(right, min)
