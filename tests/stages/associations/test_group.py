"""Grouping: hand-made pools, worked by hand and held once against the observatory's generator."""

from __future__ import annotations

import dataclasses
import random
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upramp.stages.associations.group import Labels, associate, gather
from upramp.stages.associations.rules import LEVEL2, LEVEL3, RULES

BACKGROUND, GROUP, MOSAIC = ("c1000", "BACKGROUND"), ("c1001", "GROUP"), ("c1002", "MOSAIC")


def told(found):
    """Rule, identifier, product and members, as words."""
    return {
        (
            a.asn_rule,
            a.asn_id,
            a.products[0].name,
            " ".join(f"{m.expname.removesuffix('.fits')}:{m.exptype}" for m in a.members),
        )
        for a in found
    }


def images(found, level=3):
    return {entry for entry in told(a for a in found if a.level == level)}


@pytest.mark.parametrize("rules", [LEVEL2, LEVEL3])
def test_rules_stand_in_the_order_that_decides(rules):
    """The later of two rules that make the same association is kept, as the observatory keeps it."""
    names = [rule.name for rule in rules]
    assert names == sorted(names)


def test_rules_are_told_apart():
    assert max(Counter(rule.name for rule in RULES).values()) == 1
    for rule in RULES:
        assert rule.level == (2 if rule.type.endswith("2") else 3)


def test_images_of_an_observation(row):
    found = associate([row("a"), row("b", detector="NRCA2"), row("c", filter="F150W")])
    assert told(found) == {
        ("candidate_Asn_Lv2Image", "o001", "a", "a_rate:science"),
        ("candidate_Asn_Lv2Image", "o001", "b", "b_rate:science"),
        ("candidate_Asn_Lv2Image", "o001", "c", "c_rate:science"),
        (
            "candidate_Asn_Lv3Image",
            "o001",
            "jw00099-o001_t001_nircam_clear-f200w",
            "a_cal:science b_cal:science",
        ),
        ("candidate_Asn_Lv3Image", "o001", "jw00099-o001_t001_nircam_clear-f150w", "c_cal:science"),
    }


def test_files_are_numbered_and_labelled(row):
    found = associate([row("a"), row("b")], labels=Labels("p.csv", "20240101t000000", "software 1"))
    assert {a.name for a in found} == {
        "jw00099-o001_20240101t000000_image2_00001_asn",
        "jw00099-o001_20240101t000000_image2_00002_asn",
        "jw00099-o001_20240101t000000_image3_00001_asn",
    }
    assert {(a.asn_pool, a.code_version) for a in found} == {("p.csv", "software 1")}


@pytest.mark.parametrize(
    ("facts", "product"),
    [
        ({"subarray": "SUB160"}, "nircam_clear-f200w-sub160"),
        ({"targetid": "1234"}, "t1234_nircam_clear-f200w"),
        ({"exp_type": "MIR_IMAGE", "instrume": "MIRI", "pupil": "NULL", "filter": "F560W"}, "miri_f560w"),
        ({"exp_type": "FGS_IMAGE", "instrume": "FGS", "pupil": "NULL", "filter": "NULL"}, "fgs_clear"),
        (
            {"exp_type": "NIS_IMAGE", "instrume": "NIRISS", "filter": "F480M", "pupil": "CLEARP"},
            "clearp-f480m",
        ),
    ],
)
def test_names_of_products(row, facts, product):
    (image3,) = images(associate([row("a", **facts)]))
    assert image3[2].endswith(product)


def test_backgrounds_are_members_beside_each_science_exposure(row):
    pool = [row(n, also=(BACKGROUND,)) for n in "ab"]
    pool += [row(n, also=(BACKGROUND,), obs_num=2, bkgdtarg="T", targetid=2) for n in "cd"]
    found = associate(pool)
    assert images(found, 2) == {
        ("candidate_Asn_Lv2Image", "c1000", "a", "a_rate:science c_rate:background d_rate:background"),
        ("candidate_Asn_Lv2Image", "c1000", "b", "b_rate:science c_rate:background d_rate:background"),
        ("candidate_Asn_Lv2ImageSpecial", "o002", "c", "c_rate:science"),
        ("candidate_Asn_Lv2ImageSpecial", "o002", "d", "d_rate:science"),
    }
    assert {entry[:2] for entry in images(found)} == {
        ("candidate_Asn_Lv3Image", "o001"),
        ("candidate_Asn_Lv3ImageBackground", "o002"),
    }


