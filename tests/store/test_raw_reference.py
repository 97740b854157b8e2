"""FITS references as the steps see them."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.core import dq
from upramp.stages.core.errors import Misconfigured
from upramp.store.raw_reference import raw_reference

DQ_DEF = [("BIT", ">i4"), ("VALUE", ">u4"), ("NAME", "S40"), ("DESCRIPTION", "S80")]


def write(path: Path, *images: tuple[str, np.ndarray], rows: list[tuple] | None = None) -> Path:
    primary = fits.PrimaryHDU()
    primary.header["SUBSTRT1"] = 5
    primary.header["BUNIT"] = "primary"
    hdus = fits.HDUList([primary, *(fits.ImageHDU(data, name=name) for name, data in images)])
    hdus[1].header["BUNIT"] = "DN"
    hdus[1].header["ONLYSCI"] = 7
    if rows is not None:
        hdus.append(fits.BinTableHDU(np.array(rows, DQ_DEF), name="DQ_DEF"))
    hdus.writeto(path, overwrite=True)
    return path


@pytest.fixture(params=["plain", "gzip"])
def packed(request):
    """Whether the file is to be compressed."""

    def pack(path: Path) -> Path:
        if request.param == "gzip":
            with path.open("rb") as plain, gzip.open(f"{path}.gz", "wb") as out:
                shutil.copyfileobj(plain, out)
            return Path(f"{path}.gz")
        return path

    return pack


def test_arrays_and_header(tmp_path, packed):
    cube = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    path = packed(write(tmp_path / "ref.fits", ("SCI", cube), ("ERR", cube[0].astype(np.float64))))
    with raw_reference(path, "dark") as raw:
        np.testing.assert_array_equal(raw.array("sci"), cube)
        np.testing.assert_array_equal(raw.array("ERR"), cube[0])
        assert raw.array("SCI").shape == (2, 3, 4)
        assert raw.header["SUBSTRT1"] == 5 and raw.header["ONLYSCI"] == 7 and raw.header["BUNIT"] == "primary"
        assert raw.has("sci") and not raw.has("DQ") and not raw.has("PRIMARY")
        assert raw.name == path.name and raw.reftype == "dark"
        assert raw.dq().shape == (3, 4) and raw.dq().dtype == np.uint32 and not raw.dq().any()


def test_images_are_mapped_and_read_only(tmp_path):
    path = write(tmp_path / "ref.fits", ("SCI", np.ones((3, 4), np.float32)))
    raw = raw_reference(path, "gain")
    image = raw.array("SCI")
    assert image.dtype == np.dtype(">f4") and not image.flags.owndata and not image.flags.writeable
    raw.close()
    assert image.sum() == 12  # still readable
    with pytest.raises(ValueError, match="closed"):
        raw.array("SCI")


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.uint64, np.uint8, np.int16, np.int32])
def test_integers(tmp_path, packed, dtype):
    limits = np.iinfo(dtype)
    values = np.array([[limits.min, limits.max, 1, 2]], dtype)
    with raw_reference(packed(write(tmp_path / "ref.fits", ("SCI", values))), "mask") as raw:
        found = raw.array("SCI")
        assert found.dtype.newbyteorder("=") == dtype
        np.testing.assert_array_equal(found, values)


def test_scaled(tmp_path):
    path = tmp_path / "ref.fits"
    image = fits.ImageHDU(np.array([[1, 2]], np.int16), name="SCI")
    hdus = fits.HDUList([fits.PrimaryHDU(), image])
    image.header["BSCALE"], image.header["BZERO"] = 0.5, 10.0
    hdus.writeto(path)
    with raw_reference(path, "flat") as raw:
        np.testing.assert_array_equal(raw.array("SCI"), [[10.5, 11.0]])


def test_dq_by_hand(tmp_path, packed):
    """Same bit, moved bit, blanks after a name, two bits at once, an unknown name, a bit not in the table."""
    bits = np.array([[0, 1, 2, 3], [4, 8, 16, 1024]], np.uint32)
    rows = [
        (0, 1, "DO_NOT_USE", ""),
        (1, 2, "HOT", ""),
        (2, 4, "DEAD ", ""),
        (3, 3, "WARM", ""),
        (4, 16, "NONSENSE", ""),
    ]
    with raw_reference(packed(write(tmp_path / "mask.fits", ("DQ", bits), rows=rows)), "mask") as raw:
        both = dq.DO_NOT_USE | dq.WARM
        assert raw.dq().tolist() == [[0, both, dq.HOT | dq.WARM, both | dq.HOT], [dq.DEAD, 0, 0, 0]]


@pytest.mark.parametrize("rows", [None, []])
def test_dq_without_definitions(tmp_path, rows):
    bits = np.array([[0, 1, 2**31]], np.uint32)
    with raw_reference(write(tmp_path / "mask.fits", ("DQ", bits), rows=rows), "mask") as raw:
        np.testing.assert_array_equal(raw.dq(), bits)


@settings(max_examples=25, deadline=None)
@given(
    bits=st.lists(st.integers(0, 255), min_size=1, max_size=20),
    names=st.lists(st.sampled_from([*list(dq.FLAGS)[1:], "ODD", ""]), min_size=1, max_size=8),
)
def test_dq_against_naive(tmp_path_factory, bits, names):
    path = tmp_path_factory.mktemp("dq") / "mask.fits"
    rows = [(i, 1 << i, name, "") for i, name in enumerate(names)]
    write(path, ("DQ", np.array([bits], np.uint32)), rows=rows)
    expected = []
    for value in bits:
        flags = 0
        for i, name in enumerate(names):
            if value >> i & 1:
                flags |= dq.FLAGS.get(name, 0)
        expected.append(flags)
    with raw_reference(path, "mask") as raw:
        assert raw.dq().tolist() == [expected]


def test_tables(tmp_path, packed):
    data = np.array(
        [(1, "ab ", 2.5, [1, 2], True)],
        [("n", ">u2"), ("t", "S5"), ("x", ">f8"), ("v", ">f4", 2), ("l", "?")],
    )
    path = tmp_path / "ref.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(data, name="TAB")]).writeto(path)
    with raw_reference(packed(path), "rscd") as raw:
        table = raw.table("tab")
        assert table.dtype["n"] == np.uint16 and table["n"].tolist() == [1]
        assert table["t"].tolist() == ["ab"] and table["x"].dtype == np.float64
        assert table["v"].tolist() == [[1.0, 2.0]] and table["l"].tolist() == [True]
        with pytest.raises(Misconfigured, match="table, not an image"):
            raw.array("TAB")


def test_compressed_image(tmp_path):
    path = tmp_path / "ref.fits"
    image = np.arange(100, dtype=np.int32).reshape(10, 10)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(image, name="SCI")]).writeto(path)
    with raw_reference(path, "flat") as raw:
        np.testing.assert_array_equal(raw.array("SCI"), image)


def test_what_is_missing_is_told(tmp_path):
    path = write(tmp_path / "ref.fits", ("SCI", np.ones((2, 2))))
    with raw_reference(path, "gain") as raw:
        with pytest.raises(Misconfigured, match=r"ref\.fits .type gain. has no extension ERR .*SCI"):
            raw.array("ERR")
        with pytest.raises(Misconfigured, match="image, not a table"):
            raw.table("SCI")


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "gone", "bad gzip"])
def test_damaged(tmp_path, damage):
    path = write(tmp_path / "ref.fits", ("SCI", np.ones((50, 50))))
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {"empty": b"", "cut": data[:9000], "text": b"<html>", "bad gzip": b"\x1f\x8b123"}[damage]
        )
    with pytest.raises(Misconfigured, match=r"ref\.fits .type gain. cannot be read"):
        raw_reference(path, "gain")
