"""refpix: clipped means by amplifier and parity, running medians of the sides, one output."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.core import runner
from upramp.stages.stage1 import refpix_border
from upramp.stages.stage1.refpix import STEP, Params
from upramp.stages.stage1.refpix_border import clipped_mean

DNU, REFERENCE_PIXEL = 1, 1 << 31


def clipped(values, limit=3.0):
    """Mean, clipped at so many sigma until it stays, in the precision of the values."""
    while values.size:
        mean, reach = values.mean(), values.std() * limit
        kept = values[(values >= mean - reach) & (values <= mean + reach)]
        if kept.size == values.size:
            return mean
        values = kept
    return np.nan


def both(a, b):
    """Mean of what is there; 0 if neither is."""
    there = [v for v in (a, b) if not np.isnan(v)]
    return sum(there) / len(there) if there else 0.0


def side_medians(side, good, length, low, high):
    """Running median over the rows of (rows, 4): mirrored at the detector's edges, else cut short."""
    rows = len(side)
    out = np.full(rows, np.nan)
    for r in range(rows):
        picked = []
        for k in range(r - length // 2, r + length // 2 + 1):
            if k < 0:
                k = -k if low else rows
            elif k >= rows and high:
                k = 2 * (rows - 1) - k
            if 0 <= k < rows:
                picked += [v for v, g in zip(side[k], good[k], strict=True) if g and not np.isnan(v)]
        if picked:
            out[r] = np.median(np.array(picked, side.dtype))
    return out


def naive_frame(frame, good, edges, p, amplifiers):
    """Correct one frame in the detector's frame, amplifiers along the columns, in the frame's precision."""
    low, high, left, right = edges
    rows, columns = frame.shape
    stripe = columns // amplifiers
    parities = 2 if p.odd_even_columns else 1
    levels = np.zeros(columns, frame.dtype)
    for a in range(amplifiers):
        for parity in range(parities):
            x = np.arange(a * stripe + parity, (a + 1) * stripe, parities)
            means = []
            for there, edge in ((low, slice(0, 4)), (high, slice(rows - 4, rows))):
                v = frame[edge][:, x][good[edge][:, x]]
                means.append(clipped(v[~np.isnan(v)], p.siglimit) if there else np.nan)
            levels[x] = both(*means)
    flat = frame - levels
    if not p.use_side_ref_pixels or not (left or right):
        return flat
    medians = []
    for there, edge in ((left, slice(0, 4)), (right, slice(columns - 4, columns))):
        if there:
            medians.append(side_medians(flat[:, edge], good[:, edge], p.side_smoothing_length, low, high))
        else:
            medians.append(np.full(rows, np.nan))
    side = [p.side_gain * both(a, b) for a, b in zip(*medians, strict=True)]
    return flat - np.array(side)[:, None]


def naive(data, pdq, p, axes, edges, amplifiers):
    """All frames, the first in single precision; ``edges``: low, high, left and right, in order of pixels.

    ``axes``: fast and slow axis. Frames are turned so that they are read from left to right and upwards.
    """
    fast, slow = axes
    flips = (slice(None, None, -1 if slow < 0 else 1), slice(None, None, -1 if fast < 0 else 1))
    low, high, left, right = edges
    edges = ((high, low) if slow < 0 else (low, high)) + ((right, left) if fast < 0 else (left, right))

    def turn(a):
        return (a.T if abs(fast) == 2 else a)[flips]

    out = np.empty(data.shape, np.float32)
    for i, g in np.ndindex(data.shape[:2]):
        frame = turn(data[i, g]).astype(np.float32 if i == g == 0 else np.float64)
        turn(out[i, g])[:] = naive_frame(frame, turn((pdq & DNU) == 0), edges, p, amplifiers)
    return out


def noise(rng, shape):
    """Frames with drifts, outliers and NaN."""
    data = rng.normal(0, 5, shape) + rng.normal(0, 30, (*shape[:2], 1, 1))
    data += np.cumsum(rng.normal(0, 2, (*shape[:3], 1)), axis=2) + 3 * (np.arange(shape[3]) % 2)
    data += np.where(rng.random(shape) < 0.03, rng.normal(0, 200, shape), 0)
    data[rng.random(shape) < 0.01] = np.nan
    return data.astype(np.float32)


def border(rng, ny, nx):
    mask = rng.choice([0, DNU, 1 << 10], (ny, nx), p=[0.9, 0.05, 0.05]).astype(np.uint32)
    for edge in (np.s_[:4], np.s_[-4:], np.s_[:, :4], np.s_[:, -4:]):
        mask[edge] |= np.uint32(REFERENCE_PIXEL)
    return mask


PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "odd_even_columns": st.booleans(),
        "use_side_ref_pixels": st.booleans(),
        "side_smoothing_length": st.sampled_from([1, 3, 11]),
        "side_gain": st.sampled_from([0.0, 0.5, 1.0]),
        "siglimit": st.sampled_from([2.0, 3.0]),
    },
)


