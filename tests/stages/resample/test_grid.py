"""Grids on the sky: there and back, and where they lie by the footprints."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upramp.stages.core.errors import NotApplicable
from upramp.stages.resample.grid import Grid, mean_scale, middle, output_grid, pixel_scale, rotation

CORNERS = np.array(
    [
        [80.019294606, -69.524589130],
        [80.069313136, -69.493279856],
        [79.981858696, -69.475558222],
        [79.929262072, -69.506645043],
    ]
)
SCALE, ANGLE = 1.74742985937456e-05, 29.93661689
"""A simulated footprint; what the observatory's package makes of it is recorded below."""


def test_where_a_grid_lies():
    grid = output_grid([CORNERS], SCALE, ANGLE, -1)
    assert grid.shape == (2068, 2075)
    np.testing.assert_allclose(grid.crval, (79.99930210417097, -69.50000219715825), atol=1e-12)
    np.testing.assert_allclose(grid.crpix, (1049.01922223, 1030.40887875), atol=1e-7)
    np.testing.assert_allclose(grid.pc.ravel(), (-0.866578, 0.49904166, 0.49904166, 0.866578), atol=1e-8)


@pytest.mark.parametrize(
    ("options", "shape", "crpix"),
    [
        ({"scale": 2e-5}, (1807, 1813), (916.54375599, 900.28362105)),
        ({"angle": 0.0}, (2806, 2807), (1403.5509128, 1407.09953362)),
        ({"shape": (500, 600)}, (500, 600), (1049.01922223, 1030.40887875)),
        ({"crpix": (100.0, 200.0)}, (1238, 1126), (100.0, 200.0)),
        ({"crval": (80.001, -69.501)}, (2068, 2075), (991.0639662, 997.93654631)),
        ({"crpix": (100.0, 200.0), "crval": (80.001, -69.501)}, (1270, 1184), (100.0, 200.0)),
    ],
)
def test_options_as_recorded(options, shape, crpix):
    grid = output_grid([CORNERS], **{"scale": SCALE, "angle": ANGLE, "parity": -1, **options})
    assert grid.shape == shape
    np.testing.assert_allclose(grid.crpix, crpix, atol=1e-7)


def test_less_than_half_a_row_makes_none():
    """Corners that reach to 2067.92 and 2074.94 make 2068 x 2075 pixels; where they reach less far, fewer."""
    plane = output_grid([CORNERS], SCALE, ANGLE, -1)
    _, y = plane.pixels(CORNERS[:, 0], CORNERS[:, 1])
    for scale, wanted in ((2068.4 / y.max(), 2068), (2068.6 / y.max(), 2069)):
        assert output_grid([CORNERS], SCALE / scale, ANGLE, -1).shape[0] == wanted


@pytest.mark.parametrize(
    ("angle", "parity", "wanted"),
    [
        (35, -1, (-0.81915204, 0.57357644, 0.57357644, 0.81915204)),
        (25, 1, (0.90630779, 0.42261826, -0.42261826, 0.90630779)),
    ],
)
def test_rotations_as_recorded(angle, parity, wanted):
    np.testing.assert_allclose(rotation(angle, parity).ravel(), wanted, atol=1e-8)


@given(
    ra=st.floats(0, 360), dec=st.floats(-89, 89), angle=st.floats(-180, 180), parity=st.sampled_from([1, -1]),
    x=st.floats(-3000, 3000), y=st.floats(-3000, 3000),
)  # fmt: skip
def test_there_and_back(ra, dec, angle, parity, x, y):
    grid = Grid((ra, dec), (10.0, 20.0), 1e-5, rotation(angle, parity), (4, 5))
    back = grid.pixels(*grid.sky(np.array([x]), np.array([y])))
    np.testing.assert_allclose(np.ravel(back), (x, y), atol=1e-5)


def test_positions_behind_the_plane_have_no_pixel():
    grid = Grid((10.0, 20.0), (0.0, 0.0), 1e-5, rotation(0, -1), (4, 5))
    assert np.isnan(grid.pixels(np.array([190.0]), np.array([-20.0]))[0]).all()


def test_the_middle_across_zero_hours():
    corners = np.array([[359.9, -0.1], [0.1, -0.1], [0.1, 0.1], [359.9, 0.1]])
    ra, dec = middle(corners)
    assert min(ra, 360 - ra) < 1e-9 and abs(dec) < 1e-12


def test_the_scale_of_a_grid_is_its_own():
    grid = Grid((80.0, -69.5), (10.0, 20.0), 1.7e-5, rotation(30, -1), (4, 5))
    assert pixel_scale(grid.sky, 10.0, 20.0) == pytest.approx(1.7e-5, rel=1e-9)


def test_the_mean_scale_of_an_image():
    """On a tangent plane it is the plane's own near the point of contact."""
    plane = Grid((80.0, -69.5), (500.0, 400.0), SCALE, rotation(ANGLE, -1), (801, 1001))
    assert mean_scale(plane.sky, plane.shape) == pytest.approx(SCALE, rel=1e-5)

    def wider(x, y):  # the upper half covers twice the height
        return plane.sky(x, np.where(y > 400, 2 * y - 400, y))

    assert mean_scale(wider, plane.shape) == pytest.approx(SCALE * np.sqrt(1.5), rel=1e-4)


def test_opposite_sides_of_the_sky_have_no_plane_in_common():
    near, far = np.array([[10.0, 0.0], [10.1, 0.1]]), np.array([[185.0, 0.0], [185.1, 0.1]])
    with pytest.raises(NotApplicable, match="more than 90 degrees from"):
        output_grid([near, far], 1e-5, 0.0, -1, crval=(10.0, 0.0))
