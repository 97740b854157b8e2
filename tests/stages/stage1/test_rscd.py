"""rscd: how many groups go, in which integration, and what early saturation changes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.core.errors import NotApplicable
from upramp.stages.stage1.rscd import STEP, Params, left_out

DNU, SATURATED, FLUX_ESTIMATED = 1, 2, 1 << 28
TYPES = [("subarray", "U12"), ("readpatt", "U9"), ("group_skip1", "i4"), ("group_skip", "i4")]


def table(rows):
    """The extensions of a reference with these rows."""
    return {"RSCD_GROUP_SKIP": np.array(rows, TYPES)}


@pytest.fixture
def made(describe, reference):
    """Prepared references for an exposure."""

    def make(rows, **facts):
        meta = describe(np.zeros((1, 9, 2, 2)), subarray="FULL", readpatt="FASTR1", **facts)
        return STEP.prepare["rscd"](reference("rscd", table(rows)), meta, Params())

    return make


def test_the_row_of_this_subarray_and_read_pattern(made):
    rows = [("FULL", "SLOWR1", 7, 8), ("SUB64", "FASTR1", 5, 6), ("FULL", "FASTR1", 1, 3)]
    assert made(rows).info == {"first": 1, "later": 3}
    with pytest.raises(NotApplicable, match="no row for FULL in FASTR1"):
        made(rows[:2])


@pytest.mark.parametrize(
    ("tabled", "ngroups", "expected"),
    [(4, 10, 4), (4, 7, 4), (4, 6, 3), (4, 5, 1), (4, 4, 1), (4, 3, 0), (0, 10, 0), (0, 5, 1), (9, 8, 5)],
)
def test_at_least_three_groups_are_left_and_one_goes_of_five(tabled, ngroups, expected):
    assert left_out(tabled, ngroups) == expected


def flagged(through, gdq, rows, **facts):
    facts = {"subarray": "FULL", "readpatt": "FASTR1", **facts}
    return through([(STEP, {})], np.zeros(gdq.shape), {"rscd": table(rows)}, gdq=gdq, **facts)


def naive(gdq, first, later, int_start):
    """All rules, pixel by pixel."""
    out, pdq = gdq.copy(), np.zeros(gdq.shape[-2:], np.uint32)
    nints, ngroups, ny, nx = gdq.shape
    for i, y, x in np.ndindex(nints, ny, nx):
        n = left_out(first if int_start + i == 1 else later, ngroups)
        full = np.flatnonzero(gdq[i, :, y, x] & SATURATED)
        if n and full.size and 0 < full[0] < n + 2:
            n = max(full[0] - 2, 0)
            pdq[y, x] |= FLUX_ESTIMATED
        out[i, :n, y, x] |= DNU
    return out, pdq


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 31),
    frames=st.tuples(st.integers(1, 3), st.integers(3, 12)),
    skips=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    int_start=st.sampled_from([1, 4]),
)
def test_against_the_naive_rules(through, seed, frames, skips, int_start):
    rng = np.random.default_rng(seed)
    nints, ngroups = frames
    begin = rng.integers(0, 2 * ngroups, (nints, 1, 5, 4))
    gdq = np.where(np.arange(ngroups)[:, None, None] >= begin, SATURATED, 0).astype(np.uint8)
    out = flagged(through, gdq, [("FULL", "FASTR1", *skips)], int_start=int_start)
    expected, pdq = naive(gdq, *skips, int_start)
    assert np.array_equal(out.gdq, expected)
    assert np.array_equal(out.pdq, pdq)


def test_the_header_tells_what_was_left_out_and_where_not(through):
    gdq = np.zeros((3, 10, 2, 2), np.uint8)
    gdq[1:, 3:, 0, 0] = SATURATED  # one pixel, in two integrations: 4 groups become 1
    gdq[2, 1:, 1, 1] = SATURATED  # none is flagged
    out = flagged(through, gdq, [("FULL", "FASTR1", 2, 4)])
    assert out.gdq[:, :, 0, 0].tolist() == [[1, 1] + [0] * 8, *[[1, 0, 0] + [2] * 7] * 2]
    assert out.shared["header"] == {"INT1SKIP": 2, "INT2SKIP": 4}
    counted = out.shared["counted"]
    numbers = {key: out.report.counters[name] for key, name in counted.items()}
    assert numbers == {"INT1UGP1": 0, "INT1BORS": 0, "INT2UGP1": 1, "INT2BORS": 2}
    assert out.shared["ends"].tolist() == [[2, 10], [4, 10], [4, 10]]


def test_not_with_two_groups():
    assert STEP.skip_if(SimpleNamespace(ngroups=2), Params()) is not None
    assert STEP.skip_if(SimpleNamespace(ngroups=3), Params()) is None
