"""ramp_fit: count rates from the good stretches of each ramp, by optimally weighted least squares.

A segment is a run of groups without DO_NOT_USE or SATURATED; a jump opens a new one. Segment s of n
groups y_0 ... y_{n-1} gets the slope of the weighted fit with weights |(i - c) / c|^P, c = (n - 1) / 2,
where P grows with the signal-to-noise ratio of y_{n-1} - y_0 (Fixsen et al.). Its variances are

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
from typing import Any

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, JUMP_DET
from upramp.stages.core.extras import Extra, extras_of
from upramp.stages.core.groups import ends, leading
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Bound, Context, Station, Step, Window
from upramp.stages.stage1 import frame_zero, jump, ramp_likelihood, ramp_optional
from upramp.stages.stage1.ramp_segments import (
    EXPONENTS,
    LIMITS,
    combined_variance,
    cubes_with_chargeloss,
    fit_ramp,
    only_clean,
    ramp_flags,
    slope_coefficients,
    typical_rate,
)

BLOCK = 64  # columns fitted side by side
FEW = 24  # differences that are sorted side by side; with more, each ramp's median is selected

LARGE = 1e6  # (DN/s)^2; products have 0 in place of larger variances, as the observatory's package has it
LARGE_ERROR = 1e3  # DN/s, for the sum of both

ARRAYS = ("sci", "err", "dq", "var_poisson", "var_rnoise")
FRAME_ZERO = "frame_zero"
"""Key of `Context.shared` under which frame zero lies, corrected: ramps of one group."""


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


@kernel
def clean_slopes(ramps, span, gain, noise2, table, work, slopes):
    """Slopes per group of whole ramps without flags, side by side.

    ``ramps`` (ngroups, columns) float32, of which the columns ``span``; ``gain`` and ``noise2`` (e^2) of
    these; ``work`` (exponents, BLOCK) float64. The weights are symmetric, so only differences of mirrored
    groups count.
    """
    ngroups, width = ramps.shape[0], gain.size
    for p in range(work.shape[0]):
        for b in range(width):
            work[p, b] = 0
    for k in range(ngroups // 2):
        early, late = ramps[k, span], ramps[ngroups - 1 - k, span]
        for p in range(work.shape[0]):
            weight = table[p, ngroups, ngroups - 1 - k]
            line = work[p]
            for b in range(width):
                line[b] += weight * (np.float64(late[b]) - np.float64(early[b]))
    first, last = ramps[0, span], ramps[ngroups - 1, span]
    for b in range(width):
        signal = (np.float64(last[b]) - np.float64(first[b])) * gain[b]
        signal = signal if signal > 0 else 0.0
        snr2 = signal * signal / (noise2[b] + signal)
        slope = work[0, b]
        for p in range(1, 6):
            slope = work[p, b] if snr2 >= LIMITS[p - 1] else slope
        slopes[b] = slope


@kernel
def clean_medians(ramps, span, width, differences, medians):
    """Medians of the first differences of whole ramps, side by side.

    ``ramps`` (ngroups, columns) float32, of which the columns ``span``; ``differences`` (ngroups - 1,
    BLOCK) float32.
    """
    ngroups = ramps.shape[0]
    n = ngroups - 1
    for k in range(n):
        early, late, line = ramps[k, span], ramps[k + 1, span], differences[k]
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
    data, gdq, pdq, gain, noise, dark, y0, x0, group_time, first_time, nframes, suppress, ends, dropped,
    table, zeros, zero_time, sci, err, dq, var_p, var_r, sci1, err1, dq1, var_p1, var_r1,
):  # fmt: skip
    """Fit all ramps of some rows, per integration and for the exposure.

    Ramps without any flag go side by side; the others one by one.

    Parameters
    ----------
    data, gdq : (rows, nints, ngroups, columns)
    pdq : (rows, columns) uint32
    gain, noise : (ny, nx) float32
        e/DN; read noise of a double sample, DN.
    dark : float
        Average dark current, e/s.
    y0, x0 : int
        Element [0, 0] of the rows in the references.
    group_time, first_time : float
        Time between groups, s; effective time of the first group, where it is all there is.
    nframes : int
        Frames averaged into a group.
    suppress : bool
        Give up ramps with one good group.
    ends : (nints, 2)
        Groups that are fitted of each integration for most pixels: first, and one past the last.
    dropped : (nints, 2)
        Groups whose flags count: first, and one past the last.
    table : ndarray
        `slope_coefficients`.
    zeros : (rows, nints, columns) bool
        Where frame zero stands in for the first group; of zero size if nowhere.
    zero_time : float
        Time of frame zero, s.
    sci, err, dq, var_p, var_r : (rows, nints, columns)
        Filled: DN/s, (DN/s)^2.
    sci1, err1, dq1, var_p1, var_r1 : (rows, columns)
        Filled, for the exposure.
    """
    rows, nints, ngroups, columns = data.shape
    one = np.empty(ngroups, np.float32)
    ramp, flags = np.empty((ngroups, 1), np.float32), np.empty((ngroups, 1), np.uint8)  # of one pixel
    sorted_ = np.empty((ngroups, BLOCK), np.float32)
    sums = np.empty((len(EXPONENTS), BLOCK))
    cubes = np.empty((nints, BLOCK), np.int64)
    steps = np.empty((nints, BLOCK), np.int64)
    segments = np.empty((nints, BLOCK), np.int32)
    times = np.empty((nints, BLOCK))
    dirty = np.empty((nints, BLOCK), np.bool_)
    slopes, noise2, noise_r, noise_p = np.empty((4, BLOCK))
    rates, inverse_r, kept_r, inverse_p, weighted = np.empty((5, BLOCK))
    medians = np.empty(BLOCK, np.float32)
    everything, common = np.empty((2, BLOCK), np.uint32)
    per_read, per_step = np.empty((2, nints))
    alone = ngroups == 1 and zeros.size == 0  # a ramp is its group, over the time of that
    for i in range(nints):
        n = ends[i, 1] - ends[i, 0]
        per_read[i] = 1.0 / (group_time**2 * max(n**3 - n, 1))
        per_step[i] = 1.0 / (group_time * max(n - 1, 1))
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
                begin, end = ends[i, 0], ends[i, 1]
                n = end - begin
                for b in range(width):
                    spoiled[b] = pixels[b] & DO_NOT_USE != 0 or not noise2[b] > 0 or n <= 1
                for g in range(ngroups):
                    line = gdq[r, i, g, span]
                    if begin <= g < end:
                        for b in range(width):
                            spoiled[b] |= line[b] != 0
                    elif dropped[i, 0] <= g < dropped[i, 1]:
                        for b in range(width):
                            spoiled[b] |= line[b] != DO_NOT_USE
                    else:
                        for b in range(width):
                            spoiled[b] |= line[b] & DO_NOT_USE == 0
                if n > 1:
                    left = data[r, i, begin:end]
                    clean_slopes(left, span, g_line, noise2, table, sums, slopes)
                    middle = left[n // 2, span]  # of an odd number it has no weight
                    for b in range(width):
                        spoiled[b] |= np.isnan(slopes[b]) or np.isnan(middle[b])
                    if n - 1 <= FEW:
                        clean_medians(left, span, width, sorted_, medians)
                    else:
                        for b in range(width):
                            if not spoiled[b]:
                                medians[b] = typical_rate(data[r, i], gdq[r, i], first + b, one)
                    target = sci[r, i, span]
                    for b in range(width):
                        rates[b] += 0.0 if spoiled[b] else medians[b] / group_time
                        target[b] = slopes[b] / group_time
                elif alone:
                    values, line, target = data[r, i, 0, span], gdq[r, i, 0, span], sci[r, i, span]
                    for b in range(width):
                        usable = pixels[b] & DO_NOT_USE == 0 and noise2[b] > 0
                        spoiled[b] = line[b] != 0 or np.isnan(values[b]) or not usable
                    for b in range(width):
                        rates[b] += 0.0 if spoiled[b] else np.float64(values[b]) / first_time
                        target[b] = np.float64(values[b]) / first_time
                for b in range(width):
                    if spoiled[b]:
                        c = first + b
                        for g in range(ngroups):
                            ramp[g, 0], flags[g, 0] = data[r, i, g, c], gdq[r, i, g, c]
                        segments[i, b] = 0
                        sci[r, i, c] = np.nan
                        lone = only_clean(flags, 0)
                        given_up = suppress and lone >= 0 and ngroups > 1
                        front = dropped[i, 0]
                        if front > 0:
                            flags[front, 0] &= ~np.uint8(JUMP_DET)  # there is nothing to have jumped from
                        time = first_time if lone == 0 and not given_up else group_time
                        stands_in = zeros.size > 0 and zeros[r, i, c]
                        time = zero_time if stands_in else time
                        times[i, b] = time
                        if pixels[b] & DO_NOT_USE or given_up:
                            continue
                        typical = typical_rate(ramp[front:], flags[front:], 0, one)
                        rates[b] += typical / (first_time if ngroups == 1 else time)
                        slope, cubes[i, b], steps[i, b], segments[i, b] = fit_ramp(
                            ramp, flags, 0, np.float64(g_line[b]), noise2[b], table
                        )
                        if noise2[b] > 0 or segments[i, b] == 0:
                            sci[r, i, c] = slope / time
            for b in range(width):
                rate = rates[b] / nints
                rate = (rate if rate > 0 else 0.0) + dark
                noise_p[b] = rate / g_line[b]
            for b in range(width):
                inverse_r[b] = kept_r[b] = inverse_p[b] = weighted[b] = 0
                everything[b] = 0
                common[b] = DO_NOT_USE
            for i in range(nints):
                spoiled = dirty[i]
                t_sci, t_err, t_dq = sci[r, i, span], err[r, i, span], dq[r, i, span]
                t_p, t_r = var_p[r, i, span], var_r[r, i, span]
                any_spoiled = False
                cubes_each = 6.0 if alone else 1.0  # one group weighs as much as two
                steps_each = first_time * per_step[0] if alone else per_step[0] / per_step[i]
                for b in range(width):
                    read, poisson = noise_r[b] * per_read[i], noise_p[b] * per_step[i]
                    if alone:
                        read, poisson = noise_r[b] / first_time**2, noise_p[b] / first_time
                    t_r[b], t_p[b], t_dq[b] = read / cubes_each, poisson, pixels[b]
                    t_err[b] = np.sqrt(read / cubes_each + poisson)
                    w = 0.0 if spoiled[b] else cubes_each / read
                    inverse_r[b] += w
                    kept_r[b] += w
                    inverse_p[b] += 0.0 if spoiled[b] else steps_each
                    weighted[b] += 0.0 if spoiled[b] else w * t_sci[b]
                    any_spoiled |= spoiled[b]
                    everything[b] |= np.uint32(0) if spoiled[b] else pixels[b]
                    common[b] &= common[b] if spoiled[b] else pixels[b]
                if not any_spoiled:
                    continue
                for b in range(width):
                    if not spoiled[b]:
                        continue
                    c = first + b
                    bad = pixels[b] & DO_NOT_USE
                    for g in range(ngroups):
                        flags[g, 0] = gdq[r, i, g, c]
                    if dropped[i, 0] > 0:
                        flags[dropped[i, 0], 0] &= ~np.uint8(JUMP_DET)
                    lost, together = cubes_with_chargeloss(flags, 0)
                    read_kept = noise_r[b] / (group_time if together else times[i, b]) ** 2
                    usable = not bad and (not np.isnan(t_sci[b]) or segments[i, b] > 0)
                    t_dq[b] = pixels[b] | np.uint32(
                        ramp_flags(flags[dropped[i, 0] : dropped[i, 1]], 0, usable)
                    )
                    everything[b] |= t_dq[b]
                    common[b] &= t_dq[b]
                    time = times[i, b] if segments[i, b] > 0 else group_time
                    read = noise_r[b] / time**2
                    if bad or segments[i, b] == 0:
                        t_err[b] = t_p[b] = t_r[b] = 0
                        if lost > 0 and g_line[b] > 0 and read > 0:
                            t_r[b] = read_kept / lost
                            kept_r[b] += lost / read_kept
                        continue
                    poisson = noise_p[b] / time
                    total = combined_variance(
                        flags, 0, read, poisson, steps[i, b], cubes[i, b], segments[i, b]
                    )
                    if lost < 0:
                        lost, read_kept = cubes[i, b], read
                    t_err[b] = np.sqrt(total)
                    t_p[b] = poisson / steps[i, b]
                    t_r[b] = read_kept / lost
                    inverse_r[b] += cubes[i, b] / read
                    kept_r[b] += lost / read_kept
                    # in units of a whole ramp's, so that no rate at all stays finite
                    inverse_p[b] += steps[i, b] * time * per_step[0]
                    weighted[b] += cubes[i, b] / read * np.float64(t_sci[b])
            t_sci1, t_err1, t_dq1 = sci1[r, span], err1[r, span], dq1[r, span]
            t_p1, t_r1 = var_p1[r, span], var_r1[r, span]
            for b in range(width):
                t_dq1[b] = (everything[b] & ~np.uint32(DO_NOT_USE)) | common[b]
            for b in range(width):
                read = 1.0 / inverse_r[b] if inverse_r[b] != 0 else 0.0
                poisson = noise_p[b] * per_step[0] / inverse_p[b] if inverse_p[b] > 0 else 0.0
                nothing = np.nan if common[b] & DO_NOT_USE else 0.0
                kept = 1.0 / kept_r[b] if kept_r[b] != 0 else 0.0
                useless = read > LARGE
                read = 0.0 if useless else read
                poisson = 0.0 if poisson > LARGE else poisson
                t_r1[b] = 0.0 if kept > LARGE else kept
                t_p1[b] = poisson
                t_err1[b] = np.sqrt(read + poisson)
                t_sci1[b] = weighted[b] / inverse_r[b] if inverse_r[b] != 0 else nothing
                if useless:
                    t_sci1[b] = 0
            for i in range(nints):
                t_err, t_p, t_r = err[r, i, span], var_p[r, i, span], var_r[r, i, span]
                for b in range(width):
                    t_err[b] = 0 if t_err[b] > LARGE_ERROR else t_err[b]
                    t_p[b] = 0 if t_p[b] > LARGE else t_p[b]
                    t_r[b] = 0 if t_r[b] > LARGE else t_r[b]


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


def wants_frame_zero(meta: ExposureMeta, params: Params) -> bool:
    """Whether frame zero can change a rate."""
    if likely(meta, params):
        return meta.has_zeroframe and meta.nframes > 1
    return meta.has_zeroframe and not params.suppress_one_group


def likely(meta: ExposureMeta, params: Params) -> bool:
    """Whether the fit is one by likelihood."""
    return params.algorithm.upper() == "LIKELY" and meta.ngroups >= ramp_likelihood.LEAST_GROUPS


def bind(context: Context) -> Bound:
    """Make the station that fits, and declare the arrays of both products.

    Frame zero, corrected (see `frame_zero`), is taken from ``context.shared`` when rows come.
    """
    meta, p = context.meta, context.params
    gain, noise = context.references["gain"], context.references["readnoise"]["noise"]
    table = slope_coefficients(meta.ngroups)
    dark = float(context.shared.get("average_dark_current", 0.0))
    factor = gain.info.get("factor")
    if factor is not None:
        context.shared["gain_factor"] = factor
        context.shared.setdefault("header", {})["GAINFACT"] = factor
    first_time = (meta.nframes + 1) / 2 * meta.frame_time  # mean time of the first group's frames
    first = 0 if p.firstgroup is None else p.firstgroup
    last = meta.ngroups - 1 if p.lastgroup is None else p.lastgroup
    if first >= last:  # one group, or an impossible range, is no range, as the observatory's package has it
        first, last = 0, meta.ngroups - 1

    dropped, left = ends(context).copy(), ends(context).copy()
    # the mid infrared forgets groups at the beginning that no pixel has; the others tell their flags
    dropped[:, 0] = first if meta.instrument == "MIRI" else 0
    np.maximum(left[:, 0], first, out=left[:, 0])
    np.minimum(left[:, 1], last + 1, out=left[:, 1])

    if likely(meta, p):
        return Bound([_likelihood(context, gain["gain"], noise, dark, (first, last))], outputs=_outputs())

    lead = leading(context)

    def origin() -> int:
        """The group that the mid infrared takes for the first one."""
        return max(lead.least, first) if meta.instrument == "MIRI" else 0

    optional = None
    if p.save_opt:
        optional = ramp_optional.product(context, gain["gain"], noise, dark, first_time, origin)

    def run(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        o = w.outputs
        jump.flag_bad_gain(w.pdq[s], gain["gain"], lo, w.x0)
        if first > 0 or last < meta.ngroups - 1:
            keep_groups(w.gdq[s], first, last)
        frames = _frame_zero(context, w, lo, hi)
        zeros = np.zeros((0, 0, 0), np.bool_)
        if frames.size:
            zeros = np.empty((hi - lo, w.data.shape[1], w.data.shape[3]), np.bool_)
            frame_zero.stand_in(frames, w.data[s], w.gdq[s], zeros)
        fit_rows(
            w.data[s], w.gdq[s], w.pdq[s], gain["gain"], noise, dark, lo, w.x0,
            meta.group_time, first_time, meta.nframes, p.suppress_one_group, left, dropped, table,
            zeros, meta.frame_time,
            *(o[f"rateints.{name}"][s] for name in ARRAYS), *(o[f"rate.{name}"][s] for name in ARRAYS),
        )  # fmt: skip
        if optional is not None:
            optional(w, lo, hi, zeros)

    # which groups are at the beginning is known once all rows were seen
    return Bound([Station(run)], outputs=_outputs(), apart=p.save_opt and lead.least > 0)


def _frame_zero(context: Context, w: Window, lo: int, hi: int) -> np.ndarray:
    """Rows of frame zero (rows, nints, 1, columns); of zero size where there is none, or it has no use."""
    zero = context.shared.get(FRAME_ZERO) if wants_frame_zero(context.meta, context.params) else None
    rows = hi - lo if zero is not None else 0
    frames = np.empty((rows, w.data.shape[1], 1, w.data.shape[3]), np.float32)
    if zero is not None:
        zero.read_rows(frames, None, lo, w.i0, w.x0)
    return frames


def _outputs() -> dict[str, tuple[str, Any]]:
    """The arrays of both products."""
    outputs: dict[str, tuple[str, Any]] = {}
    for name in ARRAYS:
        dtype = np.uint32 if name == "dq" else np.float32
        outputs[f"rateints.{name}"] = ("integration", dtype)
        outputs[f"rate.{name}"] = ("exposure", dtype)
    return outputs


def _likelihood(
    context: Context, gain: np.ndarray, noise: np.ndarray, dark: float, kept: tuple[int, int]
) -> Station:
    """The station that fits by likelihood; ``kept``: first and last group."""
    meta, p = context.meta, context.params
    cov = ramp_likelihood.covariance(meta)
    cov_zero = ramp_likelihood.covariance(meta, zero=wants_frame_zero(meta, p))
    chi2 = np.zeros((meta.ny, meta.nx), np.float32)
    if p.save_opt:
        name = ramp_optional.named(p.opt_name, "likely_chisq")
        missing = ramp_optional.NOT_YET | {"R_GAIN": None, "R_READNO": None}
        extras_of(context).append(
            Extra("likely_chisq", "ImageModel", {"SCI": chi2}, {"SCI": "DN"}, header=missing, path=name)
        )

    def run(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        o = w.outputs
        if kept[0] > 0 or kept[1] < meta.ngroups - 1:
            keep_groups(w.gdq[s], *kept)
        zero = _frame_zero(context, w, lo, hi)
        found = ramp_likelihood.fit_rows(
            w.data[s], w.gdq[s], w.pdq[s], zero, gain, noise, dark, lo, w.x0, meta.nframes,
            cov_zero if zero.size else cov, meta.nframes > 1,
            *(o[f"rateints.{name}"][s] for name in ARRAYS), *(o[f"rate.{name}"][s] for name in ARRAYS),
            chi2,
        )  # fmt: skip
        r0, r1, c0, c1 = w.core(lo, hi)
        if r1 > r0:
            w.counters["ramp_fit.jumps"] += int(found[r0:r1, c0:c1].sum())

    return Station(run)


STEP = Step(
    name="ramp_fit",
    keyword="S_RAMP",
    params=Params,
    bind=bind,
    references=("readnoise", "gain"),
    prepare={"readnoise": jump.prepare_readnoise, "gain": jump.prepare_gain},
    pars="pars-rampfitstep",
)
