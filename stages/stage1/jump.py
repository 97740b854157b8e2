"""jump: find cosmic-ray hits as outliers among the differences between groups.

For every pixel the differences d of neighbouring good groups (in electrons) are compared with
their median m, all integrations together; the noise expected is

    sigma^2 = |m| + R^2 / NFRAMES

R being the read noise of a correlated double sample in electrons. With at least
``min_diffs_single_pass`` differences an integration, every |d - m| / sigma above the threshold is a jump. With fewer, the largest
outlier of | |d| - m' | is taken out and the median m' (of |d|, the largest left out where there
are four or more) taken anew, until none is above the threshold; where only three or two differences
remain the thresholds are those of four and three groups. Then the four neighbours of a jump of moderate size are flagged, and the
groups for some time after a large one.

Source: Anderson & Gordon 2011, PASP 123, 1237; JWST pipeline documentation, jump step. That the
iteration works on absolute differences and the neighbours' rule on |d - m| was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, JUMP_DET, NO_GAIN_VALUE, SATURATED
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference, native, window
from upramp.stages.core.statistics import median
from upramp.stages.core.step import Bound, Context, Station, Step, Window

UNUSABLE = SATURATED | DO_NOT_USE
BLOCK = 16  # columns gathered at a time: one cache line of float32

# bits of the plane that the search leaves for the spread
PRIMARY = 1
SPREADS = 2
LARGE1 = 4
LARGE2 = 8


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
        for name in ("rejection_threshold", "three_group_rejection_threshold", "four_group_rejection_threshold"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")


@kernel
def gather(data, gdq, gain, first, differences):
    """Differences in electrons of up to ``BLOCK`` columns from ``first``; NaN where a group is unusable.

    ``data``, ``gdq`` (nints, ngroups, columns); ``gain`` (columns); fills ``differences`` (BLOCK, nints * (ngroups - 1))
    float32, and returns how many columns there were.
    """
    nints, ngroups, columns = data.shape
    width = min(BLOCK, columns - first)
    before = np.empty(BLOCK, np.float32)
    for i in range(nints):
        for g in range(ngroups):
            for b in range(width):
                c = first + b
                now = np.float32(data[i, g, c] * gain[c])
                if gdq[i, g, c] & UNUSABLE:
                    now = np.float32(np.nan)
                if g > 0:
                    differences[b, i * (ngroups - 1) + g - 1] = now - before[b]
                before[b] = now
    return width


@kernel
def usable(differences, work):
    """Copy the finite differences to ``work`` and count them."""
    n = 0
    for k in range(differences.size):
        if not np.isnan(differences[k]):
            work[n] = differences[k]
            n += 1
    return n


@kernel
def clipped_median(work, n):
    """Median of the first ``n`` absolute differences, the largest left out where there are four or more.

    All that equal the largest are left out. Of two the smaller counts. ``work`` is reordered.
    """
    if n == 2:
        return min(work[0], work[1])
    if n < 4:
        return median(work, n)
    largest = work[0]
    for k in range(1, n):
        largest = max(largest, work[k])
    kept = 0
    for k in range(n):
        if work[k] < largest:
            work[kept] = work[k]
            kept += 1
    return median(work, kept) if kept else largest


@kernel
def flag_once(differences, middle, sigma, threshold, marks):
    """Mark every difference that is off by more than ``threshold`` sigma."""
    found = 0
    for k in range(differences.size):
        if np.abs(differences[k] - middle) > threshold * sigma:
            marks[k] |= np.uint8(PRIMARY)
            found += 1
    return found


@kernel
def flag_iteratively(differences, variance, thresholds, work, marks):
    """Mark the largest outlier among absolute differences, leave it out, and again.

    ``thresholds`` for four and more, three, and two differences.
    """
    found = 0
    while True:
        n = 0
        lowest, highest = -1, -1
        for k in range(differences.size):
            if np.isnan(differences[k]) or marks[k] & PRIMARY:
                continue
            size = np.abs(differences[k])
            work[n] = size
            n += 1
            if lowest < 0 or size < np.abs(differences[lowest]):
                lowest = k
            if highest < 0 or size > np.abs(differences[highest]):
                highest = k
        if n < 2:
            return found
        middle = clipped_median(work, n)
        sigma = np.sqrt(np.abs(middle) + variance)
        above = np.abs(differences[highest]) - middle
        below = middle - np.abs(differences[lowest])
        worst, off = (highest, above) if above >= below else (lowest, below)
        threshold = thresholds[0] if n >= 4 else (thresholds[1] if n == 3 else thresholds[2])
        if not (sigma > 0 and off > threshold * sigma):
            return found
        marks[worst] |= np.uint8(PRIMARY)
        found += 1


@kernel
def search(data, gdq, gain, noise, y0, x0, nframes, single, thresholds, reach, large, large_on, plane, core):
    """Mark jumps in rows of ramps.

    Parameters
    ----------
    data, gdq : (rows, nints, ngroups, columns)
    gain, noise : (ny, nx) float32
        e/DN, and the read noise of a double sample in DN.
    y0, x0 : int
        Element [0, 0] of the rows in the references.
    nframes : int
    single : bool
        One pass instead of the iteration.
    thresholds : (3,) float32
    reach : (2,) float32
        Jumps between these (in sigma) spread to their neighbours.
    large : (2,) float32
        Above these (in electrons over the median) later groups are flagged too, if ``large_on``.
    plane : (rows, nints, ngroups, columns) uint8
        Filled with the bits PRIMARY, SPREADS, LARGE1, LARGE2.
    core : (r0, r1, c0, c1)
        Where to count.

    Returns
    -------
    int
        Jumps found within the core.
    """
    rows, nints, ngroups, columns = data.shape
    steps = ngroups - 1
    differences = np.empty((BLOCK, nints * steps), np.float32)
    work = np.empty(nints * steps, np.float32)
    marks = np.empty(nints * steps, np.uint8)
    count = 0
    plane[:] = 0
    for r in range(rows):
        for first in range(0, columns, BLOCK):
            width = gather(data[r], gdq[r], gain[y0 + r, x0 : x0 + columns], first, differences)
            for b in range(width):
                c = first + b
                d = differences[b]
                n = usable(d, work)
                if n < 2:
                    continue
                electrons = np.float32(noise[y0 + r, x0 + c] * gain[y0 + r, x0 + c])
                variance = electrons * electrons / nframes
                marks[:] = 0
                middle = np.float32(0)
                if single:
                    middle = median(work, n)
                    sigma = np.sqrt(np.abs(middle) + variance)
                    found = flag_once(d, middle, sigma, thresholds[0], marks) if sigma > 0 else 0
                else:
                    found = flag_iteratively(d, variance, thresholds, work, marks)
                if found == 0 and not large_on:
                    continue
                if not single:
                    middle = median(work, usable(d, work))
                sigma = np.sqrt(np.abs(middle) + variance)
                if core[0] <= r < core[1] and core[2] <= c < core[3]:
                    count += found
                for k in range(nints * steps):
                    bits = marks[k]
                    if bits & PRIMARY:
                        off = np.abs(d[k] - middle) / sigma
                        if reach[0] < off < reach[1]:
                            bits |= np.uint8(SPREADS)
                    if large_on and d[k] - middle >= large[0]:
                        bits |= np.uint8(LARGE1)
                    if large_on and d[k] - middle >= large[1]:
                        bits |= np.uint8(LARGE2)
                    if bits:
                        plane[r, k // steps, k % steps + 1, c] = bits
    return count


@kernel
def spread(gdq, plane, at, neighbours, groups1, groups2):
    """Flag jumps, their neighbours and the groups after them.

    ``gdq`` (rows, nints, ngroups, columns); ``plane`` the marks of these rows and, where they exist, one
    row more on either side, row ``at`` being the first of ``gdq``. ``groups1``, ``groups2``: how many groups after
    a large jump are flagged.
    """
    rows, nints, ngroups, columns = gdq.shape
    for r in range(rows):
        p = at + r
        above = p - 1 if p > 0 else -1
        below = p + 1 if p + 1 < plane.shape[0] else -1
        for i in range(nints):
            for g in range(1, ngroups):
                line = plane[p, i, g]
                for c in range(columns):
                    hit = line[c] & PRIMARY
                    if neighbours:
                        around = line[c - 1] if c > 0 else np.uint8(0)
                        if c + 1 < columns:
                            around |= line[c + 1]
                        if above >= 0:
                            around |= plane[above, i, g, c]
                        if below >= 0:
                            around |= plane[below, i, g, c]
                        hit |= (around & SPREADS) >> 1
                    if hit and gdq[r, i, g, c] & UNUSABLE == 0:
                        gdq[r, i, g, c] |= np.uint8(JUMP_DET)
            if groups1 > 0 or groups2 > 0:
                flag_after(gdq[r, i], plane[p, i], groups1, groups2)


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


def prepare_gain(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Cut the gain (e/DN) to the exposure; what is not positive becomes NaN."""
    image = raw.array("SCI")
    gain = native(image[window(raw, meta, image.shape)], np.float32)
    gain[~(gain > 0)] = np.nan
    factor = raw.header.get("GAINFACT")
    typical = float(np.nanmedian(gain)) if np.isfinite(gain).any() else 1.0
    return Prepared({"gain": gain}, {"median": typical, "factor": None if factor is None else float(factor)})


