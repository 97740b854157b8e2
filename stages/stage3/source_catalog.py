"""source_catalog: what shines in a mosaic, and how bright it is.

Sources are segments of connected pixels that stand out of the background (``source_segments.py``), or what a
star finder finds. Each is measured in three circles that hold known parts of a star's light
(``source_photometry.py``):

    flux = sum in the circle - its area b        b: level of a ring around
    total = c flux of the largest circle         c: aperture correction

Radii, c and the ring come from the apcorr reference; radii are in pixels of the detector, and are divided by
the mosaic's ratio of pixel sizes. A source is extended if both flux2 / flux1 and flux3 / flux2 are above
their thresholds. The position angle of a major axis is measured against north at the mosaic's reference
pixel. Values are turned into Jy first. Source: JWST pipeline documentation, source_catalog step; photutils
(Bradley et al.); what is measured against which background, what counts as extended, and the errors, was
found by running the observatory's package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from upramp.stages.core.errors import NotApplicable
from upramp.stages.core.frames import Crew
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference
from upramp.stages.stage3.members import CombiningStep
from upramp.stages.stage3.resample import Resampled
from upramp.stages.stage3.source_columns import (
    FLUX,
    RATIO,
    SHAPE,
    Column,
    aperture_columns,
    column,
    isophotal_columns,
    ratio,
)
from upramp.stages.stage3.source_finding import Found, find
from upramp.stages.stage3.source_photometry import Measured, photometry
from upramp.stages.stage3.tweakreg_sources import FINDERS, Finding, refuse_senseless

JANSKY = 1e6
"""Jansky in one MJy."""

UNIT = "MJy/sr"
DEBLENDING = ("exponential", "linear", "sinh")
NEIGHBOURS = ("correct", "mask", "none")


@dataclass(frozen=True)
class Params:
    """Parameters of source_catalog."""

    skip: bool = False
    aperture_ee1: int = 30
    aperture_ee2: int = 50
    aperture_ee3: int = 70
    ci1_star_threshold: float = 2.0
    ci2_star_threshold: float = 1.8
    suffix: str = "cat"
    starfinder: str = "segmentation"
    snr_threshold: float = 3.0
    bkg_boxsize: int = 1000
    kernel_fwhm: float = 2.0
    minsep_fwhm: float = 0.0
    sigma_radius: float = 1.5
    sharplo: float = 0.5
    sharphi: float = 2.0
    roundlo: float = 0.0
    roundhi: float = 0.2
    brightest: int | None = 200
    peakmax: float | None = None
    npixels: int = 25
    connectivity: int = 8
    nlevels: int = 32
    contrast: float = 0.001
    multithresh_mode: str = "exponential"
    localbkg_width: int = 0
    apermask_method: str = "correct"
    kron_params: list[float] | None = None
    deblend: bool = True

    def __post_init__(self) -> None:
        for name, known in (
            ("starfinder", FINDERS),
            ("multithresh_mode", DEBLENDING),
            ("apermask_method", NEIGHBOURS),
            ("connectivity", (4, 8)),
        ):
            if getattr(self, name) not in known:
                words = ", ".join(str(k) for k in known)
                raise ValueError(f"{name} must be one of {words}, not {getattr(self, name)!r}")
        refuse_senseless(self)
        if not self.suffix.isprintable() or "/" in self.suffix:
            raise ValueError(f"suffix must be a part of a file name, not {self.suffix!r}")
        if not 0 < self.aperture_ee1 < self.aperture_ee2 < self.aperture_ee3 < 100:
            raise ValueError(
                "aperture_ee1, aperture_ee2, aperture_ee3 must increase between 0 and 100, but are "
                f"{self.energies}"
            )

    @property
    def energies(self) -> tuple[int, int, int]:
        """Encircled energies, percent."""
        return self.aperture_ee1, self.aperture_ee2, self.aperture_ee3


@dataclass(frozen=True)
class Catalogue:
    """Sources, a row for each.

    Attributes
    ----------
    columns : list of Column
    meta : mapping
        What is known of all of them: apertures, offset of Vega magnitudes, parameters.
    segments : ndarray, uint32 (ny, nx), or None
        Label of the source of each pixel, 0 where there is none; star finders make no such map.
    """

    columns: list[Column]
    meta: Mapping[str, Any]
    segments: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.columns[0].values)

    def __getitem__(self, name: str) -> np.ndarray:
        return next(c.values for c in self.columns if c.name == name)


_SELECT = {
    "apcorr": {
        "FGS": (), "MIRI": ("filter", "subarray"), "NIRCAM": ("filter", "pupil"),
        "NIRISS": ("filter", "pupil"),
    },
    "abvegaoffset": {
        "FGS": ("detector",), "MIRI": ("filter",), "NIRCAM": ("filter", "pupil"),
        "NIRISS": ("filter", "pupil"),
    },
}  # fmt: skip
"""Columns by which rows of the references are chosen."""


def _rows(table: Any, names: list[str], reftype: str, meta: ExposureMeta) -> list[int]:
    """Rows of the exposure's optics."""
    found = np.ones(len(table), bool)
    for wanted in _SELECT[reftype].get(meta.instrument, ()):
        [own] = [n for n in names if n.lower() == wanted]
        words = [str(v.decode() if isinstance(v, bytes) else v).strip().upper() for v in table[own]]
        found &= np.array(words) == str(getattr(meta, wanted)).strip().upper()
    return [int(k) for k in np.flatnonzero(found)]


