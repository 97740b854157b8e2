"""Reference files, FITS or ASDF, as the steps' ``prepare`` functions see them.

FITS images come as read-only views of a memory map: big-endian, as the file has them. Nothing
is read before it is asked for.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import asdf
import numpy as np
from astropy.io import fits

from upramp.stages.core.dq import FLAGS
from upramp.stages.core.errors import Misconfigured, UprampError
from upramp.store.cards import Cards
from upramp.store.fitsio import Unit, open_regular, parse_header, scan

_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_UNSIGNED: dict[int, tuple[int, Any]] = {
    16: (1 << 15, np.uint16),
    32: (1 << 31, np.uint32),
    64: (1 << 63, np.uint64),
}


class FitsReference:
    """One FITS reference file; implements ``stages.core.reference.RawReference``.

    Use it as a context manager, or call `close`, so that the pages of a large file do not
    stay in this process's resident memory.

    Parameters
    ----------
    path : Path
        FITS file, gzip-compressed or not.
    reftype : str
        Reference type, for messages.

    Raises
    ------
    Misconfigured
        If it is not a whole FITS file.
    """

    def __init__(self, path: Path, reftype: str) -> None:
        self.path = path
        self.reftype = reftype
        self.name = path.name
        self._map: mmap.mmap | None = None
        self._units: dict[str, Unit] = {}
        self._headers: dict[str, Cards | fits.Header] = {}
        self._hdus: fits.HDUList | None = None
        self._header: dict[str, Any] | None = None
        try:
            with path.open("rb") as file:
                packed = file.read(2) == b"\x1f\x8b"
            if packed:
                self._open_packed()
            else:
                self._open_mapped()
        except (UprampError, OSError, ValueError) as exc:
            raise self._trouble(f"cannot be read: {exc}") from exc

    def __enter__(self) -> FitsReference:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file's pages back; arrays that are still held read them again from the file."""
        self.release()
        self._map = None  # unmapped when the last array goes
        if self._hdus is not None:
            self._hdus.close()
            self._hdus = None

    def release(self) -> None:
        """Let go of the pages that were read so far; arrays remain good."""
        if self._map is not None:
            with contextlib.suppress(ValueError, OSError):
                self._map.madvise(mmap.MADV_DONTNEED)

    def _open_mapped(self) -> None:
        fd, size = open_regular(self.path)
        try:
            units = scan(fd, size, self.path)
            promised = units[-1].data + units[-1].nbytes
            if promised > size:
                raise ValueError(f"it is truncated: {size} bytes, but its headers promise {promised}")
            self._map = mmap.mmap(fd, size, access=mmap.ACCESS_READ)
        finally:
            os.close(fd)
        for unit in units:
            self._units.setdefault(unit.name, unit)

    def _open_packed(self) -> None:
        self._hdus = fits.open(self.path, memmap=False, lazy_load_hdus=False)

    def _trouble(self, what: str) -> Misconfigured:
        return _trouble(self.path, self.reftype, what)

    def _unit_header(self, extname: str) -> Cards | fits.Header:
        if extname not in self._headers:
            if self._hdus is not None:
                self._headers[extname] = self._hdus[0 if extname == "PRIMARY" else extname].header
            else:
                self._headers[extname] = parse_header(self._units[extname])[0]
        return self._headers[extname]

    def _names(self) -> list[str]:
        if self._hdus is not None:
            return ["PRIMARY", *(hdu.name.upper() for hdu in self._hdus[1:])]
        return list(self._units)

    @property
    def header(self) -> Mapping[str, Any]:
        """Keywords of the SCI and primary headers, upper case; where both have one, the primary's."""
        if self._header is None:
            merged: dict[str, Any] = {}
            for name in ("SCI", "PRIMARY"):
                if name in self._names():
                    merged.update(
                        (card.keyword.upper(), card.value)
                        for card in self._unit_header(name).cards
                        if card.keyword not in ("", "COMMENT", "HISTORY")
                    )
            self._header = merged
        return self._header

    def has(self, extname: str) -> bool:
        """Whether an extension of this name holds data."""
        name = extname.upper()
        if self._hdus is not None:
            return name in self._names() and bool(self._unit_header(name).get("NAXIS"))
        return name in self._units and self._units[name].nbytes > 0

    def _need(self, extname: str) -> str:
        name = extname.upper()
        if not self.has(name):
            there = ", ".join(n for n in self._names() if self.has(n)) or "none"
            raise self._trouble(f"has no extension {name} with data (it has: {there})")
        return name

    def array(self, extname: str) -> np.ndarray:
        """The pixels of an image extension, read-only.

        A view of the file (big-endian) unless the pixels are scaled: unsigned integers
        and BSCALE/BZERO come as native copies.

        Raises
        ------
        Misconfigured
            If there is no such image.
        """
        name = self._need(extname)
        header = self._unit_header(name)
        if header.get("XTENSION", "IMAGE").strip() != "IMAGE" or header.get("ZIMAGE"):
            return self._other_image(name)
        if self._hdus is not None:
            return np.asarray(self._hdus[0 if name == "PRIMARY" else name].data)
        unit = self._units[name]
        if self._map is None:
            raise ValueError(f"{self.name} is closed")
        dtype = np.dtype(_DTYPES[unit.bitpix])
        count = unit.nbytes // dtype.itemsize
        pixels = np.frombuffer(self._map, dtype, count, unit.data).reshape(unit.shape)
        scale, zero = header.get("BSCALE", 1), header.get("BZERO", 0)
        if scale == 1 and zero == 0:
            return pixels
        offset, unsigned = _UNSIGNED.get(unit.bitpix, (0, None))
        if scale == 1 and zero == offset and unsigned is not None:
            copy = pixels.astype(pixels.dtype.newbyteorder("=")).view(unsigned)
            copy ^= unsigned(offset)
            return copy
        return pixels * np.float64(scale) + np.float64(zero)

    def _other_image(self, name: str) -> np.ndarray:
        """Compressed images are unpacked by astropy; a table has no pixels."""
        if self._unit_header(name).get("ZIMAGE"):
            with fits.open(self.path, memmap=False) as hdus:
                return np.array(hdus[name].data)
        raise self._trouble(f"has a table, not an image, in extension {name}")

    def dq(self, extname: str = "DQ") -> np.ndarray:
        """Flags (uint32) translated by name through the file's DQ_DEF table.

        Flags that the table does not name, or names that nobody knows, are dropped. Without
        a table the flags are taken as they are; without the extension they are 0, in the
        shape of SCI's last two axes.
        """
        if not self.has(extname):
            return np.zeros(self.array("SCI").shape[-2:], np.uint32)
        raw = self.array(extname).astype(np.uint32)
        if not self.has("DQ_DEF"):
            return raw
        table = self.table("DQ_DEF")
        names = {name.upper(): name for name in table.dtype.names or ()}
        if not {"VALUE", "NAME"} <= names.keys():
            raise self._trouble("has a table DQ_DEF without the columns VALUE and NAME")
        present = int(np.bitwise_or.reduce(raw, axis=None)) if raw.size else 0
        same = 0
        moved: list[tuple[int, int]] = []
        for value, text in zip(table[names["VALUE"]], table[names["NAME"]], strict=True):
            bit = int(value) & 0xFFFFFFFF & present
            flag = FLAGS.get(str(text).strip(), 0)
            if bit and bit == flag:
                same |= bit
            elif bit and flag:
                moved.append((bit, flag))
        flags = raw & np.uint32(same)
        for bit, flag in moved:
            flags[(raw & np.uint32(bit)) != 0] |= np.uint32(flag)
        return flags

    def table(self, extname: str) -> np.ndarray:
        """A table extension as a native structured array; texts are str without trailing blanks.

        Raises
        ------
        Misconfigured
            If there is no such table.
        """
        name = self._need(extname)
        if self._hdus is not None:
            return self._table_of(self._hdus[name])
        with fits.open(self.path, memmap=False) as hdus:
            return self._table_of(hdus[name])

    def tree(self) -> Mapping[str, Any]:
        """FITS files have none.

        Raises
        ------
        Misconfigured
            Always.
        """
        raise self._trouble("is a FITS file, not an ASDF file")

    def _table_of(self, hdu: Any) -> np.ndarray:
        if not isinstance(hdu, fits.BinTableHDU | fits.TableHDU):
            raise self._trouble(f"has an image, not a table, in extension {hdu.name}")
        columns = {name: np.asarray(hdu.data[name]) for name in hdu.columns.names}
        fields = []
        for name, values in columns.items():
            fields.append((name, values.dtype.newbyteorder("="), values.shape[1:]))
        table = np.empty(len(hdu.data), fields)
        for name, values in columns.items():
            table[name] = values
        return table


