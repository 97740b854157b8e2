"""ramp_fit: segments, weights, variances, and ramps with one good group or none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.stage1.ramp_fit import STEP, Params
from upramp.stages.stage1.ramp_segments import EXPONENTS, next_segment, slope_coefficients

DNU, SATURATED, JUMP, CHARGELOSS, NO_GAIN = 1, 2, 4, 128, 1 << 19
NAMES = ("sci", "err", "dq", "var_poisson", "var_rnoise")


def refs(shape, gain=2.0, noise=10.0):
    return {"gain": {"SCI": np.full(shape, gain)}, "readnoise": {"SCI": np.full(shape, noise)}}


def fit(through, ramps, gdq=0, pdq=0, params=None, gain=2.0, noise=10.0, **facts):
    """One pixel: ramps (nints, ngroups); group time 10 s. Returns per integration and for the exposure."""
    data = np.array(ramps, np.float32)[:, :, None, None]
    flags = np.broadcast_to(np.array(gdq, np.uint8), data.shape[:2])[:, :, None, None]
    references = refs((1, 1), gain, noise)
    out = through([(STEP, params or {})], data, references, gdq=flags, pdq=pdq, **facts).products
    each = {name: out[f"rateints.{name}"][:, 0, 0].tolist() for name in NAMES}
    return each, {name: out[f"rate.{name}"][0, 0].item() for name in NAMES}


def near(*values):
    return pytest.approx(values if len(values) > 1 else values[0], rel=1e-6, nan_ok=True)


# noise 10 DN of a double sample: 50 DN^2 of a sample; var_R = 12 * 50 / ((n^3 - n) 100) = 6 / (n^3 - n)
def test_a_straight_ramp(through):
    each, whole = fit(through, [[10, 20, 30, 40]])
    assert each["sci"] == [near(1.0)]
    assert each["var_rnoise"] == [near(0.1)]
    assert each["var_poisson"] == [near(1 / 60)]  # 1 DN/s over 10 s x 2 e/DN x 3
    assert each["err"] == [near((0.1 + 1 / 60) ** 0.5)]
    assert each["dq"] == [0]
    assert whole == {k: near(v[0]) for k, v in each.items()}


@pytest.mark.parametrize(
    ("ramp", "gdq", "slope", "cubes", "steps"),
    [
        ([0, 10, 20, 500, 520, 540], [0, 0, 0, JUMP, 0, 0], 15, 48, 4),
        ([0, 10, 20, 500, 530], [0, 0, 0, JUMP, 0], 14, 30, 3),
        ([0, 10, 20, 500, 530], [0, 0, 0, DNU, 0], 10, 24, 2),  # the last one is alone
        ([0, 10, 99, 30, 60], [0, 0, DNU, 0, 0], 20, 12, 2),
        ([9, 10, 20, 99, 99], [DNU, 0, 0, SATURATED, SATURATED], 10, 6, 1),
        ([9, 10, 20, 40, 60], [0, JUMP, JUMP, 0, 0], 20, 24, 2),
        ([JUMP, 30, 20, 10, 0], [JUMP, 0, 0, 0, 0], None, 120, 4),
    ],
)
def test_segments(through, ramp, gdq, slope, cubes, steps):
    each, whole = fit(through, [ramp], [gdq])
    if slope is not None:
        assert each["sci"] == [near(slope / 10)]
    assert each["var_rnoise"] == [near(6 / cubes)]
    assert whole["var_rnoise"] == near(6 / cubes)
    good = [b - a for a, b, f, g in zip(ramp, ramp[1:], gdq, gdq[1:], strict=False) if not (f & 3 or g & 7)]
    assert each["var_poisson"] == [near(max(np.median(good), 0) / 10 / (10 * 2 * steps))]
    flags = 0
    for f in gdq:
        flags |= f & (SATURATED | JUMP)
    assert each["dq"] == [flags]


def test_segments_are_combined_by_their_total_variance(through):
    # typical rate 10 DN per group, 1 DN/s: Poisson 1 / 20 per step; segments of 3 and 2 groups
    each, whole = fit(through, [[0, 10, 20, 500, 510]], [[0, 0, 0, JUMP, 0]])
    long, short = 6 / 24 + 0.05 / 2, 6 / 6 + 0.05
    assert each["err"] == [near((1 / (1 / long + 1 / short)) ** 0.5)]
    assert whole["err"] == near((6 / 30 + 0.05 / 3) ** 0.5)  # the exposure's: the sum of its variances


def test_weights_grow_with_the_signal(through):
    hook = np.array([0, 0, 0, 30000.0])
    for scale, exponent in ((1, 10), (0.1, 6), (0.03, 3), (0.006, 1), (0.0025, 0.4), (0.0001, 0)):
        signal = 30000 * scale
        snr = signal / np.sqrt(0.5 + signal)
        assert exponent == next(p for limit, p in EXPONENTS if snr < limit)
        w = (1 / 3) ** exponent  # of the two in the middle; the ends have weight 1
        slope = signal * 1.5 / (2 * 1.5**2 + 2 * w * 0.5**2)
        each, _ = fit(through, [hook * scale], gain=1.0, noise=1.0)
        assert each["sci"] == [near(slope / 10)]
    each, _ = fit(through, [-hook], gain=1.0, noise=1.0)
    assert each["sci"] == [near(-900)]


def test_integrations_are_weighted_by_their_read_noise(through):
    each, whole = fit(through, [[0, 10, 20, 30], [0, 30, 60, 99]], [[0] * 4, [0, 0, 0, SATURATED]])
    assert each["sci"] == [near(1), near(3)]
    assert whole["sci"] == near((60 * 1 + 24 * 3) / 84)
    assert whole["var_rnoise"] == near(6 / 84)
    assert whole["var_poisson"] == near(2 / 20 / 5)  # typical rate: mean of 1 and 3 DN/s
    assert each["var_poisson"] == [near(2 / 20 / 3), near(2 / 20 / 2)]
    assert (each["dq"], whole["dq"]) == ([0, SATURATED], SATURATED)


def test_an_integration_without_good_groups_does_not_count(through):
    each, whole = fit(through, [[0, 10, 20], [5, 5, 5]], [[0] * 3, [SATURATED] * 3])
    assert np.isnan(each["sci"][1])
    assert [each[k][1] for k in ("err", "var_poisson", "var_rnoise")] == [0, 0, 0]
    assert each["dq"] == [0, SATURATED | DNU]
    assert whole["sci"] == near(1)
    assert whole["dq"] == SATURATED  # unusable only where all integrations are


def test_one_good_group(through):
    ramp, gdq = [[100, 300, 500]], [[0, SATURATED, SATURATED]]
    each, whole = fit(through, ramp, gdq)
    assert np.isnan(each["sci"][0])
    assert (each["err"], each["dq"]) == ([0], [DNU | SATURATED])
    assert np.isnan(whole["sci"])
    assert whole["dq"] == DNU | SATURATED
    keep = {"suppress_one_group": False}
    each, _ = fit(through, ramp, gdq, params=keep)
    assert each["sci"] == [near(10)]
    assert each["var_rnoise"] == [near(1)]  # one group weighs as much as two: n^3 - n = 6
    assert each["var_poisson"] == [near(10 / 20)]
    each, _ = fit(through, ramp, gdq, params=keep, nframes=4, frame_time=2.0)
    assert each["sci"] == [near(20)]  # four frames, at 2, 4, 6, 8 s: 5 s on average
    assert each["var_rnoise"] == [near(1 / 4 * 100 / 25)]
    each, _ = fit(through, ramp, [[DNU, 0, SATURATED]], params=keep, nframes=4, frame_time=2.0)
    assert each["sci"] == [near(30)]  # not the first group: the group time


@pytest.mark.parametrize(("nframes", "rate"), [(1, 50), (4, 20)])
def test_time_of_the_first_group_is_that_of_its_mean_frame(through, nframes, rate):
    """As the observatory's pipeline answered: frames every 2 s, groups every 10 s."""
    facts = {"nframes": nframes, "frame_time": 2.0, "group_time": 10.0}
    assert fit(through, [[100]], **facts)[1]["sci"] == near(rate)
    kept = fit(through, [[100, 200]], [[0, SATURATED]], params={"suppress_one_group": False}, **facts)[1]
    assert kept["sci"] == near(rate)


