"""Runs the observatory's jump step with showers on random ramps and keeps inputs and outputs.

Run with the peer's own Python: ``<peer>/bin/python make_peer_showers.py``; it rewrites peer_showers.npz, from
which test_jump_showers.py reads, so that the tests need no peer. References are models in memory; no CRDS is
asked.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

os.environ.update(STPIPE_DISABLE_CRDS_STEPPARS="true", CRDS_CONTEXT="jwst_0001.pmap")
os.environ.setdefault("CRDS_SERVER_URL", "https://none.invalid")

import numpy as np
from jwst.jump import JumpStep
from stdatamodels.jwst import datamodels as dm

FAST: dict[str, Any] = {"nframes": 1, "groupgap": 0, "frame_time": 2.7, "group_time": 2.7}
SLOW: dict[str, Any] = {"nframes": 4, "groupgap": 0, "frame_time": 6.0, "group_time": 24.0}
ITERATED: dict[str, Any] = {"min_diffs_single_pass": 30}
CASES: list[tuple[dict[str, Any], dict[str, Any], tuple[int, int], bool]] = [
    # parameters, facts, integrations and groups, with flags and bad references
    ({}, FAST, (1, 14), True),
    ({"extend_snr_threshold": 1.3, "extend_min_area": 20}, FAST, (2, 8), True),
    ({"extend_inner_radius": 2.0, "extend_outer_radius": 2.5, "max_extended_radius": 6}, FAST, (1, 12), True),
    ({"extend_inner_radius": 0.0, "extend_ellipse_expand_ratio": 1.8}, FAST, (1, 12), False),
    ({"time_masked_after_shower": 60.0, "max_shower_amplitude": 1.0, **ITERATED}, SLOW, (2, 12), True),
    (
        {"minimum_sigclip_groups": 35, "extend_min_area": 30, "time_masked_after_shower": 3.0},
        FAST,
        (36, 4),
        True,
    ),
    ({"extend_min_area": 5, "extend_snr_threshold": 1.25}, FAST, (1, 11), False),
]


def place(model: Any, nx: int, ny: int) -> Any:
    """Say which instrument and pixels a model is of."""
    model.meta.instrument.name, model.meta.instrument.detector = "MIRI", "MIRIMAGE"
    model.meta.subarray = dict(
        name="SUB64", xstart=101, ystart=201, xsize=nx, ysize=ny, fastaxis=1, slowaxis=2
    )
    return model


def draw(seed: int, nints: int, ngroups: int, flagged: bool) -> dict[str, np.ndarray]:
    """Whole counts with showers from faint to bright and cosmic rays; flags of all kinds, and references."""
    rng = np.random.default_rng(seed)
    ny, nx = (40, 44) if nints < 10 else (24, 28)
    shape = (nints, ngroups, ny, nx)
    data = 500 + np.cumsum(rng.normal(20, 4, shape), axis=1)
    y, x = np.mgrid[:ny, :nx]
    for _ in range(max(6, nints)):
        i, g = rng.integers(nints), rng.integers(1, ngroups)
        dy, dx, turn = y - rng.uniform(0, ny), x - rng.uniform(0, nx), rng.uniform(0, np.pi)
        along, across = dx * np.cos(turn) + dy * np.sin(turn), dx * np.sin(turn) - dy * np.cos(turn)
        light = np.exp(-(((along / rng.uniform(7, 14)) ** 2 + (across / rng.uniform(6, 9)) ** 2) ** 2))
        data[i, g:] += 10 ** rng.uniform(1.1, 1.8) * light
    hits = np.where(rng.random(shape) < 1e-3, rng.uniform(100, 3000, shape), 0)
    gdq, pdq = np.zeros(shape, "u1"), np.zeros((ny, nx), "u4")
    gain, noise = rng.normal(4, 0.2, (ny, nx)), rng.normal(6, 0.5, (ny, nx))
    if flagged:
        gdq |= rng.choice([0, 1, 32, 33, 128], shape, p=[0.992, 0.002, 0.002, 0.002, 0.002]).astype("u1")
        gdq |= np.maximum.accumulate(np.where(rng.random(shape) < 1e-3, 2, 0), axis=1).astype("u1")
        gdq[:, 0] |= 1
        pdq |= rng.choice([0, 1, 2, 1 << 10, 1 << 31, (1 << 31) + 1], (ny, nx), p=[0.95] + 5 * [0.01]).astype(
            "u4"
        )
        gain = np.where(rng.random((ny, nx)) < 0.01, rng.choice([-1, 0, np.nan], (ny, nx)), gain)
        noise[rng.random((ny, nx)) < 0.005] = np.nan
    return {
        "data": np.round(data + np.cumsum(hits, axis=1)).astype("u2"),
        "gdq": gdq,
        "pdq": pdq,
        "gain": gain.astype("f2").astype("f4"),
        "readnoise": noise.astype("f2").astype("f4"),
    }


def run(given: dict[str, np.ndarray], params: dict[str, Any], facts: dict[str, Any]) -> Any:
    """The ramps as the peer leaves them."""
    nints, ngroups, ny, nx = given["data"].shape
    ramps = place(dm.RampModel(given["data"].shape), nx, ny)
    ramps.data = given["data"].astype("f4")
    ramps.groupdq, ramps.pixeldq = given["gdq"].copy(), given["pdq"].copy()
    ramps.meta.exposure.type = "MIR_IMAGE"
    ramps.meta.exposure.nints, ramps.meta.exposure.ngroups = nints, ngroups
    for name, value in facts.items():
        setattr(ramps.meta.exposure, name, value)
    gain, noise = place(dm.GainModel(), nx, ny), place(dm.ReadnoiseModel(), nx, ny)
    gain.data, noise.data = given["gain"].copy(), given["readnoise"].copy()
    step = JumpStep()
    for name, value in {"override_gain": gain, "override_readnoise": noise, **params}.items():
        setattr(step, name, value)
    return step.process(ramps)


def main() -> None:
    """Draw, run, keep."""
    arrays: dict[str, np.ndarray] = {}
    index = []
    for k, (params, facts, (nints, ngroups), flagged) in enumerate(CASES):
        given = draw(k, nints, ngroups, flagged)
        out = run(given, {"find_showers": True, **params}, facts)
        without = run(given, params, facts)
        events = float(out.meta.exposure.extended_emission_events)
        arrays |= {f"{k}.in.{name}": a for name, a in given.items()}
        arrays |= {f"{k}.out.gdq": np.array(out.groupdq), f"{k}.without": np.array(without.groupdq)}
        index.append({"params": params, "facts": facts, "events": events})
        print(k, np.count_nonzero(out.groupdq != without.groupdq), events)
    arrays["index"] = np.array(json.dumps(index))
    np.savez_compressed(Path(__file__).with_name("peer_showers.npz"), **arrays)


if __name__ == "__main__":
    main()
