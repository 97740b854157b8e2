"""What the differences between a pixel's groups usually are, and how far they scatter: for showers.

What is flagged is left out by the rule of `is_out`. Differences are float32 as in the observatory's package,
so that medians are the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, JUMP_DET, SATURATED
from upramp.stages.core.frames import Crew, Ramps
from upramp.stages.core.kernel import kernel
from upramp.stages.stage1.jump_search import BLOCK, CLIPS

CLIP_SIGMA = np.float32(5)
LAST = np.int32(0x7FFFFFFF)  # of the keys
PIECE = 4 << 20  # bytes of counts that are looked at in one go
PLANES = 128 << 20  # bytes of medians and scatters that are kept


@kernel
def is_out(flags):
    """Whether a group is left out: DO_NOT_USE, SATURATED, or JUMP_DET and nothing else.

    A jump with any further flag is kept, as measured; `jump_showers.accumulate` leaves it out of its frame.
    """
    return flags & (DO_NOT_USE | SATURATED) or flags == JUMP_DET


@kernel
def gather(data, gdq, gain, first, width, differences):
    """Differences in electrons of ``width`` columns from ``first``; NaN where a group is left out.

    ``data``, ``gdq`` (nints, ngroups, columns); ``gain`` (columns); fills ``differences``
    (nints * (ngroups - 1), at least width) float32.
    """
    nints, ngroups, _ = data.shape
    factor = gain[first : first + width]
    before = np.empty(width, np.float32)
    k = 0
    for i in range(nints):
        for g in range(ngroups):
            counts, flags = data[i, g, first : first + width], gdq[i, g, first : first + width]
            if g == 0:
                for b in range(width):
                    now = counts[b] * factor[b]
                    before[b] = np.float32(np.nan) if is_out(flags[b]) else now
                continue
            out = differences[k]
            k += 1
            for b in range(width):
                now = counts[b] * factor[b]
                now = np.float32(np.nan) if is_out(flags[b]) else now
                out[b] = now - before[b]
                before[b] = now


@kernel
def order(samples, width, keys):
    """Whole numbers that are ordered as ``samples`` (n, at least width; float32), NaN last."""
    for k in range(len(samples)):
        row, target = samples[k, :width], keys[k, :width]
        bits = row.view(np.int32)
        for b in range(width):
            n = bits[b] if bits[b] >= 0 else bits[b] ^ LAST
            target[b] = n if row[b] == row[b] else LAST


@kernel
def medians(samples, width, keys, work, out):
    """Exact medians of columns side by side, NaN left out; ``out`` (float32) is NaN where nothing is left.

    The key of the middle sample is found by halving the range of keys and counting. ``keys`` as `order`
    leaves them; ``work`` (6, at least width) int32.
    """
    order(samples, width, keys)
    low, high, middle, below, number, rank = (
        work[0, :width], work[1, :width], work[2, :width], work[3, :width], work[4, :width], work[5, :width],
    )  # fmt: skip
    one, zero = np.int32(1), np.int32(0)
    for b in range(width):
        low[b], high[b], number[b] = LAST, -LAST, zero
    for k in range(len(keys)):
        row = keys[k, :width]
        for b in range(width):
            key = row[b]
            number[b] += zero if key == LAST else one
            low[b] = key if key < low[b] else low[b]
            high[b] = key if high[b] < key != LAST else high[b]
    for b in range(width):
        rank[b] = (number[b] + 1) // 2  # of the lower middle one, from 1
    apart = 1
    while apart:
        for b in range(width):
            middle[b] = (low[b] & high[b]) + ((low[b] ^ high[b]) >> 1)
            below[b] = zero
        for k in range(len(keys)):
            row = keys[k, :width]
            for b in range(width):
                below[b] += one if row[b] <= middle[b] else zero
        apart = 0
        for b in range(width):
            open_, enough = low[b] < high[b], below[b] >= rank[b]
            high[b] = middle[b] if open_ and enough else high[b]
            low[b] = middle[b] + one if open_ and not enough else low[b]
            apart += low[b] < high[b]
    for b in range(width):
        middle[b], below[b] = LAST, zero
    for k in range(len(keys)):
        row = keys[k, :width]
        for b in range(width):
            key = row[b]
            below[b] += one if key <= low[b] else zero
            middle[b] = key if low[b] < key < middle[b] else middle[b]
    for b in range(width):
        # the upper middle one is the same or the next
        upper = low[b] if number[b] & 1 or below[b] > number[b] // 2 else middle[b]
        middle[b] = upper if upper >= 0 else upper ^ LAST
        low[b] = low[b] if low[b] >= 0 else low[b] ^ LAST
    lower, upper = work[0].view(np.float32), work[2].view(np.float32)
    for b in range(width):
        out[b] = (lower[b] + upper[b]) / 2 if number[b] else np.float32(np.nan)


@kernel
def pooled(data, gdq, gain, noise, lo, nframes, middle, sigma):
    """Median of all differences of each pixel, and the noise expected; NaN where there is none.

    ``data``, ``gdq`` (rows, nints, ngroups, columns) from row ``lo``; ``gain`` (e/DN) and ``noise`` (DN) of
    the frame; fills rows of ``middle`` and ``sigma`` (ny, nx) float32, electrons.
    """
    rows, nints, ngroups, columns = data.shape
    samples = nints * (ngroups - 1)
    differences = np.empty((samples, BLOCK), np.float32)
    keys = np.empty((samples, BLOCK), np.int32)
    work = np.empty((6, BLOCK), np.int32)
    for r in range(rows):
        y = lo + r
        for first in range(0, columns, BLOCK):
            width = min(BLOCK, columns - first)
            gather(data[r], gdq[r], gain[y], first, width, differences)
            medians(differences, width, keys, work, middle[y, first : first + width])
        for x in range(columns):
            electrons = noise[y, x] * gain[y, x]
            sigma[y, x] = np.sqrt(abs(middle[y, x]) + electrons * electrons / np.float32(nframes))


@kernel
def clipped(data, gdq, gain, lo, g0, middle, sigma):
    """Median and standard deviation of each difference in all integrations, clipped; NaN where there is none.

    As `pooled`, but ``middle`` and ``sigma`` (differences, ny, nx), the first between groups ``g0`` and the
    next.
    """
    rows, nints, ngroups, columns = data.shape
    steps = ngroups - 1
    differences = np.empty((nints * steps, BLOCK), np.float32)
    samples = np.empty((nints, BLOCK), np.float32)
    keys = np.empty((nints, BLOCK), np.int32)
    work = np.empty((6, BLOCK), np.int32)
    for r in range(rows):
        for first in range(0, columns, BLOCK):
            width = min(BLOCK, columns - first)
            gather(data[r], gdq[r], gain[lo + r], first, width, differences)
            for k in range(len(middle)):
                for i in range(nints):
                    samples[i] = differences[i * steps + g0 + k]
                m, s = middle[k, lo + r, first : first + width], sigma[k, lo + r, first : first + width]
                for turn in range(CLIPS + 1):
                    medians(samples, width, keys, work, m)
                    scatter(samples, width, s)
                    if turn == CLIPS or not clip(samples, width, m, s):
                        break


@kernel
def scatter(samples, width, out):
    """Standard deviations of columns (float32, from sums in float64), NaN left out."""
    mean, square, number = np.zeros(width), np.zeros(width), np.zeros(width)
    for k in range(len(samples)):
        row = samples[k]
        for b in range(width):
            there = row[b] == row[b]
            mean[b] += row[b] if there else np.float32(0)
            number[b] += there
    for b in range(width):
        mean[b] /= number[b]
    for k in range(len(samples)):
        row = samples[k]
        for b in range(width):
            square[b] += (row[b] - mean[b]) ** 2 if row[b] == row[b] else 0.0
    for b in range(width):
        out[b] = np.sqrt(square[b] / number[b])


@kernel
def clip(samples, width, middle, sigma):
    """Make NaN of what is off by more than `CLIP_SIGMA`; how many."""
    found = 0
    for k in range(len(samples)):
        row = samples[k]
        for b in range(width):
            far = np.abs(row[b] - middle[b]) > CLIP_SIGMA * sigma[b]
            row[b] = np.float32(np.nan) if far else row[b]
            found += far
    return found


@kernel
def find_open(gdq, usable, c0, c1):
    """Note in ``usable`` (nints, ngroups; bool) where a pixel of columns c0 to c1 may be used.

    ``gdq`` as for `pooled`.
    """
    rows, nints, ngroups, _ = gdq.shape
    for r in range(rows):
        for i in range(nints):
            for g in range(ngroups):
                if not usable[i, g]:
                    for x in range(c0, c1):
                        if gdq[r, i, g, x] & DO_NOT_USE == 0:
                            usable[i, g] = True
                            break


class Levels:
    """Medians and scatters of differences, for some groups at a time if there are many.

    Parameters
    ----------
    ramps : Ramps
    crew : Crew
    gain, noise : ndarray, float32, shape (ny, nx)
        e/DN, and the read noise of a double sample in DN.
    clip : bool
        Each difference by itself, clipped in all integrations; else all differences alike.

    Attributes
    ----------
    differences : int
        Differences of all integrations, less one for each group that no pixel may use.
    """

    def __init__(self, ramps: Ramps, crew: Crew, gain: np.ndarray, noise: np.ndarray, clip: bool) -> None:
        meta = ramps.meta
        self._ramps, self._crew, self._gain, self._noise, self._clip = ramps, crew, gain, noise, clip
        self._usable = np.zeros((meta.nints, meta.ngroups), np.bool_)
        steps = meta.ngroups - 1
        self._step = min(steps, max(1, PLANES // (8 * meta.ny * meta.nx))) if clip else steps
        planes = self._step if clip else 1
        self._middle, self._sigma = np.empty((2, planes, meta.ny, meta.nx), np.float32)
        self._first = 0
        self._fill()
        self.differences = meta.nints * steps - int((~self._usable).sum())

    def parts(self) -> Iterator[tuple[int, int]]:
        """First group and one past the last, for which `of` holds until the next part is asked for."""
        ngroups = self._ramps.meta.ngroups
        for first in range(0, ngroups - 1, self._step):
            if first != self._first:
                self._first = first
                self._fill()
            yield first + 1, min(first + self._step + 1, ngroups)

    def of(self, g: int) -> tuple[np.ndarray, np.ndarray]:
        """Median and scatter (ny, nx), electrons, of the differences that end with group ``g``."""
        k = g - 1 - self._first if self._clip else 0
        return self._middle[k], self._sigma[k]

    def _fill(self) -> None:
        meta = self._ramps.meta
        step = max(1, PIECE // (4 * meta.nints * meta.ngroups * meta.nx))
        number = min(len(self._middle), meta.ngroups - 1 - self._first)

        def one(lo: int) -> None:
            shape = (min(step, meta.ny - lo), meta.nints, meta.ngroups, meta.nx)
            data, gdq = np.empty(shape, np.float32), np.empty(shape, np.uint8)
            self._ramps.read_rows(data, gdq, lo)
            find_open(gdq, self._usable, 0, meta.nx)
            if self._clip:
                middle, sigma = self._middle[:number], self._sigma[:number]
                clipped(data, gdq, self._gain, lo, self._first, middle, sigma)
            else:
                middle, sigma = self._middle[0], self._sigma[0]
                pooled(data, gdq, self._gain, self._noise, lo, meta.nframes, middle, sigma)

        self._crew.each(one, range(0, meta.ny, step))
