"""How changes in a folder come to notice: inotify, or polling for network disks.

inotify sees only what this machine does, so on a network disk, where other machines write,
watchdog's polling observer takes its place. Either only gives hints; `watch` looks for itself.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

from watchdog.events import FileSystemEvent, FileSystemEventHandler

Kind = Literal["inotify", "polling"]

NETWORK = {
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "davfs",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "prl_fs",
    "smb3",
    "smbfs",
    "vboxsf",
    "virtiofs",
    "vmhgfs",
    "wekafs",
}
"""File systems whose files other machines may change; so may those of any ``fuse.*``."""


def filesystem(folder: Path, mounts: str) -> str:
    """The type of the file system that holds a folder.

    Parameters
    ----------
    folder : Path
        Absolute, without symlinks.
    mounts : str
        The text of /proc/mounts; of several file systems mounted on one place the last holds.
    """
    best, found = -1, "unknown"
    for line in mounts.splitlines():
        words = line.split()
        if len(words) < 3:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), words[1]))
        if folder.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), words[2]
    return found


def choose(setting: str, fstype: str) -> Kind:
    """What watches a folder on this file system under ``[watch] observer``."""
    if setting == "inotify":
        return "inotify"
    if setting == "polling":
        return "polling"
    return "polling" if fstype in NETWORK or fstype.startswith("fuse.") else "inotify"


class Sink(Protocol):
    """Where hints go; called from the observer's threads."""

    def touched(self, path: Path) -> None:
        """The file appeared or changed."""

    def writing(self, path: Path, busy: bool) -> None:
        """Somebody writes to the file, or closed it."""

    def rescan(self, lost: bool = False) -> None:
        """More happened than can be told file by file; ``lost``: even events went missing."""


class Observer(Protocol):
    """A folder under observation."""

    def alive(self) -> bool:
        """Whether changes are still noticed."""

    def stop(self) -> None:
        """Let go of the folder."""


Factory = Callable[[Kind, Path, bool, float, Sink], Observer]
"""(kind, folder, recursive, poll_s, sink) -> a running observer; raises OSError if there can be none."""


class _Handler(FileSystemEventHandler):
    """Translates watchdog's events. Only inotify tells who writes and who closed."""

    def __init__(self, sink: Sink, tells_closing: bool) -> None:
        self._sink = sink
        self._tells_closing = tells_closing

    def on_any_event(self, event: FileSystemEvent) -> None:
        kind = event.event_type
        if kind in ("opened", "closed_no_write"):
            return
        if event.is_directory:
            if kind in ("created", "moved", "deleted"):
                self._sink.rescan()
            return
        path = Path(os.fsdecode(event.src_path))
        if kind == "moved":
            self._sink.touched(path)
            path = Path(os.fsdecode(event.dest_path))
        self._sink.touched(path)
        if self._tells_closing and kind in ("modified", "closed", "moved"):
            self._sink.writing(path, kind == "modified")


class _Overflow(logging.Handler):
    """watchdog tells of a lost batch of events only in its log."""

    def __init__(self, sink: Sink) -> None:
        super().__init__(logging.WARNING)
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" in record.getMessage().lower():
            self._sink.rescan(lost=True)


_INOTIFY_LOG = logging.getLogger("watchdog.observers.inotify_c")


class _Watchdog:
    """One watchdog observer on one folder."""

    def __init__(self, kind: Kind, folder: Path, recursive: bool, poll_s: float, sink: Sink) -> None:
        from watchdog.observers.polling import PollingObserver

        self._observer: Any
        if kind == "polling":
            self._observer = PollingObserver(timeout=poll_s)
        else:
            from watchdog.observers import Observer as Native

            self._observer = Native()
        self._overflow = _Overflow(sink)
        _INOTIFY_LOG.setLevel(logging.WARNING)  # whatever [log] level lets through
        _INOTIFY_LOG.addHandler(self._overflow)
        self._observer.schedule(_Handler(sink, kind == "inotify"), str(folder), recursive=recursive)
        try:
            self._observer.start()
        except OSError:
            self.stop()
            raise

    def alive(self) -> bool:
        return self._observer.is_alive() and all(e.is_alive() for e in self._observer.emitters)

    def stop(self) -> None:
        _INOTIFY_LOG.removeHandler(self._overflow)
        self._observer.stop()
        if self._observer.ident is not None:
            self._observer.join(timeout=10)


def start(kind: Kind, folder: Path, recursive: bool, poll_s: float, sink: Sink) -> Observer:
    """Observe a folder with watchdog.

    Raises
    ------
    OSError
        If the folder cannot be watched: it is gone, or the limit on inotify watches is reached.
    """
    return _Watchdog(kind, folder, recursive, poll_s, sink)
