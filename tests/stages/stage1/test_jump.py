"""jump: outliers among differences, their neighbours, and the groups after them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from astropy.stats import sigma_clip
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.stage1.jump import STEP, Params

DNU, SATURATED, JUMP, NO_GAIN = 1, 2, 4, 1 << 19


def ramps(*pixels):
    """Ramps of pixels side by side -> (1, ngroups, 1, pixels)."""
    return np.array(pixels, np.float32).T[None, :, None, :]


def refs(shape, gain=1.0, noise=1.0):
    return {"gain": {"SCI": np.full(shape, gain)}, "readnoise": {"SCI": np.full(shape, noise)}}


def alone(apply, increments, gain=1.0, noise=1.0, gdq=None, **kw):
    """Group flags of one pixel that starts at 100 and rises by these increments."""
    data = ramps(np.cumsum([100, *increments]))
    flags = 0 if gdq is None else np.array(gdq, np.uint8)[None, :, None, None]
    out = apply(STEP, data, refs((1, 1), gain, noise), gdq=flags, **kw)
    return out.gdq[0, :, 0, 0].tolist(), int(out.pdq[0, 0])


# noise 0, gain 1: sigma = sqrt(median), 10 for a median of 100; 24 electrons of noise: sigma = 26
@pytest.mark.parametrize(
    ("increments", "params", "expected"),
    [
        # ten and more differences: one pass
        ([100] * 9 + [141], {}, [0] * 10 + [4]),
        ([100] * 9 + [140], {}, [0] * 11),
        ([100] * 9 + [59], {}, [0] * 10 + [4]),
        ([141, 59] + [100] * 8, {}, [0, 4, 4] + [0] * 8),
        ([100] * 9 + [141], {"rejection_threshold": 4.2}, [0] * 11),
        # fewer: largest first; 4 sigma with four or more, 5 with three, 6 with two
        ([100, 100, 100, 141], {}, [0, 0, 0, 0, 4]),
        ([100, 100, 100, 140], {}, [0] * 5),
        ([100, 101, 99, 100, 102, 20], {}, [0, 0, 0, 0, 0, 0, 4]),
        ([100, 100, -141, 100], {}, [0, 0, 0, 4, 0]),
        ([100, 100, -100, 100], {}, [0] * 5),
        ([100, 100, 150], {}, [0] * 4),
        ([100, 100, 151], {}, [0, 0, 0, 4]),
        ([100, 161], {}, [0, 0, 4]),
        ([100, 160], {}, [0] * 3),
        ([161, 100], {}, [0, 4, 0]),
        ([100, 140], {"three_group_rejection_threshold": 3.9}, [0, 0, 4]),
        ([100, 100, 145], {"four_group_rejection_threshold": 4.4}, [0, 0, 0, 4]),
        # four, one goes, three are left: 250 and then 190 must pass 5 sigma
        ([100, 250, 190, 100], {}, [0, 0, 4, 4, 0]),
        ([100, 250, 149, 100], {}, [0, 0, 4, 0, 0]),
        # three differences, one goes; two are left: 6 sigma
        ([100, 900, 161], {}, [0, 0, 4, 4]),
        ([100, 900, 160], {}, [0, 0, 4, 0]),
        # as many as integrations and groups give count for the thresholds, but not for the single pass
        ([100] * 8 + [141], {}, [0] * 9 + [4]),
        ([100] * 4 + [141], {"min_diffs_single_pass": 5}, [0] * 5 + [4]),
        ([], {}, [0]),
        ([100], {}, [0, 0]),
    ],
)
def test_one_pixel(apply, increments, params, expected):
    assert alone(apply, increments, noise=0.0, params=params) == (expected, 0)


def test_noise_and_gain_scale_the_threshold(apply):
    # median 100 DN = 400 e; read noise 20 DN = 80 e, / 4 frames: sigma = sqrt(400 + 1600) = 44.7 e = 11.2 DN
    for step, expected in ((144.8, 4), (144.6, 0)):
        flags, _ = alone(apply, [100] * 10 + [step], gain=4.0, noise=20.0, nframes=4)
        assert flags[-1] == expected


def test_without_noise_and_signal_nothing_is_found(apply):
    assert alone(apply, [0] * 11 + [50], noise=0.0)[0] == [0] * 13
    assert alone(apply, [0, 0, 0, 50, 0], noise=0.0)[0] == [0] * 6


def test_differences_next_to_unusable_groups_do_not_count(apply):
    flags, _ = alone(apply, [100, 100, 900, 100, 100], noise=0.0, gdq=[0, 0, 0, DNU, 0, 0])
    assert flags == [0, 0, 0, DNU, 0, 0]
    flags, _ = alone(apply, [100, 100, 900, 100, 141], noise=0.0, gdq=[0, 0, SATURATED, 0, 0, 0])
    assert flags == [0, 0, SATURATED, 0, 0, 0]  # three left: 5 sigma needed
    flags, _ = alone(apply, [100, 100, 900, 100, 151], noise=0.0, gdq=[0, 0, SATURATED, 0, 0, 0])
    assert flags == [0, 0, SATURATED, 0, 0, JUMP]
    flags, _ = alone(apply, [100, 900, 100], noise=0.0, gdq=[0, JUMP, 0, 0])
    assert flags == [0, JUMP, JUMP, 0]


@pytest.mark.parametrize(
    ("increments", "expected"),
    [
        # the largest are left out of the median, all of them
        ([100, 500, 100, 500, 100, 100], [0, 1, 0, 1, 0, 0]),
        ([100, 500, 100, -500, 100, 100], [0, 1, 0, 1, 0, 0]),
        ([100, 100, 100, 100, 100, 20], [1, 1, 1, 1, 1, 0]),
        ([20, 100, 100, 20, 100], [0, 1, 1, 0, 1]),
        ([500, 500, 500, 500], [0, 0, 0, 0]),
        # and the most distant go together, so that the higher thresholds of fewer differences do not count
        ([0, 0, 49, 49], [0, 0, 1, 1]),
        ([0, 0, 0, 47, 47], [0, 0, 0, 0, 0]),
        ([49, 0, 49, 49, 0, 49], [1, 0, 1, 1, 0, 1]),
        ([0, 2000, 0, 59], [0, 1, 0, 0]),
        ([0, 2000, 0, 61], [0, 1, 0, 1]),
        ([0, 2000, 71, 3000], [0, 1, 0, 1]),
        ([0, 2000, 73, 3000], [0, 1, 1, 1]),
    ],
)
def test_ties_and_the_thresholds_of_few(apply, increments, expected):
    """As the observatory's pipeline answered; 12 electrons of noise."""
    flags, _ = alone(apply, increments, noise=12.0)
    assert flags == [0, *(JUMP * e for e in expected)]


