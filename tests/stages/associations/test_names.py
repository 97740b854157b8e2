"""Names of members and products, and which of equal associations is kept."""

from __future__ import annotations

import pytest

from upramp.stages.associations.names import (
    exposure_name,
    is_exposure,
    member_name,
    program_name,
    target_name,
)
from upramp.stages.associations.pool import exposure_from_row
from upramp.stages.associations.prune import prune
from upramp.stages.associations.record import Association, Member, Product
from upramp.stages.associations.rules import LEVEL2, LEVEL3

IMAGE2 = next(rule for rule in LEVEL2 if rule.name == "Asn_Lv2Image")
IMAGE3 = next(rule for rule in LEVEL3 if rule.name == "Asn_Lv3Image")


ENDINGS = [
    "uncal",
    "rate",
    "rateints",
    "cal",
    "calints",
    "ramp",
    "crf",
    "o001_crf",
    "a3001_crfints",
    "mine_crf",
]


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_exposure_is_named_without_ending(ending):
    name = "jw01234001001_02101_00001-seg001_nrca1"
    assert exposure_name(f"{name}_{ending}.fits") == name
    assert is_exposure(f"{name}_{ending}.fits")


def test_a_name_that_is_not_the_archives_keeps_all_but_the_ending():
    assert exposure_name("my_field_crf.fits") == "my_field"
    assert exposure_name("my_field_c1000_crf.fits") == "my_field"


def test_other_files_are_no_exposures():
    assert not is_exposure("jw01234-o001_t001_nircam_clear-f200w_i2d.fits")
    assert not is_exposure("jw01234_cal.fits.tmp")
    assert not is_exposure(".jw01234_cal.fits")


def test_members_have_the_ending_of_the_stage():
    def exposure(name, **facts):
        return exposure_from_row({"filename": name, "exp_type": "nrc_image", "pntgtype": "science", **facts})

    assert member_name(exposure("a_uncal.fits"), IMAGE2) == "a_rate.fits"
    assert member_name(exposure("a_rateints.fits"), IMAGE3) == "a_cal.fits"
    assert member_name(exposure("a_uncal.fits", tsovisit="t"), IMAGE3) == "a_calints.fits"
    assert member_name(exposure("other.fits"), IMAGE3) == "other.fits"


def test_numbers_are_filled_up():
    assert target_name("7") == "t007"
    assert target_name("ngc1") == "tngc1"
    assert program_name("711") == "00711"


def association(asn_id, members, name="p", level=3):
    return Association(
        "image3",
        "rule",
        level,
        "00001",
        asn_id,
        "t001",
        (Product(name, tuple(Member(m, "science") for m in members)),),
    )


def ids(found):
    return [a.asn_id for a in prune(found)]


def test_the_lower_candidate_is_kept():
    found = [association(i, "ab", name=i) for i in ("a3001", "c1000", "o001", "c1001")]
    assert ids(found) == ["o001"]
    assert ids(found[:2]) == ["c1000"]


def test_the_first_of_equals_is_kept():
    assert ids([association(i, "ab", name=i) for i in ("c1001", "c1000")]) == ["c1001"]


def test_most_members_are_kept():
    found = [association("o001", "a"), association("c1000", "abc"), association("c1001", "bcd")]
    assert ids(found) == ["c1000", "c1001"]


def test_levels_do_not_meet():
    assert len(prune([association("o001", "a", level=2), association("o001", "bc")])) == 2


def test_an_association_as_in_a_file():
    two = Association(
        "image2", "r", 2, "00001", "o001", "1", (Product("p", (Member("a", "science", "null"),)),)
    )
    assert list(two.to_dict()) == [
        "asn_type",
        "asn_rule",
        "version_id",
        "code_version",
        "degraded_status",
        "program",
        "constraints",
        "asn_id",
        "asn_pool",
        "target",
        "products",
    ]
    assert two.to_dict()["products"] == [
        {"name": "p", "members": [{"expname": "a", "exptype": "science", "exposerr": "null"}]}
    ]
    assert list(association("o001", "a").to_dict())[7:10] == ["asn_id", "target", "asn_pool"]
    assert two.products[0].of("background") == ()
