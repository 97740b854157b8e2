"""persistence against a naive rule, the peer's answers, and cases worked by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upramp.stages.core.dq import DO_NOT_USE, PERSISTENCE, SATURATED
from upramp.stages.core.errors import Misconfigured
from upramp.stages.core.step import Context
from upramp.stages.stage1 import persistence
from upramp.stages.stage1.persistence import STEP, Params, group_times

START = 60000.0
T0 = (START - 40587.0) * 86400.0
FACTS = {"exposure_start": START, "integration_time": 61.0, "group_time": 10.0}


def naive(gdq, data, before, times, length, threshold=np.inf, bits=PERSISTENCE):
    """Whole frames (nints, ngroups, ny, nx), one group after the other."""
    end = np.where(before - times[0, 0] > length, 0, before)
    out = gdq.copy()
    for i in range(len(gdq)):
        seen = np.zeros(end.shape, int)
        for g in range(gdq.shape[1]):
            t = times[i, g]
            seen += gdq[i, g] & SATURATED > 0
            end = np.where((seen == 1) | ((data[i, g] > threshold) & (end < t)), t + length, end)
            out[i, g][t <= end] |= np.uint8(bits)
    return out, np.where(end >= times[-1, -1], end, 0)


def one(apply, saturated, **params):
    """Flags of a single pixel, as rows of "P" and "."; ``saturated``: 0 and 1 for each integration."""
    marks = np.array([[int(c) for c in row] for row in saturated])
    gdq = (marks * SATURATED).astype(np.uint8)[:, :, None, None]
    params = {"skip": False, "persistence_time": 25} | params
    found = apply(STEP, np.zeros(gdq.shape), params=params, gdq=gdq, **FACTS)
    return ["".join("P" if f & PERSISTENCE else "." for f in row) for row in found.gdq[:, :, 0, 0]]


def test_a_window_reaches_into_the_next_integration(apply):
    assert one(apply, ["000111", "000000"]) == ["...PPP", "......"]
    assert one(apply, ["000001", "000000"]) == [".....P", "PP...."]  # 60 + 25: groups end at 71, 81, 91
    assert one(apply, ["001111", "000000"], persistence_time=100) == ["..PPPP", "PPPPPP"]


def test_lone_saturated_groups_keep_the_window_open(apply):
    assert one(apply, ["010000", "000000"]) == [".PPPPP", "PP...."]
    assert one(apply, ["010010", "000000"]) == [".PPPPP", "......"]  # 40 + 25
    assert one(apply, ["0"]) == ["."]
    assert one(apply, ["1"]) == ["P"]


def test_a_new_integration_opens_a_window_again(apply):
    assert one(apply, ["111111", "111111"]) == ["PPP...", "PPP..."]


def test_the_threshold_opens_a_window_where_none_is(apply):
    data = np.array([0, 50.0, 60, 70, np.nan, 80, 0, 0]).reshape(1, 8, 1, 1)
    params = {"skip": False, "persistence_time": 20, "dn_threshold": 40.0}
    found = apply(STEP, data, params=params, **FACTS)
    assert [int(f) >> 5 for f in found.gdq[0, :, 0, 0]] == [0, 1, 1, 1, 0, 1, 1, 1]
    assert found.counters == {"persistence.groups": 6, "persistence.pixels": 1}
    left = persistence.windows_left(found.shared)
    assert (left.rows, left.columns, left.ends) == ([200], [100], [T0 + 60 + 20])  # of the detector, from 0


def test_with_dnu_groups_are_not_used(apply):
    gdq = np.full((1, 2, 1, 1), SATURATED, np.uint8)
    params = {"skip": False, "persistence_time": 5, "persistence_dnu": True}
    found = apply(STEP, np.zeros(gdq.shape), params=params, gdq=gdq, **FACTS)
    assert found.gdq.ravel().tolist() == [SATURATED | PERSISTENCE | DO_NOT_USE, SATURATED]


@pytest.mark.parametrize(
    ("left", "flagged"), [(9.9, 0), (10, 1), (24.9, 2), (30, 3), (35, 3), (35.1, 0), (1000, 0), (-5, 0)]
)
def test_windows_to_begin_with(apply, left, flagged):
    """Measured on the peer with groups of 10 s: one that outlasts a new window is not believed."""
    file = _File({"NRCALONG": {"rows": [0], "cols": [0], "vals": [T0 + left], "pers_time": 25}})
    params = {"skip": False, "persistence_time": 25, "persistence_array_file": "a.asdf"}
    found = _with(file, np.zeros((1, 6, 1, 2), np.uint8), params)
    assert np.count_nonzero(found[0, :, 0, 0]) == flagged
    assert not found[..., 1].any()


class _File:
    """A persistence file in memory."""

    reftype, name = "persistence_array_file", "a.asdf"

    def __init__(self, tree):
        self.content = tree

    def tree(self):
        return self.content


def _with(file, gdq, params, **facts):
    """Flags after the station, with windows from a file."""
    from upramp.stages.core.meta import ExposureMeta

    nints, ngroups, ny, nx = gdq.shape
    meta = ExposureMeta(
        "NIRCAM",
        "NRCALONG",
        "NRC_IMAGE",
        "SUB64P",
        1,
        1,
        nx,
        ny,
        -1,
        2,
        nints,
        nints,
        ngroups,
        **FACTS | facts,
    )
    given = Params(**params)
    refs = {"persistence_array_file": persistence.prepare(file, meta, given)}
    (station,) = STEP.bind(Context(meta, given, refs)).stations
    rows = gdq.transpose(2, 0, 1, 3).copy()
    window = SimpleNamespace(
        data=np.zeros(rows.shape, np.float32),
        gdq=rows,
        x0=0,
        counters={"persistence.groups": 0, "persistence.pixels": 0},
        rows=slice,
        core=lambda lo, hi: (0, hi - lo, 0, nx),
    )
    station.run(window, 0, ny)
    return rows.transpose(1, 2, 0, 3)


def test_files_of_other_detectors_or_lengths_count_for_nothing():
    gdq = np.zeros((1, 6, 2, 2), np.uint8)
    params = {"persistence_time": 25, "persistence_array_file": "a.asdf"}
    entry = {"rows": [1], "cols": [1], "vals": [T0 + 20], "pers_time": 25}
    assert np.count_nonzero(_with(_File({"NRCALONG": entry}), gdq, params)) == 2
    assert not _with(_File({"NRCBLONG": entry}), gdq, params).any()
    assert not _with(_File({"NRCALONG": entry | {"pers_time": 24}}), gdq, params).any()


@pytest.mark.parametrize("change", [{"rows": [2]}, {"cols": [-1]}, {"vals": ["x"]}, {"pers_time": None}])
def test_files_that_do_not_fit_are_refused(change):
    entry = {"rows": [1], "cols": [1], "vals": [T0], "pers_time": 25} | change
    if change == {"pers_time": None}:
        del entry["pers_time"]
    params = {"persistence_time": 25, "persistence_array_file": "a.asdf"}
    with pytest.raises(Misconfigured, match=r"a\.asdf"):
        _with(_File({"NRCALONG": entry}), np.zeros((1, 2, 2, 2), np.uint8), params)


def test_reasons_to_skip(describe):
    data = np.zeros((1, 2, 1, 1))
    assert "persistence_time is None" in STEP.skip_if(describe(data, **FACTS), Params())
    assert "persistence_time is 0" in STEP.skip_if(describe(data, **FACTS), Params(persistence_time=0))
    assert "EFFINTTM 0" in STEP.skip_if(describe(data, exposure_start=START), Params(persistence_time=5))
    assert STEP.skip_if(describe(data, **FACTS), Params(persistence_time=5)) is None


def test_later_segments_have_later_times(describe):
    meta = describe(np.zeros((2, 3, 1, 1)), **FACTS | {"int_start": 5})
    expected = T0 + np.array([4, 5])[:, None] * 61.0 + np.array([10.0, 20, 30])
    np.testing.assert_allclose(group_times(meta), expected, rtol=0, atol=1e-6)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1 << 31),
    frames=st.sampled_from([(1, 1), (2, 6), (3, 4), (1, 2)]),
    length=st.sampled_from([5, 10, 25, 100]),
    threshold=st.sampled_from([None, 900.0]),
    dnu=st.booleans(),
    columns=st.sampled_from([None, (2, 5)]),
)
def test_the_kernel_follows_the_naive_rule(apply, describe, seed, frames, length, threshold, dnu, columns):
    rng = np.random.default_rng(seed)
    shape = (*frames, 4, 7)
    gdq = (rng.random(shape) < 0.15).astype(np.uint8) * np.uint8(SATURATED)
    data = np.where(rng.random(shape) < 0.05, np.nan, rng.uniform(0, 1000, shape)).astype(np.float32)
    params = {"skip": False, "persistence_time": length, "dn_threshold": threshold, "persistence_dnu": dnu}
    found = apply(STEP, data, params=params, gdq=gdq, columns=columns, **FACTS)
    times = T0 + np.arange(frames[0])[:, None] * 61.0 + (np.arange(frames[1]) + 1) * 10.0
    limit = np.inf if threshold is None else threshold
    bits = PERSISTENCE | DO_NOT_USE if dnu else PERSISTENCE
    flags, left = naive(gdq, data, np.zeros(shape[2:]), times, length, limit, bits)
    part = slice(*(columns or (0, 7)))
    np.testing.assert_array_equal(found.gdq, flags[..., part])
    windows = persistence.windows_left(found.shared)
    inside = np.zeros(shape[2:])
    inside[:, part] = left[:, part]
    np.testing.assert_array_equal(windows.frame(describe(data, **FACTS)), inside)
