"""Kernels of the ramp_fit step for ``algorithm = "LIKELY"``: the likelihood of differences between groups.

The n differences d of neighbouring groups, divided by the time between them, have the covariance

    C = a P + s^2 R

a being the rate, s the noise of one read, P and R tridiagonal matrices that the times of the reads
decide. The rate and its variances are

    a = 1^T C^-1 d / (1^T C^-1 1)        chi^2 = d^T C^-1 d - a 1^T C^-1 d
    w = C^-1 1 / (1^T C^-1 1)            var_P = a w^T P w        var_R = s^2 w^T R w

C is set up with the median of the differences, the fit made, and made again with C of its result. Before
that, jumps are sought: as long as chi^2 falls by more than 20.25 when one difference is left out, or,
where groups are averages of several reads, by more than 23.8 without two neighbouring ones, those are
left out.

Where frame zero was sent beside groups of several frames, it is a read of its own at the start, and the first
group the average of its other reads.

Of the exposure, with s_i, P_i, R_i of its integrations and r their median, two times

    r = sum(s_i / v_i) / sum(1 / v_i)    v_i = R_i + max(P_i r / s_i, 0)

Source: Brandt 2024, PASP 136, 045004 (the fit) and 045005 (the jumps). Which median, what ends the
search, and how integrations are averaged was measured.
"""

from __future__ import annotations

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, JUMP_DET
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.statistics import median
from upramp.stages.stage1.ramp_segments import BROKEN, KEPT

LEAST_GROUPS = 4
BLOCK = 64  # columns fitted side by side
FEW = 24  # differences that are sorted side by side; with more, each ramp's median is selected
ONE, TWO = 20.25, 23.8  # fall of chi^2 from which one difference is a jump, or two neighbouring ones are
LEFT = 3  # with so many differences left, the search is over


def covariance(meta: ExposureMeta, zero: bool = False) -> np.ndarray:
    """Elements of P and R for the times of an exposure's reads.

    Parameters
    ----------
    meta : ExposureMeta
    zero : bool
        Frame zero stands before the first group, which then is the average of its other reads.

    Returns
    -------
    ndarray, float64, shape (6, differences)
        Diagonal element of P (1/s), off-diagonal one (with the next difference; 0 for the last), the same of
        R (1/s^2), the time between the groups, s, and 1 where a jump may take this and the next difference.
    """
    step = meta.nframes + meta.groupgap
    reads = [np.arange(1, meta.nframes + 1) + g * step for g in range(meta.ngroups)]
    if zero:
        reads[:1] = [reads[0][:1], reads[0][1:]]
    counts = np.array([len(r) for r in reads])
    mean = np.array([r.mean() for r in reads]) * meta.frame_time
    # mean time weighted by the variance: the first read is in all sums, the last in one
    weighted = np.array([np.sum((2 * np.arange(len(r), 0, -1) - 1) * r) / len(r) ** 2 for r in reads])
    weighted *= meta.frame_time
    between = np.diff(mean)
    out = np.zeros((6, len(between)))
    out[0] = (weighted[:-1] + weighted[1:] - 2 * mean[:-1]) / between**2
    out[1, :-1] = (mean[1:-1] - weighted[1:-1]) / (between[1:] * between[:-1])
    out[2] = (1 / counts[:-1] + 1 / counts[1:]) / between**2
    out[3, :-1] = -1 / counts[1:-1] / (between[1:] * between[:-1])
    out[4] = between
    out[5, :-1] = counts[1:-1] > 1
    return out


