"""The background beside photutils', and clipping beside astropy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.core.frames import Crew
from upramp.stages.stage3 import source_background
from upramp.stages.stage3.source_background import box_level, levels, meshes


def drawn(shape, lost=0.02, seed=1):
    """An image on a slope, with bright pixels and gaps; its mask."""
    rng = np.random.default_rng(seed)
    sci = rng.normal(3.0, 0.1, shape) + np.linspace(0, 1, shape[1])
    sci += (rng.random(shape) < 0.03) * rng.exponential(5.0, shape)
    mask = rng.random(shape) < lost
    mask[: shape[0] // 4, : shape[1] // 5] = True
    sci[mask] = np.nan
    return sci.astype(np.float32), mask


@pytest.mark.parametrize(
    ("shape", "box"),
    [((300, 260), 100), ((100, 100), 25), ((500, 400), 1000), ((64, 64), 20), ((200, 90), 45)],
)
def test_it_is_that_of_photutils(shape, box):
    from astropy.stats import SigmaClip
    from photutils.background import Background2D, MedianBackground

    sci, mask = drawn(shape)
    expected = Background2D(
        np.nan_to_num(sci), box, filter_size=(3, 3), coverage_mask=mask, sigma_clip=SigmaClip(sigma=3.0),
        bkg_estimator=MedianBackground(),
    )  # fmt: skip
    got = levels(sci, mask, box)
    kept = ~mask
    np.testing.assert_allclose(got.values[kept], (sci - expected.background)[kept], atol=1e-6)
    np.testing.assert_allclose(got.spread[kept], expected.background_rms[kept], atol=1e-6)


def oracle(values):
    from astropy.stats import SigmaClip

    left = SigmaClip(sigma=3.0)(values.astype(float), masked=False)
    return np.median(left), left.std(), left.size


@given(n=st.integers(1, 400), tail=st.floats(0, 0.4), seed=st.integers(0, 99), digits=st.sampled_from([1, 7]))
@settings(max_examples=40)
def test_clipping_is_that_of_astropy(n, tail, seed, digits):
    rng = np.random.default_rng(seed)
    values = rng.normal(1.0, 0.2, n) + (rng.random(n) < tail) * rng.exponential(4.0, n)
    values = np.round(values, digits).astype(np.float32).reshape(1, n)
    median, spread, left = box_level(values, np.zeros(values.shape, bool))
    expected = oracle(values)
    assert left == expected[2]
    assert median == pytest.approx(expected[0], rel=1e-6)
    assert spread == pytest.approx(expected[1], rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_middles_far_from_the_first_guess_are_found(seed, monkeypatch):
    """Sorted input, and a tail that moves the median out of what was sorted first."""
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(1.0, 0.01, 20000), rng.uniform(1.5, 40.0, 5000)])
    values = np.sort(values).astype(np.float32) if seed else values.astype(np.float32)
    median, spread, left = box_level(values.reshape(100, 250), np.zeros((100, 250), bool))
    expected = oracle(values)
    assert left == expected[2]
    assert (median, spread) == pytest.approx(expected[:2], rel=1e-6)


def test_alternating_values_that_mislead_the_sample():
    values = np.where(np.arange(5 * source_background.SAMPLE) % 5 == 0, 7.0, 1.0).astype(np.float32)
    median, spread, left = box_level(values.reshape(-1, 64), np.zeros((len(values) // 64, 64), bool))
    assert (median, spread, left) == (1.0, pytest.approx(2.4), len(values))


def test_where_no_box_counts_all_is_one():
    sci, mask = drawn((90, 80), lost=0.3)
    assert meshes(sci, mask, 30, 30, Crew()) is None
    got = levels(sci, mask, 30)
    median, spread, _ = oracle(sci[~mask])
    np.testing.assert_allclose(got.spread, spread, rtol=1e-6)
    np.testing.assert_allclose((sci - got.values)[~mask], median, rtol=1e-6)


def test_no_good_pixel_has_no_background():
    sci = np.full((40, 40), np.nan, np.float32)
    assert levels(sci, np.ones(sci.shape, bool), 10) is None


def test_threads_make_no_difference():
    sci, mask = drawn((300, 260))
    one, two = (levels(sci, mask, 40, Crew(n)) for n in (1, 2))
    np.testing.assert_array_equal(one.values, two.values)
    np.testing.assert_array_equal(one.spread, two.spread)
