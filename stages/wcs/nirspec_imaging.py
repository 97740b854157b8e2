"""The WCS of NIRSpec images: the mirror in place of a grating (target acquisition, confirmation images).

    pixel -> sca -> (fpa, camera) -> gwa -> (collimator) -> msa -> (fore) -> oteip -> (ote) -> (V2, V3) -> sky

The light is followed backwards from the detector through the camera to the grating wheel (gwa), where the
mirror turns it around, through the collimator to the shutters (msa), the fore optics and the telescope.
NRS2's axes run against those of the focal plane. The wheel never stops at quite the same place; its sensors
tell how far it is tilted:

    theta_x = theta_x,ref + (t_y(GWA_YTIL) - t_y(z_y)) / 7200        theta_y likewise with GWA_XTIL and t_x

in degrees, with t the reference's linear relation in arcsec and z the reading it belongs to. The fore
optics are chromatic; an image has no wavelength, so the middle of the filter's range is taken, metres.
Sources: JWST pipeline documentation, assign_wcs and its reference files; Jakobsen et al. 2022, A&A 661, A80
(the instrument). How the sensors' readings turn the wheel was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from upramp.stages.core.errors import Misconfigured
from upramp.stages.wcs.facts import WcsFacts
from upramp.stages.wcs.sky import Transform, chain, plane, sky_parts, whole_image

LAST_PIXEL = 2047.0


@dataclass(frozen=True)
class FilterRange:
    """Wavelengths (m) that a filter and a disperser let through, and the spectral order they are meant
    for."""

    order: int
    shortest: float
    longest: float


def filter_range(facts: WcsFacts, tree: Mapping[str, Any]) -> FilterRange:
    """Of the exposure's filter and grating, from the wavelengthrange reference.

    Raises
    ------
    Misconfigured
        If the reference does not know them.
    """
    name = f"{facts.filter}_{facts.grating}"
    known = list(tree["waverange_selector"])
    if name not in known:
        raise Misconfigured(
            f"the wavelengthrange reference does not know {name} (FILTER and GRATING); give another one with "
            f"[references] wavelengthrange = ..., or set steps.assign_wcs.skip = true"
        )
    k = known.index(name)
    shortest, longest = tree["wavelengthrange"][k]
    return FilterRange(int(tree["order"][k]), float(shortest), float(longest))


def tilted(angle: float, reading: float | None, relation: Mapping[str, Any]) -> float:
    """An angle of the grating wheel in degrees, corrected by its sensor's reading, if there is one."""
    if reading is None:
        return angle
    model, zero = relation["tilt_model"], float(relation["zeroreadings"][0])
    return angle + float(model(reading) - model(zero)) / (2 * 3600.0)


def wheel_angles(facts: WcsFacts, disperser: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """theta_x, theta_y, theta_z and tilt_y of the disperser in degrees, as the wheel stopped."""
    return (
        tilted(float(disperser["theta_x"]), facts.gwa_ytilt, disperser["gwa_tilty"]),
        tilted(float(disperser["theta_y"]), facts.gwa_xtilt, disperser["gwa_tiltx"]),
        float(disperser["theta_z"]),
        float(disperser["tilt_y"]),
    )


def to_sca(facts: WcsFacts) -> Transform:
    """From pixels of the exposure to those of the detector in its own orientation."""
    from astropy.modeling.models import Identity, Scale, Shift

    origin = Shift(facts.xstart - 1) & Shift(facts.ystart - 1)
    if facts.detector == "NRS2":
        return origin | (Shift(-LAST_PIXEL) & Shift(-LAST_PIXEL) | Scale(-1.0) & Scale(-1.0))
    return origin | Identity(2)


def nirspec_imaging_wcs(facts: WcsFacts, trees: Mapping[str, Mapping[str, Any]]) -> Any:
    """The WCS of a NIRSpec image.

    Parameters
    ----------
    facts : WcsFacts
    trees : mapping
        Reference type -> tree: camera, collimator, disperser, fore, fpa, ote, wavelengthrange.

    Returns
    -------
    gwcs.WCS
        With the frames detector, sca, gwa, msa, oteip, v2v3, v2v3vacorr and world.

    Raises
    ------
    Misconfigured
        If the wavelengthrange reference does not know the filter.
    """
    from astropy.modeling.models import Const1D, Identity, Mapping, Scale
    from stdatamodels.jwst.transforms.models import DirCos2Unitless, Rotation3DToGWA, Unitless2DirCos

    span = filter_range(facts, trees["wavelengthrange"])
    wavelength = (span.shortest + span.longest) / 2
    angles = wheel_angles(facts, trees["disperser"])
    fpa = trees["fpa"][f"{facts.detector.lower()}_model"]
    camera, collimator = trees["camera"]["model"], trees["collimator"]["model"]
    fore, ote = trees["fore"]["model"], trees["ote"]["model"]

    dms2sca = to_sca(facts)
    det2gwa = fpa | camera | Unitless2DirCos() | Rotation3DToGWA(list(angles), axes_order="xyzy")

    mirror = Scale(-1.0) & Scale(-1.0) & Identity(1)
    back = Rotation3DToGWA([-angle for angle in reversed(angles)], axes_order="yzyx")
    with_wavelength = Mapping((0, 1, 1)) | Identity(2) & Const1D(wavelength)
    gwa2msa = mirror | back | DirCos2Unitless() | collimator | with_wavelength
    turned = Rotation3DToGWA(list(angles), axes_order="xyzy")
    gwa2msa.inverse = Mapping((0, 1), n_inputs=3) | collimator.inverse | Unitless2DirCos() | turned | mirror

    msa2oteip = Mapping((0, 1, 2)) | fore
    to_msa = with_wavelength.copy() | Mapping((0, 1, 2, 2)) | fore.inverse & Identity(1)
    msa2oteip.inverse = to_msa

    oteip2v23 = ote.copy()
    named = {
        "dms2sca": dms2sca,
        "det2gwa": det2gwa,
        "gwa2msa": gwa2msa,
        "msa2oteip": msa2oteip,
        "oteip2v23": oteip2v23,
    }
    for name, transform in named.items():
        transform.name = name
    parts = [
        (plane("detector"), dms2sca),
        (plane("sca"), det2gwa),
        (plane("gwa", ("alpha_in", "beta_in"), "rad"), gwa2msa),
        (plane("msa", ("x_msa", "y_msa"), "m"), msa2oteip),
        (plane("oteip", ("x_oteip", "y_oteip"), "deg"), oteip2v23),
        *sky_parts(facts, ("va_corr", "v2v3_to_sky")),
    ]
    return chain(parts, whole_image(facts))
