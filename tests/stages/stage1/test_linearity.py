"""linearity: the polynomial, its exceptions, and the algorithm on reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.core.errors import Misconfigured
from upramp.stages.stage1.linearity import CHUNK, READS_CHUNK, STEP, polynomial

NO_LIN_CORR = 1 << 20


def constant(coefficients, nx, ny=1):
    return np.array(coefficients, np.float32)[:, None, None] * np.ones((1, ny, nx), np.float32)


def test_polynomial_by_hand(apply):
    # 10 + 100 + 0.001 * 100^2 = 120; saturated groups stay
    out = apply(STEP, np.full((1, 2, 1, 1), 100), {"linearity": {"COEFFS": constant([10, 1, 1e-3], 1)}})
    assert out.data.ravel().tolist() == [120, 120]
    gdq = np.array([0, 2]).reshape(1, 2, 1, 1)
    out = apply(
        STEP, np.full((1, 2, 1, 1), 100), {"linearity": {"COEFFS": constant([10, 1, 1e-3], 1)}}, gdq=gdq
    )
    assert out.data.ravel().tolist() == [120, 100]
    assert (out.gdq == gdq).all()


def test_pixels_without_a_valid_polynomial_stay_and_are_flagged(apply):
    coeffs = constant([10, 1, 1e-3], 6)
    coeffs[0, 0, 0] = coeffs[2, 0, 1] = np.nan
    coeffs[1, 0, 2] = 0
    dq = np.array([[0, 0, 0, NO_LIN_CORR, 1, 0]])
    out = apply(STEP, np.full((1, 1, 1, 6), 100), {"linearity": {"COEFFS": coeffs, "DQ": dq}}, pdq=4)
    assert out.data.ravel().tolist() == [100, 100, 100, 100, 120, 120]
    assert out.pdq.tolist() == [[NO_LIN_CORR | 4] * 4 + [5, 4]]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1 << 31),
    columns=st.sampled_from([1, 7, CHUNK, CHUNK + 1]),
    orders=st.integers(2, 8),
)
def test_same_bits_as_horner_in_single_precision(seed, columns, orders):
    rng = np.random.default_rng(seed)
    data = rng.uniform(-100, 60000, (2, 1, 3, columns)).astype(np.float32)
    gdq = rng.choice([0, 1, 2, 6], data.shape).astype(np.uint8)
    coeffs = (rng.normal(0, 1, (5, orders, columns + 2)) * 10.0 ** -np.arange(orders)[:, None]).astype(
        np.float32
    )
    value = coeffs[2:4, None, None, -1, 1:-1]
    for j in range(orders - 2, -1, -1):
        value = value * data + coeffs[2:4, None, None, j, 1:-1]
    expected = np.where(gdq & 2, data, value)
    pdq = np.zeros((2, columns), np.uint32)
    polynomial(data, gdq, pdq, coeffs, np.full((5, columns + 2), 8, np.uint32), 2, 1)
    assert np.array_equal(data, expected)
    assert (pdq == 8).all()


def naive_reads(ramp, gdq, coeffs, inverse, nframes):
    """The algorithm on reads for one ramp (ngroups,), as the module's docstring has it."""
    polynomial_of = np.polynomial.Polynomial
    straight, bent = polynomial_of(coeffs.astype(float)), polynomial_of(inverse.astype(float))
    saturated = (gdq & 2) != 0
    level = np.where(saturated, ramp, straight(ramp.astype(float)))
    last = max(np.count_nonzero(~saturated) - 2, 1)
    rate = (level[last] - level[0]) / (last * nframes)
    out = ramp.copy()
    for k in np.flatnonzero(~saturated):
        reads = bent(level[0] + rate * (k * nframes + np.arange(nframes) - (nframes - 1) / 2))
        out[k] = straight(reads + ramp[k] - reads.mean()).mean()
    return out


@pytest.mark.parametrize(("ngroups", "nframes"), [(2, 2), (3, 4), (6, 4), (4, 8), (5, 3)])
@pytest.mark.parametrize("nx", [3, READS_CHUNK + 2])
def test_reads_against_one_ramp_at_a_time(apply, ngroups, nframes, nx):
    rng = np.random.default_rng(ngroups)
    orders = np.array([5, 1, 1e-6, 1e-11])[:, None, None]
    coeffs = (orders * rng.uniform(0.9, 1.1, (4, 2, nx))).astype(np.float32)
    inverse = (orders[:3] * [[[-1]], [[1]], [[-1]]] * rng.uniform(0.9, 1.1, (3, 2, nx))).astype(np.float32)
    slope = rng.uniform(10, 9000, (2, 1, 2, nx))
    counts = (slope * np.arange(1, ngroups + 1)[:, None, None]).astype(np.float32)
    gdq = rng.choice([0, 1, 2], counts.shape, p=[0.8, 0.1, 0.1]).astype(np.uint8)
    refs = {"linearity": {"COEFFS": coeffs, "INV_COEFFS": inverse}}
    out = apply(STEP, counts, refs, gdq=gdq, nframes=nframes, groupgap=2)
    for i, y, x in np.ndindex(2, 2, nx):
        expected = naive_reads(
            counts[i, :, y, x], gdq[i, :, y, x], coeffs[:, y, x], inverse[:, y, x], nframes
        )
        assert np.allclose(out.data[i, :, y, x], expected, rtol=3e-7, atol=0)


def test_reads_by_hand(apply):
    # P = F + F^2/1000, Q the identity: L = 110, 390, 960; the last group but one is the second, so rate =
    # (390 - 110) / 2 = 140 per read; reads lie at +-1/2, so F' = P(F) + rate^2/1000 * 1/4
    refs = {"linearity": {"COEFFS": constant([0, 1, 1e-3], 1), "INV_COEFFS": constant([0, 1], 1)}}
    out = apply(STEP, np.array([100, 300, 600]).reshape(1, 3, 1, 1), refs, nframes=2)
    rate = (390 - 110) / 2
    assert np.allclose(out.data.ravel(), np.array([110, 390, 960]) + rate**2 / 4000, rtol=1e-6)


def test_invalid_inverse_counts_as_identity_and_is_flagged(apply):
    inverse = constant([0, 1, 0], 3)
    inverse[1, 0, 1] = 0
    inverse[2, 0, 2] = np.nan
    refs = {"linearity": {"COEFFS": constant([0, 1, 1e-3], 3), "INV_COEFFS": inverse}}
    counts = np.array([100, 300, 600]).reshape(1, 3, 1, 1) * np.ones((1, 1, 1, 3))
    out = apply(STEP, counts, refs, nframes=2)
    assert (out.data == out.data[..., :1]).all()
    assert out.pdq.tolist() == [[0, NO_LIN_CORR, NO_LIN_CORR]]


@pytest.mark.parametrize("facts", [{"nframes": 1}, {"nframes": 4, "ngroups": 1}])
def test_inverse_is_not_used_for_single_frames_or_a_single_group(apply, facts):
    refs = {"linearity": {"COEFFS": constant([10, 1, 1e-3], 1), "INV_COEFFS": constant([0, 0], 1)}}
    out = apply(STEP, np.full((1, facts.pop("ngroups", 2), 1, 1), 100), refs, **facts)
    assert (out.data == 120).all()
    assert not out.pdq.any()


def test_too_few_coefficients_are_refused(apply):
    with pytest.raises(Misconfigured, match="two or more"):
        apply(STEP, np.ones((1, 1, 1, 1)), {"linearity": {"COEFFS": constant([1], 1)}})
