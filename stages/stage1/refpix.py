"""refpix: take out the electronic drifts that the reference pixels see.

Four outputs (full frame, and subarrays that span the detector): in the detector's own frame
each amplifier reads a stripe of columns. For every group the clipped means of the top and the bottom
reference rows, by amplifier and by column parity, are averaged and subtracted; then the running
medians of the left and right reference columns, averaged and multiplied by ``side_gain``, are
subtracted row by row; ``refpix_algorithm = "sirs"`` filters them instead (`refpix_sirs`), where the whole
detector was read and the reference knows it.
One output: the clipped means of all flagged reference pixels, by column parity.

Means are clipped at ``siglimit`` sigma until nothing more is rejected. Running medians reflect at the
detector's edge and are cut short at the edge of a subarray. Source: JWST pipeline
documentation, refpix step; the treatment of edges was measured.

The mid infrared has another border (`refpix_mir`), NIRSpec IRS2 reference pixels between all others
(`refpix_irs2`); of stripes all reference pixels count (`refpix_stripes`).
"""

from __future__ import annotations

from dataclasses import dataclass

from upramp.stages.core.dq import REFERENCE_PIXEL
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference, window
from upramp.stages.core.step import Bound, Context, Step
from upramp.stages.stage1 import refpix_border, refpix_irs2, refpix_mir, refpix_sirs, refpix_stripes
from upramp.stages.stage1.refpix_border import BORDER


@dataclass(frozen=True)
class Params:
    """Parameters of refpix."""

    skip: bool = False
    odd_even_columns: bool = True
    use_side_ref_pixels: bool = True
    side_smoothing_length: int = 11
    side_gain: float = 1.0
    odd_even_rows: bool = True
    ovr_corr_mitigation_ftr: float = 3.0
    preserve_irs2_refpix: bool = False
    irs2_mean_subtraction: bool = False
    refpix_algorithm: str = "median"
    sigreject: float = 4.0
    gaussmooth: float = 1.0
    halfwidth: int = 30
    siglimit: float = 3.0

    def __post_init__(self) -> None:
        if self.refpix_algorithm not in ("median", "sirs"):
            raise ValueError(f"refpix_algorithm must be 'median' or 'sirs', not {self.refpix_algorithm!r}")
        if self.side_smoothing_length < 1 or self.side_smoothing_length % 2 == 0:
            raise ValueError(
                f"side_smoothing_length must be odd and positive, not {self.side_smoothing_length}"
            )
        if not self.siglimit >= 1:
            raise ValueError(f"siglimit must be 1 or more, else clipping leaves nothing, not {self.siglimit}")
        if not (self.sigreject > 0 and self.gaussmooth > 0 and self.halfwidth >= 0):
            raise ValueError(
                "sigreject and gaussmooth must be positive and halfwidth not negative, not "
                f"{self.sigreject}, {self.gaussmooth} and {self.halfwidth}"
            )


def prepare(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Where the mask flags reference pixels, as strips that do not overlap."""
    flags = raw.dq()
    flagged = (flags[window(raw, meta, flags.shape)] & REFERENCE_PIXEL) != 0
    if meta.stripes is not None:
        return Prepared({}, {"strips": refpix_stripes.strips(flagged)})
    b = BORDER
    inner = flagged[b:-b, b:-b]
    if inner.size and inner.any():
        strips = [(0, meta.ny, 0, meta.nx)]
    else:
        strips = [(0, b, 0, meta.nx), (meta.ny - b, meta.ny, 0, meta.nx)]
        strips += [(b, meta.ny - b, 0, b), (b, meta.ny - b, meta.nx - b, meta.nx)]
    there = [s for s in strips if flagged[s[0] : s[1], s[2] : s[3]].any()]
    return Prepared({}, {"strips": there})


def needs(meta: ExposureMeta, params: Params) -> list[str]:
    """The mask where one output was used; weights and kernels where they are made for."""
    if meta.is_irs2:
        return ["refpix"]
    return ["mask", "sirskernel"] if refpix_sirs.uses(meta, params) else ["mask"]


def skip_if(meta: ExposureMeta, params: Params) -> str | None:
    """Subarrays of the mid infrared have too few reference pixels."""
    if meta.instrument == "MIRI" and not meta.is_full_frame:
        return f"subarray {meta.subarray} of a mid-infrared detector"
    return None


def bind(context: Context) -> Bound:
    """Make the survey of the reference pixels and the station that subtracts."""
    if context.meta.instrument == "MIRI":
        return refpix_mir.bind(context)
    if context.meta.is_irs2:
        return refpix_irs2.bind(context)
    if context.meta.stripes is not None:
        return refpix_stripes.bind(context)
    kernels = context.references.get("sirskernel")
    if refpix_sirs.uses(context.meta, context.params) and kernels is not None and kernels.arrays:
        return refpix_sirs.bind(context)
    return refpix_border.bind(context)


STEP = Step(
    name="refpix",
    keyword="S_REFPIX",
    params=Params,
    bind=bind,
    references=("mask", "refpix", "sirskernel"),
    optional=("mask", "sirskernel"),
    prepare={"mask": prepare, "refpix": refpix_irs2.prepare, "sirskernel": refpix_sirs.prepare},
    needs=needs,
    skip_if=skip_if,
    pars="pars-refpixstep",
)
