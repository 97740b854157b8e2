"""jump: find cosmic-ray hits as outliers among the differences between groups.

For every pixel the differences d of neighbouring good groups (in electrons) are compared with
their median m, all integrations together; the noise expected is

    sigma^2 = |m| + R^2 / NFRAMES

R being the read noise of a correlated double sample in electrons. With at least
``min_diffs_single_pass`` differences an integration (groups at the ends that no pixel may use left
out), every |d - m| / sigma above the threshold is a jump. With fewer, the largest outlier of | |d| - m'
| is taken out and the median m' (of |d|, the largest left out where there are four or more) taken anew,
until none is above the threshold; where only three or two differences remain the thresholds are those
of four and three groups. A long time series (``minimum_sigclip_groups`` integrations) is sigma-clipped
instead, each difference across all integrations. Then the four neighbours of a jump of moderate size
are flagged, and the groups for some time after a large one. Snowballs and showers come last, if they are
asked for, on whole frames (`jump_snowballs`, `jump_showers`).

Source: Anderson & Gordon 2011, PASP 123, 1237; JWST pipeline documentation, jump step. That the
iteration works on absolute differences and the neighbours' rule on |d - m| was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, JUMP_DET, NO_GAIN_VALUE, SATURATED
from upramp.stages.core.groups import ends
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference, native, window
from upramp.stages.core.step import Bound, Context, Station, Step, Window
from upramp.stages.stage1 import jump_large
from upramp.stages.stage1.jump_levels import find_open
from upramp.stages.stage1.jump_search import (
    CLIPPED,
    CLIPPED_BY_GROUP,
    ITERATED,
    LARGE1,
    LARGE2,
    NOT_AT_ALL,
    ONCE,
    PRIMARY,
    SPREADS,
    search,
)

UNUSABLE = SATURATED | DO_NOT_USE
LEAST_GROUPS = 3


@dataclass(frozen=True)
class Params:
    """Parameters of jump."""

    skip: bool = False
    rejection_threshold: float = 4.0
    three_group_rejection_threshold: float = 6.0
    four_group_rejection_threshold: float = 5.0
    maximum_cores: str = "1"
    flag_4_neighbors: bool = True
    max_jump_to_flag_neighbors: float = 1000.0
    min_jump_to_flag_neighbors: float = 10.0
    after_jump_flag_dn1: float = 0.0
    after_jump_flag_time1: float = 0.0
    after_jump_flag_dn2: float = 0.0
    after_jump_flag_time2: float = 0.0
    expand_large_events: bool = False
    min_sat_area: float = 1.0
    min_jump_area: float = 5.0
    expand_factor: float = 2.0
    use_ellipses: bool = False
    sat_required_snowball: bool = True
    min_sat_radius_extend: float = 2.5
    sat_expand: int = 2
    edge_size: int = 25
    mask_snowball_core_next_int: bool = True
    snowball_time_masked_next_int: int = 4000
    find_showers: bool = False
    max_shower_amplitude: float = 4.0
    extend_snr_threshold: float = 1.2
    extend_min_area: int = 90
    extend_inner_radius: float = 1.0
    extend_outer_radius: float = 2.6
    extend_ellipse_expand_ratio: float = 1.1
    time_masked_after_shower: float = 15.0
    min_diffs_single_pass: int = 10
    max_extended_radius: int = 200
    minimum_groups: int = 3
    minimum_sigclip_groups: int = 100
    only_use_ints: bool = True

    def __post_init__(self) -> None:
        for name in (
            "rejection_threshold",
            "three_group_rejection_threshold",
            "four_group_rejection_threshold",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")


@kernel
def spread(gdq, plane, at, neighbours, groups1, groups2):
    """Flag jumps, their neighbours and the groups after them.

    ``gdq`` (rows, nints, ngroups, columns); ``plane`` the marks of these rows and, where they exist, one
    row more on either side, row ``at`` being the first of ``gdq``. ``groups1``, ``groups2``: how many
    groups after a large jump are flagged.
    """
    rows, nints, ngroups, columns = gdq.shape
    nothing = np.zeros(columns, np.uint8)
    for r in range(rows):
        p = at + r
        for i in range(nints):
            for g in range(1, ngroups):
                line, flags = plane[p, i, g], gdq[r, i, g]
                above = plane[p - 1, i, g] if p > 0 else nothing
                below = plane[p + 1, i, g] if p + 1 < plane.shape[0] else nothing
                if neighbours:
                    flag_cross(flags, line, above, below)
                else:
                    flag_cross(flags, line & np.uint8(PRIMARY), nothing, nothing)
            if groups1 > 0 or groups2 > 0:
                flag_after(gdq[r, i], plane[p, i], groups1, groups2)


@kernel
def flag_cross(flags, line, above, below):
    """Flag one line of a group where it or one of its four neighbours is marked."""
    columns = flags.size
    for c in range(columns):
        hit = (line[c] & PRIMARY) | (((above[c] | below[c]) & SPREADS) >> 1)
        flags[c] |= np.uint8(JUMP_DET) if hit and not flags[c] & UNUSABLE else np.uint8(0)
    left, right = line[: columns - 1], line[1:]
    inner, outer = flags[1:], flags[: columns - 1]
    for c in range(columns - 1):
        hit = left[c] & SPREADS
        inner[c] |= np.uint8(JUMP_DET) if hit and not inner[c] & UNUSABLE else np.uint8(0)
    for c in range(columns - 1):
        hit = right[c] & SPREADS
        outer[c] |= np.uint8(JUMP_DET) if hit and not outer[c] & UNUSABLE else np.uint8(0)


@kernel
def flag_after(gdq, plane, groups1, groups2):
    """Flag the groups after large jumps; ``gdq``, ``plane`` (ngroups, columns)."""
    ngroups, columns = gdq.shape
    for c in range(columns):
        until = 0
        for g in range(1, ngroups):
            flagged = gdq[g, c] & JUMP_DET
            if g < until and gdq[g, c] & UNUSABLE == 0:
                gdq[g, c] |= np.uint8(JUMP_DET)
            if flagged and plane[g, c] & LARGE1 and groups1 > 0:
                until = max(until, g + groups1 + 1)
            if flagged and plane[g, c] & LARGE2 and groups2 > 0:
                until = max(until, g + groups2 + 1)


@kernel
def flag_bad_gain(pdq, gain, y0, x0):
    """Pixels without a positive gain cannot be used."""
    rows, columns = pdq.shape
    for r in range(rows):
        for c in range(columns):
            if not gain[y0 + r, x0 + c] > 0:
                pdq[r, c] |= np.uint32(NO_GAIN_VALUE | DO_NOT_USE)


def note_open(w: Window, lo: int, hi: int, usable: np.ndarray) -> None:
    """Note in ``usable`` (nints, ngroups; bool) where a pixel in the core of rows lo to hi may be used."""
    r0, r1, c0, c1 = w.core(lo, hi)
    start = lo - w.y0
    find_open(w.gdq[start + r0 : start + r1], usable[w.i0 : w.i0 + w.gdq.shape[1]], c0, c1)


class OpenGroups:
    """Looks for groups at the ramps' ends that no pixel may use.

    Whether one pass suffices depends on how many are left. A single bright pixel for which a group was kept
    counts; but one integration in which no pixel may use it is enough to leave it out.
    """

    def __init__(self, meta: ExposureMeta) -> None:
        self._meta = meta
        self._open = np.zeros((meta.nints, meta.ngroups), np.bool_)

    @property
    def number(self) -> int:
        """Groups from the first open one to the last."""
        (found,) = np.nonzero(self._open.all(axis=0))
        return int(found[-1] - found[0] + 1) if found.size else 0

    def tiles(self) -> list[tuple[slice, slice]]:
        """The whole frame."""
        return [(slice(0, self._meta.ny), slice(0, self._meta.nx))]

    def begin(self, first: int, last: int) -> None:
        """All integrations are treated alike."""

    def absorb(self, w: Window, lo: int, hi: int) -> None:
        """Look at the core of rows lo to hi; only ever sets, so threads need not wait for each other."""
        note_open(w, lo, hi, self._open)

    def finish(self) -> None:
        """Nothing is left to do."""


def prepare_gain(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Cut the gain (e/DN) to the exposure."""
    image = raw.array("SCI")
    gain = native(image[window(raw, meta, image.shape)], np.float32)
    factor = raw.header.get("GAINFACT")
    typical = float(np.nanmedian(gain)) if np.isfinite(gain).any() else 1.0
    return Prepared({"gain": gain}, {"median": typical, "factor": None if factor is None else float(factor)})


