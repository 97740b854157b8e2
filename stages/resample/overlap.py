"""Areas that quadrilaterals have in common with square pixels, for `BLOCK` of them side by side.

With A_ij the area of a quadrilateral left of x = i and below y = j, the area in common with the pixel that
ends there is

    a_ij = A_ij - A_(i-1)j - A_i(j-1) + A_(i-1)(j-1)

and A_ij follows from Green's theorem: the integral of max(i - x, 0) dy around the part below j, to which
every edge adds the trapezoid on its left. Where an edge is cut, the cut-off part of it is a ratio of
distances, so that nothing is lost to rounding if it runs along the pixels. There are no branches, so that the
compiler uses vector instructions: this takes less time than to look at the few pixels that an edge crosses.
All is float64.
"""

from __future__ import annotations

import numpy as np

from upramp.stages.core.kernel import kernel

BLOCK = 16
"""Quadrilaterals side by side; more leave more lanes idle where few span a third pixel."""


@kernel
def least_of(a, b, c, d):
    """The least of four."""
    a = b if b < a else a
    c = d if d < c else c
    return c if c < a else a


@kernel
def most_of(a, b, c, d):
    """The greatest of four."""
    a = b if b > a else a
    c = d if d > c else c
    return c if c > a else a


@kernel
def beneath(a):
    """How far a number lies below 0."""
    return -a if a < 0.0 else 0.0


@kernel
def share_of(a, b, whole):
    """The part of an edge that lies below 0: its ends lie ``a`` and ``b`` below, and ``whole`` apart."""
    return abs(a - b) / abs(whole) if whole != 0.0 else 1.0


@kernel
def edge(u0, v0, u1, v1):
    """Twice an edge's integrals of max(-u, 0) dv, of max(-v, 0) du, and of the former where v < 0."""
    du, dv = u1 - u0, v1 - v0
    left0, left1, low0, low1 = beneath(u0), beneath(u1), beneath(v0), beneath(v1)
    low = share_of(low0, low1, dv)
    a = u1 - low * du if v0 > 0.0 else u0
    b = u0 + low * du if v1 > 0.0 else u1
    cut0, cut1 = beneath(a), beneath(b)
    left = (left0 + left1) * share_of(left0, left1, du) * dv
    below = (low0 + low1) * low * du
    corner = (cut0 + cut1) * share_of(cut0, cut1, b - a) * (low0 - low1)
    return left, below, corner


@kernel
def place(before, here, after, half, corners, first, count):
    """Corners of input pixels along one axis of the output.

    Parameters
    ----------
    before, here, after : (BLOCK + 2) float64
        Positions of a row's pixels, from the one left of the first on, and of the rows beside.
    half : float
        Half the side of a (shrunk) pixel; between the pixels' centres positions are interpolated.
    corners : (4 BLOCK) float64
        Gets the four corners, once around, less the end of the first output pixel that they reach.
    first, count : (BLOCK) float64
        Get that pixel, and how many there are.
    """
    rest = 1.0 - half
    for k in range(BLOCK):
        left, middle, right = (
            rest * here[k] + half * before[k],
            rest * here[k + 1] + half * before[k + 1],
            rest * here[k + 2] + half * before[k + 2],
        )
        a, b = rest * middle + half * left, rest * middle + half * right
        left, middle, right = (
            rest * here[k] + half * after[k],
            rest * here[k + 1] + half * after[k + 1],
            rest * here[k + 2] + half * after[k + 2],
        )
        d, c = rest * middle + half * left, rest * middle + half * right
        pixel = np.floor(least_of(a, b, c, d) + 0.5)
        end = pixel + 0.5
        corners[k] = a - end
        corners[BLOCK + k] = b - end
        corners[2 * BLOCK + k] = c - end
        corners[3 * BLOCK + k] = d - end
        first[k] = pixel
        count[k] = np.ceil(most_of(a, b, c, d) - end) + 1.0


@kernel
def whole_areas(u, v, own):
    """Areas, negative if corners follow each other clockwise; ``u``, ``v``: corners, see `place`."""
    for k in range(BLOCK):
        own[k] = 0.5 * (
            (u[2 * BLOCK + k] - u[k]) * (v[3 * BLOCK + k] - v[BLOCK + k])
            - (u[3 * BLOCK + k] - u[BLOCK + k]) * (v[2 * BLOCK + k] - v[k])
        )


@kernel
def areas(u, v, i, j, left, below, corner):
    """Areas left of u = ``i``, below v = ``j``, and of both (float64), with the sign of the whole ones."""
    for k in range(BLOCK):
        ua, ub, uc, ud = u[k] - i, u[BLOCK + k] - i, u[2 * BLOCK + k] - i, u[3 * BLOCK + k] - i
        va, vb, vc, vd = v[k] - j, v[BLOCK + k] - j, v[2 * BLOCK + k] - j, v[3 * BLOCK + k] - j
        left0, below0, corner0 = edge(ua, va, ub, vb)
        left1, below1, corner1 = edge(ub, vb, uc, vc)
        left2, below2, corner2 = edge(uc, vc, ud, vd)
        left3, below3, corner3 = edge(ud, vd, ua, va)
        left[k] = -0.5 * (left0 + left1 + left2 + left3)
        below[k] = 0.5 * (below0 + below1 + below2 + below3)
        corner[k] = -0.5 * (corner0 + corner1 + corner2 + corner3)
