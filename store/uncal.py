"""Level-1b files in: every check on a header, and the pixels by windows.

What is missing or contradictory is refused here, with the keyword, its value and the
remedy, so that no step needs to doubt an exposure's header.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from upramp.stages.core.errors import Unprocessable
from upramp.stages.core.meta import ExposureMeta
from upramp.store import superstripes
from upramp.store.cards import Cards
from upramp.store.exposure_file import ExposureFile
from upramp.store.fitsio import Unit, open_regular, parse_header, scan
from upramp.store.naming import parse_name
from upramp.store.ramps import RampSource
from upramp.store.superstripes import SuperstripeSource
from upramp.store.tables import table
from upramp.store.vocabulary import DETECTORS, EXP_TYPES, GUIDER_TYPES

_MAX_SIDE = 4096  # pixels; the longest axis of any JWST frame is 3200 (NIRSpec IRS2)
_DETECTOR_SIDE = 2048  # pixels, reference pixels included; MIRI's detectors are smaller
_MAX_GROUPS = 32768
_MAX_INTS = 1 << 22
_MAX_COUNT = 1 << 31  # integers of FITS keywords that nothing else limits
_MAX_FRAMES = 1024  # averaged in one group; read patterns have 1 to 16
_MAX_GAP = 65535  # frames dropped
_MAX_TIME = 1e6  # s, of a frame or group: longer than any exposure
_MAX_OUTPUTS = 5  # four amplifiers, and the reference output of IRS2
_MAX_SAMPLES = 100  # of a pixel in one frame; MIRI takes 1 or 9
_MAX_FACTOR = 1e3  # of the gain
_MAX_BYTES = 1 << 38  # 256 GiB of counts: the archive cuts exposures at some 2 GB


class Uncal(ExposureFile):
    """A look at one level-1b file; see `ExposureFile`."""

    def source(self) -> RampSource | SuperstripeSource:
        """Open the pixels for reading by windows; close it, or use it in a ``with`` statement."""
        return self._open(self._sci_unit)

    def zero_source(self) -> RampSource | SuperstripeSource:
        """Open frame zero of all integrations, as ramps of one group; as `source`.

        Raises
        ------
        Unprocessable
            If it has not the size of the other frames.
        """
        zero, (nints, _, ny, nx) = self.unit("ZEROFRAME"), self._sci_unit.shape
        if zero is None or zero.shape != (nints, ny, nx) or zero.bitpix not in (16, -32):
            shape = None if zero is None else zero.shape
            raise Unprocessable(
                f"{self.path.name}: ZEROFRAME has shape {shape}, but SCI has {nints} integrations of "
                f"{nx} x {ny} pixels; get the file again, or leave suppress_one_group = true"
            )
        return self._open(zero)

    def _open(self, unit: Unit) -> RampSource | SuperstripeSource:
        """Pixels [integration, row, column], or of ramps; superstripes side by side."""
        nints, ngroups = unit.shape[0], unit.shape[1] if len(unit.shape) == 4 else 1
        shape = (nints, ngroups, *unit.shape[-2:])
        source = RampSource(self.path, unit.data, shape, floats=unit.bitpix == -32)  # type: ignore[arg-type]
        if self._regions == 1:
            return source
        across = abs(self.meta.slowaxis) == 1
        return SuperstripeSource(source, self._regions, shape[3] if across else shape[2], across)

    @property
    def _regions(self) -> int:
        """Integrations in the file for each that the steps see."""
        return self.meta.stripes.regions if self.meta.stripes is not None else 1

    @cached_property
    def int_times(self) -> np.ndarray | None:
        """See `ExposureFile`; of superstripes, those of whole integrations."""
        times, n = self.stored_times, self._regions
        return times if times is None or n == 1 else superstripes.whole_times(times, n)

    def time_tables(self) -> list[bytes]:
        """See `ExposureFile`; superstripes have a table of their own."""
        stored, whole = self.stored_times, self.int_times
        if self._regions == 1 or stored is None or whole is None:
            return super().time_tables()
        stripes = superstripes.stripe_times(stored, self._regions)
        return [table(whole, "INT_TIMES"), table(stripes, "INT_TIMES_STRIPE")]

    def read_all(self) -> np.ndarray:
        """All counts, float32 (nints, ngroups, ny, nx), DN: for guider data and other small files."""
        meta = self.meta
        out = np.empty((meta.ny, meta.nints, meta.ngroups, meta.nx), np.float32)
        with self.source() as source:
            source.read(out, 0, 0)
        return np.ascontiguousarray(out.transpose(1, 2, 0, 3))

    @property
    def _sci_unit(self) -> Unit:
        sci = self.unit("SCI")
        assert sci is not None  # open_uncal saw it
        return sci


class Keywords:
    """Typed look-ups that say what is wrong."""

    def __init__(self, name: str, values: Mapping[str, Any], bad: Mapping[str, str]) -> None:
        self.name, self.values, self.bad = name, values, bad

    def fail(self, keyword: str, problem: str) -> Unprocessable:
        return Unprocessable(
            f"{self.name}: {keyword} {problem}; get the file again from the archive or correct its header"
        )

    def get(self, keyword: str) -> Any:
        if keyword in self.bad:
            raise self.fail(keyword, f"cannot be read ({self.bad[keyword]!r})")
        return self.values.get(keyword)

    def need(self, keyword: str) -> Any:
        value = self.get(keyword)
        if value is None or value == "" or isinstance(value, fits.card.Undefined):
            raise self.fail(keyword, "is missing")
        return value

    def text(self, keyword: str, default: str | None = None) -> str:
        value = self.need(keyword) if default is None else self.get(keyword)
        if value is None or isinstance(value, fits.card.Undefined):
            return default or ""
        if not isinstance(value, str):
            raise self.fail(keyword, f"is {value!r}, not a text")
        return value.strip()

    def real(self, keyword: str, default: float | None = None) -> float:
        value = self.need(keyword) if default is None or self.get(keyword) is not None else default
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.fail(keyword, f"is {value!r}, not a finite number")
        return float(value)

    def whole(self, keyword: str, default: int | None = None, least: int = 1, most: int = _MAX_COUNT) -> int:
        value = self.real(keyword, default)
        if value != int(value) or int(value) < least:
            raise self.fail(keyword, f"is {value:g}; it must be a whole number, {least} or more")
        if int(value) > most:
            raise self.fail(keyword, f"is {value:.10g}, which no JWST exposure has ({most} at most)")
        return int(value)

    def maybe_whole(self, keyword: str, least: int = 1, most: int = _MAX_COUNT) -> int | None:
        return None if self.get(keyword) is None else self.whole(keyword, least=least, most=most)

    def positive(self, keyword: str, most: float, unit: str = "") -> float:
        value = self.real(keyword)
        if value <= 0:
            raise self.fail(keyword, f"is {value:g}{unit}; it must be positive")
        if value > most:
            raise self.fail(keyword, f"is {value:g}{unit}, which no JWST exposure has ({most:g} at most)")
        return value


def check_origin(kw: Keywords) -> tuple[str, str, str]:
    """Instrument, detector and exposure type; raises `Unprocessable` where they are none of JWST's."""
    telescope = kw.text("TELESCOP")
    if telescope.upper() != "JWST":
        raise Unprocessable(f"{kw.name}: TELESCOP is {telescope!r}; upramp calibrates JWST data only")
    instrument, detector, exp_type = (kw.text(k).upper() for k in ("INSTRUME", "DETECTOR", "EXP_TYPE"))
    if instrument not in DETECTORS:
        raise kw.fail("INSTRUME", f"is {instrument!r}, none of {', '.join(DETECTORS)}")
    if detector not in DETECTORS[instrument]:
        names = ", ".join(sorted(DETECTORS[instrument]))
        raise kw.fail("DETECTOR", f"is {detector!r}, but {instrument} has {names}")
    if exp_type not in EXP_TYPES[instrument]:
        known = any(exp_type in types for types in EXP_TYPES.values())
        why = f"which {instrument} does not take" if known else "an unknown exposure type"
        raise kw.fail("EXP_TYPE", f"is {exp_type!r}, {why}")
    return instrument, detector, exp_type


