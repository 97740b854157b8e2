"""Drizzling with square pixels: every input pixel drops its value on the output pixels it covers.

An input pixel, shrunk by ``pixfrac``, is a quadrilateral on the output. With a_p its share in output pixel p
(the area in common over its own) and w its weight,

    W_p = sum a_p w        S_p = sum a_p w v / W_p

for any number of planes v at once: values, and the errors of each kind of noise. The area in common follows
from Green's theorem: an edge of the quadrilateral adds to each output pixel in its rows dy times the part of
the pixel's width that lies to the left of it, so that only the pixels that an edge crosses need a look.
Corners are interpolated between the pixels' centres; at the image's border, straight lines go on (as measured
of the observatory's package). An input pixel that lies over the rim of the output is left out whole
(measured, too): see `spans`.

Output rows are shared among threads, each with a band of its own; the result does not depend on how many.

Source: Fruchter & Hook 2002, PASP 114, 144.
"""

from __future__ import annotations

import numpy as np

from upramp.stages.core.kernel import kernel
from upramp.stages.resample.pixmap import Pixmap, row_of

ROOM = 48
"""Output pixels that one input pixel may span on a side."""


@kernel
def add_edge(x0, y0, x1, y1, area, cover):
    """Add an edge to the sums of the cells it crosses; cells are unit squares from (0, 0) on.

    ``area[r, c]`` gets the integral of (x - c) dy over the part within cell (r, c), ``cover[r, c]`` of dy.
    """
    if y0 == y1:
        return
    sign = 1.0
    if y0 > y1:
        x0, y0, x1, y1 = x1, y1, x0, y0
        sign = -1.0
    slope = (x1 - x0) / (y1 - y0)
    r, last = int(np.floor(y0)), int(np.floor(y1))
    ya, xa = y0, x0
    while r <= last:
        yb = y1 if r == last else float(r + 1)
        xb = x1 if r == last else x0 + slope * (yb - y0)
        c, end = int(np.floor(xa)), int(np.floor(xb))
        if c == end:
            area[r, c] += sign * (yb - ya) * ((xa + xb) / 2 - c)
            cover[r, c] += sign * (yb - ya)
        else:
            step = 1 if end > c else -1
            per_x = (yb - ya) / (xb - xa)
            xs, ys = xa, ya
            while c != end:
                xe = float(c + 1) if step > 0 else float(c)
                ye = ya + per_x * (xe - xa)
                area[r, c] += sign * (ye - ys) * ((xs + xe) / 2 - c)
                cover[r, c] += sign * (ye - ys)
                xs, ys = xe, ye
                c += step
            area[r, c] += sign * (yb - ys) * ((xs + xb) / 2 - c)
            cover[r, c] += sign * (yb - ys)
        xa, ya = xb, yb
        r += 1


@kernel
def corners_of(here, beside, half, out_low, out_high):
    """Positions half a (shrunk) pixel left and right of a row, towards the row ``beside``.

    All (columns + 2); ``half`` is half the pixel's side. Between the pixels' centres positions are
    interpolated.
    """
    n = here.size
    for i in range(1, n - 1):
        left = (1 - half) * here[i - 1] + half * beside[i - 1]
        middle = (1 - half) * here[i] + half * beside[i]
        right = (1 - half) * here[i + 1] + half * beside[i + 1]
        out_low[i] = (1 - half) * middle + half * left
        out_high[i] = (1 - half) * middle + half * right


@kernel
def beyond(rows, first, last):
    """Positions of the pixels around the image, in place, as straight lines through the two next to them.

    ``rows`` (3, columns + 2): a row and its neighbours; ``first``, ``last``: it is the first, the last row.
    An image one pixel wide keeps what it was given.
    """
    if first and not last:
        rows[0] = 2 * rows[1] - rows[2]
    elif last and not first:
        rows[2] = 2 * rows[1] - rows[0]
    if rows.shape[1] > 3:
        rows[:, 0] = 2 * rows[:, 1] - rows[:, 2]
        rows[:, -1] = 2 * rows[:, -2] - rows[:, -3]


