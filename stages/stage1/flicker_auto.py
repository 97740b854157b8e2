"""How clean_flicker_noise chooses the background and the channels of an image by itself.

The draft rate, divided by the flat field, is cleaned line by line, and all that is no background is replaced
by a smooth model of it. Of the result, averages along rows and columns over the middle quarter tell slopes,
the scatter around them and the steps from channel to channel; with the share of pixels that are no background
they lead through a tree of decisions.

Source: JWST pipeline documentation, clean_flicker_noise; P. Goudfrooij's optimize_one_f_params. Limits and
the tree were measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from upramp.stages.stage1 import flicker_background
from upramp.stages.stage1.flicker_clip import clipped, collect_all, sort
from upramp.stages.stage1.flicker_lines import (
    BACKGROUND,
    clip_background,
    column_medians,
    row_medians,
    spread,
    take_level,
)
from upramp.stages.stage1.flicker_scene import BAD, clip

N_SIGMA = 2.0
MIDDLE, UPPER = (3 / 8, 5 / 8), (5 / 6, 11 / 12)
"""Parts of rows or columns that averages are taken over."""

DETECTOR, CHANNELS = 2048, 4


@dataclass(frozen=True)
class Limits:
    """Between small and large: share of masked pixels, step between channels (DN/s), slope (DN/s per pixel)
    where steps are small and where they are large, ratio of slopes, scatter (DN/s).
    """

    masked: float
    step: float
    slope_of_small: float
    slope_of_large: float
    ratio: float
    scatter: float


LIMITS = {
    "NRC_IMAGE": Limits(0.1, 0.07, 1e-5, 1e-5, 3.0, 0.02),
    "NIS_IMAGE": Limits(0.07, 0.07, 1e-5, 1e-4, 5.0, 0.02),
}
"""By exposure type; no other type chooses by itself."""


@dataclass(frozen=True)
class Statistics:
    """What the tree asks for; see `Limits`."""

    masked: float
    step: float
    slope: float
    ratio: float
    scatter: float


def choose(rate: np.ndarray, flat: np.ndarray | None, exp_type: str, along_rows: bool) -> dict[str, Any]:
    """Parameters for an exposure.

    Parameters
    ----------
    rate : ndarray, float32, shape (ny, nx)
        Draft rate, DN/s; NaN where there is none.
    flat : ndarray, float32, shape (ny, nx), or None
        Flat field.
    exp_type : str
        One of `LIMITS`.
    along_rows : bool
        Lines of common noise are rows of the arrays.
    """
    statistics = measure(*quick_clean(rate if flat is None else rate / flat, along_rows), exp_type)
    return decide(statistics, LIMITS[exp_type]) | {"apply_flat_field": flat is not None}


def quick_clean(image: np.ndarray, along_rows: bool) -> tuple[np.ndarray, np.ndarray]:
    """An image cleaned line by line, float32, NaN where it is no background; and a smooth model of that."""
    mask = ~np.isnan(image)
    clip(image, mask, N_SIGMA)
    values, spare = np.empty((2, image.size), np.float32)
    background = np.where(mask, image, np.float32(np.nan))
    level = take_level(background, BAD, N_SIGMA, values, spare)
    noise = np.empty((1, image.shape[0 if along_rows else 1]), np.float32)
    (row_medians if along_rows else column_medians)(background, 1, noise)
    stripes = np.empty_like(background)
    spread(noise, along_rows, stripes)
    background -= stripes
    background += level
    level = clip_background(background, BACKGROUND, values, spare)
    model = flicker_background.model(background)
    return background, np.full(image.shape, level, np.float32) if model is None else model


def measure(background: np.ndarray, model: np.ndarray, exp_type: str) -> Statistics:
    """The statistics of what `quick_clean` gives."""
    missing = np.isnan(background)
    image = np.where(missing, model, background)
    rows, columns = average(image, 0, MIDDLE), average(image, 1, MIDDLE)
    slopes = [abs(line(a)[0]) for a in (rows, columns)]
    scatter = line(average(image, 0, UPPER) if exp_type == "NIS_IMAGE" else rows)[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.float64(max(slopes)) / min(slopes))
    step = largest_step(columns if exp_type == "NIS_IMAGE" else rows)
    return Statistics(float(missing.mean()), step, max(slopes), ratio, scatter)


def decide(found: Statistics, limits: Limits) -> dict[str, Any]:
    """The tree: ``background_method`` and ``fit_by_channel``."""
    crowded, stepped = found.masked >= limits.masked, found.step >= limits.step
    if crowded:
        steep = found.slope >= (limits.slope_of_large if stepped else limits.slope_of_small)
    elif stepped:
        steep = False
    else:
        steep = found.slope >= limits.slope_of_large or (
            found.slope >= limits.slope_of_small and found.ratio < limits.ratio
        )
    channels = not crowded and (stepped or (found.step > 0 and found.scatter >= limits.scatter))
    return {"background_method": "model" if steep else "median", "fit_by_channel": channels}


def average(image: np.ndarray, axis: int, part: tuple[float, float]) -> np.ndarray:
    """Mean along an axis over a part of it."""
    first, last = (round(edge * image.shape[axis]) for edge in part)
    return np.asarray(image[first:last].mean(axis=0) if axis == 0 else image[:, first:last].mean(axis=1))


def line(values: np.ndarray) -> tuple[float, float]:
    """Slope of a straight line through ``values``, and the standard deviation of what is left."""
    x = np.arange(values.size, dtype=np.float64)
    x -= x.mean()
    v = values.astype(np.float64)
    slope = float(x @ v / (x @ x)) if values.size > 1 else 0.0
    return slope, float((v - slope * x).std())


def largest_step(values: np.ndarray) -> float:
    """Largest difference between the clipped means of neighbouring channels; 0 but for a whole detector."""
    if values.size != DETECTOR:
        return 0.0
    means, spare = [], np.empty(DETECTOR, np.float32)
    for part in np.split(values.astype(np.float32), CHANNELS):
        own = np.empty_like(part)
        n = collect_all(part[None], own)
        sort(own, spare, n)
        means.append(clipped(own, 0, n)[1])
    return float(np.abs(np.diff(means)).max())
