"""Reference pixels of the mid infrared: four columns on either side, one for each amplifier.

Column x belongs to amplifier x mod 4. With D_g = F_g - F_1, in every group g after the first of an
integration

    F'_g = F_g - (mean of D_g over the left column of the amplifier + the same on the right) / 2

by row parity if ``odd_even_rows``. Means are clipped at ``siglimit`` sigma until nothing more is rejected;
pixels flagged DO_NOT_USE do not count. Source: JWST pipeline documentation, refpix step.
"""

from __future__ import annotations

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Bound, Context, Station, Window
from upramp.stages.stage1.refpix_border import average, clipped_mean

AMPLIFIERS = 4


@kernel
def column_means(strip, good, parities, limit, means):
    """Clipped means of reference columns relative to the first group, by frame, amplifier and row parity.

    ``strip`` (nints, ngroups, rows, 4) float32; ``good`` (rows, 4); ``means`` (nints, ngroups, 4, 2)
    float32 is filled from the second group on.
    """
    nints, ngroups, rows, columns = strip.shape
    work = np.empty(rows, np.float32)
    for i in range(nints):
        for g in range(1, ngroups):
            for a in range(columns):
                for p in range(parities):
                    n = 0
                    for r in range(p, rows, parities):
                        d = strip[i, g, r, a] - strip[i, 0, r, a]
                        if good[r, a] and not np.isnan(d):
                            work[n] = d
                            n += 1
                    means[i, g, a, p] = clipped_mean(work, n, limit)


@kernel
def subtract(data, levels, y0, x0, i0):
    """Subtract ``levels`` (nints, ngroups, 4, 2) from rows of ramps in place; the first group stays.

    ``data`` (rows, nints, ngroups, columns) float32. The difference to the first group is formed as the
    observatory's package does it, so that roundings agree.
    """
    rows, nints, ngroups, columns = data.shape
    level = np.empty(columns, np.float32)
    for r in range(rows):
        p = (y0 + r) & 1
        for i in range(nints):
            first = data[r, i, 0]
            for g in range(1, ngroups):
                line = data[r, i, g]
                for c in range(columns):
                    level[c] = levels[i0 + i, g, (x0 + c) & 3, p]
                for c in range(columns):
                    line[c] = ((line[c] - first[c]) - level[c]) + first[c]


class SideColumns:
    """Gathers the reference columns of every frame and derives its corrections.

    Attributes
    ----------
    levels : ndarray, float32, shape (nints, ngroups, 4, 2)
        What to subtract by amplifier and row parity.
    """

    def __init__(self, meta: ExposureMeta, odd_even_rows: bool, limit: float) -> None:
        self.meta = meta
        self.parities = 2 if odd_even_rows else 1
        self.limit = limit
        self.levels = np.zeros((meta.nints, meta.ngroups, AMPLIFIERS, 2), np.float32)
        self._first = 0
        self._values = np.empty((2, 0), np.float32)
        self._good = np.ones((2, meta.ny, AMPLIFIERS), bool)

    def tiles(self) -> list[tuple[slice, slice]]:
        """The columns on the left and on the right."""
        rows, nx = slice(0, self.meta.ny), self.meta.nx
        return [(rows, slice(0, AMPLIFIERS)), (rows, slice(nx - AMPLIFIERS, nx))]

    def begin(self, first: int, last: int) -> None:
        """Integrations ``first`` to ``last`` (half open) come next."""
        self._first = first
        shape = (2, last - first, self.meta.ngroups, self.meta.ny, AMPLIFIERS)
        self._values = np.empty(shape, np.float32)

    def absorb(self, w: Window, lo: int, hi: int) -> None:
        """Keep the core of rows lo to hi of the side that the window works on."""
        r0, r1, c0, c1 = w.core(lo, hi)
        rows, to = slice(lo - w.y0 + r0, lo - w.y0 + r1), slice(lo + r0, lo + r1)
        start = w.x0 - self.tiles()[w.tile][1].start
        x = slice(start + c0, start + c1)
        self._values[w.tile, :, :, to, x] = w.data[rows, ..., c0:c1].transpose(1, 2, 0, 3)
        self._good[w.tile, to, x] = (w.pdq[rows, c0:c1] & DO_NOT_USE) == 0

    def finish(self) -> None:
        """Derive the corrections of the integrations that were seen."""
        n = self._values.shape[1]
        left, right = (self._means(*side) for side in zip(self._values, self._good, strict=True))
        self.levels[self._first : self._first + n, 1:] = average(left, right)[:, 1:]
        self._values = self._values[:, :0]

    def _means(self, strip: np.ndarray, good: np.ndarray) -> np.ndarray:
        """Means of one side (nints, ngroups, 4, 2), NaN where there are none."""
        means = np.full((*strip.shape[:2], AMPLIFIERS, 2), np.nan, np.float32)
        p = self.parities
        column_means(strip, good, p, self.limit, means)
        means[..., p:] = means[..., :1]
        return means


def bind(context: Context) -> Bound:
    """Make the survey of the reference columns and the station that subtracts."""
    columns = SideColumns(context.meta, context.params.odd_even_rows, float(context.params.siglimit))

    def run(w: Window, lo: int, hi: int) -> None:
        subtract(w.data[w.rows(lo, hi)], columns.levels, lo, w.x0, w.i0)

    return Bound([Station(run)], survey=columns)
