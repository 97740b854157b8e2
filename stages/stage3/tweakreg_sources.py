"""Stars of an image: background, threshold, and a star finder of photutils.

    threshold = snr <r>        r: spread of the background

Background and spread: ``source_background.py``. A finder looks at an image convolved with a Gaussian less its
mean; that takes long over a whole detector. So a quick convolution first tells where anything can be found,
the places are cut out with wide margins and laid side by side, and the finder gets that small image, and the
peaks in it: what it makes of a star depends on nothing further away. Where stars are everywhere it gets the
image itself. Source: JWST pipeline documentation, tweakreg step; photutils (Bradley et al.). Values are
float32, sums float64.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from upramp.stages.core.frames import Crew
from upramp.stages.core.kernel import kernel
from upramp.stages.stage3.source_background import Levels, levels
from upramp.stages.stage3.source_segments import segments

FINDERS = ("dao", "iraf", "segmentation")
BLOCK = 16
"""Side of the squares, pixels, that are looked at or not."""

NEARLY = 0.99
"""What part of the threshold makes a place worth a look: convolution here may differ in the last digits."""


@dataclass(frozen=True)
class Finding:
    """How sources are found; names are those of `tweakreg.Params` and `source_catalog.Params`."""

    starfinder: str
    snr_threshold: float
    kernel_fwhm: float
    bkg_boxsize: int
    star: Mapping[str, Any]
    brightest: int | None
    segment: Mapping[str, Any]

    @classmethod
    def of(cls, p: Any) -> Finding:
        """What the parameters of a step say."""
        star = {
            "sigma_radius": p.sigma_radius,
            "min_separation": max(2, int(p.kernel_fwhm * p.minsep_fwhm + 0.5)),
            "sharpness_range": (p.sharplo, p.sharphi),
            "roundness_range": (p.roundlo, p.roundhi),
            "peak_max": p.peakmax,
        }
        segment = {
            "n_pixels": p.npixels,
            "connectivity": p.connectivity,
            "n_levels": p.nlevels,
            "contrast": p.contrast,
            "mode": p.multithresh_mode,
            "deblend": p.deblend,
            "local_bkg_width": p.localbkg_width,
            "aperture_mask_method": p.apermask_method,
            "kron_params": tuple(p.kron_params or (2.5, 1.4, 0.0)),
        }
        return cls(p.starfinder, p.snr_threshold, p.kernel_fwhm, p.bkg_boxsize, star, p.brightest, segment)


def refuse_senseless(p: Any) -> None:
    """Parameters with which no finder can work, of `tweakreg.Params` and `source_catalog.Params`.

    Raises
    ------
    ValueError
        With what must be otherwise.
    """
    for name in ("snr_threshold", "kernel_fwhm", "sigma_radius", "bkg_boxsize", "npixels", "nlevels"):
        if not 0 < getattr(p, name) < np.inf:
            raise ValueError(f"{name} must be more than 0, not {getattr(p, name)}")
    if p.brightest is not None and p.brightest < 1:
        raise ValueError(f"brightest must be at least 1 or None, not {p.brightest}")
    if not 0 <= p.contrast <= 1:
        raise ValueError(f"contrast must be from 0 to 1, not {p.contrast}")


@kernel
def promising(values, weights, least, blocks):
    """Mark the squares of `BLOCK` pixels with a pixel whose convolution reaches ``least``.

    ``values`` (ny, nx) float32, 0 beyond; ``weights`` (2 h + 1, 2 h + 1) float32, symmetric; ``blocks`` bool.
    """
    ny, nx = values.shape
    h, w = weights.shape[0] // 2, weights.shape[1] // 2
    line = np.empty(nx, np.float32)
    for y in range(ny):
        line[:] = 0
        for i in range(max(-h, -y), min(h, ny - 1 - y) + 1):
            row = values[y + i]
            for j in range(-w, w + 1):
                c = weights[i + h, j + w]
                if c == 0:
                    continue
                lo, hi = max(0, -j), min(nx, nx - j)
                target, source = line[lo:hi], row[lo + j : hi + j]
                for k in range(hi - lo):
                    target[k] += c * source[k]
        found = blocks[y // BLOCK]
        for x in range(nx):
            if line[x] >= least:
                found[x // BLOCK] = True


@kernel
def peaks(convolved, mask, threshold, footprint, found):
    """Mark pixels above a threshold that no other pixel around them exceeds.

    ``mask`` (ny, nx): pixels that are none; ``footprint`` (n, n) bool: what is around, with its centre at
    n // 2; beyond the image lies 0. ``found`` (ny, nx) bool gets the marks.
    """
    ny, nx = convolved.shape
    n = footprint.shape[0]
    half = n // 2
    for y in range(ny):
        for x in range(nx):
            value = convolved[y, x]
            highest = value > threshold and not mask[y, x]
            for i in range(n):
                if not highest:
                    break
                for j in range(n):
                    if footprint[i, j]:
                        r, c = y + i - half, x + j - half
                        inside = 0 <= r < ny and 0 <= c < nx
                        if (convolved[r, c] if inside else 0) > value:
                            highest = False
            found[y, x] = highest


@dataclass(frozen=True)
class Sheet:
    """Cut-outs of an image side by side.

    ``values``, ``mask`` (ny, nx); ``origin`` (ny, nx, 2) int32: where a pixel comes from, (y, x); ``home``
    (ny, nx) bool: it stands in a square that was promising, not in the margin.
    """

    values: np.ndarray
    mask: np.ndarray
    origin: np.ndarray
    home: np.ndarray


def sheet(values: np.ndarray, mask: np.ndarray, blocks: np.ndarray) -> Sheet | None:
    """Lay out what is promising with a margin of one square; None if that is half of the image or more."""
    from scipy.ndimage import binary_dilation, find_objects, label

    labels, _ = label(binary_dilation(blocks, np.ones((3, 3), bool)), np.ones((3, 3)))
    boxes = [(k, rows, columns) for k, (rows, columns) in enumerate(find_objects(labels), 1)]
    sizes = [(r.stop - r.start) * (c.stop - c.start) for _, r, c in boxes]
    if 2 * sum(sizes) >= blocks.size:
        return None
    width = max([int(np.sqrt(sum(sizes))) + 1, *(c.stop - c.start for _, _, c in boxes)])
    boxes.sort(key=lambda b: b[1].start - b[1].stop)
    places, top, left, height = [], 0, 0, 0
    for k, rows, columns in boxes:
        if left + columns.stop - columns.start > width:
            top, left, height = top + height, 0, 0
        places.append((k, rows, columns, top, left))
        left += columns.stop - columns.start
        height = max(height, rows.stop - rows.start)
    shape = ((top + height) * BLOCK, width * BLOCK)
    out = Sheet(
        np.zeros(shape, np.float32),
        np.zeros(shape, bool),
        np.zeros((*shape, 2), np.int32),
        np.zeros(shape, bool),
    )
    ny, nx = values.shape
    for k, rows, columns, y0, x0 in places:
        ys, xs = (
            np.arange(rows.start * BLOCK, rows.stop * BLOCK),
            np.arange(columns.start * BLOCK, columns.stop * BLOCK),
        )
        there = np.s_[y0 * BLOCK : y0 * BLOCK + len(ys), x0 * BLOCK : x0 * BLOCK + len(xs)]
        out.origin[there][..., 0], out.origin[there][..., 1] = ys[:, None], xs
        own = blocks[rows, columns] & (labels[rows, columns] == k)
        out.home[there] = np.kron(own, np.ones((BLOCK, BLOCK), bool))
        high, wide = min(len(ys), ny - ys[0]), min(len(xs), nx - xs[0])
        part = np.s_[ys[0] : ys[0] + high, xs[0] : xs[0] + wide]
        out.values[there][:high, :wide], out.mask[there][:high, :wide] = values[part], mask[part]
    return out


Columns = dict[str, np.ndarray]
"""A catalogue: x, y (pixels, 0-based), flux, and of IRAF's starfind orientation (degrees), by name."""

