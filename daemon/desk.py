"""The desk: takes one event after the other, and hands work to workers.

One thread handles all events and alone writes the ledger. Reading files in (checksum,
header, plan) and calibrating happen elsewhere and come back as events. ``upramp run`` and
``upramp watch`` sit at the same desk; they differ in where events come from and when it closes.
"""

from __future__ import annotations

import functools
import heapq
import importlib.metadata
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from upramp.daemon.config import Config
from upramp.daemon.events import (
    Before,
    Event,
    FileSettled,
    Identity,
    LedgerRefused,
    SegmentCalibrated,
    SegmentDue,
    SegmentFailed,
    SegmentHeld,
    Tries,
    Turn,
    Work,
)
from upramp.daemon.gathering import Gathering
from upramp.daemon.jobs import Crew, Queue, RetryPolicy, classify, one_thread
from upramp.daemon.order import Hold, Order, is_preceded
from upramp.daemon.previews import Previews
from upramp.daemon.reading import look, plan_and_calibrate
from upramp.stages.core.errors import Misconfigured, Retryable
from upramp.store import schema

LONGEST_S = 1.0
"""A signal that comes in the very moment in which the desk begins to wait is noticed only after the wait."""

AHEAD = 2
"""Files read in ahead of free workers: enough to keep them busy, few enough to stay small."""


@dataclass(frozen=True)
class Settings:
    """What holds for a whole run.

    ``service``: a watcher tells when a file changes, and a full ledger disk is waited for without end.
    """

    config: Config
    run_id: str
    force: bool = False
    service: bool = False


def never() -> bool:
    """Nobody asks to stop."""
    return False


class Calibrator(Protocol):
    """What the handlers need of ``calibrate.py``."""

    def plan(self, path: Path, settings: Settings) -> Any:
        """What would be done with a file; nothing is processed."""

    def glance(self, path: Path) -> Turn | None:
        """When a file's exposure was taken, and by which detector; None if it leaves nothing to others."""

    def calibrate(
        self, plan: Any, input_sha256: str, stop: Callable[[], bool] = never, before: Before | None = None
    ) -> Any:
        """Do it and publish the products; once ``stop()`` is true, end soon and publish nothing."""


class Calibration:
    """The real one. Imported when first used, and picklable: worker processes get a copy."""

    def plan(self, path: Path, settings: Settings) -> Any:
        """See ``calibrate.plan``."""
        from upramp.daemon import calibrate

        config = settings.config
        return calibrate.plan(
            calibrate.CalibrationJob(path, settings.run_id, config, config.assignments, settings.force)
        )

    def glance(self, path: Path) -> Turn | None:
        """See ``planning.glance``."""
        from upramp.daemon import planning

        return planning.glance(path)

    def calibrate(
        self, plan: Any, input_sha256: str, stop: Callable[[], bool] = never, before: Before | None = None
    ) -> Any:
        """See ``calibrate.calibrate``."""
        from upramp.daemon import calibrate

        return calibrate.calibrate(plan, input_sha256, stop, before)


