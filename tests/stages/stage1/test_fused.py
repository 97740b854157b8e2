"""All steps in as few passes as possible give the bits that they give one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config

from upramp.stages.core import runner, windows
from upramp.stages.core.stripes import Stripes
from upramp.stages.pipelines import MID_INFRARED, NEAR_INFRARED
from upramp.stages.stage1 import irs2, picture_frame, refpix_border

EXAMPLES = 10 if config.DISABLE_JIT else 80
PIPELINES = {"near": NEAR_INFRARED, "mid": MID_INFRARED}
REFERENCE_PIXEL = 1 << 31


def references(rng, ny, nx, ngroups):
    """Raw references of every type, each with some bad pixels."""

    def image(mean, width, bad=0.02):
        return np.where(rng.random((ny, nx)) < bad, np.nan, rng.normal(mean, width, (ny, nx)))

    def flags(*some):
        return np.where(rng.random((ny, nx)) < 0.05, rng.choice(some, (ny, nx)), 0).astype(np.uint32)

    mask = flags(1, 1 << 10, 1 << 11)
    for edge in (np.s_[:4], np.s_[-4:], np.s_[:, :4], np.s_[:, -4:]):
        mask[edge] |= np.uint32(REFERENCE_PIXEL)
    kernel = rng.normal(0, 0.01, (3, 5))
    kernel[1, 2] = 1.03
    coeffs = np.array([image(0, 3), image(1, 0.01), rng.normal(0, 1e-6, (ny, nx))])
    inverse = np.array([image(0, 3), image(1, 0.01), rng.normal(0, 1e-6, (ny, nx))])
    dark = np.cumsum(rng.normal(1, 2, (3, ny, nx)), axis=0)
    assert ngroups > 0
    skips = np.array([(name, "FASTR1", 1, 2) for name in ("SUB64P", "FULL")], "U6,U6,i4,i4")
    skips.dtype.names = ("subarray", "readpatt", "group_skip1", "group_skip")
    return {
        "mask": {"DQ": mask},
        "saturation": {"SCI": image(5000, 1500), "DQ": flags(1, 1 << 21)},
        "ipc": {"SCI": kernel},
        "superbias": {"SCI": image(100, 20), "DQ": flags(1 << 22)},
        "reset": {"SCI": rng.normal(5, 3, (2, 4, ny, nx)), "DQ": flags(1 << 24)},
        "rscd": {"RSCD_GROUP_SKIP": skips},
        "linearity": {"COEFFS": coeffs, "INV_COEFFS": inverse, "DQ": flags(1 << 20)},
        "dark": {"SCI": dark, "DQ": flags(1 << 23)},
        "gain": {"SCI": np.where(rng.random((ny, nx)) < 0.02, -1, image(1.8, 0.05))},
        "readnoise": {"SCI": image(8, 1)},
    }


def interference():
    """A reference of two waves."""
    waves = {"Hz390": (390.0, 25), "Hz10": (10.04, 40)}
    case = {"rowclocks": 37, "frameclocks": 5000, "freqs": {"FAST": list(waves)}}
    return {
        "frequencies": {
            name: {"frequency": f, "phase_amplitudes": np.sin(np.arange(n) * 2 * np.pi / n)}
            for name, (f, n) in waves.items()
        },
        "subarray_cases": {"SUB64P": case, "FULL_FAST": case},
    }


def scene(seed, shape):
    """Counts with cosmic rays and saturation, whole numbers as from a converter."""
    rng = np.random.default_rng(seed)
    nints, ngroups, ny, nx = shape
    rate = rng.choice([3, 60, 900], (1, 1, ny, nx), p=[0.6, 0.3, 0.1])
    hits = np.where(rng.random(shape) < 0.03, rng.uniform(100, 3000, shape), 0)
    counts = (
        100 + rng.normal(0, 20, (nints, ngroups, 1, 1)) + np.cumsum(rng.poisson(rate, shape) + hits, axis=1)
    )
    data = np.round(np.clip(counts + rng.normal(0, 6, shape), 0, 65535)).astype(np.float32)
    return data, references(rng, ny, nx, ngroups)


PARAMS = {
    "emicorr": {"skip": False},
    "firstframe": {"skip": False},
    "charge_migration": {"skip": False, "signal_threshold": 1500.0},
    "jump": {"after_jump_flag_dn1": 500.0, "after_jump_flag_time1": 20.0},
    "clean_flicker_noise": {"skip": False, "single_mask": False, "fit_by_channel": True},
    "persistence": {"skip": False, "persistence_time": 35, "dn_threshold": 9000.0},
}
FOR_NIRSPEC = {"picture_frame"}
SNOWBALLS = {"expand_large_events": True, "edge_size": 4, "min_sat_radius_extend": 0.5, "sat_expand": 1}
SHOWERS = {"find_showers": True, "extend_min_area": 3, "extend_snr_threshold": 1.0}


def calibrate(through, data, refs, pipeline, options, without="", large=False, **facts):
    chosen = PARAMS | ({"jump": PARAMS["jump"] | SNOWBALLS | SHOWERS} if large else {})
    steps = [(step, chosen.get(step.name, {})) for step in PIPELINES[pipeline].steps if step.name != without]
    if without == "ramp_fit":
        steps = [(step, params) for step, params in steps if step.name != "gain_scale"]
    facts |= {"exposure_start": 60000.0, "integration_time": data.shape[1] * 10.0 + 11.0}
    if pipeline == "mid":
        refs = {**refs, "dark": {"SCI": np.stack([refs["dark"]["SCI"]] * 2), "DQ": refs["dark"]["DQ"]}}
        refs["emicorr"] = interference()
        facts |= {"instrument": "MIRI", "detector": "MIRIMAGE", "exp_type": "MIR_IMAGE", "readpatt": "FASTR1"}
    return through(steps, data, refs, options=options, **facts)


def same(a, b):
    """To the bit, NaN included."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# where the read-out lies: xstart, ystart by what it touches, for a detector of `width` pixels
