"""Rows: reference pixels filtered along the slow axis (SIRS)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from peerkit.rows import Row
from peerkit.scenes import Scene, write
from upramp.simulate.effects import Effect, RowDrift
from upramp.simulate.observation import Observation

SIRS: dict[str, Any] = {"refpix": {"refpix_algorithm": "sirs"}}
MEDIANS: dict[str, Any] = {"refpix": {}}


def _drift(o: Observation) -> Sequence[Effect]:
    return (RowDrift(o),)


def _scene(detector: str, **how: Any) -> Scene:
    usual: dict[str, Any] = {"detector": detector, "ny": 2048, "nx": 2048, "ngroups": 4}
    return Scene(Observation(**usual | how), stars=2000, whole=True, effects=_drift)


def _row(name: str, what: str, serial: int, scene: Scene, **more: Any) -> Row:
    made: dict[str, Any] = {"steps": SIRS, "idle": MEDIANS} | more
    return Row(name, what, "refpix", partial(write, scene, serial=serial), **made)


NIRCAM = _scene("NRCA1", readpatt="RAPID")

ROWS: tuple[Row, ...] = (
    _row("sirs_nircam", "SIRS against running medians, NIRCam", 401, NIRCAM),
    _row(
        "sirs_options",
        "SIRS with sigreject 2.5, gaussmooth 3, halfwidth 12",
        401,
        NIRCAM,
        steps={"refpix": {"refpix_algorithm": "sirs", "sigreject": 2.5, "gaussmooth": 3.0, "halfwidth": 12}},
    ),
    _row("sirs_niriss", "SIRS, NIRISS", 402, _scene("NIS", readpatt="NISRAPID")),
    _row("sirs_nirspec", "SIRS, NIRSpec", 403, _scene("NRS2", readpatt="NRSRAPID", exp_type="NRS_MSASPEC")),
)
