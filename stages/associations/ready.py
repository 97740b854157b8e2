"""Whether all members of an association are in, from what the headers of those that are announce.

The headers of an exposure tell of others:

- it is one of a pattern of NUMDTHPT exposures of its activity, so those can be named;
- its visit has NEXPOSUR exposures, of which it is number EXPCOUNT + EXPOSURE - 1 (EXPCOUNT is the number of
  the first of its activity, as flight headers show), so it is known how many were not heard of;
- its detector is one of those that the mode reads together.

How many visits an observation has, and so how many tiles a mosaic, no header tells: an association is
complete when every visit that was heard of is. What comes later makes a new one. Where something announced
never comes, quiet time decides. All is a function of sets: order and repetition of arrivals do not matter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from upramp.stages.associations.conditions import Same
from upramp.stages.associations.names import exposure_name
from upramp.stages.associations.pool import Exposure
from upramp.stages.associations.record import Association
from upramp.stages.associations.rules import RULES

WAITING, COMPLETE, EXPLICIT, QUIET, FAILED = "waiting", "complete", "explicit", "quiet", "failed"

_PATTERNED = ("science", "background", "psf")
_FOUR = ("1", "2", "3", "4")
_ALL_SHORT = frozenset({"full", "sub160", "sub320", "sub640"})
"""NIRCam subarrays that are read on all four short-wavelength detectors of a module."""

_SEGMENT = re.compile(r"-seg\d{3}(?=_)")

Visit = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Readiness:
    """What is in and what is not; names are those of exposures, without ending.

    Attributes
    ----------
    state : str
        ``waiting``; ``complete``: all that was announced is in; ``explicit``: all that a file lists is in;
        ``quiet``: some is missing, but nothing came for the quiet time; ``failed``: no science is left.
    present, pending, failed, missing : tuple of str
        Usable; being calibrated; failed for good; announced or heard of, but neither there nor at work.
    unheard : tuple of (str, int)
        Visits with the number of their exposures that were not heard of and cannot be named.
    """

    state: str
    present: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unheard: tuple[tuple[str, int], ...] = ()

    @property
    def ready(self) -> bool:
        """Whether the association may be calibrated."""
        return self.state in (COMPLETE, EXPLICIT, QUIET)

    @property
    def facts(self) -> str:
        """What is in and what is not, in words."""
        parts = [f"{len(self.present)} {'member' if len(self.present) == 1 else 'members'} in"]
        for what, names in (
            ("being calibrated", self.pending),
            ("failed", self.failed),
            ("missing", self.missing),
        ):
            if names:
                some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
                parts.append(f"{len(names)} {what} ({some})")
        parts += [f"visit {visit}: {count} exposures not heard of" for visit, count in self.unheard]
        return "; ".join(parts)

    @property
    def reason(self) -> str:
        """The state in a sentence."""
        return f"{self.state}: {self.facts}"


@dataclass(frozen=True, slots=True)
class Announced:
    """What headers announce beyond what was heard of; `announced` makes it.

    Attributes
    ----------
    heard : frozenset of str
        Names of the exposures that were heard of.
    names : frozenset of str
        Those that were announced and not heard of.
    visits : tuple of (Visit, int)
        Visits of the members with the number of their exposures that were not heard of, named or not.
    """

    heard: frozenset[str]
    names: frozenset[str] = frozenset()
    visits: tuple[tuple[Visit, int], ...] = ()


def announced(association: Association, heard: Iterable[Exposure]) -> Announced:
    """What the headers of an association's members announce, ``heard`` being all that are known."""
    known = {exposure_name(exposure.file): exposure for exposure in heard}
    roles = {exposure_name(m.expname): m.exptype for m in association.members}
    patterned = _patterned(association, known, roles)
    heard_of = {_SEGMENT.sub("", name) for name in known}
    named = (n for names in _activities(patterned, _of_one_detector(association)) for n in names)
    names = frozenset(name for name in named if name not in heard_of)
    return Announced(frozenset(known), names, tuple(_not_heard(patterned, known)))


