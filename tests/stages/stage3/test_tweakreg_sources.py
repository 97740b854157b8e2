"""Sources of an image: what photutils finds in all of it, found in a part."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import convolve

from upramp.stages.stage3 import tweakreg_sources
from upramp.stages.stage3.source_background import levels
from upramp.stages.stage3.tweakreg import Params
from upramp.stages.stage3.tweakreg_sources import BLOCK, find_sources, promising, sheet, stars


@pytest.fixture
def image(starry):
    [exposure] = starry([(0.0, 0.0)])
    return exposure


def masked(exposure):
    return (exposure.dq & 1) > 0


@pytest.mark.parametrize("starfinder", ["iraf", "dao"])
def test_the_same_stars_as_in_the_whole_image(image, starfinder, monkeypatch):
    how = Params(starfinder=starfinder, roundlo=-1.0, roundhi=1.0, sharplo=0.1, brightest=20).finding
    mask = masked(image)
    part = stars(levels(image.sci, mask, 100), mask, how)
    monkeypatch.setattr(tweakreg_sources, "sheet", lambda *given: None)
    whole = stars(levels(image.sci, mask, 100), mask, how)
    assert len(part["x"]) == len(whole["x"]) == 20
    for name in ("x", "y", "flux"):
        np.testing.assert_allclose(part[name], whole[name], atol=1e-9)
    assert (np.diff(part["flux"]) <= 0).all()


@pytest.mark.parametrize("starfinder", ["iraf", "dao", "segmentation"])
def test_stars_are_where_they_were_put(image, starfinder):
    p = Params(starfinder=starfinder, roundlo=-1.0, roundhi=1.0, sharplo=0.1, bkg_boxsize=80)
    found = find_sources(image.sci, image.err, masked(image), p.finding)
    x, y = image.cards["stars"]
    assert len(found["x"]) >= 20
    nearest = np.hypot(found["x"][:, None] - x, found["y"][:, None] - y).min(axis=1)
    assert np.median(nearest) < 0.1  # starfind cuts off the wings


def test_nothing_to_be_found():
    noise = np.random.default_rng(0).normal(0, 1, (64, 64)).astype(np.float32)
    for starfinder in ("iraf", "segmentation"):
        how = Params(starfinder=starfinder, snr_threshold=50.0).finding
        found = find_sources(noise, np.ones_like(noise), np.zeros(noise.shape, bool), how)
        assert all(len(column) == 0 for column in found.values())
    everything = np.ones(noise.shape, bool)
    assert len(find_sources(noise, noise, everything, Params().finding)["x"]) == 0


def test_promising_squares():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(50, 70)).astype(np.float32)
    weights = rng.normal(size=(5, 5)).astype(np.float32)
    weights = weights + weights[::-1, ::-1]
    weights[0, 0] = weights[-1, -1] = 0
    smooth = convolve(values.astype(float), weights, mode="constant")
    expected = np.zeros((4, 5), bool)
    for y, x in zip(*np.nonzero(smooth >= 18.0), strict=True):
        expected[y // BLOCK, x // BLOCK] = True
    got = np.zeros((4, 5), bool)
    promising(values, weights, np.float32(18.0), got)
    np.testing.assert_array_equal(got, expected)
    assert got.any() and not got.all()


def test_a_sheet_holds_every_promising_square_with_its_surroundings():
    blocks = np.zeros((12, 13), bool)
    for place in ((0, 0), (5, 6), (5, 7), (11, 12)):
        blocks[place] = True
    ny, nx = 12 * BLOCK - 5, 13 * BLOCK - 3
    values = np.arange(ny * nx, dtype=np.float32).reshape(ny, nx)
    mask = values % 7 == 0
    out = sheet(values, mask, blocks)
    assert out.home.sum() == 4 * BLOCK**2 and out.values.size < values.size / 2
    for y, x in zip(*np.nonzero(out.home), strict=True):
        if y % BLOCK in (0, BLOCK - 1) and x % BLOCK == 0:
            oy, ox = out.origin[y, x]
            assert blocks[oy // BLOCK, ox // BLOCK]
            if oy < ny and ox < nx:
                assert out.values[y, x] == values[oy, ox] and out.mask[y, x] == mask[oy, ox]
    assert sheet(values, mask, np.ones_like(blocks)) is None


def test_the_finder_is_given_what_it_takes():
    how = Params(minsep_fwhm=2.0, kernel_fwhm=3.0, kron_params=[2.0, 1.0]).finding
    assert how.star["min_separation"] == 6 and how.segment["kron_params"] == (2.0, 1.0)
    assert dataclasses.replace(how, brightest=None).brightest is None


@pytest.mark.parametrize("apart", [2, 2.5, 4])
def test_peaks_are_those_of_photutils(apart):
    """With plateaus, masked pixels, and peaks at the rim."""
    from photutils.detection import find_peaks

    rng = np.random.default_rng(8)
    values = rng.integers(0, 40, (60, 70)).astype(np.float32)
    mask = rng.random(values.shape) < 0.05
    weights = np.ones((3, 3)) / 9
    table = find_peaks(
        convolve(values, weights, mode="constant", cval=0.0), np.float32(20), mask=mask, min_separation=apart
    )
    found = tweakreg_sources.peaks_of(values, mask, weights, 20, apart)
    assert {tuple(p) for p in found.tolist()} == set(zip(table["x_peak"], table["y_peak"], strict=True))
