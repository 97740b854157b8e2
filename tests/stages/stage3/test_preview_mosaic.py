"""A mosaic that grows: against clipped polygons; nothing is lost, order does not matter, cells are joined."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.core.dq import DO_NOT_USE, JUMP_DET, NON_SCIENCE
from upramp.stages.core.errors import NotApplicable
from upramp.stages.resample.grid import Grid, rotation
from upramp.stages.stage3 import preview_mosaic
from upramp.stages.stage3.preview_mosaic import Canvas

PIXEL = 0.063 / 3600
SHAPE = (20, 24)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Blocks of two pixels for images of `SHAPE`, canvases of a hundred cells at most."""
    monkeypatch.setattr(preview_mosaic, "SIDE", 12)
    monkeypatch.setattr(preview_mosaic, "LIMIT", 100)


def sky(x=0.0, y=0.0, angle=20.0, shape=SHAPE, scale=PIXEL, crval=(30.0, -60.0)):
    """Where the pixels of an image lie whose middle is so many pixels beside ``crval``."""
    ny, nx = shape
    return Grid(crval, ((nx - 1) / 2 - x, (ny - 1) / 2 - y), scale, rotation(angle, -1), shape).sky


def image(seed, shape=SHAPE):
    rng = np.random.default_rng(seed)
    return rng.normal(5, 1, shape).astype("f4"), rng.choice(
        np.array([0, 0, 0, JUMP_DET, DO_NOT_USE, NON_SCIENCE], "u4"), shape
    )


def canvas_of(*images):
    """Images (sci, dq, sky, seconds) on the canvas of the first, and their levels."""
    canvas = Canvas.about(images[0][2], images[0][0].shape)
    levels = [canvas.put(*one) for one in images]
    return canvas, levels


def total(canvas):
    """The sums over all cells: of weights, of weighted values."""
    there = canvas.wht > 0
    wht = canvas.wht[there].astype(float)
    return wht.sum() * canvas.scale**2, (wht * canvas.sci[there]).sum() * canvas.scale**2


def on_sky(canvas):
    """Weights and weighted values on the lattice: place of a cell -> both, and the size of cells."""
    rows, columns = np.nonzero(canvas.wht)
    return {
        (int(r) + canvas.y0, int(c) + canvas.x0): (canvas.wht[r, c], canvas.wht[r, c] * canvas.sci[r, c])
        for r, c in zip(rows, columns, strict=True)
    }, canvas.scale


def area_within(corners, column, row):
    """Area of a convex polygon within a cell, by cutting it with the cell's four sides."""
    polygon = list(corners)
    for axis, limit, sign in (
        (0, column - 0.5, 1),
        (0, column + 0.5, -1),
        (1, row - 0.5, 1),
        (1, row + 0.5, -1),
    ):
        kept = []
        for k, point in enumerate(polygon):
            before = polygon[k - 1]
            inside, was = sign * (point[axis] - limit) >= 0, sign * (before[axis] - limit) >= 0
            if inside != was:
                kept.append(before + (limit - before[axis]) / (point[axis] - before[axis]) * (point - before))
            if inside:
                kept.append(point)
        polygon = kept
        if not polygon:
            return 0.0
    a = np.array(polygon)
    return abs(np.sum(a[:, 0] * np.roll(a[:, 1], -1) - a[:, 1] * np.roll(a[:, 0], -1))) / 2


