"""Regions that hang together and their ellipses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config
from scipy.ndimage import gaussian_filter
from skimage.draw import ellipse as covered
from skimage.measure import label, regionprops

from upramp.stages.stage1.jump_ellipses import Ellipse, Regions, find, paint

EXAMPLES = 10 if config.DISABLE_JIT else 60


def drawn(text):
    return np.array([[c == "#" for c in line] for line in text.split()], np.uint8)


# what the observatory's package says: centre, axes, angle
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".#. ### .#.", (1.0, 1.0, 1.5298221281347035, 1.5298221281347035, -45.0)),
        ("#", (0.0, 0.0, -1.0, -1.0, -45.0)),
        ("### ### ### ###", (1.0, 1.5, 2.265986323710904, 3.4721359549995796, 0.0)),
        (" ".join(["########"] * 5), (3.5, 2.0, 4.656854249492381, 8.16515138991168, 90.0)),
    ],
)
def test_ellipse_of_a_region(text, expected):
    [found] = find(drawn(text), 1)
    assert (found.x, found.y, found.minor, found.major, found.angle) == expected


@pytest.mark.parametrize(
    ("text", "area"),
    [
        ("#.... #.... #.... #####", 8),
        ("##### #...# #...# #####", 20),  # the hole counts
        ("####. #...# #...# #####", 13),  # a hole that is open at a corner does not
        (".##.. #..#. .##..", 6),
        ("#.# .#. #.#", 5),  # corners hold together
        ("##### #...# #.#.# #...# #####", 25),  # an island counts for the land around it
    ],
)
def test_area_with_holes_filled(text, area):
    image = np.pad(drawn(text), 2)
    assert len(find(image, area)) == 1
    assert find(image, area + 0.5) == []


def test_what_holds_no_pixel():
    assert find(np.zeros((5, 7), np.uint8), 0) == []


def test_many_regions():
    image = np.zeros((40, 80), np.uint8)
    image[::4, ::4] = 4
    found = find(image, 1)
    assert [(e.y, e.x) for e in found] == [(y, x) for y in range(0, 40, 4) for x in range(0, 80, 4)]


def test_axes_grow_by_what_the_minor_one_gains():
    ellipse = Ellipse(0, 0, 16.3, 26.2, 0)
    assert ellipse.half_axes(1.1, 200) == (9, 14)  # 8.15 + 0.815, 13.1 + 0.815
    assert ellipse.half_axes(3.0, 200) == (24, 29)
    assert ellipse.half_axes(3.0, 25) == (24, 25)
    assert Ellipse(0, 0, 5, 7, 0).half_axes(1, 200) == (2, 4)  # halves to the even number


def test_pixels_of_an_ellipse():
    rows, columns = Ellipse(5.5, 2.2, 4, 8, 0).pixels(1, 200, (20, 20))
    image = np.zeros((20, 20), int)
    image[rows, columns] = 1
    # half axes 2 across and 4 along the rows' axis, about column 6 (the even one) and row 2
    y, x = np.mgrid[:20, :20]
    np.testing.assert_array_equal(image, ((x - 6) / 2) ** 2 + ((y - 2) / 4) ** 2 < 1)
    assert Ellipse(5, 5, 0.2, 8, 0).pixels(1, 200, (20, 20))[0].size == 0


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    seed=st.integers(0, 1 << 31),
    scale=st.floats(0.5, 4),
    share=st.floats(0.02, 0.6),
    least=st.integers(1, 60),
)
def test_regions_are_those_of_scikit_image(seed, scale, share, least):
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(40, 50)), scale)
    image = noise > np.quantile(noise, 1 - share)
    expected = [r for r in regionprops(label(image, connectivity=2)) if r.area_filled >= least]
    found = find(image, least)
    assert [(e.y, e.x) for e in found] == [r.centroid for r in expected]
    assert [(e.minor, e.major) for e in found] == [
        (r.axis_minor_length - 1, r.axis_major_length - 1) for r in expected
    ]
    assert [e.angle for e in found] == [np.degrees(r.orientation) for r in expected]


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    angle=st.one_of(st.sampled_from([-90.0, -45.0, 0.0, 45.0, 90.0]), st.floats(-90, 90)),
    minor=st.integers(-4, 20),
    major=st.integers(-4, 20),
    x=st.integers(0, 39),
    y=st.integers(0, 29),
)
def test_painted_is_what_scikit_image_covers(angle, minor, major, x, y):
    # away from 0, where its box would hang on what rounding leaves of a reach that is 0
    image, wide = np.zeros((30, 40), np.uint8), np.zeros((94, 104), np.uint8)
    changed = paint(image, np.array([Ellipse(x, y, 0, 0, angle).outline((minor, major))]), 0, 0, 1)
    with np.errstate(all="ignore"):
        wide[covered(y + 64, x + 64, major, minor, shape=wide.shape, rotation=np.radians(angle))] = 1
    expected = wide[64:, 64:]
    np.testing.assert_array_equal(image, expected)
    assert changed == expected.sum()


def test_painted_where_nothing_forbids_it():
    one = np.array([Ellipse(2, 0, 0, 0, 0).outline((2, 2))])
    image = np.array([[0, 1, 2, 3, 4]], np.uint8)
    assert paint(image, one, 2, 0xFF, 4) == 1
    assert image.tolist() == [[0, 5, 2, 3, 4]]
    assert paint(image, one, 0, 0, 2) == 2
    assert image.tolist() == [[0, 2, 2, 2, 4]]
    assert paint(image, np.empty((0, 6)), 0, 0, 1) == 0


def test_regions_know_their_centres_and_reach():
    regions = Regions(np.pad(drawn("##..... ##..... ....### ......."), 1), 3)
    assert regions.centres.tolist() == [[1.5, 1.5], [6.0, 3.0]]
    assert regions.reach.tolist() == [4, 4]
    assert len(regions) == 2
