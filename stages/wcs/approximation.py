"""What FITS headers can say of a WCS: the footprint on the sky, and a polynomial approximation (SIP).

SIP (Shupe et al. 2005, ASP Conf. 347, 491) describes the distortion by polynomials of pixel offsets (u, v)
from a reference pixel, in front of a linear map to the tangent plane:

    x = CD1_1 (u + f) + CD1_2 (v + g)        f = sum A_p_q u^p v^q        y, g, B_p_q likewise

and the way back by AP_p_q and BP_p_q. The polynomials are fitted on a grid of points by gwcs, with the
lowest degree of 1 to 5 whose largest error, on a finer grid, is below a limit; or with the best of them, if
none is. Degree 1 is a linear WCS without SIP.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

DEGREES = range(1, 6)
"""What is tried in turn if no degree is asked for."""

_SIZE = ("NAXIS", "NAXIS1", "NAXIS2")
_IN_TREE_ALONE = frozenset(
    {"WCSNAME", "LONPOLE", "LATPOLE", "MJDREF", "SIPMXERR", "SIPIVERR"}
    | {f"{name}_{p}_{1 - p}" for name in ("AP", "BP") for p in (0, 1)}
)
"""What JWST headers have no keywords for; the metadata tree has it."""

LEAVES = tuple(sorted(k.lower() for k in _IN_TREE_ALONE))
"""What only the tree of metadata tells of an approximation."""

LINEAR = ("PC1_1", "PC1_2", "PC2_1", "PC2_2", "CDELT1", "CDELT2")
"""Keywords whose part CDi_j take."""


def s_region(wcs: Any) -> str:
    """The corners of the bounding box on the sky, in degrees (ICRS), as S_REGION has them."""
    (x0, x1), (y0, y1) = wcs.bounding_box.bounding_box(order="F")
    ra, dec = wcs(np.array([x0, x0, x1, x1]), np.array([y0, y1, y1, y0]))
    corners = " ".join(f"{a % 360:.9f} {d:.9f}" for a, d in zip(ra, dec, strict=True))
    return f"POLYGON ICRS  {corners}"


@dataclass(frozen=True)
class Sip:
    """A fitted approximation.

    Attributes
    ----------
    cards : mapping
        Keywords of the SCI header; None takes one away.
    leaves : mapping
        What the metadata tree holds besides, below meta.wcsinfo; None takes one away.
    good : bool
        Whether the errors are within their limits.
    """

    cards: Mapping[str, Any]
    leaves: Mapping[str, Any]
    good: bool


def fit_sip(
    wcs: Any,
    crpix: tuple[float, float] | None,
    degree: int | None = None,
    max_pix_error: float = 0.01,
    inv_degree: int | None = None,
    max_inv_pix_error: float = 0.01,
    npoints: int = 12,
) -> Sip | None:
    """Approximate the WCS of an image; None if the points do not determine the polynomials.

    Parameters
    ----------
    wcs : gwcs.WCS
    crpix : tuple of float, or None
        The reference pixel (1-based); None for the middle of the bounding box.
    degree, inv_degree : int or None
        Degrees of the polynomials from pixels to the sky and back; None looks for them.
    max_pix_error, max_inv_pix_error : float
        Limits of the errors, in pixels, where the degree is looked for.
    npoints : int
        Points of the grid along each axis.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the errors themselves are looked at below
        try:
            header = wcs.to_fits_sip(
                max_pix_error=max_pix_error,
                degree=list(DEGREES) if degree is None else degree,
                max_inv_pix_error=max_inv_pix_error,
                inv_degree=list(DEGREES) if inv_degree is None else inv_degree,
                npoints=npoints,
                crpix=None if crpix is None else list(crpix),
            )
        except (ValueError, UnboundLocalError, np.linalg.LinAlgError):  # gwcs has these three ways to give up
            return None
    values = {k: v.item() if isinstance(v, np.generic) else v for k, v in header.items() if k not in _SIZE}
    good = (degree is not None or values["SIPMXERR"] <= max_pix_error) and (
        inv_degree is not None or values.get("SIPIVERR", 0.0) <= max_inv_pix_error
    )
    gone = dict.fromkeys(LINEAR)
    cards = {k: v for k, v in values.items() if k not in _IN_TREE_ALONE}
    leaves = {k.lower(): v for k, v in values.items() if k in _IN_TREE_ALONE or k == "RADESYS"}
    return Sip({**gone, **cards}, {**{k.lower(): None for k in gone}, **leaves}, good)
