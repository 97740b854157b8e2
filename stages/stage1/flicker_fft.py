"""Noise of NIRSpec spectra as low frequencies along the fast axis, fitted to what is background.

Of a whole frame every line along the fast axis is fitted on its own: with samples d_t at pixels t, weights
w_t = 1 / (density of samples, smoothed), outliers replaced by the median, and n pixels in a line,

    minimize  sum over t of w_t^2 | d_t - sum over k of c_k exp(2 pi i k t / n) |^2,    k = 0 ... 8
    noise[y] = Re(c_0) + 2 sum over k > 0 of a_k Re(c_k exp(2 pi i k y / n))

a_k falls from 1 to 0 around 1 / 256 of a pixel. Then coefficients are smoothed from line to line. Blocks of
subarrays are in `flicker_fft_blocks`.

Source: Rauscher 2024, PASP 136, 015001 (NSClean). That noise and density are taken one pixel and one line off
is so in the observatory's package, and was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.kernel import kernel
from upramp.stages.core.statistics import median

HALF_POWER, CUTOFF = 1 / 256, 1 / 1024
"""Frequency of half power, and width of the fall, per pixel."""
OUTLIER = 3.0
MAD = 1.4826  # standard deviations in a median absolute deviation
DENSITY, BUFF = 32.0, 1.5
"""Widths of the Gaussians: density of samples along a line, pixels; coefficients from line to line, lines."""
BORDER = 4
SPARSE = 1e-5
"""Samples where the density is less are left out."""
PIVOT = 1e-7
"""What cannot be solved for to this share of the largest pivot is not fitted."""
COLUMNS = 32  # lines that are fitted side by side


@kernel
def solve(matrix, vector):
    """Solve a Hermitian positive system (complex128) in place by Cholesky's method; False if it is not."""
    n = len(vector)
    largest = 0.0
    for k in range(n):
        largest = max(largest, matrix[k, k].real)
    for k in range(n):
        pivot = matrix[k, k].real
        for j in range(k):
            pivot -= (matrix[k, j] * np.conj(matrix[k, j])).real
        if not pivot > PIVOT * largest:
            return False
        root = np.sqrt(pivot)
        matrix[k, k] = root
        for r in range(k + 1, n):
            s = matrix[r, k]
            for j in range(k):
                s -= matrix[r, j] * np.conj(matrix[k, j])
            matrix[r, k] = s / root
    for k in range(n):
        s = vector[k]
        for j in range(k):
            s -= matrix[k, j] * vector[j]
        vector[k] = s / matrix[k, k]
    for k in range(n - 1, -1, -1):
        s = vector[k]
        for j in range(k + 1, n):
            s -= np.conj(matrix[j, k]) * vector[j]
        vector[k] = s / matrix[k, k]
    return True


@kernel
def fit_columns(image, density, shift, waves, found):
    """Fit the columns of ``image`` (ny, nx; float32, NaN where it is of no use).

    ``density`` (ny, nx) float32 of samples, one row off, column x being described by column x - ``shift``;
    ``waves`` (2, frequencies, ny): cosines and sines. ``found`` (2, frequencies, nx) float64 gets real and
    imaginary parts of the coefficients; 0 for the outermost columns and those that have too few samples.
    """
    ny, nx = image.shape
    frequencies = waves.shape[1]
    values = np.empty((COLUMNS, ny), np.float32)
    counts = np.empty(COLUMNS, np.int64)
    middles, limits = np.empty((2, COLUMNS))
    weights, weighted = np.empty((2, COLUMNS))
    sums = np.empty((4, frequencies, COLUMNS))
    matrix = np.empty((frequencies, frequencies), np.complex128)
    vector = np.empty(frequencies, np.complex128)
    found[:] = 0
    for first in range(BORDER, nx - BORDER, COLUMNS):
        width = min(COLUMNS, nx - BORDER - first)
        counts[:] = 0
        for y in range(ny):
            line = image[y, first : first + width]
            for b in range(width):
                values[b, counts[b]] = line[b]
                counts[b] += not np.isnan(line[b])
        for b in range(width):
            n = counts[b]
            middle = np.float64(median(values[b], n)) if n else 0.0
            for k in range(n):
                values[b, k] = abs(values[b, k] - middle)
            middles[b] = middle
            limits[b] = OUTLIER * MAD * np.float64(median(values[b], n)) if n else 0.0
        sums[:] = 0
        for y in range(ny):
            line = image[y, first : first + width]
            for b in range(width):
                v = np.float64(line[b])
                d = np.float64(density[y, (first + b - shift) % nx])
                good = not np.isnan(v) and d > SPARSE
                w = 1.0 / (d * d) if good else 0.0
                v = middles[b] if not abs(v - middles[b]) <= limits[b] else v
                weights[b], weighted[b] = w, w * v
            for k in range(frequencies):
                c, s = waves[0, k, y], waves[1, k, y]
                own, other = sums[0, k], sums[1, k]
                one, two = sums[2, k], sums[3, k]
                for b in range(width):
                    own[b] += c * weights[b]
                    other[b] -= s * weights[b]
                    one[b] += c * weighted[b]
                    two[b] -= s * weighted[b]
        for b in range(width):
            if counts[b] < frequencies:
                continue
            for j in range(frequencies):
                vector[j] = complex(sums[2, j, b], sums[3, j, b])
                for k in range(j + 1):
                    matrix[j, k] = complex(sums[0, j - k, b], sums[1, j - k, b])
            if solve(matrix, vector):
                for k in range(frequencies):
                    found[0, k, first + b] = vector[k].real
                    found[1, k, first + b] = vector[k].imag


