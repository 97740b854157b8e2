"""Circles, rings and shapes beside photutils, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upramp.stages.core.frames import Crew
from upramp.stages.stage3.source_photometry import circle_sum, dao_kernel, overlap, photometry

PLACES = np.array([[20.3, 25.7], [3.1, 2.2], [48.9, 30.0], [25.0, 0.4], [31.5, 31.5], [12.0, 40.0]])
RADII = np.array([1.3, 2.0, 3.4], np.float32)
RING = (6.0, 11.0)


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(2)
    sci = rng.normal(1.0, 0.1, (50, 50))
    y, x = np.mgrid[:50, :50]
    for x0, y0 in PLACES:
        sci += 30 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2.4)
    sci[rng.random(sci.shape) < 0.01] = 40.0
    sci[24, 30] = np.nan
    return sci.astype(np.float32), (0.1 + 0.01 * rng.random((50, 50))).astype(np.float32)


@given(x=st.floats(-4, 4), y=st.floats(-4, 4), r=st.floats(0.05, 5))
def test_parts_of_pixels_are_those_of_photutils(x, y, r):
    from photutils.geometry import circular_overlap_grid

    expected = circular_overlap_grid(x - 0.5, x + 0.5, y - 0.5, y + 0.5, 1, 1, r, 1, 1)[0, 0]
    assert overlap(x, y, r) == pytest.approx(expected, abs=1e-11)


@given(x=st.floats(10, 20), y=st.floats(10, 20), r=st.floats(0.05, 9))
def test_all_parts_make_the_circle(x, y, r):
    ones = np.ones((31, 31), np.float32)
    total, error = circle_sum(ones, ones, x, y, r)
    assert total == pytest.approx(np.pi * r * r, rel=1e-9)
    assert error == pytest.approx(np.sqrt(np.pi) * r, rel=1e-9)


def test_a_pixel_by_hand():
    assert overlap(0.0, 0.0, 0.5) == pytest.approx(np.pi / 4)
    assert overlap(0.5, 0.5, 1.0) == pytest.approx(np.pi / 4)
    assert overlap(2.0, 0.0, 2.0) == pytest.approx(0.5, abs=0.05)
    assert overlap(3.0, 3.0, 2.0) == 0.0
    assert overlap(0.0, 0.0, 1.0) == 1.0


def test_circles_and_rings_are_those_of_photutils(image):
    from astropy.stats import SigmaClip
    from photutils.aperture import CircularAnnulus, CircularAperture, aperture_photometry

    sci, err = image
    found = photometry(sci, err, PLACES, RADII, RING, 2.0, Crew())
    for k, radius in enumerate(RADII):
        table = aperture_photometry(sci, CircularAperture(PLACES, float(radius)), error=err)
        np.testing.assert_allclose(found.sums[:, k], table["aperture_sum"], rtol=1e-12)
        np.testing.assert_allclose(found.errors[:, k], table["aperture_sum_err"], rtol=1e-7)
    clip = SigmaClip(sigma=3.0)
    for k, ring in enumerate(CircularAnnulus(PLACES, *RING).to_mask(method="center")):
        left = clip(ring.get_values(sci), masked=False)
        assert found.level[k] == pytest.approx(np.nanmedian(left), rel=1e-12)
        error = np.sqrt(np.pi / 2) * left.std() / np.sqrt(left.size)
        assert found.level_error[k] == pytest.approx(error, rel=1e-9)


@pytest.mark.parametrize("fwhm", [2.0, 3.5])
def test_shapes_are_those_of_daofind(image, fwhm):
    from photutils.detection import DAOStarFinder

    sci = np.nan_to_num(image[0])
    inside = np.array([[20.0, 26.0], [31.0, 32.0], [12.0, 40.0], [45.0, 30.0]])
    wide = (-1e9, 1e9)
    finder = DAOStarFinder(
        1e-9, fwhm, xycoords=inside.astype(int), sharpness_range=wide, roundness_range=wide
    )
    weights, footprint = dao_kernel(fwhm)
    np.testing.assert_allclose(weights, finder.kernel.data, rtol=1e-12)
    np.testing.assert_array_equal(footprint, finder.kernel.mask.astype(bool))
    expected = finder(sci)
    found = photometry(sci, sci, inside, RADII, RING, fwhm, Crew())
    kept = [int(np.argmin(np.hypot(*(inside - (r["x_centroid"], r["y_centroid"])).T))) for r in expected]
    assert len(kept) >= 3
    np.testing.assert_allclose(found.sharpness[kept], expected["sharpness"], rtol=1e-5)
    np.testing.assert_allclose(found.roundness[kept], expected["roundness1"], atol=1e-5)


def test_what_has_no_place_or_no_ring_is_unknown(image):
    sci, err = image
    places = np.array([[np.nan, 3.0], [25.0, 25.0]])
    found = photometry(sci, err, places, RADII, RING, 2.0, Crew())
    for values in (found.sums[0], found.level[:1], found.sharpness[:1]):
        assert np.isnan(values).all()
    empty = photometry(np.full((9, 9), np.nan, np.float32), np.ones((9, 9), np.float32),
                       np.array([[4.0, 4.0]]), RADII, RING, 2.0, Crew())  # fmt: skip
    assert np.isnan(empty.level[0])


def test_a_gap_makes_a_circle_unknown(image):
    sci, err = image
    total, _ = circle_sum(sci, err, 30.0, 24.0, 2.0)
    assert np.isnan(total)


def test_threads_make_no_difference(image):
    sci, err = image
    places = np.random.default_rng(1).uniform(0, 50, (200, 2))
    one, two = (photometry(sci, err, places, RADII, RING, 2.0, Crew(n)) for n in (1, 2))
    np.testing.assert_array_equal(one.sums, two.sums)
    np.testing.assert_array_equal(one.roundness, two.roundness)
