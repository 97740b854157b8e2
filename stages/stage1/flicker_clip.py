"""Kernels of the flicker steps: which values belong to the background, by clipped statistics.

Values are sorted once. After that every clipping leaves a stretch of them, medians are looked up, and sums
change only by what was clipped.
"""

from __future__ import annotations

import numpy as np

from upramp.stages.core.kernel import kernel

CLIP, TIMES = 3.0, 5
"""Values are clipped at so many standard deviations from the median, at most so many times."""

DIGIT = 11
BINS = 1 << DIGIT


@kernel
def sort(values, spare, n):
    """Sort the first ``n`` of ``values`` (float32, no NaN) digit by digit; ``spare`` is as large."""
    a, b = values.view(np.uint32), spare.view(np.uint32)
    counts = np.zeros((3, BINS), np.int64)
    for k in range(n):
        x = a[k]  # negative numbers, whose digits count down, below the positive ones
        x = np.uint32(~x) if x >> 31 else np.uint32(x | np.uint32(1 << 31))
        a[k] = x
        counts[0, x & (BINS - 1)] += 1
        counts[1, (x >> DIGIT) & (BINS - 1)] += 1
        counts[2, x >> (2 * DIGIT)] += 1
    for d in range(3):
        total = 0
        for k in range(BINS):
            counts[d, k], total = total, total + counts[d, k]
    for d in range(3):
        places = counts[d]
        one, two = (a, b) if d != 1 else (b, a)
        for k in range(n):
            x = one[k]
            digit = (x >> (d * DIGIT)) & (BINS - 1)
            two[places[digit]] = x
            places[digit] += 1
    for k in range(n):
        x = b[k]
        a[k] = np.uint32(x & np.uint32((1 << 31) - 1)) if x >> 31 else np.uint32(~x)


@kernel
def first_not_below(values, lo, hi, limit):
    """Index of the first of the sorted ``values`` lo to hi that is not below ``limit``; else hi."""
    while lo < hi:
        middle = (lo + hi) >> 1
        if values[middle] < limit:
            lo = middle + 1
        else:
            hi = middle
    return lo


@kernel
def first_above(values, lo, hi, limit):
    """Index of the first of the sorted ``values`` lo to hi that is above ``limit``; else hi."""
    while lo < hi:
        middle = (lo + hi) >> 1
        if values[middle] > limit:
            hi = middle
        else:
            lo = middle + 1
    return lo


@kernel
def middle_of(values, lo, hi):
    """Median of the sorted ``values`` lo to hi, hi > lo; float64."""
    half = (lo + hi) >> 1
    if (hi - lo) & 1:
        return np.float64(values[half])
    return (np.float64(values[half - 1]) + np.float64(values[half])) / 2


@kernel
def single_middle(values, lo, hi):
    """The same as numpy has it in single precision."""
    half = (lo + hi) >> 1
    if (hi - lo) & 1:
        return values[half]
    return np.float32(np.float32(values[half - 1] + values[half]) / np.float32(2))


@kernel
def moments(values, lo, hi, base):
    """Sums of ``values - base`` and of its squares, float64, over elements lo to hi."""
    s = s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = 0.0
    whole = lo + ((hi - lo) & ~3)
    for k in range(lo, whole, 4):  # four sums side by side, in an order that does not depend on the compiler
        a, b = np.float64(values[k]) - base, np.float64(values[k + 1]) - base
        c, d = np.float64(values[k + 2]) - base, np.float64(values[k + 3]) - base
        s0 += a
        s1 += b
        s2 += c
        s3 += d
        t0 += a * a
        t1 += b * b
        t2 += c * c
        t3 += d * d
    s, t = (s0 + s1) + (s2 + s3), (t0 + t1) + (t2 + t3)
    for k in range(whole, hi):
        a = np.float64(values[k]) - base
        s += a
        t += a * a
    return s, t


@kernel
def clipped(values, lo, hi):
    """Clip the sorted ``values`` lo to hi around their median.

    Returns
    -------
    median, mean, deviation : float
        Of what is left, the last being the standard deviation. NaN if there is nothing.
    number : int
        How many are left.
    """
    if hi <= lo:
        return np.nan, np.nan, np.nan, 0
    base = middle_of(values, lo, hi)
    s, t = moments(values, lo, hi, base)
    for k in range(TIMES + 1):
        n = hi - lo
        centre = middle_of(values, lo, hi)
        deviation = np.sqrt(max(t / n - (s / n) ** 2, 0.0))
        if k == TIMES:
            break
        first = first_not_below(values, lo, hi, centre - CLIP * deviation)
        last = first_above(values, lo, hi, centre + CLIP * deviation)
        if first == lo and last == hi:
            break
        for a, b in ((lo, first), (last, hi)):
            off, off2 = moments(values, a, b, base)
            s -= off
            t -= off2
        lo, hi = first, last
    return centre, base + s / (hi - lo), deviation, hi - lo


@kernel
def clipped_below(values, lo, hi):
    """Median of all, clipped, and the deviation of what is not above it, mirrored and clipped too."""
    centre = clipped(values, lo, hi)[0]
    hi = first_above(values, lo, hi, centre)
    if hi <= lo:
        return np.nan, np.nan
    _, t = moments(values, lo, hi, centre)
    for k in range(TIMES + 1):
        deviation = np.sqrt(max(t / (hi - lo), 0.0))
        first = first_not_below(values, lo, hi, centre - CLIP * deviation)
        if k == TIMES or first == lo:
            break
        t -= moments(values, lo, first, centre)[1]
        lo = first
    return centre, deviation


@kernel
def collect(image, mask, values):
    """Gather the pixels of ``image`` where ``mask`` is set and that are not NaN; how many."""
    n = 0
    for y in range(image.shape[0]):
        line, use = image[y], mask[y]
        for x in range(image.shape[1]):
            values[n] = line[x]
            n += use[x] and not np.isnan(line[x])
    return n


@kernel
def collect_all(image, values):
    """Gather the pixels of ``image`` that are not NaN; how many."""
    n = 0
    for y in range(image.shape[0]):
        line = image[y]
        for x in range(image.shape[1]):
            values[n] = line[x]
            n += not np.isnan(line[x])
    return n


@kernel
def cut(image, mask, low, high):
    """Unset ``mask`` where ``image`` lies outside ``low`` to ``high``; NaN is not looked at."""
    for y in range(image.shape[0]):
        line, use = image[y], mask[y]
        for x in range(image.shape[1]):
            use[x] &= not (line[x] < low or line[x] > high)
