"""Interpolation and comparison beside plain arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, map_coordinates

from upramp.stages.core.frames import Crew
from upramp.stages.resample.pixmap import pixmap
from upramp.stages.stage3.outlier_blot import blot, outliers, unlike


def rotated(angle, dx, dy):
    """A rotation about (7, 6), then a shift."""
    c, s = np.cos(angle), np.sin(angle)
    return lambda x, y: (c * (x - 7) - s * (y - 6) + 7 + dx, s * (x - 7) + c * (y - 6) + 6 + dy)


@settings(deadline=None, max_examples=30)
@given(
    angle=st.floats(-3.2, 3.2), dx=st.floats(-4, 4), dy=st.floats(-4, 4), seed=st.integers(0, 99),
    threads=st.integers(1, 3),
)  # fmt: skip
def test_blot(angle, dx, dy, seed, threads):
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 1, (14, 15)).astype(np.float32)
    image[rng.random(image.shape) < 0.05] = np.nan
    way = rotated(angle, dx, dy)
    y, x = np.mgrid[:12, :13].astype(float)
    u, v = way(x, y)
    inside = (u >= 0) & (u < 15) & (v >= 0) & (v < 14)
    expected = np.full(u.shape, np.nan)
    expected[inside] = map_coordinates(image.astype(float), [v[inside], u[inside]], order=1, mode="nearest")
    found = blot(image, pixmap(way, (12, 13)), Crew(threads))
    edge = np.minimum(np.abs(u - np.round(u)), np.abs(v - np.round(v))) < 1e-6  # either side is right
    np.testing.assert_allclose(found[~edge], expected[~edge], atol=1e-5)


def test_blot_of_an_image_on_itself():
    image = np.arange(20, dtype=np.float32).reshape(4, 5)
    same = blot(image, pixmap(lambda x, y: (x, y), (4, 5)), Crew())
    np.testing.assert_array_equal(same, image)
    half = blot(image, pixmap(lambda x, y: (x + 0.5, y - 0.25), (4, 5)), Crew())
    np.testing.assert_array_equal(half[0], [np.nan] * 5)  # before the centre of the first row
    np.testing.assert_array_equal(half[1], [4.25, 5.25, 6.25, 7.25, 7.75])  # beyond that of the last column


def naive(sci, err, m, sky, snr, scale):
    """The definition, with arrays."""
    err = np.nan_to_num(err)
    steep = np.zeros(m.shape)
    for axis in (0, 1):
        off = np.nan_to_num(np.abs(np.diff(m, axis=axis)))
        below, above = [(0, 0), (0, 0)], [(0, 0), (0, 0)]
        below[axis], above[axis] = (0, 1), (1, 0)
        steep = np.maximum(steep, np.maximum(np.pad(off, below), np.pad(off, above)))
    off = np.abs(sci - m - sky)
    first = off > scale[0] * steep + snr[0] * err
    near = binary_dilation(first, np.ones((3, 3)))
    return near & (off > scale[1] * steep + snr[1] * err)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("sky", [0.0, 0.25])
def test_outliers(sky, threads):
    rng = np.random.default_rng(8)
    shape = (23, 31)
    # eighths: no limit is met but for a rounding
    sci, m = (rng.integers(-40, 40, shape) / 8 for _ in range(2))
    err = rng.integers(0, 8, shape) / 8
    for a in (sci, m, err):
        a[rng.random(shape) < 0.05] = np.nan
    sci, m, err = (a.astype(np.float32) for a in (sci, m, err))
    for snr, scale in (((5.0, 4.0), (1.25, 0.75)), ((2.0, 0.5), (0.5, 0.25)), ((0.5, 2.0), (0.0, 1.0))):
        expected = naive(sci, err, m, sky, snr, scale)
        assert 0 < expected.mean() < 0.9
        np.testing.assert_array_equal(outliers(sci, err, m, sky, snr, scale, Crew(threads)), expected)
    np.testing.assert_array_equal(
        unlike(sci, err, m, 2.0, Crew(threads)), np.abs(sci - m) > 2 * np.nan_to_num(err)
    )


def test_outliers_by_hand():
    sci, err = np.full((5, 6), 4.5, np.float32), np.ones((5, 6), np.float32)
    m = np.zeros((5, 6), np.float32)
    sci[0, 0], sci[3, 3], sci[3, 4] = 100, -100, 4.0
    expected = np.zeros((5, 6), bool)
    expected[:2, :2] = expected[2:5, 2:5] = True
    expected[3, 4] = False  # not above the second limit
    np.testing.assert_array_equal(outliers(sci, err, m, 0.0, (5, 4), (1.2, 0.7), Crew()), expected)
    m[3, 2] = 2  # makes the limit 4 + 1.4 around it, and 2.5 is left at the pixel itself
    expected[2:5, 2] = False
    np.testing.assert_array_equal(outliers(sci, err, m, 0.0, (5, 4), (1.2, 0.7), Crew()), expected)