def prepare_readnoise(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Cut the read noise (DN, of a correlated double sample) to the exposure."""
    image = raw.array("SCI")
    return Prepared({"noise": native(image[window(raw, meta, image.shape)], np.float32)})


def skip_if(meta: ExposureMeta, params: Params) -> str | None:
    """Two differences are the least that can disagree."""
    if meta.ngroups < LEAST_GROUPS:
        return f"{meta.ngroups} groups; at least {LEAST_GROUPS} are needed to find jumps"
    return None


def bind(context: Context) -> Bound:
    """Make the search and the spread for one exposure."""
    meta, p = context.meta, context.params
    gain, noise = context.references["gain"]["gain"], context.references["readnoise"]["noise"]
    thresholds = np.array(
        [p.rejection_threshold, p.four_group_rejection_threshold, p.three_group_rejection_threshold], "f4"
    )
    reach = np.array([p.min_jump_to_flag_neighbors, p.max_jump_to_flag_neighbors], "f4")
    groups = [int(t // meta.group_time) for t in (p.after_jump_flag_time1, p.after_jump_flag_time2)]
    typical = context.references["gain"].info["median"]
    large = np.array([p.after_jump_flag_dn1 * typical, p.after_jump_flag_dn2 * typical], "f4")
    clipped = meta.nints * (1 if p.only_use_ints else meta.ngroups) >= p.minimum_sigclip_groups
    left = ends(context)
    most, least = int(left[:, 1].min()), int((left[:, 1] - left[:, 0].max()).min())
    limits = (LEAST_GROUPS - 1, LEAST_GROUPS - 1 if clipped else p.min_diffs_single_pass)
    survey = OpenGroups(meta) if any(least <= limit < most for limit in limits) else None

    def way() -> int:
        groups = survey.number if survey is not None else most
        if groups < LEAST_GROUPS:
            return NOT_AT_ALL
        if clipped:
            return CLIPPED_BY_GROUP if p.only_use_ints else CLIPPED
        return ONCE if groups > p.min_diffs_single_pass else ITERATED

    usable = context.shared["usable_groups"] = np.zeros((meta.nints, meta.ngroups), np.bool_)

    def find(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        flag_bad_gain(w.pdq[s], gain, lo, w.x0)
        note_open(w, lo, hi, usable)
        mine = left[w.i0 : w.i0 + w.data.shape[1]]
        found = search(
            w.data[s], w.gdq[s], gain, noise, lo, w.x0, meta.nframes, way(), mine, thresholds, reach, large,
            max(groups) > 0, w.planes["jump"][s], w.core(lo, hi),
        )  # fmt: skip
        w.counters["jump.primary"] += found

    def flag(w: Window, lo: int, hi: int) -> None:
        near, at = w.haloed(lo, hi, 1)
        spread(w.gdq[w.rows(lo, hi)], w.planes["jump"][near], at, p.flag_4_neighbors, groups[0], groups[1])

    stations = [Station(find, planes={"jump": np.uint8}), Station(flag, halo=1)]
    return Bound(stations, survey, frames=jump_large.frames(context))


STEP = Step(
    name="jump",
    keyword="S_JUMP",
    params=Params,
    bind=bind,
    references=("gain", "readnoise"),
    prepare={"gain": prepare_gain, "readnoise": prepare_readnoise},
    skip_if=skip_if,
    pars="pars-jumpstep",
)
