"""linearity: straighten the detector's response, pixel by pixel.

    F' = c0 + c1 F + c2 F^2 + ... + cn F^n

in every group that is not SATURATED. Pixels with a NaN coefficient, with c1 = 0 or with NO_LIN_CORR
in the reference stay as they are and are flagged NO_LIN_CORR; the reference's flags join the pixel flags.

If the reference also holds the inverse polynomial Q (INV_COEFFS) and a group averages several frames, then
the average of the curve is not the curve of the average, and the reads themselves are modelled. With P the
polynomial above, L_k = P(F_k), and l the last unsaturated group but one (at least the second),

    rate  = (L_l - L_1) / ((l - 1) NFRAMES)                    per read
    r_kj  = Q(L_1 + rate ((k - 1) NFRAMES + j - (NFRAMES + 1) / 2)),   j = 1 ... NFRAMES
    F'_k  = mean_j P(r_kj + F_k - mean_j r_kj)

Frames dropped between groups are not counted; an invalid Q counts as the identity and flags the pixel
NO_LIN_CORR. A single group gets the plain polynomial.
Source: JWST pipeline documentation, linearity step; the formulas of the second part from it
and from the behaviour of the observatory's pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core import dq
from upramp.stages.core.errors import Misconfigured
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Cut, Prepared, RawReference, native, window
from upramp.stages.core.step import Bound, Context, Station, Step, Window

CHUNK = 512  # columns: their coefficients stay in the core's first cache over all groups
READS_CHUNK = 128  # the same for the reads, which take many float64 arrays


@dataclass(frozen=True)
class Params:
    """Parameters of linearity."""

    skip: bool = False


@kernel
def polynomial(data, gdq, pdq, coeffs, flags, y0, x0):
    """Apply the polynomial to unsaturated groups in place, in float32, by Horner's rule.

    ``data`` float32, ``gdq`` uint8, both (rows, nints, ngroups, columns); ``pdq`` (rows, columns) uint32;
    ``coeffs`` (ny, order + 1, nx) float32 and ``flags`` (ny, nx) uint32 cover the exposure, row ``y0`` and
    column ``x0`` being element [0, 0].
    """
    rows, nints, ngroups, columns = data.shape
    order = coeffs.shape[1] - 1
    value = np.empty(CHUNK, np.float32)
    for r in range(rows):
        merge(pdq[r], flags[y0 + r, x0 : x0 + columns])
        for a in range(0, columns, CHUNK):
            n = min(CHUNK, columns - a)
            x = x0 + a
            lowest = coeffs[y0 + r, 0, x : x + n]
            highest = coeffs[y0 + r, order, x : x + n]
            for i in range(nints):
                for g in range(ngroups):
                    d = data[r, i, g, a : a + n]
                    q = gdq[r, i, g, a : a + n]
                    for c in range(n):
                        value[c] = highest[c]
                    j = order - 1
                    while j >= 2:  # two orders a sweep: half the traffic
                        upper, lower = coeffs[y0 + r, j, x : x + n], coeffs[y0 + r, j - 1, x : x + n]
                        for c in range(n):
                            value[c] = (value[c] * d[c] + upper[c]) * d[c] + lower[c]
                        j -= 2
                    if j == 1:
                        upper = coeffs[y0 + r, 1, x : x + n]
                        for c in range(n):
                            value[c] = value[c] * d[c] + upper[c]
                    for c in range(n):
                        straight = value[c] * d[c] + lowest[c]
                        d[c] = d[c] if q[c] & dq.SATURATED else straight


@kernel
def merge(pdq, flags):
    """Join a row of flags to a row of pixel flags in place."""
    for c in range(len(pdq)):
        pdq[c] |= flags[c]


@kernel
def horner(out, coeffs, at, y, x):
    """Set ``out`` to the polynomials of row ``y``, columns ``x`` on, at ``at`` (float64, one per column)."""
    n = len(out)
    order = coeffs.shape[1] - 1
    upper, lower = coeffs[y, order, x : x + n], coeffs[y, order - 1, x : x + n]
    for c in range(n):
        out[c] = upper[c] * at[c] + lower[c]
    j = order - 2
    while j >= 1:  # two orders a sweep, as above
        upper, lower = coeffs[y, j, x : x + n], coeffs[y, j - 1, x : x + n]
        for c in range(n):
            out[c] = (out[c] * at[c] + upper[c]) * at[c] + lower[c]
        j -= 2
    if j == 0:
        lower = coeffs[y, 0, x : x + n]
        for c in range(n):
            out[c] = out[c] * at[c] + lower[c]


@kernel
def by_reads(data, gdq, pdq, coeffs, inverse, flags, nframes, y0, x0):
    """Correct unsaturated groups in place by modelling their reads, in float64.

    Arrays as for `polynomial`; ``inverse`` like ``coeffs``. Needs two groups.
    """
    rows, nints, _, columns = data.shape
    for r in range(rows):
        merge(pdq[r], flags[y0 + r, x0 : x0 + columns])
        for a in range(0, columns, READS_CHUNK):
            n = min(READS_CHUNK, columns - a)
            for i in range(nints):
                _reads_of_ramps(data[r, i], gdq[r, i], coeffs, inverse, nframes, y0 + r, x0, a, n)


@kernel
def _reads_of_ramps(data, gdq, coeffs, inverse, nframes, y, x0, a, n):
    """The work of `by_reads` on columns ``a`` to ``a + n`` of one integration of one row."""
    ngroups = data.shape[0]
    first, rate, work, total, shift = np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    reads = np.empty((nframes, n))
    last = np.zeros(n, np.int64)
    x = x0 + a
    for g in range(ngroups):
        q = gdq[g, a : a + n]
        for c in range(n):
            last[c] += (q[c] & dq.SATURATED) == 0
    d, q = data[0, a : a + n], gdq[0, a : a + n]
    for c in range(n):
        last[c] = max(last[c] - 2, 1)
        work[c] = d[c]
    horner(first, coeffs, work, y, x)
    for c in range(n):
        if q[c] & dq.SATURATED:
            first[c] = d[c]
        work[c] = data[last[c], a + c]
    horner(rate, coeffs, work, y, x)
    for c in range(n):
        if gdq[last[c], a + c] & dq.SATURATED:
            rate[c] = work[c]
        rate[c] = (rate[c] - first[c]) / (last[c] * nframes)
    for g in range(ngroups):
        d, q = data[g, a : a + n], gdq[g, a : a + n]
        total[:] = 0
        for j in range(nframes):
            offset = j - (nframes - 1) / 2
            for c in range(n):
                work[c] = first[c] + rate[c] * (g * nframes) + rate[c] * offset
            horner(reads[j], inverse, work, y, x)
            read = reads[j]
            for c in range(n):
                total[c] += read[c]
        for c in range(n):
            shift[c] = d[c] - total[c] / nframes
        total[:] = 0
        for j in range(nframes):
            read = reads[j]
            for c in range(n):
                read[c] += shift[c]
            horner(work, coeffs, read, y, x)
            for c in range(n):
                total[c] += work[c]
        for c in range(n):
            straight = np.float32(total[c] / nframes)
            d[c] = d[c] if q[c] & dq.SATURATED else straight


def prepare(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Cut the coefficients to the exposure, rows first; where they are invalid, make them the identity.

    Raises
    ------
    Misconfigured
        If there are fewer than two coefficients.
    """
    flags = raw.dq()
    cut = window(raw, meta, flags.shape)
    flags = native(flags[cut], np.uint32)
    coeffs, bad = _cut(raw, "COEFFS", cut)
    bad |= (flags & dq.NO_LIN_CORR) != 0
    arrays = {"coeffs": coeffs}
    flagged = bad
    if meta.nframes > 1 and meta.ngroups > 1 and raw.has("INV_COEFFS"):
        arrays["inverse"], bad_inverse = _cut(raw, "INV_COEFFS", cut)
        _identity(arrays["inverse"], bad_inverse)
        flagged = bad | bad_inverse
    _identity(coeffs, bad)
    flags[flagged] |= np.uint32(dq.NO_LIN_CORR)
    return Prepared({**arrays, "dq": flags})