class AsdfReference:
    """One ASDF reference file, as `FitsReference` is one FITS file. Use it as a context manager.

    Parameters
    ----------
    path : Path
        ASDF file.
    reftype : str
        Reference type, for messages.

    Raises
    ------
    Misconfigured
        If it cannot be read.
    """

    def __init__(self, path: Path, reftype: str) -> None:
        self.path = path
        self.reftype = reftype
        self.name = path.name
        try:
            self._file = asdf.open(path, ignore_unrecognized_tag=True)
        except (OSError, ValueError, RuntimeError) as exc:
            raise self._trouble(f"cannot be read: {exc}") from exc

    def __enter__(self) -> AsdfReference:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def release(self) -> None:
        """Nothing is mapped."""

    def tree(self) -> Mapping[str, Any]:
        """The whole content."""
        content: Mapping[str, Any] = self._file.tree
        return content

    def _trouble(self, what: str) -> Misconfigured:
        return _trouble(self.path, self.reftype, what)

    def _not_here(self, what: str) -> NoReturn:
        raise self._trouble(f"is an ASDF file and has no {what}")

    @property
    def header(self) -> Mapping[str, Any]:
        """ASDF files have no keywords."""
        return {}

    def has(self, extname: str) -> bool:
        """ASDF files have no extensions."""
        return False

    def array(self, extname: str) -> np.ndarray:
        """See `FitsReference`; raises Misconfigured."""
        self._not_here(f"extension {extname}")

    def dq(self, extname: str = "DQ") -> np.ndarray:
        """See `FitsReference`; raises Misconfigured."""
        self._not_here(f"extension {extname}")

    def table(self, extname: str) -> np.ndarray:
        """See `FitsReference`; raises Misconfigured."""
        self._not_here(f"table {extname}")


def _trouble(path: Path, reftype: str, what: str) -> Misconfigured:
    return Misconfigured(
        f"reference file {path} (type {reftype}) {what}; replace it, or give another with "
        f"[references] {reftype} = ..."
    )


def raw_reference(path: Path, reftype: str) -> FitsReference | AsdfReference:
    """Open a reference file for a step's ``prepare``; which form it has, its first bytes tell."""
    try:
        with path.open("rb") as file:
            is_asdf = file.read(5) == b"#ASDF"
    except OSError as exc:
        raise _trouble(path, reftype, f"cannot be read: {exc}") from exc
    return AsdfReference(path, reftype) if is_asdf else FitsReference(path, reftype)
