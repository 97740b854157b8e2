"""What happens when: one function for each event, from a file that lies still to a complete exposure.

    FileSettled        is it known already?            -> read it in
    SegmentArrived     it is a segment                 -> queue, one at a time for each segment
    SegmentDue         its turn: still needed?         -> calibrate
    SegmentCalibrated  products are published          -> one ledger transaction
    SegmentFailed      why, and what then?             -> again later, or recorded
    ExposureCompleted  all segments are calibrated     (told)

What becomes of exposures that belong together follows in `trigger`, whose handlers hear of the same events.

Order of writing. Products are written in a scratch folder, made durable and renamed into place;
then one ledger transaction records them together with the segment, its step runs and the state of
its exposure. So the ledger never speaks of a product that is not there. If the process dies before
the transaction, the ledger knows nothing of the work: the next start does it again and renames the
same products over those that were left (same input, parameters and references give the same
pixels). Nothing is recorded twice, because nothing was recorded.

Which file counts. A segment is known by its name, and its newest content counts: when its file
changes, or when a file of the same name settles in another folder, that is a new version, and what
was made of the old one is superseded. The same content again, from wherever, is no news. A file that
lost to another folder's is not taken again just because it still lies there; at a start, files are
taken in order of their times, so that the newest comes last. A file that only has a segment's name
and cannot be read as one never displaces a good file in another folder, and a run that fails for other
reasons than the content (settings, references, the machine) leaves a calibrated segment calibrated. Inputs
are only ever read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from upramp.daemon import records, trigger
from upramp.daemon.desk import Desk, Handler, upramp_version
from upramp.daemon.events import (
    Event,
    ExposureCompleted,
    ExposureContradicted,
    FileFailed,
    FileSettled,
    FileSkipped,
    Identity,
    PredecessorMissing,
    ProductSuperseded,
    RetryPlanned,
    SegmentArrived,
    SegmentCalibrated,
    SegmentCommitted,
    SegmentDue,
    SegmentFailed,
    SegmentOutdated,
    SegmentStarted,
    SegmentSuperseded,
    Work,
)
from upramp.daemon.jobs import after, classify, final_for_content, next_pause
from upramp.daemon.order import is_preceded, outdated, with_windows
from upramp.daemon.reading import changed_since, identify
from upramp.stages.core.errors import UprampError
from upramp.store import schema
from upramp.store.lookups import superseded
from upramp.store.naming import association_id, is_association

Row = Mapping[str, Any]


def on_file_settled(desk: Desk, event: FileSettled) -> Sequence[Event]:
    """Read a file in, unless it is at work already or size and time say that nothing can have changed."""
    path = event.path
    try:
        identity = identify(path)
    except FileNotFoundError as error:
        return _on_vanished(desk, event, error)
    except (UprampError, OSError) as error:
        return [SegmentFailed(Identity(path, 0, 0), classify(error, path), event.tries)]
    if desk.in_hand.get(path) == identity and not event.tries.attempts:
        return []
    association = is_association(path.name)
    if association and not event.tries.attempts and (instead := trigger.admit(desk, path)) is not None:
        return instead
    known = _seen_as(desk, identity)
    if known and not desk.settings.force:
        hopeless = final_for_content(known["failure"]) and not association  # its members may be others now
        if known["state"] == "failed" and hopeless and _same_upramp(known):
            return [
                FileSkipped(path, known["segment_id"], known["reason"], failed=True, remedy=known["remedy"])
            ]
        if rival := _lost_to(desk, known):
            reason = f"superseded by {rival['path']}, which came later"
            return [FileSkipped(path, known["segment_id"], reason, remedy="use --force to take it again")]
    if not event.tries.attempts and (others := trigger.instead(desk, path, records.names_of(path)[0])):
        return others
    desk.read(identity, known["sha256"] or "" if known else "", event.tries)
    return trigger.concerned(desk, path)


def on_segment_arrived(desk: Desk, event: SegmentArrived) -> Sequence[Event]:
    """Line up. What waits from an older reading of the same file gives way.

    Where persistence goes on from exposure to exposure, the service waits for what may come before this one.
    """
    work, wait_s = event.work, desk.settings.config.watch.persistence_wait_s
    desk.queue.put(work)
    desk.order.know(work.identity.path, work.turn)
    if work.turn is not None and desk.settings.service:
        as_it_is = with_windows(work, desk.ledger.state)
        if not _is_done(desk, desk.ledger.state.segment(work.segment_id), as_it_is):
            desk.order.wait(work.identity.path, desk.clock() + wait_s)
            desk.later(wait_s, None)
    return trigger.heard(desk, work)


def on_segment_due(desk: Desk, event: SegmentDue) -> Sequence[Event]:
    """Calibrate, unless the ledger has it done with the same input, parameters and references."""
    work = with_windows(event.work, desk.ledger.state)
    present = desk.ledger.state.segment(work.segment_id)
    if not desk.settings.force and _is_done(desk, present, work):
        desk.queue.done(work)
        desk.release(work.identity)
        same = present["path"] == str(work.identity.path)
        reason = "unchanged" if same else f"same content as {present['path']}, which is calibrated"
        made = desk.ledger.state.products(segment_id=work.segment_id)
        return [FileSkipped(work.identity.path, work.segment_id, reason), *_onward(desk, work, made)]
    told: list[Event] = []
    if work.before and desk.order.waited(work) and not is_preceded(work.segment_id, desk.ledger.state):
        wait_s = desk.settings.config.watch.persistence_wait_s
        missing = f"nothing came directly before it within {wait_s:g} s"
        reason = "; ".join(filter(None, (missing, work.before.reason)))
        work = replace(work, before=replace(work.before, reason=reason))
        told = [PredecessorMissing(work, wait_s)]
    desk.begin(work)
    return [*told, SegmentStarted(work)]


def on_segment_calibrated(desk: Desk, event: SegmentCalibrated) -> Sequence[Event]:
    """Record what was made, in one transaction; see whether the exposure is complete."""
    work, outcome = event.work, event.outcome
    if changed_since(work.identity):
        # made of two contents, perhaps; the products will be replaced, and are not recorded
        return _wait_for_change(desk, work.identity, work)
    version = desk.ledger.state.version(work.segment_id, work.sha256)
    about = {"segment_id": work.segment_id, "exposure_id": work.exposure_id}
    row = records.calibrated_row(work, version, outcome.products)
    products = [{**about, "version": version, "state": "current", **p} for p in outcome.products]
    retired, old_products = _retire(desk, row, work.identity, {p["path"] for p in products})
    tables = {
        "segments": [*retired, row],
        "step_runs": [{**about, "input_sha256": work.sha256, **s} for s in outcome.step_runs],
        "products": [*old_products, *products],
        "integrations": [{**about, "version": version, **i} for i in outcome.integrations],
    }
    if outcome.left is not None:
        tables["persistence"] = [{**about, "version": version, **outcome.left}]
    paths = [str(p["path"]) for p in products]
    times = _times(desk, work.segment_id, outcome.left)
    news = _count_exposure(desk, tables, row, paths)
    before = list(desk.ledger.state.products(segment_id=work.segment_id))
    desk.commit(tables)
    desk.queue.done(work)
    desk.release(work.identity)
    committed = SegmentCommitted(
        work.identity.path,
        work.segment_id,
        work.exposure_id,
        version,
        products,
        outcome.seconds,
        outcome.peak_mb,
        work.tries.attempts + 1,
        outcome.step_runs,
        _counters(outcome.step_runs),
    )
    told = [*_superseded_events(retired, before), committed, *news, *_followers(desk, times)]
    return [*told, *_onward(desk, work, products)]


def on_segment_failed(desk: Desk, event: SegmentFailed) -> Sequence[Event]:
    """Try again later if that can help, else record the failure with reason and remedy. The rest goes on."""
    identity, work, failure = event.identity, event.work, event.failure
    if changed_since(identity):
        # what failed is no longer there: judge what is
        return _wait_for_change(desk, identity, work)
    tries = after(event.tries, failure)
    pause = next_pause(failure, tries, desk.policy)
    state = "failed" if pause is None else "waiting"
    segment_id = work.segment_id if work else records.names_of(identity.path)[0]
    present = desk.ledger.state.segment(segment_id)
    version, sha256 = _failed_version(desk, segment_id, present, identity, event.sha256)
    row = records.failed_row(identity, sha256, work, version, failure, tries.attempts, state)
    told: list[Event] = []
    times = _times(desk, segment_id)
    if present and _goes_on_counting(present, row, work):
        desk.commit({"segments": [row, records.plain(present)]})
    else:
        retired, old_products = _retire(desk, row, identity, set())
        tables = {"segments": [*retired, row], "products": old_products}
        _count_exposure(desk, tables, row, [])
        desk.commit(tables)
        told = _superseded_events(retired, old_products)
    if work:
        desk.queue.done(work)
    if pause is None:
        desk.release(identity)
        failed = FileFailed(identity.path, segment_id, failure, tries.attempts)
        return [*told, failed, *_followers(desk, times)]
    desk.later(pause, FileSettled(identity.path, tries))
    return [*told, RetryPlanned(identity.path, segment_id, failure, tries.attempts, pause)]


HANDLERS: dict[type, Handler] = {
    FileSettled: on_file_settled,
    SegmentArrived: on_segment_arrived,
    SegmentDue: on_segment_due,
    SegmentCalibrated: on_segment_calibrated,
    SegmentFailed: on_segment_failed,
    **trigger.HANDLERS,
}
"""Which function handles which event; all other events are only told."""


def _on_vanished(desk: Desk, event: FileSettled, error: FileNotFoundError) -> Sequence[Event]:
    """A file that went away is a failure only if nothing is known of its segment."""
    segment_id, _ = records.names_of(event.path)
    desk.drop(event.path)
    present = desk.ledger.state.segment(segment_id)
    if present and present["state"] == "calibrated":
        return [FileSkipped(event.path, segment_id, "gone; it was calibrated before")]
    return [SegmentFailed(Identity(event.path, 0, 0), classify(error, event.path), event.tries)]


def _seen_as(desk: Desk, identity: Identity) -> Row | None:
    """The ledger's row of this very file, by path, size and time: of whichever version."""
    segment_id, _ = records.names_of(identity.path)
    facts = (str(identity.path), identity.size, identity.mtime_ns)
    for row in desk.ledger.state.versions(segment_id):
        if (row["path"], row["bytes"], row["mtime_ns"]) == facts:
            return row
    return None


