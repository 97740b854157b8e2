"""When exposures that belong together are combined: the trigger of the third stage.

    ExposureHeard       what its header tells is kept                -> its group is looked at
    SegmentCommitted, FileSkipped, FileFailed, ProductSuperseded     -> the groups and requests concerned are
    AssociationTouched  all in, or waited for long enough?           -> its file is written and handed on
    FileSettled         of an association that somebody gave         -> only once all that it lists is there

The file of an association that is ready settles like any other, and its fingerprint decides whether anything
is to be done. Order of writing: the file, then the row of the ledger, then it is handed on. If the process
dies in between, the next one finds the row, or else the exposures, and looks again.

An association is built again when its members are others or were made anew. While some of them are at work,
or files of the group are still to be read, nothing is built; so what arrives together is built once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from upramp.daemon import previews
from upramp.daemon.assembly import BUILT, SUPERSEDED, Look, look_at
from upramp.daemon.config import UNTIL
from upramp.daemon.desk import Desk, Handler
from upramp.daemon.events import (
    AssociationFailed,
    AssociationTouched,
    Event,
    ExposureHeard,
    FileFailed,
    FileSettled,
    FileSkipped,
    InputsOver,
    ProductSuperseded,
    Resumed,
    SegmentCommitted,
    Work,
)
from upramp.daemon.gathering import Case, exposure_of
from upramp.daemon.jobs import classify
from upramp.stages.associations.names import exposure_name
from upramp.stages.associations.ready import FAILED, WAITING
from upramp.stages.core.errors import Unprocessable, UprampError
from upramp.store.associations import KINDS, read_association
from upramp.store.naming import association_id, is_association

Row = Mapping[str, Any]

OTHERS = "its exposures belong to another association now, since their headers say so"

FINER = 16
"""A group is looked at again once this part of what is outstanding has happened: small ones each time, and
large ones so seldom that the work grows as n log n. Nothing can be ready in between."""


def on_exposure_heard(desk: Desk, event: ExposureHeard) -> Sequence[Event]:
    """Keep what the header tells, so that no restart needs to read it again."""
    exposure = event.exposure
    name = exposure_name(exposure.file)
    desk.gathering.hear(exposure)
    known = desk.ledger.state.header(name)
    if known is None or known["facts"] != exposure.facts:
        desk.commit({"headers": [{"exposure": name, "facts": exposure.facts, "at": desk.now()}]})
    return concerned(desk, event.path)


def on_news(
    desk: Desk, event: SegmentCommitted | FileSkipped | FileFailed | ProductSuperseded
) -> Sequence[Event]:
    """Something became of a file: who waits for it?

    An association of level 2 is one of its exposure's files.
    """
    path, told = event.path, list[Event]()
    if is_association(path.name):
        told += _on_association_news(desk, event)
        if event.segment_id == association_id(path.name):
            return told
        path = Path(f"{event.segment_id}.fits")
    name = exposure_name(path.name)
    desk.gathering.note(name, desk.ledger.state)
    return [*told, *previews.note(desk, event, name), *concerned(desk, path)]


def on_association_touched(desk: Desk, event: AssociationTouched) -> Sequence[Event]:
    """Look at a group's associations, or at a request; hand on what is ready."""
    try:
        return _touched(desk, event)
    except UprampError:
        raise
    except Exception as error:  # a fault in upramp must not end the service, which would meet it again
        failure, of = classify(error), str(event.of)
        return [AssociationFailed(Path(of), of, failure.reason, failure.remedy, failure.traceback)]


def _touched(desk: Desk, event: AssociationTouched) -> Sequence[Event]:
    gathering, of = desk.gathering, event.of
    gathering.touched[of] = None
    if gathering.alarms.get(of, math.inf) <= desk.clock():
        del gathering.alarms[of]
    cases, gone = _worth_a_look(desk, event)
    looks = [look_at(desk, case, event.why) for case in cases]
    rows = [look.row for look in looks if look.is_news]
    rows += [row for file, reason in gone.items() if (row := _abandoned(desk, file, reason))]
    if rows:
        desk.commit({"associations": rows})
    for look in looks:
        if look.handed_on:
            gathering.settled[str(look.case.file)] = look.row["key"]
    outstanding = [look.standing.outstanding for look in looks if look.standing.outstanding]
    if isinstance(of, str) and (outstanding or gathering.patience.get(of, 0) <= 0):
        gathering.patience[of] = min(outstanding, default=0) // FINER
    _look_again(desk, of, looks)
    told = [event for look in looks for event in look.told]
    if failed := [look.case.file for look in looks if look.row["state"] == FAILED]:
        alone = [gathering.instead.pop(file) for file in failed if file in gathering.instead]
        told += [FileSettled(path) for path in alone]
    return told


