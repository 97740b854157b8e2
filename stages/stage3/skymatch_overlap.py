"""Which pixels of an image lie where others look.

The footprint of an image is the polygon on the sphere of its corners, half a pixel beyond the centres of the
outermost pixels, or of more points along its sides; that of a group is the union of its images'. The pixels
in common with another footprint are those inside the intersection of the polygons, whose vertices are mapped
back to pixels and rounded. Source: JWST pipeline documentation, skymatch step (spherical polygons:
spherical_geometry). How vertices are rounded and sides are drawn, which decides on pixels at the rim,
was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from upramp.stages.core.kernel import kernel
from upramp.stages.wcs.evaluate import sky_to_pixel


@dataclass(frozen=True)
class Footprint:
    """A region on the sphere.

    Attributes
    ----------
    parts : tuple of ndarray (n, 3)
        Vertices of its images' polygons as unit vectors, counterclockwise as seen from outside the sphere.
    middle, radius
        A cap that holds it: unit vector, and radians.
    """

    parts: tuple[np.ndarray, ...]
    middle: np.ndarray
    radius: float

    def near(self, other: Footprint) -> bool:
        """Whether the caps touch; if not, the regions cannot overlap."""
        return float(self.middle @ other.middle) >= np.cos(min(self.radius + other.radius, np.pi))


def rim(shape: tuple[int, int], stepsize: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (x, y) once around an image; ``stepsize`` is the least distance of points."""
    ny, nx = shape
    along_x, along_y = (max(1, n // stepsize) if stepsize else 1 for n in (nx, ny))
    x, y = np.linspace(-0.5, nx - 0.5, along_x + 1), np.linspace(-0.5, ny - 0.5, along_y + 1)
    xs = np.concatenate([x[:-1], np.full(along_y, x[-1]), x[:0:-1], np.full(along_y, x[0])])
    ys = np.concatenate([np.full(along_x, y[0]), y[:-1], np.full(along_x, y[-1]), y[:0:-1]])
    return xs, ys


def footprint(wcs: Any, shape: tuple[int, int], stepsize: int | None = None) -> Footprint:
    """The footprint of an image."""
    ra, dec = wcs(*rim(shape, stepsize), with_bounding_box=False)
    a, d = np.radians(ra), np.radians(dec)
    points = np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)
    middle = points.mean(axis=0)
    turns = np.cross(points, np.roll(points, -1, axis=0)) @ middle
    return union([Footprint((points if turns.sum() > 0 else points[::-1],), middle, 0.0)])


def union(footprints: Sequence[Footprint]) -> Footprint:
    """The footprint of a group."""
    parts = tuple(part for f in footprints for part in f.parts)
    points = np.concatenate(parts)
    middle = points.mean(axis=0)
    middle /= np.linalg.norm(middle)
    radius = float(np.arccos(np.clip((points @ middle).min(), -1, 1)))
    return Footprint(parts, middle, radius * 1.001)


def convex(points: np.ndarray) -> bool:
    """Whether a polygon never turns clockwise."""
    following, next_one = np.roll(points, -1, axis=0), np.roll(points, -2, axis=0)
    return bool((np.einsum("ij,ij->i", np.cross(points, following), next_one) > 0).all())


def clip(points: np.ndarray, by: np.ndarray) -> np.ndarray:
    """What of a convex polygon lies within another one, both (n, 3) on the sphere; (0, 3) if nothing does."""
    for start, end in zip(by, np.roll(by, -1, axis=0), strict=True):
        height = points @ np.cross(start, end)
        kept = []
        for k in range(len(points)):
            here, there = height[k - 1], height[k]
            if (here >= 0) != (there >= 0):
                kept.append(points[k - 1] + here / (here - there) * (points[k] - points[k - 1]))
            if there >= 0:
                kept.append(points[k])
        if len(kept) < 3:
            return np.empty((0, 3))
        points = np.array(kept)
    return points


def _by_library(one: Footprint, other: Footprint) -> list[np.ndarray]:
    from spherical_geometry.polygon import MalformedPolygonError, SphericalPolygon

    try:
        polygons = [SphericalPolygon(np.concatenate([f.parts[0], f.parts[0][:1]])) for f in (one, other)]
        if len(other.parts) > 1:
            closed = [np.concatenate([p, p[:1]]) for p in other.parts]
            polygons[1] = SphericalPolygon.multi_union([SphericalPolygon(p) for p in closed])
        overlap = polygons[0].intersection(polygons[1])
    except MalformedPolygonError:  # they do no more than touch
        return []
    return [np.asarray(points) for points in overlap.points if len(points) >= 4]


def overlap(one: Footprint, other: Footprint) -> list[np.ndarray]:
    """The overlap of an image's footprint with another one, as polygons (n, 3) on the sphere."""
    if not one.near(other):
        return []
    [own] = one.parts
    if not convex(own) or not all(convex(part) for part in other.parts):
        return _by_library(one, other)
    # Parts that overlap each other mark a pixel twice, which does no harm.
    return [found for found in (clip(own, part) for part in other.parts) if len(found)]


def pixels_of(wcs: Any) -> Callable[[np.ndarray], np.ndarray]:
    """A function of polygons (n, 3) on the sphere that gives them in pixels (n, 2), 0-based."""
    try:
        place = sky_to_pixel(wcs)
    except NotImplementedError:  # there is no inverse but the one found by iteration
        place = partial(wcs.invert, with_bounding_box=False)

    def pixels(points: np.ndarray) -> np.ndarray:
        x, y, z = points.T
        ra, dec = np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))
        return np.stack(place(ra, dec), axis=1)

    return pixels


def corners(polygon: np.ndarray) -> np.ndarray:
    """Vertices (n, 2) rounded to pixels, int64, the first once more at the end.

    Those beyond the origin are rounded as distances from the outermost.
    """
    origin = np.minimum(polygon.min(axis=0), 0.0)
    rounded = (np.rint(polygon - origin) + np.rint(origin)).astype(np.int64)
    return np.concatenate([rounded, rounded[:1]])


@kernel
def fill(inside, vertices):
    """Mark the pixels within a polygon of whole vertices, which ends where it begins.

    ``inside`` (ny, nx) bool. On every line, sides are crossed in pairs; what lies between is inside, from
    the first pixel not left of the crossing on the left to the same at the right. A side's upper end counts
    on the polygon's last line alone, so that two sides that meet are crossed once.
    """
    ny, nx = inside.shape
    n = len(vertices) - 1
    first, last = vertices[:, 1].min(), vertices[:, 1].max()
    crossings = np.empty(n)
    for y in range(max(first, 0), min(last, ny - 1) + 1):
        m = 0
        for k in range(n):
            x0, y0 = vertices[k, 0], vertices[k, 1]
            x1, y1 = vertices[k + 1, 0], vertices[k + 1, 1]
            low, high = min(y0, y1), max(y0, y1)
            if low == high or y < low or y > high or (y == high and y != last):
                continue
            crossings[m] = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
            m += 1
        crossings[:m].sort()
        for k in range(0, m - 1, 2):
            left, right = int(np.ceil(crossings[k])), int(np.ceil(crossings[k + 1]))
            inside[y, max(left, 0) : min(right, nx - 1) + 1] = True
