"""ipc: a convolution that leaves reference pixels alone."""

from __future__ import annotations

import numpy as np
import pytest

from upramp.stages.core.errors import Misconfigured, Unprocessable
from upramp.stages.core.stripes import Stripes
from upramp.stages.stage1.ipc import STEP, lit

KERNEL = np.array([[1.0, 2, 3], [4, 100, 6], [7, 8, 9]])


def test_a_point_becomes_the_kernel(apply):
    counts = np.zeros((1, 2, 5, 6))
    counts[0, 1, 2, 3] = 1
    out = apply(STEP, counts, {"ipc": {"SCI": KERNEL}}, batch=1)
    assert (out.data[0, 1, 1:4, 2:5] == KERNEL).all()
    assert out.data.sum() == KERNEL.sum()
    assert not out.gdq.any()


def test_nan_spreads_over_the_kernel(apply):
    counts = np.ones((1, 1, 5, 5))
    counts[0, 0, 2, 2] = np.nan
    nan = np.isnan(apply(STEP, counts, {"ipc": {"SCI": KERNEL}}).data[0, 0])
    assert nan[1:4, 1:4].all()
    assert nan.sum() == 9


@pytest.mark.parametrize(
    ("xstart", "ystart", "instrument", "light"),
    [
        (1, 1, "NIRCAM", (4, 10, 4, 12)),
        (3, 100, "NIRCAM", (0, 10, 2, 12)),
        (2037, 2039, "NIRCAM", (0, 6, 0, 8)),
        (101, 201, "NIRISS", (0, 10, 0, 12)),
        (1, 1, "MIRI", (0, 10, 4, 12)),
        (1021, 1015, "MIRI", (0, 10, 0, 8)),
    ],
)
def test_pixels_that_see_light(describe, xstart, ystart, instrument, light):
    assert (
        lit(describe(np.zeros((1, 1, 10, 12)), xstart=xstart, ystart=ystart, instrument=instrument)) == light
    )


def naive(counts, kernels, light):
    """Convolution of (nints, ngroups, ny, nx) with kernels (2h + 1, 2w + 1, ny, nx), float64."""
    y0, y1, x0, x1 = light
    seen = np.zeros_like(counts, dtype=float)
    seen[..., y0:y1, x0:x1] = counts[..., y0:y1, x0:x1]
    h, w = kernels.shape[0] // 2, kernels.shape[1] // 2
    wide = np.pad(seen, [(0, 0), (0, 0), (h, h), (w, w)])
    ny, nx = counts.shape[-2:]
    total = np.zeros(counts.shape)
    for i in range(2 * h + 1):
        for j in range(2 * w + 1):
            total += kernels[i, j] * wide[..., 2 * h - i : 2 * h - i + ny, 2 * w - j : 2 * w - j + nx]
    out = counts.copy()
    out[..., y0:y1, x0:x1] = total[..., y0:y1, x0:x1]
    return out


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (5, 3), (3, 5), (5, 5)])
@pytest.mark.parametrize(("each", "start"), [(False, 1), (True, 1), (False, 2038), (True, 700)])
@pytest.mark.parametrize("batch", [1, 4])
def test_against_whole_arrays(apply, describe, size, each, start, batch):
    rng = np.random.default_rng(1)
    counts = rng.uniform(0, 60000, (2, 2, 11, 11)).astype(np.float32)
    kernels = rng.normal(0, 0.02, (*size, 11, 11) if each else (*size, 1, 1)).astype(np.float32)
    given = kernels if each else kernels[..., 0, 0]
    facts = {"xstart": start, "ystart": start}
    out = apply(STEP, counts, {"ipc": {"SCI": given}}, batch=batch, **facts)
    expected = naive(counts, kernels, lit(describe(counts, **facts)))
    assert np.allclose(out.data, expected, rtol=1e-5, atol=0.05)


def test_margins_of_a_window_are_enough(apply):
    rng = np.random.default_rng(2)
    counts = rng.uniform(0, 100, (1, 1, 6, 20))
    whole = apply(STEP, counts, {"ipc": {"SCI": KERNEL}}).data
    part = apply(STEP, counts, {"ipc": {"SCI": KERNEL}}, columns=(7, 15)).data
    assert (part[..., 1:-1] == whole[..., 8:14]).all()


@pytest.mark.parametrize("shape", [(2, 2), (3, 4), (3,), (3, 3, 3)])
def test_kernel_of_the_wrong_shape_is_refused(apply, shape):
    with pytest.raises(Misconfigured, match="odd size"):
        apply(STEP, np.ones((1, 1, 4, 4)), {"ipc": {"SCI": np.ones(shape)}})


def test_superstripes_are_refused(apply):
    """What lies beside a pixel in their frames is not its neighbour on the detector."""
    stripes = Stripes(0, 0, 0, 0, 0, 0, 4, 2)
    with pytest.raises(Unprocessable, match="2 superstripes, whose neighbours ipc does not know"):
        apply(STEP, np.ones((1, 1, 8, 5)), {"ipc": {"SCI": np.ones((3, 3))}}, stripes=stripes)
