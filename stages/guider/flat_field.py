"""flat_field for guide stars: divide by the sensitivity of the pixels.

    SCI' = SCI / F        ERR' = sqrt(ERR^2 + (SCI' e / F)^2)        DQ' = DQ | Q

F, e and Q are the flat reference, its error and its flags. Where F is NaN or 0, or Q says
NO_FLAT_FIELD, the pixel becomes NO_FLAT_FIELD and DO_NOT_USE; where Q says DO_NOT_USE, F counts as 1.
A sample whose rate or error is NaN afterwards is NaN in both; flags, which hold for all
integrations, do not tell. ERR itself is not divided by F, which is how jwst 3.0.0 does it.
Source: JWST pipeline documentation, flat_field step, guider exposures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE
from upramp.stages.core.step import Context
from upramp.stages.core.whole import Frames, WholeStep
from upramp.stages.stage2.flat_field import prepare


@dataclass(frozen=True)
class Params:
    """Parameters of flat_field.

    ``inverse`` multiplies by the flat instead, to undo an earlier correction; errors stay as they are.
    """

    skip: bool = False
    inverse: bool = False


def apply(frames: Frames, context: Context) -> Frames:
    """Divide rates by the flat and add its error in quadrature."""
    ref = context.references["flat"]
    flat, flags = ref["flat"], ref["dq"]
    counters = frames.count("flat_field.unflattened_pixels", np.count_nonzero(flags & DO_NOT_USE))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if context.params.inverse:
            sci, err = frames.sci * flat, frames.err.copy()
        else:
            sci = frames.sci / flat
            err = np.sqrt(frames.err**2 + sci**2 / flat**2 * ref["err"] ** 2)
    unknown = np.isnan(sci) | np.isnan(err)
    sci[unknown] = np.nan
    err[unknown] = np.nan
    return replace(frames, sci=sci, err=err, dq=frames.dq | flags, counters=counters)


STEP = WholeStep(
    name="flat_field",
    keyword="S_FLAT",
    params=Params,
    apply=apply,
    references=("flat",),
    prepare={"flat": prepare},
    pars="pars-flatfieldstep",
)