def _check_pixels(name: str, sci: Unit, header: Cards) -> None:
    if len(sci.shape) != 4:
        raise Unprocessable(
            f"{name}: SCI has {len(sci.shape)} axes; level-1b data have 4 (columns, rows, groups, "
            "integrations): is this a calibrated product? Give the _uncal file"
        )
    nints, ngroups, ny, nx = sci.shape
    if (
        min(sci.shape) < 1
        or max(ny, nx) > _MAX_SIDE
        or ngroups > _MAX_GROUPS
        or nints > _MAX_INTS
        or sci.nbytes > _MAX_BYTES
    ):
        raise Unprocessable(
            f"{name}: SCI promises {nx} x {ny} pixels, {ngroups} groups, {nints} integrations "
            f"({sci.nbytes:.3g} bytes), which no JWST exposure has; the header is damaged, get the file again"
        )
    scale = (header.get("BZERO", 0), header.get("BSCALE", 1))
    if (sci.bitpix, scale) not in ((16, (32768, 1)), (-32, (0, 1))):
        raise Unprocessable(
            f"{name}: SCI has BITPIX {sci.bitpix}, BZERO {scale[0]}, BSCALE {scale[1]}; level-1b data are "
            "unsigned 16-bit (16, 32768, 1) or float32 (-32, 0, 1): get the file again"
        )


