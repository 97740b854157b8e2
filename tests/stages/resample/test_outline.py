"""Outlines: by hand, and against counted pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.resample.outline import area, clipped, union


def box(x0, y0, x1, y1):
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)


def turned(x, y, side, angle):
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return box(-side, -side, side, side) @ np.array([[c, s], [-s, c]]) + (x, y)


def corners(ring):
    return {tuple(np.round(p, 6).tolist()) for p in ring}


def within(ring, x, y):
    """Even or odd number of crossings of a ray to the right."""
    odd = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        crossed = (ay > y) != (by > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            odd ^= crossed & (x < ax + (y - ay) / (by - ay) * (bx - ax))
    return odd


def test_two_that_overlap():
    [ring] = union([box(0, 0, 4, 4), box(2, 1, 6, 3)[::-1]])
    assert corners(ring) == {(0, 0), (4, 0), (4, 1), (6, 1), (6, 3), (4, 3), (4, 4), (0, 4)}
    assert area(ring) == pytest.approx(20)


@pytest.mark.parametrize(
    ("other", "wanted"),
    [
        (box(0, 0, 4, 4), {(0, 0), (4, 0), (4, 4), (0, 4)}),  # the same
        (box(1, 1, 2, 2), {(0, 0), (4, 0), (4, 4), (0, 4)}),  # within
        (box(4, 0, 8, 4), {(0, 0), (8, 0), (8, 4), (0, 4)}),  # side by side
        (box(2, 0, 8, 4), {(0, 0), (8, 0), (8, 4), (0, 4)}),  # along the same lines
        (box(1, 2, 3, 4), {(0, 0), (4, 0), (4, 4), (0, 4)}),  # within, up to a side
        (box(4, 1, 8, 3), {(0, 0), (4, 0), (4, 1), (8, 1), (8, 3), (4, 3), (4, 4), (0, 4)}),
    ],
)
def test_sides_in_common(other, wanted):
    for polygons in ([box(0, 0, 4, 4), other], [other, box(0, 0, 4, 4)]):
        [ring] = union(polygons)
        assert corners(ring) == wanted


def test_apart_and_around_a_hole():
    assert [area(r) for r in union([box(0, 0, 1, 1), box(5, 5, 7, 7)])] == [4, 1]
    frame = [box(0, 0, 6, 1), box(0, 5, 6, 6), box(0, 0, 1, 6), box(5, 0, 6, 6)]
    [ring] = union(frame)
    assert area(ring) == pytest.approx(36)
    assert union([]) == [] and union([box(0, 0, 0, 4)]) == []


def test_the_grid_cuts_corners_off():
    cut = clipped(turned(4.5, 4.5, 4, 45), (10, 10))
    assert len(cut) == 8 and cut.min() == -0.5 and cut.max() == 9.5
    assert area(cut) == pytest.approx(64 - 4 * (np.sqrt(32) - 5) ** 2)
    assert len(clipped(box(20, 20, 30, 30), (10, 10))) == 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1 << 20), n=st.integers(1, 7), angles=st.sampled_from(["any", "same", "square"]))
def test_against_counted_pixels(seed, n, angles):
    rng = np.random.default_rng(seed)
    one = rng.uniform(0, 90)
    polygons = []
    for _ in range(n):
        angle = {"any": rng.uniform(0, 90), "same": one, "square": 0.0}[angles]
        place = rng.integers(0, 40, 2) if angles == "square" else rng.uniform(0, 40, 2)
        polygons.append(clipped(turned(*place, rng.uniform(3, 12), angle), (40, 40)))
    rings = union(polygons)
    y, x = np.mgrid[-0.4:39.5:0.21, -0.4:39.5:0.21]
    wanted = np.zeros(x.shape, bool)
    for polygon in polygons:
        wanted |= within(polygon, x, y)
    found = np.zeros(x.shape, bool)
    for ring in rings:
        found |= within(ring, x, y)
    assert not (wanted & ~found).any()
    holes = found & ~wanted  # are within the outline
    assert n > 2 or not holes.any()
