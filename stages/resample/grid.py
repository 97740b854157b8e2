"""The grid of a resampled image: pixels of equal size on a tangent plane.

    (xi, eta) = s PC (p - p0)          gnomonic projection about (alpha0, delta0)

p and p0 are pixels (x, y), counted from 0, s the scale in degrees, PC a rotation (with a reflection, as the
sky is seen from within). By default alpha0, delta0 is the middle of the box around all corners of the inputs'
footprints, as unit vectors; PC has the position angle of the first input's aperture; and the grid begins at
the least x and y of the corners. Source: JWST pipeline documentation, resample step; Calabretta & Greisen
2002, A&A 395, 1077; what the middle is, and where s is measured, was found by running the observatory's
package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from upramp.stages.core.errors import NotApplicable

SPACING = 15
"""Pixels between points along the border of an image, whose mean scale is asked for."""

Sky = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""``sky(x, y)``: 0-based pixels -> right ascension and declination, degrees, float64."""


@dataclass(frozen=True)
class Grid:
    """Pixels on a tangent plane.

    Attributes
    ----------
    crval : tuple of float
        Right ascension and declination of the point of contact, degrees.
    crpix : tuple of float
        Its pixel (x, y), from 0.
    scale : float
        Side of a pixel, degrees.
    pc : ndarray, float64 (2, 2)
        Rotation.
    shape : tuple of int
        Rows and columns.
    """

    crval: tuple[float, float]
    crpix: tuple[float, float]
    scale: float
    pc: np.ndarray
    shape: tuple[int, int]

    def pixels(self, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (x, y) of positions, degrees; NaN beyond the horizon of the point of contact."""
        xi, eta = project(ra, dec, self.crval)
        inverse = np.linalg.inv(self.pc) / self.scale
        return (
            inverse[0, 0] * xi + inverse[0, 1] * eta + self.crpix[0],
            inverse[1, 0] * xi + inverse[1, 1] * eta + self.crpix[1],
        )

    def sky(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Right ascension and declination of pixels, degrees."""
        u, v = np.asarray(x) - self.crpix[0], np.asarray(y) - self.crpix[1]
        xi = np.radians(self.scale * (self.pc[0, 0] * u + self.pc[0, 1] * v))
        eta = np.radians(self.scale * (self.pc[1, 0] * u + self.pc[1, 1] * v))
        ra0, dec0 = np.radians(self.crval)
        beside = np.cos(dec0) - eta * np.sin(dec0)
        ra = ra0 + np.arctan2(xi, beside)
        dec = np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, beside))
        return np.degrees(ra) % 360, np.degrees(dec)


def project(ra: np.ndarray, dec: np.ndarray, crval: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Positions on the plane that touches the sky at ``crval``; all in degrees."""
    a, d = np.radians(ra) - np.radians(crval[0]), np.radians(dec)
    sin0, cos0 = np.sin(np.radians(crval[1])), np.cos(np.radians(crval[1]))
    height = np.sin(d) * sin0 + np.cos(d) * cos0 * np.cos(a)
    height = np.where(height > 0, height, np.nan)
    xi = np.cos(d) * np.sin(a) / height
    eta = (np.sin(d) * cos0 - np.cos(d) * sin0 * np.cos(a)) / height
    return np.degrees(xi), np.degrees(eta)


def unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Positions (degrees) as unit vectors, (3, ...)."""
    a, d = np.radians(ra), np.radians(dec)
    return np.array([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])


def middle(corners: np.ndarray) -> tuple[float, float]:
    """Middle of the box around corners (n, 2), degrees, on the sky: right ascension and declination,
    degrees."""
    vectors = unit_vectors(corners[:, 0], corners[:, 1])
    x, y, z = (vectors.min(axis=1) + vectors.max(axis=1)) / 2
    return float(np.degrees(np.arctan2(y, x)) % 360), float(np.degrees(np.arctan2(z, np.hypot(x, y))))


def separation(one: np.ndarray, two: np.ndarray) -> float:
    """Angle between two unit vectors, degrees; precise for small ones."""
    return float(np.degrees(2 * np.arcsin(np.linalg.norm(one - two) / 2)))


def pixel_scale(sky: Sky, x: float, y: float) -> float:
    """Side of a square pixel with the area of the one between (x, y) and its right and upper neighbour,
    degrees."""
    ra, dec = sky(np.array([x, x + 1, x]), np.array([y, y, y + 1]))
    here, right, up = unit_vectors(ra, dec).T
    return float(np.sqrt(separation(here, right) * separation(here, up)))


def mean_scale(sky: Sky, shape: tuple[int, int]) -> float:
    """Side of a square pixel with the mean area of an image's (ny, nx), degrees.

    The area is that of the polygon on the sphere through the middles of pixels along the border, `SPACING`
    pixels apart at most. It is rounded as spherical_geometry does, to 1e-14 steradians or so.
    """
    from spherical_geometry.polygon import SingleSphericalPolygon

    ny, nx = shape
    x, y = (np.linspace(0, n - 1, int(np.ceil((n - 1) / SPACING)) + 1) for n in (nx, ny))
    right, top = np.full(y.size - 1, nx - 1.0), np.full(x.size - 1, ny - 1.0)
    xs = np.concatenate([x[:-1], right, x[:0:-1], 0 * right])
    ys = np.concatenate([0 * top, y[:-1], top, y[:0:-1]])
    area = SingleSphericalPolygon.from_radec(*sky(xs, ys)).area()
    return float(np.degrees(np.sqrt(area / ((nx - 1) * (ny - 1)))))


def rotation(angle: float, parity: int) -> np.ndarray:
    """PC of a position angle of the y axis, degrees; ``parity`` is VPARITY, -1 if x rises to the west."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return np.array([[parity * c, s], [-parity * s, c]])


def output_grid(
    footprints: Sequence[np.ndarray],
    scale: float,
    angle: float,
    parity: int,
    crpix: tuple[float, float] | None = None,
    crval: tuple[float, float] | None = None,
    shape: tuple[int, int] | None = None,
) -> Grid:
    """The grid that holds all footprints.

    Parameters
    ----------
    footprints : sequence of ndarray (n, 2)
        Corners of the inputs on the sky, degrees.
    scale : float
        Side of a pixel, degrees.
    angle, parity
        See `rotation`.
    crpix, crval, shape : optional
        In place of what follows from the footprints; ``crpix`` counts from 0, ``shape`` is (ny, nx).

    Raises
    ------
    NotApplicable
        If footprints lie beyond the horizon of the point of contact.
    """
    corners = np.concatenate(footprints)
    contact = crval or middle(corners)
    pc = rotation(angle, parity)
    plane = Grid(contact, (0.0, 0.0), scale, pc, (1, 1))
    x, y = plane.pixels(corners[:, 0], corners[:, 1])
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise NotApplicable(
            f"images lie more than 90 degrees from {contact[0]:.4f} {contact[1]:.4f}, where their mosaic "
            "would be; take those of other fields out of the association"
        )
    origin = crpix or (float(-x.min()), float(-y.min()))
    # measured: rounded, so that up to half a pixel of the last row and column may lie outside
    size = shape or (max(1, round(y.max() + origin[1])), max(1, round(x.max() + origin[0])))
    return Grid(contact, origin, scale, pc, size)
