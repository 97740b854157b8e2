"""One FITS product under construction: a fixed layout into which rows are written.

Headers have room for the cards that come at the end, and the ASDF extension, whose length
depends on them, lies last. SCI is always the first extension.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from astropy.io import fits

from upramp.stages.core.kernel import kernel
from upramp.store.asdf_tree import asdf_extension, product_tree
from upramp.store.byteorder import swap_words
from upramp.store.fitsio import BLOCK, CARD, padded, writing_error
from upramp.store.headers import header_bytes, image_header, primary_header
from upramp.store.scratch import Scratch
from upramp.store.uncal import Uncal

_PIECE = 1 << 20  # bytes turned before they are written; they should stay in the second-level cache
_COPY = 1 << 22
_ROOM = 60  # cards that may come at the end; if they need more blocks, all behind them is moved
_SIGN, _NONE = np.uint32(1 << 31), np.uint32(0)


@dataclass(frozen=True)
class Extension:
    """An image extension of float32 pixels, or of uint32 flags; ``shape`` in numpy's order."""

    name: str
    shape: tuple[int, ...]
    unsigned: bool = False
    unit: str | None = None

    @property
    def planes(self) -> int:
        """Number of images of the last two axes."""
        return prod(self.shape[:-2])

    def header(self, kept: fits.Header | None = None, cards: Mapping[str, Any] | None = None) -> fits.Header:
        """Its header, with the cards ``kept`` from the input."""
        extra = {"BUNIT": self.unit, **(cards or {})}
        return image_header(self.name, 32 if self.unsigned else -32, self.shape, kept, extra)


@kernel
def turn(values, raw, first, flip):
    """Rows of planes to big-endian planes of rows.

    ``values`` (rows, planes, columns), ``raw`` (some planes, rows, columns), both uint32;
    ``first`` is the plane that becomes ``raw[0]``; the bits of ``flip`` are inverted.
    """
    planes, rows, _ = raw.shape
    for p in range(planes):
        for r in range(rows):
            swap_words(values[r, first + p], raw[p, r], flip)


