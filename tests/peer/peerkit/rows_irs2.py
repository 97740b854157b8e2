"""Rows: NIRSpec's IRS2 read-out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from peerkit.rows import Row
from peerkit.scenes import Input, Scene, write
from upramp.simulate.irs2 import Interleaving
from upramp.simulate.observation import Observation


def _scene(detector: str, **how: Any) -> Scene:
    usual: dict[str, Any] = {
        "detector": detector,
        "ny": 2048,
        "nx": 2048,
        "ngroups": 4,
        "readpatt": "NRSIRS2RAPID",
        "exp_type": "NRS_MSASPEC",
        "noutputs": 5,
        "tframe": 14.58889,
    }
    return Scene(Observation(**usual | how), stars=2000, whole=True)


def _make(scene: Scene, serial: int, folder: Path) -> Input:
    return write(scene, folder, serial, reading=Interleaving(seed=serial))


def _row(name: str, what: str, step: str, scene: Scene, serial: int, **more: Any) -> Row:
    return Row(name, what, step, partial(_make, scene, serial), **more)


RAPID = _scene("NRS1")
UNREPLACED: dict[str, Any] = {"refpix": {"ovr_corr_mitigation_ftr": 1e6}}
MEANS: dict[str, Any] = {"refpix": {"irs2_mean_subtraction": True}}

ROWS: tuple[Row, ...] = (
    _row("irs2_rapid", "NIRSpec IRS2RAPID: bad reference pixels", "refpix", RAPID, 501, idle=UNREPLACED),
    _row("irs2_noise", "common noise", "refpix", RAPID, 501, idle={"refpix": {}}, steps=UNREPLACED),
    _row("irs2_means", "means by output and parity", "refpix", RAPID, 501, steps=MEANS, idle={"refpix": {}}),
    _row("irs2_saturation", "saturation", "saturation", RAPID, 501),
    _row(
        "irs2_averaged",
        "NRS2, IRS2 (5 frames), 2 x 3 groups: saturation",
        "saturation",
        _scene("NRS2", readpatt="NRSIRS2", ngroups=3, nints=2),
        502,
    ),
    _row("irs2_jump", "jump after IRS2", "jump", _scene("NRS2", ngroups=6), 503),
)
