"""Groups of members, and what a change does to one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upramp.stages.stage3.members import (
    Change,
    Changed,
    Mask,
    Means,
    Shown,
    exposure_group,
    groups_of,
)

CARDS = {
    "PROGRAM": "01234", "OBSERVTN": "001", "VISIT": "001", "VISITGRP": "02", "SEQ_ID": "1", "ACT_ID": "01",
    "EXPOSURE": "00002",
}  # fmt: skip


def test_detectors_of_an_exposure_are_a_group():
    assert exposure_group(CARDS, "a.fits") == exposure_group({**CARDS, "DETECTOR": "NRCB1"}, "b.fits")
    assert exposure_group({**CARDS, "EXPOSURE": "00003"}, "a.fits") != exposure_group(CARDS, "a.fits")
    assert exposure_group({**CARDS, "VISIT": None}, "a.fits") == "a.fits"


def test_groups_in_the_order_of_their_first_members(exposures):
    members = exposures()
    for member, group in zip(members, "abab", strict=True):
        member.group = group
    assert groups_of(members) == [[0, 2], [1, 3]]


def test_changes_follow_each_other(exposures):
    [member, *_] = exposures()
    first = Changed(member, Change(primary={"A": 1}, sci={"B": 2}, offset=0.5))
    second = Changed(first, Change(primary={"A": 3}, wcs="wcs", leaves={"meta": {"x": 1}}))
    image = second.read()
    assert image.header["PRIMARY"]["A"] == 3 and image.header["SCI"]["B"] == 2 and image.wcs == "wcs"
    assert np.nanmedian(member.read().sci - image.sci) == pytest.approx(0.5)
    assert (second.name, second.group, second.shape) == (member.name, member.group, (64, 64))
    assert second.cards["A"] == 3 and second.cards["B"] == 2 and first.wcs is member.wcs


def test_what_is_read_is_asked_for(exposures):
    """Where pixels are lost, whatever is NaN in one array counts in all, so that all are needed."""
    [member, *_] = exposures()
    assert Changed(member, Change(offset=0.5)).read("SCI").dq.size == 0
    lost = Mask.of(np.zeros(member.shape, bool))
    assert Changed(member, Change(lost=lost)).read("SCI").dq.shape == member.shape


def test_an_image_is_shown_when_it_is_read(exposures):
    [member, *_] = exposures()
    seen = []
    shown = Shown(Changed(member, Change(offset=0.5)), Change(), seen.append)
    image = shown.read()
    assert [one is image for one in seen] == [True]
    assert np.nanmedian(member.read().sci - image.sci) == pytest.approx(0.5)


def test_without_means_nothing_can_be_read():
    with pytest.raises(FileNotFoundError):
        Means().text("a")
    with pytest.raises(FileNotFoundError):
        Means().table("a")


@given(st.integers(0, 99), st.integers(1, 40), st.integers(1, 40), st.floats(0, 1))
def test_masks_keep_their_pixels(seed, ny, nx, share):
    pixels = np.random.default_rng(seed).random((ny, nx)) < share
    mask = Mask.of(pixels)
    assert mask.count == pixels.sum()
    np.testing.assert_array_equal(mask.pixels(), pixels)


def test_few_pixels_take_little_room():
    pixels = np.random.default_rng(1).random((512, 512)) < 0.002
    assert len(Mask.of(pixels).packed) < pixels.size / 100
