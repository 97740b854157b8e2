"""Which files of a table count, and which are merged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from upramp.store import parts
from upramp.store.parts import Part

ranges = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda p: Part(min(p), max(p)))


@given(st.sets(ranges, max_size=12))
def test_parts_that_count_hide_exactly_those_within(listed: set[Part]) -> None:
    seen, hidden = parts.visible(listed)
    assert {*seen, *hidden} == listed and len(seen) + len(hidden) == len(listed)
    assert seen == sorted(seen)
    for part in listed:
        assert (part in hidden) == any(part.within(other) for other in listed)


def test_which_parts_are_due() -> None:
    singles = [Part(i, i) for i in range(9)]
    assert parts.due(singles[:2], 3) == []
    assert parts.due(singles[:3], 3) == singles[:3]
    tail = [Part(0, 2), Part(3, 5), Part(6, 6), Part(7, 7)]
    assert parts.due(tail, 3) == []
    assert parts.due([*tail, Part(8, 8)], 3) == [Part(6, 6), Part(7, 7), Part(8, 8)]
    threes = [Part(0, 2), Part(3, 5), Part(6, 8)]
    assert parts.due([*threes, Part(9, 9)], 3) == [*threes, Part(9, 9)]
    assert parts.due([Part(0, 500), *singles[:2]], 3) == []