def test_one_group_an_integration(through):
    each, whole = fit(through, [[100], [300]])
    assert each["sci"] == [near(10), near(30)]
    assert each["var_rnoise"] == [near(1), near(1)]
    assert whole["sci"] == near(20)
    assert whole["var_poisson"] == near(20 / 20 / 2)


def test_nothing_but_jumps(through):
    each, whole = fit(through, [[100, 200, 300]], [[JUMP] * 3])
    assert (each["sci"], each["err"], each["dq"]) == ([0], [0], [JUMP])
    assert (whole["sci"], whole["dq"]) == (0, JUMP)


@pytest.mark.parametrize(
    ("pdq", "gain", "expected"), [(DNU, 2, DNU), (0, np.nan, DNU | NO_GAIN), (8, 0, 9 | NO_GAIN)]
)
def test_unusable_pixels(through, pdq, gain, expected):
    each, whole = fit(through, [[0, 10, 20]], pdq=pdq, gain=gain)
    assert np.isnan(each["sci"][0])
    assert np.isnan(whole["sci"])
    assert [each[k][0] for k in ("err", "var_poisson", "var_rnoise")] == [0, 0, 0]
    assert (each["dq"], whole["dq"]) == ([expected], expected)


def test_first_and_last_group(through):
    ramp = [[500, 0, 10, 20, 900]]
    each, _ = fit(through, ramp, params={"firstgroup": 1, "lastgroup": 3})
    assert each["sci"] == [near(1)]
    assert each["var_rnoise"] == [near(6 / 24)]
    each, _ = fit(through, ramp, params={"lastgroup": 1})
    assert each["sci"] == [near(-50)]
    each, _ = fit(through, ramp, params={"firstgroup": 3})
    assert each["sci"] == [near(88)]


