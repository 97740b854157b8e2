"""Resampled images with sources, their references, and the cases of source_catalog that are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asdf
import numpy as np
from astropy.io import fits
from astropy.table import Table

from upramp.stages.resample.grid import Grid
from upramp.stages.stage3.resample import wcs_of

SIDE, SCALE = 220, 0.063
SKY, NOISE = 0.5, 0.02

OPTICS: dict[str, dict[str, str]] = {
    "nircam": {"INSTRUME": "NIRCAM", "DETECTOR": "NRCALONG", "FILTER": "F444W", "PUPIL": "CLEAR",
               "SUBARRAY": "FULL", "EXP_TYPE": "NRC_IMAGE"},
    "niriss": {"INSTRUME": "NIRISS", "DETECTOR": "NIS", "FILTER": "CLEAR", "PUPIL": "F150W",
               "SUBARRAY": "FULL", "EXP_TYPE": "NIS_IMAGE"},
    "miri": {"INSTRUME": "MIRI", "DETECTOR": "MIRIMAGE", "FILTER": "F770W", "SUBARRAY": "BRIGHTSKY",
             "EXP_TYPE": "MIR_IMAGE"},
    "fgs": {"INSTRUME": "FGS", "DETECTOR": "GUIDER2", "SUBARRAY": "FULL", "EXP_TYPE": "FGS_IMAGE"},
}  # fmt: skip
_MODELS = {"nircam": "NrcImg", "niriss": "NisImg", "miri": "MirImg", "fgs": "FgsImg"}
_SELECTORS: dict[str, tuple[tuple[str, ...], list[tuple[str, ...]]]] = {
    "nircam": (("filter", "pupil"), [("F444W", "F405N"), ("F444W", "CLEAR"), ("F200W", "CLEAR")]),
    "niriss": (("filter", "pupil"), [("CLEAR", "F115W"), ("CLEAR", "F150W")]),
    "miri": (("filter", "subarray"), [("F770W", "FULL"), ("F770W", "BRIGHTSKY"), ("F560W", "BRIGHTSKY")]),
    "fgs": ((), [()]),
}
ENERGIES = {0.3: (1.3, 3.3), 0.5: (2.0, 2.0), 0.6: (2.6, 1.67), 0.7: (3.4, 1.43), 0.8: (6.0, 1.25)}


@dataclass(frozen=True)
class Case:
    """What is compared: an image of `draw`, optics, and parameters."""

    image: str = "field"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    optics: str = "nircam"
    filter: str = ""
    ratio: float | None = None


def header(case: Case) -> dict[str, str]:
    """Keywords of the optics."""
    cards = dict(OPTICS[case.optics])
    if case.filter:
        cards["FILTER"] = case.filter
    return cards


def grid(roll: float = 30.0) -> Grid:
    """The grid of an image."""
    t = np.radians(roll)
    pc = np.array([[-np.cos(t), np.sin(t)], [np.sin(t), np.cos(t)]])
    return Grid((80.0, -69.5), (SIDE / 2 + 7.3, SIDE / 2 - 4.1), SCALE / 3600, pc, (SIDE, SIDE))


ROLLS = {"turned": 200.0, "north": 0.0, "left": 100.0}


def draw(name: str) -> dict[str, Any]:
    """An image of this name: sci, err, wht (float32), grid, wcs.

    ``field``: stars and galaxies on a sky, a corner and pixels here and there are not covered, some in
    stars; ``noise``: nothing but noise; ``dark``: no pixel is covered; others: as ``field``, turned.
    """
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:SIDE, :SIDE]
    light = np.zeros((SIDE, SIDE))
    stars = np.column_stack([rng.uniform(4, SIDE - 4, (30, 2)), 10 ** rng.uniform(0.3, 2.3, 30)])
    stars[1, :2] = stars[0, :2] + (4.1, 2.2)
    for x0, y0, flux in stars:
        light += flux / 7.6 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2.42)
    for x0, y0, flux, a, b, t in zip(
        rng.uniform(20, SIDE - 20, 6), rng.uniform(20, SIDE - 20, 6), 10 ** rng.uniform(1.5, 2.5, 6),
        rng.uniform(3, 5, 6), rng.uniform(1.5, 3, 6), rng.uniform(0, np.pi, 6), strict=True,
    ):  # fmt: skip
        u = (x - x0) * np.cos(t) + (y - y0) * np.sin(t)
        v = (y - y0) * np.cos(t) - (x - x0) * np.sin(t)
        light += flux / (2 * np.pi * a * b) * np.exp(-((u / a) ** 2 + (v / b) ** 2) / 2)
    if name in ("noise", "dark"):
        light *= 0
    variance = NOISE**2 + 1e-3 * light
    sci = SKY + light + rng.normal(size=light.shape) * np.sqrt(variance)
    covered = (np.abs(x - 110) * 0.9 + np.abs(y - 110) * 0.2 < 112) & (rng.random(light.shape) > 0.001)
    for k, off in ((3, 0), (4, 2), (5, 1)):
        covered[round(stars[k, 1]) + off, round(stars[k, 0])] = False
    if name == "dark":
        covered[:] = False
    if name == "few_covered":
        covered &= (x % 10 > 1) & (y + 0.3 * x < 180)
    weight = covered.astype(np.float32)
    if name == "weightless":
        weight[60:110, 40:90] = 0
    err = np.where(covered, np.sqrt(variance), np.nan).astype(np.float32)
    if name == "errorless":
        err[60:110, 40:90] = np.nan
        err[110:140, 40:90] = 0
    own = grid(ROLLS.get(name, 30.0))
    return {
        "sci": np.where(covered, sci, np.nan).astype(np.float32),
        "err": err,
        "wht": weight,
        "grid": own,
        "wcs": wcs_of(own),
    }


def write_image(path: Path, case: Case) -> None:
    """The image of a case for the peer's interpreter."""
    drawn = draw(case.image)
    own = drawn.pop("grid")
    tree = {
        **drawn,
        "crpix": [own.crpix[0] + 1, own.crpix[1] + 1],
        "area": float(np.radians(own.scale) ** 2),
        "ratio": case.ratio,
        "cards": header(case),
    }
    asdf.AsdfFile(tree).write_to(path)