def lie(there, width, length):
    """Origin of a read-out that touches the low edge, the high edge, both or none."""
    low, high = there
    if low:
        return 1
    return width - length + 1 if high else 2


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 1 << 31),
    frames=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    along=st.sampled_from([16, 24]),
    across=st.integers(12, 18),
    slow=st.sampled_from([(True, True), (True, False), (False, True), (False, False)]),
    slow_sign=st.sampled_from([1, -1]),
    fast=st.sampled_from([(True, False), (False, True), (False, False), (True, True)]),
    fastaxis=st.sampled_from([1, -1, 2, -2]),
    params=PARAMS,
    threads=st.integers(1, 2),
    looked_at=st.sampled_from([1, 32 << 20]),
)
def test_four_outputs_against_the_naive_rules(
    through, seed, frames, along, across, slow, slow_sign, fast, fastaxis, params, threads, looked_at
):
    if all(slow) and all(fast):
        across = along  # the whole detector
    slowaxis = slow_sign * (3 - abs(fastaxis))
    width = along if all(fast) else across if all(slow) else 100
    fast = (True, True) if along == width else fast
    slow = (True, True) if across == width else slow
    transposed = abs(fastaxis) == 2
    ny, nx = (along, across) if transposed else (across, along)
    rng = np.random.default_rng(seed)
    data, pdq = noise(rng, (*frames, ny, nx)), border(rng, ny, nx)
    if width < max(along, across):
        return
    starts = {"xstart": lie(fast, width, along), "ystart": lie(slow, width, across)}
    if transposed:
        starts = {"xstart": starts["ystart"], "ystart": starts["xstart"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refpix_border, "DETECTOR", width)
        patch.setattr(runner, "SURVEY_BYTES", looked_at)
        out = through(
            [(STEP, params)],
            data,
            pdq=pdq,
            options={"threads": threads, "budget_bytes": 60_000},
            noutputs=4,
            fastaxis=fastaxis,
            slowaxis=slowaxis,
            **starts,
        )
    ends = {"xstart": nx, "ystart": ny}
    across_at, along_at = ("xstart", "ystart") if transposed else ("ystart", "xstart")
    edges = tuple(
        edge for at in (across_at, along_at) for edge in (starts[at] == 1, starts[at] + ends[at] - 1 == width)
    )
    expected = naive(data, pdq, Params(**params), (fastaxis, slowaxis), edges, 4)
    assert np.array_equal(out.data, expected, equal_nan=True)
    assert np.array_equal(out.pdq, pdq)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 31),
    frames=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    size=st.tuples(st.integers(8, 14), st.integers(8, 14)),
    kept=st.sets(st.sampled_from(["bottom", "top", "left", "right", "inside"])),
    fastaxis=st.sampled_from([-1, 2]),
    parities=st.booleans(),
    looked_at=st.sampled_from([1, 32 << 20]),
    limit=st.sampled_from([1.5, 3.0]),
)
def test_one_output_against_the_naive_rules(
    through, seed, frames, size, kept, fastaxis, parities, looked_at, limit
):
    rng = np.random.default_rng(seed)
    data = noise(rng, frames + size)
    flagged = np.zeros(size, bool)
    where = {
        "bottom": np.s_[:4],
        "top": np.s_[-4:],
        "left": np.s_[:, :4],
        "right": np.s_[:, -4:],
        "inside": np.s_[5:6, 5:7],
    }
    for name in kept:
        flagged[where[name]] = True
    pdq = np.where(flagged, REFERENCE_PIXEL, 0).astype(np.uint32)
    pdq |= (rng.random(size) < 0.1).astype(np.uint32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "SURVEY_BYTES", looked_at)
        out = through(
            [(STEP, {"odd_even_columns": parities, "siglimit": limit})],
            data,
            {"mask": {"DQ": pdq}},
            pdq=pdq,
            noutputs=1,
            fastaxis=fastaxis,
            slowaxis=3 - abs(fastaxis),
        )
    use = (pdq & (REFERENCE_PIXEL | DNU)) == REFERENCE_PIXEL
    along = np.indices(size)[0 if fastaxis == 2 else 1]
    expected = data.astype(float)
    for i, g in np.ndindex(frames):
        for parity in range(2 if parities else 1):
            lane = (along % 2 == parity) | (not parities)
            v = data[i, g][use & lane]
            mean = clipped(v[~np.isnan(v)], limit)
            expected[i, g][lane] -= 0 if np.isnan(mean) else np.float32(mean)
    assert np.allclose(out.data, expected, rtol=1e-6, atol=1e-4, equal_nan=True)


