"""Pictures on disk, and how coordinates are written."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from upramp.stages.core.preview import PALETTE, TEXT, Label, Picture, draw
from upramp.stages.resample.grid import Grid, rotation
from upramp.store.preview import BLACK, placed, sexagesimal, write_picture


@pytest.mark.parametrize(
    ("axis", "value", "text"),
    [
        (0, 80.0, "05h20m00s"),
        (0, -0.25, "23h59m00s"),
        (0, 359.99999999, "00h00m00s"),
        (0, 80.0 + 0.1 / 240, "05h20m00.1s"),
        (0, 80.0 - 0.02 / 240, "05h19m59.98s"),
        (1, -69.5 - 0.5 / 3600, "-69°30'00.5\""),
        (1, -69.5, "-69°30'00\""),
        (1, 0.0, "+00°00'00\""),
        (1, 12 + 59 / 60 + 59.9996 / 3600, "+13°00'00\""),
    ],
)
def test_coordinates(axis, value, text):
    assert sexagesimal(Label(0, 0, axis, value)) == text


def test_a_picture_keeps_its_pixels(tmp_path):
    values = np.arange(120 * 160, dtype=np.uint32).reshape(120, 160).astype(np.uint8) % 200
    write_picture(tmp_path / "plain.png", Picture(values))
    with Image.open(tmp_path / "plain.png") as found:
        assert np.array_equal(np.asarray(found.convert("RGB")), PALETTE[values])
    write_picture(
        tmp_path / "labelled.png", Picture(values, (Label(159, 119, 0, 80.0), Label(0, 0, 1, -5.0)))
    )
    with Image.open(tmp_path / "labelled.png") as found:
        written = np.asarray(found) != values
        assert written.any() and set(np.unique(np.asarray(found)[written])) <= {BLACK, TEXT}
        assert (np.asarray(found) == TEXT).any()


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0])
@pytest.mark.parametrize("shape", [(64, 64), (40, 100), (128, 96), (240, 260), (512, 400), (1200, 4096)])
def test_labels_do_not_touch(shape, angle):
    """Each has a place of its own in the picture; of both coordinates there are some."""
    grid = Grid((80.0, -69.5), (shape[1] / 2, shape[0] / 2), 1.75e-5, rotation(angle, -1), shape)
    picture = draw(np.zeros(shape, np.float32), np.zeros(shape, np.uint32), grid.sky)
    found = placed(picture.labels, picture.values.shape, lambda text: (8 * len(text), 17))
    mask = np.zeros(picture.values.shape, int)
    for _, (left, top, right, bottom) in found:
        assert 0 <= left < right <= mask.shape[1] and 0 <= top < bottom <= mask.shape[0]
        mask[top:bottom, left:right] += 1
    assert mask.max() == 1
    assert {text[-1] for text, _ in found} == {"s", '"'}
