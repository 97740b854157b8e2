"""Ramps on disk between two passes, for steps that need whole frames (see `stages.core.frames`).

A file without a name holds [integration, group, row, column], counts and then flags. It goes
away with the process, however that ends. Frames are single reads and writes; rows are gathered in
pieces that stay in the cache. No memory mapping: mapped pages count as resident memory.
"""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from upramp.stages.core.errors import Retryable
from upramp.stages.core.meta import ExposureMeta
from upramp.store.fitsio import reading_error, writing_error

_PIECE = 1 << 20
"""Bytes of one array that are gathered before they are moved on."""


class DiskRamps:
    """Ramps with their flags in a scratch file; any number of threads may share it.

    Parameters
    ----------
    meta : ExposureMeta
        Tells the shape.
    folder : Path
        Where the file lies.

    Raises
    ------
    Retryable
        Here and whenever rows or frames are moved: the disk is full or fails.
    Misconfigured
        The folder cannot be written.
    """

    def __init__(self, meta: ExposureMeta, folder: Path) -> None:
        self.meta = meta
        self.pdq = np.zeros((meta.ny, meta.nx), np.uint32)
        self._room = meta.ny * meta.nx
        self._flags = 4 * self._room * meta.nints * meta.ngroups
        self._folder = folder
        self._local = threading.local()
        try:
            self._fd, name = tempfile.mkstemp(dir=folder)
            Path(name).unlink()
        except OSError as error:
            raise writing_error(error, folder) from error

    def read(self, i: int, g: int) -> np.ndarray:
        """See `stages.core.frames.Ramps`."""
        frame = np.empty((self.meta.ny, self.meta.nx), np.float32)
        self._read(frame, self._at(i, g, 4))
        return frame

    def write(self, i: int, g: int, frame: np.ndarray) -> None:
        """See `stages.core.frames.Ramps`."""
        self._write(self._whole(frame, np.float32), self._at(i, g, 4))

    def read_flags(self, i: int, g: int) -> np.ndarray:
        """See `stages.core.frames.Ramps`."""
        flags = np.empty((self.meta.ny, self.meta.nx), np.uint8)
        self._read(flags, self._at(i, g, 1))
        return flags

    def write_flags(self, i: int, g: int, flags: np.ndarray) -> None:
        """See `stages.core.frames.Ramps`."""
        self._write(self._whole(flags, np.uint8), self._at(i, g, 1))

    def read_rows(self, data: np.ndarray, gdq: np.ndarray | None, lo: int, i0: int = 0, x0: int = 0) -> None:
        """See `stages.core.frames.Ramps`."""
        for out in (data, gdq):
            if out is None:
                continue
            rows, nints, ngroups, columns = out.shape
            flat = out.reshape(rows, nints * ngroups, columns)
            size = out.itemsize
            for first, piece in self._pieces(flat, self.meta.nx):
                for k in range(len(piece)):
                    self._read(piece[k], self._at(i0, first + k, size) + lo * self.meta.nx * size)
                flat[:, first : first + len(piece)] = piece[:, :, x0 : x0 + columns].transpose(1, 0, 2)

    def write_rows(self, data: np.ndarray | None, gdq: np.ndarray, lo: int, x0: int = 0, i0: int = 0) -> None:
        """See `stages.core.frames.Ramps`."""
        for a in (data, gdq):
            if a is None:
                continue
            rows, nints, ngroups, columns = a.shape
            flat = a.reshape(rows, nints * ngroups, columns)
            size = a.itemsize
            for first, piece in self._pieces(flat, columns):
                piece[:] = flat[:, first : first + len(piece)].transpose(1, 0, 2)
                for k in range(len(piece)):
                    start = self._at(i0, first + k, size) + (lo * self.meta.nx + x0) * size
                    if columns == self.meta.nx:
                        self._write(piece[k], start)
                        continue
                    for r in range(rows):
                        self._write(piece[k, r], start + r * self.meta.nx * size)

    def cut(self, meta: ExposureMeta) -> None:
        """See `stages.core.frames.Ramps`."""
        if meta.ny * meta.nx > self._room:
            raise ValueError(f"{meta.ny} rows of {meta.nx} pixels are more than there is room for")
        self.pdq = np.array(self.pdq[: meta.ny, : meta.nx])
        self.meta = meta

    def close(self) -> None:
        """Give up the file; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _at(self, i: int, g: int, size: int) -> int:
        """Where a frame begins; ``g`` may go on into later integrations."""
        return (self._flags if size == 1 else 0) + (i * self.meta.ngroups + g) * self._room * size

    def _whole(self, frame: np.ndarray, dtype: Any) -> np.ndarray:
        """A frame as it is to be written."""
        if frame.ndim != 2 or frame.size > self._room:
            raise ValueError(f"there is room for frames of {self._room} pixels, not {frame.shape}")
        return np.ascontiguousarray(frame, dtype)

    def _pieces(self, flat: np.ndarray, columns: int) -> Any:
        """First frame of each piece, and a work array [frames, rows, columns] for it."""
        rows, frames, _ = flat.shape
        one = rows * columns * flat.itemsize
        n = min(frames, max(1, _PIECE // max(one, 1)))
        buffer = getattr(self._local, "buffer", None)
        if buffer is None or buffer.nbytes < n * one:
            buffer = self._local.buffer = np.empty(n * one, np.uint8)
        for first in range(0, frames, n):
            k = min(n, frames - first)
            yield first, buffer[: k * one].view(flat.dtype).reshape(k, rows, columns)

    def _read(self, out: np.ndarray, start: int) -> None:
        memory = out.data.cast("B") if out.size else memoryview(b"")
        done = 0
        try:
            while done < len(memory):
                got = os.preadv(self._fd, [memory[done:]], start + done)
                if got == 0:  # nobody wrote here yet
                    memory[done:] = bytes(len(memory) - done)
                    return
                done += got
        except OSError as error:
            raise reading_error(error, self._folder) from error

    def _write(self, a: np.ndarray, start: int) -> None:
        memory = a.data.cast("B") if a.size else memoryview(b"")
        done = 0
        try:
            while done < len(memory):
                got = os.pwrite(self._fd, memory[done:], start + done)
                if got == 0:
                    raise Retryable(f"nothing can be written to {self._folder}; it will be tried again")
                done += got
        except OSError as error:
            raise writing_error(error, self._folder) from error
