"""Arrays as large as the ramps that steps fill for further products (see `stages.core.extras`), on disk.

A file without a name, in native byte order, which goes away with the process. What is not written takes no
room and reads as zeros.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from upramp.store.fitsio import reading_error, writing_error


class DiskCube:
    """Frames (ny, nx) float32 behind leading axes; see `stages.core.extras.Cube`.

    Parameters
    ----------
    shape : tuple of int
        (..., ny, nx).
    folder : Path
        Where the file lies.

    Raises
    ------
    Retryable
        Here and whenever frames are moved: the disk is full or fails.
    Misconfigured
        The folder cannot be written.
    """

    def __init__(self, shape: tuple[int, ...], folder: Path) -> None:
        self.shape = shape
        self._folder = folder
        self._steps = tuple(prod(shape[k + 1 :]) for k in range(len(shape)))  # elements from one to the next
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._fd, name = tempfile.mkstemp(dir=folder)
            Path(name).unlink()
        except OSError as error:
            raise writing_error(error, folder) from error
        weakref.finalize(self, os.close, self._fd)

    def write(self, *place: Any) -> None:
        """See `stages.core.extras.Cube`."""
        *index, frame = place
        self._put(np.ascontiguousarray(frame, np.float32).reshape(self.shape[-2:]), self._at(index))

    def write_rows(self, y0: int, x0: int, values: np.ndarray, first: int = 0) -> None:
        """See `stages.core.extras.Cube`."""
        rows, columns, nx = values.shape[0], values.shape[-1], self.shape[-1]
        for index in np.ndindex(*values.shape[1:-1]):
            part = np.ascontiguousarray(values[(slice(None), *index)], np.float32)
            place = (first + index[0], *index[1:]) if index else ()
            start = self._at(place) + y0 * nx + x0
            if columns == nx:
                self._put(part, start)
                continue
            for r in range(rows):
                self._put(part[r], start + r * nx)

    def read(self, *index: int) -> np.ndarray:
        """See `stages.core.extras.Cube`."""
        frame = np.empty(self.shape[-2:], np.float32)
        memory, start, done = frame.data.cast("B"), 4 * self._at(index), 0
        try:
            while done < len(memory):
                got = os.preadv(self._fd, [memory[done:]], start + done)
                if got == 0:  # nothing was written from here on
                    memory[done:] = bytes(len(memory) - done)
                    break
                done += got
        except OSError as error:
            raise reading_error(error, self._folder) from error
        return frame

    def cut(self, *lengths: int) -> None:
        """See `stages.core.extras.Cube`."""
        kept = tuple(min(n, old) for n, old in zip(lengths, self.shape, strict=False))
        self.shape = (*kept, *self.shape[len(kept) :])

    def _at(self, index: Any) -> int:
        """The first element of a frame."""
        if len(index) != len(self.shape) - 2 or any(
            not 0 <= i < n for i, n in zip(index, self.shape, strict=False)
        ):
            raise IndexError(f"there is no frame {tuple(index)} in a cube of shape {self.shape}")
        return sum(i * step for i, step in zip(index, self._steps, strict=False))

    def _put(self, values: np.ndarray, start: int) -> None:
        memory, done = values.data.cast("B") if values.size else memoryview(b""), 0
        try:
            while done < len(memory):
                done += os.pwrite(self._fd, memory[done:], 4 * start + done)
        except OSError as error:
            raise writing_error(error, self._folder) from error
