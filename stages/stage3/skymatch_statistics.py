"""Sky levels of pixels: clipped mean, median, midpoint or mode.

    l = m - a s, m + b s    nclip times        m, s: mean and standard deviation between the limits l

Of what is left a histogram is made whose bins are ``binwidth`` s wide. The mode is the peak of the parabola
through its highest bin and the two beside it; the midpoint divides the histogram in halves. Source: JWST
pipeline documentation, skymatch step, and the IRAF task gstatistics that it cites. What single and what
double precision is, decides which bin a value on the limit goes to, and was measured: mean, standard
deviation and limits are rounded to float32; deviations are float32, their squares are summed in float64;
bins number n = 1 + floor((max - min) / w), but a value's bin is that of n - 1 between min and max; the
first value counts for min and max wherever it lies; without clipping the median knows no limits.
"""

from __future__ import annotations

import numpy as np

from upramp.stages.core.kernel import kernel
from upramp.stages.core.statistics import median

LANES = 64
"""Sums that grow side by side, so that the compiler can use vector instructions."""


@kernel
def gather(sci, dq, inside, bad, out):
    """Put values of (ny, nx) that are finite, inside and not flagged with ``bad`` into ``out``; how many."""
    n = 0
    for y in range(sci.shape[0]):
        values, flags, within = sci[y], dq[y], inside[y]
        for x in range(values.size):
            v = values[x]
            out[n] = v
            n += within[x] & (flags[x] & bad == 0) & (abs(v) < np.inf)
    return n


@kernel
def total(values, lo, hi, sums, counts):
    """Number and sum (float64) of the values between two limits."""
    sums[:] = 0.0
    counts[:] = 0.0
    whole = values.size // LANES * LANES
    for k in range(0, whole, LANES):
        block = values[k : k + LANES]
        for i in range(LANES):
            v = block[i]
            within = np.float64((v >= lo) & (v <= hi))
            sums[i] += within * v
            counts[i] += within
    for k in range(whole, values.size):
        v = values[k]
        if v >= lo and v <= hi:
            sums[0] += v
            counts[0] += 1.0
    return counts.sum(), sums.sum()


@kernel
def squares(values, lo, hi, mean, sums):
    """Sum (float64) of squared deviations from ``mean`` of the values between two limits."""
    sums[:] = 0.0
    whole = values.size // LANES * LANES
    for k in range(0, whole, LANES):
        block = values[k : k + LANES]
        for i in range(LANES):
            v = block[i]
            d = np.float64(v - mean)
            sums[i] += np.float64((v >= lo) & (v <= hi)) * d * d
    for k in range(whole, values.size):
        v = values[k]
        if v >= lo and v <= hi:
            d = np.float64(v - mean)
            sums[0] += d * d
    return sums.sum()


@kernel
def extremes(values, lo, hi):
    """Least and greatest value between two limits; the first value counts, too, but not beyond the limits."""
    least, greatest = values[0], values[0]
    for v in values:
        if v >= lo and v <= hi:
            least = min(least, v)
            greatest = max(greatest, v)
    return max(least, lo), min(greatest, hi)


@kernel
def histogram(values, least, per_bin, counts):
    """Count values by bin; those below ``least`` and beyond the last bin are left out."""
    bins = counts.size
    for v in values:
        if v >= least:
            place = (v - least) * per_bin
            if place < bins:
                counts[int(place)] += 1


@kernel
def clipped(values, lower, upper, nclip, lsigma, usigma):
    """Number, mean, standard deviation and limits (float32) after clipping; 0 values if none are left."""
    sums, counts = np.empty(LANES), np.empty(LANES)
    lo, hi = lower, upper
    n, mean, deviation = 0.0, np.float32(0), np.float32(0)
    for turn in range(nclip + 1):
        if turn:
            low = max(lower, np.float32(np.float64(mean) - lsigma * np.float64(deviation)))
            high = min(upper, np.float32(np.float64(mean) + usigma * np.float64(deviation)))
            if low == lo and high == hi:
                break
            lo, hi = low, high
        n, s = total(values, lo, hi, sums, counts)
        if n == 0.0:
            break
        mean = np.float32(s / n)
        deviation = np.float32(0)
        if n > 1.0:
            deviation = np.float32(np.sqrt(squares(values, lo, hi, mean, sums) / (n - 1.0)))
    return int(n), mean, deviation, lo, hi


@kernel
def _median(values, lo, hi):
    kept = np.empty(values.size, np.float32)
    n = 0
    for v in values:
        if v >= lo and v <= hi:
            kept[n] = v
            n += 1
    return np.float64(median(kept, n))


@kernel
def _mode(counts, least, width):
    """Peak of the parabola through the highest bin and its neighbours; the middle of one at the edge."""
    peak = 0
    for k in range(1, counts.size):
        if counts[k] > counts[peak]:
            peak = k
    shift = 0.0
    if 0 < peak < counts.size - 1:
        left, right = counts[peak] - counts[peak - 1], counts[peak] - counts[peak + 1]
        if left + right > 0:
            shift = 0.5 * (left - right) / (left + right)
    return least + (peak + 0.5 + shift) * width


@kernel
def _midpoint(counts, least, width):
    """Where half of all values lie below."""
    half, below = counts.sum() / 2.0, 0.0
    for k in range(counts.size):
        if below + counts[k] >= half:
            return least + (k + (half - below) / counts[k]) * width
        below += counts[k]
    return least


MEAN, MEDIAN, MIDPOINT, MODE = 0, 1, 2, 3
STATISTICS = {"mean": MEAN, "median": MEDIAN, "midpt": MIDPOINT, "mode": MODE}


@kernel
def sky_level(values, lower, upper, nclip, lsigma, usigma, binwidth, statistic):
    """The level of the sky.

    Parameters
    ----------
    values : ndarray, float32
    lower, upper : float32
        Limits of what is used at all; infinite if there are none.
    nclip, lsigma, usigma, binwidth
        See `skymatch.Params`.
    statistic : int
        One of `STATISTICS`.

    Returns
    -------
    level : float
        NaN if no value is left.
    n : int
        Number of values left.
    """
    if values.size == 0:
        return np.nan, 0
    n, mean, deviation, lo, hi = clipped(values, lower, upper, nclip, lsigma, usigma)
    if n == 0:
        return np.nan, 0
    if statistic == MEAN or (deviation == 0.0 and statistic != MEDIAN):
        return np.float64(mean), n
    if statistic == MEDIAN:
        if nclip == 0:
            lo, hi = np.float32(-np.inf), np.float32(np.inf)
        return _median(values, lo, hi), n
    least, greatest = extremes(values, lo, hi)
    width = binwidth * np.float64(deviation)
    span = np.float64(greatest) - np.float64(least)
    bins = int(span / width) + 1
    if bins == 1:
        return np.float64(least) + 0.5 * width, n
    counts = np.zeros(bins, np.int64)
    histogram(values, least, np.float32(1) / np.float32(span / (bins - 1)), counts)
    if statistic == MODE:
        return _mode(counts, np.float64(least), width), n
    return _midpoint(counts, np.float64(least), width), n
