"""The optional results of ramp_fit against weighted least squares written out."""

from __future__ import annotations

import numpy as np
import pytest
from numba import config

from upramp.stages.core.dq import DO_NOT_USE, JUMP_DET, SATURATED
from upramp.stages.stage1 import ramp_fit, rscd
from upramp.stages.stage1.ramp_optional import BY_SEGMENT, named
from upramp.stages.stage1.ramp_segments import EXPONENTS

SLOW = config.DISABLE_JIT
BAD = DO_NOT_USE | SATURATED


def optional(through, data, gdq, params=None, gain=2.0, noise=10.0, **facts):
    """The product's arrays, and what came out beside."""
    shape = data.shape[2:]
    refs = {"gain": {"SCI": np.full(shape, gain)}, "readnoise": {"SCI": np.full(shape, noise)}}
    steps = [(ramp_fit.STEP, {"save_opt": True} | (params or {}))]
    out = through(steps, data, refs, gdq=gdq, **facts)
    (extra,) = out.shared["extras"].found
    extra.ready()
    return {name: cube.array for name, cube in extra.arrays.items()}, out, extra


def segments(flags):
    found, k = [], 0
    while k < len(flags):
        n = 1
        if flags[k] & BAD:
            k += 1
            continue
        while k + n < len(flags) and not flags[k + n] & (BAD | JUMP_DET):
            n += 1
        found.append((k, n))
        k += n
    return found


def line(ramp, start, n, gain, variance):
    """Slope, value at group 0 (DN), formal errors (e) of the weighted line, by the normal equations."""
    x, y = np.arange(start, start + n), ramp[start : start + n].astype(float)
    signal = (y[-1] - y[0]) * gain
    ratio = signal / np.sqrt(variance + signal) if signal > 0 else 0
    power = next(p for limit, p in EXPONENTS if ratio < limit)
    centre = (n - 1) / 2
    w = np.abs((np.arange(n) - centre) / centre) ** power / variance
    matrix = np.array([[np.sum(w), np.sum(w * x)], [np.sum(w * x), np.sum(w * x * x)]])
    value, slope = np.linalg.solve(matrix, [np.sum(w * y), np.sum(w * x * y)])
    errors = np.sqrt(np.diag(np.linalg.inv(matrix)))
    return slope, value, errors[1], errors[0] if n > 2 else errors[1]


def draw(seed, nints, ngroups, ny, nx):
    rng = np.random.default_rng(seed)
    shape = (nints, ngroups, ny, nx)
    rate = 10 ** rng.uniform(0, 4, (ny, nx))
    jumps = np.where(rng.random(shape) < 0.06, rng.uniform(100, 5000, shape), 0)
    data = (200 + np.cumsum(rng.poisson(rate, shape) + jumps, axis=1) + rng.normal(0, 7, shape)).astype("f4")
    gdq = rng.choice([0, DO_NOT_USE, SATURATED], shape, p=[0.9, 0.05, 0.05]).astype(np.uint8)
    gdq |= np.maximum.accumulate(gdq & SATURATED, axis=1)
    gdq |= np.where((jumps > 0) & (gdq == 0), JUMP_DET, 0).astype(np.uint8)
    return data, gdq


@pytest.mark.parametrize("nframes", [1, 4])
def test_every_segment_against_the_normal_equations(through, nframes):
    data, gdq = draw(nframes, 2, 9, *((2, 5) if SLOW else (6, 30)))
    gain, noise, time = 2.0, 10.0, 10.0
    got, out, _ = optional(through, data, gdq, nframes=nframes, frame_time=2.0)
    longest = 0
    for i, y, x in np.ndindex(data.shape[0], *data.shape[2:]):
        ramp, flags = data[i, :, y, x], gdq[i, :, y, x]
        found = [(k, n) for k, n in segments(flags) if n > 1]
        longest = max(longest, len(found))
        for slot in range(got["SLOPE"].shape[1]):
            values = {name: got[name][i, slot, y, x] for name in BY_SEGMENT}
            if slot >= len(found):
                assert not found or not any(values.values())
                continue
            k, n = found[slot]
            variance = 0.5 * (noise * gain) ** 2 / nframes
            slope, value, error, error0 = line(ramp, k, n, gain, variance)
            read = 6 * noise**2 / nframes / ((n**3 - n) * time**2)
            want = {"SLOPE": slope / time, "YINT": value, "SIGSLOPE": error, "SIGYINT": error0}
            want |= {"VAR_RNOISE": read, "WEIGHTS": 1 / read}
            for name, v in want.items():
                np.testing.assert_allclose(values[name], v, rtol=2e-5, atol=1e-3, err_msg=name)
        steps = sum(n - 1 for _, n in found)
        for slot, (_, n) in enumerate(found):  # the same rate in all: they add up to the integration's
            whole = out.products["rateints.var_poisson"][i, y, x]
            np.testing.assert_allclose(got["VAR_POISSON"][i, slot, y, x], whole * steps / (n - 1), rtol=1e-5)
        struck = [ramp[g] - ramp[g - 1] for g in range(1, 9) if flags[g] & JUMP_DET]
        assert got["CRMAG"][i, : len(struck), y, x].tolist() == struck
        assert not got["CRMAG"][i, len(struck) :, y, x].any()
        slope = out.products["rateints.sci"][i, y, x]
        lost = flags[0] & SATURATED or np.isnan(slope)
        start = 0 if lost else ramp[0] - slope * (nframes + 1) / 2 * 2.0 / time
        np.testing.assert_allclose(got["PEDESTAL"][i, y, x], start, rtol=1e-5, atol=1e-2)
    assert got["SLOPE"].shape[1] == longest
    assert got["CRMAG"].shape[1] == (gdq[:, 1:] & JUMP_DET > 0).sum(axis=1).max()


