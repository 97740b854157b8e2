"""Order statistics inside kernels, where a call of numpy would allocate."""

from __future__ import annotations

from upramp.stages.core.kernel import kernel

SMALL = 24  # below this, insertion sort wins


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
