"""The rows of the fidelity table: exposures that make a step really act, and how closely both packages agree.

Each family of steps has a file ``rows_<family>.py`` beside this one with a tuple ``ROWS``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from peerkit.cases import Steps, assignments
from peerkit.scenes import Input


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    name : str
        Short and unique, of letters, digits and underscores.
    what : str
        What is compared, for the reader of the table: instrument, mode, option.
    step : str
        The step whose action is counted: pixels of the rate (SCI or DQ) that change when it is skipped.
    make : callable
        ``make(folder)`` writes the uncal file and a CRDS cache; the same bytes every time.
    steps : mapping
        Parameters for both packages that differ from the defaults. A text that begins with "@" stands for a
        file beside the exposure (see `at`).
    idle : mapping
        Parameters instead of ``steps`` under which the step does not act; by default, it is skipped.
    level : float
        Share of pixels that must agree.
    pipeline : str
        "detector1" or "dark", of the peer.
    products : tuple of str
        Suffixes of the products that are compared.
    long : bool
        Not among the rows that each change is tested with (``make peer``); `make fidelity` has them all.
    differs : str
        Why it is known not to agree; the evidence is in docs/fidelity.md.
    headers : frozenset of str
        Keywords known to differ.
    """

    name: str
    what: str
    step: str
    make: Callable[[Path], Input]
    steps: Steps = field(default_factory=dict)
    idle: Steps | None = None
    level: float = 0.9995
    pipeline: str = "detector1"
    products: tuple[str, ...] = ("rate", "rateints")
    long: bool = True
    differs: str = ""
    headers: frozenset[str] = frozenset()

    def at(self, source: Input) -> Row:
        """The row with the files of an exposure that was drawn for it."""

        def placed(values: Steps) -> dict[str, dict[str, Any]]:
            return {
                step: {
                    key: str(source.uncal.parent / value[1:]) if str(value).startswith("@") else value
                    for key, value in own.items()
                }
                for step, own in values.items()
            }

        return replace(self, steps=placed(self.steps), idle=None if self.idle is None else placed(self.idle))

    @property
    def assignments(self) -> list[str]:
        """The parameters as words for ``--set``."""
        return assignments(self.steps)

    @property
    def idle_assignments(self) -> list[str]:
        """The same, under which the step does not act."""
        return assignments(self.without)

    @property
    def without(self) -> Steps:
        """Parameters under which the step does not act."""
        if self.idle is not None:
            return self.idle
        own: Mapping[str, object] = {**self.steps.get(self.step, {}), "skip": True}
        return {**self.steps, self.step: own}


def rows() -> list[Row]:
    """All rows, family by family.

    Raises
    ------
    ValueError
        If two rows have the same name.
    """
    found: list[Row] = []
    for path in sorted(Path(__file__).parent.glob("rows_*.py")):
        found += importlib.import_module(f"peerkit.{path.stem}").ROWS
    names = [row.name for row in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"rows with the same name: {', '.join(twice)}")
    return found