def test_ramps_of_single_groups(through):
    """One good group, two apart, one followed by a jump; with and without giving up the first kind."""
    flags = np.array([[0, 2, 2, 2], [0, 1, 0, 2], [0, 4, 2, 2], [2, 2, 2, 2]], np.uint8)
    data = np.tile(np.array([100.0, 200, 300, 400], "f4")[:, None], 4)[None, :, None, :]
    gdq = flags.T[None, :, None, :]
    given_up, *_ = optional(through, data, gdq)
    assert given_up["SLOPE"].tolist() == [[[[0, 10, 0, 0]], [[0, 0, 0, 0]]]]
    kept, *_ = optional(through, data, gdq, {"suppress_one_group": False})
    assert kept["SLOPE"].tolist() == [[[[10, 10, 10, 0]], [[0, 0, 0, 0]]]]
    assert kept["VAR_RNOISE"][0, 0, 0].tolist() == [1, 1, 1, 0]  # 6 * 100 / (6 * 100)
    assert kept["WEIGHTS"][0, 0, 0].tolist() == [1, 1, 1, 0]
    assert not kept["SIGSLOPE"].any()
    assert kept["PEDESTAL"].tolist() == [[[90, 90, 90, 0]]]
    assert kept["CRMAG"].tolist() == [[[[0, 0, 100, 0]]]]


def test_nothing_to_fit_and_no_jumps(through):
    data = np.zeros((2, 3, 2, 3), np.float32)
    got, *_ = optional(through, data, np.full(data.shape, SATURATED, np.uint8))
    assert got["SLOPE"].shape == (2, 1, 2, 3)
    assert got["CRMAG"].shape == (2, 0, 2, 3)
    assert not any(a.any() for a in got.values())


def test_order_and_names(through):
    data, gdq = draw(1, 1, 4, 2, 3)
    _, _, extra = optional(through, data, gdq, {"opt_name": "mine.fits"})
    want = "SLOPE SIGSLOPE VAR_POISSON VAR_RNOISE YINT SIGYINT PEDESTAL WEIGHTS CRMAG"
    assert list(extra.arrays) == want.split()
    assert (extra.suffix, extra.model, extra.path) == ("fitopt", "RampFitOutputModel", "mine_fitopt.fits")
    assert named("", "fitopt") == ""
    assert named("a.b", "fitopt") == "a.b_fitopt.fits"


@pytest.mark.parametrize("seed", range(1 if SLOW else 6))
def test_same_bits_however_it_is_cut(through, seed):
    data, gdq = draw(seed, 2, 7, *((3, 9) if SLOW else (30, 130)))
    whole, *_ = optional(through, data, gdq, options={"threads": 1})
    options = {"threads": 3, "budget_bytes": [1, 60_000][seed % 2], "cuts": [1]}
    pieces, *_ = optional(through, data, gdq, options=options)
    assert all(whole[k].tobytes() == pieces[k].tobytes() for k in whole)
    assert all(whole[k].shape == pieces[k].shape for k in whole)


@pytest.mark.parametrize("kept", [False, True])
def test_group_0_of_the_mid_infrared_is_the_first_that_any_pixel_has(through, kept):
    """Behind rscd, which leaves two groups out; but none of a pixel that saturates in the third."""
    data = np.broadcast_to(100 + 10.0 * np.arange(8)[:, None, None], (2, 8, 1, 70)).copy()
    gdq = np.zeros(data.shape, np.uint8)
    if kept:
        gdq[1, 2:, 0, 68] = SATURATED
    rows = np.array([("SUB64", "FASTR1", 2, 3)], "U6,U6,i4,i4")
    rows.dtype.names = ("subarray", "readpatt", "group_skip1", "group_skip")
    shape = data.shape[2:]
    refs = {"gain": {"SCI": np.full(shape, 2.0)}, "readnoise": {"SCI": np.full(shape, 10.0)}}
    refs["rscd"] = {"RSCD_GROUP_SKIP": rows}
    facts = {"instrument": "MIRI", "subarray": "SUB64", "readpatt": "FASTR1"}
    steps = [(rscd.STEP, {}), (ramp_fit.STEP, {"save_opt": True})]
    # so little memory that the pixel comes after others
    out = through(steps, data, refs, gdq=gdq, options={"budget_bytes": 1}, **facts)
    (extra,) = out.shared["extras"].found
    extra.ready()
    got = {name: cube.array for name, cube in extra.arrays.items()}
    first = 0 if kept else 2
    assert np.allclose(got["YINT"][:, 0, 0, :60], 100 + 10 * first)
    assert np.allclose(got["PEDESTAL"][:, 0, :60], 99 + 10 * first)
    assert out.report.passes == 2