def test_bad_gain_makes_the_pixel_unusable(apply):
    gain = np.array([[1, np.nan, 0, -1, np.inf]])
    data = ramps(*[np.cumsum([100.0] * 4 + [900, 100])] * 5)
    out = apply(
        STEP,
        data,
        {"gain": {"SCI": gain}, "readnoise": {"SCI": np.ones((1, 5))}},
        params={"flag_4_neighbors": False},
    )
    assert out.pdq[0, :4].tolist() == [0, *[NO_GAIN | DNU] * 3]
    assert out.gdq[0, 4, 0, :4].tolist() == [JUMP, 0, 0, JUMP]  # searched for its neighbours' sake


def test_neighbours_between_the_limits(apply):
    # noise 0, median 100, sigma 10: a jump of 200 is 20 sigma
    data = np.cumsum(np.full((1, 12, 5, 5), 100.0), axis=1)
    data[0, 6:, 2, 2] += 200
    for low, high, spread in ((10, 1000, True), (21, 1000, False), (10, 19, False), (19.9, 20.1, True)):
        params = {"min_jump_to_flag_neighbors": low, "max_jump_to_flag_neighbors": high}
        out = apply(STEP, data, refs((5, 5), noise=0.0), params=params, batch=2)
        cross = np.zeros((5, 5), int)
        cross[2, 2] = JUMP
        if spread:
            cross[1, 2] = cross[3, 2] = cross[2, 1] = cross[2, 3] = JUMP
        assert (out.gdq[0, 6] == cross).all()
        assert not np.delete(out.gdq[0], 6, axis=0).any()
        assert out.counters["jump.primary"] == 1
    out = apply(STEP, data, refs((5, 5), noise=0.0), params={"flag_4_neighbors": False})
    assert np.count_nonzero(out.gdq) == 1
    out = apply(STEP, data, refs((5, 5), noise=0.0), gdq=np.where(np.arange(5) == 3, SATURATED, 0))
    assert out.gdq[0, 6, 2].tolist() == [0, JUMP, JUMP, SATURATED, 0]


