"""Rows: exposures of stripes, and of superstripes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from peerkit.rows import Row
from peerkit.rows_dark import FITTED, RAMPS
from peerkit.scenes import STEADY, Input, Scene, _detector, sky
from upramp.simulate.cache import Cache
from upramp.simulate.expose import Noise
from upramp.simulate.observation import Observation
from upramp.simulate.references import write_all
from upramp.simulate.stripes import Striped
from upramp.simulate.uncal import write_exposure
from upramp.stages.core.stripes import Stripes


def write(scene: Scene, stripes: Stripes, serial: int, folder: Path) -> Input:
    """Draw an exposure of stripes with its CRDS cache; the same bytes every time. See `scenes.write`."""
    detector = _detector(scene.observation.detector, scene.ipc)
    striped = Striped(scene.observation, stripes)
    cache = Cache(folder / "crds", serial=serial)
    own = striped.own(detector)
    if stripes.regions == 1:
        write_all(cache, detector, [scene.observation], whole=True, own=own)
    else:
        write_all(cache, detector, [striped.parent], whole=True)
    environment = cache.environment | {"CRDS_CONTEXT": cache.write()}
    exposure = striped.expose(
        detector,
        [sky(scene, serial + region) for region in range(stripes.regions)],
        seed=serial,
        noise=Noise(cosmic_rays=scene.cosmic_rays, **({} if own.reference_pixels.any() else STEADY)),
        zeroframe=scene.zeroframe,
    )
    written = write_exposure(
        folder / "in",
        exposure.counts,
        striped.headed,
        segments=scene.segments,
        zeroframe=exposure.zeroframe,
    )
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "server_config")
    return Input(written[scene.segment], environment, tuple(files))


def _row(name: str, what: str, step: str, serial: int, scene: Scene, stripes: Stripes, **more: Any) -> Row:
    return Row(name, what, step, partial(write, scene, stripes, serial), **more)


def _dhs(subarray: str, ny: int, **how: Any) -> Scene:
    """Spectra of the Dispersed Hartmann Sensor: some stripes, a line of reference pixels ahead of each."""
    usual: dict[str, Any] = {"detector": "NRCA1", "nx": 2048, "ngroups": 6, "nints": 4, "noutputs": 4}
    mode: dict[str, Any] = {"exp_type": "NRC_TSGRISM", "tso": True, "tframe": 6.0}
    return Scene(Observation(**usual | mode | how, subarray=subarray, ny=ny), stars=80)


def _soss(subarray: str, nx: int, nints: int, **how: Any) -> Scene:
    """Single-object slitless spectra in superstripes, four columns of reference pixels ahead of each."""
    usual: dict[str, Any] = {"detector": "NIS", "ny": 256, "xstart": 2048, "ystart": 1793, "ngroups": 4}
    mode: dict[str, Any] = {"exp_type": "NIS_SOSS", "tso": True, "tframe": 6.0, "noutputs": 1}
    optics = {"instrument.filter": "CLEAR", "instrument.pupil": "GR700XD"}
    observation = Observation(**usual | mode | how, subarray=subarray, nx=nx, nints=nints, extra=optics)
    return Scene(observation, stars=8)


DHS = Stripes(1, 1549, 40, 82, 1, 1)
DHS_260 = Stripes(1, 1514, 64, 61, 1, 1)
ALIKE: dict[str, Any] = {"refpix": {"odd_even_columns": False}}
"""Of superstripes refpix cannot be left out, but it may do less."""

SOSS = Stripes(4, 0, 204, 0, 1, 1, 204, 10)
SOSS_680 = Stripes(4, 0, 680, 0, 1, 1, 680, 3)
SOSS_17 = Stripes(4, 0, 17, 0, 1, 1, 17, 120)
BARE = Stripes(0, 0, 0, 0, 0, 0, 8, 8)
PIECES: dict[str, Any] = {"subarray": "SUB64P_SUPSTP008", "ny": 8, "nx": 64, "xstart": 1851, "ystart": 1880}

ROWS: tuple[Row, ...] = (
    _row(
        "stripes_dhs",
        "NIRCam DHS, four stripes with reference lines between, 4 x 6 groups",
        "refpix",
        951,
        _dhs("SUB164STRIPE4_DHS", 164),
        DHS,
        long=False,
    ),
    _row(
        "stripes_dhs_averaged",
        "the same, SHALLOW4, columns alike, stripes of 64 lines",
        "saturation",
        952,
        _dhs("SUB260STRIPE4_DHS", 260, readpatt="SHALLOW4", nints=2),
        DHS_260,
        steps={"refpix": {"odd_even_columns": False}},
    ),
    _row(
        "stripes_dhs_backwards",
        "the same, a detector that is read backwards, ramps kept",
        "linearity",
        953,
        _dhs("SUB164STRIPE4_DHS", 164, detector="NRCA2", ystart=2048, nints=2),
        DHS,
        steps=FITTED,
        products=RAMPS,
    ),
    _row(
        "stripes_together",
        "stripes without reference lines between, one output",
        "refpix",
        954,
        _dhs("SUB164STRIPE4_DHS", 161, noutputs=1, nints=2),
        Stripes(1, 1549, 40, 82, 0, 0),
    ),
    _row(
        "superstripes_soss",
        "NIRISS SOSS, 3 integrations of 10 superstripes",
        "refpix",
        961,
        _soss("SUB204STRIPE_SOSS", 208, 30),
        SOSS,
        idle=ALIKE,
        long=False,
    ),
    _row(
        "superstripes_saturation",
        "the same: saturation does not grow into the next superstripe",
        "saturation",
        961,
        _soss("SUB204STRIPE_SOSS", 208, 30),
        SOSS,
        steps={"saturation": {"n_pix_grow_sat": 2}},
    ),
    _row(
        "superstripes_680",
        "NIRISS SOSS, 3 superstripes, several frames in a group, ramps kept",
        "linearity",
        962,
        _soss("SUB680STRIPE_SOSS", 684, 6, readpatt="NIS"),
        SOSS_680,
        steps=FITTED,
        products=RAMPS,
    ),
    _row(
        "superstripes_17",
        "NIRISS SOSS, 120 superstripes",
        "dark_current",
        963,
        _soss("SUB17STRIPE_SOSS", 21, 240),
        SOSS_17,
    ),
    _row(
        "superstripes_bare",
        "NIRCam SUB64P, 8 superstripes without reference pixels",
        "superbias",
        964,
        Scene(Observation(detector="NRCB1", **PIECES, ngroups=5, nints=24, tframe=6.0, noutputs=1), stars=3),
        BARE,
    ),
    _row(
        "superstripes_zero_frame",
        "the same with frame zero, SHALLOW4, ramps kept",
        "ramp_fit",
        965,
        Scene(
            Observation(
                detector="NRCB1", **PIECES, readpatt="SHALLOW4", ngroups=5, nints=24, tframe=6.0, noutputs=1
            ),
            stars=6,
            flux=(3.5, 6.0),
            zeroframe=True,
        ),
        BARE,
        steps=FITTED | {"ramp_fit": {"suppress_one_group": False}},
        idle=FITTED,
        products=RAMPS,
    ),
    _row(
        "superstripes_whole",
        "NIRCam whole detector, 4 superstripes without reference pixels",
        "linearity",
        966,
        Scene(
            Observation(
                detector="NRCA1",
                subarray="FULL_SUPSTP510",
                ny=510,
                nx=2048,
                ystart=5,
                ngroups=4,
                nints=8,
                noutputs=4,
                tframe=6.0,
            ),
            stars=500,
        ),
        Stripes(0, 0, 0, 0, 0, 0, 510, 4),
    ),
    _row(
        "superstripes_second_segment",
        "NIRISS SOSS, the second of two segments of 2 integrations",
        "refpix",
        967,
        replace(_soss("SUB204STRIPE_SOSS", 208, 40), segments=2, segment=1),
        SOSS,
        idle=ALIKE,
    ),
    _row(
        "superstripes_dark",
        "calwebb_dark of superstripes, NIRISS",
        "refpix",
        968,
        _soss("SUB204STRIPE_SOSS", 208, 60, exp_type="NIS_DARK", tso=False),
        SOSS,
        idle=ALIKE,
        pipeline="dark",
        products=("dark",),
    ),
    _row(
        "stripes_ipc",
        "NIRCam DHS with an ipc reference",
        "ipc",
        969,
        replace(_dhs("SUB164STRIPE4_DHS", 164), ipc=0.005),
        DHS,
    ),
)
