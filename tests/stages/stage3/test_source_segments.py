"""Smoothing beside astropy's convolution; segments beside photutils."""

from __future__ import annotations

import numpy as np
import pytest

from upramp.stages.core.frames import Crew
from upramp.stages.stage3.source_segments import divisible, gaussian, labelled, smoothed


@pytest.mark.parametrize("fwhm", [1.0, 2.0, 4.5])
@pytest.mark.parametrize("shape", [(40, 60), (5, 5), (300, 9)])
def test_smoothing_is_that_of_astropy(fwhm, shape):
    from astropy.convolution import convolve

    rng = np.random.default_rng(1)
    values = rng.normal(size=shape).astype(np.float32)
    mask = rng.random(shape) < 0.1
    values[mask] = np.nan
    expected = convolve(values, gaussian(fwhm), mask=mask)
    seen = smoothed(values, mask, fwhm, Crew())
    np.testing.assert_allclose(seen, expected, rtol=2e-7, atol=1e-7)


def test_threads_and_gaps():
    values = np.ones((500, 40), np.float32)
    mask = np.zeros(values.shape, bool)
    mask[100:130] = True
    one, two = (smoothed(values, mask, 2.0, Crew(n)) for n in (1, 2))
    np.testing.assert_array_equal(one, two)
    inside = np.s_[140:490, 5:-5]
    np.testing.assert_allclose(one[inside], 1.0, rtol=1e-6)
    assert not one[110:120].any()
    np.testing.assert_allclose(one[95:100, 5:-5], 1.0, rtol=1e-6)


def crowd(seed, shape=(120, 150), stars=60):
    """An image of stars, many of which touch."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    values = rng.normal(scale=0.3, size=shape)
    for _ in range(stars):
        x0, y0, flux, width = rng.uniform(0, shape[1]), rng.uniform(0, shape[0]), rng.uniform(5, 60), 2.0
        values += flux * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * width**2))
    return values.astype(np.float32)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("least", [1, 5, 12])
def test_what_may_fall_apart(connectivity, least):
    """At some level two pieces of enough pixels are left."""
    from scipy.ndimage import label

    values, structure = crowd(2, (40, 50), 12), np.ones((3, 3)) if connectivity == 8 else None
    labels, n = label(values > 1.5, structure)
    expected = []
    for k in range(1, n + 1):
        own = np.where(labels == k, values, -np.inf)
        for level in np.unique(values[labels == k]):
            sizes = np.bincount(label(own > level, structure)[0].ravel())[1:]
            if (sizes >= least).sum() > 1:
                expected.append(k)
                break
    seen = divisible(values, labels.astype(np.int32), least, connectivity)
    np.testing.assert_array_equal(seen, expected)
    assert 0 < len(expected) < n or least == 1


@pytest.mark.parametrize("mode", ["exponential", "linear", "sinh"])
@pytest.mark.parametrize(("connectivity", "least", "contrast"), [(8, 10, 0.001), (4, 5, 0.0), (8, 25, 0.05)])
def test_segments_are_those_of_photutils(mode, connectivity, least, contrast):
    from photutils.segmentation import SourceFinder

    how = {"n_pixels": least, "connectivity": connectivity}
    how |= {"n_levels": 32, "contrast": contrast, "mode": mode}
    for seed, deblend in ((3, True), (4, True), (5, False)):
        values = crowd(seed)
        mask, threshold = values > 55, np.full(values.shape, 1.5)
        expected = SourceFinder(progress_bar=False, deblend=deblend, **how)(values, threshold, mask=mask)
        seen = labelled(values, threshold, mask, {**how, "deblend": deblend})
        np.testing.assert_array_equal(seen.data, expected.data)


def test_nothing_to_take_apart_and_nothing_at_all():
    how = {"n_pixels": 5, "connectivity": 8, "n_levels": 32, "contrast": 0.001, "mode": "exponential"}
    values = crowd(6, (30, 30), 1)
    none = np.zeros(values.shape, bool)
    seen = labelled(values, np.full(values.shape, 4.0), none, {**how, "deblend": True})
    assert seen.n_labels == 1
    with pytest.warns(match="No sources"):
        assert labelled(values, np.full(values.shape, 1e6), none, {**how, "deblend": True}) is None
