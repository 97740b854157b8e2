"""firstframe: leave the first group of mid-infrared integrations out.

The first group of every integration is flagged DO_NOT_USE where there are more than three. With
``bright_use_group1`` it stays where the third group is saturated, so that a slope can be had; such pixels are
flagged FLUX_ESTIMATED. Source: JWST pipeline documentation, firstframe step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, FLUX_ESTIMATED, SATURATED
from upramp.stages.core.groups import ends, follow_leading
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Bound, Context, Station, Step, Window

LEAST_GROUPS = 4


@dataclass(frozen=True)
class Params:
    """Parameters of firstframe."""

    skip: bool = True
    bright_use_group1: bool = True


def skip_if(meta: ExposureMeta, params: Params) -> str | None:
    """With fewer groups too few would remain."""
    if meta.ngroups < LEAST_GROUPS:
        return f"{meta.ngroups} groups; at least {LEAST_GROUPS} are needed to leave the first one out"
    return None


def bind(context: Context) -> Bound:
    """Make the station for one exposure."""
    keep_bright = context.params.bright_use_group1
    left = ends(context)[:, 0]
    np.maximum(left, 1, out=left)
    leading = follow_leading(context)

    def run(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        first = w.gdq[s][:, :, 0]  # (rows, nints, columns)
        if not keep_bright:
            first |= np.uint8(DO_NOT_USE)
            return
        bright = (w.gdq[s][:, :, 2] & SATURATED) != 0
        first[~bright] |= np.uint8(DO_NOT_USE)
        w.pdq[s][bright.any(axis=1)] |= np.uint32(FLUX_ESTIMATED)
        if bright.any():
            leading.see(w.gdq[s])

    return Bound([Station(run)])


STEP = Step(
    name="firstframe",
    keyword="S_FRSTFR",
    params=Params,
    bind=bind,
    skip_if=skip_if,
    pars="pars-firstframestep",
)