CORNERS = st.sampled_from(["none", "low", "high", "left", "right", "all"])


def place(corner, ny, nx):
    """Facts of a read-out, and the width of the detector that it is thought to lie on."""
    if corner == "all":
        return {"xstart": 1, "ystart": 1, "subarray": "FULL"}, max(ny, nx)
    x, y = {"none": (5, 9), "low": (5, 1), "high": (5, 0), "left": (1, 9), "right": (0, 9)}[corner]
    width = 300
    return {"xstart": x or width - nx + 1, "ystart": y or width - ny + 1}, width


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    seed=st.integers(0, 1 << 31),
    frames=st.sampled_from([(1, 3), (2, 4), (1, 14), (3, 1), (2, 2)]),
    size=st.sampled_from([(72, 12), (12, 80), (16, 16), (8, 8), (24, 140)]),
    cuts=st.sets(st.integers(1, 13), max_size=5),
    threads=st.integers(1, 3),
    budget=st.sampled_from([1, 60_000, 400_000, 128 << 20]),
    strip=st.sampled_from([7, 64]),
    looked_at=st.sampled_from([1, 32 << 20]),
    outputs=st.sampled_from([1, 4]),
    fastaxis=st.sampled_from([-1, 2]),
    nframes=st.sampled_from([1, 2]),
    corner=CORNERS,
    pipeline=st.sampled_from(sorted(PIPELINES)),
    large=st.booleans(),
)
def test_fused_is_step_by_step(
    through, seed, frames, size, cuts, threads, budget, strip, looked_at, outputs, fastaxis, nframes, corner,
    pipeline, large,
):  # fmt: skip
    data, refs = scene(seed, frames + size)
    facts, width = place(corner, *size)
    facts |= {"noutputs": outputs, "fastaxis": fastaxis, "slowaxis": 1 if fastaxis == 2 else 2}
    facts |= {"nframes": nframes, "frame_divisor": 4, "gain_factor": 1.5, "large": large}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refpix_border, "DETECTOR", width)
        patch.setattr(windows, "STRIP_ROWS", max(data.shape))
        every = {"threads": 1, "cuts": range(1, 20), "budget_bytes": 1 << 30}
        single = calibrate(through, data, refs, pipeline, every, **facts)
        patch.setattr(windows, "STRIP_ROWS", strip)
        patch.setattr(windows, "BATCH_BYTES", 1)
        patch.setattr(runner, "SURVEY_BYTES", looked_at)
        options = {"threads": threads, "cuts": cuts, "budget_bytes": budget}
        fused = calibrate(through, data, refs, pipeline, options, **facts)
    for name in ("data", "gdq", "pdq"):
        assert same(getattr(fused, name), getattr(single, name)), name
    assert set(fused.products) == set(single.products)
    for name, a in single.products.items():
        assert same(fused.products[name], a), name
    np.testing.assert_equal(fused.shared, single.shared)
    assert fused.report.counters == single.report.counters