@kernel
def draw(noise, waves, out):
    """Evaluate coefficients ``noise`` (2, frequencies, nx) with ``waves`` as of `fit_columns`.

    All float32; ``out`` (ny, nx).
    """
    for y in range(out.shape[0]):
        line = out[y]
        line[:] = 0
        for k in range(noise.shape[1]):
            times = np.float32(2.0 if k else 1.0)
            c, s = times * waves[0, k, y], times * waves[1, k, y]
            a, b = noise[0, k], noise[1, k]
            for x in range(out.shape[1]):
                line[x] += a[x] * c - b[x] * s


def fall(frequencies: np.ndarray) -> np.ndarray:
    """What is kept of each frequency (per pixel): 1, half a cosine, 0."""
    away = (frequencies - (HALF_POWER - CUTOFF / 2)) / CUTOFF
    return np.asarray(np.where(away < 0, 1, np.where(away <= 1, 0.5 + 0.5 * np.cos(np.pi * away), 0)))


def bell(length: int, width: float) -> np.ndarray:
    """Spectrum of a Gaussian of sum 1 on a circle of ``length`` pixels, one pixel off."""
    x = np.arange(length) - length // 2
    shape = np.exp(-(x**2) / (2 * width**2))
    return np.asarray(np.fft.rfft(np.roll(shape / shape.sum(), 1 - length // 2)))


@dataclass(frozen=True)
class Frequencies:
    """Fits whole frames (ny, nx), the fast axis being the first.

    ``shift`` (1 or -1): the direction of reading along the other. Noise is coefficients (2, frequencies, nx).
    """

    shape: tuple[int, int]
    shift: int

    @property
    def _number(self) -> int:
        """How many frequencies are kept."""
        return int(np.count_nonzero(fall(np.fft.rfftfreq(self.shape[0]))))

    def _waves(self, off: int) -> np.ndarray:
        """Cosines and sines of all frequencies (2, frequencies, ny), ``off`` pixels off."""
        ny = self.shape[0]
        phase = 2 * np.pi / ny * (np.arange(self._number)[:, None] * (np.arange(ny) - off)[None, :] % ny)
        return np.array([np.cos(phase), np.sin(phase)])

    def fit(self, image: np.ndarray) -> np.ndarray:
        """Noise of an image with NaN where it is of no use, float64."""
        from scipy import fft  # slow to import, and few exposures need it

        ny, nx = self.shape
        mask = (~np.isnan(image)).astype(np.float32)
        spectrum = fft.rfft(mask, axis=0, overwrite_x=True)
        spectrum *= bell(ny, DENSITY).astype(np.complex64)[:, None]
        density = fft.irfft(spectrum, ny, axis=0, overwrite_x=True)
        found = np.empty((2, self._number, nx))
        fit_columns(image, density, self.shift, self._waves(0), found)
        found *= fall(np.fft.rfftfreq(ny)[: self._number])[None, :, None]
        along = np.fft.rfft(found[..., :: self.shift], axis=-1) * bell(nx, BUFF)
        return np.ascontiguousarray(np.fft.irfft(along, nx, axis=-1)[..., :: self.shift])

    def image(self, noise: np.ndarray, out: np.ndarray) -> None:
        """Put noise on its pixels: ``out`` (ny, nx) float32."""
        draw(noise.astype(np.float32), self._waves(1).astype(np.float32), out)
