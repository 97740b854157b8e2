"""The window's arithmetic of rows, and the defaults of the step record."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.core.plan import BoundStep
from upramp.stages.core.step import Bound, Station, Step, Window, everything, never


def window(rows=10, columns=6, **facts):
    shape = (rows, 1, 1, columns)
    return Window(np.zeros(shape, "f4"), np.zeros(shape, "u1"), np.zeros((rows, columns), "u4"), **facts)


def test_rows_are_counted_from_the_first_in_the_window():
    w = window(y0=100)
    assert w.rows(103, 107) == slice(3, 7)


def test_halo_ends_where_rows_end():
    w = window(y0=20, top=20, bottom=30)
    assert w.haloed(24, 26, 2) == (slice(2, 8), 2)
    assert w.haloed(20, 22, 2) == (slice(0, 4), 0)
    assert w.haloed(21, 22, 3) == (slice(0, 5), 1)
    assert w.haloed(28, 30, 2) == (slice(6, 10), 2)
    assert w.haloed(24, 26, 0) == (slice(4, 6), 0)


@settings(deadline=None)
@given(
    y0=st.integers(0, 9),
    top=st.integers(0, 9),
    bottom=st.integers(10, 20),
    lo=st.integers(0, 19),
    n=st.integers(1, 9),
    halo=st.integers(0, 5),
)
def test_halo_holds_exactly_the_neighbours_that_exist(y0, top, bottom, lo, n, halo):
    lo = min(max(lo, top), bottom - 1)
    hi = min(lo + n, bottom)
    w = window(y0=y0, top=top, bottom=bottom)
    near, at = w.haloed(lo, hi, halo)
    held = range(near.start + y0, near.stop + y0)
    assert list(held) == [y for y in range(lo - halo, hi + halo) if top <= y < bottom]
    assert held[at] == lo


def test_core_is_relative_to_rows_asked_for_and_to_the_window():
    w = window(y0=4, x0=50, core_rows=(6, 9), core_columns=(52, 55))
    assert w.core(4, 12) == (2, 5, 2, 5)
    assert w.core(7, 8) == (0, 1, 2, 5)
    r0, r1, *_ = w.core(9, 12)
    assert r0 == r1


@settings(deadline=None)
@given(lo=st.integers(0, 9), n=st.integers(0, 9), first=st.integers(0, 9), size=st.integers(0, 9))
def test_core_selects_the_overlap(lo, n, first, size):
    w = window(core_rows=(first, first + size), core_columns=(0, 6))
    r0, r1, _, _ = w.core(lo, lo + n)
    assert set(range(lo + r0, lo + r1)) == set(range(lo, lo + n)) & set(range(first, first + size))


def test_windows_do_not_share_what_they_gather():
    one, other = window(), window()
    one.counters["a"] += 1
    one.planes["p"] = one.gdq
    one.outputs["o"] = one.data
    assert (other.counters, other.planes, other.outputs) == ({}, {}, {})


def test_defaults():
    assert never(None, None) is None
    assert list(everything(None)) == []
    station = Station(lambda w, lo, hi: None)
    assert (station.halo, dict(station.planes)) == (0, {})
    bound = Bound([station])
    assert bound.survey is None
    assert BoundStep("a", bound) == BoundStep("a", bound)
    step = Step("a", "S_A", dict, lambda c: bound)
    assert step.skip_if(None, None) is None
    assert (tuple(step.references), dict(step.prepare)) == ((), {})
