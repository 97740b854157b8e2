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
LIMITS = np.array([limit for limit, _ in EXPONENTS])

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
        return float(data[start + 1, c]) - float(data[start, c])
    signal = (float(data[start + n - 1, c]) - float(data[start, c])) * electrons
    snr = signal / np.sqrt(noise2 + signal) if signal > 0 else 0.0
    p = 0
    while snr >= LIMITS[p]:
        p += 1
    weights = table[p, n]
    base = float(data[start, c])
    slope = 0.0
    for k in range(1, n):
        slope += weights[k] * (float(data[start + k, c]) - base)
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
        return np.nan if gdq[0, c] & SATURATED else float(data[0, c])
    n = 0
    for k in range(1, gdq.shape[0]):
        if not gdq[k, c] & BROKEN and not gdq[k - 1, c] & UNUSABLE:
            differences[n] = data[k, c] - data[k - 1, c]
            n += 1
    if n:
        return float(median(differences, n))
    return 0.0 if gdq[0, c] & BROKEN else float(data[0, c])


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
    return float(data[first, c]), 6, 1, 1  # one group weighs as much as two


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
def fit_rows(
    data, gdq, pdq, gain, noise, dark, y0, x0, group_time, first_time, nframes, suppress, table,
    sci, err, dq, var_p, var_r, sci1, err1, dq1, var_p1, var_r1,
):  # fmt: skip
    """Fit all ramps of some rows, per integration and for the exposure.

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
    differences = np.empty(ngroups, np.float32)
    cubes = np.empty((nints, BLOCK), np.int64)
    steps = np.empty((nints, BLOCK), np.int64)
    segments = np.empty((nints, BLOCK), np.int32)
    times = np.empty((nints, BLOCK))
    rates = np.empty(BLOCK)
    inverse_r = np.empty(BLOCK)
    kept_r = np.empty(BLOCK)
    inverse_p = np.empty(BLOCK)
    weighted = np.empty(BLOCK)
    everything = np.empty(BLOCK, np.uint32)
    common = np.empty(BLOCK, np.uint32)
    for r in range(rows):
        g_line = gain[y0 + r, x0 : x0 + columns]
        n_line = noise[y0 + r, x0 : x0 + columns]
        for first in range(0, columns, BLOCK):
            width = min(BLOCK, columns - first)
            rates[:] = 0
            for i in range(nints):
                ramp, flags = data[r, i], gdq[r, i]
                for b in range(width):
                    c = first + b
                    segments[i, b] = 0
                    if pdq[r, c] & DO_NOT_USE:
                        continue
                    lone = only_clean(flags, c)
                    if suppress and lone >= 0 and ngroups > 1:
                        sci[r, i, c] = np.nan
                        continue
                    time = first_time if lone == 0 else group_time
                    rates[b] += typical_rate(ramp, flags, c, differences) / time
                    electrons = float(g_line[c])
                    noise2 = 0.5 * (float(n_line[c]) * electrons) ** 2 / nframes
                    slope, cubes[i, b], steps[i, b], segments[i, b] = fit_ramp(
                        ramp, flags, c, electrons, noise2, table
                    )
                    times[i, b] = time
                    sci[r, i, c] = slope / time if noise2 > 0 or segments[i, b] == 0 else np.nan
            inverse_r[:] = 0
            kept_r[:] = 0
            inverse_p[:] = 0
            weighted[:] = 0
            everything[:] = 0
            common[:] = DO_NOT_USE
            for i in range(nints):
                flags = gdq[r, i]
                for b in range(width):
                    c = first + b
                    bad = pdq[r, c] & DO_NOT_USE
                    lost = cubes_with_chargeloss(flags, c)
                    time = times[i, b] if segments[i, b] > 0 else group_time
                    noise_r = 6.0 * float(n_line[c]) ** 2 / nframes / time**2
                    if bad:
                        sci[r, i, c] = np.nan
                        usable = False
                    else:
                        usable = not np.isnan(sci[r, i, c]) or segments[i, b] > 0
                    own = pdq[r, c] | np.uint32(ramp_flags(flags, c, usable))
                    dq[r, i, c] = own
                    everything[b] |= own
                    common[b] &= own
                    if bad or segments[i, b] == 0:
                        err[r, i, c] = 0
                        var_p[r, i, c] = 0
                        var_r[r, i, c] = 0
                        if lost > 0 and g_line[c] > 0 and noise_r > 0:
                            var_r[r, i, c] = noise_r / lost
                            kept_r[b] += lost / noise_r
                        continue
                    d_y = min(y0 + r, dark.shape[0] - 1)
                    d_x = min(x0 + c, dark.shape[1] - 1)
                    rate = rates[b] / nints
                    rate = (rate if rate > 0 else 0.0) + float(dark[d_y, d_x])
                    noise_p = rate / (time * float(g_line[c]))
                    total = combined_variance(
                        flags, c, noise_r, noise_p, steps[i, b], cubes[i, b], segments[i, b]
                    )
                    kept = cubes[i, b] if lost < 0 else lost
                    err[r, i, c] = np.sqrt(total)
                    var_p[r, i, c] = noise_p / steps[i, b]
                    var_r[r, i, c] = noise_r / kept
                    weight = cubes[i, b] / noise_r
                    inverse_r[b] += weight
                    kept_r[b] += kept / noise_r
                    inverse_p[b] += steps[i, b] / noise_p
                    weighted[b] += weight * float(sci[r, i, c])
            for b in range(width):
                c = first + b
                dq1[r, c] = (everything[b] & ~np.uint32(DO_NOT_USE)) | common[b]
                read = 1.0 / inverse_r[b] if inverse_r[b] != 0 else 0.0
                poisson = 1.0 / inverse_p[b] if inverse_p[b] != 0 else 0.0
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
