"""Sources as connected pixels that stand out of a smoothed image, taken apart where they touch.

Smoothing is a convolution with a Gaussian that leaves masked pixels out: the weights of the others are scaled
up. Beyond the image is 0. Source: JWST pipeline documentation; photutils (Bradley et al.), which finds the
segments; astropy, whose convolution this is, to the last digit of float32. Sums are float64.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from upramp.stages.core.frames import Crew
from upramp.stages.core.kernel import kernel

STRIP = 128
"""Rows that a thread takes at a time."""


@kernel
def smooth(values, mask, weights, lo, hi, out):
    """Smooth rows lo to hi; where all pixels around are masked ``out`` is 0.

    ``values`` (ny, nx) float32; ``mask`` bool; ``weights`` (2 h + 1, 2 w + 1) float64, symmetric, with sum 1.
    """
    ny, nx = values.shape
    h, w = weights.shape[0] // 2, weights.shape[1] // 2
    total, missing = np.empty(nx), np.empty(nx)
    good, lost = np.empty(nx), np.empty(nx)
    for y in range(lo, hi):
        total[:] = 0.0
        missing[:] = 0.0
        gaps = False
        for i in range(max(-h, -y), min(h, ny - 1 - y) + 1):
            row, own = values[y + i], mask[y + i]
            any_lost = False
            for x in range(nx):
                any_lost |= own[x]
                lost[x] = 1.0 if own[x] else 0.0
                good[x] = 0.0 if own[x] else np.float64(row[x])
            gaps |= any_lost
            for j in range(-w, w + 1):
                c = weights[i + h, j + w]
                first, last = max(0, -j), min(nx, nx - j)
                target, source = total[first:last], good[first + j : last + j]
                for k in range(last - first):
                    target[k] += c * source[k]
                if any_lost:
                    target, source = missing[first:last], lost[first + j : last + j]
                    for k in range(last - first):
                        target[k] += c * source[k]
        line = out[y]
        for x in range(nx):
            line[x] = np.float32(total[x])
        if gaps:
            for x in range(nx):
                left = 1.0 - missing[x]
                line[x] = np.float32(total[x] / left) if left > 1e-9 else np.float32(0)


def gaussian(fwhm: float) -> np.ndarray:
    """The kernel of a width, pixels, with sum 1."""
    from astropy.convolution import Gaussian2DKernel

    made = Gaussian2DKernel(fwhm / (2.0 * np.sqrt(2.0 * np.log(2.0))))
    made.normalize(mode="integral")
    return np.asarray(made.array, float)


def smoothed(values: np.ndarray, mask: np.ndarray, fwhm: float, crew: Crew) -> np.ndarray:
    """An image (float32) smoothed by a Gaussian of a width, pixels."""
    weights, out, ny = gaussian(fwhm), np.empty(values.shape, np.float32), len(values)
    crew.each(lambda lo: smooth(values, mask, weights, lo, min(ny, lo + STRIP), out), range(0, ny, STRIP))
    return out


@dataclass(frozen=True)
class Segments:
    """Segments of an image, and photutils' catalogue of them."""

    map: np.ndarray
    catalogue: Any


def segments(
    values: np.ndarray,
    err: np.ndarray,
    mask: np.ndarray,
    threshold: np.ndarray,
    fwhm: float,
    parameters: Mapping[str, Any],
    crew: Crew,
) -> Segments | None:
    """Find segments; None if there are none.

    Parameters
    ----------
    values : ndarray, float32 (ny, nx)
        The image less its background.
    err : ndarray, float32
    mask : ndarray, bool
        Pixels that do not count; finite ``values`` are not asked of them.
    threshold : ndarray
    fwhm : float
        Width of the Gaussian that smooths, pixels.
    parameters : mapping
        Those of photutils' finder, and local_bkg_width, aperture_mask_method, kron_params of its catalogue.
    crew : Crew
    """
    from photutils.segmentation import SourceCatalog, SourceFinder
    from photutils.utils.exceptions import NoDetectionsWarning

    given = dict(parameters)
    own = {name: given.pop(name) for name in ("local_bkg_width", "aperture_mask_method", "kron_params")}
    smooth_values = smoothed(values, mask, fwhm, crew)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDetectionsWarning)
        finder = SourceFinder(progress_bar=False, **given)
        found = finder(smooth_values, threshold, mask=mask)
    if found is None:
        return None
    return Segments(
        found.data,
        SourceCatalog(values, found, mask=mask, error=err, convolved_data=smooth_values, **own),
    )
