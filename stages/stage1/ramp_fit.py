"""ramp_fit: count rates from the good stretches of each ramp, by optimally weighted least squares.

A segment is a run of groups without DO_NOT_USE or SATURATED; a jump opens a new one. Segment s of n
groups y_0 ... y_{n-1} gets the slope of the weighted fit with weights |(i - c) / c|^P, c = (n - 1) / 2, where P
grows with the signal-to-noise ratio of y_{n-1} - y_0 (Fixsen et al.). Its variances are

    var_R = 12 R^2 / ((n^3 - n) t^2)           R: read noise of one frame-averaged group, DN
    var_P = max(m, 0) / (t g (n - 1))          m: typical rate, DN/s;  g: gain;  t: group time

m is the mean over the exposure's integrations of the median of their good first differences. Segments are
averaged with weights 1 / var_R; integrations likewise. Segments of one group count only where there
is nothing longer.

Source: Fixsen et al. 2000, PASP 112, 1350; JWST pipeline documentation, ramp_fitting. What
happens to ramps with one good group, or none, was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.dq import CHARGELOSS, DO_NOT_USE, JUMP_DET, NO_GAIN_VALUE, SATURATED
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.statistics import median
from upramp.stages.core.step import Bound, Context, Station, Step, Window
from upramp.stages.stage1 import jump

UNUSABLE = SATURATED | DO_NOT_USE
BROKEN = UNUSABLE | JUMP_DET
BLOCK = 64  # columns fitted side by side

# (signal-to-noise ratio below which, exponent of the weights)
EXPONENTS = ((5.0, 0.0), (10.0, 0.4), (20.0, 1.0), (50.0, 3.0), (100.0, 6.0), (np.inf, 10.0))
LIMITS = np.array([limit**2 for limit, _ in EXPONENTS])
FEW = 24  # differences that are sorted side by side; with more, each ramp's median is selected

ARRAYS = ("sci", "err", "dq", "var_poisson", "var_rnoise")


@dataclass(frozen=True)
class Params:
    """Parameters of ramp_fit."""

    skip: bool = False
    algorithm: str = "OLS_C"
    int_name: str = ""
    save_opt: bool = False
    opt_name: str = ""
    suppress_one_group: bool = True
    firstgroup: int | None = None
    lastgroup: int | None = None
    maximum_cores: str = "1"

    def __post_init__(self) -> None:
        if self.algorithm.upper() not in ("OLS_C", "LIKELY"):
            raise ValueError(f"algorithm must be 'OLS_C' or 'LIKELY', not {self.algorithm!r}")


def slope_coefficients(ngroups: int) -> np.ndarray:
    """Coefficients that turn the groups of a segment into its slope per group.

    Returns
    -------
    ndarray, float64, shape (exponents, ngroups + 1, ngroups)
        ``[p, n, :n]`` for a segment of ``n`` groups; the weighted least-squares slope is a fixed linear
        combination of the samples once the weights are chosen.
    """
    table = np.zeros((len(EXPONENTS), ngroups + 1, ngroups))
    for p, (_, exponent) in enumerate(EXPONENTS):
        for n in range(2, ngroups + 1):
            i = np.arange(n)
            centre = (n - 1) / 2
            w = np.abs((i - centre) / centre) ** exponent
            off = i - np.sum(w * i) / np.sum(w)
            table[p, n, :n] = w * off / np.sum(w * off**2)
    return table


@kernel
def segment_slope(data, c, start, n, electrons, noise2, table):
    """Slope per group of one segment: groups start to start + n of column ``c``.

    ``data`` (ngroups, columns) DN; ``electrons`` gain, e/DN; ``noise2`` variance of a group, e^2.
    """
    if n == 2:
        return np.float64(data[start + 1, c]) - np.float64(data[start, c])
    signal = (np.float64(data[start + n - 1, c]) - np.float64(data[start, c])) * electrons
    snr2 = signal * signal / (noise2 + signal) if signal > 0 else 0.0
    p = 0
    while snr2 >= LIMITS[p]:
        p += 1
    weights = table[p, n]
    base = np.float64(data[start, c])
    slope = 0.0
    for k in range(1, n):
        slope += weights[k] * (np.float64(data[start + k, c]) - base)
    return slope


@kernel
def next_segment(gdq, c, start):
    """First group and length of the next segment from group ``start``; length 0 at the end."""
    ngroups = gdq.shape[0]
    k = start
    while k < ngroups and gdq[k, c] & UNUSABLE:
        k += 1
    end = k
    while end < ngroups and not gdq[end, c] & UNUSABLE and (end == k or not gdq[end, c] & JUMP_DET):
        end += 1
    return k, end - k


@kernel
def first_clean(gdq, c):
    """The first group without any of the flags that break a ramp; -1 if there is none."""
    for k in range(gdq.shape[0]):
        if not gdq[k, c] & BROKEN:
            return k
    return -1


@kernel
def only_clean(gdq, c):
    """The group that alone is free of all flags that break a ramp; -1 if there are more or none."""
    only = -1
    for k in range(gdq.shape[0]):
        if not gdq[k, c] & BROKEN:
            if only >= 0:
                return -1
            only = k
    return only


@kernel
def typical_rate(data, gdq, c, differences):
    """Median of the good first differences of one ramp, DN per group.

    Without any, the first group's value if that is clean, else 0. With one group an integration, its value;
    NaN if it is saturated, which leaves the exposure without a typical rate.
    """
    if gdq.shape[0] == 1:
        return np.nan if gdq[0, c] & SATURATED else np.float64(data[0, c])
    n = 0
    for k in range(1, gdq.shape[0]):
        if not gdq[k, c] & BROKEN and not gdq[k - 1, c] & UNUSABLE:
            differences[n] = data[k, c] - data[k - 1, c]
            n += 1
    if n:
        return np.float64(median(differences, n))
    return 0.0 if gdq[0, c] & BROKEN else np.float64(data[0, c])


@kernel
def fit_ramp(data, gdq, c, electrons, noise2, table):
    """Fit one ramp.

    Returns
    -------
    slope : float
        Per group; NaN if there is nothing to fit.
    cubes, steps : int
        Sums of n^3 - n and n - 1 over the segments used: their weights against read and Poisson noise.
    segments : int
        How many segments were used.
    """
    total, cubes, steps, segments, singles = 0.0, 0, 0, 0, 0
    start, n = next_segment(gdq, c, 0)
    while n:
        if n > 1:
            weight = n * n * n - n
            total += weight * segment_slope(data, c, start, n, electrons, noise2, table)
            cubes += weight
            steps += n - 1
            segments += 1
        else:
            singles += 1
        start, n = next_segment(gdq, c, start + n)
    if segments:
        return total / cubes, cubes, steps, segments
    if singles == 0:
        return np.nan, 0, 0, 0
    first = first_clean(gdq, c)
    if first < 0:
        return 0.0, 0, 0, 0  # nothing but jumps: no rate, yet not unusable
    return np.float64(data[first, c]), 6, 1, 1  # one group weighs as much as two


@kernel
def combined_variance(gdq, c, per_cube, per_step, steps, cubes, segments):
    """Variance of an integration's slope: segments combined by their total variance.

    ``per_cube``, ``per_step``: read and Poisson variance of a segment for weight 1.
    """
    if segments == 1:
        return per_cube / cubes + per_step / steps
    inverse = 0.0
    start, n = next_segment(gdq, c, 0)
    while n:
        if n > 1:
            inverse += 1.0 / (per_cube / (n * n * n - n) + per_step / (n - 1))
        start, n = next_segment(gdq, c, start + n)
    return 1.0 / inverse


@kernel
def cubes_with_chargeloss(gdq, c):
    """Read-noise weight as if groups given up for charge migration had been kept; -1 if there are none."""
    any_lost = False
    for k in range(gdq.shape[0]):
        if gdq[k, c] & CHARGELOSS:
            any_lost = True
    if not any_lost:
        return -1
    ngroups = gdq.shape[0]
    cubes, singles = 0, 0
    start = 0
    while start < ngroups:
        n = 0
        while start + n < ngroups:
            flags = gdq[start + n, c]
            bad = flags & UNUSABLE if not flags & CHARGELOSS else flags & SATURATED
            if bad or (n > 0 and flags & JUMP_DET):
                break
            n += 1
        if n > 1:
            cubes += n * n * n - n
        elif n == 1 and not gdq[start, c] & JUMP_DET:
            singles += 1
        start += max(n, 1)
    return cubes if cubes else (6 if singles else 0)


@kernel
def ramp_flags(gdq, c, usable):
    """Flags of an integration: SATURATED and JUMP_DET if any group has them, DO_NOT_USE if none is usable."""
    flags = 0
    for k in range(gdq.shape[0]):
        flags |= gdq[k, c]
    flags &= SATURATED | JUMP_DET
    return flags if usable else flags | DO_NOT_USE


@kernel
def clean_slopes(ramps, gain, noise2, table, work, slopes):
    """Slopes per group of whole ramps without flags, side by side.

    ``ramps`` (ngroups, columns) float32; ``gain`` (columns); ``noise2`` (columns) float64, e^2; ``work``
    (exponents, BLOCK) float64. The weights are symmetric, so only differences of mirrored groups count.
    """
    ngroups, width = ramps.shape
    for p in range(work.shape[0]):
        for b in range(width):
            work[p, b] = 0
    for k in range(ngroups // 2):
        early, late = ramps[k], ramps[ngroups - 1 - k]
        for p in range(work.shape[0]):
            weight = table[p, ngroups, ngroups - 1 - k]
            line = work[p]
            for b in range(width):
                line[b] += weight * (np.float64(late[b]) - np.float64(early[b]))
    first, last = ramps[0], ramps[ngroups - 1]
    for b in range(width):
        signal = (np.float64(last[b]) - np.float64(first[b])) * gain[b]
        signal = signal if signal > 0 else 0.0
        snr2 = signal * signal / (noise2[b] + signal)
        slope = work[0, b]
        for p in range(1, 6):
            slope = work[p, b] if snr2 >= LIMITS[p - 1] else slope
        slopes[b] = slope


@kernel
def clean_medians(ramps, differences, medians):
    """Medians of the first differences of whole ramps, side by side; ``differences`` (ngroups - 1, BLOCK) float32."""
    ngroups, width = ramps.shape
    n = ngroups - 1
    for k in range(n):
        early, late, line = ramps[k], ramps[k + 1], differences[k]
        for b in range(width):
            line[b] = late[b] - early[b]
    half = (n - 1) // 2
    for end in range(n - 1, half - 1, -1):
        for k in range(end):
            one, two = differences[k], differences[k + 1]
            for b in range(width):
                v, u = one[b], two[b]
                swap = v > u
                one[b] = u if swap else v
                two[b] = v if swap else u
    below, above = differences[half], differences[n // 2]
    for b in range(width):
        medians[b] = (below[b] + above[b]) / 2


@kernel
def fit_rows(
    data, gdq, pdq, gain, noise, dark, y0, x0, group_time, first_time, nframes, suppress, table,
    sci, err, dq, var_p, var_r, sci1, err1, dq1, var_p1, var_r1,
):  # fmt: skip
    """Fit all ramps of some rows, per integration and for the exposure.

    Ramps without any flag go side by side; the others one by one.

    Parameters
    ----------
    data, gdq : (rows, nints, ngroups, columns)
    pdq : (rows, columns) uint32
    gain, noise, dark : (ny, nx) float32
        e/DN; read noise of a double sample, DN; average dark current, e/s (or (1, 1), one for all).
    y0, x0 : int
        Element [0, 0] of the rows in the references.
    group_time, first_time : float
        Time between groups, s; effective time of the first group, where it is all there is.
    nframes : int
        Frames averaged into a group.
    suppress : bool
        Give up ramps with one good group.
    table : ndarray
        `slope_coefficients`.
    sci, err, dq, var_p, var_r : (rows, nints, columns)
        Filled: DN/s, (DN/s)^2.
    sci1, err1, dq1, var_p1, var_r1 : (rows, columns)
        Filled, for the exposure.
    """
    rows, nints, ngroups, columns = data.shape
    few = ngroups - 1 <= FEW
    one = np.empty(ngroups, np.float32)
    sorted_ = np.empty((ngroups, BLOCK), np.float32)
    sums = np.empty((len(EXPONENTS), BLOCK))
    cubes = np.empty((nints, BLOCK), np.int64)
    steps = np.empty((nints, BLOCK), np.int64)
    segments = np.empty((nints, BLOCK), np.int32)
    times = np.empty((nints, BLOCK))
    dirty = np.empty((nints, BLOCK), np.bool_)
    slopes, noise2, noise_r, noise_p, weight = np.empty((5, BLOCK))
    rates, inverse_r, kept_r, inverse_p, weighted = np.empty((5, BLOCK))
    medians, clean_err, clean_p, clean_r = np.empty((4, BLOCK), np.float32)
    everything, common = np.empty((2, BLOCK), np.uint32)
    whole_cubes, whole_steps = ngroups**3 - ngroups, ngroups - 1
    for r in range(rows):
        for first in range(0, columns, BLOCK):
            width = min(BLOCK, columns - first)
            span = slice(first, first + width)
            g_line = gain[y0 + r, x0 + first : x0 + first + width]
            n_line = noise[y0 + r, x0 + first : x0 + first + width]
            pixels = pdq[r, span]
            for b in range(width):
                rates[b] = 0
                noise2[b] = 0.5 * (np.float64(n_line[b]) * g_line[b]) ** 2 / nframes
                noise_r[b] = 6.0 * np.float64(n_line[b]) ** 2 / nframes
            for i in range(nints):
                spoiled = dirty[i]
                for b in range(width):
                    spoiled[b] = pixels[b] & DO_NOT_USE != 0 or not noise2[b] > 0 or ngroups == 1
                for g in range(ngroups):
                    line = gdq[r, i, g, span]
                    for b in range(width):
                        spoiled[b] |= line[b] != 0
                if ngroups > 1:
                    ramps = data[r, i, :, span]
                    clean_slopes(ramps, g_line, noise2, table, sums, slopes)
                    if few:
                        clean_medians(ramps, sorted_, medians)
                    else:
                        for b in range(width):
                            if not spoiled[b]:
                                medians[b] = typical_rate(ramps, gdq[r, i, :, span], b, one)
                    target = sci[r, i, span]
                    for b in range(width):
                        rates[b] += 0.0 if spoiled[b] else medians[b] / group_time
                        target[b] = slopes[b] / group_time
                for b in range(width):
                    if spoiled[b]:
                        c = first + b
                        ramp, flags = data[r, i], gdq[r, i]
                        segments[i, b] = 0
                        sci[r, i, c] = np.nan
                        lone = only_clean(flags, c)
                        if pixels[b] & DO_NOT_USE or (suppress and lone >= 0 and ngroups > 1):
                            continue
                        time = first_time if lone == 0 else group_time
                        rates[b] += typical_rate(ramp, flags, c, one) / time
                        slope, cubes[i, b], steps[i, b], segments[i, b] = fit_ramp(
                            ramp, flags, c, np.float64(g_line[b]), noise2[b], table
                        )
                        times[i, b] = time
                        if noise2[b] > 0 or segments[i, b] == 0:
                            sci[r, i, c] = slope / time
            for b in range(width):
                d_y = min(y0 + r, dark.shape[0] - 1)
                d_x = min(x0 + first + b, dark.shape[1] - 1)
                rate = rates[b] / nints
                rate = (rate if rate > 0 else 0.0) + np.float64(dark[d_y, d_x])
                noise_p[b] = rate / g_line[b]
                read = noise_r[b] / group_time**2 / whole_cubes
                poisson = noise_p[b] / group_time / whole_steps
                clean_p[b], clean_r[b], clean_err[b] = poisson, read, np.sqrt(read + poisson)
                weight[b] = 1.0 / read
                inverse_r[b] = kept_r[b] = inverse_p[b] = weighted[b] = 0
                everything[b], common[b] = 0, DO_NOT_USE
            for i in range(nints):
                flags, spoiled = gdq[r, i], dirty[i]
                t_sci, t_err, t_dq = sci[r, i, span], err[r, i, span], dq[r, i, span]
                t_p, t_r = var_p[r, i, span], var_r[r, i, span]
                any_spoiled = False
                for b in range(width):
                    t_err[b], t_p[b], t_r[b], t_dq[b] = clean_err[b], clean_p[b], clean_r[b], pixels[b]
                    w = 0.0 if spoiled[b] else weight[b]
                    inverse_r[b] += w
                    weighted[b] += 0.0 if spoiled[b] else w * t_sci[b]
                    any_spoiled |= spoiled[b]
                    everything[b] |= np.uint32(0) if spoiled[b] else pixels[b]
                    common[b] &= common[b] if spoiled[b] else pixels[b]
                for b in range(width):
                    kept_r[b] += 0.0 if spoiled[b] else weight[b]
                    inverse_p[b] += 0.0 if spoiled[b] else 1.0
                if not any_spoiled:
                    continue
                for b in range(width):
                    if not spoiled[b]:
                        continue
                    c = first + b
                    bad = pixels[b] & DO_NOT_USE
                    lost = cubes_with_chargeloss(flags, c)
                    usable = not bad and (not np.isnan(t_sci[b]) or segments[i, b] > 0)
                    t_dq[b] = pixels[b] | np.uint32(ramp_flags(flags, c, usable))
                    everything[b] |= t_dq[b]
                    common[b] &= t_dq[b]
                    time = times[i, b] if segments[i, b] > 0 else group_time
                    read = noise_r[b] / time**2
                    if bad or segments[i, b] == 0:
                        t_err[b] = t_p[b] = t_r[b] = 0
                        if lost > 0 and g_line[b] > 0 and read > 0:
                            t_r[b] = read / lost
                            kept_r[b] += lost / read
                        continue
                    poisson = noise_p[b] / time
                    total = combined_variance(
                        flags, c, read, poisson, steps[i, b], cubes[i, b], segments[i, b]
                    )
                    kept = cubes[i, b] if lost < 0 else lost
                    t_err[b] = np.sqrt(total)
                    t_p[b] = poisson / steps[i, b]
                    t_r[b] = read / kept
                    inverse_r[b] += cubes[i, b] / read
                    kept_r[b] += kept / read
                    # in units of a whole ramp's, so that no rate at all stays finite
                    inverse_p[b] += steps[i, b] * group_time / (time * max(whole_steps, 1))
                    weighted[b] += cubes[i, b] / read * np.float64(t_sci[b])
            for b in range(width):
                c = first + b
                dq1[r, c] = (everything[b] & ~np.uint32(DO_NOT_USE)) | common[b]
                read = 1.0 / inverse_r[b] if inverse_r[b] != 0 else 0.0
                poisson = 0.0
                if inverse_p[b] > 0:
                    poisson = noise_p[b] / (group_time * max(whole_steps, 1) * inverse_p[b])
                var_r1[r, c] = 1.0 / kept_r[b] if kept_r[b] != 0 else 0.0
                var_p1[r, c] = poisson
                err1[r, c] = np.sqrt(read + poisson)
                if inverse_r[b] != 0:
                    sci1[r, c] = weighted[b] / inverse_r[b]
                else:
                    sci1[r, c] = np.nan if dq1[r, c] & DO_NOT_USE else 0.0


@kernel
def keep_groups(gdq, first, last):
    """Set DO_NOT_USE on groups outside first to last (both included)."""
    rows, nints, ngroups, columns = gdq.shape
    for r in range(rows):
        for i in range(nints):
            for g in range(ngroups):
                if g < first or g > last:
                    line = gdq[r, i, g]
                    for c in range(columns):
                        line[c] |= np.uint8(DO_NOT_USE)


def unsupported(params: Params) -> list[str]:
    """What the parameters ask for and this version does not do."""
    asked = []
    if params.algorithm.upper() == "LIKELY":
        asked.append("algorithm = 'LIKELY' is not in this version: OLS_C is used")
    if params.save_opt:
        asked.append("save_opt = true is not in this version: no fitopt product is written")
    return asked


def bind(context: Context) -> Bound:
    """Make the station that fits, and declare the arrays of both products."""
    meta, p = context.meta, context.params
    gain, noise = context.references["gain"], context.references["readnoise"]["noise"]
    table = slope_coefficients(meta.ngroups)
    average = context.shared.get("average_dark_current", 0.0)
    dark = np.atleast_2d(np.asarray(average, "f4"))
    factor = gain.info.get("factor")
    if factor is not None:
        context.shared["gain_factor"] = factor
        context.shared.setdefault("header", {})["GAINFACT"] = factor
    # frames of the first group are averaged over times from one frame on
    first_time = meta.group_time if meta.nframes == 1 else (meta.nframes + 1) / 2 * meta.frame_time
    first = 0 if p.firstgroup is None else p.firstgroup
    last = meta.ngroups - 1 if p.lastgroup is None else p.lastgroup

    def run(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        o = w.outputs
        jump.flag_bad_gain(w.pdq[s], gain["gain"], lo, w.x0)
        if first > 0 or last < meta.ngroups - 1:
            keep_groups(w.gdq[s], first, last)
        fit_rows(
            w.data[s], w.gdq[s], w.pdq[s], gain["gain"], noise, dark, lo, w.x0,
            meta.group_time, first_time, meta.nframes, p.suppress_one_group, table,
            *(o[f"rateints.{name}"][s] for name in ARRAYS), *(o[f"rate.{name}"][s] for name in ARRAYS),
        )  # fmt: skip

    outputs = {}
    for name in ARRAYS:
        dtype = np.uint32 if name == "dq" else np.float32
        outputs[f"rateints.{name}"] = ("integration", dtype)
        outputs[f"rate.{name}"] = ("exposure", dtype)
    return Bound([Station(run)], outputs=outputs)


STEP = Step(
    name="ramp_fit",
    keyword="S_RAMP",
    params=Params,
    bind=bind,
    references=("readnoise", "gain"),
    prepare={"readnoise": jump.prepare_readnoise, "gain": jump.prepare_gain},
    pars="pars-rampfitstep",
    unsupported=unsupported,
)
