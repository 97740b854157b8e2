"""charge_migration: bright groups, later groups, four neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.stage1.charge_migration import STEP, Params, find, skip_if, spread

LOST = 128 | 1


def test_first_bright_group_and_all_later_ones_in_a_cross(apply):
    counts = np.ones((1, 4, 5, 5))
    counts[0, 1, 2, 2] = 101
    out = apply(STEP, counts, params={"signal_threshold": 100.0}, batch=1)
    cross = np.zeros((5, 5), int)
    cross[2, 1:4] = cross[1:4, 2] = LOST
    assert not out.gdq[0, 0].any()
    assert (out.gdq[0, 1:] == cross).all()
    assert not out.pdq.any()
    assert out.counters["charge_migration.ramps"] == 5


def test_threshold_itself_is_not_above(apply):
    assert not apply(STEP, np.full((1, 3, 2, 2), 100), params={"signal_threshold": 100.0}).gdq.any()


@pytest.mark.parametrize(
    ("flag", "centre"),
    [
        (0, [0, LOST, LOST]),
        (1, [0, 1, LOST]),  # do_not_use alone: the next bright group starts
        (2, [0, LOST | 2, LOST]),
        (3, [0, LOST | 2, LOST]),
        (65, [0, LOST | 64, LOST]),
    ],
)
def test_only_a_bare_do_not_use_does_not_start(apply, flag, centre):
    counts, gdq = np.ones((1, 3, 1, 1)), np.zeros((1, 3, 1, 1), int)
    counts[0, 1:], gdq[0, 1] = 200, flag
    out = apply(STEP, counts, params={"signal_threshold": 100.0}, gdq=gdq)
    assert out.gdq.ravel().tolist() == centre


def test_off_by_default_and_needs_three_groups(describe):
    assert Params().skip
    assert "3 groups" in skip_if(describe(np.zeros((1, 2, 1, 1))), Params())
    assert skip_if(describe(np.zeros((1, 3, 1, 1))), Params()) is None


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 31), rows=st.integers(1, 6), columns=st.integers(1, 7))
def test_against_whole_arrays(seed, rows, columns):
    rng = np.random.default_rng(seed)
    shape = (rows, 2, 4, columns)
    data = rng.choice([1, 100, 101, np.nan], shape, p=[0.6, 0.1, 0.25, 0.05]).astype(np.float32)
    gdq = rng.choice([0, 1, 2, 3], shape).astype(np.uint8)
    above = np.empty(shape, np.uint8)
    find(data, gdq, above, np.float32(100))
    hit = np.logical_or.accumulate((data > 100) & (gdq != 1), axis=2)
    assert (above == hit * LOST).all()
    wide = np.pad(hit, ((1, 1), (0, 0), (0, 0), (1, 1)))
    around = (
        wide[1:-1, ..., 1:-1]
        | wide[:-2, ..., 1:-1]
        | wide[2:, ..., 1:-1]
        | wide[1:-1, ..., :-2]
        | wide[1:-1, ..., 2:]
    )
    expected = gdq | (around * LOST).astype(np.uint8)
    spread(gdq, above, 0)
    assert (gdq == expected).all()
