"""Many images on one grid, against the plain formulas; here every pixel falls on one output pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from upramp.stages.core.dq import DO_NOT_USE, NON_SCIENCE, SATURATED
from upramp.stages.core.frames import Crew
from upramp.stages.core.image import Image
from upramp.stages.resample.combine import CONTEXT_BITS, Drizzling, Mosaic, without_effect
from upramp.stages.resample.pixmap import pixmap

SHAPE = (8, 9)


def image(seed, seconds=100.0):
    rng = np.random.default_rng(seed)
    size = (5, 6)
    sci, variances = rng.normal(3, 1, size).astype("f4"), rng.uniform(0.1, 1, (3, *size)).astype("f4")
    dq = rng.choice(np.array([0, 0, 0, SATURATED, DO_NOT_USE, NON_SCIENCE], "u4"), size)
    err = np.sqrt(variances.sum(axis=0))
    return Image(sci, err, dq, variances[0], variances[1], variances[2], {"PRIMARY": {"EFFEXPTM": seconds}})


def shifted(x0, y0):
    return pixmap(lambda x, y: (x + x0, y + y0), (5, 6))


def naive(images, places, levels, kind):
    total = np.zeros((6, *SHAPE))
    context = np.zeros(SHAPE, int)
    for k, (one, (x0, y0), level) in enumerate(zip(images, places, levels, strict=True)):
        for y, x in np.ndindex(one.sci.shape):
            if one.dq[y, x] & (DO_NOT_USE | NON_SCIENCE):
                continue
            seconds = one.header["PRIMARY"]["EFFEXPTM"]
            r = float(one.var_rnoise[y, x])
            w = {"ivm": 1 / r, "exptime": seconds, None: 1.0}[kind]
            at = (y + y0, x + x0)
            u = w
            total[(0, *at)] += w
            total[(1, *at)] += w * (float(one.sci[y, x]) - level)
            total[(2, *at)] += u
            variances = (one.var_rnoise, one.var_poisson, one.var_flat)
            for n, v in enumerate(variances):
                total[(3 + n, *at)] += u * u * float(v[y, x])
            context[at] |= 1 << k
    with np.errstate(invalid="ignore"):
        found = {"SCI": total[1] / total[0], "WHT": total[0]}
        names = ("VAR_RNOISE", "VAR_POISSON", "VAR_FLAT")
        found |= {name: total[3 + n] / total[2] ** 2 for n, name in enumerate(names)}
        found["ERR"] = np.sqrt(sum(found[name] for name in names))
    return found, context


@pytest.mark.parametrize("kind", ["ivm", "exptime", None])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_formulas(kind, threads):
    images, places, levels = [image(1), image(2, 50.0), image(3)], [(0, 0), (2, 1), (3, 3)], [0.0, 0.5, -1.0]
    mosaic = Mosaic(SHAPE, Drizzling(weight_type=kind), Crew(threads))
    for one, place, level in zip(images, places, levels, strict=True):
        mosaic.add(one, shifted(*place), level)
    made = mosaic.finish()
    wanted, context = naive(images, places, levels, kind)
    assert list(made) == ["SCI", "ERR", "CON", "WHT", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"]
    for name, array in wanted.items():
        np.testing.assert_allclose(made[name], array, rtol=2e-5, err_msg=name)
        assert made[name].dtype == np.float32
    assert np.array_equal(made["CON"][0], context)
    assert mosaic.left_out == 0


def test_smaller_pixels_have_larger_variances():
    plain, fine = (Mosaic(SHAPE, Drizzling(scale_ratio=ratio)) for ratio in (1.0, 0.5))
    for mosaic in (plain, fine):
        mosaic.add(image(1), shifted(0, 0))
    one, two = plain.finish(), fine.finish()
    np.testing.assert_allclose(two["VAR_POISSON"], 4 * one["VAR_POISSON"], rtol=1e-6)
    np.testing.assert_array_equal(two["SCI"], one["SCI"])


def test_more_images_than_bits():
    mosaic = Mosaic(SHAPE, Drizzling(errors=False))
    clean = image(1)
    clean.dq[:] = 0
    for _ in range(CONTEXT_BITS + 2):
        mosaic.add(clean, shifted(1, 1))
    made = mosaic.finish(fill=-9.0)
    assert list(made) == ["SCI", "CON", "WHT"]
    assert made["CON"].shape == (2, *SHAPE)
    assert (made["CON"][0, 1:6, 1:7] == -1).all() and (made["CON"][1, 1:6, 1:7] == 3).all()
    assert made["SCI"][0, 0] == -9 and made["WHT"][0, 0] == 0
    np.testing.assert_allclose(made["SCI"][1:6, 1:7], clean.sci, rtol=1e-5)


def test_without_a_flat_there_is_no_variance_of_it():
    """NaN, while the error is that of the other kinds."""
    mosaic = Mosaic(SHAPE)
    mosaic.add(replace(image(1), var_flat=None), shifted(1, 1))
    made = mosaic.finish()
    assert np.isnan(made["VAR_FLAT"]).all()
    np.testing.assert_allclose(made["ERR"], np.sqrt(made["VAR_POISSON"] + made["VAR_RNOISE"]), rtol=1e-6)


def test_negative_weights_and_flags():
    """lanczos: a pixel may have a negative weight, and a bit where any image gives a positive one."""
    mosaic = Mosaic(SHAPE, Drizzling(kernel="lanczos2", flags=True), Crew(2))
    one = image(1)
    one.dq[:] = SATURATED
    mosaic.add(one, pixmap(lambda x, y: (x + 1.4, y + 1.3), (5, 6)))
    made = mosaic.finish()
    negative = made["WHT"] < 0
    assert negative.any() and np.isfinite(made["SCI"][negative]).all() and (made["ERR"][negative] > 0).all()
    assert list(made)[:4] == ["SCI", "ERR", "DQ", "CON"]
    assert np.array_equal(made["DQ"], np.where(made["WHT"] != 0, SATURATED, 0))
    assert (made["CON"][0][made["WHT"] > 0] == 1).all() and (made["CON"][0][made["WHT"] == 0] == 0).all()


def test_images_that_add_to_no_pixel():
    context = np.zeros((2, 3, 4), np.int32)
    context[0, 1, 1] = 0b101
    context[0, 0, 0] = np.uint32(1 << 31).view(np.int32)
    context[1, 2, 3] = 0b10
    assert without_effect(context, 34) == [k for k in range(33) if k not in (0, 2, 31, 33)]
    assert without_effect(context[:1], 3) == [1]
