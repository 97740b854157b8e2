"""The order of exposures, where persistence goes on from one to the next on a detector.

A segment waits for those before it that are at work and may leave windows that reach it; the service waits
some time also for what may still arrive. Then it takes over the windows of the last one that is known.
Exposures without the step have no turn, and none of this concerns them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from upramp.daemon.events import Before, Turn, Work
from upramp.store.naming import preceding

Row = Mapping[str, Any]


def reaches(first: Turn, other: Turn) -> bool:
    """Whether windows that ``first`` may leave are open when ``other`` begins."""
    return first.detector == other.detector and first.start < other.start <= first.end + other.seconds


@dataclass(frozen=True)
class Hold:
    """Why a segment must wait.

    ``behind``: the file that comes first. ``until``: how long to wait for one that nobody has seen yet, by
    the desk's clock. Neither: until the times of all files at work are known.
    """

    behind: Path | None = None
    until: float | None = None


class Order:
    """The files at work and their turns, as far as they are known."""

    def __init__(self) -> None:
        self._unknown: dict[Path, None] = {}
        self._turns: dict[Path, Turn | None] = {}
        self._in_time: dict[str, list[tuple[float, Path]]] = {}  # detector -> (start, file), sorted
        self._deadlines: dict[Path, float] = {}
        self._told: set[Path] = set()

    def expect(self, path: Path) -> None:
        """A file is at work, and nobody knows its time yet."""
        if path not in self._turns:
            self._unknown[path] = None

    def know(self, path: Path, turn: Turn | None) -> None:
        """Its turn is known; None if it leaves no windows to anybody."""
        self._unknown.pop(path, None)
        self._leave(path)
        self._turns[path] = turn
        if turn is not None:
            insort(self._in_time.setdefault(turn.detector, []), (turn.start, path))

    def wait(self, path: Path, until: float) -> None:
        """What nobody has seen yet may come before it until then; a time that was set before stays."""
        self._deadlines.setdefault(path, until)

    def forget(self, path: Path) -> None:
        """Its work is over."""
        self._leave(path)
        self._unknown.pop(path, None)
        self._turns.pop(path, None)
        self._deadlines.pop(path, None)
        self._told.discard(path)

    def _leave(self, path: Path) -> None:
        turn = self._turns.get(path)
        if turn is not None:
            self._in_time[turn.detector].remove((turn.start, path))

    @property
    def unknown(self) -> Path | None:
        """A file at work whose time nobody knows, or None."""
        return next(iter(self._unknown), None)

    def earliest(self, paths: Sequence[Path]) -> int:
        """Which of these files to take first: the one with the earliest turn; without turns, the first."""
        if not any(self._in_time.values()):
            return 0
        turns = [self._turns.get(path) for path in paths]
        return min(range(len(paths)), key=lambda k: -1.0 if (turn := turns[k]) is None else turn.start)

    def hold(self, work: Work, now: float, is_preceded: Callable[[str], bool]) -> Hold | None:
        """Why this segment must wait, or None if its turn has come.

        ``is_preceded`` tells of a segment whether what came before it is known to be over.
        """
        if work.turn is None:
            return None
        path = work.identity.path
        if self._unknown:
            return Hold()
        if (first := self._first(work.turn)) is not None:
            return Hold(behind=first)
        until = self._deadlines.get(path)
        if until is not None and now < until and not is_preceded(work.segment_id):
            return Hold(until=until)
        return None

    def waited(self, work: Work) -> bool:
        """Whether time was given to what might come before this segment."""
        return work.identity.path in self._deadlines

    def is_news(self, work: Work) -> bool:
        """Whether nobody was told yet that it waits; now somebody is."""
        new = work.identity.path not in self._told
        self._told.add(work.identity.path)
        return new

    def _first(self, turn: Turn) -> Path | None:
        """The nearest file at work that may leave windows that reach this turn."""
        order = self._in_time.get(turn.detector, [])
        for _, path in reversed(order[: bisect_left(order, turn.start, key=lambda entry: entry[0])]):
            other = self._turns[path]
            if other is not None and reaches(other, turn):
                return path
        return None


def is_preceded(segment_id: str, state: Any) -> bool:
    """Whether the ledger knows that what came directly before a segment is over, well or not.

    Parameters
    ----------
    segment_id : str
        By its name the archive's numbers tell what came before.
    state : Lookups
        Of the ledger.
    """
    name = preceding(segment_id)
    if name is None:
        return False
    alone = state.segment(name)
    rows: Sequence[Row] = state.exposure_segments(name) if alone is None else [alone]
    expected = 1 if alone is not None else max((row["segments"] or 0 for row in rows), default=0)
    return 0 < expected <= len(rows) and all(row["state"] in ("calibrated", "failed") for row in rows)


def taken_over(turn: Turn, state: Any) -> Before:
    """What a segment whose turn it is begins with: the windows of the last one before it that is known."""
    row = state.windows_before(turn.detector, turn.start)
    if row is None:
        return Before(reason="nothing is known of an exposure before it")
    name = row["segment_id"]
    if row["persistence_time"] != turn.seconds:
        return Before(reason=f"{name} was calibrated with persistence_time = {row['persistence_time']:g}")
    if row["until_s"] is None or row["until_s"] < turn.start:
        return Before(name, reason=f"all windows of {name} were over")
    path = Path(row["path"])
    if not path.exists():
        return Before(reason=f"the windows that {name} left are no longer there; calibrate it once more")
    return Before(name, path, row["sha256"])


def with_windows(work: Work, state: Any) -> Work:
    """The work as it is done now: with the windows it takes over, which are part of its fingerprint."""
    if work.turn is None:
        return work
    before = taken_over(work.turn, state)
    return replace(work, before=before, fingerprint=work.plan.fingerprint(work.sha256, before.sha256))


def outdated(times: Iterable[tuple[str, float]], state: Any) -> list[Row]:
    """Segments that began with other windows than they would now, after windows changed at these times.

    Of each detector and time, those that began then and the next one are looked at. Rows of the ledger.
    """
    found: dict[str, Row] = {}
    for detector, start in times:
        for row in islice(state.windows_from(detector, start), 2):
            turn = Turn(detector, row["start_s"], row["end_s"], row["persistence_time"])
            if taken_over(turn, state).sha256 != (row["before_sha256"] or ""):
                found[row["segment_id"]] = row
    return list(found.values())