def test_charge_migration_lengthens_the_read_noise_weight_only(through):
    lost = CHARGELOSS | DNU
    each, whole = fit(through, [[0, 10, 20, 25, 27]], [[0, 0, 0, lost, lost]])
    assert each["sci"] == [near(1)]
    assert each["var_rnoise"] == [near(6 / 120)]  # all five groups
    assert each["err"] == [near((6 / 24 + 0.05 / 2) ** 0.5)]  # the three that were used
    assert whole["var_rnoise"] == near(6 / 120)


def test_parameters_are_checked():
    with pytest.raises(ValueError, match="algorithm"):
        Params(algorithm="OLS")
    assert list(STEP.unsupported(Params(algorithm="likely", save_opt=True))) == []


def test_flags_of_groups_left_out_by_choice_are_told(through):
    """Unlike those of trailing groups that the instrument drops."""
    flags = [[0, 0, 0, 0, SATURATED], [0, 0, 0, 0, 0], [JUMP, 0, 0, 0, 0]]
    each, whole = fit(through, [[0, 10, 20, 30, 40]] * 3, flags, params={"firstgroup": 1, "lastgroup": 3})
    assert each["dq"] == [SATURATED, 0, JUMP]
    assert each["sci"] == [near(1)] * 3
    assert whole["dq"] == SATURATED | JUMP


def test_nan_counts_as_nothing_in_the_fit_and_not_for_the_noise(through):
    """0 in place of NaN, but the typical rate is that of the other differences."""
    each, _ = fit(through, [[10, 20, np.nan, 40, 50]], [[0] * 5])
    zero, _ = fit(through, [[10, 20, 0, 40, 50]], [[0] * 5])
    straight, _ = fit(through, [[10, 20, 30, 40, 50]], [[0] * 5])
    assert each["sci"] == zero["sci"]
    assert each["var_poisson"] == straight["var_poisson"]


@pytest.mark.parametrize("ngroups", [1, 2, 3, 8])
def test_coefficients_are_those_of_weighted_least_squares(ngroups):
    table = slope_coefficients(ngroups)
    assert table.shape == (len(EXPONENTS), ngroups + 1, ngroups)
    rng = np.random.default_rng(1)
    for p, (_, exponent) in enumerate(EXPONENTS):
        for n in range(2, ngroups + 1):
            y, i, centre = rng.normal(size=n), np.arange(n), (n - 1) / 2
            w = np.abs((i - centre) / centre) ** exponent
            assert table[p, n, :n] @ y == pytest.approx(np.polyfit(i, y, 1, w=np.sqrt(w))[0])
            assert not table[p, n, n:].any()


def segments(flags):
    """(first, length) of the runs of usable groups; a jump opens a new one."""
    found = []
    for k, f in enumerate(flags):
        if f & 3:
            continue
        if found and sum(found[-1]) == k and not f & JUMP:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((k, 1))
    return found


