"""Counts from disk into ramps, at the speed of a memory copy.

The file holds [integration, group, row, column]; a window of rows wants
[row, integration, group, column]. For every group one read fetches the asked rows as
they lie; a kernel then swaps bytes, adds BZERO and puts each row in its place while the
bytes are still in the cache. No memory mapping: mapped pages count as resident memory.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

import numpy as np

from upramp.stages.core.errors import Retryable
from upramp.stages.core.kernel import kernel
from upramp.store.byteorder import swap_words
from upramp.store.fitsio import open_regular, reading_error

_PIECE = 1 << 20
"""Bytes that are read before they are converted: they should stay in the second-level cache."""


# One-dimensional slices ahead of the innermost loop: with them the compiler makes vector
# instructions of it, ten times faster than four indices in the loop.


@kernel
def unpack_counts(raw, out, first, x0):
    """Big-endian int16 with BZERO 32768 to float32, frames ``first``.. of a window.

    ``raw`` (frames, rows, nx) uint16 as stored; ``out`` (rows, all frames, columns) float32.
    Adding 32768 to a signed 16-bit number is flipping its top bit.
    """
    frames, rows, _ = raw.shape
    columns = out.shape[2]
    byte, sign = np.uint16(8), np.uint16(0x8000)
    for f in range(frames):
        for r in range(rows):
            source = raw[f, r, x0 : x0 + columns]
            target = out[r, first + f]
            for c in range(columns):
                v = source[c]
                target[c] = np.float32(np.uint16((v >> byte) | (v << byte)) ^ sign)


@kernel
def unpack_floats(raw, out, first, x0):
    """Big-endian float32, taken as uint32, to native; ``out`` is the float array seen as uint32."""
    frames, rows, _ = raw.shape
    columns = out.shape[2]
    for f in range(frames):
        for r in range(rows):
            swap_words(raw[f, r, x0 : x0 + columns], out[r, first + f], np.uint32(0))


class RampSource:
    """Reads windows of one uncal file; any number of threads may share it.

    Parameters
    ----------
    path : Path
        The file; its descriptor stays open until ``close``.
    offset : int
        Where the SCI pixels begin.
    shape : tuple of int
        (nints, ngroups, ny, nx).
    floats : bool
        The pixels are float32; otherwise they are unsigned 16-bit counts.
    """

    def __init__(
        self, path: Path, offset: int, shape: tuple[int, int, int, int], floats: bool = False
    ) -> None:
        self._path = path
        self._offset = offset
        self._shape = shape
        self._floats = floats
        self._local = threading.local()
        self._fd, _ = open_regular(path)

    def read(self, out: np.ndarray, y0: int, x0: int, i0: int = 0) -> None:
        """Fill ``out`` with rows from ``y0``, columns from ``x0`` and integrations from ``i0`` on, DN.

        Whole rows are always read: for rows of 4 KB a system call each would cost more
        than the bytes that it saves. So ask for several rows at a time.

        Parameters
        ----------
        out : ndarray, float32, shape (rows, nints, ngroups, columns), C-contiguous
        y0, x0, i0 : int
            Row, column and integration (0-based, of the file's array) of ``out[0, 0, 0, 0]``.

        Raises
        ------
        Retryable
            If the file became shorter meanwhile, or the disk fails.
        """
        nints, ngroups, ny, nx = self._shape
        rows, integrations, _, columns = out.shape
        if out.dtype != np.float32 or not out.flags.c_contiguous or out.shape[2] != ngroups:
            raise ValueError(f"out must be C-contiguous float32 (rows, integrations, {ngroups}, columns)")
        if i0 < 0 or i0 + integrations > nints:
            raise ValueError(f"integrations {i0}+{integrations} lie outside {nints}")
        if y0 < 0 or x0 < 0 or y0 + rows > ny or x0 + columns > nx:
            raise ValueError(f"rows {y0}+{rows}, columns {x0}+{columns} lie outside {ny} x {nx}")
        if self._fd < 0:
            raise ValueError(f"{self._path.name} is closed")
        if not out.size:
            return
        dtype = np.dtype(np.uint32 if self._floats else np.uint16)
        frames = integrations * ngroups
        flat = out.reshape(rows, frames, columns)
        if self._floats:
            flat = flat.view(np.uint32)
        unpack = unpack_floats if self._floats else unpack_counts
        size = rows * nx * dtype.itemsize
        piece = min(frames, max(1, _PIECE // size))
        buffer = self._buffer(piece * size)
        memory = buffer.data
        raw = buffer[: piece * size].view(dtype).reshape(piece, rows, nx)
        for first in range(0, frames, piece):
            n = min(piece, frames - first)
            for k in range(n):
                start = self._offset + ((i0 * ngroups + first + k) * ny + y0) * nx * dtype.itemsize
                self._fetch(memory[k * size : (k + 1) * size], start)
            unpack(raw[:n], flat, first, x0)

    def _buffer(self, size: int) -> np.ndarray:
        buffer = getattr(self._local, "buffer", None)
        if buffer is None or buffer.nbytes < size:
            buffer = self._local.buffer = np.empty(size, np.uint8)
        return buffer

    def _fetch(self, target: memoryview, start: int) -> None:
        try:
            got = os.preadv(self._fd, [target], start)
            while got < len(target):
                more = os.preadv(self._fd, [target[got:]], start + got)
                if more == 0:
                    raise Retryable(
                        f"{self._path.name} became shorter while it was read; it will be tried again"
                    )
                got += more
        except OSError as error:
            raise reading_error(error, self._path) from error

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> RampSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
