"""From the telescope's frame to the sky, against spherical trigonometry done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upramp.stages.wcs.facts import WcsFacts
from upramp.stages.wcs.sky import aberration, chain, plane, sky_parts, to_sky

ARCSEC = np.pi / 180 / 3600


def pointing(**facts):
    usual = {"v2_ref": 86.0, "v3_ref": -493.0, "ra_ref": 80.0, "dec_ref": -69.5, "roll_ref": 30.0}
    return WcsFacts("NIRCAM", "NRCALONG", "NRC_IMAGE", 64, 64, **usual | facts)


def separation(a, b):
    """Angle between two points (longitude, latitude) in radians, by the formula of haversines."""
    h = np.sin((a[1] - b[1]) / 2) ** 2 + np.cos(a[1]) * np.cos(b[1]) * np.sin((a[0] - b[0]) / 2) ** 2
    return 2 * np.arcsin(np.sqrt(h))


def test_the_reference_point_lies_where_the_header_says():
    ra, dec = to_sky(pointing())(86.0, -493.0)
    assert (ra, dec) == pytest.approx((80.0, -69.5), abs=1e-12)


@pytest.mark.parametrize("roll", [0.0, 30.0, 217.0])
def test_v3_points_at_the_position_angle_roll(roll):
    """An arcsec along V3 is cos(roll) to the north, sin(roll) to the east; V2 is 90 degrees on, eastwards."""
    sky = to_sky(pointing(roll_ref=roll))
    angle = np.radians(roll)
    for step, (east, north) in {
        (0.0, 1.0): (np.sin(angle), np.cos(angle)),
        (1.0, 0.0): (np.cos(angle), -np.sin(angle)),
    }.items():
        ra, dec = sky(86.0 + step[0], -493.0 + step[1])
        got = ((ra - 80.0) * np.cos(np.radians(-69.5)) * 3600, (dec + 69.5) * 3600)
        assert got == pytest.approx((east, north), abs=2e-4)


angles = st.floats(-1500, 1500)


@given(st.floats(0, 360), st.floats(-89, 89), st.floats(0, 360), angles, angles, angles, angles)
def test_distances_stay(ra, dec, roll, a2, a3, b2, b3):
    sky = to_sky(pointing(ra_ref=ra, dec_ref=dec, roll_ref=roll))
    a, b = np.array([a2, a3]) * ARCSEC, np.array([b2, b3]) * ARCSEC
    there = np.radians(sky(np.array([a2, b2]), np.array([a3, b3])))
    assert separation(there[:, 0], there[:, 1]) == pytest.approx(separation(a, b), rel=1e-9, abs=1e-12)


def test_aberration_stretches_about_the_reference_point():
    shift = aberration(pointing(va_scale=1.0001))
    assert shift(86.0, -493.0) == pytest.approx((86.0, -493.0), abs=1e-12)
    assert shift(186.0, -393.0) == pytest.approx((186.01, -392.99), abs=1e-12)


def test_without_a_scale_nothing_is_stretched():
    assert aberration(pointing(va_scale=None))(12.0, 34.0) == (12.0, 34.0)


def test_frames_of_a_chain():
    facts = pointing(va_scale=1.0001)
    wcs = chain([(plane("detector"), aberration(facts)), *sky_parts(facts)], ((-0.5, 63.5), (-0.5, 31.5)))
    assert list(wcs.available_frames) == ["detector", "v2v3", "v2v3vacorr", "world"]
    assert wcs.bounding_box.bounding_box(order="F") == ((-0.5, 63.5), (-0.5, 31.5))
    assert np.isnan(wcs(70.0, 3.0)).all()
    assert wcs.output_frame.reference_frame.name == "icrs"
