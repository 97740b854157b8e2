import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.simulate.effects import Flicker
from upramp.simulate.observation import Observation
from upramp.stages.core.errors import Misconfigured
from upramp.stages.stage1 import (
    clean_flicker_noise,
    flicker_background,
    flicker_cleaning,
    flicker_clip,
    ramp_fit,
)
from upramp.stages.stage1.flicker_median_image import centre, flux
from upramp.stages.stage1.flicker_scene import gaussian, scene

STEP = clean_flicker_noise.STEP
ON = {"skip": False}
DO_NOT_USE, SATURATED, JUMP_DET, NO_FLAT_FIELD = 1, 2, 4, 1 << 18


def naive_clip(values, times=5):
    """Median and standard deviation of values clipped at three sigma."""
    values = np.asarray(values, np.float64)
    for _ in range(times):
        if not values.size:
            break
        kept = values[np.abs(values - np.median(values)) <= 3 * values.std()]
        if kept.size == values.size:
            break
        values = kept
    if not values.size:
        return np.nan, np.nan
    return np.median(values), values.std()


def naive_below(values):
    centre, _ = naive_clip(values)
    below = values[values <= centre]
    return naive_clip(np.concatenate([below, 2 * centre - below]))


def inside(values, centre, deviation, lower, upper):
    return ~(values < centre - lower * deviation) & ~(values > centre + upper * deviation)


def naive_scene(rate, n_sigma=2.0):
    mask = np.isfinite(rate) & (rate != 0)
    if n_sigma > 0:
        mask &= inside(rate, *naive_clip(rate[mask]), 3.0, n_sigma)
    return mask


def naive_noise(image, mask, n_sigma=2.0, background="median", channels=1, along_rows=True):
    """Noise image (ny, nx) of one difference."""
    image, mask = image.astype(np.float64), mask.copy()
    if background and mask.any():
        mask &= inside(image, *naive_below(image[mask]), 3.0, 3.0)
        image = image - np.median(image[mask])
        if n_sigma > 0:
            mask &= inside(image, *naive_below(image[mask]), n_sigma, n_sigma)
    image = np.where(mask, image, np.nan)
    if not along_rows:
        return naive_lines(image.T, channels).T
    return naive_lines(image, channels)


def naive_lines(image, channels):
    noise = np.zeros_like(image)
    width = image.shape[1] // channels
    for y in range(image.shape[0]):
        for c in range(channels):
            part = np.s_[y, c * width : (c + 1) * width]
            good = image[part][~np.isnan(image[part])]
            noise[part] = np.median(good) if good.size else 0.0
    return noise


def naive(data, gdq, rates, **how):
    """Clean ramps (nints, ngroups, ny, nx); ``rates``: one draft for each integration."""
    out = data.astype(np.float64)
    for i in range(len(data)):
        mask, total = naive_scene(rates[i], how.get("n_sigma", 2.0)), 0.0
        for g in range(1, data.shape[1]):
            good = mask & (gdq[i, g] & (DO_NOT_USE | JUMP_DET) == 0)
            total = total + naive_noise(data[i, g] - data[i, g - 1], good, **how)
            out[i, g] -= total
    return out


def ramps(seed, shape, gradient=0.3):
    """Stars on a background, with stripes along rows, and some flags."""
    rng = np.random.default_rng(seed)
    nints, ngroups, ny, nx = shape
    stars = np.where(rng.random((ny, nx)) < 0.06, rng.exponential(400, (ny, nx)), 0)
    rate = 20 + gradient * np.arange(nx) + stars
    data = 100 + np.cumsum(rng.poisson(rate, shape), axis=1) + rng.normal(0, 4, shape)
    data += rng.normal(0, 8, (nints, ngroups, ny, 1)) + rng.normal(0, 3, (nints, ngroups, 1, nx))
    gdq = rng.choice([0, DO_NOT_USE, JUMP_DET, SATURATED], shape, p=[0.9, 0.02, 0.05, 0.03])
    pdq = np.where(rng.random((ny, nx)) < 0.03, DO_NOT_USE, 0)
    return data.astype(np.float32), gdq.astype(np.uint8), pdq.astype(np.uint32)


def references(ny, nx):
    gain = np.full((ny, nx), 1.8)
    gain[0, :2] = np.nan, -1
    return {"gain": {"SCI": gain}, "readnoise": {"SCI": np.full((ny, nx), 9.0)}}


