"""Watch folders and hand on every input file once it is whole.

Observers give hints, a scan at the start and every now and then catches what they missed,
and the state machine in `settle` decides. All of that happens in `Watcher.tick`, which a
thread calls over and over and tests call by hand.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

from upramp.daemon import observers
from upramp.daemon.config import Watch
from upramp.daemon.folders import Folder, read_mounts
from upramp.daemon.logs import get_logger
from upramp.daemon.settle import Settler, Verdict
from upramp.stages.core.errors import UprampError
from upramp.store.associations import json_size
from upramp.store.fitsio import promised_size
from upramp.store.naming import is_association

log = get_logger()

TEMPORARY = (".part", ".partial", ".filepart", ".crdownload", ".tmp", ".temp", ".swp", "~")
_BATCH_S = 0.05
_Hint = tuple[Path, bool | None] | None


def ignorable(relative: Path) -> str | None:
    """Why a name inside a watched folder is no input, or None.

    Hidden files and folders, and the names that copying programs use on the way.
    """
    if any(part.startswith(".") for part in relative.parts):
        return "hidden"
    if relative.name.lower().endswith(TEMPORARY):
        return "a temporary name"
    return None


def whole_size(path: Path) -> int:
    """The length of a file that is whole, by its headers, or because the text of an association ends.

    Raises
    ------
    Unprocessable, Retryable
        If that cannot be told.
    """
    return json_size(path) if is_association(path.name) else promised_size(path)


class Watcher:
    """Watches the folders of [watch].

    Parameters
    ----------
    watch : Watch
        The [watch] section.
    on_settled : callable
        Called with the path of each file that is whole, or that stayed broken for ``stale_s``,
        from the watcher's thread; must return soon. Called again when the file has changed.
        If it raises, that is logged and the file is tried again.
    clock : callable
        Monotonic seconds.
    observer_factory : callable
        As `observers.start`.
    size_of : callable
        The length that a file's headers promise; raises UprampError if they cannot be read.
    mounts : callable
        The text of /proc/mounts.
    """

    def __init__(
        self,
        watch: Watch,
        on_settled: Callable[[Path], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        observer_factory: observers.Factory = observers.start,
        size_of: Callable[[Path], int] = whole_size,
        mounts: Callable[[], str] = read_mounts,
    ) -> None:
        self._watch = watch
        self._on_settled = on_settled
        self._clock = clock
        self._size_of = size_of
        self._settler = Settler(watch.settle_s, watch.stale_s)
        self._folders = [
            Folder(path.absolute(), watch, self, observer_factory, mounts) for path in watch.folders
        ]
        self._hints: queue.SimpleQueue[_Hint] = queue.SimpleQueue()
        self._head: list[_Hint] = []
        self._rescan = threading.Event()
        self._overflow = threading.Event()
        self._next_look = self._next_scan = float("-inf")
        self._told_ignored: set[Path] = set()
        self._told_unreadable: set[Path] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def _counts(self, name: str) -> bool:
        """Whether a file of this name is an input."""
        return fnmatchcase(name, self._watch.pattern) or is_association(name)

    # what observers call, from their threads

    def touched(self, path: Path) -> None:
        """A file appeared or changed."""
        if self._counts(path.name):
            self._hints.put((path, None))

    def writing(self, path: Path, busy: bool) -> None:
        """Somebody writes to a file, or closed it."""
        if self._counts(path.name):
            self._hints.put((path, busy))

    def rescan(self, lost: bool = False) -> None:
        """Look through all folders at the next turn; ``lost``: events went missing."""
        if lost:
            self._overflow.set()
        self._rescan.set()
        self._hints.put(None)

    # the service's side

    def start(self) -> None:
        """Watch in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="upramp-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Hand nothing on any more and let go of the folders; returns when done."""
        self._stop.set()
        self._hints.put(None)
        if self._thread is not None:
            self._thread.join()
        for folder in self._folders:
            folder.release()

    def waiting(self) -> list[Path]:
        """Files that were seen and are not whole yet."""
        return self._settler.pending()

    def run(self) -> None:
        """Watch until `stop` is called."""
        while not self._stop.is_set():
            try:
                pause = self.tick()
            except Exception as e:  # a fault on one turn must not end the watch
                log.error("watch_error", reason=str(e), exc_info=True)
                pause = self._watch.poll_s
            try:
                self._head.append(self._hints.get(timeout=pause))
                self._stop.wait(_BATCH_S)  # a copy under way gives a flood of hints: take them together
            except queue.Empty:
                continue

    def tick(self) -> float:
        """One turn: take the hints, look after the folders, hand on what is whole.

        Returns
        -------
        float
            After how many seconds the next turn is due, if no hint comes before.
        """
        now = self._clock()
        if now >= self._next_look:
            self._next_look = now + self._watch.poll_s
            for folder in self._folders:
                if folder.look_after():
                    self._settler.forget_writers()
                    self._rescan.set()
        self._take_hints(now)
        if self._overflow.is_set():
            self._overflow.clear()
            self._settler.forget_writers()
            log.warning("watch_overflow")
        if self._rescan.is_set() or now >= self._next_scan:
            self._rescan.clear()
            self._next_scan = now + self._watch.rescan_s
            self.scan(now)
        for path in self._settler.pending():
            self._touch(path, now)
        for path in self._settler.due(now):
            if self._stop.is_set():
                break
            self._examine(path, now)
        if self._settler.pending():
            return min(max(self._watch.settle_s / 4, _BATCH_S), 1.0)
        return max(min(self._next_look, self._next_scan) - now, _BATCH_S)

    def scan(self, now: float) -> None:
        """Look through all folders for files that are new, changed or gone."""
        started = time.monotonic()
        found: set[Path] = set()
        complete: list[Path] = []
        new = 0
        for folder in self._folders:
            if folder.lost:
                continue
            errors: list[OSError] = []
            for root, folders, files in os.walk(folder.path, onerror=errors.append):
                for name in files + folders:
                    if self._counts(name):
                        path = Path(root, name)
                        found.add(path)
                        new += self._touch(path, now)
                folders[:] = [n for n in folders if self._watch.recursive and not n.startswith(".")]
            if self._readable(folder, errors):
                complete.append(folder.path)
        for path in self._settler.known():
            if path not in found and any(path.is_relative_to(c) for c in complete):
                self._gone(path)
        self._told_ignored &= found
        log.debug("scan_finished", files=len(found), new=new, seconds=round(time.monotonic() - started, 3))

    def _readable(self, folder: Folder, errors: list[OSError]) -> bool:
        """Whether a scan saw all of a folder; what it could not read is told, once."""
        for error in errors:
            place, why = Path(os.fsdecode(error.filename)), error.strerror or str(error)
            if place == folder.path:
                folder.lose(why)
            elif place not in self._told_unreadable and not isinstance(error, FileNotFoundError):
                self._told_unreadable.add(place)
                log.warning("watch_lost", folder=str(place), reason=why)
        return not errors

    # one file

    def _take_hints(self, now: float) -> None:
        hints, self._head = self._head, []
        with contextlib.suppress(queue.Empty):
            while True:
                hints.append(self._hints.get_nowait())
        touched: dict[Path, bool | None] = {}
        for hint in hints:
            if hint is not None:
                path, busy = hint
                touched[path] = touched.get(path) if busy is None else busy
        for path, busy in touched.items():
            self._touch(path, now)
            if busy is not None:
                self._settler.writing(path, busy)

    def _folder_of(self, path: Path) -> Folder | None:
        return next((f for f in self._folders if path.is_relative_to(f.path)), None)

    def _touch(self, path: Path, now: float) -> bool:
        """Take note of a file's present state; True if it is new or changed."""
        folder = self._folder_of(path)
        if folder is None:
            return False
        reason = ignorable(path.relative_to(folder.path))
        try:
            if reason is None and path.is_symlink() and not folder.holds(path):
                reason = "a symbolic link that leaves the watched folder"
            if reason is None:
                stamp, _ = folder.stamp(path)
        except FileNotFoundError:
            self._gone(path)
            return False
        except (OSError, RuntimeError) as e:
            reason = f"cannot be looked at: {e}"
        if reason is not None:
            if path not in self._told_ignored:
                self._told_ignored.add(path)
                log.debug("file_ignored", path=str(path), reason=reason)
            return False
        changed = self._settler.observe(path, stamp, now)
        if changed:
            log.debug("file_seen", path=str(path), bytes=stamp.size)
        return changed

    def _gone(self, path: Path) -> None:
        if self._settler.forget(path):
            log.info("file_gone", path=str(path))

    def _examine(self, path: Path, now: float) -> None:
        """Look into a file that has been quiet, and decide."""
        folder = self._folder_of(path)
        if folder is None:
            return
        reason = ""
        try:
            stamp, regular = folder.stamp(path)
            if regular:
                promised = self._size_of(path)
                if stamp.size < promised:
                    reason = f"{stamp.size} of the {promised} bytes that its headers promise are there"
            again, _ = folder.stamp(path)
        except FileNotFoundError:
            self._gone(path)
            return
        except (UprampError, OSError) as e:
            reason = str(e)
        else:
            if self._settler.observe(path, again, now):
                return
            if not regular:
                self._settler.hand_on(path)
                self._deliver(path, now, Verdict.STALE, "not a regular file")
                return
        verdict = self._settler.judge(path, not reason, now)
        if verdict is not Verdict.WAITING:
            self._deliver(path, now, verdict, reason)
        elif self._settler.first_told(path):
            log.info(
                "file_waiting",
                path=str(path),
                bytes=self._settler.size(path),
                reason=reason or "it is still open for writing",
            )

    def _deliver(self, path: Path, now: float, verdict: Verdict, reason: str) -> None:
        facts = {"bytes": self._settler.size(path), "seconds": round(self._settler.age(path, now), 3)}
        if verdict is Verdict.STALE:
            log.warning("file_stale", path=str(path), reason=reason, **facts)
        else:
            log.info("file_settled", path=str(path), **facts)
        try:
            self._on_settled(path)
        except Exception as e:  # the receiver's fault must not end the watch
            log.error("watch_error", path=str(path), reason=str(e), exc_info=True)
            self._settler.again(path, now)
