"""refpix with SIRS: kernels from coefficients, rejection, all ways to read the detector."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.core import runner
from upramp.stages.core.errors import Misconfigured
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.stage1 import refpix_border, refpix_sirs
from upramp.stages.stage1.refpix import STEP, Params

SIRS = {"refpix_algorithm": "sirs", "halfwidth": 3}


def coefficients(seed, detector="nrcalong", frequencies=17):
    rng = np.random.default_rng(seed)

    def some():
        size = (4, frequencies)
        fall = np.exp(-np.arange(frequencies) / 5)
        return ((0.5 * fall + rng.normal(0, 0.05, size)) + 1j * rng.normal(0, 0.05, size)).astype("c8")

    return {detector: {"gamma": some(), "zeta": some()}}


def naive_taps(coefficients, smooth, half):
    """Fourier sums written out, cut, smoothed within what is left."""
    n = 2 * (len(coefficients) - 1)
    k = np.arange(len(coefficients))
    twice = np.where((k == 0) | (k == n // 2), 1, 2) / n
    at = np.arange(-half, half + 1)
    taps = [(twice * (coefficients * np.exp(2j * np.pi * k * t / n)).real).sum() for t in at]
    weights = np.exp(-0.5 * (at / smooth) ** 2)
    out = np.zeros(2 * half + 1)
    for t in at:
        for s in at:
            if abs(t - s) <= half:
                out[t + half] += taps[s + half] * weights[t - s + half] / weights.sum()
    return out


def naive_sides(frame, reference, params):
    """What each amplifier loses by row (4, rows), of a frame in the detector's own orientation."""
    rows = len(frame)
    found = np.zeros((4, rows))
    for side, name in ((frame[:, :4], "gamma"), (frame[:, -4:], "zeta")):
        side = side.astype(float)
        middle = np.median(side)
        good = abs(side - middle) < params.sigreject * 1.48 * np.median(abs(side - middle))
        level, share = np.where(good, side, 0).sum(axis=1) / 4, good.sum(axis=1) / 4
        for a in range(4):
            taps = naive_taps(reference[name][a], params.gaussmooth, params.halfwidth)
            sums = [
                [
                    sum(
                        t * v[r + params.halfwidth - k]
                        for k, t in enumerate(taps)
                        if 0 <= r + params.halfwidth - k < rows
                    )
                    for r in range(rows)
                ]
                for v in (level, np.ones(rows), share)
            ]
            with np.errstate(all="ignore"):
                found[a] += np.array(sums[0]) * (np.array(sums[1]) / np.array(sums[2]))
    return found


def turn(frame, fastaxis, slowaxis):
    """To the detector's own orientation and back: fast axis last, both axes as read."""
    frame = frame.T if abs(fastaxis) == 2 else frame
    return frame[:: 1 if slowaxis > 0 else -1, :: 1 if fastaxis > 0 else -1]


def back(frame, fastaxis, slowaxis):
    frame = frame[:: 1 if slowaxis > 0 else -1, :: 1 if fastaxis > 0 else -1]
    return frame.T if abs(fastaxis) == 2 else frame


