"""refpix and saturation of NIRSpec IRS2: order of reading, gaps, weights, replacement, rows of light."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import maximum_filter

from upramp.stages.core.errors import NotApplicable
from upramp.stages.stage1 import irs2, refpix_irs2_outliers, saturation
from upramp.stages.stage1.refpix import STEP, Params
from upramp.stages.stage1.refpix_irs2 import low_pass

NX = 16
N = 712 * NX
DNU, SATURATED, BAD_REF_PIXEL = 1, 2, 1 << 17
FACTS = {"instrument": "NIRSPEC", "exp_type": "NRS_MSASPEC", "subarray": "FULL", "xstart": 1, "ystart": 1}
NRS1 = {**FACTS, "detector": "NRS1", "fastaxis": 2, "slowaxis": 1}
NRS2 = {**FACTS, "detector": "NRS2", "fastaxis": -2, "slowaxis": -1}
PIXEL: list[int] = []
PLACE: list[int] = []
for _k in range(32):
    PIXEL += [*range(22 * _k, 22 * _k + 8), *range(22 * _k + 14, 22 * _k + 22)]
    PLACE += [
        *range(22 * _k, 22 * _k + 8),
        *range(22 * _k + 9, 22 * _k + 13),
        *range(22 * _k + 14, 22 * _k + 22),
    ]
LIGHT = np.zeros(3200, bool)
for _k in range(32, 160):
    LIGHT[[*range(20 * _k, 20 * _k + 8), *range(20 * _k + 12, 20 * _k + 20)]] = True


def weights(seed):
    rng = np.random.default_rng(seed)
    return {
        f"{kind}_{k}": (rng.normal(0.3, 0.1, N) + 1j * rng.normal(0, 0.1, N)).astype("c8")
        for kind in ("alpha", "beta")
        for k in range(4)
    }


def reference(made, bad=()):
    table = np.zeros(2 * N, [(name, "f4") for name in made])
    for name, values in made.items():
        table[name] = values.view("f4")
    rows = [
        (o, p, sum(1 << b for oo, pp, b in bad if (oo, pp) == (o, p))) for o in (1, 2, 3, 4) for p in (1, 2)
    ]
    return {"IRS2": table, "DQ": np.array(rows, [("OUTPUT", "u2"), ("ODD_EVEN", "u2"), ("MASK", "u4")])}


def naive(data, made):
    """Pixels (ngroups, 2048, NX) of frames (ngroups, 3200, NX) of NRS1, all in complex transforms."""
    mean = data.astype(float).mean(axis=0)
    rest = (data - mean).astype(np.float32)
    t = (np.arange(N) - (N - 1) / 2).reshape(NX, 712)
    out = np.empty((len(data), 2048, NX))
    keep = np.tile(np.isin(np.arange(712), PIXEL), NX)
    full = low_pass(N)
    both = np.concatenate([full, full[-2:0:-1]])
    taper = np.cos(np.pi * np.arange(-15, 16) / 32)
    for g, frame in enumerate(rest):
        streams = []
        for k in range(5):
            own = frame[640 * k : 640 * k + 640][:: -1 if k % 2 == 0 else 1]
            s = np.zeros((NX, 712))
            s[:, PLACE] = own.T
            there = s != 0
            edge = np.isin(np.arange(NX), [0, 1, 2, 3, NX - 4, NX - 3, NX - 2, NX - 1])[:, None] & there
            line = np.polyval(np.polyfit(t[edge], s[edge], 1), t) if edge.any() else 0 * t
            streams.append((np.where(there, s - line, 0), np.where(there, line, 0)))
        o = streams[0][0].ravel()
        have = (o != 0).astype(float)
        near = np.convolve(have, taper, "same")
        o = np.where(have > 0, o, np.convolve(o, taper, "same") / np.where(near > 0, near, 1))
        x = o
        for _ in range(3):
            x = np.where(keep, o, np.fft.ifft(np.fft.fft(x) * both).real)
        for k in range(1, 5):
            s, line = streams[k]
            r = np.zeros((NX, 712))
            for j in range(0, 704, 22):
                r[:, j + 7 : j + 15] = s[:, j + np.array([9, 11, 9, 11, 10, 12, 10, 12])]
            spectrum = np.fft.fft(r.ravel()) * made[f"beta_{k - 1}"] + np.fft.fft(x) * made[f"alpha_{k - 1}"]
            lost = (np.fft.ifft(spectrum).real.reshape(NX, 712) + line)[:, PIXEL].T
            rows = np.flatnonzero(LIGHT[640 * k : 640 * k + 640]) + 640 * k
            out[g, 512 * (k - 1) : 512 * k] = data[g][rows] - lost[:: -1 if k % 2 == 0 else 1]
    return out


def scene(seed, nints, ngroups):
    rng = np.random.default_rng(seed)
    shape = (nints, ngroups, 3200, NX)
    drift = np.cumsum(rng.normal(0, 3, (nints, ngroups, 1, NX)), axis=-1)
    return (1000 + rng.normal(0, 5, shape) + drift).astype(np.float32)


QUIET = {"ovr_corr_mitigation_ftr": 1e9}


def test_order_of_reading():
    times = irs2.sample_times()
    assert times[1].tolist() == PLACE
    assert times[2].tolist() == PLACE[::-1]
    assert np.array_equal(irs2.light_columns(), LIGHT)
    assert irs2.parities()[:20].tolist() == [0, 1] * 4 + [0, 0, 1, 1] + [0, 1] * 4


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("facts", [NRS1, NRS2])
def test_against_complex_transforms(through, facts, threads):
    data, made = scene(1, 2, 3), weights(2)
    rng = np.random.default_rng(3)
    gdq = rng.integers(0, 2, data.shape).astype(np.uint8) * SATURATED
    pdq = rng.integers(0, 2, data.shape[2:]).astype(np.uint32) * 16
    flip = (slice(None), slice(None, None, -1), slice(None, None, -1)) if facts is NRS2 else (slice(None),)
    out = through(
        [(STEP, QUIET)],
        data,
        {"refpix": reference(made)},
        gdq=gdq,
        pdq=pdq,
        options={"threads": threads, "budget_bytes": 500_000},
        **facts,
    )
    light = LIGHT[::-1] if facts is NRS2 else LIGHT
    for i in range(2):
        expected = naive(data[i][flip], made)[flip]
        assert np.allclose(out.data[i], expected, atol=3e-3)
        assert abs(expected - data[i][:, light]).max() > 5
    assert np.array_equal(out.gdq, gdq[:, :, light])
    assert np.array_equal(out.pdq, pdq[light])


def test_a_single_group_has_nothing_to_compare_with(through):
    data = scene(4, 1, 1)
    out = through([(STEP, QUIET)], data, {"refpix": reference(weights(1))}, **NRS1)
    assert np.array_equal(out.data, data[:, :, LIGHT])


def test_means_by_output_and_parity(through):
    data = np.full((1, 1, 3200, NX), 100, np.float32)
    odd, output = irs2.parities(), np.arange(3200) // 640
    data += (10 * output + odd)[:, None].astype(np.float32)
    params = {**QUIET, "irs2_mean_subtraction": True}
    out = through([(STEP, params)], data, {"refpix": reference(weights(1))}, **NRS1)
    assert (out.data == 0).all()
    alike = {**params, "odd_even_columns": False}
    out = through([(STEP, alike)], data, {"refpix": reference(weights(1))}, **NRS1)
    assert np.allclose(abs(out.data), 0.5)


def test_replaced_pixels_leave_no_trace(through):
    """A bad reference column that is flagged, tabled or found gives what its neighbours' average gives."""
    made = weights(5)
    base = scene(6, 1, 3)
    good = base.copy()
    row = 1280 + 20 * 9 + 10  # second pair of the second amplifier, first in the table
    for r in (row, row + 1):
        good[0, :, r] = (base[0, :, r - 20] + base[0, :, r + 20]) / np.float32(2)
    expected = through([(STEP, QUIET)], good, {"refpix": reference(made)}, **NRS1).data
    bad = base.copy()
    bad[0, 1:, row : row + 2] += 3000
    flags = np.zeros((3200, NX), np.uint32)
    flags[row, 3] = flags[row + 1, 5] = BAD_REF_PIXEL
    ways = [
        (QUIET, reference(made), flags),
        (QUIET, reference(made, [(2, 1, 9)]), 0),
        ({"ovr_corr_mitigation_ftr": 6.0}, reference(made), 0),
    ]
    for params, ref, pdq in ways:
        out = through([(STEP, params)], bad, {"refpix": ref}, pdq=pdq, **NRS1)
        assert np.allclose(out.data, expected, atol=1e-3)


