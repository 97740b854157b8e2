"""Footprints, and SIP headers as FITS readers take them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS, Sip

from upramp.stages.wcs.approximation import LINEAR, fit_sip, s_region
from upramp.stages.wcs.imaging import imaging_wcs


@pytest.fixture
def wcs(make_facts, distortion):
    return imaging_wcs(
        make_facts(xstart=101, ystart=301, nx=640, ny=320), {"distortion": {"model": distortion}}
    )


def read(cards):
    """What astropy's reader makes of the cards."""
    header = fits.Header()
    header.update({k: v for k, v in cards.items() if v is not None})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return WCS(header)


def test_the_footprint_is_the_corners_counted_from_the_first_pixel(wcs):
    kind, frame, *numbers = s_region(wcs).split()
    assert (kind, frame) == ("POLYGON", "ICRS")
    assert all(len(n.partition(".")[2]) == 9 for n in numbers)
    corners = np.array(numbers, float).reshape(4, 2)
    x, y = np.array([-0.5, -0.5, 639.5, 639.5]), np.array([-0.5, 319.5, 319.5, -0.5])
    np.testing.assert_allclose(corners.T, wcs(x, y), atol=6e-10)


def test_readers_of_sip_find_the_same_sky(wcs):
    sip = fit_sip(wcs, (300.5, 100.0))
    assert sip is not None and sip.good
    assert (sip.cards["CRPIX1"], sip.cards["CRPIX2"], sip.cards["CTYPE1"]) == (300.5, 100.0, "RA---TAN-SIP")
    reader = read(sip.cards)
    x, y = np.meshgrid(np.linspace(0, 639, 40), np.linspace(0, 319, 30))
    ra, dec = wcs(x, y)
    got = reader.all_pix2world(x, y, 0)
    off = np.hypot((got[0] - ra) * np.cos(np.radians(dec)), got[1] - dec) * 3600 / 0.063
    assert off.max() <= max(sip.leaves["sipmxerr"], 1e-6) * 1.5 <= 0.01
    assert isinstance(reader.sip, Sip)


def polynomial(values, name, u, v):
    """The sum of name_p_q u^p v^q."""
    terms = {k: c for k, c in values.items() if k.startswith(f"{name}_") and k[-1].isdigit() and c}
    return sum(c * u ** int(k[-3]) * v ** int(k[-1]) for k, c in terms.items())


def test_the_way_back_with_the_terms_that_only_the_tree_has(wcs):
    sip = fit_sip(wcs, None)
    assert sip is not None
    every = {**sip.cards, **{k.upper(): v for k, v in sip.leaves.items()}}
    u, v = np.meshgrid(np.linspace(-320, 320, 9), np.linspace(-160, 160, 9))
    there = u + polynomial(every, "A", u, v), v + polynomial(every, "B", u, v)
    back = there[0] + polynomial(every, "AP", *there), there[1] + polynomial(every, "BP", *there)
    assert np.hypot(back[0] - u, back[1] - v).max() <= 1.5 * sip.leaves["sipiverr"] <= 0.015
    assert np.hypot(there[0] - u, there[1] - v).max() > 0.2


def test_linear_keywords_go(wcs):
    sip = fit_sip(wcs, None)
    assert sip is not None
    assert all(sip.cards[k] is None and sip.leaves[k.lower()] is None for k in LINEAR)
    assert {"wcsname", "lonpole", "latpole", "sipmxerr", "sipiverr", "ap_0_1", "bp_1_0"} <= sip.leaves.keys()
    assert {k.lower() for k, v in sip.cards.items() if v is not None} & sip.leaves.keys() == {"radesys"}
    assert "NAXIS1" not in sip.cards


def test_the_middle_is_the_reference_pixel_where_none_is_given(wcs):
    sip = fit_sip(wcs, None)
    assert sip is not None
    assert (sip.cards["CRPIX1"], sip.cards["CRPIX2"]) == (320.5, 160.5)


def test_degrees(wcs):
    asked = fit_sip(wcs, None, degree=3, inv_degree=4)
    assert asked is not None and (asked.cards["A_ORDER"], asked.cards["AP_ORDER"]) == (3, 4)
    strict = fit_sip(wcs, None, max_pix_error=1e-15)
    assert strict is not None and not strict.good and strict.cards["A_ORDER"] <= 5
    loose = fit_sip(wcs, None, max_pix_error=5.0, max_inv_pix_error=5.0)
    assert loose is not None and loose.good
    assert loose.cards["CTYPE1"] == "RA---TAN" and "A_ORDER" not in loose.cards


def test_too_few_points_give_nothing(wcs):
    assert fit_sip(wcs, None, degree=6, npoints=3) is None
