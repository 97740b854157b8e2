"""Saturation of NIRSpec's IRS2 read-out: as if the interleaved reference rows were not there.

Thresholds are tabulated for the 2048 rows of light, flags grow from one such row to the next, and reference
rows are never flagged. With several frames in a group there is no rule for the group before a saturated
one; a second group that the rule for it finds is SATURATED, and grows like the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from upramp.stages.core.dq import SATURATED
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Bound, Context, Station, Window
from upramp.stages.stage1 import irs2
from upramp.stages.stage1.saturation_search import detect, grow, sudden

WHOLE = np.array([0, 1 << 30])  # one region
OWN = "saturation.own"


def several_frames(meta: ExposureMeta, params: Any) -> bool:
    """Whether the rules for several frames in a group apply."""
    return params.use_readpatt and meta.nframes > 1


def bind(context: Context) -> Bound:
    """Make two stations for one exposure: detect, grow."""
    meta, n = context.meta, context.params.n_pix_grow_sat
    ref = context.references["saturation"]
    threshold, flags = ref["threshold"], ref["dq"]
    light = irs2.light_rows(meta)
    before = np.concatenate([[0], np.cumsum(light)])  # rows of light before each row
    patterned = several_frames(meta, context.params)
    bias = np.zeros_like(threshold)
    if patterned and "superbias" in context.references:
        bias = context.references["superbias"]["bias"]

    def find(w: Window, lo: int, hi: int) -> None:
        s, pick, y = w.rows(lo, hi), light[lo:hi], int(before[lo])
        data, gdq, pdq = w.data[s][pick], w.gdq[s][pick], w.pdq[s][pick]
        own = np.zeros_like(gdq)
        r0, r1, c0, c1 = w.core(lo, hi)
        core = (int(before[lo + r0]) - y, int(before[lo + r1]) - y, c0, c1)
        high, low = detect(data, gdq, pdq, own, threshold, flags, y, w.x0, core)
        if patterned and meta.ngroups > 2:
            found = np.empty_like(gdq[:, :, 1])
            sudden(data, own, threshold, bias, meta.nframes, y, w.x0, found)
            own[:, :, 1] |= found * np.uint8(SATURATED)
        w.gdq[s][pick], w.pdq[s][pick] = gdq, pdq
        w.planes[OWN][s][pick] = own
        w.counters["saturation.ramps"] += high
        w.counters["saturation.ad_floor_ramps"] += low

    reach = n + irs2.REFERENCES * (1 + n // (irs2.BLOCK - irs2.REFERENCES))

    def spread(w: Window, lo: int, hi: int) -> None:
        s, pick = w.rows(lo, hi), light[lo:hi]
        near, first = w.haloed(lo, hi, reach)
        around = light[lo - first : lo - first + near.stop - near.start]
        marks, gdq = w.planes[OWN][near][around], w.gdq[s][pick]
        grow(gdq, marks, int(before[lo] - before[lo - first]), n, WHOLE, WHOLE)
        w.gdq[s][pick] = gdq

    return Bound([Station(find, planes={OWN: np.uint8}), Station(spread, halo=reach)])
