"""Quick transforms: the same numbers, there and back, and the same WCS again; copies stand by themselves."""

from __future__ import annotations

import copy

import numpy as np
from astropy.modeling.models import Identity, Scale, Shift

from upramp.stages.wcs.facts import WcsFacts
from upramp.stages.wcs.quick import light, quick, whole
from upramp.stages.wcs.sky import chain, plane, sky_parts

FACTS = WcsFacts(
    instrument="NIRCAM",
    detector="NRCALONG",
    exp_type="NRC_IMAGE",
    nx=20,
    ny=10,
    v2_ref=86.0,
    v3_ref=-493.0,
    ra_ref=80.0,
    dec_ref=-69.5,
    roll_ref=30.0,
    va_scale=1.00001,
)


def made():
    optics = Shift(-10.0) & Shift(-5.0) | Scale(0.06) & Scale(0.063) | Shift(86.0) & Shift(-493.0)
    return chain([(plane("detector"), optics), *sky_parts(FACTS)], ((-0.5, 19.5), (-0.5, 9.5)))


def test_the_same_numbers_there_and_back():
    wcs, x, y = made(), np.linspace(0, 19, 7), np.linspace(9, 0, 7)
    fast = light(wcs)
    assert fast.available_frames == wcs.available_frames
    np.testing.assert_allclose(fast(x, y), wcs(x, y), rtol=1e-14)
    np.testing.assert_allclose(fast.invert(*fast(x, y)), (x, y), atol=1e-7)
    assert np.isnan(fast(30.0, 1.0)).all() and fast.bounding_box == wcs.bounding_box


def test_the_way_back_gives_the_same_transforms():
    wcs = made()
    again = whole(copy.deepcopy(light(wcs)))
    assert [s.transform for s in again.pipeline] == [s.transform for s in wcs.pipeline]
    assert again.name == wcs.name and again.bounding_box == wcs.bounding_box


def test_some_frames_keep_their_transforms():
    wcs = made()
    kept = light(wcs, but=["world"]).pipeline[-2].transform
    assert type(kept) is type(wcs.pipeline[-2].transform) and kept is not wcs.pipeline[-2].transform


def test_a_copy_has_a_bounding_box_of_its_own():
    one = quick(Identity(2))
    other = copy.deepcopy(one)
    other.bounding_box = ((0, 1), (0, 1))
    assert one._user_bounding_box is None and other.original is one.original
