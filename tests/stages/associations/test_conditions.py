"""Conditions: which exposures they take, what goes into keys, what they tell."""

from __future__ import annotations

from upramp.stages.associations.conditions import AnyOf, Check, Fixed, Never, Same, Told, joint_key


def test_same_shares_the_first_value_there_is(row):
    same = Same("optics", ("pupil", "grating"))
    assert same.key(row("a")) == ("clear",)
    assert same.key(row("a", pupil="NULL", grating="G140H")) == ("g140h",)
    assert same.key(row("a", pupil="NULL")) is None
    assert Same("optics", ("pupil",), required=False).key(row("a", pupil="NULL")) == (None,)


def test_among_is_the_whole_value(row):
    same = Same("type", ("exp_type",), "nrc_image|nis")
    assert same.key(row("a")) == ("nrc_image",)
    assert same.key(row("a", exp_type="NIS_IMAGE")) is None


def test_what_is_not_shared_is_not_in_the_key(row):
    assert Same("type", ("exp_type",), shared=False).key(row("a")) == ()


def test_only_science_must_have_the_target(row):
    same = Same("target", ("targetid",), of_science=True)
    assert same.key(row("a")) == ("1",)
    assert same.key(row("a", is_psf="T", targetid=7)) == (None,)


def test_never_and_check(row):
    assert Never("", ("bkgdtarg",)).key(row("a")) == ()
    assert Never("", ("bkgdtarg",)).key(row("a", bkgdtarg="T")) is None
    assert Never("", ("filter",), "opaque").key(row("a")) == ()
    assert Check(lambda e: e.file.startswith("a")).key(row("b")) is None


def test_the_first_way_that_suits(row):
    ways = AnyOf(((Same("x", ("filter",), "f444w"),), (Same("y", ("pupil",)), Fixed("z", "9"))))
    assert ways.key(row("a", filter="F444W")) == ("0", "f444w")
    assert ways.key(row("a")) == ("1", "clear", "9")
    assert ways.key(row("a", pupil="NULL")) is None
    assert ways.values(row("a")) == [("y", "clear"), ("z", "9")]
    assert joint_key((ways, Told("x")), row("a")) == ("1", "clear", "9")


def test_what_is_told(row):
    assert Same("t", ("targetid",)).told(row("a", targetid="a b")) == [
        r"DMSAttrConstraint({'name': 't', 'sources': ['targetid'], 'value': 'a\\ b'})"
    ]
    assert Same("t", ("pupil", "grating"), required=False).told(row("a", pupil="NULL")) == [
        "DMSAttrConstraint({'name': 't', 'sources': ['pupil', 'grating'], 'value': None})"
    ]
    assert Same("", ("pupil",)).told(row("a")) == []
    ways = AnyOf(((Same("x", ("filter",), "f444w"),), (Same("y", ("pupil",)),)))
    assert ways.told(row("a")) == [
        "DMSAttrConstraint({'name': 'x', 'sources': ['filter'], 'value': 'f444w'})",
        "DMSAttrConstraint({'name': 'y', 'sources': ['pupil'], 'value': 'clear'})",
    ]
