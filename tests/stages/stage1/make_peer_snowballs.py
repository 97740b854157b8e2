"""Lets the observatory's package look for snowballs among random flags, and keeps what it made of them.

Run with the peer's own Python: ``<peer>/bin/python make_peer_snowballs.py``; it rewrites peer_snowballs.npz,
which test_jump_snowballs.py reads, so that the tests need no peer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from stcal.jump.jump import flag_large_events
from stcal.jump.jump_class import JumpData

DO_NOT_USE, SATURATED, JUMP = 1, 2, 4
GROUP_TIME = 10


def draw(rng: np.random.Generator) -> np.ndarray:
    """Flags with cores, halos and single jumps: uint8 (nints, ngroups, ny, nx)."""
    ny, nx = (int(n) for n in rng.integers(30, 110, 2))
    gdq = np.zeros((int(rng.integers(1, 4)), int(rng.integers(3, 7)), ny, nx), np.uint8)
    y, x = np.mgrid[:ny, :nx]
    for _ in range(int(rng.integers(1, 10))):
        i, g = rng.integers(len(gdq)), rng.integers(gdq.shape[1])
        cy, cx, angle = rng.uniform(-2, ny + 2), rng.uniform(-2, nx + 2), rng.uniform(0, np.pi)
        u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        v = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        away, core = np.hypot(u, v / rng.uniform(0.5, 1)), rng.uniform(0, 8)
        gdq[i, g][away <= core + rng.uniform(0, 5)] |= JUMP
        if rng.random() < 0.8:
            gdq[i, g + rng.integers(0, 2) :, away <= core] |= SATURATED
    gdq[rng.random(gdq.shape) < 0.003] |= JUMP
    gdq[rng.random(gdq.shape) < 0.001] |= DO_NOT_USE
    gdq[gdq & SATURATED != 0] &= ~np.uint8(JUMP)
    return gdq


def main() -> None:
    """Rewrite the file."""
    arrays: dict[str, Any] = {}
    index = []
    for k in range(24):
        rng = np.random.default_rng(k)
        gdq = draw(rng)
        params = {
            "edge_size": int(rng.choice([0, 5, 25])),
            "sat_expand": int(rng.integers(0, 4)),
            "expand_factor": float(rng.choice([1, 1.5, 2, 3])),
            "min_jump_area": float(rng.choice([1, 5, 12.5])),
            "min_sat_area": float(rng.choice([1, 6])),
            "min_sat_radius_extend": float(rng.choice([0.5, 2.5, 5])),
            "sat_required_snowball": bool(rng.random() < 0.8),
            "use_ellipses": bool(rng.random() < 0.5),
            "max_extended_radius": int(rng.choice([200, 8])),
            "mask_snowball_core_next_int": bool(rng.random() < 0.8),
            "snowball_time_masked_next_int": int(rng.choice([25, 39, 4000])),
        }
        data = JumpData()
        data.fl_good, data.fl_dnu, data.fl_sat, data.fl_jump = 0, DO_NOT_USE, SATURATED, JUMP
        for name, value in params.items():
            if hasattr(data, name):
                setattr(data, name, value)
        # what the step makes of the others
        data.expand_large_events = True
        data.sat_expand, data.max_extended_width = 2 * params["sat_expand"], 2 * params["max_extended_radius"]
        data.mask_persist_grps_next_int = params["mask_snowball_core_next_int"]
        data.persist_grps_flagged = params["snowball_time_masked_next_int"] // GROUP_TIME
        out, number = flag_large_events(gdq.copy(), JUMP, SATURATED, data)
        arrays[f"{k}.in"], arrays[f"{k}.out"] = gdq, out
        index.append({"params": params, "number": int(number)})
    arrays["index"] = np.array(json.dumps(index))
    np.savez_compressed(Path(__file__).with_name("peer_snowballs.npz"), **arrays)


if __name__ == "__main__":
    main()
