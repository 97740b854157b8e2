"""outlier_detection: cosmic rays and other pixels of which other exposures say something else.

Images are drizzled onto one grid, those of a group together (``outlier_median.py``). The median over groups
shows the sky without what is in one exposure alone; blotted back onto every image it is compared with it
(``outlier_blot.py``). Pixels that differ get OUTLIER and DO_NOT_USE, and NaN in all arrays. With
``resample_data`` off images are taken to lie on each other; no pixel is then interpolated, and a pixel is an
outlier if

    |d - m| > snr e

with the first of the two snr. The level of the sky that skymatch has found, and not subtracted, is taken off
for the median and given back for the comparison. Source: JWST pipeline documentation, outlier_detection step.

Images are read twice, one after the other. Held are one of them, one group on the grid, the median, and which
pixels are outliers, packed. What groups say of the grid's pixels is put down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, OUTLIER, unwanted
from upramp.stages.core.errors import NotApplicable, Unprocessable
from upramp.stages.core.extras import Extra
from upramp.stages.resample.combine import Drizzling
from upramp.stages.resample.drizzle import extent
from upramp.stages.resample.grid import Grid
from upramp.stages.resample.keywords import footprint, headers, outline
from upramp.stages.resample.pixmap import PRECISION, Pixmap, pixmap
from upramp.stages.stage3 import resample
from upramp.stages.stage3.members import Change, CommonStep, Mask, Means, Member, groups_of
from upramp.stages.stage3.outlier_blot import blot, outliers, unlike
from upramp.stages.stage3.outlier_median import Box, Drizzle, Stack
from upramp.stages.wcs.evaluate import pixel_to_sky

WEIGHED = ("SCI", "DQ", "VAR_RNOISE")
"""What is read of an image to put it on the grid."""

NEARLY = 1.0
"""Pixels by which positions may be off that only tell how far a group reaches."""


def _pair(text: str, name: str) -> tuple[float, float]:
    try:
        one, two = (float(word) for word in text.split())
    except ValueError:
        raise ValueError(f"{name} must be two numbers with a space between them, not {text!r}") from None
    return one, two


@dataclass(frozen=True)
class Params:
    """Parameters of outlier_detection.

    ``in_memory`` has no effect: images are read one after the other. Nor have ``pixmap_stepsize`` and
    ``pixmap_order``: positions are always interpolated, to 10^-6 pixels. ``kernel_size``,
    ``threshold_percent`` and ``ifu_second_check`` are for integral field units, ``rolling_window_width`` for
    time series.
    """

    skip: bool = False
    weight_type: str = "ivm"
    pixfrac: float = 1.0
    kernel: str = "square"
    fillval: str = "NAN"
    maskpt: float = 0.7
    snr: str = "5.0 4.0"
    scale: str = "1.2 0.7"
    backg: float = 0.0
    kernel_size: str = "7 7"
    threshold_percent: float = 99.8
    rolling_window_width: int = 25
    ifu_second_check: bool = False
    save_intermediate_results: bool = False
    resample_data: bool = True
    good_bits: str = "~DO_NOT_USE"
    search_output_file: bool = False
    in_memory: bool = True
    pixmap_stepsize: float = 1.0
    pixmap_order: int = 1

    def __post_init__(self) -> None:
        if self.weight_type not in ("ivm", "exptime"):
            raise ValueError(f"weight_type must be 'ivm' or 'exptime', not {self.weight_type!r}")
        if self.kernel not in ("square", "point", "turbo"):
            raise ValueError(f"kernel must be 'square', 'point' or 'turbo', not {self.kernel!r}")
        _pair(self.snr, "snr")
        _pair(self.scale, "scale")
        unwanted(self.good_bits)
        self.resampling()

    def resampling(self) -> resample.Params:
        """The parameters of the drizzling, as those of the resample step."""
        return resample.Params(
            pixfrac=self.pixfrac, kernel=self.kernel, fillval=self.fillval, weight_type=self.weight_type
        )


@dataclass
class Plan:
    """Members on a grid."""

    members: Sequence[Member]
    params: Params
    means: Means
    grid: Grid = field(init=False)
    how: Drizzling = field(init=False)

    def __post_init__(self) -> None:
        p = self.params
        self.grid, ratio = resample.grid_of(self.members, p.resampling())
        self.how = Drizzling(p.pixfrac, p.weight_type, ratio, kernel=p.kernel)

    def where(self, member: Member, precision: float = PRECISION) -> Pixmap:
        """Where a member's pixels lie on the grid. That is computed whenever it is needed, not held."""
        sky = pixel_to_sky(member.wcs)
        return pixmap(lambda x, y: self.grid.pixels(*sky(x, y)), member.shape, precision)

    def box(self, group: Sequence[int]) -> Box:
        """The part of the grid that a group reaches; all of it if what is beyond has a value, too."""
        ny, nx = self.grid.shape
        if self.params.maskpt <= 0 and not np.isnan(self.fill):
            return 0, ny, 0, nx
        reach = self.how.reach + NEARLY
        parts = np.array([extent(self.where(self.members[k], NEARLY), self.grid.shape, reach) for k in group])
        first, end = parts.min(axis=0), parts.max(axis=0)
        return int(first[0]), int(end[1]), int(first[2]), int(end[3])

    @property
    def fill(self) -> float:
        """The value of pixels of the grid that a group does not reach."""
        return resample.fill_value(self.params.fillval)

    def keep(self, ending: str, arrays: dict[str, np.ndarray], group: Sequence[int]) -> None:
        """Hand out arrays on the grid that are made of some members."""
        members = [self.members[k] for k in group]
        every = [m.cards for m in members]
        region = outline([footprint(cards) for cards in every], self.grid)
        primary, sci = headers(every, groups_of(members), self.grid, self.how, region)
        leaves = {"meta": {"wcs": resample.wcs_of(self.grid)}}
        extra = Extra(ending, "ImageModel", arrays, {}, primary, sci=sci, leaves=leaves)
        self.means.keep(members[0].name, extra)


