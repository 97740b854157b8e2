"""saturation: flag groups beyond what a pixel, or the converter, can measure.

A group at or above the pixel's threshold, and all later groups of the integration, are
SATURATED, and so are those of the neighbours in a box of 2 n_pix_grow_sat + 1 pixels.
A group at or below 0 is AD_FLOOR and DO_NOT_USE. Pixels without a threshold (NaN, or NO_SAT_CHECK
in the reference) get 65536, beyond the 16 bits of the converter.

With several frames per group a pixel may saturate in the midst of a group whose average
stays below the threshold T. Frames are counted from 1, f_k being those of group k (groups dropped
between groups are not counted). Two rules then set DO_NOT_USE:

* before a saturated group: F_k >= T mean(f_k) / last(f_k), that is, a ramp linear from 0 that
  averages to F_k reaches T within the group; grown like saturation itself;
* in the second group, if the third is saturated: F_2 - F_1 > (T - F_1) / NFRAMES, while the first
  group does not foresee it, (F_1 - B) last(f_3) / mean(f_1) + B < T, B being the superbias; not grown.

Source: JWST pipeline and stcal documentation, saturation; the first rule, and that both set
DO_NOT_USE, from the behaviour of the observatory's pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core import dq, stripes
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference, native, window
from upramp.stages.core.step import Bound, Context, Station, Step, Window
from upramp.stages.stage1 import irs2, saturation_irs2
from upramp.stages.stage1.saturation_irs2 import OWN, several_frames
from upramp.stages.stage1.saturation_search import detect, grow, infer

INFERRED = "saturation.inferred"
BEYOND_CONVERTER = np.float32(65536)


@dataclass(frozen=True)
class Params:
    """Parameters of saturation.

    ``n_pix_grow_sat``: how many pixels the flags grow on every side; ``use_readpatt``: whether
    the rules for several frames per group apply.
    """

    skip: bool = False
    n_pix_grow_sat: int = 1
    use_readpatt: bool = True

    def __post_init__(self) -> None:
        if self.n_pix_grow_sat < 0:
            raise ValueError(f"n_pix_grow_sat must not be negative, but is {self.n_pix_grow_sat}")


def prepare(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Cut the thresholds to the exposure and put the converter's limit where there is none."""
    image = raw.array("SCI")
    cut = window(raw, irs2.without_references(meta), image.shape)
    threshold = native(image[cut], np.float32)
    flags = native(raw.dq()[cut], np.uint32)
    flags[np.isnan(threshold)] |= np.uint32(dq.NO_SAT_CHECK)
    threshold[(flags & dq.NO_SAT_CHECK) != 0] = BEYOND_CONVERTER
    return Prepared({"threshold": threshold, "dq": flags})


def prepare_bias(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Cut the superbias to the exposure, where a rule wants it; NaN stays and makes the rule false."""
    if not several_frames(meta, params):
        return Prepared({})
    image = raw.array("SCI")
    bias = native(image[window(raw, meta, image.shape)], np.float32)
    return Prepared({"bias": bias[irs2.light_rows(meta)] if meta.is_irs2 else bias})


def bind(context: Context) -> Bound:
    """Make two stations for one exposure: detect, grow; a third grows what the read pattern tells."""
    if context.meta.is_irs2:
        return saturation_irs2.bind(context)
    meta, n = context.meta, context.params.n_pix_grow_sat
    ref = context.references["saturation"]
    rows, columns = stripes.edges(meta)
    patterned = several_frames(meta, context.params)
    if patterned and "superbias" in context.references:
        bias = context.references["superbias"]["bias"]
    else:
        bias = np.zeros((meta.ny, meta.nx) if patterned else (0, 0), np.float32)

    def find(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        own = w.planes[OWN][s]
        core = w.core(lo, hi)
        high, low = detect(w.data[s], w.gdq[s], w.pdq[s], own, ref["threshold"], ref["dq"], lo, w.x0, core)
        w.counters["saturation.ramps"] += high
        w.counters["saturation.ad_floor_ramps"] += low

    def spread(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        near, first = w.haloed(lo, hi, n)
        grow(w.gdq[s], w.planes[OWN][near], first, n, rows - (lo - first), columns - w.x0)
        if patterned:
            inferred = w.planes[INFERRED][s]
            infer(w.data[s], w.gdq[s], inferred, ref["threshold"], bias, meta.nframes, lo, w.x0)

    def spread_inferred(w: Window, lo: int, hi: int) -> None:
        near, first = w.haloed(lo, hi, n)
        marks = w.planes[INFERRED][near]
        grow(w.gdq[w.rows(lo, hi)], marks, first, n, rows - (lo - first), columns - w.x0)

    stations = [Station(find, planes={OWN: np.uint8}), Station(spread, halo=n)]
    if patterned:
        stations[1] = Station(spread, halo=n, planes={INFERRED: np.uint8})
        stations.append(Station(spread_inferred, halo=n))
    return Bound(stations)


STEP = Step(
    name="saturation",
    keyword="S_SATURA",
    params=Params,
    bind=bind,
    references=("saturation", "superbias"),
    optional=("superbias",),
    prepare={"saturation": prepare, "superbias": prepare_bias},
    pars="pars-saturationstep",
)
