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

from upramp.stages.core import dq
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference, native, window
from upramp.stages.core.step import Bound, Context, Station, Step, Window

OWN = "saturation.own"
INFERRED = "saturation.inferred"
BEYOND_CONVERTER = np.float32(65536)
BELOW_FLOOR = np.uint8(dq.AD_FLOOR | dq.DO_NOT_USE)


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


@kernel
def detect(data, gdq, pdq, own, threshold, flags, y0, x0, core):
    """Flag saturation and A/D floor pixel by pixel, in place.

    ``data`` float32, ``gdq`` uint8, both (rows, nints, ngroups, columns); ``own`` (uint8, same shape) gets
    SATURATED where it is set; ``pdq`` (rows, columns) uint32; ``threshold`` float32 and ``flags`` uint32
    cover the exposure, row ``y0`` and column ``x0`` being element [0, 0].

    Returns how many ramps within ``core`` (first and end row, first and end column) saturate, and how
    many have a group at the floor.
    """
    rows, nints, ngroups, columns = data.shape
    r0, r1, c0, c1 = core
    high = np.empty(columns, np.uint8)
    low = np.empty(columns, np.uint8)
    n_high = n_low = 0
    for r in range(rows):
        t = threshold[y0 + r, x0 : x0 + columns]
        f = flags[y0 + r, x0 : x0 + columns]
        p = pdq[r]
        for c in range(columns):
            p[c] |= f[c]
        for i in range(nints):
            high[:] = 0
            low[:] = 0
            for g in range(ngroups):
                d = data[r, i, g]
                q = gdq[r, i, g]
                o = own[r, i, g]
                for c in range(columns):
                    high[c] |= (d[c] >= t[c]) * np.uint8(dq.SATURATED)
                    floor = (d[c] <= 0) * BELOW_FLOOR
                    low[c] |= floor
                    q[c] |= high[c] | floor
                    o[c] = q[c] & dq.SATURATED
            if r0 <= r < r1:
                for c in range(c0, c1):
                    n_high += high[c] != 0
                    n_low += low[c] != 0
    return n_high, n_low


@kernel
def grow(gdq, marks, first, n):
    """Join the marks of all pixels in the box of 2n + 1 around each pixel to its flags, in place.

    ``gdq`` (rows, nints, ngroups, columns) uint8; row 0 of it is row ``first`` of ``marks`` (uint8: the flag
    to grow, or 0), which has up to n rows more on either side.
    """
    rows, nints, ngroups, columns = gdq.shape
    near = np.zeros(columns + 2 * n, np.uint8)
    middle = near[n : n + columns]
    for r in range(rows):
        above = max(first + r - n, 0)
        below = min(first + r + n + 1, marks.shape[0])
        for i in range(nints):
            for g in range(ngroups):
                m = marks[above, i, g]
                found = np.uint8(0)
                for c in range(columns):
                    middle[c] = m[c]
                    found |= m[c]
                for y in range(above + 1, below):
                    m = marks[y, i, g]
                    for c in range(columns):
                        middle[c] |= m[c]
                        found |= m[c]
                if found == 0:
                    continue
                q = gdq[r, i, g]
                for k in range(2 * n + 1):
                    shifted = near[k : k + columns]
                    for c in range(columns):
                        q[c] |= shifted[c]


@kernel
def infer(data, gdq, inferred, threshold, bias, nframes, y0, x0):
    """Apply the two rules for several frames per group to rows whose saturation has grown.

    Arrays as for `detect`; ``bias`` float32 like ``threshold``. ``inferred`` (uint8, shape of ``gdq``) gets
    DO_NOT_USE where the first rule holds, which is to grow; the second writes ``gdq``.
    """
    rows, nints, ngroups, columns = data.shape
    first_mean = (nframes + 1) / 2
    second = np.zeros(columns, np.uint8)
    for r in range(rows):
        t = threshold[y0 + r, x0 : x0 + columns]
        b = bias[y0 + r, x0 : x0 + columns]
        for i in range(nints):
            if ngroups > 2:
                d1, d2 = data[r, i, 0], data[r, i, 1]
                q2, q3 = gdq[r, i, 1], gdq[r, i, 2]
                for c in range(columns):
                    foreseen = np.float64(d1[c] - b[c]) / first_mean * (3.0 * nframes) + np.float64(b[c])
                    leap = d2[c] - d1[c] > (t[c] - d1[c]) / np.float32(nframes)
                    sudden = (foreseen < t[c]) & leap & ((q3[c] & ~q2[c] & dq.SATURATED) != 0)
                    second[c] = sudden * np.uint8(dq.DO_NOT_USE)
            for g in range(ngroups - 1):
                share = (g * nframes + first_mean) / ((g + 1) * nframes)
                d = data[r, i, g]
                q = gdq[r, i, g]
                following = gdq[r, i, g + 1]
                m = inferred[r, i, g]
                for c in range(columns):
                    reached = np.float64(d[c]) >= np.float64(t[c]) * share
                    usable = (q[c] & (dq.SATURATED | dq.DO_NOT_USE)) == 0
                    m[c] = (reached & usable & ((following[c] & dq.SATURATED) != 0)) * np.uint8(dq.DO_NOT_USE)
            inferred[r, i, ngroups - 1] = 0
            if ngroups > 2:
                q2 = gdq[r, i, 1]
                for c in range(columns):
                    q2[c] |= second[c]


def prepare(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Cut the thresholds to the exposure and put the converter's limit where there is none."""
    image = raw.array("SCI")
    cut = window(raw, meta, image.shape)
    threshold = native(image[cut], np.float32)
    flags = native(raw.dq()[cut], np.uint32)
    flags[np.isnan(threshold)] |= np.uint32(dq.NO_SAT_CHECK)
    threshold[(flags & dq.NO_SAT_CHECK) != 0] = BEYOND_CONVERTER
    return Prepared({"threshold": threshold, "dq": flags})


def prepare_bias(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Cut the superbias to the exposure, where a rule wants it; NaN stays and makes the rule false."""
    if not _several_frames(meta, params):
        return Prepared({})
    image = raw.array("SCI")
    return Prepared({"bias": native(image[window(raw, meta, image.shape)], np.float32)})


def _several_frames(meta: ExposureMeta, params: Params) -> bool:
    return params.use_readpatt and meta.nframes > 1


def bind(context: Context) -> Bound:
    """Make two stations for one exposure: detect, grow; a third grows what the read pattern tells."""
    meta, n = context.meta, context.params.n_pix_grow_sat
    ref = context.references["saturation"]
    patterned = _several_frames(meta, context.params)
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
        grow(w.gdq[s], w.planes[OWN][near], first, n)
        if patterned:
            inferred = w.planes[INFERRED][s]
            infer(w.data[s], w.gdq[s], inferred, ref["threshold"], bias, meta.nframes, lo, w.x0)

    def spread_inferred(w: Window, lo: int, hi: int) -> None:
        near, first = w.haloed(lo, hi, n)
        grow(w.gdq[w.rows(lo, hi)], w.planes[INFERRED][near], first, n)

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
