"""resample: images without distortion, one or many on one grid.

The grid touches the sky in the middle of all images and has their orientation and scale
(``resample/grid.py``); every image is drizzled onto it (``resample/drizzle.py``), and what they say of a
pixel is weighed (``resample/combine.py``). The result is an ``i2d`` product: SCI, ERR, CON (which images
reach a pixel), WHT and the variances. In stage 2 it is made of each exposure by itself, for a quick look.
Source: JWST pipeline documentation, resample step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from upramp.stages.core.errors import NotApplicable
from upramp.stages.core.extras import Extra, extras_of
from upramp.stages.core.frames import Crew
from upramp.stages.core.image import Image
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Context
from upramp.stages.core.whole import WholeStep
from upramp.stages.resample.centred import KERNELS
from upramp.stages.resample.combine import Drizzling, Mosaic
from upramp.stages.resample.grid import Grid, output_grid, pixel_scale
from upramp.stages.resample.pixmap import pixmap
from upramp.stages.stage3.blend import blend
from upramp.stages.stage3.members import CombiningStep
from upramp.stages.wcs.evaluate import pixel_to_sky

ARCSECONDS = 3600.0
QUICK_LOOKS = frozenset({"FGS_IMAGE", "MIR_IMAGE", "NIS_IMAGE", "NRC_IMAGE"})
"""Exposure types that stage 2 makes an ``i2d`` of."""

_DISTORTION = ("RA_REF", "DEC_REF", "ROLL_REF", "V2_REF", "V3_REF", "VPARITY", "V3I_YANG")


@dataclass(frozen=True)
class Params:
    """Parameters of resample.

    ``crpix``, ``crval``, ``output_shape`` (nx, ny), ``rotation``, ``pixel_scale`` (arcsec) and
    ``pixel_scale_ratio`` shape the grid. ``in_memory`` has no effect: images are read one after the other.
    Nor have ``pixmap_stepsize`` and ``pixmap_order``: positions are always interpolated, to 10^-6 pixels.
    """

    skip: bool = False
    pixfrac: float = 1.0
    kernel: str = "square"
    fillval: str = "NAN"
    weight_type: str | None = "ivm"
    output_shape: list[int] | None = None
    crpix: list[float] | None = None
    crval: list[float] | None = None
    rotation: float | None = None
    pixel_scale_ratio: float = 1.0
    pixel_scale: float | None = None
    output_wcs: str = ""
    single: bool = False
    blendheaders: bool = True
    in_memory: bool = True
    enable_ctx: bool = True
    enable_err: bool = True
    report_var: bool = True
    propagate_dq: bool = False
    pixmap_stepsize: float = 1.0
    pixmap_order: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.pixfrac <= 1:
            raise ValueError(f"pixfrac must be from 0 to 1, not {self.pixfrac}")
        if self.kernel not in ("square", *KERNELS):
            raise ValueError(f"kernel must be one of square, {', '.join(KERNELS)}, not {self.kernel!r}")
        fill_value(self.fillval)
        if self.weight_type not in ("ivm", "exptime", None):
            raise ValueError(f"weight_type must be 'ivm', 'exptime' or None, not {self.weight_type!r}")


class Member(Protocol):
    """An image that can be read when its turn comes; its header and WCS are at hand."""

    @property
    def cards(self) -> Mapping[str, Any]:
        """Keywords of all its headers."""

    @property
    def wcs(self) -> Any:
        """Its gwcs."""

    def read(self) -> Image:
        """The pixels."""


@dataclass(frozen=True)
class Resampled:
    """A resampled image: arrays by extension name, keywords of the SCI and primary headers, gwcs and grid.

    ``tables``: extension name -> column name -> values.
    """

    arrays: Mapping[str, np.ndarray]
    primary: Mapping[str, Any]
    sci: Mapping[str, Any]
    wcs: Any
    grid: Grid
    tables: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)


def footprint(cards: Mapping[str, Any]) -> np.ndarray:
    """Corners of S_REGION, degrees (n, 2).

    Raises
    ------
    NotApplicable
        If there is none.
    """
    words = str(cards.get("S_REGION") or "").split()
    try:
        numbers = [float(w) for w in words[2:]]
    except ValueError:
        numbers = []
    if len(numbers) < 6 or len(numbers) % 2:
        raise NotApplicable(f"S_REGION {cards.get('S_REGION')!r} is no polygon, so the image has no place")
    return np.array(numbers).reshape(-1, 2)


def grid_of(members: Sequence[Member], p: Params) -> tuple[Grid, float]:
    """The output grid of images, and the side of its pixels over that of the first image's."""
    cards, first = members[0].cards, members[0]
    sky, way = pixel_to_sky(first.wcs), first.wcs
    x, y = way.invert(float(cards["RA_REF"]), float(cards["DEC_REF"]))
    native = pixel_scale(sky, float(x), float(y))
    ratio = p.pixel_scale / ARCSECONDS / native if p.pixel_scale else p.pixel_scale_ratio
    parity = int(cards.get("VPARITY") or -1)
    angle = p.rotation
    if angle is None:
        angle = float(cards["ROLL_REF"]) - parity * float(cards.get("V3I_YANG") or 0.0)
    grid = output_grid(
        [footprint(m.cards) for m in members],
        native * ratio,
        angle,
        parity,
        None if p.crpix is None else (p.crpix[0], p.crpix[1]),
        None if p.crval is None else (p.crval[0], p.crval[1]),
        None if p.output_shape is None else (p.output_shape[1], p.output_shape[0]),
    )
    return grid, ratio


