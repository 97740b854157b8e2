"""The WCS of images of NIRCam, NIRISS, FGS and the MIRI imager.

    pixel -> (+ origin of the subarray) -> (+ filter offset) -> distortion -> (V2, V3) -> sky

The origin of the subarray is (SUBSTRT1 - 1, SUBSTRT2 - 1). The filter offset, in pixels, stands in the
filteroffset reference for the exposure's FILTER and, where the table tells them apart, PUPIL; a filter that
is not there has none. Source: JWST pipeline documentation, assign_wcs and the reference files it uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from upramp.stages.core.errors import Misconfigured
from upramp.stages.wcs.facts import WcsFacts
from upramp.stages.wcs.sky import Transform, chain, plane, sky_parts, whole_image


def filter_offset(facts: WcsFacts, rows: Iterable[Mapping[str, Any]]) -> tuple[float, float] | None:
    """Column and row offset of the exposure's filter in pixels; None if the table has no single row for it.

    Parameters
    ----------
    facts : WcsFacts
    rows : iterable of mapping
        ``filters`` of a filteroffset reference: filter, pupil, column_offset, row_offset.
    """
    told = facts.instrument != "MIRI"
    found = [
        (float(row["column_offset"]), float(row["row_offset"]))
        for row in rows
        if row["filter"] == facts.filter and (not told or row.get("pupil") == facts.pupil)
    ]
    return found[0] if len(found) == 1 else None


def distortion_of(facts: WcsFacts, trees: Mapping[str, Mapping[str, Any]]) -> Transform:
    """From pixels of the exposure to (V2, V3), arcsec."""
    from astropy.modeling.models import Identity, Shift

    transform = trees["distortion"]["model"]
    table = trees.get("filteroffset")
    offset = filter_offset(facts, table["filters"]) if table is not None else None
    if offset is not None:
        transform = Shift(offset[0]) & Shift(offset[1]) | transform
    x, y = facts.xstart - 1, facts.ystart - 1
    if x or y:
        transform = (Shift(x) if x else Identity(1)) & (Shift(y) if y else Identity(1)) | transform
    # The reference is shared by exposures, and a bounding box is an attribute of the first transform.
    return transform.copy() if transform is trees["distortion"]["model"] else transform


def own_bounding_box(facts: WcsFacts, model: Transform) -> tuple[tuple[float, float], ...]:
    """The bounding box, first of x, then of y: that of the distortion, if it has one and the exposure begins
    at the detector's first pixel, else all pixels.
    """
    try:
        box = model.bounding_box
    except NotImplementedError:
        return whole_image(facts)
    if facts.xstart != 1 or facts.ystart != 1:
        return whole_image(facts)
    x, y = box.bounding_box(order="F")
    return (float(x[0]), float(x[1])), (float(y[0]), float(y[1]))


def imaging_wcs(facts: WcsFacts, trees: Mapping[str, Mapping[str, Any]]) -> Any:
    """The WCS of an image.

    Parameters
    ----------
    facts : WcsFacts
    trees : mapping
        Reference type -> tree: ``distortion`` has ``model``, from detector pixels (0-based) to (V2, V3) in
        arcsec; ``filteroffset``, which may be left out, has ``filters``.

    Returns
    -------
    gwcs.WCS
        With the frames detector, v2v3, v2v3vacorr and world.

    Raises
    ------
    Misconfigured
        If a reference has not what it should have.
    """
    for reftype, key in (("distortion", "model"), ("filteroffset", "filters")):
        if reftype in trees and key not in trees[reftype]:
            raise Misconfigured(
                f"the {reftype} reference has no {key!r}; give another one with [references] {reftype} = ..."
            )
    parts = [(plane("detector"), distortion_of(facts, trees)), *sky_parts(facts)]
    return chain(parts, own_bounding_box(facts, trees["distortion"]["model"]))