def test_by_hand(through, monkeypatch):
    """A 16 x 16 detector of four amplifiers with known levels."""
    monkeypatch.setattr(refpix_border, "DETECTOR", 16)
    amplifier = np.repeat([10.0, 20.0, 30.0, 40.0], 4)
    parity = np.arange(16) % 2
    drift = np.arange(16.0)[:, None]  # the mean of top and bottom is 7.5
    data = 1000 + amplifier + parity + drift
    data[8, 8] += 500
    facts = dict(noutputs=4, xstart=1, ystart=1, subarray="FULL")
    straight = np.zeros((16, 16))
    straight[8, 8] = 500
    length = {"side_smoothing_length": 1}
    out = through([(STEP, length)], data[None, None], **facts)
    assert np.allclose(out.data[0, 0], straight)
    out = through([(STEP, {"use_side_ref_pixels": False})], data[None, None], **facts)
    assert np.allclose(out.data[0, 0], straight + drift - 7.5)
    out = through([(STEP, {**length, "odd_even_columns": False})], data[None, None], **facts)
    # amplifiers lose their mean of both parities, and the sides' median of two odd and two even is as much
    assert np.allclose(out.data[0, 0], straight + parity - 0.5)
    out = through([(STEP, {**length, "side_gain": 0.5})], data[None, None], **facts)
    assert np.allclose(out.data[0, 0], straight + (drift - 7.5) / 2)


def test_smoothing_mirrors_at_the_edge_of_the_detector_only(through, monkeypatch):
    monkeypatch.setattr(refpix_border, "DETECTOR", 100)
    rows = np.arange(16.0)
    data = np.broadcast_to((rows**2)[:, None], (16, 100))[None, None]
    params = {"side_smoothing_length": 3}
    # bottom rows 0-3 have 0, 1, 4, 9: a mean of 3.5, which goes first
    out = through([(STEP, params)], data, noutputs=4, xstart=1, ystart=1)
    assert np.allclose(data[0, 0, :, 50] - out.data[0, 0, :, 50], [1, *rows[1:-1] ** 2, (14**2 + 15**2) / 2])
    out = through([(STEP, params)], data, noutputs=4, xstart=1, ystart=40)
    assert np.allclose(
        data[0, 0, :, 50] - out.data[0, 0, :, 50], [0.5, *rows[1:-1] ** 2, (14**2 + 15**2) / 2]
    )


