"""jump, snowballs: regions of jumps and of saturation, and what grows from them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config
from skimage.draw import ellipse as covered
from skimage.measure import label, regionprops

from upramp.stages.core.frames import Crew, RampStore
from upramp.stages.stage1 import jump, jump_snowballs
from upramp.stages.stage1.jump_ellipses import Ellipse

DNU, SATURATED, JUMP = 1, 2, 4
TRUTH = Path(__file__).with_name("peer_snowballs.npz")
EXAMPLES = 5 if config.DISABLE_JIT else 40
SIZE = 80


def search(gdq, threads=1, group_time=10.0, **params):
    """Flags after the search, and how many snowballs there were."""
    nints, ngroups, ny, nx = gdq.shape
    meta = SimpleNamespace(nints=nints, ngroups=ngroups, ny=ny, nx=nx, group_time=group_time)
    ramps = RampStore(meta, np.zeros((1, 1, 1, 1), "f4"), gdq.copy(), np.zeros((ny, nx), "u4"))
    context = SimpleNamespace(meta=meta, params=jump.Params(expand_large_events=True, **params))
    number = jump_snowballs.search(context, ramps, Crew(threads))
    return ramps.gdq, number


def disc(y, x, radius, ny=SIZE, nx=SIZE):
    """Pixels no farther than ``radius`` from one."""
    v, u = np.mgrid[:ny, :nx]
    return (v - y) ** 2 + (u - x) ** 2 <= radius**2


def within(y, x, radius, ny=SIZE, nx=SIZE):
    """Pixels nearer than ``radius``: what an ellipse covers."""
    v, u = np.mgrid[:ny, :nx]
    return (v - y) ** 2 + (u - x) ** 2 < radius**2


def snowball(y=40, x=40, core=4, halo=8, g=2, shape=(2, 6, SIZE, SIZE), later=0):
    """Flags of one event in the first integration, its core saturated ``later`` groups after the jump."""
    gdq = np.zeros(shape, np.uint8)
    inner, outer = (disc(y, x, r, *shape[2:]) for r in (core, halo))
    gdq[0, g][outer & ~inner if later == 0 else outer] = JUMP
    gdq[0, g + later :, inner] = SATURATED
    return gdq


def test_halo_and_core_grow():
    out, number = search(snowball())
    assert number == 1
    # 4 sqrt(half the mean of r^2) - 1: the ring's axes are 16.7 pixels, twice as long half of them is 17; the
    # core's are 6.9, and with 2 pixels on either side half of them is 5
    core = within(40, 40, 5)
    y, x = np.mgrid[:SIZE, :SIZE] - 40
    tie = x**2 + y**2 == 17**2  # on the very edge, where roundings decide
    halo = within(40, 40, 17)
    assert np.array_equal(out[0, 2] == SATURATED, core)
    assert np.array_equal((out[0, 2] == JUMP)[~tie], (halo & ~core)[~tie])
    for g in (3, 4, 5):
        assert np.array_equal(out[0, g] == SATURATED, core)
        assert not (out[0, g] & JUMP).any()
    assert not out[0, :2].any()


def test_core_is_masked_in_the_next_integration():
    gdq = snowball(shape=(3, 6, SIZE, SIZE))
    gdq[1, 4:, 40, 40] = SATURATED
    out, _ = search(gdq)
    core = within(40, 40, 3)  # axes of 6.9 pixels
    assert not out[1, 0].any()
    for g in range(1, 6):
        assert np.array_equal(out[1, g] & JUMP != 0, core)  # saturated ones, too
    assert np.array_equal(out[1] & SATURATED, gdq[1] & SATURATED)
    assert not out[2].any()
    without, _ = search(gdq, mask_snowball_core_next_int=False)
    assert np.array_equal(without[1:], gdq[1:]) and np.array_equal(without[0], out[0])


@pytest.mark.parametrize(("seconds", "last"), [(9, 0), (19, 0), (20, 1), (39, 2), (40, 3), (4000, 5)])
def test_time_masked_becomes_groups_by_rounding_down(seconds, last):
    out, _ = search(snowball(), snowball_time_masked_next_int=seconds)
    assert [bool(frame.any()) for frame in out[1]] == [1 <= g <= last for g in range(6)]


def test_saturation_hides_all_other_flags():
    gdq = snowball()
    gdq[0, 3:, 43, 43] = DNU | JUMP
    gdq[0, 1, 43, 43] = DNU
    out, _ = search(gdq)
    assert out[0, :, 43, 43].tolist() == [0, DNU, SATURATED, SATURATED, SATURATED, SATURATED]


@pytest.mark.parametrize(
    ("later", "g", "number"), [(0, 1, 1), (1, 1, 1), (2, 1, 0), (0, 5, 1), (0, 0, 0), (1, 0, 0)]
)
def test_core_saturates_in_this_group_or_the_next(later, g, number):
    assert search(snowball(later=later, g=g))[1] == number


def test_only_what_is_newly_saturated_counts():
    gdq = snowball(later=0, g=3)
    gdq[0, :, disc(40, 40, 4)] = SATURATED  # a star, saturated all along
    out, number = search(gdq)
    assert number == 0 and np.array_equal(out, gdq)


def test_saturation_grows_without_a_jump_about_it():
    gdq = np.zeros((1, 4, SIZE, SIZE), np.uint8)
    gdq[0, 2:, disc(40, 40, 4)] = SATURATED
    out, number = search(gdq)
    assert number == 0
    assert np.array_equal(out[0, 2] == SATURATED, within(40, 40, 5))
    small, _ = search(gdq, min_sat_radius_extend=7.2)
    assert np.array_equal(small, gdq)


def test_without_saturation_asked_for_every_region_is_a_snowball():
    gdq = snowball()
    gdq[0, 4, 50:53, 28:31] = JUMP
    assert search(gdq)[1] == 1
    out, number = search(gdq, sat_required_snowball=False)
    assert number == 2
    assert np.array_equal(out & SATURATED, gdq & SATURATED)  # cores stay as they are
    assert not out[1].any()


def test_regions_must_be_large_enough():
    gdq = snowball()
    assert search(gdq, min_jump_area=disc(40, 40, 8).sum())[1] == 1  # the core is a hole that counts
    assert search(gdq, min_jump_area=disc(40, 40, 8).sum() + 1)[1] == 0
    assert search(gdq, min_sat_area=50.0)[1] == 0


@pytest.mark.parametrize(
    ("shape", "place", "number"),
    [
        ((80, 80), (40, 24), 1),
        ((80, 80), (40, 25), 0),
        ((80, 80), (55, 40), 0),
        ((80, 80), (56, 40), 1),
        ((80, 120), (40, 55), 0),
        ((80, 120), (40, 56), 1),  # the number of rows counts for columns, too
        ((120, 80), (60, 60), 0),
    ],
)
def test_near_an_edge_no_core_is_needed(shape, place, number):
    gdq = np.zeros((1, 4, *shape), np.uint8)
    gdq[0, 2][disc(*place, 3, *shape)] = JUMP
    assert search(gdq)[1] == number
    assert search(gdq, edge_size=0)[1] == 0


def test_nothing_becomes_larger_than_the_limit():
    gdq = snowball(core=6, halo=9)
    assert (search(gdq)[0][0] != gdq[0]).sum() > 500
    out, number = search(gdq, max_extended_radius=5)
    assert number == 1 and np.array_equal(out[0], gdq[0])
    assert np.array_equal(out[1, 1] == JUMP, within(40, 40, 6))  # as it was, whatever the limit
    assert np.array_equal(search(gdq, max_extended_radius=2)[0], out)


def test_an_ellipse_holds_points_turned_by_a_right_angle():
    flat = Ellipse(10.0, 20.0, 4.0, 12.0, 90.0)  # its pixels lie along a row
    assert not jump_snowballs.holds(flat, np.array([[15.0, 20.0]]))
    assert jump_snowballs.holds(flat, np.array([[15.0, 20.0], [10.0, 25.0]]))
    assert not jump_snowballs.holds(Ellipse(10, 20, 0, 5, 0), np.array([[10.0, 20.0]]))


def test_as_the_peer_has_it():
    with np.load(TRUTH) as file:
        arrays = dict(file)
    cases = json.loads(str(arrays["index"]))
    assert sum(case["number"] for case in cases) > 100
    for k, case in enumerate(cases):
        out, number = search(arrays[f"{k}.in"], threads=1 + k % 3, **case["params"])
        assert number == case["number"], k
        assert np.array_equal(out, arrays[f"{k}.out"]), k


# --- the same, plainly: one frame after the other, with scikit-image


def find(mask, least):
    return [
        Ellipse(
            r.centroid[1], r.centroid[0], r.axis_minor_length - 1, r.axis_major_length - 1,
            float(np.degrees(r.orientation)),
        )
        for r in regionprops(label(mask.astype(int), connectivity=2))
        if r.area_filled >= least
    ]  # fmt: skip


def pixels(one, more, limit, shape):
    out = np.zeros(shape, bool)
    minor, major = (min(round((axis + more) / 2), limit) for axis in (one.minor, one.major))
    with np.errstate(all="ignore"):
        angle = np.radians(one.angle)
        out[covered(round(one.y), round(one.x), major, minor, shape=shape, rotation=angle)] = True
    return out


def plainly(gdq, p, group_time):
    gdq = gdq.copy()
    (nints, ngroups), shape = gdq.shape[:2], gdq.shape[2:]
    cores = np.zeros((nints, *shape), bool)
    number = 0
    for i in range(nints):
        for g in range(1, ngroups):
            now = gdq[i, g] & SATURATED != 0
            new = find(now & (gdq[i, g - 1] & SATURATED == 0), p.min_sat_area)
            coming = find((gdq[i, min(g + 1, ngroups - 1)] & SATURATED != 0) & ~now, p.min_sat_area)
            balls = find(gdq[i, g] & JUMP, p.min_jump_area)
            if p.sat_required_snowball:
                high = shape[0] - p.edge_size
                points = np.array([(e.x, e.y) for e in new + coming]).reshape(-1, 2)
                balls = [
                    b
                    for b in balls
                    if min(b.x, b.y) < p.edge_size or max(b.x, b.y) > high or jump_snowballs.holds(b, points)
                ]
                for e in new:
                    if min(e.minor, e.major) > p.min_sat_radius_extend:
                        gdq[i, g:, pixels(e, 2 * p.sat_expand, p.max_extended_radius, shape)] = SATURATED
                        cores[i] |= pixels(e, 0, np.inf, shape)
            for b in balls:
                more = (p.expand_factor - 1) * min(b.minor, b.major)
                where = pixels(b, more, p.max_extended_radius, shape)
                gdq[i, g][where & (gdq[i, g] & SATURATED == 0)] |= JUMP
            number += len(balls)
    if p.mask_snowball_core_next_int:
        for i in range(1, nints):
            for g in range(1, min(ngroups, int(p.snowball_time_masked_next_int // group_time))):
                gdq[i, g][cores[i - 1]] |= JUMP
    return gdq, number


@st.composite
def scenes(draw):
    rng = np.random.default_rng(draw(st.integers(0, 1 << 31)))
    shape = draw(st.tuples(st.integers(1, 3), st.integers(3, 5), st.integers(7, 60), st.integers(7, 60)))
    gdq = np.zeros(shape, np.uint8)
    for _ in range(draw(st.integers(0, 7))):
        i, g = rng.integers(shape[0]), rng.integers(shape[1])
        y, x, core = rng.uniform(-3, shape[2] + 3), rng.uniform(-3, shape[3] + 3), rng.uniform(0, 6)
        gdq[i, g][disc(y, x, core + rng.uniform(0, 5), *shape[2:])] |= JUMP
        gdq[i, g + rng.integers(0, 2) :, disc(y, x, core, *shape[2:])] |= SATURATED
    gdq[rng.random(shape) < 0.01] |= JUMP
    gdq[rng.random(shape) < 0.01] |= DNU
    return gdq


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    gdq=scenes(),
    params=st.fixed_dictionaries(
        {
            "edge_size": st.integers(0, 25),
            "sat_expand": st.integers(0, 4),
            "expand_factor": st.sampled_from([1.0, 1.5, 2.0, 3.3]),
            "min_jump_area": st.sampled_from([1.0, 5.0, 12.5]),
            "min_sat_area": st.sampled_from([1.0, 6.0]),
            "min_sat_radius_extend": st.sampled_from([0.5, 2.5, 5.0]),
            "sat_required_snowball": st.booleans(),
            "max_extended_radius": st.sampled_from([5, 200]),
            "mask_snowball_core_next_int": st.booleans(),
            "snowball_time_masked_next_int": st.integers(0, 60),
        }
    ),
    threads=st.integers(1, 3),
)
def test_as_one_frame_after_the_other(gdq, params, threads):
    out, number = search(gdq, threads, 10.0, **params)
    expected, there = plainly(gdq, jump.Params(**params), 10.0)
    assert number == there
    assert np.array_equal(out, expected)


def test_within_the_step(through):
    """The ramps are put down, and both counters tell."""
    rng = np.random.default_rng(1)
    shape = (1, 5, 64, 64)
    data = np.cumsum(rng.normal(100, 3, shape), axis=1).astype("f4")
    data[0, 2:, disc(30, 30, 7, 64, 64)] += 3000
    gdq = np.zeros(shape, np.uint8)
    gdq[0, 2:, disc(30, 30, 3, 64, 64)] = SATURATED
    refs = {"gain": {"SCI": np.ones(shape[2:])}, "readnoise": {"SCI": np.full(shape[2:], 5.0)}}
    asked = {"expand_large_events": True, "rejection_threshold": 20.0}
    out = through([(jump.STEP, asked)], data, refs, gdq=gdq)
    plain = through([(jump.STEP, {"rejection_threshold": 20.0})], data, refs, gdq=gdq)
    assert out.report.counters["jump.snowballs"] == out.report.counters["jump.extended"] == 1
    assert (out.gdq[0, 2] & JUMP).sum() > 2 * (plain.gdq[0, 2] & JUMP).sum() > 0
    assert out.report.passes > plain.report.passes