@settings(deadline=None)
@given(flags=st.lists(st.sampled_from([0, 0, 0, JUMP, DNU, SATURATED, 7, 64, CHARGELOSS | DNU]), min_size=1))
def test_next_segment_walks_through_all(flags):
    gdq = np.array(flags, np.uint8)[:, None]
    start, found = 0, []
    while True:
        first, n = next_segment(gdq, 0, start)
        if n == 0:
            break
        found.append((first, n))
        start = first + n
    assert found == segments(flags)


def without_chargeloss(flags):
    """The flags if groups given up for charge migration alone had been kept."""
    return [f & JUMP if (f | JUMP) == CHARGELOSS | DNU | JUMP else f for f in flags]


def read_weight(flags):
    """Weight against read noise: n^3 - n of all segments, or that of two groups for one alone."""
    runs = segments(flags)
    cubes = sum(n**3 - n for _, n in runs if n > 1)
    lone = any(n == 1 and not flags[k] & JUMP for k, n in runs)
    return cubes or (6 if lone else 0)


def naive_slope(values, gain, noise2):
    """Weighted least squares, per group."""
    n = len(values)
    if n == 2:
        return values[1] - values[0]
    signal = max((values[-1] - values[0]) * gain, 0)
    snr = signal / np.sqrt(noise2 + signal) if signal > 0 else 0
    exponent = next(p for limit, p in EXPONENTS if snr < limit)
    i, centre = np.arange(n), (n - 1) / 2
    w = np.abs((i - centre) / centre) ** exponent
    off = i - (w * i).sum() / w.sum()
    return (w * off * values).sum() / (w * off**2).sum()


def naive_pixel(ramps, gdq, pdq, gain, noise, suppress, nframes, group_time, frame_time):
    """Everything about one pixel: rows of NAMES per integration, and one for the exposure."""
    nints, ngroups = ramps.shape
    gain, noise = float(gain), float(noise)
    first_time = (nframes + 1) / 2 * frame_time
    noise2 = 0.5 * (noise * gain) ** 2 / nframes
    fits, total_rate = [], 0.0
    for v, q in zip(ramps.astype(float), gdq, strict=True):
        clean = [k for k, f in enumerate(q) if not f & 7]
        time = first_time if clean == [0] else group_time
        given_up = suppress and len(clean) == 1 and ngroups > 1
        if pdq & DNU or given_up:
            fits.append((np.nan, [], 0, 0, group_time if given_up else time))
            continue
        good = [v[k] - v[k - 1] for k in range(1, ngroups) if not (q[k] & 7 or q[k - 1] & 3)]
        if ngroups == 1:
            typical = np.nan if q[0] & SATURATED else v[0]
        else:
            typical = np.median(good) if good else (0 if q[0] & 7 else v[0])
        total_rate += typical / (first_time if ngroups == 1 else time)
        runs = segments(q)
        long = [(k, n) for k, n in runs if n > 1]
        if long:
            weights = [n**3 - n for _, n in long]
            slopes = [naive_slope(v[k : k + n], gain, noise2) for k, n in long]
            slope = np.average(slopes, weights=weights)
            fits.append((slope / time, weights, sum(weights), sum(n - 1 for _, n in long), time))
        elif runs and clean:
            fits.append((v[clean[0]] / time, [6], 6, 1, time))
        else:
            fits.append((0.0 if runs else np.nan, [], 0, 0, group_time))
    rate = max(total_rate / nints, 0.0) if not np.isnan(total_rate) else 0.0
    rows, weight_r, kept_r, weight_p, weighted, dqs = [], 0.0, 0.0, 0.0, 0.0, []
    for q, (sci, _, cubes, steps, time) in zip(gdq, fits, strict=True):
        seen = int(np.bitwise_or.reduce(q)) & (SATURATED | JUMP)
        usable = not pdq & DNU and (cubes > 0 or not np.isnan(sci))
        dqs.append(pdq | seen | (0 if usable else DNU))
        per_cube = 6 * noise**2 / nframes / time**2
        restored = without_chargeloss(q)
        lost = read_weight(restored) if any(f & CHARGELOSS for f in q) else -1
        long = any(n > 1 for _, n in segments(restored))
        kept_cube = 6 * noise**2 / nframes / group_time**2 if lost >= 0 and long else per_cube
        if cubes == 0:
            var_r = 0.0
            if lost > 0 and gain > 0:
                var_r = kept_cube / lost
                kept_r += lost / kept_cube
            rows.append((sci, 0.0, dqs[-1], 0.0, var_r))
            continue
        per_step = rate / (time * gain)
        runs = [n for _, n in segments(q) if n > 1] or [2]
        variance = 1 / sum(1 / (per_cube / (n**3 - n) + per_step / (n - 1)) for n in runs)
        kept = cubes if lost < 0 else lost
        var_r = kept_cube / kept if kept else np.inf
        rows.append((sci, np.sqrt(variance), dqs[-1], per_step / steps, var_r))
        weight_r += cubes / per_cube
        kept_r += kept / kept_cube
        weight_p += steps * time * gain
        weighted += cubes / per_cube * sci
    flags = np.bitwise_or.reduce(dqs) & ~DNU | (np.bitwise_and.reduce(dqs) & DNU)
    if not weight_r:
        sci = np.nan if flags & DNU else 0.0
        return rows, (sci, 0.0, flags, 0.0, 1 / kept_r if kept_r else 0.0)
    var_p = rate / weight_p
    var_r = 1 / kept_r if kept_r else 0.0
    return rows, (weighted / weight_r, np.sqrt(1 / weight_r + var_p), flags, var_p, var_r)


