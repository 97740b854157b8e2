"""Kernels of clean_flicker_noise: the noise of a difference of two groups as medians along the fast axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, JUMP_DET
from upramp.stages.core.kernel import kernel
from upramp.stages.core.statistics import median
from upramp.stages.stage1.flicker_clip import (
    clipped_below,
    collect_all,
    first_above,
    first_not_below,
    single_middle,
    sort,
)

BACKGROUND = 3.0
"""What lies so many standard deviations off is left out of the background's level."""

COLUMNS = 32  # columns that are gathered side by side


@kernel
def difference(frame, before, flags, scene):
    """Turn ``frame`` (float32) into its difference from ``before``, NaN where it is of no use.

    That is outside the ``scene`` (bool, True for background) and where ``flags`` (uint8) of the later
    group are DO_NOT_USE or JUMP_DET.
    """
    for y in range(frame.shape[0]):
        a, b, f, use = frame[y], before[y], flags[y], scene[y]
        for x in range(frame.shape[1]):
            good = use[x] and not f[x] & (DO_NOT_USE | JUMP_DET)
            a[x] = a[x] - b[x] if good else np.float32(np.nan)


@kernel
def residual(frame, background, scene):
    """Take ``background`` off ``frame`` (both float32); NaN outside the ``scene`` (bool)."""
    for y in range(frame.shape[0]):
        a, b, use = frame[y], background[y], scene[y]
        for x in range(frame.shape[1]):
            a[x] = a[x] - b[x] if use[x] else np.float32(np.nan)


@kernel
def clip_background(image, n_sigma, values, spare):
    """Make NaN what lies more than ``n_sigma`` deviations from the centre of ``image`` (float32).

    NaN does not count; deviations are those of the values below the centre. ``values`` and ``spare`` are
    float32 work arrays, one element for each pixel. Returns the median of what is left (float32; NaN if there
    is nothing).
    """
    n = collect_all(image, values)
    sort(values, spare, n)
    centre, deviation = clipped_below(values, 0, n)
    low, high = centre - n_sigma * deviation, centre + n_sigma * deviation
    for y in range(image.shape[0]):
        line = image[y]
        for x in range(image.shape[1]):
            line[x] = np.float32(np.nan) if line[x] < low or line[x] > high else line[x]
    first, last = 0, n
    if not np.isnan(low):
        first, last = first_not_below(values, 0, n, low), first_above(values, 0, n, high)
    return single_middle(values, first, last) if last > first else np.float32(np.nan)


@kernel
def take_level(image, lower, upper, values, spare):
    """Take the level of the background off ``image`` (float32), and make NaN what does not belong to it.

    The same as `clip_background` with `BACKGROUND`, subtracting what it returns, and `clip_background` again,
    at ``lower`` and ``upper`` deviations, unless these are 0; values are sorted but once. Returns the level
    (NaN if there is nothing).
    """
    n = collect_all(image, values)
    sort(values, spare, n)
    centre, deviation = clipped_below(values, 0, n)
    low, high = centre - BACKGROUND * deviation, centre + BACKGROUND * deviation
    first, last = 0, n
    if not np.isnan(low):
        first, last = first_not_below(values, 0, n, low), first_above(values, 0, n, high)
    if last <= first:
        return np.float32(np.nan)
    level = single_middle(values, first, last)
    for k in range(first, last):
        values[k] -= level
    low2, high2 = -np.inf, np.inf
    if upper > 0:
        centre, deviation = clipped_below(values, first, last)
        low2, high2 = centre - lower * deviation, centre + upper * deviation
    for y in range(image.shape[0]):
        line = image[y]
        for x in range(image.shape[1]):
            v = line[x]
            w = v - level
            line[x] = np.float32(np.nan) if v < low or v > high or w < low2 or w > high2 else w
    return level


@kernel
def row_medians(image, channels, found):
    """Medians of the rows of ``image`` (float32) without NaN, by channel; 0 where there is nothing.

    ``channels`` equal parts of a row; ``found`` (channels, rows) float32.
    """
    width = image.shape[1] // channels
    values = np.empty(width, np.float32)
    for y in range(image.shape[0]):
        for c in range(channels):
            line = image[y, c * width : (c + 1) * width]
            n = 0
            for x in range(width):
                values[n] = line[x]
                n += not np.isnan(line[x])
            found[c, y] = median(values, n) if n else np.float32(0)


@kernel
def column_medians(image, channels, found):
    """The same of columns; ``found`` (channels, columns)."""
    ny, nx = image.shape
    height = ny // channels
    values = np.empty((COLUMNS, height), np.float32)
    counts = np.empty(COLUMNS, np.int64)
    for c in range(channels):
        for first in range(0, nx, COLUMNS):
            span = min(COLUMNS, nx - first)
            counts[:] = 0
            for y in range(c * height, (c + 1) * height):
                line = image[y, first : first + span]
                for b in range(span):
                    v = line[b]
                    values[b, counts[b]] = v
                    counts[b] += not np.isnan(v)
            for b in range(span):
                n = counts[b]
                found[c, first + b] = median(values[b], n) if n else np.float32(0)


@kernel
def spread(noise, along_rows, out):
    """Put line noise (channels, lines; float32) on its pixels: ``out`` (ny, nx) float32."""
    ny, nx = out.shape
    channels = noise.shape[0]
    width, height = nx // channels, ny // channels
    for y in range(ny):
        line = out[y]
        if along_rows:
            for c in range(channels):
                line[c * width : (c + 1) * width] = noise[c, y]
        else:
            line[:] = noise[y // height]


@kernel
def change(frame, before, level, noise, flat):
    """Turn ``frame`` into its difference from the one ``before``, less the noise.

    All float32 (ny, nx): ``level`` of the background, one value (1, 1) or an image; ``noise``; ``flat``
    field, which the difference is divided by and multiplied with, none if it is of size 0. Roundings are
    those of the observatory's package, which takes the background off and puts it back.
    """
    ny, nx = frame.shape
    one, same = np.ones(nx, np.float32), np.empty(nx, np.float32)
    same[:] = level[0, 0]
    for y in range(ny):
        a, b, n = frame[y], before[y], noise[y]
        f = flat[y] if flat.size else one
        v = level[y] if level.size > 1 else same
        for x in range(nx):
            a[x] = (((a[x] - b[x]) / f[x] - v[x]) - n[x] + v[x]) * f[x]


@dataclass(frozen=True)
class Lines:
    """Fits medians of lines, of frames (ny, nx). Noise is (channels, lines).

    ``along_rows``: lines are rows of the arrays, else columns; ``channels``: cut into so many parts.
    """

    shape: tuple[int, int]
    along_rows: bool
    channels: int

    def fit(self, image: np.ndarray) -> np.ndarray:
        """Noise of an image with NaN where it is of no use, float32."""
        found = np.empty((self.channels, self.shape[0 if self.along_rows else 1]), np.float32)
        (row_medians if self.along_rows else column_medians)(image, self.channels, found)
        return found

    def image(self, noise: np.ndarray, out: np.ndarray) -> None:
        """Put noise on its pixels: ``out`` (ny, nx) float32."""
        spread(noise, self.along_rows, out)
