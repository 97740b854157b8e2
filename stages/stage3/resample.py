"""resample: images without distortion, one or many on one grid.

The grid touches the sky in the middle of all images and has their orientation and scale
(``resample/grid.py``); every image is drizzled onto it (``resample/drizzle.py``), and what they say of a
pixel is weighed (``resample/combine.py``). The result is an ``i2d`` product: SCI, ERR, CON (which images
reach a pixel), WHT and the variances. In stage 2 it is made of each exposure by itself, for a quick look.
Source: JWST pipeline documentation, resample step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from upramp.stages.core.errors import Misconfigured, NotApplicable
from upramp.stages.core.extras import Extra, extras_of
from upramp.stages.core.frames import Crew
from upramp.stages.core.image import Image
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Context
from upramp.stages.core.whole import WholeStep
from upramp.stages.resample.centred import KERNELS
from upramp.stages.resample.combine import Drizzling, Mosaic
from upramp.stages.resample.given import Given
from upramp.stages.resample.grid import (
    Grid,
    mean_scale,
    middle,
    output_grid,
    pixel_scale,
    separation,
    unit_vectors,
)
from upramp.stages.resample.keywords import ARCSECONDS, footprint, headers, outline
from upramp.stages.resample.pixmap import pixmap
from upramp.stages.stage3.blend import blend
from upramp.stages.stage3.members import CombiningStep, exposure_group, groups_of
from upramp.stages.wcs.approximation import LEAVES
from upramp.stages.wcs.evaluate import pixel_to_sky

GIVEN = "resample.given"
"""Under what name a step of stage 2 finds the grid of ``output_wcs`` in what steps share."""

QUICK_LOOKS = frozenset({"FGS_IMAGE", "MIR_IMAGE", "NIS_IMAGE", "NRC_IMAGE"})
"""Exposure types that stage 2 makes an ``i2d`` of."""


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
        for name in ("crpix", "crval", "output_shape"):
            pair = getattr(self, name)
            if pair is not None and len(pair) != 2:
                raise ValueError(f"{name} must be two numbers, not {pair}")
        if self.output_shape is not None and min(self.output_shape) < 1:
            raise ValueError(f"output_shape must be at least one pixel by one, not {self.output_shape}")
        if not 0 < self.pixel_scale_ratio < np.inf:
            raise ValueError(f"pixel_scale_ratio must be more than 0, not {self.pixel_scale_ratio}")
        if self.pixel_scale is not None and not 0 <= self.pixel_scale < np.inf:
            raise ValueError(f"pixel_scale must be more than 0 or None, not {self.pixel_scale}")


class Member(Protocol):
    """An image that can be read when its turn comes; its header and WCS are at hand."""

    @property
    def group(self) -> str:
        """What it shares with those that were taken at the same time."""

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

    ``tables``: extension name -> column name -> values. ``leaves``: what goes into the metadata tree besides,
    None where something goes away.
    """

    arrays: Mapping[str, np.ndarray]
    primary: Mapping[str, Any]
    sci: Mapping[str, Any]
    wcs: Any
    grid: Grid
    tables: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    leaves: Mapping[str, Any] = field(default_factory=dict)


def grid_of(members: Sequence[Member], p: Params, given: Given | None = None) -> tuple[Grid, float]:
    """The output grid of images, and the side of its pixels over that of the first image's.

    ``given``: the grid of ``output_wcs``, if there is one.

    Raises
    ------
    Misconfigured
        If ``output_wcs`` is asked for and not given.
    """
    if p.output_wcs and given is None:
        raise Misconfigured(f"output_wcs = {p.output_wcs!r} has not been read; leave it empty here")
    cards, first = members[0].cards, members[0]
    sky, way = pixel_to_sky(first.wcs), first.wcs
    x, y = way.invert(float(cards["RA_REF"]), float(cards["DEC_REF"]))
    native = pixel_scale(sky, float(x), float(y))
    if given is not None:
        own = float(cards.get("PIXAR_SR") or np.radians(native) ** 2)
        return given, float(np.sqrt(given.area / own))
    scale, ratio = native * p.pixel_scale_ratio, p.pixel_scale_ratio
    if p.pixel_scale:
        # over the mean of the image, as with the peer, and not over that at the reference point
        scale = p.pixel_scale / ARCSECONDS
        ratio = scale / mean_scale(sky, _shape(first))
    parity = int(cards.get("VPARITY") or -1)
    angle = p.rotation
    if angle is None:
        angle = float(cards["ROLL_REF"]) - parity * float(cards.get("V3I_YANG") or 0.0)
    grid = output_grid(
        [footprint(m.cards) for m in members],
        scale,
        angle,
        parity,
        None if p.crpix is None else (p.crpix[0], p.crpix[1]),
        None if p.crval is None else (p.crval[0], p.crval[1]),
        None if p.output_shape is None else (p.output_shape[1], p.output_shape[0]),
    )
    return grid, ratio