def prepare_apcorr(raw: RawReference, meta: ExposureMeta, params: object) -> Prepared:
    """Circles of the exposure's optics: eefraction, radius, apcorr, skyin, skyout; none where no row fits."""
    table = raw.table("APCORR")
    names = list(table.dtype.names or ())
    rows = _rows(table, names, "apcorr", meta)
    info: dict[str, Any] = {"optics": _optics(meta)}
    for wanted in ("eefraction", "radius", "apcorr", "skyin", "skyout"):
        [own] = [n for n in names if n.lower() == wanted]
        info[wanted] = [float(v) for v in table[own][rows]]
    return Prepared({}, info)


def prepare_abvegaoffset(raw: RawReference, meta: ExposureMeta, params: object) -> Prepared:
    """AB less Vega magnitude for the exposure's optics; None where no row fits."""
    table = raw.tree()["abvega_offset"]
    rows = _rows(table, list(table.colnames), "abvegaoffset", meta)
    offset = float(table["abvega_offset"][rows[0]]) if rows else None
    return Prepared({}, {"optics": _optics(meta), "offset": offset})


def _optics(meta: ExposureMeta) -> str:
    return " ".join(w for w in (meta.instrument, meta.detector, meta.filter, meta.pupil) if w)


@dataclass(frozen=True)
class Apertures:
    """Circles (radii, corrections) and ring of a mosaic, pixels."""

    radii: np.ndarray
    corrections: np.ndarray
    ring: tuple[float, float]


def apertures(apcorr: Prepared, p: Params, pixel_ratio: float) -> Apertures:
    """Circles and ring of the wanted energies.

    Raises
    ------
    NotApplicable
        If the reference has none of them.
    """
    ref = apcorr.info
    if not ref["eefraction"]:
        raise NotApplicable(f"the apcorr reference has no row for {ref['optics']}")
    known = [round(100 * e) for e in ref["eefraction"]]
    lacking = [e for e in p.energies if e not in known]
    if lacking:
        raise NotApplicable(
            f"the apcorr reference has no aperture of {lacking[0]} % encircled energy for {ref['optics']}, "
            f"but of {', '.join(map(str, sorted(known)))}; set steps.source_catalog.aperture_ee1 to 3 so"
        )
    rows = [known.index(e) for e in p.energies]
    single = {name: np.array(ref[name], np.float32)[rows] for name in ("radius", "apcorr", "skyin", "skyout")}
    scale = np.float32(pixel_ratio)
    return Apertures(
        single["radius"] / scale,
        single["apcorr"],
        (float(single["skyin"][0] / scale), float(single["skyout"][0] / scale)),
    )


def make(
    made: Resampled,
    params: Params,
    references: Mapping[str, Prepared],
    crew: Crew | None = None,
    unit: str = UNIT,
) -> Catalogue:
    """Find and measure the sources of a mosaic, which stays as it is.

    Besides it, memory holds up to nine arrays of its size.

    Parameters
    ----------
    made : Resampled
        SCI, ERR, WHT; PIXAR_SR, CRPIX1, CRPIX2, PXSCLRT; WCS.
    params : Params
    references : mapping
        "apcorr", "abvegaoffset", prepared for one of its exposures.
    crew : Crew, optional
    unit : str
        That of SCI and ERR.

    Raises
    ------
    NotApplicable
        If nothing is found, values are no surface brightness, or references lack the optics or an energy.
    """
    p, crew = params, crew or Crew()
    area, offset = made.sci.get("PIXAR_SR"), references["abvegaoffset"].info["offset"]
    if unit != UNIT or not area:
        raise NotApplicable(f"values in {unit} with pixels of {area} sr cannot be told in Jy; run photom")
    circles = apertures(references["apcorr"], p, float(made.primary.get("PXSCLRT") or 1.0))
    if offset is None:
        optics = references["abvegaoffset"].info["optics"]
        raise NotApplicable(f"the abvegaoffset reference has no row for {optics}")
    factor = np.float32(JANSKY * float(area))
    sci, err = made.arrays["SCI"] * factor, made.arrays["ERR"] * factor
    mask = ~(np.isfinite(sci) & np.isfinite(err))
    if "WHT" in made.arrays:
        mask |= made.arrays["WHT"] == 0
    found = find(sci, err, mask, Finding.of(p), crew)
    if found is None:
        raise NotApplicable("no source was found in the mosaic")
    places = np.column_stack([found.x, found.y])
    measured = photometry(sci, err, places, circles.radii, circles.ring, p.kernel_fwhm, crew)
    columns = _columns(found, measured, circles, p, float(offset), made)
    return Catalogue(columns, _meta(p, circles, float(offset)), found.map)


