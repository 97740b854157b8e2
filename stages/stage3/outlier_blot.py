"""outlier_detection: the median as each image would see it, and pixels that differ.

**Blot.** The median is interpolated linearly, in both directions, where the centres of an image's pixels lie
on the grid. Beyond the centres of its last row and column it goes on as it is there; centres before the first
see nothing, nor do those next to a pixel that is NaN.

**Outliers.** With the image d, its standard error e, the blotted median m (plus the sky that d has) and D,
the largest absolute difference of m from its four neighbours, a pixel is one if

    |d - m| > scale D + snr e

with the second pair of (snr, scale), and with the first pair at the pixel itself or one of its eight
neighbours. An error that is NaN counts as 0. Source: JWST pipeline documentation, outlier_detection step; the
interpolation, and what NaN does, were measured.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from upramp.stages.core.frames import Crew
from upramp.stages.core.kernel import kernel
from upramp.stages.resample.pixmap import Pixmap, row_of

CHUNKS = 4
"""Chunks of rows for each thread."""


@kernel
def at(image, x, y):
    """The image at a place, float32; NaN outside."""
    ny, nx = image.shape
    if not (0 <= x < nx and 0 <= y < ny):
        return np.float32(np.nan)
    i, j = int(x), int(y)
    right, up = min(i + 1, nx - 1), min(j + 1, ny - 1)
    u, v = np.float32(x - i), np.float32(y - j)
    left_u, low_v = np.float32(1) - u, np.float32(1) - v
    low = left_u * image[j, i] + u * image[j, right]
    high = left_u * image[up, i] + u * image[up, right]
    return low_v * low + v * high


@kernel
def blot_rows(image, map_x, map_y, step, lo, out):
    """Interpolate an image at the centres of pixels of rows from ``lo`` on; see `Pixmap`; ``out`` float32."""
    nx = out.shape[1]
    x, y = np.empty(nx + 2), np.empty(nx + 2)
    for r in range(out.shape[0]):
        row_of(map_x, step, lo + r, x)
        row_of(map_y, step, lo + r, y)
        for c in range(nx):
            out[r, c] = at(image, x[c + 1], y[c + 1])


@kernel
def steepness(m, r, c):
    """Largest absolute difference of a pixel from its four neighbours, as far as these are not NaN."""
    here, most = m[r, c], np.float32(0)
    if r > 0:
        most = max(most, difference(here, m[r - 1, c]))
    if r < m.shape[0] - 1:
        most = max(most, difference(here, m[r + 1, c]))
    if c > 0:
        most = max(most, difference(here, m[r, c - 1]))
    if c < m.shape[1] - 1:
        most = max(most, difference(here, m[r, c + 1]))
    return most


@kernel
def difference(a, b):
    """Absolute difference; 0 if it is NaN."""
    d = abs(a - b)
    return d if d > 0 else np.float32(0)


@kernel
def differs(sci, err, m, sky, snr, scale, r, c):
    """Whether a pixel differs from the median by more than the limit."""
    e = err[r, c]
    noise = np.float32(0) if np.isnan(e) else snr * e
    off = abs(sci[r, c] - (m[r, c] + sky))
    return off > noise and off > scale * steepness(m, r, c) + noise


@kernel
def first_pass(sci, err, m, sky, snr, scale, lo, hi, found):
    """Pixels of rows lo to hi that differ; ``found`` (ny, nx) bool."""
    for r in range(lo, hi):
        for c in range(sci.shape[1]):
            found[r, c] = differs(sci, err, m, sky, snr, scale, r, c)


@kernel
def second_pass(sci, err, m, sky, snr, scale, first, lo, hi, found):
    """Pixels of rows lo to hi that differ and are, or touch, one of ``first``; ``found`` is false there."""
    ny, nx = sci.shape
    for r in range(max(lo - 1, 0), min(hi + 1, ny)):
        for c in range(nx):
            if not first[r, c]:
                continue
            for i in range(max(r - 1, lo), min(r + 2, hi)):
                for j in range(max(c - 1, 0), min(c + 2, nx)):
                    if not found[i, j]:
                        found[i, j] = differs(sci, err, m, sky, snr, scale, i, j)


@kernel
def compare_rows(sci, err, m, snr, lo, hi, found):
    """Pixels of rows lo to hi that differ by more than ``snr`` errors, whatever the neighbours."""
    for r in range(lo, hi):
        for c in range(sci.shape[1]):
            e = err[r, c]
            found[r, c] = abs(sci[r, c] - m[r, c]) > (np.float32(0) if np.isnan(e) else snr * e)


def chunks(rows: int, crew: Crew) -> list[tuple[int, int]]:
    """First and end rows of parts of an image, for all threads."""
    edges = np.linspace(0, rows, CHUNKS * crew.threads + 1).astype(int)
    return [(int(a), int(b)) for a, b in pairwise(edges) if b > a]


def blot(image: np.ndarray, where: Pixmap, crew: Crew) -> np.ndarray:
    """An image (float32) interpolated at the pixels of another, which ``where`` tells; NaN outside."""
    out = np.empty(where.shape, np.float32)
    crew.each(
        lambda part: blot_rows(image, where.x, where.y, where.step, part[0], out[part[0] : part[1]]),
        chunks(len(out), crew),
    )
    return out


def outliers(
    sci: np.ndarray,
    err: np.ndarray,
    blotted: np.ndarray,
    sky: float,
    snr: tuple[float, float],
    scale: tuple[float, float],
    crew: Crew,
) -> np.ndarray:
    """Pixels that differ from the blotted median: bool (ny, nx).

    Parameters
    ----------
    sci, err, blotted : ndarray, float32 (ny, nx)
    sky : float
        Level that ``sci`` has and ``blotted`` has not.
    snr, scale : tuple of float
        Limits of the first and of the second pass.
    """
    first, found = np.empty(sci.shape, np.bool_), np.zeros(sci.shape, np.bool_)
    same = (sci, err, blotted, np.float32(sky))
    one, two = zip(snr, scale, strict=True)
    parts = chunks(len(sci), crew)
    limits = [(np.float32(a), np.float32(b)) for a, b in (one, two)]
    crew.each(lambda part: first_pass(*same, *limits[0], *part, first), parts)
    crew.each(lambda part: second_pass(*same, *limits[1], first, *part, found), parts)
    return found


def unlike(sci: np.ndarray, err: np.ndarray, middle: np.ndarray, snr: float, crew: Crew) -> np.ndarray:
    """Pixels that differ from the median of images that lie on each other: bool (ny, nx)."""
    found = np.empty(sci.shape, np.bool_)
    crew.each(
        lambda part: compare_rows(sci, err, middle, np.float32(snr), *part, found), chunks(len(sci), crew)
    )
    return found
