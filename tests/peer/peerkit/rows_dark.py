"""Rows: darks, of which the ramps are the product, and the ramps that are fitted."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from peerkit.rows import Row
from peerkit.rows_miri import FULL as MIRI
from peerkit.rows_ramps import KEPT, ZERO_FOUR
from peerkit.scenes import Scene, write
from upramp.simulate.observation import Observation


def _dark(detector: str, exp_type: str, **how: Any) -> Scene:
    """Nothing but what the detector itself does, with reference pixels at the edges."""
    usual: dict[str, Any] = {"detector": detector, "exp_type": exp_type, "ny": 2048, "nx": 2048, "ngroups": 6}
    return Scene(Observation(**usual | how), stars=60, flux=(2.0, 5.3), background=0.02, whole=True)


def _row(name: str, what: str, step: str, serial: int, scene: Scene, **more: Any) -> Row:
    usual: dict[str, Any] = {"pipeline": "dark", "products": ("dark",)}
    return Row(name, what, step, partial(write, scene, serial=serial), **usual | more)


NIRCAM = _dark("NRCALONG", "NRC_DARK", readpatt="SHALLOW4", nints=2, tframe=10.0)
SMALL = Scene(
    Observation(
        detector="NIS",
        exp_type="NIS_DARK",
        subarray="SUB128",
        ny=128,
        nx=128,
        xstart=1,
        ystart=1921,
        ngroups=6,
        nints=3,
    ),
    background=0.02,
)
FITTED = {"detector1": {"save_calibrated_ramp": True}}
RAMPS = ("ramp", "rate", "rateints")

ROWS: tuple[Row, ...] = (
    _row("dark_nircam", "calwebb_dark, NIRCam full frame, SHALLOW4", "refpix", 801, NIRCAM),
    _row("dark_niriss", "calwebb_dark, NIRISS SUB128", "superbias", 802, SMALL, long=False),
    _row(
        "dark_nirspec",
        "calwebb_dark, NIRSpec full frame",
        "linearity",
        803,
        _dark("NRS1", "NRS_DARK", readpatt="NRSRAPID"),
    ),
    _row("dark_fgs", "calwebb_dark, FGS full frame", "superbias", 804, _dark("GUIDER1", "FGS_DARK")),
    _row(
        "dark_miri",
        "calwebb_dark, MIRI imager",
        "reset",
        805,
        replace(MIRI, observation=replace(MIRI.observation, exp_type="MIR_DARKIMG")),
    ),
    _row(
        "ramps_nircam",
        "save_calibrated_ramp, NIRCam full frame, SHALLOW4",
        "jump",
        806,
        replace(NIRCAM, observation=replace(NIRCAM.observation, exp_type="NRC_IMAGE"), background=3.0),
        pipeline="detector1",
        products=RAMPS,
        steps=FITTED,
    ),
    _row(
        "ramps_miri",
        "save_calibrated_ramp, MIRI imager",
        "refpix",
        807,
        MIRI,
        pipeline="detector1",
        products=RAMPS,
        steps=FITTED,
    ),
    _row(
        "ramps_zero_frame",
        "save_calibrated_ramp with frame zero, NIRCam, SHALLOW4, four outputs",
        "refpix",
        808,
        ZERO_FOUR,
        pipeline="detector1",
        products=RAMPS,
        steps=FITTED,
        long=False,
    ),
    _row(
        "ramps_zero_frame_used",
        "the same, single groups kept",
        "ramp_fit",
        808,
        ZERO_FOUR,
        pipeline="detector1",
        products=RAMPS,
        steps=FITTED | KEPT,
        idle=FITTED,
    ),
    _row(
        "dark_zero_frame",
        "calwebb_dark with frame zero",
        "superbias",
        810,
        replace(ZERO_FOUR, observation=replace(ZERO_FOUR.observation, exp_type="NRC_DARK", tso=False)),
    ),
)
