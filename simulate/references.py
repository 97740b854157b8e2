"""Reference files that tell the truth about a simulated detector, and their place in a cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asdf
import numpy as np
from astropy.io import fits

from upramp.simulate.cache import USEAFTER, Cache, dq_hdus
from upramp.simulate.detector import Detector
from upramp.simulate.effects import Effect
from upramp.simulate.observation import Observation
from upramp.stages.core import dq

DETECTOR = ("META.INSTRUMENT.DETECTOR",)
DARK_KEYS = ("META.INSTRUMENT.DETECTOR", "META.SUBARRAY.NAME")

MODELS = {
    "mask": "MaskModel",
    "saturation": "SaturationModel",
    "superbias": "SuperBiasModel",
    "linearity": "LinearityModel",
    "gain": "GainModel",
    "readnoise": "ReadnoiseModel",
    "dark": "DarkModel",
    "ipc": "IPCModel",
    "flat": "FlatModel",
    "reset": "ResetModel",
    "rscd": "RSCDModel",
    "refpix": "IRS2Model",
    "pictureframe": "PictureFrameModel",
    "area": "PixelAreaModel",
    "photom": "PhotomModel",
}


@dataclass(frozen=True)
class Window:
    """Part of a detector that a reference covers; ``name`` is its SUBARRAY."""

    name: str
    xstart: int
    ystart: int
    nx: int
    ny: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        y, x = self.ystart - 1, self.xstart - 1
        return slice(y, y + self.ny), slice(x, x + self.nx)


def build(
    reftype: str,
    detector: Detector,
    window: Window,
    extensions: Sequence[Any],
    extra: Mapping[str, Any] | None = None,
) -> fits.HDUList:
    """A reference file in memory: the keywords all references share, then its extensions."""
    primary = fits.PrimaryHDU()
    layout = detector.layout
    cards: dict[str, Any] = {
        "DATAMODL": MODELS[reftype],
        "TELESCOP": "JWST",
        "REFTYPE": reftype.upper(),
        "PEDIGREE": "DUMMY",
        "DESCRIP": "synthetic reference",
        "AUTHOR": "upramp",
        "USEAFTER": USEAFTER.replace(" ", "T"),
        "INSTRUME": layout.instrument,
        "DETECTOR": layout.detector,
        "SUBARRAY": window.name,
        "SUBSTRT1": window.xstart,
        "SUBSTRT2": window.ystart,
        "SUBSIZE1": window.nx,
        "SUBSIZE2": window.ny,
        "FASTAXIS": layout.fastaxis,
        "SLOWAXIS": layout.slowaxis,
    }
    if layout.module:
        cards |= {"MODULE": layout.module, "CHANNEL": layout.channel}
    primary.header.update(cards | dict(extra or {}))
    primary.header.add_history("Written by upramp's forward model; the values are its truth.")
    hdus = fits.HDUList([primary, *extensions])
    for hdu in hdus[1:]:
        hdu.header["EXTVER"] = 1
    return hdus


def write_all(
    cache: Cache,
    detector: Detector,
    observations: Sequence[Observation],
    *,
    whole: bool = True,
    with_flat: bool = False,
    dark_frames: int | None = None,
    flagged: int = 3,
    effects: Sequence[Effect] = (),
    own: Detector | None = None,
) -> None:
    """Write what stage 1 needs for these observations of one detector, and the rules.

    The caller then calls ``cache.write()``.

    Parameters
    ----------
    whole : bool
        References of the full detector (SUBARRAY GENERIC); if False, of the first observation's window.
        Darks always cover their own subarray, one for each.
    with_flat : bool
        Also a flat.
    dark_frames : int, optional
        Frames of the darks; by default as many as the longest observation reads.
    flagged : int
        How many pixels the quality planes of saturation, superbias, linearity and gain flag, each at places
        of its own, so that those rules have something to do.
    effects : sequence of Effect
        What else the exposures show: their references are added, for the first observation's window.
    own : Detector, optional
        What the first observation's frames show, if that is not a window of the detector.
    """
    first = observations[0]
    ny, nx = detector.shape
    window = Window("GENERIC", 1, 1, nx, ny) if whole else _window(first)
    truth = detector.cut(window.slices)
    shape, instrument = truth.shape, detector.layout.instrument
    rng = np.random.default_rng([len(instrument), *detector.name.encode()])

    def save(
        reftype: str,
        extensions: Sequence[Any],
        where: Window = window,
        keys: Sequence[str] = DETECTOR,
        **extra: Any,
    ) -> None:
        path = cache.new_path(instrument, reftype)
        hdus = build(reftype, detector, where, extensions, {"FILENAME": path.name, **extra})
        hdus.writeto(path)
        match = (detector.name,) if keys == DETECTOR else (detector.name, where.name)
        cache.rule(instrument, reftype, keys, match, path)

    def some(flag: int) -> np.ndarray:
        plane = np.zeros(shape, np.uint32)
        light = np.flatnonzero(truth.mask.ravel() == 0)
        plane.ravel()[rng.choice(light, min(flagged, light.size), replace=False)] = flag
        return plane

    mask_flags = {n: dq.FLAGS[n] for n in ("DO_NOT_USE", "DEAD", "REFERENCE_PIXEL")}
    save("mask", dq_hdus(truth.mask, mask_flags))
    plane = some(dq.NO_SAT_CHECK)
    save("saturation", [_image(truth.saturation), *dq_hdus(plane, {"NO_SAT_CHECK": dq.NO_SAT_CHECK})])
    if not detector.layout.mid_infrared:
        plane = some(dq.UNRELIABLE_BIAS)
        save(
            "superbias",
            [
                _image(truth.superbias),
                _image(np.zeros(shape, np.float32), "ERR"),
                *dq_hdus(plane, {"UNRELIABLE_BIAS": dq.UNRELIABLE_BIAS}),
            ],
            READPATT="ANY",
        )
    plane = some(dq.NO_LIN_CORR)
    save("linearity", [_image(truth.linearity, "COEFFS"), *dq_hdus(plane, {"NO_LIN_CORR": dq.NO_LIN_CORR})])
    gain = truth.gain.copy()
    gain[some(1) != 0] = np.nan
    save("gain", [_image(gain)])
    # Read noise is tabulated for the difference of two reads.
    save("readnoise", [_image(truth.read_noise * np.float32(np.sqrt(2)))], READPATT="ANY")
    if detector.ipc is not None:
        save("ipc", [_image(deconvolution(detector.ipc).astype(np.float32))])
    else:
        cache.rule(instrument, "ipc", DETECTOR, (detector.name,), "N/A")
    if with_flat:
        flat_dq = some(dq.NO_FLAT_FIELD | dq.DO_NOT_USE)
        names = {n: dq.FLAGS[n] for n in ("DO_NOT_USE", "NO_FLAT_FIELD")}
        err = _image(np.full(shape, 2e-3, np.float32), "ERR")
        save("flat", [_image(truth.flat), err, *dq_hdus(flat_dq, names)])
    else:
        cache.rule(instrument, "flat", DETECTOR, (detector.name,), "N/A")

    subarrays: dict[str, list[Observation]] = {}
    for o in observations:
        subarrays.setdefault(o.subarray, []).append(o)
    for group in subarrays.values():
        shown = own if own is not None and group[0] is first else detector.cut(group[0].window)
        frames = dark_frames or max(o.frames_read for o in group)
        times = group[0].frame_seconds * (1 + np.arange(frames, dtype=np.float32))
        ramp = shown.dark_rate[None] * times[:, None, None]
        hot = np.where(shown.hot, np.uint32(dq.HOT), np.uint32(0))
        nints = 1
        if detector.layout.mid_infrared:  # one dark for the first integration, one for all others
            nints, ramp, hot = 2, np.stack([ramp, ramp]), np.stack([hot, hot])[:, None]
        save(
            "dark",
            [_image(ramp), *dq_hdus(hot, {"HOT": dq.HOT})],
            _window(group[0]),
            DARK_KEYS,
            NFRAMES=1,
            GROUPGAP=0,
            NGROUPS=frames,
            NINTS=nints,
            TFRAME=group[0].frame_seconds,
            TGROUP=group[0].frame_seconds,
        )
    for truth_of in (t for effect in effects for t in effect.truth(first)):
        path = cache.new_path(instrument, truth_of.reftype, "asdf" if truth_of.raw is not None else "fits")
        if truth_of.raw is not None:
            asdf.AsdfFile(dict(truth_of.raw)).write_to(path)
        else:
            extra = {"FILENAME": path.name, **(truth_of.keywords or {})}
            build(truth_of.reftype, detector, _window(first), truth_of.extensions, extra).writeto(path)
        cache.rule(instrument, truth_of.reftype, DARK_KEYS, (detector.name, first.subarray), path)


def deconvolution(kernel: np.ndarray, size: int = 64) -> np.ndarray:
    """The 3 x 3 kernel that nearly undoes another one: its inverse in Fourier space, cut and normalised."""
    padded = np.zeros((size, size))
    padded[:3, :3] = kernel
    padded = np.roll(padded, (-1, -1), axis=(0, 1))
    inverse = np.fft.ifft2(1 / np.fft.fft2(padded)).real
    cut = np.roll(inverse, (1, 1), axis=(0, 1))[:3, :3]
    return cut / cut.sum()


def _window(o: Observation) -> Window:
    return Window(o.subarray, o.xstart, o.ystart, o.nx, o.ny)


def _image(pixels: np.ndarray, name: str = "SCI") -> fits.ImageHDU:
    return fits.ImageHDU(np.ascontiguousarray(pixels, dtype=np.float32), name=name)