def wcs_of(grid: Grid) -> Any:
    """The grid as a gwcs; libraries are imported here because few steps need them."""
    from astropy.coordinates import ICRS
    from astropy.modeling.models import Pix2Sky_TAN
    from astropy.units import Unit
    from gwcs import WCS, FITSImagingWCSTransform
    from gwcs.coordinate_frames import CelestialFrame, Frame2D

    transform = FITSImagingWCSTransform(
        Pix2Sky_TAN(), crpix=grid.crpix, crval=grid.crval, cdelt=(grid.scale, grid.scale), pc=grid.pc
    )
    pixel = Unit("pix")
    detector = Frame2D(name="detector", axes_order=(0, 1), unit=(pixel, pixel))
    sky = CelestialFrame(name="world", reference_frame=ICRS())
    wcs = WCS([(detector, transform), (sky, None)])
    ny, nx = grid.shape
    wcs.bounding_box = ((-0.5, nx - 0.5), (-0.5, ny - 0.5))
    wcs.pixel_shape = (nx, ny)
    return wcs


def outline(footprints: Sequence[np.ndarray], grid: Grid) -> str:
    """S_REGION of the whole: the convex hull of all corners."""
    from scipy.spatial import ConvexHull

    corners = np.concatenate(footprints)
    if len(footprints) > 1:
        x, y = grid.pixels(corners[:, 0], corners[:, 1])
        corners = corners[ConvexHull(np.column_stack([x, y])).vertices]
    return "POLYGON ICRS  " + " ".join(f"{a:.9f} {d:.9f}" for a, d in corners)


