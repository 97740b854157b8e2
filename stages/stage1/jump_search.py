"""Kernels of the jump step: which differences between groups are outliers.

Most pixels hold none, and to know that their exact median is not needed: it is enclosed by
counting, for many columns side by side, until no sample can be off by more than the
threshold. Only the remaining pixels are looked at one by one, exactly as the rule says.
"""

from __future__ import annotations

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, SATURATED
from upramp.stages.core.kernel import kernel
from upramp.stages.core.statistics import median

UNUSABLE = SATURATED | DO_NOT_USE
BLOCK = 64  # columns looked at side by side

FEW = 24  # samples that are sorted; with more, medians are enclosed by counting
# the enclosing: first step in sigma, how often at most, and which part of the columns may remain open
SEARCH_REACH = 0.15
SEARCH_STEPS = 10
SEARCH_REST = 5

# how outliers are told
ITERATED, ONCE, CLIPPED_BY_GROUP, CLIPPED, NOT_AT_ALL = 0, 1, 2, 3, 4
CLIPS = 5

# bits of the plane that the search leaves for the spread
PRIMARY = 1
SPREADS = 2
LARGE1 = 4
LARGE2 = 8


@kernel
def gather(data, gdq, gain, first, differences, before):
    """Differences in electrons of up to ``BLOCK`` columns from ``first``; NaN where a group is unusable.

    ``data``, ``gdq`` (nints, ngroups, columns); ``gain`` (columns); fills ``differences``
    (nints * (ngroups - 1), BLOCK) float32, and returns how many columns there were.
    """
    nints, ngroups, columns = data.shape
    width = min(BLOCK, columns - first)
    factor = gain[first : first + width]
    nan = np.float32(np.nan)
    k = 0
    for i in range(nints):
        for g in range(ngroups):
            counts = data[i, g, first : first + width]
            flags = gdq[i, g, first : first + width]
            if g == 0:
                for b in range(width):
                    now = counts[b] * factor[b]
                    before[b] = nan if flags[b] & UNUSABLE else now
                continue
            out = differences[k]
            k += 1
            for b in range(width):
                now = counts[b] * factor[b]
                now = nan if flags[b] & UNUSABLE else now
                out[b] = now - before[b]
                before[b] = now
    return width


@kernel
def sort_out(differences, inner, width, single, sorted_, low, high, smallest, largest, known):
    """Each column's median exactly, by sorting all columns side by side; for few samples (``inner``).

    Of signed differences if ``single``, else of absolute ones as `clipped_median` has it. ``known`` is False
    where a sample is missing or the largest, being left out, is not alone; there nothing else holds.
    """
    n = inner.size
    clipped = not single and n >= 4
    for b in range(width):
        known[b] = True
    for k in range(n):
        row, target = differences[inner[k]], sorted_[k]
        for b in range(width):
            v = row[b] if single else abs(row[b])
            target[b] = v
            known[b] &= v == v
    kept = n - 1 if clipped else n
    middle = (kept - 1) // 2
    beyond = kept // 2 if single or n != 2 else middle
    for end in range(n - 1, max(middle, 1) - 1, -1):
        for k in range(end):
            one, two = sorted_[k], sorted_[k + 1]
            for b in range(width):
                v, u = one[b], two[b]
                swap = v > u
                one[b] = u if swap else v
                two[b] = v if swap else u
    below, above, top, second = sorted_[middle], sorted_[beyond], sorted_[n - 1], sorted_[n - 2]
    for b in range(width):
        low[b] = high[b] = (below[b] + above[b]) / 2
        largest[b] = top[b]
        smallest[b] = sorted_[0, b]
        known[b] &= not clipped or second[b] < top[b]
    for k in range(1, middle):
        row = sorted_[k]
        for b in range(width):
            smallest[b] = row[b] if row[b] < smallest[b] else smallest[b]