def _lost_to(desk: Desk, known: Row) -> Row | None:
    """The newer delivery in another folder, still there, that superseded this file's content."""
    present = desk.ledger.state.segment(known["segment_id"])
    if known["state"] != "superseded" or present is None or present["path"] == known["path"]:
        return None
    return present if _there(present) else None


def _there(row: Row) -> bool:
    try:
        found = identify(Path(row["path"]))
    except (OSError, UprampError):
        return False
    return (found.size, found.mtime_ns) == (row["bytes"], row["mtime_ns"])


def _same_upramp(row: Row) -> bool:
    return row["upramp_version"] == upramp_version()


def _is_done(desk: Desk, present: Row | None, work: Work) -> bool:
    if present is None or present["state"] != "calibrated" or present["key"] != work.fingerprint:
        return False
    left = desk.ledger.state.windows(work.segment_id) if work.turn else None
    if left and left["path"] and not Path(left["path"]).exists():
        return False
    made = desk.ledger.state.done(work.fingerprint)
    if _is_combined(work):  # another association may have put a mosaic of the same name in its place
        made = [row for row in made if row["kind"] == "i2d"]
    return bool(made)


def _is_combined(work: Work) -> bool:
    """Whether it is an association of exposures that are combined, which the ledger calls by its file."""
    name = work.identity.path.name
    return is_association(name) and work.segment_id == association_id(name)