def test_a_replaced_pixel_at_its_mean_is_just_that(through):
    """Whole numbers: no line is subtracted where one equals its mean, nor where an average of two does."""
    made, base = weights(5), np.round(scene(6, 1, 5))
    base[:, :, 1280:1920] = np.random.default_rng(7).integers(-9, 10, (1, 5, 640, NX))
    base[..., :4] += 1000 * np.arange(5, dtype=np.float32)[:, None, None]  # makes the lines steep
    good, blocks = base.copy(), range(3, 30, 3)
    for block in blocks:
        row = 1280 + 20 * block + 10
        for r in (row, row + 1):
            good[0, :, r] = (base[0, :, r - 20] + base[0, :, r + 20]) / np.float32(2)
    expected = through([(STEP, QUIET)], good, {"refpix": reference(made)}, **NRS1).data
    table = reference(made, [(2, 1, block) for block in blocks])
    out = through([(STEP, QUIET)], base, {"refpix": table}, **NRS1).data
    assert np.allclose(out, expected, atol=0.1)


def test_sources_of_replacements():
    bad = np.zeros(3200, bool)
    bad[[648, 708, 728, 748, 1508, 1528, 1530, 1548, 632 - 4, 650 + 640]] = True
    found = refpix_irs2_outliers.sources(bad)
    assert found == {
        628: (608,),
        648: (668,),
        708: (688,),
        728: (730,),
        748: (768,),
        1290: (1310,),
        1508: (1488,),
        1528: (),
        1530: (1510, 1550),
        1548: (1568,),
    }
    frame = np.arange(3200, dtype=np.float32)[:, None].repeat(2, axis=1)
    refpix_irs2_outliers.replace(frame, found)
    assert frame[[648, 728, 1528, 1530], 0].tolist() == [668, 730, 0, 1530]


