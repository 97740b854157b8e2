"""Whether all is in: patterns, detectors, visits, files, failures, quiet; in any order."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from upramp.stages.associations.group import associate, background_key
from upramp.stages.associations.names import exposure_name
from upramp.stages.associations.pool import link_backgrounds
from upramp.stages.associations.ready import Readiness, readiness

SHORT = {"CHANNEL": "SHORT", "FILTER": "F200W"}


def image3(heard):
    (found,) = [a for a in associate(heard, discover=False) if a.level == 3]
    return found


def state(heard, **more):
    return readiness(image3(heard), heard, **more)


@pytest.fixture
def dithers(header):
    """Three dithers of a visit that has no other exposures."""

    def make(*numbers, **keywords):
        return [header(EXPOSURE=n, NUMDTHPT=3, NEXPOSUR=3, **keywords) for n in numbers]

    return make


def test_a_pattern_announces_its_exposures(dithers):
    found = state(dithers(1, 3))
    assert found.state == "waiting" and not found.ready
    assert found.missing == ("jw01234001001_02101_00002_nrcalong",)
    assert found.unheard == ()
    assert "1 missing (jw01234001001_02101_00002_nrcalong)" in found.reason
    assert state(dithers(1, 2, 3)) == Readiness(
        "complete", tuple(f"jw01234001001_02101_0000{n}_nrcalong" for n in (1, 2, 3))
    )


def test_the_detectors_of_a_module_come_together(header):
    heard = [header(NUMDTHPT=1, NEXPOSUR=1, DETECTOR=f"NRCA{n}", **SHORT) for n in (1, 2, 4)]
    assert state(heard).missing == ("jw01234001001_02101_00001_nrca3",)
    heard.append(header(NUMDTHPT=1, NEXPOSUR=1, DETECTOR="NRCA3", **SHORT))
    assert state(heard).state == "complete"


def test_both_modules_where_the_aperture_says_so(header):
    heard = [header(NUMDTHPT=1, NEXPOSUR=1, PPS_APER="NRCALL_FULL")]
    assert state(heard).missing == ("jw01234001001_02101_00001_nrcblong",)


def test_a_detector_seen_once_is_announced_for_the_visit(header):
    """A subarray of one detector, by the table; another that is there shows that it is read, too."""
    heard = [header(SUBARRAY="SUB64P", DETECTOR="NRCB1", EXPOSURE=n, **SHORT) for n in (1, 2)]
    assert state(heard).state == "complete"
    heard.append(header(SUBARRAY="SUB64P", DETECTOR="NRCB2", EXPOSURE=1, **SHORT))
    assert state(heard).missing == ("jw01234001001_02101_00002_nrcb2",)


def test_several_exposures_at_every_point(header):
    heard = [header(EXPOSURE=n, NUMDTHPT=2, NEXPOSUR=4) for n in (1, 2, 3)]
    assert state(heard).missing == ("jw01234001001_02101_00004_nrcalong",)


def test_the_visit_tells_how_many_were_not_heard_of(header):
    """A direct image before and after eight grism exposures: whether the second belongs is not known yet."""
    first = header(NUMDTHPT=1, NEXPOSUR=10)
    found = state([first])
    assert found.state == "waiting"
    assert found.unheard == (("01234001001", 9),)
    grism = [
        header(ACT_ID="02", EXPCOUNT=2, EXPOSURE=n, EXP_TYPE="NRC_WFSS", NEXPOSUR=10) for n in range(1, 9)
    ]
    assert state([first, *grism]).unheard == (("01234001001", 1),)
    last = header(ACT_ID="03", EXPCOUNT=10, NUMDTHPT=1, NEXPOSUR=10)
    found = state([first, *grism, last])
    assert found.state == "complete"
    assert len(found.present) == 2


def test_counts_that_contradict_each_other_say_nothing(header):
    assert state([header(NUMDTHPT=1, NEXPOSUR=5, EXPCOUNT=7)]).state == "complete"
    twice = [header(NUMDTHPT=1, NEXPOSUR=5), header(NUMDTHPT=1, NEXPOSUR=5, ACT_ID="02")]
    assert state(twice).state == "complete"
    assert state([header(NUMDTHPT=None, NEXPOSUR=None, EXPCOUNT=None)]).state == "complete"


def test_every_visit_that_was_heard_of_must_be_whole(dithers):
    tiles = [*dithers(1, 2, 3), *dithers(1, 2, VISIT="002")]
    assert state(tiles).missing == ("jw01234001002_02101_00003_nrcalong",)
    assert state([*tiles, *dithers(3, VISIT="002")]).state == "complete"


def test_order_and_repetition_do_not_matter(dithers):
    heard = [*dithers(1, 2, 3), *dithers(1, 2, VISIT="002")]
    expected = state(heard)
    for seed in range(6):
        again = heard * 2
        random.Random(seed).shuffle(again)
        once = {exposure_name(e.file): e for e in again}
        assert readiness(image3(list(once.values())), again) == expected


def test_arrivals_one_by_one_complete_exactly_once_at_the_end(dithers):
    for seed in range(6):
        coming = dithers(1, 2, 3)
        random.Random(seed).shuffle(coming)
        states = [state(coming[: n + 1]).state for n in range(len(coming))]
        assert states == ["waiting", "waiting", "complete"]


def test_members_that_are_still_calibrated(dithers):
    heard = dithers(1, 2, 3)
    done = {exposure_name(e.file) for e in heard[:2]}
    found = state(heard, done=done, idle_s=1e9, quiet_s=1.0)
    assert found.state == "waiting"
    assert found.pending == ("jw01234001001_02101_00003_nrcalong",)
    assert found.missing == ()


def test_failed_members_are_not_waited_for(dithers):
    heard = dithers(1, 2, 3)
    bad = exposure_name(heard[1].file)
    found = state(heard, done={exposure_name(e.file) for e in heard} - {bad}, failed={bad})
    assert found.state == "complete" and found.failed == (bad,)
    gone = "jw01234001001_02101_00003_nrcalong"
    assert state(heard[:2], failed={gone}).state == "complete"


def test_without_science_nothing_can_be_made(dithers):
    heard = dithers(1)
    found = state(heard, failed={exposure_name(heard[0].file)})
    assert found.state == "failed" and not found.ready


def test_quiet_time_decides_where_something_never_comes(dithers):
    heard = dithers(1, 2)
    assert state(heard, idle_s=599.0, quiet_s=600.0).state == "waiting"
    found = state(heard, idle_s=600.0, quiet_s=600.0)
    assert found.state == "quiet" and found.ready
    assert found.missing == ("jw01234001001_02101_00003_nrcalong",)
    assert state(heard, idle_s=1e9).state == "waiting"


def test_a_file_lists_all_there_is(dithers):
    association = image3(dithers(1, 2, 3))
    found = readiness(association, dithers(1, 3), listed=True)
    assert found.state == "waiting"
    assert found.missing == ("jw01234001001_02101_00002_nrcalong",)
    assert readiness(association, dithers(1, 2, 3), listed=True).state == "explicit"
    two = image3(dithers(1, 2))
    assert readiness(two, dithers(1, 2), listed=True).state == "explicit"


def image2(heard):
    linked = link_backgrounds(heard, background_key).exposures
    found = associate(linked, discover=False)
    (own,) = [a for a in found if a.level == 2 and a.products[0].name.startswith("jw01234001")]
    return own


def test_at_level_two_an_exposure_waits_for_its_backgrounds_alone(dithers):
    heard = dithers(1)
    assert readiness(image2(heard), heard).state == "complete"
    heard += dithers(1, 2, OBSERVTN="002", TARGPROP="SKY", BKGDTARG=True)
    found = readiness(image2(heard), heard)
    assert found.missing == ("jw01234002001_02101_00003_nrcalong",)
    heard += dithers(3, OBSERVTN="002", TARGPROP="SKY", BKGDTARG=True)
    assert readiness(image2(heard), heard).state == "complete"


def test_pairs_of_one_detector_do_not_wait_for_others(header):
    facts = {
        "VISITYPE": "PRIME_WFSC_ROUTINE",
        "PATTTYPE": "WFSC",
        "OBS_ID": "V1",
        "DETECTOR": "NRCA3",
        **SHORT,
    }
    heard = [header(EXPOSURE=n, **facts) for n in (1, 2)]
    assert state(heard).state == "complete"


def test_both_detectors_of_nirspec(header):
    facts = {"INSTRUME": "NIRSPEC", "EXP_TYPE": "NRS_MIMF", "NUMDTHPT": 1, "NEXPOSUR": 1}
    assert state([header(DETECTOR="NRS1", **facts)]).missing == ("jw01234001001_02101_00001_nrs2",)


def test_headers_without_names_of_activities_announce_nothing(header):
    association = image3([header()])
    silent = header()
    silent.facts["act_id"] = "null"
    assert readiness(association, [silent]).missing == ()


def test_announced_exposures_may_be_at_work_or_have_failed(dithers):
    heard = dithers(1)
    second, third = (f"jw01234001001_02101_0000{n}_nrcalong" for n in (2, 3))
    found = state(heard, at_work={second}, failed={third})
    assert (found.state, found.pending, found.failed, found.missing) == ("waiting", (second,), (third,), ())
    assert state(heard, failed={second, third}).failed == (second, third)


def test_what_nobody_works_at_is_missing(dithers):
    heard = dithers(1, 2, 3)
    done = {exposure_name(e.file) for e in heard[:2]}
    found = state(heard, done=done, at_work=(), idle_s=600.0, quiet_s=600.0)
    assert (found.state, found.missing) == ("quiet", (exposure_name(heard[2].file),))


def test_segments_are_parts_of_what_was_announced(dithers):
    heard = dithers(1, 2, 3)
    first, second = (replace(e, file=e.file.replace("_nrc", "-seg001_nrc")) for e in heard[:2])
    found = state([first, second, heard[2]])
    assert (found.state, found.missing) == ("complete", ())
