"""Showers of the jump step: levels, rings, flags, and the recorded answers of the observatory's package."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.convolution import Ring2DKernel
from astropy.stats import sigma_clipped_stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config

from upramp.stages.core.frames import Crew, RampStore
from upramp.stages.stage1 import jump_levels, jump_showers
from upramp.stages.stage1.jump import STEP, Params
from upramp.stages.stage1.jump_levels import Levels
from upramp.stages.stage1.jump_showers import find_faint, flag_showers, ring_widths, spans

EXAMPLES = 10 if config.DISABLE_JIT else 60
DNU, SATURATED, JUMP, REFERENCE = 1, 2, 4, 1 << 31

with np.load(Path(__file__).with_name("peer_showers.npz")) as _file:
    ARRAYS = dict(_file)
CASES = json.loads(str(ARRAYS["index"]))


def of(k):
    start = f"{k}.in."
    return {name.removeprefix(start): a for name, a in ARRAYS.items() if name.startswith(start)}


@pytest.mark.parametrize("k", range(len(CASES)))
def test_same_as_the_peer(through, k):
    inp, case = of(k), CASES[k]
    refs = {name: {"SCI": inp[name]} for name in ("gain", "readnoise")}
    outs = [
        through([(STEP, case["params"] | {"find_showers": on})], inp["data"], refs,
                gdq=inp["gdq"], pdq=inp["pdq"], **case["facts"])
        for on in (False, True)
    ]  # fmt: skip
    assert np.array_equal(outs[0].gdq, ARRAYS[f"{k}.without"])
    assert np.array_equal(outs[1].gdq, ARRAYS[f"{k}.out.gdq"])
    assert np.array_equal(outs[1].data, inp["data"])
    nints, ngroups, ny, nx = inp["data"].shape
    usable = outs[1].shared["usable_groups"]
    assert np.array_equal(usable, (inp["gdq"] & DNU == 0).any(axis=(2, 3)))
    seconds = (nints * (ngroups - 1) - np.count_nonzero(~usable)) * case["facts"]["group_time"]
    assert 1e6 * outs[1].report.counters["jump.showers"] / (ny * nx * seconds) == pytest.approx(
        case["events"]
    )


def exposure(describe, data, gdq=None, pdq=None, gain=1.0, noise=1.0, **more):
    """Ramps put down, and what a search gets."""
    facts = {k: more.pop(k) for k in ("group_time", "nframes") if k in more}
    data = np.asarray(data, np.float32)
    meta = describe(data, **facts)
    flags = np.zeros(data.shape, np.uint8) if gdq is None else gdq
    pixels = np.zeros(data.shape[2:], np.uint32) if pdq is None else pdq
    ramps = RampStore(meta, data, flags.copy(), pixels)
    refs = {
        "gain": {"gain": np.full(data.shape[2:], gain, np.float32)},
        "readnoise": {"noise": np.full(data.shape[2:], noise, np.float32)},
    }
    context = SimpleNamespace(meta=meta, params=Params(find_showers=True, **more), references=refs)
    return context, ramps


def shower(nints=1, ngroups=13, step=6.0, at=4, seed=1):
    """A round one of radius 8 about (30, 30) in the last integration; noise of 2, none of it Poisson."""
    rng = np.random.default_rng(seed)
    data = np.cumsum(rng.normal(0, 2, (nints, ngroups, 60, 50)), axis=1)
    y, x = np.mgrid[:60, :50]
    data[-1, at:] += step * ((y - 30) ** 2 + (x - 30) ** 2 < 64)
    return data


def hits(ramps, i=-1):
    return np.count_nonzero(ramps.gdq[i] & JUMP, axis=(1, 2)).tolist()


def test_a_shower_is_flagged_for_some_time(describe):
    context, ramps = exposure(describe, shower(), noise=2.0, group_time=5.0)
    assert jump_showers.search(context, ramps, Crew(2)) == 1
    y, x = np.nonzero(ramps.gdq[0, 4] & JUMP)
    assert np.hypot(y - 30, x - 30).max() < 12
    assert 64 * np.pi < len(y) < 144 * np.pi
    # 15 s are three groups more
    assert hits(ramps) == [0] * 4 + [len(y)] * 4 + [0] * 5
    assert (ramps.gdq[:, 4:8] == ramps.gdq[:, 4:5]).all()


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"extend_snr_threshold": 3.5}, 0),
        ({"extend_min_area": 500}, 0),
        ({"extend_min_area": 150}, 1),
        ({"max_shower_amplitude": 0.0}, 1),
        ({"extend_outer_radius": 1.0}, 1),
    ],
)
def test_what_counts_as_a_shower(describe, params, found):
    context, ramps = exposure(describe, shower(), noise=2.0, **params)
    assert jump_showers.search(context, ramps, Crew()) == found
    assert bool(hits(ramps)[4]) == bool(found)


def test_needs_ten_differences(describe):
    for ngroups, found in ((10, 0), (11, 1)):
        context, ramps = exposure(describe, shower(ngroups=ngroups), noise=2.0)
        assert jump_showers.search(context, ramps, Crew()) == found
    gdq = np.zeros((1, 11, 60, 50), np.uint8)
    gdq[:, 0] = DNU
    context, ramps = exposure(describe, shower(ngroups=11), gdq, noise=2.0)
    assert jump_showers.search(context, ramps, Crew()) == 0
    gdq[0, 0, 3, 3] = 0  # one pixel keeps the group
    context, ramps = exposure(describe, shower(ngroups=11), gdq, noise=2.0)
    assert jump_showers.search(context, ramps, Crew()) == 1


def test_flags_are_taken_back_where_the_rate_would_change_too_much(describe):
    # 12 differences: the mean changes by a twelfth of the step; 6 e/s x 5 s allow 30 e
    for step, kept in ((355.0, True), (365.0, False)):
        data = np.zeros((1, 13, 60, 50)) + np.arange(13)[:, None, None]
        data[:, 4:, 20:40, 20:40] += step
        context, ramps = exposure(describe, data, noise=100.0, group_time=5.0)
        assert jump_showers.search(context, ramps, Crew()) == 1
        assert (ramps.gdq[0, 4, 30, 30] == JUMP) == kept
        # at the rim, where there is no step, flags are kept
        assert np.count_nonzero(ramps.gdq[0, 4] & JUMP) > 30


def test_flags_end_at_saturation_and_leave_reference_pixels_alone(describe):
    gdq, pdq = np.zeros((1, 13, 60, 50), np.uint8), np.zeros((60, 50), np.uint32)
    gdq[0, 6:, 30, 30] = SATURATED
    gdq[0, 5, 31, 30] = DNU
    gdq[0, 5, 32, 30] = 32
    pdq[33, 30], pdq[34, 30] = REFERENCE, REFERENCE | DNU
    context, ramps = exposure(describe, shower(), gdq, pdq, noise=2.0, group_time=5.0)
    assert jump_showers.search(context, ramps, Crew()) == 1
    assert ramps.gdq[0, :, 30, 30].tolist() == [0] * 4 + [4, 4] + [2] * 7
    assert ramps.gdq[0, :, 31, 30].tolist() == [0] * 4 + [4, 5, 4, 4] + [0] * 5
    assert ramps.gdq[0, :, 32, 30].tolist() == [0] * 4 + [4, 36, 4, 4] + [0] * 5
    assert not ramps.gdq[0, :, 33, 30].any()
    assert ramps.gdq[0, 4, 34, 30] == JUMP


@pytest.mark.parametrize("inner", [0.0, 0.5, 1.0, 1.5, 2.0, 3.3])
@pytest.mark.parametrize("width", [0.5, 1.0, 2.6, 4.0])
def test_ring_is_that_of_astropy(inner, width):
    widths, pixels = ring_widths(inner, width)
    kernel = Ring2DKernel(inner, width).array > 0
    reach = widths.shape[1] // 2
    drawn = np.zeros((2 * reach + 1, 2 * reach + 1), bool)
    for which, value in ((0, True), (1, False)):
        for k, half in enumerate(widths[which]):
            if half >= 0:
                drawn[k, reach - half : reach + half + 1] = value
    room = (kernel.shape[0] - len(drawn)) // 2
    assert np.array_equal(np.pad(drawn, max(room, 0)), np.pad(kernel, max(-room, 0)))
    assert pixels == kernel.sum()


def naive_ring(s, inner, width):
    """Means of ``s`` (ny, nx; NaN where missing) in rings; outside the frame it is 0."""
    ny, nx = s.shape
    means = np.full(s.shape, np.nan)
    y, x = np.mgrid[:ny, :nx]
    reach = int(inner + width) + 1
    padded = np.pad(s, reach)
    v, u = np.mgrid[: ny + 2 * reach, : nx + 2 * reach]
    for r, c in zip(y.ravel(), x.ravel(), strict=True):
        d2 = (v - reach - r) ** 2 + (u - reach - c) ** 2
        own = padded[(d2 >= inner**2) & (d2 <= (inner + width) ** 2)]
        own = own[~np.isnan(own)]
        if not np.isnan(s[r, c]) and own.size:
            means[r, c] = own.mean()
    return means


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    seed=st.integers(0, 1 << 31),
    size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    inner=st.sampled_from([0.0, 1.0, 2.0]),
    width=st.sampled_from([0.6, 1.6, 2.6, 9.0]),
    gone=st.floats(0, 0.7),
)
def test_faint_light_is_found_by_means_in_rings(seed, size, inner, width, gone):
    rng = np.random.default_rng(seed)
    before, now = rng.normal(0, 10, (2, *size)).astype("f4")
    now[rng.random(size) < gone / 3] = np.nan
    flags = np.where(rng.random(size) < gone / 3, rng.choice([1, 2, 4, 8, 32], size), 0).astype("u1")
    bad = rng.random(size) < gone / 3
    middle, sigma = rng.normal(0, 1, size).astype("f4"), rng.uniform(5, 10, size).astype("f4")
    sigma[rng.random(size) < 0.05] = 0
    with np.errstate(divide="ignore"):
        s = np.abs(now - before - middle) / sigma
    s[bad | (flags & 7 > 0) | ~np.isfinite(s)] = np.nan
    widths, pixels = ring_widths(inner, width)
    mask = np.empty(size, np.uint8)
    found = find_faint(before, now, flags, bad, middle, sigma, widths, pixels, 1.2, mask)
    means = naive_ring(s.astype(np.float64), inner, width)
    with np.errstate(invalid="ignore"):
        expected = means > 1.2
    sure = ~(np.abs(means - 1.2) < 1e-6)
    assert np.array_equal(mask[sure] > 0, expected[sure])
    assert found == mask.sum()


def ramps_with_gaps(seed, shape, share=0.1):
    rng = np.random.default_rng(seed)
    data = np.round(np.cumsum(rng.normal(3, 20, shape), axis=1) * 4) / 4
    gdq = np.where(rng.random(shape) < share, rng.choice([1, 2, 4, 5, 6, 32, 33, 36], shape), 0).astype("u1")
    gdq[..., 0, 0] = DNU
    return data.astype("f4"), gdq


def electrons(data, gdq, gain):
    out = (gdq & 3 > 0) | (gdq == JUMP)
    return np.diff(np.where(out, np.nan, data * np.float32(gain)), axis=1)


@settings(max_examples=EXAMPLES, deadline=None)
@pytest.mark.filterwarnings("ignore:All-NaN slice")
@given(
    seed=st.integers(0, 1 << 31),
    frames=st.sampled_from([(1, 2), (1, 12), (2, 7), (3, 30), (1, 3)]),
    columns=st.sampled_from([3, 64, 70]),
    piece=st.sampled_from([1, 4 << 20]),
    share=st.sampled_from([0.0, 0.1, 0.6]),
)
def test_levels_are_medians(describe, seed, frames, columns, piece, share):
    data, gdq = ramps_with_gaps(seed, (*frames, 3, columns), share)
    context, ramps = exposure(describe, data, gdq, gain=2.0, noise=5.0, nframes=4)
    gain, noise = context.references["gain"]["gain"], context.references["readnoise"]["noise"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jump_levels, "PIECE", piece)
        levels = Levels(ramps, Crew(2), gain, noise, False)
    steps = electrons(data, gdq, 2.0)
    middle, sigma = levels.of(1)
    expected = np.nanmedian(steps, axis=(0, 1))
    np.testing.assert_array_equal(middle, expected.astype("f4"))  # a median of zeros may have either sign
    np.testing.assert_allclose(sigma, np.sqrt(np.abs(expected) + 100 / 4), rtol=1e-6)
    assert list(levels.parts()) == [(1, frames[1])]
    left = frames[0] * (frames[1] - 1) - np.count_nonzero((gdq & DNU).all(axis=(2, 3)))
    assert levels.differences == left


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("planes", [1, 1 << 20])
def test_levels_of_a_long_series_are_clipped(describe, planes):
    rng = np.random.default_rng(3)
    data, gdq = ramps_with_gaps(4, (40, 5, 1, 66))
    data += np.cumsum(np.where(rng.random(data.shape) < 0.03, rng.normal(0, 500, data.shape), 0), axis=1)
    data = data.astype("f4")
    context, ramps = exposure(describe, data, gdq, gain=2.0, noise=5.0)
    gain, noise = context.references["gain"]["gain"], context.references["readnoise"]["noise"]
    _, middle, scatter = sigma_clipped_stats(electrons(data, gdq, 2.0), sigma=5, maxiters=5, axis=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jump_levels, "PLANES", planes)
        levels = Levels(ramps, Crew(), gain, noise, True)
        groups = []
        for first, last in levels.parts():
            for g in range(first, last):
                groups.append(g)
                np.testing.assert_array_equal(levels.of(g)[0], middle[g - 1])
                np.testing.assert_allclose(levels.of(g)[1], scatter[g - 1], rtol=1e-5)
    assert groups == [1, 2, 3, 4]


def naive_flags(data, gdq, pixels, after, limit):
    """``pixels``: rows, columns and group of each shower."""
    ngroups = len(gdq)
    new = gdq.copy()
    for rows, columns, group in pixels:
        for y, x in zip(rows, columns, strict=True):
            for g in range(group, min(group + after + 1, ngroups)):
                if gdq[g, y, x] & SATURATED:
                    break
                new[g, y, x] |= JUMP
    old, mean = (np.nanmean(np.diff(np.where(f & 7, np.nan, data), axis=0), axis=0) for f in (gdq, new))
    back = ~(np.abs(mean - old) <= limit)
    return np.where(back, gdq, new)


@settings(max_examples=EXAMPLES, deadline=None)
@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@given(
    seed=st.integers(0, 1 << 31),
    number=st.integers(1, 5),
    after=st.integers(0, 9),
    limit=st.sampled_from([3, 30]),
)
def test_flags_by_spans(seed, number, after, limit):
    rng = np.random.default_rng(seed)
    data = np.cumsum(rng.normal(0, 20, (8, 9, 11)), axis=0).astype("f4")
    gdq = np.where(rng.random(data.shape) < 0.05, rng.choice([1, 2, 4, 32], data.shape), 0).astype("u1")
    chosen = []
    for _ in range(number):
        (y0, x0), (y1, x1) = rng.integers(0, (6, 8)), rng.integers(1, 5, 2)
        y, x = np.mgrid[y0 : min(y0 + y1, 9), x0 : min(x0 + x1, 11)]
        chosen.append((y.ravel(), x.ravel(), int(rng.integers(1, 8))))
    lines = np.concatenate([spans(*one) for one in chosen])
    lines = lines[np.argsort(lines[:, 0], kind="stable")]
    expected = naive_flags(data, gdq, chosen, after, limit)
    none = np.zeros((9, 11), bool)
    for lo, hi in ((0, 4), (4, 9)):  # rows may come in parts
        rows = np.ascontiguousarray(gdq[:, lo:hi].swapaxes(0, 1))
        part = np.ascontiguousarray(data[:, lo:hi].swapaxes(0, 1))
        own = lines[(lines[:, 0] >= lo) & (lines[:, 0] < hi)]
        changed = flag_showers(part, rows, np.ones((9, 11), "f4"), none, lo, own, after, np.float32(limit))
        assert np.array_equal(rows.swapaxes(0, 1), expected[:, lo:hi])
        if not changed:
            assert np.array_equal(expected[:, lo:hi], gdq[:, lo:hi])


@pytest.mark.parametrize("pieces", [1, 4 << 20])
@pytest.mark.parametrize("threads", [1, 3])
def test_any_pieces_and_threads_give_the_same(describe, monkeypatch, pieces, threads):
    data = shower(nints=2, ngroups=7)[:, :, 10:50, 8:]
    data[0, 5:, 10:25, 5:25] += 6
    context, ramps = exposure(describe, data, noise=2.0)
    assert jump_showers.search(context, ramps, Crew()) == 2
    expected = ramps.gdq.copy()
    for module in (jump_levels, jump_showers):
        monkeypatch.setattr(module, "PIECE", pieces)
    monkeypatch.setattr(jump_showers, "AT_ONCE", 2)
    context, ramps = exposure(describe, data, noise=2.0)
    assert jump_showers.search(context, ramps, Crew(threads)) == 2
    assert np.array_equal(ramps.gdq, expected)
