"""Products of slopes and images in: ``rate``, ``rateints``, ``cal``, ``calints``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from upramp.stages.core.errors import Unprocessable
from upramp.stages.core.image import Image
from upramp.stages.core.meta import ExposureMeta
from upramp.store.exposure_file import ExposureFile
from upramp.store.fitsio import Unit, open_regular, parse_header, reading_error, scan
from upramp.store.naming import parse_name
from upramp.store.uncal import Keywords, check_origin, header_values

KINDS = ("rateints", "rate", "calints", "cal", "crfints", "crf")
"""Endings of the files that are read here."""

_NEEDED = {"SCI": np.float32, "ERR": np.float32, "DQ": np.uint32}
_VARIANCES = ("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")
_SIDE = 1 << 15
_TYPES = {-32: ">f4", -64: ">f8", 32: ">i4", 16: ">i2", 8: "u1"}


class ImageFile(ExposureFile):
    """A look at one product of images; see `ExposureFile`."""

    @property
    def segment_id(self) -> str:
        """What the ledger calls it: its name's stem."""
        return parse_name(self.path.name).segment_id

    @property
    def exposure_id(self) -> str:
        """What the ledger calls all products of its kind of an exposure."""
        return parse_name(self.path.name).exposure_id

    @property
    def kind(self) -> str:
        """Ending of its name, one of `KINDS`."""
        return kind_of(self.path.name)

    def array(self, unit: Unit) -> np.ndarray:
        """The pixels of an image extension in native byte order, unsigned where BZERO says so.

        Raises
        ------
        Unprocessable, Retryable
            If they cannot be read.
        """
        header, _ = parse_header(unit)
        out = np.empty(unit.shape, _TYPES[unit.bitpix])
        fd, _ = open_regular(self.path)
        try:
            view, done = out.reshape(-1).view(np.uint8).data, 0
            while done < len(view):
                n = os.preadv(fd, [view[done:]], unit.data + done)
                if n == 0:
                    raise Unprocessable(f"{self.path.name} became shorter while it was read; copy it again")
                done += n
        except OSError as error:
            raise reading_error(error, self.path) from error
        finally:
            os.close(fd)
        if out.dtype.itemsize > 1:
            out = out.byteswap(inplace=True).view(out.dtype.newbyteorder("="))
        if out.dtype == np.int32 and header.get("BZERO") == 1 << 31:
            out = out.view(np.uint32)
            out ^= np.uint32(1 << 31)
        return out

    def read(self, *names: str) -> Image:
        """All pixels and what is known of them, or of the pixels those in some extensions.

        Parameters
        ----------
        names : str
            Extensions to be read; arrays of others are empty. None means all.

        Raises
        ------
        Unprocessable
            If SCI, ERR or DQ is missing or of another shape or type.
        """
        units = {u.name: u for u in self.units if u.start and u.bitpix in _TYPES and prod(u.shape)}
        shape = units["SCI"].shape if "SCI" in units else ()
        for name in _NEEDED:
            if name not in units or units[name].shape != shape:
                raise Unprocessable(
                    f"{self.path.name} has no {name} extension of the shape of SCI, {shape}; "
                    "calibrate the exposure again from its uncal file"
                )
        there = [*_NEEDED, *(n for n in _VARIANCES if n in units and units[n].shape == shape)]
        wanted = [n for n in there if not names or n in names]
        with ThreadPoolExecutor(2, thread_name_prefix="read") as pool:
            found = dict(zip(wanted, pool.map(self.array, (units[n] for n in wanted)), strict=True))
        for name, dtype in _NEEDED.items():
            if found.setdefault(name, np.empty((0, 0), dtype)).dtype != dtype:
                raise Unprocessable(
                    f"{self.path.name}: {name} holds {found[name].dtype}, not {np.dtype(dtype)}; "
                    "calibrate the exposure again from its uncal file"
                )
        whole = not names or "AREA" in names
        arrays = {"AREA": self.array(units["AREA"])} if whole and "AREA" in units else {}
        zero = [
            found[n] if n in found else np.zeros((0, 0) if n in there else shape, np.float32)
            for n in _VARIANCES[:2]
        ]
        header: Mapping[str, Mapping[str, Any]] = {
            "PRIMARY": header_values(self.primary),
            "SCI": header_values(self.sci),
        }
        return Image(
            found["SCI"],
            found["ERR"],
            found["DQ"],
            zero[0],
            zero[1],
            found.get("VAR_FLAT"),
            header,
            arrays=arrays,
            bunit=str(self.sci.get("BUNIT", "DN/s")),
        )


