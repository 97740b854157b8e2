"""Sources as connected pixels that stand out of a smoothed image, taken apart where they touch.

Smoothing is a convolution with a Gaussian that leaves masked pixels out: the weights of the others are scaled
up. Beyond the image is 0.

Taking apart a source looks at what is above each of many levels, and is for most in vain: a source can only
fall into parts if, taking its pixels from the highest down, two pieces ever meet of which each has as many
pixels as a source needs. That is known after one look at every pixel, and only such sources are tried.

Source: JWST pipeline documentation; photutils (Bradley et al.), which finds the
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


@kernel
def root(parent, k):
    """The pixel that stands for the piece of pixel ``k``; the way there becomes shorter."""
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k


@kernel
def find_divisible(order, labels, least, eight, parent, size, found):
    """Mark the segments in which two pieces of at least ``least`` pixels meet.

    Parameters
    ----------
    order : (n) int64
        Flat places of the segments' pixels, the highest first.
    labels : (ny, nx) int32
        0 where there is no segment.
    least : int
    eight : bool
        Whether pixels touch at their corners, too.
    parent, size : (ny nx) int32
        Working memory; ``parent`` is -1.
    found : bool
        By label.
    """
    ny, nx = labels.shape
    for place in order:
        y, x = place // nx, place % nx
        label = labels[y, x]
        parent[place], size[place] = place, 1
        met = 0
        for i in range(-1, 2):
            for j in range(-1, 2):
                r, c = y + i, x + j
                if not (0 <= r < ny and 0 <= c < nx) or labels[r, c] != label or not (eight or i * j == 0):
                    continue
                if parent[r * nx + c] < 0:
                    continue
                one, other = root(parent, place), root(parent, r * nx + c)
                if one == other:
                    continue
                met += size[other] >= least
                if size[one] < size[other]:
                    one, other = other, one
                parent[other] = one
                size[one] += size[other]
        found[label] |= met > 1


def divisible(values: np.ndarray, labels: np.ndarray, least: int, connectivity: int) -> np.ndarray:
    """Labels of the segments that may fall into parts of at least ``least`` pixels.

    Parameters
    ----------
    values : ndarray, float32 (ny, nx)
    labels : ndarray, int32 (ny, nx)
        0 where there is no segment.
    least : int
    connectivity : int
        8 if pixels touch at their corners, too, or 4.
    """
    places = np.flatnonzero(labels)
    order = places[np.argsort(values.reshape(-1)[places], kind="stable")[::-1]]
    parent, size = np.full(labels.size, -1, np.int32), np.empty(labels.size, np.int32)
    found = np.zeros(labels.max(initial=0) + 1, bool)
    find_divisible(order, labels, least, connectivity == 8, parent, size, found)
    return np.flatnonzero(found)


def labelled(
    values: np.ndarray, threshold: np.ndarray, mask: np.ndarray, parameters: Mapping[str, Any]
) -> Any:
    """photutils' map of segments, taken apart if the parameters of its finder say so; None of none."""
    from photutils.segmentation import deblend_sources, detect_sources

    least, connectivity = parameters["n_pixels"], parameters["connectivity"]
    found = detect_sources(values, threshold, least, connectivity=connectivity, mask=mask)
    if found is None or not parameters["deblend"]:
        return found
    labels = divisible(values, np.ascontiguousarray(found.data, np.int32), least, connectivity)
    if not labels.size:
        return found
    how = {name: parameters[name] for name in ("connectivity", "n_levels", "contrast", "mode")}
    return deblend_sources(values, found, least, labels=labels, progress_bar=False, **how)


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
    from photutils.segmentation import SourceCatalog
    from photutils.utils.exceptions import NoDetectionsWarning

    given = dict(parameters)
    own = {name: given.pop(name) for name in ("local_bkg_width", "aperture_mask_method", "kron_params")}
    smooth_values = smoothed(values, mask, fwhm, crew)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDetectionsWarning)
        found = labelled(smooth_values, threshold, mask, given)
    if found is None:
        return None
    return Segments(
        found.data,
        SourceCatalog(values, found, mask=mask, error=err, convolved_data=smooth_values, **own),
    )