@kernel
def bracket(differences, inner, width, single, noise2, threshold, work, low, high, smallest, largest, known):
    """Bounds around each column's median, by counting; for many samples (``inner``), columns side by side.

    The bounds are drawn in until they show that (nearly) no column holds an outlier. ``known`` is False where
    there are too few samples.
    """
    count, kept, pivot, below, total = work
    for b in range(width):
        smallest[b], largest[b] = np.float32(np.inf), np.float32(-np.inf)
        count[b] = total[b] = kept[b] = 0
    for k in range(inner.size):
        row = differences[inner[k]]
        for b in range(width):
            v = row[b] if single else abs(row[b])
            there = v == v
            smallest[b] = v if v < smallest[b] else smallest[b]
            largest[b] = v if v > largest[b] else largest[b]
            count[b] += np.float32(1) if there else np.float32(0)
            total[b] += v if there else np.float32(0)
    if not single:
        for k in range(inner.size):
            row = differences[inner[k]]
            for b in range(width):
                kept[b] += np.float32(1) if abs(row[b]) == largest[b] else np.float32(0)
    for b in range(width):
        kept[b] = count[b] - kept[b]
        known[b] = kept[b] >= 4
        low[b], high[b] = smallest[b], largest[b]
        # the largest stays out of the first guess, as it may be a cosmic ray
        guess = (total[b] - largest[b]) / max(count[b] - 1, np.float32(1))
        pivot[b] = min(max(guess, low[b]), high[b])
    for step in range(SEARCH_STEPS):
        for b in range(width):
            below[b] = 0
        for k in range(inner.size):
            row = differences[inner[k]]
            for b in range(width):
                v = row[b] if single else abs(row[b])
                below[b] += np.float32(1) if v <= pivot[b] else np.float32(0)
        undecided = 0
        reach = np.float32(SEARCH_REACH * 2.0**step)
        for b in range(width):
            p, c = pivot[b], below[b]
            sigma = np.sqrt(abs(p) + noise2[b])
            if c <= np.floor((kept[b] - 1) / 2):
                low[b] = max(low[b], p)
                pivot[b] = min(p + reach * sigma, (low[b] + high[b]) / 2)
            elif c > np.floor(kept[b] / 2):
                high[b] = min(high[b], p)
                pivot[b] = max(p - reach * sigma, (low[b] + high[b]) / 2)
            else:  # between the middle two: each side again
                pivot[b] = p + (high[b] - p) / 2 if step & 1 else p - (p - low[b]) / 2
            undecided += known[b] and not is_clean(
                low[b], high[b], smallest[b], largest[b], noise2[b], threshold
            )
        if undecided <= width // SEARCH_REST:
            break


@kernel
def is_clean(low, high, smallest, largest, noise2, threshold):
    """Whether no sample can be an outlier, the median lying between ``low`` and ``high``."""
    least = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    off = max(largest - low, high - smallest)
    return off < 0.9999 * threshold * np.sqrt(least + noise2)  # not where something is NaN


@kernel
def usable(differences, work):
    """Copy the finite differences to ``work`` and count them."""
    n = 0
    for k in range(differences.size):
        if not np.isnan(differences[k]):
            work[n] = differences[k]
            n += 1
    return n


@kernel
def clipped_median(work, n):
    """Median of the first ``n`` absolute differences, the largest left out where there are four or more.

    All that equal the largest are left out. Of two the smaller counts. ``work`` is reordered.
    """
    if n == 2:
        return min(work[0], work[1])
    if n < 4:
        return median(work, n)
    largest = work[0]
    for k in range(1, n):
        largest = max(largest, work[k])
    kept = 0
    for k in range(n):
        if work[k] < largest:
            work[kept] = work[k]
            kept += 1
    return median(work, kept) if kept else largest


@kernel
def flag_once(differences, middle, sigma, threshold, marks):
    """Mark every difference that is off by more than ``threshold`` sigma."""
    found = 0
    for k in range(differences.size):
        if np.abs(differences[k] - middle) > threshold * sigma:
            marks[k] |= np.uint8(PRIMARY)
            found += 1
    return found


