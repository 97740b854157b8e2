"""``upramp associate``: what is read, written and said."""

from __future__ import annotations

import json

import pytest

from upramp.daemon import cli

COLUMNS = "FILENAME|PROGRAM|OBS_NUM|EXP_TYPE|INSTRUME|DETECTOR|FILTER|PUPIL|SUBARRAY|TARGETID|ASN_CANDIDATE"
LINE = "jw{o}_uncal.fits|1|{o}|NRC_IMAGE|NIRCAM|NRCA1|F200W|CLEAR|FULL|1|[('o00{o}', 'OBSERVATION')]"


@pytest.fixture
def pool(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pool.csv").write_text("\n".join([COLUMNS, *(LINE.format(o=o) for o in (1, 2))]))
    return tmp_path


def names(folder):
    return {path.name.removesuffix("_asn.json") for path in folder.glob("*.json")}


OBSERVATIONS = {f"jw00001-o00{o}_{t}_00001" for o in (1, 2) for t in ("image2", "image3")}


def test_a_pool_becomes_association_files(pool, capsys):
    assert cli.main(["associate", "pool.csv", "--output", "asn"]) == 0
    assert names(pool / "asn") == OBSERVATIONS | {"jw00001-a3001_image3_00001"}
    found = json.loads((pool / "asn" / "jw00001-a3001_image3_00001_asn.json").read_text())
    assert found["asn_pool"] == "pool.csv" and found["code_version"].startswith("upramp ")
    out = capsys.readouterr().out
    assert out.startswith("wrote 5 associations of 2 exposures\n      2 image2\n      3 image3\n")
    assert "  jw00001-a3001_t001_nircam_clear-f200w: 2 members\n" in out
    assert "  jw00001-o001_t001_nircam_clear-f200w: 1 member\n" in out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--all-candidates"], OBSERVATIONS),
        (["--discover"], {"jw00001-a3001_image3_00001"}),
        (["--discover", "--all-candidates"], OBSERVATIONS | {"jw00001-a3001_image3_00001"}),
        (["--candidate", "o002"], {name for name in OBSERVATIONS if "o002" in name}),
        (
            ["--candidate", "o002", "--version-id", "v1"],
            {name.replace("o002", "o002_v1") for name in OBSERVATIONS if "o002" in name},
        ),
    ],
)
def test_what_to_combine_can_be_chosen(pool, options, expected):
    assert cli.main(["associate", "pool.csv", "--output", "asn", *options]) == 0
    assert names(pool / "asn") == expected


def test_for_machines(pool, capsys):
    assert cli.main(["associate", "pool.csv", "--candidate", "o001", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["exposures"] == 2
    assert {(a["file"], a["type"], a["members"]) for a in facts["associations"]} == {
        ("jw00001-o001_image2_00001_asn.json", "image2", 1),
        ("jw00001-o001_image3_00001_asn.json", "image3", 1),
    }


def test_headers_take_the_place_of_a_pool(make_uncal, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sky = {"OBSERVTN": "002", "BKGDTARG": True}
    make_uncal(OBSERVTN="001", TARGPROP="NGC-1")
    for n in (2, 3):
        make_uncal(f"jw01234002001_02101_0000{n}_nrcalong_uncal.fits", TARGPROP=f"SKY-{n}", **sky)
    assert cli.main(["associate", ".", "--output", "asn", "--save-pool", "found.csv"]) == 0
    out = capsys.readouterr().out
    assert "wrote 6 associations of 3 exposures" in out
    assert "note: program 01234, NIRCAM: 2 background targets (sky2, sky3)" in out
    first = names(tmp_path / "asn")
    assert cli.main(["associate", "found.csv", "--output", "again"]) == 0
    assert names(tmp_path / "again") == first


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["pool.csv", "--candidate", "o003"], 2, "no candidate o003; there are o001, o002"),
        (["pool.csv", "pool.csv"], 2, "give one pool alone"),
        (["pol.csv"], 2, "did you mean"),
        (["."], 2, "holds no exposures (*_uncal.fits, *_rate.fits, *_cal.fits, ...)"),
        (["bad.csv"], 1, "bad.csv, line 1: a pool begins with the names of its columns"),
        (["pool.csv", "--output", "pool.csv/x"], 2, "cannot be made"),
    ],
)
def test_what_goes_wrong(pool, capsys, words, code, says):
    (pool / "bad.csv").write_text("a|b")
    assert cli.main(["associate", *words]) == code
    assert says in capsys.readouterr().err
