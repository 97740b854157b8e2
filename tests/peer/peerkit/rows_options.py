"""Rows: the options of steps that have no family of their own, one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from peerkit.rows import Row
from peerkit.rows_miri import _scene as mid_infrared
from peerkit.scenes import SCENES, Input, Scene, write
from upramp.simulate.observation import Observation


def _nircam(**how: Any) -> Scene:
    """NRCBLONG, SUB640: large enough that what goes with every file does not count."""
    usual: dict[str, Any] = {
        "detector": "NRCBLONG",
        "subarray": "SUB640",
        "ny": 640,
        "nx": 640,
        "tframe": 10.0,
    }
    place = {"xstart": 933, "ystart": 941}
    return Scene(Observation(**usual | place | how), stars=400)


SUB640 = _nircam(ngroups=5, nints=2)
BRIGHTSKY = mid_infrared(subarray="BRIGHTSKY", ny=512, nx=512, xstart=457, ystart=51, ngroups=12)
MIRI = BRIGHTSKY
SERIES = Scene(
    Observation(
        detector="NIS",
        subarray="SUB64",
        ny=64,
        nx=64,
        xstart=1985,
        ystart=1985,
        ngroups=5,
        nints=120,
        tframe=10.0,
    ),
    stars=12,
)


def _option(name: str, step: str, scene: Scene, serial: int, options: Mapping[str, Any], **more: Any) -> Row:
    """One option, or some that belong together, against the defaults."""
    told = ", ".join(f"{key} {value}" for key, value in options.items())
    what = more.pop("what", f"{step}: {told}")
    steps = {step: dict(options)}
    return Row(name, what, step, partial(write, scene, serial=serial), steps, idle={}, **more)


def _row(name: str, what: str, step: str, scene: Scene, serial: int, **more: Any) -> Row:
    return Row(name, what, step, partial(write, scene, serial=serial), **more)


def _with_flags(scene: Scene, serial: int, folder: Path) -> Input:
    """An exposure with flags of the user's own, flags.fits beside the uncal file."""
    made = write(scene, folder, serial)
    path, o = made.uncal.with_name("flags.fits"), scene.observation
    flags = np.random.default_rng(serial).choice([0, 1, 1 << 10], (o.ny, o.nx), p=[0.9, 0.05, 0.05])
    fits.PrimaryHDU(flags.astype(np.int32)).writeto(path)
    return replace(made, files=(*made.files, path))


RAPID = SUB640
TEN = _nircam(ngroups=10, readpatt="BRIGHT2", tframe=5.0)
FOUR, THREE = _nircam(ngroups=4, readpatt="BRIGHT1"), _nircam(ngroups=3, readpatt="BRIGHT1")
SHALLOW = _nircam(ngroups=6, readpatt="SHALLOW4", tframe=4.0)
GRISM = replace(
    SCENES["grism64_four_outputs"], observation=replace(SCENES["grism64_four_outputs"].observation, nints=6)
)
CORNER = Scene(
    Observation(
        detector="NIS",
        subarray="SUB256",
        ny=256,
        nx=256,
        xstart=1793,
        ystart=1793,
        ngroups=5,
        nints=6,
        tframe=10.0,
    ),
    stars=150,
)

