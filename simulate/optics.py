"""What images need beyond rates, as references: flat, flux conversion, pixel areas, the optics' distortion.

Signs, orientation and scale of the distortion are those that an observation's header tells; what it bends
beyond that is drawn, and larger than that of the telescope.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asdf
import numpy as np
from astropy.io import fits
from astropy.modeling.models import Identity, Polynomial2D, Shift
from astropy.modeling.models import Mapping as Axes

from upramp.simulate.cache import USEAFTER, Cache, dq_hdus
from upramp.simulate.detector import Detector
from upramp.simulate.observation import Observation
from upramp.simulate.references import DETECTOR, Window, build
from upramp.stages.core import dq

DEGREE = 5
HALF = 1024.0
"""Distance, pixels, over which the distortion is drawn and its inverse is fitted."""

BENT = 30.0
"""Shift, pixels, that each term of the distortion makes at that distance (standard deviation)."""

FLAT_FLAGS = ("DO_NOT_USE", "NON_SCIENCE", "NO_FLAT_FIELD", "UNRELIABLE_FLAT")
CONVERSION = 0.35
"""MJy/sr per DN/s of the first row; every further one is a tenth more."""

PHOTOM_MODELS = {
    "FGS": "FgsImgPhotomModel",
    "MIRI": "MirImgPhotomModel",
    "NIRCAM": "NrcImgPhotomModel",
    "NIRISS": "NisImgPhotomModel",
}
DECLINE = {"t0": 59000.0, "amplitude": 0.2, "tau": 900.0, "const": 0.8}
"""Coefficients of the exponential decline in the mid infrared: days (MJD), share, days, share."""


def distortion(
    scale: float,
    v2: float,
    v3: float,
    *,
    pixel: tuple[float, float] = (HALF - 0.5, HALF - 0.5),
    parity: int = 1,
    angle: float = 0.0,
    bent: float = BENT,
    seed: int = 3,
) -> Any:
    """From pixels of the whole detector (0-based, x first) to V2, V3: polynomials both ways.

    Parameters
    ----------
    scale : float
        Side of a pixel, arcsec.
    v2, v3 : float
        Place of ``pixel`` in the focal plane, arcsec.
    parity, angle : int, float
        VPARITY and V3I_YANG, degrees.
    bent : float
        Shift that each drawn term makes at the detector's edge, pixels.
    """
    rng = np.random.default_rng(seed)
    terms = [(i, j) for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i) if i + j]
    wild = [{(i, j): rng.normal() * bent * scale / HALF ** (i + j) for i, j in terms} for _ in range(2)]
    c, s = np.cos(np.radians(angle)) * scale, np.sin(np.radians(angle)) * scale
    for plane, (x, y) in zip(wild, ((parity * c, s), (-parity * s, c)), strict=True):
        plane[1, 0] += x
        plane[0, 1] += y
    x, y = (a.ravel() for a in np.mgrid[-1:1:41j, -1:1:41j] * HALF)
    there = [sum(k * x**i * y**j for (i, j), k in plane.items()) for plane in wild]
    unit = HALF * scale
    columns = np.column_stack([(there[0] / unit) ** i * (there[1] / unit) ** j for i, j in terms])
    back = [
        {(i, j): k / unit ** (i + j) for (i, j), k in zip(terms, solution, strict=True)}
        for solution in np.linalg.lstsq(columns, np.column_stack([x, y]), rcond=None)[0].T
    ]
    split, join = Axes((0, 1, 0, 1)), Identity(2)
    split.inverse, join.inverse = Identity(2), Axes((0, 1, 0, 1))
    polynomials = _polynomial(wild[0]) & _polynomial(wild[1])
    polynomials.inverse = _polynomial(back[0]) & _polynomial(back[1])
    return Shift(-pixel[0]) & Shift(-pixel[1]) | split | polynomials | join | Shift(v2) & Shift(v3)


def _polynomial(terms: Mapping[tuple[int, int], float]) -> Polynomial2D:
    return Polynomial2D(DEGREE, **{f"c{i}_{j}": float(k) for (i, j), k in terms.items()})


def distortion_of(observation: Observation) -> Any:
    """The distortion that an observation's header fits: its reference pixel lies at V2_REF, V3_REF."""
    meta, layout = observation.metadata(), observation.layout
    x = observation.xstart - 2 + meta["wcsinfo.crpix1"]
    y = observation.ystart - 2 + meta["wcsinfo.crpix2"]
    return distortion(
        layout.scale, layout.v2, layout.v3, pixel=(x, y), parity=layout.parity, angle=layout.yangle
    )


