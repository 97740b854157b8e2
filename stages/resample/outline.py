"""The outline of images that lie on one grid: the union of their footprints, as far as the grid reaches.

Footprints are polygons of great circles, which are straight lines on the plane that touches the sky; so the
union is taken there. An edge of a footprint is cut where others meet it, and what lies within none of the
others is part of the outline. Holes are left out: S_REGION has no word for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

CLOSE = 1e-5
"""Pixels within which points are one."""


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])


def area(ring: np.ndarray) -> float:
    """Area of a polygon (n, 2), positive if its corners follow each other counterclockwise."""
    return float(_cross(ring, np.roll(ring, -1, axis=0)).sum() / 2)


def clipped(polygon: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The part of a convex polygon (n, 2), x first, that lies on the pixels of a grid (ny, nx)."""
    for axis, sign, limit in ((0, -1, 0.5), (0, 1, shape[1] - 0.5), (1, -1, 0.5), (1, 1, shape[0] - 0.5)):
        kept: list[np.ndarray] = []
        for point, before in zip(polygon, np.roll(polygon, 1, axis=0), strict=True):
            d, e = limit - sign * point[axis], limit - sign * before[axis]
            if (d >= 0) != (e >= 0):
                kept.append(before + e / (e - d) * (point - before))
            if d >= 0:
                kept.append(point)
        polygon = np.array(kept).reshape(-1, 2)
    return polygon


def _pieces(polygons: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Parts of edges that lie within no other polygon, each from its start to its end."""
    starts = np.concatenate(polygons)
    ways = np.concatenate([np.roll(p, -1, axis=0) - p for p in polygons])
    owner = np.repeat(np.arange(len(polygons)), [len(p) for p in polygons])
    lengths = np.hypot(*ways.T)
    found = []
    for a, way, own, length in zip(starts, ways, owner, lengths, strict=True):
        if length < CLOSE:
            continue
        others = owner != own
        across = _cross(way, ways)
        with np.errstate(divide="ignore", invalid="ignore"):
            t, u = _cross(starts - a, ways) / across, _cross(starts - a, way) / across
        slack = CLOSE / np.maximum(lengths, CLOSE)
        met = others & (np.abs(across) > CLOSE * CLOSE) & (u > -slack) & (u < 1 + slack)
        beside = others & (np.abs(_cross(way, starts - a)) < CLOSE * length)
        cuts = np.concatenate([t[met], (starts - a)[beside] @ way / length**2, [0.0, 1.0]])
        cuts = np.unique(cuts[(cuts >= 0) & (cuts <= 1)])
        for lo, hi in pairwise(cuts):
            if (hi - lo) * length < CLOSE:
                continue
            inside = _cross(ways, a + (lo + hi) / 2 * way - starts) / np.maximum(lengths, CLOSE)
            least = np.full(len(polygons), np.inf)
            np.minimum.at(least, owner, inside)
            touched = np.abs(inside) < CLOSE
            same, against = touched & (ways @ way > 0), touched & (ways @ way < 0)
            hidden = least > CLOSE
            hidden |= (least >= -CLOSE) & np.isin(np.arange(len(polygons)), owner[against])
            first = (least >= -CLOSE) & np.isin(np.arange(len(polygons)), owner[same])
            hidden[own], first[own] = False, False
            if not hidden.any() and not first[:own].any():
                found.append((a + lo * way, a + hi * way))
    return found


def union(polygons: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Outer rings (n, 2) around convex polygons, counterclockwise, the largest first."""
    turned = [p if area(p) > 0 else p[::-1] for p in polygons if len(p) > 2 and abs(area(p)) > CLOSE]
    if not turned:
        return []
    pieces = _pieces(turned)
    begins = np.array([a for a, _ in pieces]).reshape(-1, 2)
    left, rings = set(range(len(pieces))), []
    while left:
        k = min(left)
        ring = []
        while k in left:
            left.remove(k)
            ring.append(pieces[k][0])
            gaps = np.hypot(*(begins - pieces[k][1]).T)
            near = [n for n in np.flatnonzero(gaps < 10 * CLOSE) if n in left]
            if not near:
                break
            k = int(near[0])
        rings.append(_corners(np.array(ring)))
    return sorted((r for r in rings if area(r) > CLOSE), key=area, reverse=True)


def _corners(ring: np.ndarray) -> np.ndarray:
    """A ring without points amid its sides."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = np.abs(_cross(before, after)) > CLOSE * np.hypot(*before.T)
    return ring[turns]
