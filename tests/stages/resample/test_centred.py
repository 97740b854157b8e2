"""Kernels about pixels' centres: against the plain formulas and the drizzle package; bands do not matter."""

from __future__ import annotations

from itertools import pairwise
from warnings import catch_warnings, simplefilter

import numpy as np
import pytest

from upramp.stages.resample.centred import (
    KERNELS,
    POINT,
    TINY,
    drop_centred,
    profile,
    reach_of,
    table_of,
    width_of,
)
from upramp.stages.resample.drizzle import extent
from upramp.stages.resample.pixmap import pixmap
from upramp.stages.resample.spans import spans

SHAPE = (34, 35)
PLANE = np.int32(4)


def weights_along(name, x, n, pixfrac, ratio):
    """What a pixel at x gives to pixels 0 to n - 1 of a row."""
    c, found = np.arange(n, dtype=float), np.zeros(n)
    if name == "point" or pixfrac <= TINY:
        found[int(np.floor(x + 0.5))] = 1
        return found
    if name == "turbo":
        half = pixfrac / ratio / 2
        common = np.minimum(c + 0.5, x + half) - np.maximum(c - 0.5, x - half)
        return np.maximum(common, 0) / (2 * half)
    if name == "gaussian":
        e, reach = (2.3548 * ratio / pixfrac) ** 2 / 2, 1.2 / ratio
        inside = (c >= np.floor(x - reach + 0.5)) & (c <= np.floor(x + reach + 0.5))
        return np.where(inside, np.sqrt(e / np.pi) * np.exp(-e * (c - x) ** 2), 0)
    order = int(name[-1])
    t = np.floor(np.abs(c - x) * ratio / 0.003 + 0.5) * 0.003
    return np.where(np.abs(c - x) * ratio <= order, np.sinc(t) * np.sinc(t / order), 0)


def scene(seed=1, size=(12, 13)):
    rng = np.random.default_rng(seed)
    values = rng.normal(3, 1, (*size, 2)).astype("f4")
    weight = rng.choice(np.array([0, 0.5, 2], "f4"), size)
    flags = (1 << rng.integers(0, 32, size)).astype("u4")
    return values, weight, flags


def turned(ratio, angle=17.0, shift=(9.2, 6.1)):
    c, s = np.cos(np.radians(angle)) / ratio, np.sin(np.radians(angle)) / ratio
    return lambda x, y: (shift[0] + c * x - s * y, shift[1] + s * x + c * y)


def drizzled(name, values, weight, flags, transform, pixfrac, ratio, bands=1):
    where = pixmap(transform, weight.shape)
    reach = reach_of(name, pixfrac, ratio)
    r0, r1, c0, c1 = extent(where, SHAPE, reach)
    kind = POINT if pixfrac <= TINY else KERNELS[name]
    how = kind, reach, width_of(name, pixfrac, ratio), table_of(name)
    out = np.zeros((*SHAPE, 1 + values.shape[-1]), np.float32)
    context, found = np.zeros(SHAPE, np.int32), np.zeros(SHAPE, np.uint32)
    for lo, hi in pairwise(np.linspace(r0, r1, bands + 1).astype(int)):
        sums, part = np.zeros((hi - lo, c1 - c0, out.shape[2]), np.float32), np.s_[lo:hi, c0:c1]
        where_at = where.x, where.y, where.step, spans(where, SHAPE)
        drop_centred(
            values, weight, flags, *where_at, *how, lo, hi, c0, sums, context[part], PLANE, found[part]
        )
        out[part] = sums
    return out, context, found


CASES = [
    *((name, 1.0, ratio) for name in KERNELS for ratio in (1.0, 0.6)),
    ("turbo", 0.4, 1.0),
    ("gaussian", 0.4, 0.8),
    ("lanczos3", 0.4, 1.3),
    ("turbo", 0.0, 1.0),
    ("lanczos2", 1e-3, 1.0),
]


