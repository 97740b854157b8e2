import numpy as np
import pytest
from scipy.ndimage import zoom
from scipy.spatial import cKDTree

from upramp.stages.stage1.flicker_background import box_medians, largest_box, model, smooth


def naive_box(values):
    values = values[~np.isnan(values)].astype(np.float64)
    for _ in range(5):
        if not values.size:
            break
        values = values[np.abs(values - np.median(values)) <= 3 * values.std()]
    return values


def naive_mesh(image, rows, columns):
    ny, nx = -(-image.shape[0] // rows), -(-image.shape[1] // columns)
    mesh = np.full((ny, nx), np.nan)
    for y in range(ny):
        for x in range(nx):
            left = naive_box(image[y * rows : (y + 1) * rows, x * columns : (x + 1) * columns])
            if left.size > 0.9 * rows * columns:
                mesh[y, x] = np.median(left)
    return mesh


def naive_model(image, rows, columns):
    mesh = naive_mesh(image, rows, columns)
    good = np.argwhere(~np.isnan(mesh))
    filled = mesh.copy()
    for place in np.argwhere(np.isnan(mesh)):
        away, near = cKDTree(good, leafsize=10).query(place, 10)  # of those equally near, the same
        filled[tuple(place)] = np.sum(mesh[tuple(good[near].T)] / away) / np.sum(1 / away)
    padded = np.pad(filled, 2, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))
    smoothed = np.nanmedian(windows, axis=(2, 3))
    whole = zoom(smoothed, (rows, columns), order=3, mode="reflect", grid_mode=True)
    return np.clip(whole[: image.shape[0], : image.shape[1]], smoothed.min(), smoothed.max())


def picture(shape, seed=1):
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    image = 10 + 0.03 * x + np.sin(y / 9) + rng.normal(0, 0.5, shape)
    image[rng.random(shape) < 0.02] = np.nan
    image[rng.random(shape) < 0.01] += 50
    return image.astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "box"),
    [((40, 60), (8, 10)), ((40, 60), (9, 7)), ((30, 30), (30, 30)), ((16, 20), (1, 1)), ((24, 24), (40, 8))],
)
def test_as_one_would_write_it_down(shape, box):
    image = picture(shape)
    np.testing.assert_allclose(
        model(image, box), naive_model(image, min(box[0], shape[0]), box[1]), rtol=1e-5, atol=1e-5
    )


def test_boxes_with_too_few_pixels_are_bridged():
    image = picture((48, 48))
    image[8:16, 8:20] = np.nan
    mesh = np.empty((6, 6), np.float32)
    box_medians(image, 8, 8, mesh)
    np.testing.assert_allclose(mesh, naive_mesh(image, 8, 8), rtol=1e-6)
    assert np.isnan(mesh[1, 1:3]).all()
    found = model(image, (8, 8))
    assert found is not None
    assert np.isfinite(found).all()


def test_nothing_to_go_by():
    assert model(np.full((12, 12), np.nan, np.float32)) is None
    sparse = picture((12, 12))
    sparse[::3] = np.nan
    assert model(sparse, (6, 6)) is None


def test_a_level_stays_a_level():
    found = model(np.full((20, 30), 7.5, np.float32))
    np.testing.assert_array_equal(found, np.full((20, 30), 7.5))


def test_smooth_takes_single_boxes_away():
    mesh = np.ones((7, 7), np.float32)
    mesh[3, 3] = mesh[0, 0] = 100
    out = np.empty_like(mesh)
    smooth(mesh, out)
    np.testing.assert_array_equal(out, np.ones((7, 7)))


@pytest.mark.parametrize(("length", "box"), [(2048, 32), (160, 32), (96, 32), (300, 30), (37, 1), (62, 31)])
def test_largest_box(length, box):
    assert largest_box(length) == box