def noise(rng, shape):
    data = 100 + rng.normal(0, 5, shape) + np.cumsum(rng.normal(0, 2, (*shape[:3], 1)), axis=2)
    data += np.where(rng.random(shape) < 0.04, rng.normal(0, 200, shape), 0)
    return data.astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 31),
    frames=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    axes=st.sampled_from([(1, 2), (-1, 2), (1, -2), (2, 1), (-2, -1), (2, -1)]),
    params=st.fixed_dictionaries(
        {},
        optional={
            "sigreject": st.sampled_from([2.5, 4.0, 100.0]),
            "gaussmooth": st.sampled_from([0.5, 1.0, 2.5]),
            "halfwidth": st.sampled_from([0, 1, 5]),
            "odd_even_columns": st.booleans(),
            "side_gain": st.just(0.25),
        },
    ),
    looked_at=st.sampled_from([1, 32 << 20]),
    budget=st.sampled_from([1, 60_000, 1 << 27]),
)
def test_against_the_naive_rules(through, seed, frames, axes, params, looked_at, budget):
    rng = np.random.default_rng(seed)
    n = 16
    data, reference = noise(rng, (*frames, n, n)), coefficients(seed)
    pdq = (rng.random((n, n)) < 0.1).astype(np.uint32)
    chosen = {**SIRS, **params}
    facts = dict(noutputs=4, xstart=1, ystart=1, subarray="FULL", fastaxis=axes[0], slowaxis=axes[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refpix_border, "DETECTOR", n)
        patch.setattr(runner, "SURVEY_BYTES", looked_at)
        options = {"threads": 2, "budget_bytes": budget}
        refs = {"sirskernel": reference}
        out = through([(STEP, chosen)], data, refs, pdq=pdq, options=options, **facts)
        again = {"threads": 1, "cuts": range(4)}
        other = through([(STEP, chosen)], data, refs, pdq=pdq, options=again, **facts)
        flat = through([(STEP, {**params, "use_side_ref_pixels": False})], data, pdq=pdq, **facts)
    assert out.data.tobytes() == other.data.tobytes()
    expected = np.empty_like(data)
    own = reference["nrcalong"]
    for i, g in np.ndindex(frames):
        frame = turn(flat.data[i, g], *axes)
        lost = np.repeat(naive_sides(frame, own, Params(**chosen)), n // 4, axis=0).T
        expected[i, g] = back(frame - lost, *axes)
    assert np.allclose(out.data, expected, rtol=1e-5, atol=1e-3, equal_nan=True)
    assert np.array_equal(out.pdq, pdq)


def test_by_hand(through, monkeypatch):
    """Flat coefficients tell each row from itself alone: half of the left and a quarter of the right."""
    n = 16
    monkeypatch.setattr(refpix_border, "DETECTOR", n)
    flat = np.ones((4, 9), "c8")
    reference = {"nrcalong": {"gamma": flat / 2, "zeta": flat / 4}}
    rows = np.array([3.0, -1, 2, 4, -2, 0, 1, 5, -5, -1, 0, -2, -4, -2, 1, 1])
    data = np.zeros((1, 1, n, n))
    data[0, 0, :, :4] = rows[:, None]
    data[0, 0, :, -4:] = 1, -1, 1, -1  # tell nothing, but spread
    facts = dict(noutputs=4, xstart=1, ystart=1, subarray="FULL", fastaxis=1, slowaxis=2)
    params = {**SIRS, "gaussmooth": 1e-3, "odd_even_columns": False}
    out = through([(STEP, params)], data, {"sirskernel": reference}, **facts)
    means = out.data[0, 0]
    # top and bottom rows take 2, their mean, from the first amplifier; the rest has nothing to lose
    levels = (rows[:4].mean() + rows[-4:].mean()) / 2
    assert np.allclose(means[:, 8], -(rows - levels) / 2)
    assert np.allclose(means[:, 1], (rows - levels) / 2)
    # a pixel far off does not count, and the others stand for it
    data[0, 0, 7, 2] = 1e4
    out = through([(STEP, params)], data, {"sirskernel": reference}, **facts)
    assert np.allclose(out.data[0, 0, :, 8], means[:, 8])


def test_where_it_does_not_apply(through, monkeypatch):
    """Running medians where the reference knows nothing of the detector, or not all of it was read."""
    n = 16
    data, reference = noise(np.random.default_rng(1), (1, 2, n, n)), coefficients(1, detector="nrca1")
    facts = dict(noutputs=4, xstart=1, ystart=1)
    monkeypatch.setattr(refpix_border, "DETECTOR", n)

    def run(params, reference=None, **more):
        refs = {"sirskernel": reference} if reference else {}
        return through([(STEP, params)], data, refs, **{**facts, **more}).data

    medians = run({})
    own = coefficients(1)
    assert np.array_equal(run(SIRS, subarray="FULL"), medians)
    assert np.array_equal(run(SIRS, reference, subarray="FULL"), medians)
    assert np.array_equal(run(SIRS, own, subarray="SUB16"), medians)
    assert not np.array_equal(run(SIRS, own, subarray="FULLP"), medians)
    assert np.array_equal(run({}, own, subarray="FULL"), medians)


def meta(**facts):
    usual = dict(
        instrument="NIRCAM", detector="NRCALONG", exp_type="NRC_IMAGE", subarray="FULL", xstart=1, ystart=1
    )
    usual |= dict(nx=2048, ny=2048, fastaxis=-1, slowaxis=2, nints=1, nints_total=1, ngroups=2, noutputs=4)
    return ExposureMeta(**(usual | facts))


def test_a_reference_of_another_form(reference):
    def prepare(tree, params):
        return refpix_sirs.prepare(reference("sirskernel", tree), meta(), params)

    params = Params(refpix_algorithm="sirs", halfwidth=3)
    wrong = coefficients(1)
    wrong["nrcalong"]["zeta"] = np.zeros((4, 5), "c8")
    with pytest.raises(Misconfigured, match="zeta"):
        prepare(wrong, params)
    with pytest.raises(Misconfigured, match="halfwidth"):
        prepare(coefficients(1), Params(refpix_algorithm="sirs", halfwidth=16))
    found = prepare(coefficients(1), params)
    assert found["taps"].shape == (2, 4, 7)


def test_kernels_against_fourier_sums():
    own = coefficients(2)["nrcalong"]["gamma"]
    for smooth, half in ((1.0, 4), (3.0, 7), (0.1, 0)):
        taps = refpix_sirs.low_pass(own, smooth, half)
        assert np.allclose(taps, [naive_taps(row, smooth, half) for row in own], atol=1e-6)


def test_a_reference_pixel_that_is_not_a_number():
    sides = np.zeros((2, 2, 8, 4))
    sides[0, 1, 3, 2] = np.nan
    out = np.empty((2, 4, 8))
    refpix_sirs.templates(sides, np.ones((2, 4, 3)), 4.0, out)
    assert np.isnan(out[0]).all()