@kernel
def side_by_side(d, use, rate, noise2, cov, width, work, slope, chi2, weights2, poisson, best1, best2, pairs):
    """Fit the differences of ``width`` ramps.

    Parameters
    ----------
    d : (n, BLOCK) float64
        Differences, e/s.
    use : (n, BLOCK) float64
        1 for those that count, 0 for the others.
    rate, noise2 : (BLOCK,)
        Rate for the covariance, e/s; variance of one read, e^2.
    cov : (6, n)
        `covariance`.
    work : (7, n, BLOCK)
    slope, chi2 : (BLOCK,)
        Filled: rate, e/s; chi^2.
    weights2, poisson : (BLOCK,)
        Filled: 1^T C^-1 1; w^T P w.
    best1, best2 : (BLOCK,)
        Filled, the latter if ``pairs``: the largest fall of chi^2 without one difference, and without two.
    """
    n = d.shape[0]
    alpha, beta, delta, one, two, x, y = work[0], work[1], work[2], work[3], work[4], work[5], work[6]
    for k in range(n):
        u, v, last, line = alpha[k], beta[k], use[k], d[k]
        for b in range(width):
            u[b] = rate[b] * cov[0, k] + noise2[b] * cov[2, k] if last[b] > 0 else 1.0
            v[b] = 0.0
        if k + 1 < n:
            following = use[k + 1]
            for b in range(width):
                v[b] = last[b] * following[b] * (rate[b] * cov[1, k] + noise2[b] * cov[3, k])
        if k == 0:
            for b in range(width):
                delta[0, b] = u[b]
                one[0, b] = last[b] * line[b]
                two[0, b] = last[b]
        else:
            off, before, p, q = beta[k - 1], delta[k - 1], one[k - 1], two[k - 1]
            here, p1, q1 = delta[k], one[k], two[k]
            for b in range(width):
                factor = off[b] / before[b]
                here[b] = u[b] - factor * off[b]
                p1[b] = last[b] * line[b] - factor * p[b]
                q1[b] = last[b] - factor * q[b]
    for b in range(width):
        slope[b] = chi2[b] = weights2[b] = poisson[b] = best1[b] = best2[b] = 0
    for k in range(n - 1, -1, -1):
        here, p, q, xk, yk, line = delta[k], one[k], two[k], x[k], y[k], d[k]
        off = beta[k]
        if k == n - 1:
            for b in range(width):
                xk[b] = p[b] / here[b]
                yk[b] = q[b] / here[b]
                one[k, b] = alpha[k, b]
        else:
            x1, y1, after = x[k + 1], y[k + 1], one[k + 1]
            for b in range(width):
                xk[b] = (p[b] - off[b] * x1[b]) / here[b]
                yk[b] = (q[b] - off[b] * y1[b]) / here[b]
                p[b] = alpha[k, b] - off[b] * off[b] / after[b]  # the recursion from the other end
                poisson[b] += 2 * cov[1, k] * yk[b] * y1[b]
        for b in range(width):
            slope[b] += xk[b]
            chi2[b] += line[b] * xk[b]
            weights2[b] += yk[b]
            poisson[b] += cov[0, k] * yk[b] * yk[b]
    for b in range(width):
        total, sum_ = weights2[b], slope[b]
        slope[b] = sum_ / total
        chi2[b] -= slope[b] * sum_
        poisson[b] /= total * total
    for k in range(n):
        xk, yk, u, here, after, inverse = x[k], y[k], alpha[k], delta[k], one[k], two[k]
        for b in range(width):
            inverse[b] = 1.0 / (here[b] + after[b] - u[b])  # diagonal of C^-1
            residual = xk[b] - slope[b] * yk[b]
            fall = residual * residual / (inverse[b] - yk[b] * yk[b] / weights2[b])
            best1[b] = fall if use[k, b] > 0 and fall > best1[b] else best1[b]
    if pairs:
        for k in range(n - 1):
            x0, y0, x1, y1, off, after = x[k], y[k], x[k + 1], y[k + 1], beta[k], one[k + 1]
            inverse, inverse1, u0, u1 = two[k], two[k + 1], use[k], use[k + 1]
            for b in range(width):
                fall = without_pair(
                    x0[b], y0[b], x1[b], y1[b], inverse[b], inverse1[b], off[b] / after[b], slope[b],
                    weights2[b],
                )  # fmt: skip
                best2[b] = fall if u0[b] * u1[b] * cov[5, k] > 0 and fall > best2[b] else best2[b]


