"""Statistics of integrations against numpy's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.core.tally import Tally

BAD, SATURATED, JUMP = 1, 2, 4


def rows(seed, shape):
    rng = np.random.default_rng(seed)
    flags = rng.choice([0, 0, 0, BAD, SATURATED, JUMP, 7, 1 << 10, 1 << 31, 1 << 31 | BAD], shape)
    slopes = rng.normal(50, 20, shape).astype(np.float32)
    slopes[rng.random(shape) < 0.1] = np.nan
    return slopes, flags.astype(np.uint32)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 999),
    shape=st.tuples(st.integers(1, 12), st.integers(1, 4), st.integers(1, 9)),
    batch=st.integers(1, 12),
    threads=st.integers(1, 3),
)
def test_same_as_numpy(seed, shape, batch, threads):
    slopes, flags = rows(seed, shape)
    tally = Tally(shape[1])

    def add(lo):
        tally.add({"rateints.sci": slopes[lo : lo + batch], "rateints.dq": flags[lo : lo + batch]})

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(add, range(0, shape[0], batch)))
    for i, row in enumerate(tally.rows()):
        s, f = slopes[:, i].astype(float), flags[:, i]
        good = s[~np.isnan(s) & (f & BAD == 0)]
        assert row["n_good"] == good.size
        assert row["n_saturated"] == np.count_nonzero(f & SATURATED)
        assert row["n_jump"] == np.count_nonzero(f & JUMP)
        assert row["n_do_not_use"] == np.count_nonzero(f & BAD)
        if good.size:
            assert row["slope_mean"] == pytest.approx(good.mean(), rel=1e-12)
            assert row["slope_scatter"] == pytest.approx(good.std(), rel=1e-5, abs=1e-5)
        else:
            assert row["slope_mean"] is None
            assert row["slope_scatter"] is None


def test_by_hand():
    slopes = np.array([[[1, 3, np.nan, 100]]], np.float32)
    flags = np.array([[[JUMP, SATURATED, 0, BAD | SATURATED]]], np.uint32)
    tally = Tally(1)
    tally.add({"rateints.sci": slopes, "rateints.dq": flags})
    assert tally.rows() == [
        {
            "n_good": 2,
            "n_saturated": 2,
            "n_jump": 1,
            "n_do_not_use": 1,
            "slope_mean": 2.0,
            "slope_scatter": 1.0,
        }
    ]


def test_equal_slopes_have_no_scatter():
    slopes = np.full((3, 1, 3), 0.1, np.float32)
    tally = Tally(1)
    tally.add({"rateints.sci": slopes, "rateints.dq": np.zeros(slopes.shape, np.uint32)})
    assert tally.rows()[0]["slope_scatter"] == pytest.approx(0, abs=1e-8)
