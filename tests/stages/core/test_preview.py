"""Pictures: blocks, colours, stretch, lines on the sky."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.core.dq import DO_NOT_USE, SATURATED
from upramp.stages.core.preview import BAD, BRIGHT, GREYS, LEAST, LINE, average, draw, stretch


@settings(max_examples=40, deadline=None)
@given(ny=st.integers(1, 23), nx=st.integers(1, 23), by=st.integers(1, 5), seed=st.integers(0, 99))
def test_blocks_are_means_of_good_pixels(ny, nx, by, seed):
    rng = np.random.default_rng(seed)
    sci = rng.normal(size=(ny, nx)).astype(np.float32)
    sci[rng.random((ny, nx)) < 0.2] = np.nan
    dq = rng.choice(np.array([0, DO_NOT_USE, SATURATED], np.uint32), (ny, nx))
    size = -(-ny // by), -(-nx // by)
    means, bad, bright = np.empty(size), np.zeros(size, bool), np.zeros(size, bool)
    average(sci, dq, by, means, bad, bright)
    for r, c in np.ndindex(size):
        block = np.s_[r * by : (r + 1) * by, c * by : (c + 1) * by]
        good = sci[block][(dq[block] & DO_NOT_USE == 0) & np.isfinite(sci[block])].astype(float)
        assert bad[r, c] == (good.size == 0)
        assert bright[r, c] == bool((dq[block] & SATURATED).any())
        np.testing.assert_allclose(means[r, c], good.mean() if good.size else np.nan, atol=1e-12)


def test_brighter_is_lighter():
    rng = np.random.default_rng(1)
    means = rng.normal(5, 1, (64, 64))
    means[0] = np.linspace(5, 500, 64)
    grey = stretch(means)
    assert (np.diff(grey[0].astype(int)) >= 0).all()
    assert 20 < np.median(grey) < GREYS / 2 < grey[0, -1]
    assert grey.max() == GREYS - 1


@pytest.mark.parametrize("value", [np.nan, 0.0, 7.0])
def test_a_picture_of_nothing(value):
    picture = draw(np.full((5, 6), value, np.float32), np.zeros((5, 6), np.uint32), least=6)
    assert picture.values.shape == (5, 6)
    assert (picture.values == BAD).all() == np.isnan(value)


def test_flags_have_colours_and_the_first_row_is_at_the_bottom():
    dq = np.zeros((4, 4), np.uint32)
    dq[0, 0], dq[3, 1] = DO_NOT_USE, SATURATED
    values = draw(np.arange(16, dtype=np.float32).reshape(4, 4), dq, least=4).values
    assert np.argwhere(values == BAD).tolist() == [[3, 0]]
    assert np.argwhere(values == BRIGHT).tolist() == [[0, 1]]


def test_small_images_grow():
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    one, large = (draw(values, np.zeros((4, 4), np.uint32), least=n).values for n in (4, 15))
    assert np.array_equal(large, one.repeat(3, axis=0).repeat(3, axis=1))
    assert draw(values, np.zeros((4, 4), np.uint32)).values.shape == (LEAST, LEAST)


def test_large_images_shrink():
    picture = draw(np.zeros((200, 90), np.float32), np.zeros((200, 90), np.uint32), side=64)
    assert picture.values.shape == (50, 23)


@pytest.mark.parametrize("ra", [80.0, 0.0])
def test_lines_lie_where_the_sky_says(ra):
    """Declination rises with rows, right ascension falls with columns; also across 0 h."""
    side, scale = 200, 1 / 3600

    def sky(x, y):
        return (ra - (x - side / 2) * scale) % 360, -10 + y * scale

    nothing = np.zeros((side, side), np.float32), np.zeros((side, side), np.uint32)
    picture = draw(*nothing, sky, least=side)
    lines = picture.values[::-1] == LINE
    rows = np.flatnonzero(lines.mean(axis=1) > 0.9)
    columns = np.flatnonzero(lines.mean(axis=0) > 0.9)
    declinations = sorted(label.value for label in picture.labels if label.axis == 1)
    assert len(rows) == len(declinations) >= 3 and len(columns) >= 2
    np.testing.assert_allclose(-10 + (rows - 0.5) * scale, declinations, atol=0.6 * scale)
    for label in picture.labels:
        if label.axis == 0:
            assert abs((ra - label.value) / scale - (label.x - side / 2)) < 1.1
            assert label.y == side - 1
    larger = draw(*nothing, sky, least=3 * side + 1)
    assert larger.values.shape == (3 * side, 3 * side)
    there = {(label.axis, label.value): label for label in larger.labels}
    for one in picture.labels:
        three, x, y = there[one.axis, one.value], one.x, side - 1 - one.y
        assert abs(three.x - 3 * x) <= 3 and abs(3 * side - 1 - three.y - 3 * y) <= 3
