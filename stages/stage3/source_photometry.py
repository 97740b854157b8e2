"""Sums in circles, levels of rings, and DAOFIND's measures of shape, at given places of an image.

    flux = sum_p a_p (v_p - b)        error^2 = sum_p a_p e_p^2        b: level of the ring

a_p is the part of pixel p within the circle. b is the median of those pixels whose centres lie in the ring,
without outliers; its error is sqrt(pi / 2) times their standard deviation over the root of their number.
With D the image convolved with DAOFIND's kernel, at the pixel of a source

    sharpness = (v_0 - mean of the other v in the kernel's mask) / D_0
    roundness = 2 (sum of D with the signs of four quadrants) / sum |D|

Source: Stetson 1987, PASP 99, 191; photutils (Bradley et al.), whose results these are: there each source
takes a millisecond. Values are float32, sums float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.frames import Crew
from upramp.stages.core.kernel import kernel

CLIP_SIGMA, CLIP_ROUNDS = 3.0, 5
DAO_REACH = 1.5
"""Where DAOFIND's Gaussian ends, sigma."""

PIECE = 64
"""Sources that a thread takes at a time."""


@kernel
def _corner(x, y, r):
    """Area of a circle about 0 in the rectangle from 0 to (x, y), negative where one of them is."""
    a, b = abs(x), abs(y)
    sign = 1.0 if (x < 0) == (y < 0) else -1.0
    if a * a + b * b <= r * r:
        return sign * a * b
    a, b = min(a, r), min(b, r)
    if a * a + b * b <= r * r:
        return sign * a * b
    c = np.sqrt(r * r - b * b)
    upper = a * np.sqrt(r * r - a * a) + r * r * np.arcsin(a / r)
    lower = c * b + r * r * np.arcsin(c / r)
    return sign * (b * c + 0.5 * (upper - lower))


@kernel
def overlap(x, y, r):
    """The part of the pixel about (x, y) that lies in a circle of radius r about 0."""
    nearest = np.hypot(max(abs(x) - 0.5, 0.0), max(abs(y) - 0.5, 0.0))
    if nearest >= r:
        return 0.0
    if np.hypot(abs(x) + 0.5, abs(y) + 0.5) <= r:
        return 1.0
    left, right, low, high = x - 0.5, x + 0.5, y - 0.5, y + 0.5
    return _corner(right, high, r) - _corner(left, high, r) - _corner(right, low, r) + _corner(left, low, r)


@kernel
def circle_sum(values, errors, x0, y0, r):
    """Sum, and root of the sum of squared errors, in a circle; pixels beyond the image do not count.

    Of both NaN pixels are left out.
    """
    ny, nx = values.shape
    total, square = 0.0, 0.0
    for y in range(max(0, int(np.floor(y0 - r + 0.5))), min(ny, int(np.floor(y0 + r + 0.5)) + 1)):
        for x in range(max(0, int(np.floor(x0 - r + 0.5))), min(nx, int(np.floor(x0 + r + 0.5)) + 1)):
            part = overlap(x - x0, y - y0, r)
            v, e = np.float64(values[y, x]), np.float64(errors[y, x])
            if part > 0:
                total += part * v
                square += part * e * e
    return total, np.sqrt(square)


