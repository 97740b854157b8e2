"""What rules are made of: conditions on the facts of an exposure.

A condition looks at one exposure alone. It says whether the exposure may take part, and which values it
must share with all other members: its part of the *key*. Exposures of one rule with the same key belong
together, so that grouping is looking up in a table, whatever the number of exposures. A value that an
exposure lacks and need not have is None in the key; `group.gather` lets it stand for any.

Conditions also tell what they asked for and found, in the words of the observatory's association files.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from upramp.stages.associations.pool import Candidate, Exposure

Key = tuple[str | None, ...]

_ATTRIBUTE = "DMSAttrConstraint"


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


@dataclass(frozen=True, slots=True)
class Same:
    """All members have the same value.

    Attributes
    ----------
    name : str
        What the value is called in the association file; empty: it is not told.
    sources : tuple of str
        Facts that may hold it; the first that has a value counts.
    among : str
        A regular expression that the whole value must match; empty: any value.
    required : bool
        Whether an exposure without a value is left out.
    shared : bool
        False: the value is asked for, yet members may differ in it.
    of_science : bool
        Only science must have it: what serves otherwise (a PSF star has a target of its own) joins any.
    label : str
        The kind of condition, in the association file.
    """

    name: str
    sources: tuple[str, ...]
    among: str = ""
    required: bool = True
    shared: bool = True
    of_science: bool = False
    label: str = _ATTRIBUTE

    def found(self, exposure: Exposure) -> tuple[str, str] | None:
        """The fact that has a value, and the value."""
        if self.of_science and exposure.kind != "science":
            return None
        for source in self.sources:
            if (value := exposure.get(source)) is not None:
                return source, value
        return None

    def key(self, exposure: Exposure) -> Key | None:
        """Its part of the key; None if the exposure is left out."""
        found = self.found(exposure)
        if found is None:
            missing: Key | None = (None,) if self.shared else ()
            left_out = self.required and not (self.of_science and exposure.kind != "science")
            return None if left_out else missing
        if self.among and _pattern(self.among).fullmatch(found[1]) is None:
            return None
        return (found[1],) if self.shared else ()

    def values(self, exposure: Exposure) -> list[tuple[str, str]]:
        """Its name and the value that was found."""
        found = self.found(exposure)
        return [] if found is None else [(self.name, found[1])]

    def told(self, exposure: Exposure | None) -> list[str]:
        """Its line in the association file; None: as it stands before any exposure was looked at."""
        if not self.name:
            return []
        found = None if exposure is None else self.found(exposure)
        sources = self.sources if found is None else found[:1]
        value: str | list[str] | None = self.among or None
        if not self.shared:
            value = [self.among]
        elif found is not None:
            value = re.escape(found[1])
        return [shown(self.label, self.name, value, sources)]


@dataclass(frozen=True, slots=True)
class Never:
    """No member has such a value; ``among`` as in `Same`."""

    name: str
    sources: tuple[str, ...]
    among: str = ""

    def key(self, exposure: Exposure) -> Key | None:
        """Empty; None if the exposure is left out."""
        same = Same("", self.sources, self.among, shared=False)
        return () if same.key(exposure) is None else None

    def values(self, exposure: Exposure) -> list[tuple[str, str]]:
        """Nothing."""
        return []

    def told(self, exposure: Exposure | None) -> list[str]:
        """Its line in the association file."""
        return [shown(_ATTRIBUTE, self.name, self.among or None, self.sources)] if self.name else []


@dataclass(frozen=True, slots=True)
class Check:
    """A question that only code can ask; it is not told in the association file."""

    passes: Callable[[Exposure], bool]

    def key(self, exposure: Exposure) -> Key | None:
        """Empty; None if the exposure is left out."""
        return () if self.passes(exposure) else None

    def values(self, exposure: Exposure) -> list[tuple[str, str]]:
        """Nothing."""
        return []

    def told(self, exposure: Exposure | None) -> list[str]:
        """Nothing."""
        return []


@dataclass(frozen=True, slots=True)
class Told:
    """A line of the association file that asks for nothing of its own."""

    line: str

    def key(self, exposure: Exposure) -> Key | None:
        """Empty: every exposure may take part."""
        return ()

    def values(self, exposure: Exposure) -> list[tuple[str, str]]:
        """Nothing."""
        return []

    def told(self, exposure: Exposure | None) -> list[str]:
        """The line."""
        return [self.line]


@dataclass(frozen=True, slots=True)
class Fixed:
    """A value that is given to all members, whatever they have."""

    name: str
    value: str

    def key(self, exposure: Exposure) -> Key | None:
        """The value."""
        return (self.value,)

    def values(self, exposure: Exposure) -> list[tuple[str, str]]:
        """Its name and the value."""
        return [(self.name, self.value)]

    def told(self, exposure: Exposure | None) -> list[str]:
        """Its line in the association file."""
        return [shown("SimpleConstraint", self.name, None if exposure is None else self.value)]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The first of several ways that suits; members share the way, and what it asks for."""

    ways: tuple[tuple[Condition, ...], ...]

    def key(self, exposure: Exposure) -> Key | None:
        """The number of the way and its key; None if no way suits."""
        for number, way in enumerate(self.ways):
            if (key := joint_key(way, exposure)) is not None:
                return (str(number), *key)
        return None

    def values(self, exposure: Exposure) -> list[tuple[str, str]]:
        """What was found in the way that suits."""
        for way in self.ways:
            if joint_key(way, exposure) is not None:
                return [value for condition in way for value in condition.values(exposure)]
        return []

    def told(self, exposure: Exposure | None) -> list[str]:
        """The lines of all ways; what was found is told of the way that suits."""
        lines: list[str] = []
        done = exposure is None
        for way in self.ways:
            suits = not done and exposure is not None and joint_key(way, exposure) is not None
            for condition in way:
                lines += condition.told(exposure if suits else None)
            done = done or suits
        return lines


Condition = Same | Never | Check | Told | Fixed | AnyOf


def joint_key(conditions: tuple[Condition, ...], exposure: Exposure) -> Key | None:
    """The keys of all conditions in a row; None if any leaves the exposure out."""
    parts: list[str | None] = []
    for condition in conditions:
        key = condition.key(exposure)
        if key is None:
            return None
        parts += key
    return tuple(parts)


def joint_told(conditions: tuple[Condition, ...], exposure: Exposure) -> list[str]:
    """The lines of all conditions."""
    return [line for condition in conditions for line in condition.told(exposure)]


def shown(
    label: str, name: str, value: str | list[str] | None, sources: tuple[str, ...] | None = None
) -> str:
    """A condition in the words of the observatory's association files."""
    told = "" if sources is None else f"'sources': {list(sources)}, "
    return f"{label}({{'name': {name!r}, {told}'value': {value!r}}})"


def candidate_line(candidate: Candidate) -> str:
    """That the members are of one candidate."""
    return shown(_ATTRIBUTE, "asn_candidate", re.escape(str(candidate)), ("asn_candidate",))
