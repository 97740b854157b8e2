"""Fast evaluation against the models themselves."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.modeling.models import (
    AffineTransformation2D,
    Const1D,
    Gaussian2D,
    Identity,
    Mapping,
    Pix2Sky_TAN,
    Polynomial1D,
    Polynomial2D,
    Rotation2D,
    RotationSequence3D,
    Scale,
    Shift,
)
from gwcs.geometry import CartesianToSpherical, SphericalToCartesian
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.wcs.evaluate import BLOCK, evaluator, pixel_to_sky, polynomial, sky_to_pixel
from upramp.stages.wcs.imaging import imaging_wcs

RNG = np.random.default_rng(5)


def poly(degree, seed=0, **options):
    p = Polynomial2D(degree, **options)
    rng = np.random.default_rng(seed)
    for name in p.param_names:
        setattr(p, name, rng.normal() / 100 ** (int(name[1]) + int(name[3])))
    return p


ROTATION = RotationSequence3D([10.0, -20.0, 30.0, 40.0, -50.0], axes_order="zyxyz")
MODELS = {
    "shift and scale": Shift(3.0) & Scale(0.5),
    "mapping": Mapping((1, 0, 1)) | Identity(1) & Shift(1.0) & Scale(2.0),
    "polynomials": Mapping((0, 1, 0, 1)) | poly(5, 1) & poly(4, 2),
    "one axis each": Polynomial1D(2, c0=1.0, c1=0.5, c2=0.01) & Polynomial1D(1, c0=0.0, c1=2.0),
    "degree 0": Mapping((0, 1, 0, 1)) | poly(0) & poly(1),
    "with a window": Mapping((0, 1, 0, 1)) | poly(3, 1, x_domain=(0, 9), x_window=(-1, 1)) & poly(2),
    "with windows of one axis": Polynomial1D(1, c0=1.0, c1=2.0, domain=(0, 9), window=(-1, 1)) & Identity(1),
    "affine": AffineTransformation2D([[1.0, 2.0], [-3.0, 0.5]], [7.0, -8.0]) | Rotation2D(33.0),
    "sphere": SphericalToCartesian(wrap_lon_at=180) | ROTATION | CartesianToSpherical(wrap_lon_at=360),
    "sphere, half turn": SphericalToCartesian() | ROTATION | CartesianToSpherical(wrap_lon_at=180),
    "constant": Mapping((0, 1, 1)) | Identity(2) & Const1D(2.5),
    "sums": poly(2, 3) + poly(2, 4) * poly(1, 5) - poly(1, 6) / (Mapping((1,), n_inputs=2) | Shift(9.0)),
    "unknown": Pix2Sky_TAN() | Shift(1.0) & Identity(1),
    "unknown, one output": Mapping((0, 1, 0, 1)) | Gaussian2D(2.0, 3.0, 4.0, 5.0, 6.0) & poly(2, 7),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models_give_what_they_give(name):
    model = MODELS[name]
    x, y = RNG.uniform(1, 80, (2, 4, 7))
    expected = model(x, y)
    got = evaluator(model)(x, y)
    assert len(got) == model.n_outputs
    for a, b in zip(got, expected if model.n_outputs > 1 else (expected,), strict=True):
        assert a.shape == (4, 7) and a.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-12)


@given(st.integers(0, 7), st.integers(1, 40), st.integers(0, 1 << 30))
@settings(max_examples=40, deadline=None)
def test_polynomials_are_sums_of_powers(degree, points, seed):
    rng = np.random.default_rng(seed)
    c = rng.normal(size=(degree + 1, degree + 1))
    x, y = rng.uniform(-1, 1, (2, points))
    out, inner = np.empty((2, points))
    polynomial(c, x, y, out, inner)
    naive = [
        sum(c[i, j] * a**i * b**j for i in range(degree + 1) for j in range(degree + 1 - i))
        for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(out, naive, rtol=1e-12, atol=1e-12)


def test_shapes_are_broadcast_and_blocks_do_not_show():
    model = MODELS["polynomials"]
    x, y = np.arange(70.0), np.arange(BLOCK // 35)[:, None].astype(float)
    whole = evaluator(model)(x, y)
    assert whole[0].shape == (y.size, 70) and whole[0].size > BLOCK
    row = evaluator(model)(x, np.full(70, y[-1, 0]))
    np.testing.assert_array_equal(whole[0][-1], row[0])


def test_numbers_and_nothing():
    model = MODELS["affine"]
    np.testing.assert_allclose(evaluator(model)(3, 4), model(3.0, 4.0))
    assert evaluator(model)(np.empty((0, 3)), np.empty((0, 3)))[0].shape == (0, 3)


def test_nan_stays():
    got = evaluator(MODELS["polynomials"] | MODELS["sphere"])(np.array([1.0, np.nan]), np.array([2.0, 2.0]))
    assert np.isfinite([g[0] for g in got]).all() and np.isnan([g[1] for g in got]).all()


@pytest.mark.parametrize("facts", [{}, {"ra_ref": 0.001, "dec_ref": 89.9, "xstart": 3}, {"va_scale": None}])
def test_the_sky_agrees_with_the_wcs(make_facts, distortion, facts):
    wcs = imaging_wcs(make_facts(**facts), {"distortion": {"model": distortion}})
    x, y = RNG.uniform(0, 2047, (2, 500))
    expected, got = np.array(wcs(x, y)), np.array(pixel_to_sky(wcs)(x, y))
    off = (got - expected) * 3.6e6  # mas
    off[0] *= np.cos(np.radians(expected[1]))
    assert np.abs(off).max() < 1e-6
    np.testing.assert_allclose(sky_to_pixel(wcs)(*expected), wcs.backward_transform(*expected), atol=1e-8)
