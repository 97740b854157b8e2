"""Periodic interference found in what straight ramps leave: emicorr's sequential fit of one frequency.

From each ramp of the first integrations a slope and a level are taken off, both from all groups but the first
and the last: a least-squares slope, and the median of what is left (the lower one of two groups). Four
neighbouring columns, read at the same time, are averaged; the second and third four stand for the mean of the
first and the fourth; each frame loses its median. The values are gathered by phase into steps, and their
clipped means, less their median, are the wave that the exposure itself shows:

    w_b = mean of the values with b / B < T / p mod 1 <= (b + 1) / B,    3 sigma, 5 times, about the median

Where the reference knows the wave, that is turned until it correlates best with w, and scaled by a straight
line through the two (or not); else w itself is taken off, step by step, from every frame. A phase that no
value falls into leaves nothing to take off.

One look at the rows of the first integrations is enough; what ramps leave is put down, a quarter as large.

Source: JWST pipeline documentation, emicorr step; columns, edges of steps and clipping were measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import numpy as np

from upramp.stages.core.extras import Cube
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.statistics import median
from upramp.stages.core.step import Window
from upramp.stages.stage1.emicorr_clocks import OUTPUTS, Clean, Clocks, period, spread

LEAST_COLUMNS = 4 * OUTPUTS
MOST_STEPS, USUAL_STEPS = 501, 500  # where more are asked for, the usual number is taken
SIGMA, CLIPS = 3.0, 5
AT_ONCE = 1 << 25  # values that are gathered at a time


@kernel
def residuals(data, out):
    """What straight lines and levels leave of ramps, averaged over each four columns.

    ``data`` (rows, nints, ngroups, columns) float32, columns a multiple of 4; ``out`` (rows, nints, ngroups,
    columns / 4) float32 is filled; NaN with fewer than 4 groups.
    """
    rows, nints, ngroups, columns = data.shape
    n = ngroups - 2
    middle = (n - 1) / 2
    square = n * (n * n - 1) / 12
    ramp, work = np.empty(ngroups, np.float32), np.empty(ngroups, np.float32)
    for r in range(rows):
        for i in range(nints):
            left = out[r, i]
            for k in range(columns // OUTPUTS):
                for g in range(ngroups):
                    left[g, k] = 0
                for c in range(k * OUTPUTS, (k + 1) * OUTPUTS):
                    slope = 0.0
                    for g in range(n):
                        slope += (g - middle) * np.float64(data[r, i, g + 1, c])
                    slope = slope / square if square > 0 else np.nan
                    for g in range(ngroups):
                        ramp[g] = np.float64(data[r, i, g, c]) - slope * g
                    for g in range(n):
                        work[g] = ramp[g + 1]
                    level = np.float32(min(work[0], work[1]) if n == 2 else median(work, n))
                    for g in range(ngroups):
                        left[g, k] += np.float32(ramp[g] - level)
                for g in range(ngroups):
                    left[g, k] = np.float32(left[g, k] / np.float32(OUTPUTS))


@kernel
def step_of(clock, wave, edges):
    """The step whose phases hold the one at ``clock``, with ``wave`` clocks to a turn; -1 for phase 0."""
    turns = clock / wave
    phase = turns - np.floor(turns)
    b = min(int(phase * (len(edges) - 1)), len(edges) - 2)
    while b >= 0 and phase <= edges[b]:
        b -= 1
    while b < len(edges) - 2 and phase > edges[b + 1]:
        b += 1
    return b


@kernel
def count_steps(start, clocks, wave, edges, counts):
    """Count the values of a frame by step; ``start`` is the clock of its first pixel."""
    for y in range(clocks.shape[0]):
        for k in range(clocks.shape[1]):
            b = step_of(start + clocks[y, k], wave, edges)
            if b >= 0:
                counts[b] += 1


@kernel
def gather(frame, level, start, clocks, wave, edges, low, high, places, out):
    """Put the values of a frame (float32), less ``level``, to those of their step in ``out``.

    ``places`` tells where the next value of a step goes; only steps ``low`` to ``high`` (half open) count.
    """
    for y in range(clocks.shape[0]):
        for k in range(clocks.shape[1]):
            b = step_of(start + clocks[y, k], wave, edges)
            if low <= b < high:
                out[places[b]] = np.float32(frame[y, k] - level)
                places[b] += 1


@kernel
def clipped_mean(values, sigma, times):
    """Mean of values (float32, reordered) after clipping about the median; NaN without any."""
    n = 0
    for k in range(len(values)):
        if not np.isnan(values[k]):
            values[n] = values[k]
            n += 1
    if n == 0:
        return np.nan
    for _ in range(times):
        total = 0.0
        for k in range(n):
            total += np.float64(values[k])
        mean = total / n
        square = 0.0
        for k in range(n):
            square += (np.float64(values[k]) - mean) ** 2
        middle, reach = np.float64(median(values, n)), sigma * np.sqrt(square / n)
        kept = 0
        for k in range(n):
            if middle - reach <= values[k] <= middle + reach:
                values[kept] = values[k]
                kept += 1
        if kept == n:
            break
        n = kept
    total = 0.0
    for k in range(n):
        total += np.float64(values[k])
    return total / n


@kernel
def subtract(data, noise, start, frame, integration, wave, row, samples, y0, x0):
    """Take a wave, clock by clock, off rows of ramps in place.

    ``data`` (rows, nints, ngroups, columns) float32, from row ``y0`` and column ``x0`` on; ``noise`` float64
    by clock; the first read is at clock ``start``, groups and integrations follow after ``frame`` and
    ``integration`` clocks.
    """
    rows, nints, ngroups, columns = data.shape
    first = x0 // OUTPUTS
    fours = (x0 + columns - 1) // OUTPUTS - first + 1
    off = np.empty(fours)
    for r in range(rows):
        for i in range(nints):
            for g in range(ngroups):
                clock = start + i * integration + g * frame + row * (y0 + r) + samples * first
                for k in range(fours):
                    turns = (clock + samples * k) / wave
                    off[k] = noise[int((turns - np.floor(turns)) * wave)]
                spread(off, data[r, i, g], x0)


def resampled(values: np.ndarray, size: float) -> np.ndarray:
    """Values on ``size`` steps instead of their own, each the one that its beginning falls into."""
    places = np.floor(np.arange(ceil(size)) * (len(values) / size)).astype(np.int64)
    return np.asarray(values[np.minimum(places, len(values) - 1)])


def turned(reference: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The reference's wave turned until it correlates best with what was seen, both of the same length."""
    if not np.isfinite(seen).all():
        return reference
    a, b = np.fft.rfft(reference - reference.mean()), np.fft.rfft(seen - seen.mean())
    shift = int(np.argmax(np.fft.irfft(b * np.conj(a), len(seen))))
    return np.roll(reference, shift)


