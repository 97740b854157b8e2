"""Ramps put down between two passes, for steps that need whole frames.

Most steps work on rows as they roll by. Some look at a whole frame (one group of one integration): the
shapes of snowballs, noise that is common to a detector's rows, reference pixels between all others. For
these the ramps are put down: rows come in from one pass, frames are read and written one at a time, and the
next pass takes the rows up again. So never more than a few frames are in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from upramp.stages.core.meta import ExposureMeta


class Ramps(Protocol):
    """Ramps with their flags, put down; frames and rows may be read and written by any number of threads.

    ``meta`` tells the shape; ``pdq`` (ny, nx) uint32 stays in memory and may be changed in place.
    """

    meta: ExposureMeta
    pdq: np.ndarray

    def read(self, i: int, g: int) -> np.ndarray:
        """The counts of a frame, DN: a new float32 array (ny, nx). ``i`` and ``g`` count from 0."""

    def write(self, i: int, g: int, frame: np.ndarray) -> None:
        """Put counts (ny, nx), or of the size that will be after `cut`, in the place of a frame."""

    def read_flags(self, i: int, g: int) -> np.ndarray:
        """The flags of a frame: a new uint8 array (ny, nx)."""

    def write_flags(self, i: int, g: int, flags: np.ndarray) -> None:
        """Put flags (ny, nx), or of the size that will be after `cut`, in the place of a frame's."""

    def read_rows(self, data: np.ndarray, gdq: np.ndarray | None, lo: int, i0: int = 0, x0: int = 0) -> None:
        """Fill ``data`` float32 and ``gdq`` uint8, both [rows, nints, ngroups, columns], C-contiguous.

        From row ``lo``, integration ``i0`` and column ``x0`` on; ``gdq`` may be left out.
        """

    def write_rows(self, data: np.ndarray | None, gdq: np.ndarray, lo: int, x0: int = 0, i0: int = 0) -> None:
        """Put rows in place, from row ``lo``, column ``x0`` and integration ``i0`` on.

        ``data`` may be left out; both may be views of which the columns lie side by side.
        """

    def cut(self, meta: ExposureMeta) -> None:
        """From now on frames have the smaller size of ``meta``: those that were written in that size.

        ``pdq`` keeps its first rows and columns.
        """

    def close(self) -> None:
        """Give up what they take; a second call does nothing."""


@dataclass
class RampStore:
    """Ramps put down in memory."""

    meta: ExposureMeta
    data: np.ndarray  # float32 [nints, ngroups, ny, nx]
    gdq: np.ndarray  # uint8, same shape
    pdq: np.ndarray  # uint32 [ny, nx]

    @classmethod
    def empty(cls, meta: ExposureMeta) -> RampStore:
        """Room for the ramps of an exposure."""
        shape = (meta.nints, meta.ngroups, meta.ny, meta.nx)
        return cls(meta, np.zeros(shape, "f4"), np.zeros(shape, "u1"), np.zeros(shape[2:], "u4"))

    def read(self, i: int, g: int) -> np.ndarray:
        """See `Ramps`."""
        return np.array(self.data[i, g])

    def write(self, i: int, g: int, frame: np.ndarray) -> None:
        """See `Ramps`."""
        self.data[i, g, : len(frame), : frame.shape[1]] = frame

    def read_flags(self, i: int, g: int) -> np.ndarray:
        """See `Ramps`."""
        return np.array(self.gdq[i, g])

    def write_flags(self, i: int, g: int, flags: np.ndarray) -> None:
        """See `Ramps`."""
        self.gdq[i, g, : len(flags), : flags.shape[1]] = flags

    def read_rows(self, data: np.ndarray, gdq: np.ndarray | None, lo: int, i0: int = 0, x0: int = 0) -> None:
        """See `Ramps`."""
        rows, nints, _, columns = data.shape
        part = np.s_[i0 : i0 + nints, :, lo : lo + rows, x0 : x0 + columns]
        data[:] = self.data[part].transpose(2, 0, 1, 3)
        if gdq is not None:
            gdq[:] = self.gdq[part].transpose(2, 0, 1, 3)

    def write_rows(self, data: np.ndarray | None, gdq: np.ndarray, lo: int, x0: int = 0, i0: int = 0) -> None:
        """See `Ramps`."""
        rows, nints, _, columns = gdq.shape
        part = np.s_[i0 : i0 + nints, :, lo : lo + rows, x0 : x0 + columns]
        if data is not None:
            self.data[part] = data.transpose(1, 2, 0, 3)
        self.gdq[part] = gdq.transpose(1, 2, 0, 3)

    def cut(self, meta: ExposureMeta) -> None:
        """See `Ramps`."""
        self.meta = meta
        part = np.s_[..., : meta.ny, : meta.nx]
        self.data, self.gdq, self.pdq = self.data[part], self.gdq[part], self.pdq[part].copy()

    def close(self) -> None:
        """See `Ramps`."""


@dataclass
class Crew:
    """The threads that work on frames, and what they count.

    ``counters``: events by "step.counter", to be updated by the thread that was called with the crew.
    ``stop`` is asked before each item of `each`.
    """

    threads: int = 1
    stop: Callable[[], bool] = lambda: False
    counters: Counter[str] = field(default_factory=Counter)

    def each(self, work: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """``work(item)`` for all items, side by side; the results in the order of the items.

        Raises
        ------
        Interrupted
            If the caller asked to stop.
        """

        def one(item: Any) -> Any:
            if self.stop():
                raise Interrupted
            return work(item)

        if self.threads == 1:
            return [one(item) for item in items]
        with ThreadPoolExecutor(self.threads, thread_name_prefix="upramp") as pool:
            futures = [pool.submit(one, item) for item in items]
            try:
                return [future.result() for future in futures]
            except BaseException:
                for future in futures:
                    future.cancel()
                raise


class Interrupted(Exception):
    """The caller asked to stop; nothing was published."""
