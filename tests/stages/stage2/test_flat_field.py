"""flat_field of images: against the plain formulas, unusable pixels, the way back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from upramp.stages.core.dq import DO_NOT_USE, NO_FLAT_FIELD, SATURATED, UNRELIABLE_FLAT
from upramp.stages.core.step import Context
from upramp.stages.stage2.flat_field import STEP, Params, prepare, takes

NAMES = ("sci", "err", "var_poisson", "var_rnoise", "var_flat")


@pytest.fixture
def flattened(make_reference, make_meta):
    """A function that flattens an image: (image, flat, error, flags) -> image."""

    def apply(image, flat, error, flags=None, **params):
        ny, nx = image.shape
        arrays = {"SCI": flat, "ERR": error} | ({} if flags is None else {"DQ": flags})
        meta = make_meta(ny, nx)
        ready = prepare(make_reference(**arrays), meta, Params(**params))
        return STEP.apply(image, Context(meta, Params(**params), {"flat": ready}))

    return apply


@pytest.mark.parametrize("shape", [(6, 8), (3, 6, 8)])
@pytest.mark.parametrize("inverse", [False, True])
def test_the_formulas(make_image, flattened, shape, inverse):
    given, before = make_image(shape), make_image(shape)
    rng = np.random.default_rng(2)
    flat, error = rng.uniform(0.5, 1.5, (6, 8)), rng.uniform(0, 0.1, (6, 8))
    after = flattened(given, flat.astype("f4"), error.astype("f4"), inverse=inverse)
    f = 1 / flat if inverse else flat
    sci, poisson, noise = before.sci / f, before.var_poisson / f**2, before.var_rnoise / f**2
    from_flat = np.zeros(shape) if inverse else (sci * error / f) ** 2
    for name, wanted in zip(
        NAMES, (sci, np.sqrt(poisson + noise + from_flat), poisson, noise, from_flat), strict=True
    ):
        np.testing.assert_allclose(getattr(after, name), wanted, rtol=2e-6, atol=1e-12, err_msg=name)
        assert getattr(after, name).dtype == np.float32
    assert not after.dq.any()


def test_pixels_that_the_flat_cannot_tell(make_image, flattened):
    """As recorded with the peer: NaN, 0, flagged two ways, unreliable, negative, NaN error."""
    flat, error, flags = np.ones((6, 8), "f4"), np.full((6, 8), 0.02, "f4"), np.zeros((6, 8), "u4")
    flat[0, :2] = np.nan, 0
    flags[0, 2:5] = DO_NOT_USE, NO_FLAT_FIELD, UNRELIABLE_FLAT
    flat[0, 5], error[0, 6] = -1, np.nan
    given = make_image()
    given.dq[1, 0], given.sci[1, 1], given.dq[1, 2] = DO_NOT_USE, np.nan, SATURATED
    after = flattened(given, flat, error, flags)
    none = NO_FLAT_FIELD | DO_NOT_USE
    assert after.dq[0].tolist() == [none, none, DO_NOT_USE, none, UNRELIABLE_FLAT, 0, DO_NOT_USE, 0]
    assert after.dq[1, :3].tolist() == [DO_NOT_USE, DO_NOT_USE, SATURATED]
    for name in NAMES:
        assert np.array_equal(np.isnan(getattr(after, name)), after.dq & DO_NOT_USE != 0), name
    assert after.counters["flat_field.unflattened_pixels"] == 3


def test_back_again(make_image, flattened):
    flat = np.random.default_rng(4).uniform(0.5, 1.5, (6, 8)).astype("f4")
    once = flattened(make_image(), flat, np.zeros((6, 8), "f4"))
    twice = flattened(once, flat, np.zeros((6, 8), "f4"), inverse=True)
    np.testing.assert_allclose(twice.sci, make_image().sci, rtol=1e-6)
    np.testing.assert_allclose(twice.var_poisson, make_image().var_poisson, rtol=1e-6)


def test_a_file_that_is_given_takes_the_place_of_the_reference(make_meta):
    assert takes(make_meta(), Params()) == ("flat",)
    assert takes(make_meta(), Params(user_supplied_flat="mine.fits")) == ("user_supplied_flat",)


def test_images_that_check_shutters_stay_as_they_are(make_meta):
    assert STEP.skip_if(make_meta(), Params()) is None
    assert "NRS_VERIFY" in STEP.skip_if(replace(make_meta(), exp_type="NRS_VERIFY"), Params())