def readiness(
    association: Association,
    heard: Iterable[Exposure] | Announced,
    *,
    done: Collection[str] | None = None,
    failed: Collection[str] = (),
    at_work: Collection[str] | None = None,
    listed: bool = False,
    idle_s: float = 0.0,
    quiet_s: float = math.inf,
) -> Readiness:
    """The state of an association.

    Parameters
    ----------
    association : Association
        As it is now, of the exposures that were heard of; or as a file lists it.
    heard : iterable of Exposure, or Announced
        All whose headers are known, members or not, in any order; or what they announce, if that was found
        out before.
    done, failed : collection of str
        Names of exposures (without ending) whose product for this association stands, and of those that
        failed for good. None: all that were heard of are done.
    at_work : collection of str or None
        Names of exposures that are being calibrated, heard of or not; what else is not done is missing.
        None: all that were heard of and are not done.
    listed : bool
        Whether the association was read from a file, so that its members are all there are.
    idle_s, quiet_s : float
        Seconds since something last arrived for it, and after how many that is taken for the end.
    """
    told = heard if isinstance(heard, Announced) else announced(association, heard)
    roles = {exposure_name(m.expname): m.exptype for m in association.members}
    finished = told.heard if done is None else done
    bad = {name for name in roles if name in failed}
    present = {name for name in roles if name in finished} - bad
    rest = roles.keys() - bad - present
    unheard: tuple[tuple[str, int], ...] = ()
    out = set(rest)
    if not listed:
        unheard = _unheard(told, told.names.union(rest - told.heard, failed))
        bad |= {name for name in told.names if name in failed}
        out |= told.names - bad
    working = told.heard if at_work is None else at_work
    pending = {name for name in out if name in working}
    missing = out - pending
    found = (
        tuple(sorted(present)),
        tuple(sorted(pending)),
        tuple(sorted(bad)),
        tuple(sorted(missing)),
        unheard,
    )
    if not any(roles[name] == "science" for name in present | rest):
        return Readiness(FAILED, *found)
    if not (pending or missing or unheard):
        return Readiness(EXPLICIT if listed else COMPLETE, *found)
    usable = any(roles[name] == "science" for name in present)
    quiet = usable and not pending and idle_s >= quiet_s
    return Readiness(QUIET if quiet else WAITING, *found)


def _patterned(association: Association, known: dict[str, Exposure], roles: dict[str, str]) -> list[Exposure]:
    """The members whose activities may bring further ones. At level 2 the science exposure stands alone."""
    kinds = ("background",) if association.level == 2 else _PATTERNED
    return [known[name] for name, role in roles.items() if role in kinds and name in known]


def _of_one_detector(association: Association) -> bool:
    """Whether its rule keeps detectors apart."""
    name = association.asn_rule.partition("_")[2]
    conditions = (c for rule in RULES if rule.name == name for c in rule.conditions)
    return any(isinstance(c, Same) and c.name == "detector" for c in conditions)


def _activities(members: Sequence[Exposure], one_detector: bool) -> list[list[str]]:
    """By activity of the members: the names of all exposures that it announces."""
    numbers: dict[tuple[str, ...], list[int]] = {}
    points: dict[tuple[str, ...], int] = {}
    detectors: dict[Visit, dict[str, None]] = {}
    for exposure in members:
        visit, activity = _visit(exposure), _activity(exposure)
        numbers.setdefault(activity, []).append(_integer(exposure, "exposure"))
        points[activity] = max(points.get(activity, 1), _integer(exposure, "numdthpt"))
        read = (exposure.facts.get("detector", ""),) if one_detector else _detectors(exposure)
        detectors.setdefault(visit, {}).update(dict.fromkeys(read))
    announced = []
    for activity, seen in numbers.items():
        if min(seen) < 1 or any(word == "" for word in activity):
            continue
        # several exposures at every point of the pattern show by their numbers
        count = points[activity] * math.ceil(max(seen) / points[activity])
        names = detectors[activity[:4]]
        announced.append([_name(activity, n, d) for n in range(1, count + 1) for d in names])
    return announced


