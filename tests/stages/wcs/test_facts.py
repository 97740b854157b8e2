"""What a header tells of pointing and optics."""

from __future__ import annotations

import pytest

from upramp.stages.core.errors import Unprocessable
from upramp.stages.wcs.facts import wcs_facts

CARDS = {
    "INSTRUME": "NIRSPEC", "DETECTOR": "NRS2 ", "EXP_TYPE": "NRS_TACQ", "V2_REF": 378.5, "V3_REF": -428,
    "RA_REF": 80.0, "DEC_REF": -69.5, "ROLL_REF": 305.0, "SUBSTRT1": 5, "SUBSTRT2": 9, "FILTER": "f110w",
    "GRATING": "MIRROR", "VA_SCALE": 1.00001, "CRPIX1": 100.5, "CRPIX2": 3, "GWA_XTIL": 0.35,
}  # fmt: skip


def test_facts_are_those_of_the_header():
    facts = wcs_facts(CARDS, (3, 64, 32))
    assert (facts.nx, facts.ny, facts.xstart, facts.ystart) == (32, 64, 5, 9)
    assert (facts.instrument, facts.detector, facts.filter, facts.pupil) == ("NIRSPEC", "NRS2", "F110W", "")
    assert (facts.v2_ref, facts.v3_ref, facts.roll_ref) == (378.5, -428.0, 305.0)
    assert facts.crpix == (100.5, 3.0)
    assert (facts.gwa_xtilt, facts.gwa_ytilt) == (0.35, None)


def test_what_may_be_missing():
    facts = wcs_facts({k: v for k, v in CARDS.items() if k not in ("VA_SCALE", "CRPIX2", "SUBSTRT1")}, (8, 8))
    assert facts.va_scale is None
    assert facts.crpix is None
    assert facts.xstart == 1


@pytest.mark.parametrize("keyword", ["V2_REF", "V3_REF", "RA_REF", "DEC_REF", "ROLL_REF"])
@pytest.mark.parametrize("value", [None, "", float("nan"), True])
def test_without_pointing_there_is_no_wcs(keyword, value):
    with pytest.raises(Unprocessable, match=keyword):
        wcs_facts({**CARDS, keyword: value}, (8, 8))


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_a_scale_is_positive(scale):
    with pytest.raises(Unprocessable, match="VA_SCALE"):
        wcs_facts({**CARDS, "VA_SCALE": scale}, (8, 8))