JUMP: tuple[Row, ...] = (
    _option("rejection_threshold", "jump", RAPID, 1601, {"rejection_threshold": 9.0}),
    _option("three_groups", "jump", THREE, 1602, {"three_group_rejection_threshold": 20.0}),
    _option("four_groups", "jump", FOUR, 1603, {"four_group_rejection_threshold": 60.0}),
    _option("no_neighbours", "jump", RAPID, 1601, {"flag_4_neighbors": False}),
    _option("neighbours_of_few", "jump", RAPID, 1601, {"min_jump_to_flag_neighbors": 60.0}),
    _option("neighbours_of_larger", "jump", RAPID, 1601, {"max_jump_to_flag_neighbors": 100.0}),
    _option(
        "after_jump_one", "jump", TEN, 1604, {"after_jump_flag_dn1": 100.0, "after_jump_flag_time1": 20.0}
    ),
    _option(
        "after_jump_two", "jump", TEN, 1604, {"after_jump_flag_dn2": 1000.0, "after_jump_flag_time2": 45.0}
    ),
    _option(
        "after_jump_both",
        "jump",
        TEN,
        1604,
        {
            "after_jump_flag_dn1": 100.0,
            "after_jump_flag_time1": 20.0,
            "after_jump_flag_dn2": 1000.0,
            "after_jump_flag_time2": 45.0,
        },
    ),
    _option("single_pass", "jump", RAPID, 1601, {"min_diffs_single_pass": 3}),
    _row("sigma_clipping", "jump: 120 integrations, clipped difference by difference", "jump", SERIES, 1605),
    _option("sigma_clipping_all", "jump", SERIES, 1605, {"only_use_ints": False}),
    _option("sigma_clipping_not", "jump", SERIES, 1605, {"minimum_sigclip_groups": 1000}),
    _option("sigma_clipping_early", "jump", _nircam(ngroups=5, nints=4), 1606, {"minimum_sigclip_groups": 3}),
)

OTHERS: tuple[Row, ...] = (
    _row(
        "group_scale",
        "group_scale: FRMDIVSR 8 of 4 frames",
        "group_scale",
        _nircam(ngroups=5, nints=2, readpatt="SHALLOW4", extra={"exposure.frame_divisor": 8}),
        1611,
    ),
    _row("ipc", "ipc, NIRCam SUB640", "ipc", replace(SUB640, ipc=0.005), 1612),
    _row("ipc_miri", "ipc, MIRI BRIGHTSKY", "ipc", replace(MIRI, ipc=0.005), 1613),
    _row(
        "gain_scale",
        "gain_scale: GAINFACT 2",
        "gain_scale",
        _nircam(ngroups=4, nints=2, extra={"exposure.gain_factor": 2.0}),
        1614,
    ),
    Row(
        "user_supplied_dq",
        "dq_init: user_supplied_dq",
        "dq_init",
        partial(_with_flags, RAPID, 1615),
        {"dq_init": {"user_supplied_dq": "@flags.fits"}},
        idle={},
    ),
    _option("grow_not", "saturation", RAPID, 1601, {"n_pix_grow_sat": 0}),
    _option("read_pattern_not", "saturation", SHALLOW, 1616, {"use_readpatt": False}),
    _option("columns_alike", "refpix", GRISM, 1617, {"odd_even_columns": False}),
    _option("columns_alike_one_output", "refpix", CORNER, 1618, {"odd_even_columns": False}),
    _option("sides_not", "refpix", GRISM, 1617, {"use_side_ref_pixels": False}),
    _option("sides_smoother", "refpix", GRISM, 1617, {"side_smoothing_length": 21}),
    _option("sides_gain", "refpix", GRISM, 1617, {"side_gain": 0.7}),
    _option("clipped_harder", "refpix", GRISM, 1617, {"siglimit": 2.0}),
    _option("average_dark_current", "dark_current", RAPID, 1601, {"average_dark_current": 0.5}),
    _option("average_dark_current_miri", "dark_current", MIRI, 1619, {"average_dark_current": 0.2}),
    _option("charge_migration_default", "charge_migration", TEN, 1604, {"skip": False}),
    _option(
        "fitopt_miri", "ramp_fit", MIRI, 1619, {"save_opt": True}, products=("rate", "rateints", "fitopt")
    ),
    _option("firstgroup_miri", "ramp_fit", MIRI, 1619, {"firstgroup": 4}),
    _option(
        "fitopt_miri_bright",
        "ramp_fit",
        replace(MIRI, flux=(4.0, 6.0), stars=400),
        1620,
        {"save_opt": True},
        products=("rate", "rateints", "fitopt"),
    ),
    _option(
        "fitopt_miri_firstgroup",
        "ramp_fit",
        MIRI,
        1619,
        {"save_opt": True, "firstgroup": 5},
        products=("rate", "rateints", "fitopt"),
    ),
    _option("lastgroup_miri", "ramp_fit", MIRI, 1619, {"lastgroup": 7}),
)

ROWS: tuple[Row, ...] = (*JUMP, *OTHERS)