def table(seen: np.ndarray, reference: np.ndarray | None, clocks: float, scale: bool) -> np.ndarray:
    """What to take off at each clock of a turn, DN.

    Parameters
    ----------
    seen : ndarray, float64
        The wave that the exposure shows.
    reference : ndarray or None
        The wave as the reference has it.
    clocks : float
        Of one turn.
    scale : bool
        Scale the reference's wave.
    """
    own = resampled(seen, clocks)
    if reference is None:
        return np.nan_to_num(own, nan=0.0)
    known = resampled(turned(reference, resampled(seen, len(reference))), clocks)
    if scale:
        away = known - known.mean()
        square = away @ away
        known = known * ((away @ own) / square if square > 0 else np.nan)
    return np.nan_to_num(known, nan=0.0)


class Wave:
    """What is known of one frequency, what the exposure shows of it, and what to take off.

    ``reference`` is the reference's wave, or None. ``seen`` (steps) is NaN before it is known.
    """

    def __init__(
        self, clocks: Clocks, frequency: float, reference: np.ndarray | None, nbins: int | None
    ) -> None:
        self.clocks, self.frequency, self.reference = clocks, frequency, reference
        self.period = period(frequency)
        asked = nbins or int(self.period / 2)
        self.seen = np.full(asked if asked <= MOST_STEPS else USUAL_STEPS, np.nan)
        self.noise = np.zeros(ceil(self.period))

    def take_off(self, w: Window, lo: int, hi: int) -> None:
        """Subtract what was found from rows lo to hi."""
        c = self.clocks
        subtract(
            w.data[w.rows(lo, hi)], self.noise, w.i0 * c.integration, c.frame, c.integration, self.period,
            c.row, c.samples, lo, w.x0,
        )  # fmt: skip