def test_backgrounds_through_other_optics_are_no_members(row):
    pool = [row("a", also=(BACKGROUND,)), row("b", also=(BACKGROUND,), obs_num=2, bkgdtarg="T", pupil="X")]
    assert {e[1:] for e in images(associate(pool), 2)} == {
        ("o001", "a", "a_rate:science"),
        ("o002", "b", "b_rate:science"),
    }


def test_a_group_of_observations_beside_each_of_them(row):
    found = images(associate([row(str(o), also=(GROUP,), obs_num=o) for o in (1, 2)]))
    assert {(e[1], e[3]) for e in found} == {
        ("o001", "1_cal:science"),
        ("o002", "2_cal:science"),
        ("c1001", "1_cal:science 2_cal:science"),
    }


def test_a_group_with_data_of_one_observation_says_nothing_new(row):
    assert {e[1] for e in images(associate([row(n, also=(GROUP,)) for n in "ab"]))} == {"o001"}


def test_other_targets_join_in_a_mosaic_alone(row):
    def pool(candidate):
        return [row(str(o), also=(candidate,), obs_num=o, targetid=o) for o in (1, 2)]

    assert {e[1] for e in images(associate(pool(GROUP)))} == {"o001", "o002"}
    found = images(associate(pool(MOSAIC)))
    assert (
        "candidate_Asn_Lv3ImageMosaic",
        "c1002",
        "jw00099-c1002_t000_nircam_clear-f200w",
        "1_cal:science 2_cal:science",
    ) in found


def test_tiles_of_an_observation_are_one(row):
    (found,) = images(associate([row(str(v), visit=v, mostilno=v) for v in (1, 2, 3)]))
    assert found[3] == "1_cal:science 2_cal:science 3_cal:science"


def test_across_observations_the_same_target_is_discovered(row):
    pool = [row(str(o), obs_num=o) for o in (1, 2)] + [row("3", obs_num=3, targetid=3)]
    discovered = {e for e in images(associate(pool)) if e[1] == "a3001"}
    assert discovered == {
        (
            "discover_Asn_Lv3Image",
            "a3001",
            "jw00099-a3001_t001_nircam_clear-f200w",
            "1_cal:science 2_cal:science",
        )
    }
    assert not any(e[1] == "a3001" for e in told(associate(pool, discover=False)))
    alone = associate(pool, candidates=())
    assert {(a.asn_id, len(a.members)) for a in alone} == {("a3001", 2), ("a3001", 1)}


def test_only_some_candidates(row):
    found = associate([row(str(o), obs_num=o) for o in (1, 2)], candidates=["o002"], discover=False)
    assert {a.asn_id for a in found} == {"o002"}


def test_without_candidates_an_exposure_can_be_discovered(row):
    found = associate([row("a", asn_candidate="NULL"), row("b")])
    assert {(a.asn_id, len(a.members)) for a in found if a.level == 3} == {("o001", 1), ("a3001", 2)}


def test_acquisitions_of_the_observation_are_members(row):
    pool = [row("t", exp_type="NRC_TACQ"), row("a"), row("u", exp_type="NRC_TACQ", obs_num=2)]
    (found,) = images(associate(pool))
    assert found[3] == "a_cal:science t_cal:target_acquisition"
    assert {e[0] for e in told(associate(pool)) if e[2] == "t"} == {"candidate_Asn_Lv2ImageNonScience"}


