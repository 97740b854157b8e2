"""Reading level-1b files: what they hold, and every kind of bad input."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upramp.stages.core.errors import Misconfigured, Retryable, Unprocessable
from upramp.store import ramps
from upramp.store.asdf_tree import read_tree
from upramp.store.fitsio import promised_size, reading_error, writing_error
from upramp.store.uncal import open_uncal

BLOCK = 2880


def pixels(path: Path) -> np.ndarray:
    with fits.open(path, memmap=False) as hdus:
        return np.array(hdus["SCI"].data, np.float32)


def set_card(path: Path, keyword: str, text: str) -> None:
    """Overwrite the raw value of a card, however invalid."""
    content = path.read_bytes()
    at = content.index(f"{keyword:8s}=".encode())
    card = f"{keyword:8s}= {text}".ljust(80).encode()
    path.write_bytes(content[:at] + card + content[at + 80 :])


def test_good_file(make_uncal):
    path = make_uncal(EXTRA="kept")
    uncal = open_uncal(path)
    meta = uncal.meta
    assert (meta.nints, meta.ngroups, meta.ny, meta.nx) == (2, 3, 6, 8)
    assert (meta.instrument, meta.detector, meta.exp_type) == ("NIRCAM", "NRCALONG", "NRC_IMAGE")
    assert (meta.int_start, meta.int_end, meta.segment, meta.segments) == (1, 2, 1, 1)
    assert (meta.frame_time, meta.is_tso, meta.has_zeroframe, meta.gain_factor) == (
        10.73677,
        False,
        False,
        None,
    )
    assert uncal.header["EXTRA"] == "kept"
    assert uncal.header["RA_REF"] == 80.0
    assert uncal.tree is None
    assert uncal.int_times["integration_number"].tolist() == [1, 2]
    assert uncal.exposure_id == uncal.segment_id == "jw01234001001_02101_00001_nrcalong"
    assert uncal.checksum() == hashlib.sha256(path.read_bytes()).hexdigest()
    assert promised_size(path) == path.stat().st_size == uncal.size
    np.testing.assert_array_equal(uncal.read_all(), pixels(path))


def test_segment(make_uncal):
    name = "jw01234002001_04102_00001-seg002_nrcalong_uncal.fits"
    path = make_uncal(name, NINTS=5, INTSTART=4, INTEND=5, EXSEGNUM=2, EXSEGTOT=2)
    meta = open_uncal(path).meta
    assert (meta.nints, meta.nints_total, meta.int_start, meta.int_end) == (2, 5, 4, 5)
    assert (meta.segment, meta.segments) == (2, 2)
    assert len(open_uncal(path).int_times) == 5


def test_number_of_segments_may_be_unknown(make_uncal):
    name = "jw01234002001_04102_00001-seg002_nrcalong_uncal.fits"
    meta = open_uncal(make_uncal(name, NINTS=5, INTSTART=3, INTEND=4)).meta
    assert (meta.segment, meta.segments) == (2, 0)


def test_irs2_frames_are_longer_than_the_subarray_keywords(make_uncal):
    keywords = {"INSTRUME": "NIRSPEC", "DETECTOR": "NRS1", "EXP_TYPE": "NRS_FIXEDSLIT"}
    path = make_uncal(shape=(1, 1, 3200, 2), SUBSIZE1=2048, SUBSIZE2=2048, **keywords)
    assert open_uncal(path).meta.is_irs2


@pytest.mark.parametrize(
    ("keyword", "value", "says"),
    [
        ("TELESCOP", "HST", "TELESCOP is 'HST'; upramp calibrates JWST data only"),
        ("TELESCOP", None, "TELESCOP is missing"),
        ("INSTRUME", "WFC3", "INSTRUME is 'WFC3', none of FGS"),
        ("DETECTOR", "NRS1", "DETECTOR is 'NRS1', but NIRCAM has NRCA1"),
        ("EXP_TYPE", "NRC_SELFIE", "EXP_TYPE is 'NRC_SELFIE', an unknown exposure type"),
        ("EXP_TYPE", "MIR_IMAGE", "EXP_TYPE is 'MIR_IMAGE', which NIRCAM does not take"),
        ("EXP_TYPE", 7, "EXP_TYPE is 7, not a text"),
        ("NGROUPS", 4, "NGROUPS is 4, but the SCI data have NAXIS3 = 3"),
        ("NGROUPS", None, "NGROUPS is missing"),
        ("NGROUPS", "NaN", "NGROUPS is 'NaN', not a finite number"),
        ("NGROUPS", True, "NGROUPS is True, not a finite number"),
        ("NGROUPS", 2.5, "NGROUPS is 2.5; it must be a whole number"),
        ("NINTS", 3, "NINTS is 3, but the SCI data have NAXIS4 = 2"),
        ("NINTS", 0, "NINTS is 0; it must be a whole number, 1 or more"),
        ("SUBSIZE1", 9, "SUBSIZE1 is 9, but the SCI data have NAXIS1 = 8"),
        ("SUBSIZE2", 8, "SUBSIZE2 is 8, but the SCI data have NAXIS2 = 6"),
        ("SUBSTRT1", 0, "SUBSTRT1 is 0"),
        ("TGROUP", 0.0, "TGROUP is 0 s; it must be positive"),
        ("TFRAME", None, "TFRAME is missing"),
        ("FASTAXIS", 3, "FASTAXIS is 3"),
        ("GROUPGAP", -1, "GROUPGAP is -1"),
        ("NFRAMES", 1000000000, "NFRAMES is 1000000000, which no JWST exposure has (1024 at most)"),
        ("FRMDIVSR", 1000000000, "FRMDIVSR is 1000000000, which no"),
        ("GROUPGAP", 65536, "GROUPGAP is 65536, which no"),
        ("DRPFRMS1", 100000, "DRPFRMS1 is 100000, which no"),
        ("TGROUP", 1e300, "TGROUP is 1e+300 s, which no"),
        ("TFRAME", 1e300, "TFRAME is 1e+300 s, which no"),
        ("NOUTPUTS", 7, "NOUTPUTS is 7, which no"),
        ("SUBSTRT1", 99999, "SUBSTRT1 is 99999, but with NAXIS1 = 8 the subarray would end at pixel 100006"),
        ("SUBSTRT2", 2044, "SUBSTRT2 is 2044, but with NAXIS2 = 6 the subarray would end at pixel 2049"),
        ("INTSTART", 1, "INTEND is missing"),
        ("GAINFACT", 0.0, "GAINFACT is 0; it must be positive"),
        ("GAINFACT", -1.5, "GAINFACT is -1.5; it must be positive"),
        ("GAINFACT", "x", "GAINFACT is 'x'"),
    ],
)
def test_keywords_missing_or_contradictory(make_uncal, keyword, value, says):
    with pytest.raises(Unprocessable) as caught:
        open_uncal(make_uncal(**{keyword: value}))
    assert says in str(caught.value)
    assert "jw01234001001_02101_00001_nrcalong_uncal.fits" in str(caught.value)


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"EXSEGNUM": 3, "EXSEGTOT": 2}, "EXSEGNUM is 3, above EXSEGTOT = 2"),
        ({"NINTS": 5, "INTSTART": 5, "INTEND": 6}, "INTEND is 6, above NINTS = 5"),
        (
            {"NINTS": 5, "INTSTART": 1, "INTEND": 3},
            "INTEND is 3 and INTSTART 1, but the SCI data",
        ),
        ({"NINTS": 5, "INTSTART": 4, "INTEND": 3}, "INTEND is 3 and INTSTART 4"),
        ({"NINTS": 5}, "a segment needs INTSTART and INTEND"),
    ],
)
def test_segments_that_contradict_themselves(make_uncal, keywords, says):
    with pytest.raises(Unprocessable, match=says):
        open_uncal(make_uncal(**keywords))


def test_cards_that_are_not_fits(make_uncal):
    path = make_uncal(PI_NAME="x")
    set_card(path, "PI_NAME", "NaN")
    assert "PI_NAME" not in open_uncal(path).header  # nobody needs it
    set_card(path, "TGROUP", "NaN")
    with pytest.raises(Unprocessable, match=r"TGROUP cannot be read .*TGROUP  = NaN"):
        open_uncal(path)


@pytest.mark.parametrize("text", ["NaN", "-1", "1.5", "", "9" * 60])
def test_axes_that_are_no_lengths(make_uncal, text):
    path = make_uncal()
    set_card(path, "NAXIS3", text)
    with pytest.raises(Unprocessable, match="NAXIS3"):
        open_uncal(path)


def test_ten_terabytes_are_refused_unread(make_uncal):
    path = make_uncal()
    set_card(path, "NAXIS4", "200000")
    set_card(path, "NAXIS3", "20000000")
    assert promised_size(path) > 10**13
    with pytest.raises(Unprocessable, match="which no JWST exposure has"):
        open_uncal(path)


def test_data_of_other_kinds(make_uncal):
    with pytest.raises(Unprocessable, match="SCI has 3 axes"):
        open_uncal(make_uncal(counts=np.zeros((2, 6, 8), np.uint16)))
    with pytest.raises(Unprocessable, match="BITPIX 16, BZERO 0"):
        open_uncal(make_uncal(counts=np.zeros((2, 3, 6, 8), np.int16)))
    with pytest.raises(Unprocessable, match="BITPIX -64"):
        open_uncal(make_uncal(counts=np.zeros((2, 3, 6, 8))))
    path = make_uncal()
    with fits.open(path, mode="update") as hdus:
        del hdus["SCI"]
    with pytest.raises(Unprocessable, match="no SCI extension"):
        open_uncal(path)


def test_every_truncation_is_seen(make_uncal):
    """At whatever byte a copy stands, it is refused, or known to be shorter than promised."""
    whole = make_uncal()
    content = whole.read_bytes()
    path = whole.with_name("cut_uncal.fits")
    for size in [0, 1, 8, 79, 80, BLOCK, *range(1000, len(content), 1717), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(Unprocessable) as caught:
            open_uncal(path)
        assert any(word in str(caught.value) for word in ("truncated", "empty", "ends", "not complete"))
    path.write_bytes(content)
    assert open_uncal(path).size == len(content)


def test_promise_of_a_growing_file(make_uncal):
    whole = make_uncal()
    content = whole.read_bytes()
    path = whole.with_name("part_uncal.fits")
    path.write_bytes(content[: open_uncal(whole).unit("SCI").data - 10])
    with pytest.raises(Unprocessable, match="still being copied"):
        promised_size(path)
    path.write_bytes(content[: open_uncal(whole).unit("SCI").data + 5])  # headers done, pixels begun
    assert promised_size(path) > path.stat().st_size


def test_not_fits(tmp_path, make_uncal):
    path = tmp_path / "x_uncal.fits"
    cases = [
        (b"", "is empty"),
        (b"hello world" * 500, "is not a FITS file"),
        (gzip.compress(b"SIMPLE"), "gzip-compressed"),
        (b"#ASDF 1.0.0\n", "it is ASDF"),
        (b"SIMPLE  =" + b"\xff" * 5000, "bytes that are no text"),
        (b"SIMPLE  =                    T".ljust(BLOCK) * 3, "truncated"),
        (b"SIMPLE  =                    T".ljust(80) + b"END".ljust(BLOCK - 80), "lacks BITPIX"),
    ]
    for content, says in cases:
        path.write_bytes(content)
        for look in (open_uncal, promised_size):
            with pytest.raises(Unprocessable, match=says):
                look(path)


def test_header_without_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("upramp.store.fitsio.MAX_HEADER_BLOCKS", 3)
    path = tmp_path / "x_uncal.fits"
    path.write_bytes(b"SIMPLE  =                    T".ljust(BLOCK) * 5)
    with pytest.raises(Unprocessable, match="no END within 3 blocks"):
        promised_size(path)


def test_bytes_after_the_last_unit_are_allowed(make_uncal):
    path = make_uncal()
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"\0" * 100)
    assert promised_size(path) == size
    assert open_uncal(path).size == size + 100


def test_things_that_are_not_files(tmp_path):
    folder = tmp_path / "x_uncal.fits"
    folder.mkdir()
    pipe = tmp_path / "pipe_uncal.fits"
    os.mkfifo(pipe)
    loop = tmp_path / "loop_uncal.fits"
    loop.symlink_to(loop)
    for path, says in [
        (folder, "is a directory"),
        (pipe, "is not a regular file"),
        (loop, "cannot be read"),
        (tmp_path / "gone_uncal.fits", "vanished"),
    ]:
        with pytest.raises(Unprocessable, match=says):
            open_uncal(path)


def test_io_errors_say_what_to_do():
    path = Path("/data/x_uncal.fits")
    assert isinstance(reading_error(OSError(errno.EIO, "bad disk"), path), Retryable)
    assert isinstance(reading_error(OSError(errno.ESTALE, "stale"), path), Retryable)
    denied = reading_error(PermissionError(errno.EACCES, "Permission denied"), path)
    assert isinstance(denied, Unprocessable)
    assert "chmod" in str(denied)
    assert isinstance(writing_error(OSError(errno.ENOSPC, "full"), path), Retryable)
    assert isinstance(writing_error(OSError(errno.EROFS, "read-only"), path), Misconfigured)
    assert isinstance(writing_error(OSError(errno.EIO, "bad disk"), path), Retryable)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_windows_are_slices(make_uncal, monkeypatch, data):
    """Any window equals astropy's slice, for any piece size, for counts and for floats."""
    shape = tuple(data.draw(st.integers(1, n), label="shape") for n in (4, 3, 7, 9))
    floats = data.draw(st.booleans(), label="floats")
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    counts = rng.integers(0, 65536, shape).astype(np.float32 if floats else np.uint16)
    path = make_uncal(counts=counts + np.float32(0.25) if floats else counts)
    monkeypatch.setattr(ramps, "_PIECE", data.draw(st.integers(1, 2000), label="piece"))
    with open_uncal(path).source() as source:
        for _ in range(3):
            y0, x0 = (data.draw(st.integers(0, n - 1)) for n in shape[2:])
            rows = data.draw(st.integers(1, shape[2] - y0))
            columns = data.draw(st.integers(1, shape[3] - x0))
            out = np.full((rows, *shape[:2], columns), np.nan, np.float32)
            source.read(out, y0, x0)
            expected = pixels(path)[:, :, y0 : y0 + rows, x0 : x0 + columns].transpose(2, 0, 1, 3)
            np.testing.assert_array_equal(out, expected)