def on_resumed(desk: Desk, event: Resumed) -> Sequence[Event]:
    """Take up what waited, or was not built yet, when the last process ended."""
    gathering = desk.gathering
    touched: dict[str | Path, None] = dict.fromkeys(gathering.groups)
    touched |= dict.fromkeys(Path(row["file"]) for row in recall(desk) if row["state"] != BUILT)
    if touched:  # what arrived meanwhile is to be seen before quiet time can be over
        gathering.quiet_from = desk.clock() + desk.settings.config.watch.rescan_s
    return [AssociationTouched(of, why="resumed") for of in touched]


def recall(desk: Desk, stages: Collection[str] = UNTIL) -> list[Row]:
    """Know again what somebody asked for in earlier runs, as far as ``stages`` do it; rows of all that."""
    rows = [r for r in desk.ledger.state.associations() if r["requested"] and r["state"] != SUPERSEDED]
    for row in rows:
        asked = _read(Path(row["file"]))
        if asked and f"stage{asked[1].level}" in stages:
            desk.gathering.ask(*asked)
    return rows


def on_inputs_over(desk: Desk, event: InputsOver) -> Sequence[Event]:
    """A run over given files has all it will have: that is as good as quiet time.

    Exposures that still wait for their backgrounds go first, because others wait for them.
    """
    gathering = desk.gathering
    first = [] if gathering.over else list(gathering.instead)
    gathering.over = True
    if first:
        return [*(AssociationTouched(of, why="over") for of in first), event]
    return [AssociationTouched(of, why="over") for of in list(gathering.touched)]


HANDLERS: dict[type, Handler] = {
    ExposureHeard: on_exposure_heard,
    SegmentCommitted: on_news,
    FileSkipped: on_news,
    FileFailed: on_news,
    ProductSuperseded: on_news,
    AssociationTouched: on_association_touched,
    Resumed: on_resumed,
    InputsOver: on_inputs_over,
    **previews.HANDLERS,
}
"""Which function handles which event."""


def heard(desk: Desk, work: Work) -> list[Event]:
    """What the header of an exposure tells of others; nothing if it does not say what it is."""
    path, header = work.identity.path, getattr(work.plan.uncal, "header", None)
    if not desk.gathering.forms or is_association(path.name) or not header:
        return []
    try:
        return [ExposureHeard(path, exposure_of(path.name, header))]
    except Unprocessable:
        return []


def concerned(desk: Desk, path: Path) -> list[Event]:
    """Have those looked at that wait for a file."""
    name = exposure_name(path.name)
    return [AssociationTouched(of, name) for of in desk.gathering.concerned(name)]


def admit(desk: Desk, path: Path) -> Sequence[Event] | None:
    """Whether an association file that settled may be read in: None, or else what happens instead.

    One that somebody gave waits until all that it lists is there. One that is no valid association goes on,
    to be recorded as such.
    """
    gathering = desk.gathering
    gathering.given.add(path)
    row = desk.ledger.state.association(path)
    if path in desk.in_hand:
        return None
    if (row is not None and not row["requested"]) or (asked := _read(path)) is None:
        return None
    case = gathering.request(path)
    if case is None or case.association != asked[1]:
        case = gathering.ask(*asked)
    standing = gathering.standing(case, desk.ledger.state)
    if standing.found.ready and gathering.settled.get(str(path)) == standing.key(case):
        return None
    return [AssociationTouched(path)]


def instead(desk: Desk, path: Path, segment_id: str) -> Sequence[Event]:
    """What happens instead of reading in rates that settled; nothing if they may be.

    Where somebody gave an association of level 2 for them, they are calibrated as it says, once all is there.
    """
    case = desk.gathering.asked_with(path)
    row = None if case is None else desk.ledger.state.association(case.file)
    if case is None or row is None or row["state"] in (FAILED, SUPERSEDED):
        return []
    desk.gathering.instead[case.file] = path
    skipped = FileSkipped(path, segment_id, f"calibrated as {case.file.name} says")
    ours = desk.ledger.state.product(path)
    return [*([] if ours else [skipped]), AssociationTouched(case.file)]


def left_over(desk: Desk) -> list[Row]:
    """The associations of this run that were not built, by their rows; none that earlier runs were given."""
    gathering = desk.gathering
    cases: list[Case] = []
    for of in gathering.touched:
        if isinstance(of, str):
            cases += gathering.formed(of)
        elif of in gathering.given and (request := gathering.request(of)) is not None:
            cases.append(request)
    rows = (desk.ledger.state.association(case.file) for case in cases)
    return [row for row in rows if row and row["state"] not in (BUILT, SUPERSEDED)]


def _read(path: Path) -> tuple[Path, Any] | None:
    """An association that can be waited for; None if it is for the pipeline to say what is wrong with it."""
    try:
        association = read_association(path)
    except (UprampError, OSError):
        return None
    if association.asn_type not in KINDS or len(association.products) != 1:
        return None
    return path, association


