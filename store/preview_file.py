"""Preview mosaics on disk: a canvas, and which images are on it. There is no other record of either.

A file has the extensions SCI and WHT, with a WCS that viewers understand, and MEMBERS, a table of the images
by name, size and time. It is written whole or not at all, but not made durable: one that a power cut left
broken is begun anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from upramp.stages.core.errors import Unprocessable
from upramp.stages.core.preview import draw
from upramp.stages.resample.grid import Grid
from upramp.stages.resample.keywords import plane
from upramp.stages.stage3.preview_mosaic import NORTH_UP, Canvas
from upramp.store.fitsio import promised_size, writing_error
from upramp.store.headers import software
from upramp.store.preview import write_picture
from upramp.store.scratch import Scratch
from upramp.store.tables import structured

KEPT = ("TELESCOP", "PROGRAM", "OBSERVTN", "TARGPROP", "INSTRUME", "CHANNEL", "FILTER", "PUPIL", "BUNIT")
"""Keywords of the first image that are those of the preview, too."""


@dataclass(frozen=True)
class Shown:
    """An image on the canvas: size and time of its file, and the level that was taken off."""

    bytes: int
    mtime_ns: int
    level: float = 0.0

    def is_same(self, other: Shown) -> bool:
        """Whether it is the same file with the same content."""
        return (self.bytes, self.mtime_ns) == (other.bytes, other.mtime_ns)


@dataclass(frozen=True)
class Preview:
    """A canvas, the images on it by the names of their files, and what they have in common, see `KEPT`."""

    canvas: Canvas
    cards: Mapping[str, str]
    members: Mapping[str, Shown] = field(default_factory=dict)

    def plus(self, name: str, shown: Shown) -> Preview:
        """The same with one more image, which is on the canvas."""
        return replace(self, members={**self.members, name: shown})


def read_preview(path: Path) -> Preview | None:
    """The preview in a file; None if there is none.

    Raises
    ------
    Unprocessable
        If it cannot be read, or is none.
    """
    from astropy.io import fits

    if not path.exists():
        return None
    try:
        if promised_size(path) > path.stat().st_size:
            raise Unprocessable("it ends too soon")
        with fits.open(path, memmap=False) as file:
            header, sci = file[0].header, file["SCI"].header
            grid = Grid(
                (float(sci["CRVAL1"]), float(sci["CRVAL2"])),
                (float(sci["CRPIX1"]) - 1, float(sci["CRPIX2"]) - 1),
                float(sci["CDELT2"]),
                NORTH_UP,
                file["SCI"].shape,
            )
            cells = [np.array(file[name].data, np.float32) for name in ("SCI", "WHT")]
            members = {
                row["NAME"].encode("ascii").decode("unicode_escape"): Shown(
                    int(row["BYTES"]), int(row["MTIME_NS"]), float(row["LEVEL"])
                )
                for row in file["MEMBERS"].data
            }
            cards = cards_of({**sci, **header})
    except Exception as error:  # what astropy raises of a broken file is anything
        raise Unprocessable(f"{path.name} cannot be read: {error}; it is begun anew") from error
    if cells[0].ndim != 2 or cells[0].shape != cells[1].shape or not members or not grid.scale > 0:
        raise Unprocessable(f"{path.name} is no preview as this version makes them; it is begun anew")
    return Preview(Canvas.on(grid, *cells), cards, members)


def write_preview(scratch: Path, target: Path, preview: Preview, association: str) -> None:
    """Write a preview, and its picture (PNG) beside it; both appear whole.

    Parameters
    ----------
    scratch : Path
        Folder of the job, inside the output folder.
    target : Path
        Where it goes.
    preview : Preview
    association : str
        File name of the association.

    Raises
    ------
    Retryable, Misconfigured
        If the disk is full or may not be written.
    """
    picture = target.with_suffix(".png")
    canvas = preview.canvas
    folder = Scratch(scratch)
    try:
        try:
            _hdus(preview, target.name, association).writeto(folder.folder / target.name, overwrite=True)
            nothing = np.zeros(canvas.sci.shape, np.uint32)
            write_picture(folder.folder / picture.name, draw(canvas.sci, nothing, canvas.grid.sky))
        except OSError as error:
            raise writing_error(error, target) from error
        folder.publish({target.name: target, picture.name: picture})
    finally:
        folder.remove()


def _hdus(preview: Preview, name: str, association: str) -> Any:
    """The file's content."""
    from astropy.io import fits

    canvas, grid = preview.canvas, preview.canvas.grid
    primary = fits.Header()
    primary["DATE"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    primary["FILENAME"] = name
    primary["CAL_VER"] = software()
    primary["ASNTABLE"] = association  # so long that a comment may not fit beside it
    primary["NMEMBERS"] = (len(preview.members), "images that are in")
    primary.update({k: v for k, v in preview.cards.items() if k != "BUNIT"})
    place = {**plane(grid), "CDELT1": -grid.scale, "CDELT2": grid.scale, "RADESYS": "ICRS"}
    cells = []
    for extension, values, unit in (
        ("SCI", canvas.sci, preview.cards.get("BUNIT")),
        ("WHT", canvas.wht, "s"),
    ):
        hdu = fits.ImageHDU(values, name=extension)
        hdu.header.update({**place, **({"BUNIT": unit} if unit else {})})
        cells.append(hdu)
    shown = list(preview.members.values())
    table = {
        "NAME": np.array([name.encode("unicode_escape") for name in preview.members]),  # FITS knows ASCII
        "BYTES": np.array([one.bytes for one in shown], np.int64),
        "MTIME_NS": np.array([one.mtime_ns for one in shown], np.int64),
        "LEVEL": np.array([one.level for one in shown], np.float32),
    }
    members = fits.BinTableHDU(structured(table), name="MEMBERS")
    return fits.HDUList([fits.PrimaryHDU(header=primary), *cells, members])


def cards_of(header: Mapping[str, Any]) -> dict[str, str]:
    """What of an image's header is kept: those of `KEPT` that it has."""
    return {k: header[k] for k in KEPT if isinstance(header.get(k), str)}