def drafts(through, data, gdq, pdq, refs, **facts):
    """Rates of the exposure and of its integrations, by ramp_fit."""
    out = through([(ramp_fit.STEP, {})], data, refs, gdq=gdq, pdq=pdq, **facts)
    return out.products["rate.sci"], out.products["rateints.sci"]


def clean(through, data, refs, gdq=0, pdq=0, options=None, facts=None, **params):
    return through([(STEP, ON | params)], data, refs, gdq=gdq, pdq=pdq, options=options, **(facts or {}))


COLUMNS = {"fastaxis": 2, "slowaxis": -1}
FULL = {"subarray": "FULL", "xstart": 1, "ystart": 1}


@pytest.mark.parametrize(
    ("params", "facts", "how"),
    [
        ({}, {}, {}),
        ({"n_sigma": 3.0}, {}, {"n_sigma": 3.0}),
        ({"n_sigma": 0.0}, {}, {"n_sigma": 0.0}),
        ({"background_method": None}, {}, {"background": None}),
        ({}, COLUMNS, {"along_rows": False}),
        ({"fit_by_channel": True}, FULL, {"channels": 4}),
        ({"fit_by_channel": True}, FULL | COLUMNS, {"channels": 4, "along_rows": False}),
        ({"fit_by_channel": True}, {}, {}),
    ],
)
@pytest.mark.parametrize("single_mask", [True, False])
def test_as_one_would_write_it_down(through, params, facts, how, single_mask):
    data, gdq, pdq = ramps(1, (2, 4, 24, 40))
    refs = references(24, 40)
    whole, each = drafts(through, data, gdq, pdq, refs, **facts)
    out = clean(through, data, refs, gdq, pdq, facts=facts, single_mask=single_mask, **params)
    expected = naive(data, gdq, [whole] * 2 if single_mask else each, **how)
    np.testing.assert_allclose(out.data, expected, rtol=0, atol=2e-3)
    assert np.abs(out.data - data).max() > 1
    np.testing.assert_array_equal(out.gdq, gdq)
    np.testing.assert_array_equal(out.pdq, pdq)


def test_model_of_the_background(through):
    data, gdq, pdq = ramps(9, (1, 3, 32, 48), gradient=3.0)
    gdq[:], pdq[:] = 0, 0
    refs = references(32, 48)
    out = clean(
        through, data, refs, gdq, pdq, n_sigma=0.0, background_method="model", background_box_size=(8, 12)
    )
    whole, _ = drafts(through, data, gdq, pdq, refs)
    for g in (1, 2):
        image, mask = data[0, g] - data[0, g - 1], naive_scene(whole, 0.0)
        mask &= inside(image, *naive_below(image[mask]), 3.0, 3.0)
        smooth = flicker_background.model(np.where(mask, image, np.float32(np.nan)), (8, 12))
        assert smooth is not None
        noise = naive_lines(np.where(mask, image.astype(np.float64) - smooth, np.nan), 1)
        taken = (data - out.data)[0, g] - (data - out.data)[0, g - 1]
        np.testing.assert_allclose(taken, noise, atol=2e-3)


def test_without_boxes_the_model_is_a_median(through):
    data, gdq, pdq = ramps(10, (1, 3, 24, 40))  # more than a tenth of every box is flagged
    gdq[:, :, ::5] = DO_NOT_USE
    refs = references(24, 40)
    model = clean(through, data, refs, gdq, pdq, background_method="model", background_box_size=(12, 20))
    plain = clean(through, data, refs, gdq, pdq)
    np.testing.assert_allclose(model.data, plain.data, atol=2e-3)


def test_flat_field(through, reference):
    data, gdq, pdq = ramps(11, (1, 4, 24, 32))
    refs = references(24, 32)
    flat = np.random.default_rng(11).uniform(0.8, 1.2, (24, 32)).astype(np.float32)
    flat[5, 5], flat[6, 7] = 0, np.nan
    out = clean(through, data, refs | {"flat": {"SCI": flat}}, gdq, pdq, apply_flat_field=True)
    filled = clean_flicker_noise.prepare_flat(
        reference("flat", {"SCI": flat}), _meta(ny=24, nx=32), STEP.params()
    )["flat"]
    good = np.isfinite(flat) & (flat != 0)
    np.testing.assert_array_equal(filled[good], flat[good])
    assert (np.abs(filled[~good] - 1) < 0.2).all()
    whole, _ = drafts(through, data, gdq, pdq, refs)
    expected = data[0].astype(np.float64)
    mask, total = naive_scene(whole / filled), 0.0
    for g in range(1, 4):
        good = mask & (gdq[0, g] & (DO_NOT_USE | JUMP_DET) == 0)
        total = total + naive_noise((data[0, g] - data[0, g - 1]) / filled, good) * filled
        expected[g] -= total
    np.testing.assert_allclose(out.data[0], expected, atol=2e-3)