@kernel
def flag_iteratively(differences, variance, thresholds, work, marks):
    """Mark the largest outlier among absolute differences (all as far off), leave it out, and again.

    ``thresholds`` for four and more, three, and two differences.
    """
    found = 0
    while True:
        n = 0
        lowest, highest = -1, -1
        for k in range(differences.size):
            if np.isnan(differences[k]) or marks[k] & PRIMARY:
                continue
            size = np.abs(differences[k])
            work[n] = size
            n += 1
            if lowest < 0 or size < np.abs(differences[lowest]):
                lowest = k
            if highest < 0 or size > np.abs(differences[highest]):
                highest = k
        if n < 2:
            return found
        middle = clipped_median(work, n)
        sigma = np.sqrt(np.abs(middle) + variance)
        above = np.abs(differences[highest]) - middle
        below = middle - np.abs(differences[lowest])
        off = max(above, below)
        threshold = thresholds[0] if n >= 4 else (thresholds[1] if n == 3 else thresholds[2])
        if not (sigma > 0 and off > threshold * sigma):
            return found
        for k in range(differences.size):
            if not marks[k] & PRIMARY and np.abs(np.abs(differences[k]) - middle) == off:
                marks[k] |= np.uint8(PRIMARY)
                found += 1


@kernel
def flag_clipped(differences, first, stride, threshold, work, marks):
    """Mark what sigma clipping leaves out of samples ``first``, ``first + stride`` ...

    At most `CLIPS` times, about the median, by the standard deviation; in float64.
    """
    n = 0
    for k in range(first, differences.size, stride):
        if not np.isnan(differences[k]):
            work[n] = differences[k]
            n += 1
    if n == 0:
        return 0
    low, high = -np.inf, np.inf
    for _ in range(CLIPS):
        middle = median(work, n)
        mean, square = 0.0, 0.0
        for k in range(n):
            mean += work[k]
        mean /= n
        for k in range(n):
            square += (work[k] - mean) ** 2
        reach = threshold * np.sqrt(square / n)
        low, high = middle - reach, middle + reach
        kept = 0
        for k in range(n):
            if low <= work[k] <= high:
                work[kept] = work[k]
                kept += 1
        if kept == n:
            break
        n = kept
    found = 0
    for k in range(first, differences.size, stride):
        if differences[k] < low or differences[k] > high:
            marks[k] |= np.uint8(PRIMARY)
            found += 1
    return found


@kernel
def split(ends, steps):
    """Numbers of the differences between groups that are left (``ends``, nints x 2), and of all others."""
    inner, outer = np.empty(ends.shape[0] * steps, np.int64), np.empty(ends.shape[0] * steps, np.int64)
    n, m = 0, 0
    for i in range(ends.shape[0]):
        for g in range(steps):
            if ends[i, 0] <= g and g + 1 < ends[i, 1]:
                inner[n] = i * steps + g
                n += 1
            else:
                outer[m] = i * steps + g
                m += 1
    return inner[:n], outer[:m]


