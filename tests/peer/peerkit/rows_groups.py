"""Rows: few groups, ramps saturated throughout, groups left out at both ends; of every instrument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from peerkit.rows import Row
from peerkit.rows_options import BRIGHTSKY, SUB640
from peerkit.scenes import SCENES, Scene, write

NIRISS = replace(
    SCENES["niriss"],
    observation=replace(
        SCENES["niriss"].observation, subarray="SUB256", ny=256, nx=256, xstart=1793, ystart=1793
    ),
)

INSTRUMENTS: dict[str, tuple[str, Scene]] = {
    "nircam": ("NIRCam SUB640", SUB640),
    "niriss": ("NIRISS SUB256", NIRISS),
    "nirspec": ("NIRSpec SUB2048", SCENES["sub2048"]),
    "fgs": ("FGS SUB128LL", SCENES["fgs"]),
    "miri": ("MIRI BRIGHTSKY", BRIGHTSKY),
}
"""Where, and an exposure of several integrations."""

TIMES = {"nircam": 2, "niriss": 8, "nirspec": 8, "fgs": 24, "miri": 3}
"""So many integrations make exposures of about the same size."""


def _with(scene: Scene, **how: Any) -> Scene:
    return replace(scene, observation=replace(scene.observation, **how))


def _row(name: str, what: str, step: str, serial: int, scene: Scene, **more: Any) -> Row:
    return Row(name, what, step, partial(write, scene, serial=serial), **more)


def _one(name: str, where: str, scene: Scene, serial: int) -> Row:
    step = "reset" if name == "miri" else "superbias"
    return _row(
        f"one_group_{name}",
        f"{where}: one group",
        step,
        serial,
        _with(scene, ngroups=1, nints=3 * TIMES[name]),
    )


def _two(name: str, where: str, scene: Scene, serial: int) -> Row:
    two = _with(scene, ngroups=2, nints=2 * TIMES[name])
    return _row(f"two_groups_{name}", f"{where}: two groups", "linearity", serial, two)


def _saturated(name: str, where: str, scene: Scene, serial: int) -> Row:
    """A third or so of all pixels reach saturation within the first group."""
    bright = _with(replace(scene, stars=100, flux=(4.5, 7.0)), ngroups=6, nints=TIMES[name])
    what = f"{where}: ramps that are saturated throughout"
    return _row(f"saturated_{name}", what, "saturation", serial, bright)


def _ends(name: str, where: str, scene: Scene, serial: int) -> Row:
    """ramp_fit sets DO_NOT_USE in the groups at both ends."""
    return _row(
        f"ends_{name}",
        f"{where}: the first and the last two of 9 groups are DO_NOT_USE",
        "ramp_fit",
        serial,
        _with(scene, ngroups=9, nints=TIMES[name]),
        steps={"ramp_fit": {"firstgroup": 1, "lastgroup": 6}},
        idle={"ramp_fit": {}},
    )


KINDS: tuple[Callable[[str, str, Scene, int], Row], ...] = (_one, _two, _saturated, _ends)

ROWS: tuple[Row, ...] = tuple(
    make(name, where, scene, 1501 + 10 * k + i)
    for k, make in enumerate(KINDS)
    for i, (name, (where, scene)) in enumerate(INSTRUMENTS.items())
)