def _worth_a_look(desk: Desk, event: AssociationTouched) -> tuple[list[Case], dict[str, str]]:
    """The associations to look at, and files of those that are formed no more, with the reason.

    While nothing can be ready, of a large group only those that are built are looked at, and only if they
    hold the exposure.
    """
    gathering, of = desk.gathering, event.of
    if isinstance(of, Path):
        if not of.exists():
            gathering.forget(of)
            return [], {str(of): "its file is gone"}
        request = gathering.request(of)
        return [request] if request else [], {}
    gathering.patience[of] = gathering.patience.get(of, 0) - 1
    if event.why or gathering.patience[of] <= 0:
        gone = dict.fromkeys(gathering.abandoned(of), OTHERS)
        asked = {case.file: given for case in gathering.formed(of) if (given := _given_for(desk, case))}
        gone |= {str(file): f"{given.name} asks for the same" for file, given in asked.items()}
        return [case for case in gathering.formed(of) if case.file not in asked], gone
    built = [case for case in gathering.formed_before(of) if event.name in case.members]
    return [case for case in built if _is_built(desk, case)], {}


def _given_for(desk: Desk, case: Case) -> Path | None:
    """The file that somebody gave for the product of an association, if it can be, or was, taken."""
    for given in desk.gathering.rivals(case):
        row = desk.ledger.state.association(given.file)
        if desk.gathering.standing(given, desk.ledger.state).found.ready and row and row["state"] != FAILED:
            return given.file
    return None


def _is_built(desk: Desk, case: Case) -> bool:
    row = desk.ledger.state.association(case.file)
    return row is not None and row["state"] == BUILT


def _look_again(desk: Desk, of: str | Path, looks: Sequence[Look]) -> None:
    """In the service, come back by itself when quiet time may be over, or a file may have been put beside."""
    gathering, watch = desk.gathering, desk.settings.config.watch
    if not desk.settings.service:
        return
    waits: list[float] = []
    for look in looks:
        if look.handed_on or look.row["state"] == FAILED or look.case.file in desk.in_hand:
            continue
        if look.case.requested or look.standing.found.ready:
            waits += [watch.rescan_s] if look.row["state"] == WAITING else []
        elif look.standing.found.state == WAITING:
            left = gathering.config.quiet_s - (desk.now() - look.row["heard_at"]).total_seconds()
            waits.append(max(left, gathering.quiet_from - desk.clock()) if left > 0.0 else watch.rescan_s)
    if waits:
        _set_alarm(desk, of, min(waits))


def _set_alarm(desk: Desk, of: str | Path, seconds: float) -> None:
    """Have it looked at after this time, or sooner if that is so already."""
    due = desk.clock() + seconds
    if due < desk.gathering.alarms.get(of, math.inf):
        desk.gathering.alarms[of] = due
        desk.later(seconds, AssociationTouched(of, why="alarm"))


def _abandoned(desk: Desk, file: str, reason: str) -> Row | None:
    """The row of an association that is formed no more, or that nobody asks for any more."""
    old = desk.ledger.state.association(file)
    if old is None or old["state"] == SUPERSEDED or (old["requested"] and old["state"] == BUILT):
        return None
    now = desk.now()
    kept = {name: value for name, value in old.items() if name not in ("commit_no", "row_no", "run_id")}
    return kept | {"state": SUPERSEDED, "reason": reason, "remedy": None, "since": now, "at": now}


def _on_association_news(
    desk: Desk, event: SegmentCommitted | FileSkipped | FileFailed | ProductSuperseded
) -> Sequence[Event]:
    """The file of an association was calibrated, or failed; members may have changed meanwhile."""
    old = desk.ledger.state.association(event.path)
    if old is None:
        return []
    now = desk.now()
    row = {name: value for name, value in old.items() if name not in ("commit_no", "row_no", "run_id")}
    if isinstance(event, FileFailed):
        row |= {"state": FAILED, "reason": event.failure.reason, "remedy": event.failure.remedy}
    elif isinstance(event, FileSkipped) and (event.failed or event.remedy):
        state = FAILED if event.failed else SUPERSEDED
        row |= {"state": state, "reason": event.reason, "remedy": event.remedy}
    else:
        key = desk.gathering.settled.get(str(event.path), row["built_key"])
        row |= {"state": BUILT, "built_key": key, "remedy": None}
    if any(old[name] != value for name, value in row.items()):
        since = old["since"] if row["state"] == old["state"] else now
        desk.commit({"associations": [row | {"since": since, "at": now}]})
    if old["requested"]:
        return [AssociationTouched(event.path, why="built")]
    group = desk.gathering.group_of_product(old["product"])
    return [AssociationTouched(group, why="built")] if group and desk.gathering.forms else []