def test_time_series_are_kept_apart(row):
    found = associate([row("a", tsovisit="T"), row("b")])
    assert images(found, 2) == {
        ("candidate_Asn_Lv2ImageTSO", "o001", "a", "a_rateints:science"),
        ("candidate_Asn_Lv2Image", "o001", "b", "b_rate:science"),
    }
    assert {a.asn_type for a in found} == {"tso-image2", "image2", "image3"}
    assert {e[3] for e in images(found)} == {"b_cal:science"}


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        ({"is_psf": "T"}, "Asn_Lv2ImageSpecial"),
        ({"exp_type": "NRC_FOCUS"}, "Asn_Lv2ImageNonScience"),
        ({"exp_type": "NRS_VERIFY"}, "Asn_Lv2ImageNonScience"),
        (
            {"exp_type": "NRS_MSASPEC", "msastate": "PRIMARYPARK_ALLOPEN", "grating": "MIRROR"},
            "Asn_Lv2ImageNonScience",
        ),
        ({"exp_type": "FGS_FOCUS"}, "Asn_Lv2FGS"),
        ({"exp_type": "NRS_LAMP", "grating": "MIRROR"}, "Asn_Lv2NRSLAMPImage"),
        ({"visitype": "PRIME_WFSC_ROUTINE"}, "Asn_Lv2WFSC"),
    ],
)
def test_rules_of_single_exposures(row, facts, rule):
    (found,) = images(associate([row("a", **facts)], discover=False), 2)
    assert found == (f"candidate_{rule}", "o001", "a", "a_rate:science")


@pytest.mark.parametrize(
    "facts",
    [
        {"exp_type": "NRC_DARK"},
        {"exp_type": "NRC_WFSS"},
        {"exp_type": "NIS_EXTCAL"},
        {"exp_type": "NRS_LAMP", "grating": "G140H"},
        {"is_imprt": "T"},
        {"visitype": "PRIME_WFSC_ROUTINE", "dms_note": "WFSC_LOS_JITTER"},
    ],
)
def test_exposures_of_no_rule(row, facts):
    assert associate([row("a", **facts)]) == []


def test_full_frame_coronagraphy_is_also_taken_as_images(row):
    found = associate([row(d, exp_type="NRC_CORON", pupil="MASKRND", detector=d) for d in ("NRCA1", "NRCA2")])
    assert {(e[0], e[3]) for e in told(found)} == {
        ("candidate_Asn_Lv2Image", "nrca1_rate:science"),
        ("candidate_Asn_Lv2Image", "nrca2_rateints:science"),
        ("candidate_Asn_Lv2CoronAsRate", "nrca2_rate:science"),
        ("candidate_Asn_Lv3NRCCoronImage", "nrca1_cal:science nrca2_cal:science"),
    }


def test_a_psf_star_joins_every_target(row):
    pool = [
        row(
            name,
            exp_type="MIR_LYOT",
            instrume="MIRI",
            also=(("c1003", "CORONAGRAPHY"),),
            obs_num=o,
            targetid=o,
        )
        for name, o in (("a", 1), ("b", 2))
    ]
    assert not [a for a in associate(pool) if a.asn_type == "coron3"]
    pool.append(
        row(
            "p",
            exp_type="MIR_LYOT",
            instrume="MIRI",
            is_psf="T",
            also=(("c1003", "CORONAGRAPHY"),),
            obs_num=3,
            targetid=3,
        )
    )
    assert {(a.asn_id, tuple(m.expname for m in a.members)) for a in associate(pool) if a.level == 3} == {
        ("c1003", ("a_calints.fits", "p_calints.fits")),
        ("c1003", ("b_calints.fits", "p_calints.fits")),
    }


def test_pairs_of_wavefront_sensing(row):
    facts = {"visitype": "PRIME_WFSC_ROUTINE", "patttype": "WFSC", "obs_id": "V1"}
    assert not [a for a in associate([row("a", **facts)]) if a.level == 3]
    (found,) = images(associate([row("a", **facts), row("b", **facts)]))
    assert found[2] == "jw00099-o001_t001_nircam_clear-f200w-nrca1_{suffix}-01"


