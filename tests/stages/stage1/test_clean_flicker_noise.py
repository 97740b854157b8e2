import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.simulate.effects import Flicker
from upramp.simulate.observation import Observation
from upramp.stages.stage1 import clean_flicker_noise, flicker_clip, ramp_fit
from upramp.stages.stage1.flicker_scene import scene

STEP = clean_flicker_noise.STEP
ON = {"skip": False}
DO_NOT_USE, SATURATED, JUMP_DET = 1, 2, 4


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
    below = values[values < centre]
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


def test_same_bits_whatever_the_threads_and_pieces(through, monkeypatch):
    data, gdq, pdq = ramps(5, (3, 4, 20, 36))
    refs = references(20, 36)
    one = clean(through, data, refs, gdq, pdq, options={"threads": 1})
    monkeypatch.setattr(clean_flicker_noise.draft_rate, "PIECE", 1)
    monkeypatch.setattr(clean_flicker_noise, "LINES", 1)
    other = clean(through, data, refs, gdq, pdq, options={"threads": 3, "budget_bytes": 1})
    assert one.data.tobytes() == other.data.tobytes()


def test_what_is_skipped():
    facts = {"instrument": "MIRI", "exp_type": "MIR_MRS"}

    def reason(params, **facts):
        return STEP.skip_if(_meta(**facts), STEP.params(**params))

    assert "MIR_MRS" in reason({}, **facts)
    assert reason({}, instrument="MIRI", exp_type="MIR_IMAGE") is None
    assert "fft" in reason({"fit_method": "fft"}, exp_type="NRC_IMAGE")
    assert reason({"fit_method": "fft"}, instrument="NIRSPEC", exp_type="NRS_IFU") is None


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
    np.testing.assert_allclose(flicker_clip.clipped(values, 0, n), naive_clip(values), rtol=1e-5, atol=1e-5)
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
