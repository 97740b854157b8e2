"""Kernels of the ramp_fit step for one ramp: its segments, their slopes and flags."""

from __future__ import annotations

import numpy as np

from upramp.stages.core.dq import CHARGELOSS, DO_NOT_USE, JUMP_DET, PERSISTENCE, SATURATED
from upramp.stages.core.kernel import kernel
from upramp.stages.core.statistics import median

UNUSABLE = SATURATED | DO_NOT_USE
BROKEN = UNUSABLE | JUMP_DET
KEPT = SATURATED | JUMP_DET | PERSISTENCE
"""Flags of groups that the product of an integration has if any group has them."""

# (signal-to-noise ratio below which, exponent of the weights)
EXPONENTS = ((5.0, 0.0), (10.0, 0.4), (20.0, 1.0), (50.0, 3.0), (100.0, 6.0), (np.inf, 10.0))
LIMITS = np.array([limit**2 for limit, _ in EXPONENTS])
POWERS = np.array([exponent for _, exponent in EXPONENTS])


def slope_coefficients(ngroups: int) -> np.ndarray:
    """Coefficients that turn the groups of a segment into its slope per group.

    Returns
    -------
    ndarray, float64, shape (exponents, ngroups + 1, ngroups)
        ``[p, n, :n]`` for a segment of ``n`` groups; the weighted least-squares slope is a fixed linear
        combination of the samples once the weights are chosen.
    """
    table = np.zeros((len(EXPONENTS), ngroups + 1, ngroups))
    for p, (_, exponent) in enumerate(EXPONENTS):
        for n in range(2, ngroups + 1):
            i = np.arange(n)
            centre = (n - 1) / 2
            w = np.abs((i - centre) / centre) ** exponent
            off = i - np.sum(w * i) / np.sum(w)
            table[p, n, :n] = w * off / np.sum(w * off**2)
    return table


@kernel
def value_of(count):
    """A group's value in float64; 0 for NaN, as the observatory's package fits it."""
    return np.float64(0) if np.isnan(count) else np.float64(count)


@kernel
def segment_slope(data, c, start, n, electrons, noise2, table):
    """Slope per group of one segment: groups start to start + n of column ``c``.

    ``data`` (ngroups, columns) DN; ``electrons`` gain, e/DN; ``noise2`` variance of a group, e^2.
    """
    if n == 2:  # here NaN stays
        return np.float64(data[start + 1, c]) - np.float64(data[start, c])
    signal = (value_of(data[start + n - 1, c]) - value_of(data[start, c])) * electrons
    snr2 = signal * signal / (noise2 + signal) if signal > 0 else 0.0
    p = 0
    while snr2 >= LIMITS[p]:
        p += 1
    weights = table[p, n]
    base = value_of(data[start, c])
    slope = 0.0
    for k in range(1, n):
        slope += weights[k] * (value_of(data[start + k, c]) - base)
    return slope


@kernel
def next_segment(gdq, c, start):
    """First group and length of the next segment from group ``start``; length 0 at the end."""
    ngroups = gdq.shape[0]
    k = start
    while k < ngroups and gdq[k, c] & UNUSABLE:
        k += 1
    end = k
    while end < ngroups and not gdq[end, c] & UNUSABLE and (end == k or not gdq[end, c] & JUMP_DET):
        end += 1
    return k, end - k


@kernel
def first_clean(gdq, c):
    """The first group without any of the flags that break a ramp; -1 if there is none."""
    for k in range(gdq.shape[0]):
        if not gdq[k, c] & BROKEN:
            return k
    return -1


@kernel
def only_clean(gdq, c):
    """The group that alone is free of all flags that break a ramp; -1 if there are more or none."""
    only = -1
    for k in range(gdq.shape[0]):
        if not gdq[k, c] & BROKEN:
            if only >= 0:
                return -1
            only = k
    return only


