"""Noise of NIRSpec spectra in subarrays: low and very high frequencies of the stream of samples, in blocks.

A block is as many lines along the fast axis as hold more than 512 samples of background. The stream of its
samples, with 12 samples of pause after each line, is fitted by those frequencies that the filter lets
through, weighted by 1 / (density of samples, smoothed):

    minimize  sum over t of w_t^2 | d_t - sum over k of c_k exp(2 pi i k t / n) |^2

The next block begins half a block later; where blocks overlap, their fits are averaged with weights that fall
from the middle to the ends. Before, outliers and their four neighbours are left out.

Source: Rauscher 2024, PASP 136, 015001 (NSClean); blocks and weights were measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.kernel import kernel
from upramp.stages.core.statistics import median
from upramp.stages.stage1.flicker_fft import MAD, solve

PAUSE = 12  # samples after each line
SAMPLE = 1e-5  # s
SAMPLES = 512  # of background that a block has more than
LEAST = 0.05  # share of a block's pixels that must be background
OUTLIER = 4.0
LIGHTEST = 1e-3  # weight of a block's ends
REACH = 6  # widths of the Gaussian that count

FILTER = (1061.0, 1211.0, 49943.0, 49957.0)
"""Hz: all below the first is kept, nothing from the second to the third, all above the fourth."""
FILTERS = {"ALLSLITS": (150.0, 200.0, 49943.0, 49957.0)}
"""Of subarrays that have another filter."""


@kernel
def kept_of(frequency, edges):
    """Share of a frequency that the filter ``edges`` lets through; both Hz, float32."""
    f = np.float64(frequency)
    if f < edges[0] or f >= edges[3]:
        return 1.0
    if f < edges[1]:
        return 0.5 + 0.5 * np.cos(np.pi * (f - edges[0]) / (edges[1] - edges[0]))
    if f < edges[2]:
        return 0.0
    return 0.5 - 0.5 * np.cos(np.pi * (f - edges[2]) / (edges[3] - edges[2]))


@kernel
def without_outliers(lines, mask):
    """Set ``mask`` (bool) where ``lines`` (float32) are neither NaN nor outliers, nor beside one."""
    rows, width = lines.shape
    values = np.empty(lines.size, np.float32)
    n = 0
    for r in range(rows):
        for x in range(width):
            mask[r, x] = not np.isnan(lines[r, x])
            if mask[r, x]:
                values[n] = lines[r, x]
                n += 1
    if n == 0:
        return
    middle = np.float64(median(values, n))
    for k in range(n):
        values[k] = abs(values[k] - middle)
    limit = OUTLIER * MAD * np.float64(median(values, n))
    for r in range(rows):
        for x in range(width):
            if abs(np.float64(lines[r, x]) - middle) > limit:
                mask[r, x] = mask[max(r - 1, 0), x] = mask[min(r + 1, rows - 1), x] = False
                mask[r, max(x - 1, 0)] = mask[r, min(x + 1, width - 1)] = False


@kernel
def densities(there, sigma, around):
    """Density of samples: ``there`` (n) float64, 1 where one is, spread by a Gaussian and one sample on.

    The stream is a circle; ``sigma`` in samples; ``around`` is room for twice as many. In the first n of it
    comes the result.
    """
    n = len(there)
    reach = min(int(REACH * sigma), (n - 1) // 2)
    total = 1.0
    for k in range(1, n // 2 + 1):
        total += (2.0 if 2 * k < n else 1.0) * np.exp(-k * k / (2 * sigma * sigma))
    bell = np.empty(2 * reach + 1)
    for k in range(-reach, reach + 1):
        bell[k + reach] = np.exp(-k * k / (2 * sigma * sigma)) / total
    around[: 2 * n] = 0
    for t in range(n):
        if there[t]:
            part = around[t : t + 2 * reach + 1]  # late by the reach, so that nothing lies before the first
            for k in range(2 * reach + 1):
                part[k] += bell[k]
    for t in range(n):
        around[t] += around[t + n]
    for t in range(n):
        around[n + t] = around[(t + reach - 1) % n]
    around[:n] = around[n:]


@kernel
def wave_sum(values, table, frequency):
    """Sum of ``values`` exp(-2 pi i f t / n); ``table`` (2, n) has cosines and sines of one turn."""
    n = len(values)
    real, imaginary, place = 0.0, 0.0, 0
    for t in range(n):
        real += values[t] * table[0, place]
        imaginary -= values[t] * table[1, place]
        place += frequency
        place -= n if place >= n else 0
    return complex(real, imaginary)


@kernel
def fit_block(lines, mask, edges, sigma, table, out):
    """Fit a block: ``lines`` (rows, width) float32 where ``mask`` is set; the fit goes to ``out`` (float64).

    ``edges`` of the filter, Hz; ``sigma`` of the density's Gaussian, samples; ``table`` (2, n) cosines and
    sines of one turn, n = rows (width + `PAUSE`). False if it cannot be fitted.
    """
    rows, width = lines.shape
    n = rows * (width + PAUSE)
    there, values, weights, stream = np.zeros((4, n))
    samples = 0
    for r in range(rows):
        for x in range(width):
            if mask[r, x]:
                t = r * (width + PAUSE) + x
                there[t], values[t] = 1.0, lines[r, x]
                samples += 1
    frequencies = np.empty(n // 2 + 1, np.int64)
    kept = np.empty(n // 2 + 1)
    number = 0
    for k in range(n // 2 + 1):
        share = kept_of(np.float32(k / (n * SAMPLE)), edges)
        if share > 0:
            frequencies[number], kept[number] = k, share
            number += 1
    if number > samples:
        return False
    around = np.empty(2 * n)
    densities(there, sigma, around)
    for t in range(n):
        if there[t]:
            weights[t] = 1.0 / (around[t] * around[t])
            values[t] *= weights[t]
    sums = np.empty(n // 2 + 1, np.complex128)
    known = np.zeros(n // 2 + 1, np.bool_)
    matrix = np.empty((number, number), np.complex128)
    found = np.empty(number, np.complex128)
    for j in range(number):
        found[j] = wave_sum(values, table, frequencies[j])
        for k in range(j + 1):
            step = frequencies[j] - frequencies[k]
            if not known[step]:
                sums[step] = wave_sum(weights, table, step)
                known[step] = True
            matrix[j, k] = sums[step]
    if not solve(matrix, found):
        return False
    for j in range(number):
        alone = frequencies[j] == 0 or 2 * frequencies[j] == n
        times = kept[j] * (1.0 if alone else 2.0)
        real, imaginary, place = times * found[j].real, times * found[j].imag, 0
        for t in range(n):
            stream[t] += real * table[0, place] - imaginary * table[1, place]
            place += frequencies[j]
            place -= n if place >= n else 0
    for r in range(rows):
        for x in range(width):
            out[r, x] = stream[r * (width + PAUSE) + x]
    return True


@kernel
def fit_lines(lines, edges, sigma, noise):
    """Fit ``lines`` (rows, width; float32, NaN where they are of no use), block by block.

    ``noise`` (float32) gets the fit, 0 where nothing can be fitted.
    """
    rows, width = lines.shape
    mask = np.zeros((rows, width), np.bool_)
    without_outliers(lines, mask)
    counts = np.zeros(rows + 1, np.int64)
    for r in range(rows):
        n = 0
        for x in range(width):
            n += mask[r, x]
        counts[r + 1] = counts[r] + n
    start, end = 0, rows
    while end > 0 and counts[end] == counts[end - 1]:
        end -= 1
    while start < end and counts[start + 1] == 0:
        start += 1
    total, weight = np.zeros((rows, width)), np.zeros(rows)
    out = np.empty((rows, width))
    table = np.empty((2, 0))
    while start < end:
        stop = start + 1
        while stop < end and counts[stop] - counts[start] <= SAMPLES:
            stop += 1
        following = start + max(int(np.rint((stop - start) / 2)), 1)
        if end - stop < (stop - start) // 2:
            stop = end
        length = stop - start
        enough = counts[stop] - counts[start] >= LEAST * length * width
        n = length * (width + PAUSE)
        if table.shape[1] != n:
            table = np.empty((2, n))
            for t in range(n):
                table[0, t], table[1, t] = np.cos(2 * np.pi * t / n), np.sin(2 * np.pi * t / n)
        part = slice(start, stop)
        if enough and fit_block(lines[part], mask[part], edges, sigma, table, out[part]):
            half = (length - 1) / 2
            for r in range(length):
                w = 1.0 - abs(r - half) / half + LIGHTEST if half > 0 else 1.0
                weight[start + r] += w
                for x in range(width):
                    total[start + r, x] += w * out[start + r, x]
        start = end if stop == end else following
    for r in range(rows):
        for x in range(width):
            noise[r, x] = total[r, x] / weight[r] if weight[r] > 0 else 0.0


@dataclass(frozen=True)
class Blocks:
    """Fits subarrays (ny, nx), the fast axis being the first.

    ``shift`` (1 or -1): the direction of reading along the other. Noise is an image.
    """

    shape: tuple[int, int]
    shift: int
    edges: tuple[float, float, float, float]

    def fit(self, image: np.ndarray) -> np.ndarray:
        """Noise of an image with NaN where it is of no use, float32."""
        lines = np.ascontiguousarray(image.T[:: self.shift])
        noise = np.empty_like(lines)
        sigma = 1 / ((self.edges[0] + self.edges[1]) / 2) / SAMPLE / 8
        fit_lines(lines, np.array(self.edges), sigma, noise)
        return np.ascontiguousarray(noise[:: self.shift].T)

    def image(self, noise: np.ndarray, out: np.ndarray) -> None:
        """Put noise on its pixels: ``out`` (ny, nx) float32."""
        out[:] = noise
