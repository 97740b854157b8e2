"""Rates as files, drawn and not fitted: exposures for stage 2 that need no stage 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from upramp.simulate.detector import Detector
from upramp.simulate.observation import Observation
from upramp.simulate.uncal import asdf_hdu, fill_headers
from upramp.stages.core import dq

SPOILT = (dq.DO_NOT_USE | dq.SATURATED, dq.JUMP_DET, dq.DO_NOT_USE | dq.DEAD)
"""Flags that pixels are drawn for; those with DO_NOT_USE have no value."""


def build(
    detector: Detector,
    rate: np.ndarray,
    observation: Observation,
    *,
    seed: int = 1,
    spoilt: float = 0.01,
    by_integration: bool = False,
    name: str = "",
) -> fits.HDUList:
    """A rate product, or with ``by_integration`` a rateints product, in memory.

    Parameters
    ----------
    detector : Detector
        Gives gain, read noise and reference pixels.
    rate : ndarray, shape (ny, nx)
        What falls on the pixels, DN/s.
    spoilt : float
        Share of pixels that each of `SPOILT` is for.
    """
    o, rng = observation, np.random.default_rng(seed)
    own = detector.cut(o.window)
    shape = (o.nints, o.ny, o.nx) if by_integration else (o.ny, o.nx)
    seconds = o.group_seconds * o.ngroups * (1 if by_integration else o.nints)
    poisson = np.broadcast_to(rate / own.gain / seconds, shape).astype(np.float32)
    read = np.broadcast_to(12 * own.read_noise**2 / seconds**2 / o.ngroups, shape).astype(np.float32)
    err = np.sqrt(poisson + read)
    sci = (rate + err * rng.standard_normal(shape)).astype(np.float32)
    flags = np.broadcast_to(own.mask, shape).astype(np.uint32)
    for value in SPOILT:
        flags[rng.random(shape) < spoilt] |= np.uint32(value)
    bad = flags & dq.DO_NOT_USE != 0
    planes = {"SCI": sci, "ERR": err, "VAR_POISSON": poisson, "VAR_RNOISE": read}
    for plane in planes.values():
        plane[bad] = np.nan
    order = {"SCI": sci, "ERR": err, "DQ": flags, "VAR_POISSON": poisson, "VAR_RNOISE": read}

    meta = o.metadata() | {
        "filename": name or file_name(o, by_integration),
        "model_type": "CubeModel" if by_integration else "ImageModel",
        "bunit_data": "DN/s",
        "exposure.integration_start": 1,
        "exposure.integration_end": o.nints,
    }
    hdus = fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(a, name=n) for n, a in order.items())])
    fill_headers(hdus, meta)
    hdus["ERR"].header["BUNIT"] = "DN/s"
    if by_integration:
        hdus.insert(4, fits.BinTableHDU(o.int_times(), name="INT_TIMES"))
    for hdu in hdus[1:]:
        hdu.header["EXTVER"] = 1
    hdus.append(asdf_hdu(meta))
    return hdus


def file_name(observation: Observation, by_integration: bool = False) -> str:
    """The product's name by the observatory's rules."""
    return observation.file_name().replace("_uncal", "_rateints" if by_integration else "_rate")


def write(
    folder: Path | str,
    detector: Detector,
    rate: np.ndarray,
    observation: Observation,
    *,
    seed: int = 1,
    by_integration: bool = False,
) -> Path:
    """Write a rate or rateints file into ``folder``; see `build`. A file of its name is replaced."""
    path = Path(folder) / file_name(observation, by_integration)
    path.parent.mkdir(parents=True, exist_ok=True)
    build(detector, rate, observation, seed=seed, by_integration=by_integration).writeto(path, overwrite=True)
    return path
