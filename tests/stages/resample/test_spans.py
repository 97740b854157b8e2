from __future__ import annotations

import numpy as np
import pytest

from upramp.stages.resample.drizzle import drop
from upramp.stages.resample.pixmap import pixmap
from upramp.stages.resample.spans import SLACK, clipped, flanks, limits, spans

IMAGE = (40, 50)


def affine(scale, angle, parity, shift):
    c, s = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    return lambda x, y: (shift[0] + parity * (c * x - s * y), shift[1] + s * x + c * y)


def found(transform, grid, image=IMAGE):
    return spans(pixmap(transform, image), grid).tolist()


def test_a_grid_around_the_image_takes_all():
    assert found(affine(1.0, 20, -1, (60.0, 5.0)), (120, 120)) == [[0, 50]] * 40


def test_a_grid_elsewhere_takes_nothing():
    assert all(a >= b for a, b in found(affine(1.0, 20, 1, (500.0, 5.0)), (120, 120)))


def test_where_sides_lie_along_rows_and_columns():
    """Centres count, but below, where part of a row is enough; as measured."""
    for off, rows, columns in (
        (0.0, (5, 35), [10, 30]),
        (0.3, (5, 35), [10, 30]),
        (0.6, (5, 36), [11, 31]),
        (0.9, (5, 36), [11, 31]),
    ):
        counts = found(lambda x, y, off=off: (x - 10 - off, y - 5 - off), (30, 20))
        assert counts == [columns if rows[0] <= y < rows[1] else [0, 0] for y in range(40)]


def test_a_centre_may_lie_a_bit_outside():
    """The grid begins 0.02, then 0.04, behind the centres of column 10."""
    for off, columns in ((0.52, [10, 31]), (0.54, [11, 31])):
        assert found(lambda x, y, off=off: (x - 10 - off, y - 5), (30, 20))[20] == columns


def test_one_pixel():
    """The image's box is a pixel wide, which is just enough."""
    for shift, counts in ((3.0, [0, 1]), (9.6, [0, 0])):
        assert found(lambda x, y, s=shift: (x + s, y + 1), (5, 10), (1, 1)) == [counts]


def test_without_positions_all_count():
    assert found(lambda x, y: (x * np.nan, y * np.nan), (5, 5), (3, 4)) == [[0, 4]] * 3


def test_a_distorted_image_has_its_corners_where_its_pixels_lie():
    """A side of the grid is a straight line on the input, though the rows bend."""

    def bent(x, y):
        return x, y + 1e-3 * (x - 25.0) ** 2

    counts = spans(pixmap(bent, IMAGE), (30, 50))
    assert counts[-20:].tolist()[:3] == [[0, 50]] * 3
    # the grid ends at row 29.5 - 0.6 at its corners
    assert counts[28:30].tolist() == [[0, 50], [0, 0]]


QUADRILATERALS = {
    # corners on the input -> row: first and last column that counted, as measured
    ((28.555, 22.736), (88.499, 22.388), (90.940, 72.449), (31.173, 72.951)): {
        22: None, 23: (70, 88), 24: (29, 88), 33: (30, 89), 71: (32, 90), 72: (32, 90), 73: None,
    },
    ((28.352, 23.000), (88.265, 22.126), (91.143, 72.184), (31.403, 73.208)): {
        22: None, 23: (63, 88), 72: (32, 91), 73: None,
    },
    ((83.421, 17.912), (85.841, 77.999), (36.033, 77.994), (33.432, 17.750)): {
        17: None, 18: (34, 83), 78: (37, 85), 79: None,
    },
    ((31.874, 19.011), (91.733, 26.545), (87.611, 76.198), (27.990, 68.868)): {
        19: None, 35: (31, 91), 56: (30, 89), 69: (34, 88),
    },
    ((44.114, 11.132), (97.861, 40.520), (75.345, 84.200), (21.912, 55.075)): {
        13: (44, 46), 14: (43, 48), 40: (30, 96), 65: (42, 85), 84: None,
    },
    ((91.762, 72.543), (32.082, 74.511), (28.261, 24.329), (88.104, 22.505)): {73: (32, 62)},
    ((84.520, 18.214), (84.846, 78.256), (35.001, 76.508), (34.477, 16.294)): {77: (64, 84)},
    ((91.103, 72.885), (31.343, 73.492), (28.643, 23.281), (88.579, 22.827)): {73: (32, 91)},
}  # fmt: skip


@pytest.mark.parametrize("corners", QUADRILATERALS)
def test_rows_as_measured(corners):
    sides = flanks(corners)
    for y, wanted in QUADRILATERALS[corners].items():
        begin, end = limits(*sides, y)
        first, last = np.ceil(begin - SLACK), np.floor(end + SLACK)
        assert (None if last < first else (first, last)) == wanted, y


def test_what_a_box_has_of_a_polygon():
    diamond = [(5.0, -5.0), (15.0, 5.0), (5.0, 15.0), (-5.0, 5.0)]
    inside = clipped(diamond, 9.5, 9.5)
    assert {tuple(np.round(p, 9)) for p in inside} == {
        (0.5, -0.5), (9.5, -0.5), (9.5, 9.5), (-0.5, 0.5), (-0.5, 9.5),
    }  # fmt: skip
    assert clipped(diamond, -20.0, -20.0) == []


@pytest.mark.parametrize("angle", [3.0, 37.0, 84.0, 122.0, 181.5, 246.0, 300.0, 357.0])
def test_the_drizzle_package_takes_the_same(angle):
    """But for single pixels at the sides."""
    drizzle = pytest.importorskip("drizzle.resample")
    rng, off = np.random.default_rng(int(angle)), []
    y, x = np.indices(IMAGE)
    for _ in range(12):
        scale, parity, grid = rng.uniform(0.6, 1.6), rng.choice([-1, 1]), tuple(rng.integers(15, 60, 2))
        at = affine(scale, angle, parity, (0, 0))(24.5, 19.5)
        shift = grid[1] / 2 - at[0] + rng.uniform(-15, 15), grid[0] / 2 - at[1] + rng.uniform(-15, 15)
        transform, weight = affine(scale, angle, parity, shift), rng.uniform(0.5, 2, IMAGE).astype("f4")
        where, sums = pixmap(transform, IMAGE), np.zeros((*grid, 2), np.float32)
        data, dq, none = weight[..., None], np.zeros(IMAGE, np.uint32), np.zeros((0, 0), np.uint32)
        at = where.x, where.y, where.step, spans(where, grid)
        drop(data, weight, dq, *at, 1.0, 0, grid[0], 0, sums, none, 16)
        theirs = drizzle.Drizzle(kernel="square", out_shape=grid, fillval="NAN")
        theirs.add_image(
            weight, 1.0, np.dstack(transform(x, y)), weight_map=weight,
            pixfrac=1.0, pixel_scale_ratio=1.0, in_units="cps",
        )  # fmt: skip
        off.append(np.count_nonzero(np.abs(sums[..., 0] - theirs.out_wht) > 1e-4))
    assert np.median(off) == 0
    assert np.mean(off) < 4