def test_groups_after_a_large_jump(apply):
    # a jump of 300 DN over the median at group 5; group time 10 s
    increments = [100] * 4 + [400] + [100] * 7
    few = {"after_jump_flag_dn1": 250, "after_jump_flag_time1": 25.0}
    many = {"after_jump_flag_dn2": 290, "after_jump_flag_time2": 49.0}
    facts = {"noise": 0.0, "group_time": 10.0}
    for params, after in (
        (few, 2),
        (many, 4),
        (few | many, 4),
        (few | {"after_jump_flag_dn1": 301}, 0),
        (few | {"after_jump_flag_time1": 9.0}, 0),
        (few | {"after_jump_flag_time1": 500.0}, 7),
    ):
        flags, _ = alone(apply, increments, params=params, **facts)
        assert flags == [0] * 5 + [JUMP] * (1 + after) + [0] * (7 - after)
    flags, _ = alone(apply, increments, params=few, gdq=[0] * 6 + [DNU] + [0] * 6, **facts)
    assert flags == [0] * 5 + [JUMP, DNU, JUMP] + [0] * 5


def test_large_jumps_are_measured_in_electrons_of_the_typical_gain(apply):
    data = ramps(*[np.cumsum([100] * 5 + [400] + [100] * 7)] * 3)
    gain = np.array([[1.0, 2.0, 4.0]])  # the median is 2: 250 DN are 500 e
    params = {"after_jump_flag_dn1": 250, "after_jump_flag_time1": 10.0, "flag_4_neighbors": False}
    given_refs = {"gain": {"SCI": gain}, "readnoise": {"SCI": np.zeros((1, 3))}}
    out = apply(STEP, data, given_refs, params=params, group_time=10.0)
    assert out.gdq[0, 5, 0].tolist() == [JUMP] * 3
    assert out.gdq[0, 6, 0].tolist() == [0, JUMP, JUMP]


def test_skipped_with_too_few_groups():
    assert STEP.skip_if(SimpleNamespace(ngroups=2), Params()) is not None
    assert STEP.skip_if(SimpleNamespace(ngroups=3), Params()) is None


def test_parameters_are_checked():
    with pytest.raises(ValueError, match="four_group_rejection_threshold"):
        Params(four_group_rejection_threshold=-1)


def clipped(sizes):
    if sizes.size == 2:
        return sizes.min()
    if sizes.size >= 4 and (sizes < sizes.max()).any():
        sizes = sizes[sizes < sizes.max()]
    return np.median(sizes)


def naive_pixel(d, variance, p, single):
    """Flags of differences (nints, ngroups - 1), how many sigma they are off, and whether that is certain."""
    flags, certain = np.zeros(d.shape, bool), True
    good = ~np.isnan(d)
    if good.sum() < 2 or np.isnan(variance):
        return flags, np.full(d.shape, np.nan), True
    middle = np.median(d[good])
    sigma = np.sqrt(abs(middle) + variance)
    if single:
        ratio = np.where(good, abs(d - middle) / sigma, 0) if sigma > 0 else np.zeros(d.shape)
        flags = ratio > p.rejection_threshold
        certain = not np.isclose(ratio, p.rejection_threshold, rtol=1e-5).any()
    else:
        left = np.where(good, abs(d), np.nan)
        while (n := np.isfinite(left).sum()) >= 2:
            m = clipped(left[np.isfinite(left)])
            s = np.sqrt(abs(m) + variance)
            threshold = [0, 0, p.three_group_rejection_threshold, p.four_group_rejection_threshold]
            limit = p.rejection_threshold if n >= 4 else threshold[n]
            off = abs(left - m)
            most = np.nanmax(off)
            worst = off == most
            certain &= not np.isclose(most, limit * s, rtol=1e-5)
            certain &= np.isclose(off, most, rtol=1e-5).sum() == worst.sum()
            if not (s > 0 and most > limit * s):
                break
            flags |= worst
            left[worst] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        return flags, np.where(good, abs(d - middle) / sigma, np.nan), certain


