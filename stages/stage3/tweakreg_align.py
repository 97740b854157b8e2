"""Catalogues of images matched with each other and with a reference, and the corrections that follow.

    (xi, eta)' = M (xi, eta) + t        in the tangent plane about the aperture's reference point

M and t align what is matched; sources further off than ``sigma`` times the rms are left out ``nclip`` times.
They go into the WCS as one more frame, v2v3corr, behind v2v3vacorr. Matching and fitting are those of
tweakwcs; images of one exposure share a correction. Source: JWST pipeline documentation, tweakreg step; how
far a correction may go before it is not believed was measured.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from upramp.stages.wcs.quick import light

ONE_GROUP = 987654
"""Group of all images when they are aligned with a reference together."""

CORRECTED = "v2v3corr"
"""The frame that a correction leads to."""

SUCCESS, REFERENCE = "SUCCESS", "REFERENCE"
BARE = 2.0
"""Corrections are believed up to this many times what the search allows."""


@dataclass(frozen=True)
class Matching:
    """How catalogues are matched and fitted; arcsec."""

    searchrad: float
    separation: float
    use2dhist: bool
    tolerance: float
    xoffset: float
    yoffset: float
    minobj: int
    fitgeometry: str
    nclip: int
    sigma: float

    @property
    def limit(self) -> float:
        """A larger correction is not believed, arcsec."""
        reach = self.searchrad if self.use2dhist else max(abs(self.xoffset), abs(self.yoffset))
        return BARE * (reach + self.tolerance)


def corrector(
    wcs: Any, cards: Mapping[str, Any], catalogue: Mapping[str, np.ndarray], name: str, group: str
) -> Any:
    """What tweakwcs needs of an image: its WCS, the aperture, sources (x, y, perhaps weight).

    The WCS is made `light`, because tweakwcs copies it over and over; a correction that is there already
    stays as it is, since tweakwcs looks into it.
    """
    from astropy.table import Table
    from tweakwcs import JWSTWCSCorrector

    x, y = catalogue["x"], catalogue["y"]
    inside = np.isfinite(x) & np.isfinite(y)
    if wcs.bounding_box is not None:
        (x0, x1), (y0, y1) = wcs.bounding_box.bounding_box(order="F")
        inside &= (x > float(x0)) & (x < float(x1)) & (y > float(y0)) & (y < float(y1))
    table = Table({n: np.asarray(catalogue[n])[inside] for n in ("x", "y", "weight") if n in catalogue})
    table.meta["name"] = name
    aperture = {key: float(cards[key.upper()]) for key in ("v2_ref", "v3_ref", "roll_ref")}
    meta = {"catalog": table, "name": name, "group_id": group}
    return JWSTWCSCorrector(wcs=light(wcs, but=[CORRECTED]), wcsinfo=aperture, meta=meta)


def _sky(one: Any, wcs: Any) -> tuple[np.ndarray, np.ndarray]:
    table = one.meta["catalog"]
    return wcs(np.asarray(table["x"]), np.asarray(table["y"]), with_bounding_box=False)


def moved(one: Any, wcs: Any) -> float:
    """The largest way, arcsec, that a correction moved a source since ``wcs``."""
    from astropy.coordinates import angular_separation

    before, after = (np.radians(_sky(one, w)) for w in (wcs, one.wcs))
    return float(np.degrees(angular_separation(*before, *after)).max(initial=0.0) * 3600)


def status(one: Any) -> str:
    """What tweakwcs says of an image: SUCCESS, REFERENCE, or FAILED and why."""
    return str(one.meta.get("fit_info", {}).get("status", "FAILED: not aligned"))


def align(
    correctors: Sequence[Any],
    how: Matching,
    reference: Mapping[str, np.ndarray] | None,
    user_order: bool,
    expand: bool,
) -> str:
    """Correct images so that they agree, with each other or with a reference.

    Parameters
    ----------
    correctors : sequence
        Their WCS are changed.
    how : Matching
    reference : mapping or None
        RA, DEC (degrees) and perhaps weight.
    user_order, expand : bool
        Whether images keep their order; whether sources of aligned images join the reference.

    Returns
    -------
    str
        Why nothing can come of it; empty if all went well.
    """
    from astropy.table import Table
    from tweakwcs import XYXYMatch, align_wcs

    before = [copy.deepcopy(one.wcs) for one in correctors]
    match = XYXYMatch(
        searchrad=how.searchrad,
        separation=how.separation,
        use2dhist=how.use2dhist,
        tolerance=how.tolerance,
        xoffset=how.xoffset,
        yoffset=how.yoffset,
    )
    try:
        align_wcs(
            list(correctors),
            refcat=None if reference is None else Table(dict(reference), meta={"name": "reference"}),
            enforce_user_order=user_order,
            expand_refcat=expand,
            minobj=how.minobj,
            match=match,
            fitgeom=how.fitgeometry,
            nclip=how.nclip,
            sigma=(how.sigma, "rmse"),
        )
    except (ValueError, RuntimeError) as error:
        return f"catalogues could not be matched: {error}"
    for one, wcs in zip(correctors, before, strict=True):
        if status(one) == SUCCESS and (way := moved(one, wcs)) > how.limit:
            return f"{one.meta['name']} would move by {way:.3g} arcsec, more than {how.limit:g}: mismatched"
    return ""