def test_float_bits_survive(make_uncal):
    counts = np.array([np.nan, np.inf, -0.0, 1e-45, 65535.5, -1], np.float32).reshape(1, 1, 2, 3)
    uncal = open_uncal(make_uncal(counts=counts))
    assert uncal.read_all().tobytes() == counts.tobytes()


def test_windows_outside_or_of_other_shapes(make_uncal):
    with open_uncal(make_uncal()).source() as source:
        for shape, y0, x0 in [
            ((7, 2, 3, 8), 0, 0),
            ((1, 2, 3, 8), 0, 1),
            ((1, 2, 3, 1), -1, 0),
            ((1, 3, 2, 8), 0, 0),
        ]:
            with pytest.raises(ValueError, match=r"lie outside|must be C-contiguous"):
                source.read(np.zeros(shape, np.float32), y0, x0)
        source.read(np.zeros((0, 2, 3, 8), np.float32), 0, 0)


def test_threads_share_a_source(make_uncal):
    path = make_uncal(shape=(5, 4, 16, 8))
    expected = pixels(path).transpose(2, 0, 1, 3)
    out = np.zeros(expected.shape, np.float32)
    with open_uncal(path).source() as source:
        threads = [threading.Thread(target=source.read, args=(out[y : y + 2], y, 0)) for y in range(0, 16, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    np.testing.assert_array_equal(out, expected)


def test_file_that_shrinks_while_it_is_read(make_uncal):
    path = make_uncal()
    uncal = open_uncal(path)
    with uncal.source() as source:
        os.truncate(path, uncal.unit("SCI").data + 100)
        with pytest.raises(Retryable, match="became shorter"):
            source.read(np.zeros((6, 2, 3, 8), np.float32), 0, 0)
    with pytest.raises(ValueError, match="is closed"):
        source.read(np.zeros((6, 2, 3, 8), np.float32), 0, 0)


def test_tree_without_arrays():
    document = b"""#ASDF 1.0.0
#ASDF_STANDARD 1.5.0
%YAML 1.1
%TAG ! tag:stsci.edu:asdf/
--- !core/asdf-1.1.0
asdf_library: !core/software-1.0.0 {name: asdf, version: 2.15.1}
data: !core/ndarray-1.0.0
  source: fits:SCI,1
  shape: [6, 2, 128, 128]
meta: {observation: {program_number: 01019, time: '00:30'}, wcs: !<tag:example.org:x/y-1.0.0> {a: 1}}
...
"""
    tree = read_tree(document + b"\0" * 99)
    assert tree == {"meta": {"observation": {"program_number": "01019", "time": "00:30"}, "wcs": None}}
    for broken in (
        b"",
        b"x",
        document[:-5],
        document.replace(b"meta: {", b"meta: {{{"),
        b"#ASDF\n--- 3\n...\n",
    ):
        assert read_tree(broken) is None


@pytest.mark.shared
def test_flight_guider_file(shared):
    path = shared / "real/fgs_guider/jw01019001001_gs-acq1_2022117003102_uncal.fits"
    uncal = open_uncal(path)
    assert uncal.meta.exp_type == "FGS_ACQ1"
    assert uncal.tree["meta"]["observation"]["program_number"] == "01019"
    np.testing.assert_array_equal(uncal.read_all(), pixels(path))
    stripped = shared / "real/fgs_guider/fgs_acq1_guider1.fits"  # flight header, pixels cut to 1 x 1
    with pytest.raises(Unprocessable, match="NGROUPS is 2"):
        open_uncal(stripped)


@pytest.mark.shared
def test_guider_modes(shared, tmp_path):
    for packed in sorted((shared / "peer/fgs_modes").glob("*/*_uncal.fits.gz")):
        path = tmp_path / packed.stem
        path.write_bytes(gzip.decompress(packed.read_bytes()))
        np.testing.assert_array_equal(open_uncal(path).read_all(), pixels(path))


def test_frame_zero_is_read_as_ramps_of_one_group(make_uncal):
    path = make_uncal()
    with fits.open(path) as hdus:
        zero = np.arange(2 * 6 * 8, dtype=np.uint16).reshape(2, 6, 8)
        hdus.append(fits.ImageHDU(zero, name="ZEROFRAME"))
        hdus.writeto(path, overwrite=True)
    uncal = open_uncal(path)
    assert uncal.meta.has_zeroframe
    out = np.empty((3, 1, 1, 5), np.float32)
    with uncal.zero_source() as source:
        source.read(out, 2, 1, 1)
    np.testing.assert_array_equal(out[:, 0, 0], zero[1, 2:5, 1:6])


def test_frame_zero_of_another_size_is_refused(make_uncal):
    path = make_uncal()
    with pytest.raises(Unprocessable, match="ZEROFRAME has shape None"):
        open_uncal(path).zero_source()
    with fits.open(path) as hdus:
        hdus.append(fits.ImageHDU(np.zeros((2, 6, 7), np.uint16), name="ZEROFRAME"))
        hdus.writeto(path, overwrite=True)
    with pytest.raises(Unprocessable, match=r"ZEROFRAME has shape \(2, 6, 7\)"):
        open_uncal(path).zero_source()
