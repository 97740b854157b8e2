"""Scenes: what falls on an observation's pixels, in DN/s before the flat field."""

from __future__ import annotations

import numpy as np
from astropy.wcs import WCS

from upramp.simulate.observation import Observation

REACH = 5.0
"""Radius within which a star is painted, in units of its width."""


def stars(
    ra: float, dec: float, *, radius: float, number: int, seed: int, faint: float = 30.0, bright: float = 3e4
) -> np.ndarray:
    """Draw stars evenly on the sky and in the logarithm of their flux.

    Returns
    -------
    ndarray, shape (number, 3)
        Right ascension and declination (degrees), flux (DN/s summed over the star's image).
    """
    rng = np.random.default_rng(seed)
    offsets = rng.uniform(-radius, radius, (number, 2))
    flux = 10 ** rng.uniform(np.log10(faint), np.log10(bright), number)
    return np.column_stack([ra + offsets[:, 0] / np.cos(np.radians(dec)), dec + offsets[:, 1], flux])


def pixels(observation: Observation, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions on the observation's array (0-based) by the tangential projection of its header."""
    meta = observation.metadata()
    wcs = WCS(naxis=2)
    wcs.wcs.crpix = [meta["wcsinfo.crpix1"], meta["wcsinfo.crpix2"]]
    wcs.wcs.crval = [meta["wcsinfo.crval1"], meta["wcsinfo.crval2"]]
    wcs.wcs.cdelt = [meta["wcsinfo.cdelt1"], meta["wcsinfo.cdelt2"]]
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.pc = [
        [meta["wcsinfo.pc1_1"], meta["wcsinfo.pc1_2"]],
        [meta["wcsinfo.pc2_1"], meta["wcsinfo.pc2_2"]],
    ]
    x, y = wcs.wcs_world2pix(ra, dec, 0)
    return x, y


def field(
    observation: Observation, catalogue: np.ndarray, *, background: float, width: float = 1.0
) -> np.ndarray:
    """A star field: Gaussian images of standard deviation ``width`` pixels over an even background.

    Returns
    -------
    ndarray, float32, shape (ny, nx)
        DN/s.
    """
    o = observation
    places = pixels(o, catalogue[:, 0], catalogue[:, 1])
    return paint((o.ny, o.nx), *places, catalogue[:, 2], background=background, width=width)


def paint(
    shape: tuple[int, int],
    x: np.ndarray,
    y: np.ndarray,
    flux: np.ndarray,
    *,
    background: float,
    width: float = 1.0,
) -> np.ndarray:
    """The same of stars at known pixels (0-based)."""
    ny, nx = shape
    image = np.full(shape, background, np.float32)
    reach = int(np.ceil(REACH * width))
    for at, up, light in zip(x, y, flux, strict=True):
        x0, y0 = int(np.floor(at)), int(np.floor(up))
        rows = np.arange(max(y0 - reach, 0), min(y0 + reach + 1, ny))
        columns = np.arange(max(x0 - reach, 0), min(x0 + reach + 1, nx))
        if rows.size and columns.size:
            star = np.outer(
                np.exp(-0.5 * ((rows - up) / width) ** 2), np.exp(-0.5 * ((columns - at) / width) ** 2)
            )
            image[np.ix_(rows, columns)] += light / (2 * np.pi * width**2) * star
    return image


def trace(
    observation: Observation, *, peak: float, background: float, row: float = 34.0, width: float = 1.8
) -> np.ndarray:
    """A spectrum along the rows: bright in the middle, slightly tilted, over an even background.

    Returns
    -------
    ndarray, float32, shape (ny, nx)
        DN/s; ``peak`` in the brightest pixel.
    """
    y = np.arange(observation.ny)[:, None] - row
    x = np.arange(observation.nx)[None, :] / observation.nx
    profile = np.exp(-0.5 * ((y - 4 * (x - 0.5)) / width) ** 2)
    return (background + peak * profile * np.exp(-0.5 * ((x - 0.5) / 0.3) ** 2)).astype(np.float32)


def transit(integrations: int, *, depth: float = 0.015) -> np.ndarray:
    """Brightness in each integration while a planet crosses its star in the middle fifth of the time."""
    phase = np.linspace(-1, 1, integrations)
    return 1 - depth * np.clip((0.3 - np.abs(phase)) / 0.1, 0, 1)
