"""One look at an association: where it stands, and what is written down and told. It writes its file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from upramp.daemon.desk import Desk
from upramp.daemon.events import (
    AssociationFailed,
    AssociationReady,
    AssociationWaits,
    Event,
    FileSettled,
)
from upramp.daemon.gathering import Case, Standing
from upramp.stages.associations.names import exposure_name
from upramp.stages.associations.ready import COMPLETE, EXPLICIT, FAILED, QUIET, WAITING, Readiness
from upramp.stages.associations.record import SOUND, Association
from upramp.stages.core.errors import UprampError
from upramp.store.associations import member_paths, write_association

Row = Mapping[str, Any]

READY = (COMPLETE, EXPLICIT, QUIET)
BUILT, SUPERSEDED = "built", "superseded"


@dataclass(frozen=True)
class Look:
    """What a look at an association found, and what is to be written and told."""

    case: Case
    standing: Standing
    row: Row
    is_news: bool
    handed_on: bool
    told: Sequence[Event]


def look_at(desk: Desk, case: Case, why: str) -> Look:
    """See where an association stands; write its file if it is ready to be handed on."""
    gathering, state, now = desk.gathering, desk.ledger.state, desk.now()
    old = state.association(case.file)
    standing = gathering.standing(case, state)
    found = standing.found
    key = standing.key(case)
    facts = {"members": len(case.members), "failed": len(found.failed), "key": key}
    heard_at = old["heard_at"] if old and all(old[n] == value for n, value in facts.items()) else now
    idle_s, quiet_s = (now - heard_at).total_seconds(), _quiet_s(desk, case, why)
    if found.state == WAITING and idle_s >= quiet_s:
        standing = gathering.standing(case, state, idle_s, quiet_s)
        found = standing.found
    row: dict[str, Any] = {
        "file": str(case.file),
        "association": case.file.stem,
        "product": case.product,
        "rule": case.association.asn_rule or None,
        "requested": case.requested,
        **facts,
        "present": len(found.present),
        "pending": len(found.pending),
        "missing": len(found.missing),
        "unheard": sum(count for _, count in found.unheard),
        "heard_at": heard_at,
        **{name: old[name] if old else None for name in ("how", "built_key")},
    }
    row["state"], row["reason"], row["remedy"] = verdict(case, found, gathering.config.build_without_failed)
    if standing.unread and row["state"] == WAITING:
        row["reason"] += f"; files of its group still to be read: {standing.unread}"
    if case.requested and gathering.over and row["state"] == WAITING:
        row["state"], row["reason"], row["remedy"] = (
            FAILED,
            *_not_there(case, gathering.output, row["reason"]),
        )
    ready, handed_on = row["state"] in READY, False
    if old and _is_under_way(desk, case, old, ready, key):
        row |= {name: old[name] for name in ("state", "reason", "remedy")}
    elif key == row["built_key"] and row["state"] != FAILED and not (ready and why != "resumed"):
        row["state"] = BUILT
    elif ready and (trouble := "" if case.requested else _write(case, standing)):
        row |= {"state": WAITING, "reason": trouble}
    elif ready:
        handed_on = True
        row["how"] = row["state"]
        if key == row["built_key"]:
            row["state"] = BUILT
    row["remedy"] = row["remedy"] or None
    row["since"] = old["since"] if old and old["state"] == row["state"] else now
    is_news = old is None or bool(_changed(old, row))
    told = _told(case, standing, old, row, handed_on)
    return Look(case, standing, row | {"at": now}, is_news, handed_on, told)


def _changed(old: Row, row: Row) -> set[str]:
    """What is to be recorded. That members of what is built are at work again, as at a start, is not yet."""
    changed = {name for name, value in row.items() if old[name] != value}
    built = old["state"] == row["state"] == BUILT and row["pending"]
    return set() if built and changed <= {"present", "pending", "reason"} else changed


def _is_under_way(desk: Desk, case: Case, old: Row, ready: bool, key: str) -> bool:
    """Whether it is being built, or was handed on in this run as it is now, for whatever came of it."""
    if case.file in desk.in_hand:
        return True
    handed_on = desk.gathering.settled.get(str(case.file)) == key
    return ready and handed_on and old["state"] in (*READY, BUILT, FAILED)


def _told(case: Case, standing: Standing, old: Row | None, row: Row, handed_on: bool) -> list[Event]:
    told: list[Event] = []
    changed = old is None or old["state"] != row["state"]
    if handed_on:
        if row["state"] != BUILT:
            found = standing.found
            lacks = found.failed or found.missing or found.unheard
            without = found.facts.partition("; ")[2] if lacks else ""
            told.append(AssociationReady(case.file, case.product, row["how"], len(found.present), without))
        told.append(FileSettled(case.file))
    elif changed and row["state"] == WAITING:
        told.append(AssociationWaits(case.file, case.product, row["reason"]))
    elif changed and row["state"] == FAILED:
        told.append(AssociationFailed(case.file, case.product, row["reason"], row["remedy"] or ""))
    return told


def _not_there(case: Case, output: Path, facts: str) -> tuple[str, str]:
    """Why a request cannot be taken at the end of a run, and the remedy."""
    try:
        member_paths(case.file, case.needed, [output])
    except UprampError as error:
        reason, _, remedy = str(error).rpartition("; ")
        return reason, remedy
    return facts, "give it again once they are there"


def _write(case: Case, standing: Standing) -> str:
    """Write its file; why that was not possible, or ""."""
    try:
        case.file.parent.mkdir(parents=True, exist_ok=True)
        write_association(case.file, complete(case, standing.found))
    except (UprampError, OSError) as error:
        return f"its file cannot be written: {error}"
    return ""


def _quiet_s(desk: Desk, case: Case, why: str) -> float:
    """How long nothing must come before that is taken for the end. A request is taken as it is."""
    if case.requested:
        return math.inf
    if desk.gathering.over:
        return 0.0
    over = why == "alarm" and desk.clock() >= desk.gathering.quiet_from
    return desk.gathering.config.quiet_s if over else math.inf


def verdict(case: Case, found: Readiness, without_failed: bool) -> tuple[str, str, str]:
    """State, reason and remedy of an association, with what may be built without."""
    if found.state == FAILED:
        return FAILED, found.facts, "see why its members failed: upramp status"
    if not (found.ready and found.failed):
        return found.state, found.facts, ""
    if case.requested:
        return FAILED, found.facts, "take what failed out of the file, or deliver it anew"
    if not without_failed:
        return FAILED, found.facts, "deliver it anew, or set [associations] build_without_failed = true"
    return found.state, found.facts, ""


def complete(case: Case, found: Readiness) -> Association:
    """The association as it is written: with the members that are in, and what is said of the others."""
    association = case.association
    [product] = association.products
    present = set(found.present)
    members = tuple(m for m in product.members if exposure_name(m.expname) in present)
    told = [] if association.degraded_status == SOUND else [association.degraded_status]
    if found.failed:
        told.append(f"Left out, because their calibration failed: {', '.join(found.failed)}.")
    if found.missing:
        told.append(f"Not there when it was built: {', '.join(found.missing)}.")
    told += [f"Visit {v}: {n} exposures were not heard of when it was built." for v, n in found.unheard]
    return replace(
        association,
        products=(replace(product, members=members),),
        degraded_status=" ".join(told) or SOUND,
    )
