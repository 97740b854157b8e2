"""Files of exposures: where everything lies in one, its headers and its metadata."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from upramp.stages.core.errors import Unprocessable
from upramp.stages.core.meta import ExposureMeta
from upramp.store.asdf_tree import read_tree
from upramp.store.cards import Cards
from upramp.store.fitsio import Unit, open_regular, parse_header, reading_error
from upramp.store.naming import InputName

_MAX_SMALL = 1 << 28  # what is read whole: tables, ASDF
_CHECKSUM_PIECE = 1 << 22
_NUMBERS = {"I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}


def _record(header: Cards) -> np.dtype[Any] | None:
    """The type of a table's rows, if its columns are numbers as they stand; None for other tables."""
    columns = range(1, int(header.get("TFIELDS", 0)) + 1)
    if any(f"{keyword}{k}" in header for k in columns for keyword in ("TSCAL", "TZERO", "TDIM")):
        return None
    forms = [str(header.get(f"TFORM{k}", "")).strip().removeprefix("1") for k in columns]
    names = [str(header.get(f"TTYPE{k}", "")) for k in columns]
    if not all(form in _NUMBERS for form in forms) or len(set(names)) < len(names) or "" in names:
        return None
    return np.dtype([(name, _NUMBERS[form]) for name, form in zip(names, forms, strict=True)])


@dataclass(frozen=True, eq=False)
class ExposureFile:
    """An open-and-shut look at a file of an exposure or segment; holds no descriptor and no pixels.

    Attributes
    ----------
    path : Path
    name : InputName
    meta : ExposureMeta
        What the steps need.
    primary, sci : Cards
        As the file has them.
    header : mapping
        All keywords (upper case) of both with their values, for reference selection.
    size : int
        Bytes of the file.
    units : list of Unit
        Where everything lies.
    """

    path: Path
    name: InputName
    meta: ExposureMeta
    primary: Cards
    sci: Cards
    header: Mapping[str, Any]
    size: int
    units: list[Unit] = field(repr=False)

    @property
    def exposure_id(self) -> str:
        """The same for all segments of an exposure."""
        return self.name.exposure_id

    @property
    def segment_id(self) -> str:
        """The stem that products are named after."""
        return self.name.segment_id

    def unit(self, name: str) -> Unit | None:
        """The extension of this name, or None."""
        return next((u for u in self.units if u.name == name and u.start), None)

    @property
    def int_times(self) -> np.ndarray | None:
        """The INT_TIMES table (a row per integration of the whole exposure), or None."""
        return self.stored_times

    def time_tables(self) -> list[bytes]:
        """Extensions with the times of integrations, as products have them."""
        unit = self.unit("INT_TIMES")
        return [] if unit is None else [self.raw(unit)]

    @cached_property
    def stored_times(self) -> np.ndarray | None:
        """The INT_TIMES table as stored, or None."""
        unit = self.unit("INT_TIMES")
        if unit is None or not unit.nbytes:
            return None
        content = self.raw(unit)
        dtype = _record(parse_header(unit)[0])
        if dtype is None or dtype.itemsize != unit.shape[-1]:
            return np.array(fits.BinTableHDU.fromstring(content).data.view(np.ndarray))
        return np.frombuffer(content, dtype, unit.shape[0], len(unit.header)).copy()

    @cached_property
    def tree(self) -> dict[str, Any] | None:
        """The metadata tree of the ASDF extension, arrays left out; None when absent or unreadable."""
        unit = self.unit("ASDF")
        return None if unit is None else read_tree(self.raw(unit)[len(unit.header) :])

    def raw(self, unit: Unit) -> bytes:
        """The bytes of a small unit, header and padding included.

        Raises
        ------
        Unprocessable
            If the unit is absurdly large or cannot be read.
        Retryable
            If the disk fails for the time being.
        """
        length = unit.end - unit.start
        if length > _MAX_SMALL:
            raise Unprocessable(f"{self.path.name}: extension {unit.name} of {length} bytes is too large")
        fd, _ = open_regular(self.path)
        try:
            content = os.pread(fd, length, unit.start)
        except OSError as error:
            raise reading_error(error, self.path) from error
        finally:
            os.close(fd)
        if len(content) < length:
            raise Unprocessable(f"{self.path.name} became shorter while it was read; copy it again")
        return content

    def checksum(self) -> str:
        """SHA-256 of the file, hexadecimal. Reads it once, in pieces, without the GIL.

        Raises
        ------
        Unprocessable, Retryable
            If it cannot be read.
        """
        digest = hashlib.sha256()
        fd, _ = open_regular(self.path)
        piece = bytearray(_CHECKSUM_PIECE)
        try:
            while n := os.readv(fd, [piece]):
                digest.update(memoryview(piece)[:n])
        except OSError as error:
            raise reading_error(error, self.path) from error
        finally:
            os.close(fd)
        return digest.hexdigest()
