"""dq_init for guide stars: the detector's known defects become pixel flags.

    DQ' = DQ | M

M is the mask reference. Guide star data have one plane of flags for all integrations
and no group flags. Source: JWST pipeline documentation, dq_init step, FGS guide star data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference, native, window
from upramp.stages.core.step import Context
from upramp.stages.core.whole import Frames, WholeStep


@dataclass(frozen=True)
class Params:
    """Parameters of dq_init."""

    skip: bool = False


def prepare(raw: RawReference, meta: ExposureMeta, params: object) -> Prepared:
    """Cut the mask to the exposure."""
    flags = raw.dq()
    return Prepared({"dq": native(flags[window(raw, meta, flags.shape)], np.uint32)})


def apply(frames: Frames, context: Context) -> Frames:
    """Merge the mask's flags into those of the exposure."""
    mask = context.references["mask"]["dq"]
    counters = frames.count("dq_init.flagged_pixels", np.count_nonzero(mask))
    return replace(frames, dq=frames.dq | mask, counters=counters)


STEP = WholeStep(
    name="dq_init",
    keyword="S_DQINIT",
    params=Params,
    apply=apply,
    references=("mask",),
    prepare={"mask": prepare},
    pars="pars-dqinitstep",
)