PATTERNS = [0, 0, 0, 0, 0, JUMP, SATURATED, DNU, SATURATED | JUMP, 64 | DNU, 1 << 4]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 1 << 31),
    frames=st.tuples(st.integers(1, 3), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 4), st.integers(1, 9)),
    nframes=st.sampled_from([1, 4]),
    suppress=st.booleans(),
    lost=st.booleans(),
    flagged=st.sampled_from([0.0, 0.3, 0.9]),
    threads=st.integers(1, 2),
)
def test_against_the_naive_fit(through, seed, frames, size, nframes, suppress, lost, flagged, threads):
    rng = np.random.default_rng(seed)
    shape = frames + size
    rate = 10 ** rng.uniform(-1, 3.5, size)
    data = (np.cumsum(rng.poisson(rate, shape), axis=1) + rng.normal(0, 7, shape)).astype(np.float32)
    gdq = np.where(rng.random(shape) < flagged, rng.choice(PATTERNS, shape), 0)
    if lost:
        late = np.arange(shape[1])[:, None, None] >= rng.integers(0, 2 * shape[1], (shape[0], 1, *size))
        gdq |= late * (CHARGELOSS | DNU)
    gdq = gdq.astype(np.uint8)
    pdq = rng.choice([0, 0, 0, 0, DNU, 1 << 11, 1 << 31], size).astype(np.uint32)
    gain, noise = (rng.normal(m, m / 20, size).astype(np.float32) for m in (1.8, 10))
    gain[rng.random(size) < 0.05] = np.nan
    times = {"group_time": 21.5, "frame_time": 5.4}
    references = {"gain": {"SCI": gain}, "readnoise": {"SCI": noise}}
    params = {"suppress_one_group": suppress}
    options = {"threads": threads, "budget_bytes": 60_000}
    facts = {"gdq": gdq, "pdq": pdq, "nframes": nframes, "options": options} | times
    out = through([(STEP, params)], data, references, **facts).products
    bad = np.isnan(gain) * np.uint32(NO_GAIN | DNU)
    for y, x in np.ndindex(size):
        each, whole = naive_pixel(
            data[..., y, x],
            gdq[..., y, x],
            int(pdq[y, x] | bad[y, x]),
            gain[y, x],
            noise[y, x],
            suppress,
            nframes,
            **times,
        )
        for k, name in enumerate(NAMES):
            for found, expected in (
                (out[f"rateints.{name}"][:, y, x], [row[k] for row in each]),
                (out[f"rate.{name}"][y, x], whole[k]),
            ):
                where = (name, (y, x), gdq[..., y, x].tolist())
                assert np.allclose(found, expected, rtol=2e-4, atol=1e-12 if k else 2e-5, equal_nan=True), (
                    where
                )