@kernel
def search(
    data, gdq, gain, noise, y0, x0, nframes, way, ends, thresholds, reach, large, large_on, plane, core
):  # fmt: skip
    """Mark jumps in rows of ramps.

    Most columns hold no outlier whatever their exact median is; only the others are looked at one by one.

    Parameters
    ----------
    data, gdq : (rows, nints, ngroups, columns)
    gain, noise : (ny, nx) float32
        e/DN, and the read noise of a double sample in DN.
    y0, x0 : int
        Element [0, 0] of the rows in the references.
    nframes : int
    way : int
        ITERATED, ONCE, CLIPPED_BY_GROUP, CLIPPED or NOT_AT_ALL.
    ends : (nints, 2)
        Groups that are left of each integration for most pixels: first, and one past the last.
    thresholds : (3,) float32
    reach : (2,) float32
        Jumps between these (in sigma) spread to their neighbours.
    large : (2,) float32
        Above these (in electrons over the median) later groups are flagged too, if ``large_on``.
    plane : (rows, nints, ngroups, columns) uint8
        Filled with the bits PRIMARY, SPREADS, LARGE1, LARGE2.
    core : (r0, r1, c0, c1)
        Where to count.

    Returns
    -------
    int
        Jumps found within the core.
    """
    rows, nints, ngroups, columns = data.shape
    steps = ngroups - 1
    samples = nints * steps
    differences = np.empty((samples, BLOCK), np.float32)
    before = np.empty(BLOCK, np.float32)
    single = way == ONCE
    inner, outer = split(ends, steps)
    few = 2 <= inner.size <= FEW
    threshold = thresholds[0]
    if not single and inner.size < 4:
        threshold = thresholds[1] if inner.size == 3 else thresholds[2]
    sorted_ = np.empty((inner.size if few else 0, BLOCK), np.float32)
    counting = np.empty((5, BLOCK), np.float32)
    low, high, smallest, largest, noise2 = np.empty((5, BLOCK), np.float32)
    known = np.empty(BLOCK, np.bool_)
    one = np.empty(samples, np.float32)
    work = np.empty(samples, np.float32)
    wide = np.empty(samples if way >= CLIPPED_BY_GROUP else 0)
    marks = np.empty(samples, np.uint8)
    count = 0
    plane[:] = 0
    if way == NOT_AT_ALL:
        return 0
    for r in range(rows):
        for first in range(0, columns, BLOCK):
            start = x0 + first
            width = gather(data[r], gdq[r], gain[y0 + r, x0 : x0 + columns], first, differences, before)
            for b in range(width):
                electrons = np.float32(noise[y0 + r, start + b] * gain[y0 + r, start + b])
                noise2[b] = electrons * electrons / nframes
            if large_on or inner.size < 2 or way >= CLIPPED_BY_GROUP:
                known[:] = False
            elif few:
                sort_out(differences, inner, width, single, sorted_, low, high, smallest, largest, known)
            else:
                bracket(
                    differences,
                    inner,
                    width,
                    single,
                    noise2,
                    threshold,
                    counting,
                    low,
                    high,
                    smallest,
                    largest,
                    known,
                )
            for k in range(outer.size):  # a pixel that has more than most is looked at on its own
                row = differences[outer[k]]
                for b in range(width):
                    known[b] &= np.isnan(row[b])
            for b in range(width):
                if known[b] and is_clean(low[b], high[b], smallest[b], largest[b], noise2[b], threshold):
                    continue
                for k in range(samples):
                    one[k] = differences[k, b]
                inside = core[0] <= r < core[1] and core[2] <= first + b < core[3]
                found = mark_column(
                    one, noise2[b], way, steps, thresholds, reach, large, large_on, work, wide, marks
                )
                count += found if inside else 0
                if found > 0 or large_on:
                    for k in range(samples):
                        if marks[k]:
                            plane[r, k // steps, k % steps + 1, first + b] = marks[k]
    return count


@kernel
def mark_column(
    differences, variance, way, steps, thresholds, reach, large, large_on, work, wide, marks
):  # fmt: skip
    """Mark the jumps of one pixel; returns how many there are. ``marks`` is filled."""
    marks[:] = 0
    n = usable(differences, work)
    if n < 2:
        return 0
    found = 0
    if way == ITERATED:
        found = flag_iteratively(differences, variance, thresholds, work, marks)
    elif way == ONCE:
        middle = median(work, n)
        sigma = np.sqrt(np.abs(middle) + variance)
        found = flag_once(differences, middle, sigma, thresholds[0], marks) if sigma > 0 else 0
    elif way == CLIPPED_BY_GROUP:
        for g in range(steps):
            found += flag_clipped(differences, g, steps, thresholds[0], wide, marks)
    else:
        found = flag_clipped(differences, 0, 1, thresholds[0], wide, marks)
    if found == 0 and not large_on:
        return 0
    middle = median(work, usable(differences, work))
    sigma = np.sqrt(np.abs(middle) + variance)
    for k in range(differences.size):
        over = differences[k] - middle
        if marks[k] and reach[0] * sigma < np.abs(over) < reach[1] * sigma:
            marks[k] |= np.uint8(SPREADS)
        if large_on and over >= large[0]:
            marks[k] |= np.uint8(LARGE1)
        if large_on and over >= large[1]:
            marks[k] |= np.uint8(LARGE2)
    return found
