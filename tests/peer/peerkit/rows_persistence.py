"""Rows: windows after saturation."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from peerkit.rows import Row
from peerkit.rows_miri import SUB64
from peerkit.rows_miri import _scene as mid_infrared
from peerkit.scenes import Scene, write
from upramp.simulate.observation import Observation

FULL = Scene(
    Observation(detector="NRCALONG", ny=2048, nx=2048, ngroups=6, nints=3, readpatt="BRIGHT1"),
    stars=6000,
    flux=(4.0, 5.6),
    whole=True,
)
SMALL = Scene(
    Observation(
        detector="NRCBLONG",
        subarray="SUB160",
        ny=160,
        nx=160,
        xstart=933,
        ystart=941,
        ngroups=8,
        nints=6,
        tframe=10.0,
    ),
    stars=60,
    flux=(3.5, 5.6),
)
MIRI = mid_infrared(**SUB64, ngroups=12, nints=5)


def _row(name: str, what: str, scene: Scene, **more: Any) -> Row:
    options = {"skip": False, **more.pop("options")}
    make = partial(write, scene, serial=more.pop("serial"))
    return Row(name, f"persistence, {what}", "persistence", make, {"persistence": options}, **more)


ROWS: tuple[Row, ...] = (
    _row("persistence", "NIRCam full frame, 60 s", FULL, serial=821, options={"persistence_time": 60}),
    _row(
        "persistence_dnu",
        "NIRCam full frame, 100 s, not to be used",
        FULL,
        serial=821,
        options={"persistence_time": 100, "persistence_dnu": True},
    ),
    _row(
        "persistence_long",
        "NIRCam SUB160, 1000 s",
        SMALL,
        serial=822,
        options={"persistence_time": 1000},
        long=False,
    ),
    _row(
        "persistence_threshold",
        "NIRCam full frame, groups above 20000 DN too",
        FULL,
        serial=821,
        options={"persistence_time": 60, "dn_threshold": 20000.0, "persistence_dnu": True},
    ),
    _row(
        "persistence_miri",
        "MIRI SUB64, 30 s",
        replace(MIRI, flux=(4.0, 6.0)),
        serial=823,
        options={"persistence_time": 30, "persistence_dnu": True},
    ),
)
