"""Smoothing beside astropy's convolution; segments beside photutils."""

from __future__ import annotations

import numpy as np
import pytest

from upramp.stages.core.frames import Crew
from upramp.stages.stage3.source_segments import gaussian, smoothed


@pytest.mark.parametrize("fwhm", [1.0, 2.0, 4.5])
@pytest.mark.parametrize("shape", [(40, 60), (5, 5), (300, 9)])
def test_smoothing_is_that_of_astropy(fwhm, shape):
    from astropy.convolution import convolve

    rng = np.random.default_rng(1)
    values = rng.normal(size=shape).astype(np.float32)
    mask = rng.random(shape) < 0.1
    values[mask] = np.nan
    expected = convolve(values, gaussian(fwhm), mask=mask)
    seen = smoothed(values, mask, fwhm, Crew())
    np.testing.assert_allclose(seen, expected, rtol=2e-7, atol=1e-7)


def test_threads_and_gaps():
    values = np.ones((500, 40), np.float32)
    mask = np.zeros(values.shape, bool)
    mask[100:130] = True
    one, two = (smoothed(values, mask, 2.0, Crew(n)) for n in (1, 2))
    np.testing.assert_array_equal(one, two)
    inside = np.s_[140:490, 5:-5]
    np.testing.assert_allclose(one[inside], 1.0, rtol=1e-6)
    assert not one[110:120].any()
    np.testing.assert_allclose(one[95:100, 5:-5], 1.0, rtol=1e-6)
