"""Truncated files and files of the wrong kind are found without reading their data."""

from __future__ import annotations

import asdf
import numpy as np
import pytest
from astropy.io import fits

from upramp.store.file_structure import check_structure


@pytest.fixture
def files(tmp_path):
    image = np.ones((40, 40), np.float32)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image, name="SCI")]).writeto(tmp_path / "a.fits")
    asdf.AsdfFile({"x": np.arange(1000), "y": np.arange(500)}).write_to(tmp_path / "a.asdf")
    asdf.AsdfFile({"parameters": {"x": 1}}).write_to(tmp_path / "tree.asdf")
    (tmp_path / "a.json").write_text('{"x": 1}')
    (tmp_path / "notes.txt").write_text("anything")
    return tmp_path


@pytest.mark.parametrize("name", ["a.fits", "a.asdf", "tree.asdf", "a.json", "notes.txt"])
def test_whole(files, name):
    assert check_structure(files / name) == ""


@pytest.mark.parametrize("keep", [0, 1, 100, 2880, 5000, 5760, 5770, 12000])
def test_cut_fits(files, keep):
    path = files / "a.fits"
    path.write_bytes(path.read_bytes()[:keep])
    assert check_structure(path) != ""


def test_fits_without_its_last_padding_is_whole(files):
    path = files / "a.fits"
    path.write_bytes(path.read_bytes()[: 2 * 2880 + 6400])
    assert check_structure(path) == ""


@pytest.mark.parametrize("part", [0.02, 0.3, 0.5, 0.9])
def test_cut_asdf(files, part):
    path = files / "a.asdf"
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    assert check_structure(path) != ""


@pytest.mark.parametrize("name", ["a.fits", "a.asdf", "a.json"])
def test_error_page_under_a_good_name(files, name):
    (files / name).write_text("<html>404</html>")
    assert check_structure(files / name) != ""


def test_gone(files):
    assert "cannot be read" in check_structure(files / "gone.fits")
