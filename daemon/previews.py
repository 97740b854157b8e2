"""Which preview mosaics are to be brought up to date, and when.

    SegmentCommitted, FileSkipped, FileFailed, ProductSuperseded     of a member -> its previews are due
    PreviewOver                                                      -> told; the next one

One preview at a time is worked on, by a spare thread (`previewing`); no calibration waits for it. What
arrives meanwhile is noted, and taken by the next look at the same preview, so that a burst costs one look.
What an association is made of is asked when its preview's turn comes. A preview that fails is told once for
each reason; it has its turn again with the next arrival, not sooner.

Nothing is recorded: a preview tells what is in it, and after a restart members that are found unchanged
(`FileSkipped`) make their previews due, so that what was not put is put then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from upramp.daemon.events import (
    Event,
    Failure,
    FileFailed,
    FileSkipped,
    PreviewFailed,
    PreviewOver,
    PreviewRefreshed,
    ProductSuperseded,
    SegmentCommitted,
)
from upramp.daemon.gathering import Case
from upramp.daemon.jobs import classify
from upramp.store.naming import preview_file

if TYPE_CHECKING:
    from upramp.daemon.desk import Desk, Handler

KIND = "cal"
"""The kind of products that previews are made of."""


@dataclass
class Previews:
    """Which previews are due.

    Attributes
    ----------
    touched : dict
        Groups of exposures and requests -> exposures that something happened to, in order.
    due : dict
        File of an association -> its group, or itself if somebody gave it.
    running : bool
        Whether one is being brought up to date.
    told : dict
        File of an association -> reasons of failures, since its preview was last as it should be.
    """

    touched: dict[str | Path, set[str]] = field(default_factory=dict)
    due: dict[Path, str | Path] = field(default_factory=dict)
    running: bool = False
    told: dict[Path, set[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """A preview to be brought up to date: its place, its association, and the images that are in.

    ``file``, ``of``, ``product``: see `PreviewOver`.
    """

    file: Path
    of: str | Path
    product: str
    path: Path
    members: Sequence[Path]


def note(
    desk: Desk, event: SegmentCommitted | FileSkipped | FileFailed | ProductSuperseded, name: str
) -> list[Event]:
    """Something became of an exposure: what shows it, or is to show it, is due."""
    if not desk.settings.config.associations.previews or not _matters(event):
        return []
    for of in desk.gathering.concerned(name):
        desk.previews.touched.setdefault(of, set()).add(name)
    return _next(desk)


def on_preview_over(desk: Desk, event: PreviewOver) -> Sequence[Event]:
    """Tell what came of it, and go on to the next."""
    previews = desk.previews
    previews.running = False
    if event.left:
        previews.due[event.file] = event.of
    told: list[Event] = []
    if event.added:
        told.append(PreviewRefreshed(event.path, event.product, event.members, event.added, event.seconds))
    return [*told, *_failed(desk, event.file, event.path, event.product, event.failure), *_next(desk)]


HANDLERS: dict[type, Handler] = {PreviewOver: on_preview_over}
"""Which function handles which event."""


def _matters(event: SegmentCommitted | FileSkipped | FileFailed | ProductSuperseded) -> bool:
    """Whether it can change what a preview shows."""
    if isinstance(event, SegmentCommitted):
        return any(product["kind"] == KIND for product in event.products)
    if isinstance(event, FileSkipped):
        return event.failed or event.segment_id.endswith("_rate")
    return isinstance(event, FileFailed) or event.kind == KIND


def _next(desk: Desk) -> list[Event]:
    """Have the next preview looked at that is due, unless one is."""
    previews, told = desk.previews, list[Event]()
    while not previews.running and (previews.due or previews.touched):
        file = next(iter(previews.due), None)
        of = previews.due.pop(file) if file else next(iter(previews.touched))
        try:
            if file:
                _begin(desk, file, of)
            else:
                names = previews.touched.pop(of)
                cases = [case for case in _cases(desk, of) if names & case.members.keys()]
                previews.due |= {case.file: of for case in cases}
        except Exception as error:  # whatever it is, it must not end the service
            told += _failed(desk, file or Path(of), Path(of), str(of), classify(error))
    return told


def _begin(desk: Desk, file: Path, of: str | Path) -> None:
    for case in _cases(desk, of):
        if case.file == file and (present := desk.gathering.present(case, desk.ledger.state)):
            job = Job(file, of, case.product, preview_file(desk.gathering.output, case.product), present)
            desk.previews.running = True
            desk.beside(_refresh, job, desk.abandoned.is_set)


def _cases(desk: Desk, of: str | Path) -> Sequence[Case]:
    """The associations of a group, or the one that somebody gave."""
    if isinstance(of, str):
        return desk.gathering.formed(of)
    request = desk.gathering.request(of)
    return [request] if request else []


def _failed(desk: Desk, file: Path, path: Path, product: str, failure: Failure | None) -> list[Event]:
    """What is told of a failure: nothing if it was told."""
    if failure is None:
        desk.previews.told.pop(file, None)
        return []
    reasons = desk.previews.told.setdefault(file, set())
    if failure.reason in reasons:
        return []
    reasons.add(failure.reason)
    return [PreviewFailed(path, product, failure)]


def _refresh(job: Job, stop: Callable[[], bool]) -> PreviewOver:
    """See `previewing.refresh`. What it takes is imported once previews are wanted."""
    try:
        from upramp.daemon.previewing import refresh

        return refresh(job, stop)
    except Exception as error:  # whatever it is, nothing else depends on it
        return PreviewOver(job.file, job.of, job.product, job.path, failure=classify(error))