def _wait_for_change(desk: Desk, identity: Identity, work: Work | None) -> Sequence[Event]:
    """Forget what was read: the file changes. A watcher says when it lies still; else look again soon."""
    if work:
        desk.queue.done(work)
    desk.release(identity)
    if not desk.settings.service:
        desk.later(desk.settings.config.watch.settle_s, FileSettled(identity.path))
    return []


def _goes_on_counting(present: Row, row: Row, work: Work | None) -> bool:
    """Whether a calibrated segment stays so though a file of its name failed; the failure is on record.

    A file that cannot be read, in another folder, has only the segment's name. And what is wrong with the
    settings, the references or the machine says nothing against products made of the same content.
    """
    if present["state"] != "calibrated":
        return False
    if work is None and present["path"] != row["path"]:
        return True
    return row["version"] == present["version"] and not final_for_content(row["failure"])


def _failed_version(
    desk: Desk, segment_id: str, present: Row | None, identity: Identity, sha256: str
) -> tuple[int, str]:
    """Version and checksum of a failure; the present ones if size and time say that nothing changed."""
    if not sha256 and present is not None:
        facts = (present["path"], present["bytes"], present["mtime_ns"])
        if facts == (str(identity.path), identity.size, identity.mtime_ns):
            return present["version"], present["sha256"]
    return desk.ledger.state.version(segment_id, sha256), sha256