def _check_counts(kw: Keywords, sci: Unit, named: int | None) -> dict[str, Any]:
    """Hold the keywords that count things against the axes and each other."""
    nints_here, ngroups, ny, nx = sci.shape
    irs2 = kw.text("INSTRUME").upper() == "NIRSPEC" and max(nx, ny) > 2048
    checks = [("NGROUPS", 3, ngroups)]
    if not irs2:  # IRS2 frames hold interleaved reference pixels that SUBSIZE does not count
        checks += [("SUBSIZE1", 1, nx), ("SUBSIZE2", 2, ny)]
    for keyword, axis, length in checks:
        if kw.whole(keyword) != length:
            raise kw.fail(keyword, f"is {kw.whole(keyword)}, but the SCI data have NAXIS{axis} = {length}")
    frame = not irs2 and kw.text("EXP_TYPE").upper() not in GUIDER_TYPES  # these stack strips
    frame = frame and not superstripes.striped(kw)  # of which SUBSTRT tells the first line that is read
    for keyword, axis, length in [("SUBSTRT1", 1, nx), ("SUBSTRT2", 2, ny)] if frame else []:
        if (last := kw.whole(keyword) + length - 1) > _DETECTOR_SIDE:
            raise kw.fail(
                keyword,
                f"is {kw.whole(keyword)}, but with NAXIS{axis} = {length} the subarray would end at pixel "
                f"{last} of {_DETECTOR_SIDE}",
            )
    nints = kw.whole("NINTS")
    segment, segments = kw.maybe_whole("EXSEGNUM"), kw.maybe_whole("EXSEGTOT")
    start, end = kw.maybe_whole("INTSTART"), kw.maybe_whole("INTEND")
    if segment is not None and segments is not None and segment > segments:
        raise kw.fail("EXSEGNUM", f"is {segment}, above EXSEGTOT = {segments}")
    if start is None and end is None:
        if nints != nints_here:
            remedy = " (a segment needs INTSTART and INTEND)" if nints_here < nints else ""
            raise kw.fail("NINTS", f"is {nints}, but the SCI data have NAXIS4 = {nints_here}{remedy}")
        start, end = 1, nints
    start = kw.whole("INTSTART") if start is None else start
    end = kw.whole("INTEND") if end is None else end
    if end > nints:
        raise kw.fail("INTEND", f"is {end}, above NINTS = {nints}")
    if end - start + 1 != nints_here:
        raise kw.fail(
            "INTEND",
            f"is {end} and INTSTART {start}, but the SCI data have NAXIS4 = {nints_here}",
        )
    return {
        "nints_total": nints,
        "int_start": start,
        "int_end": end,
        "segment": segment or named or 1,
        # Some writers leave EXSEGTOT out: then the number of segments is unknown, 0.
        "segments": segments or (0 if nints_here < nints else 1),
    }


