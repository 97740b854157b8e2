"""One FITS product under construction: a fixed layout into which rows are written.

Headers have room for the cards that come at the end, and the ASDF extension, whose length
depends on them, lies last.
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

from upramp.stages.core.kernel import kernel
from upramp.store.asdf_tree import asdf_extension, product_tree
from upramp.store.byteorder import swap_words
from upramp.store.cards import CARD, Cards
from upramp.store.exposure_file import ExposureFile
from upramp.store.fitsio import BLOCK, padded, writing_error
from upramp.store.headers import header_bytes, image_header, primary_header
from upramp.store.scratch import Scratch

_PIECE = 1 << 20  # bytes turned before they are written; they should stay in the second-level cache
_COPY = 1 << 22
_ROOM = 60  # cards that may come at the end; if they need more blocks, all behind them is moved
_SIGN, _NONE = np.uint32(1 << 31), np.uint32(0)
_BITPIX = {"float32": -32, "uint32": 32, "int32": 32, "uint8": 8}


@dataclass(frozen=True)
class Extension:
    """An image extension of float32 or int32 pixels, or uint32 or uint8 flags; ``shape`` in numpy's order."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    unit: str | None = None

    @property
    def planes(self) -> int:
        """Number of images of the last two axes."""
        return prod(self.shape[:-2])

    @property
    def itemsize(self) -> int:
        """Bytes of one pixel."""
        return np.dtype(self.dtype).itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels."""
        return self.itemsize * prod(self.shape)

    def header(self, kept: Cards | None = None, cards: Mapping[str, Any] | None = None) -> Cards:
        """Its header, with the cards ``kept`` from the input."""
        extra = {"BUNIT": self.unit, **(cards or {})}
        unsigned = self.dtype == "uint32"
        return image_header(self.name, _BITPIX[self.dtype], self.shape, kept, extra, unsigned)


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
    uncal : ExposureFile
        Gives the cards to start from, and the tree.
    scratch : Scratch
    kind, model : str
        Ending of the file name (rate, ...) and name of the data model.
    layout : sequence of Extension or bytes
        An extension first; SCI takes the input's cards over. Bytes are whole units (header, data, padding)
        that go in as they are.
    filename : str, optional
        In place of the name that follows from ``kind``.
    stored : str, optional
        Its name in the scratch folder, if it is another one.

    Raises
    ------
    Retryable, Misconfigured
        If the disk is full or may not be written; so do all other methods.
    """

    def __init__(
        self,
        uncal: ExposureFile,
        scratch: Scratch,
        kind: str,
        model: str,
        layout: Sequence[Extension | bytes],
        filename: str = "",
        stored: str = "",
    ) -> None:
        self.kind, self.name = kind, filename or uncal.name.product(kind)
        self._uncal, self._model = uncal, model
        self._path = scratch.folder / (stored or self.name)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._extensions = {part.name: part for part in layout if isinstance(part, Extension)}
        self._written = dict.fromkeys(self._extensions, 0)
        self._start: dict[str, int] = {}
        self.main = next(iter(self._extensions.values()))
        primary, first = self._headers({}, {})
        self._head = padded(len(primary.text()) + _ROOM * CARD) + len(header_bytes(first))
        position, fixed = self._head, []
        for part in layout:
            head = part if isinstance(part, bytes) else header_bytes(part.header())
            if self._start:  # the header of the first is part of the room at the top
                fixed.append((head, position))
                position += len(head)
            if isinstance(part, Extension):
                self._start[part.name] = position
                position += padded(part.nbytes)
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

    def _headers(self, cards: Mapping[str, Any], sci_cards: Mapping[str, Any]) -> tuple[Cards, Cards]:
        primary = primary_header(self._uncal.primary, self.name, self._model, cards)
        kept = self._uncal.sci if self.main.name == "SCI" else None
        return primary, self.main.header(kept, sci_cards if kept else {})

    def flush(self) -> None:
        """Send to the disk what was written so far, and wait for it."""
        os.fdatasync(self._fd)

    def write(self, name: str, y0: int, x0: int, values: np.ndarray) -> None:
        """Write rows of an extension, from row ``y0`` and column ``x0`` on.

        ``values`` has the extension's type, and shape (rows, ..., columns) with its planes between.
        """
        part, start, width = self._extensions[name], self._start[name], self._extensions[name].itemsize
        ny, nx = part.shape[-2:]
        rows, columns = values.shape[0], values.shape[-1]
        planes = prod(values.shape[1:-1])
        if values.dtype != part.dtype or planes != part.planes:
            raise ValueError(
                f"{self.name} {name} takes {part.planes} planes of {part.dtype}, "
                f"not {planes} of {values.dtype}"
            )
        if y0 < 0 or x0 < 0 or y0 + rows > ny or x0 + columns > nx:
            raise ValueError(f"rows {y0}+{rows}, columns {x0}+{columns} lie outside {ny} x {nx}")
        words = np.ascontiguousarray(values).view(f"u{width}").reshape(rows, planes, columns)
        flip = _SIGN if part.dtype == "uint32" else _NONE
        size = width * rows * columns
        piece = min(planes, max(1, _PIECE // max(size, 1)))
        buffer = self._buffer(piece * size)
        raw = buffer[: piece * size].view(words.dtype).reshape(piece, rows, columns)
        memory = buffer.data
        for first in range(0, planes, piece):
            n = min(piece, planes - first)
            if width == 1:
                raw[:n] = words[:, first : first + n].transpose(1, 0, 2)
            else:
                turn(words, raw[:n], first, flip)
            for p in range(n):
                where = start + width * (((first + p) * ny + y0) * nx + x0)
                plane = memory[p * size : (p + 1) * size]
                if columns == nx:
                    self._put(plane, where)
                    continue
                for r in range(rows):
                    row = plane[width * r * columns : width * (r + 1) * columns]
                    self._put(row, where + width * r * nx)
        with self._lock:
            self._written[name] += rows * planes * columns

    def write_plane(self, name: str, plane: int, image: np.ndarray) -> None:
        """Write a whole image of the last two axes; ``plane`` counts over all leading axes, from 0."""
        part = self._extensions[name]
        ny, nx = part.shape[-2:]
        if image.dtype != part.dtype or image.shape != (ny, nx) or not 0 <= plane < part.planes:
            raise ValueError(f"{self.name} {name} takes {part.planes} planes {ny} x {nx} of {part.dtype}")
        values = np.ascontiguousarray(image)
        if part.itemsize == 4:
            words = values.view(np.uint32)
            values = (words ^ _SIGN if part.dtype == "uint32" else words).byteswap()
        self._put(values.tobytes(), self._start[name] + plane * ny * nx * part.itemsize)
        with self._lock:
            self._written[name] += image.size

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
        primary, first = self._headers(cards, sci_cards)
        headers = {"PRIMARY": primary, self.main.name: first}
        headers |= {name: part.header() for name, part in self._extensions.items() if name == "ERR"}
        first_bytes = header_bytes(first)
        primary_bytes = header_bytes(primary, blocks=(self._head - len(first_bytes)) // BLOCK)
        top = primary_bytes + first_bytes
        if len(top) > self._head:
            self._move(len(top) - self._head)
        self._put(top, 0)
        lost = {"PRIMARY": cards, self.main.name: sci_cards}
        gone = {name: [k for k, v in given.items() if v is None] for name, given in lost.items()}
        tail = asdf_extension(product_tree(self._uncal.tree, headers, tree_updates, gone))
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
