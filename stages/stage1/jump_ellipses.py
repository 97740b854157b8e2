"""Regions of pixels that hang together, and the ellipses that stand for them: snowballs and showers.

A region is what hangs together by sides or corners. It counts if it is large enough with its holes filled
(what cannot be reached from outside by sides or corners). Its ellipse has the second moments of the region
(without what was filled): the full axes are

    4 sqrt(eigenvalues of the moments) - 1

and are made longer by a factor, both by as many pixels as the minor axis gains.

Source: moments, orientation and the pixels of a turned ellipse as scikit-image has them, down to the last
bit, since a circle's pixels on its very edge depend on that. What counts as large, the axes and their growth
were measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from upramp.stages.core.kernel import kernel


@dataclass(frozen=True)
class Ellipse:
    """Centre and full axes in pixels; the angle from the rows' axis to the major one, degrees."""

    x: float
    y: float
    minor: float
    major: float
    angle: float

    def half_axes(self, factor: float, limit: float) -> tuple[int, int]:
        """Minor and major half axis, pixels, with both longer by what the smaller gains by ``factor``."""
        more = (factor - 1) * min(self.minor, self.major) / 2
        minor, major = (int(min(round(axis / 2 + more), limit)) for axis in (self.minor, self.major))
        return minor, major

    def pixels(self, factor: float, limit: float, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns (int64) within an image of ``shape`` that the longer ellipse covers.

        Its centre is the nearest pixel; what lies on the edge does not belong to it.
        """
        from skimage.draw import ellipse  # only few exposures need it

        minor, major = self.half_axes(factor, limit)
        if minor == 0 or major == 0:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        reach = max(minor, major) + 2
        size = 2 * reach + 1
        rows, columns = ellipse(
            reach, reach, major, minor, shape=(size, size), rotation=np.radians(self.angle)
        )
        rows, columns = rows + (round(self.y) - reach), columns + (round(self.x) - reach)
        inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
        return rows[inside], columns[inside]


@kernel
def find_regions(image, least, queue):
    """Regions of ``image`` (uint8; left all 0) whose area with holes filled is at least ``least``.

    ``queue`` (int64) must hold as many elements as pixels are set; afterwards it holds the pixels (flat
    indices) of one region after the other. Returns an array (regions, 6): where a region begins and ends in
    ``queue``, its first row, the row past its last, and the same of columns.
    """
    ny, nx = image.shape
    flat = image.reshape(ny * nx)
    found = np.empty((16, 6), np.int64)
    k = end = 0
    for seed in range(ny * nx):
        if flat[seed] == 0:
            continue
        start = end
        flat[seed] = 0
        queue[end] = seed
        end += 1
        y0 = y1 = seed // nx
        x0 = x1 = seed % nx
        done = start
        while done < end:
            y, x = queue[done] // nx, queue[done] % nx
            done += 1
            y1, x0, x1 = max(y1, y), min(x0, x), max(x1, x)
            for v in range(max(y - 1, 0), min(y + 2, ny)):
                for u in range(max(x - 1, 0), min(x + 2, nx)):
                    if flat[v * nx + u]:
                        flat[v * nx + u] = 0
                        queue[end] = v * nx + u
                        end += 1
        if end - start < least:
            rows, columns = y1 - y0 + 1, x1 - x0 + 1
            if rows * columns < least or filled_area(queue[start:end], nx, y0, rows, x0, columns) < least:
                continue
        if k == len(found):
            more = np.empty((2 * k, 6), np.int64)
            more[:k] = found
            found = more
        found[k] = start, end, y0, y1 + 1, x0, x1 + 1
        k += 1
    return found[:k]


@kernel
def filled_area(pixels, nx, y0, rows, x0, columns):
    """Area of a region with its holes; ``pixels`` are flat indices of an image of ``nx`` columns."""
    ny, wide = rows + 2, columns + 2  # with a rim that is outside
    free = np.ones(ny * wide, np.bool_)
    for p in pixels:
        free[(p // nx - y0 + 1) * wide + p % nx - x0 + 1] = False
    queue = np.empty(ny * wide, np.int64)
    queue[0], end, done = 0, 1, 0
    free[0] = False
    while done < end:
        y, x = queue[done] // wide, queue[done] % wide
        done += 1
        for v in range(max(y - 1, 0), min(y + 2, ny)):
            for u in range(max(x - 1, 0), min(x + 2, wide)):
                if free[v * wide + u]:
                    free[v * wide + u] = False
                    queue[end] = v * wide + u
                    end += 1
    return ny * wide - end


def find(image: np.ndarray, least: float) -> list[Ellipse]:
    """The ellipses of the regions of ``image`` (ny, nx; what is not 0) of at least ``least`` pixels."""
    own = np.ascontiguousarray(image != 0).view(np.uint8).copy()
    queue = np.empty(np.count_nonzero(own), np.int64)
    found = []
    for start, end, y0, y1, x0, x1 in find_regions(own, float(least), queue).tolist():
        region = np.zeros((y1 - y0, x1 - x0), np.uint8)
        region[queue[start:end] // image.shape[1] - y0, queue[start:end] % image.shape[1] - x0] = 1
        found.append(_ellipse(region, y0, x0))
    return found


def _ellipse(region: np.ndarray, y0: int, x0: int) -> Ellipse:
    from skimage.measure import inertia_tensor, inertia_tensor_eigvals, moments, moments_central

    raw = moments(region, order=3)
    centre = np.array([raw[1, 0] / raw[0, 0], raw[0, 1] / raw[0, 0]])
    tensor = inertia_tensor(region, mu=moments_central(region, centre, order=3))
    major, minor = (4 * np.sqrt(value) - 1 for value in inertia_tensor_eigvals(region, T=tensor))
    across = tensor[0, 0] - tensor[1, 1]
    if across == 0:
        angle = 45.0 if tensor[0, 1] < 0 else -45.0
    else:
        angle = math.degrees(0.5 * math.atan2(-2 * tensor[0, 1], -across))
    rows, columns = np.nonzero(region)
    return Ellipse(float((x0 + columns).mean()), float((y0 + rows).mean()), float(minor), float(major), angle)
