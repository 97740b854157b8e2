"""The smooth background of an image: clipped medians of boxes, joined by splines.

A box counts if more than nine tenths of its pixels are left after clipping at three standard deviations; the
others get the mean of their ten nearest, weighted by 1 / distance. The mesh of boxes is smoothed by a running
median of 5 x 5, and drawn out by cubic splines through the boxes' middles, within the range of the mesh.

Source: the photutils package (Background2D), whose results these are.
"""

from __future__ import annotations

import numpy as np

from upramp.stages.core.kernel import kernel
from upramp.stages.core.statistics import median
from upramp.stages.stage1.flicker_clip import clipped, collect_all, sort

LARGEST_BOX = 32
GOOD = 0.9
NEIGHBOURS = 10
REACH = 2


@kernel
def box_medians(image, rows, columns, mesh):
    """Clipped medians of boxes of ``rows`` x ``columns`` pixels, float32; NaN where a box does not count.

    ``image`` float32, in which NaN does not count; boxes at the upper ends may be cut short.
    """
    values, spare = np.empty(rows * columns, np.float32), np.empty(rows * columns, np.float32)
    for by in range(mesh.shape[0]):
        for bx in range(mesh.shape[1]):
            box = image[by * rows : (by + 1) * rows, bx * columns : (bx + 1) * columns]
            n = collect_all(box, values)
            sort(values, spare, n)
            centre, _, _, left = clipped(values, 0, n)
            mesh[by, bx] = centre if left > GOOD * (rows * columns) else np.nan


@kernel
def smooth(mesh, out):
    """Running median of 5 x 5, cut short at the edges; both float32."""
    ny, nx = mesh.shape
    values = np.empty((2 * REACH + 1) ** 2, np.float32)
    for y in range(ny):
        for x in range(nx):
            n = 0
            for v in range(max(0, y - REACH), min(ny, y + REACH + 1)):
                for u in range(max(0, x - REACH), min(nx, x + REACH + 1)):
                    values[n] = mesh[v, u]
                    n += 1
            out[y, x] = median(values, n)


@kernel
def draw_out(coefficients, places_y, weights_y, places_x, weights_x, low, high, out):
    """Evaluate splines: four ``weights`` on ``coefficients`` (float64) at ``places``, for rows and columns.

    ``out`` (ny, nx) float32 is kept within ``low`` and ``high``.
    """
    line = np.empty(coefficients.shape[1])
    for y in range(out.shape[0]):
        line[:] = 0
        for k in range(4):
            row, w = coefficients[places_y[y, k]], weights_y[y, k]
            for c in range(line.size):
                line[c] += w * row[c]
        target = out[y]
        for x in range(out.shape[1]):
            p, w = places_x[x], weights_x[x]
            v = np.float32(w[0] * line[p[0]] + w[1] * line[p[1]] + w[2] * line[p[2]] + w[3] * line[p[3]])
            target[x] = min(max(v, low), high)


def taps(length: int, box: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each of ``length`` pixels the four boxes (of ``number``) around it, and their splines' weights.

    Beyond the ends the mesh is mirrored.
    """
    t = (np.arange(length) + 0.5) / box - 0.5
    first = np.floor(t).astype(np.int64)
    f = (t - first)[:, None]
    weights = np.concatenate(
        [(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3], axis=1
    )
    places = (first[:, None] + np.arange(-1, 3)) % (2 * number)
    return np.where(places < number, places, 2 * number - 1 - places), weights / 6


def fill_holes(mesh: np.ndarray) -> None:
    """Give boxes that do not count (NaN) the mean of their nearest, in place."""
    from scipy.spatial import cKDTree  # slow to import, and few exposures need it

    good = ~np.isnan(mesh)
    if good.all():
        return
    values = mesh[good]
    distances, nearest = cKDTree(np.argwhere(good), leafsize=10).query(np.argwhere(~good), NEIGHBOURS)
    there = np.isfinite(distances)
    weights = np.where(there, 1 / distances, 0)
    found = values[np.where(there, nearest, 0)]
    mesh[~good] = np.sum(weights * found, axis=1) / weights.sum(axis=1)


def largest_box(length: int) -> int:
    """The largest box that divides an axis evenly."""
    return max(n for n in range(1, LARGEST_BOX + 1) if length % n == 0)


def model(image: np.ndarray, box_size: tuple[int, int] | None = None) -> np.ndarray | None:
    """The smooth background of an image.

    Parameters
    ----------
    image : ndarray, float32, shape (ny, nx)
        NaN does not count.
    box_size : tuple of int
        Rows and columns of a box; by default the largest up to 32 that divide the image evenly.

    Returns
    -------
    ndarray, float32, or None
        None if no box counts.
    """
    from scipy.ndimage import spline_filter  # slow to import, and few exposures need it

    ny, nx = image.shape
    rows, columns = box_size or (largest_box(ny), largest_box(nx))
    rows, columns = min(rows, ny), min(columns, nx)
    mesh = np.empty((-(-ny // rows), -(-nx // columns)), np.float32)
    box_medians(image, rows, columns, mesh)
    if np.isnan(mesh).all():
        return None
    fill_holes(mesh)
    smoothed = np.empty_like(mesh)
    smooth(mesh, smoothed)
    coefficients = spline_filter(smoothed, 3, np.float64, mode="reflect")
    out = np.empty((ny, nx), np.float32)
    draw_out(
        coefficients, *taps(ny, rows, len(mesh)), *taps(nx, columns, mesh.shape[1]),
        smoothed.min(), smoothed.max(), out,
    )  # fmt: skip
    return out
