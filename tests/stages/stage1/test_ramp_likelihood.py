"""The fit by likelihood against whole matrices, and what follows from the mathematics."""

from __future__ import annotations

import numpy as np
import pytest
from numba import config

from upramp.stages.core.dq import CHARGELOSS, DO_NOT_USE, HOT, JUMP_DET, SATURATED
from upramp.stages.core.frames import RampStore
from upramp.stages.stage1 import frame_zero, ramp_fit, ramp_likelihood

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

LIKELY = {"algorithm": "LIKELY"}
SLOW = config.DISABLE_JIT
PATTERNS = {
    "one read": {},
    "four reads, one skipped": {"nframes": 4, "groupgap": 1, "frame_time": 2.0},
    "two reads, three skipped": {"nframes": 2, "groupgap": 3, "frame_time": 2.0},
}


def matrices(ngroups, nframes, groupgap, frame_time, zero=False):
    """Covariance of the differences per second, from that of the single reads: Poisson for 1 e/s, read noise
    for 1 e; and the times between groups."""
    reads = [(g * (nframes + groupgap) + k + 1) * frame_time for g in range(ngroups) for k in range(nframes)]
    mean = np.kron(np.eye(ngroups), np.full((1, nframes), 1 / nframes))
    if zero:
        mean = np.vstack([np.eye(len(reads))[0], mean])
        mean[1, :nframes] = [0] + [1 / (nframes - 1)] * (nframes - 1)
    steps = np.diff(mean @ reads)
    n = len(mean)
    between = (np.eye(n)[1:] - np.eye(n)[:-1]) / steps[:, None]
    poisson = np.minimum.outer(reads, reads)  # charge collected by both
    return between @ mean @ poisson @ mean.T @ between.T, between @ mean @ mean.T @ between.T, steps


def solve(d, use, rate, p, r):
    """Slope, chi^2 and weights of one ramp."""
    kept = np.flatnonzero(use)
    inverse = np.linalg.inv((rate * p + r)[np.ix_(kept, kept)])
    one = np.ones(len(kept))
    total = one @ inverse @ one
    slope = one @ inverse @ d[kept] / total
    weights = np.zeros(len(d))
    weights[kept] = inverse @ one / total
    return slope, (d[kept] - slope) @ inverse @ (d[kept] - slope), weights


def one_ramp(ramp, flags, electrons, noise, facts, dark=0.0, zero=None):
    """The rules, one by one: sci, err, var_poisson, var_rnoise, flags, chi^2."""
    nframes = facts.get("nframes", 1)
    times = facts.get("groupgap", 0), facts.get("frame_time", 10.0)
    p, r, steps = matrices(len(ramp), nframes, *times, zero is not None)
    r = r * (noise * electrons) ** 2 / 2
    ramp, doubles = ramp.astype(float), np.full(len(steps) - 1, nframes > 1)
    all_bad = np.all(flags & (DO_NOT_USE | SATURATED))
    if zero is not None:
        ramp = np.concatenate([[zero, (nframes * ramp[0] - zero) / (nframes - 1)], ramp[1:]])
        flags = np.concatenate([[0], flags])
        doubles[0] = nframes > 2
    d = np.diff(ramp) * electrons / steps
    bad = (flags & (DO_NOT_USE | SATURATED | JUMP_DET)) != 0
    use = ~(bad[1:] | bad[:-1])
    found = int(np.bitwise_or.reduce(flags) & (SATURATED | JUMP_DET))
    found |= DO_NOT_USE if all_bad else 0
    if not use.any():
        return (np.nan,) * 4 + (found, np.nan)
    rate = max(np.median(d), 0)
    singles = [(k,) for k in range(len(d))]
    pairs = [(k, k + 1) for k in range(len(d) - 1) if doubles[k]]
    while True:
        slope, chi2, _ = solve(d, use, rate, p, r)
        falls = []
        for out in singles + pairs:
            without = use.copy()
            without[list(out)] = False
            if use[list(out)].all() and without.any() and (len(out) == 1 or use.sum() > 2):
                falls.append((chi2 - solve(d, without, rate, p, r)[1], out))
        best = [max((f for f in falls if len(f[1]) == n), default=(0.0, ())) for n in (1, 2)]
        out = best[0] if not pairs or best[0][0] - 20.25 > best[1][0] - 23.8 else best[1]
        if out[0] <= (20.25 if len(out[1]) < 2 else 23.8):
            break
        if use.sum() - len(out[1]) == 1:  # whatever is left fits
            out = max((f for f in falls if len(f[1]) == len(out[1])), key=lambda f: sum(d[list(f[1])]))
        use[list(out[1])] = False
        found |= JUMP_DET
        if use.sum() <= 3:
            slope = solve(d, use, rate, p, r)[0]
            break
    rate = max(slope, 0) + dark * electrons
    slope, chi2, w = solve(d, use, rate, p, r)
    var_p, var_r = rate * w @ p @ w / electrons**2, w @ r @ w / electrons**2
    return slope / electrons, np.sqrt(var_p + var_r), var_p, var_r, found, chi2


