"""Rows: flicker noise and picture frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from peerkit.rows import Row
from peerkit.scenes import Scene, write
from upramp.simulate.effects import Effect, Flicker
from upramp.simulate.observation import Observation


def _flicker(**how: Any) -> Callable[[Observation], Sequence[Effect]]:
    return lambda observation: (Flicker(observation, **how),)


IMAGE = Scene(
    Observation(detector="NRCALONG", ny=2048, nx=2048, ngroups=5, readpatt="BRIGHT1"),
    stars=2000,
    whole=True,
    effects=_flicker(),
)
SERIES = Scene(
    Observation(
        detector="NRCALONG", subarray="SUBGRISM64", ny=64, nx=2048, ngroups=5, nints=8, noutputs=4,
        tframe=8.0, exp_type="NRC_TSGRISM", tso=True,
    ),
    effects=_flicker(),
)  # fmt: skip
SUB160 = Scene(
    Observation(
        detector="NRCBLONG", subarray="SUB160", ny=160, nx=160, xstart=933, ystart=941, ngroups=6, nints=3,
        tframe=10.0,
    ),
    effects=_flicker(),
)  # fmt: skip


def _row(name: str, what: str, scene: Scene, serial: int, **more: Any) -> Row:
    options = {"skip": False, **more.pop("options", {})}
    make = partial(write, scene, serial=serial)
    steps = {"clean_flicker_noise": options}
    return Row(name, f"clean_flicker_noise, {what}", "clean_flicker_noise", make, steps, **more)


ROWS: tuple[Row, ...] = (
    _row("flicker_small", "NIRCam SUB160, 3 x 6 groups", SUB160, 901, long=False),
    _row("flicker", "NIRCam full frame, BRIGHT1, 5 groups", IMAGE, 902),
    _row(
        "flicker_channels",
        "fit_by_channel, NIRCam full frame",
        IMAGE,
        902,
        options={"fit_by_channel": True},
    ),
    _row("flicker_series", "NIRCam grism time series, SUBGRISM64, 8 x 5 groups", SERIES, 903),
    _row(
        "flicker_none",
        "background_method None, NIRCam SUB160",
        SUB160,
        901,
        options={"background_method": None},
    ),
    _row(
        "flicker_masks",
        "single_mask false, NIRCam SUB160, 3 integrations",
        SUB160,
        901,
        options={"single_mask": False},
    ),
    _row("flicker_unclipped", "n_sigma 0, NIRCam SUB160", SUB160, 901, options={"n_sigma": 0.0}),
)
