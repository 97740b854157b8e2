"""What catalogues of mosaics need as references: aperture corrections and offsets of Vega magnitudes.

They are those of stars with Gaussian images: a circle of radius r holds 1 - exp(-r^2 / (2 s^2)) of the light.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import asdf
import numpy as np
from astropy.io import fits
from astropy.table import Table

from upramp.simulate.cache import USEAFTER, Cache
from upramp.simulate.observation import Observation
from upramp.simulate.references import DETECTOR

ENERGIES = (0.3, 0.5, 0.7, 0.8)
RING = (8.0, 14.0)
"""Radii between which the sky is measured, in standard deviations of the star."""

BLUR = (3 / 12) ** 0.5
"""Standard deviation, pixels, of three times the width of one."""

OFFSET = 3.2
"""AB less Vega magnitude."""

_MODELS = {"NIRCAM": "NrcImg", "NIRISS": "NisImg", "MIRI": "MirImg", "FGS": "FgsImg"}
_SELECTORS = {
    "NIRCAM": ("filter", "pupil"),
    "NIRISS": ("filter", "pupil"),
    "MIRI": ("filter", "subarray"),
    "FGS": (),
}


def write_all(cache: Cache, observation: Observation, width: float) -> None:
    """Write both for an observation's optics, and the rules.

    Parameters
    ----------
    cache : Cache
        The caller then calls ``cache.write()``.
    observation : Observation
        Of NIRCam, NIRISS, MIRI or FGS.
    width : float
        Standard deviation of a star's image, pixels. A circle on the mosaic sees it a little wider: values
        are spread over pixels, then over those of the mosaic, and lie evenly in them.
    """
    width = float(np.hypot(width, BLUR))
    meta = observation.metadata()
    instrument, detector = meta["instrument.name"], meta["instrument.detector"]
    own = {
        "filter": meta.get("instrument.filter", ""),
        "pupil": meta.get("instrument.pupil", ""),
        "subarray": meta["subarray.name"],
    }
    path = cache.new_path(instrument, "apcorr")
    _apcorr(instrument, own, width, meta["exposure.type"]).writeto(path)
    cache.rule(instrument, "apcorr", DETECTOR, (detector,), path)
    path = cache.new_path(instrument, "abvegaoffset", "asdf")
    asdf.AsdfFile(_abvegaoffset(instrument, own | {"detector": detector})).write_to(path)
    cache.rule(instrument, "abvegaoffset", DETECTOR, (detector,), path)


def _apcorr(instrument: str, own: Mapping[str, str], width: float, exp_type: str) -> fits.HDUList:
    selectors = _SELECTORS[instrument]
    rows = [
        (*(own[name] for name in selectors), e, width * np.sqrt(-2 * np.log(1 - e)), 1 / e, *RING)
        for e in ENERGIES
    ]
    names = (*selectors, "eefraction", "radius", "apcorr", "skyin", "skyout")
    table = Table(rows=rows, names=names, dtype=["U15"] * len(selectors) + ["f4"] * 5)
    for name in ("skyin", "skyout"):
        table[name] *= np.float32(width)
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(table, name="APCORR")])
    hdus[0].header.update(
        TELESCOP="JWST",
        REFTYPE="APCORR",
        PEDIGREE="DUMMY",
        DESCRIP="synthetic reference",
        AUTHOR="upramp",
        USEAFTER=USEAFTER.replace(" ", "T"),
        DATAMODL=f"{_MODELS[instrument]}ApcorrModel",
        INSTRUME=instrument,
        EXP_TYPE=exp_type,
    )
    return hdus


def _abvegaoffset(instrument: str, own: Mapping[str, str]) -> dict[str, Any]:
    selectors = {"MIRI": ("filter",), "FGS": ("detector",)}.get(instrument, ("filter", "pupil"))
    row = (*(own[name] for name in selectors), OFFSET)
    table = Table(rows=[row], names=(*selectors, "abvega_offset"), dtype=["U12"] * len(selectors) + ["f4"])
    meta = {
        "author": "upramp",
        "description": "synthetic reference",
        "pedigree": "DUMMY",
        "telescope": "JWST",
        "reftype": "abvegaoffset",
        "useafter": USEAFTER.replace(" ", "T"),
        "model_type": "ABVegaOffsetModel",
        "instrument": {"name": instrument},
    }
    return {"meta": meta, "abvega_offset": table}