@kernel
def drop(planes, weight, dq, map_x, map_y, step, spans, pixfrac, lo, hi, x_origin, sums, flags, room):
    """Drizzle all pixels onto the output rows lo to hi (half open), from column ``x_origin`` on.

    Parameters
    ----------
    planes : (ny, nx, n) float32
        Values side by side.
    weight : (ny, nx) float32
        Pixels of weight 0 are left out.
    dq : (ny, nx) uint32
    map_x, map_y, step
        See `Pixmap`.
    spans : (ny, 2) int64
        First and end column of each row that count; see `spans.spans`.
    pixfrac : float
        Side of a shrunk pixel.
    lo, hi : int
    sums : (hi - lo, columns, 1 + n) float32
        Gets the sum of weights, and of weighted values.
    flags : (hi - lo, columns) uint32, or (0, 0)
        Gets the flags of the pixels that add something.
    room : int
        Size of the work space: more than the output pixels that an input pixel spans on a side.

    Returns
    -------
    int
        Pixels left out because they span too much.
    """
    ny, nx, n = planes.shape
    columns = sums.shape[1]
    half = pixfrac / 2
    area, cover = np.zeros((room, room)), np.zeros((room, room))
    rows_x, rows_y = np.empty((3, nx + 2)), np.empty((3, nx + 2))
    low_x, high_x, low_y, high_y = np.empty((4, 2, nx + 2))
    left_out = 0
    for y in range(ny):
        first, end = spans[y]
        if first >= end:
            continue
        row_of(map_y, step, y, rows_y[1])
        if rows_y[1].min() > hi + room or rows_y[1].max() < lo - room:
            continue
        for k in range(3):
            row_of(map_x, step, y - 1 + k, rows_x[k])
            row_of(map_y, step, y - 1 + k, rows_y[k])
        beyond(rows_x, y == 0, y == ny - 1)
        beyond(rows_y, y == 0, y == ny - 1)
        for side in range(2):
            corners_of(rows_x[1], rows_x[2 * side], half, low_x[side], high_x[side])
            corners_of(rows_y[1], rows_y[2 * side], half, low_y[side], high_y[side])
        for x in range(first, end):
            w = weight[y, x]
            if not w > 0:
                continue
            i = x + 1
            xa, xb, xc, xd = low_x[0, i], high_x[0, i], high_x[1, i], low_x[1, i]
            ya, yb, yc, yd = low_y[0, i], high_y[0, i], high_y[1, i], low_y[1, i]
            y_low, y_high = min(min(ya, yb), min(yc, yd)), max(max(ya, yb), max(yc, yd))
            if not (y_high > lo - 0.5 and y_low < hi - 0.5):
                continue
            x_low, x_high = min(min(xa, xb), min(xc, xd)), max(max(xa, xb), max(xc, xd))
            r0, c0 = int(np.floor(y_low + 0.5)), int(np.floor(x_low + 0.5))
            height, width = int(np.floor(y_high + 0.5)) - r0 + 1, int(np.floor(x_high + 0.5)) - c0 + 1
            if height >= room or width >= room:
                left_out += 1
                continue
            own = 0.5 * ((xc - xa) * (yd - yb) - (xd - xb) * (yc - ya))
            if own == 0:
                continue
            dx, dy = 0.5 - c0, 0.5 - r0
            add_edge(xa + dx, ya + dy, xb + dx, yb + dy, area, cover)
            add_edge(xb + dx, yb + dy, xc + dx, yc + dy, area, cover)
            add_edge(xc + dx, yc + dy, xd + dx, yd + dy, area, cover)
            add_edge(xd + dx, yd + dy, xa + dx, ya + dy, area, cover)
            factor = w / own
            for r in range(height):
                right, at = 0.0, r0 + r - lo
                inside = 0 <= at < hi - lo
                for c in range(width - 1, -1, -1):
                    share = (area[r, c] + right) * factor
                    right += cover[r, c]
                    area[r, c] = cover[r, c] = 0.0
                    column = c0 + c - x_origin
                    if inside and share > 0 and 0 <= column < columns:
                        target = sums[at, column]
                        target[0] += share
                        for p in range(n):
                            target[1 + p] += share * planes[y, x, p]
                        if flags.shape[0]:
                            flags[at, column] |= dq[y, x]
    return left_out


def extent(where: Pixmap, shape: tuple[int, int], reach: float = 0.0) -> tuple[int, int, int, int]:
    """Output rows and columns that an input can reach: first and end row, first and end column.

    ``shape`` is that of the output (ny, nx); ``reach``: how far pixels reach from their centres.
    """
    ny, nx = shape
    bounds = []
    for a, n in ((where.y, ny), (where.x, nx)):
        lo, hi = np.nanmin(a) - reach, np.nanmax(a) + reach
        first = min(max(int(np.floor(lo)) - 1, 0), n)
        bounds += [first, min(max(int(np.ceil(hi)) + 2, first), n)]
    return bounds[0], bounds[1], bounds[2], bounds[3]