def prepare_readnoise(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Cut the read noise (DN, of a correlated double sample) to the exposure."""
    image = raw.array("SCI")
    return Prepared({"noise": native(image[window(raw, meta, image.shape)], np.float32)})


def skip_if(meta: ExposureMeta, params: Params) -> str | None:
    """Two differences are the least that can disagree."""
    if meta.ngroups < params.minimum_groups:
        return f"{meta.ngroups} groups; at least {params.minimum_groups} are needed to find jumps"
    return None


def unsupported(params: Params) -> list[str]:
    """What the parameters ask for and this version does not do."""
    asked = {
        "expand_large_events": "snowballs are not expanded",
        "find_showers": "showers are not searched for",
    }
    return [f"{name} = true is not in this version: {what}" for name, what in asked.items() if getattr(params, name)]


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
    single = meta.ngroups - 1 >= p.min_diffs_single_pass
    context.shared.setdefault("header", {})["EXTNCRS"] = 0.0

    def find(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        flag_bad_gain(w.pdq[s], gain, lo, w.x0)
        found = search(
            w.data[s], w.gdq[s], gain, noise, lo, w.x0, meta.nframes, single, thresholds, reach, large,
            max(groups) > 0, w.planes["jump"][s], w.core(lo, hi),
        )  # fmt: skip
        w.counters["jump.primary"] += found

    def flag(w: Window, lo: int, hi: int) -> None:
        near, at = w.haloed(lo, hi, 1)
        spread(w.gdq[w.rows(lo, hi)], w.planes["jump"][near], at, p.flag_4_neighbors, groups[0], groups[1])

    return Bound([Station(find, planes={"jump": np.uint8}), Station(flag, halo=1)])


STEP = Step(
    name="jump",
    keyword="S_JUMP",
    params=Params,
    bind=bind,
    references=("gain", "readnoise"),
    prepare={"gain": prepare_gain, "readnoise": prepare_readnoise},
    skip_if=skip_if,
    pars="pars-jumpstep",
    unsupported=unsupported,
)