@kernel
def _clipped(ring):
    """Median of sorted values without outliers, its error, and how many are left."""
    lo, hi = 0, ring.size
    for _ in range(CLIP_ROUNDS):
        n = hi - lo
        middle = 0.5 * (ring[lo + (n - 1) // 2] + ring[lo + n // 2])
        spread = ring[lo:hi].std()
        first, last = lo, hi
        while lo < hi and ring[lo] < middle - CLIP_SIGMA * spread:
            lo += 1
        while hi > lo and ring[hi - 1] > middle + CLIP_SIGMA * spread:
            hi -= 1
        if (lo == first and hi == last) or lo == hi:
            break
    n = hi - lo
    if n == 0:
        return np.nan, np.nan
    middle = 0.5 * (ring[lo + (n - 1) // 2] + ring[lo + n // 2])
    return middle, np.sqrt(np.pi / 2) * ring[lo:hi].std() / np.sqrt(n)


@kernel
def ring_level(values, x0, y0, inner, outer, room):
    """Median of a ring without outliers, and its error; NaN if there is no pixel. ``room`` float64."""
    ny, nx = values.shape
    n = 0
    for y in range(max(0, int(np.ceil(y0 - outer))), min(ny, int(np.floor(y0 + outer)) + 1)):
        for x in range(max(0, int(np.ceil(x0 - outer))), min(nx, int(np.floor(x0 + outer)) + 1)):
            d = np.sqrt((x - x0) * (x - x0) + (y - y0) * (y - y0))
            if d < outer and d >= inner and np.isfinite(values[y, x]):
                room[n] = values[y, x]
                n += 1
    if n == 0:
        return np.nan, np.nan
    return _clipped(np.sort(room[:n]))


@kernel
def _shape_at(values, x0, y0, weights, footprint):
    """DAOFIND's sharpness and roundness at a pixel; beyond the image is 0."""
    ny, nx = values.shape
    h, w = weights.shape[0] // 2, weights.shape[1] // 2
    peak, centre, others, inside = 0.0, 0.0, 0.0, 0
    signed, absolute = 0.0, 0.0
    for i in range(-h, h + 1):
        for j in range(-w, w + 1):
            y, x = y0 + i, x0 + j
            v, convolved = 0.0, 0.0
            if 0 <= y < ny and 0 <= x < nx:
                v = np.float64(values[y, x])
                for k in range(-h, h + 1):
                    for m in range(-w, w + 1):
                        c = weights[h + k, w + m]
                        if c != 0 and 0 <= y + k < ny and 0 <= x + m < nx:
                            convolved += c * np.float64(values[y + k, x + m])
            convolved = np.float64(np.float32(convolved))
            if footprint[h + i, w + j]:
                others += v
                inside += 1
            if i == 0 and j == 0:
                peak, centre = convolved, v
                continue
            falls = (j > 0 and i <= 0) or (j < 0 and i >= 0)
            signed += -convolved if falls else convolved
            absolute += abs(convolved)
    if inside < 2:
        return np.nan, np.nan
    return (centre - (others - centre) / (inside - 1)) / peak, 2.0 * signed / absolute


@kernel
def measure(values, errors, places, radii, ring, weights, footprint, out):
    """Fill ``out`` (n, 2 m + 4) for n places (x, y) and m radii: sums, errors, level, its error, shape."""
    m = radii.size
    side = int(2 * ring[1]) + 3
    room = np.empty(side * side)
    for k in range(places.shape[0]):
        x, y = places[k]
        if not (np.isfinite(x) and np.isfinite(y)):
            out[k] = np.nan
            continue
        for a in range(m):
            out[k, a], out[k, m + a] = circle_sum(values, errors, x, y, radii[a])
        out[k, 2 * m], out[k, 2 * m + 1] = ring_level(values, x, y, ring[0], ring[1], room)
        out[k, 2 * m + 2], out[k, 2 * m + 3] = _shape_at(
            values, int(np.rint(x)), int(np.rint(y)), weights, footprint
        )


@dataclass(frozen=True)
class Measured:
    """What stands at n places, for m radii.

    ``sums``, ``errors`` (n, m) without the level taken off; ``level``, ``level_error`` of the ring (n),
    ``sharpness``, ``roundness`` (n).
    """

    sums: np.ndarray
    errors: np.ndarray
    level: np.ndarray
    level_error: np.ndarray
    sharpness: np.ndarray
    roundness: np.ndarray


def dao_kernel(fwhm: float) -> tuple[np.ndarray, np.ndarray]:
    """DAOFIND's kernel for stars of a width, pixels, which sums to 0, and its mask."""
    sigma = fwhm / (2.0 * np.sqrt(2.0 * np.log(2.0)))
    half = max(2, int(DAO_REACH * sigma))
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    square = x * x + y * y
    footprint = (square <= (DAO_REACH * sigma) ** 2) | (square <= 4)
    gauss = np.exp(-square / (2 * sigma * sigma)) * footprint
    n = footprint.sum()
    variance = (gauss**2).sum() - gauss.sum() ** 2 / n
    return (gauss - gauss.sum() / n) / variance * footprint, footprint


def photometry(
    values: np.ndarray,
    errors: np.ndarray,
    places: np.ndarray,
    radii: np.ndarray,
    ring: tuple[float, float],
    fwhm: float,
    crew: Crew,
) -> Measured:
    """Measure at places.

    Parameters
    ----------
    values, errors : ndarray, float32 (ny, nx)
        The image, its sky not taken off.
    places : ndarray (n, 2)
        x, y from 0.
    radii : ndarray (m,)
        Of the circles, pixels.
    ring : tuple of float
        Radii of the ring.
    fwhm : float
        Width of a star, pixels.
    crew : Crew
    """
    n, m = len(places), len(radii)
    weights, footprint = dao_kernel(fwhm)
    out = np.empty((n, 2 * m + 4))
    wide, edges = np.asarray(radii, float), np.array(ring, float)

    def work(lo: int) -> None:
        part = slice(lo, min(n, lo + PIECE))
        measure(values, errors, places[part], wide, edges, weights, footprint, out[part])

    crew.each(work, range(0, n, PIECE))
    level, level_error, sharpness, roundness = out[:, 2 * m :].T
    return Measured(out[:, :m], out[:, m : 2 * m], level, level_error, sharpness, roundness)
