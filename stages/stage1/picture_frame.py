"""picture_frame: take off a thermal background that is stronger at the edges of NIRSpec's detectors.

With p the reference, a rate image of it, and medians over the background of the edges (e) and of the inside
(c) of a detector, group g of an integration loses

    s (p - p_e) + d_e,    d = F_g - F_1,   s = (d_c - d_e) / (p_c - p_e)

The first group stays as it is. Background is what a draft rate shows to be (`flicker_scene`), the same for
all integrations; flags of groups are not looked at.

Source: JWST pipeline documentation, picture_frame step; the algorithm is by M. Regan and E. Bergeron.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from upramp.stages.core.errors import Misconfigured
from upramp.stages.core.extras import Cube, Extra, extras_of
from upramp.stages.core.frames import Crew, Ramps
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference, native, window
from upramp.stages.core.statistics import median
from upramp.stages.core.step import Bound, Context, Step
from upramp.stages.stage1 import draft_rate
from upramp.stages.stage1.flicker_scene import Scenes, fixed_slits

EDGES = ((4, 75), (1985, 2043))
INSIDE = (76, 1984)
"""Rows and columns (from 0, half open) of the detector."""

NOT_YET: dict[str, Any] = dict.fromkeys(
    ("S_PCTFRM", "S_CLNFNS", "S_PERSIS", "S_RAMP", "S_GANSCL", "R_PICFRM")
)
"""Keywords that further products do not have, because their steps are not done."""


@dataclass(frozen=True)
class Params:
    """Parameters of picture_frame."""

    skip: bool = True
    mask_science_regions: bool = True
    n_sigma: float = 2.0
    save_mask: bool = False
    save_correction: bool = False


@kernel
def median_where(image, before, part, values):
    """Median of ``image - before`` (float32) where ``part`` is set, without NaN; NaN if there is nothing.

    ``values``: float32 work array, one element for each pixel.
    """
    n = 0
    for y in range(image.shape[0]):
        line, other, use = image[y], before[y], part[y]
        for x in range(image.shape[1]):
            d = line[x] - other[x]
            values[n] = d
            n += use[x] and not np.isnan(d)
    return np.float64(median(values, n)) if n else np.nan


@kernel
def correct(image, first, reference, scale, offset):
    """Take ``scale reference + offset`` off ``image`` in place, where the reference is not NaN.

    All float32 (ny, nx). ``first`` holds the first group, and gets what changes: ``image`` after less before.
    The first group is corrected and the difference of the groups added to it, so that roundings are those of
    the observatory's package.
    """
    for y in range(image.shape[0]):
        line, f, p = image[y], first[y], reference[y]
        for x in range(image.shape[1]):
            v = np.float32(scale * p[x] + offset)
            old = line[x]
            line[x] = old if np.isnan(v) else (f[x] - v) + (old - f[x])
            f[x] = line[x] - old


def parts(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The edges and the inside of a detector, bool."""
    near = []
    for n in shape:
        place = np.arange(n)
        near.append(np.any([(place >= lo) & (place < hi) for lo, hi in EDGES], axis=0))
    seen = [(np.arange(n) >= EDGES[0][0]) & (np.arange(n) < EDGES[1][1]) for n in shape]
    edges = (near[0][:, None] | near[1][None, :]) & seen[0][:, None] & seen[1][None, :]
    far = [(np.arange(n) >= INSIDE[0]) & (np.arange(n) < INSIDE[1]) for n in shape]
    return edges, far[0][:, None] & far[1][None, :]


