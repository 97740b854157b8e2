"""emicorr against naive formulas with whole arrays, and noise that was put in."""

from __future__ import annotations

import math

import numpy as np
import pytest
from astropy.stats import sigma_clipped_stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config
from scipy.interpolate import CubicSpline

from upramp.stages.core import runner
from upramp.stages.core.errors import Misconfigured, NotApplicable
from upramp.stages.core.extras import MemoryCube
from upramp.stages.stage1 import emicorr, emicorr_joint, emicorr_sequential, emicorr_wave
from upramp.stages.stage1.emicorr_clocks import ROW_CLOCKS, Clocks, frame_clocks, period

FACTS = {
    "instrument": "MIRI",
    "detector": "MIRIMAGE",
    "exp_type": "MIR_IMAGE",
    "subarray": "SUB64",
    "readpatt": "FASTR1",
    "fastaxis": 1,
}
ROW, RESET = 28, 8512
STEPS = np.arange(500) / 500
SHAPE = np.sin(2 * np.pi * STEPS) + 0.4 * np.cos(4 * np.pi * STEPS + 0.3)
SMALL = 16 if config.DISABLE_JIT else 48


def spline(wave):
    wave = np.asarray(wave, np.float64)
    n = len(wave)
    return CubicSpline((np.arange(-1, n + 1) + 0.5) / n, [wave[-1], *wave, wave[0]])