@pytest.mark.parametrize("k", range(6))
def test_same_as_the_peer(through, peer_cases, k):
    case = peer_cases("ramp_fit")[k]
    flags = {name: case.given[name] for name in ("gdq", "pdq")}
    out = through([(STEP, case.params)], case.given["data"], case.references, **flags, **case.facts).products
    assert set(out) == set(case.answer)
    for name, expected in case.answer.items():
        if name.endswith(".dq"):
            assert np.array_equal(out[name], expected), name
        else:
            tolerance = {"rtol": 1e-4, "atol": 1e-5 if name.endswith(".sci") else 1e-13}
            assert np.allclose(out[name], expected, **tolerance, equal_nan=True), name


@pytest.mark.parametrize("chosen", [(2, 2), (3, 1), (0, 0), (1, -1), (9, None), (-2, 99)])
def test_a_range_of_one_group_or_none_is_no_range(through, chosen):
    params = {"firstgroup": chosen[0], "lastgroup": chosen[1]}
    ramp, flags = [[0, 10, 25, 30]], [[0, 0, 0, JUMP]]
    assert fit(through, ramp, flags, params=params) == fit(through, ramp, flags)


def test_single_groups_of_several_frames_have_their_own_time(through):
    """Also in an integration that is not used: its count goes into the typical rate."""
    each, _ = fit(through, [[50], [30]], [[0], [DNU]], nframes=4, frame_time=2.0)
    assert each["sci"][0] == near(10)
    assert each["var_poisson"][0] == near((50 / 5 + 30 / 5) / 2 / (5 * 2))


def test_large_variances_are_given_as_none(through):
    """As the observatory's package answered: three integrations of six groups, ever larger read noise."""
    ramps = [[500.0 * k for k in range(6)]] * 3  # 50 DN/s; var_poisson 50 / 20 / 5
    for share, kept, errors, all_in_all in (
        (0.99, True, True, True),
        (0.9999998, True, False, True),  # both together are too large for ERR
        (1.01, False, False, True),
        (3.01, False, False, False),
    ):
        each, whole = fit(through, ramps, noise=10 * (1e6 * share * 35) ** 0.5)
        assert each["sci"] == [near(50)] * 3
        assert each["var_rnoise"] == [near(1e6 * share) if kept else 0] * 3
        assert each["err"] == [near((1e6 * share + 0.5) ** 0.5) if errors else 0] * 3
        assert whole["var_rnoise"] == (near(1e6 * share / 3) if all_in_all else 0)
        assert whole["sci"] == (near(50) if all_in_all else 0)
        assert whole["err"] == near(((1e6 * share / 3 if all_in_all else 0) + 0.5 / 3) ** 0.5)
    bright = [[k * 4e9 for k in range(6)]] * 3
    each, whole = fit(through, bright)
    assert each["sci"] == [near(4e8)] * 3
    assert each["var_poisson"] == each["err"] == [0] * 3
    assert whole["var_poisson"] == 0
    assert whole["err"] == near((6 / 210 / 3) ** 0.5)


def test_the_mid_infrared_forgets_groups_at_the_beginning(through):
    """Those before firstgroup, and that this is a jump from the one before."""
    flags = [[0, JUMP, 0, 0, 0, 0], [0, 0, JUMP, 0, 0, 0], [0, 0, 0, JUMP, 0, 0]]
    ramps, params = [[0, 10, 20, 30, 40, 50]] * 3, {"firstgroup": 2}
    each, _ = fit(through, ramps, flags, params=params, instrument="MIRI")
    assert each["dq"] == [0, 0, JUMP]
    each, _ = fit(through, ramps, flags, params=params)
    assert each["dq"] == [JUMP] * 3


def test_a_group_that_became_the_first_is_not_given_up_if_it_had_a_jump(through):
    """As the observatory's package has it: the jump is forgotten, but not that the group is a lone one."""
    full = [SATURATED] * 3
    flags = [[0, 0, JUMP, *full], [0, 0, 0, *full]]
    ramps, params = [[0, 10, 20, 30, 40, 50]] * 2, {"firstgroup": 2, "suppress_one_group": True}
    each, _ = fit(through, ramps, flags, params=params, instrument="MIRI")
    assert each["sci"] == [near(20 / 10), near(np.nan)]
    assert each["dq"] == [SATURATED, SATURATED | DNU]
    assert each["var_poisson"][0] == near(20 / 10 / 2 / 2 / 10)  # its rate counts for both integrations
