"""Drizzling with square pixels: every input pixel drops its value on the output pixels it covers.

An input pixel, shrunk by ``pixfrac``, is a quadrilateral on the output. With a_p its share in output pixel p
(the area in common over its own) and w its weight,

    W_p = sum a_p w        S_p = sum a_p w v / W_p

for any number of planes v at once: values, and the errors of each kind of noise. The areas in common are
found for some pixels of a row side by side (``overlap.py``). Corners are interpolated between the pixels'
centres; at the image's border, straight lines go on (as measured of the observatory's package). An input
pixel that lies over the rim of the output is left out whole (measured, too): see `spans`.

Output rows are shared among threads, each with a band of its own; the result does not depend on how many.

Source: Fruchter & Hook 2002, PASP 114, 144.
"""

from __future__ import annotations

import numpy as np

from upramp.stages.core.kernel import kernel
from upramp.stages.resample.overlap import BLOCK, areas, place, whole_areas
from upramp.stages.resample.pixmap import Pixmap, row_of

ROOM = 48
"""Output pixels that one input pixel may span on a side."""

LEAST = 1e-14
"""Shares below this part of a pixel are rounding."""

OVERSHOOT = 0.125
"""How far a value between nodes may lie outside theirs, at most, over their spread: see `pixmap.cubic`."""


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
    rows, columns = sums.shape[:2]
    half = pixfrac / 2
    rows_x, rows_y = np.zeros((3, nx + 2 + BLOCK)), np.zeros((3, nx + 2 + BLOCK))
    u, v, own = np.empty(4 * BLOCK), np.empty(4 * BLOCK), np.empty(BLOCK)
    column, row, width, height = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    left, below, corner = np.empty((room, BLOCK)), np.empty((room, BLOCK)), np.empty((room, room, BLOCK))
    chosen, strips = np.empty(BLOCK, np.int64), np.empty(room)
    lowest, highest = np.empty(len(map_y)), np.empty(len(map_y))
    for k in range(len(map_y)):
        lowest[k], highest[k] = map_y[k].min(), map_y[k].max()
    known, left_out, flagging = -2, 0, flags.shape[0] > 0
    for y in range(ny):
        begin, end = spans[y]
        if begin >= end:
            continue
        node = (y + 1) // step
        least, most = lowest[node : node + 4].min(), highest[node : node + 4].max()
        spare = room + OVERSHOOT * (most - least)
        if least - spare > hi or most + spare < lo:
            continue
        for k in range(3):
            if known == y - 1 and k < 2:
                rows_x[k], rows_y[k] = rows_x[k + 1], rows_y[k + 1]
                continue
            row_of(map_x, step, y - 1 + k, rows_x[k, : nx + 2])
            row_of(map_y, step, y - 1 + k, rows_y[k, : nx + 2])
        known = y
        beyond(rows_x[:, : nx + 2], y == 0, y == ny - 1)
        beyond(rows_y[:, : nx + 2], y == 0, y == ny - 1)
        for first in range(begin, end, BLOCK):
            s = slice(first, first + BLOCK + 2)
            place(rows_y[0, s], rows_y[1, s], rows_y[2, s], half, v, row, height)
            place(rows_x[0, s], rows_x[1, s], rows_x[2, s], half, u, column, width)
            whole_areas(u, v, own)
            count, wide, high = 0, 2, 2
            for k in range(min(BLOCK, end - first)):
                reached = row[k] < hi and row[k] + height[k] > lo
                if not (reached and weight[y, first + k] > 0 and own[k] != 0):
                    continue
                if width[k] < room and height[k] < room:
                    chosen[count] = k
                    count += 1
                    wide, high = max(wide, int(width[k])), max(high, int(height[k]))
                else:
                    left_out += 1
            if count == 0:
                continue
            for i in range(wide - 1):
                for j in range(high - 1):
                    areas(u, v, np.float64(i), np.float64(j), left[i], below[j], corner[j, i])
            for at in range(count):
                k = chosen[at]
                x, w = first + k, np.float64(weight[y, first + k])
                factor, enough = w / own[k], LEAST * w
                r0, c0 = int(row[k]) - lo, int(column[k]) - x_origin
                tall, broad = int(height[k]), int(width[k])
                if tall == 2 and broad == 2 and 0 <= r0 < rows - 1 and 0 <= c0 < columns - 1 and not flagging:
                    # what most pixels do, without loops
                    a, b, c = factor * corner[0, 0, k], factor * below[0, k], factor * left[0, k]
                    a, b, c, d = a, b - a, c - a, w - b - c + a
                    if a > enough:
                        sums[r0, c0, 0] += a
                        for p in range(n):
                            sums[r0, c0, 1 + p] += a * planes[y, x, p]
                    if b > enough:
                        sums[r0, c0 + 1, 0] += b
                        for p in range(n):
                            sums[r0, c0 + 1, 1 + p] += b * planes[y, x, p]
                    if c > enough:
                        sums[r0 + 1, c0, 0] += c
                        for p in range(n):
                            sums[r0 + 1, c0, 1 + p] += c * planes[y, x, p]
                    if d > enough:
                        sums[r0 + 1, c0 + 1, 0] += d
                        for p in range(n):
                            sums[r0 + 1, c0 + 1, 1 + p] += d * planes[y, x, p]
                    continue
                strips[:broad] = 0.0
                for r in range(tall):
                    inside, before = 0 <= r0 + r < rows, 0.0
                    for c in range(broad):
                        if r < tall - 1:
                            area = corner[r, c, k] if c < broad - 1 else below[r, k]
                        else:
                            area = left[c, k] if c < broad - 1 else own[k]
                        strip = factor * (area - before)
                        share = strip - strips[c]
                        before, strips[c] = area, strip
                        if inside and share > enough and 0 <= c0 + c < columns:
                            sums[r0 + r, c0 + c, 0] += share
                            for p in range(n):
                                sums[r0 + r, c0 + c, 1 + p] += share * planes[y, x, p]
                            if flagging:
                                flags[r0 + r, c0 + c] |= dq[y, x]
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
