"""The optional results of the ramp_fit step: the fit of every segment, ``save_opt = true`` with OLS_C.

For the k-th segment of each integration: slope (DN/s), its variances and weight 1 / VAR_RNOISE, the value at
group 0 (DN), and the formal errors of the weighted line, in electrons and per group as the observatory's
package has them. With weights w at groups x, s^2 the variance of a group and X the weighted mean of x,

    SIGSLOPE = s / sqrt(sum w (x - X)^2)        SIGYINT = s sqrt(1 / sum w + X^2 / sum w (x - X)^2)

(for two groups SIGYINT = SIGSLOPE). PEDESTAL is the first group less the integration's slope, not the slope
times a time, but for the share of the group time in which its frames were averaged. CRMAG holds the steps
up to groups with a jump, in their order.

Source: JWST and stcal pipeline documentation, ramp_fitting; units and special cases were measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from upramp.stages.core.dq import JUMP_DET, SATURATED
from upramp.stages.core.extras import Cube, Extra, extras_of
from upramp.stages.core.kernel import kernel
from upramp.stages.core.step import Context, Window
from upramp.stages.stage1.ramp_segments import (
    LIMITS,
    POWERS,
    first_clean,
    next_segment,
    only_clean,
    typical_rate,
    value_of,
)

BY_SEGMENT = ("SLOPE", "SIGSLOPE", "VAR_POISSON", "VAR_RNOISE", "YINT", "SIGYINT", "WEIGHTS")
ORDER = (*BY_SEGMENT[:-1], "PEDESTAL", "WEIGHTS", "CRMAG")
ROOM = 1 << 24
"""Bytes of results that a thread gathers before they are put down."""

NOT_YET: dict[str, Any] = {"S_RAMP": None, "S_GANSCL": None}
"""Keywords that optional products do not have, because steps that set them are not done."""


@kernel
def weights_of(ngroups):
    """Weights of the groups of segments, which depend on their length and on a power alone.

    Returns
    -------
    weights : (ngroups + 1, powers, ngroups) float64
        By length, number of the power and group; those of lengths below 2 are 0.
    sums : (ngroups + 1, powers, 3) float64
        Their sum, the mean group, and the sum of w (k - mean)^2.
    """
    weights = np.zeros((ngroups + 1, len(POWERS), ngroups))
    sums = np.zeros((ngroups + 1, len(POWERS), 3))
    for n in range(2, ngroups + 1):
        centre = (n - 1) / 2
        for p in range(len(POWERS)):
            total = mean = spread = 0.0
            for k in range(n):
                w = abs((k - centre) / centre) ** POWERS[p]
                weights[n, p, k] = w
                total += w
                mean += w * k
            mean = mean / total
            for k in range(n):
                spread += weights[n, p, k] * (k - mean) ** 2
            sums[n, p, 0], sums[n, p, 1], sums[n, p, 2] = total, mean, spread
    return weights, sums


@kernel
def line(data, c, start, n, origin, electrons, noise2, weights, sums):
    """The weighted line through a segment: slope and value at a group, DN; their formal errors, electrons.

    The group is ``origin``. Groups start to start + n of column ``c`` of ``data`` (ngroups, columns);
    ``electrons`` gain, e/DN; ``noise2`` variance of a group, e^2; ``weights`` and ``sums`` are those of
    `weights_of`.
    """
    signal = (value_of(data[start + n - 1, c]) - value_of(data[start, c])) * electrons
    snr2 = signal * signal / (noise2 + signal) if signal > 0 else 0.0
    p = 0
    while snr2 >= LIMITS[p]:
        p += 1
    w, total, mean_x, spread = weights[n, p], sums[n, p, 0], sums[n, p, 1], sums[n, p, 2]
    mean_y = product = 0.0
    for k in range(n):
        mean_y += w[k] * value_of(data[start + k, c])
    mean_y = mean_y / total
    for k in range(n):
        product += w[k] * (k - mean_x) * (value_of(data[start + k, c]) - mean_y)
    slope = product / spread
    middle = start + mean_x - origin
    error = np.sqrt(noise2 / spread)
    error0 = np.sqrt(noise2 * (1.0 / total + middle * middle / spread)) if n > 2 else error
    return slope, mean_y - slope * middle, error, error0


@kernel
def fit_row(
    data, gdq, pixels, slopes, gain, noise, dark, group_time, first_time, zeros, zero_time, nframes,
    suppress, origin, weights, sums, segments, pedestal, hits,
):  # fmt: skip
    """Fit the segments of one row of ramps.

    Parameters
    ----------
    data, gdq : (nints, ngroups, columns)
    pixels : (columns,) uint32
    slopes : (nints, columns) float32
        Of the integrations, DN/s.
    gain, noise : (columns,) float32
        e/DN; read noise of a double sample, DN.
    dark, group_time, first_time, zero_time, nframes, suppress
        As for `ramp_fit.fit_rows`.
    origin : int
        The group that is taken for the first one.
    weights, sums
        As for `line`.
    zeros : (nints, columns) bool
        Where frame zero stands in for the first group; of zero size if nowhere.
    segments : (7, nints, room, columns) float32
        Zeros; filled in the order of `BY_SEGMENT`.
    pedestal : (nints, columns) float32
        Filled.
    hits : (nints, room, columns) float32
        Zeros; filled.

    Returns
    -------
    most, struck : int
        Most segments, most jumps of a ramp. Single groups without a jump count where there are no longer
        segments, though only the first of them has a slope.
    """
    nints, ngroups, columns = data.shape
    one = np.empty(ngroups, np.float32)
    most = struck = 0
    for c in range(columns):
        rate = 0.0
        for i in range(nints):
            lone = only_clean(gdq[i], c)
            if lone >= 0 and suppress and ngroups > 1:
                continue
            time = first_time if lone == 0 or ngroups == 1 else group_time
            if ngroups > 1 and zeros.size > 0 and zeros[i, c]:
                time = zero_time
            rate += typical_rate(data[i, origin:], gdq[i, origin:], c, one) / time
        rate = rate / nints
        poisson = ((rate if rate > 0 else 0.0) + dark) / gain[c]
        read = 6.0 * np.float64(noise[c]) ** 2 / nframes
        noise2 = 0.5 * (np.float64(noise[c]) * gain[c]) ** 2 / nframes
        for i in range(nints):
            ramp, flags = data[i], gdq[i]
            no_slope = flags[origin, c] & SATURATED or np.isnan(slopes[i, c])
            back = np.float64(slopes[i, c]) * first_time / group_time
            pedestal[i, c] = 0.0 if no_slope else value_of(ramp[origin, c]) - back
            n = 0
            for k in range(origin + 1, ngroups):
                if flags[k, c] & JUMP_DET:
                    hits[i, n, c] = ramp[k, c] - ramp[k - 1, c]
                    n += 1
            struck = max(struck, n)
            found = singles = 0
            lone = only_clean(flags, c)
            if origin > 0:
                flags[origin, c] &= ~np.uint8(JUMP_DET)  # there is nothing to have jumped from
            first = first_clean(flags, c)
            if lone >= 0 and suppress and ngroups > 1:
                continue
            start, n = next_segment(flags, c, 0)
            while n:
                singles += n == 1 and flags[start, c] & JUMP_DET == 0
                if n > 1:
                    slope, value, error, error0 = line(
                        ramp, c, start, n, origin, np.float64(gain[c]), noise2, weights, sums
                    )
                    variance = read / ((n * n * n - n) * group_time**2)
                    if n > 2 and not gain[c] > 0:
                        variance = 0.0
                        slope, value = (slope, value) if gain[c] < 0 else (np.nan, np.nan)
                    segments[0, i, found, c] = slope / group_time
                    segments[1, i, found, c] = error
                    segments[2, i, found, c] = poisson / (group_time * (n - 1))
                    segments[3, i, found, c] = variance
                    segments[4, i, found, c] = value
                    segments[5, i, found, c] = error0
                    segments[6, i, found, c] = 1.0 / variance
                    found += 1
                start, n = next_segment(flags, c, start + n)
            most = max(most, found if found else singles)
            if found == 0 and first >= 0:
                time = first_time if lone == 0 else group_time
                time = zero_time if zeros.size > 0 and zeros[i, c] else time
                segments[0, i, 0, c] = value_of(ramp[first, c]) / time
                segments[2, i, 0, c] = poisson / time
                segments[3, i, 0, c] = read / (6 * time**2)
                segments[6, i, 0, c] = 6 * time**2 / read
    return most, struck


def product(
    context: Context,
    gain: np.ndarray,
    noise: np.ndarray,
    dark: float,
    first_time: float,
    origin: Callable[[], int],
) -> Callable[[Window, int, int, np.ndarray], None]:
    """Announce the product; returns what fills it from rows that are fitted and flagged.

    That takes the window, the rows, and where frame zero stands in for the first group, (rows, nints,
    columns) or of zero size. ``origin`` tells, when rows come, which group counts as the first.
    """
    meta, p = context.meta, context.params
    extras = extras_of(context)
    room, gaps = meta.ngroups, meta.ngroups - 1
    cubes: dict[str, Cube] = {
        name: extras.cube((meta.nints, gaps if name == "CRMAG" else room, meta.ny, meta.nx))
        for name in (*BY_SEGMENT, "CRMAG")
    }
    cubes["PEDESTAL"] = extras.cube((meta.nints, meta.ny, meta.nx))
    found = {"segments": 1, "hits": 0}

    def ready() -> None:
        for name in BY_SEGMENT:
            cubes[name].cut(meta.nints, found["segments"])
        cubes["CRMAG"].cut(meta.nints, found["hits"])

    arrays: dict[str, Any] = {name: cubes[name] for name in ORDER}
    extras.append(
        Extra(
            "fitopt",
            "RampFitOutputModel",
            arrays,
            header=NOT_YET,
            path=named(p.opt_name, "fitopt"),
            ready=ready,
        )
    )

    weights, sums = weights_of(meta.ngroups)

    def fill(w: Window, lo: int, hi: int, zeros: np.ndarray) -> None:
        r0, r1, c0, c1 = w.core(lo, hi)
        columns = slice(c0, c1)
        where = slice(w.x0 + c0, w.x0 + c1)
        height = max(1, ROOM // (4 * (len(BY_SEGMENT) + 1) * meta.nints * room * max(c1 - c0, 1)))
        for first in range(r0, r1, height):
            rows = range(first, min(first + height, r1))
            segments = np.zeros((len(rows), len(BY_SEGMENT), meta.nints, room, c1 - c0), np.float32)
            pedestal = np.zeros((len(rows), meta.nints, c1 - c0), np.float32)
            hits = np.zeros((len(rows), meta.nints, gaps, c1 - c0), np.float32)
            most = struck = 0
            for j, r in enumerate(rows):
                y = lo + r
                at = y - w.y0
                own = zeros[r, :, columns] if zeros.size else zeros[0:0].reshape(0, 0)
                count, jumps = fit_row(
                    w.data[at, ..., columns], w.gdq[at, ..., columns], w.pdq[at, columns],
                    w.outputs["rateints.sci"][at, ..., columns], gain[y, where], noise[y, where], dark,
                    meta.group_time, first_time, own, meta.frame_time, meta.nframes, p.suppress_one_group,
                    origin(), weights, sums, segments[j], pedestal[j], hits[j],
                )  # fmt: skip
                most, struck = max(most, count), max(struck, jumps)
            y = lo + first
            for k, name in enumerate(BY_SEGMENT if most else ()):
                cubes[name].write_rows(y, w.x0 + c0, segments[:, k, :, :most])
            cubes["PEDESTAL"].write_rows(y, w.x0 + c0, pedestal)
            if struck:
                cubes["CRMAG"].write_rows(y, w.x0 + c0, hits[:, :, :struck])
            found["segments"] = max(found["segments"], most)
            found["hits"] = max(found["hits"], struck)

    return fill


def named(name: str, suffix: str) -> str:
    """File name of an optional product that the user named ``name``; none for none."""
    return f"{name.removesuffix('.fits')}_{suffix}.fits" if name else ""
