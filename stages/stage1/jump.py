"""jump: find cosmic-ray hits as outliers among the differences between groups.

For every pixel the differences d of neighbouring good groups (in electrons) are compared with
their median m, all integrations together; the noise expected is

    sigma^2 = |m| + R^2 / NFRAMES

R being the read noise of a correlated double sample in electrons. With at least
``min_diffs_single_pass`` differences an integration, every |d - m| / sigma above the threshold is a
jump. With fewer, the largest outlier of | |d| - m' | is taken out and the median m' (of |d|, the largest
left out where there are four or more) taken anew, until none is above the threshold; where only three or
two differences remain the thresholds are those of four and three groups. A long time series
(``minimum_sigclip_groups`` integrations) is sigma-clipped instead, each difference across all
integrations. Then the four neighbours of a jump of moderate size are flagged, and the groups for some
time after a large one.

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
BLOCK = 64  # columns looked at side by side

FEW = 24  # samples that are sorted; with more, medians are enclosed by counting
# the enclosing: first step in sigma, how often at most, and which part of the columns may remain open
SEARCH_REACH = 0.15
SEARCH_STEPS = 10
SEARCH_REST = 16

# how outliers are told
ITERATED, ONCE, CLIPPED_BY_GROUP, CLIPPED = 0, 1, 2, 3
CLIPS = 5

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
        for name in (
            "rejection_threshold",
            "three_group_rejection_threshold",
            "four_group_rejection_threshold",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")


@kernel
def gather(data, gdq, gain, first, differences, before):
    """Differences in electrons of up to ``BLOCK`` columns from ``first``; NaN where a group is unusable.

    ``data``, ``gdq`` (nints, ngroups, columns); ``gain`` (columns); fills ``differences``
    (nints * (ngroups - 1), BLOCK) float32, and returns how many columns there were.
    """
    nints, ngroups, columns = data.shape
    width = min(BLOCK, columns - first)
    factor = gain[first : first + width]
    nan = np.float32(np.nan)
    k = 0
    for i in range(nints):
        for g in range(ngroups):
            counts = data[i, g, first : first + width]
            flags = gdq[i, g, first : first + width]
            if g == 0:
                for b in range(width):
                    now = counts[b] * factor[b]
                    before[b] = nan if flags[b] & UNUSABLE else now
                continue
            out = differences[k]
            k += 1
            for b in range(width):
                now = counts[b] * factor[b]
                now = nan if flags[b] & UNUSABLE else now
                out[b] = now - before[b]
                before[b] = now
    return width


@kernel
def sort_out(differences, width, single, sorted_, low, high, smallest, largest, known):
    """Each column's median exactly, by sorting all columns side by side; for few samples.

    Of signed differences if ``single``, else the clipped median of absolute ones. ``known`` is False where
    a sample is missing or the largest is not alone; there nothing else holds.
    """
    n = differences.shape[0]
    for b in range(width):
        known[b] = True
    for k in range(n):
        row, target = differences[k], sorted_[k]
        for b in range(width):
            v = row[b] if single else abs(row[b])
            target[b] = v
            known[b] &= v == v
    kept = n if single else n - 1
    middle = (kept - 1) // 2
    for end in range(n - 1, max(middle, 1) - 1, -1):
        for k in range(end):
            one, two = sorted_[k], sorted_[k + 1]
            for b in range(width):
                v, u = one[b], two[b]
                swap = v > u
                one[b] = u if swap else v
                two[b] = v if swap else u
    below, above, top, second = sorted_[middle], sorted_[kept // 2], sorted_[n - 1], sorted_[n - 2]
    for b in range(width):
        low[b] = high[b] = (below[b] + above[b]) / 2
        largest[b] = top[b]
        smallest[b] = sorted_[0, b]
        known[b] &= single or second[b] < top[b]
    for k in range(1, middle):
        row = sorted_[k]
        for b in range(width):
            smallest[b] = row[b] if row[b] < smallest[b] else smallest[b]


@kernel
def bracket(differences, width, single, noise2, threshold, work, low, high, smallest, largest, known):
    """Bounds around each column's median, by counting; for many samples, all columns side by side.

    The bounds are drawn in until they show that (nearly) no column holds an outlier. ``known`` is False where
    there are too few samples.
    """
    count, kept, pivot, below, total = work
    for b in range(width):
        smallest[b], largest[b] = np.float32(np.inf), np.float32(-np.inf)
        count[b] = total[b] = kept[b] = 0
    for k in range(differences.shape[0]):
        row = differences[k]
        for b in range(width):
            v = row[b] if single else abs(row[b])
            there = v == v
            smallest[b] = v if v < smallest[b] else smallest[b]
            largest[b] = v if v > largest[b] else largest[b]
            count[b] += np.float32(1) if there else np.float32(0)
            total[b] += v if there else np.float32(0)
    if not single:
        for k in range(differences.shape[0]):
            row = differences[k]
            for b in range(width):
                kept[b] += np.float32(1) if abs(row[b]) == largest[b] else np.float32(0)
    for b in range(width):
        kept[b] = count[b] - kept[b]
        known[b] = kept[b] >= 4
        low[b], high[b] = smallest[b], largest[b]
        # the largest stays out of the first guess, as it may be a cosmic ray
        guess = (total[b] - largest[b]) / max(count[b] - 1, np.float32(1))
        pivot[b] = min(max(guess, low[b]), high[b])
    for step in range(SEARCH_STEPS):
        for b in range(width):
            below[b] = 0
        for k in range(differences.shape[0]):
            row = differences[k]
            for b in range(width):
                v = row[b] if single else abs(row[b])
                below[b] += np.float32(1) if v <= pivot[b] else np.float32(0)
        undecided = 0
        reach = np.float32(SEARCH_REACH * 2.0**step)
        for b in range(width):
            p, c = pivot[b], below[b]
            sigma = np.sqrt(abs(p) + noise2[b])
            if c <= np.floor((kept[b] - 1) / 2):
                low[b] = max(low[b], p)
                pivot[b] = min(p + reach * sigma, (low[b] + high[b]) / 2)
            elif c > np.floor(kept[b] / 2):
                high[b] = min(high[b], p)
                pivot[b] = max(p - reach * sigma, (low[b] + high[b]) / 2)
            else:  # between the middle two: each side again
                pivot[b] = p + (high[b] - p) / 2 if step & 1 else p - (p - low[b]) / 2
            undecided += known[b] and not is_clean(
                low[b], high[b], smallest[b], largest[b], noise2[b], threshold
            )
        if undecided <= width // SEARCH_REST:
            break


@kernel
def is_clean(low, high, smallest, largest, noise2, threshold):
    """Whether no sample can be an outlier, the median lying between ``low`` and ``high``."""
    least = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    off = max(largest - low, high - smallest)
    return off < 0.9999 * threshold * np.sqrt(least + noise2)  # not where something is NaN


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
def flag_clipped(differences, first, stride, threshold, work, marks):
    """Mark what sigma clipping leaves out of samples ``first``, ``first + stride`` ...

    At most `CLIPS` times, about the median, by the standard deviation; in float64.
    """
    n = 0
    for k in range(first, differences.size, stride):
        if not np.isnan(differences[k]):
            work[n] = differences[k]
            n += 1
    if n == 0:
        return 0
    low, high = -np.inf, np.inf
    for _ in range(CLIPS):
        middle = median(work, n)
        mean, square = 0.0, 0.0
        for k in range(n):
            mean += work[k]
        mean /= n
        for k in range(n):
            square += (work[k] - mean) ** 2
        reach = threshold * np.sqrt(square / n)
        low, high = middle - reach, middle + reach
        kept = 0
        for k in range(n):
            if low <= work[k] <= high:
                work[kept] = work[k]
                kept += 1
        if kept == n:
            break
        n = kept
    found = 0
    for k in range(first, differences.size, stride):
        if differences[k] < low or differences[k] > high:
            marks[k] |= np.uint8(PRIMARY)
            found += 1
    return found


@kernel
def search(data, gdq, gain, noise, y0, x0, nframes, way, thresholds, reach, large, large_on, plane, core):
    """Mark jumps in rows of ramps.

    Most columns hold no outlier whatever their exact median is; only the others are looked at one by one.

    Parameters
    ----------
    data, gdq : (rows, nints, ngroups, columns)
    gain, noise : (ny, nx) float32
        e/DN, and the read noise of a double sample in DN.
    y0, x0 : int
        Element [0, 0] of the rows in the references.
    nframes : int
    way : int
        ITERATED, ONCE, CLIPPED_BY_GROUP or CLIPPED.
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
    samples = nints * steps
    differences = np.empty((samples, BLOCK), np.float32)
    before = np.empty(BLOCK, np.float32)
    single = way == ONCE
    few = 4 <= samples <= FEW
    sorted_ = np.empty((samples if few else 0, BLOCK), np.float32)
    counting = np.empty((5, BLOCK), np.float32)
    low, high, smallest, largest, noise2 = np.empty((5, BLOCK), np.float32)
    known = np.empty(BLOCK, np.bool_)
    one = np.empty(samples, np.float32)
    work = np.empty(samples, np.float32)
    wide = np.empty(samples if way >= CLIPPED_BY_GROUP else 0)
    marks = np.empty(samples, np.uint8)
    count = 0
    plane[:] = 0
    for r in range(rows):
        for first in range(0, columns, BLOCK):
            start = x0 + first
            width = gather(data[r], gdq[r], gain[y0 + r, x0 : x0 + columns], first, differences, before)
            for b in range(width):
                electrons = np.float32(noise[y0 + r, start + b] * gain[y0 + r, start + b])
                noise2[b] = electrons * electrons / nframes
            if large_on or samples < 4 or way >= CLIPPED_BY_GROUP:
                known[:] = False
            elif few:
                sort_out(differences, width, single, sorted_, low, high, smallest, largest, known)
            else:
                bracket(
                    differences,
                    width,
                    single,
                    noise2,
                    thresholds[0],
                    counting,
                    low,
                    high,
                    smallest,
                    largest,
                    known,
                )
            for b in range(width):
                if known[b] and is_clean(low[b], high[b], smallest[b], largest[b], noise2[b], thresholds[0]):
                    continue
                for k in range(samples):
                    one[k] = differences[k, b]
                inside = core[0] <= r < core[1] and core[2] <= first + b < core[3]
                found = mark_column(
                    one, noise2[b], way, steps, thresholds, reach, large, large_on, work, wide, marks
                )
                count += found if inside else 0
                if found > 0 or large_on:
                    for k in range(samples):
                        if marks[k]:
                            plane[r, k // steps, k % steps + 1, first + b] = marks[k]
    return count


@kernel
def mark_column(
    differences, variance, way, steps, thresholds, reach, large, large_on, work, wide, marks
):  # fmt: skip
    """Mark the jumps of one pixel; returns how many there are. ``marks`` is filled."""
    marks[:] = 0
    n = usable(differences, work)
    if n < 2:
        return 0
    found = 0
    if way == ITERATED:
        found = flag_iteratively(differences, variance, thresholds, work, marks)
    elif way == ONCE:
        middle = median(work, n)
        sigma = np.sqrt(np.abs(middle) + variance)
        found = flag_once(differences, middle, sigma, thresholds[0], marks) if sigma > 0 else 0
    elif way == CLIPPED_BY_GROUP:
        for g in range(steps):
            found += flag_clipped(differences, g, steps, thresholds[0], wide, marks)
    else:
        found = flag_clipped(differences, 0, 1, thresholds[0], wide, marks)
    if found == 0 and not large_on:
        return 0
    middle = median(work, usable(differences, work))
    sigma = np.sqrt(np.abs(middle) + variance)
    for k in range(differences.size):
        over = differences[k] - middle
        if marks[k] and reach[0] * sigma < np.abs(over) < reach[1] * sigma:
            marks[k] |= np.uint8(SPREADS)
        if large_on and over >= large[0]:
            marks[k] |= np.uint8(LARGE1)
        if large_on and over >= large[1]:
            marks[k] |= np.uint8(LARGE2)
    return found


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
    return [
        f"{name} = true is not in this version: {what}"
        for name, what in asked.items()
        if getattr(params, name)
    ]


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
    way = ONCE if meta.ngroups - 1 >= p.min_diffs_single_pass else ITERATED
    if meta.nints * (1 if p.only_use_ints else meta.ngroups) >= p.minimum_sigclip_groups:
        way = CLIPPED_BY_GROUP if p.only_use_ints else CLIPPED
    context.shared.setdefault("header", {})["EXTNCRS"] = 0.0

    def find(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        flag_bad_gain(w.pdq[s], gain, lo, w.x0)
        found = search(
            w.data[s], w.gdq[s], gain, noise, lo, w.x0, meta.nframes, way, thresholds, reach, large,
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