def headers(
    members: Sequence[Member], grid: Grid, p: Params, ratio: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the primary and the SCI header get, or lose (None)."""
    every = [m.cards for m in members]
    area = np.radians(grid.scale) ** 2
    seconds = sum(float(c.get("EFFEXPTM") or 0) for c in every)
    duration = sum(float(c.get("DURATION") or 0) for c in every)
    primary: dict[str, Any] = {
        "NDRIZ": pointings(every),
        "RESWHT": p.weight_type or "none",
        "PIXFRAC": p.pixfrac,
        "PXSCLRT": ratio,
        "S_RESAMP": "COMPLETE",
        "DURATION": duration,
    }
    if len(members) > 1:
        primary |= {
            "EFFEXPTM": seconds,
            "EXPSTART": min(float(c.get("EXPSTART") or 0) for c in every),
            "EXPEND": max(float(c.get("EXPEND") or 0) for c in every),
        }
    sci: dict[str, Any] = {
        "XPOSURE": seconds,
        "TELAPSE": duration,
        "PIXAR_SR": area,
        "PIXAR_A2": (grid.scale * ARCSECONDS) ** 2,
        "WCSAXES": 2,
        "CRPIX1": grid.crpix[0] + 1,
        "CRPIX2": grid.crpix[1] + 1,
        "CRVAL1": grid.crval[0],
        "CRVAL2": grid.crval[1],
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "CDELT1": grid.scale,
        "CDELT2": grid.scale,
        **{f"PC{i + 1}_{j + 1}": float(grid.pc[i, j]) for i in (0, 1) for j in (0, 1)},
        "S_REGION": outline([footprint(c) for c in every], grid),
        **dict.fromkeys(_DISTORTION),
    }
    approximation = {k for k in every[0] if k.startswith(("CD1_", "CD2_", "A_", "B_", "AP_", "BP_"))}
    return primary, {**dict.fromkeys(sorted(approximation)), **sci}


def pointings(every: Sequence[Mapping[str, Any]]) -> int:
    """Exposures that were taken at different times: those of several detectors at once count as one."""
    keys = ("PROGRAM", "OBSERVTN", "VISIT", "VISITGRP", "SEQ_ID", "ACT_ID", "EXPOSURE")
    return len({tuple(c.get(k) for k in keys) for c in every})


def fill_value(text: str) -> float:
    """The number in ``fillval``; INDEF is NaN.

    Raises
    ------
    ValueError
        If it is none.
    """
    if text.strip().upper() in ("NAN", "INDEF"):
        return np.nan
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"fillval must be a number, NAN or INDEF, not {text!r}") from None


def sky_of(member: Member) -> float:
    """The level that skymatch found and nobody subtracted yet (BKGLEVEL, BKGSUB)."""
    level = member.cards.get("BKGLEVEL")
    return 0.0 if level is None or member.cards.get("BKGSUB") else float(level)


def resample(
    members: Sequence[Member],
    p: Params,
    crew: Crew,
    level: Callable[[Member], float] = sky_of,
) -> Resampled:
    """Put images on one grid. One image at a time is in memory, besides the output.

    Parameters
    ----------
    members : sequence of Member
        All of one unit.
    p : Params
    crew : Crew
    level : callable
        The sky to take off an image.

    Raises
    ------
    NotApplicable
        If an image has no place on the sky.
    """
    grid, ratio = grid_of(members, p)
    how = Drizzling(p.pixfrac, p.weight_type, ratio, p.enable_err, p.enable_ctx, p.propagate_dq, p.kernel)
    mosaic = Mosaic(grid.shape, how, crew)
    for member in members:
        sky = pixel_to_sky(member.wcs)
        where = pixmap(lambda x, y, sky=sky: grid.pixels(*sky(x, y)), _shape(member))  # type: ignore[misc]
        mosaic.add(member.read(), where, level(member))
    arrays = mosaic.finish(fill_value(p.fillval))
    if not p.report_var:
        arrays = {k: a for k, a in arrays.items() if not k.startswith("VAR_")}
    primary, sci = headers(members, grid, p, ratio)
    tables = {}
    if p.blendheaders:
        blended = blend([m.cards for m in members])
        primary, sci = {**blended.primary, **primary}, {**blended.sci, **sci}
        tables["HDRTAB"] = blended.table
    return Resampled(arrays, primary, sci, wcs_of(grid), grid, tables)


def _shape(member: Member) -> tuple[int, int]:
    (_, right), (_, top) = member.wcs.bounding_box.bounding_box(order="F")
    return round(top + 0.5), round(right + 0.5)


@dataclass(frozen=True)
class Here:
    """An image in memory as a `Member`."""

    image: Image

    @property
    def cards(self) -> Mapping[str, Any]:
        """See `Member`."""
        return self.image.cards()

    @property
    def wcs(self) -> Any:
        """See `Member`."""
        return self.image.wcs

    def read(self) -> Image:
        """See `Member`."""
        return self.image


def unsupported(params: Any) -> list[str]:
    """What is asked for and not done."""
    said = []
    if params.output_wcs:
        said.append("output_wcs is not in this version: the grid follows from the images")
    return said


def skip_if(meta: ExposureMeta, params: Any) -> str | None:
    """Stacks of integrations, and images that are not for science, are not resampled by themselves."""
    if meta.exp_type not in QUICK_LOOKS or meta.is_tso:
        return f"no quick look of EXP_TYPE {meta.exp_type}" + (" time series" if meta.is_tso else "")
    return None


def apply(image: Image, context: Context) -> Image:
    """Make the quick look of one exposure; the image itself goes on as it is."""
    if image.sci.ndim != 2:
        raise NotApplicable("a stack of integrations is not resampled")
    if image.wcs is None:
        raise NotApplicable("without a WCS an image has no place on the sky")
    crew = context.shared.get("crew") or Crew()
    made = resample([Here(image)], replace(context.params, blendheaders=False), crew)
    units = {name: image.bunit for name in ("SCI", "ERR")}
    extra = Extra(
        "i2d",
        "ImageModel",
        made.arrays,
        units,
        made.primary,
        sci=made.sci,
        leaves={"meta": {"wcs": made.wcs}},
    )
    extras_of(context).append(extra)
    return image


STEP = WholeStep(
    name="resample",
    keyword="S_RESAMP",
    params=Params,
    apply=apply,
    skip_if=skip_if,
    pars="pars-resamplestep",
    unsupported=unsupported,
)

MOSAIC = CombiningStep(
    name="resample",
    keyword="S_RESAMP",
    params=Params,
    make=resample,
    pars="pars-resamplestep",
    unsupported=unsupported,
)
"""The same of stage 3: many exposures on one grid."""
