"""Runs single steps of the observatory's package on random ramps and keeps inputs and outputs.

Run with the peer's own Python: ``<peer>/bin/python make_peer_truth.py``; it rewrites peer_truth.npz, which
test_peer_truth.py reads, so that the tests need no peer. References are models in memory; no CRDS is asked.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

os.environ.update(STPIPE_DISABLE_CRDS_STEPPARS="true", CRDS_CONTEXT="jwst_0001.pmap")
os.environ.setdefault("CRDS_SERVER_URL", "https://none.invalid")

import numpy as np
from jwst.charge_migration import ChargeMigrationStep
from jwst.dark_current import DarkCurrentStep
from jwst.dq_init import DQInitStep
from jwst.group_scale import GroupScaleStep
from jwst.ipc import IPCStep
from jwst.jump import JumpStep
from jwst.linearity import LinearityStep
from jwst.ramp_fitting import RampFitStep
from jwst.refpix import RefPixStep
from jwst.saturation import SaturationStep
from jwst.superbias import SuperBiasStep
from stdatamodels.jwst import datamodels as dm

STEPS = {
    "group_scale": GroupScaleStep,
    "dq_init": DQInitStep,
    "saturation": SaturationStep,
    "ipc": IPCStep,
    "superbias": SuperBiasStep,
    "linearity": LinearityStep,
    "dark_current": DarkCurrentStep,
    "charge_migration": ChargeMigrationStep,
    "refpix": RefPixStep,
    "jump": JumpStep,
    "ramp_fit": RampFitStep,
}
MODELS = {
    "mask": dm.MaskModel,
    "saturation": dm.SaturationModel,
    "ipc": dm.IPCModel,
    "superbias": dm.SuperBiasModel,
    "linearity": dm.LinearityModel,
    "dark": dm.DarkModel,
    "gain": dm.GainModel,
    "readnoise": dm.ReadnoiseModel,
}
PRODUCTS = {"sci": "data", "err": "err", "dq": "dq", "var_poisson": "var_poisson", "var_rnoise": "var_rnoise"}
ATTRIBUTES = {"SCI": "data", "DQ": "dq", "COEFFS": "coeffs", "INV_COEFFS": "inv_coeffs"}
FLAGS = [1, 2, 1 << 9, 1 << 10, 1 << 20, 1 << 21, 1 << 22, 1 << 31]


def place(model: Any, xstart: int, ystart: int, nx: int, ny: int) -> Any:
    """Say which instrument and pixels a model is of."""
    model.meta.instrument.name, model.meta.instrument.detector = "NIRCAM", "NRCALONG"
    model.meta.subarray = {
        "name": "SUB64P",
        "xstart": xstart,
        "ystart": ystart,
        "xsize": nx,
        "ysize": ny,
        "fastaxis": -1,
        "slowaxis": 2,
    }
    return model


def run(case: dict[str, Any]) -> None:
    """Send a case through the peer's step and add what comes out."""
    facts = dict(case["facts"])
    nints, ngroups, ny, nx = case["data"].shape
    where = (facts.pop("xstart", 101), facts.pop("ystart", 201), nx, ny)
    ramps = place(dm.RampModel(case["data"].shape), *where)
    for name in ("fastaxis", "slowaxis"):
        setattr(ramps.meta.subarray, name, facts.pop(name, getattr(ramps.meta.subarray, name)))
    ramps.data, ramps.groupdq, ramps.pixeldq = (case[k].copy() for k in ("data", "gdq", "pdq"))
    ramps.meta.exposure.type = "NRC_IMAGE"
    ramps.meta.exposure.nints, ramps.meta.exposure.ngroups = nints, ngroups
    for name, value in facts.items():
        setattr(ramps.meta.exposure, name, value)
    overrides: dict[str, Any] = {}
    for reftype, arrays in case["references"].items():
        if case["step"] == "refpix":
            continue  # the peer takes the reference pixels from the pixel flags
        model = MODELS[reftype]()
        for extname, array in arrays.items():
            setattr(model, ATTRIBUTES[extname], array.copy())  # the peer repairs references in place
        if reftype != "ipc":
            place(model, *where)
        if reftype == "dark":
            exposure = model.meta.exposure
            exposure.nframes, exposure.groupgap, exposure.ngroups = 1, 0, len(model.data)
        overrides[f"override_{reftype}"] = model
    if case["step"] == "saturation" and "superbias" not in case["references"]:
        overrides["override_superbias"] = "N/A"
    if case["step"] == "refpix":
        overrides |= {"override_refpix": "N/A", "override_sirskernel": "N/A"}
    out = STEPS[case["step"]].call(ramps, skip=False, **overrides, **case["params"])
    if case["step"] == "ramp_fit":
        case["out"] = {
            f"{product}.{name}": np.array(getattr(model, attribute))
            for product, model in zip(("rate", "rateints"), out, strict=True)
            for name, attribute in PRODUCTS.items()
        }
        return
    case["out"] = {"data": np.array(out.data), "gdq": np.array(out.groupdq), "pdq": np.array(out.pixeldq)}


