"""``upramp watch``: the long-running service. The handlers of ``upramp run``, files from the watcher.

It goes on where the last one stopped: the start-up scan hands on every file that is there, and the
ledger knows which of them are done. On SIGTERM or SIGINT nothing new begins; work under way may end
within ``[run] shutdown_s``; after that it is abandoned, and the next start does it again. A second
signal abandons at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from upramp.daemon.config import Config
from upramp.daemon.desk import Calibrator, Desk
from upramp.daemon.events import (
    Event,
    FileFailed,
    FileSettled,
    Resumed,
    RetryPlanned,
    SegmentCommitted,
    SegmentHeld,
    SegmentStarted,
)
from upramp.daemon.jobs import Crew
from upramp.daemon.logs import get_logger
from upramp.daemon.session import describe, open_desk, warm_up

log = get_logger()

LIVE = "service.json"
"""Beside the ledger's tables: what the running service has in hand, for ``upramp status``."""


class WatcherLike(Protocol):
    """What is needed of the watcher."""

    def start(self) -> None:
        """Begin to hand on files."""

    def stop(self) -> None:
        """Hand on nothing any more."""

    def waiting(self) -> list[Path]:
        """Files seen that are not whole yet."""


MakeWatcher = Callable[[Callable[[Path], None]], WatcherLike]


class Stop:
    """Whether, when and why the service is to end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.signal = ""
        self.asked_at: float | None = None
        self.at_once = False

    def ask(self, name: str) -> None:
        """Ask for the end; asking twice makes it urgent. Safe in a signal handler."""
        if self.asked_at is None:
            self.signal, self.asked_at = name, self._clock()
        else:
            self.at_once = True

    @property
    def asked(self) -> bool:
        """Whether the end was asked for."""
        return self.asked_at is not None

    def overdue(self, limit_s: float) -> bool:
        """Whether work under way has had its time."""
        waited = 0.0 if self.asked_at is None else self._clock() - self.asked_at
        return self.at_once or waited >= limit_s


def serve(
    config: Config,
    *,
    command: str = "upramp watch",
    calibrator: Calibrator | None = None,
    crew: Crew | None = None,
    make_watcher: MakeWatcher | None = None,
    stop: Stop | None = None,
) -> bool:
    """Watch and calibrate until a signal comes.

    Parameters
    ----------
    config : Config
    command : str
        As typed, for the ledger.
    calibrator, crew, make_watcher, stop : optional
        Instead of the real ones, for tests.

    Returns
    -------
    bool
        Whether work under way was abandoned: then threads may still be at it, and the process
        should leave without waiting for them.

    Raises
    ------
    Misconfigured
        If the ledger cannot be written, or another process writes it.
    """
    stop = stop or Stop()
    with open_desk(config, command=command, service=True, calibrator=calibrator, crew=crew) as desk:
        with _signals(stop, desk):
            log.info("service_started", **describe(desk.settings.config))
            if calibrator is None:
                warm_up(config)
            watcher = (make_watcher or _watcher(config))(lambda path: desk.inbox.put(FileSettled(path)))
            live = Live(config.store_folder / LIVE, desk, watcher)
            desk.listeners.append(live.hear)
            if not stop.asked:
                desk.dispatch(Resumed())
                watcher.start()
            desk.handlers = {**desk.handlers, Beat: live.beat}
            desk.dispatch(Beat())
            desk.run(until=lambda: stop.asked, accept=lambda: not stop.asked)
            abandoned = _wind_up(desk, watcher, stop, config.run.shutdown_s)
            live.remove()
    return abandoned


def _wind_up(desk: Desk, watcher: WatcherLike, stop: Stop, limit_s: float) -> bool:
    """Let work under way end, within its time; whether some had to be abandoned."""
    running = [work.segment_id for work in desk.queue.running]
    queued = len(desk.queue.waiting) + desk.unread
    log.info("service_stopping", signal=stop.signal, running=running, queued=queued, limit_s=limit_s)
    watcher.stop()
    desk.later(limit_s, None)
    desk.run(until=lambda: not desk.busy or stop.overdue(limit_s), accept=lambda: False)
    left = [work.segment_id for work in desk.queue.running]
    seconds = time.monotonic() - stop.asked_at if stop.asked_at is not None else 0.0
    log.info("service_stopped", seconds=round(seconds, 3), abandoned=left)
    return desk.busy  # a file that is being read in counts too: nothing else bounds how long that takes


def _watcher(config: Config) -> MakeWatcher:
    from upramp.daemon.watch import Watcher

    return lambda on_settled: Watcher(config.watch, on_settled)


@contextlib.contextmanager
def _signals(stop: Stop, desk: Desk) -> Iterator[None]:
    """SIGTERM and SIGINT ask for the end, as long as this lasts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def heard(number: int, frame: Any) -> None:
        stop.ask(signal.Signals(number).name)
        desk.wake()

    before = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Beat:
    """Time to say anew what is in hand."""


class Live:
    """Keeps the file that tells what the service has in hand right now; it is replaced whole.

    A courtesy to ``upramp status``: nothing depends on it.
    """

    def __init__(self, path: Path, desk: Desk, watcher: WatcherLike, pause_s: float = 5.0) -> None:
        self.path = path
        self.desk = desk
        self.watcher = watcher
        self.pause_s = pause_s

    def hear(self, event: Event) -> None:
        """Write when work begins or ends. A listener of the desk."""
        if isinstance(event, SegmentStarted | SegmentHeld | SegmentCommitted | FileFailed | RetryPlanned):
            self.write()

    def beat(self, desk: Desk, event: Beat) -> list[Any]:
        """Write every now and then, because files that are not whole yet make no events. A handler."""
        self.write()
        desk.later(self.pause_s, event)
        return []

    def write(self) -> None:
        """Write the file; a full disk is no reason to stop."""
        state = {
            "pid": os.getpid(),
            "at": time.time(),
            "running": [work.segment_id for work in self.desk.queue.running],
            "queued": [work.segment_id for work in self.desk.queue.waiting],
            "held": [
                {
                    "segment_id": work.segment_id,
                    "behind": hold.behind and str(hold.behind),
                    "until": hold.until and time.time() + hold.until - self.desk.clock(),
                }
                for work, hold in self.desk.held
            ],
            "unread": self.desk.unread,
            "not_whole": [str(path) for path in self.watcher.waiting()],
        }
        aside = self.path.with_name(f".{self.path.name}.tmp")
        with contextlib.suppress(OSError):
            aside.write_text(json.dumps(state))
            aside.replace(self.path)

    def remove(self) -> None:
        """The service has ended."""
        self.path.unlink(missing_ok=True)