@pytest.mark.parametrize("pipeline", sorted(PIPELINES))
def test_every_step_has_something_to_do(through, pipeline):
    data, refs = scene(3, (2, 6, 40, 24))
    facts, width = place("all", 40, 24)
    facts |= {"noutputs": 4, "nframes": 2, "frame_divisor": 4, "gain_factor": 1.5}
    names = [step.name for step in PIPELINES[pipeline].steps if step.name not in FOR_NIRSPEC]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refpix_border, "DETECTOR", width)
        results = {
            name: calibrate(through, data, refs, pipeline, {}, without=name, **facts) for name in ["", *names]
        }
    complete = results[""]
    for name in names:
        other = results[name]
        differ = [not same(getattr(complete, a), getattr(other, a)) for a in ("data", "gdq", "pdq")] + [
            not same(complete.products[k], other.products.get(k, data)) for k in complete.products
        ]
        assert any(differ), name


def test_fused_with_interleaved_reference_pixels(through, monkeypatch):
    """NIRSpec IRS2: 3200 rows before refpix, 2048 after it, and whole frames between."""
    n = 2 * irs2.ROW * 16
    data = scene(4, (2, 4, 3200, 16))[0]
    rng = np.random.default_rng(5)
    raw, refs = references(rng, 3200, 16, 4), references(rng, 2048, 16, 4)
    table = np.zeros(n, [(f"{kind}_{k}", "f4") for kind in ("alpha", "beta") for k in range(4)])
    for name in table.dtype.names:
        table[name] = rng.normal(0.3, 0.1, n)
    refs |= {"mask": raw["mask"], "superbias": raw["superbias"], "refpix": {"IRS2": table}}
    refs |= {"pictureframe": {"SCI": rng.normal(1, 0.2, (2048, 16))}}
    monkeypatch.setattr(picture_frame, "EDGES", ((1, 5), (11, 15)))
    monkeypatch.setattr(picture_frame, "INSIDE", (5, 11))
    facts = {"instrument": "NIRSPEC", "detector": "NRS2", "fastaxis": -2, "slowaxis": -1, "subarray": "FULL"}
    facts |= {"xstart": 1, "ystart": 1, "nframes": 5, "frame_divisor": 4, "gain_factor": 1.5}
    every = {"threads": 1, "cuts": range(1, 20), "budget_bytes": 1 << 30}
    single = calibrate(through, data, refs, "near", every, **facts)
    fused = calibrate(through, data, refs, "near", {"threads": 2, "budget_bytes": 300_000}, **facts)
    for name, a in single.products.items():
        assert same(fused.products[name], a), name
    assert same(fused.data, single.data)
    assert same(fused.gdq, single.gdq)
    assert single.products["rate.sci"].shape == (2048, 16)
    assert fused.report.passes < single.report.passes
    assert fused.report.counters["picture_frame.groups"] == 2 * 3


@pytest.mark.parametrize("fastaxis", [1, -2])
def test_fused_with_superstripes(through, fastaxis):
    """Regions side by side before refpix, a picture of the detector after it."""
    stripes = Stripes(4, 0, 8, 0, 1, 1, 8, 3)
    apart, whole = ((36, 30), (24, 30)) if fastaxis == 1 else ((30, 36), (30, 24))
    data = scene(6, (2, 4, *apart))[0]
    rng = np.random.default_rng(7)
    early, refs = references(rng, *apart, 4), references(rng, *whole, 4)
    mask = np.where(np.arange(36) % 12 < 4, REFERENCE_PIXEL, 0).astype(np.uint32)
    early["mask"] = {"DQ": np.broadcast_to(mask[:, None] if fastaxis == 1 else mask, apart)}
    refs |= {key: early[key] for key in ("mask", "superbias", "saturation")}
    facts = {"stripes": stripes, "fastaxis": fastaxis, "slowaxis": 2 if fastaxis == 1 else -1}
    facts |= {"xstart": 1, "ystart": 1, "nframes": 2, "frame_divisor": 4, "gain_factor": 1.5}
    every = {"threads": 1, "cuts": range(1, 20), "budget_bytes": 1 << 30}
    single = calibrate(through, data, refs, "near", every, without="ipc", **facts)
    options = {"threads": 2, "budget_bytes": 60_000}
    fused = calibrate(through, data, refs, "near", options, without="ipc", **facts)
    for name, a in single.products.items():
        assert same(fused.products[name], a), name
    assert same(fused.data, single.data)
    assert same(fused.gdq, single.gdq)
    assert single.products["rate.sci"].shape == whole
    assert fused.report.passes < single.report.passes
