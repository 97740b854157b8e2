"""outlier_detection: exposures on one grid, put down by bands of rows, and their median.

A group of images that were taken at the same time is drizzled onto the grid; with W and S of a pixel
(``resample/drizzle.py``) it says

    v = S / W  where W >= maskpt * <W>,  else nothing

<W> being the mean of all positive W after five rounds in which those are left out that are more than three
standard deviations off the median. The median of a pixel is that of all groups that say something. Source:
JWST pipeline documentation, outlier_detection step; how <W> is clipped was measured.

Held are the sums of one group; what it says goes into a `Cube` by bands. For the median as many rows of all
groups are read at once as `BAND` bytes hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from upramp.stages.core.extras import Cube
from upramp.stages.core.frames import Crew
from upramp.stages.core.image import Image
from upramp.stages.core.kernel import kernel
from upramp.stages.core.statistics import median
from upramp.stages.resample.combine import Drizzling, dropper, exposure_time
from upramp.stages.resample.drizzle import extent
from upramp.stages.resample.pixmap import Pixmap

BAND = 1 << 24
"""Bytes of all groups' rows that a thread takes the median of at once."""
ROWS = 128
"""Rows of a band, at most."""
ROUNDS, SIGMAS = 5, 3.0
INFINITY = 0x7F800000
"""Bits of the float32."""

Box = tuple[int, int, int, int]
"""First and end row, first and end column on the grid."""


@kernel
def weigh(sci, dq, rnoise, unwanted, level, amount, values, weight):
    """Weights of an image, and its values less ``level``, all flat.

    ``amount`` is the weight of usable pixels; if it is 0, that is the inverse of ``rnoise``. The weight of
    pixels that are NaN, or have a flag of ``unwanted``, is 0.
    """
    for k in range(sci.size):
        usable = not dq[k] & unwanted and not np.isnan(sci[k])
        w = amount
        if amount == 0:
            usable = usable and rnoise[k] > 0 and np.isfinite(rnoise[k])
            w = 1 / rnoise[k] if usable else amount
        weight[k] = w if usable else 0
        values[k] = sci[k] - level if usable else 0


@kernel
def tally(bits, counts):
    """Count positive float32 by the upper half of their bits, which rise as the values do."""
    for r in range(bits.shape[0]):
        for c in range(bits.shape[1]):
            if 0 < bits[r, c] < INFINITY:
                counts[bits[r, c] >> 16] += 1


@kernel
def pick(bits, upper, out):
    """Those whose upper half is ``upper``, into ``out``, as bits; how many there are."""
    n = 0
    for r in range(bits.shape[0]):
        for c in range(bits.shape[1]):
            if bits[r, c] >> 16 == upper:
                out[n] = bits[r, c]
                n += 1
    return n


@kernel
def sums_between(values, lo, hi):
    """Positive values below ``lo``, those from ``lo`` to ``hi``, and their sum and sum of squares."""
    below, n, total, squares = 0, 0, 0.0, 0.0
    for r in range(values.shape[0]):
        for c in range(values.shape[1]):
            v = np.float64(values[r, c])
            if 0 < v < lo:
                below += 1
            elif 0 < v <= hi and v < np.inf:
                n += 1
                total += v
                squares += v * v
    return below, n, total, squares


class Ranks:
    """Positive values of an image in their order, without sorting them all."""

    def __init__(self, values: np.ndarray, crew: Crew) -> None:
        edges = np.linspace(0, len(values), crew.threads + 1).astype(int)
        self.parts = [values[a:b].view(np.uint32) for a, b in pairwise(edges)]
        self.crew = crew

        def count(part: np.ndarray) -> np.ndarray:
            counts = np.zeros(1 << 16, np.int64)
            tally(part, counts)
            return counts

        self.ends = np.cumsum(sum(crew.each(count, self.parts)))
        self._upper, self._picked = -1, np.empty(0, np.float32)

    def __getitem__(self, k: int) -> float:
        """The k-th smallest, from 0."""
        upper = int(np.searchsorted(self.ends, k, "right"))
        begin = int(self.ends[upper - 1]) if upper else 0
        if upper != self._upper:
            room = int(self.ends[upper]) - begin

            def pick_part(part: np.ndarray) -> np.ndarray:
                out = np.empty(room, np.uint32)
                return out[: pick(part, upper, out)]

            picked = np.concatenate(self.crew.each(pick_part, self.parts)).view(np.float32)
            self._upper, self._picked = upper, np.sort(picked)
        return float(self._picked[k - begin])

    def between(self, lo: float, hi: float) -> tuple[int, int, float, float]:
        """See `sums_between`."""
        found = self.crew.each(lambda part: sums_between(part.view(np.float32), lo, hi), self.parts)
        below, n, total, squares = (sum(column) for column in zip(*found, strict=True))
        return below, n, total, squares