def test_unlit_columns_of_narrow_spectra(through):
    facts = dict(instrument="NIRSPEC", subarray="SUB512", fastaxis=2, slowaxis=1, noutputs=1)
    data = np.full((1, 1, 6, 20), 7.0)
    data[0, 0, ::2, :4] = data[0, 0, ::2, -4:] = 3
    data[0, 0, 1::2, :4] = data[0, 0, 1::2, -4:] = 5
    out = through([(STEP, {})], data, **facts)
    assert (out.data[0, 0, ::2, 5] == 4).all()
    assert (out.data[0, 0, 1::2, 5] == 2).all()
    assert (out.data[0, 0, :, :4] == 0).all()


def test_nothing_happens_without_reference_pixels(through):
    data = noise(np.random.default_rng(1), (2, 2, 9, 9))
    for references in ({}, {"mask": {"DQ": np.zeros((9, 9), np.uint32)}}):
        out = through([(STEP, {})], data, references, noutputs=1)
        assert np.array_equal(out.data, data, equal_nan=True)


def test_reference_pixels_that_are_all_bad(through):
    """One strip of them may be unusable, or all."""
    data = np.full((2, 2, 12, 12), 9.0)
    data[..., :4] = 5
    mask = np.zeros((12, 12), np.uint32)
    mask[:, :4] = REFERENCE_PIXEL
    mask[:4] = REFERENCE_PIXEL | DNU
    out = through([(STEP, {})], data, {"mask": {"DQ": mask}}, pdq=mask, noutputs=1)
    assert (out.data[..., 4:] == 4).all()
    mask |= np.uint32(DNU)
    out = through([(STEP, {})], data, {"mask": {"DQ": mask}}, pdq=mask, noutputs=1)
    assert np.array_equal(out.data, data)


@given(
    values=st.lists(st.floats(-100, 100, width=32) | st.sampled_from([0.0, 1.0, 1e4]), max_size=40),
    repeats=st.integers(1, 60),
    limit=st.sampled_from([1.5, 3.0]),
)
@settings(deadline=None)
def test_clipped_mean_has_the_roundings_of_numpy(values, repeats, limit):
    values = np.resize(np.array(values, np.float32), len(values) * repeats)
    values[1::3] *= np.float32(0.7)
    found = clipped_mean(np.append(values, np.float32(-1e9)), len(values), limit)
    assert np.array_equal(np.float32(found), np.float32(clipped(values, limit)), equal_nan=True)


def test_clipping_by_hand():
    a = np.array([0.0, 2.0] * 10 + [1000.0], np.float32)
    assert clipped_mean(a, 21, 3.0) == 1
    assert clipped_mean(np.array([5.0], np.float32), 1, 3.0) == 5
    assert np.isnan(clipped_mean(np.array([5.0], np.float32), 0, 3.0))


def test_parameters_are_checked():
    for wrong in (
        {"refpix_algorithm": "mean"},
        {"side_smoothing_length": 4},
        {"side_smoothing_length": 0},
        {"siglimit": 0.5},
        {"sigreject": 0.0},
        {"gaussmooth": 0.0},
        {"halfwidth": -1},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Params(**wrong)


@pytest.mark.parametrize("k", range(6))
def test_same_as_the_peer(through, peer_cases, k):
    case = peer_cases("refpix")[k]
    out = through(
        [(STEP, case.params)],
        case.given["data"],
        case.references,
        gdq=case.given["gdq"],
        pdq=case.given["pdq"],
        **case.facts,
    )
    assert np.allclose(out.data, case.answer["data"], rtol=1e-6, atol=2e-5)
    assert np.array_equal(out.pdq, case.answer["pdq"])
    assert np.array_equal(out.gdq, case.answer["gdq"])
    assert not np.array_equal(out.data, case.given["data"])
