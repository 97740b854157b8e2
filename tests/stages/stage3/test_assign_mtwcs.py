"""A moving target stays where it is."""

from __future__ import annotations

import numpy as np
import pytest

from upramp.stages.stage3.assign_mtwcs import STEP, Params, mean_position, moving, run, shifted
from upramp.stages.stage3.members import Changed, Means
from upramp.stages.wcs.approximation import s_region


@pytest.fixture
def followed(exposures):
    """Three exposures that follow a target; they sit on it in their middle."""
    members = exposures()[:3]
    for member in members:
        ra, dec = member.wcs(31.5, 31.5)
        member.cards = {"TARGTYPE": "MOVING", "MT_RA": float(ra), "MT_DEC": float(dec)}
    return members


def test_the_target_comes_to_lie_on_itself(followed):
    changes = run(followed, Params(), Means())
    places = [(m.cards["MT_RA"], m.cards["MT_DEC"]) for m in followed]
    mean = np.mean(places, axis=0)
    for member, change in zip(followed, changes, strict=True):
        image = Changed(member, change).read()
        assert list(image.wcs.available_frames)[-2:] == ["world", "moving_target"]
        np.testing.assert_allclose(image.wcs(31.5, 31.5), mean, atol=1e-12)
        back = image.wcs.invert(*image.wcs(10.0, 20.0))
        np.testing.assert_allclose(back, member.wcs.invert(*member.wcs(10.0, 20.0)), atol=1e-6)
        sci = image.header["SCI"]
        assert (sci["MT_AVRA"], sci["MT_AVDEC"]) == pytest.approx(tuple(mean), abs=1e-12)
        corner = np.array(sci["S_REGION"].split()[2:4], float)
        np.testing.assert_allclose(corner, image.wcs(-0.5, -0.5), atol=1e-8)
        assert image.wcs.bounding_box == member.wcs.bounding_box
        there = image.wcs.get_transform("detector", "world")(3.0, 4.0)
        np.testing.assert_allclose(there, member.wcs(3.0, 4.0), atol=1e-12)
    assert (STEP.name, STEP.keyword) == ("assign_mtwcs", "S_MTWCS")


def test_nothing_moves_where_a_position_is_missing(followed):
    del followed[1].cards["MT_DEC"]
    for change in run(followed, Params(), Means()):
        assert change.wcs is None and followed[1].name in change.reason and not change.sci


def test_means():
    assert mean_position([(80.0, 20.0), (80.01, 20.004)]) == (80.005, pytest.approx(20.002))
    ra, dec = mean_position([(359.9, 1.0), (0.3, 3.0)])
    assert (ra, dec) == (pytest.approx(0.1, abs=1e-9), 2.0)


def test_whether_it_moves(followed, exposures):
    assert moving(followed) and not moving(exposures())


def test_footprints_stay_on_the_circle(pointed):

    for degrees in (-81.0, 281.0):
        numbers = np.array(s_region(shifted(pointed(), degrees, 0.0)).split()[2:], float)[::2]
        assert ((numbers >= 0) & (numbers < 360)).all()
