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
from upramp.store.fitsio import Unit, open_regular, reading_error
from upramp.store.naming import InputName

_MAX_SMALL = 1 << 28  # what is read whole: tables, ASDF
_CHECKSUM_PIECE = 1 << 22


@dataclass(frozen=True, eq=False)
class ExposureFile:
    """An open-and-shut look at a file of an exposure or segment; holds no descriptor and no pixels.

    Attributes
    ----------
    path : Path
    name : InputName
    meta : ExposureMeta
        What the steps need.
    primary, sci : astropy.io.fits.Header
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
    primary: fits.Header
    sci: fits.Header
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

    @cached_property
    def int_times(self) -> np.ndarray | None:
        """The INT_TIMES table as stored (a row per integration of the whole exposure), or None."""
        unit = self.unit("INT_TIMES")
        if unit is None or not unit.nbytes:
            return None
        table = fits.BinTableHDU.fromstring(self.raw(unit))
        return np.array(table.data.view(np.ndarray))

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
