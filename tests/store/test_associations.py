"""Association files and pools: written, read, refused with a sentence that helps."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from upramp.stages.associations.group import Labels, associate
from upramp.stages.core.errors import Misconfigured, Unprocessable
from upramp.store.associations import (
    json_size,
    member_paths,
    read_association,
    read_headers,
    read_pool,
    write_association,
    write_associations,
    write_pool,
)

COLUMNS = "FILENAME|PROGRAM|OBS_NUM|EXP_TYPE|INSTRUME|DETECTOR|FILTER|PUPIL|SUBARRAY|TARGETID|ASN_CANDIDATE"
LINE = "jw{n}_uncal.fits|1|1|NRC_IMAGE|NIRCAM|NRCA{n}|F200W|CLEAR|FULL|1|[('o001', 'OBSERVATION')]"
POOL = "\n".join(["# a comment", "", COLUMNS, "#", *(LINE.format(n=n) for n in (1, 2))]) + "\n"
MEMBER = {"expname": "a_cal.fits", "exptype": "science"}


@pytest.fixture
def pool(tmp_path):
    path = tmp_path / "pool.csv"
    path.write_text(POOL)
    return path


@pytest.fixture
def written(tmp_path):
    """A function that writes something as an association file."""

    def write(found) -> Path:
        path = tmp_path / "x_asn.json"
        path.write_text(found if isinstance(found, str) else json.dumps(found))
        return path

    return write


def test_a_pool_is_read(pool):
    exposures = read_pool(pool)
    assert [e.file for e in exposures] == ["jw1_uncal.fits", "jw2_uncal.fits"]
    assert exposures[0].candidacy == "[('o001', 'observation')]"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (POOL.replace("|OBS_NUM", "").replace("|EXP_TYPE", ""), "line 3.*OBS_NUM, EXP_TYPE are not among"),
        (POOL.replace("|CLEAR", "", 1), "line 5: 10 values for 11 columns; write NULL"),
        (POOL.replace("jw1_uncal.fits", "@!next(x)"), "line 5: this is a template"),
        (POOL.replace("jw1_uncal.fits", "NULL"), "line 5: .*no FILENAME"),
        (POOL.replace("('o001'", "(o001'", 1), "line 5: jw1_uncal.fits: the association candidates"),
        ("# nothing\n", "lists no exposures"),
        (COLUMNS, "lists no exposures"),
    ],
)
def test_what_is_wrong_with_a_pool(pool, text, says):
    pool.write_text(text)
    with pytest.raises(Unprocessable, match=f"pool.csv.*{says}"):
        read_pool(pool)


def test_a_pool_must_be_text(pool):
    pool.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Unprocessable, match="not text in UTF-8"):
        read_pool(pool)
    with pytest.raises(Unprocessable, match="vanished"):
        read_pool(pool.with_name("none.csv"))


def test_a_pool_is_written_and_read_again(pool, tmp_path):
    exposures = read_pool(pool)
    again = tmp_path / "again.csv"
    write_pool(again, exposures)
    assert associate(read_pool(again)) == associate(exposures)
    assert [e.facts for e in read_pool(again)] == [e.facts for e in exposures]


def test_headers_of_products_are_a_pool(make_uncal, tmp_path):
    make_uncal(OBSERVTN="001", TARGPROP="NGC-1")
    name = "jw01234001001_02101_00001_nrcalong"
    shutil.copy(tmp_path / f"{name}_uncal.fits", tmp_path / f"{name}_rate.fits")
    shutil.copy(tmp_path / f"{name}_uncal.fits", tmp_path / f"{name}_o001_crf.fits")
    (tmp_path / f"{name}_cal.fits").write_text("one of several products that is bad does no harm")
    kinds = ("uncal", "rate", "cal", "o001_crf")
    (exposure,), bad = read_headers([tmp_path / f"{name}_{kind}.fits" for kind in kinds])
    assert not bad
    assert exposure.get("targetid") == "ngc1"
    assert {a.products[0].name for a in associate([exposure])} == {
        name,
        "jw01234-o001_tngc1_nircam_clear-f444w-sub64p",
    }


def test_a_header_that_says_too_little(make_uncal):
    with pytest.raises(Unprocessable, match=r"_uncal\.fits: the primary header lacks OBSERVTN"):
        read_headers([make_uncal()])


def test_a_bad_exposure_does_not_keep_the_others(make_uncal, tmp_path):
    good, bad = make_uncal(OBSERVTN="001"), tmp_path / "jw01234001001_02101_00002_nrcalong_uncal.fits"
    bad.write_text("a download that broke off")
    (exposure,), told = read_headers([bad, good])
    assert exposure.file == good.name
    assert len(told) == 1 and bad.name in told[0]


def test_a_file_that_is_no_fits(pool):
    with pytest.raises(Unprocessable, match=r"pool\.csv"):
        read_headers([pool])


def test_associations_are_written_and_read_again(pool, tmp_path):
    found = associate(read_pool(pool), labels=Labels("pool.csv", "v1", "software 1"))
    folder = tmp_path / "out"
    folder.mkdir()
    paths = write_associations(folder, found)
    assert sorted(p.name for p in paths) == [
        "jw00001-o001_v1_image2_00001_asn.json",
        "jw00001-o001_v1_image2_00002_asn.json",
        "jw00001-o001_v1_image3_00001_asn.json",
    ]
    assert [json.loads(p.read_text()) for p in paths] == [a.to_dict() for a in found]
    assert [read_association(p).to_dict() for p in paths] == [a.to_dict() for a in found]
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in paths)


def test_what_says_the_same_is_left_alone(pool, tmp_path):
    found = associate(read_pool(pool))
    (path, *_) = write_associations(tmp_path, found)
    before = path.stat()
    write_associations(tmp_path, found)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_file_appears_whole_or_not_at_all(pool, tmp_path, monkeypatch):
    association = associate(read_pool(pool))[-1]
    path = tmp_path / "x_asn.json"
    path.write_text("before")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Exception, match="no room left"):
        write_association(path, association)
    assert path.read_text() == "before"
    assert not list(tmp_path.glob(".*"))


def test_a_folder_that_is_not_there(pool, tmp_path):
    with pytest.raises(Misconfigured, match="cannot be written"):
        write_associations(tmp_path / "none", associate(read_pool(pool)))


def test_little_is_needed(written):
    image2 = read_association(written({"asn_type": "image2", "products": [{"members": [MEMBER]}]}))
    assert image2.products[0].name == "a"
    assert image2.asn_pool == "none" and image2.version_id is None
    product = {"name": "mine", "members": [MEMBER, {**MEMBER, "expname": "b_cal.fits", "exptype": "PSF"}]}
    coron3 = read_association(written({"asn_type": "coron3", "products": [product]}))
    assert [m.exptype for m in coron3.members] == ["science", "psf"]
    assert coron3.level == 3


def product(*members, **more):
    return {"asn_type": "image3", "products": [{"name": "p", "members": list(members), **more}]}


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ("{nothing", "not valid JSON: .*line 1 column 2.*correct it there"),
        ('{"a": 1,}', "not valid JSON.*no comma after the last item"),
        ("[]", "no list 'products'"),
        ({"asn_type": "image3"}, "no list 'products'"),
        ({"asn_type": "image3", "products": []}, "no list 'products'"),
        ({**product(MEMBER), "asn_type": "image"}, "asn_type is 'image'; did you mean 'image"),
        ({**product(MEMBER), "asn_type": None}, "asn_type is None; it must be one of ami3"),
        ({"asn_type": "image3", "products": [{"name": "p"}]}, r"products\[0\] has no list 'members'"),
        (product(), r"products\[0\] has no list 'members'"),
        (product("a_cal.fits"), r"products\[0\]\.members\[0\] is 'a_cal.fits'; write"),
        (product({"exptype": "science"}), r"members\[0\] has no 'expname'; give the file name"),
        (product(MEMBER, {"expname": "b"}), r"members\[1\] has no 'exptype'; give what it serves as"),
        (product(MEMBER, MEMBER), r"a_cal\.fits is a member more than once"),
        (product(MEMBER, {**MEMBER, "expname": "b/a_cal.fits"}), r"a_cal\.fits is a member more than once"),
        (product(MEMBER, {**MEMBER, "expname": "a_crf.fits"}), "a is a member more than once"),
        (product({**MEMBER, "exptype": "psf"}), "0 members of exptype 'science', but needs at least one"),
        (product(MEMBER, name=""), r"products\[0\] has no 'name'"),
        (product(MEMBER, name="../p"), r"products\[0\]\.name is '\.\./p'.* give a plain word"),
        (product(MEMBER, name="/etc/p"), r"products\[0\]\.name is '/etc/p'"),
        (product(MEMBER, name=" "), r"products\[0\]\.name is ' '"),
        (product(MEMBER, name="p" * 300), r"products\[0\]\.name is 'ppp.* at most 200 bytes"),
        ({**product(MEMBER), "asn_id": "../o001"}, r"asn_id is '\.\./o001'"),
        (
            {**product(MEMBER, {**MEMBER, "expname": "b"}), "asn_type": "image2"},
            "2 members of exptype 'science', but needs exactly one",
        ),
    ],
)
def test_what_is_wrong_with_an_association(written, found, says):
    with pytest.raises(Unprocessable, match=says) as caught:
        read_association(written(found))
    assert str(caught.value).startswith("x_asn.json")


def test_members_stand_beside_their_association(written, tmp_path):
    path = written(product(MEMBER, {**MEMBER, "expname": "sub/b_cal.fits"}))
    association = read_association(path)
    with pytest.raises(Unprocessable, match=re.escape("of 2 members 2 are not in")):
        member_paths(path, association)
    (tmp_path / "sub").mkdir()
    for name in ("a_cal.fits", "sub/b_cal.fits"):
        (tmp_path / name).touch()
    assert member_paths(path, association)["sub/b_cal.fits"] == tmp_path / "sub" / "b_cal.fits"


def test_a_member_with_a_misspelt_name(written, tmp_path):
    (tmp_path / "jw01_nrca1_cal.fits").touch()
    path = written(product({**MEMBER, "expname": "jw01_nrca2_cal.fits"}))
    with pytest.raises(Unprocessable, match=r"jw01_nrca2_cal.fits \(is it jw01_nrca1_cal.fits\?\)"):
        member_paths(path, read_association(path))


def test_the_length_of_a_file_whose_text_ends(tmp_path):
    path = tmp_path / "x_asn.json"
    path.write_text('{"target": "é"}')
    assert json_size(path) == path.stat().st_size == 16
    path.write_text('{"target": ')
    with pytest.raises(Unprocessable, match="is not valid JSON"):
        json_size(path)
