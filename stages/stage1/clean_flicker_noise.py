"""clean_flicker_noise: take noise off that the pixels of a row read at the same time have in common.

The scene mask M holds the pixels in which a draft rate (`draft_rate`) shows nothing but background: those
within so many standard deviations of its clipped median. For group g of an integration, and lines r along the
fast axis (of one amplifier, with ``fit_by_channel``),

    D_g = F_g - F_(g-1)
    b_g = median of D_g over background          ("median"; 0 with no background method)
    n_g[r] = median of D_g - b_g over the background of line r
    F'_g = F'_(g-1) + D_g - n_g

where the background of D_g is what is left of M after clipping: first at three standard deviations around the
centre of D_g, then at ``n_sigma`` of D_g - b_g; deviations are those of the values below the centre. Groups
that are DO_NOT_USE or JUMP_DET do not count. With a flat field f, D_g / f is looked at, and f n_g subtracted.
In the mid infrared the lines are columns, whatever is read when.

Source: JWST pipeline documentation, clean_flicker_noise; C. Willott's image1overf. Which
statistics are clipped how often was measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, NO_FLAT_FIELD
from upramp.stages.core.errors import Misconfigured, NotApplicable
from upramp.stages.core.extras import Cube, Extra, extras_of
from upramp.stages.core.frames import Crew, Ramps
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference, native, window
from upramp.stages.core.step import Bound, Context, Step
from upramp.stages.stage1 import draft_rate, flicker_auto, flicker_background, flicker_traces
from upramp.stages.stage1.flicker_cleaning import Cleaning, Fitter
from upramp.stages.stage1.flicker_fft import Frequencies
from upramp.stages.stage1.flicker_fft_blocks import FILTER, FILTERS, Blocks
from upramp.stages.stage1.flicker_lines import BACKGROUND, Lines, clip_background
from upramp.stages.stage1.flicker_median_image import MedianImage
from upramp.stages.stage1.flicker_scene import Scenes, fixed_slits

CHANNELS = 4
SOSS = "NIS_SOSS"
SPECTRA = frozenset({"NRS_BRIGHTOBJ", "NRS_FIXEDSLIT", "NRS_IFU", "NRS_MSASPEC"})
"""Exposure types that can be fitted by FFT."""

SERIES_OF_SPECTRA = frozenset({"NIS_SOSS", "NRC_TSGRISM", "NRS_BRIGHTOBJ"})
"""Time series in which the flux of a spectrum would scale a median image."""

NOT_YET: dict[str, Any] = dict.fromkeys(("S_CLNFNS", "S_PERSIS", "S_RAMP", "S_GANSCL", "R_FLAT", "R_PSTSOS"))
"""Keywords that further products do not have, because their steps are not done."""


@dataclass(frozen=True)
class Params:
    """Parameters of clean_flicker_noise."""

    skip: bool = True
    autoparam: bool = False
    fit_method: Literal["fft", "median"] = "median"
    fit_by_channel: bool = False
    background_method: Literal["median", "model", "median_image"] | None = "median"
    background_box_size: tuple[int, int] | None = None
    mask_science_regions: bool = False
    apply_flat_field: bool = False
    n_sigma: float = 2.0
    fit_histogram: bool = False
    single_mask: bool = True
    user_mask: str | None = None
    save_mask: bool = False
    save_background: bool = False
    save_noise: bool = False

    def __post_init__(self) -> None:
        if self.background_box_size is not None and min(self.background_box_size) < 1:
            raise ValueError(f"background_box_size must be positive, not {self.background_box_size}")


def prepare_flat(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Cut the flat field to the exposure, and tell where it is known.

    Where it is 0 or NaN it gets the smooth level around.
    """
    image = raw.array("SCI")
    flat = native(image[window(raw, meta, image.shape)], np.float32)
    bad = ~np.isfinite(flat) | (flat == 0)
    if bad.any() and not bad.all():
        smooth = np.where(bad, np.float32(np.nan), flat)
        work = np.empty((2, flat.size), np.float32)
        level = clip_background(smooth, BACKGROUND, *work)
        found = flicker_background.model(smooth)
        flat[bad] = level if found is None else found[bad]
    dq = raw.dq()
    usable = ~bad & (dq[window(raw, meta, dq.shape)] & (DO_NOT_USE | NO_FLAT_FIELD) == 0)
    return Prepared({"flat": flat, "usable": usable})


