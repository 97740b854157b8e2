"""Pictures (PNG) of products."""

from __future__ import annotations

from pathlib import Path

from upramp.stages.core.preview import PALETTE, TEXT, Label, Picture

_POINTS = 14


def sexagesimal(label: Label) -> str:
    """A right ascension in hours, or a declination in degrees, as short as the lines allow."""
    value = label.value % 360 / 15 if label.axis == 0 else abs(label.value)
    ticks = round(value * 36000) % (24 * 36000 if label.axis == 0 else 3600000)
    whole, rest = divmod(ticks, 36000)
    minutes, tenths = divmod(rest, 600)
    sign = "-" if label.axis == 1 and label.value < 0 else "+" if label.axis == 1 else ""
    seconds = f"{tenths / 10:04.1f}" if label.axis == 0 else f"{tenths // 10:02d}"
    units = "hms" if label.axis == 0 else "°'\""
    return f"{sign}{whole:02d}{units[0]}{minutes:02d}{units[1]}{seconds}{units[2]}"


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture with its labels. The library is imported here, because few processes need it."""
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    canvas = Pillow.fromarray(picture.values)
    canvas.putpalette(PALETTE.tobytes())
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(_POINTS)
    height, width = picture.values.shape
    for label in picture.labels:
        text = sexagesimal(label)
        _, _, right, bottom = pen.textbbox((0, 0), text, font=font)
        x = min(max(label.x + 4, 2), max(width - int(right) - 4, 0))
        y = min(max(label.y - int(bottom) - 4, 2), max(height - int(bottom) - 4, 0))
        pen.text((x, y), text, fill=TEXT, font=font)
    canvas.save(path, format="PNG", compress_level=1)
