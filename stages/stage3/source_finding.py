"""Sources of a mosaic and the shapes of their segments, found as tweakreg finds stars.

Source: JWST pipeline documentation, source_catalog step; photutils (Bradley et al.).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from upramp.stages.core.frames import Crew
from upramp.stages.stage3.source_background import Levels, levels
from upramp.stages.stage3.source_segments import segments
from upramp.stages.stage3.tweakreg_sources import Finding, stars

_SHAPE = ("isophotal_area", "semimajor_sigma", "semiminor_sigma", "ellipticity", "orientation")
_KNOWN = ("area", "semimajor_axis", "semiminor_axis", "ellipticity", "orientation")


@dataclass(frozen=True)
class Found:
    """Sources: places (pixels), flux and its error (Jy), and what is known of their segments.

    ``shape``: area, axes (pixels), ellipticity, orientation (degrees) by column; ``box``: least and greatest
    x, then y of the pixels around segments (n, 4); NaN for star finders. ``map`` (ny, nx) uint32: label of
    the source of each pixel.
    """

    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    error: np.ndarray
    shape: Mapping[str, np.ndarray]
    box: np.ndarray
    map: np.ndarray | None = None


def find(sci: np.ndarray, err: np.ndarray, mask: np.ndarray, how: Finding, crew: Crew) -> Found | None:
    """Sources of an image by the finder that was chosen; None if there are none.

    Parameters
    ----------
    sci, err : ndarray, float32 (ny, nx)
    mask : ndarray, bool
        Pixels that do not count.
    how : Finding
    crew : Crew
    """
    image = levels(sci, mask, how.bkg_boxsize, crew)
    if image is None:
        return None
    if how.starfinder == "segmentation":
        return _segments(image, err, mask, how, crew)
    return _stars(image, mask, how)


def _stars(image: Levels, mask: np.ndarray, how: Finding) -> Found | None:
    found = stars(image, mask, how)
    n = len(found["x"])
    if not n:
        return None
    nothing = np.full(n, np.nan)
    shape = dict.fromkeys(_SHAPE, nothing) | {"orientation": found.get("orientation", nothing)}
    return Found(found["x"], found["y"], found["flux"], nothing, shape, np.full((n, 4), np.nan))


def _plain(values: Any) -> np.ndarray:
    return np.asarray(getattr(values, "value", values), float)


def _segments(image: Levels, err: np.ndarray, mask: np.ndarray, how: Finding, crew: Crew) -> Found | None:
    threshold = np.multiply(image.spread, np.float32(how.snr_threshold), out=image.spread)
    parts = segments(image.values, err, mask, threshold, how.kernel_fwhm, how.segment, crew)
    if parts is None:
        return None
    known = parts.catalogue
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # segments without light have no axes
        shape = {name: _plain(getattr(known, own)) for name, own in zip(_SHAPE, _KNOWN, strict=True)}
        box = np.column_stack(
            [known.bbox_xmin - 0.5, known.bbox_xmax + 1.5, known.bbox_ymin - 0.5, known.bbox_ymax + 1.5]
        )
        x, y = _plain(known.x_centroid), _plain(known.y_centroid)
        flux, error = _plain(known.segment_flux), _plain(known.segment_flux_err)
    return Found(x, y, flux, error, shape, box, parts.map.astype(np.uint32))