def furthest(members: Sequence[Member]) -> tuple[int, float]:
    """Which image lies furthest from the first one, and how far, degrees."""
    places = np.transpose([middle(footprint(m.cards)) for m in members])
    first, *_ = vectors = unit_vectors(places[0], places[1]).T
    apart = [separation(first, vector) for vector in vectors]
    far = int(np.argmax(apart))
    return far, apart[far]


def wcs_of(grid: Grid) -> Any:
    """The grid as a gwcs; libraries are imported here because few steps need them."""
    if isinstance(grid, Given):
        return grid.wcs
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
    given: Given | None = None,
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
    given : Given, optional
        The grid of ``output_wcs``.

    Raises
    ------
    NotApplicable
        If an image has no place on the sky.
    Misconfigured
        If ``output_wcs`` is asked for and not given.
    """
    return _together(members, p, crew, level, *grid_of(members, p, given), members)


def one_by_one(
    members: Sequence[Member],
    p: Params,
    crew: Crew,
    level: Callable[[Member], float] = sky_of,
    given: Given | None = None,
) -> Iterator[tuple[list[int], Resampled]]:
    """Put each exposure (images of a group) by itself on the grid of all, without variances (``single``).

    Yields the numbers of its images, too. ERR is drizzled as SCI is. Parameters, and what is raised,
    are those of `resample`.
    """
    grid, ratio = grid_of(members, p, given)
    for group in groups_of(members):
        own = [members[k] for k in group]
        yield group, _together(own, p, crew, level, grid, ratio, members)


def _together(
    members: Sequence[Member],
    p: Params,
    crew: Crew,
    level: Callable[[Member], float],
    grid: Grid,
    ratio: float,
    around: Sequence[Member],
) -> Resampled:
    """Images on a grid whose pixels' sides are ``ratio`` of the image's; S_REGION is that of ``around``."""
    how = Drizzling(p.pixfrac, p.weight_type, ratio, p.enable_err, p.enable_ctx, p.propagate_dq, p.kernel)
    alone = replace(how, errors=False, context=False, flags=False)
    mosaic = Mosaic(grid.shape, replace(how, errors=how.errors and not p.single), crew)
    errors = Mosaic(grid.shape, alone, crew) if how.errors and p.single else None
    for member in members:
        sky = pixel_to_sky(member.wcs)
        where = pixmap(lambda x, y, sky=sky: grid.pixels(*sky(x, y)), _shape(member))  # type: ignore[misc]
        image = member.read()
        mosaic.add(image, where, level(member))
        if errors is not None:
            errors.add(replace(image, sci=image.err), where)
        del image  # before the next one is read
    arrays = mosaic.finish(fill_value(p.fillval))
    if errors is not None:
        arrays = {"SCI": arrays["SCI"], "ERR": errors.finish()["SCI"] / np.float32(ratio), **arrays}
    if not p.report_var:
        arrays = {k: a for k, a in arrays.items() if not k.startswith("VAR_")}
    every = [m.cards for m in members]
    region = outline([footprint(m.cards) for m in around], grid)
    primary, sci = headers(every, groups_of(members), grid, how, region)
    tables = {}
    if p.blendheaders:
        blended = blend(every)
        primary, sci = {**blended.primary, **primary}, {**blended.sci, **sci}
        tables["HDRTAB"] = blended.table
    wcs = wcs_of(grid)
    resampling = {"kernel": p.kernel, "fillval": p.fillval}
    meta = {"wcs": wcs, "resample": resampling, "wcsinfo": dict.fromkeys(LEAVES)}
    return Resampled(arrays, primary, sci, wcs, grid, tables, {"meta": meta})


def _shape(member: Member) -> tuple[int, int]:
    (_, right), (_, top) = member.wcs.bounding_box.bounding_box(order="F")
    return round(top + 0.5), round(right + 0.5)


@dataclass(frozen=True)
class Here:
    """An image in memory as a `Member`."""

    image: Image

    @property
    def group(self) -> str:
        """See `Member`."""
        return exposure_group(self.cards, "")

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
    made = resample(
        [Here(image)], replace(context.params, blendheaders=False), crew, given=context.shared.get(GIVEN)
    )
    units = {name: image.bunit for name in ("SCI", "ERR")}
    extra = Extra(
        "i2d",
        "ImageModel",
        made.arrays,
        units,
        made.primary,
        sci=made.sci,
        leaves=made.leaves,
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
)

MOSAIC = CombiningStep(
    name="resample",
    keyword="S_RESAMP",
    params=Params,
    make=resample,
    pars="pars-resamplestep",
)
"""The same of stage 3: many exposures on one grid."""
