"""Rows: ramp_fit and charge_migration."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from peerkit.rows import Row
from peerkit.scenes import SCENES, Scene, write
from upramp.simulate.observation import Observation

LIKELY: dict[str, Any] = {"algorithm": "LIKELY"}
USUAL: dict[str, Any] = {"ramp_fit": {}}

FULL = Scene(
    Observation(detector="NRCALONG", ny=2048, nx=2048, ngroups=8, readpatt="BRIGHT1"), stars=2000, whole=True
)
AVERAGED = Scene(
    Observation(detector="NIS", ny=2048, nx=2048, ngroups=6, nints=2, readpatt="NIS"), stars=2000, whole=True
)
BRIGHT = replace(SCENES["shallow4"], flux=(3.5, 5.8))


def _row(name: str, what: str, scene: Scene, serial: int, **more: Any) -> Row:
    step = more.pop("step", "ramp_fit")
    return Row(name, what, step, partial(write, scene, serial=serial), **more)


KEPT: dict[str, Any] = {"ramp_fit": {"suppress_one_group": False}}
ZERO = replace(SCENES["zeroframe"], flux=(4.0, 6.2), stars=150)
ZERO_FOUR = Scene(
    Observation(
        detector="NRCALONG", subarray="SUBGRISM64", ny=64, nx=2048, ngroups=4, nints=2, noutputs=4,
        tframe=8.0, readpatt="SHALLOW4", exp_type="NRC_TSGRISM", tso=True,
    ),
    stars=150, flux=(4.0, 6.2), zeroframe=True,
)  # fmt: skip


ROWS: tuple[Row, ...] = (
    _row(
        "likely",
        "ramp_fit.algorithm LIKELY, NIRCam full frame, BRIGHT1, 8 groups",
        FULL,
        701,
        steps={"ramp_fit": LIKELY},
        idle=USUAL,
        level=0.999,
    ),
    _row(
        "likely_averaged",
        "LIKELY, jumps of two differences: NIRISS full frame, NIS, 2 x 6 groups",
        AVERAGED,
        702,
        steps={"ramp_fit": LIKELY},
        idle=USUAL,
        level=0.999,
    ),
    _row(
        "likely_alone",
        "LIKELY without the jump step, NIRCam SUB160, 3 x 5 groups; chi^2",
        SCENES["rapid"],
        703,
        steps={"ramp_fit": {**LIKELY, "save_opt": True}, "jump": {"skip": True}},
        idle={"jump": {"skip": True}},
        level=0.999,
        products=("rate", "rateints", "likely_chisq"),
    ),
    _row(
        "fitopt",
        "save_opt, NIRCam SUB160, BRIGHT2, 10 groups",
        SCENES["ten_groups"],
        704,
        steps={"ramp_fit": {"save_opt": True}},
        idle=USUAL,
        products=("rate", "rateints", "fitopt"),
        long=False,
    ),
    _row(
        "fitopt_averaged",
        "save_opt, several frames in a group, bright stars, single groups kept",
        BRIGHT,
        705,
        steps={"ramp_fit": {"save_opt": True, "suppress_one_group": False}},
        idle=USUAL,
        products=("rate", "rateints", "fitopt"),
    ),
    _row(
        "some_groups",
        "firstgroup and lastgroup, NIRCam full frame, BRIGHT1",
        FULL,
        701,
        steps={"ramp_fit": {"firstgroup": 1, "lastgroup": 5}},
        idle=USUAL,
    ),
    _row(
        "single_groups",
        "suppress_one_group false, stars that saturate in the second group",
        replace(SCENES["rapid"], flux=(3.5, 5.8), stars=120),
        706,
        steps={"ramp_fit": {"suppress_one_group": False}},
        idle=USUAL,
    ),
    _row(
        "two_groups_bright",
        "two groups, single ones kept",
        replace(SCENES["two_groups"], flux=(3.5, 5.8), stars=120),
        707,
        steps={"ramp_fit": {"suppress_one_group": False}},
        idle=USUAL,
    ),
    _row(
        "charge_migration_averaged",
        "charge_migration, NIRISS NIS, signal above 2000 DN",
        SCENES["niriss_averaged"],
        708,
        step="charge_migration",
        steps={"charge_migration": {"skip": False, "signal_threshold": 2000.0}},
    ),
    _row(
        "zero_frame",
        "frame zero in place of ramps that are saturated throughout, NIRCam SUB160, SHALLOW4",
        ZERO,
        709,
        steps=KEPT,
        idle=USUAL,
        long=False,
    ),
    _row("zero_frame_outputs", "the same, four outputs", ZERO_FOUR, 710, steps=KEPT, idle=USUAL),
    _row(
        "zero_frame_fitopt",
        "the same, with save_opt",
        ZERO_FOUR,
        710,
        steps={"ramp_fit": {**KEPT["ramp_fit"], "save_opt": True}},
        idle=USUAL,
        products=("rate", "rateints", "fitopt"),
    ),
    _row(
        "likely_zero_frame",
        "LIKELY with frame zero as a read of its own, four outputs, 9 groups",
        replace(ZERO_FOUR, observation=replace(ZERO_FOUR.observation, ngroups=9)),
        711,
        steps={"ramp_fit": LIKELY},
        idle=USUAL,
        level=0.999,
    ),
)
