"""Windows of the detector's pixels: into subarrays and back, passed on, closed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upramp.stages.core.dq import PERSISTENCE, SATURATED
from upramp.stages.core.step import Context, Window
from upramp.stages.stage1.persistence import STEP, Params, group_times, windows_left
from upramp.stages.stage1.persistence_windows import Windows

START = 60000.0
T0 = (START - 40587.0) * 86400.0
FACTS = {"exposure_start": START, "integration_time": 61.0, "group_time": 10.0}


def windows(*pixels):
    rows, columns, ends = zip(*pixels, strict=True)
    return Windows(np.array(rows, np.int32), np.array(columns, np.int32), np.array(ends, float))


def listed(found):
    return list(zip(found.rows.tolist(), found.columns.tolist(), found.ends.tolist(), strict=True))


@pytest.fixture
def meta(describe):
    """A subarray of 3 rows and 4 columns at row 200, column 100 (from 0), one integration of 6 groups."""
    return describe(np.zeros((1, 6, 3, 4)), **FACTS)


def test_a_frame_is_cut_out_of_the_detector(meta):
    carried = windows((199, 101, 1.0), (200, 99, 2), (200, 100, 3), (202, 103, 4), (203, 100, 5))
    expected = np.zeros((3, 4))
    expected[0, 0], expected[2, 3] = 3, 4
    np.testing.assert_array_equal(carried.frame(meta), expected)
    assert not Windows.none().frame(meta).any()


def test_what_lies_beyond_the_frame_is_passed_on_while_it_is_open(meta):
    last = T0 + 60
    carried = windows(
        (0, 0, last - 0.1), (0, 1, last), (5, 5, T0 + 10 + 25.1), (7, 7, last + 3), (200, 100, last)
    )
    left = np.zeros((3, 4))
    left[1, 2] = last + 20
    found = carried.followed_by(left, meta, group_times(meta), 80.0)
    assert listed(found) == [(0, 1, last), (7, 7, last + 3), (201, 102, last + 20)]
    assert listed(carried.followed_by(left, meta, group_times(meta), 52.0)) == [
        (0, 1, last),
        (201, 102, last + 20),
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1 << 31),
    frames=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=4),
    length=st.sampled_from([30, 100, 400]),
)
def test_subarrays_carry_on_as_one_full_frame_would(apply_carried, seed, frames, length):
    """A chain of subarrays that move about flags what full frames flag, as far as each subarray sees."""
    rng = np.random.default_rng(seed)
    whole, parts = Windows.none(), Windows.none()
    for k, (y, x) in enumerate(frames):
        gdq = np.zeros((1, 4, 8, 8), np.uint8)
        gdq[:, :, y : y + 3, x : x + 3] = (rng.random((1, 4, 3, 3)) < 0.2) * SATURATED
        start = START + k * 70.0 / 86400
        flags, whole = apply_carried(gdq, whole, start, (1, 1), length)
        own, parts = apply_carried(gdq[:, :, y : y + 3, x : x + 3], parts, start, (y + 1, x + 1), length)
        np.testing.assert_array_equal(own, flags[:, :, y : y + 3, x : x + 3])
    assert listed(whole) == listed(parts)


@pytest.fixture
def apply_carried(describe):
    """Flags after the step, and the windows that are left, of an exposure that begins with windows."""

    def run(gdq, carried, start, origin, length):
        ny, nx = gdq.shape[-2:]
        facts = FACTS | {"exposure_start": start, "ystart": origin[0], "xstart": origin[1]}
        meta = describe(np.zeros(gdq.shape), **facts)
        shared = {"persistence": carried}
        bound = STEP.bind(Context(meta, Params(skip=False, persistence_time=length), {}, shared))
        rows = gdq.transpose(2, 0, 1, 3).copy()
        w = Window(np.zeros(rows.shape, np.float32), rows, np.zeros((ny, nx), np.uint32), bottom=ny)
        w.core_rows, w.core_columns = (0, ny), (0, nx)
        bound.stations[0].run(w, 0, ny)
        return rows.transpose(1, 2, 0, 3) & PERSISTENCE, windows_left(shared)

    return run
