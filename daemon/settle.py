"""When is a file whole? A pure state machine: no disk, no clock of its own.

A file is observed (size, time, inode) whenever something hints that it changed. Once it was
quiet for the settle time it is due: its caller looks inside and tells the outcome, and it is

    settled   handed on: quiet, closed, as long as its headers promise
    waiting   short, unreadable or open: looked at again, less and less often
    stale     quiet for the limit and still not whole: handed on all the same, so that it gets
              recorded with the reason

A file that changes after it was handed on starts anew. Quiet counts from the last change that
was seen, on the caller's clock: the times of files come from other machines' clocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple


class Stamp(NamedTuple):
    """What tells one state of a file from another."""

    size: int
    mtime_ns: int
    inode: int = 0


class Verdict(Enum):
    """What becomes of a file that was looked into."""

    SETTLED = "settled"
    WAITING = "waiting"
    STALE = "stale"


@dataclass
class _Entry:
    stamp: Stamp
    first: float
    changed: float
    look: float
    handed: Stamp | None = None
    writing: bool = False
    told: bool = False


class Settler:
    """The files of the watched folders and how far each has come.

    Parameters
    ----------
    settle_s : float
        How long a file must be quiet, s.
    stale_s : float
        After how long a quiet file that is not whole is handed on, s.
    """

    def __init__(self, settle_s: float, stale_s: float) -> None:
        self.settle_s = settle_s
        self.stale_s = max(stale_s, settle_s)
        self._entries: dict[Path, _Entry] = {}

    def observe(self, path: Path, stamp: Stamp, now: float) -> bool:
        """Take note of a file's state at time ``now``; True if it is new or changed."""
        entry = self._entries.get(path)
        if entry is None:
            self._entries[path] = _Entry(stamp, first=now, changed=now, look=now + self.settle_s)
            return True
        if entry.stamp == stamp:
            return False
        if entry.handed == entry.stamp:
            entry.first, entry.told = now, False
        entry.stamp, entry.changed, entry.look = stamp, now, now + self.settle_s
        return True

    def writing(self, path: Path, busy: bool) -> None:
        """Somebody writes to the file, or closed it. Unknown files are not written to."""
        if entry := self._entries.get(path):
            entry.writing = busy

    def forget_writers(self) -> None:
        """Events were lost, closing ones perhaps: rely on size and time alone."""
        for entry in self._entries.values():
            entry.writing = False

    def forget(self, path: Path) -> bool:
        """The file is gone; True if it was still waited for."""
        entry = self._entries.pop(path, None)
        return entry is not None and entry.handed != entry.stamp

    def again(self, path: Path, now: float) -> None:
        """Handing on did not work: try it once more after the settle time."""
        if entry := self._entries.get(path):
            entry.handed, entry.look = None, now + self.settle_s

    def known(self) -> list[Path]:
        """All files, handed on or not."""
        return list(self._entries)

    def pending(self) -> list[Path]:
        """The files not handed on in their present state."""
        return [p for p, e in self._entries.items() if e.handed != e.stamp]

    def due(self, now: float) -> list[Path]:
        """Pending files that were quiet long enough to look into: the first seen first, then the oldest."""
        ready = [(e, p) for p, e in self._entries.items() if e.handed != e.stamp and e.look <= now]
        return [path for e, path in sorted(ready, key=lambda x: (x[0].first, x[0].stamp.mtime_ns, x[1]))]

    def judge(self, path: Path, whole: bool, now: float) -> Verdict:
        """Decide on a due file, its caller having looked into it.

        A file whose writer has not closed it waits even if it looks whole, though not
        beyond the limit: some writers never let go.
        """
        entry = self._entries[path]
        quiet = now - entry.changed
        if whole and (not entry.writing or quiet >= self.stale_s):
            entry.handed = entry.stamp
            return Verdict.SETTLED
        if not whole and quiet >= self.stale_s:
            entry.handed = entry.stamp
            return Verdict.STALE
        entry.look = min(now + max(self.settle_s, quiet / 4), entry.changed + self.stale_s)
        return Verdict.WAITING

    def hand_on(self, path: Path) -> None:
        """The file is handed on whatever it is like."""
        entry = self._entries[path]
        entry.handed = entry.stamp

    def first_told(self, path: Path) -> bool:
        """Whether this is the first time that this version of the file is spoken of as waiting."""
        entry = self._entries[path]
        before, entry.told = entry.told, True
        return not before

    def size(self, path: Path) -> int:
        """Size when last observed, bytes."""
        return self._entries[path].stamp.size

    def age(self, path: Path, now: float) -> float:
        """Seconds since this version of the file was first seen."""
        return now - self._entries[path].first