NAMES = ("x", "y", "flux")
_KNOWN = {
    "x": ("x_centroid", "xcentroid"),
    "y": ("y_centroid", "ycentroid"),
    "flux": ("flux", "segment_flux"),
    "orientation": ("pa", "orientation"),
}


def _columns(table: Any) -> Columns:
    if table is None or not len(table):
        return {name: np.empty(0) for name in NAMES}
    found = {name: [a for a in known if a in table.colnames] for name, known in _KNOWN.items()}
    return {name: np.asarray(table[known[0]], float) for name, known in found.items() if known}


def _brightest(found: Columns, n: int | None) -> Columns:
    order = np.argsort(found["flux"], kind="stable")[::-1][:n]
    return {name: values[order] for name, values in found.items()}


def peaks_of(
    values: np.ndarray, mask: np.ndarray, weights: np.ndarray, least: float, apart: float
) -> np.ndarray:
    """Peaks (x, y) of an image convolved with ``weights``, at least ``apart`` pixels from higher ones.

    As photutils finds them, whose own way takes long where there is much noise.
    """
    from scipy.ndimage import convolve

    line = np.arange(-apart, apart + 1)
    footprint = line[:, None] ** 2 + line**2 <= apart**2
    found = np.zeros(values.shape, bool)
    smooth = convolve(values, weights, mode="constant", cval=0.0)
    peaks(smooth, mask, np.float32(least), footprint, found)
    y, x = found.nonzero()
    return np.column_stack([x, y])


