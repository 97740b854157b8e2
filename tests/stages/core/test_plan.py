"""The planner: cuts make passes, surveys and stations are found in order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.core.plan import BoundStep, margin, plan
from upramp.stages.core.step import Bound, Station


def station(halo=0):
    return Station(lambda w, lo, hi: None, halo)


def steps(*halos):
    return [BoundStep(f"s{k}", Bound([station(h) for h in hs])) for k, hs in enumerate(halos)]


@settings(deadline=None)
@given(n=st.integers(1, 8), cuts=st.lists(st.integers(-3, 11)))
def test_passes_hold_all_steps_once_and_in_order(n, cuts):
    chain = steps(*[[0]] * n)
    passes = plan(chain, cuts)
    assert [s for one in passes for s in one.steps] == chain
    assert all(one.steps for one in passes)
    starts = [sum(len(p.steps) for p in passes[:k]) for k in range(1, len(passes))]
    assert starts == sorted({c for c in cuts if 0 < c < n})


def test_one_pass_without_cuts():
    assert len(plan(steps([0], [1], [2]))) == 1


def test_stations_carry_the_names_of_their_steps():
    (one,) = plan(steps([0, 1], [], [2]))
    assert [(name, s.halo) for name, s in one.stations()] == [("s0", 0), ("s0", 1), ("s2", 2)]
    assert [s.halo for _, s in one.stations(1)] == [0, 1]
    assert one.stations(0) == []


def test_margin_is_the_sum_of_the_halos():
    (one,) = plan(steps([0, 1], [3], [2]))
    assert margin(one.stations()) == 6
    assert margin(one.stations(2)) == 4
    assert margin([]) == 0


def test_surveys_with_their_positions():
    looks = [object(), object()]
    chain = steps([0], [0])
    chain.insert(1, BoundStep("a", Bound([station()], survey=looks[0])))
    chain.append(BoundStep("b", Bound([station()], survey=looks[1])))
    (one,) = plan(chain)
    assert one.surveys == [(1, looks[0]), (3, looks[1])]
    first, second = plan(chain, [2])
    assert first.surveys == [(1, looks[0])]
    assert second.surveys == [(1, looks[1])]


def test_a_step_may_look_several_times():
    looks = [object(), object(), object()]
    chain = steps([0], [0])
    chain.insert(1, BoundStep("a", Bound([station()], survey=looks[:2])))
    chain.append(BoundStep("b", Bound([], survey=looks[2])))
    (one,) = plan(chain)
    assert one.surveys == [(1, looks[0]), (1, looks[1]), (3, looks[2])]
    assert plan(chain, [3])[1].changes
    assert not plan([BoundStep("c", Bound([]))])[0].changes


def test_no_cut_parts_products_from_their_sink():
    chain = steps([0], [0], [0], [0])
    chain[1] = BoundStep("made", Bound([station()], outputs={"rate.sci": ("exposure", "f4")}))
    assert [len(one.steps) for one in plan(chain, [1, 2, 3])] == [1, 3]
    assert [len(one.steps) for one in plan(chain[1:], [1, 2])] == [3]


def test_a_step_that_must_know_of_all_rows_begins_a_pass():
    chain = steps([0], [0])
    chain.append(BoundStep("apart", Bound([station()], outputs={"a": ("exposure", "f4")}, apart=True)))
    assert [[s.name for s in one.steps] for one in plan(chain)] == [["s0", "s1"], ["apart"]]
    assert len(plan(chain[2:])) == 1