@kernel
def without_pair(x0, y0, x1, y1, inverse0, inverse1, ratio, slope, weight):
    """How much chi^2 falls without two neighbouring differences.

    ``x``, ``y``: of C^-1 d and C^-1 1; ``inverse``: diagonal of C^-1; ``ratio``: of the off-diagonal element
    of C to what makes it that of C^-1.
    """
    r0, r1 = x0 - slope * y0, x1 - slope * y1
    s00 = inverse0 - y0 * y0 / weight
    s11 = inverse1 - y1 * y1 / weight
    s01 = -inverse0 * ratio - y0 * y1 / weight
    return (r0 * r0 * s11 - 2 * r0 * r1 * s01 + r1 * r1 * s00) / (s00 * s11 - s01 * s01)


@kernel
def search(d, use, rate, noise2, cov, pairs, work, sums):
    """Take jumps out of one ramp: clear ``use`` for them; the rate of what is left, e/s.

    Where one difference would be left, all choices fit: the larger ones are the jumps.

    Parameters
    ----------
    d, use : (n, 1) float64
        Differences, e/s; 1 for those that count, of which there are two or more. ``use`` is changed in place.
    rate, noise2 : (1,)
        Rate for the covariance, e/s; variance of one read, e^2.
    work : (7, n, 1)
    sums : (6, 1)
    """
    n = d.shape[0]
    slope, chi2, weights2, poisson, best1, best2 = sums[0], sums[1], sums[2], sums[3], sums[4], sums[5]
    left = 0
    for k in range(n):
        left += use[k, 0] > 0
    while True:
        side_by_side(d, use, rate, noise2, cov, 1, work, slope, chi2, weights2, poisson, best1, best2, pairs)
        two_better = pairs and left > 2 and not best1[0] - ONE > best2[0] - TWO
        if (best2[0] <= TWO) if two_better else (not best1[0] > ONE):
            return slope[0]
        x, y, inverse, after, off = work[5], work[6], work[4], work[3], work[1]
        found, most = -1, 0.0
        if two_better:
            for k in range(n - 1):
                if use[k, 0] * use[k + 1, 0] * cov[5, k] > 0:
                    fall = without_pair(
                        x[k, 0], y[k, 0], x[k + 1, 0], y[k + 1, 0], inverse[k, 0], inverse[k + 1, 0],
                        off[k, 0] / after[k + 1, 0], slope[0], weights2[0],
                    )  # fmt: skip
                    larger = found < 0 or d[k, 0] + d[k + 1, 0] > d[found, 0] + d[found + 1, 0]
                    if larger if left == LEFT else fall > most:  # one alone always fits
                        found, most = k, fall
            use[found, 0] = use[found + 1, 0] = 0
            left -= 2
        else:
            for k in range(n):
                if use[k, 0] > 0:
                    residual = x[k, 0] - slope[0] * y[k, 0]
                    fall = residual * residual / (inverse[k, 0] - y[k, 0] ** 2 / weights2[0])
                    larger = found < 0 or d[k, 0] > d[found, 0]
                    if larger if left == 2 else fall > most:  # one alone always fits
                        found, most = k, fall
            use[found, 0] = 0
            left -= 1
        if left <= LEFT:
            side_by_side(
                d, use, rate, noise2, cov, 1, work, slope, chi2, weights2, poisson, best1, best2, False
            )
            return slope[0]


