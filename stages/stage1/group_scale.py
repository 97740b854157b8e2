"""group_scale: undo a wrong on-board average.

On board the frames of a group are summed and shifted right, that is divided by a power
of two, FRMDIVSR. Where that is not the number of frames,

    F' = F * FRMDIVSR / NFRAMES

Source: JWST pipeline documentation, group_scale step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.errors import Unprocessable
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Bound, Context, Station, Step, Window


@dataclass(frozen=True)
class Params:
    """Parameters of group_scale."""

    skip: bool = False


@kernel
def scale(data, factor):
    """Multiply ramps (rows, nints, ngroups, columns; float32) by a float32 factor in place."""
    rows, nints, ngroups, columns = data.shape
    for r in range(rows):
        for i in range(nints):
            for g in range(ngroups):
                d = data[r, i, g]
                for c in range(columns):
                    d[c] *= factor


def skip_if(meta: ExposureMeta, params: Params) -> str | None:
    """Nothing to do where the on-board average was right."""
    if meta.frame_divisor is None:
        return "FRMDIVSR is not given"
    if meta.frame_divisor == meta.nframes:
        return "FRMDIVSR equals NFRAMES"
    return None


def bind(context: Context) -> Bound:
    """Make the station for one exposure.

    Raises
    ------
    Unprocessable
        If NFRAMES or FRMDIVSR is not positive.
    """
    meta = context.meta
    if meta.nframes < 1 or meta.frame_divisor is None or meta.frame_divisor < 1:
        raise Unprocessable(
            f"NFRAMES = {meta.nframes} and FRMDIVSR = {meta.frame_divisor} must both be positive; "
            "correct the header or skip the step group_scale"
        )
    factor = np.float32(meta.frame_divisor / meta.nframes)

    def run(w: Window, lo: int, hi: int) -> None:
        scale(w.data[w.rows(lo, hi)], factor)

    return Bound([Station(run)])


STEP = Step(
    name="group_scale",
    keyword="S_GRPSCL",
    params=Params,
    bind=bind,
    skip_if=skip_if,
    pars="pars-groupscalestep",
)
