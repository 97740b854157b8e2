"""Order statistics and sums inside kernels, where a call of numpy would allocate."""

from __future__ import annotations

import numpy as np

from upramp.stages.core.kernel import kernel

SMALL = 24  # below this, insertion sort wins
BLOCK = 128  # values that are added by eight sums side by side


@kernel
def sort_small(values, n):
    """Sort the first ``n`` values in place (insertion sort)."""
    for i in range(1, n):
        v = values[i]
        j = i - 1
        while j >= 0 and values[j] > v:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = v


@kernel
def select(values, n, k):
    """The k-th smallest (from 0) of the first ``n`` values, which are reordered: smaller ones to its left."""
    low, high = 0, n - 1
    while high > low:
        middle = (low + high) >> 1
        if values[middle] < values[low]:
            values[middle], values[low] = values[low], values[middle]
        if values[high] < values[low]:
            values[high], values[low] = values[low], values[high]
        if values[high] < values[middle]:
            values[high], values[middle] = values[middle], values[high]
        pivot = values[middle]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return values[k]


@kernel
def median(values, n):
    """Median of the first ``n`` values (n > 0), which are reordered.

    Of an even number it is the mean of the middle two.
    """
    half = n >> 1
    if n <= SMALL:
        sort_small(values, n)
        upper = values[half]
        lower = values[half - 1] if half else upper
    else:
        upper = select(values, n, half)
        lower = values[0]
        if n & 1 == 0:
            for k in range(1, half):
                lower = max(lower, values[k])
    return upper if n & 1 else (lower + upper) / 2


@kernel
def ordered_sum(values, lo, n):
    """Sum of ``n`` values from ``lo`` on, in their own precision and in the order in which numpy adds.

    ``values`` is contiguous float32 or float64. Halves are added, their halves before them, down to blocks;
    so roundings are those of ``values[lo : lo + n].sum()``.
    """
    if n <= BLOCK:
        return _sum_block(values, lo, n)
    # what is to be added yet, and sums already made, both with their depth in the tree of halves
    first, length, depth = np.empty(64, np.int64), np.empty(64, np.int64), np.empty(64, np.int64)
    sums, levels = np.empty(64, values.dtype), np.empty(64, np.int64)
    first[0], length[0], depth[0] = lo, n, 0
    todo, done = 1, 0
    while todo:
        todo -= 1
        at, count, level = first[todo], length[todo], depth[todo]
        if count > BLOCK:
            half = count // 2
            half -= half % 8
            first[todo], length[todo], depth[todo] = at + half, count - half, level + 1
            first[todo + 1], length[todo + 1], depth[todo + 1] = at, half, level + 1
            todo += 2
            continue
        total = _sum_block(values, at, count)
        while done and levels[done - 1] == level:
            done -= 1
            total = sums[done] + total
            level -= 1
        sums[done], levels[done] = total, level
        done += 1
    return sums[0]


@kernel
def _sum_block(values, lo, n):
    """The same of few values: eight sums side by side, then what is left over."""
    total = values.dtype.type(0)
    start = 0
    if n >= 8:
        a, b, c, d = values[lo], values[lo + 1], values[lo + 2], values[lo + 3]
        e, f, g, h = values[lo + 4], values[lo + 5], values[lo + 6], values[lo + 7]
        start = n - n % 8
        for k in range(lo + 8, lo + start, 8):
            a += values[k]
            b += values[k + 1]
            c += values[k + 2]
            d += values[k + 3]
            e += values[k + 4]
            f += values[k + 5]
            g += values[k + 6]
            h += values[k + 7]
        total = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for k in range(lo + start, lo + n):
        total += values[k]
    return total
