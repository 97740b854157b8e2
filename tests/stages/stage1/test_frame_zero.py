"""Frame zero through its steps, and in place of ramps that are saturated throughout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numba import config

from upramp.stages.core.dq import AD_FLOOR, DO_NOT_USE, JUMP_DET, SATURATED
from upramp.stages.core.frames import RampStore
from upramp.stages.core.plan import BoundStep
from upramp.stages.core.step import Context
from upramp.stages.stage1 import frame_zero, linearity, ramp_fit, saturation, superbias

SLOW = config.DISABLE_JIT
KEEP = {"suppress_one_group": False}
TIMES = {"nframes": 4, "frame_time": 2.0, "group_time": 10.0, "has_zeroframe": True}


class Frames:
    """A source of frames (nints, ny, nx)."""

    def __init__(self, frames):
        self.frames = frames

    def read(self, out, y0, x0, i0=0):
        rows, nints, _, columns = out.shape
        part = self.frames[i0 : i0 + nints, y0 : y0 + rows, x0 : x0 + columns]
        out[:] = part.transpose(1, 0, 2)[:, :, None]


def kept(frames, meta):
    """Corrected frames (nints, ny, nx) as ramp_fit gets them."""
    store = RampStore.empty(frame_zero.exposure(meta))
    store.data[:] = frames[:, None]
    return store


def fit(through, describe, ramps, flags, zero, params=KEEP, **more):
    """Pixels side by side: ramps and flags (pixels, nints, ngroups), zero (pixels, nints)."""
    data = np.asarray(ramps, np.float32).transpose(1, 2, 0)[:, :, None]
    gdq = np.asarray(flags, np.uint8).transpose(1, 2, 0)[:, :, None]
    frames = np.asarray(zero, np.float32).T[:, None]
    n = data.shape[-1]
    refs = {"gain": {"SCI": np.full((1, n), 2.0)}, "readnoise": {"SCI": np.full((1, n), 10.0)}}
    shared = {ramp_fit.FRAME_ZERO: kept(frames, describe(data, **TIMES))}
    steps = [(ramp_fit.STEP, params)]
    return through(steps, data, refs, gdq=gdq, shared=shared, **TIMES, **more)


def test_rate_is_frame_zero_over_its_time(through, describe):
    lost = [SATURATED] * 3
    flags = [lost, [0, SATURATED, SATURATED], [DO_NOT_USE] * 3, lost, lost, [3, 2, SATURATED | JUMP_DET]]
    zero = [60, 60, 60, 0, np.nan, -8]
    out = fit(
        through, describe, [[[100.0, 200, 300]]] * 6, [[f] for f in flags], [[z] for z in zero]
    ).products
    sci = out["rateints.sci"][0, 0]
    np.testing.assert_allclose(sci[[0, 1, 2, 5]], [30, 20, 30, -4])  # over 2 s; the group's own time is 5 s
    assert np.isnan(sci[3:5]).all()
    unusable = SATURATED | DO_NOT_USE
    want = [SATURATED, SATURATED, 0, unusable, unusable, SATURATED | JUMP_DET]
    assert out["rateints.dq"][0, 0].tolist() == want
    read = 10.0**2 / 4 / 2.0**2  # a double sample's noise, averaged four times, over 2 s
    np.testing.assert_allclose(out["rateints.var_rnoise"][0, 0, 0], read)
    np.testing.assert_allclose(out["rateints.var_poisson"][0, 0, 0], 30 / 2 / 2)


@pytest.mark.parametrize(("has_one", "params"), [(True, {}), (False, KEEP)])
def test_not_used_unless_single_groups_are_kept(describe, has_one, params):
    meta = describe(np.zeros((1, 3, 2, 2)), has_zeroframe=has_one)
    assert not ramp_fit.wants_frame_zero(meta, ramp_fit.Params(**params))
    assert ramp_fit.wants_frame_zero(replace(meta, has_zeroframe=True), ramp_fit.Params(**KEEP))


def test_given_up_ramps_stay_so(through, describe):
    out = fit(through, describe, [[[100.0, 200]]], [[[SATURATED, SATURATED]]], [[60]], params={})
    assert np.isnan(out.products["rateints.sci"]).all()


def test_stand_in_against_the_rule():
    rng = np.random.default_rng(1)
    shape = (3, 2, 4, 20)
    gdq = rng.choice([0, DO_NOT_USE, SATURATED, SATURATED | JUMP_DET], shape, p=[0.1, 0.3, 0.4, 0.2])
    gdq = gdq.astype(np.uint8)
    data = rng.normal(0, 100, shape).astype(np.float32)
    zero = rng.choice([0, np.nan, 5, -3], (3, 2, 1, 20)).astype(np.float32)
    used = np.empty((3, 2, 20), bool)
    want_data, want_gdq = data.copy(), gdq.copy()
    frame_zero.stand_in(zero, data, gdq, used)
    for r, i, c in np.ndindex(3, 2, 20):
        value = zero[r, i, 0, c]
        lost = all(f & 3 for f in want_gdq[r, i, :, c]) and value in (5, -3)
        assert used[r, i, c] == lost
        if lost:
            want_data[r, i, 0, c] = value
            want_gdq[r, i, 0, c] &= 0xF8
    np.testing.assert_array_equal(data, want_data)
    np.testing.assert_array_equal(gdq, want_gdq)


@pytest.mark.parametrize("threads", [1, 3])
def test_through_its_steps(describe, reference, threads):
    rng = np.random.default_rng(2)
    ny, nx = (6, 9) if SLOW else (40, 90)
    frames = np.round(rng.uniform(1, 6000, (2, ny, nx))).astype(np.float32)
    frames[0, 2, 3] = 0
    threshold = np.full((ny, nx), 5900.0)
    bias = rng.normal(100, 10, (ny, nx))
    bias[3, 4] = frames[1, 3, 4] = 200  # 0 says that it is not to be used, and so it stays
    coeffs = np.array([np.full((ny, nx), 5.0), np.full((ny, nx), 1.01), np.full((ny, nx), 1e-6)])
    raw = {
        "saturation": reference("saturation", {"SCI": threshold}),
        "superbias": reference("superbias", {"SCI": bias}),
        "linearity": reference("linearity", {"COEFFS": coeffs}),
    }
    meta = frame_zero.exposure(describe(np.zeros((2, 5, ny, nx)), **TIMES))
    assert (meta.ngroups, meta.nframes, meta.group_time) == (1, 1, 2.0)
    steps = []
    for step in (saturation.STEP, superbias.STEP, linearity.STEP):
        params = step.params()
        refs = {k: step.prepare[k](raw[k], meta, params) for k in step.references if k in raw}
        steps.append(BoundStep(step.name, step.bind(Context(meta, params, refs, {}))))
    out = frame_zero.correct(Frames(frames), meta, steps, scratch=RampStore.empty, threads=threads)
    bright = frames >= 5900
    grown = np.zeros_like(bright)
    for i, y, x in np.argwhere(bright):
        grown[i, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = True
    left = frames - np.float32(bias)
    want = np.where(grown | (frames <= 0) | (left == 0), 0, 5 + 1.01 * left + 1e-6 * left**2)
    np.testing.assert_allclose(out.data[:, 0], want, rtol=1e-5, atol=1e-3)
    assert out.data[0, 0, 2, 3] == out.data[1, 0, 3, 4] == 0
    assert out.gdq[0, 0, 2, 3] & AD_FLOOR


def test_room_is_given_up_if_a_step_fails(describe):
    class Room(RampStore):
        closed = False

        def close(self):
            Room.closed = True

    class Broken:
        def read(self, out, y0, x0, i0=0):
            raise OSError("gone")

    meta = frame_zero.exposure(describe(np.zeros((1, 2, 4, 4))))
    with pytest.raises(OSError, match="gone"):
        frame_zero.correct(Broken(), meta, [], scratch=Room.empty)
    assert Room.closed
