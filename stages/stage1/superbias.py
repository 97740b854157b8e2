"""superbias: subtract the detector's fixed bias from every group.

    F' = F - B

B is the superbias reference; where it is NaN nothing is subtracted. The reference's
flags join the pixel flags. Source: JWST pipeline documentation, superbias step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference, native, window
from upramp.stages.core.step import Bound, Context, Station, Step, Window


@dataclass(frozen=True)
class Params:
    """Parameters of superbias."""

    skip: bool = False


@kernel
def subtract(data, pdq, bias, flags, y0, x0):
    """Subtract ``bias`` from rows of ramps in place and merge its flags.

    ``data`` (rows, nints, ngroups, columns) float32; ``pdq`` (rows, columns) uint32;
    ``bias``, ``flags`` cover the exposure, row ``y0`` and column ``x0`` being element [0, 0].
    """
    rows, nints, ngroups, columns = data.shape
    for r in range(rows):
        b = bias[y0 + r, x0 : x0 + columns]
        for i in range(nints):
            for g in range(ngroups):
                for c in range(columns):
                    data[r, i, g, c] -= b[c]
        for c in range(columns):
            pdq[r, c] |= flags[y0 + r, x0 + c]


def prepare(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Cut the superbias to the exposure; NaN becomes 0."""
    image = raw.array("SCI")
    cut = window(raw, meta, image.shape)
    bias = native(image[cut], np.float32)
    bias[np.isnan(bias)] = 0
    return Prepared({"bias": bias, "dq": native(raw.dq()[cut], np.uint32)})


def bind(context: Context) -> Bound:
    """Make the station for one exposure."""
    ref = context.references["superbias"]

    def run(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        subtract(w.data[s], w.pdq[s], ref["bias"], ref["dq"], lo, w.x0)

    return Bound([Station(run)])


STEP = Step(
    name="superbias",
    keyword="S_SUPERB",
    params=Params,
    bind=bind,
    references=("superbias",),
    prepare={"superbias": prepare},
    pars="pars-superbiasstep",
)
