"""Rows: the mid infrared."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from peerkit.rows import Row
from peerkit.scenes import Scene, write
from upramp.simulate.effects import Effect, OddGroup, ResetDecay, SwitchDecay
from upramp.simulate.observation import Observation


def _settling(o: Observation) -> Sequence[Effect]:
    """What the reset leaves, and a last group that lies off."""
    rng = np.random.default_rng(7)
    image = 40 + 10 * rng.standard_normal((o.ny, o.nx)).astype(np.float32)
    return (ResetDecay(image), SwitchDecay(), OddGroup(-1, -25.0, o.ngroups))


def _scene(**how: Any) -> Scene:
    usual: dict[str, Any] = {"detector": "MIRIMAGE", "ny": 1024, "nx": 1032, "ngroups": 10, "nints": 2}
    scene = {k: how.pop(k) for k in ("segments", "segment") if k in how}
    return Scene(
        Observation(**usual | how), stars=400, background=20.0, whole=True, effects=_settling, **scene
    )


FULL = _scene()
SUB64: dict[str, Any] = {"subarray": "SUB64", "ny": 64, "nx": 72, "xstart": 1, "ystart": 779}
SLITLESS: dict[str, Any] = {
    "subarray": "SLITLESSPRISM",
    "ny": 416,
    "nx": 72,
    "xstart": 1,
    "ystart": 529,
    "exp_type": "MIR_LRS-SLITLESS",
    "tso": True,
    "extra": {"instrument.filter": "P750L"},
}


def _row(name: str, what: str, step: str, serial: int, scene: Scene = FULL, **more: Any) -> Row:
    return Row(name, what, step, partial(write, scene, serial=serial), **more)


ROWS: tuple[Row, ...] = (
    _row("miri_reset", "MIRI full frame, FASTR1, 2 x 10 groups: reset", "reset", 301),
    _row("miri_rscd", "the same: rscd", "rscd", 301),
    _row("miri_lastframe", "the same: lastframe", "lastframe", 301),
    _row("miri_refpix", "the same: refpix", "refpix", 301),
    _row(
        "miri_refpix_rows_alike",
        "refpix, rows alike",
        "refpix",
        301,
        steps={"refpix": {"odd_even_rows": False}},
    ),
    _row("miri_firstframe", "firstframe", "firstframe", 301, steps={"firstframe": {"skip": False}}),
    _row(
        "miri_firstframe_all",
        "firstframe, bright pixels too",
        "firstframe",
        301,
        steps={"firstframe": {"skip": False, "bright_use_group1": False}, "rscd": {"skip": True}},
    ),
    _row("miri_dark", "dark by integration", "dark_current", 301),
    _row(
        "miri_slow", "MIRI SLOWR1, 5 groups", "rscd", 302, _scene(ngroups=5, readpatt="SLOWR1", tframe=23.9)
    ),
    _row(
        "miri_averaged", "MIRI FASTGRPAVG, 6 groups", "reset", 303, _scene(ngroups=6, readpatt="FASTGRPAVG")
    ),
    _row("miri_four", "MIRI, 4 groups", "lastframe", 304, _scene(ngroups=4)),
    _row("miri_three", "MIRI, 3 groups", "lastframe", 305, _scene(ngroups=3)),
    _row("miri_two", "MIRI, 2 groups", "reset", 306, _scene(ngroups=2)),
    _row(
        "miri_mrs",
        "MIRI MRS, FASTR1, 1 x 12 groups",
        "reset",
        307,
        _scene(
            detector="MIRIFUSHORT",
            exp_type="MIR_MRS",
            ngroups=12,
            nints=1,
            extra={"instrument.channel": "12"},
        ),
    ),
    _row("miri_sub64", "MIRI SUB64, 20 x 12 groups", "rscd", 308, _scene(**SUB64, ngroups=12, nints=20)),
    _row(
        "miri_slitless",
        "MIRI LRS slitless, second of two segments of 12 x 15 groups",
        "reset",
        309,
        _scene(**SLITLESS, ngroups=15, nints=12, segments=2, segment=1),
        long=False,
    ),
)
