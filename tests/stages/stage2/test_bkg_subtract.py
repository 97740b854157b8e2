"""bkg_subtract: clipped means against astropy's clipping, stacks, overlaps."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.stats import sigma_clip
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.core.errors import NotApplicable
from upramp.stages.core.extras import Extras
from upramp.stages.core.step import Context
from upramp.stages.stage2.bkg_subtract import (
    BACKGROUNDS,
    KEPT,
    PRODUCTS,
    STEP,
    Background,
    Params,
    clipped_mean,
    combine,
)


def backgrounds(n, shape, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(n):
        sci = rng.normal(3, 1, shape).astype(np.float32)
        sci[rng.random(shape) < 0.1] = 500
        sci[rng.random(shape) < 0.1] = np.nan
        dq = rng.choice(np.array([0, 0, 1, 4, 1024], np.uint32), shape)
        yield Background(sci, rng.uniform(0.5, 1.5, shape).astype(np.float32), dq)


def naive(stack, errors, sigma, maxiters):
    clipped = sigma_clip(stack.astype(float), sigma=sigma, maxiters=maxiters, axis=0)
    kept = ~np.ma.getmaskarray(clipped)
    n = np.maximum(kept.sum(axis=0), 1)
    mean = np.where(kept, stack, 0).sum(axis=0, dtype=float) / n
    return mean, np.sqrt(np.where(kept, errors.astype(float) ** 2, 0).sum(axis=0)) / n


@pytest.mark.filterwarnings("ignore:Input data contains invalid values")
@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 14),
    seed=st.integers(0, 999),
    sigma=st.sampled_from([1.5, 2.0, 3.0]),
    maxiters=st.sampled_from([None, 1, 2]),
)
def test_clipped_means(n, seed, sigma, maxiters):
    some = list(backgrounds(n, (5, 7), seed))
    stack, errors = np.array([b.sci for b in some]), np.array([b.err for b in some])
    mean, error = np.empty(35, np.float32), np.empty(35, np.float32)
    limit = -1 if maxiters is None else maxiters
    clipped_mean(stack.reshape(n, -1), errors.reshape(n, -1), sigma, limit, mean, error)
    wanted, wanted_error = naive(stack, errors, sigma, maxiters)
    np.testing.assert_allclose(mean.reshape(5, 7), wanted, rtol=1e-6)
    np.testing.assert_allclose(error.reshape(5, 7), wanted_error, rtol=1e-6)


@pytest.mark.parametrize("shape", [(6, 8), (4, 6, 8)])
def test_subtracted_from_every_integration(make_image, make_meta, shape):
    some, meta, extras = list(backgrounds(12, (6, 8))), make_meta(), Extras()
    params = Params(save_combined_background=True)
    before = make_image(shape)
    after = STEP.apply(
        make_image(shape), Context(meta, params, {}, shared={BACKGROUNDS: some, KEPT: True, "extras": extras})
    )
    mean, error, flags = combine(some, meta, params)
    assert np.array_equal(after.sci, before.sci - mean)
    assert np.array_equal(after.dq, np.broadcast_to(flags, shape))
    assert np.array_equal(after.err, before.err)
    assert np.array_equal(flags, np.bitwise_or.reduce([b.dq for b in some]))
    extra, kept = extras.found
    assert [extra.suffix, kept.suffix] == ["combinedbackground", "bsub" if len(shape) == 2 else "bsubints"]
    assert {extra.suffix, kept.suffix} <= set(PRODUCTS)
    assert np.array_equal(kept.arrays["SCI"], after.sci) and not np.shares_memory(
        kept.arrays["SCI"], after.sci
    )
    assert np.array_equal(kept.arrays["DQ"], after.dq)
    for name, wanted in (("SCI", mean), ("DQ", flags), ("ERR", error)):
        assert np.array_equal(extra.arrays[name], wanted)


@pytest.mark.filterwarnings("ignore:Input data contains invalid values")
def test_stacks_are_averaged_first(make_meta):
    some = list(backgrounds(2, (9, 6, 8)))
    mean, _, flags = combine(some, make_meta(), Params())
    each = [naive(b.sci, b.err, 3.0, None)[0].astype(np.float32) for b in some]
    np.testing.assert_allclose(mean, np.mean(each, axis=0), rtol=1e-6)
    assert np.array_equal(flags, np.bitwise_or.reduce([np.bitwise_or.reduce(b.dq) for b in some]))


def test_another_part_of_the_detector(make_meta):
    """The exposure begins at column 11, row 21; the background, ten rows of twelve, at column 9, row 23."""
    sci = np.arange(120, dtype=np.float32).reshape(10, 12)
    background = Background(sci, sci, np.full((10, 12), 4, np.uint32), 9, 23)
    mean, _, flags = combine([background], make_meta(xstart=11, ystart=21), Params())
    assert np.array_equal(mean[2:], sci[:4, 2:10]) and not mean[:2].any()
    assert (flags[2:] == 4).all() and not flags[:2].any()
    far = Background(sci, sci, np.full((10, 12), 4, np.uint32), 1000, 1000)
    assert not combine([far], make_meta(), Params())[2].any()


def test_without_backgrounds(make_image, make_meta):
    with pytest.raises(NotApplicable, match="no background exposures"):
        STEP.apply(make_image(), Context(make_meta(), Params(), {}))