def write_apcorr(path: Path, optics: str) -> None:
    """A reference of aperture corrections; rows of other optics have other numbers."""
    selectors, rows = _SELECTORS[optics]
    names = (*selectors, "eefraction", "radius", "apcorr", "skyin", "skyout")
    content = [
        (*row, energy, radius + 0.1 * k, correction, 8.0, 14.0)
        for k, row in enumerate(rows)
        for energy, (radius, correction) in ENERGIES.items()
    ]
    table = Table(rows=content, names=names, dtype=["U15"] * len(selectors) + ["f4"] * 5)
    primary = fits.PrimaryHDU()
    cards = OPTICS[optics]
    primary.header.update(
        {"TELESCOP": "JWST", "REFTYPE": "APCORR", "PEDIGREE": "GROUND", "DESCRIP": "made up",
         "AUTHOR": "upramp", "USEAFTER": "2020-01-01T00:00:00", "DATAMODL": f"{_MODELS[optics]}ApcorrModel",
         "INSTRUME": cards["INSTRUME"], "EXP_TYPE": cards["EXP_TYPE"]}
    )  # fmt: skip
    fits.HDUList([primary, fits.BinTableHDU(table, name="APCORR")]).writeto(path)


def write_abvegaoffset(path: Path, optics: str) -> None:
    """A reference of offsets between magnitudes."""
    rows: list[tuple[str, ...]]
    if optics == "fgs":
        names, rows = ("detector",), [("GUIDER1",), ("GUIDER2",)]
    elif optics == "miri":
        names, rows = ("filter",), [("F560W",), ("F770W",)]
    else:
        names, rows = _SELECTORS[optics]
        rows = [row for row in rows if row[0] != "F200W"]
    content = [(*row, 1.25 + 0.5 * k) for k, row in enumerate(rows)]
    table = Table(rows=content, names=(*names, "abvega_offset"), dtype=["U12"] * len(names) + ["f4"])
    meta = {
        "author": "upramp", "description": "made up", "pedigree": "GROUND", "telescope": "JWST",
        "reftype": "abvegaoffset", "useafter": "2020-01-01T00:00:00", "model_type": "ABVegaOffsetModel",
        "instrument": {"name": OPTICS[optics]["INSTRUME"]},
    }  # fmt: skip
    asdf.AsdfFile({"meta": meta, "abvega_offset": table}).write_to(path)


def _set(**parameters: Any) -> Case:
    return Case(parameters=parameters)


CASES: dict[str, Case] = {
    "as_it_is": Case(),
    **{name: Case(name) for name in (*ROLLS, "noise", "dark")},
    **{optics: Case(optics=optics) for optics in ("niriss", "miri", "fgs")},
    "not_deblended": _set(deblend=False),
    "small": _set(npixels=5, snr_threshold=8.0),
    "large": _set(npixels=60),
    "coarse": _set(contrast=0.1, nlevels=8, multithresh_mode="linear"),
    "sinh": _set(multithresh_mode="sinh"),
    "wide_kernel": _set(kernel_fwhm=3.5),
    "boxes": _set(bkg_boxsize=50),
    "local_background": _set(localbkg_width=12),
    "neighbours_masked": _set(apermask_method="mask"),
    "neighbours_stay": _set(apermask_method="none"),
    "other_energies": _set(aperture_ee1=50, aperture_ee2=60, aperture_ee3=80),
    "no_such_energy": _set(aperture_ee2=55),
    "all_extended": _set(ci1_star_threshold=0.5, ci2_star_threshold=0.5),
    "extended_by_the_first": _set(ci1_star_threshold=1.7, ci2_star_threshold=9.0),
    "extended_by_the_second": _set(ci1_star_threshold=9.0, ci2_star_threshold=1.3),
    "dao": _set(starfinder="dao", roundlo=-1.0, roundhi=1.0, sharplo=0.2, sharphi=1.0),
    "iraf": _set(starfinder="iraf", roundlo=-1.0, roundhi=1.0),
    "dao_in_boxes": _set(starfinder="dao", roundlo=-1.0, roundhi=1.0, sharplo=0.2, bkg_boxsize=50),
    "iraf_few_covered": Case("few_covered", {"starfinder": "iraf", "roundlo": -1.0}),
    "few_covered": Case("few_covered", {"bkg_boxsize": 110}),
    "one": _set(npixels=300),
    "few_of_iraf": _set(starfinder="iraf", brightest=7, roundlo=-1.0, minsep_fwhm=4.0),
    "no_star": Case("noise", {"starfinder": "iraf", "snr_threshold": 30.0}),
    "unknown_filter": Case(filter="F250M"),
    "no_offset": Case(filter="F200W"),
    "fine": Case(ratio=0.6),
    "coarse_pixels": Case(ratio=1.7),
    "without_weight": Case("weightless"),
    "without_error": Case("errorless"),
}
