"""reset: subtract what the reset leaves in the first groups of mid-infrared integrations.

    F'_ig = F_ig - R_kg,   k = min(i, K),   g = 1 ... G

for integration i of the exposure (counted over its segments) and group g; the reference R has K
integrations of G groups. Later groups stay as they are; where R is NaN nothing is subtracted. The
reference's flags join the pixel flags. Source: JWST pipeline documentation, reset step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.errors import Misconfigured
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import ByRows, Prepared, RawReference, native
from upramp.stages.core.step import Bound, Context, Station, Step, Window


@dataclass(frozen=True)
class Params:
    """Parameters of reset."""

    skip: bool = False


@kernel
def subtract(data, pdq, decay, which, flags, y0, x0):
    """Subtract ``decay`` from rows of ramps in place and merge its flags.

    ``data`` (rows, nints, ngroups, columns) float32; ``pdq`` (rows, columns) uint32; ``decay`` (ny,
    planes, G, nx) float32 and ``flags`` (ny, nx) cover the exposure, row ``y0`` and column ``x0`` being
    element [0, 0]; ``which`` (nints) gives the plane of each integration.
    """
    rows, nints, ngroups, columns = data.shape
    groups = min(ngroups, decay.shape[2])
    for r in range(rows):
        f, p = flags[y0 + r, x0 : x0 + columns], pdq[r]
        for c in range(columns):
            p[c] |= f[c]
        for i in range(nints):
            for g in range(groups):
                d, b = data[r, i, g], decay[y0 + r, which[i], g, x0 : x0 + columns]
                for c in range(columns):
                    d[c] -= b[c]


def planes(meta: ExposureMeta, available: int) -> np.ndarray:
    """Which of the reference's integrations (from 0) each integration of the file takes."""
    return np.minimum(np.arange(meta.int_start - 1, meta.int_start - 1 + meta.nints), available - 1)


def prepare(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Take the integrations and groups that the exposure needs, rows first; NaN becomes 0.

    Raises
    ------
    Misconfigured
        If the reference has another size than the exposure, or not four axes.
    """
    cube = raw.array("SCI")
    if cube.ndim != 4 or cube.shape[2:] != (meta.ny, meta.nx):
        raise Misconfigured(
            f"the reset reference {raw.name} has shape {cube.shape}, the exposure {meta.ny} rows of "
            f"{meta.nx} pixels; these references are never cut: give one of this very subarray with "
            "[references] reset = ..., or skip the step reset"
        )
    groups = min(meta.ngroups, cube.shape[1])

    def rows(lo: int, hi: int) -> np.ndarray:
        part = native(cube[:, :groups, lo:hi].transpose(2, 0, 1, 3), np.float32)
        part[np.isnan(part)] = 0
        return part

    decay = ByRows((meta.ny, len(cube), groups, meta.nx), np.float32, rows)
    return Prepared({"decay": decay, "dq": native(raw.dq(), np.uint32)})


def bind(context: Context) -> Bound:
    """Make the station for one exposure."""
    ref = context.references["reset"]
    decay, flags = ref["decay"], ref["dq"]
    which = planes(context.meta, decay.shape[1])

    def run(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        mine = which[w.i0 : w.i0 + w.data.shape[1]]
        subtract(w.data[s], w.pdq[s], decay, mine, flags, lo, w.x0)

    return Bound([Station(run)])


STEP = Step(
    name="reset",
    keyword="S_RESET",
    params=Params,
    bind=bind,
    references=("reset",),
    prepare={"reset": prepare},
    pars="pars-resetstep",
)