def _on_the_sky(members: Sequence[Member], p: Params, means: Means) -> list[Mask]:
    """Outliers of images that look at the sky from different places."""
    plan, groups = Plan(members, p, means), groups_of(members)
    stack = Stack(plan.grid.shape, [plan.box(group) for group in groups], means.room)
    drizzle = Drizzle(plan.how, unwanted(p.good_bits), plan.grid.shape, means.crew)
    for g, group in enumerate(groups):
        box = stack.boxes[g]
        sums = drizzle.begin(box)
        for member in (members[k] for k in group):
            where, level = plan.where(member), resample.sky_of(member)
            drizzle.add(member.read(*WEIGHED), where, level, box, sums)
        if p.save_intermediate_results:
            plan.keep("outlier_i2d", _whole(sums, box, plan), group)
        stack.put(g, sums, True, p.maskpt, plan.fill, means.crew)
    middle = stack.median(means.crew)
    if p.save_intermediate_results:
        plan.keep("median", {"SCI": middle}, range(len(members)))
    return [_compared(member, middle, plan) for member in members]


def _compared(member: Member, middle: np.ndarray, plan: Plan) -> Mask:
    """The outliers of a member, which is held no longer than this takes."""
    p, means = plan.params, plan.means
    blotted = blot(middle, plan.where(member), means.crew)
    if p.save_intermediate_results:
        _keep_own(member, "blot", blotted, means)
    image = member.read("SCI", "ERR")
    # measured: what skymatch says goes before what the user says
    sky = p.backg if _without_sky(member) else resample.sky_of(member)
    limits = _pair(p.snr, "snr"), _pair(p.scale, "scale")
    return Mask.of(outliers(image.sci, image.err, blotted, sky, *limits, means.crew))


def _without_sky(member: Member) -> bool:
    """Whether no level of skymatch's is left in the pixels."""
    return member.cards.get("BKGLEVEL") is None or bool(member.cards.get("BKGSUB"))


def _whole(sums: np.ndarray, box: Box, plan: Plan) -> dict[str, np.ndarray]:
    """A group on the whole grid, as values and weights."""
    sci, wht = np.full(plan.grid.shape, plan.fill, np.float32), np.zeros(plan.grid.shape, np.float32)
    part = np.s_[box[0] : box[1], box[2] : box[3]]
    wht[part] = sums[:, :, 0]
    np.divide(sums[:, :, 1], sums[:, :, 0], out=sci[part], where=sums[:, :, 0] > 0)
    return {"SCI": sci, "WHT": wht}


def _keep_own(member: Member, ending: str, values: np.ndarray, means: Means) -> None:
    """Hand out an array that lies on a member's pixels."""
    leaves = {"meta": {"wcs": member.wcs}}
    means.keep(member.name, Extra(ending, "ImageModel", {"SCI": values}, leaves=leaves))


def _as_they_lie(members: Sequence[Member], p: Params, means: Means) -> list[Mask]:
    """Outliers of images that lie on each other."""
    shape = members[0].shape
    odd = [m for m in members if m.shape != shape]
    if odd:
        raise Unprocessable(
            f"{odd[0].name} has {odd[0].shape} pixels, {members[0].name} {shape}: images that differ in size "
            "need steps.outlier_detection.resample_data = true"
        )
    box = (0, shape[0], 0, shape[1])
    stack = Stack(shape, [box] * len(members), means.room)
    drizzle = Drizzle(Drizzling(weight_type=p.weight_type), unwanted(p.good_bits), shape, means.crew)
    for k, member in enumerate(members):
        values, weight = drizzle.weighed(member.read(*WEIGHED), 0.0)
        stack.put(k, np.stack([weight, values], axis=-1), False, p.maskpt, np.nan, means.crew)
    middle = stack.median(means.crew)
    if p.save_intermediate_results:
        _keep_own(members[0], "median", middle, means)
    snr, _ = _pair(p.snr, "snr")

    def compared(member: Member) -> Mask:
        image = member.read("SCI", "ERR")
        return Mask.of(unlike(image.sci, image.err, middle, snr, means.crew))

    return [compared(member) for member in members]


def run(members: Sequence[Member], params: Params, means: Means) -> list[Change]:
    """The outliers of each member.

    Parameters
    ----------
    members : sequence of Member
    params : Params
    means : Means
        ``room`` is asked for the values of all groups on the grid; with ``save_intermediate_results``
        ``keep`` gets products "outlier_i2d" for each group, "median", and "blot" for each member.

    Raises
    ------
    Unprocessable
        If images that are not resampled differ in size.
    """
    if len(members) < 2:
        why = "one image alone tells nothing of outliers"
        return [Change("FAILED", why) for _ in members]
    try:
        found = (_on_the_sky if params.resample_data else _as_they_lie)(members, params, means)
    except NotApplicable as why:
        return [Change("SKIPPED", str(why)) for _ in members]
    return [Change(lost=mask, flags=OUTLIER | DO_NOT_USE) for mask in found]


STEP = CommonStep(
    name="outlier_detection",
    keyword="S_OUTLIR",
    params=Params,
    run=run,
    pars="pars-outlierdetectionstep",
)
