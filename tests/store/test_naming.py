"""File names: what the archive's tell, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upramp.stages.core.errors import Unprocessable
from upramp.store import naming


@pytest.mark.parametrize(
    ("name", "exposure", "stem", "segment", "standard"),
    [
        (
            "jw01234002001_04102_00001-seg012_nrcalong_uncal.fits",
            "jw01234002001_04102_00001_nrcalong",
            "jw01234002001_04102_00001-seg012_nrcalong",
            12,
            True,
        ),
        ("jw01234001001_02101_00001_nis_uncal.fits", *["jw01234001001_02101_00001_nis"] * 2, None, True),
        (
            "jw01019001001_gs-acq1_2022117003102_uncal.fits",
            *["jw01019001001_gs-acq1_2022117003102"] * 2,
            None,
            True,
        ),
        ("my data_uncal.fits", "my data", "my data", None, False),
        ("test-seg002_x_uncal.FITS", "test_x", "test-seg002_x", 2, False),
        ("ramp.fits", "ramp", "ramp", None, False),
        ("été_uncal.fits", "été", "été", None, False),
    ],
)
def test_parts(name, exposure, stem, segment, standard):
    parsed = naming.parse_name(name)
    assert (parsed.exposure_id, parsed.segment_id, parsed.segment) == (exposure, stem, segment)
    assert parsed.standard is standard
    assert parsed.product("rateints") == f"{stem}_rateints.fits"


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x_uncal.fits",
        "a/b_uncal.fits",
        "a\\b_uncal.fits",
        "_uncal.fits",
        ".fits",
        " _uncal.fits",
        ".hidden_uncal.fits",
        "-rf_uncal.fits",
        "~x_uncal.fits",
        "a\nb_uncal.fits",
        "a\0b_uncal.fits",
        "\x1b[31m_uncal.fits",
        "a\u202eb_uncal.fits",
        "\udcff_uncal.fits",
        "x" * 300 + "_uncal.fits",
    ],
)
def test_refused(name):
    with pytest.raises(Unprocessable, match="rename the file"):
        naming.parse_name(name)


@given(st.text(max_size=40))
def test_products_stay_in_their_folder(stem):
    """Whatever the input is called: it is refused, or its product is a plain file of the output folder."""
    try:
        parsed = naming.parse_name(stem + "_uncal.fits")
    except Unprocessable:
        return
    for kind in naming.KINDS:
        path = Path("/out") / parsed.product(kind)
        assert path.parent == Path("/out")
        assert path.resolve().parent == Path("/out")
        assert not path.name.startswith(".")


@given(st.text(max_size=40))
def test_scratch_is_inside_the_hidden_folder(job):
    folder = naming.scratch_folder(Path("/out"), job)
    assert folder.resolve().is_relative_to("/out/.upramp-scratch")


def test_scratch_of_dots():
    assert naming.scratch_folder(Path("/out"), "..").resolve() != Path("/out")


def test_inputs_in_folders():
    assert naming.is_input("jw1_uncal.fits")
    assert not naming.is_input(".jw1_uncal.fits")
    assert not naming.is_input("jw1_uncal.fits.part")
    assert not naming.is_input("jw1_rate.fits")


@pytest.mark.parametrize(
    ("segment", "before"),
    [
        ("jw01234001001_02101_00003_nrca1", "jw01234001001_02101_00002_nrca1"),
        ("jw01234001001_02101_00003-seg001_nrca1", "jw01234001001_02101_00002_nrca1"),
        ("jw01234001001_02101_00003-seg010_nrca1", "jw01234001001_02101_00003-seg009_nrca1"),
        ("jw01234001001_02101_00001_nrca1", None),
        ("jw01234001001_02101_00001-seg002_nrca1", "jw01234001001_02101_00001-seg001_nrca1"),
        ("jw01019001001_gs-acq1_2022117003102", None),
        ("my data", None),
    ],
)
def test_what_was_taken_directly_before(segment, before):
    assert naming.preceding(segment) == before


def test_previews_lie_beside_the_products():
    product = "jw01234-o001_tngc3324_nircam_clear-f200w"
    assert naming.preview_file(Path("/out"), product) == Path(f"/out/{product}_preview.fits")
    with pytest.raises(Unprocessable, match="plain file name"):
        naming.preview_file(Path("/out"), "../../etc/passwd")


def test_windows_lie_in_the_ledger():
    path = naming.windows_file(Path("/out/ledger"), "NRCA1", "jw1_nrca1", "0123456789abcdef" * 4)
    assert path == Path("/out/ledger/windows/nrca1/jw1_nrca1-0123456789abcdef.parquet")
