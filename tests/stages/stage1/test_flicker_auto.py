from dataclasses import replace

import numpy as np
import pytest

from upramp.stages.stage1.flicker_auto import (
    LIMITS,
    Statistics,
    average,
    choose,
    decide,
    largest_step,
    line,
    measure,
    quick_clean,
)

NIRISS = LIMITS["NIS_IMAGE"]
FEW = Statistics(masked=0.05, step=0.01, slope=5e-6, ratio=4.0, scatter=0.01)


@pytest.mark.parametrize(
    ("changes", "method", "channels"),
    [
        ({}, "median", False),
        ({"scatter": 0.02}, "median", True),
        ({"scatter": 0.03, "step": 0.0}, "median", False),
        ({"slope": 1e-5}, "model", False),
        ({"slope": 5e-5, "ratio": 5.0}, "median", False),
        ({"slope": 1e-4, "ratio": 9.0}, "model", False),
        ({"slope": 1e-4, "step": 0.07}, "median", True),
        ({"masked": 0.07, "scatter": 0.03}, "median", False),
        ({"masked": 0.07, "slope": 1e-5, "ratio": 9.0}, "model", False),
        ({"masked": 0.07, "step": 0.07, "slope": 5e-5}, "median", False),
        ({"masked": 0.07, "step": 0.07, "slope": 1e-4, "scatter": 0.03}, "model", False),
    ],
)
def test_tree(changes, method, channels):
    """As the observatory's package decides."""
    found = decide(replace(FEW, **changes), NIRISS)
    assert found == {"background_method": method, "fit_by_channel": channels}


def test_line_and_average():
    slope, scatter = line(3 + 0.5 * np.arange(100) + np.tile([1.0, -1.0], 50))
    assert slope == pytest.approx(0.5, abs=1e-3)
    assert scatter == pytest.approx(1.0, abs=1e-3)
    image = np.arange(100 * 130.0).reshape(100, 130)
    np.testing.assert_allclose(average(image, 0, (3 / 8, 5 / 8)), image[38:62].mean(axis=0))
    np.testing.assert_allclose(average(image, 1, (3 / 8, 5 / 8)), image[:, 49:81].mean(axis=1))


def test_steps_between_channels():
    values = np.repeat([1.0, 1.5, 1.2, 1.3], 512)
    values[5] = 100
    assert largest_step(values) == pytest.approx(0.5, abs=1e-3)
    assert largest_step(values[:1024]) == 0


def sky(seed, slope=0.0, stars=0.02):
    """A background of 3 DN/s that rises along the rows, with stars, stripes and pixels without a rate."""
    rng = np.random.default_rng(seed)
    image = 3 + slope * np.arange(256) + rng.normal(0, 0.05, (256, 256)) + rng.normal(0, 0.1, (256, 1))
    image[rng.random(image.shape) < stars] += 5
    image[rng.random(image.shape) < 0.01] = np.nan
    return image.astype(np.float32)


def test_quick_clean_takes_stripes_off():
    background, model = quick_clean(sky(1), True)
    assert np.nanstd(np.nanmedian(background, axis=1)) < 0.02
    assert np.isnan(background).mean() == pytest.approx(0.05, abs=0.025)
    np.testing.assert_allclose(model, 3, atol=0.1)
    found = measure(background, model, "NRC_IMAGE")
    assert found.slope < 1e-4
    assert found.step == 0


@pytest.mark.parametrize("exp_type", sorted(LIMITS))
def test_slopes_ask_for_a_model(exp_type):
    steep, level = (choose(sky(2, slope), None, exp_type, True)["background_method"] for slope in (2e-3, 0.0))
    assert (steep, level) == ("model", "median")


def test_flat_field_is_divided_out():
    flat = np.linspace(0.5, 1.5, 256, dtype=np.float32)[None, :]
    chosen = choose(sky(3) * flat, np.broadcast_to(flat, (256, 256)), "NIS_IMAGE", True)
    assert chosen == {"background_method": "median", "fit_by_channel": False, "apply_flat_field": True}