def draw(seed: int) -> list[dict[str, Any]]:
    """One random case for every step."""
    rng = np.random.default_rng(seed)
    nints, ngroups, ny, nx = (int(rng.integers(*r)) for r in ((1, 3), (3, 7), (8, 11), (8, 11)))
    shape = (ny, nx)
    slopes = rng.choice([30, 900, 3000], (nints, 1, ny, nx), p=[0.5, 0.3, 0.2])
    hits = np.where(
        rng.random((nints, ngroups, ny, nx)) < 0.03, rng.uniform(0, 15000, (nints, ngroups, ny, nx)), 0
    )
    data = slopes * np.arange(1, ngroups + 1)[None, :, None, None] + np.cumsum(hits, axis=1)
    data = np.round(data + rng.normal(30, 30, data.shape)).astype(np.float32)
    gdq = rng.choice([0, 1, 2, 4, 65], data.shape, p=[0.9, 0.04, 0.02, 0.02, 0.02]).astype(np.uint8)
    pattern = {"nframes": int(rng.choice([1, 2, 4, 8])), "groupgap": int(rng.choice([0, 1]))}

    def image(mean: float, width: float, holes: float = 0.03) -> np.ndarray:
        return np.where(rng.random(shape) < holes, np.nan, rng.normal(mean, width, shape)).astype(np.float32)

    def flags() -> np.ndarray:
        return np.where(rng.random(shape) < 0.15, rng.choice(FLAGS, shape), 0).astype(np.uint32)

    def polynomial(orders: int) -> np.ndarray:
        planes = [image(0, 3, 0.01), image(1, 0.01, 0) * (rng.random(shape) > 0.02)]
        planes += [rng.normal(0, 0.05, shape) * 10.0 ** (-4.7 * (j - 1)) for j in range(2, orders)]
        return np.array(planes, np.float32)

    kernel = rng.normal(0, 0.01, (3, 5)).astype(np.float32)
    kernel[1, 2] = 1.03
    inverse = {"INV_COEFFS": polynomial(4)} if seed % 2 else {}
    dark = np.cumsum(rng.normal(1, 3, (int(rng.integers(2, 30)), *shape)), axis=0).astype(np.float32)
    dark[rng.random(dark.shape) < 0.01] = np.nan
    bias = {"superbias": {"SCI": image(40, 100)}} if seed % 3 else {}
    growth = {"n_pix_grow_sat": int(rng.integers(0, 3)), "use_readpatt": seed % 4 != 3}
    corner = {"xstart": int(rng.choice([1, 3, 500])), "ystart": int(rng.choice([1, 2035]))}
    drawn: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
        ("group_scale", {}, {}, {"frame_divisor": 16}),
        ("dq_init", {}, {"mask": {"DQ": flags()}}, {}),
        ("saturation", growth, {"saturation": {"SCI": image(7000, 2000), "DQ": flags()}, **bias}, {}),
        ("ipc", {}, {"ipc": {"SCI": kernel}}, corner),
        ("superbias", {}, {"superbias": {"SCI": image(0, 300), "DQ": flags()}}, {}),
        ("linearity", {}, {"linearity": {"COEFFS": polynomial(5), "DQ": flags(), **inverse}}, {}),
        ("dark_current", {}, {"dark": {"SCI": dark, "DQ": flags()}}, {}),
        ("charge_migration", {"signal_threshold": 5000.0}, {}, {}),
    ]
    ramps = {"data": data, "gdq": gdq, "pdq": flags()}
    return [
        {"step": step, "params": params, "references": references, "facts": pattern | facts, **ramps}
        for step, params, references, facts in drawn
    ]