def draw(seed, nints, ngroups, ny, nx, flagged=0.04, hits=0.04):
    rng = np.random.default_rng(seed)
    shape = (nints, ngroups, ny, nx)
    rate = 10 ** rng.uniform(-1, 2.5, (ny, nx))
    steps = rng.poisson(rate * 20, shape) / 2 + np.where(
        rng.random(shape) < hits, 10 ** rng.uniform(1, 4, shape), 0
    )
    data = (np.cumsum(steps, axis=1) + rng.normal(0, 8, shape)).astype(np.float32)
    flags = [0, DO_NOT_USE, SATURATED, JUMP_DET, CHARGELOSS | DO_NOT_USE]
    gdq = rng.choice(flags, shape, p=[1 - 4 * flagged, *[flagged] * 4]).astype(np.uint8)
    gdq |= np.maximum.accumulate(gdq & SATURATED, axis=1)
    refs = {
        "gain": {"SCI": rng.normal(1.8, 0.1, (ny, nx))},
        "readnoise": {"SCI": rng.normal(12, 1, (ny, nx))},
    }
    return data, gdq, refs


def fit(through, data, refs, params=LIKELY, **more):
    return through([(ramp_fit.STEP, params)], data, refs, **more)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("ngroups", [4, 5, 9])
def test_against_whole_matrices(through, pattern, ngroups):
    facts = PATTERNS[pattern]
    data, gdq, refs = draw(ngroups, 2, ngroups, *((2, 6) if SLOW else (6, 40)))
    pdq = np.zeros(data.shape[2:], np.uint32)
    pdq[1, 2] = HOT | DO_NOT_USE  # a rate it has all the same
    got = fit(through, data, refs, gdq=gdq, pdq=pdq, **facts).products
    for i, y, x in np.ndindex(data.shape[0], *data.shape[2:]):
        gain, noise = (float(np.float32(refs[k]["SCI"][y, x])) for k in ("gain", "readnoise"))
        want = one_ramp(data[i, :, y, x], gdq[i, :, y, x], gain, noise, facts)
        for name, value in zip(("sci", "err", "var_poisson", "var_rnoise"), want, strict=False):
            np.testing.assert_allclose(got[f"rateints.{name}"][i, y, x], value, rtol=2e-5, atol=1e-7)
        assert got["rateints.dq"][i, y, x] == want[4] | pdq[y, x]


