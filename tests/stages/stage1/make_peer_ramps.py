"""Runs the observatory's ramp_fit on random ramps and keeps inputs and outputs.

Likelihood, segments, frame zero.

Run with the peer's own Python: ``<peer>/bin/python make_peer_ramps.py``; it rewrites peer_ramps.npz, which
test_peer_ramps.py reads, so that the tests need no peer. References are models in memory; no CRDS is asked.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.update(STPIPE_DISABLE_CRDS_STEPPARS="true", CRDS_CONTEXT="jwst_0001.pmap")
os.environ.setdefault("CRDS_SERVER_URL", "https://none.invalid")

import numpy as np
from astropy.io import fits
from jwst.ramp_fitting import RampFitStep
from stdatamodels.jwst import datamodels as dm

PRODUCTS = {"sci": "data", "err": "err", "dq": "dq", "var_poisson": "var_poisson", "var_rnoise": "var_rnoise"}
ONE: dict[str, Any] = {"nframes": 1, "groupgap": 0, "frame_time": 10.0, "group_time": 10.0}
FOUR: dict[str, Any] = {"nframes": 4, "groupgap": 1, "frame_time": 2.0, "group_time": 10.0}
LIKELY: dict[str, Any] = {"algorithm": "LIKELY"}
CASES: list[tuple[dict[str, Any], dict[str, Any], int, float]] = [
    # parameters, facts, groups, share of pixels saturated throughout (frame zero is there, then)
    (LIKELY, ONE, 7, 0.0),
    (LIKELY, FOUR, 8, 0.0),
    (LIKELY | {"firstgroup": 1, "lastgroup": 6}, ONE, 8, 0.0),
    ({"save_opt": True}, ONE, 8, 0.0),
    ({"save_opt": True, "suppress_one_group": False}, FOUR, 6, 0.0),
    ({"save_opt": True, "lastgroup": 4}, ONE, 6, 0.0),
    ({"suppress_one_group": False}, FOUR, 5, 0.3),
    ({"suppress_one_group": False}, ONE, 2, 0.3),
]


def place(model: Any, nx: int, ny: int) -> Any:
    """Say which instrument and pixels a model is of."""
    model.meta.instrument.name, model.meta.instrument.detector = "NIRCAM", "NRCALONG"
    model.meta.subarray = dict(
        name="SUB64P", xstart=101, ystart=201, xsize=nx, ysize=ny, fastaxis=-1, slowaxis=2
    )
    return model


def draw(seed: int, ngroups: int, lost: float) -> dict[str, np.ndarray]:
    """Ramps with jumps, flags of all kinds, and references."""
    rng = np.random.default_rng(seed)
    ny, nx = 6, 20
    shape = (2, ngroups, ny, nx)
    rate = 10 ** rng.uniform(0, 3, (ny, nx))
    hits = np.where(rng.random(shape) < 0.05, 10 ** rng.uniform(2, 4, shape), 0)
    data = 200 + np.cumsum(rng.poisson(rate * 20, shape) / 2 + hits, axis=1) + rng.normal(0, 8, shape)
    gdq = rng.choice([0, 1, 2], shape, p=[0.92, 0.04, 0.04])
    gdq = np.where(rng.random((2, 1, ny, nx)) < lost, gdq | 2, gdq)
    gdq |= np.maximum.accumulate(gdq & 2, axis=1)
    found = (hits > 0) & (gdq & 3 == 0) & (rng.random(shape) < 0.5)
    gdq |= np.where(found & (np.arange(ngroups)[:, None, None] > 0), 4, 0)
    zero = rng.choice([0.0, 1.0], (2, ny, nx), p=[0.2, 0.8]) * rng.uniform(10, 4000, (2, ny, nx))
    drawn = {
        "data": np.round(data, 1).astype("f4"),
        "gdq": gdq.astype("u1"),
        "pdq": rng.choice([0, 1 << 11, 1], (ny, nx), p=[0.9, 0.07, 0.03]).astype("u4"),
        "gain": rng.normal(1.8, 0.1, (ny, nx)).astype("f4"),
        "readnoise": rng.normal(12, 1, (ny, nx)).astype("f4"),
    }
    return drawn | ({"zero": np.round(zero).astype("f4")} if lost else {})


def run(given: dict[str, np.ndarray], params: dict[str, Any], facts: dict[str, Any]) -> dict[str, np.ndarray]:
    """What the peer makes of it."""
    nints, ngroups, ny, nx = given["data"].shape
    ramps = place(dm.RampModel(given["data"].shape), nx, ny)
    ramps.data, ramps.groupdq, ramps.pixeldq = (given[k].copy() for k in ("data", "gdq", "pdq"))
    if "zero" in given:
        ramps.zeroframe = given["zero"].copy()
    ramps.meta.filename = "ramps_uncal.fits"
    ramps.meta.exposure.type, ramps.meta.exposure.zero_frame = "NRC_IMAGE", "zero" in given
    ramps.meta.exposure.nints, ramps.meta.exposure.ngroups = nints, ngroups
    for name, value in facts.items():
        setattr(ramps.meta.exposure, name, value)
    gain, noise = place(dm.GainModel(), nx, ny), place(dm.ReadnoiseModel(), nx, ny)
    gain.data, noise.data = given["gain"].copy(), given["readnoise"].copy()
    with tempfile.TemporaryDirectory() as folder:
        out = RampFitStep.call(
            ramps,
            override_gain=gain,
            override_readnoise=noise,
            save_results=True,
            output_dir=folder,
            **params,
        )
        answer = {
            f"{product}.{name}": np.array(getattr(model, attribute))
            for product, model in zip(("rate", "rateints"), out, strict=True)
            for name, attribute in PRODUCTS.items()
        }
        for path in Path(folder).glob("*_fitopt.fits"):
            with fits.open(path) as hdus:
                answer |= {f"fitopt.{h.name}": h.data.astype("f4") for h in hdus[1:] if h.is_image}
    return answer


def main() -> None:
    """Draw, run, keep."""
    arrays: dict[str, np.ndarray] = {}
    index = []
    for k, (params, facts, ngroups, lost) in enumerate(CASES):
        given = draw(k, ngroups, lost)
        arrays |= {f"{k}.in.{name}": a for name, a in given.items()}
        arrays |= {f"{k}.out.{name}": a for name, a in run(given, params, facts).items()}
        index.append({"params": params, "facts": facts})
    arrays["index"] = np.array(json.dumps(index))
    np.savez_compressed(Path(__file__).with_name("peer_ramps.npz"), **arrays)


if __name__ == "__main__":
    main()