def naive(sci, dq, places, seconds, grid, by):
    """The formulas: weights and weighted values of one image in all cells."""
    sums, (ny, nx) = np.zeros((2, *grid.shape)), sci.shape
    for r in range(-(-ny // by)):
        for c in range(-(-nx // by)):
            part = np.s_[r * by : (r + 1) * by, c * by : (c + 1) * by]
            good = (dq[part] & (DO_NOT_USE | NON_SCIENCE)) == 0
            if not good.any():
                continue
            edges = [
                (c * by, r * by),
                ((c + 1) * by, r * by),
                ((c + 1) * by, (r + 1) * by),
                (c * by, (r + 1) * by),
            ]
            x, y = np.array(edges, float).T - 0.5
            corners = np.column_stack(grid.pixels(*places(x, y)))
            own = abs(np.sum(corners[:, 0] * (np.roll(corners[:, 1], -1) - np.roll(corners[:, 1], 1)))) / 2
            lo, hi = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int)
            for row in range(lo[1], hi[1] + 1):
                for column in range(lo[0], hi[0] + 1):
                    # seconds of exposure, as far as good pixels cover the cell
                    share = area_within(corners, column, row) * seconds * good.sum() / by**2
                    sums[:, row, column] += share, share * sci[part][good].mean(dtype=float)
            assert own > 0
    return sums


def test_the_formulas():
    images = [(*image(1), sky(), 100.0), (*image(2), sky(9.0, 4.0, 50.0), 30.0)]
    canvas, levels = canvas_of(*images)
    assert canvas.scale == pytest.approx(2 * PIXEL, rel=1e-6)
    grid, by = canvas.grid, 2
    one, two = (naive(*each, grid, by) for each in images)
    both = (one[0] > 1e-9) & (two[0] > 1e-9)
    level = np.median(two[1][both] / two[0][both] - one[1][both] / one[0][both])
    assert levels == [0.0, pytest.approx(level, abs=1e-5)]
    wht = one[0] + two[0]
    np.testing.assert_allclose(canvas.wht, wht, rtol=1e-4, atol=1e-3)
    there = wht > 1e-2
    wanted = (one[1] + two[1] - level * two[0])[there] / wht[there]
    np.testing.assert_allclose(canvas.sci[there], wanted, rtol=2e-3)
    assert np.isnan(canvas.sci[canvas.wht == 0]).all()
    assert canvas.sci.dtype == canvas.wht.dtype == np.float32


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-90, 90), st.integers(-90, 90), st.floats(0, 360)), min_size=1, max_size=5)
)
def test_nothing_is_lost(places):
    """What falls on the canvas is the light and the time of the good pixels, wherever images lie."""
    images = [(*image(k), sky(x, y, angle), 10.0 + k) for k, (x, y, angle) in enumerate(places)]
    canvas, levels = canvas_of(*images)
    weight = value = 0.0
    for (sci, dq, _, seconds), level in zip(images, levels, strict=True):
        good = (dq & (DO_NOT_USE | NON_SCIENCE)) == 0
        weight += seconds * good.sum() * PIXEL**2
        value += seconds * (sci[good].astype(float) - level).sum() * PIXEL**2
    # blocks are means of their good pixels, and weigh by their number
    assert total(canvas) == (pytest.approx(weight, rel=1e-4), pytest.approx(value, rel=1e-4))


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([20, 150]))
def test_any_order_gives_the_same(chance, reach):
    """After the first, and but for levels. The larger reach makes cells be joined sooner or later."""
    first = (*image(0), sky(), 10.0)
    places = [(chance.uniform(-reach, reach), chance.uniform(-reach, reach)) for _ in range(4)]
    others = [(*image(k + 1), sky(*place, 77.0 * k), 10.0 + k) for k, place in enumerate(places)]
    mixed = chance.sample(others, len(others))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preview_mosaic, "FEWEST", 10**9)
        (one, size), (two, same) = (on_sky(canvas_of(first, *order)[0]) for order in (others, mixed))
    assert size == same
    dust = {k for k in one.keys() ^ two.keys() if max(*one.get(k, (0, 0)), *two.get(k, (0, 0))) < 1e-3}
    assert one.keys() - dust == two.keys() - dust
    for place in one.keys() - dust:
        assert two[place] == (
            pytest.approx(one[place][0], rel=1e-4, abs=1e-4),
            pytest.approx(one[place][1], rel=1e-4, abs=1e-3),
        )


def test_cells_are_joined_without_loss():
    canvas, _ = canvas_of((*image(3), sky(31.0, -17.0, crval=(30.0, -60.0)), 50.0))
    canvas.put(*image(4), sky(-20.0, 5.0), 20.0)
    before, grid = total(canvas), canvas.grid
    rows, columns = np.nonzero(canvas.wht > 0)
    summed = {}
    for r, c in zip(rows, columns, strict=True):
        place = (r + canvas.y0) // 2, (c + canvas.x0) // 2
        w, v = summed.get(place, (0.0, 0.0))
        own = float(canvas.wht[r, c])
        summed[place] = w + own, v + own * float(canvas.sci[r, c])
    canvas.join()
    found, scale = on_sky(canvas)
    assert scale == 2 * grid.scale and found.keys() == summed.keys()
    for place, (w, v) in summed.items():
        assert 4 * found[place][0] == pytest.approx(w, rel=2e-7)
        assert 4 * found[place][1] == pytest.approx(v, rel=1e-6)
    assert total(canvas) == (pytest.approx(before[0], rel=1e-6), pytest.approx(before[1], rel=1e-6))
    # a cell lies where its four lay
    ra, dec = canvas.grid.sky(np.array([0.0]), np.array([0.0]))
    x, y = grid.pixels(ra, dec)
    place = np.array([x[0], y[0]]) - grid.crpix
    assert place == pytest.approx([2 * canvas.x0 + 1.0, 2 * canvas.y0 + 1.0], abs=1e-6)


def test_memory_is_bounded_and_all_is_kept():
    canvas = Canvas.about(sky(), SHAPE)
    chance = random.Random(5)
    for _ in range(40):
        place = chance.uniform(-400, 400), chance.uniform(-400, 400)
        canvas.put(np.ones(SHAPE, "f4"), np.zeros(SHAPE, "u4"), sky(*place), 1.0)
        assert max(canvas.sci.shape) <= 100
    assert canvas.scale > 8 * PIXEL
    assert total(canvas)[0] == pytest.approx(40 * SHAPE[0] * SHAPE[1] * PIXEL**2, rel=1e-4)
    assert canvas.sci[canvas.wht > 0] == pytest.approx(1.0, abs=1e-5)