def _cut(raw: RawReference, extname: str, cut: Cut) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (rows, orders, columns) and where they are invalid."""
    cube = raw.array(extname)
    if cube.ndim != 3 or len(cube) < 2:
        raise Misconfigured(
            f"linearity reference {raw.name}: {extname} has shape {cube.shape}; it must hold two or more "
            "coefficients for every pixel, shape (coefficients, rows, columns)"
        )
    coeffs = native(np.moveaxis(cube[:, *cut], 0, 1), np.float32)
    return coeffs, np.isnan(coeffs).any(axis=1) | (coeffs[:, 1] == 0)


def _identity(coeffs: np.ndarray, where: np.ndarray) -> None:
    """Make the polynomials of some pixels F' = F."""
    for j in range(coeffs.shape[1]):
        coeffs[:, j][where] = 1 if j == 1 else 0


def bind(context: Context) -> Bound:
    """Make the station for one exposure."""
    ref = context.references["linearity"]
    inverse = ref.get("inverse")
    nframes = context.meta.nframes

    def run(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        if inverse is None:
            polynomial(w.data[s], w.gdq[s], w.pdq[s], ref["coeffs"], ref["dq"], lo, w.x0)
        else:
            by_reads(w.data[s], w.gdq[s], w.pdq[s], ref["coeffs"], inverse, ref["dq"], nframes, lo, w.x0)

    return Bound([Station(run)])


STEP = Step(
    name="linearity",
    keyword="S_LINEAR",
    params=Params,
    bind=bind,
    references=("linearity",),
    prepare={"linearity": prepare},
    pars="pars-linearitystep",
)