def write_transform(
    path: Any, reftype: str, content: Mapping[str, Any], facts: Mapping[str, Any], exp_types: Sequence[str]
) -> None:
    """Write an ASDF reference.

    Parameters
    ----------
    content : mapping
        What it holds beside its metadata: ``{"model": ...}``, ``{"filters": [...]}``.
    facts : mapping
        Name, detector, module, channel of the instrument, lower case.
    exp_types : sequence of str
        Kinds of exposures that it is for.
    """
    meta = {
        "reftype": reftype,
        "telescope": "JWST",
        "author": "upramp",
        "title": "synthetic reference",
        "description": "synthetic reference",
        "pedigree": "DUMMY",
        "useafter": USEAFTER.replace(" ", "T"),
        "input_units": "pixel",
        "output_units": "arcsec",
        "instrument": {"module": "A", "channel": "SHORT", "filter": "N/A", "pupil": "N/A", **facts},
        "exposure": {"type": "N/A", "p_exptype": "".join(f"{name}|" for name in exp_types)},
    }
    asdf.AsdfFile({"meta": meta, **content}).write_to(path)


def filter_offsets(pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Offsets of images, pixels, by filter and pupil; no two are alike."""
    return [
        {"filter": f, "pupil": p, "column_offset": 0.25 * k, "row_offset": k - 0.5}
        for k, (f, p) in enumerate(pairs, 1)
    ]


def write_all(
    cache: Cache, detector: Detector, observations: Sequence[Observation], *, rows: bool = True
) -> None:
    """Write what stage 2 of images needs for these observations of one detector, and the rules.

    They cover the detector as it was drawn; the distortion fits the header of the first observation. The
    caller then calls ``cache.write()``.

    Parameters
    ----------
    rows : bool
        Whether photom has rows for these observations' optics, beside others.
    """
    layout, first = detector.layout, observations[0]
    ny, nx = detector.shape
    window = Window("GENERIC", 1, 1, nx, ny)
    metas = [o.metadata() for o in observations]
    exp_types = sorted({m["exposure.type"] for m in metas})
    pairs = sorted({(m.get("instrument.filter", "N/A"), m.get("instrument.pupil", "N/A")) for m in metas})

    def save(reftype: str, extensions: Sequence[Any], extra: Mapping[str, Any] | None = None) -> None:
        path = cache.new_path(layout.instrument, reftype)
        cards = {"FILENAME": path.name, "EXP_TYPE": exp_types[0], **(extra or {})}
        build(reftype, detector, window, extensions, cards).writeto(path)
        cache.rule(layout.instrument, reftype, DETECTOR, (detector.name,), path)

    model = distortion_of(first)
    area = {"PIXAR_SR": np.radians(layout.scale / 3600) ** 2, "PIXAR_A2": layout.scale**2}
    save("flat", flat_hdus(detector))
    photom = photom_hdus(observations if rows else [], layout.instrument)
    save("photom", photom, area | {"DATAMODL": PHOTOM_MODELS[layout.instrument]})
    save("area", [fits.ImageHDU(relative_areas(model, detector.shape, layout.scale), name="SCI")], area)
    facts = {"name": layout.instrument, "detector": layout.detector}
    contents: dict[str, dict[str, Any]] = {"distortion": {"model": model}}
    if layout.instrument == "FGS":
        cache.rule(layout.instrument, "filteroffset", DETECTOR, (detector.name,), "N/A")
    else:
        contents["filteroffset"] = {"filters": filter_offsets([("NONE", "NONE"), *pairs])}
    for reftype, content in contents.items():
        path = cache.new_path(layout.instrument, reftype, "asdf")
        write_transform(path, reftype, content, facts, exp_types)
        cache.rule(layout.instrument, reftype, DETECTOR, (detector.name,), path)


def flat_hdus(detector: Detector, flagged: int = 6) -> list[Any]:
    """The detector's flat with errors and flags.

    Some pixels each are NaN, 0, NO_FLAT_FIELD, UNRELIABLE_FLAT or DO_NOT_USE; a corner is NON_SCIENCE.
    """
    rng = np.random.default_rng([7, *detector.name.encode()])
    flat = detector.flat.astype(np.float32)
    err = rng.uniform(1e-3, 5e-3, flat.shape).astype(np.float32)
    flags = np.zeros(flat.shape, np.uint32)
    flags[: flat.shape[0] // 4, : flat.shape[1] // 4] = dq.NON_SCIENCE
    chosen = rng.choice(flat.size, (5, flagged), replace=False)
    flat.ravel()[chosen[0]] = np.nan
    flat.ravel()[chosen[1]] = 0
    for places, value in zip(chosen[2:], (dq.NO_FLAT_FIELD, dq.UNRELIABLE_FLAT, dq.DO_NOT_USE), strict=True):
        flags.ravel()[places] |= np.uint32(value)
    names = {name: dq.FLAGS[name] for name in FLAT_FLAGS}
    return [fits.ImageHDU(flat, name="SCI"), fits.ImageHDU(err, name="ERR"), *dq_hdus(flags, names)]


def photom_hdus(observations: Sequence[Observation], instrument: str) -> list[Any]:
    """Conversions for the observations' optics, and others; in the mid infrared with their decline."""
    mid = instrument == "MIRI"
    metas = [o.metadata() for o in observations]
    second = "subarray" if mid else "pupil"
    found = {
        (m.get("instrument.filter", ""), m["subarray.name"] if mid else m.get("instrument.pupil", ""))
        for m in metas
    }
    generic = {(f, "GENERIC") for f, _ in found} if mid else set()
    optics = sorted(found | generic | {("F999W", "CLEAR"), ("F999W", "OTHER")})
    if instrument == "FGS":
        values = np.array([(CONVERSION, 0.01)], [("photmjsr", ">f4"), ("uncertainty", ">f4")])
        return [fits.BinTableHDU(values, name="PHOTOM")]
    key = [("filter", "S12"), (second, "S17" if mid else "S12")]
    rows = [(*pair, CONVERSION * (1 + 0.1 * k), 0.01) for k, pair in enumerate(optics)]
    table = np.array(rows, [*key, ("photmjsr", ">f4"), ("uncertainty", ">f4")])
    hdus = [fits.BinTableHDU(table, name="PHOTOM")]
    if mid:
        declines = [(*pair, *DECLINE.values()) for pair in optics]
        dtype = [*key, *((name, ">f4") for name in DECLINE)]
        hdus.append(fits.BinTableHDU(np.array(declines, dtype), name="TIMECOEFF_EXPONENTIAL"))
    return hdus


def relative_areas(model: Any, shape: tuple[int, int], scale: float) -> np.ndarray:
    """Areas of pixels on the sky over the nominal one, float32 (ny, nx)."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    (v2x, v3x), (v2y, v3y) = (
        np.subtract(model(x + dx, y + dy), model(x - dx, y - dy)) for dx, dy in ((0.5, 0.0), (0.0, 0.5))
    )
    areas: np.ndarray = np.abs(v2x * v3y - v2y * v3x) / scale**2
    return areas.astype(np.float32)