def test_outliers_of_means_spreads_and_differences():
    data = scene(7, 1, 4)[0].transpose(1, 0, 2).copy()
    data[1288:1290] += 200
    data[2008, :, :8] += 90
    data[650:652, 2] -= 90
    total, pairs = np.empty((3200, NX)), np.empty((160, 2, 3))
    refpix_irs2_outliers.look(data, total, pairs)
    assert np.allclose(total, data.sum(axis=1, dtype=float))
    one, two = data[1288].astype(float), data[1289].astype(float)
    both = np.concatenate([one, two])
    assert np.allclose(pairs[64, 0], [both.mean(), both.std(), abs(one - two).mean()])
    found = np.flatnonzero(refpix_irs2_outliers.outliers(pairs, 6.0))
    assert found.tolist() == [650, 651, 1288, 1289, 2008, 2009]
    assert not refpix_irs2_outliers.outliers(pairs, 1e9).any()


def test_a_table_of_another_length_does_not_apply(describe, reference):
    meta = describe(np.zeros((1, 1, 3200, NX + 1)), **NRS1)
    table = np.zeros(2 * N, [("alpha_0", "f4")])
    with pytest.raises(NotApplicable, match="rows"):
        STEP.prepare["refpix"](reference("refpix", {"IRS2": table}), meta, Params())


@pytest.mark.parametrize("facts", [NRS1, NRS2])
@pytest.mark.parametrize("nframes", [1, 5])
@pytest.mark.parametrize("n", [1, 0, 20])
def test_saturation_as_if_there_were_no_rows_between(through, facts, nframes, n):
    rng = np.random.default_rng(8)
    light = LIGHT[::-1] if facts is NRS2 else LIGHT
    rate = 10 ** rng.uniform(1, 4, (3200, NX))
    leap = (rng.random((3200, NX)) < 0.2) * 10 ** rng.uniform(3, 4.5, (3200, NX))
    data = np.array([100 + g * rate + (leap * (0.3, 1)[g > 1] if g else 0) for g in range(5)])[None]
    data[0, :, rng.random((3200, NX)) < 0.01] = -1
    data = np.round(data).astype(np.float32)
    limit = rng.uniform(15000, 45000, (2048, NX)).astype(np.float32)
    bias = rng.uniform(0, 500, (3200, NX)).astype(np.float32)
    refs = {"saturation": {"SCI": limit}, "superbias": {"SCI": bias}}
    options = {"threads": 2, "budget_bytes": 900_000}
    out = through(
        [(saturation.STEP, {"n_pix_grow_sat": n})], data, refs, nframes=nframes, options=options, **facts
    )
    own = np.logical_or.accumulate(data[0][:, light] >= limit, axis=0)
    if nframes > 1:
        one, two, b = data[0, 0, light], data[0, 1, light], bias[light]
        foreseen = (one - b).astype(float) / ((nframes + 1) / 2) * (3 * nframes) + b
        own[1] |= (foreseen < limit) & (two - one > (limit - one) / nframes) & own[2] & ~own[1]
    grown = maximum_filter(own, size=(1, 2 * n + 1, 2 * n + 1), mode="constant")
    low = data[0][:, light] <= 0
    assert np.array_equal(out.gdq[0][:, light], grown * SATURATED | low * (DNU | 64))
    assert (out.gdq[0][:, ~light] == 0).all()