def clipped_mean(weights: np.ndarray, crew: Crew) -> float:
    """Mean of positive weights (ny, nx) near their median, see above; NaN of none."""
    ranks = Ranks(weights, crew)
    below, n, total, squares = ranks.between(0.0, np.inf)
    for _ in range(ROUNDS):
        if n == 0:
            return np.nan
        deviation = np.sqrt(max(squares / n - (total / n) ** 2, 0.0))
        middle = (ranks[below + (n - 1) // 2] + ranks[below + n // 2]) / 2
        before = n
        below, n, total, squares = ranks.between(middle - SIGMAS * deviation, middle + SIGMAS * deviation)
        if n == before:
            break
    return total / n


@kernel
def decide(sums, weighted, least, fill, out):
    """What a group says: ``sums`` (rows, columns, 2) of weights and values -> ``out``, NaN beyond.

    ``weighted``: values are sums of weighted values. Pixels of no weight have the value ``fill``, then those
    of less than ``least`` become NaN.
    """
    out[:] = np.nan
    for r in range(sums.shape[0]):
        for c in range(sums.shape[1]):
            w, v = sums[r, c, 0], sums[r, c, 1]
            if not w > 0:
                v = fill
            elif weighted:
                v /= w
            out[r, c] = np.nan if w < least else v


@kernel
def median_rows(stack, left, right, out):
    """Median of what groups say of rows.

    Parameters
    ----------
    stack : (groups, rows, columns) float32
        Column 0 of group k is column ``left[k]`` of the grid; it ends before column ``right[k]``.
    left, right : (groups) int64
    out : (rows, nx) float32
        NaN where none says anything.
    """
    values = np.empty(stack.shape[0], np.float32)
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            n = 0
            for k in range(stack.shape[0]):
                if left[k] <= c < right[k]:
                    v = stack[k, r, c - left[k]]
                    if not np.isnan(v):
                        values[n] = v
                        n += 1
            out[r, c] = median(values, n) if n else np.nan


class Stack:
    """What groups say of the pixels of a grid, by bands of rows.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the grid.
    boxes : sequence of Box
        The part of the grid that each group reaches.
    room : callable
        Makes a `Cube`.
    """

    def __init__(
        self, shape: tuple[int, int], boxes: Sequence[Box], room: Callable[[tuple[int, ...]], Any]
    ) -> None:
        self.shape, self.boxes = shape, list(boxes)
        width = max(1, *(c1 - c0 for _, _, c0, c1 in boxes))
        self.rows = min(ROWS, shape[0], max(1, BAND // (4 * width * len(boxes))))
        self.bands = -(-shape[0] // self.rows)
        self.cube: Cube = room((len(boxes), self.bands, self.rows, width))

    def put(self, g: int, sums: np.ndarray, weighted: bool, maskpt: float, fill: float, crew: Crew) -> None:
        """Put a group down: (rows, columns, 2) on its box, weights and values; see `decide`."""
        least = np.float32(clipped_mean(sums[:, :, 0], crew) * maskpt)
        r0 = self.boxes[g][0]

        def put_band(b: int) -> None:
            lo, hi = self._within(g, b)
            frame = np.empty(self.cube.shape[-2:], np.float32)
            decide(sums[lo - r0 : hi - r0], weighted, least, np.float32(fill), frame)
            self.cube.write(g, b, frame)

        crew.each(put_band, [b for b in range(self.bands) if self._reaches(g, b)])

    def get(self, g: int) -> np.ndarray:
        """What a group says, on the whole grid: a new array."""
        whole = np.full(self.shape, np.nan, np.float32)
        _, _, c0, c1 = self.boxes[g]
        for b in range(self.bands):
            if self._reaches(g, b):
                lo, hi = self._within(g, b)
                whole[lo:hi, c0:c1] = self.cube.read(g, b)[: hi - lo, : c1 - c0]
        return whole

    def median(self, crew: Crew) -> np.ndarray:
        """The median of all groups, on the grid; NaN where none says anything."""
        whole = np.full(self.shape, np.nan, np.float32)
        columns = np.array([box[2:] for box in self.boxes], np.int64)

        def band(b: int) -> None:
            groups = [g for g in range(len(self.boxes)) if self._reaches(g, b)]
            if not groups:
                return
            start = b * self.rows
            out = whole[start : start + self.rows]
            stack = np.empty((len(groups), len(out), self.cube.shape[-1]), np.float32)
            for k, g in enumerate(groups):
                lo, hi = self._within(g, b)
                stack[k] = np.nan
                stack[k, lo - start : hi - start] = self.cube.read(g, b)[: hi - lo]
            median_rows(stack, columns[groups, 0], columns[groups, 1], out)

        crew.each(band, range(self.bands))
        return whole

    def _reaches(self, g: int, b: int) -> bool:
        lo, hi = self._within(g, b)
        return lo < hi

    def _within(self, g: int, b: int) -> tuple[int, int]:
        """First and end row of a group within a band."""
        return max(self.boxes[g][0], b * self.rows), min(self.boxes[g][1], (b + 1) * self.rows)


class Drizzle:
    """Drizzles groups one after the other; memory is used again.

    Parameters
    ----------
    how : Drizzling
    unwanted : int
        Flags of pixels that do not count.
    shape : tuple of int
        Rows and columns of the grid.
    crew : Crew
    """

    def __init__(self, how: Drizzling, unwanted: int, shape: tuple[int, int], crew: Crew) -> None:
        self.how, self.unwanted, self.shape, self.crew = how, np.uint32(unwanted), shape, crew
        self._values = self._weight = self._sums = np.empty(0, np.float32)

    def weighed(self, image: Image, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Values less the sky, and weights, float32 (ny, nx); good until the next call."""
        n = image.sci.size
        self._values, self._weight = _room(self._values, n), _room(self._weight, n)
        amount = exposure_time(image.cards()) if self.how.weight_type == "exptime" else 0.0
        flat = (np.ascontiguousarray(a).reshape(-1) for a in (image.sci, image.dq, image.var_rnoise))
        values, weight = self._values[:n], self._weight[:n]
        weigh(*flat, self.unwanted, np.float32(level), np.float32(amount), values, weight)
        return values.reshape(image.shape), weight.reshape(image.shape)

    def begin(self, box: Box) -> np.ndarray:
        """Sums of a group on its box, zeros; good until the next call."""
        r0, r1, c0, c1 = box
        size = (r1 - r0) * (c1 - c0) * 2
        self._sums = _room(self._sums, size)
        self._sums[:size] = 0
        return self._sums[:size].reshape(r1 - r0, c1 - c0, 2)

    def add(self, image: Image, where: Pixmap, level: float, box: Box, sums: np.ndarray) -> None:
        """Add an image to the sums of its group."""
        values, weight = self.weighed(image, level)
        r0, r1, c0, _ = box
        first, end, _, _ = extent(where, self.shape, self.how.reach)
        first, end = max(first, r0), min(end, r1)
        drizzle = dropper(self.how, values.reshape(*values.shape, 1), weight, image.dq, where, self.shape)
        plane, no_flags = np.int32(1), np.empty((0, 0), np.uint32)

        def band(rows: tuple[int, int]) -> None:
            lo, hi = rows
            part = sums[lo - r0 : hi - r0]
            drizzle(lo, hi, c0, part, np.zeros(part.shape[:2], np.int32), plane, no_flags)

        edges = np.linspace(first, end, 2 * self.crew.threads + 1).astype(int)
        self.crew.each(band, [(int(a), int(b)) for a, b in pairwise(edges) if b > a])


def _room(a: np.ndarray, size: int) -> np.ndarray:
    """``a``, or a larger one."""
    return a if a.size >= size else np.empty(size, np.float32)