def test_a_canvas_goes_on_as_if_nothing_had_been():
    """Its cells and grid are all there is to keep."""
    images = [(*image(k), sky(11.0 * k, -7.0 * k, 30.0 * k), 10.0) for k in range(4)]
    straight, _ = canvas_of(*images)
    kept, _ = canvas_of(images[0])
    for one in images[1:]:
        kept = Canvas.on(kept.grid, kept.sci.copy(), kept.wht.copy())
        kept.put(*one)
    assert (kept.x0, kept.y0, kept.scale, kept.crval) == (
        straight.x0,
        straight.y0,
        straight.scale,
        straight.crval,
    )
    np.testing.assert_array_equal(kept.sci, straight.sci)
    np.testing.assert_array_equal(kept.wht, straight.wht)


def test_a_star_lies_where_it_was_put():
    star = sky()(np.array([9.5]), np.array([13.5]))
    canvas = Canvas.about(sky(), SHAPE)
    for angle, shift in ((20.0, 0.0), (20.0, 8.0), (110.0, -4.0)):
        places = sky(shift, shift / 2, angle)
        grid = Grid((30.0, -60.0), (11.5 - shift, 9.5 - shift / 2), PIXEL, rotation(angle, -1), SHAPE)
        x, y = (a[0] for a in grid.pixels(*star))
        rows, columns = np.indices(SHAPE)
        spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 4)
        canvas.put(spot.astype("f4"), np.zeros(SHAPE, "u4"), places, 10.0)
    x, y = (a[0] for a in canvas.grid.pixels(*star))
    rows, columns = np.indices(canvas.sci.shape)
    light = np.nan_to_num(canvas.sci) * (np.hypot(columns - x, rows - y) < 4)
    found = np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()
    assert np.hypot(*(found - (x, y))) < 0.1  # of cells of two pixels


def test_north_is_up_and_east_is_left():
    grid = canvas_of((*image(1), sky(), 1.0))[0].grid
    ra, dec = grid.sky(np.array([5.0, 4.0, 5.0]), np.array([5.0, 5.0, 6.0]))
    assert ra[1] > ra[0] and dec[1] == pytest.approx(dec[0], abs=1e-8)
    assert dec[2] > dec[0] and ra[2] == pytest.approx(ra[0], abs=1e-8)


def test_levels_agree_where_images_overlap():
    flat, good = np.full(SHAPE, 7.0, "f4"), np.zeros(SHAPE, "u4")
    canvas, levels = canvas_of(
        (flat, good, sky(), 10.0), (flat + 3, good, sky(12.0), 10.0), (flat - 2, good, sky(200.0), 10.0)
    )
    assert levels == [0.0, pytest.approx(3.0, abs=1e-5), 0.0]
    assert np.unique(np.round(canvas.sci[canvas.wht > 0], 3)).tolist() == [5.0, 7.0]


def test_pixels_that_cannot_be_used_add_nothing():
    sci, dq = np.full(SHAPE, 2.0, "f4"), np.zeros(SHAPE, "u4")
    sci[3, 4], dq[3, 4] = 1e6, DO_NOT_USE
    sci[5, 6], dq[5, 6] = 1e6, NON_SCIENCE
    sci[7, 8], sci[8, 8] = np.nan, np.inf
    sci[10:14, 10:14] = np.nan
    canvas, _ = canvas_of((sci, dq, sky(angle=0.0), 10.0))
    assert canvas.sci[canvas.wht > 0] == pytest.approx(2.0)
    # here every block is a cell: four have no good pixel, four one less than the others
    cells = canvas.wht[canvas.wht > 1e-3]
    assert cells.size == 120 - 4
    assert np.count_nonzero(np.abs(cells - 7.5) < 1e-3) == 4


def test_sides_that_are_no_multiple_of_a_block():
    shape = (21, 23)
    canvas, _ = canvas_of((np.ones(shape, "f4"), np.zeros(shape, "u4"), sky(shape=shape), 10.0))
    assert total(canvas)[0] == pytest.approx(10.0 * 21 * 23 * PIXEL**2, rel=1e-4)


def test_images_of_other_pixels():
    """A small one with fine pixels came first; one with coarse pixels is put over it."""
    fine = sky(shape=(10, 10), scale=PIXEL / 2)
    canvas, _ = canvas_of(
        (np.ones((10, 10), "f4"), np.zeros((10, 10), "u4"), fine, 10.0),
        (np.ones(SHAPE, "f4"), np.zeros(SHAPE, "u4"), sky(), 1.0),
    )
    assert total(canvas)[0] == pytest.approx((10 * 100 / 4 + SHAPE[0] * SHAPE[1]) * PIXEL**2, rel=1e-4)


def test_what_has_no_place_changes_nothing():
    canvas, _ = canvas_of((*image(1), sky(), 1.0))
    before = canvas.sci.copy()
    for elsewhere in (sky(crval=(210.0, 60.0)), lambda x, y: (x * np.nan, y * np.nan)):
        with pytest.raises(NotApplicable, match="place on the sky"):
            canvas.put(*image(2), elsewhere, 1.0)
    np.testing.assert_array_equal(canvas.sci, before)
    with pytest.raises(NotApplicable, match="place on the sky"):
        Canvas.about(lambda x, y: (x * np.nan, y * np.nan), SHAPE)