@kernel
def medians_of(d, width, room, medians):
    """Medians of the differences of ``width`` ramps, NaN if any is NaN; ``d``, ``room`` (n, BLOCK)."""
    n = d.shape[0]
    for b in range(width):
        medians[b] = 0.0
    for k in range(n):
        line, target = d[k], room[k]
        for b in range(width):
            target[b] = line[b]
            medians[b] += line[b] - line[b]
    half = (n - 1) // 2
    if n <= FEW:
        for end in range(n - 1, half - 1, -1):
            for k in range(end):
                early, late = room[k], room[k + 1]
                for b in range(width):
                    v, u = early[b], late[b]
                    swap = v > u
                    early[b] = u if swap else v
                    late[b] = v if swap else u
        below, above = room[half], room[n // 2]
        for b in range(width):
            medians[b] += (below[b] + above[b]) / 2
    else:
        one = np.empty(n)
        for b in range(width):
            if not np.isnan(medians[b]):
                for k in range(n):
                    one[k] = room[k, b]
                medians[b] = median(one, n)


@kernel
def fit_rows(
    data, gdq, pdq, zero, gain, noise, dark, y0, x0, nframes, cov, pairs,
    sci, err, dq, var_p, var_r, sci1, err1, dq1, var_p1, var_r1, chi2s,
):  # fmt: skip
    """Fit all ramps of some rows, per integration and for the exposure.

    Parameters
    ----------
    data, gdq : (rows, nints, ngroups, columns)
    pdq : (rows, columns) uint32
    zero : (rows, nints, 1, columns) float32
        Frame zero, which counts as good; of zero size if there is none.
    gain, noise : (ny, nx) float32
        e/DN; read noise of a double sample, DN.
    dark : float
        Average dark current, DN/s.
    y0, x0 : int
        Element [0, 0] of the rows in the references.
    cov : (6, n)
        `covariance`.
    pairs : bool
        Whether jumps may take two differences.
    sci, err, dq, var_p, var_r : (rows, nints, columns)
        Filled: DN/s, (DN/s)^2.
    sci1, err1, dq1, var_p1, var_r1 : (rows, columns)
        Filled, for the exposure.
    chi2s : (ny, nx) float32
        Filled: chi^2, the sum over integrations.

    Returns
    -------
    jumps : (rows, columns) int64
        How many differences were left out.
    """
    rows, nints, ngroups, columns = data.shape
    lead = 1 if zero.size else 0
    n = ngroups - 1 + lead
    d, use, room = np.empty((3, n, BLOCK))
    work = np.empty((7, n, BLOCK))
    slope, chi2, weights2, poisson, best1, best2, rate, noise2, scale = np.empty((9, BLOCK))
    d1, use1 = np.empty((2, n, 1))
    work1, sums1, rate1, noise1 = np.empty((7, n, 1)), np.empty((6, 1)), np.empty(1), np.empty(1)
    count = np.empty(BLOCK)
    values, total = np.empty(nints), np.empty(BLOCK)
    every, all_bad, common, everything = np.empty((4, BLOCK), np.uint32)
    found = np.zeros((rows, columns), np.int64)
    for r in range(rows):
        for first in range(0, columns, BLOCK):
            width = min(BLOCK, columns - first)
            span = slice(first, first + width)
            g_line = gain[y0 + r, x0 + first : x0 + first + width]
            n_line = noise[y0 + r, x0 + first : x0 + first + width]
            pixels = pdq[r, span]
            for b in range(width):
                valid = g_line[b] > 0 and n_line[b] >= 0
                scale[b] = np.float64(g_line[b]) if valid else np.nan
                noise2[b] = 0.5 * (np.float64(n_line[b]) * scale[b]) ** 2
                total[b] = 0
                everything[b] = 0
                common[b] = DO_NOT_USE
            for i in range(nints):
                for b in range(width):
                    count[b] = 0
                    every[b] = 0
                    all_bad[b] = DO_NOT_USE
                for g in range(ngroups):
                    flags = gdq[r, i, g, span]
                    for b in range(width):
                        every[b] |= flags[b]
                        all_bad[b] &= (flags[b] | (flags[b] >> 1)) & DO_NOT_USE
                for g in range(ngroups - 1):
                    k = g + lead
                    early, late = data[r, i, g, span], data[r, i, g + 1, span]
                    flags0, flags1 = gdq[r, i, g, span], gdq[r, i, g + 1, span]
                    line, u = d[k], use[k]
                    for b in range(width):
                        line[b] = (np.float64(late[b]) - np.float64(early[b])) * scale[b] / cov[4, k]
                        u[b] = 0.0 if (flags0[b] | flags1[b]) & BROKEN else 1.0
                        count[b] += u[b]
                if lead:
                    first_read, group, following = (
                        zero[r, i, 0, span],
                        data[r, i, 0, span],
                        data[r, i, 1, span],
                    )
                    flags0 = gdq[r, i, 0, span]
                    for b in range(width):
                        read = np.float64(first_read[b])
                        others = (nframes * np.float64(group[b]) - read) / (nframes - 1)
                        d[0, b] = (others - read) * scale[b] / cov[4, 0]
                        d[1, b] = (np.float64(following[b]) - others) * scale[b] / cov[4, 1]
                        use[0, b] = 0.0 if flags0[b] & BROKEN else 1.0
                        count[b] += use[0, b]
                medians_of(d, width, room, rate)
                for b in range(width):
                    rate[b] = rate[b] if not rate[b] <= 0 else 0.0
                side_by_side(
                    d,
                    use,
                    rate,
                    noise2,
                    cov,
                    width,
                    work,
                    slope,
                    chi2,
                    weights2,
                    poisson,
                    best1,
                    best2,
                    pairs,
                )
                for b in range(width):
                    every[b] &= KEPT
                    if count[b] > 1 and (best1[b] > ONE or best2[b] > TWO):
                        for k in range(n):
                            d1[k, 0], use1[k, 0] = d[k, b], use[k, b]
                        rate1[0], noise1[0] = rate[b], noise2[b]
                        slope[b] = search(d1, use1, rate1, noise1, cov, pairs, work1, sums1)
                        lost = 0
                        for k in range(n):
                            lost += use[k, b] != use1[k, 0]
                            use[k, b] = use1[k, 0]
                        if lost:
                            every[b] |= JUMP_DET
                            found[r, first + b] += lost
                for b in range(width):
                    rate[b] = (slope[b] if not slope[b] <= 0 else 0.0) + dark * scale[b]
                side_by_side(
                    d,
                    use,
                    rate,
                    noise2,
                    cov,
                    width,
                    work,
                    slope,
                    chi2,
                    weights2,
                    poisson,
                    best1,
                    best2,
                    False,
                )
                t_sci, t_err, t_dq = sci[r, i, span], err[r, i, span], dq[r, i, span]
                t_p, t_r = var_p[r, i, span], var_r[r, i, span]
                for b in range(width):
                    s = scale[b] if count[b] > 0 else np.nan
                    variance = 1.0 / weights2[b]
                    t_sci[b] = slope[b] / s
                    t_err[b] = np.sqrt(variance) / s
                    t_p[b] = rate[b] * poisson[b] / s**2
                    t_r[b] = (variance - rate[b] * poisson[b]) / s**2
                    total[b] += chi2[b] + (s - s)
                    t_dq[b] = pixels[b] | every[b] | all_bad[b]
                    everything[b] |= t_dq[b]
                    common[b] &= t_dq[b]
            t_sum = chi2s[y0 + r, x0 + first : x0 + first + width]
            for b in range(width):
                t_sum[b] = total[b]
                dq1[r, first + b] = (everything[b] & ~np.uint32(DO_NOT_USE)) | common[b]
            for b in range(width):
                c = first + b
                sci1[r, c], var_p1[r, c], var_r1[r, c] = average(
                    sci[r, :, c], var_p[r, :, c], var_r[r, :, c], values
                )
                err1[r, c] = np.sqrt(var_p1[r, c] + var_r1[r, c])
    return found


@kernel
def average(slopes, var_p, var_r, values):
    """Slope of an exposure and its two variances, from those of its integrations (nints,); NaN if none is."""
    nints, n = slopes.size, 0
    for i in range(nints):
        if not np.isnan(slopes[i]):
            values[n] = slopes[i]
            n += 1
    if n == 0:
        return np.nan, np.nan, np.nan
    rate = median(values, n)
    poisson = read = 0.0
    for _ in range(2):
        weights = weighted = poisson = read = 0.0
        for i in range(nints):
            s = np.float64(slopes[i])
            if np.isnan(s):
                continue
            own = np.float64(var_p[i]) / s * rate if var_p[i] != 0 else 0.0
            own = own if own > 0 else 0.0
            w = 1.0 / (var_r[i] + own)
            weights += w
            weighted += w * s
            poisson += w * w * own
            read += w * w * np.float64(var_r[i])
        rate = weighted / weights
        poisson /= weights * weights
        read /= weights * weights
    return rate, poisson, read
