"""refpix of the mid infrared: side columns relative to the first group, by amplifier and row parity."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.core import runner
from upramp.stages.stage1.refpix import STEP, Params

DNU = 1
FACTS = {
    "instrument": "MIRI",
    "detector": "MIRIMAGE",
    "exp_type": "MIR_IMAGE",
    "subarray": "FULL",
    "noutputs": 4,
}


def clipped(values, limit):
    """Mean, clipped at so many sigma until it stays."""
    while values.size:
        kept = values[abs(values - values.mean()) <= limit * values.std()]
        if kept.size == values.size:
            return values.mean()
        values = kept
    return np.nan


def naive(data, pdq, p):
    """All rules, frame by frame."""
    out = data.astype(float)
    nx = data.shape[-1]
    parities = 2 if p.odd_even_rows else 1
    for i, g, a, k in np.ndindex(len(data), data.shape[1], 4, parities):
        if g == 0:
            continue
        means = []
        for column in (a, nx - 4 + a):
            d = (data[i, g] - data[i, 0])[k::parities, column].astype(float)
            good = (pdq[k::parities, column] & DNU == 0) & ~np.isnan(d)
            means.append(clipped(d[good], p.siglimit))
        there = [m for m in means if not np.isnan(m)]
        out[i, g, k::parities, a::4] -= np.mean(there) if there else 0.0
    out[:, 1:][np.broadcast_to(np.isnan(data[:, :1]), out[:, 1:].shape)] = np.nan  # nothing to compare with
    return out


def scene(seed, shape):
    rng = np.random.default_rng(seed)
    data = 1000 + rng.normal(0, 30, (*shape[:2], 1, 1)) + rng.normal(0, 5, shape)
    data = data + np.where(rng.random(shape) < 0.02, 400, 0)
    data[rng.random(shape) < 0.01] = np.nan
    pdq = rng.choice([0, DNU, 1 << 10], shape[2:], p=[0.9, 0.07, 0.03])
    return data.astype(np.float32), pdq.astype(np.uint32)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 31),
    frames=st.sampled_from([(1, 1), (1, 4), (3, 2)]),
    size=st.sampled_from([(20, 12), (33, 16)]),
    odd_even_rows=st.booleans(),
    limit=st.sampled_from([3.0, 2.0]),
    looked_at=st.sampled_from([1, 1 << 20]),
    threads=st.integers(1, 2),
)
def test_against_the_naive_rules(through, seed, frames, size, odd_even_rows, limit, looked_at, threads):
    data, pdq = scene(seed, frames + size)
    params = {"odd_even_rows": odd_even_rows, "siglimit": limit}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "SURVEY_BYTES", looked_at)
        options = {"threads": threads, "budget_bytes": 20_000}
        out = through([(STEP, params)], data, pdq=pdq, options=options, **FACTS)
    expected = naive(data, pdq, Params(**params))
    assert np.allclose(out.data, expected, rtol=0, atol=2e-3, equal_nan=True)
    assert np.array_equal(out.data[:, 0], data[:, 0], equal_nan=True)
    assert np.array_equal(out.pdq, pdq)


def test_by_hand(through):
    # the second group lies 10 higher on even rows left, 20 right; 2 and 4 on odd rows; amplifier 1 twice
    data = np.zeros((1, 2, 6, 12), np.float32)
    data[0, 1, ::2, :4], data[0, 1, ::2, -4:] = 10, 20
    data[0, 1, 1::2, :4], data[0, 1, 1::2, -4:] = 2, 4
    data[0, 1, :, [1, 9]] *= 2
    out = through([(STEP, {})], data, **FACTS).data
    assert (out[0, 0] == 0).all()
    assert out[0, 1, 0].tolist() == [-5, -10, -5, -5, -15, -30, -15, -15, 5, 10, 5, 5]
    assert out[0, 1, 1].tolist() == [-1, -2, -1, -1, -3, -6, -3, -3, 1, 2, 1, 1]


def test_without_good_reference_pixels_nothing_happens(through):
    data = np.nan_to_num(scene(1, (1, 3, 8, 12))[0], nan=1000.0)
    out = through([(STEP, {})], data, pdq=DNU, **FACTS)
    assert np.allclose(out.data, data, rtol=1e-6)


def test_subarrays_are_left_alone():
    meta = SimpleNamespace(instrument="MIRI", is_full_frame=False, subarray="SUB64")
    assert "SUB64" in STEP.skip_if(meta, Params())
    meta.is_full_frame = True
    assert STEP.skip_if(meta, Params()) is None