def kind_of(name: str) -> str:
    """The ending of a product's name, one of `KINDS`, or the empty string."""
    match = re.search(r"_([a-z0-9]+)\.fits$", name)
    return match[1] if match and match[1] in KINDS else ""


def open_image(path: Path | str) -> ImageFile:
    """Look at a product of images and check what steps rely on. No pixel is read.

    Raises
    ------
    Unprocessable
        If the file is not a whole product of images; the sentence names what is wrong and the remedy.
    Retryable
        If the disk fails for the time being.
    """
    path = Path(path)
    kind = kind_of(path.name)
    stem = path.name.removesuffix(".fits").removesuffix(f"_{kind}")
    name = parse_name(f"{stem}_uncal.fits")
    fd, size = open_regular(path)
    try:
        units = scan(fd, size, path)
    finally:
        os.close(fd)
    primary, bad = parse_header(units[0])
    sci = next((u for u in units if u.name == "SCI" and u.start), None)
    if sci is None or len(sci.shape) not in (2, 3) or not prod(sci.shape) or max(sci.shape[-2:]) > _SIDE:
        raise Unprocessable(
            f"{path.name} has no SCI extension with an image or a stack of images; "
            "give a rate, rateints, cal or calints product"
        )
    if units[-1].end > size:
        raise Unprocessable(
            f"{path.name} has {size} bytes, but its headers promise {units[-1].end}: it is truncated; "
            "make or copy it again"
        )
    sci_header, sci_bad = parse_header(sci)
    values = {**header_values(sci_header), **header_values(primary)}
    meta = _meta(Keywords(path.name, values, {**sci_bad, **bad}), sci)
    return ImageFile(path, name, meta, primary, sci_header, values, size, units)


def _meta(kw: Keywords, sci: Unit) -> ExposureMeta:
    instrument, detector, exp_type = check_origin(kw)
    ny, nx = sci.shape[-2:]
    nints = sci.shape[0] if len(sci.shape) == 3 else 1
    start = kw.maybe_whole("INTSTART") or 1
    return ExposureMeta(
        instrument=instrument,
        detector=detector,
        exp_type=exp_type,
        subarray=kw.text("SUBARRAY", default=""),
        xstart=kw.whole("SUBSTRT1", default=1),
        ystart=kw.whole("SUBSTRT2", default=1),
        nx=nx,
        ny=ny,
        fastaxis=int(kw.real("FASTAXIS", default=1)),
        slowaxis=int(kw.real("SLOWAXIS", default=2)),
        nints=nints,
        nints_total=kw.whole("NINTS", default=nints),
        ngroups=kw.whole("NGROUPS", default=1),
        nframes=kw.whole("NFRAMES", default=1),
        frame_time=kw.real("TFRAME", default=0.0),
        group_time=kw.real("TGROUP", default=0.0),
        readpatt=kw.text("READPATT", default=""),
        filter=kw.text("FILTER", default=""),
        pupil=kw.text("PUPIL", default=""),
        grating=kw.text("GRATING", default=""),
        int_start=start,
        int_end=kw.maybe_whole("INTEND") or start + nints - 1,
        segment=kw.maybe_whole("EXSEGNUM") or 1,
        segments=0,  # exposures are counted by their level-1b segments alone
        is_tso=kw.get("TSOVISIT") is True,
        exposure_start=kw.real("EXPSTART", default=0.0),
        integration_time=kw.real("EFFINTTM", default=0.0),
    )
