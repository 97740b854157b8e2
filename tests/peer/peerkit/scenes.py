"""Small exposures with everything that stage 1 has a rule for, each with a CRDS cache of its own.

Stars from faint to saturated in the first group, many cosmic rays, dead, hot and flagged pixels,
reference pixels where the subarray touches the detector's edge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from upramp.simulate.cache import Cache
from upramp.simulate.detector import Detector, draw
from upramp.simulate.effects import Effect
from upramp.simulate.expose import Noise, expose
from upramp.simulate.irs2 import Interleaving
from upramp.simulate.observation import Observation
from upramp.simulate.references import write_all
from upramp.simulate.uncal import write_exposure

FWHM = 2.3

STEADY: dict[str, Any] = {"amplifier": 0.5, "odd_even": 0.5, "drift": 0.3}
"""Electronic patterns (DN) where no reference pixel can take them out: else half the pixels would jump."""


@dataclass(frozen=True)
class Scene:
    """An exposure to draw.

    ``stars`` of ``flux`` (decades, DN/s, drawn evenly in the logarithm) on a ``background`` (DN/s);
    ``cosmic_rays`` per pixel and second; ``whole``: references cover the full detector, so that both
    packages have to cut them; ``parameters``: CRDS parameter references, by type; ``effects`` makes what
    else happens; ``segment`` (from 0) of ``segments`` is taken; ``flat``: there is a flat reference.
    """

    observation: Observation
    stars: int = 40
    flux: tuple[float, float] = (1.5, 5.3)
    background: float = 3.0
    cosmic_rays: float = 2e-4
    zeroframe: bool = False
    ipc: float = 0.0
    whole: bool = False
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    effects: Callable[[Observation], Sequence[Effect]] = lambda observation: ()
    segments: int = 1
    segment: int = 0
    flat: bool = False


@dataclass(frozen=True)
class Input:
    """A scene on disk: the uncal file, the environment that selects its CRDS cache, all files it needs."""

    uncal: Path
    environment: Mapping[str, str]
    files: tuple[Path, ...]


def _nircam(**how: Any) -> Observation:
    """NRCBLONG, SUB160, frames 10 s apart."""
    usual: dict[str, Any] = {
        "detector": "NRCBLONG",
        "subarray": "SUB160",
        "ny": 160,
        "nx": 160,
        "xstart": 933,
        "ystart": 941,
        "tframe": 10.0,
    }
    return Observation(**usual | how)


def _niriss(**how: Any) -> Observation:
    """NIRISS, SUB128 in the detector's corner: four rows and columns of reference pixels."""
    usual: dict[str, Any] = {
        "detector": "NIS",
        "subarray": "SUB128",
        "ny": 128,
        "nx": 128,
        "xstart": 1921,
        "ystart": 1921,
        "tframe": 10.0,
    }
    return Observation(**usual | how)


def _nirspec(**how: Any) -> Observation:
    """NRS1, SUB2048: a full row of the detector, reference pixels at both ends."""
    usual: dict[str, Any] = {
        "detector": "NRS1",
        "subarray": "SUB2048",
        "ny": 32,
        "nx": 2048,
        "xstart": 1,
        "ystart": 1025,
        "tframe": 5.0,
        "exp_type": "NRS_BRIGHTOBJ",
    }
    return Observation(**usual | how)


SCENES: dict[str, Scene] = {
    "rapid": Scene(_nircam(ngroups=5, nints=3)),
    "one_group": Scene(_nircam(ngroups=1, nints=3)),
    "one_averaged_group": Scene(_nircam(ngroups=1, nints=2, readpatt="MEDIUM8", tframe=3.0)),
    "two_groups": Scene(_nircam(ngroups=2, nints=3)),
    "three_groups": Scene(_nircam(ngroups=3, nints=3, readpatt="BRIGHT1")),
    "four_groups": Scene(_nircam(ngroups=4, readpatt="BRIGHT1")),
    "ten_groups": Scene(_nircam(ngroups=10, readpatt="BRIGHT2", tframe=5.0)),
    "shallow4": Scene(_nircam(ngroups=6, readpatt="SHALLOW4", tframe=4.0)),
    "medium8": Scene(_nircam(ngroups=5, nints=2, readpatt="MEDIUM8", tframe=3.0)),
    "zeroframe": Scene(_nircam(ngroups=5, nints=2, readpatt="SHALLOW4"), flux=(3.5, 5.5), zeroframe=True),
    "ipc": Scene(_nircam(ngroups=5), ipc=0.005),
    "divided": Scene(_nircam(ngroups=5, readpatt="SHALLOW4", extra={"exposure.frame_divisor": 8})),
    "gain_factor": Scene(_nircam(ngroups=4, nints=2, extra={"exposure.gain_factor": 2.0})),
    "parameter_reference": Scene(
        _nircam(ngroups=5), parameters={"pars-jumpstep": {"rejection_threshold": 9.0}}
    ),
    "sub64p": Scene(
        Observation(
            detector="NRCB1",
            subarray="SUB64P",
            ny=64,
            nx=64,
            xstart=1851,
            ystart=1817,
            ngroups=6,
            nints=2,
            tframe=10.0,
        ),
        stars=10,
        whole=True,
    ),
    "grism64_four_outputs": Scene(
        Observation(
            detector="NRCALONG",
            subarray="SUBGRISM64",
            ny=64,
            nx=2048,
            ngroups=4,
            nints=2,
            noutputs=4,
            tframe=8.0,
            exp_type="NRC_TSGRISM",
            tso=True,
        ),
    ),
    "grism64_one_output": Scene(
        Observation(
            detector="NRCALONG",
            subarray="SUBGRISM64",
            ny=64,
            nx=2048,
            ngroups=4,
            nints=1,
            noutputs=1,
            tframe=8.0,
            exp_type="NRC_TSGRISM",
            tso=True,
        ),
    ),
    "full": Scene(
        Observation(detector="NRCALONG", ny=2048, nx=2048, ngroups=4, readpatt="BRIGHT1"),
        stars=2000,
        whole=True,
    ),
    "niriss": Scene(_niriss(ngroups=5, nints=2)),
    "niriss_averaged": Scene(_niriss(ngroups=5, readpatt="NIS", tframe=3.0)),
    "wfss64r": Scene(
        _niriss(subarray="WFSS64R", ny=2048, nx=64, xstart=1985, ystart=1, ngroups=5, exp_type="NIS_WFSS"),
    ),
    "niriss_full": Scene(
        Observation(detector="NIS", ny=2048, nx=2048, ngroups=3, readpatt="NISRAPID"), stars=2000, whole=True
    ),
    "sub2048": Scene(_nirspec(ngroups=6, nints=2)),
    "sub512": Scene(
        _nirspec(subarray="SUB512", nx=512, xstart=801, ngroups=5, readpatt="NRS", tframe=2.0, nints=2)
    ),
    "nirspec_full": Scene(
        Observation(
            detector="NRS2", ny=2048, nx=2048, ngroups=3, readpatt="NRSRAPID", exp_type="NRS_MSASPEC"
        ),
        stars=2000,
        whole=True,
    ),
    "fgs": Scene(
        Observation(
            detector="GUIDER2",
            subarray="SUB128LL",
            ny=128,
            nx=128,
            xstart=1921,
            ystart=1,
            ngroups=5,
            readpatt="FGS",
            tframe=3.0,
            nints=2,
        ),
    ),
    "fgs_rapid": Scene(
        Observation(
            detector="GUIDER1",
            subarray="SUB128DIAG",
            ny=128,
            nx=128,
            xstart=1441,
            ystart=481,
            ngroups=8,
            tframe=10.0,
        ),
    ),
}