def integrations_of(wave: Wave, nints: int, asked: int | None, cycles: int | None) -> int:
    """How many integrations are looked at: as many as are asked for, or hold so many turns, or all."""
    if asked is None and cycles is not None:
        asked = ceil(cycles / (wave.clocks.reset * wave.clocks.ngroups / wave.period))
    return nints if asked is None else min(asked, nints)


class Residuals:
    """The look: what ramps leave, and from that the wave."""

    def __init__(
        self, meta: ExposureMeta, wave: Wave, nints: int, cube: Cube, clean: Clean, scale: bool
    ) -> None:
        self.meta, self.wave, self.nints = meta, wave, nints
        self._cube, self._clean, self._scale = cube, clean, scale
        self._last = 0

    def tiles(self) -> list[tuple[slice, slice]]:
        """Everything."""
        return [(slice(0, self.meta.ny), slice(0, self.meta.nx))]

    def begin(self, first: int, last: int) -> None:
        """See `Survey`."""
        self._last = last

    def absorb(self, w: Window, lo: int, hi: int) -> None:
        """See `Survey`."""
        self._clean(w, lo, hi)
        r0, r1, c0, c1 = w.core(lo, hi)
        data = w.data[lo - w.y0 + r0 : lo - w.y0 + r1, ..., c0:c1]
        found = np.empty((*data.shape[:3], data.shape[3] // OUTPUTS), np.float32)
        residuals(data, found)
        self._cube.write_rows(lo + r0, (w.x0 + c0) // OUTPUTS, found, first=w.i0)

    def finish(self) -> None:
        """See `Survey`."""
        if self._last < self.nints:
            return
        wave = self.wave
        self._average()
        wave.seen -= np.median(wave.seen)
        wave.noise = table(wave.seen, wave.reference, wave.period, self._scale)

    def _frames(self) -> Iterator[tuple[int, int, int]]:
        """Number, integration, and group of each frame."""
        for n in range(self.nints * self.meta.ngroups):
            yield n, *divmod(n, self.meta.ngroups)

    def _read(self, i: int, g: int) -> np.ndarray:
        """What ramps leave of a frame; the second and third four stand for their neighbours."""
        frame = self._cube.read(i, g)
        frame[:, 1] = frame[:, 2] = (frame[:, 0] + frame[:, 3]) / 2
        return frame

    def _average(self) -> None:
        """The means of all steps; as many steps at a time as there is room for."""
        wave = self.wave
        edges = np.arange(len(wave.seen) + 1) / len(wave.seen)
        clocks = wave.clocks.pixels(self.meta.ny, self.meta.nx)
        counts, levels = np.zeros(len(wave.seen), np.int64), []
        for _, i, g in self._frames():
            count_steps(wave.clocks.start(i, g), clocks, wave.period, edges, counts)
            levels.append(np.median(self._read(i, g)))
        ends = np.cumsum(counts)
        low = 0
        while low < len(counts):
            before = ends[low] - counts[low]
            high = max(low + 1, int(np.searchsorted(ends, before + AT_ONCE, side="right")))
            out = np.empty(ends[high - 1] - before, np.float32)
            places = ends - counts - before
            for n, i, g in self._frames():
                start = wave.clocks.start(i, g)
                frame = self._read(i, g)
                gather(frame, levels[n], start, clocks, wave.period, edges, low, high, places, out)
            for b in range(low, high):
                own = out[ends[b] - counts[b] - before : ends[b] - before]
                wave.seen[b] = clipped_mean(own, SIGMA, CLIPS)
            low = high
