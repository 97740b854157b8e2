"""Levels of the sky: what clipping leaves, and where its histogram peaks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.stage3.skymatch_statistics import STATISTICS, gather, sky_level

F = np.float32


def oracle(x, statistic, lower=-np.inf, upper=np.inf, nclip=5, lsigma=4.0, usigma=4.0, binwidth=0.1):
    """The same with whole arrays, step by step."""
    lower, upper = F(lower), F(upper)
    lo, hi, mean, deviation = lower, upper, F(0), F(0)
    for turn in range(nclip + 1):
        if turn:
            lo = max(lower, F(float(mean) - lsigma * float(deviation)))
            hi = min(upper, F(float(mean) + usigma * float(deviation)))
        kept = x[(x >= lo) & (x <= hi)]
        if not kept.size:
            return np.nan, 0
        mean = F(kept.astype(float).mean())
        square = ((kept - mean).astype(float) ** 2).sum()
        deviation = F(np.sqrt(square / (kept.size - 1))) if kept.size > 1 else F(0)
    if statistic == "mean" or (deviation == 0 and statistic != "median"):
        return float(mean), kept.size
    if statistic == "median":
        return float(np.median(kept if nclip else x)), kept.size
    least = max(min(x[0], kept.min()), lo)
    greatest = min(max(x[0], kept.max()), hi)
    width, span = binwidth * float(deviation), float(greatest) - float(least)
    bins = int(span / width) + 1
    if bins == 1:
        return float(least) + width / 2, kept.size
    place = (x[x >= least] - least) * (F(1) / F(span / (bins - 1)))
    counts = np.bincount(place[place < bins].astype(int), minlength=bins).astype(float)
    if statistic == "midpt":
        below = np.cumsum(counts)
        k = int(np.searchsorted(below, below[-1] / 2))
        part = (below[-1] / 2 - below[k] + counts[k]) / counts[k]
        return float(least) + (k + part) * width, kept.size
    k, shift = int(counts.argmax()), 0.0
    if 0 < k < bins - 1:
        left, right = counts[k] - counts[k - 1], counts[k] - counts[k + 1]
        shift = (left - right) / (left + right) / 2 if left + right else 0.0
    return float(least) + (k + 0.5 + shift) * width, kept.size


def ours(x, statistic, lower=-np.inf, upper=np.inf, nclip=5, lsigma=4.0, usigma=4.0, binwidth=0.1):
    return sky_level(x, F(lower), F(upper), nclip, lsigma, usigma, binwidth, STATISTICS[statistic])


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 300),
    statistic=st.sampled_from(sorted(STATISTICS)),
    nclip=st.integers(0, 5),
    sigmas=st.tuples(st.sampled_from([1.0, 2.0, 4.0]), st.sampled_from([1.0, 2.0, 4.0])),
    binwidth=st.sampled_from([0.05, 0.1, 0.7]),
    limits=st.sampled_from([(-np.inf, np.inf), (0.2, np.inf), (-np.inf, 0.5), (0.25, 0.4)]),
)
def test_as_whole_arrays_give(seed, n, statistic, nclip, sigmas, binwidth, limits):
    rng = np.random.default_rng(seed)
    x = (rng.normal(0.3, 0.05, n) + (rng.random(n) < 0.1) * rng.exponential(1.0, n)).astype(F)
    how = (*limits, nclip, *sigmas, binwidth)
    expected, kept = oracle(x, statistic, *how)
    got, used = ours(x, statistic, *how)
    assert used == kept
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("statistic", "expected"),
    # standard deviation 39.6253: 25 bins of 3.96253, five values in the first
    [("mean", 19.166666), ("median", 3.5), ("mode", 1 + 39.625328 / 20), ("midpt", 1 + 0.6 * 3.9625328)],
)
def test_by_hand(statistic, expected):
    x = np.array([1, 2, 3, 4, 5, 100], F)
    assert ours(x, statistic, nclip=0) == (pytest.approx(expected, rel=1e-6), 6)


def test_an_outlier_is_clipped():
    x = np.array([1, 2, 3, 4, 5, 100], F)
    assert ours(x, "mean", nclip=1, lsigma=1.0, usigma=1.0) == (3.0, 5)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_few_values(statistic):
    assert ours(np.array([3.0], F), statistic) == (3.0, 1)
    assert ours(np.full(10, 3.0, F), statistic) == (3.0, 10)
    for nothing in (np.array([], F), np.array([1.0, 2.0], F)):
        level, n = ours(nothing, statistic, lower=5.0)
        assert np.isnan(level) and n == 0


def test_what_counts():
    sci = np.array([[1.0, np.nan, 3.0], [4.0, -np.inf, 6.0]], F)
    dq = np.array([[0, 0, 4], [1, 0, 0]], np.uint32)
    inside = np.array([[True, True, True], [True, True, False]])
    out = np.empty(7, F)
    n = gather(sci, dq, inside, np.uint32(1), out)
    assert out[:n].tolist() == [1.0, 3.0]
