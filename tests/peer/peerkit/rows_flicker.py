"""Rows: flicker noise and picture frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from peerkit.rows import Row
from peerkit.rows_miri import _scene as mid_infrared
from peerkit.rows_miri import _settling as MIRI_EFFECTS
from peerkit.scenes import Input, Scene, write
from upramp.simulate.effects import Effect, Flicker, PictureFrame, SossTraces, Truth, described
from upramp.simulate.observation import EXP_TYPES, Observation


def _flicker(**how: Any) -> Callable[[Observation], Sequence[Effect]]:
    return lambda observation: (Flicker(observation, **how),)


def _with_distortion(observation: Observation) -> Sequence[Effect]:
    return Flicker(observation), Distortion()


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


class Distortion(Effect):
    """A tangent plane without any distortion: the peer asks for a WCS to make a median image."""

    def truth(self, observation: Observation) -> list[Truth]:
        """The distortion reference."""
        from astropy.modeling.models import Scale, Shift

        layout = observation.layout
        centre, scale = 1023.5, layout.scale
        axes = [Shift(-centre) | Scale(scale) | Shift(place) for place in (layout.v2, layout.v3)]
        meta = {
            **described(observation, "DISTORTION"),
            "model_type": "DistortionModel",
            "exposure": {"type": observation.exp_type or EXP_TYPES[layout.instrument]},
            "input_units": "pixel",
            "output_units": "arcsec",
        }
        return [Truth("distortion", raw={"meta": meta, "model": axes[0] & axes[1]})]


class Target(Effect):
    """A star in the middle that varies; the peer asks how large its aperture is."""

    def charge(self, i: int, g: int, f: int, electrons: np.ndarray) -> None:
        """See `Effect`."""
        ny, nx = electrons.shape
        y, x = np.indices((ny, nx))
        away = (y - ny / 2 - 1.3) ** 2 + (x - nx / 2 + 2.2) ** 2
        electrons += (1000 * (1 + 0.05 * np.sin(i)) * np.exp(-away / 4.5)).astype(np.float32)

    def truth(self, observation: Observation) -> list[Truth]:
        """The tsophot reference."""
        meta = {
            **described(observation, "TSOPHOT"),
            "model_type": "TsoPhotModel",
            "exposure": {"type": observation.exp_type},
            "visit": {"tsovisit": True},
        }
        radii = {"pupil": "ANY", "radius": 6.0, "radius_inner": 9.0, "radius_outer": 14.0}
        return [Truth("tsophot", raw={"meta": meta, "radii": [radii]})]


def _with_mask(scene: Scene, folder: Path, serial: int) -> Input:
    """Also a mask of the user's: nothing but a strip, in the second integration the other one."""
    drawn = write(scene, folder, serial)
    o = scene.observation
    mask = np.zeros((o.nints, o.ny, o.nx), np.float32)
    mask[0, :, : o.nx // 2] = 1
    mask[1:, :, o.nx // 2 :] = 1
    path = drawn.uncal.parent / "user_mask.fits"
    header = fits.Header({"DATAMODL": "CubeModel"})
    hdus = fits.HDUList([fits.PrimaryHDU(header=header), fits.ImageHDU(mask, name="SCI")])
    hdus.writeto(path)
    return replace(drawn, files=(*drawn.files, path))


CROWDED = replace(IMAGE, stars=30000, flux=(1.0, 3.0), background=8.0, flat=True)
NIRISS = Scene(
    Observation(detector="NIS", ny=2048, nx=2048, ngroups=5, readpatt="NISRAPID"),
    stars=2000,
    whole=True,
    effects=_flicker(),
    flat=True,
)


DARK: dict[str, Any] = {"background": 0.0, "whole": True, "effects": _flicker()}
"""NIRSpec's spectra are dark between the traces: reference pixels look like the rest."""

SPECTRUM = Scene(
    Observation(detector="NRS1", ny=2048, nx=2048, ngroups=4, readpatt="NRSRAPID", exp_type="NRS_MSASPEC"),
    stars=1500,
    **DARK,
)
OTHER_SPECTRUM = replace(SPECTRUM, observation=replace(SPECTRUM.observation, detector="NRS2", ngroups=3))
BRIGHT = Scene(
    Observation(
        detector="NRS1", subarray="SUB2048", ny=32, nx=2048, xstart=1, ystart=1025, ngroups=6, nints=3,
        tframe=5.0, exp_type="NRS_BRIGHTOBJ", tso=True,
    ),
    **DARK,
)  # fmt: skip
ALLSLITS = Scene(
    Observation(
        detector="NRS2", subarray="ALLSLITS", ny=256, nx=2048, xstart=1, ystart=897, ngroups=4, tframe=5.0,
        exp_type="NRS_FIXEDSLIT",
    ),
    stars=200,
    **DARK,
)  # fmt: skip


FRAMED = replace(
    SPECTRUM,
    observation=replace(SPECTRUM.observation, nints=2),
    effects=lambda observation: (Flicker(observation), PictureFrame(observation)),
)
UNMASKED = {"skip": False, "mask_science_regions": False}
"""The peer masks science regions with a WCS, which takes references that there are none of here."""


SOSS = Scene(
    Observation(
        detector="NIS", subarray="SUBSTRIP256", ny=256, nx=2048, xstart=1, ystart=1793, ngroups=4, nints=6,
        readpatt="NISRAPID", exp_type="NIS_SOSS", tso=True,
        extra={"instrument.pupil": "GR700XD", "instrument.pupil_position": 245.86},
    ),
    stars=5,
    whole=True,
    effects=lambda observation: (Flicker(observation), SossTraces(observation)),
)  # fmt: skip
SHORT_SOSS = replace(
    SOSS, observation=replace(SOSS.observation, subarray="SUBSTRIP96", ny=96, ystart=1803, nints=3)
)
MIRI = mid_infrared(ngroups=6, nints=2)
MIRI = replace(MIRI, flat=True, effects=lambda o: (*MIRI_EFFECTS(o), Flicker(o)))
FGS = Scene(
    Observation(detector="GUIDER2", ny=2048, nx=2048, ngroups=4, readpatt="FGSRAPID"),
    stars=1000,
    whole=True,
    effects=_flicker(),
)
IMAGES = Scene(
    Observation(
        detector="NRCB1", subarray="SUB160P", ny=160, nx=160, xstart=1800, ystart=1800, ngroups=8, nints=20,
        tframe=5.0, exp_type="NRC_TSIMAGE", tso=True,
    ),
    whole=True,
    effects=_flicker(),
)  # fmt: skip


def _framed(name: str, what: str, scene: Scene, serial: int, **more: Any) -> Row:
    make = partial(write, scene, serial=serial)
    steps = {"picture_frame": {**UNMASKED, **more.pop("options", {})}, **more.pop("others", {})}
    return Row(name, f"picture_frame, {what}", "picture_frame", make, steps, **more)


SAVED: dict[str, Any] = {"save_mask": True, "save_background": True, "save_noise": True}
PRODUCTS = ("rate", "rateints", "mask", "flicker_bkg", "flicker_noise")


def _row(name: str, what: str, scene: Scene, serial: int, **more: Any) -> Row:
    options = {"skip": False, **more.pop("options", {})}
    make = partial(more.pop("write", write), scene, serial=serial)
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
    _row(
        "flicker_model",
        "background_method model, NIRCam full frame",
        IMAGE,
        902,
        options={"background_method": "model", **SAVED},
        products=PRODUCTS,
    ),
    _row(
        "flicker_boxes",
        "model with boxes of 20 x 16, NIRCam SUB160",
        SUB160,
        901,
        options={"background_method": "model", "background_box_size": [20, 16]},
    ),
    _row(
        "flicker_saved",
        "all products, a mask for each of three integrations, NIRCam SUB160",
        SUB160,
        901,
        options={"single_mask": False, **SAVED},
        products=PRODUCTS,
    ),
    _row(
        "flicker_histogram",
        "fit_histogram, NIRCam full frame",
        IMAGE,
        902,
        options={"fit_histogram": True, "save_mask": True},
        products=("rate", "rateints", "mask"),
    ),
    _row(
        "flicker_user_mask",
        "user_mask, one for each of three integrations, NIRCam SUB160",
        SUB160,
        904,
        write=_with_mask,
        options={"user_mask": "@user_mask.fits"},
    ),
    _row(
        "flicker_flat",
        "apply_flat_field, NIRCam full frame",
        replace(IMAGE, flat=True),
        905,
        options={"apply_flat_field": True, **SAVED},
        products=PRODUCTS,
    ),
    _row(
        "flicker_median_image",
        "background_method median_image, NIRCam SUB160, 3 integrations",
        replace(SUB160, effects=_with_distortion),
        906,
        options={"background_method": "median_image", **SAVED},
        products=PRODUCTS,
    ),
    _row(
        "flicker_auto",
        "autoparam, NIRCam full frame: channels",
        replace(IMAGE, flat=True),
        905,
        options={"autoparam": True},
    ),
    _row(
        "flicker_auto_crowded",
        "autoparam, NIRCam full frame, a crowded field: background model",
        CROWDED,
        907,
        options={"autoparam": True, **SAVED},
        products=PRODUCTS,
    ),
    _row(
        "flicker_auto_niriss",
        "autoparam, NIRISS full frame",
        NIRISS,
        908,
        options={"autoparam": True},
    ),
    _row(
        "flicker_fft",
        "fit_method fft, NIRSpec MOS, NRS1 full frame",
        SPECTRUM,
        909,
        options={"fit_method": "fft", "save_mask": True, "save_background": True},
        products=PRODUCTS[:-1],
    ),
    _row(
        "flicker_fft_other",
        "fft, NRS2 full frame, no background taken off",
        OTHER_SPECTRUM,
        910,
        options={"fit_method": "fft", "background_method": None},
    ),
    _row(
        "flicker_fft_bright",
        "fft, NIRSpec SUB2048, 3 x 6 groups",
        BRIGHT,
        911,
        options={"fit_method": "fft", "save_mask": True, "save_background": True},
        products=PRODUCTS[:-1],
    ),
    _row(
        "flicker_fft_slits",
        "fft, NIRSpec ALLSLITS, NRS2",
        ALLSLITS,
        912,
        options={"fit_method": "fft", "save_mask": True, "save_background": True},
        products=PRODUCTS[:-1],
    ),
    _row("flicker_spectrum", "medians, NIRSpec MOS, NRS1 full frame", SPECTRUM, 909),
    _framed(
        "picture_frame",
        "NIRSpec full frame, 2 x 4 groups",
        FRAMED,
        913,
        options={"save_mask": True, "save_correction": True},
        products=("rate", "rateints", "pctfrm_mask", "pctfrm_correction"),
    ),
    _framed(
        "picture_frame_flicker",
        "with n_sigma 3, and clean_flicker_noise after it",
        FRAMED,
        913,
        options={"n_sigma": 3.0},
        others={"clean_flicker_noise": {"skip": False}},
    ),
    _row("flicker_soss", "NIRISS SOSS, SUBSTRIP256, 6 x 4 groups", SOSS, 914),
    _row(
        "flicker_soss_traces",
        "NIRISS SOSS with traces masked (mask_science_regions)",
        SOSS,
        914,
        options={"mask_science_regions": True, "save_mask": True},
        products=("rate", "rateints", "mask"),
    ),
    _row(
        "flicker_soss_short",
        "NIRISS SOSS, SUBSTRIP96, traces masked, a mask for each of 3 integrations",
        SHORT_SOSS,
        915,
        options={"mask_science_regions": True, "single_mask": False, "background_method": None},
    ),
    _row("flicker_miri", "MIRI full frame, 2 x 6 groups", MIRI, 916),
    _row(
        "flicker_miri_regions",
        "MIRI full frame, mask_science_regions, flat field applied",
        MIRI,
        916,
        options={"mask_science_regions": True, "apply_flat_field": True, "save_mask": True},
        products=("rate", "rateints", "mask"),
    ),
    _row("flicker_fgs", "FGS full frame", FGS, 917),
    _row("flicker_images", "NIRCam time series of images, SUB160P, 20 x 8 groups", IMAGES, 918),
    _row(
        "flicker_images_median",
        "median_image, NIRCam time series of images, by the flux of the star",
        replace(IMAGES, stars=0, effects=lambda o: (Flicker(o), Distortion(), Target())),
        919,
        options={"background_method": "median_image", "save_mask": True, "save_background": True},
        products=PRODUCTS[:-1],
    ),
)
