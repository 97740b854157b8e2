"""The scene mask of the flicker steps: where a draft rate shows nothing but background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.extras import Cube
from upramp.stages.core.frames import Crew, Ramps
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.stage1.draft_rate import Draft
from upramp.stages.stage1.flicker_clip import clipped, collect, cut, sort

BAD = 3.0
"""Pixels so many standard deviations below the background are bad."""

FIXED_SLITS = (922, 1116)
"""Rows (from 0, half open) of full frames that NIRSpec's fixed slits may light."""

HISTOGRAM, REACH = 2000, 4.0
"""Bins of the histogram, and how many standard deviations it reaches on either side."""


def scene(
    rate: np.ndarray, n_sigma: float, allowed: np.ndarray | None = None, fit_histogram: bool = False
) -> np.ndarray:
    """The mask of a draft rate.

    Parameters
    ----------
    rate : ndarray, float32, shape (ny, nx)
        Pixels that are NaN or exactly 0 do not belong to the background;
    n_sigma : float
        nor do those more than so many standard deviations above the clipped median, or three below,
        unless it is 0.
    allowed : ndarray of bool, shape (ny, nx), optional
        Where background may be at all.
    fit_histogram : bool
        Centre and deviation are those of a Gaussian that is fitted to the histogram.

    Returns
    -------
    ndarray of bool, shape (ny, nx)
        True for background.
    """
    mask = ~np.isnan(rate) & (rate != 0)
    if allowed is not None:
        mask &= allowed
    if n_sigma > 0:
        clip(rate, mask, n_sigma, fit_histogram)
    return mask


def clip(image: np.ndarray, mask: np.ndarray, n_sigma: float, fit_histogram: bool = False) -> None:
    """Unset ``mask`` where ``image`` is no background; see `scene`."""
    values, spare = np.empty((2, image.size), np.float32)
    n = collect(image, mask, values)
    sort(values, spare, n)
    centre, mean, deviation, left = clipped(values, 0, n)
    if fit_histogram and left and deviation > 0:
        centre, deviation = gaussian(values[:n], mean, deviation)
    cut(image, mask, centre - BAD * deviation, centre + n_sigma * deviation)


def gaussian(values: np.ndarray, mean: float, deviation: float) -> tuple[float, float]:
    """Centre and width of the Gaussian that fits the histogram of ``values`` best; ``mean`` and ``deviation``
    themselves, if none does.
    """
    from scipy.optimize import curve_fit  # slow to import, and few exposures need it

    reach = REACH * deviation
    counts, edges = np.histogram(values.astype(np.float64), HISTOGRAM, (mean - reach, mean + reach))
    places = (edges[:-1] + edges[1:]) / 2
    start = (counts.max(), places[counts.argmax()], deviation)
    bounds = ((0, places[0], 0), (np.inf, places[-1], places[-1] - places[0]))

    def curve(x: np.ndarray, height: float, centre: float, width: float) -> np.ndarray:
        return np.asarray(height * np.exp(-((x - centre) ** 2) / (2 * width**2)))

    try:
        (_, centre, width), _ = curve_fit(curve, places, counts, p0=start, bounds=bounds)
    except (RuntimeError, ValueError):
        return mean, deviation
    return float(centre), float(width)


def fixed_slits(meta: ExposureMeta) -> np.ndarray | None:
    """Where background may be beside the fixed slits, which NIRSpec's shutters and slices do not cover.

    bool (ny, nx), True for background; None of exposures that have none such.
    """
    if meta.exp_type not in ("NRS_IFU", "NRS_MSASPEC"):
        return None
    allowed = np.ones((meta.ny, meta.nx), np.bool_)
    allowed[slice(*FIXED_SLITS)] = False
    return allowed


@dataclass(frozen=True)
class Scenes:
    """The scene masks of an exposure: one for all integrations, or one for each.

    Attributes
    ----------
    draft : Draft
        What makes draft rates.
    rates : Cube or None
        Room for the rates of the integrations (nints, ny, nx), DN/s, for a mask of each. Without it there is
        one mask, from the rate of the exposure.
    n_sigma, fit_histogram, allowed
        As of `scene`.
    flat : ndarray, float32, shape (ny, nx), or None
        Flat field that rates are divided by.
    rate : ndarray, float32, shape (ny, nx), or None
        The rate of the exposure, if it is known already.
    given : ndarray of bool, shape (ny, nx) or (nints, ny, nx), or None
        Masks of the user's, in place of all that.
    """

    draft: Draft
    rates: Cube | None
    n_sigma: float
    fit_histogram: bool = False
    allowed: np.ndarray | None = None
    flat: np.ndarray | None = None
    rate: np.ndarray | None = None
    given: np.ndarray | None = None

    @property
    def one_for_all(self) -> bool:
        """Whether all integrations have the same mask."""
        return self.rates is None if self.given is None else self.given.ndim == 2

    def mask(self, ramps: Ramps, crew: Crew, i: int) -> np.ndarray:
        """The mask (ny, nx) of integration ``i``; ``rates``, if any, must have been filled."""
        if self.given is not None:
            return np.array(self.given if self.given.ndim == 2 else self.given[i])
        if self.rates is not None:
            rate = self.rates.read(i)
        else:
            rate = self.draft.exposure(ramps, crew) if self.rate is None else self.rate
        if self.flat is not None:
            rate = rate / self.flat
        return scene(rate, self.n_sigma, self.allowed, self.fit_histogram)