def _meta(kw: Keywords, sci: Unit, zeroframe: bool, named: int | None) -> ExposureMeta:
    instrument, detector, exp_type = check_origin(kw)
    counts = _check_counts(kw, sci, named)
    nints, ngroups, ny, nx = sci.shape
    axes = int(kw.real("FASTAXIS")), int(kw.real("SLOWAXIS"))
    if {abs(a) for a in axes} != {1, 2}:
        raise kw.fail("FASTAXIS", f"is {axes[0]} and SLOWAXIS {axes[1]}; they must be 1 or -1 and 2 or -2")
    meta = ExposureMeta(
        instrument=instrument,
        detector=detector,
        exp_type=exp_type,
        subarray=kw.text("SUBARRAY"),
        xstart=kw.whole("SUBSTRT1", most=_MAX_SIDE),
        ystart=kw.whole("SUBSTRT2", most=_MAX_SIDE),
        nx=nx,
        ny=ny,
        fastaxis=axes[0],
        slowaxis=axes[1],
        nints=nints,
        ngroups=ngroups,
        nframes=kw.whole("NFRAMES", most=_MAX_FRAMES),
        groupgap=kw.whole("GROUPGAP", least=0, most=_MAX_GAP),
        frame_divisor=kw.maybe_whole("FRMDIVSR", least=0, most=_MAX_FRAMES),
        drop_frames1=kw.whole("DRPFRMS1", default=0, least=0, most=_MAX_GAP),
        frame_time=kw.positive("TFRAME", _MAX_TIME, " s"),
        group_time=kw.positive("TGROUP", _MAX_TIME, " s"),
        noutputs=kw.whole("NOUTPUTS", default=1, most=_MAX_OUTPUTS),
        nsamples=kw.whole("NSAMPLES", default=1, least=0, most=_MAX_SAMPLES),
        readpatt=kw.text("READPATT"),
        filter=kw.text("FILTER", default=""),
        pupil=kw.text("PUPIL", default=""),
        grating=kw.text("GRATING", default=""),
        is_tso=kw.get("TSOVISIT") is True,
        has_zeroframe=zeroframe,
        gain_factor=None if kw.get("GAINFACT") is None else kw.positive("GAINFACT", _MAX_FACTOR),
        exposure_start=kw.real("EXPSTART", default=0.0),
        integration_time=kw.real("EFFINTTM", default=0.0),
        pupil_position=None if kw.get("PWCPOS") is None else kw.real("PWCPOS"),
        x_target=None if kw.get("XREF_SCI") is None else kw.real("XREF_SCI"),
        y_target=None if kw.get("YREF_SCI") is None else kw.real("YREF_SCI"),
        **counts,
    )
    return meta if exp_type in GUIDER_TYPES else superstripes.with_stripes(kw, meta)


def open_uncal(path: Path | str) -> Uncal:
    """Look at a level-1b file and check all that the steps rely on.

    No pixel is read and nothing is allocated by what the header says.

    Raises
    ------
    Unprocessable
        If the file is not a whole, consistent JWST uncal file; the sentence names the
        keyword, its value and the remedy.
    Retryable
        If the disk fails for the time being.
    """
    path = Path(path)
    name = parse_name(path.name)
    fd, size = open_regular(path)
    try:
        units = scan(fd, size, path)
    finally:
        os.close(fd)
    sci = next((u for u in units if u.name == "SCI" and u.start), None)
    primary, bad = parse_header(units[0])
    values = header_values(primary)
    kw = Keywords(path.name, values, bad)
    check_origin(kw)
    if sci is None:
        raise Unprocessable(
            f"{path.name} has no SCI extension; it is not level-1b data, or its copy is not complete"
        )
    sci_header, sci_bad = parse_header(sci)
    _check_pixels(path.name, sci, sci_header)
    if units[-1].end > size:
        raise Unprocessable(
            f"{path.name} has {size} bytes, but its headers promise {units[-1].end}: it is truncated or "
            "still being copied; copy or download it again"
        )
    values = {**header_values(sci_header), **values}
    zeroframe = any(u.name == "ZEROFRAME" and u.nbytes for u in units)
    meta = _meta(Keywords(path.name, values, {**sci_bad, **bad}), sci, zeroframe, name.segment)
    return Uncal(path, name, meta, primary, sci_header, values, size, units)


def header_values(header: Cards) -> dict[str, Any]:
    """The keywords of a header, upper case, with their values."""
    skip = ("", "COMMENT", "HISTORY", "CONTINUE")
    return {
        card.keyword.upper(): card.value
        for card in header.cards
        if card.keyword not in skip and not isinstance(card.value, fits.card.Undefined)
    }