def test_of_the_same_product_the_fuller_association_is_kept(row):
    found = images(associate([row("a", visitype="X"), row("b", visitype="Y"), row("c", visitype="Y")]))
    assert {e[3] for e in found} == {"b_cal:science c_cal:science"}


def test_errors_on_board_are_told(row):
    found = associate([row("a", exposerr="GUIDE STAR LOST"), row("b")])
    states = {a.products[0].name: a.degraded_status for a in found}
    assert states["a"].startswith("One or more members have an error")
    assert states["b"] == "No known degraded exposures in association."
    (image3,) = [a for a in found if a.level == 3]
    assert [m.exposerr for m in image3.members] == ["guide star lost", "null"]
    assert image3.degraded_status == states["a"]


def test_programs_are_kept_apart(row):
    found = associate([row("a", program="1"), row("b", program="00002")])
    assert {(a.program, a.sequence) for a in found} == {("00001", 1), ("00002", 1)}


# Keys with missing values


def test_a_missing_value_stands_for_any():
    keys = {0: ("x", "p"), 1: ("x", None), 2: ("x", "q"), 3: ("y", None), 4: ("y", None)}
    assert gather(keys) == {("x", "p"): [0, 1], ("x", "q"): [1, 2], ("y", None): [3, 4]}


def test_missing_values_join_the_fullest():
    keys = {0: (None, None), 1: (None, "b"), 2: ("a", "b")}
    assert gather(keys) == {("a", "b"): [0, 1, 2]}


def test_keys_of_different_length_are_different():
    assert gather({0: ("1", None), 1: ("1", None, "2")}) == {("1", None): [0], ("1", None, "2"): [1]}


words = st.sampled_from(["a", "b", None])


@given(st.lists(st.tuples(words, words, words), max_size=12))
def test_nothing_is_lost_and_members_agree(keys):
    groups = gather(dict(enumerate(keys)))
    assert {p for positions in groups.values() for p in positions} == set(range(len(keys)))
    for key, positions in groups.items():
        for p in positions:
            assert all(mine in (None, value) for mine, value in zip(keys[p], key, strict=True))


# Order and work


def test_order_of_the_pool_changes_the_order_of_members_alone(row):
    pool = [row("a"), row("b", detector="NRCA2"), row("c", filter="F150W"), row("d", exp_type="NRC_TACQ")]
    pool += [row("e", obs_num=2, also=(BACKGROUND,), bkgdtarg="T"), row("f", obs_num=3, also=(BACKGROUND,))]

    def sets(found):
        return {(a.asn_rule, a.asn_id, a.products[0].name, a.target, frozenset(a.members)) for a in found}

    expected = sets(associate(pool))
    for seed in range(5):
        shuffled = pool.copy()
        random.Random(seed).shuffle(shuffled)
        assert sets(associate(shuffled)) == expected


def calls(work) -> int:
    """How many calls of functions a piece of work makes, those written in C included."""
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def test_work_grows_with_the_number_of_exposures(row):
    """Counted, not timed: twice the exposures, at most twice the work."""

    def pool(n):
        return [
            row(f"{k:04d}", also=(GROUP,), obs_num=1 + k % 4, detector=f"NRCA{1 + k % 3}") for k in range(n)
        ]

    small, large = pool(150), pool(300)
    assert calls(lambda: associate(large)) < 2.05 * calls(lambda: associate(small))


def test_every_rule_looks_at_every_exposure_a_fixed_number_of_times(row):
    """A mosaic of 1200 members: each exposure is asked as often as in a small pool."""

    class Counting(dict):
        asked = 0

        def get(self, *args):
            Counting.asked += 1
            return super().get(*args)

    def asked(n):
        pool = [row(f"{k:05d}") for k in range(n)]
        pool = [dataclasses.replace(e, facts=Counting(e.facts)) for e in pool]
        Counting.asked = 0
        found = associate(pool)
        assert sum(len(a.members) for a in found if a.level == 3) == n
        return Counting.asked / n

    assert asked(1200) == pytest.approx(asked(12), rel=0.3)
