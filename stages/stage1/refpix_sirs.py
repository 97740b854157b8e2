"""Simple Improved Reference Subtraction: what the side columns tell of each amplifier, by row.

In place of running medians, in the detector's own frame and after the means of top and bottom rows, with l
and r the sums over a row's four left and right reference pixels divided by 4, and n the share of them that
counts, amplifier a loses

    (k_a * l) (k_a * 1) / (k_a * n) + the same of the right

along the slow axis (* is convolution, with zeros beyond the ends). A reference pixel does not count if it
lies ``sigreject`` times 1.48 times the median absolute deviation or more from the median of its side;
flags do not matter. The kernels k_a are the transforms of the reference's coefficients gamma (left) and
zeta (right), cut to ``halfwidth`` rows on either side and smoothed by a Gaussian of ``gaussmooth`` rows.

Source: Rauscher et al. 2022, JATIS 8, 028002, and the JWST pipeline documentation, refpix step; the
rejection and the treatment of edges were measured.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from upramp.stages.core.errors import Misconfigured
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference
from upramp.stages.core.statistics import median
from upramp.stages.core.step import Bound, Context, Station, Window
from upramp.stages.stage1 import refpix_border
from upramp.stages.stage1.refpix_border import BORDER, ReferencePixels

AMPLIFIERS = 4
DEVIATION = 1.48  # from the median absolute deviation to sigma, as the observatory's package has it


@kernel
def convolve(values, taps, out):
    """Convolve ``values`` with ``taps`` (odd number) into ``out``, both float64; zeros beyond the ends."""
    n, half = len(values), len(taps) // 2
    for r in range(n):
        out[r] = 0.0
    for k in range(len(taps)):
        # out[r] takes values[r + half - k] times taps[k]
        t, lo, hi = taps[k], max(0, k - half), min(n, n + k - half)
        target, source = out[lo:hi], values[lo + half - k : hi + half - k]
        for r in range(hi - lo):
            target[r] += t * source[r]


@kernel
def templates(sides, taps, sigreject, out):
    """What each amplifier loses, by frame and row.

    ``sides`` (frames, 2, rows, 4) float64, left and right reference columns; ``taps`` (2, amplifiers, odd
    number); ``out`` (frames, amplifiers, rows) float64 is filled. A frame with a NaN among its reference
    pixels gives NaN.
    """
    frames, _, rows, columns = sides.shape
    amplifiers = taps.shape[1]
    work = np.empty(rows * columns)
    level, share = np.empty(rows), np.empty(rows)
    smooth, weight = np.empty(rows), np.empty(rows)
    whole = np.empty((2, amplifiers, rows))
    share[:] = 1.0
    for s in range(2):
        for a in range(amplifiers):
            convolve(share, taps[s, a], whole[s, a])
    for f in range(frames):
        out[f] = 0.0
        for s in range(2):
            side = sides[f, s]
            n = 0
            for r in range(rows):
                for c in range(columns):
                    work[n] = side[r, c]
                    n += 1
            if np.isnan(work).any():
                out[f] = np.nan
                continue
            middle = median(work, n)
            n = 0
            for r in range(rows):
                for c in range(columns):
                    work[n] = abs(side[r, c] - middle)
                    n += 1
            reach = sigreject * (DEVIATION * median(work, n))
            every = True
            for r in range(rows):
                total, kept = 0.0, 0
                for c in range(columns):
                    if abs(side[r, c] - middle) < reach:
                        total += side[r, c]
                        kept += 1
                every &= kept == columns
                level[r], share[r] = total / columns, kept / columns
            for a in range(amplifiers):
                convolve(level, taps[s, a], smooth)
                if every:
                    weight[:] = whole[s, a]
                else:
                    convolve(share, taps[s, a], weight)
                line, norm = out[f, a], whole[s, a]
                for r in range(rows):
                    line[r] += smooth[r] * (norm[r] / weight[r])


@kernel
def subtract_columns(data, levels, sides, stripe, single, y0, x0, i0):
    """Subtract the corrections where amplifiers read stripes of the last axis.

    ``data`` (rows, nints, ngroups, columns) float32; ``levels`` (nints, ngroups, amplifiers, 2) float64;
    ``sides`` (nints, ngroups, amplifiers, rows of the exposure) float64; ``single``: the first frame of the
    file is rounded in between.
    """
    rows, nints, ngroups, columns = data.shape
    for r in range(rows):
        for i in range(nints):
            for g in range(ngroups):
                line = data[r, i, g]
                c = 0
                while c < columns:
                    a = (x0 + c) // stripe
                    end = min(columns, (a + 1) * stripe - x0)
                    even, odd = levels[i0 + i, g, a, x0 & 1], levels[i0 + i, g, a, 1 - (x0 & 1)]
                    side = sides[i0 + i, g, a, y0 + r]
                    if single and i0 + i + g == 0:
                        for k in range(c, end):
                            line[k] = np.float64(line[k]) - (odd if k & 1 else even)
                        even = odd = 0.0
                    for k in range(c, end):
                        line[k] = (np.float64(line[k]) - (odd if k & 1 else even)) - side
                    c = end


@kernel
def subtract_rows(data, levels, sides, stripe, single, y0, x0, i0):
    """The same where amplifiers read stripes of rows: ``sides`` run along the last axis."""
    rows, nints, ngroups, columns = data.shape
    for r in range(rows):
        a, p = (y0 + r) // stripe, (y0 + r) & 1
        for i in range(nints):
            for g in range(ngroups):
                line, level = data[r, i, g], levels[i0 + i, g, a, p]
                side = sides[i0 + i, g, a, x0 : x0 + columns]
                if single and i0 + i + g == 0:
                    for c in range(columns):
                        line[c] = np.float64(line[c]) - level
                    level = 0.0
                for c in range(columns):
                    line[c] = (np.float64(line[c]) - level) - side[c]


def low_pass(coefficients: np.ndarray, gaussmooth: float, halfwidth: int) -> np.ndarray:
    """Kernels in rows (amplifiers, 2 halfwidth + 1) of Fourier coefficients (amplifiers, frequencies)."""
    rows = np.fft.irfft(coefficients)
    middle = rows.shape[-1] // 2
    rows = np.roll(rows, middle, axis=-1)[:, middle - halfwidth : middle + halfwidth + 1]
    weights = np.exp(-0.5 * (np.arange(-halfwidth, halfwidth + 1) / gaussmooth) ** 2)
    weights /= weights.sum()
    return np.array([np.convolve(row, weights, mode="same") for row in rows])


def prepare(raw: RawReference, meta: ExposureMeta, params: Any) -> Prepared:
    """The kernels of this detector (2, amplifiers, rows), left and right; nothing where it has none.

    Raises
    ------
    Misconfigured
        If its coefficients have another form, or ``halfwidth`` is larger than they reach.
    """
    if not uses(meta, params):
        return Prepared({})
    own = raw.tree().get(meta.detector.lower())
    if own is None:
        return Prepared({})
    found = [np.asarray(own[name], np.complex64) for name in ("gamma", "zeta")]
    frequencies = found[0].shape[-1]
    if any(a.shape != (AMPLIFIERS, frequencies) for a in found):
        raise Misconfigured(
            f"reference {raw.name} (sirskernel) has gamma {found[0].shape} and zeta {found[1].shape} for "
            f"{meta.detector}, not both {AMPLIFIERS} rows of coefficients; "
            f"give another with [references] sirskernel = ..."
        )
    if 2 * params.halfwidth + 1 > min(2 * (frequencies - 1), refpix_border.DETECTOR):
        raise Misconfigured(
            f"refpix.halfwidth = {params.halfwidth} is wider than the {frequencies} coefficients of "
            f"{raw.name} or the detector reach; give a smaller one"
        )
    return Prepared({"taps": np.array([low_pass(a, params.gaussmooth, params.halfwidth) for a in found])})


def uses(meta: ExposureMeta, params: Any) -> bool:
    """Whether it is asked for, and the whole detector was read through four outputs."""
    whole = (
        meta.subarray.startswith("FULL")
        and meta.nx == meta.ny == refpix_border.DETECTOR
        and meta.noutputs > 1
    )
    near = meta.instrument != "MIRI" and not meta.is_irs2
    return params.refpix_algorithm == "sirs" and params.use_side_ref_pixels and whole and near


class Sirs(ReferencePixels):
    """Gathers the reference pixels of every frame and derives its corrections.

    Attributes
    ----------
    side : ndarray, float64, shape (nints, ngroups, amplifiers, rows)
        What to subtract along the slow axis, by amplifier: 64 kB for each frame.
    """

    def __init__(self, context: Context, taps: np.ndarray) -> None:
        super().__init__(context, [])
        meta = self.meta
        self.side = np.zeros((meta.nints, meta.ngroups, AMPLIFIERS, self.across))
        self._taps = taps

    def smooth(self, at: slice, sides: list[np.ndarray], goods: list[np.ndarray], levels: np.ndarray) -> None:
        """See `ReferencePixels`; the kernels run in the direction of reading."""
        both = [
            side - levels[:, None, a, np.arange(BORDER) & 1] for side, a in zip(sides, (0, -1), strict=True)
        ]
        if self.rounds:
            for side in both:
                side[0] = side[0].astype(np.float32)
        turned = self.meta.fastaxis < 0
        found = np.empty((len(levels), AMPLIFIERS, self.across))
        strips = np.stack(both[::-1] if turned else both, axis=1)
        back = slice(None, None, -1) if self.meta.slowaxis < 0 else slice(None)
        ordered = np.ascontiguousarray(strips[:, :, back], np.float64)
        templates(ordered, self._taps, float(self.params.sigreject), found)
        amplifiers = slice(None, None, -1) if turned else slice(None)
        self.side[at] = found[:, amplifiers, back].reshape(self.side[at].shape)


def bind(context: Context) -> Bound:
    """Make the survey of the reference pixels and the station that subtracts."""
    pixels = Sirs(context, context.references["sirskernel"]["taps"])
    subtract = subtract_rows if pixels.transposed else subtract_columns

    def run(w: Window, lo: int, hi: int) -> None:
        rows, p = w.data[w.rows(lo, hi)], pixels
        subtract(rows, p.stripes, p.side, p.stripe, p.single, lo, w.x0, w.i0)

    return Bound([Station(run)], survey=pixels)
