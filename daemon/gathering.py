"""Exposures that belong together, as far as they are known: which are in, at work, failed or missing.

The memory of the trigger (`daemon.trigger`), built of the ledger and of what the desk has in hand; nothing is
decided here but what follows from these. An association is looked at only when something happened to one of
its group: the exposures of an observation, or of a program where observations are combined.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from upramp.daemon.config import Config
from upramp.stages.associations.group import Labels, associate
from upramp.stages.associations.names import exposure_name
from upramp.stages.associations.pool import NOTHING, Candidate, Exposure, exposure_from_header
from upramp.stages.associations.ready import WAITING, Announced, Readiness, announced, readiness
from upramp.stages.associations.record import Association
from upramp.stages.associations.rules import LEVEL3
from upramp.store.associations import KINDS
from upramp.store.headers import software

Row = Mapping[str, Any]

RULES = tuple(replace(r, acquisitions=False) for r in LEVEL3 if r.type == "image3" and r.integrations)
"""Those whose members stage 2 makes and a pipeline here takes; acquisitions have no part in its products."""

_EXPOSURE = re.compile(r"jw(\d{5})(\d{3})\d{3}_")
_PRODUCT = re.compile(r"jw(\d{5})-(?:o(\d{3})|a3001)_")


@dataclass(frozen=True)
class Case:
    """One association: where its file is or will be, what it holds, and whether somebody asked for it.

    ``heard``: the exposures of its group, as they were known when it was formed.
    """

    file: Path
    association: Association
    requested: bool = False
    group: str = ""
    heard: Sequence[Exposure] = ()

    @property
    def product(self) -> str:
        """What its products begin with."""
        return self.association.products[0].name

    @cached_property
    def members(self) -> dict[str, str]:
        """The members that are needed: name of the exposure -> name of the file."""
        return {exposure_name(m.expname): m.expname for m in self.needed.members}

    @cached_property
    def announced(self) -> Announced:
        """What those announce."""
        return announced(self.needed, self.heard)

    @cached_property
    def needed(self) -> Association:
        """The association with the members that are combined, or subtracted, and none beside."""
        [product] = self.association.products
        roles, _ = KINDS[self.association.asn_type]
        needed = [m for role in roles for m in product.of(role)]
        return replace(self.association, products=(replace(product, members=tuple(needed)),))

    @property
    def exposure(self) -> str:
        """Of level 2: the file of the exposure that is calibrated; else ""."""
        [product] = self.association.products
        return product.of("science")[0].expname if self.association.level == 2 else ""


@dataclass(frozen=True)
class Standing:
    """Where an association stands.

    ``marks``: of the members whose product stands, at work or not, what tells their content apart.
    ``unread``: files in hand whose headers may yet bring members.
    """

    found: Readiness
    marks: Mapping[str, str]
    unread: int = 0

    @property
    def outstanding(self) -> int:
        """How many things must happen at the least before all is in."""
        return len(self.found.pending) + len(self.found.missing) + self.unread

    def key(self, case: Case) -> str:
        """Fingerprint of the members that stand; of a request, of its text as well."""
        text = case.association.to_dict() if case.requested else case.product
        told = json.dumps([text, sorted(self.marks.items())])
        return hashlib.sha256(told.encode()).hexdigest()


class Gathering:
    """What is known of exposures and requests.

    Attributes
    ----------
    forms : bool
        Whether associations are formed of headers; requests count in any case.
    over : bool
        Nothing further comes: quiet time is over for all.
    settled : dict
        File -> fingerprint of the members with which it was handed on in this run.
    touched : dict
        Groups and requests that something happened to in this run, in order.
    alarms : dict
        Groups and requests that are looked at again by themselves -> when, by the desk's clock.
    quiet_from : float
        By the desk's clock: before, quiet time is over for nothing.
    given : set
        Association files that settled in this run.
    instead : dict
        Associations of level 2 -> the rates that are not calibrated alone because of them.
    patience : dict
        Group -> how many things may happen to it before it is worth a look.
    """

    def __init__(self, config: Config, state: Any) -> None:
        self.config = config.associations
        self.forms = config.run.until == "stage3" and self.config.enabled
        self.output = config.output.folder.absolute()
        self.folder = config.associations_folder.absolute()
        self.over = False
        self.settled: dict[str, str] = {}
        self.touched: dict[str | Path, None] = {}
        self.alarms: dict[str | Path, float] = {}
        self.quiet_from = 0.0
        self.patience: dict[str, int] = {}
        self.instead: dict[Path, Path] = {}
        self.given: set[Path] = set()
        self._exposures: dict[str, dict[str, Exposure]] = {}
        self._groups: dict[str, str] = {}
        self._alone: set[str] = set()  # exposures that no rule takes; they count among those of their visit
        self._formed: dict[str, list[Case]] = {}
        self._last: dict[str, list[Case]] = {}
        self._files: dict[str, dict[str, None]] = {}
        self._failed: dict[str, set[str]] = {}
        self._at_work: Counter[str] = Counter()
        self._taken: dict[Path, str] = {}
        self._unread: dict[str, set[str]] = {}
        self._requests: dict[Path, Case] = {}
        self._wanted: dict[str, dict[Path, None]] = {}
        self._asked: dict[str, dict[Path, None]] = {}
        if self.forms:
            for row in state.headers():
                self.hear(_from_facts(row["exposure"], row["facts"]))
            for row in state.associations():
                if not row["requested"]:
                    self._files.setdefault(self.group_of_product(row["product"]), {})[row["file"]] = None
        for row in state.segments("failed"):
            self.note(exposure_name(row["segment_id"]), state)

    # What happens to exposures

    def group(self, name: str) -> str:
        """The group of an exposure, by its header or else by its name; "" if neither tells."""
        if name in self._groups:
            return self._groups[name]
        match = _EXPOSURE.match(name)
        return "" if match is None else self._of(*match.groups())

    def _of(self, program: str, observation: str) -> str:
        return program if self.config.across_observations else program + observation

    @property
    def groups(self) -> list[str]:
        """All groups of which exposures were heard."""
        return list(self._exposures)

    def group_of_product(self, product: str) -> str:
        """The group that an association was formed of, by its product."""
        match = _PRODUCT.match(product)
        return "" if match is None else self._of(match[1], match[2] or "")

    def hear(self, exposure: Exposure) -> bool:
        """Take in what an exposure's header tells; whether that is news."""
        name = exposure_name(exposure.file)
        group = self._of(exposure.facts["program"].zfill(5), exposure.facts["obs_num"].zfill(3))
        before = self.group(name)
        if self._exposures.get(group, {}).get(name) == exposure:
            return False
        self._exposures.get(before, {}).pop(name, None)
        self._unread.get(before, set()).discard(name)
        self._groups[name] = group
        self._exposures.setdefault(group, {})[name] = exposure
        if any(rule.key(exposure) is not None for rule in RULES):
            self._alone.discard(name)
        else:
            self._alone.add(name)
        self._formed.pop(before, None)
        self._formed.pop(group, None)
        return True

    def take(self, path: Path) -> None:
        """A file is in hand; of an association of level 2, its exposure is."""
        request = self.request(path)
        name = self._taken[path] = exposure_name((request and request.exposure) or path.name)
        self._at_work[name] += 1
        if name not in self._groups and (group := self.group(name)):
            self._unread.setdefault(group, set()).add(name)

    def drop(self, path: Path) -> None:
        """A file is no longer in hand."""
        name = self._taken.pop(path)
        self._at_work[name] -= 1
        if self._at_work[name] <= 0:
            del self._at_work[name]
            self._unread.get(self.group(name), set()).discard(name)

    def note(self, name: str, state: Any) -> None:
        """See in the ledger whether an exposure failed."""
        rows = [state.segment(segment) for segment in (name, f"{name}_rate", f"{name}_rateints")]
        bad = [row["at"] for row in rows if row and row["state"] == "failed"]
        made = state.product(self.output / f"{name}_cal.fits")
        failed = self._failed.setdefault(self.group(name), set())
        if bad and (made is None or max(bad) > made["created"]):
            failed.add(name)
        else:
            failed.discard(name)

    # Associations

    def formed(self, group: str) -> list[Case]:
        """The associations of a group's exposures."""
        if group not in self._formed:
            known = dict(sorted(self._exposures.get(group, {}).items()))
            found = associate(
                [exposure for name, exposure in known.items() if name not in self._alone],
                discover=self.config.across_observations,
                labels=Labels(code_version=software()),
                rules=RULES,
            )
            # where rules differ in nothing but what they ask for, the later one counts
            heard = tuple(known.values())
            cases = {self.file(a): Case(self.file(a), a, False, group, heard) for a in found}
            self._formed[group] = self._last[group] = list(cases.values())
        return self._formed[group]

    def formed_before(self, group: str) -> list[Case]:
        """The associations as they were formed last; what was heard of since is not among them."""
        return self._last.get(group, [])

    def file(self, association: Association) -> Path:
        """Where the file of an association is written: named by its product, whatever came first."""
        return self.folder / file_name(association)

    def abandoned(self, group: str) -> list[str]:
        """Files of associations of a group that are formed no more."""
        files = self._files.setdefault(group, {})
        formed = {str(case.file): None for case in self.formed(group)}
        gone = [file for file in files if file not in formed]
        self._files[group] = formed
        return gone

    def ask(self, file: Path, association: Association) -> Case:
        """Somebody gives an association file."""
        self.forget(file)
        case = self._requests[file] = Case(file, association, requested=True)
        for name in case.members:
            self._wanted.setdefault(name, {})[file] = None
        self._asked.setdefault(case.product, {})[file] = None
        return case

    def forget(self, file: Path) -> None:
        """Nobody asks for it any more."""
        if (old := self._requests.pop(file, None)) is not None:
            for name in old.members:
                self._wanted[name].pop(file, None)
            self._asked[old.product].pop(file, None)

    def request(self, file: Path) -> Case | None:
        """The association that somebody gave in this file."""
        return self._requests.get(file)

    def rivals(self, case: Case) -> list[Case]:
        """The associations that somebody gave for the product, or of the members, of one that is formed."""
        some = self._wanted.get(next(iter(case.members)), {}).keys()
        found = [self._requests[file] for file in self._asked.get(case.product, {}).keys() | some]
        return [given for given in found if case.product == given.product or case.members == given.members]

    def asked_with(self, path: Path) -> Case | None:
        """The association of level 2 that somebody gave for the exposure of this file."""
        for file in self._wanted.get(exposure_name(path.name), ()):
            if self._requests[file].exposure == path.name:
                return self._requests[file]
        return None

    def concerned(self, name: str) -> Iterator[str | Path]:
        """The group of an exposure, and requests that list it."""
        if self.forms and (group := self.group(name)):
            yield group
        yield from self._wanted.get(name, ())

    def standing(
        self, case: Case, state: Any, idle_s: float = 0.0, quiet_s: float = float("inf")
    ) -> Standing:
        """Where an association stands, if nothing came for it in the last ``idle_s`` seconds."""
        if case.requested:
            unread = 0
            failed = {name for name in case.members if name in self._failed.get(self.group(name), ())}
        else:
            failed, unread = self._failed.get(case.group, set()), len(self._unread.get(case.group, ()))
        failed = failed - self._at_work.keys()
        marks = {}
        beside = set()
        for name, file in case.members.items():
            mark, free = self._mark(case, file, state)
            if free:
                beside.add(name)
            if mark and case.exposure:  # what became of an image says nothing against its rates
                failed.discard(name)
            if mark and (free or name not in failed):
                marks[name] = mark
        at_work = self._at_work.keys() - beside
        found = readiness(
            case.needed,
            case.announced,
            done=marks.keys() - at_work,
            failed=failed - beside,
            at_work=at_work,
            listed=case.requested,
            idle_s=idle_s,
            quiet_s=quiet_s,
        )
        if unread and found.ready:
            found = replace(found, state=WAITING)
        return Standing(found, marks, unread)

    def present(self, case: Case, state: Any) -> list[Path]:
        """Files of the members that stand, whether they are at work again or not."""
        found = []
        for name, file in case.members.items():
            place, free = self._place(case, file, state)
            if place is not None and (free or name not in self._failed.get(self.group(name), ())):
                found.append(place)
        return found

    def _place(self, case: Case, file: str, state: Any) -> tuple[Path | None, bool]:
        """Where a member is, None if it is not there; whether it is no product of ours."""
        product = state.product(self.output / file)
        places = [self.output / file]
        if case.requested and case.file.parent.absolute() != self.output:
            places.insert(0, case.file.parent / file)
        for place in places if case.requested else ():
            if (product is None or place != self.output / file) and _facts_of_file(place):
                return place, True
        return (None if product is None else self.output / file), False

    def _mark(self, case: Case, file: str, state: Any) -> tuple[str, bool]:
        """What tells a member's content apart, "" if it is not there; whether it is no product of ours."""
        place, free = self._place(case, file, state)
        if place is None or free:
            return ("" if place is None else _facts_of_file(place)), free
        product = state.product(place)
        return f"{product['key']} {product['created'].isoformat()}", False


def file_name(association: Association) -> str:
    """The name of the file of an association that is formed here."""
    return f"{association.products[0].name}_{association.asn_type}_asn.json"


def _facts_of_file(path: Path) -> str:
    """Place, size and time of a regular file; "" if there is none."""
    try:
        facts = path.stat()
    except OSError:
        return ""
    return f"{path} {facts.st_size} {facts.st_mtime_ns}" if stat.S_ISREG(facts.st_mode) else ""


def exposure_of(name: str, header: Mapping[str, Any]) -> Exposure:
    """An exposure by its header, under the name that all its products have in common.

    Raises
    ------
    Unprocessable
        If the header does not say what an exposure is.
    """
    found = exposure_from_header(f"{exposure_name(name)}_uncal.fits", header)
    return replace(found, facts={name: value for name, value in found.facts.items() if value not in NOTHING})


def _from_facts(name: str, facts: Mapping[str, str]) -> Exposure:
    candidate = Candidate(f"o{int(facts['obs_num']):03d}", "observation")
    return Exposure(f"{name}_uncal.fits", facts, (candidate,))