def prepare_mask(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Take the user's mask as it is: what is not 0 is background.

    Raises
    ------
    Misconfigured
        If the file has no mask, or one of another shape.
    """
    if not raw.has("SCI"):
        raise Misconfigured(f"user_mask: {raw.name} has no extension SCI; give a file as save_mask writes it")
    mask = raw.array("SCI")
    frame = (meta.ny, meta.nx)
    if mask.shape not in (frame, (meta.nints, *frame)):
        raise Misconfigured(
            f"user_mask: the mask in {raw.name} has shape {mask.shape}; it must be {frame}, or "
            f"{(meta.nints, *frame)} for a mask of each integration"
        )
    return Prepared({"mask": native(mask != 0, np.bool_)})


def needs(meta: ExposureMeta, params: Params) -> list[str]:
    """Gain and read noise for the draft rate; the rest if it is asked for."""
    wanted = list(draft_rate.REFERENCES)
    by_flat = params.mask_science_regions and meta.instrument == "MIRI"
    if params.apply_flat_field or by_flat or chooses(meta, params):
        wanted.append("flat")
    if meta.exp_type == SOSS:
        wanted.append("pastasoss")
    if params.user_mask:
        wanted.append("user_mask")
    return wanted


def skip_if(meta: ExposureMeta, params: Params) -> str | None:
    """In the mid infrared there are lines in images only."""
    if meta.instrument == "MIRI" and meta.exp_type != "MIR_IMAGE":
        return f"EXP_TYPE {meta.exp_type}: of mid-infrared exposures only images (MIR_IMAGE) are cleaned"
    if params.fit_method == "fft" and meta.exp_type not in SPECTRA:
        return f"fit_method fft is for {', '.join(sorted(SPECTRA))}, not for {meta.exp_type}"
    if params.background_method == "median_image" and not chooses(meta, params):
        if meta.nints < 2:
            return "background_method median_image needs more than one integration"
        if meta.exp_type in SERIES_OF_SPECTRA:
            return f"background_method median_image needs the flux of spectra, not known for {meta.exp_type}"
    return None


def unsupported(params: Params) -> list[str]:
    """What the parameters ask for and this version does not do."""
    if params.mask_science_regions:
        return ["mask_science_regions: slits, slices and failed open shutters of NIRSpec are not masked"]
    return []


def bind(context: Context) -> Bound:
    """Make the work on frames, and declare the products beside the rates."""
    meta, p, references = context.meta, context.params, context.references
    auto = chooses(meta, p)
    by_median = p.background_method == "median_image" and not auto
    if meta.ngroups < 2 and not by_median:
        return Bound([])
    field = references["flat"]["flat"] if "flat" in references else None
    flat = field if p.apply_flat_field else None
    given = references["user_mask"]["mask"] if p.user_mask else None
    frame, cube = (meta.ny, meta.nx), extras_of(context).cube
    image = None
    if by_median:
        ramp = cube((meta.ngroups, *frame))
        image = MedianImage(ramp, np.ones(meta.nints, np.float32), _source(meta))
    rates = cube((meta.nints, *frame)) if by_median or (not p.single_mask and given is None) else None
    allowed = _allowed(context) if p.mask_science_regions else None
    scenes = Scenes(draft_rate.draft(context), rates, p.n_sigma, p.fit_histogram, allowed, flat, None, given)
    masks = _mask_product(context, scenes.one_for_all) if p.save_mask else None
    background = _group_product(context, "flicker_bkg") if p.save_background else None
    noise = _group_product(context, "flicker_noise") if p.save_noise else None
    cleaning = Cleaning(p, scenes, _fitter(meta, p), flat, image, masks, background, noise)
    return Bound([], frames=partial(_choose_and_clean, cleaning, field) if auto else cleaning.work)


def _allowed(context: Context) -> np.ndarray | None:
    """Where background may be at all, bool (ny, nx); None for everywhere.

    Raises
    ------
    NotApplicable
        If the traces of an exposure are not known.
    """
    meta, references = context.meta, context.references
    if meta.exp_type == SOSS:
        traces = references.get("pastasoss")
        if traces is None or "unknown" in traces.info:
            reason = "no pastasoss reference (N/A)" if traces is None else traces.info["unknown"]
            raise NotApplicable(f"mask_science_regions: {reason}")
        return flicker_traces.unlit(traces["rows"], (meta.ny, meta.nx))
    if meta.instrument == "MIRI" and "flat" in references:
        return references["flat"]["usable"]
    return fixed_slits(meta)


def _source(meta: ExposureMeta) -> tuple[float, float] | None:
    """Column and row (from 0) of the source of a time series of images; the middle, if they are not known."""
    if meta.exp_type != "NRC_TSIMAGE" and not (meta.exp_type == "MIR_IMAGE" and meta.is_tso):
        return None
    x = (meta.nx + 1) / 2 if meta.x_target is None else meta.x_target
    y = (meta.ny + 1) / 2 if meta.y_target is None else meta.y_target
    return x - 1, y - 1


def chooses(meta: ExposureMeta, params: Params) -> bool:
    """Whether the step chooses parameters by itself."""
    return params.autoparam and meta.exp_type in flicker_auto.LIMITS


def _along_rows(meta: ExposureMeta) -> bool:
    """Whether lines of common noise are rows of the arrays: the fast axis; in the mid infrared, columns."""
    return meta.instrument != "MIRI" and abs(meta.slowaxis) == 2


def _fitter(meta: ExposureMeta, params: Params) -> Fitter:
    """How noise is fitted."""
    frame = (meta.ny, meta.nx)
    if params.fit_method == "fft":
        shift = -1 if meta.detector == "NRS2" else 1
        if meta.is_full_frame:
            return Frequencies(frame, shift)
        return Blocks(frame, shift, FILTERS.get(meta.subarray, FILTER))
    by_channel = params.fit_by_channel and meta.is_full_frame and meta.instrument != "MIRI"
    return Lines(frame, _along_rows(meta), CHANNELS if by_channel else 1)


def _choose_and_clean(cleaning: Cleaning, field: np.ndarray | None, ramps: Ramps, crew: Crew) -> None:
    """Choose parameters, and clean with them; ``field``: the flat field, if there is one."""
    rate = cleaning.scenes.draft.exposure(ramps, crew)
    chosen = flicker_auto.choose(rate, field, ramps.meta.exp_type, _along_rows(ramps.meta))
    for name, value in chosen.items():
        crew.counters[f"clean_flicker_noise.{name}"] += int(value in (True, "model"))
    params = replace(cleaning.params, **chosen)
    scenes = replace(cleaning.scenes, flat=field, rate=rate)
    fitter = _fitter(ramps.meta, params)
    replace(cleaning, params=params, scenes=scenes, fitter=fitter, flat=field).work(ramps, crew)


def _mask_product(context: Context, single: bool) -> Cube | np.ndarray:
    """Room for one mask or for one of each integration, which becomes a product."""
    meta = context.meta
    extras = extras_of(context)
    frame = (meta.ny, meta.nx)
    room = np.zeros(frame, np.float32) if single else extras.cube((meta.nints, *frame))
    model = "ImageModel" if single else "CubeModel"
    empty = {
        "ERR": np.broadcast_to(np.float32(0), room.shape),
        "DQ": np.broadcast_to(np.uint32(0), room.shape),
    }
    arrays = {"SCI": room, **({} if single else empty)}
    header = NOT_YET | {"S_RAMP": "COMPLETE"}  # the mask is one of draft rates
    extras.append(Extra("mask", model, arrays, {"SCI": "DN/s", "ERR": "DN/s"}, header))
    return room


def _group_product(context: Context, suffix: str) -> Cube:
    """Room for an image of each group, which becomes a product."""
    meta = context.meta
    extras = extras_of(context)
    shape = (meta.nints, meta.ngroups, meta.ny, meta.nx)
    room = extras.cube(shape)
    flags = {"PIXELDQ": np.zeros(shape[2:], np.uint32), "GROUPDQ": np.broadcast_to(np.uint8(0), shape)}
    extras.append(Extra(suffix, "RampModel", {"SCI": room, **flags}, {"SCI": "DN"}, NOT_YET))
    return room


STEP = Step(
    name="clean_flicker_noise",
    keyword="S_CLNFNS",
    params=Params,
    bind=bind,
    references=(*draft_rate.REFERENCES, "flat", "pastasoss", "user_mask"),
    optional=("flat", "pastasoss", "user_mask"),
    prepare={
        **draft_rate.PREPARE,
        "flat": prepare_flat,
        "pastasoss": flicker_traces.prepare,
        "user_mask": prepare_mask,
    },
    needs=needs,
    skip_if=skip_if,
    unsupported=unsupported,
    pars="pars-cleanflickernoisestep",
)
