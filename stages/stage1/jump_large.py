"""Large events of the jump step: what is done on whole frames once all single jumps are found.

First snowballs (`expand_large_events`), then showers (`find_showers`), each if its parameter asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from upramp.stages.core.frames import Crew, Ramps
from upramp.stages.core.step import Context
from upramp.stages.stage1 import jump_showers, jump_snowballs

Search = Callable[[Context, Ramps, Crew], int]
"""Changes the flags of ramps that were put down, DN; how many events it found."""

SEARCHES: Mapping[str, tuple[str, Search]] = {
    "expand_large_events": ("jump.snowballs", jump_snowballs.search),
    "find_showers": ("jump.showers", jump_showers.search),
}
"""In the order of work: parameter that asks for it -> counter of events, what is done."""


EXTENDED = "jump.extended"
"""Counter of what EXTNCRS tells of: the events of the last search, as with the observatory's package."""


def frames(context: Context) -> Callable[[Ramps, Crew], None] | None:
    """The work on frames that the parameters ask for; None if they ask for none."""
    asked = [search for name, search in SEARCHES.items() if getattr(context.params, name)]
    return partial(_work, context, asked) if asked else None


def _work(context: Context, asked: list[tuple[str, Search]], ramps: Ramps, crew: Crew) -> None:
    for counter, search in asked:
        found = search(context, ramps, crew)
        crew.counters[counter] += found
        crew.counters[EXTENDED] = found
