"""Positions between nodes."""

from __future__ import annotations

import numpy as np

from upramp.stages.resample.pixmap import PRECISION, pixmap


def smooth(x, y):
    u, v = (x - 100) / 2048, (y - 50) / 2048
    return 5 + 0.9 * x - 0.3 * y + 40 * u * v + 6 * u**3, -7 + 0.3 * x + 0.9 * y + 30 * v**2 * u - 3 * u**2


def test_as_good_as_computed():
    made = pixmap(smooth, (83, 131))
    assert made.step == 32
    y, x = np.mgrid[:83, :131].astype(float)
    for found, wanted in zip(made.whole(), smooth(x, y), strict=True):
        np.testing.assert_allclose(found, wanted, atol=PRECISION)


def test_rough_maps_have_closer_nodes():
    made = pixmap(lambda x, y: (x + np.sin(x / 5), y + np.cos(y / 7)), (40, 50))
    assert made.step < 8
    _, x = np.mgrid[:40, :50].astype(float)
    np.testing.assert_allclose(made.whole()[0], x + np.sin(x / 5), atol=1e-5)


def test_a_kink_is_computed_pixel_by_pixel():
    made = pixmap(lambda x, y: (np.abs(x - 7.3), y), (20, 20))
    assert made.step == 1
    _, x = np.mgrid[:20, :20].astype(float)
    np.testing.assert_allclose(made.whole()[0], np.abs(x - 7.3), atol=1e-12)


def test_small_images():
    found = np.ravel(pixmap(smooth, (1, 1)).whole())
    np.testing.assert_allclose(found, np.ravel(smooth(np.zeros(1), np.zeros(1))), atol=1e-9)


def test_less_precise_where_that_will_do():
    way = lambda x, y: (x + 1e-3 * np.sin(x / 5), y)  # noqa: E731
    assert pixmap(way, (40, 300)).step < pixmap(way, (40, 300), 0.1).step == 32
