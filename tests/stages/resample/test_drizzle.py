"""Square pixels on a grid: against clipped polygons, whatever the map; nothing is lost, bands do not
matter."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.resample.drizzle import beyond, drop, extent
from upramp.stages.resample.pixmap import pixmap
from upramp.stages.resample.spans import spans


def clipped_area(corners, x, y):
    """Area of a convex polygon within the pixel centred at (x, y), by cutting it with the pixel's four
    sides."""
    polygon = [np.array(c, float) for c in corners]
    for axis, limit, sign in ((0, x - 0.5, 1), (0, x + 0.5, -1), (1, y - 0.5, 1), (1, y + 0.5, -1)):
        kept = []
        for k, point in enumerate(polygon):
            before = polygon[k - 1]
            inside, was = sign * (point[axis] - limit) >= 0, sign * (before[axis] - limit) >= 0
            if inside != was:
                t = (limit - before[axis]) / (point[axis] - before[axis])
                kept.append(before + t * (point - before))
            if inside:
                kept.append(point)
        polygon = kept
        if not polygon:
            return 0.0
    a = np.array(polygon)
    return abs(np.sum(a[:, 0] * np.roll(a[:, 1], -1) - a[:, 1] * np.roll(a[:, 0], -1))) / 2


def naive(values, weight, transform, pixfrac, shape):
    sums = np.zeros((*shape, 1 + values.shape[-1]))
    half, counts = pixfrac / 2, spans(pixmap(transform, weight.shape), shape)
    for y, x in np.ndindex(weight.shape):
        if weight[y, x] <= 0 or not counts[y, 0] <= x < counts[y, 1]:
            continue
        corners = [
            transform(x + dx, y + dy)
            for dx, dy in ((-half, -half), (half, -half), (half, half), (-half, half))
        ]
        a = np.array(corners)
        own = abs(np.sum(a[:, 0] * np.roll(a[:, 1], -1) - a[:, 1] * np.roll(a[:, 0], -1))) / 2
        lo, hi = np.floor(a.min(axis=0)).astype(int), np.ceil(a.max(axis=0)).astype(int)
        for r in range(max(lo[1], 0), min(hi[1] + 1, shape[0])):
            for c in range(max(lo[0], 0), min(hi[0] + 1, shape[1])):
                share = clipped_area(corners, c, r) / own * weight[y, x]
                sums[r, c, 0] += share
                sums[r, c, 1:] += share * values[y, x]
    return sums


def drizzled(values, weight, transform, pixfrac, shape, bands=1, room=16):
    where = pixmap(transform, weight.shape)
    r0, r1, c0, c1 = extent(where, shape)
    out = np.zeros((*shape, 1 + values.shape[-1]), np.float32)
    edges = np.linspace(r0, r1, bands + 1).astype(int)
    left, counts = 0, spans(where, shape)
    for lo, hi in pairwise(edges):
        sums = np.zeros((hi - lo, c1 - c0, out.shape[2]), np.float32)
        dq, none = np.zeros(weight.shape, np.uint32), np.zeros((0, 0), np.uint32)
        left += drop(
            values, weight, dq, where.x, where.y, where.step, counts, pixfrac, lo, hi, c0, sums, none, room
        )
        out[lo:hi, c0:c1] = sums
    return out, left


def affine(scale, angle, parity, shift):
    c, s = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    return lambda x, y: (shift[0] + parity * (c * x - s * y), shift[1] + s * x + c * y)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1 << 20),
    scale=st.floats(0.4, 2.5),
    angle=st.sampled_from([0.0, 90.0, 180.0, -90.0]) | st.floats(-180, 180),
    parity=st.sampled_from([1, -1]),
    shift=st.tuples(st.floats(-3, 8), st.floats(-3, 8)),
    pixfrac=st.sampled_from([1.0, 0.6, 0.1]),
    bands=st.integers(1, 4),
)
def test_against_clipped_polygons(seed, scale, angle, parity, shift, pixfrac, bands):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(5, 6, 2)).astype(np.float32)
    weight = rng.choice(np.array([0, 0.5, 2], np.float32), (5, 6))
    transform = affine(scale, angle, parity, shift)
    found, left = drizzled(values, weight, transform, pixfrac, (9, 10), bands)
    wanted = naive(values, weight, transform, pixfrac, (9, 10))
    assert left == 0
    np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_nothing_is_lost_inside():
    rng = np.random.default_rng(5)
    values, weight = np.ones((20, 30, 1), np.float32), rng.uniform(0.5, 2, (20, 30)).astype(np.float32)
    found, _ = drizzled(values, weight, affine(1.3, 33, -1, (45.0, 5.0)), 1.0, (60, 70))
    assert found[..., 0].sum(dtype=float) == pytest.approx(weight.sum(dtype=float), rel=1e-6)


def test_bands_give_the_same_bits():
    rng = np.random.default_rng(6)
    values, weight = rng.normal(size=(40, 30, 3)).astype("f4"), rng.uniform(0.5, 2, (40, 30)).astype("f4")
    transform = affine(0.8, 12, 1, (10.0, 4.0))
    whole, _ = drizzled(values, weight, transform, 1.0, (45, 45))
    for bands in (2, 7):
        assert np.array_equal(drizzled(values, weight, transform, 1.0, (45, 45), bands)[0], whole)


def test_over_the_rim_a_pixel_is_lost_whole():
    """The centres of the first column and of the last row lie outside."""
    values, weight = np.ones((4, 4, 1), np.float32), np.ones((4, 4), np.float32)
    found, _ = drizzled(values, weight, lambda x, y: (x - 0.75, y + 0.75), 1.0, (4, 4))
    along_x, along_y = [0.75, 1, 1, 0.25], [0.25, 1, 1, 0.75]
    np.testing.assert_allclose(found[..., 0], np.outer(along_y, along_x), atol=1e-6)


def test_flags_of_what_adds():
    values, weight = np.ones((2, 2, 1), np.float32), np.array([[1, 1], [0, 1]], np.float32)
    dq = np.array([[1, 2], [4, 8]], np.uint32)
    where = pixmap(lambda x, y: (x + 1.25, y + 1.0), (2, 2))
    sums, flags = np.zeros((5, 5, 2), np.float32), np.zeros((5, 5), np.uint32)
    drop(
        values, weight, dq, where.x, where.y, where.step, spans(where, (5, 5)), 1.0, 0, 5, 0, sums, flags, 16
    )
    wanted = np.zeros((5, 5), np.uint32)
    wanted[1, 1:4], wanted[2, 2:4] = [1, 3, 2], [8, 8]
    assert np.array_equal(flags, wanted)


def test_what_spans_too_much_is_counted():
    values, weight = np.ones((2, 2, 1), np.float32), np.ones((2, 2), np.float32)
    _, left = drizzled(values, weight, affine(12, 0, 1, (10.0, 10.0)), 1.0, (40, 40), room=8)
    assert left == 4


@pytest.mark.parametrize(("first", "last"), [(True, False), (False, True), (False, False), (True, True)])
def test_beyond_the_border_straight_lines_go_on(first, last):
    rows = np.add.outer([0.0, 1.0, 4.0], 10.0 * np.array([0.0, 1.0, 4.0, 9.0, 16.0]))
    wanted = rows.copy()
    if first != last:
        wanted[0 if first else 2] = (-2.0 if first else 2.0) + 10 * np.array([0.0, 1.0, 4.0, 9.0, 16.0])
    wanted[:, 0], wanted[:, -1] = 2 * wanted[:, 1] - wanted[:, 2], 2 * wanted[:, -2] - wanted[:, -3]
    beyond(rows, first, last)
    np.testing.assert_array_equal(rows, wanted)


def test_an_image_one_pixel_wide_keeps_what_it_was_given():
    rows = np.array([[0.0, 1.0, 4.0]] * 3)
    beyond(rows, True, True)
    np.testing.assert_array_equal(rows, [[0.0, 1.0, 4.0]] * 3)
