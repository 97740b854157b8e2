"""How work is done: the queue, one-at-a-time keys, retries, workers.

What is decided here is decided by pure functions and plain data structures; only ``Crew`` knows
threads and processes.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

from upramp.daemon.config import Log
from upramp.daemon.events import Failure, Tries, Work
from upramp.daemon.logs import configure
from upramp.stages.core.errors import Misconfigured, Retryable, UprampError
from upramp.store.naming import is_association

PASSING_ERRNOS = frozenset(
    {errno.EAGAIN, errno.EBUSY, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.ETIMEDOUT}
)

REMEDIES = {
    "unprocessable": "replace the file; it is tried again when it changes, or with --force",
    "association": "mend or take out what is named; it is tried when its file changes or is given again",
    "retryable": "see that the disk or server named is in reach; it is tried again at the next start",
    "misconfigured": "correct what is named; it is tried again at the next start, or with --force",
    "crashed": "give it more memory or fewer workers; it is tried again at the next start, or with --force",
    "unexpected": "report it with the log's traceback; it is tried again at the next start, or with --force",
}


class WorkerDied(Exception):
    """A worker process ended without a result: killed by the system, most often for want of memory."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how soon passing failures are tried again.

    Attributes
    ----------
    attempts : int
        Attempts in all, the first included.
    first_s, factor, longest_s : float
        The pause after the first failure (s), how it grows, and its limit.
    """

    attempts: int = 4
    first_s: float = 5.0
    factor: float = 4.0
    longest_s: float = 600.0

    def pause(self, attempts: int) -> float:
        """Seconds to wait after this many failed attempts."""
        return min(self.first_s * self.factor ** max(attempts - 1, 0), self.longest_s)


def classify(error: BaseException, source: Path | None = None) -> Failure:
    """What an error means for the input file ``source``. Pure but for formatting the traceback.

    Only an input that is not there says something of the input: another file or folder that is gone
    (scratch, output, cache) may be back at the next try.
    """
    text = printable(str(error)) or type(error).__name__
    if isinstance(error, WorkerDied):
        return Failure("crashed", text, REMEDIES["crashed"])
    if isinstance(error, Retryable):
        return Failure("retryable", text, REMEDIES["retryable"])
    if isinstance(error, Misconfigured):
        return Failure("misconfigured", text, REMEDIES["misconfigured"])
    if isinstance(error, UprampError):
        listed = source is not None and is_association(source.name)  # then a member may be to blame
        return Failure("unprocessable", text, REMEDIES["association" if listed else "unprocessable"])
    if isinstance(error, PermissionError):
        return Failure("misconfigured", plain_os_error(error), REMEDIES["misconfigured"])
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        kind = "unprocessable" if str(error.filename) == str(source) else "retryable"
        return Failure(kind, plain_os_error(error), REMEDIES[kind])
    if isinstance(error, OSError) and error.errno in PASSING_ERRNOS:
        return Failure("retryable", plain_os_error(error), REMEDIES["retryable"])
    if isinstance(error, MemoryError):
        return Failure("crashed", "not enough memory for this file", REMEDIES["crashed"])
    lines = "".join(traceback.format_exception(error))
    return Failure("unexpected", f"{type(error).__name__}: {text}", REMEDIES["unexpected"], lines)


def plain_os_error(error: OSError) -> str:
    """An operating system's error in words: what, and which file."""
    what = (error.strerror or str(error)).lower()
    return printable(f"{what}: {error.filename}" if error.filename else what)