def prepare(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Cut the picture frame (DN/s) to the exposure.

    Raises
    ------
    Misconfigured
        If it has no level to scale.
    """
    image = raw.array("SCI")
    frame = native(image[window(raw, meta, image.shape)], np.float32)
    if np.isnan(frame).all() or np.nanmin(frame) == np.nanmax(frame):
        raise Misconfigured(
            f"the pictureframe reference {raw.name} is the same everywhere, so that it cannot be scaled; "
            "give another with [references] pictureframe = ..., or skip the step picture_frame"
        )
    return Prepared({"frame": frame})


@dataclass(frozen=True)
class Correction:
    """How one exposure is corrected: its scene, the reference, and what is to be kept."""

    scenes: Scenes
    reference: np.ndarray
    mask: np.ndarray | None
    change: Cube | None

    def work(self, ramps: Ramps, crew: Crew) -> None:
        """Correct all groups but the first of each integration."""
        meta = ramps.meta
        background = self.scenes.mask(ramps, crew, 0)
        if self.mask is not None:
            self.mask[:] = background
        own = [background & part for part in parts((meta.ny, meta.nx))]
        zero, values = np.zeros_like(self.reference), np.empty(self.reference.size, np.float32)
        edge, inside = (median_where(self.reference, zero, part, values) for part in own)
        places = [(i, g) for i in range(meta.nints) for g in range(1, meta.ngroups)]
        done = crew.each(partial(self._correct, ramps, own, edge, inside), places)
        crew.counters["picture_frame.groups"] += sum(done)

    def _correct(
        self, ramps: Ramps, own: list[np.ndarray], edge: float, inside: float, place: tuple[int, int]
    ) -> int:
        """Correct a group; 0 if there is no background to go by."""
        frame, first = ramps.read(*place), ramps.read(place[0], 0)
        values = np.empty(frame.size, np.float32)
        at_edge, at_inside = (median_where(frame, first, part, values) for part in own)
        scale = (at_inside - at_edge) / (inside - edge) if inside != edge else np.nan
        offset = at_edge - scale * edge
        correct(frame, first, self.reference, scale, offset)  # which leaves all as it is, if they are NaN
        ramps.write(*place, frame)
        if self.change is not None:
            self.change.write(*place, first)
        return int(np.isfinite(offset))


def skip_if(meta: ExposureMeta, params: Params) -> str | None:
    """For full frames of NIRSpec of more than one group."""
    if meta.instrument != "NIRSPEC" or not meta.is_full_frame:
        return f"{meta.instrument} {meta.subarray}: only full frames of NIRSpec have this background"
    if meta.ngroups < 2:
        return "one group: there is none to compare it with"
    return None


def unsupported(params: Params) -> list[str]:
    """What the parameters ask for and this version does not do."""
    if params.mask_science_regions:
        return ["mask_science_regions: slits, slices and failed open shutters are not masked"]
    return []


def bind(context: Context) -> Bound:
    """Make the work on frames, and declare the products beside the rates."""
    meta, p = context.meta, context.params
    extras, frame = extras_of(context), (meta.ny, meta.nx)
    allowed = fixed_slits(meta) if p.mask_science_regions else None
    scenes = Scenes(draft_rate.draft(context), None, p.n_sigma, allowed=allowed)
    mask, change = None, None
    if p.save_mask:
        mask = np.zeros(frame, np.float32)
        header = NOT_YET | {"S_RAMP": "COMPLETE"}  # the mask is one of draft rates
        extras.append(Extra("pctfrm_mask", "ImageModel", {"SCI": mask}, {"SCI": "DN/s"}, header))
    if p.save_correction:
        shape = (meta.nints, meta.ngroups, *frame)
        change = extras.cube(shape)
        arrays: dict[str, Any] = {"SCI": change, "PIXELDQ": np.zeros(frame, np.uint32)}
        arrays["GROUPDQ"] = np.broadcast_to(np.uint8(0), shape)
        extras.append(Extra("pctfrm_correction", "RampModel", arrays, {"SCI": "DN"}, NOT_YET))
    correction = Correction(scenes, context.references["pictureframe"]["frame"], mask, change)
    return Bound([], frames=correction.work)


STEP = Step(
    name="picture_frame",
    keyword="S_PCTFRM",
    params=Params,
    bind=bind,
    references=(*draft_rate.REFERENCES, "pictureframe"),
    prepare={**draft_rate.PREPARE, "pictureframe": prepare},
    skip_if=skip_if,
    unsupported=unsupported,
    pars="pars-pictureframestep",
)