def neighbours(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label (from 1) of the nearest other source, and its distance; -1 and NaN where there is none."""
    from scipy.spatial import KDTree

    label, distance = np.full(len(x), -1), np.full(len(x), np.nan)
    good = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(good) > 1:
        places = np.column_stack([x, y])[good]
        distances, order = KDTree(places).query(places, k=2)
        label[good], distance[good] = good[order[:, 1]] + 1, distances[:, 1]
    return label, distance


def north(made: Resampled) -> float:
    """Direction of north at the reference pixel, degrees counter-clockwise from x."""
    x, y = (float(made.sci[k]) - 1 for k in ("CRPIX1", "CRPIX2"))
    ra, dec = made.wcs(x, y, with_bounding_box=False)
    a, b = made.wcs.invert(ra, dec + 1.0 / 3600, with_bounding_box=False)
    return float(np.degrees(np.arctan2(b - y, a - x)))


def _columns(
    found: Found, measured: Measured, circles: Apertures, p: Params, offset: float, made: Resampled
) -> list[Column]:
    fluxes = [
        (measured.sums[:, k] - measured.level * np.pi * float(r) ** 2, measured.errors[:, k])
        for k, r in enumerate(circles.radii)
    ]
    correction = float(circles.corrections[-1])
    total = (fluxes[-1][0] * correction, fluxes[-1][1] * correction)
    first, second = (ratio(fluxes[k + 1][0], fluxes[k][0]) for k in (0, 1))
    with np.errstate(invalid="ignore"):
        extended = (first > p.ci1_star_threshold) & (second > p.ci2_star_threshold)
    label, distance = neighbours(found.x, found.y)

    def sky(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.column_stack(made.wcs(x, y, with_bounding_box=False))

    shape, (left, right, low, high) = dict(found.shape), found.box.T
    shape["sky_orientation"] = (180.0 - north(made) + shape["orientation"]) % 360.0
    corners = {"ll": (left, low), "ul": (left, high), "lr": (right, low), "ur": (right, high)}
    for name, corner in corners.items():
        shape[f"sky_bbox_{name}"] = left if found.map is None else sky(*corner)
    return [
        column("label", np.arange(1, len(found.x) + 1, dtype=np.int32)),
        column("xcentroid", found.x, form=RATIO),
        column("ycentroid", found.y, form=RATIO),
        column("sky_centroid", sky(found.x, found.y)),
        column("aper_bkg_flux", measured.level, "Jy", FLUX),
        column("aper_bkg_flux_err", measured.level_error, "Jy", FLUX),
        *aperture_columns(p.energies, fluxes, total, offset),
        column("is_extended", extended),
        column("sharpness", measured.sharpness, form=SHAPE),
        column("roundness", measured.roundness.astype(np.float32), form=SHAPE),
        column("nn_label", label.astype(np.int32)),
        column("nn_dist", distance, "pix", SHAPE),
        *isophotal_columns(found.flux, found.error, offset, shape),
    ]


def _meta(p: Params, circles: Apertures, offset: float) -> dict[str, Any]:
    parameters = {
        "local_bkg_width": p.localbkg_width,
        "aperture_mask_method": p.apermask_method,
        "kron_params": list(p.kron_params or (2.5, 1.4, 0.0)),
    }
    return {
        **(parameters if p.starfinder == "segmentation" else {}),
        "aperture_params": {
            "aperture_corrections": [float(c) for c in circles.corrections],
            "aperture_ee": list(p.energies),
            "aperture_radii": [float(r) for r in circles.radii],
            "bkg_aperture_inner_radius": circles.ring[0],
            "bkg_aperture_outer_radius": circles.ring[1],
        },
        "abvega_offset": offset,
    }


STEP = CombiningStep(
    name="source_catalog",
    keyword="S_SRCCAT",
    params=Params,
    make=make,
    references=("apcorr", "abvegaoffset"),
    prepare={"apcorr": prepare_apcorr, "abvegaoffset": prepare_abvegaoffset},
    pars="pars-sourcecatalogstep",
)
