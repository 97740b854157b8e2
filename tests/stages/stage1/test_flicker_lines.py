import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.stage1.flicker_clip import single_middle
from upramp.stages.stage1.flicker_lines import Lines, change, spread


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40), more=st.integers(0, 3))
def test_middle_in_single_precision(values, more):
    around = np.array([9e9] * more, np.float32)
    ordered = np.concatenate([-around, np.sort(np.array(values, np.float32)), around])
    found = np.float32(single_middle(ordered, more, more + len(values)))
    assert found == np.median(np.array(values, np.float32))


def test_middle_rounds_its_sum():
    """2^24 + 3 has no single precision: 2^24 + 4."""
    assert single_middle(np.array([1, 1 << 24, 3, 9], np.float32)[[0, 2, 1, 3]], 1, 3) == (1 << 23) + 2


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("along_rows", [False, True])
def test_lines_on_their_pixels(channels, along_rows):
    rng = np.random.default_rng(1)
    ny, nx = 24, 40
    noise = rng.normal(0, 3, (channels, ny if along_rows else nx)).astype(np.float32)
    out = np.full((ny, nx), np.nan, np.float32)
    spread(noise, along_rows, out)
    expected = (
        np.repeat(noise.T, nx // channels, axis=1) if along_rows else np.repeat(noise, ny // channels, 0)
    )
    np.testing.assert_array_equal(out, expected)
    found = Lines((ny, nx), along_rows, channels).fit(out)
    np.testing.assert_array_equal(found, noise)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("image", [False, True])
def test_change_rounds_after_each_operation(flat, image):
    """Every step in single precision, in this order."""
    rng = np.random.default_rng(2)
    frame, before, noise, level, field = rng.normal(500, 90, (5, 30, 50)).astype(np.float32)
    field /= np.float32(500)
    level = level if image else level[:1, :1]
    expected = frame - before
    expected = expected / field if flat else expected
    expected = expected - level - noise + level
    expected = expected * field if flat else expected
    assert expected.dtype == np.float32
    got = frame.copy()
    change(got, before, level, noise, field if flat else np.empty((0, 0), np.float32))
    np.testing.assert_array_equal(got, expected)
    assert (got != (frame - before) - noise).any()


def test_by_hand():
    frame, before, noise = (np.full((1, 2), v, np.float32) for v in (30.0, 10.0, 3.0))
    flat, level = np.array([[2, 4]], np.float32), np.array([[5]], np.float32)
    change(frame, before, level, noise, flat)
    np.testing.assert_array_equal(frame, [[(10 - 5 - 3 + 5) * 2, (5 - 5 - 3 + 5) * 4]])
