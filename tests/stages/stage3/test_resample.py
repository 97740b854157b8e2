"""Mosaics of made-up visits: the grid of the user's, headers and table, parameters that are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from upramp.stages.core.errors import Misconfigured
from upramp.stages.core.frames import Crew
from upramp.stages.resample.given import given_of
from upramp.stages.stage3.resample import MOSAIC, Params, fill_value, resample

DITHER = [(0.0, 0.0), (0.3, -0.2), (-0.5, 0.4)]


@pytest.mark.parametrize("kernel", ["square", "gaussian"])
def test_the_grid_of_a_mosaic_given_back_makes_the_same_mosaic(visit, kernel):
    members = visit(DITHER)
    plain = Params(kernel=kernel, propagate_dq=True)
    one = resample(members, plain, Crew())
    given = given_of({"wcs": one.wcs}, "own.asdf")
    two = resample(members, replace(plain, output_wcs="own.asdf"), Crew(2), given=given)
    assert two.wcs is given.wcs and list(one.arrays) == list(two.arrays)
    ratio = two.primary["PXSCLRT"]
    assert ratio == pytest.approx(1, rel=1e-4)
    for name, array in one.arrays.items():
        scale = ratio**-2 if name.startswith("VAR") else 1 / ratio if name == "ERR" else 1
        np.testing.assert_allclose(two.arrays[name] / scale, array, rtol=2e-4, err_msg=name)
    for keyword in ("CRPIX1", "CRVAL2", "CDELT1", "PC1_2"):
        assert two.sci[keyword] == pytest.approx(one.sci[keyword], rel=1e-9)
    assert two.sci["S_REGION"] == one.sci["S_REGION"]


def test_a_grid_that_was_not_read_is_refused(visit):
    with pytest.raises(Misconfigured, match="has not been read"):
        resample(visit(DITHER[:1]), Params(output_wcs="own.asdf"), Crew())


def test_headers_are_merged_if_asked_for(visit):
    members = visit(DITHER)
    for k, member in enumerate(members):
        member.cards |= {
            "EXPMID": 60000.0 + k,
            "EXPSTART": 59999.0 + k,
            "EXPEND": 60001.0 + k,
            "EFFEXPTM": 2.0,
        }
    merged, plain = (resample(members, Params(blendheaders=b), Crew()) for b in (True, False))
    assert merged.primary["EXPMID"] == 60001.0 and "EXPMID" not in plain.primary
    for made in (merged, plain):
        p = made.primary
        assert (p["EXPSTART"], p["EXPEND"], p["EFFEXPTM"]) == (59999.0, 60003.0, 6.0)
        assert made.sci["XPOSURE"] == 6.0
    assert list(merged.tables["HDRTAB"]["EXPMID"]) == [60000.0, 60001.0, 60002.0] and not plain.tables


def test_what_parameters_may_be():
    assert np.isnan(fill_value("INDEF")) and np.isnan(fill_value(" nan ")) and fill_value("-7.5") == -7.5
    for wrong in ({"fillval": "x"}, {"kernel": "cubic"}, {"pixfrac": 1.1}, {"weight_type": "err"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Params(**wrong)
    assert MOSAIC.unsupported(Params()) == [] and "single" in MOSAIC.unsupported(Params(single=True))[0]
