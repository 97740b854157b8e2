"""Facts of exposures: from rows of pools, from headers, and what they say."""

from __future__ import annotations

import pytest

from upramp.stages.associations.group import associate, background_key
from upramp.stages.associations.pool import (
    Candidate,
    by_candidate,
    exposure_from_header,
    exposure_from_row,
    link_backgrounds,
    parse_candidates,
)
from upramp.stages.core.errors import Unprocessable


def test_a_row_is_text_in_lower_case(row):
    exposure = row("JW1", filter=" F200W ", also=(("C1000", "GROUP"),))
    assert exposure.file == "jw1_uncal.fits"
    assert exposure.get("filter") == "f200w"
    assert exposure.candidates == (Candidate("o001", "observation"), Candidate("c1000", "group"))
    assert exposure.get("asn_candidate") == "[('o001', 'observation'), ('c1000', 'group')]"


@pytest.mark.parametrize("word", ["NULL", "", "--", "N", "F", "false", "N/A"])
def test_words_for_nothing(row, word):
    assert row("a", pupil=word).get("pupil") is None


def test_none_is_a_value(row):
    assert row("a", subarray="NONE").get("subarray") == "none"


def test_a_row_without_a_file_is_refused(row):
    with pytest.raises(Unprocessable, match="no FILENAME"):
        exposure_from_row({"filename": "NULL", "program": "1"})


@pytest.mark.parametrize("text", ["[('o001',", "o001", "[('x1', 'observation')]", "[1, 2]", "27"])
def test_candidates_that_cannot_be_read(text):
    with pytest.raises(Unprocessable, match=r"jw1.*cannot be read"):
        parse_candidates(text, "jw1")


def test_no_candidates():
    assert parse_candidates("null", "jw1") == ()


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({}, "science"),
        ({"exp_type": "NRC_TACQ"}, "target_acquisition"),
        ({"pntgtype": "TARGET_ACQUISITION"}, "target_acquisition"),
        ({"bkgdtarg": "T"}, "background"),
        ({"is_psf": "T", "bkgdtarg": "T"}, "psf"),
        ({"is_imprt": "T"}, "imprint"),
        ({"exp_type": "NRC_DARK"}, "dark"),
        ({"exp_type": "NRC_FOCUS", "is_psf": "T"}, "engineering"),
    ],
)
def test_what_an_exposure_serves_as(row, facts, kind):
    assert row("a", **facts).kind == kind


@pytest.mark.parametrize(
    ("facts", "kept"),
    [
        ({}, False),
        ({"tsovisit": "T"}, True),
        ({"exp_type": "NRC_TSIMAGE"}, True),
        ({"exp_type": "NRC_TSIMAGE", "pntgtype": "NULL"}, False),
        ({"exp_type": "NRC_TACQ", "tsovisit": "T"}, False),
        ({"exp_type": "NRC_CORON", "pupil": "MASKRND", "detector": "NRCA2"}, True),
        ({"exp_type": "NRC_CORON", "pupil": "MASKRND", "detector": "NRCA1"}, False),
        ({"exp_type": "NRC_CORON", "pupil": "MASKRND", "detector": "NRCA1", "subarray": "SUB640"}, True),
        ({"exp_type": "NRC_CORON", "pupil": "MASKBAR", "detector": "NRCA4"}, True),
        ({"exp_type": "MIR_LYOT"}, True),
        ({"exp_type": "NIS_AMI"}, True),
    ],
)
def test_whose_integrations_are_kept(row, facts, kept):
    assert row("a", **facts).keeps_integrations is kept


def test_a_header_gives_a_row(header):
    exposure = header(BKGDTARG=True, IS_PSF=None)
    assert exposure.file == "jw01234001001_02101_00001_nrcalong_uncal.fits"
    assert exposure.get("obs_num") == "1"
    assert exposure.get("program") == "01234"
    assert exposure.get("bkgdtarg") == "t"
    assert exposure.get("is_psf") is None
    assert exposure.facts["pntgtype"] == "science"
    assert exposure.candidates == (Candidate("o001", "observation"),)


def test_headers_tell_targets_apart_by_name(header):
    assert header(TARGPROP="NGC-3324").get("targetid") == "ngc3324"
    assert header(TARGPROP="", TARGNAME="HD 1").get("targetid") == "hd1"
    assert header(TARGPROP=None).get("targetid") == "o001"


def test_acquisitions_are_known_by_their_exposure_type(header):
    assert header(EXP_TYPE="NRC_TACQ").kind == "target_acquisition"


@pytest.mark.parametrize("keyword", ["PROGRAM", "OBSERVTN", "EXP_TYPE", "INSTRUME", "DETECTOR"])
def test_a_header_that_says_too_little(keyword):
    values = {"PROGRAM": "1", "OBSERVTN": "1", "EXP_TYPE": "A", "INSTRUME": "B", "DETECTOR": "C"}
    del values[keyword]
    with pytest.raises(Unprocessable, match=f"x.fits.*lacks {keyword}"):
        exposure_from_header("x.fits", values)


def test_an_observation_that_is_no_number(header):
    with pytest.raises(Unprocessable, match="OBSERVTN is 'one'"):
        header(OBSERVTN="one")


def test_exposures_by_candidate(row):
    pool = [row("a", obs_num=2, also=(("c1000", "group"),)), row("b", obs_num=1), row("c", obs_num=2)]
    assert {c.id: positions for c, positions in by_candidate(pool).items()} == {
        "c1000": [0],
        "o001": [1],
        "o002": [0, 2],
    }


def visit(header, **background):
    science = [header(EXPOSURE=n) for n in (1, 2)]
    return [*science, header(OBSERVTN="002", TARGPROP="SKY", BKGDTARG=True, **background)]


def test_a_background_is_found_from_headers(header):
    linked = link_backgrounds(visit(header), background_key)
    assert not linked.notes
    found = associate(linked.exposures)
    image2 = [a for a in found if a.asn_type == "image2" and a.asn_id == "c1000"]
    assert [[m.exptype for m in a.members] for a in image2] == [["science", "background"]] * 2
    assert {a.asn_rule for a in found if a.asn_id == "o002"} == {
        "candidate_Asn_Lv2ImageSpecial",
        "candidate_Asn_Lv3ImageBackground",
    }


def test_a_background_through_other_optics_is_not_linked(header):
    linked = link_backgrounds(visit(header, FILTER="F356W"), background_key)
    assert all(len(e.candidates) == 1 for e in linked.exposures[:2])


def test_of_several_background_targets_none_is_taken(header):
    pool = [*visit(header), header(OBSERVTN="003", TARGPROP="OTHER-SKY", BKGDTARG=True)]
    linked = link_backgrounds(pool, background_key)
    assert linked.exposures == pool
    (note,) = linked.notes
    assert "program 01234, NIRCAM: 2 background targets (othersky, sky)" in note