def drifting(seed: int) -> dict[str, Any]:
    """Frames with drifts for refpix: four outputs of the full width at an edge, or one output."""
    rng = np.random.default_rng(seed)
    ny, nx, facts = (
        (8, 2048, {"ystart": 1, "xstart": 1, "noutputs": 4}),
        (9, 2048, {"ystart": 2040, "xstart": 1, "noutputs": 4}),
        (7, 2048, {"ystart": 900, "xstart": 1, "noutputs": 4}),
        (2048, 8, {"ystart": 1, "xstart": 1, "noutputs": 4, "fastaxis": 2, "slowaxis": 1}),
        (12, 14, {"ystart": 1, "xstart": 1, "noutputs": 1}),
        (14, 12, {"ystart": 1, "xstart": 1, "noutputs": 1, "fastaxis": -2, "slowaxis": -1}),
    )[seed]
    data = rng.choice([0, 1, 2, 3, 60], (1, 2, ny, nx), p=[0.3, 0.3, 0.2, 0.19, 0.01])
    data = (
        data + 5 * rng.integers(0, 4, (1, 2, ny, 1)) + 40 * (np.arange(nx) // 512) + 3 * (np.arange(nx) % 2)
    )
    pdq = np.where(rng.random((ny, nx)) < 0.02, np.uint32(1), np.uint32(0))
    x0, y0 = int(facts["xstart"]), int(facts["ystart"])
    x, y = np.arange(nx) + x0, np.arange(ny)[:, None] + y0
    pdq[(x <= 4) | (x > 2044) | (y <= 4) | (y > 2044)] |= np.uint32(1 << 31)
    params = [{}, {"side_smoothing_length": 3, "side_gain": 0.5}, {}, {}, {}, {"odd_even_columns": False}][
        seed
    ]
    ramps = {"data": data.astype(np.float32), "gdq": np.zeros(data.shape, np.uint8), "pdq": pdq}
    return {"step": "refpix", "params": params, "references": {"mask": {"DQ": pdq}}, "facts": facts, **ramps}


def struck(seed: int, step: str) -> dict[str, Any]:
    """Ramps with cosmic rays for jump; for ramp_fit the jumps are flagged already."""
    rng = np.random.default_rng(seed)
    frames = ((1, 12), (3, 5), (1, 4), (9, 4), (2, 3), (1, 9))[seed]
    ny, nx = 12, 20
    shape = (*frames, ny, nx)
    rate = 10 ** rng.uniform(-0.5, 3, (ny, nx))
    hits = np.where(rng.random(shape) < 0.12, 10 ** rng.uniform(1, 4, shape), 0)
    data = np.cumsum(rng.poisson(rate, shape) + hits, axis=1) + rng.normal(0, 8, shape)
    data = np.round(data / 20) * 20 if seed == 3 else np.round(data, 1)
    gdq = rng.choice([0, 1, 2, 65], shape, p=[0.94, 0.02, 0.02, 0.02])
    gdq |= 2 * (np.arange(frames[1])[:, None, None] >= rng.integers(0, 3 * frames[1], (frames[0], 1, ny, nx)))
    if step == "ramp_fit":
        gdq |= np.where((hits > 30) & (gdq & 3 == 0), 4, 0)
        gdq[:, :, 0] = rng.choice([0, 4, 2, 1], (*frames, nx))
        gdq[:, 0] &= 3  # the first group is no jump
        gdq[:, :, 1] |= np.where(np.arange(frames[1])[:, None] >= 2, 129, 0)
    gdq |= np.maximum.accumulate(gdq & 2, axis=1)  # saturation is for good
    pdq = rng.choice([0, 1 << 11, 1], (ny, nx), p=[0.9, 0.07, 0.03]).astype(np.uint32)
    gain, noise = rng.normal(1.8, 0.1, (ny, nx)), rng.normal(12, 1, (ny, nx))
    if seed == 3:
        gain[:], noise[:] = 2, 4
    gain[2, 3:5] = np.nan, 0
    late = {"after_jump_flag_dn1": 100.0, "after_jump_flag_time1": 25.0}
    later = {"after_jump_flag_dn2": 1000.0, "after_jump_flag_time2": 45.0}
    params: dict[str, Any] = {}
    if step == "jump":
        params = [{}, late, {}, {}, {"flag_4_neighbors": False}, late | later][seed]
    elif seed % 2:
        params = {"suppress_one_group": False}
    facts = {"nframes": 4 if seed == 5 else 1, "frame_time": 2.0, "group_time": 10.0}
    references = {
        "gain": {"SCI": gain.astype(np.float32)},
        "readnoise": {"SCI": noise.astype(np.float32)},
    }
    ramps = {"data": data.astype(np.float32), "gdq": gdq.astype(np.uint8), "pdq": pdq}
    return {"step": step, "params": params, "references": references, "facts": facts, **ramps}


def main() -> None:
    """Draw, run, keep."""
    cases = [case for seed in range(6) for case in draw(seed)]
    cases += [drifting(seed) for seed in range(6)]
    cases += [struck(seed, step) for step in ("jump", "ramp_fit") for seed in range(6)]
    arrays: dict[str, np.ndarray] = {}
    index = []
    for k, case in enumerate(cases):
        run(case)
        for name in ("data", "gdq", "pdq"):
            arrays[f"{k}.in.{name}"] = case[name]
        arrays |= {f"{k}.out.{name}": a for name, a in case["out"].items()}
        for reftype, extensions in case["references"].items():
            arrays |= {f"{k}.ref.{reftype}.{extname}": a for extname, a in extensions.items()}
        index.append({name: case[name] for name in ("step", "params", "facts")})
    arrays["index"] = np.array(json.dumps(index))
    np.savez_compressed(Path(__file__).with_name("peer_truth.npz"), **arrays)


if __name__ == "__main__":
    main()
