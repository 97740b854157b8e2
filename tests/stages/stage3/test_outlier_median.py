"""Weights, what counts, and medians by bands, beside plain arrays."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.stats import sigma_clipped_stats
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.core.extras import MemoryCube
from upramp.stages.core.frames import Crew
from upramp.stages.stage3 import outlier_median
from upramp.stages.stage3.outlier_median import Ranks, Stack, clipped_mean, decide, weigh


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("spread", [0.0, 0.01, 0.3, 1.0, 2.0])
def test_clipped_mean(spread, threads):
    rng = np.random.default_rng(4)
    values = rng.lognormal(0, spread, (50, 61)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = 0
    values[3, 3], values[4, 4] = np.nan, np.inf
    good = values[(values > 0) & np.isfinite(values)].astype(float)
    expected, *_ = sigma_clipped_stats(good, sigma=3, maxiters=5)
    # weights stand beside the values' sums
    weights = np.stack([values, -values], axis=-1)[:, :, 0]
    assert clipped_mean(weights, Crew(threads)) == pytest.approx(expected, rel=1e-6)


def test_nothing_has_no_mean():
    assert np.isnan(clipped_mean(np.zeros((3, 3), np.float32), Crew()))


@given(seed=st.integers(0, 1000), n=st.integers(1, 60), kinds=st.integers(1, 50))
@settings(deadline=None, max_examples=30)
def test_ranks(seed, n, kinds):
    rng = np.random.default_rng(seed)
    values = (rng.integers(0, kinds, (3, n)) * rng.choice([1e-30, 0.7, 3e20], (3, n))).astype(np.float32)
    ordered = np.sort(values[values > 0])
    ranks = Ranks(values, Crew(2))
    assert [ranks[k] for k in range(ordered.size)] == ordered.tolist()


def test_weigh():
    nan = np.nan
    sci = np.array([1, nan, 3, 4, 5, 6], np.float32)
    dq = np.array([0, 0, 1, 4, 0, 0], np.uint32)
    rnoise = np.array([0.5, 0.5, 0.5, 0.25, 0, nan], np.float32)
    values, weight = np.empty(6, np.float32), np.empty(6, np.float32)
    weigh(sci, dq, rnoise, np.uint32(1), np.float32(0.5), np.float32(0), values, weight)
    np.testing.assert_array_equal(weight, [2, 0, 0, 4, 0, 0])
    np.testing.assert_array_equal(values, [0.5, 0, 0, 3.5, 0, 0])
    weigh(sci, dq, rnoise, np.uint32(1), np.float32(0), np.float32(7), values, weight)
    np.testing.assert_array_equal(weight, [7, 0, 0, 7, 7, 7])


def test_decide():
    sums = np.array([[[2, 6], [1, 5], [0, 0]]], np.float32)
    out = np.zeros((2, 4), np.float32)
    decide(sums, True, np.float32(1.5), np.float32(9), out)
    np.testing.assert_array_equal(out, [[3, *[np.nan] * 3], [np.nan] * 4])
    for least in (0.0, np.nan):
        decide(sums, True, np.float32(least), np.float32(9), out)
        np.testing.assert_array_equal(out[0], [3, 5, 9, np.nan])
    decide(sums, False, np.float32(0), np.float32(9), out)
    np.testing.assert_array_equal(out[0], [6, 5, 9, np.nan])


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 1000),
    groups=st.integers(1, 30),
    shape=st.tuples(st.integers(1, 12), st.integers(1, 9)),
    band=st.integers(1, 2000),
    threads=st.integers(1, 3),
)
def test_medians_are_those_of_all(seed, groups, shape, band, threads):
    rng = np.random.default_rng(seed)
    boxes, whole = [], np.full((groups, *shape), np.nan, np.float32)
    crew = Crew(threads)
    for g in range(groups):
        r0, c0 = rng.integers(0, shape[0] + 1), rng.integers(0, shape[1] + 1)
        r1, c1 = rng.integers(r0, shape[0] + 1), rng.integers(c0, shape[1] + 1)
        boxes.append((int(r0), int(r1), int(c0), int(c1)))
        part = rng.integers(0, 5, (r1 - r0, c1 - c0)).astype(np.float32)
        whole[g, r0:r1, c0:c1] = np.where(part > 0, part, np.nan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outlier_median, "BAND", band)
        stack = Stack(shape, boxes, MemoryCube)
    assert stack.rows * stack.cube.shape[-1] * groups * 4 <= band or stack.rows == 1
    for g, (r0, r1, c0, c1) in enumerate(boxes):
        values = whole[g, r0:r1, c0:c1]
        sums = np.stack([np.isfinite(values), np.nan_to_num(values)], axis=-1).astype(np.float32)
        stack.put(g, sums, seed % 2 == 0, 0.5, np.nan, crew)
    found = stack.median(crew)
    counts = np.isfinite(whole).any(axis=0)
    assert np.isnan(found[~counts]).all()
    if counts.any():
        np.testing.assert_array_equal(found[counts], np.nanmedian(whole[:, counts], axis=0))
