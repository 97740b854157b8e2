"""saturation: thresholds, the converter's floor, growth, and several frames per group."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared
from upramp.stages.core.step import Context, Window
from upramp.stages.core.stripes import Stripes
from upramp.stages.stage1.saturation import STEP, Params

SATURATED, FLOOR, NO_CHECK = 2, 65, 1 << 21


def ramps(*pixels):
    """Ramps of pixels side by side -> (1, ngroups, 1, pixels)."""
    return np.array(pixels, np.float32).T[None, :, None, :]


def flags(out, pixel=0):
    return out.gdq[0, :, 0, pixel].tolist()


def alone(apply, ramp, threshold=10000.0, bias=None, dq=0, **facts):
    """The group flags of one pixel without neighbours."""
    refs = {"saturation": {"SCI": np.full((1, 1), threshold), "DQ": np.full((1, 1), dq)}}
    if bias is not None:
        refs["superbias"] = {"SCI": np.full((1, 1), bias)}
    out = apply(STEP, ramps(ramp), refs, params={"n_pix_grow_sat": 0}, **facts)
    return flags(out), int(out.pdq[0, 0])


@pytest.mark.parametrize(
    ("threshold", "ramp", "expected"),
    [
        (100, [1, 100, 1, 1], [0, 2, 2, 2]),  # at the threshold, and for good
        (100, [1, 99.99, 1, 1], [0, 0, 0, 0]),
        (100, [0, -3, 1, 1], [FLOOR, FLOOR, 0, 0]),
        (100, [0, 200, 5, 0], [FLOOR, 2, 2, FLOOR | 2]),
        (100, [1, np.nan, 200, np.nan], [0, 0, 2, 2]),
        (0, [0, 1, 1, 1], [FLOOR | 2, 2, 2, 2]),
        (-5, [-9, -3, 1, 1], [FLOOR, FLOOR | 2, 2, 2]),
    ],
)
def test_one_pixel(apply, threshold, ramp, expected):
    assert alone(apply, ramp, threshold) == (expected, 0)


@pytest.mark.parametrize(("threshold", "dq"), [(np.nan, 0), (100, NO_CHECK), (np.nan, NO_CHECK | 1)])
def test_without_threshold_only_beyond_the_converter(apply, threshold, dq):
    expected = [0, 0, 0, 2], dq | NO_CHECK
    assert alone(apply, [1, 65535, 65535.5, 65536], threshold, dq=dq) == expected


def test_flags_of_the_reference_join_the_pixel_flags(apply):
    assert alone(apply, [1, 200], 100, dq=1 << 10 | 1) == ([0, 2], 1 << 10 | 1)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_growth_is_a_box_clipped_at_the_edges_group_by_group(apply, n):
    counts = np.ones((2, 3, 9, 9))
    counts[0, 0, 4, 4] = counts[1, 1, 0, 8] = 200
    out = apply(
        STEP, counts, {"saturation": {"SCI": np.full((9, 9), 100.0)}}, params={"n_pix_grow_sat": n}, batch=1
    )
    box = np.zeros((9, 9), int)
    box[4 - n : 5 + n, 4 - n : 5 + n] = SATURATED
    corner = np.zeros((9, 9), int)
    corner[: n + 1, 8 - n :] = SATURATED
    assert (out.gdq[0] == box).all()
    assert not out.gdq[1, 0].any()
    assert (out.gdq[1, 1:] == corner).all()
    assert out.counters["saturation.ramps"] == 2


@pytest.mark.parametrize("slowaxis", [1, 2])
@pytest.mark.parametrize("batch", [1, 4])
def test_growth_ends_at_the_edge_of_a_superstripe(apply, slowaxis, batch):
    """Three regions of four lines, a saturated pixel at the edge of the middle one."""
    counts, expected = np.ones((1, 1, 12, 12)), np.zeros((12, 12), int)
    counts[0, 0, 4, 7] = 200
    if slowaxis == 1:
        expected[2:7, 5:8] = SATURATED
    else:
        expected[4:7, 5:10] = SATURATED
    stripes = Stripes(0, 0, 0, 0, 0, 0, 4, 3)
    refs = {"saturation": {"SCI": np.full((12, 12), 100.0)}}
    facts = {"fastaxis": 3 - slowaxis, "slowaxis": slowaxis, "stripes": stripes}
    for columns in ((0, 12), (2, 11)):
        params = {"n_pix_grow_sat": 2}
        out = apply(STEP, counts, refs, params=params, batch=batch, columns=columns, **facts)
        assert np.array_equal(out.gdq[0, 0], expected[:, slice(*columns)])


def test_floor_does_not_grow_and_is_counted(apply):
    counts = np.ones((1, 2, 3, 3))
    counts[0, 0, 1, 1] = 0
    out = apply(STEP, counts, {"saturation": {"SCI": np.full((3, 3), 100.0)}})
    assert np.flatnonzero(out.gdq).tolist() == [4]
    assert out.counters["saturation.ad_floor_ramps"] == 1


# NFRAMES = 2: groups hold the frames 1-2, 3-4, 5-6 ...; a ramp linear from 0 that ends at T averages
# T * 1.5/2 in group 1, T * 3.5/4 in group 2, T * 5.5/6 = 0.91667 T in group 3.
@pytest.mark.parametrize(
    ("ramp", "expected"),
    [
        ([7500, 11000], [1, 2]),
        ([7499.99, 11000], [0, 2]),
        ([100, 200, 9167, 11000], [0, 0, 1, 2]),
        ([100, 200, 9166, 11000], [0, 0, 0, 2]),
        ([100, 200, 9167, 9990], [0, 0, 0, 0]),
        ([100, 9000, 9500, 9900, 11000], [0, 0, 0, 1, 2]),  # only next to a saturated group
    ],
)
def test_group_before_saturation(apply, ramp, expected):
    assert alone(apply, ramp, nframes=2)[0] == expected
    assert alone(apply, ramp, nframes=2, groupgap=3)[0] == expected


@pytest.mark.parametrize(
    ("ramp", "bias", "expected"),
    [
        ([100, 5051, 11000], 0, [0, 1, 2]),  # 4951 > (10000 - 100) / 2
        ([100, 5050, 11000], 0, [0, 0, 2]),
        ([100, 6000, 9000], 0, [0, 0, 0]),  # the third group must be saturated
        ([2499, 7000, 11000], 0, [0, 1, 2]),  # 2499 / 1.5 * 6 = 9996
        ([2500, 7000, 11000], 0, [0, 0, 2]),  # reaches 10000 within group 3 anyway
        ([3249, 8000, 11000], 1000, [0, 1, 2]),  # 2249 * 4 + 1000 = 9996
        ([3250, 8000, 11000], 1000, [0, 0, 2]),
        ([100, 6000, 11000], np.nan, [0, 0, 2]),
        ([0, 6000, 11000], None, [FLOOR, 1, 2]),
    ],
)
def test_second_group(apply, ramp, bias, expected):
    assert alone(apply, ramp, bias=bias, nframes=2)[0] == expected


def test_read_pattern_rules_need_the_parameter_and_several_frames(apply):
    refs = {"saturation": {"SCI": np.full((1, 1), 10000.0)}}
    ramp = ramps([100, 9500, 9500, 11000])
    for facts, params in (({"nframes": 2}, {"use_readpatt": False}), ({"nframes": 1}, {})):
        assert flags(apply(STEP, ramp, refs, params=params, **facts)) == [0, 0, 0, 2]


def test_what_is_inferred_before_saturation_grows_but_the_second_group_does_not(apply):
    refs = {"saturation": {"SCI": np.full((1, 6), 10000.0)}}
    # pixel 1 saturates in group 4; pixel 2, its neighbour, is bright in group 3; pixel 4 leaps in group 2
    quiet, leap = [5, 6, 7, 8], [5, 6000, 11000, 11000]
    out = apply(STEP, ramps(quiet, [5, 6, 7, 11000], [5, 6, 9500, 9600], quiet, quiet, leap), refs, nframes=2)
    assert flags(out, 0) == [0, 0, 0, 2]
    assert flags(out, 1) == [0, 0, 1, 2]
    assert flags(out, 2) == [0, 0, 1, 2]
    assert flags(out, 3) == [0, 0, 1, 0]
    assert flags(out, 4) == [0, 0, 2, 2]
    assert flags(out, 5) == [0, 1, 2, 2]


def dilate(mask, n):
    wide = np.pad(mask, [(0, 0)] * (mask.ndim - 2) + [(n, n)] * 2)
    ny, nx = mask.shape[-2:]
    shifted = [wide[..., y : y + ny, x : x + nx] for y in range(2 * n + 1) for x in range(2 * n + 1)]
    return np.logical_or.reduce(shifted)


def naive(data, gdq, threshold, bias, n, nframes):
    """All rules on whole arrays (nints, ngroups, ny, nx)."""
    gdq = gdq | np.logical_or.accumulate(data >= threshold, axis=1) * np.uint8(2)
    gdq |= (data <= 0) * np.uint8(65)
    gdq |= dilate((gdq & 2) != 0, n) * np.uint8(2)
    if nframes == 1:
        return gdq
    grown, exact = gdq.copy(), threshold.astype(float)
    frames = np.arange(1, nframes * data.shape[1] + 1).reshape(-1, nframes)
    for k in range(data.shape[1] - 1):
        reached = data[:, k] >= exact * (frames[k].mean() / frames[k, -1])
        reached &= ((grown[:, k + 1] & 2) != 0) & ((grown[:, k] & 3) == 0)
        gdq[:, k] |= dilate(reached, n) * np.uint8(1)
    if data.shape[1] > 2:
        foreseen = (data[:, 0] - bias).astype(float) / frames[0].mean() * frames[2, -1] + bias < exact
        leap = data[:, 1] - data[:, 0] > (threshold - data[:, 0]) / np.float32(nframes)
        pattern = ((grown[:, 2] & 2) != 0) & ((grown[:, 1] & 2) == 0)
        gdq[:, 1] |= (foreseen & leap & pattern) * np.uint8(1)
    return gdq


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 31),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 8), st.integers(1, 8)),
    n=st.integers(0, 3),
    nframes=st.sampled_from([1, 2, 3, 8]),
    batch=st.integers(1, 8),
)
def test_against_whole_arrays(seed, shape, n, nframes, batch):
    rng = np.random.default_rng(seed)
    data = np.cumsum(rng.choice([50, 900, 9000], shape, p=[0.6, 0.3, 0.1]) + rng.normal(0, 40, shape), axis=1)
    data = np.where(rng.random(shape) < 0.05, np.nan, np.round(data)).astype(np.float32)
    gdq = rng.choice([0, 0, 0, 1, 2, 4], (shape[0], 1, *shape[2:])) * np.ones(shape, np.uint8)
    gdq = gdq.astype(np.uint8)
    threshold = rng.uniform(2000, 12000, shape[2:]).astype(np.float32)
    bias = rng.normal(100, 300, shape[2:]).astype(np.float32)
    meta = _meta(shape, nframes)
    refs = {
        "saturation": Prepared({"threshold": threshold, "dq": np.zeros(shape[2:], np.uint32)}),
        "superbias": Prepared({"bias": bias}),
    }
    bound = STEP.bind(Context(meta, Params(n_pix_grow_sat=n), refs))
    order = (2, 0, 1, 3)
    w = Window(data.transpose(order).copy(), gdq.transpose(order).copy(), np.zeros(shape[2:], np.uint32))
    w.bottom, w.core_rows, w.core_columns = shape[2], (0, shape[2]), (0, shape[3])
    for station in bound.stations:
        w.planes.update({k: np.full(w.gdq.shape, 77, t) for k, t in station.planes.items()})
    for station in bound.stations:
        for lo in range(0, shape[2], batch):
            station.run(w, lo, min(lo + batch, shape[2]))
    assert (w.gdq.transpose(1, 2, 0, 3) == naive(data, gdq, threshold, bias, n, nframes)).all()


def _meta(shape, nframes):
    nints, ngroups, ny, nx = shape
    return ExposureMeta(
        "NIRCAM", "NRCALONG", "NRC_IMAGE", "FULL", 1, 1, nx, ny, -1, 2, nints, nints, ngroups, nframes
    )


def test_negative_growth_is_refused():
    with pytest.raises(ValueError, match="n_pix_grow_sat"):
        Params(n_pix_grow_sat=-1)
