"""Areas left of and below lines, against polygons cut by them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.resample.overlap import BLOCK, areas, place, whole_areas


def cut(polygon, axis, limit):
    """The part of a polygon where a coordinate is below a limit."""
    kept = []
    for k, point in enumerate(polygon):
        before = polygon[k - 1]
        inside, was = point[axis] <= limit, before[axis] <= limit
        if inside != was:
            kept.append(before + (limit - before[axis]) / (point[axis] - before[axis]) * (point - before))
        if inside:
            kept.append(point)
    return kept


def area(polygon):
    if not len(polygon):
        return 0.0
    x, y = np.array(polygon).T
    return np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) / 2


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 20), size=st.sampled_from([1.0, 2.5]), sign=st.sampled_from([1, -1]))
def test_areas(seed, size, sign):
    """Parallelograms whose corners may lie on the lines, and sides along them."""
    rng = np.random.default_rng(seed)
    origin, sides = rng.uniform(-1, 0, (BLOCK, 1, 2)), size * rng.normal(size=(BLOCK, 2, 2))
    sides[:2] = np.diag([size, size])  # along the pixels
    origin[1:4] = np.round(origin[1:4] * 2) / 2
    one, other = sides[:, :1], sides[:, 1:]
    corners = np.concatenate([origin, origin + one, origin + one + other, origin + other], axis=1)[:, ::sign]
    u, v = (np.ascontiguousarray(corners[:, :, axis].T).ravel() for axis in (0, 1))
    own, found = np.empty(BLOCK), np.empty((3, BLOCK))
    whole_areas(u, v, own)
    np.testing.assert_allclose(own, [area(c) for c in corners], atol=1e-12)
    for i, j in ((0, 0), (1, 0), (2, 1)):
        areas(u, v, float(i), float(j), *found)
        wanted = [(area(cut(c, 0, i)), area(cut(c, 1, j)), area(cut(cut(c, 0, i), 1, j))) for c in corners]
        np.testing.assert_allclose(found.T, wanted, atol=1e-12)


def test_corners():
    """Half a pixel left and right of its place, in the middle to the rows beside; output pixels end at .5."""
    here = np.arange(BLOCK + 2) * 1.5 + 3.3
    u, first, count = np.empty(4 * BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    place(here - 0.2, here, here + 0.2, 0.5, u, first, count)
    middle = here[1:-1]
    corners = np.array([middle - 0.85, middle + 0.65, middle + 0.85, middle - 0.65])
    np.testing.assert_array_equal(first, np.floor(corners[0] + 0.5))
    np.testing.assert_allclose(u.reshape(4, BLOCK), corners - first - 0.5, atol=1e-12)
    np.testing.assert_array_equal(count, np.ceil(corners[2] - first - 0.5) + 1)