def naive(data, gdq, gain, noise, p, nframes=1, group_time=10.0):
    """All rules, pixel by pixel; the second answer says which pixels are certain."""
    _, ngroups, ny, nx = data.shape
    unusable = (gdq & 3) != 0
    electrons = np.where(unusable, np.nan, (data * gain).astype(np.float32))
    d = np.diff(electrons, axis=1)
    variance = ((noise * gain).astype(np.float32).astype(float)) ** 2 / nframes
    single = ngroups - 1 >= p.min_diffs_single_pass
    hit, ratio = np.zeros(data.shape, bool), np.zeros(data.shape)
    certain = np.ones((ny, nx), bool)
    for y, x in np.ndindex(ny, nx):
        hit[:, 1:, y, x], ratio[:, 1:, y, x], certain[y, x] = naive_pixel(
            d[..., y, x].astype(float), variance[y, x], p, single
        )
    primary = int(hit.sum())
    flags = hit.copy()
    if p.flag_4_neighbors:
        spreading = hit & (ratio > p.min_jump_to_flag_neighbors) & (ratio < p.max_jump_to_flag_neighbors)
        flags[:, :, 1:] |= spreading[:, :, :-1]
        flags[:, :, :-1] |= spreading[:, :, 1:]
        flags[..., 1:] |= spreading[..., :-1]
        flags[..., :-1] |= spreading[..., 1:]
        sure = certain.copy()
        for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:-1], np.s_[1:])):
            certain[a] &= sure[b]
            certain[:, a] &= sure[:, b]
    flags &= ~unusable
    middle = np.nanmedian(np.where(np.isnan(d), np.nan, d).astype(float), axis=(0, 1))
    typical = np.nanmedian(gain)
    before = flags | ((gdq & JUMP) != 0)
    for dn, seconds in (
        (p.after_jump_flag_dn1, p.after_jump_flag_time1),
        (p.after_jump_flag_dn2, p.after_jump_flag_time2),
    ):
        n = int(seconds // group_time)
        for g in range(1, ngroups) if n > 0 else ():
            large = before[:, g] & (d[:, g - 1] - middle >= np.float32(dn * typical))
            flags[:, g + 1 : g + 1 + n] |= large[:, None] & ~unusable[:, g + 1 : g + 1 + n]
    return gdq | flags * np.uint8(JUMP), certain, primary


def scene(seed, shape, grid):
    """Ramps with cosmic rays, unusable groups, NaN and bad references."""
    rng = np.random.default_rng(seed)
    nints, _, ny, nx = shape
    rate = 10 ** rng.uniform(-0.5, 2.5, (ny, nx))
    rises = rng.poisson(rate, shape) + np.where(rng.random(shape) < 0.15, 10 ** rng.uniform(1, 4, shape), 0)
    data = np.cumsum(rises, axis=1) + rng.normal(0, 8, shape)
    data = np.round(data / 20) * 20 if grid else data
    data[rng.random(shape) < 0.01] = np.nan
    gdq = rng.choice([0, DNU, SATURATED, JUMP, 1 << 4], shape, p=[0.9, 0.04, 0.03, 0.02, 0.01])
    late = np.arange(shape[1])[:, None, None] >= rng.integers(0, 3 * shape[1], (nints, 1, ny, nx))
    gdq = gdq | late * SATURATED
    gain = rng.normal(1.8, 0.1, (ny, nx))
    noise = rng.normal(12, 1, (ny, nx))
    gain[rng.random((ny, nx)) < 0.05] = rng.choice([np.nan, 0, -1])
    noise[rng.random((ny, nx)) < 0.03] = np.nan
    images = gain.astype(np.float32), noise.astype(np.float32)
    return data.astype(np.float32), gdq.astype(np.uint8), *images


LIMITS = st.sampled_from([{}, {"flag_4_neighbors": False}, {"min_jump_to_flag_neighbors": 30.0}])
AFTER = st.sampled_from(
    [
        {},
        {"after_jump_flag_dn1": 10.0, "after_jump_flag_time1": 15.0},
        {
            "after_jump_flag_dn1": 100.0,
            "after_jump_flag_time1": 20.0,
            "after_jump_flag_dn2": 1000.0,
            "after_jump_flag_time2": 45.0,
        },
    ]
)


@pytest.mark.filterwarnings("ignore:All-NaN slice")
@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 1 << 31),
    frames=st.tuples(st.integers(1, 4), st.integers(3, 13))
    | st.tuples(st.integers(8, 12), st.integers(3, 6)),
    size=st.tuples(st.integers(1, 6), st.integers(1, 7)),
    nframes=st.sampled_from([1, 4]),
    grid=st.booleans(),
    limits=LIMITS,
    after=AFTER,
    thresholds=st.sampled_from([(4.0, 5.0, 6.0), (3.0, 3.5, 3.2), (6.0, 4.0, 3.0)]),
    threads=st.integers(1, 2),
)
def test_against_the_naive_rules(
    through, seed, frames, size, nframes, grid, limits, after, thresholds, threads
):
    data, gdq, gain, noise = scene(seed, frames + size, grid)
    names = ("rejection_threshold", "four_group_rejection_threshold", "three_group_rejection_threshold")
    params = {**limits, **after, **dict(zip(names, thresholds, strict=True))}
    out = through(
        [(STEP, params)],
        data,
        {"gain": {"SCI": gain}, "readnoise": {"SCI": noise}},
        gdq=gdq,
        options={"threads": threads, "budget_bytes": 40_000},
        nframes=nframes,
        group_time=10.0,
    )
    expected, certain, primary = naive(data, gdq, gain, noise, Params(**params), nframes)
    assert np.array_equal(out.gdq[..., certain], expected[..., certain])
    assert np.array_equal(out.pdq, np.where(gain > 0, 0, NO_GAIN | DNU))
    assert np.array_equal(out.data, data, equal_nan=True)
    if certain.all():
        assert out.report.counters["jump.primary"] == primary