def _not_heard(members: Sequence[Exposure], known: dict[str, Exposure]) -> Iterator[tuple[Visit, int]]:
    """Visits of the members, with the number of their exposures that were not heard of."""
    visits = dict.fromkeys(_visit(exposure) for exposure in members)
    places: dict[Visit, dict[int, set[tuple[str, int]]]] = {visit: {} for visit in visits}
    totals = dict.fromkeys(visits, 0)
    for exposure in known.values():
        visit, ordinal = _visit(exposure), _ordinal(exposure)
        if visit in places and ordinal:
            place = _activity(exposure)[-1], _integer(exposure, "exposure")
            places[visit].setdefault(ordinal, set()).add(place)
            totals[visit] = max(totals[visit], _integer(exposure, "nexposur"))
    for visit, heard in places.items():
        # counts that contradict each other say nothing
        if heard and max(heard) <= totals[visit] and all(len(at) == 1 for at in heard.values()):
            yield visit, totals[visit] - len(heard)


def _unheard(told: Announced, named: Collection[str]) -> tuple[tuple[str, int], ...]:
    """Visits with exposures that were neither heard of nor are among those named."""
    sequences: dict[str, list[str]] = {}
    for exposure in {_exposure(name) for name in named} - {_exposure(name) for name in told.heard}:
        start, _, activity = exposure.partition("_")
        sequences.setdefault(start, []).append(activity[2:])
    found = []
    for visit, count in told.visits:
        name = _name_of_visit(visit)
        others = sum(sequence.startswith(visit[3]) for sequence in sequences.get(f"jw{name}", ()))
        if count > others:
            found.append((name, count - others))
    return tuple(sorted(found))


def _exposure(name: str) -> str:
    """What the names of an exposure have in common, whatever the detector."""
    return name.rpartition("_")[0]


def _detectors(exposure: Exposure) -> tuple[str, ...]:
    """The detectors that are read at the same time through the same optics."""
    own = exposure.facts.get("detector", "")
    subarray, exp_type = exposure.facts.get("subarray"), exposure.facts.get("exp_type")
    if exp_type == "nrc_image" and own.startswith("nrc"):
        both = (exposure.get("pps_aper") or "").startswith("nrcall") and subarray == "full"
        modules = ("a", "b") if both else (own[3:4],)
        if own.endswith("long"):
            return tuple(f"nrc{module}long" for module in modules)
        if subarray in _ALL_SHORT:
            return tuple(f"nrc{module}{n}" for module in modules for n in _FOUR)
    if own in ("nrs1", "nrs2") and subarray == "full":
        return ("nrs1", "nrs2")
    return (own,)


def _visit(exposure: Exposure) -> Visit:
    """Program, observation, visit and parallel sequence."""
    return (
        (exposure.get("program") or "").zfill(5),
        (exposure.get("obs_num") or "").zfill(3),
        (exposure.get("visit") or "").zfill(3),
        exposure.get("seq_id") or "",
    )


def _activity(exposure: Exposure) -> tuple[str, ...]:
    """The visit, and in it the group and the activity."""
    group, activity = exposure.get("visitgrp") or "", exposure.get("act_id") or ""
    return (*_visit(exposure), group and group.zfill(2), activity and activity.zfill(2))


def _ordinal(exposure: Exposure) -> int:
    """The number of the exposure in its visit; 0 if that is not told."""
    first, number = _integer(exposure, "expcount"), _integer(exposure, "exposure")
    return first + number - 1 if first > 0 and number > 0 else 0


def _integer(exposure: Exposure, name: str) -> int:
    text = exposure.get(name) or ""
    return int(text) if text.isdecimal() else 0


def _name(activity: tuple[str, ...], number: int, detector: str) -> str:
    """The name of an exposure, as the archive forms it."""
    sequence, group, act = activity[3:]
    return f"jw{_name_of_visit(activity)}_{group}{sequence}{act}_{number:05d}_{detector}"


def _name_of_visit(visit: tuple[str, ...]) -> str:
    return "".join(visit[:3])
