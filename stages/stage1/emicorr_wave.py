"""A wave of known shape in the reads of a mid-infrared detector, as emicorr's joint fit uses it.

Between the reference's values, which stand in the middle of their steps of phase, runs a cubic spline. The
sums of `emicorr_joint` know a phase only by its step, and 500 phases are tried: so all that is ever asked of
the wave lies on a grid that holds both, and sums over steps are correlations, done by Fourier transforms.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import lcm

import numpy as np

from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Window
from upramp.stages.stage1.emicorr_clocks import OUTPUTS, Clocks, period, spread

PHASES = 500  # tried
BLOCK = 1 << 22  # elements of a table of waves


@kernel
def subtract(data, spline, amplitudes, phases, step, wave, row, samples, y0, x0):
    """Take waves off rows of ramps in place.

    ``data`` (rows, nints, ngroups, columns) float32, from row ``y0`` and column ``x0`` on; ``spline`` as
    `spline_of` makes it; ``amplitudes`` (DN) and ``phases`` by integration; the phase grows by ``step`` from
    group to group, and by 1 in ``wave`` clocks; ``row`` and ``samples`` as in `Clocks`.
    """
    rows, nints, ngroups, columns = data.shape
    n = len(spline) - 1
    first = x0 // OUTPUTS
    fours = (x0 + columns - 1) // OUTPUTS - first + 1
    noise = np.empty(fours)
    for r in range(rows):
        for i in range(nints):
            a = amplitudes[i]
            if a == 0:
                continue
            for g in range(ngroups):
                start = phases[i] + step * g
                for k in range(fours):
                    phase = start + (row * (y0 + r) + samples * (first + k)) / wave
                    u = (phase - np.floor(phase)) * n + 0.5
                    j = min(int(u), n)
                    t, s = u - j, spline[j]
                    noise[k] = a * (s[0] + t * (s[1] + t * (s[2] + t * s[3])))
                spread(noise, data[r, i, g], x0)


@kernel
def next_above(phases, shift, out):
    """Which of the phases tried comes next above ``phases`` + ``shift`` (float64), in turns.

    Where one of them is met, roundings decide: those of the observatory's package, which takes the least of
    (tried - phase - shift) mod 1.
    """
    for k in range(len(phases)):
        turns = phases[k] + shift
        above = int(np.ceil((turns - np.floor(turns)) * PHASES))
        least = 2.0
        for near in range(above - 1, above + 2):
            tried = near % PHASES
            gap = (tried / PHASES - phases[k] - shift) % 1.0
            if gap < least:
                least = gap
                out[k] = tried


def spline_of(wave: np.ndarray) -> np.ndarray:
    """Coefficients (steps + 1, 4) float64 of the cubic spline through a wave's values.

    These stand in the middle of their steps; one more on either side goes once around. Piece j holds for
    phases (j - 1/2 + t) / steps, t from 0 to 1; its third derivative does not jump at the second knot nor at
    the last but one.
    """
    y = np.concatenate([wave[-1:], wave, wave[:1]]).astype(np.float64)
    n = len(y)
    bend = np.zeros(n)  # second derivatives: bend[j-1] + 4 bend[j] + bend[j+1] = 6 (second differences)
    right = 6 * (y[:-2] - 2 * y[1:-1] + y[2:])
    bend[1], bend[-2] = right[0] / 6, right[-1] / 6
    inner = right[1:-1].copy()
    if inner.size:
        inner[0] -= bend[1]
        inner[-1] -= bend[-2]
        factor = np.empty(inner.size)
        factor[0], inner[0] = 1 / 4, inner[0] / 4
        for k in range(1, inner.size):
            factor[k] = 1 / (4 - factor[k - 1])
            inner[k] = (inner[k] - inner[k - 1]) * factor[k]
        for k in range(inner.size - 2, -1, -1):
            inner[k] -= factor[k] * inner[k + 1]
        bend[2:-2] = inner
    bend[0], bend[-1] = 2 * bend[1] - bend[2], 2 * bend[-2] - bend[-3]
    low, high = bend[:-1], bend[1:]
    return np.stack([y[:-1], np.diff(y) - (2 * low + high) / 6, low / 2, (high - low) / 6], axis=1)


def values(spline: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """The wave at phases of any number of turns, in the shape of ``phases``."""
    n = len(spline) - 1
    u = (phases - np.floor(phases)) * n + 0.5
    j = np.minimum(u.astype(np.int64), n)
    t, s = u - j, spline[j]
    found: np.ndarray = s[..., 0] + t * (s[..., 1] + t * (s[..., 2] + t * s[..., 3]))
    return found


class Wave:
    """What the reference tells of one frequency, and what was found of it.

    Attributes
    ----------
    amplitudes, phases : ndarray, float64, shape (nints,)
        What to take off each integration; 0 before it is known.
    """

    def __init__(self, meta: ExposureMeta, clocks: Clocks, frequency: float, spline: np.ndarray) -> None:
        self.clocks, self.spline = clocks, spline
        self.period = period(frequency)
        self.steps = len(spline) - 1
        self.amplitudes, self.phases = np.zeros(meta.nints), np.zeros(meta.nints)
        self.frame = clocks.frame / self.period % 1
        self.integration = clocks.ngroups * self.frame + clocks.reset / self.period
        self.grid = lcm(self.steps, PHASES)

    def take_off(self, w: Window, lo: int, hi: int) -> None:
        """Subtract what was found from rows lo to hi."""
        data = w.data[w.rows(lo, hi)]
        mine = slice(w.i0, w.i0 + data.shape[1])
        c = self.clocks
        subtract(
            data, self.spline, self.amplitudes[mine], self.phases[mine], self.frame, self.period, c.row,
            c.samples, lo, w.x0,
        )  # fmt: skip

    def bins(self, meta: ExposureMeta) -> np.ndarray:
        """The step of the reference that each four columns' first read falls into."""
        phases = self.clocks.pixels(meta.ny, meta.nx) / self.period % 1
        return (phases * self.steps).astype(np.int64)

    def place(self, phases: np.ndarray, i: int) -> np.ndarray:
        """Where among the phases tried integration ``i`` stands: the next one above."""
        found = np.empty(len(phases), np.int64)
        next_above(phases, i * self.integration, found)
        return found

    def tables(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Some groups, and the wave at all phases that a step's middle can have in them (groups, grid)."""
        phases = np.arange(self.grid) / self.grid + 0.5 / self.steps
        some = max(1, BLOCK // self.grid)
        for g in range(0, self.clocks.ngroups, some):
            groups = slice(g, min(g + some, self.clocks.ngroups))
            yield (
                groups,
                values(self.spline, phases + self.frame * np.arange(groups.start, groups.stop)[:, None]),
            )

    def squares(self) -> np.ndarray:
        """W P W at all phases (grid)."""
        t = np.arange(self.clocks.ngroups) - (self.clocks.ngroups - 1) / 2
        first = values(self.spline, np.arange(self.grid) / self.grid + 0.5 / self.steps)
        zero, one, two = np.zeros((3, self.grid))
        for groups, table in self.tables():
            away = table - first  # small where the wave is the same in all groups: so nothing is left of it
            zero += away.sum(axis=0)
            one += t[groups] @ away
            two += (away**2).sum(axis=0)
        left = two - zero**2 / len(t) - one**2 / (t @ t)
        return np.maximum(left, 0)

    def correlate(self, by_step: np.ndarray, table: np.ndarray) -> np.ndarray:
        """Sums of ``by_step`` (..., steps) times ``table`` (..., grid) over steps, for all phases tried."""
        filled = np.zeros((*by_step.shape[:-1], self.grid))
        filled[..., :: self.grid // self.steps] = by_step
        product = np.conj(np.fft.rfft(filled)) * np.fft.rfft(table)
        if product.ndim > 1:
            product = product.sum(axis=-2)
        found: np.ndarray = np.fft.irfft(product, self.grid)[:: self.grid // PHASES]
        return found
