"""charge_migration: take bright groups, which spill charge on their neighbours, out of the fit.

In every ramp, the first group above ``signal_threshold`` and all later ones are flagged
CHARGELOSS and DO_NOT_USE, in the pixel and in its four nearest neighbours. A group whose
only flag is DO_NOT_USE does not start the flagging. Saturated groups may start it.
Source: JWST pipeline documentation, charge_migration step; which groups start it, and
the neighbours, from the behaviour of the observatory's pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core import dq
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Bound, Context, Station, Step, Window

PLANE = "charge_migration.above"
FLAGS = np.uint8(dq.CHARGELOSS | dq.DO_NOT_USE)


@dataclass(frozen=True)
class Params:
    """Parameters of charge_migration; ``signal_threshold`` in DN."""

    skip: bool = True
    signal_threshold: float = 25000.0


@kernel
def find(data, gdq, above, threshold):
    """Set ``above`` to the flags to be spread, from the first bright group of each ramp on.

    ``data`` float32, ``gdq`` and ``above`` uint8, all (rows, nints, ngroups, columns);
    ``threshold`` float32.
    """
    rows, nints, ngroups, columns = data.shape
    so_far = np.empty(columns, np.uint8)
    for r in range(rows):
        for i in range(nints):
            so_far[:] = 0
            for g in range(ngroups):
                d = data[r, i, g]
                q = gdq[r, i, g]
                a = above[r, i, g]
                for c in range(columns):
                    so_far[c] |= (d[c] > threshold) & (q[c] != dq.DO_NOT_USE)
                    a[c] = so_far[c] * FLAGS


@kernel
def spread(gdq, above, first):
    """Join ``above`` of each pixel and of its four neighbours to ``gdq`` in place.

    ``gdq`` (rows, nints, ngroups, columns) uint8; row 0 of it is row ``first`` of ``above``, which
    may have more rows on either side.
    """
    rows, nints, ngroups, columns = gdq.shape
    for r in range(rows):
        y = first + r
        for i in range(nints):
            for g in range(ngroups):
                q = gdq[r, i, g]
                a = above[y, i, g]
                for c in range(columns):
                    q[c] |= a[c]
                for c in range(1, columns):
                    q[c] |= a[c - 1]
                    q[c - 1] |= a[c]
                for dy in (-1, 1):
                    if 0 <= y + dy < above.shape[0]:
                        b = above[y + dy, i, g]
                        for c in range(columns):
                            q[c] |= b[c]


def skip_if(meta: ExposureMeta, params: Params) -> str | None:
    """Two groups are needed for a slope; none can be spared of so few."""
    return "needs at least 3 groups" if meta.ngroups < 3 else None


def bind(context: Context) -> Bound:
    """Make the two stations for one exposure."""
    threshold = np.float32(context.params.signal_threshold)

    def search(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        find(w.data[s], w.gdq[s], w.planes[PLANE][s], threshold)

    def grow(w: Window, lo: int, hi: int) -> None:
        s, first = w.haloed(lo, hi, 1)
        q = w.gdq[w.rows(lo, hi)]
        spread(q, w.planes[PLANE][s], first)
        r0, r1, c0, c1 = w.core(lo, hi)
        last = q[r0:r1, :, -1, c0:c1]
        w.counters["charge_migration.ramps"] += int(np.count_nonzero(last & dq.CHARGELOSS))

    return Bound([Station(search, planes={PLANE: np.uint8}), Station(grow, halo=1)])


STEP = Step(
    name="charge_migration",
    keyword="S_CHGMIG",
    params=Params,
    bind=bind,
    skip_if=skip_if,
    pars="pars-chargemigrationstep",
)
