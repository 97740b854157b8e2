"""A grid that the user gives: a tangent plane keeps its keywords, others get a fit; sizes; refusals."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.modeling.models import Mapping, Polynomial2D

from upramp.stages.core.errors import Misconfigured
from upramp.stages.resample.given import given_of
from upramp.stages.resample.grid import Grid, rotation
from upramp.stages.stage3.resample import wcs_of
from upramp.stages.wcs.sky import chain, plane

GRID = Grid((80.0, -69.5), (12.25, 7.5), 1.7e-5, rotation(30.0, -1), (20, 30))


def test_a_tangent_plane_keeps_its_keywords():
    found = given_of({"wcs": wcs_of(GRID)}, "own.asdf")
    assert (found.crval, found.crpix, found.shape) == (GRID.crval, GRID.crpix, GRID.shape)
    assert found.scale == pytest.approx(GRID.scale, rel=1e-12)
    np.testing.assert_allclose(found.pc, GRID.pc, atol=1e-12)
    assert found.area == pytest.approx(np.radians(GRID.scale) ** 2, rel=1e-6)
    x, y = np.array([0.0, 29.0, 3.5]), np.array([0.0, 3.0, 19.0])
    np.testing.assert_allclose(found.sky(x, y), GRID.sky(x, y), rtol=1e-12)
    np.testing.assert_allclose(found.pixels(*GRID.sky(x, y)), (x, y), atol=1e-6)
    assert wcs_of(found) is found.wcs


def test_of_a_distorted_wcs_keywords_are_fitted():
    """Pixels lie where the wcs says, the header says it to a thousandth of a pixel."""
    straight = wcs_of(GRID).pipeline
    bend = Polynomial2D(2, c1_0=1, c2_0=1e-6) & Polynomial2D(2, c0_1=1, c0_2=-1e-6)
    transform = Mapping((0, 1, 0, 1)) | bend | straight[0].transform
    bent = chain([(plane("detector"), transform), (straight[1].frame, None)], None)
    found = given_of({"wcs": bent, "pixel_shape": (30, 20)}, "own.asdf")
    plane_alone = Grid(found.crval, found.crpix, found.scale, found.pc, found.shape)
    x, y = (a.ravel() for a in np.meshgrid([0.0, 15.0, 29.0], [0.0, 10.0, 19.0]))
    np.testing.assert_allclose(plane_alone.pixels(*found.sky(x, y)), (x, y), atol=1e-3)
    np.testing.assert_allclose(found.sky(x, y), bent(x, y, with_bounding_box=False), rtol=1e-13)


@pytest.mark.parametrize(
    ("told", "size", "shape"),
    [
        ({}, None, (20, 30)),
        ({"array_shape": (5, 6)}, None, (5, 6)),
        ({"array_shape": (5, 6), "pixel_shape": (8, 7)}, None, (7, 8)),
        ({"pixel_shape": (8, 7)}, [40, 50], (50, 40)),
    ],
)
def test_sizes(told, size, shape):
    wcs = wcs_of(GRID)
    found = given_of({"wcs": wcs, **told}, "own.asdf", size)
    assert found.shape == shape and found.wcs.pixel_shape == shape[::-1]
    assert wcs.pixel_shape == (30, 20)


def test_the_bounding_box_tells_the_size_and_the_file_the_area():
    wcs = wcs_of(GRID)
    wcs.pixel_shape = None
    found = given_of({"wcs": wcs, "pixel_area": 5e-14}, "own.asdf")
    assert found.shape == GRID.shape and found.area == 5e-14
    arcsec = np.radians(1 / 3600)
    assert given_of({"wcs": wcs, "pixel_area": 0.04}, "own.asdf").area == pytest.approx(0.04 * arcsec**2)
    both = given_of({"wcs": wcs, "pixel_area": 0.04, "pixel_scale": 0.3}, "own.asdf")
    assert both.area == pytest.approx(0.09 * arcsec**2)


def test_what_is_refused():
    with pytest.raises(Misconfigured, match="no gwcs"):
        given_of({}, "own.asdf")
    wcs = wcs_of(GRID)
    wcs.pixel_shape = wcs.bounding_box = None
    with pytest.raises(Misconfigured, match="output_shape"):
        given_of({"wcs": wcs}, "own.asdf")
