import numpy as np
import pytest
from numba import config

from upramp.stages.stage1.flicker_fft import Frequencies, fall, solve
from upramp.stages.stage1.flicker_fft_blocks import (
    FILTER,
    FILTERS,
    Blocks,
    fit_lines,
    kept_of,
    without_outliers,
)


def naive_bell(n, width):
    """A Gaussian on a circle, of sum 1, around element 1."""
    x = np.arange(n)
    shape = np.exp(-((x - n // 2) ** 2) / 2 / width**2)
    return np.roll(shape / shape.sum(), 1 - n // 2)


def convolve(a, kernel):
    """Along the last axis, on a circle."""
    return np.fft.irfft(np.fft.rfft(a) * np.fft.rfft(kernel), a.shape[-1])


def naive_fit(values, times, n, weights, shares):
    """Stream of n samples: weighted least squares by complex waves, each kept by its share."""
    kept = np.flatnonzero(shares)
    waves = weights[:, None] * np.exp(2j * np.pi * np.outer(times, kept) / n)
    coefficients = np.linalg.lstsq(waves, weights * values, rcond=None)[0]
    spectrum = np.zeros(n // 2 + 1, complex)
    spectrum[kept] = coefficients * shares[kept]
    return n * np.fft.irfft(spectrum, n)


def naive_frame(image, shift):
    """Noise of a whole frame whose fast axis is the first."""
    lines = image.T[::shift].astype(np.float64)
    rows, n = lines.shape
    mask = ~np.isnan(lines)
    density = np.roll(convolve(mask.astype(float), naive_bell(n, 32)), 1, axis=0)
    noise = np.zeros((rows, n))
    for r in range(4, rows - 4):
        d = lines[r, mask[r]]
        if not d.size:
            continue
        middle = np.median(d)
        d[np.abs(d - middle) > 3 * 1.4826 * np.median(np.abs(d - middle))] = middle
        shares = fall(np.fft.rfftfreq(n))
        noise[r] = naive_fit(d, np.flatnonzero(mask[r]), n, 1 / density[r, mask[r]], shares)
    noise = convolve(noise.T, naive_bell(rows, 1.5)).T
    return np.roll(noise, 1, axis=1)[::shift].T


def striped(seed, ny, nx, share=0.8):
    """Slow waves along columns, a few outliers, and gaps."""
    rng = np.random.default_rng(seed)
    y = np.arange(ny)[:, None]
    image = rng.normal(0, 1, (ny, nx)) + 5 * np.sin(2 * np.pi * y / ny + rng.uniform(0, 6, nx))
    image += rng.normal(0, 5, nx)
    image[rng.random(image.shape) < 0.01] += 100
    image[rng.random(image.shape) > share] = np.nan
    return image.astype(np.float32)


@pytest.mark.parametrize("shift", [1, -1])
def test_whole_frame_as_one_would_write_it_down(shift):
    image = striped(1, 512, 16)
    fitter = Frequencies((512, 16), shift)
    noise = fitter.fit(image)
    assert noise.size == 2 * 3 * 16
    out = np.full((512, 16), np.nan, np.float32)
    fitter.image(noise, out)
    np.testing.assert_allclose(out, naive_frame(image, shift), atol=1e-4)


def test_columns_without_enough_background_get_no_fit():
    image = striped(3, 512, 40)
    image[:, 20:30] = np.nan
    image[7, 25] = 1.0
    fitter, found = Frequencies((512, 40), 1), np.empty((512, 40), np.float32)
    fitter.image(fitter.fit(image), found)
    assert np.isfinite(found).all()
    assert np.abs(found[:, 26]).max() < 1e-2
    assert np.abs(found[:, 10]).max() > 1


def test_fall():
    f = np.arange(12) / 2048
    np.testing.assert_allclose(fall(f), [1, 1, 1, 1, 1, 1, 1, 1, 0.5, 0, 0, 0], atol=1e-12)


def test_solve():
    rng = np.random.default_rng(4)
    a = rng.normal(size=(9, 5)) + 1j * rng.normal(size=(9, 5))
    matrix, vector = a.conj().T @ a, rng.normal(size=5) + 1j * rng.normal(size=5)
    expected = np.linalg.solve(matrix, vector)
    assert solve(matrix.copy(), vector)
    np.testing.assert_allclose(vector, expected)
    singular = np.ones((3, 3), complex)
    assert not solve(singular, np.ones(3, complex))


def naive_blocks(image, shift, edges):
    """Noise of a subarray whose fast axis is the first."""
    lines = image.T[::shift].astype(np.float64)
    rows, width = lines.shape
    mask = ~np.isnan(lines)
    d = lines[mask]
    off = np.abs(lines - np.median(d)) > 4 * 1.4826 * np.median(np.abs(d - np.median(d)))
    padded = np.pad(off, 1)
    mask &= ~(off | padded[2:, 1:-1] | padded[:-2, 1:-1] | padded[1:-1, 2:] | padded[1:-1, :-2])
    counts = mask.sum(axis=1)
    start, end = np.flatnonzero(counts)[[0, -1]] + [0, 1]
    total, weight = np.zeros((rows, width)), np.zeros((rows, 1))
    while True:
        more = np.flatnonzero(np.cumsum(counts[start:end]) > 512)
        stop = start + int(more[0]) + 1 if more.size else end
        following = start + round((stop - start) / 2)
        if end - stop < (stop - start) // 2:
            stop = end
        length = stop - start
        n = length * (width + 12)
        there, stream = np.zeros((2, length, width + 12))
        there[:, :width], stream[:, :width] = mask[start:stop], np.nan_to_num(lines[start:stop])
        times = np.flatnonzero(there)
        sigma = 1 / np.mean(edges[:2]) / 1e-5 / 8
        density = convolve(there.ravel(), naive_bell(n, sigma))
        shares = np.array([kept_of(np.float32(f), np.array(edges)) for f in np.fft.rfftfreq(n, 1e-5)])
        fit = naive_fit(stream.ravel()[times], times, n, 1 / density[times], shares)
        half = (length - 1) / 2
        own = (1 - np.abs(np.arange(length) - half) / half + 1e-3)[:, None]
        total[start:stop] += own * fit.reshape(length, width + 12)[:, :width]
        weight[start:stop] += own
        if stop == end:
            break
        start = following
    return (total / np.where(weight > 0, weight, 1))[::shift].T


@pytest.mark.parametrize(
    ("shape", "shift", "share", "subarray"),
    [
        ((16, 130), 1, 0.9, ""),
        ((32, 60), -1, 0.7, ""),
        ((64, 21), 1, 0.95, "ALLSLITS"),
        ((8, 40), 1, 0.9, ""),
    ],
)
def test_blocks_as_one_would_write_them_down(shape, shift, share, subarray):
    rng = np.random.default_rng(5)
    image = rng.normal(0, 1, shape) + np.cumsum(rng.normal(0, 1, shape[1]))
    image[rng.random(shape) < 0.01] += 80
    image[rng.random(shape) > share] = np.nan
    image[:, :3] = np.nan
    image = image.astype(np.float32)
    edges = FILTERS.get(subarray, FILTER)
    fitter = Blocks(shape, shift, edges)
    noise = fitter.fit(image)
    np.testing.assert_allclose(noise, naive_blocks(image, shift, edges), atol=2e-3)
    assert not noise[:, :3].any()
    frame = np.empty(shape, np.float32)
    fitter.image(noise, frame)
    np.testing.assert_array_equal(frame, noise)


def test_blocks_that_cannot_be_fitted_are_left_alone():
    rng = np.random.default_rng(6)
    image = rng.normal(0, 1, (16, 300)).astype(np.float32)
    image[:, 60:240] = np.nan
    noise = Blocks((16, 300), 1, FILTER).fit(image)
    assert np.isfinite(noise).all()
    assert not noise[:, 120:180].any()
    assert np.abs(noise).max() < 10
    assert np.abs(noise[:, :40]).max() > 0.05
    nothing = np.full((16, 30), np.nan, np.float32)
    assert not Blocks((16, 30), 1, FILTER).fit(nothing).any()


def test_outliers_take_their_neighbours_with_them():
    lines = np.random.default_rng(7).normal(0, 1, (9, 9)).astype(np.float32)
    lines[4, 4] = lines[0, 0] = 50
    lines[7, 7] = np.nan
    mask = np.zeros((9, 9), bool)
    without_outliers(lines, mask)
    out = {(4, 4), (3, 4), (5, 4), (4, 3), (4, 5), (0, 0), (0, 1), (1, 0), (7, 7)}
    assert set(map(tuple, np.argwhere(~mask).tolist())) == out


def test_slow_noise_is_found_under_gaps():
    """A stream of low frequencies, of which half the pixels are hidden, comes back everywhere."""
    rows, width = (40, 16) if config.DISABLE_JIT else (120, 32)
    n = rows * (width + 12)
    t = np.arange(n)
    stream = 4 * np.sin(2 * np.pi * t * 3e-3) + 2 * np.cos(2 * np.pi * t * 1e-3)
    noise = stream.reshape(rows, width + 12)[:, :width]
    lines = noise + np.random.default_rng(8).normal(0, 0.1, noise.shape)
    lines[np.random.default_rng(9).random(noise.shape) < 0.5] = np.nan
    found = np.empty((rows, width), np.float32)
    fit_lines(lines.astype(np.float32), np.array(FILTER), 11.0, found)
    assert (found - noise).std() < 0.2 * noise.std()
