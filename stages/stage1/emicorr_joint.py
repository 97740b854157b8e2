"""Periodic interference found together with straight ramps: emicorr's joint fit of one frequency.

With P the projection that takes a straight line out of a ramp, W the reference's wave as a function of phase
(cubic spline) and s the phase of each read, amplitude a and phase p are those that make

    chi^2 = sum over ramps of |P (F - a W(s + p))|^2

smallest, for all integrations together or each by itself. Of all phases, 500 are tried; a parabola through
the lowest and its neighbours gives p, and a is that of the phase tried next above s + p. Ramps count whose
standard deviation (float32, as the observatory's package has it) is below twice the median of all, whose
pixel has no flag, and which do not lie in columns 4 to 11.

Ramps whose phases fall into the same step of the reference are summed first, so that one integration leaves
500 numbers. The sums are whole multiples of 2^-20 DN: they do not depend on the order of rows. The median
over all integrations needs a look of its own, with the standard deviations put down; so the rows of an
exposure are looked at twice for each frequency.

Source: JWST pipeline documentation, emicorr step; the choice of ramps and the grid of phases were measured.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np

from upramp.stages.core.extras import Cube
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Window
from upramp.stages.stage1.emicorr_clocks import OUTPUTS, Clean
from upramp.stages.stage1.emicorr_wave import PHASES, Wave

UNUSED = slice(4, 12)  # columns whose ramps do not count
SCATTER = 2  # times the median
SCALE = 1 << 20  # units of sums in a DN
NOTHING = 1e-8  # sums of squares below which the wave looks like a straight line in every ramp
PIECE = 1 << 18  # values that are counted in one go


@kernel
def scatter(data, out):
    """Standard deviations of ramps over their groups, in float32 throughout.

    ``data`` (rows, nints, ngroups, columns) float32; ``out`` (rows, nints, columns) float32 is filled.
    """
    rows, nints, ngroups, columns = data.shape
    mean = np.empty(columns, np.float32)
    n = np.float32(ngroups)
    for r in range(rows):
        for i in range(nints):
            s = out[r, i]
            mean[:] = 0
            s[:] = 0
            for g in range(ngroups):
                d = data[r, i, g]
                for c in range(columns):
                    mean[c] += d[c]
            for c in range(columns):
                mean[c] = mean[c] / n
            for g in range(ngroups):
                d = data[r, i, g]
                for c in range(columns):
                    away = np.float32(d[c] - mean[c])
                    s[c] += np.float32(away * away)
            for c in range(columns):
                s[c] = np.sqrt(np.float32(s[c] / n))


@kernel
def gather(data, chosen, pdq, bins, y0, x0, sums, counts):
    """Add up the ramps that count by the step of the reference that their first read falls into.

    ``data`` (rows, nints, ngroups, columns) float32, from row ``y0`` and column ``x0`` (a multiple of 4) on;
    ``pdq`` (rows, columns); ``chosen`` (nints, ny, nx) bool and ``bins`` (ny, nx / 4) cover the exposure.
    ``sums`` (nints, ngroups, steps) int64 grows by multiples of 1 / SCALE DN, ``counts`` (nints, steps) by 1.
    """
    rows, nints, ngroups, columns = data.shape
    first = x0 // OUTPUTS
    fours = -(-columns // OUTPUTS)
    counted = np.empty(columns, np.bool_)
    number = np.empty(fours, np.int64)
    for r in range(rows):
        where, flags = bins[y0 + r], pdq[r]
        for i in range(nints):
            ok = chosen[i, y0 + r, x0 : x0 + columns]
            number[:] = 0
            for c in range(columns):
                counted[c] = ok[c] and flags[c] == 0
                number[c // OUTPUTS] += counted[c]
            for k in range(fours):
                counts[i, where[first + k]] += number[k]
            for g in range(ngroups):
                d, total = data[r, i, g], sums[i, g]
                for k in range(fours):
                    if number[k] == 0:
                        continue
                    v = 0.0
                    for c in range(k * OUTPUTS, min((k + 1) * OUTPUTS, columns)):
                        if counted[c]:
                            v += np.float64(d[c])
                    total[where[first + k]] += np.int64(np.rint(v * SCALE))


@kernel
def count_high(bits, counts):
    """Count values (the bits of positive float32) by their upper half."""
    for k in range(len(bits)):
        counts[bits[k] >> 15] += 1


@kernel
def count_low(bits, high, counts):
    """Count the values whose upper half is ``high`` by their lower half."""
    for k in range(len(bits)):
        if bits[k] >> 15 == high:
            counts[bits[k] & 0x7FFF] += 1


def lowest(chi: np.ndarray) -> float:
    """Where ``chi`` (by phase, periodic) is lowest: a parabola through the lowest and its neighbours.

    0 where there is none.
    """
    if np.isnan(chi).all():
        return 0.0
    k, n = int(np.nanargmin(chi)), len(chi)
    left, middle, right = chi[k - 1], chi[k], chi[(k + 1) % n]
    curve = left - 2 * middle + right
    return float(k + 0.5 * (left - right) / curve if curve > 0 else k) / n


def chi_squared(along: np.ndarray, square: np.ndarray) -> np.ndarray:
    """chi^2 of each phase, up to what is the same for all, and NaN where no wave can be told from a line.

    ``along``: the sum of F P W; ``square``: that of W P W.
    """
    some = square > NOTHING
    return np.where(some, -(along**2) / np.where(some, square, 1), np.nan)


def amplitude(along: float, square: float) -> float:
    """The amplitude at one phase; 0 where no wave can be told from a line."""
    return along / square if square > NOTHING else 0.0


class Scatter:
    """The first look: how much each ramp scatters, and twice the median of that."""

    def __init__(self, meta: ExposureMeta, cube: Cube, clean: Clean) -> None:
        self.meta, self.cube, self._clean = meta, cube, clean
        self.limit = np.float32(0)
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
        data = w.data[w.rows(lo, hi)]
        found = np.empty((data.shape[0], data.shape[1], data.shape[3]), np.float32)
        scatter(data, found)
        self.cube.write_rows(lo + r0, w.x0 + c0, found[r0:r1, :, c0:c1], first=w.i0)

    def finish(self) -> None:
        """See `Survey`."""
        if self._last == self.meta.nints:
            self.limit = np.float32(SCATTER) * median_of(self.cube)


def halves(values: np.ndarray) -> np.ndarray:
    """Double precision as two rows of single precision each: what these hold, and the rest."""
    high = values.astype(np.float32)
    return np.concatenate([high, (values - high).astype(np.float32)])


def pieces(cube: Cube) -> Iterator[np.ndarray]:
    """The bits of a cube's values, some frames at a time."""
    some = max(1, PIECE // (cube.shape[-1] * cube.shape[-2]))
    for first in range(0, cube.shape[0], some):
        frames = [cube.read(i).ravel() for i in range(first, min(first + some, cube.shape[0]))]
        yield np.concatenate(frames).view(np.uint32)


def median_of(cube: Cube) -> np.float32:
    """The median of all values of a cube (frames, ny, nx) that holds none below 0, exactly."""
    total = int(np.prod(cube.shape))
    ranks = (total - 1) // 2, total // 2
    upper = np.zeros(1 << 17, np.int64)
    for bits in pieces(cube):
        count_high(bits, upper)
    below = np.cumsum(upper)
    found = []
    lower: dict[int, np.ndarray] = {}
    for rank in ranks:
        high = int(np.searchsorted(below, rank, side="right"))
        if high not in lower:
            lower[high] = np.zeros(1 << 15, np.int64)
            for bits in pieces(cube):
                count_low(bits, np.uint32(high), lower[high])
        rest = rank - int(below[high] - upper[high])
        low = int(np.searchsorted(np.cumsum(lower[high]), rest, side="right"))
        found.append(np.array([high << 15 | low], np.uint32).view(np.float32)[0])
    return np.float32((found[0] + found[1]) / np.float32(2))


class Sums:
    """The second look: sums of the ramps that count, and from these amplitudes and phases."""

    def __init__(
        self, wave: Wave, before: Scatter, clean: Clean, separately: bool, kept: Cube | None
    ) -> None:
        self.meta, self.wave, self._before, self._clean = before.meta, wave, before, clean
        self._bins = wave.bins(self.meta)
        self._separately, self._kept = separately, kept
        self._squares = np.zeros(0)
        self._first = self._last = 0
        self._chosen = np.zeros((0, self.meta.ny, self.meta.nx), bool)
        self._own: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._along, self._square = np.zeros(PHASES), np.zeros(PHASES)

    def tiles(self) -> list[tuple[slice, slice]]:
        """Everything."""
        return self._before.tiles()

    def begin(self, first: int, last: int) -> None:
        """See `Survey`."""
        self._first, self._last = first, last
        limit = self._before.limit
        self._chosen = np.array([self._before.cube.read(i) < limit for i in range(first, last)])
        self._chosen[..., UNUSED] = False
        self._own = {}

    def absorb(self, w: Window, lo: int, hi: int) -> None:
        """See `Survey`."""
        self._clean(w, lo, hi)
        r0, r1, c0, c1 = w.core(lo, hi)
        rows = slice(lo - w.y0 + r0, lo - w.y0 + r1)
        number = self._last - self._first
        mine = self._own.get(threading.get_ident())
        if mine is None:
            shape = (number, self.meta.ngroups, self.wave.steps)
            mine = np.zeros(shape, np.int64), np.zeros((number, self.wave.steps), np.int64)
            self._own[threading.get_ident()] = mine
        gather(
            w.data[rows, ..., c0:c1], self._chosen, w.pdq[rows, c0:c1], self._bins, lo + r0, w.x0 + c0, *mine
        )

    def finish(self) -> None:
        """See `Survey`."""
        if self._first == 0:
            self._squares = self.wave.squares()
        sums = np.sum([one for one, _ in self._own.values()], axis=0) / SCALE
        counts = np.sum([one for _, one in self._own.values()], axis=0).astype(np.float64)
        t = np.arange(self.meta.ngroups) - (self.meta.ngroups - 1) / 2
        sums -= sums.mean(axis=1, keepdims=True)
        sums -= t[:, None] * ((t @ sums) / (t @ t))[:, None]
        along = np.zeros((len(sums), PHASES))
        for groups, table in self.wave.tables():
            along += [self.wave.correlate(one[groups], table) for one in sums]
        square = np.array([self.wave.correlate(one, self._squares) for one in counts])
        self._own = {}
        for k, i in enumerate(range(self._first, self._last)):
            self._take(i, along[k], square[k])
        if self._last == self.meta.nints:
            self._solve()

    def _take(self, i: int, along: np.ndarray, square: np.ndarray) -> None:
        """What integration ``i`` says of each phase tried."""
        wave, tried = self.wave, np.arange(PHASES) / PHASES
        at = wave.place(tried, i)
        if self._kept is not None:
            self._kept.write(i, halves(np.array([along, square])))
            self._along += along[at]
            self._square += square[at]
            return
        phase = lowest(chi_squared(along[at], square[at]))
        own = int(wave.place(np.array([phase]), i)[0])
        wave.amplitudes[i] = amplitude(along[own], square[own])
        wave.phases[i] = phase + i * wave.integration

    def _solve(self) -> None:
        """One amplitude and phase for all integrations."""
        if self._kept is None:
            return
        wave = self.wave
        phase = lowest(chi_squared(self._along, self._square))
        both = np.zeros(2)
        for i in range(self.meta.nints):
            own = self._kept.read(i)[:, wave.place(np.array([phase]), i)[0]].astype(np.float64)
            both += own[:2] + own[2:]
        wave.amplitudes[:] = amplitude(*both)
        wave.phases[:] = phase + np.arange(self.meta.nints) * wave.integration
