"""lastframe: leave the last group of mid-infrared integrations out.

The last group of every integration is flagged DO_NOT_USE where there are more than two. Source: JWST pipeline
documentation, lastframe step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE
from upramp.stages.core.groups import ends
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Bound, Context, Station, Step, Window

LEAST_GROUPS = 3


@dataclass(frozen=True)
class Params:
    """Parameters of lastframe."""

    skip: bool = False


def skip_if(meta: ExposureMeta, params: Params) -> str | None:
    """With fewer groups too few would remain."""
    if meta.ngroups < LEAST_GROUPS:
        return f"{meta.ngroups} groups; at least {LEAST_GROUPS} are needed to leave the last one out"
    return None


def bind(context: Context) -> Bound:
    """Make the station for one exposure."""
    ends(context)[:, 1] = context.meta.ngroups - 1

    def run(w: Window, lo: int, hi: int) -> None:
        w.gdq[w.rows(lo, hi)][:, :, -1] |= np.uint8(DO_NOT_USE)

    return Bound([Station(run)])


STEP = Step(
    name="lastframe",
    keyword="S_LASTFR",
    params=Params,
    bind=bind,
    skip_if=skip_if,
    pars="pars-lastframestep",
)
