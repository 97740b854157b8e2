"""Rows: snowballs of the jump step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from peerkit.rows import Row
from peerkit.scenes import Input, Scene, write
from upramp.simulate.effects import Effect
from upramp.simulate.irs2 import Interleaving
from upramp.simulate.large_events import ellipses, snowballs
from upramp.simulate.observation import Observation

Effects = Callable[[Observation], Sequence[Effect]]


def _with(number: int, draw: Any = snowballs) -> Effects:
    return lambda observation: (draw(observation, number, seed=observation.ngroups),)


def _row(name: str, what: str, scene: Scene, serial: int, **more: Any) -> Row:
    asked = {"expand_large_events": True} | more.pop("asked", {})
    make = more.pop("make", partial(write, scene, serial=serial))
    return Row(name, what, "jump", make, steps={"jump": asked}, idle={"jump": {}}, **more)


def _interleaved(scene: Scene, serial: int, folder: Path) -> Input:
    return write(scene, folder, serial, reading=Interleaving(seed=serial))


FULL = Scene(
    Observation(detector="NRCALONG", ny=2048, nx=2048, ngroups=8, readpatt="BRIGHT1"),
    stars=2000,
    cosmic_rays=2e-5,
    whole=True,
    effects=_with(120),
)
NIRISS = Scene(
    Observation(
        detector="NIS", subarray="SUB256", ny=256, nx=256, xstart=1793, ystart=1793, ngroups=6, nints=4,
        tframe=10.0,
    ),
    cosmic_rays=5e-5,
    effects=_with(16),
)  # fmt: skip
NIRCAM = Scene(
    Observation(
        detector="NRCBLONG", subarray="SUB640", ny=640, nx=640, xstart=701, ystart=701, ngroups=7, tframe=10.0
    ),
    cosmic_rays=5e-5,
    effects=_with(40),
)
MIRI = Scene(
    Observation(detector="MIRIMAGE", ny=1024, nx=1032, ngroups=10),
    stars=400,
    background=20.0,
    cosmic_rays=5e-5,
    whole=True,
    effects=_with(150, ellipses),
)
WIDE = Scene(
    Observation(
        detector="NRS1", subarray="SUB2048", ny=32, nx=2048, xstart=1, ystart=1025, ngroups=6, nints=2,
        tframe=5.0, exp_type="NRS_BRIGHTOBJ",
    ),
    cosmic_rays=5e-5,
    effects=_with(24),
)  # fmt: skip
INTERLEAVED = Scene(
    Observation(
        detector="NRS1", ny=2048, nx=2048, ngroups=5, readpatt="NRSIRS2RAPID", exp_type="NRS_MSASPEC",
        noutputs=5, tframe=14.58889,
    ),
    stars=2000,
    cosmic_rays=2e-5,
    whole=True,
    effects=_with(100),
)  # fmt: skip
AVERAGED = replace(
    NIRCAM, observation=replace(NIRCAM.observation, ngroups=6, readpatt="SHALLOW4", tframe=4.0)
)


ROWS: tuple[Row, ...] = (
    _row("snowballs_full", "snowballs, NIRCam full frame, BRIGHT1, 8 groups", FULL, 1401),
    _row(
        "snowballs_next",
        "NIRISS SUB256, 4 x 6 groups: cores in the next integration",
        NIRISS,
        1402,
        long=False,
    ),
    _row(
        "snowballs_next_off",
        "the same, cores not flagged in the next integration",
        NIRISS,
        1402,
        asked={"mask_snowball_core_next_int": False},
    ),
    _row(
        "snowballs_next_short",
        "the same, flagged for 35 s",
        NIRISS,
        1402,
        asked={"snowball_time_masked_next_int": 35},
    ),
    _row(
        "snowballs_unsaturated",
        "sat_required_snowball false, NIRCam SUB640",
        NIRCAM,
        1403,
        asked={"sat_required_snowball": False},
    ),
    _row("snowballs_ellipses", "use_ellipses, NIRCam SUB640", NIRCAM, 1403, asked={"use_ellipses": True}),
    _row(
        "snowballs_larger",
        "expand_factor 3, sat_expand 4, min_sat_radius_extend 1",
        NIRCAM,
        1403,
        asked={"expand_factor": 3.0, "sat_expand": 4, "min_sat_radius_extend": 1.0},
    ),
    _row(
        "snowballs_areas",
        "min_jump_area 15, min_sat_area 9, edge_size 60",
        NIRCAM,
        1403,
        asked={"min_jump_area": 15.0, "min_sat_area": 9.0, "edge_size": 60},
    ),
    _row(
        "snowballs_small",
        "max_extended_radius 6, edge_size 0",
        NIRCAM,
        1403,
        asked={"max_extended_radius": 6, "edge_size": 0},
    ),
    _row("snowballs_averaged", "SHALLOW4, NIRCam SUB640", AVERAGED, 1404),
    _row("snowballs_wide", "NIRSpec SUB2048, 2 x 6 groups", WIDE, 1405),
    _row(
        "snowballs_irs2",
        "NIRSpec IRS2RAPID",
        INTERLEAVED,
        1406,
        make=partial(_interleaved, INTERLEAVED, 1406),
    ),
    _row(
        "snowballs_miri",
        "MIRI full frame, FASTR1, 10 groups: large events without saturation",
        MIRI,
        1407,
        asked={"use_ellipses": True, "sat_required_snowball": False, "min_jump_area": 15.0},
    ),
)
