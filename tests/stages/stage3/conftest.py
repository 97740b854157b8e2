"""Exposures that are made up, with a distortion and its way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from astropy.modeling.models import Identity, Mapping, Polynomial2D, Shift

from upramp.stages.core.image import Image
from upramp.stages.wcs.approximation import s_region
from upramp.stages.wcs.facts import WcsFacts
from upramp.stages.wcs.imaging import imaging_wcs

SCALE = 0.063
"""Arcsec per pixel."""


@dataclass
class Exposure:
    """A member in memory; ``reads`` counts how often its pixels were asked for.

    Arrays that were not asked for are not there.
    """

    name: str
    wcs: Any
    sci: np.ndarray
    dq: np.ndarray
    group: str = ""
    cards: dict[str, Any] = field(default_factory=dict)
    err: np.ndarray | None = None
    rnoise: np.ndarray | None = None
    reads: int = 0

    def __post_init__(self) -> None:
        self.group = self.group or self.name

    @property
    def shape(self) -> tuple[int, int]:
        ny, nx = self.sci.shape
        return ny, nx

    def read(self, *names: str) -> Image:
        self.reads += 1
        zero = np.zeros(self.sci.shape, np.float32)
        err = zero if self.err is None else self.err.copy()
        rnoise = zero if self.rnoise is None else self.rnoise.copy()
        header = {"PRIMARY": dict(self.cards), "SCI": {}}
        arrays = {"SCI": self.sci.copy(), "ERR": err, "DQ": self.dq.copy(), "VAR_RNOISE": rnoise}
        sci, err, dq, rnoise = (a if not names or n in names else a[:0, :0] for n, a in arrays.items())
        return Image(sci, err, dq, zero, rnoise, header=header, wcs=self.wcs)


def bent(nx: int, ny: int, reach: float = 0.4) -> Any:
    """From pixels to (V2, V3), bent by ``reach`` pixels at the rim; the way back is a polynomial."""
    half = nx / 2
    forward = []
    for axis, other in (("c1_0", "c0_3"), ("c0_1", "c2_0")):
        order = int(other[1]) + int(other[3])
        forward.append(Polynomial2D(3, **{axis: SCALE, other: reach * SCALE / half**order}))
    grid = np.linspace(-half * 1.1, half * 1.1, 25)
    x, y = (a.ravel() for a in np.meshgrid(grid, grid))
    u, v = forward[0](x, y) / SCALE / half, forward[1](x, y) / SCALE / half
    terms = [(i, j) for i in range(4) for j in range(4 - i)]
    design = np.stack([u**i * v**j for i, j in terms], axis=1)
    back = []
    for target in (x, y):
        values = np.linalg.lstsq(design, target, rcond=None)[0]
        named = {f"c{i}_{j}": w / (SCALE * half) ** (i + j) for (i, j), w in zip(terms, values, strict=True)}
        back.append(Polynomial2D(3, **named))
    both = forward[0] & forward[1]
    both.inverse = back[0] & back[1]
    split, join = Mapping((0, 1, 0, 1)), Identity(2)
    split.inverse, join.inverse = Identity(2), Mapping((0, 1, 0, 1))
    centre = Shift(-(nx - 1) / 2) & Shift(-(ny - 1) / 2)
    return centre | split | both | join | Shift(86.0) & Shift(-493.0)


@pytest.fixture
def pointed() -> Callable[..., Any]:
    """A function that makes the WCS of ``nx`` x ``ny`` pixels that point ``dx``, ``dy`` arcsec off."""

    def make(dx: float = 0.0, dy: float = 0.0, roll: float = 30.0, nx: int = 64, ny: int = 64) -> Any:
        dec = -69.5 + dy / 3600
        ra = 80.0 + dx / 3600 / np.cos(np.radians(dec))
        facts = WcsFacts(
            "NIRCAM", "NRCALONG", "NRC_IMAGE", nx, ny, 86.0, -493.0, ra, dec, roll, va_scale=1.00002
        )
        return imaging_wcs(facts, {"distortion": {"model": bent(nx, ny)}})

    return make


@pytest.fixture
def starry(pointed) -> Callable[..., list[Exposure]]:
    """A function that makes exposures of the same 36 stars, each pointing elsewhere by ``errors`` arcsec.

    Stars are Gaussians of 2.5 pixels FWHM. Cards hold the WCS without the error, ``right``, and the pixels
    of the stars, ``stars``.
    """

    def make(errors: list[tuple[float, float]], side: int = 160, **shared: Any) -> list[Exposure]:
        rng, found = np.random.default_rng(3), []
        home = pointed(nx=side, ny=side)
        u, v = np.mgrid[:6, :6].reshape(2, -1) * (side - 40) / 5 + 20 + rng.uniform(-5, 5, (2, 36))
        flux = rng.uniform(3000.0, 30000.0, 36)
        ra, dec = home(u, v)
        y, x = np.mgrid[:side, :side]
        for k, (ex, ey) in enumerate(errors, 1):
            dither = 0.4 * k, -0.3 * k
            right = pointed(*dither, nx=side, ny=side)
            sci = rng.normal(0.3, 0.5, (side, side))
            stars = right.invert(ra, dec, with_bounding_box=False)
            for x0, y0, f in zip(*stars, flux, strict=True):
                sci += f / 7.08 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2.254)
            dq = (rng.random((side, side)) < 0.002).astype(np.uint32)
            sci[dq > 0] = np.nan
            cards = {
                "V2_REF": 86.0, "V3_REF": -493.0, "ROLL_REF": 30.0, "CRPIX1": side / 2, "CRPIX2": side / 2,
                "right": right, "stars": stars, **shared,
            }  # fmt: skip
            wrong = pointed(dither[0] + ex, dither[1] + ey, nx=side, ny=side)
            err = np.full((side, side), 0.5, np.float32)
            found.append(Exposure(f"jw{k}_cal.fits", wrong, sci.astype(np.float32), dq, cards=cards, err=err))
        return found

    return make


@pytest.fixture
def visit(pointed) -> Callable[..., list[Exposure]]:
    """A function that makes exposures of one star, each with a cosmic ray of its own at ``cards["ray"]``.

    The star's peak is 80, the sky 0.3 + ``levels``, the noise 0.1 and the star's. ``dither``: arcsec.
    """

    def make(dither: list[tuple[float, float]], levels: Any = (0.0,) * 9, side: int = 40) -> list[Exposure]:
        rng, found = np.random.default_rng(2), []
        ra, dec = pointed(nx=side, ny=side)(side / 2 - 0.7, side / 2 + 1.7)
        y, x = np.mgrid[:side, :side]
        for k, (place, level) in enumerate(zip(dither, levels, strict=False), 1):
            wcs = pointed(*place, nx=side, ny=side)
            x0, y0 = wcs.invert(ra, dec, with_bounding_box=False)
            star = 80 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2.254)
            variance = 0.01 + star / 1000
            sci = 0.3 + level + star + rng.normal(0, np.sqrt(variance))
            ray = 8 + 2 * k, 29 - 3 * k
            sci[ray] += 5
            cards = {
                "RA_REF": 80.0, "DEC_REF": -69.5, "ROLL_REF": 30.0, "VPARITY": -1, "V3I_YANG": 0.0,
                "S_REGION": s_region(wcs), "TMEASURE": 10.0 * k, "ray": ray,
            }  # fmt: skip
            sci, err = sci.astype(np.float32), np.sqrt(variance).astype(np.float32)
            dq, rnoise = np.zeros(sci.shape, np.uint32), np.full(sci.shape, 0.01, np.float32)
            found.append(Exposure(f"jw{k}_cal.fits", wcs, sci, dq, cards=cards, err=err, rnoise=rnoise))
        return found

    return make


@pytest.fixture
def exposures(pointed) -> Callable[..., list[Exposure]]:
    """A function that makes four exposures of noise on levels 1, 3, 7, 2; three overlap, one stands apart."""

    def make(**shared: Any) -> list[Exposure]:
        rng, found = np.random.default_rng(5), []
        places = [(0.0, 0.0, 30.0), (1.3, 0.9, 38.0), (-0.7, 1.6, 72.0), (60.0, 0.0, 30.0)]
        for k, (place, level) in enumerate(zip(places, (1.0, 3.0, 7.0, 2.0), strict=True), 1):
            sci = rng.normal(level, 0.1, (64, 64)).astype(np.float32)
            dq = (rng.random((64, 64)) < 0.02).astype(np.uint32)
            sci[dq > 0] = 1e5
            sci[5, 5] = np.nan
            found.append(Exposure(f"jw{k}_cal.fits", pointed(*place), sci, dq, **shared))
        return found

    return make
