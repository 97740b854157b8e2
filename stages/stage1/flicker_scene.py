"""The scene mask of the flicker steps: where a draft rate shows nothing but background."""

from __future__ import annotations

import numpy as np

from upramp.stages.stage1.flicker_clip import clipped, collect, cut, limits, sort

BAD = 3.0
"""Pixels so many standard deviations below the background are bad."""


def scene(rate: np.ndarray, n_sigma: float) -> np.ndarray:
    """The mask (ny, nx; bool, True for background) of a draft rate (float32).

    Pixels without a rate, NaN or exactly 0, do not belong to it; nor do those more than ``n_sigma`` standard
    deviations above the clipped median or three below, unless ``n_sigma`` is 0.
    """
    mask = ~np.isnan(rate) & (rate != 0)
    if n_sigma > 0:
        values, spare = np.empty((2, rate.size), np.float32)
        n = collect(rate, mask, values)
        sort(values, spare, n)
        cut(rate, mask, *limits(*clipped(values, 0, n), BAD, n_sigma))
    return mask