class Ledger(Protocol):
    """What the handlers need of the ledger: the present state in memory, and commits."""

    @property
    def state(self) -> Any:
        """See ``store.lookups.Lookups``."""

    def commit(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> int:
        """Append rows of several tables: all or none."""


@dataclass(frozen=True)
class _Read:
    """A reader is free again; ``event`` is what it found."""

    event: Event | None


@dataclass(frozen=True)
class _Glanced:
    """A reader is free again; it only looked when the exposure in a file was taken."""

    path: Path
    turn: Turn | None


@dataclass(frozen=True)
class _Beside:
    """The spare hand is free again; ``event`` is what came of it."""

    event: Event | None


Handler = Callable[["Desk", Any], Sequence[Event]]


@dataclass
class Desk:
    """State of a run, in memory; all that matters is in the ledger.

    Attributes
    ----------
    settings : Settings
    ledger : Ledger
        Open for writing.
    calibrator : Calibrator
    crew, readers, spare : Crew
        Who calibrates, who reads files in, who does what nothing waits for.
    queue : Queue
    policy : RetryPolicy
    handlers : mapping
        Type of event -> function; see ``handlers.HANDLERS``.
    listeners : list of callable
        Are told every event, before it is handled.
    in_hand : dict
        Files between settling and the end of their work.
    order : Order
        Whose turn it is, where exposures of a detector follow each other.
    gathering : Gathering
        What belongs together, and how much of it is in.
    previews : Previews
        Which previews of mosaics are to be brought up to date.
    """

    settings: Settings
    ledger: Ledger
    calibrator: Calibrator
    crew: Crew
    readers: Crew
    queue: Queue
    handlers: Mapping[type, Handler]
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    listeners: list[Callable[[Event], None]] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = schema.now
    in_hand: dict[Path, Identity] = field(default_factory=dict)
    order: Order = field(default_factory=Order)
    previews: Previews = field(default_factory=Previews)
    spare: Crew = field(default_factory=one_thread)

    def __post_init__(self) -> None:
        self.inbox: SimpleQueue[Event | _Read | _Glanced | _Beside | None] = SimpleQueue()
        self._unread: deque[tuple[Identity, str, Tries]] = deque()
        self._reading = False
        self._beside = 0
        self._timers: list[tuple[float, int, Any]] = []
        self._count = itertools.count()
        self.gathering = Gathering(self.settings.config, self.ledger.state)
        self._refusals = 0
        self.abandoned = threading.Event()  # set: work in this process is to end soon, unpublished

    # What handlers use

    def read(self, identity: Identity, sha256: str, tries: Tries) -> None:
        """Have a file read in; ``SegmentArrived`` or ``SegmentFailed`` follows. No checksum: compute it."""
        if identity.path not in self.in_hand:
            self.gathering.take(identity.path)
        self.in_hand[identity.path] = identity
        self.order.expect(identity.path)
        self._unread.append((identity, sha256, tries))

    def begin(self, work: Work) -> None:
        """Have a segment calibrated; ``SegmentCalibrated`` or ``SegmentFailed`` follows."""

        def finished(outcome: Any, error: BaseException | None) -> None:
            if error is not None:
                failure = classify(error, work.identity.path)
                self.inbox.put(SegmentFailed(work.identity, failure, work.tries, work.sha256, work))
            else:
                self.inbox.put(SegmentCalibrated(work, outcome))

        if self.crew.in_process:
            stop = self.abandoned.is_set
            self.crew.submit(finished, self.calibrator.calibrate, work.plan, work.sha256, stop, work.before)
        else:
            job = (self.calibrator, work.identity, self.settings, work.sha256, work.before)
            self.crew.submit(finished, plan_and_calibrate, *job)

    def beside(self, work: Callable[..., Event], *args: Any) -> None:
        """Have something done on a thread of its own, for which no calibration waits.

        The event that it returns follows. It should end soon once `abandoned` is set.
        """
        self._beside += 1
        self.spare.submit(lambda event, error: self.inbox.put(_Beside(event)), work, *args)

    def later(self, seconds: float, event: Any) -> None:
        """Let an event happen after a while; None only makes the desk look up."""
        heapq.heappush(self._timers, (self.clock() + seconds, next(self._count), event))

    def release(self, identity: Identity) -> None:
        """A file's work is over."""
        if self.in_hand.get(identity.path) == identity:
            self.drop(identity.path)

    def drop(self, path: Path) -> None:
        """A file is in nobody's hands any more, whichever content it had."""
        if self.in_hand.pop(path, None) is not None:
            self.gathering.drop(path)
        self.order.forget(path)

    def commit(self, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Write to the ledger; time, run and version are filled in where a row has none."""
        common = {"at": schema.now(), "run_id": self.settings.run_id, "upramp_version": upramp_version()}
        filled = {
            name: [
                {**{c: v for c, v in common.items() if c in schema.SCHEMAS[name].names}, **row}
                for row in rows
            ]
            for name, rows in tables.items()
        }
        self.ledger.commit(filled)
        self._refusals = 0

    # The loop

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do, now or later."""
        waits = self._unread or self._reading or self._beside or self._timers or len(self.queue)
        return not waits and self.inbox.empty()

    @property
    def busy(self) -> bool:
        """Whether a worker or the reader is at something just now."""
        return bool(self.queue.running) or self._reading

    @property
    def unread(self) -> int:
        """Files that wait to be read in."""
        return len(self._unread) + self._reading

    def run(self, until: Callable[[], bool], accept: Callable[[], bool] = lambda: True) -> None:
        """Handle events until ``until()``; new work is begun only while ``accept()``.

        Both are asked after every event; ``wake`` makes the desk look up.
        """
        while True:
            if accept():
                self._start_due()
            if until():
                return
            try:
                event = self.inbox.get(timeout=self._patience())
            except Empty:
                event = None
            if isinstance(event, _Glanced):
                self._reading = False
                if event.path in self.in_hand:
                    self.order.know(event.path, event.turn)
                event = None
            if isinstance(event, _Read):
                self._reading = False
                event = event.event
            if isinstance(event, _Beside):
                self._beside -= 1
                event = event.event
            if event is not None:
                self.dispatch(event)
            while self._timers and self._timers[0][0] <= self.clock():
                due = heapq.heappop(self._timers)[2]
                if due is not None:
                    self.dispatch(due)

    def wake(self) -> None:
        """Make the desk look up; may be called from any thread and from signal handlers."""
        self.inbox.put(None)

    def dispatch(self, event: Any) -> None:
        """Tell and handle an event and all that follow from it."""
        todo: deque[Any] = deque([event])
        while todo:
            event = todo.popleft()
            for listener in self.listeners:
                listener(event)
            handler = self.handlers.get(type(event))
            if handler is not None:
                todo.extend(self._handle(handler, event))

    def _handle(self, handler: Handler, event: Any) -> Sequence[Event]:
        try:
            return handler(self, event)
        except Retryable as error:
            # only the ledger raises this here: nothing was committed, so the same event can happen again
            self._refusals += 1
            if not self.settings.service and self._refusals > self.policy.attempts:
                raise
            pause = self.policy.pause(self._refusals)
            self.later(pause, event)
            return [LedgerRefused(str(error), pause)]
        except Misconfigured:  # the ledger must be opened anew: only a restart helps
            raise
        except Exception as error:
            work: Work | None = getattr(event, "work", None)
            if isinstance(event, SegmentFailed) or not (work or isinstance(event, FileSettled)):
                raise
            identity = work.identity if work else Identity(event.path, 0, 0)
            tries = work.tries if work else event.tries
            failure = classify(error, identity.path)
            return [SegmentFailed(identity, failure, tries, work.sha256 if work else "", work)]

    @property
    def held(self) -> list[tuple[Work, Hold]]:
        """What waits for those before it, and why."""
        holds = [(work, self._hold(work)) for work in self.queue.waiting if work.turn is not None]
        return [(work, hold) for work, hold in holds if hold is not None]

    def _hold(self, work: Work) -> Hold | None:
        if work.turn is None:
            return None
        return self.order.hold(work, self.clock(), lambda name: is_preceded(name, self.ledger.state))

    def _start_due(self) -> None:
        while (work := self.queue.take(lambda work: self._hold(work) is None)) is not None:
            self.dispatch(SegmentDue(work))
        held = self.held
        for work, hold in held:
            if hold != Hold() and self.order.is_news(work):
                left = None if hold.until is None else hold.until - self.clock()
                self.dispatch(SegmentHeld(work, hold.behind, left))
        if self._reading:
            return
        if held and (path := self.order.unknown) is not None:
            self._glance(path)
        elif self._unread and len(self.queue) - len(held) < self.queue.room + AHEAD:
            self._read_next()

    def _glance(self, path: Path) -> None:
        self._reading = True
        self.readers.submit(
            lambda turn, error: self.inbox.put(_Glanced(path, turn)), self.calibrator.glance, path
        )

    def _read_next(self) -> None:
        first = self.order.earliest([identity.path for identity, *_ in self._unread])
        identity, sha256, tries = self._unread[first]
        del self._unread[first]
        self._reading = True

        def read(event: Event | None, error: BaseException | None) -> None:
            if error is not None:
                event = SegmentFailed(identity, classify(error, identity.path), tries, sha256)
            self.inbox.put(_Read(event))

        self.readers.submit(read, look, self.calibrator, self.settings, identity, sha256, tries)

    def _patience(self) -> float:
        """How long to wait for the next event, s."""
        left = self._timers[0][0] - self.clock() if self._timers else LONGEST_S
        return min(max(left, 0.0), LONGEST_S)


@functools.cache
def upramp_version() -> str:
    """The version that is installed."""
    return importlib.metadata.version("upramp")


def new_run_id() -> str:
    """Time and chance: readable, in order, and different for every start."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + f"-{os.urandom(3).hex()}"
