"""A visit: dithered exposures of a field of stars, by one or several detectors, each a file.

Stars lie where the WCS of stage 2 puts them, so what stages 2 and 3 make of a visit can be held against what
was put in. Headers may tell of a pointing that is a little off, as those of the telescope do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from upramp.simulate import apertures, optics, rates, references, sky
from upramp.simulate.cache import Cache
from upramp.simulate.detector import Detector, draw
from upramp.simulate.expose import Noise, expose
from upramp.simulate.observation import Observation
from upramp.simulate.uncal import KEYWORDS, write_exposure
from upramp.stages.wcs.evaluate import pixel_to_sky, sky_to_pixel
from upramp.stages.wcs.facts import wcs_facts
from upramp.stages.wcs.imaging import imaging_wcs

ARCSECONDS = 3600.0
NEAR = 0.6
"""Stars are painted that lie within so many lengths of a side of the middle, distortion apart."""

ROUNDS = 4
"""The way back from the sky is an approximation; so often it is corrected by the way there."""


@dataclass(frozen=True)
class Visit:
    """Exposures of a field.

    Attributes
    ----------
    first : Observation
        The first exposure; the others differ from it in detector, pointing and number.
    detectors : sequence of str
        Read at the same time; each sees a field of its own, ``first.nx`` pixels beside the one before.
    dithers : int
        Pointings; the second is ``step`` pixels off in both axes, and so on around.
    stars : int
    flux : (float, float)
        Of the faintest and the brightest star, DN/s.
    width : float
        Standard deviation of a star's image, pixels.
    background : float
        DN/s; every dither has ``1 + 0.05 n`` times that.
    error : float
        Standard deviation of the pointing that headers tell of, mas in each axis.
    """

    first: Observation
    detectors: Sequence[str] = ()
    dithers: int = 4
    step: float = 7.3
    stars: int = 60
    flux: tuple[float, float] = (300.0, 3e4)
    width: float = 1.1
    background: float = 1.5
    error: float = 0.0
    seed: int = 5
    chips: Mapping[str, Detector] = field(default_factory=dict)

    @property
    def names(self) -> Sequence[str]:
        """The detectors."""
        return self.detectors or (self.first.detector,)

    @cached_property
    def sky(self) -> np.ndarray:
        """The stars: right ascension, declination (degrees), flux (DN/s)."""
        o = self.first
        pixels = max(o.nx, o.ny) * len(self.names) + 4 * self.step
        radius = 0.55 * pixels * o.layout.scale / ARCSECONDS
        faint, bright = self.flux
        number = self.stars * len(self.names)
        return sky.stars(
            o.ra, o.dec, radius=radius, number=number, seed=self.seed, faint=faint, bright=bright
        )

    def observations(self) -> list[tuple[Observation, Observation]]:
        """Of each exposure what it is and what its header tells, dither by dither."""
        rng = np.random.default_rng(self.seed)
        made = []
        o = self.first
        squeeze = np.cos(np.radians(o.dec))
        for n in range(self.dithers):
            angle = 2 * np.pi * n / max(self.dithers, 1)
            off = self.step * np.array([np.cos(angle) - 1, np.sin(angle)])
            wrong = rng.normal(0, self.error / 1e3 / ARCSECONDS, 2) * (n > 0)
            for k, name in enumerate(self.names):
                aside = o.nx * (k - (len(self.names) - 1) / 2)
                d_ra, d_dec = (off + np.array([aside, 0.0])) * o.layout.scale / ARCSECONDS
                true = replace(
                    o,
                    detector=name,
                    exposure=n + 1,
                    dither=(n + 1, self.dithers),
                    ra=o.ra + d_ra / squeeze,
                    dec=o.dec + d_dec,
                    start=f"2024-03-01T{n:02d}:00:00",
                )
                told = replace(true, ra=true.ra + wrong[0] / squeeze, dec=true.dec + wrong[1])
                made.append((true, told))
        return made

    def chip(self, name: str) -> Detector:
        """A detector large enough for the array."""
        o = self.first
        return self.chips.get(name) or draw(name, o.ystart - 1 + o.ny, o.xstart - 1 + o.nx)

    def image(self, observation: Observation, chip: Detector, number: int = 0) -> np.ndarray:
        """What falls on an exposure's pixels, DN/s, float32 (ny, nx)."""
        o = observation
        wcs = wcs_of(o, self._reference(o.detector))
        about = np.array(sky.pixels(o, self.sky[:, 0], self.sky[:, 1])) / [[o.nx], [o.ny]]
        near = self.sky[np.abs(about - 0.5).max(axis=0) < NEAR]  # far off, the distortion means nothing
        x, y = places(wcs, near[:, 0], near[:, 1])
        seen = np.isfinite(x) & np.isfinite(y) & (np.hypot(x, y) < 3 * max(o.nx, o.ny))
        level = self.background * (1 + 0.05 * number)
        light = near[seen, 2]
        image = sky.paint((o.ny, o.nx), x[seen], y[seen], light, background=level, width=self.width)
        return np.asarray(image * chip.cut(o.window).flat, np.float32)

    def astray(self, found: Sequence[Any]) -> np.ndarray:
        """How far the middle of each exposure is from where it was taken, by its WCS: mas (n, 2).

        On the sky along right ascension and declination, with respect to the first.
        """
        off = []
        for wcs, (true, _) in zip(found, self.observations(), strict=True):
            middle = (true.nx - 1) / 2, (true.ny - 1) / 2
            here, there = (
                pixel_to_sky(w)(*middle) for w in (wcs, wcs_of(true, self._reference(true.detector)))
            )
            off.append(((here[0] - there[0]) * np.cos(np.radians(there[1])), here[1] - there[1]))
        return (np.array(off) - off[0]) * 1e3 * ARCSECONDS

    def _reference(self, name: str) -> Observation:
        """The observation that the detector's distortion is drawn for."""
        return replace(self.first, detector=name)

    def references(self, cache: Cache, *, counts: bool = False) -> None:
        """Write what stages 2 and 3 need, stage 1 for ``counts``; the caller then calls ``cache.write()``."""
        for name in self.names:
            chip, like = self.chip(name), [self._reference(name)]
            if counts:
                references.write_all(cache, chip, like)
            optics.write_all(cache, chip, like)
            apertures.write_all(cache, like[0], self.width)

    def write_rates(self, folder: Path) -> list[Path]:
        """Write each exposure as a rate file."""
        made = []
        for k, (true, told) in enumerate(self.observations()):
            chip = self.chip(true.detector)
            image = self.image(true, chip, k // len(self.names))
            made.append(rates.write(folder, chip, image, told, seed=self.seed + k))
        return made

    def write_counts(self, folder: Path, noise: Noise | None = None) -> list[Path]:
        """Write each exposure as an uncal file."""
        made = []
        for k, (true, told) in enumerate(self.observations()):
            chip = self.chip(true.detector)
            image = self.image(true, chip, k // len(self.names))
            taken = expose(chip, image, true, seed=self.seed + k, noise=noise)
            made += write_exposure(folder, taken.counts, told)
        return made


def wcs_of(observation: Observation, reference: Observation) -> Any:
    """The WCS of an exposure, with the references that `optics.write_all` makes for ``reference``."""
    meta = observation.metadata()
    cards = {KEYWORDS[path]: value for path, value in meta.items() if path in KEYWORDS}
    facts = wcs_facts(cards, (observation.ny, observation.nx))
    trees: dict[str, dict[str, Any]] = {"distortion": {"model": optics.distortion_of(reference)}}
    if observation.layout.instrument != "FGS":
        told = reference.metadata()
        pair = told.get("instrument.filter", "N/A"), told.get("instrument.pupil", "N/A")
        trees["filteroffset"] = {"filters": optics.filter_offsets([("NONE", "NONE"), pair])}
    return imaging_wcs(facts, trees)


def places(wcs: Any, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (0-based, x first) of places on the sky, as exact as the way to the sky is."""
    there, back = pixel_to_sky(wcs), sky_to_pixel(wcs)
    x, y = x0, y0 = back(ra, dec)
    for _ in range(ROUNDS):
        again = back(*there(x, y))
        x, y = x + (x0 - again[0]), y + (y0 - again[1])
    return x, y
