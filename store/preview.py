"""Pictures (PNG) of products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from upramp.stages.core.preview import PALETTE, TEXT, Label, Picture

POINTS = 14
AWAY = 4
"""Pixels between a line, or the picture's edge, and a label."""

BLACK = 0
"""What lies behind labels, as an index into the palette."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom; right and bottom do not belong to it."""


def sexagesimal(label: Label) -> str:
    """A right ascension in hours, or a declination in degrees, with decimals of seconds as far as needed."""
    value = label.value % 360 / 15 if label.axis == 0 else abs(label.value)
    ticks = round(value * 360000) % (24 * 360000 if label.axis == 0 else 36000000)
    whole, rest = divmod(ticks, 360000)
    minutes, hundredths = divmod(rest, 6000)
    decimals = 2 if hundredths % 10 else 1 if hundredths % 100 else 0
    sign = "-" if label.axis == 1 and label.value < 0 else "+" if label.axis == 1 else ""
    seconds = f"{hundredths / 100:0{decimals + 2 + (decimals > 0)}.{decimals}f}"
    units = "hms" if label.axis == 0 else "°'\""
    return f"{sign}{whole:02d}{units[0]}{minutes:02d}{units[1]}{seconds}{units[2]}"


def placed(
    labels: Sequence[Label], shape: tuple[int, int], measure: Callable[[str], tuple[int, int]]
) -> list[tuple[str, Box]]:
    """Texts of labels, and where they stand: right of their lines and above them, or, for want of room, left
    or below. Those that would lie on an earlier one are left out, and those that do not fit.

    ``shape``: rows and columns of the picture; ``measure``: width and height of a text, pixels.
    """
    height, width = shape
    found: list[tuple[str, Box]] = []
    for label in labels:
        text = sexagesimal(label)
        wide, high = measure(text)
        x = label.x + AWAY if label.x + wide + 2 * AWAY <= width else label.x - wide - AWAY
        y = label.y - high - AWAY if label.y - high - AWAY >= 0 else label.y + AWAY
        box = x - 1, y - 1, x + wide + 1, y + high + 1
        inside = box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height
        if inside and not any(_touch(box, other) for _, other in found):
            found.append((text, box))
    return found


def _touch(one: Box, two: Box) -> bool:
    return one[0] <= two[2] and two[0] <= one[2] and one[1] <= two[3] and two[1] <= one[3]


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture with its labels. The library is imported here, because few processes need it."""
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    canvas = Pillow.fromarray(picture.values)
    canvas.putpalette(PALETTE.tobytes())
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(POINTS)

    def measure(text: str) -> tuple[int, int]:
        _, _, right, bottom = pen.textbbox((0, 0), text, font=font)
        return int(right), int(bottom)

    rows, columns = picture.values.shape
    for text, (left, top, right, bottom) in placed(picture.labels, (rows, columns), measure):
        pen.rectangle((left, top, right - 1, bottom - 1), fill=BLACK)
        pen.text((left + 1, top + 1), text, fill=TEXT, font=font)
    canvas.save(path, format="PNG", compress_level=1)