@pytest.mark.parametrize(("name", "pixfrac", "ratio"), CASES)
def test_the_formulas(name, pixfrac, ratio):
    values, weight, flags = scene()
    transform = turned(ratio)
    sums, context, found = drizzled(name, values, weight, flags, transform, pixfrac, ratio)
    wanted, positive, gathered = np.zeros((*SHAPE, 3)), np.zeros(SHAPE, bool), np.zeros(SHAPE, "u4")
    for y, x in np.ndindex(weight.shape):
        px, py = transform(x, y)
        rows = weights_along(name, py, SHAPE[0], pixfrac, ratio)
        share = np.outer(rows, weights_along(name, px, SHAPE[1], pixfrac, ratio)) * weight[y, x]
        wanted[..., 0] += share
        wanted[..., 1:] += share[..., None] * values[y, x]
        positive |= share > 0
        gathered[share != 0] |= flags[y, x]
    np.testing.assert_allclose(sums, wanted, atol=1e-5)
    assert np.array_equal(context, np.where(positive, PLANE, 0))
    assert np.array_equal(found, gathered)


@pytest.mark.parametrize(("name", "pixfrac", "ratio"), CASES)
def test_the_drizzle_package_has_the_same(name, pixfrac, ratio):
    drizzle = pytest.importorskip("drizzle.resample")
    values, weight, flags = scene(2)
    transform = turned(ratio)
    sums, context, found = drizzled(name, values, weight, flags, transform, pixfrac, ratio)
    y, x = np.indices(weight.shape)
    theirs = drizzle.Drizzle(kernel=name, out_shape=SHAPE, fillval="NAN")
    with catch_warnings():
        simplefilter("ignore")  # kernels that do not keep the flux are told of
        theirs.add_image(
            values[..., 0].copy(), 1.0, np.dstack(transform(x, y)), dq=flags, weight_map=weight,
            pixfrac=pixfrac, pixel_scale_ratio=ratio, in_units="cps",
        )  # fmt: skip
    np.testing.assert_allclose(sums[..., 0], theirs.out_wht, atol=3e-6)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums[..., 1] / sums[..., 0]
    firm = np.abs(sums[..., 0]) > 0.05
    np.testing.assert_allclose(mean[firm], theirs.out_img[firm], rtol=1e-4)
    assert np.array_equal(context != 0, theirs.out_ctx.reshape(SHAPE) != 0)
    assert np.array_equal(found, theirs.out_dq)


@pytest.mark.parametrize("name", KERNELS)
def test_bands_give_the_same_bits(name):
    whole = drizzled(name, *scene(), turned(0.8), 1.0, 0.8)
    for bands in (2, 7):
        parts = drizzled(name, *scene(), turned(0.8), 1.0, 0.8, bands)
        assert all(np.array_equal(a, b) for a, b in zip(parts, whole, strict=True))


@pytest.mark.parametrize("name", KERNELS)
def test_over_the_rim_a_pixel_is_lost_whole(name):
    """As if its weight were 0."""
    values, weight, flags = scene(2, size=(40, 41))
    transform = turned(1.0, 17.0, (2.2, -9.1))
    found = drizzled(name, values, weight, flags, transform, 1.0, 1.0)
    counts, x = spans(pixmap(transform, weight.shape), SHAPE), np.arange(41)
    over = (x < counts[:, :1]) | (x >= counts[:, 1:])
    assert 200 < over.sum() < 1200
    kept = drizzled(name, values, np.where(over, 0, weight), flags, transform, 1.0, 1.0)
    assert all(np.array_equal(a, b) for a, b in zip(found, kept, strict=True))


def test_point_and_turbo_keep_the_flux():
    values, weight, flags = scene()
    for name in ("point", "turbo"):
        sums, _, _ = drizzled(name, values, weight, flags, turned(0.6), 1.0, 0.6)
        assert sums[..., 0].sum(dtype=float) == pytest.approx(weight.sum(dtype=float), rel=1e-6)


def test_profiles_by_hand():
    none = np.zeros(1)
    assert profile(KERNELS["turbo"], 0.5, 0.5, none) == 0.5
    assert profile(KERNELS["turbo"], -0.75, 0.5, none) == 0.25
    assert profile(KERNELS["gaussian"], 0.0, np.pi, none) == 1.0
    assert profile(KERNELS["gaussian"], 1.0, np.pi, none) == pytest.approx(np.exp(-np.pi))
    table = table_of("lanczos2")
    assert profile(KERNELS["lanczos2"], 0.0, 1 / 0.003, table) == 1.0
    assert profile(KERNELS["lanczos2"], 5.0, 1 / 0.003, table) == 0.0
    half = np.sinc(0.501) * np.sinc(0.2505)
    assert profile(KERNELS["lanczos2"], -0.5, 1 / 0.003, table) == pytest.approx(half, rel=1e-12)