def stars(image: Levels, mask: np.ndarray, how: Finding) -> Columns:
    """Sources that DAOFIND or IRAF's starfind find, the brightest first."""
    from photutils.detection import DAOStarFinder, IRAFStarFinder
    from photutils.utils.exceptions import NoDetectionsWarning

    threshold = np.float32(how.snr_threshold * image.spread.mean(dtype=float))
    make = DAOStarFinder if how.starfinder == "dao" else IRAFStarFinder
    finder = make(threshold, how.kernel_fwhm, **how.star)
    weights = finder.kernel.data
    values, masked, places = image.values, mask, None
    ny, nx = values.shape
    margin = 2 * max(weights.shape) + how.star["min_separation"]
    if margin <= BLOCK and threshold > 0:
        blocks = np.zeros((-(-ny // BLOCK), -(-nx // BLOCK)), bool)
        kept_values = values[mask]
        values[mask] = 0
        promising(values, weights.astype(np.float32), np.float32(NEARLY * threshold), blocks)
        values[mask] = kept_values
        if not blocks.any():
            return _columns(None)
        places = sheet(values, mask, blocks)
        if places is not None:
            values, masked = places.values, places.mask
    least = threshold * finder.kernel.rel_err if how.starfinder == "dao" else threshold
    where = peaks_of(values, masked, weights, float(least), how.star["min_separation"])
    if not len(where):
        return _columns(None)
    finder = make(threshold, how.kernel_fwhm, xycoords=where, **how.star)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDetectionsWarning)
        found = _columns(finder(values, mask=masked))
    if places is not None and len(found["x"]):
        y, x = (np.rint(found[name]).astype(int) for name in ("y", "x"))
        high, wide = places.home.shape
        y, x = y.clip(0, high - 1), x.clip(0, wide - 1)
        kept = places.home[y, x]
        found["x"] += places.origin[y, x, 1] - x
        found["y"] += places.origin[y, x, 0] - y
        found = {name: values[kept] for name, values in found.items()}
    return _brightest(found, how.brightest)


def find_sources(
    sci: np.ndarray, err: np.ndarray, mask: np.ndarray, how: Finding, crew: Crew | None = None
) -> Columns:
    """Sources of an image.

    Parameters
    ----------
    sci, err : ndarray, float32 (ny, nx)
    mask : ndarray, bool
        Pixels that do not count.
    how : Finding
    crew : Crew, optional
        Threads.
    """
    mask = mask | ~np.isfinite(sci)
    crew = crew or Crew()
    image = levels(sci, mask, how.bkg_boxsize, crew)
    if image is None:
        return _columns(None)
    if how.starfinder == "segmentation":
        threshold = np.float32(how.snr_threshold) * image.spread
        parts = segments(image.values, err, mask, threshold, how.kernel_fwhm, how.segment, crew)
        found = _columns(None if parts is None else parts.catalogue.to_table())
    else:
        image.spread[mask] = 0  # here masked pixels make the threshold lower
        found = stars(image, mask, how)
    return {name: found[name] for name in NAMES}
