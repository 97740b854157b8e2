"""Previews on disk: what comes back is what was written, others understand it, and others are refused."""

from __future__ import annotations

from dataclasses import replace
from warnings import catch_warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from upramp.stages.core.errors import Unprocessable
from upramp.stages.stage3.preview_mosaic import Canvas
from upramp.store.preview_file import Preview, Shown, cards_of, read_preview, write_preview

NAMES = ("jw01234001001_02101_00001_nrca1_cal.fits", "my own, äöü_cal.fits")


@pytest.fixture
def preview():
    rng = np.random.default_rng(2)
    sci, wht = rng.normal(size=(2, 30, 40)).astype("f4")
    wht = np.abs(wht)
    sci[:4], wht[:4] = np.nan, 0
    canvas = Canvas((359.9, -45.0), 1.7e-5 / 3, -12, 7, sci, wht)
    shown = {NAMES[0]: Shown(123, 1_764_096_000_123_456_789), NAMES[1]: Shown(5, 6, -0.25)}
    return Preview(canvas, {"FILTER": "F200W", "BUNIT": "MJy/sr"}, shown)


def test_there_and_back(preview, tmp_path):
    target = tmp_path / "some_preview.fits"
    write_preview(tmp_path / "scratch", target, preview, "some_asn.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["some_preview.fits", "some_preview.png"]
    found = read_preview(target)
    assert found.members == dict(preview.members)
    assert found.cards == preview.cards
    for name in ("sci", "wht"):
        array = getattr(found.canvas, name)
        np.testing.assert_array_equal(array, getattr(preview.canvas, name))
        assert array.dtype == np.float32 and array.dtype.isnative and array.flags.writeable
    assert (found.canvas.x0, found.canvas.y0) == (-12, 7)
    assert found.canvas.crval == preview.canvas.crval
    assert found.canvas.scale == pytest.approx(preview.canvas.scale, rel=1e-13)
    write_preview(tmp_path / "scratch", target, found, "some_asn.json")
    assert read_preview(target).canvas.scale == found.canvas.scale, "it does not wander"


def test_others_understand_where_it_is(preview, tmp_path):
    target, association = tmp_path / "some_preview.fits", f"jw01234-o001_t{'long' * 15}_image3_asn.json"
    with catch_warnings(action="error"):  # what warns shows in the log
        write_preview(tmp_path / "scratch", target, preview, association)
    x, y = np.array([0.0, 39.0, 3.5]), np.array([0.0, 29.0, 20.0])
    with fits.open(target) as file:
        sky = WCS(file["SCI"].header).all_pix2world(x, y, 0)
        assert (file["SCI"].header["BUNIT"], file["WHT"].header["BUNIT"]) == ("MJy/sr", "s")
        assert file[0].header["ASNTABLE"] == association
        assert "BUNIT" not in file[0].header
    np.testing.assert_allclose(sky, preview.canvas.grid.sky(x, y), rtol=0, atol=1e-10)


def test_none_and_no_preview(preview, tmp_path):
    target = tmp_path / "some_preview.fits"
    assert read_preview(target) is None
    write_preview(tmp_path / "scratch", target, preview, "")
    whole = target.read_bytes()
    for broken in (b"", whole[:5000], whole[:-2880], b"SIMPLE" + bytes(3000)):
        target.write_bytes(broken)
        with pytest.raises(Unprocessable, match="begun anew"):
            read_preview(target)
    write_preview(tmp_path / "scratch", target, replace(preview, members={}), "")
    with pytest.raises(Unprocessable, match="begun anew"):
        read_preview(target)


def test_what_of_a_header_is_kept():
    assert cards_of({"FILTER": "F200W", "PROGRAM": 1234, "NAXIS": 0, "PUPIL": None}) == {"FILTER": "F200W"}
