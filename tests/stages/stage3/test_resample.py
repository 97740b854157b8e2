"""Mosaics of made-up visits: the grid of the user's, headers and table, parameters that are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from upramp.stages.core.errors import Misconfigured
from upramp.stages.core.frames import Crew
from upramp.stages.resample.given import given_of
from upramp.stages.stage3.resample import Params, fill_value, one_by_one, resample

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
    for wrong in (
        {"fillval": "x"}, {"kernel": "cubic"}, {"pixfrac": 1.1}, {"weight_type": "err"},
        {"crpix": [1.0]}, {"crval": [1.0, 2.0, 3.0]}, {"output_shape": [10]}, {"output_shape": [0, 10]},
        {"pixel_scale_ratio": 0.0}, {"pixel_scale_ratio": np.nan}, {"pixel_scale": -0.03},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Params(**wrong)


def test_each_exposure_by_itself(visit):
    """On the grid of all; images of a group together, whose time counts once."""
    members = visit([*DITHER, (0.2, 0.1)])
    for member, group in zip(members, "abac", strict=True):
        member.group, member.cards = group, {**member.cards, "EFFEXPTM": 2.0, "EXPMID": 60000.0}
    p, crew = Params(single=True, blendheaders=False, propagate_dq=True, pixel_scale_ratio=0.8), Crew()
    whole = resample(members, replace(p, single=False), crew)
    parts = list(one_by_one(members, p, crew))
    assert [group for group, _ in parts] == [[0, 2], [1], [3]]
    assert whole.primary["EFFEXPTM"] == 6.0 and whole.primary["NDRIZ"] == 3
    values, weights = np.zeros(whole.arrays["SCI"].shape), np.zeros(whole.arrays["SCI"].shape)
    for group, made in parts:
        assert list(made.arrays) == ["SCI", "ERR", "DQ", "CON", "WHT"]
        assert made.primary["NDRIZ"] == 1 and made.sci["S_REGION"] == whole.sci["S_REGION"]
        assert made.sci["XPOSURE"] == 2.0
        assert set(np.unique(made.arrays["CON"])) <= set(range(1 << len(group)))
        there = made.arrays["WHT"] > 0
        values[there] += (made.arrays["SCI"] * made.arrays["WHT"])[there]
        weights += made.arrays["WHT"]
        own = members[group[0]].err
        assert (made.arrays["ERR"][there] <= own.max() / 0.8 * 1.001).all()
        assert (made.arrays["ERR"][there] >= own.min() / 0.8 * 0.999).all()
        assert np.isnan(made.arrays["ERR"][~there]).all()
    np.testing.assert_allclose(whole.arrays["WHT"], weights, rtol=1e-5)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(whole.arrays["SCI"], values / weights, rtol=1e-4)
    without = [made.arrays for _, made in one_by_one(members, replace(p, enable_err=False), crew)]
    assert all("ERR" not in arrays for arrays in without)
