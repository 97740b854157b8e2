"""Which steps share a pass over the ramps.

Pure: the planner sees the bound steps and nothing else. All steps of a pass run on the same
rolling window of rows. Before a step with a survey (reference pixels) the tiles it wants
are sent through the steps before it. After a step that needs whole frames, and before one that needs
to know what became of all rows, the ramps are put down, and a new pass begins. ``cuts`` puts the ramps down
between two steps, which changes nothing in the numbers: the tests cut at random and expect the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from upramp.stages.core.frames import Crew, Ramps
from upramp.stages.core.step import Bound, Station, Survey


@dataclass(frozen=True)
class BoundStep:
    """A step that will run, by name."""

    name: str
    bound: Bound


@dataclass(frozen=True)
class Pass:
    """One pass over the ramps: its steps, from the source to the sink."""

    steps: tuple[BoundStep, ...]

    @property
    def surveys(self) -> list[tuple[int, Survey]]:
        """Position and survey of each step that wants to look ahead, as often as it wants to."""
        found: list[tuple[int, Survey]] = []
        for k, s in enumerate(self.steps):
            looks = s.bound.survey
            if isinstance(looks, Sequence):
                found += [(k, one) for one in looks]
            elif looks is not None:
                found.append((k, looks))
        return found

    @property
    def frames(self) -> Callable[[Ramps, Crew], None] | None:
        """What is done with whole frames at the end of the pass."""
        return self.steps[-1].bound.frames

    @property
    def changes(self) -> bool:
        """Whether rows must be sent through anything at all."""
        return any(s.bound.stations or s.bound.survey for s in self.steps)

    def stations(self, end: int | None = None) -> list[tuple[str, Station]]:
        """All stations of the first ``end`` steps, with their step's name, in order."""
        return [(s.name, station) for s in self.steps[:end] for station in s.bound.stations]


def plan(steps: Sequence[BoundStep], cuts: Iterable[int] = ()) -> list[Pass]:
    """Cut the steps into passes.

    Parameters
    ----------
    steps : sequence of BoundStep
        In the order of the pipeline.
    cuts : iterable of int
        Further positions before which the ramps are put down; none by default, so that all steps up to one
        that needs whole frames share a pass. Products are not put down: there is no cut after the first
        step that makes some.

    Raises
    ------
    ValueError
        If a step that makes products stands before one that needs whole frames.
    """
    last = next((k for k, s in enumerate(steps) if s.bound.outputs), len(steps) - 1)
    needed = {k + 1 for k, s in enumerate(steps) if s.bound.frames is not None}
    if any(k > last + 1 or (k == last + 1 and steps[last].bound.outputs) for k in needed):
        raise ValueError("no step can look at whole frames after the first one that makes products")
    apart = {k for k, s in enumerate(steps) if s.bound.apart}
    inside = {c for c in {*cuts} | needed | apart if 0 < c <= last}
    edges = [0, *sorted(inside), len(steps)]
    return [Pass(tuple(steps[a:b])) for a, b in pairwise(edges)]


def margin(stations: Sequence[tuple[str, Station]]) -> int:
    """How many rows or columns beyond a block its stations need to see."""
    return sum(station.halo for _, station in stations)