def clocks(shape, samples=1):
    """When every read is taken: (nints, ngroups, ny, nx)."""
    nints, ngroups, ny, nx = shape
    frame = ny * ROW + 7 * (1024 - ny)
    t = ROW * np.arange(ny)[:, None] + samples * (np.arange(nx) // 4)
    starts = np.arange(nints)[:, None] * (ngroups * frame + RESET) + np.arange(ngroups) * frame
    return starts[:, :, None, None] + t


def noisy(shape, waves, seed=0, samples=1, slope=10.0):
    """Ramps with waves (frequency, amplitude, phase, shape) on them, float32."""
    rng = np.random.default_rng(seed)
    _, ngroups, ny, nx = shape
    data = rng.normal(1000, 3, shape) + rng.normal(0, 30, (ny, nx))
    data += np.arange(ngroups)[:, None, None] * (slope + rng.normal(0, 1, (ny, nx)))
    t = clocks(shape, samples)
    for frequency, amplitude, phase, wave in waves:
        data += amplitude * spline(wave)((t * frequency * 1e-5 + phase) % 1)
    return data.astype(np.float32)


def tree(waves, name="SUB64", slow=None):
    """A reference of frequencies (frequency, wave)."""
    names = [f"Hz{k}" for k in range(len(waves))]
    return {
        "frequencies": {
            n: {"frequency": f, "phase_amplitudes": np.asarray(wave, np.float32)}
            for n, (f, wave) in zip(names, waves, strict=True)
        },
        "subarray_cases": {
            name: {
                "rowclocks": ROW,
                "frameclocks": RESET,
                "freqs": {"FAST": names, "SLOW": slow or {"MIRIMAGE": names}},
            }
        },
    }


def joint(data, pdq, waves, separately=False, samples=1):
    """The joint fit, from its formulas."""
    data = data.copy()
    nints, ngroups, ny, _ = data.shape
    t = np.arange(ngroups)
    line = np.stack([np.ones(ngroups), t - t.mean()], axis=1)
    project = np.eye(ngroups) - line @ np.linalg.inv(line.T @ line) @ line.T
    first = clocks(data.shape, samples)[0, 0]
    for frequency, wave in waves:
        turn, curve, n = 1 / frequency / 1e-5, spline(np.float32(wave)), len(wave)
        pixel = first / turn % 1
        spread = data.std(axis=1)
        chosen = (spread < 2 * np.median(spread)) & (pdq == 0)
        chosen[..., 4:12] = False
        sums, counts = np.zeros((nints, n, ngroups)), np.zeros((nints, n))
        where = (pixel * n).astype(int)
        for i in range(nints):
            np.add.at(counts[i], where[chosen[i]], 1)
            np.add.at(sums[i], where[chosen[i]], data[i][:, chosen[i]].T.astype(np.float64))
        step = (ny * ROW + 7 * (1024 - ny)) / turn % 1
        integration = ngroups * step + RESET / turn
        middles = (np.arange(n)[:, None] + 0.5) / n + step * t
        model = np.array([curve((middles + k / 500) % 1) for k in range(500)])
        bent = model @ project
        square = (bent * model).sum(axis=-1)

        def at(phase, i, integration=integration):
            return ((np.arange(500) / 500 - phase - i * integration) % 1).argmin()

        def both(ints, phase, sums=sums, counts=counts, bent=bent, square=square, at=at):
            along = sum((sums[i] * bent[at(phase, i)]).sum() for i in ints)
            return along, sum((counts[i] * square[at(phase, i)]).sum() for i in ints)

        for ints in [[i] for i in range(nints)] if separately else [range(nints)]:
            found = np.array([both(ints, k / 500) for k in range(500)])
            if not (found[:, 1] > 1e-8).all():
                continue
            chi = -(found[:, 0] ** 2) / found[:, 1]
            k = int(chi.argmin())
            a, b, c = chi[k - 1], chi[k], chi[(k + 1) % 500]
            phase = (k + 0.5 * (a - c) / (a - 2 * b + c)) / 500
            along, squares = both(ints, phase)
            for i in ints:
                phases = pixel + phase + i * integration + step * t[:, None, None]
                data[i] = data[i] - along / squares * curve(phases % 1)
    return data


def rebin(values, size):
    places = np.floor(np.arange(math.ceil(size)) * (len(values) / size)).astype(int)
    return values[places]


def sequential(data, waves, nints=None, nbins=None, scale=True, cycles=3, samples=1):
    """The sequential fit, from its formulas."""
    data = data.copy()
    total, ngroups, ny, nx = data.shape
    t = clocks(data.shape, samples)
    some = nints
    for frequency, wave in waves:
        turn = 1 / frequency / 1e-5
        phases = t / turn - np.floor(t / turn)
        if some is None:
            some = total if cycles is None else math.ceil(cycles / (RESET * ngroups / turn))
        bins = nbins or int(turn / 2)
        bins = 500 if bins > 501 else bins
        left = []
        for ramps in data[:some]:
            inner = ramps[1:-1].astype(np.float64)
            slopes = np.full((ny, nx), np.nan)
            if len(inner) > 1:
                slopes = np.polyfit(np.arange(len(inner)), inner.reshape(len(inner), -1), 1)[0]
            flat = (ramps - slopes.reshape(ny, nx) * np.arange(ngroups)[:, None, None]).astype(np.float32)
            level = flat[1:-1].min(axis=0) if ngroups < 5 else np.median(flat[1:-1], axis=0)
            fours = (flat - level).reshape(ngroups, ny, nx // 4, 4).mean(axis=-1)
            fours[:, :, 1] = fours[:, :, 2] = (fours[:, :, 0] + fours[:, :, 3]) / 2
            left.append(fours - np.median(fours, axis=(1, 2), keepdims=True))
        values, where = np.array(left), phases[:some, ..., ::4]
        seen = np.full(bins, np.nan)
        for b in range(bins):
            own = values[(where > b / bins) & (where <= (b + 1) / bins)]
            if own.size and np.isfinite(own).all():
                seen[b] = sigma_clipped_stats(own)[0]
        seen -= np.median(seen)
        noise = rebin(seen, turn)
        if wave is not None:
            wave = np.float32(wave).astype(np.float64)
            shift = 0
            if np.isfinite(seen).all():
                other = rebin(seen, len(wave))
                shift = np.argmax([np.corrcoef(np.roll(wave, k), other)[0, 1] for k in range(len(wave))])
            known = rebin(np.roll(wave, shift), turn)
            factor = 1.0
            if scale:
                factor = np.polyfit(known, noise, 1)[0] if np.isfinite(noise).all() else np.nan
            noise = factor * known
        data -= np.nan_to_num(noise)[(phases * turn).astype(int)].astype(np.float64)
    return data


def run(through, data, waves, pdq=0, options=None, raw=None, facts=(), **params):
    """Through the step and the runner."""
    given = {} if waves is None else {"emicorr": raw or tree(waves)}
    steps = [(emicorr.STEP, {"skip": False, **params})]
    return through(steps, data, given, pdq=pdq, options=options, **{**FACTS, **dict(facts)}).data


def close(found, expected, data):
    """Within float32 of one another, and away from what went in."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)
    assert np.abs(found - data).std() > 0.1


@pytest.mark.parametrize(
    ("shape", "waves", "params", "samples"),
    [
        ((2, 6, SMALL, 72), [(381.7, SHAPE)], {}, 1),
        ((3, 5, SMALL, 72), [(381.7, SHAPE)], {"fit_ints_separately": True}, 1),
        ((2, 5, SMALL, 72), [(381.7, SHAPE), (10.039216, SHAPE[::2])], {}, 1),
        ((1, 3, SMALL, 40), [(218.52, SHAPE)], {}, 9),
        ((2, 4, SMALL, 40), [(218.52, np.interp(np.arange(40) / 40, STEPS, SHAPE))], {}, 1),
        ((2, 4, SMALL, 40), [(390.625, SHAPE[::5])], {}, 1),
    ],
)
def test_joint_is_the_formula(through, shape, waves, params, samples):
    put = [(f, a, 0.37, w) for (f, w), a in zip(waves, (8, 5), strict=False)]
    data = noisy(shape, put, samples=samples)
    pdq = (np.random.default_rng(1).random(shape[2:]) < 0.05).astype(np.uint32) << 12
    found = run(through, data, waves, pdq, facts={"nsamples": samples}, **params)
    separately = params.get("fit_ints_separately", False)
    close(found, joint(data, pdq, waves, separately, samples), data)


@pytest.mark.parametrize(
    ("shape", "params", "naive"),
    [
        ((2, 12, SMALL, 72), {}, {}),
        ((3, 10, SMALL, 40), {"use_n_cycles": None}, {"cycles": None}),
        ((3, 10, SMALL, 40), {"nints_to_phase": 2}, {"nints": 2}),
        ((3, 8, SMALL, 40), {"use_n_cycles": 700}, {"cycles": 700}),
        ((1, 12, SMALL, 40), {"nbins": 40}, {"nbins": 40}),
        ((1, 12, SMALL, 40), {"scale_reference": False}, {"scale": False}),
        ((1, 5, SMALL, 72), {"nbins": 64}, {"nbins": 64}),
        ((1, 4, SMALL, 72), {"nbins": 64}, {"nbins": 64}),
    ],
)
def test_sequential_is_the_formula(through, shape, params, naive):
    waves = [(381.7, SHAPE)]
    data = noisy(shape, [(381.7, 8, 0.37, SHAPE)])
    found = run(through, data, waves, algorithm="sequential", **params)
    close(found, sequential(data, waves, **naive), data)


def test_sequential_with_frequencies_of_ones_own(through):
    data = noisy((2, 12, 64, 32), [(381.7, 8, 0.37, SHAPE), (218.52, 5, 0.1, SHAPE)], samples=9)
    given = {"onthefly_corr_freq": (381.7, 218.52), "nbins": 50}
    found = run(through, data, None, facts={"nsamples": 9, "readpatt": "SLOWR1"}, **given)
    close(found, sequential(data, [(381.7, None), (218.52, None)], nbins=50, samples=9), data)


def test_sequential_with_several_waves_of_other_lengths(through):
    """How many integrations are looked at, the first frequency decides for all."""
    waves = [(381.7, SHAPE[::2]), (21.852, SHAPE)]
    data = noisy((3, 12, SMALL, 72), [(381.7, 8, 0.37, SHAPE), (21.852, 5, 0.1, SHAPE)])
    found = run(through, data, waves, algorithm="sequential", nbins=60, use_n_cycles=500)
    close(found, sequential(data, waves, nbins=60, cycles=500), data)


def test_values_are_gathered_in_several_goes(through, monkeypatch):
    data = noisy((1, 12, 16, 40), [(381.7, 8, 0.37, SHAPE)])
    whole = run(through, data, [(381.7, SHAPE)], algorithm="sequential", nbins=20)
    monkeypatch.setattr(emicorr_sequential, "AT_ONCE", 300)
    parts = run(through, data, [(381.7, SHAPE)], algorithm="sequential", nbins=20)
    assert whole.tobytes() == parts.tobytes()


@pytest.mark.parametrize("params", [{"algorithm": "joint"}, {"algorithm": "sequential", "nbins": 30}])
def test_noise_that_was_put_in_is_gone(through, params):
    shape = (2, 12, 64, 72) if not config.DISABLE_JIT else (2, 12, 16, 72)
    clean = noisy(shape, [])
    data = noisy(shape, [(381.7, 20, 0.37, SHAPE)])
    left = run(through, data, [(381.7, SHAPE)], **params) - clean
    assert left.std() < 0.15 * (data - clean).std()


def test_nothing_is_taken_where_a_frame_holds_whole_turns(through):
    frame = frame_clocks(ROW, 32)
    waves = [(1e5 / (frame / 20), SHAPE)]
    data = noisy((2, 4, 32, 40), [])
    assert run(through, data, waves).tobytes() == data.tobytes()


@pytest.mark.parametrize(("shape", "nbins"), [((1, 3, 16, 40), 20), ((1, 12, 16, 40), 500)])
def test_nothing_is_taken_where_steps_stay_empty(through, shape, nbins):
    """Three groups have no slope; few pixels do not fall into all steps."""
    data = noisy(shape, [(10.039216, 8, 0, SHAPE)])
    found = run(through, data, [(10.039216, SHAPE)], algorithm="sequential", nbins=nbins)
    assert found.tobytes() == data.tobytes()
    raw = run(through, data, [(10.039216, SHAPE)], algorithm="sequential", nbins=nbins, scale_reference=False)
    np.testing.assert_allclose(
        raw, sequential(data, [(10.039216, SHAPE)], nbins=nbins, scale=False), rtol=0, atol=2e-4
    )


@settings(max_examples=5 if config.DISABLE_JIT else 40, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    shape=st.sampled_from([(1, 3, 9, 16), (5, 4, 12, 40), (2, 12, 20, 24)]),
    threads=st.integers(1, 3),
    budget=st.sampled_from([1, 30_000, 1 << 28]),
    looked_at=st.sampled_from([1, 20_000, 1 << 24]),
    params=st.sampled_from(
        [
            {},
            {"fit_ints_separately": True},
            {"algorithm": "sequential", "nbins": 7, "use_n_cycles": None},
            {"algorithm": "sequential", "nbins": 7, "nints_to_phase": 2},
        ]
    ),
)
def test_the_same_bits_however_rows_come(through, seed, shape, threads, budget, looked_at, params):
    waves = [(381.7, SHAPE[::10]), (218.52, SHAPE[::20])]
    data = np.round(noisy(shape, [(381.7, 8, 0.37, SHAPE)], seed))
    whole = run(through, data, waves, options={"threads": 1, "budget_bytes": 1 << 30}, **params)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "SURVEY_BYTES", looked_at)
        options = {"threads": threads, "budget_bytes": budget}
        parts = run(through, data, waves, options=options, **params)
    assert whole.tobytes() == parts.tobytes()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 30), n=st.integers(1, 9), ties=st.booleans())
def test_median_of_a_cube_is_exact(seed, n, ties):
    rng = np.random.default_rng(seed)
    values = rng.lognormal(0, 2, (n, 3, 5)).astype(np.float32)
    values = np.round(values) if ties else values
    cube = MemoryCube(values.shape)
    for i in range(n):
        cube.write(i, values[i])
    assert emicorr_joint.median_of(cube) == np.median(values)


@pytest.mark.parametrize("n", [3, 4, 5, 250])
def test_spline_is_that_of_scipy(n):
    rng = np.random.default_rng(n)
    wave, phases = rng.normal(size=n), rng.random(200)
    found = emicorr_wave.values(emicorr_wave.spline_of(wave), phases + rng.integers(-3, 4, 200))
    np.testing.assert_allclose(found, spline(wave)(phases), atol=1e-12)


def test_scatter_is_numpys_in_single_precision():
    data = np.random.default_rng(0).normal(1000, 3, (4, 2, 7, 30)).astype(np.float32)
    found = np.empty((4, 2, 30), np.float32)
    emicorr_joint.scatter(data, found)
    assert (found == data.std(axis=2)).mean() > 0.99
    np.testing.assert_allclose(found, data.std(axis=2), rtol=1e-6)


def test_clipped_means_are_astropys():
    rng = np.random.default_rng(3)
    for n in (1, 2, 5, 30, 400):
        values = rng.standard_t(1.5, n).astype(np.float32)
        expected = sigma_clipped_stats(values.astype(np.float64))[0]
        assert emicorr_sequential.clipped_mean(values.copy(), 3.0, 5) == pytest.approx(expected, abs=1e-6)
    assert np.isnan(emicorr_sequential.clipped_mean(np.full(3, np.nan, np.float32), 3.0, 5))


def test_lowest_by_hand():
    phases = np.arange(10) / 10
    assert emicorr_joint.lowest((phases - 0.33) ** 2) == pytest.approx(0.33)
    around = np.array([0, 1, 4, 9, 9, 9, 9, 9, 4, 2.0])
    assert emicorr_joint.lowest(around) == pytest.approx(0.5 * (2 - 1) / 3 / 10)
    assert emicorr_joint.lowest(np.full(10, np.nan)) == 0


def test_the_next_phase_above():
    rng = np.random.default_rng(2)
    tried = np.arange(emicorr_wave.PHASES) / emicorr_wave.PHASES
    for shift in (0.0, 0.1, 0.75, 3 * 0.1, 40 * 0.625, 7.7, 1130.118, rng.random()):
        for phases in (tried, rng.random(200)):
            found = np.empty(len(phases), np.int64)
            emicorr_wave.next_above(phases, shift, found)
            gaps = (tried[:, None] - phases - shift) % 1
            np.testing.assert_array_equal(found, gaps.argmin(axis=0))


def test_resampling_by_hand():
    np.testing.assert_array_equal(emicorr_sequential.resampled(np.arange(10.0), 3), [0, 3, 6])
    np.testing.assert_array_equal(emicorr_sequential.resampled(np.arange(3.0), 7), [0, 0, 0, 1, 1, 2, 2])
    assert len(emicorr_sequential.resampled(np.arange(4.0), 457.6)) == 458


def test_clocks_by_hand():
    own = Clocks(28, 15904, 1, 416, 10)
    assert own.frame == 15904 == frame_clocks(28, 416)
    assert own.integration == 11 * 15904
    np.testing.assert_array_equal(own.pixels(2, 8), [[0, 1], [28, 29]])
    assert frame_clocks(ROW_CLOCKS["FULL_FAST"], 1024) == 277504
    assert period(390.625) == 256


@pytest.mark.parametrize(
    ("changes", "params", "reason"),
    [
        ({"ngroups": 2}, {}, "2 groups"),
        ({"readpatt": "FASTGRPAVG"}, {}, "read pattern FASTGRPAVG"),
        ({"nx": 74}, {}, "74 columns"),
        ({"subarray": "SUB1"}, {"onthefly_corr_freq": (390.0,)}, "clocks of subarray SUB1"),
        ({"subarray": "FULL"}, {"onthefly_corr_freq": (390.0,)}, None),
        ({}, {}, None),
    ],
)
def test_when_it_is_skipped(describe, changes, params, reason):
    meta = describe(np.zeros((1, 5, 8, 16)), **{**FACTS, **changes})
    found = emicorr.skip_if(meta, emicorr.Params(**params))
    assert found is None if reason is None else reason in found


@pytest.mark.parametrize(
    "changes",
    [{"subarray": "SUB128"}, {"readpatt": "SLOWR1", "detector": "MIRIFULONG"}, {"subarray": "FULL"}],
)
def test_no_frequencies_for_an_exposure(describe, reference, changes):
    meta = describe(np.zeros((1, 5, 8, 16)), **{**FACTS, **changes})
    raw = reference("emicorr", tree([(390.0, SHAPE)]))
    with pytest.raises(NotApplicable, match="no frequencies for"):
        emicorr.prepare(raw, meta, emicorr.Params())


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {**tree([(390.0, SHAPE)]), "frequencies": {}},
        tree([(390.0, [1.0, 2.0])]),
        tree([(60000.0, SHAPE)]),
        {"frequencies": {}, "subarray_cases": {"SUB64": {"freqs": {"FAST": ["Hz0"]}}}},
    ],
)
def test_references_of_another_form(describe, reference, raw):
    meta = describe(np.zeros((1, 5, 8, 16)), **FACTS)
    with pytest.raises(Misconfigured, match=r"emicorr\.fits"):
        emicorr.prepare(reference("emicorr", raw), meta, emicorr.Params())


def test_frequencies_by_read_pattern_and_detector(describe, reference):
    raw = tree([(390.0, SHAPE), (10.0, SHAPE)], slow={"MIRIMAGE": ["Hz1"]})
    raw["subarray_cases"]["FULL_SLOW"] = {**raw["subarray_cases"]["SUB64"], "rowclocks": 2333}
    for changes, frequencies, row in (
        ({}, [390.0, 10.0], ROW),
        ({"readpatt": "SLOWR1"}, [10.0], ROW),
        ({"readpatt": "SLOWR1", "subarray": "FULL"}, [10.0], 2333),
        ({"readpatt": "FAST"}, [390.0, 10.0], ROW),
    ):
        meta = describe(np.zeros((1, 5, 8, 16)), **{**FACTS, **changes})
        found = emicorr.prepare(reference("emicorr", raw), meta, emicorr.Params())
        assert (found.info["frequencies"], found.info["row"]) == (frequencies, row)


@pytest.mark.parametrize(
    "params",
    [
        {"algorithm": "other"},
        {"nbins": 0},
        {"nints_to_phase": 0},
        {"use_n_cycles": -1},
        {"onthefly_corr_freq": (-3.0,)},
        {"onthefly_corr_freq": (60000.0,)},
    ],
)
def test_parameters_that_make_no_sense(params):
    with pytest.raises(ValueError, match=next(iter(params))):
        emicorr.Params(**params)


def test_references_that_are_taken(describe):
    meta = describe(np.zeros((1, 5, 8, 16)), **FACTS)
    assert emicorr.needs(meta, emicorr.Params()) == ["emicorr"]
    assert emicorr.needs(meta, emicorr.Params(user_supplied_reffile="a.asdf")) == ["user_supplied_reffile"]
    assert emicorr.needs(meta, emicorr.Params(onthefly_corr_freq=(390.0,))) == []
    other = describe(np.zeros((1, 5, 8, 16)), **{**FACTS, "readpatt": "FASTGRPAVG"})
    assert emicorr.needs(other, emicorr.Params()) == []


def test_waves_are_saved_as_a_reference(through):
    data = noisy((1, 12, 64, 72), [(381.7, 8, 0.37, SHAPE)])
    params = {"skip": False, "onthefly_corr_freq": (381.7,), "nbins": 30, "save_intermediate_results": True}
    out = through([(emicorr.STEP, params)], data, **FACTS)
    (extra,) = out.shared["extras"].found
    extra.ready()
    assert extra.suffix == "emi_ref_waves"
    assert set(extra.tree["frequencies"]) == {"381.7"}
    assert len(extra.tree["frequencies"]["381.7"]["phase_amplitudes"]) == 30
    assert extra.tree["subarray_cases"]["SUB64"]["freqs"] == {"FASTR1": ["381.7"], "FAST": ["381.7"]}
    again = run(through, data, [], raw=dict(extra.tree), algorithm="sequential", nbins=30)
    np.testing.assert_allclose(again, out.data, atol=0.5)
