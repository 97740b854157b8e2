"""Rows: showers of the jump step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from peerkit.rows import Row
from peerkit.scenes import Scene, write
from upramp.simulate.effects import Effect, OddGroup, ResetDecay, SwitchDecay
from upramp.simulate.observation import Observation
from upramp.simulate.showers import showers


def _effects(number: int, electrons: tuple[float, float]) -> Callable[[Observation], Sequence[Effect]]:
    def make(o: Observation) -> Sequence[Effect]:
        found: list[Effect] = [showers(o, number, electrons, seed=o.ngroups)]
        if o.layout.mid_infrared:
            image = 40 + 10 * np.random.default_rng(7).standard_normal((o.ny, o.nx)).astype(np.float32)
            found += [ResetDecay(image), SwitchDecay(), OddGroup(-1, -25.0, o.ngroups)]
        return found

    return make


def _scene(number: int = 60, electrons: tuple[float, float] = (60.0, 250.0), **how: Any) -> Scene:
    usual: dict[str, Any] = {"detector": "MIRIMAGE", "ny": 1024, "nx": 1032, "ngroups": 20}
    sky = {k: how.pop(k) for k in ("stars", "background", "cosmic_rays") if k in how}
    sky = {"stars": 300, "background": 10.0, "cosmic_rays": 5e-5} | sky
    return Scene(Observation(**usual | how), whole=True, effects=_effects(number, electrons), **sky)


def _row(name: str, what: str, scene: Scene, serial: int, asked: Any = None, **more: Any) -> Row:
    steps = {"jump": {"find_showers": True} | (asked or {})}
    idle = {"jump": {k: v for k, v in steps["jump"].items() if k != "find_showers"}}
    make = partial(write, scene, serial=serial)
    return Row(name, what, "jump", make, steps=steps, idle=idle, **more)


FULL = _scene()
SEVERAL = _scene(120, nints=3, ngroups=14)
SUB256: dict[str, Any] = {"subarray": "SUB256", "ny": 256, "nx": 320, "xstart": 413, "ystart": 51}
LONG: dict[str, Any] = {"subarray": "SUB64", "ny": 64, "nx": 72, "xstart": 1, "ystart": 779, "tso": True}

ROWS: tuple[Row, ...] = (
    _row("showers_full", "showers, MIRI full frame, FASTR1, 20 groups", FULL, 1001),
    _row(
        "showers_low",
        "the same, extend_snr_threshold 1.1, extend_min_area 40, extend_ellipse_expand_ratio 1.6",
        FULL,
        1001,
        {"extend_snr_threshold": 1.1, "extend_min_area": 40, "extend_ellipse_expand_ratio": 1.6},
    ),
    _row(
        "showers_high",
        "the same, extend_snr_threshold 1.6, extend_min_area 200, no time after",
        FULL,
        1001,
        {"extend_snr_threshold": 1.6, "extend_min_area": 200, "time_masked_after_shower": 0.0},
    ),
    _row(
        "showers_ring",
        "the same, extend_inner_radius 2, extend_outer_radius 6, max_extended_radius 15, 60 s after",
        FULL,
        1001,
        {
            "extend_inner_radius": 2.0,
            "extend_outer_radius": 6.0,
            "max_extended_radius": 15,
            "time_masked_after_shower": 60.0,
        },
    ),
    _row(
        "showers_bright",
        "bright ones, whose flags are partly taken back; max_shower_amplitude 1",
        _scene(20, (200.0, 1500.0), **SUB256, tframe=2.775),
        1002,
        {"max_shower_amplitude": 1.0},
        long=False,
    ),
    _row(
        "showers_integrations", "MIRI full frame, FASTR1, 3 x 14 groups, 5 s after",
        SEVERAL,
        1003,
        {"time_masked_after_shower": 5.0},
    ),
    _row(
        "showers_both",
        "the same, with expand_large_events and use_ellipses",
        SEVERAL,
        1003,
        {
            "time_masked_after_shower": 5.0,
            "expand_large_events": True,
            "use_ellipses": True,
            "sat_required_snowball": False,
            "min_jump_area": 60.0,
        },
    ),
    _row(
        "showers_slow",
        "MIRI full frame, SLOWR1, 13 groups",
        _scene(30, ngroups=13, readpatt="SLOWR1", tframe=23.9, cosmic_rays=5e-6, background=2.0),
        1004,
    ),
    _row(
        "showers_mrs",
        "MIRI MRS, FASTR1, 15 groups",
        _scene(
            detector="MIRIFUSHORT",
            exp_type="MIR_MRS",
            ngroups=15,
            extra={"instrument.channel": "12"},
            background=2.0,
        ),
        1005,
    ),
    _row(
        "showers_averaged",
        "MIRI SUB256, FASTGRPAVG, 2 x 12 groups",
        _scene(20, **SUB256, readpatt="FASTGRPAVG", ngroups=12, nints=2, tframe=2.775),
        1006,
    ),
    _row(
        "showers_near",
        "NIRCam SUB640, RAPID, 14 groups",
        _scene(
            detector="NRCBLONG", subarray="SUB640", ny=640, nx=640, xstart=701, ystart=701, ngroups=14,
            tframe=10.0, background=2.0,
        ),
        1007,
    ),
    _row(
        "showers_long",
        "MIRI SUB64, 110 x 6 groups: levels by sigma clipping",
        _scene(150, **LONG, ngroups=6, nints=110, tframe=2.775, stars=20),
        1008,
        {"time_masked_after_shower": 3.0},
    ),
)  # fmt: skip
