"""Order statistics against numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from upramp.stages.core.statistics import SMALL, median, ordered_sum, select, sort_small

TYPES = (np.float32, np.float64)


def values(dtype):
    """Short and long ones, of few different values or of many, infinities among them."""
    few = st.integers(-2, 2).map(float)
    many = st.floats(-(2.0**90), 2.0**90, width=32)
    lengths = st.integers(1, 3 * SMALL)
    return lengths.flatmap(
        lambda n: st.one_of(arrays(dtype, n, elements=few), arrays(dtype, n, elements=many | st.just(np.inf)))
    )


@pytest.mark.parametrize("dtype", TYPES)
@settings(deadline=None)
@given(data=st.data())
def test_select_finds_the_kth_smallest(dtype, data):
    a = data.draw(values(dtype))
    k = data.draw(st.integers(0, a.size - 1))
    work = a.copy()
    assert select(work, a.size, k) == np.sort(a)[k]
    assert np.array_equal(np.sort(work), np.sort(a))
    assert (work[:k] <= work[k]).all()
    assert (work[k:] >= work[k]).all()


@pytest.mark.parametrize("dtype", TYPES)
@settings(deadline=None)
@given(data=st.data())
def test_median_is_that_of_numpy(dtype, data):
    a = data.draw(values(dtype))
    beyond = np.concatenate([a, np.full(3, -7, dtype)])
    found = median(beyond, a.size)
    middle = np.sort(a)[(a.size - 1) // 2 : a.size // 2 + 1]
    expected = middle[0] if a.size & 1 else (middle[0] + middle[1]) / dtype(2)
    assert found == expected
    assert np.allclose(found, np.median(a), rtol=1e-6) or abs(found) > 2.0**89 or np.isinf(found)
    assert np.array_equal(np.sort(beyond[: a.size]), np.sort(a))
    assert (beyond[a.size :] == -7).all()


@pytest.mark.parametrize("n", [1, 2, SMALL, SMALL + 1, SMALL + 2, 200])
@pytest.mark.parametrize("kind", ["rising", "falling", "equal", "two"])
def test_median_of_hard_orders(n, kind):
    a = {
        "rising": np.arange(n),
        "falling": np.arange(n)[::-1],
        "equal": np.ones(n),
        "two": np.arange(n) % 2,
    }[kind].astype(float)
    assert median(a.copy(), n) == np.median(a)


@settings(deadline=None)
@given(a=arrays(np.float32, st.integers(0, SMALL), elements=st.floats(-9, 9, width=32)))
def test_sort(a):
    work = a.copy()
    sort_small(work, a.size)
    assert np.array_equal(work, np.sort(a))


@pytest.mark.parametrize("dtype", TYPES)
@settings(deadline=None)
@given(seed=st.integers(0, 1 << 31), n=st.integers(0, 2000), lo=st.integers(0, 9))
def test_sums_have_the_roundings_of_numpy(dtype, seed, n, lo):
    rng = np.random.default_rng(seed)
    a = (rng.standard_normal(n + lo) * 10.0 ** rng.uniform(-3, 3, n + lo)).astype(dtype)
    assert ordered_sum(a, lo, n) == a[lo:].sum()