class ProductFile:
    """A product in the scratch folder; ``write`` may be called by several threads.

    Parameters
    ----------
    uncal : Uncal
        Gives the cards to start from, and the tree.
    scratch : Scratch
    kind, model : str
        Ending of the file name (rate, ...) and name of the data model.
    layout : sequence of Extension or bytes
        SCI first; bytes are whole units (header, data, padding) that go in as they are.

    Raises
    ------
    Retryable, Misconfigured
        If the disk is full or may not be written; so do all other methods.
    """

    def __init__(
        self, uncal: Uncal, scratch: Scratch, kind: str, model: str, layout: Sequence[Extension | bytes]
    ) -> None:
        self.kind, self.name = kind, uncal.name.product(kind)
        self._uncal, self._model = uncal, model
        self._path = scratch.folder / self.name
        self._local = threading.local()
        self._lock = threading.Lock()
        self._extensions = {part.name: part for part in layout if isinstance(part, Extension)}
        self._written = dict.fromkeys(self._extensions, 0)
        self._start: dict[str, int] = {}
        primary, sci = self._headers({}, {})
        self._head = padded(len(primary.tostring(padding=False)) + _ROOM * CARD) + len(header_bytes(sci))
        position, fixed = self._head, []
        for part in layout:
            head = part if isinstance(part, bytes) else header_bytes(part.header())
            if self._start:  # the header of SCI, the first, is part of the room at the top
                fixed.append((head, position))
                position += len(head)
            if isinstance(part, Extension):
                self._start[part.name] = position
                position += padded(4 * prod(part.shape))
        self._end = position
        self._fd = -1
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            # Faster rows (the file lies in one piece), a full disk is known at once, and padding is zeros.
            os.posix_fallocate(self._fd, 0, self._end)
        except OSError as error:
            self.close()
            raise writing_error(error, self._path) from error
        for head, where in fixed:
            self._put(head, where)

    def _headers(
        self, cards: Mapping[str, Any], sci_cards: Mapping[str, Any]
    ) -> tuple[fits.Header, fits.Header]:
        primary = primary_header(self._uncal.primary, self.name, self._model, cards)
        return primary, self._extensions["SCI"].header(self._uncal.sci, sci_cards)

    def flush(self) -> None:
        """Send to the disk what was written so far, and wait for it."""
        os.fdatasync(self._fd)

    def write(self, name: str, y0: int, x0: int, values: np.ndarray) -> None:
        """Write rows of an extension, from row ``y0`` and column ``x0`` on.

        ``values`` is float32 or uint32, (rows, columns) or (rows, planes, columns).
        """
        part, start = self._extensions[name], self._start[name]
        ny, nx = part.shape[-2:]
        if values.ndim == 2:
            values = values[:, np.newaxis]
        rows, planes, columns = values.shape
        wanted = np.uint32 if part.unsigned else np.float32
        if values.dtype != wanted or planes != part.planes:
            raise ValueError(
                f"{self.name} {name} takes {part.planes} planes of {wanted.__name__}, "
                f"not {planes} of {values.dtype}"
            )
        if y0 < 0 or x0 < 0 or y0 + rows > ny or x0 + columns > nx:
            raise ValueError(f"rows {y0}+{rows}, columns {x0}+{columns} lie outside {ny} x {nx}")
        words = np.ascontiguousarray(values).view(np.uint32)
        flip = _SIGN if part.unsigned else _NONE
        size = 4 * rows * columns
        piece = min(planes, max(1, _PIECE // max(size, 1)))
        buffer = self._buffer(piece * size)
        raw = buffer[: piece * size].view(np.uint32).reshape(piece, rows, columns)
        memory = buffer.data
        for first in range(0, planes, piece):
            n = min(piece, planes - first)
            turn(words, raw[:n], first, flip)
            for p in range(n):
                where = start + 4 * (((first + p) * ny + y0) * nx + x0)
                plane = memory[p * size : (p + 1) * size]
                if columns == nx:
                    self._put(plane, where)
                    continue
                for r in range(rows):
                    self._put(plane[4 * r * columns : 4 * (r + 1) * columns], where + 4 * r * nx)
        with self._lock:
            self._written[name] += rows * planes * columns

    def _buffer(self, size: int) -> np.ndarray:
        buffer = getattr(self._local, "buffer", None)
        if buffer is None or buffer.nbytes < size:
            buffer = self._local.buffer = np.empty(size, np.uint8)
        return buffer

    def _put(self, content: bytes | memoryview, where: int) -> None:
        try:
            done = os.pwrite(self._fd, content, where)
            while done < len(content):
                done += os.pwrite(self._fd, memoryview(content)[done:], where + done)
        except OSError as error:
            raise writing_error(error, self._path) from error

    def finish(
        self, cards: Mapping[str, Any], sci_cards: Mapping[str, Any], tree_updates: Mapping[str, Any] | None
    ) -> int:
        """Write the headers and the ASDF extension, and close; returns the length in bytes.

        Raises
        ------
        RuntimeError
            If some pixels were never written (or some twice).
        """
        for name, part in self._extensions.items():
            if self._written[name] != prod(part.shape):
                raise RuntimeError(
                    f"{self.name}: {self._written[name]} of {prod(part.shape)} pixels of {name} were written"
                )
        primary, sci = self._headers(cards, sci_cards)
        headers = {"PRIMARY": primary, "SCI": sci}
        headers |= {name: part.header() for name, part in self._extensions.items() if name == "ERR"}
        sci_bytes = header_bytes(sci)
        primary_bytes = header_bytes(primary, blocks=(self._head - len(sci_bytes)) // BLOCK)
        top = primary_bytes + sci_bytes
        if len(top) > self._head:
            self._move(len(top) - self._head)
        self._put(top, 0)
        tail = asdf_extension(product_tree(self._uncal.tree, headers, tree_updates))
        self._put(tail, self._end)
        self.close()
        return self._end + len(tail)

    def _move(self, by: int) -> None:
        """Make room at the top: move all behind it, the last bytes first."""
        stop = self._end
        while stop > self._head:
            begin = max(self._head, stop - _COPY)
            try:
                content = os.pread(self._fd, stop - begin, begin)
            except OSError as error:
                raise writing_error(error, self._path) from error
            self._put(content, begin + by)
            stop = begin
        self._head += by
        self._end += by

    def checksum(self) -> str:
        """SHA-256 of the finished file, hexadecimal."""
        with self._path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def close(self) -> None:
        """Close the file as it is; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