def test_exposure_is_averaged_with_one_rate_for_all(through):
    data, gdq, refs = draw(1, 3, 6, 3, 8)
    got = fit(through, data, refs, gdq=gdq).products
    s, p, r = (got[f"rateints.{n}"].astype(float) for n in ("sci", "var_poisson", "var_rnoise"))
    for y, x in np.ndindex(s.shape[1:]):
        good = np.isfinite(s[:, y, x])
        own, poisson, read = s[good, y, x], p[good, y, x], r[good, y, x]
        if not good.any():
            assert np.isnan(got["rate.sci"][y, x])
            continue
        rate = np.median(own)
        for _ in range(2):
            scaled = np.maximum(poisson / own * rate, 0)
            weights = 1 / (read + scaled) / np.sum(1 / (read + scaled))
            rate = np.sum(weights * own)
        np.testing.assert_allclose(got["rate.sci"][y, x], rate, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(got["rate.var_poisson"][y, x], np.sum(weights**2 * scaled), rtol=1e-5)
        np.testing.assert_allclose(got["rate.var_rnoise"][y, x], np.sum(weights**2 * read), rtol=1e-5)
        total = got["rate.var_poisson"][y, x] + got["rate.var_rnoise"][y, x]
        np.testing.assert_allclose(got["rate.err"][y, x], np.sqrt(total), rtol=1e-6)


def test_straight_ramp_and_its_jump(through):
    """Without noise the slope is exact, before and after a jump that is found."""
    ramp = 50.0 * np.arange(8) + 1000
    struck = ramp + np.where(np.arange(8) >= 5, 4000, 0)
    data = np.stack([ramp, struck], axis=-1)[None, :, None, :]
    refs = {"gain": {"SCI": np.full((1, 2), 2.0)}, "readnoise": {"SCI": np.full((1, 2), 10.0)}}
    got = fit(through, data, refs)
    np.testing.assert_allclose(got.products["rate.sci"], [[5.0, 5.0]], rtol=1e-6)
    assert got.products["rate.dq"].tolist() == [[0, JUMP_DET]]
    assert got.report.counters["ramp_fit.jumps"] == 1
    assert got.products["rate.err"][0, 1] > got.products["rate.err"][0, 0]


def test_chi2_is_given_on_request(through):
    data, gdq, refs = draw(4, 2, 6, 2, 5, hits=0)
    got = fit(through, data, refs, LIKELY | {"save_opt": True}, gdq=gdq)
    (extra,) = got.shared["extras"].found
    assert (extra.suffix, extra.model) == ("likely_chisq", "ImageModel")
    for y, x in np.ndindex(data.shape[2:]):
        gain, noise = (float(np.float32(refs[k]["SCI"][y, x])) for k in ("gain", "readnoise"))
        want = sum(one_ramp(data[i, :, y, x], gdq[i, :, y, x], gain, noise, {})[5] for i in range(2))
        np.testing.assert_allclose(extra.arrays["SCI"][y, x], want, rtol=1e-4)


def test_three_groups_are_fitted_by_least_squares(through):
    data, gdq, refs = draw(2, 1, 3, 2, 6)
    likely, usual = (fit(through, data, refs, p, gdq=gdq).products for p in (LIKELY, {}))
    assert all(np.array_equal(likely[k], usual[k], equal_nan=True) for k in usual)


def test_bad_references_nan_and_nothing_left(through):
    data, gdq, refs = draw(5, 1, 5, 1, 8, flagged=0, hits=0)
    refs["gain"]["SCI"][0, :3] = np.nan, 0, -1
    refs["readnoise"]["SCI"][0, 3:5] = np.nan, -1
    data[0, 2, 0, 5] = np.nan
    gdq[0, :, 0, 6] = SATURATED
    gdq[0, 1:, 0, 7] = SATURATED
    got = fit(through, data, refs, gdq=gdq).products
    for name in ("sci", "err", "var_poisson", "var_rnoise"):
        assert np.isnan(got[f"rate.{name}"]).all(), name
    assert got["rate.dq"][0, 6] == SATURATED | DO_NOT_USE
    assert got["rate.dq"][0, 7] == SATURATED


def test_dark_current_counts_for_the_noise_alone(through):
    data, gdq, refs = draw(6, 1, 5, 1, 4, flagged=0, hits=0)
    gain, noise = (np.float32(refs[k]["SCI"]).astype(float) for k in ("gain", "readnoise"))
    shared = {"average_dark_current": 3.0}
    got = fit(through, data, refs, shared=shared).products
    for x in range(4):
        want = one_ramp(data[0, :, 0, x], gdq[0, :, 0, x], gain[0, x], noise[0, x], {}, dark=3.0)
        np.testing.assert_allclose(got["rate.sci"][0, x], want[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got["rate.var_poisson"][0, x], want[2], rtol=1e-5)


def test_first_and_last_group(through):
    data, gdq, refs = draw(7, 2, 8, 2, 6)
    flags = gdq.copy()
    flags[:, :2] |= DO_NOT_USE
    flags[:, 7:] |= DO_NOT_USE
    chosen = fit(through, data, refs, LIKELY | {"firstgroup": 2, "lastgroup": 6}, gdq=gdq).products
    flagged = fit(through, data, refs, gdq=flags).products
    assert all(np.array_equal(chosen[k], flagged[k], equal_nan=True) for k in flagged)


@pytest.mark.parametrize("seed", range(2 if SLOW else 12))
def test_same_bits_however_it_is_cut(through, seed):
    rng = np.random.default_rng(seed)
    ny, nx = (3, 12) if SLOW else (20, 150)
    data, gdq, refs = draw(seed, 2, int(rng.integers(4, 30 if not SLOW else 6)), ny, nx)
    facts = PATTERNS[list(PATTERNS)[seed % 3]]
    whole = fit(through, data, refs, gdq=gdq, options={"threads": 1}, **facts)
    options = {"threads": 3, "budget_bytes": int(rng.choice([1, 60_000])), "cuts": [1]}
    pieces = fit(through, data, refs, gdq=gdq, options=options, **facts)
    assert all(whole.products[k].tobytes() == pieces.products[k].tobytes() for k in whole.products)
    assert whole.report.counters["ramp_fit.jumps"] == pieces.report.counters["ramp_fit.jumps"]


def test_many_groups_take_another_median():
    rng = np.random.default_rng(0)
    for n in (3, 24, 25, 40):
        d = rng.normal(0, 1, (n, ramp_likelihood.BLOCK))
        d[1, 2] = np.nan
        medians = np.empty(ramp_likelihood.BLOCK)
        ramp_likelihood.medians_of(d, 5, np.empty_like(d), medians)
        want = np.median(d[:, :5], axis=0)
        np.testing.assert_allclose(medians[:5], want, rtol=1e-12)


@pytest.mark.parametrize("pattern", ["four reads, one skipped", "two reads, three skipped"])
def test_frame_zero_is_the_first_read(through, describe, pattern):
    facts = PATTERNS[pattern] | {"has_zeroframe": True}
    data, gdq, refs = draw(8, 2, 6, *((2, 6) if SLOW else (6, 40)))
    rng = np.random.default_rng(3)
    zero = (data[:, 0] * rng.normal(0.4, 0.02, data[:, 0].shape)).astype(np.float32)
    store = RampStore.empty(frame_zero.exposure(describe(data, **facts)))
    store.data[:] = zero[:, None]
    got = fit(through, data, refs, gdq=gdq, shared={ramp_fit.FRAME_ZERO: store}, **facts).products
    without = fit(through, data, refs, gdq=gdq, **facts).products
    assert not np.array_equal(got["rate.sci"], without["rate.sci"], equal_nan=True)
    for i, y, x in np.ndindex(data.shape[0], *data.shape[2:]):
        gain, noise = (float(np.float32(refs[k]["SCI"][y, x])) for k in ("gain", "readnoise"))
        want = one_ramp(data[i, :, y, x], gdq[i, :, y, x], gain, noise, facts, zero=float(zero[i, y, x]))
        for name, value in zip(("sci", "err", "var_poisson", "var_rnoise"), want, strict=False):
            np.testing.assert_allclose(got[f"rateints.{name}"][i, y, x], value, rtol=2e-5, atol=1e-7)
        assert got["rateints.dq"][i, y, x] == want[4]
