"""Footprints on the sphere and pixels within polygons."""

from __future__ import annotations

import numpy as np
import pytest

from upramp.stages.stage3.skymatch_overlap import (
    clip,
    convex,
    corners,
    fill,
    footprint,
    overlap,
    pixels_of,
    rim,
    union,
)


def filled(shape, *vertices):
    inside = np.zeros(shape, bool)
    fill(inside, corners(np.array(vertices, float)))
    return inside


def test_a_triangle_by_hand():
    expected = [
        (0, 0), (1, 2), (1, 4), (2, 6), (2, 8), (2, 7), (3, 6), (3, 5), (3, 3),
    ]  # fmt: skip
    inside = filled((10, 10), (0, 0), (8, 4), (3, 8))
    for row, (first, last) in zip(inside, expected, strict=False):
        assert np.flatnonzero(row).tolist() == list(range(first, last + 1))
    assert not inside[9].any()


@pytest.mark.parametrize(
    ("lo", "hi", "first", "last"),
    [
        (1.2, 6.2, 1, 6),
        (1.7, 6.7, 2, 7),
        (1.5, 6.5, 2, 6),
        (-0.5, 6.5, 0, 7),
        (-0.6, 6.5, 0, 6),
        (-4, 20, 0, 8),
    ],
)
def test_rectangles(lo, hi, first, last):
    inside = filled((9, 9), (lo, lo), (hi, lo), (hi, hi), (lo, hi))
    expected = np.zeros((9, 9), bool)
    expected[first : last + 1, first : last + 1] = True
    np.testing.assert_array_equal(inside, expected)


def test_many_polygons_as_drawn_by_the_library():
    from gwcs.region import Polygon

    rng, off = np.random.default_rng(0), 0
    for _ in range(80):
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 8)))
        ring = rng.uniform(0, 50, 2) + rng.uniform(5, 40) * np.stack([np.cos(angles), np.sin(angles)], 1)
        ring = np.clip(ring, -0.5, 49.5)
        ring = ring[np.abs(ring - np.roll(ring, 1, axis=0)).sum(axis=1) > 0]
        if len(ring) < 3 or np.ptp(ring, axis=0).min() < 1:
            continue
        expected = Polygon(1, np.concatenate([ring, ring[:1]])).scan(np.zeros((50, 50), int))
        off += int((filled((50, 50), *ring) != (expected > 0)).sum())
    # where a side meets a pixel's centre exactly, rounding decides
    assert off <= 1


def test_the_rim():
    x, y = rim((8, 13), None)
    assert list(zip(x, y, strict=True)) == [(-0.5, -0.5), (12.5, -0.5), (12.5, 7.5), (-0.5, 7.5)]
    x, y = rim((8, 13), 3)
    assert len(x) == 2 * (13 // 3) + 2 * (8 // 3)
    assert {-0.5, 2.75, 6.0, 9.25, 12.5} == set(x.tolist()) and {-0.5, 3.5, 7.5} == set(y.tolist())


def test_an_image_overlaps_with_a_shifted_one(pointed):
    one, other = pointed(roll=0.0), pointed(dx=0.063 * 10, roll=0.0)
    prints = [footprint(w, (64, 64)) for w in (one, other)]
    [found] = overlap(*prints)
    x, y = pixels_of(one)(found).T
    assert len(found) >= 4 and np.ptp(x) == pytest.approx(54.0, abs=0.1)
    assert (y.min(), y.max()) == pytest.approx((-0.5, 63.5), abs=0.5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-7)


def test_far_images_have_nothing_in_common(pointed):
    prints = [footprint(pointed(dx), (64, 64)) for dx in (0.0, 60.0)]
    assert not prints[0].near(prints[1]) and overlap(*prints) == []


def test_an_image_overlaps_with_itself_entirely(pointed):
    own = footprint(pointed(), (64, 64))
    [found] = overlap(own, own)
    x, y = pixels_of(pointed())(found).T
    assert (x.min(), x.max(), y.min(), y.max()) == pytest.approx((-0.5, 63.5, -0.5, 63.5), abs=0.05)


def test_groups_overlap_part_by_part(pointed):
    pair = union([footprint(pointed(dx), (64, 64)) for dx in (-3.0, 3.0)])
    assert len(overlap(footprint(pointed(), (64, 64)), pair)) == 2


def test_a_rim_of_many_points_is_left_to_the_library(pointed):
    prints = [footprint(pointed(dx), (64, 64), 8) for dx in (0.0, 1.0)]
    assert not convex(prints[0].parts[0])
    [found] = overlap(*prints)
    [plain] = overlap(*(footprint(pointed(dx), (64, 64)) for dx in (0.0, 1.0)))
    for axis in range(2):
        extent, expected = (pixels_of(pointed())(p)[:, axis] for p in (found, plain))
        assert extent.min() == pytest.approx(expected.min(), abs=0.7)
        assert extent.max() == pytest.approx(expected.max(), abs=0.7)


def test_clipping_by_hand():
    square = np.array([[0, 0, 1], [0.1, 0, 1], [0.1, 0.1, 1], [0, 0.1, 1]], float)
    shifted = square + np.array([0.05, 0.05, 0])
    found = {tuple(np.round(p / p[2], 9)) for p in clip(square, shifted)}
    assert found == {(0.05, 0.05, 1.0), (0.1, 0.05, 1.0), (0.1, 0.1, 1.0), (0.05, 0.1, 1.0)}
    assert len(clip(square, square + np.array([1, 0, 0]))) == 0