def _retire(
    desk: Desk, row: Row, by: Identity, replaced: set[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows that supersede the segment's present version, if ``row`` is another, and what was made of it.

    Products in ``replaced`` are left out: the ledger supersedes them as their successors come.
    """
    at = schema.now()
    present = desk.ledger.state.segment(row["segment_id"])
    retired = []
    if present is not None and present["version"] != row["version"]:
        retired.append(records.retired_row(present, by, at, desk.settings.run_id))
    if not retired and row["state"] != "calibrated":
        return [], []
    products = [
        superseded(p, row["sha256"], at)
        for p in desk.ledger.state.products(segment_id=row["segment_id"])
        if p["path"] not in replaced
    ]
    return retired, products


def _count_exposure(desk: Desk, tables: dict[str, Any], row: Row, products: Sequence[str]) -> Sequence[Event]:
    """Add the exposure's row to a transaction if its state changes; the event if there is news."""
    state, exposure_id, segment_id = desk.ledger.state, row["exposure_id"], row["segment_id"]
    others = [m for m in state.exposure_segments(exposure_id) if m["segment_id"] != segment_id]
    old = state.exposure(exposure_id)
    count = records.tally([*others, row], old)
    if not count.expected:
        return []
    paths = [p["path"] for m in others for p in state.products(segment_id=m["segment_id"])]
    new = records.exposure_row(exposure_id, count, [*paths, *products], schema.now())
    if records.same_exposure(old, new):
        return []
    tables["exposures"] = [new]
    before = old is not None and old["state"] == "completed" and old["input_sha256"] == new["input_sha256"]
    if new["state"] == "failed":
        return [ExposureContradicted(exposure_id, new["reason"])]
    if new["state"] != "completed" or before:
        return []
    segments = [member["segment_id"] for member in count.calibrated]
    return [ExposureCompleted(exposure_id, segments, count.integrations)]


def _times(desk: Desk, segment_id: str, left: Row | None = None) -> list[tuple[str, float]]:
    """Detector and time of what a segment left, and leaves now: from there on others may be concerned."""
    rows = [row for row in (desk.ledger.state.windows(segment_id), left) if row]
    return sorted({(row["detector"], row["start_s"]) for row in rows})


def _followers(desk: Desk, times: Sequence[tuple[str, float]]) -> list[Event]:
    """Segments that began with other windows than are known now: the service does them again.

    What follows on these is seen once they are recorded in their turn, and what is at work is seen then.
    """
    told: list[Event] = []
    for row in outdated(times, desk.ledger.state):
        segment_id, detector = row["segment_id"], row["detector"]
        path = Path(desk.ledger.state.segment(segment_id)["path"])
        if path in desk.in_hand:
            continue
        reason = f"the windows of persistence that {detector} had before it are others now"
        again = desk.settings.service
        told.append(SegmentOutdated(path, segment_id, row["exposure_id"], reason, again))
        if again:
            told.append(FileSettled(path))
    return told


def _onward(desk: Desk, work: Work, products: Iterable[Row]) -> list[Event]:
    """Products that the next stage takes are files that lie still."""
    if desk.settings.config.run.until == "stage1":
        return []
    return [FileSettled(Path(p["path"])) for p in products if p["kind"] == work.goes_on]


def _counters(step_runs: Sequence[Row]) -> dict[str, int]:
    """All counters of a job in one: "step.counter" -> number."""
    return {f"{s['step']}.{name}": n for s in step_runs for name, n in (s.get("counters") or {}).items()}


def _superseded_events(retired: Sequence[Row], products: Sequence[Row]) -> list[Event]:
    return [
        *(
            SegmentSuperseded(Path(r["path"]), r["segment_id"], r["exposure_id"], r["version"], r["reason"])
            for r in retired
        ),
        *(ProductSuperseded(Path(p["path"]), p["segment_id"], p["exposure_id"], p["kind"]) for p in products),
    ]