@pytest.mark.filterwarnings("ignore:All-NaN slice")
@pytest.mark.parametrize("shape", [(1, 60, 2, 70), (12, 4, 2, 70), (5, 12, 1, 65)])
def test_many_samples_and_wide_rows(through, shape):
    data, gdq, gain, noise = scene(5, shape, False)
    out = through(
        [(STEP, {})], data, {"gain": {"SCI": gain}, "readnoise": {"SCI": noise}}, gdq=gdq, group_time=10.0
    )
    expected, certain, _ = naive(data, gdq, gain, noise, Params())
    assert np.array_equal(out.gdq[..., certain], expected[..., certain])


@pytest.mark.parametrize("k", range(6))
def test_same_as_the_peer(through, peer_cases, k):
    case = peer_cases("jump")[k]
    flags = {name: case.given[name] for name in ("gdq", "pdq")}
    out = through([(STEP, case.params)], case.given["data"], case.references, **flags, **case.facts)
    assert np.array_equal(out.gdq, case.answer["gdq"])
    assert np.array_equal(out.pdq, case.answer["pdq"])
    assert np.count_nonzero(out.gdq & JUMP) > np.count_nonzero(case.given["gdq"] & JUMP)


@pytest.mark.parametrize(
    ("params", "axis"),
    [
        ({"minimum_sigclip_groups": 30}, 0),
        ({"minimum_sigclip_groups": 90, "only_use_ints": False}, (0, 1)),
    ],
)
def test_long_series_are_sigma_clipped(apply, params, axis):
    """Each difference across all integrations (or all differences together), as astropy clips."""
    rng = np.random.default_rng(5)
    shape = (30, 4, 3, 7)
    data = np.cumsum(rng.normal(100, 20, shape), axis=1) + np.cumsum(500 * (rng.random(shape) < 0.02), axis=1)
    data = data.astype(np.float32)
    gdq = np.where(rng.random(shape) < 0.05, DNU, 0).astype(np.uint8)
    no_neighbours = {"flag_4_neighbors": False, **params}
    out = apply(STEP, data, refs(shape[2:], gain=2.0, noise=5.0), gdq=gdq, params=no_neighbours)
    electrons = np.where(gdq, np.nan, 2 * data)
    differences = np.ma.masked_invalid(np.diff(electrons, axis=1))
    clipped = sigma_clip(differences, sigma=4, axis=axis, masked=True).mask & ~differences.mask
    assert clipped.sum() > 10
    assert np.array_equal((out.gdq & JUMP)[:, 1:] > 0, clipped)
    # one integration less than asked for: the usual rule, which here flags other pixels too
    fewer = {**no_neighbours, "minimum_sigclip_groups": 10_000}
    usual = apply(STEP, data, refs(shape[2:], gain=2.0, noise=5.0), gdq=gdq, params=fewer)
    assert not np.array_equal(usual.gdq, out.gdq)
