"""Reference pixels of stripes: levels by superstripe, amplifier and parity; superstripes put together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.core import runner
from upramp.stages.core.stripes import Stripes, lines
from upramp.stages.stage1 import refpix_stripes
from upramp.stages.stage1.refpix import STEP
from upramp.stages.stage1.refpix_stripes import pick, runs, strips

DNU, REFERENCE_PIXEL = 1, 1 << 31


def clipped(values, limit):
    values = values[~np.isnan(values)]
    while values.size:
        mean, reach = values.mean(), values.std() * limit
        kept = values[(values >= mean - reach) & (values <= mean + reach)]
        if kept.size == values.size:
            return mean
        values = kept
    return np.float32(0)


def naive(data, pdq, region, origin, fastaxis, slowaxis, params):
    """Every frame, superstripe, amplifier and parity by itself, pixels in the order of reading."""
    out = data.copy()
    rows, columns = np.indices(pdq.shape)
    along, across = (rows, columns) if abs(fastaxis) == 2 else (columns, rows)
    place = along + origin - 1
    reads = np.lexsort(((along * np.sign(fastaxis)).ravel(), (across * np.sign(slowaxis)).ravel()))
    use = (pdq & (REFERENCE_PIXEL | DNU)) == REFERENCE_PIXEL
    parity = place % 2 if params.get("odd_even_columns", True) else np.zeros_like(place)
    lane = (region[across] * 8 + place // refpix_stripes.AMPLIFIER) * 2 + parity
    for i, g in np.ndindex(data.shape[:2]):
        for k in np.unique(lane):
            own = (use & (lane == k)).ravel()[reads]
            out[i, g][lane == k] -= clipped(data[i, g].ravel()[reads][own], params.get("siglimit", 3.0))
    return out


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 1 << 31),
    frames=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    fast=st.integers(8, 20),
    fastaxis=st.sampled_from([1, -1, 2, -2]),
    slow_sign=st.sampled_from([1, -1]),
    stripes=st.sampled_from(
        [
            Stripes(1, 20, 4, 3, 1, 1),
            Stripes(2, 9, 5, 1),
            Stripes(3, 0, 7, 0, 1, 1, 7, 3),
            Stripes(0, 0, 0, 0, 0, 0, 4, 4),
        ]
    ),
    flagged=st.sampled_from(["heads", "heads and sides", "some", "none"]),
    params=st.fixed_dictionaries({}, optional={"odd_even_columns": st.booleans(), "siglimit": st.just(1.5)}),
    looked_at=st.sampled_from([1, 32 << 20]),
    threads=st.integers(1, 2),
)
def test_against_the_rule(
    through, describe, seed, frames, fast, fastaxis, slow_sign, stripes, flagged, params, looked_at, threads
):
    rng = np.random.default_rng(seed)
    heads = 2 if stripes.repeat and stripes.regions == 1 else 1
    length = heads * stripes.reads1 + (heads if stripes.count < 2 else 1) * (stripes.reads2 or stripes.step)
    slowaxis = slow_sign * (3 - abs(fastaxis))
    shape = (stripes.regions * length, fast) if abs(fastaxis) == 1 else (fast, stripes.regions * length)
    data = (rng.normal(0, 9, (*frames, *shape)) + rng.normal(0, 30, (*frames, 1, 1))).astype(np.float32)
    data[rng.random(data.shape) < 0.02] = np.nan
    data[rng.random(data.shape) < 0.05] += 200
    origin = {"xstart": 1, "ystart": 1} | ({"xstart": 7} if abs(fastaxis) == 1 else {"ystart": 7})
    facts = dict(**origin, stripes=stripes, fastaxis=fastaxis, slowaxis=slowaxis, noutputs=4, subarray="SUB")
    found = lines(describe(data, **facts))
    marks = np.zeros(shape, bool)
    whole = marks if abs(fastaxis) == 1 else marks.T
    if flagged.startswith("heads"):
        whole[found.reference] = True
    if flagged == "heads and sides":
        whole[:, :4] = True
    if flagged == "some":
        marks |= rng.random(shape) < 0.2
    mask = np.where(marks, REFERENCE_PIXEL, 0).astype(np.uint32)
    pdq = mask | (rng.random(shape) < 0.1).astype(np.uint32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refpix_stripes, "AMPLIFIER", 16)
        patch.setattr(runner, "SURVEY_BYTES", looked_at)
        out = through(
            [(STEP, params)],
            data,
            {"mask": {"DQ": mask}},
            pdq=pdq,
            options={"threads": threads},
            **facts,
        )
        expected = naive(data, pdq, found.region, 7, fastaxis, slowaxis, params)
    if stripes.regions == 1:
        assert np.array_equal(out.data, expected, equal_nan=True)
        return
    light = ~found.reference
    low = found.line[light].min()
    axis = 2 if abs(fastaxis) == 1 else 3
    assert out.data.shape[axis] == found.line[light].max() + 1 - low
    for k in np.flatnonzero(light):
        at = found.line[k] - low
        assert np.array_equal(out.data.take(at, axis), expected.take(k, axis), equal_nan=True)
        assert np.array_equal(out.pdq.take(at, axis - 2), pdq.take(k, axis - 2))


def test_lines_that_were_not_read(through):
    """Of SOSS the whole detector is shown."""
    stripes = Stripes(4, 0, 680, 0, 1, 1, 680, 3)
    data = np.full((1, 2, 3, 3 * 684), 5.0)
    gdq = np.full(data.shape, 4)
    out = through(
        [(STEP, {})],
        data,
        gdq=gdq,
        pdq=2,
        stripes=stripes,
        fastaxis=-2,
        slowaxis=-1,
        xstart=2048,
        ystart=1793,
        subarray="SUB680STRIPE_SOSS",
    )
    assert out.data.shape == (1, 2, 3, 2048)
    edge = np.r_[0:4, 2044:2048]
    assert np.isnan(out.data[..., edge]).all() and not out.gdq[..., edge].any()
    assert (out.pdq[:, edge] == REFERENCE_PIXEL).all()
    assert (out.data[..., 4:2044] == 5).all() and (out.gdq[..., 4:2044] == 4).all()
    assert (out.pdq[:, 4:2044] == 2).all()


def test_strips_hold_all_flagged_pixels():
    flagged = np.zeros((9, 7), bool)
    assert strips(flagged) == []
    flagged[[0, 4, 5]] = True
    assert strips(flagged) == [(0, 1, 0, 7), (4, 6, 0, 7)]
    flagged[:, 0] = True
    assert strips(flagged) == [(0, 1, 0, 7), (4, 6, 0, 7), (1, 4, 0, 1), (6, 9, 0, 1)]
    flagged[2, 3] = True
    assert strips(flagged) == [(0, 9, 0, 7)]


def test_runs():
    assert runs(np.array([True, True, False, True])) == [(0, 2), (3, 4)]
    assert runs(np.zeros(3, bool)) == []


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.uint32])
@pytest.mark.parametrize("across", [False, True])
def test_lines_are_picked(dtype, across):
    frame = np.random.default_rng(7).integers(0, 200, (6, 9)).astype(dtype)
    source = np.array([3, -1, 0, 5, 5, -1])
    out = np.empty((6, 6) if across else (6, 9), dtype)
    pick(frame, source, across, dtype(77), out)
    lines = frame.T if across else frame
    expected = np.array([lines[k] if k >= 0 else np.full_like(lines[0], 77) for k in source])
    np.testing.assert_array_equal(out, expected.T if across else expected)
