"""The WCS of NIRSpec images, with made-up optics."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.modeling.models import AffineTransformation2D, Mapping, Polynomial1D, Scale, Shift

from upramp.stages.core.errors import Misconfigured
from upramp.stages.wcs.nirspec_imaging import filter_range, nirspec_imaging_wcs, tilted, to_sca, wheel_angles

RANGES = {
    "waverange_selector": ["F110W_MIRROR", "F290LP_G395H", "CLEAR_MIRROR"],
    "wavelengthrange": [[0.96e-6, 1.24e-6], [2.87e-6, 5.27e-6], [0.6e-6, 5.3e-6]],
    "order": [0, -1, 0],
}
TILT_X = {
    "temperatures": [37.0, 40.0],
    "zeroreadings": [0.35, 9.0],
    "tilt_model": Polynomial1D(1, c0=1.0, c1=-4500.0),
}
TILT_Y = {"temperatures": [37.0], "zeroreadings": [0.2], "tilt_model": Polynomial1D(1, c0=-400.0, c1=2100.0)}
DISPERSER = {
    "theta_x": 0.1, "theta_y": 0.02, "theta_z": 0.003, "tilt_y": 0.5, "gwa_tiltx": TILT_X, "gwa_tilty": TILT_Y
}  # fmt: skip


def fore():
    """A scale that depends on the wavelength: x (1 + 1000 l), and so is y."""
    stretch = Polynomial1D(1, c0=1.0, c1=1000.0)
    model = Mapping((0, 2, 1, 2)) | (Mapping((0,), n_inputs=2) * (Mapping((1,)) | stretch)) & (
        Mapping((0,), n_inputs=2) * (Mapping((1,)) | stretch)
    )
    model.inverse = Mapping((0, 2, 1, 2)) | (Mapping((0,), n_inputs=2) / (Mapping((1,)) | stretch)) & (
        Mapping((0,), n_inputs=2) / (Mapping((1,)) | stretch)
    )
    return model


@pytest.fixture
def trees():
    pixel = AffineTransformation2D([[18e-6, 0.0], [0.0, 18e-6]]) | Shift(-0.018) & Shift(-0.018)
    return {
        "fpa": {"nrs1_model": pixel, "nrs2_model": pixel.copy()},
        "camera": {"model": Scale(4.0) & Scale(4.0)},
        "collimator": {"model": Scale(0.6) & Scale(0.6)},
        "fore": {"model": fore()},
        "ote": {"model": Scale(3600.0) & Scale(3600.0)},
        "disperser": DISPERSER,
        "wavelengthrange": RANGES,
    }


@pytest.fixture
def facts(make_facts):
    return make_facts(
        instrument="NIRSPEC", detector="NRS1", exp_type="NRS_TACQ", filter="F110W", grating="MIRROR",
        v2_ref=378.0, v3_ref=-428.0, gwa_xtilt=0.36, gwa_ytilt=0.13, crpix=None,
    )  # fmt: skip


def test_wavelengths_of_a_filter(facts):
    span = filter_range(facts, RANGES)
    assert (span.order, span.shortest, span.longest) == (0, 0.96e-6, 1.24e-6)


def test_an_unknown_filter_is_refused(make_facts):
    with pytest.raises(Misconfigured, match="F999W_MIRROR"):
        filter_range(make_facts(filter="F999W", grating="MIRROR"), RANGES)


def test_the_wheel_is_tilted_by_half_of_what_the_sensors_say(facts):
    assert tilted(0.02, 0.36, TILT_X) == pytest.approx(0.02 - 4500 * 0.01 / 7200)
    assert tilted(0.02, None, TILT_X) == 0.02
    x, y, z, tilt = wheel_angles(facts, DISPERSER)
    assert x == pytest.approx(0.1 - 2100 * 0.07 / 7200)
    assert y == pytest.approx(0.02 - 4500 * 0.01 / 7200)
    assert (z, tilt) == (0.003, 0.5)


def test_nrs2_is_turned_around(make_facts):
    assert to_sca(make_facts(detector="NRS1", xstart=11, ystart=21))(3.0, 4.0) == (13.0, 24.0)
    assert to_sca(make_facts(detector="NRS2", xstart=11, ystart=21))(3.0, 4.0) == (2034.0, 2023.0)


def test_frames_and_the_way_through(facts, trees):
    wcs = nirspec_imaging_wcs(facts, trees)
    names = ["detector", "sca", "gwa", "msa", "oteip", "v2v3", "v2v3vacorr", "world"]
    assert list(wcs.available_frames) == names
    x, y, wavelength = wcs.get_transform("detector", "msa")(1000.0, 1000.0)
    assert wavelength == 1.1e-6
    # The centre of the focal plane hits the mirror along its axis and comes back the same way.
    level = nirspec_imaging_wcs(facts, {**trees, "disperser": {**DISPERSER, "theta_x": 0.0204166666666666}})
    assert np.abs(level.get_transform("detector", "msa")(1000.0, 1000.0)[1]) < 2e-4
    chromatic = wcs.get_transform("msa", "oteip")(x, y, wavelength)
    assert chromatic == pytest.approx((x * 1.0011, y * 1.0011))


def test_back_again(facts, trees):
    wcs = nirspec_imaging_wcs(facts, trees)
    x, y = np.meshgrid([0.0, 700.0, 2047.0], [0.0, 1500.0, 2047.0])
    np.testing.assert_allclose(wcs.backward_transform(*wcs(x, y)), (x, y), atol=1e-6)


def test_references_stay_as_they_are(facts, trees):
    nirspec_imaging_wcs(facts, trees)
    assert all(trees[t]["model"].name is None for t in ("camera", "collimator", "fore", "ote"))
