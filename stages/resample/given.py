"""A grid that the user gives, as a gwcs in an ASDF file.

Keywords of a header hold no more than a tangent plane: those of a gwcs of that kind are taken over; of others
they are a linear fit about the middle of the grid, while the gwcs itself places the pixels. Source: JWST
pipeline documentation, resample step (``output_wcs``).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from upramp.stages.core.errors import Misconfigured
from upramp.stages.resample.grid import Grid, project, unit_vectors
from upramp.stages.wcs.evaluate import pixel_to_sky, sky_to_pixel

STERADIANS = 1e-7
"""Areas below this are in steradians (of pixels up to 65 arcsec), others in square arcseconds (of pixels from
0.3 mas on): the documentation says the former, the observatory's package takes the latter."""

POINTS = 9
"""Points along a side of the grid, of the linear fit."""


@dataclass(frozen=True)
class Given(Grid):
    """A grid whose pixels lie where a gwcs says; ``area``: of a pixel, steradians.

    Attributes of `Grid` are those for the header.
    """

    wcs: Any
    area: float

    def pixels(self, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Grid`."""
        return sky_to_pixel(self.wcs)(ra, dec)

    def sky(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Grid`."""
        return pixel_to_sky(self.wcs)(np.asarray(x, float), np.asarray(y, float))


def given_of(tree: Mapping[str, Any], name: str, size: Sequence[int] | None = None) -> Given:
    """The grid in an ASDF file.

    Parameters
    ----------
    tree : mapping
        With ``wcs``, and perhaps ``pixel_shape`` (nx, ny), ``array_shape`` (ny, nx), ``pixel_scale``
        (arcsec), or ``pixel_area`` (square arcseconds, or steradians: what is less than `STERADIANS`).
    name : str
        The file, for messages.
    size : sequence of int, optional
        Columns and rows, in place of what the file says.

    Raises
    ------
    Misconfigured
        If there is no wcs, or no size anywhere.
    """
    wcs: Any = copy.deepcopy(tree.get("wcs"))
    if not hasattr(wcs, "pipeline"):
        raise Misconfigured(f"{name} has no gwcs under the key wcs, so it is no grid; put it there")
    nx, ny = _size(tree, wcs, name, size)
    wcs.bounding_box = ((-0.5, nx - 0.5), (-0.5, ny - 0.5))
    wcs.pixel_shape = (nx, ny)
    crval, crpix, cd = _plane(wcs, (ny, nx))
    scale = float(np.sqrt(abs(np.linalg.det(cd))))
    area = _told(tree) or _area(wcs, (nx - 1) / 2, (ny - 1) / 2)
    return Given(crval, crpix, scale, cd / scale, (ny, nx), wcs, area)


def _told(tree: Mapping[str, Any]) -> float:
    """Area of a pixel that the file tells, steradians; 0 if it does not."""
    if tree.get("pixel_scale"):
        return float(np.radians(float(tree["pixel_scale"]) / 3600) ** 2)
    area = float(tree.get("pixel_area") or 0)
    return area if area < STERADIANS else float(area * np.radians(1 / 3600) ** 2)


def _size(tree: Mapping[str, Any], wcs: Any, name: str, size: Sequence[int] | None) -> tuple[int, int]:
    """Columns and rows."""
    array = tree.get("array_shape")
    for known in (size, tree.get("pixel_shape"), None if array is None else array[::-1], wcs.pixel_shape):
        if known is not None:
            nx, ny = known
            return int(nx), int(ny)
    if wcs.bounding_box is None:
        raise Misconfigured(
            f"{name} does not tell the size of the grid: its wcs has no bounding box; set output_shape"
        )
    (_, right), (_, top) = wcs.bounding_box.bounding_box(order="F")
    return round(float(right) + 0.5), round(float(top) + 0.5)


def _plane(wcs: Any, shape: tuple[int, int]) -> tuple[tuple[float, float], tuple[float, float], np.ndarray]:
    """Tangent point (degrees), its pixel, and degrees per pixel (2, 2)."""
    transform = wcs.forward_transform
    kind = type(getattr(transform, "projection", None)).__name__
    if type(transform).__name__ == "FITSImagingWCSTransform" and kind == "Pix2Sky_Gnomonic":
        crval, crpix = (tuple(map(float, p.value)) for p in (transform.crval, transform.crpix))
        return crval, crpix, np.diag(transform.cdelt.value) @ transform.pc.value  # type: ignore[return-value]
    ny, nx = shape
    sky = pixel_to_sky(wcs)
    middle = (nx - 1) / 2, (ny - 1) / 2
    ra, dec = sky(np.array(middle[0]), np.array(middle[1]))
    contact = float(ra) % 360, float(dec)
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, nx - 1, POINTS), np.linspace(0, ny - 1, POINTS)))
    design = np.column_stack([x - middle[0], y - middle[1], np.ones(x.size)])
    fitted = np.linalg.lstsq(design, np.column_stack(project(*sky(x, y), contact)), rcond=None)[0]
    cd = fitted[:2].T
    off = np.linalg.solve(cd, fitted[2])
    return contact, (middle[0] - float(off[0]), middle[1] - float(off[1])), cd


def _area(wcs: Any, x: float, y: float) -> float:
    """Area of the pixel at (x, y), steradians."""
    sky = pixel_to_sky(wcs)
    ra, dec = sky(np.array([x - 0.5, x + 0.5, x, x]), np.array([y, y, y - 0.5, y + 0.5]))
    left, right, low, high = unit_vectors(ra, dec).T
    return float(np.linalg.norm(np.cross(right - left, high - low)))
