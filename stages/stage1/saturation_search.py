"""Kernels of saturation: thresholds, growth, what the read pattern tells; the rules are in `saturation`."""

from __future__ import annotations

import numpy as np

from upramp.stages.core import dq
from upramp.stages.core.kernel import kernel

BELOW_FLOOR = np.uint8(dq.AD_FLOOR | dq.DO_NOT_USE)


@kernel
def detect(data, gdq, pdq, own, threshold, flags, y0, x0, core):
    """Flag saturation and A/D floor pixel by pixel, in place.

    ``data`` float32, ``gdq`` uint8, both (rows, nints, ngroups, columns); ``own`` (uint8, same shape) gets
    SATURATED where it is set; ``pdq`` (rows, columns) uint32; ``threshold`` float32 and ``flags`` uint32
    cover the exposure, row ``y0`` and column ``x0`` being element [0, 0].

    Returns how many ramps within ``core`` (first and end row, first and end column) saturate, and how
    many have a group at the floor.
    """
    rows, nints, ngroups, columns = data.shape
    r0, r1, c0, c1 = core
    high = np.empty(columns, np.uint8)
    low = np.empty(columns, np.uint8)
    n_high = n_low = 0
    for r in range(rows):
        t = threshold[y0 + r, x0 : x0 + columns]
        f = flags[y0 + r, x0 : x0 + columns]
        p = pdq[r]
        for c in range(columns):
            p[c] |= f[c]
        for i in range(nints):
            high[:] = 0
            low[:] = 0
            for g in range(ngroups):
                d = data[r, i, g]
                q = gdq[r, i, g]
                o = own[r, i, g]
                for c in range(columns):
                    high[c] |= (d[c] >= t[c]) * np.uint8(dq.SATURATED)
                    floor = (d[c] <= 0) * BELOW_FLOOR
                    low[c] |= floor
                    q[c] |= high[c] | floor
                    o[c] = q[c] & dq.SATURATED
            if r0 <= r < r1:
                for c in range(c0, c1):
                    n_high += high[c] != 0
                    n_low += low[c] != 0
    return n_high, n_low


@kernel
def grow(gdq, marks, first, n, ys, xs):
    """Join the marks of all pixels in the box of 2n + 1 around each pixel to its flags, in place.

    ``gdq`` (rows, nints, ngroups, columns) uint8; row 0 of it is row ``first`` of ``marks`` (uint8: the flag
    to grow, or 0), which has up to n rows more on either side. Marks do not grow from one region into
    another: ``ys`` and ``xs`` (int64) tell the first rows and columns of all regions, and the ends, relative
    to ``marks``, and may reach beyond it.
    """
    rows, nints, ngroups, columns = gdq.shape
    whole = np.zeros(columns, np.uint8)
    near = np.zeros(columns + 2 * n, np.uint8)
    own = 0
    for r in range(rows):
        while ys[own + 1] <= first + r:
            own += 1
        above = max(first + r - n, ys[own], 0)
        below = min(first + r + n + 1, ys[own + 1], marks.shape[0])
        for i in range(nints):
            for g in range(ngroups):
                m = marks[above, i, g]
                found = np.uint8(0)
                for c in range(columns):
                    whole[c] = m[c]
                    found |= m[c]
                for y in range(above + 1, below):
                    m = marks[y, i, g]
                    for c in range(columns):
                        whole[c] |= m[c]
                        found |= m[c]
                if found == 0:
                    continue
                for s in range(len(xs) - 1):
                    a, b = max(xs[s], 0), min(xs[s + 1], columns)
                    if b <= a:
                        continue
                    near[n : n + b - a] = whole[a:b]
                    near[n + b - a : 2 * n + b - a] = 0
                    q = gdq[r, i, g, a:b]
                    for k in range(2 * n + 1):
                        shifted = near[k : k + b - a]
                        for c in range(b - a):
                            q[c] |= shifted[c]


@kernel
def leaps(d1, d2, q2, q3, t, b, nframes, found):
    """Where a second group is thought to be saturated (see the module), 1 or 0 in ``found`` (uint8).

    First and second groups, flags of the second and third, threshold and bias, each a row of columns.
    """
    first_mean = (nframes + 1) / 2
    for c in range(len(d1)):
        foreseen = np.float64(d1[c] - b[c]) / first_mean * (3.0 * nframes) + np.float64(b[c])
        leap = d2[c] - d1[c] > (t[c] - d1[c]) / np.float32(nframes)
        found[c] = (foreseen < t[c]) & leap & ((q3[c] & ~q2[c] & dq.SATURATED) != 0)


@kernel
def sudden(data, marks, threshold, bias, nframes, y0, x0, found):
    """Apply the rule for the second group to rows; ``found`` (rows, nints, columns) uint8 is filled.

    ``marks`` holds SATURATED where pixels saturate by themselves; other arrays as for `detect`.
    """
    rows, nints, _, columns = data.shape
    for r in range(rows):
        t = threshold[y0 + r, x0 : x0 + columns]
        b = bias[y0 + r, x0 : x0 + columns]
        for i in range(nints):
            leaps(data[r, i, 0], data[r, i, 1], marks[r, i, 1], marks[r, i, 2], t, b, nframes, found[r, i])


@kernel
def infer(data, gdq, inferred, threshold, bias, nframes, y0, x0):
    """Apply the two rules for several frames per group to rows whose saturation has grown.

    Arrays as for `detect`; ``bias`` float32 like ``threshold``. ``inferred`` (uint8, shape of ``gdq``) gets
    DO_NOT_USE where the first rule holds, which is to grow; the second writes ``gdq``.
    """
    rows, nints, ngroups, columns = data.shape
    first_mean = (nframes + 1) / 2
    second = np.zeros(columns, np.uint8)
    for r in range(rows):
        t = threshold[y0 + r, x0 : x0 + columns]
        b = bias[y0 + r, x0 : x0 + columns]
        for i in range(nints):
            if ngroups > 2:
                leaps(data[r, i, 0], data[r, i, 1], gdq[r, i, 1], gdq[r, i, 2], t, b, nframes, second)
            for g in range(ngroups - 1):
                share = (g * nframes + first_mean) / ((g + 1) * nframes)
                d = data[r, i, g]
                q = gdq[r, i, g]
                following = gdq[r, i, g + 1]
                m = inferred[r, i, g]
                for c in range(columns):
                    reached = np.float64(d[c]) >= np.float64(t[c]) * share
                    usable = (q[c] & (dq.SATURATED | dq.DO_NOT_USE)) == 0
                    m[c] = (reached & usable & ((following[c] & dq.SATURATED) != 0)) * np.uint8(dq.DO_NOT_USE)
            inferred[r, i, ngroups - 1] = 0
            if ngroups > 2:
                q2 = gdq[r, i, 1]
                for c in range(columns):
                    q2[c] |= second[c] * np.uint8(dq.DO_NOT_USE)
