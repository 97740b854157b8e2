"""What the WCS of all modes share: coordinate frames, and the way from the telescope's frame to the sky.

The telescope's frame (V2, V3) becomes the sky by a turn of the sphere that puts the reference point
(V2_REF, V3_REF) at (RA_REF, DEC_REF) with the position angle ROLL_REF:

    s = Rz(-RA_REF) Ry(DEC_REF) Rx(-ROLL_REF) Ry(V3_REF) Rz(-V2_REF) ... of the unit vector of (V2, V3)

Before it, differential velocity aberration stretches the field about the reference point,

    V' = V_REF + k (V - V_REF),    k: VA_SCALE

Source: JWST pipeline documentation, assign_wcs; the angles' signs are those of astropy's Euler sequence.
Libraries for transforms are imported when they are needed: they take more than a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from upramp.stages.wcs.facts import WcsFacts

Transform = Any
"""A model of astropy.modeling."""

Part = tuple[Any, Transform]
"""A coordinate frame, and the transform from it to the next one."""


def plane(name: str, axes: tuple[str, str] = ("x", "y"), unit: str = "pix") -> Any:
    """A frame of two axes."""
    from astropy.units import Unit
    from gwcs.coordinate_frames import Frame2D

    return Frame2D(name=name, axes_order=(0, 1), axes_names=axes, unit=(Unit(unit), Unit(unit)))


def aberration(facts: WcsFacts) -> Transform:
    """From (V2, V3) as seen to (V2, V3) free of differential velocity aberration, arcsec."""
    from astropy.modeling.models import Identity, Scale, Shift

    k = facts.va_scale
    if k is None:
        return Identity(2)
    stretch = Scale(k, name="dva_scale_v2") & Scale(k, name="dva_scale_v3")
    v2, v3 = (1.0 - k) * facts.v2_ref, (1.0 - k) * facts.v3_ref
    return stretch | Shift(v2, name="dva_v2_shift") & Shift(v3, name="dva_v3_shift")


def to_sky(facts: WcsFacts) -> Transform:
    """From (V2, V3) in arcsec to right ascension and declination in degrees."""
    from astropy.modeling.models import RotationSequence3D, Scale
    from gwcs.geometry import CartesianToSpherical, SphericalToCartesian

    angles = [
        facts.v2_ref / 3600.0,
        -facts.v3_ref / 3600.0,
        facts.roll_ref,
        facts.dec_ref,
        -facts.ra_ref,
    ]
    turn = RotationSequence3D(angles, axes_order="zyxyz")
    degrees = Scale(1 / 3600) & Scale(1 / 3600)
    sphere = SphericalToCartesian(wrap_lon_at=180)
    return degrees | sphere | turn | CartesianToSpherical(wrap_lon_at=360)


def sky_parts(facts: WcsFacts, names: tuple[str, str] = ("DVA_Correction", "v23tosky")) -> list[Part]:
    """The end of every chain: v2v3, v2v3vacorr, world; ``names`` are those of the two transforms."""
    from astropy.coordinates import ICRS
    from gwcs.coordinate_frames import CelestialFrame

    straighten, turn = aberration(facts), to_sky(facts)
    if facts.va_scale is not None:
        straighten.name = names[0]
    turn.name = names[1]
    axes = ("v2", "v3")
    return [
        (plane("v2v3", axes, "arcsec"), straighten),
        (plane("v2v3vacorr", axes, "arcsec"), turn),
        (CelestialFrame(name="world", reference_frame=ICRS()), None),
    ]


def chain(parts: Sequence[Part], bounding_box: tuple[tuple[float, float], ...] | None) -> Any:
    """The WCS of frames and the transforms between them.

    Parameters
    ----------
    parts : sequence of Part
        The last one's transform is None.
    bounding_box : tuple of two intervals, or None
        First of x, then of y, in pixels.
    """
    from gwcs import WCS

    wcs = WCS(list(parts))
    if bounding_box is not None:
        wcs.bounding_box = bounding_box
    return wcs


def whole_image(facts: WcsFacts) -> tuple[tuple[float, float], ...]:
    """The bounding box of all pixels, first of x, then of y; half a pixel more than their centres."""
    return (-0.5, facts.nx - 0.5), (-0.5, facts.ny - 0.5)