@kernel
def typical_rate(data, gdq, c, differences):
    """Median of the good first differences of one ramp, DN per group.

    Without any, the first group's value if that is clean, else 0. With one group an integration, its value;
    NaN if it is saturated, which leaves the exposure without a typical rate.
    """
    if gdq.shape[0] == 1:
        return np.nan if gdq[0, c] & SATURATED else np.float64(data[0, c])
    n = 0
    for k in range(1, gdq.shape[0]):
        if not gdq[k, c] & BROKEN and not gdq[k - 1, c] & UNUSABLE:
            difference = data[k, c] - data[k - 1, c]
            if not np.isnan(difference):
                differences[n] = difference
                n += 1
    if n:
        return np.float64(median(differences, n))
    return 0.0 if gdq[0, c] & BROKEN else np.float64(data[0, c])


@kernel
def fit_ramp(data, gdq, c, electrons, noise2, table):
    """Fit one ramp.

    Returns
    -------
    slope : float
        Per group; NaN if there is nothing to fit.
    cubes, steps : int
        Sums of n^3 - n and n - 1 over the segments used: their weights against read and Poisson noise.
    segments : int
        How many segments were used.
    """
    total, cubes, steps, segments, singles = 0.0, 0, 0, 0, 0
    start, n = next_segment(gdq, c, 0)
    while n:
        if n > 1:
            weight = n * n * n - n
            total += weight * segment_slope(data, c, start, n, electrons, noise2, table)
            cubes += weight
            steps += n - 1
            segments += 1
        else:
            singles += 1
        start, n = next_segment(gdq, c, start + n)
    if segments:
        return total / cubes, cubes, steps, segments
    if singles == 0:
        return np.nan, 0, 0, 0
    first = first_clean(gdq, c)
    if first < 0:
        return 0.0, 0, 0, 0  # nothing but jumps: no rate, yet not unusable
    return value_of(data[first, c]), 6, 1, 1  # one group weighs as much as two


@kernel
def combined_variance(gdq, c, per_cube, per_step, steps, cubes, segments):
    """Variance of an integration's slope: segments combined by their total variance.

    ``per_cube``, ``per_step``: read and Poisson variance of a segment for weight 1.
    """
    if segments == 1:
        return per_cube / cubes + per_step / steps
    inverse = 0.0
    start, n = next_segment(gdq, c, 0)
    while n:
        if n > 1:
            inverse += 1.0 / (per_cube / (n * n * n - n) + per_step / (n - 1))
        start, n = next_segment(gdq, c, start + n)
    return 1.0 / inverse


@kernel
def cubes_with_chargeloss(gdq, c):
    """Read-noise weight as if groups given up for charge migration had been kept; -1 if there are none.

    Also whether there would then be a segment of two groups or more, which decides the time that counts.
    """
    any_lost = False
    for k in range(gdq.shape[0]):
        if gdq[k, c] & CHARGELOSS:
            any_lost = True
    if not any_lost:
        return -1, True
    ngroups = gdq.shape[0]
    cubes, singles = 0, 0
    start = 0
    while start < ngroups:
        n = 0
        while start + n < ngroups:
            flags = gdq[start + n, c]
            lost = flags | JUMP_DET == CHARGELOSS | DO_NOT_USE | JUMP_DET
            bad = flags & UNUSABLE and not lost
            if bad or (n > 0 and flags & JUMP_DET):
                break
            n += 1
        if n > 1:
            cubes += n * n * n - n
        elif n == 1 and not gdq[start, c] & JUMP_DET:
            singles += 1
        start += max(n, 1)
    return cubes if cubes else (6 if singles else 0), cubes > 0


@kernel
def ramp_flags(gdq, c, usable):
    """Flags of an integration: those of `KEPT` that any group has, DO_NOT_USE if none is usable."""
    flags = 0
    for k in range(gdq.shape[0]):
        flags |= gdq[k, c]
    flags &= KEPT
    return flags if usable else flags | DO_NOT_USE
