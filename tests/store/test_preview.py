"""Pictures on disk, and how coordinates are written."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from upramp.stages.core.preview import PALETTE, TEXT, Label, Picture
from upramp.store.preview import sexagesimal, write_picture


@pytest.mark.parametrize(
    ("axis", "value", "text"),
    [
        (0, 80.0, "05h20m00.0s"),
        (0, -0.25, "23h59m00.0s"),
        (0, 359.9999999, "00h00m00.0s"),
        (1, -69.5, "-69°30'00\""),
        (1, 0.0, "+00°00'00\""),
        (1, 12 + 59 / 60 + 59.96 / 3600, "+13°00'00\""),
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
        assert written.any() and (np.asarray(found)[written] == TEXT).all()