def sky(scene: Scene, seed: int) -> np.ndarray:
    """What falls on the window, DN/s, float32 [ny, nx]."""
    o = scene.observation
    rng = np.random.default_rng(seed)
    image = np.full((o.ny, o.nx), scene.background, np.float32)
    sigma, reach = FWHM / 2.3548, 9
    for y, x, decade in zip(
        rng.uniform(0, o.ny, scene.stars),
        rng.uniform(0, o.nx, scene.stars),
        rng.uniform(*scene.flux, scene.stars),
        strict=True,
    ):
        y0, x0 = max(int(y) - reach, 0), max(int(x) - reach, 0)
        cut = image[y0 : int(y) + reach, x0 : int(x) + reach]
        dy = np.arange(y0, y0 + cut.shape[0])[:, None] - y
        dx = np.arange(x0, x0 + cut.shape[1])[None, :] - x
        cut += 10**decade / (2 * np.pi * sigma**2) * np.exp(-(dy**2 + dx**2) / (2 * sigma**2))
    return image


@lru_cache(maxsize=1)
def _detector(name: str, ipc: float) -> Detector:
    return draw(name, ipc=ipc, bad=3e-3, hot=3e-3)


def make(name: str, root: Path) -> Input:
    """Draw a scene of the table and write it below ``root``."""
    return write(SCENES[name], root / name, list(SCENES).index(name) + 1)


def write(scene: Scene, folder: Path, serial: int, reading: Interleaving | None = None) -> Input:
    """Draw a scene and write it below ``folder`` with its CRDS cache; the same bytes every time.

    ``serial`` seeds the draw and numbers the context; ``reading`` puts reference pixels between.
    """
    detector = _detector(scene.observation.detector, scene.ipc)
    own = detector.cut(scene.observation.window)
    cache = Cache(folder / "crds", serial=serial)
    effects = scene.effects(scene.observation)
    write_all(cache, detector, [scene.observation], whole=scene.whole, with_flat=scene.flat, effects=effects)
    for reftype, values in scene.parameters.items():
        cache.parameters(
            detector.layout.instrument, reftype, dict(values), step_class=PARAMETER_CLASSES[reftype]
        )
    if reading is not None:
        reading.truth(cache, detector, scene.observation)
    context = cache.write()
    exposure = expose(
        detector,
        sky(scene, serial),
        scene.observation,
        seed=serial,
        noise=Noise(cosmic_rays=scene.cosmic_rays, **({} if own.reference_pixels.any() else STEADY)),
        zeroframe=scene.zeroframe,
        effects=effects,
    )
    # FRMDIVSR other than NFRAMES: the sum of the frames was divided by another number than theirs
    nframes = scene.observation.pattern.nframes
    counts = exposure.counts // np.uint16(
        scene.observation.extra.get("exposure.frame_divisor", nframes) // nframes
    )
    if reading is not None:
        counts = reading.read(counts, scene.observation)
    written = write_exposure(
        folder / "in", counts, scene.observation, segments=scene.segments, zeroframe=exposure.zeroframe
    )
    uncal = written[scene.segment]
    environment = cache.environment | {"CRDS_CONTEXT": context}
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "server_config")
    return Input(uncal, environment, tuple(files))


PARAMETER_CLASSES = {"pars-jumpstep": "jwst.jump.jump_step.JumpStep"}
"""Dotted names that parameter references carry."""
