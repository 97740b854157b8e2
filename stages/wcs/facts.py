"""What an exposure's header says about where it points and which optics were in the beam."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from upramp.stages.core.errors import Unprocessable


@dataclass(frozen=True)
class WcsFacts:
    """The facts of an exposure that its WCS follows from; header keywords stand in brackets.

    Angles of the telescope's frame (V2, V3) are in arcsec, those on the sky in degrees (ICRS). Pixel
    origins are 1-based as in the header.
    """

    instrument: str  # INSTRUME
    detector: str  # DETECTOR
    exp_type: str  # EXP_TYPE
    nx: int  # length of the last axis of the data
    ny: int  # length of the last but one axis of the data
    v2_ref: float  # V2_REF, arcsec
    v3_ref: float  # V3_REF, arcsec
    ra_ref: float  # RA_REF, deg
    dec_ref: float  # DEC_REF, deg
    roll_ref: float  # ROLL_REF, position angle of V3 at the reference point, deg
    xstart: int = 1  # SUBSTRT1
    ystart: int = 1  # SUBSTRT2
    filter: str = ""  # FILTER
    pupil: str = ""  # PUPIL
    grating: str = ""  # GRATING
    va_scale: float | None = None  # VA_SCALE, what velocity aberration multiplies distances on the sky with
    crpix: tuple[float, float] | None = None  # CRPIX1, CRPIX2
    gwa_xtilt: float | None = None  # GWA_XTIL, reading of the grating wheel's tilt sensor, V
    gwa_ytilt: float | None = None  # GWA_YTIL, V


def _number(cards: Mapping[str, Any], keyword: str) -> float | None:
    value = cards.get(keyword)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _need(cards: Mapping[str, Any], keyword: str) -> float:
    value = _number(cards, keyword)
    if value is None:
        raise Unprocessable(
            f"{keyword} is {cards.get(keyword, 'missing')!r}, so it is not known where the exposure points; "
            f"get the file again from the archive, or set V2_REF, V3_REF, RA_REF, DEC_REF and ROLL_REF"
        )
    return value


def _text(cards: Mapping[str, Any], keyword: str) -> str:
    value = cards.get(keyword)
    return value.strip().upper() if isinstance(value, str) else ""


def wcs_facts(cards: Mapping[str, Any], shape: tuple[int, ...]) -> WcsFacts:
    """The facts that a header tells.

    Parameters
    ----------
    cards : mapping
        Keywords of the primary and SCI headers.
    shape : tuple of int
        Shape (..., ny, nx) of the pixels.

    Raises
    ------
    Unprocessable
        If the pointing is missing, or VA_SCALE is not positive.
    """
    va_scale = _number(cards, "VA_SCALE")
    if va_scale is not None and va_scale <= 0:
        raise Unprocessable(
            f"VA_SCALE is {va_scale:g}; it must be positive (about 1): get the file again from the archive"
        )
    crpix = _number(cards, "CRPIX1"), _number(cards, "CRPIX2")
    return WcsFacts(
        instrument=_text(cards, "INSTRUME"),
        detector=_text(cards, "DETECTOR"),
        exp_type=_text(cards, "EXP_TYPE"),
        nx=shape[-1],
        ny=shape[-2],
        v2_ref=_need(cards, "V2_REF"),
        v3_ref=_need(cards, "V3_REF"),
        ra_ref=_need(cards, "RA_REF"),
        dec_ref=_need(cards, "DEC_REF"),
        roll_ref=_need(cards, "ROLL_REF"),
        xstart=int(_number(cards, "SUBSTRT1") or 1),
        ystart=int(_number(cards, "SUBSTRT2") or 1),
        filter=_text(cards, "FILTER"),
        pupil=_text(cards, "PUPIL"),
        grating=_text(cards, "GRATING"),
        va_scale=va_scale,
        crpix=None if crpix[0] is None or crpix[1] is None else (crpix[0], crpix[1]),
        gwa_xtilt=_number(cards, "GWA_XTIL"),
        gwa_ytilt=_number(cards, "GWA_YTIL"),
    )
