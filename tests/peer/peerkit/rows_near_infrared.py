"""Rows: the near-infrared instruments as they are, and the options of their steps."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from peerkit.rows import Row
from peerkit.scenes import SCENES, Input, Scene, write
from upramp.simulate.observation import Observation


def _make(scene: Scene, serial: int, folder: Path) -> Input:
    return write(scene, folder, serial)


def _row(name: str, what: str, step: str, scene: Scene, serial: int, **more: Any) -> Row:
    return Row(name, what, step, partial(_make, scene, serial), **more)


def _full(detector: str, **how: Any) -> Scene:
    """A full frame of 2048 x 2048 pixels."""
    usual: dict[str, Any] = {"detector": detector, "ny": 2048, "nx": 2048, "ngroups": 5}
    return Scene(Observation(**usual | how), stars=2000, whole=True)


NIRCAM = _full("NRCALONG", readpatt="BRIGHT1")
NIRISS = _full("NIS", readpatt="NISRAPID")
NIRSPEC = _full("NRS1", readpatt="NRSRAPID", exp_type="NRS_MSASPEC")
FGS = _full("GUIDER1", readpatt="FGSRAPID")

ROWS: tuple[Row, ...] = (
    _row("nircam", "NIRCam full frame, BRIGHT1", "refpix", NIRCAM, 201),
    _row("niriss", "NIRISS full frame, NISRAPID", "refpix", NIRISS, 202),
    _row("nirspec", "NIRSpec full frame, NRSRAPID", "refpix", NIRSPEC, 203),
    _row("fgs", "FGS full frame, FGSRAPID", "refpix", FGS, 204),
    _row(
        "nircam_subarray",
        "NIRCam SUB160, 5 groups, 3 integrations",
        "linearity",
        SCENES["rapid"],
        205,
        long=False,
    ),
    _row(
        "charge_migration",
        "charge_migration, NIRCam full frame, signal above 9000 DN",
        "charge_migration",
        NIRCAM,
        206,
        steps={"charge_migration": {"skip": False, "signal_threshold": 9000.0}},
    ),
    _row(
        "saturation_grown",
        "saturation grown by two pixels, SHALLOW4",
        "saturation",
        SCENES["shallow4"],
        207,
        steps={"saturation": {"n_pix_grow_sat": 2}},
    ),
)