class _raw:
    """A reference that is nothing but an image."""

    name, header = "flat.fits", {}

    def __init__(self, image):
        self.image = image

    def has(self, extname):
        return extname == "SCI" and self.image is not None

    def array(self, extname):
        return self.image


def star(seed=20, bright=(1.0, 1.2, 0.8, 1.0, 1.1)):
    """Integrations of one star, which varies, on a level background; its place."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((40, 44))
    image = 5 + 2000 * np.exp(-((x - 23.3) ** 2 + (y - 18.6) ** 2) / 8)
    ramp = np.arange(1, 4)[None, :, None, None] * image * np.array(bright)[:, None, None, None]
    return (ramp + rng.normal(0, 0.5, ramp.shape)).astype(np.float32), (23.3, 18.6)


def test_median_image_by_the_flux_of_a_star(through):
    bright = np.array([1.0, 1.2, 0.8, 1.0, 1.1])
    data, place = star(bright=bright)
    facts = {"exp_type": "NRC_TSIMAGE", "is_tso": True, "x_target": place[0] + 3, "y_target": place[1] - 1}
    refs = references(40, 44)
    params = {"background_method": "median_image", "save_background": True}
    out = clean(through, data, refs, facts=facts, **params)
    [background] = out.shared["extras"].found
    factors = background.arrays["SCI"].array[:, 2, 18, 23] / np.median(data[:, 2, 18, 23])
    np.testing.assert_allclose(factors, bright / np.median(bright), rtol=2e-3)


def test_centre_and_flux_of_a_star():
    data, place = star()
    found = centre(data[0, 2], 20.0, 20.0)
    np.testing.assert_allclose(found, place, atol=0.1)
    level = np.ones((40, 44), np.float32)
    assert flux(level, 20.3, 18.7) == pytest.approx(np.pi * 9, rel=1e-5)
    level[18, 20] = np.nan
    assert flux(level, 20.3, 18.7) == pytest.approx(np.pi * 9 - 1, rel=1e-5)
    assert centre(np.full((40, 44), 3, np.float32), 20.0, 21.0) == (20.0, 21.0)
    assert centre(data[0, 2], 300.0, 300.0) == (300.0, 300.0)


def test_regions_that_the_flat_does_not_know(through):
    data, gdq, pdq = ramps(18, (1, 3, 24, 32))
    facts = {"instrument": "MIRI", "detector": "MIRIMAGE", "exp_type": "MIR_IMAGE", "fastaxis": 1}
    flat = np.ones((24, 32))
    flat[3, 4], flat[5, 6] = 0, np.nan
    flags = np.zeros((24, 32), np.uint32)
    flags[10:20, 10:30], flags[21, 3] = DO_NOT_USE, NO_FLAT_FIELD
    refs = references(24, 32) | {"flat": {"SCI": flat, "DQ": flags}}
    out = clean(through, data, refs, gdq, pdq, facts=facts, mask_science_regions=True, save_mask=True)
    bare = clean(through, data, refs, gdq, pdq, facts=facts, save_mask=True)
    masks = [o.shared["extras"].found[0].arrays["SCI"] > 0 for o in (out, bare)]
    outside = (flags != 0) | ~(flat > 0)
    assert not masks[0][outside].any()
    assert masks[1][10:20, 10:30].any()
    assert not np.array_equal(out.data, bare.data)


def test_masks_of_the_user(through):
    data, gdq, pdq = ramps(12, (2, 3, 12, 20))
    refs = references(12, 20)
    masks = np.zeros((2, 12, 20))
    masks[0, :, :10], masks[1, :, 8:] = 1, np.nan  # all but 0 counts
    for mask in (masks, masks[0]):
        out = clean(through, data, refs | {"user_mask": {"SCI": mask}}, gdq, pdq, user_mask="mine.fits")
        own = np.broadcast_to(mask != 0, masks.shape)
        for i in range(2):
            total = 0.0
            for g in (1, 2):
                good = own[i] & (gdq[i, g] & (DO_NOT_USE | JUMP_DET) == 0)
                total = total + naive_noise(data[i, g] - data[i, g - 1], good)
                np.testing.assert_allclose((data - out.data)[i, g], total, atol=2e-3)


@pytest.mark.parametrize("mask", [None, np.ones((3, 4)), np.ones((3, 8, 8))])
def test_masks_that_do_not_fit_are_refused(mask):
    with pytest.raises(Misconfigured, match="user_mask: "):
        clean_flicker_noise.prepare_mask(_raw(mask), _meta(nints=2), STEP.params())


def test_further_products(through):
    data, gdq, pdq = ramps(13, (2, 3, 16, 24))
    refs = references(16, 24)
    whole, each = drafts(through, data, gdq, pdq, refs)
    save = {"save_mask": True, "save_background": True, "save_noise": True}
    for single in (True, False):
        out = clean(through, data, refs, gdq, pdq, single_mask=single, **save)
        mask, background, noise = out.shared["extras"].found
        assert [e.suffix for e in (mask, background, noise)] == ["mask", "flicker_bkg", "flicker_noise"]
        rates = [whole] if single else each
        kept = mask.arrays["SCI"] if single else mask.arrays["SCI"].array
        np.testing.assert_array_equal(np.atleast_3d(kept.T).T, [naive_scene(rate) for rate in rates])
        assert mask.model == ("ImageModel" if single else "CubeModel")
        np.testing.assert_allclose(noise.arrays["SCI"].array, out.data - data, atol=1e-5)
        levels = background.arrays["SCI"].array
        assert not levels[:, 0].any()
        assert (np.ptp(levels, axis=(2, 3)) == 0).all()
        assert (levels[:, 1:] > 10).all()
        assert background.arrays["GROUPDQ"].shape == levels.shape


def test_histogram():
    rng = np.random.default_rng(14)
    rate = rng.normal(3, 0.1, (200, 200)).astype(np.float32)
    rate[rng.random(rate.shape) < 0.2] += 0.25  # a shoulder that clipping does not see
    values = np.sort(rate.ravel())
    centre, mean, deviation, _ = flicker_clip.clipped(values, 0, rate.size)
    found, width = gaussian(values, mean, deviation)
    assert abs(found - 3) < abs(centre - 3)
    assert 0.1 < width < deviation
    mask = scene(rate, 2.0, fit_histogram=True)
    np.testing.assert_array_equal(mask, inside(rate, found, width, 3.0, 2.0))


def test_histogram_of_a_level_is_left_alone():
    assert scene(np.full((8, 8), 3, np.float32), 2.0, fit_histogram=True).all()


@pytest.mark.parametrize("flat", [False, True])
def test_parameters_are_chosen(through, flat):
    """The same as giving what was chosen."""
    data, gdq, pdq = ramps(15, (2, 4, 32, 48), gradient=2.0)
    gdq[:], pdq[:] = 0, 0
    refs = references(32, 48)
    if flat:
        refs["flat"] = {"SCI": np.random.default_rng(15).uniform(0.9, 1.1, (32, 48))}
    auto = clean(through, data, refs, gdq, pdq, autoparam=True, background_method="median_image", n_sigma=3.0)
    assert auto.report.counters["clean_flicker_noise.background_method"] == 1
    assert auto.report.counters["clean_flicker_noise.apply_flat_field"] == flat
    given = clean(
        through, data, refs, gdq, pdq, background_method="model", apply_flat_field=flat, n_sigma=3.0
    )
    np.testing.assert_array_equal(auto.data, given.data)
    assert not np.array_equal(auto.data, data)


def test_other_exposures_do_not_choose(through):
    data, gdq, pdq = ramps(16, (1, 3, 16, 24))
    refs = references(16, 24)
    facts = {"exp_type": "NRC_CORON"}
    auto = clean(through, data, refs, gdq, pdq, facts=facts, autoparam=True)
    np.testing.assert_array_equal(auto.data, clean(through, data, refs, gdq, pdq, facts=facts).data)


def test_median_image(through):
    data, gdq, pdq = ramps(17, (5, 3, 20, 24))
    data *= np.array([1, 1.1, 0.9, 1.05, 1])[:, None, None, None].astype(np.float32)
    refs = references(20, 24)
    out = clean(through, data, refs, gdq, pdq, background_method="median_image", save_background=True)
    _, each = drafts(through, data, gdq, pdq, refs)
    fluxes = np.nanmedian(each, axis=(1, 2))
    image = np.median(data, axis=0) * (fluxes / np.median(fluxes))[:, None, None, None]
    [background] = out.shared["extras"].found
    np.testing.assert_allclose(background.arrays["SCI"].array, image, rtol=1e-5)
    for i in range(5):
        mask = naive_scene(each[i])
        for g in range(3):
            noise = naive_lines(np.where(mask, data[i, g] - image[i, g].astype(np.float64), np.nan), 1)
            np.testing.assert_allclose((data - out.data)[i, g], noise, atol=2e-2)


@pytest.mark.filterwarnings("error")
def test_median_image_without_flux(through):
    """Ramps that do not rise stay as they are; what is NaN in one integration says nothing of the others."""
    data, gdq, pdq = ramps(17, (3, 3, 20, 24))
    flat = np.ascontiguousarray(np.broadcast_to(data[:, :1], data.shape))
    refs, how = references(20, 24), {"background_method": "median_image"}
    out = clean(through, flat, refs, gdq, pdq, **how)
    np.testing.assert_array_equal(out.data, flat)
    data[1] = np.nan
    out = clean(through, data, refs, gdq, pdq, **how)
    assert np.isfinite(out.data[[0, 2]]).all() and (out.data[0] != data[0]).any()
    assert np.isnan(out.data[1]).all()


def test_mid_infrared_stripes_are_columns(through):
    data, gdq, pdq = ramps(2, (1, 4, 24, 32))
    refs = references(24, 32)
    facts = {"instrument": "MIRI", "detector": "MIRIMAGE", "exp_type": "MIR_IMAGE", "fastaxis": 1}
    whole, _ = drafts(through, data, gdq, pdq, refs, **facts)
    out = clean(through, data, refs, gdq, pdq, facts=facts, fit_by_channel=True)
    np.testing.assert_allclose(out.data, naive(data, gdq, [whole], along_rows=False), rtol=0, atol=2e-3)


def test_where_nothing_is_of_use_nothing_is_taken_off(through):
    data, gdq, pdq = ramps(3, (1, 4, 12, 16))
    gdq[0, 2] = DO_NOT_USE
    gdq[0, 3, 5] = JUMP_DET
    taken = data - clean(through, data, references(12, 16), gdq, pdq).data
    assert not taken[0, 0].any()
    assert taken[0, 1].all()
    np.testing.assert_allclose(taken[0, 2], taken[0, 1], atol=1e-3)
    np.testing.assert_allclose(taken[0, 3, 5], taken[0, 2, 5], atol=1e-3)


def test_one_group_stays_as_it_is(through):
    data, gdq, pdq = ramps(4, (2, 1, 12, 16))
    out = clean(through, data, references(12, 16), gdq, pdq)
    np.testing.assert_array_equal(out.data, data)


@pytest.mark.parametrize("params", [{}, {"single_mask": False}, {"background_method": "median_image"}])
@pytest.mark.parametrize("groups", [1, 2, 7])  # that wait for the one before
def test_same_bits_whatever_the_threads_and_pieces(through, monkeypatch, params, groups):
    data, gdq, pdq = ramps(5, (3, 4, 20, 36))
    refs = references(20, 36)
    one = clean(through, data, refs, gdq, pdq, options={"threads": 1}, **params)
    monkeypatch.setattr(clean_flicker_noise.draft_rate, "PIECE", 1)
    monkeypatch.setattr(flicker_cleaning, "HELD", 4 * 20 * 36 * groups)
    other = clean(through, data, refs, gdq, pdq, options={"threads": 2, "budget_bytes": 1}, **params)
    assert one.data.tobytes() == other.data.tobytes()


def test_what_is_skipped():
    facts = {"instrument": "MIRI", "exp_type": "MIR_MRS"}

    def reason(params, **facts):
        return STEP.skip_if(_meta(**facts), STEP.params(**params))

    assert "MIR_MRS" in reason({}, **facts)
    assert reason({}, instrument="MIRI", exp_type="MIR_IMAGE") is None
    assert "fft" in reason({"fit_method": "fft"}, exp_type="NRC_IMAGE")
    assert reason({"fit_method": "fft"}, instrument="NIRSPEC", exp_type="NRS_IFU") is None
    by_median = {"background_method": "median_image"}
    assert "more than one" in reason(by_median)
    assert "NRC_TSGRISM" in reason(by_median, nints=2, exp_type="NRC_TSGRISM")
    assert reason(by_median, nints=2) is None
    assert reason(by_median, nints=2, exp_type="NRC_TSIMAGE") is None
    assert reason(by_median | {"autoparam": True}) is None


def _meta(**facts):
    from upramp.stages.core.meta import ExposureMeta

    usual = dict(
        instrument="NIRCAM", detector="NRCALONG", exp_type="NRC_IMAGE", subarray="FULL", xstart=1, ystart=1,
        nx=8, ny=8, fastaxis=-1, slowaxis=2, nints=1, nints_total=1, ngroups=3,
    )  # fmt: skip
    return ExposureMeta(**(usual | facts))


@pytest.mark.parametrize("fast", [-1, 2])
def test_truth(through, fast):
    """Stripes that were put in are taken out, and stars keep their brightness."""
    detector = "NRCALONG" if fast == -1 else "NRS1"
    size, groups = 64, 5
    o = Observation(detector=detector, subarray="SUB", ny=size, nx=size, ngroups=groups)
    rng = np.random.default_rng(6)
    stars = rng.random((size, size)) < 0.02
    rate = 30 + np.where(stars, 500.0, 0.0)
    flicker = Flicker(o, common=15.0, own=0.0)
    level = np.array([flicker.level(0, g, 0) for g in range(groups)])
    data = np.cumsum(rng.poisson(rate * 10, (groups, size, size)), axis=0) + rng.normal(0, 3, level.shape)
    refs = {"gain": {"SCI": np.ones((size, size))}, "readnoise": {"SCI": np.full((size, size), 4.0)}}
    facts = {"fastaxis": o.layout.fastaxis, "slowaxis": o.layout.slowaxis}
    steps = [(STEP, ON), (ramp_fit.STEP, {})]
    striped, cleaned = (
        through(steps[k:], (data + level)[None], refs, **facts).products["rate.sci"] for k in (1, 0)
    )
    plain = through(steps[1:], data[None], refs, **facts).products["rate.sci"]

    def ripple(image):
        """Row to row, or column to column."""
        residual = np.where(stars, np.nan, image)
        return np.nanmean(residual, axis=1 if fast == -1 else 0).std()

    assert ripple(cleaned) < ripple(striped) / 2
    assert abs((cleaned - plain)[stars].mean()) < 0.3
    assert abs((cleaned - plain)[~stars].mean()) < 0.15


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.floats(width=32, allow_nan=False), max_size=60),
    more=st.integers(0, 3),
)
def test_sort(values, more):
    a = np.array(values + [7.0] * more, np.float32)
    n = len(values)
    expected = np.sort(a[:n])
    flicker_clip.sort(a, np.empty_like(a), n)
    np.testing.assert_array_equal(a[:n], expected)
    assert (a[n:] == 7).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 20), n=st.integers(1, 80), spread=st.sampled_from([0, 1, 30]))
def test_clipped(seed, n, spread):
    rng = np.random.default_rng(seed)
    values = np.sort(np.round(rng.normal(5, 1, n) + spread * (rng.random(n) < 0.1), 1)).astype(np.float32)
    np.testing.assert_allclose(
        flicker_clip.clipped(values, 0, n)[::2], naive_clip(values), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(
        flicker_clip.clipped_below(values, 0, n), naive_below(values), rtol=1e-5, atol=1e-5
    )


def test_scene_leaves_out_what_shines():
    rng = np.random.default_rng(8)
    rate = rng.normal(3, 0.1, (30, 30)).astype(np.float32)
    rate[3, 4], rate[5, 6], rate[7, 8], rate[9, 10] = 40, np.nan, 0, -5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask = scene(rate, 2.0)
    np.testing.assert_array_equal(mask, naive_scene(rate))
    assert not mask[[3, 5, 7, 9], [4, 6, 8, 10]].any()
    assert scene(rate, 0.0).sum() == rate.size - 2
