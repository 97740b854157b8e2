"""Mosaics that no machine can hold are refused before they are begun, and the exposure to blame is named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from upramp.daemon import mosaic_size
from upramp.simulate import visit
from upramp.simulate.observation import Observation
from upramp.stages.core.errors import Unprocessable
from upramp.stages.stage3 import outlier_detection, resample

ONE = Observation(ny=32, nx=32, subarray="SUB32", ngroups=2, tframe=10.0)
SIDE = 32 * 0.0629 / 3600


@dataclass(frozen=True)
class Exposure:
    """An exposure of a square field at a place."""

    name: str
    ra: float
    dec: float = 0.0
    group: str = ""

    @property
    def cards(self):
        corners = ((a, d) for a, d in ((0, 0), (SIDE, 0), (SIDE, SIDE), (0, SIDE)))
        told = " ".join(f"{self.ra + a:.9f} {self.dec + d:.9f}" for a, d in corners)
        place = {"RA_REF": self.ra, "DEC_REF": self.dec, "ROLL_REF": 0.0, "VPARITY": -1}
        return {"S_REGION": f"POLYGON ICRS  {told}", **place}

    @property
    def wcs(self):
        return visit.wcs_of(replace(ONE, ra=self.ra, dec=self.dec), ONE)


def ask(*members, median=False, **params):
    combining = SimpleNamespace(params=resample.Params(**params))
    comparing = SimpleNamespace(runs=median, params=outlier_detection.Params())
    mosaic_size.refuse_too_large("x_asn.json", members, combining, comparing)


def test_what_fits_is_not_refused():
    ask(Exposure("a", 10.0), Exposure("b", 10.001), median=True)


FAR = (Exposure("a_cal.fits", 10.0), Exposure("b_cal.fits", 10.001), Exposure("c_cal.fits", 40.0, 30.0))


def test_an_exposure_of_another_field_is_named():
    says = r"x_asn\.json: its mosaic .* c_cal\.fits lies 41\.4.. degrees from a_cal.* take out"
    with pytest.raises(Unprocessable, match=says):
        ask(*FAR)


def test_outliers_are_looked_for_on_a_grid_of_their_own():
    with pytest.raises(Unprocessable, match=r"the median of outlier_detection .*outlier_detection\.skip"):
        ask(*FAR, median=True, crval=[10.0, 0.0], output_shape=[100, 100])
    ask(*FAR, crval=[10.0, 0.0], output_shape=[100, 100])


def test_a_shape_that_is_given_counts():
    with pytest.raises(Unprocessable, match="4000000 x 3000000 pixels, which take 384000 GB at the least"):
        ask(Exposure("a", 10.0), output_shape=[4000000, 3000000])


def test_opposite_sides_of_the_sky_are_left_to_the_steps():
    ask(Exposure("a", 10.0), Exposure("b", 190.0))