def printable(text: str) -> str:
    """Text whose control characters (file names may have them) are spelled out; lines stay lines."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def next_pause(failure: Failure, tries: Tries, policy: RetryPolicy) -> float | None:
    """Seconds until a failed file is tried again, or None to give up.

    ``tries`` counts the failed attempt. A worker that died gets its file tried once more, at once and alone.
    """
    if failure.kind == "crashed":
        return 0.0 if tries.crashes < 2 else None
    if failure.kind == "retryable" and tries.attempts < policy.attempts:
        return policy.pause(tries.attempts)
    return None


def after(tries: Tries, failure: Failure) -> Tries:
    """The count once this failure is added."""
    return Tries(tries.attempts + 1, tries.crashes + (failure.kind == "crashed"))


def final_for_content(kind: str) -> bool:
    """Whether a recorded failure stands until the file itself changes."""
    return kind == "unprocessable"


class Queue:
    """Waiting and running work: first come first served, one at a time for each segment.

    A newer reading of the same file takes the place of the one that waits. Work whose file has
    killed a worker runs alone, so that it cannot take innocent files down with it.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self._waiting: deque[Work] = deque()
        self._running: dict[str, Work] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    @property
    def running(self) -> tuple[Work, ...]:
        """What is being worked on."""
        return tuple(self._running.values())

    @property
    def waiting(self) -> tuple[Work, ...]:
        """What waits, in order."""
        return tuple(self._waiting)

    def put(self, work: Work) -> None:
        """Line up; if the same file waits already, take its place."""
        for i, other in enumerate(self._waiting):
            if other.identity.path == work.identity.path:
                self._waiting[i] = work
                return
        self._waiting.append(work)

    def take(self, may_start: Callable[[Work], bool] = lambda work: True) -> Work | None:
        """The next work that may start now, or None. ``may_start`` may hold some back; others pass them."""
        if len(self._running) >= self.room or any(w.tries.crashes for w in self._running.values()):
            return None
        blocked = set(self._running)
        for i, work in enumerate(self._waiting):
            alone = work.tries.crashes > 0
            free = work.segment_id not in blocked and not (alone and self._running)
            if free and may_start(work):
                del self._waiting[i]
                self._running[work.segment_id] = work
                return work
            blocked.add(work.segment_id)
        return None

    def done(self, work: Work) -> None:
        """It no longer runs, whatever came of it."""
        self._running.pop(work.segment_id, None)

    def abandon(self) -> tuple[Work, ...]:
        """Forget all that waits; returns it."""
        left = tuple(self._waiting)
        self._waiting.clear()
        return left


class Crew:
    """Any executor, replaced when it breaks.

    Parameters
    ----------
    make : callable
        Makes an executor.
    in_process : bool
        Whether its workers share this process's memory, so that they can be handed a plan.
    """

    def __init__(self, make: Callable[[], Executor], in_process: bool) -> None:
        self._make = make
        self._executor: Executor | None = None
        self.in_process = in_process

    def submit(
        self, then: Callable[[Any, BaseException | None], None], fn: Callable[..., Any], *args: Any
    ) -> None:
        """Run ``fn(*args)`` on a worker, then ``then(result, error)`` on some thread."""

        def finished(future: Future[Any]) -> None:
            if future.cancelled():
                return
            error = future.exception()
            if isinstance(error, BrokenExecutor):
                error = WorkerDied("the worker process was killed, most often for want of memory")
            then(None if error else future.result(), error)

        self._start(fn, args).add_done_callback(finished)

    def _start(self, fn: Callable[..., Any], args: Iterable[Any]) -> Future[Any]:
        if self._executor is None:
            self._executor = self._make()
        try:
            return self._executor.submit(fn, *args)
        except BrokenExecutor:
            self._executor.shutdown(wait=False)
            self._executor = self._make()
            return self._executor.submit(fn, *args)

    def close(self, kill: bool = False) -> None:
        """Let the workers go; with ``kill``, end worker processes in the middle of their work."""
        if self._executor is None:
            return
        processes = list((getattr(self._executor, "_processes", None) or {}).values()) if kill else []
        self._executor.shutdown(wait=not kill, cancel_futures=True)
        for process in processes:
            process.kill()
        self._executor = None


def one_thread(name: str = "spare") -> Crew:
    """A crew of one thread of this process, begun when it is first needed."""
    return Crew(lambda: ThreadPoolExecutor(1, thread_name_prefix=name), in_process=True)


def make_crew(workers: int, log: Log) -> Crew:
    """The workers of this run.

    One worker is a thread of this process: kernels release the GIL and are themselves threaded. More
    are processes, started afresh (a fork of a threaded process can hang).
    """
    if workers <= 1:
        return Crew(lambda: ThreadPoolExecutor(1, thread_name_prefix="calibrate"), in_process=True)
    context = multiprocessing.get_context("spawn")
    return Crew(
        lambda: ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker, initargs=(log,)),
        in_process=False,
    )


def start_worker(log: Log) -> None:
    """Prepare a worker process: Ctrl-C is the parent's affair, and no worker outlives its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    configure(log)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()


def _leave_with(sentinel: int) -> None:
    """End this process when the parent ends: a killed service must not leave workers that publish later."""
    wait_for([sentinel])
    os._exit(1)
