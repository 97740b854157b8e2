"""The work of clean_flicker_noise on whole frames: noise is fitted and taken off group by group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from upramp.stages.core.extras import Cube
from upramp.stages.core.frames import Crew, Ramps
from upramp.stages.stage1 import flicker_background
from upramp.stages.stage1.flicker_lines import (
    BACKGROUND,
    change,
    clip_background,
    difference,
    residual,
    take_level,
)
from upramp.stages.stage1.flicker_median_image import MedianImage
from upramp.stages.stage1.flicker_scene import Scenes

HELD = 64 << 20  # bytes of groups that wait for the one before


class Fitter(Protocol):
    """A way to fit the noise of a frame, as an array of its own."""

    def fit(self, image: np.ndarray) -> np.ndarray:
        """Noise of an image (ny, nx; float32) with NaN where it is of no use. The image may change."""

    def image(self, noise: np.ndarray, out: np.ndarray) -> None:
        """Put noise on its pixels: ``out`` (ny, nx) float32."""


class Benches:
    """Pairs of work arrays for a frame's values, as many as threads want at the same time.

    They are kept because the first touch of memory is dear.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: list[tuple[np.ndarray, np.ndarray]] = []

    @contextmanager
    def one(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """A pair that nobody else uses."""
        try:
            pair = self._free.pop()
        except IndexError:
            pair = np.empty(self._size, np.float32), np.empty(self._size, np.float32)
        yield pair
        self._free.append(pair)


@dataclass(frozen=True)
class Cleaning:
    """How one exposure is cleaned.

    Attributes
    ----------
    params : Params
    scenes : Scenes
    fitter : Fitter
        How noise is fitted to what is background.
    flat : ndarray, float32, shape (ny, nx), or None
        Flat field.
    median_image : MedianImage or None
        What is taken off groups, in place of the group before and the background.
    masks, background, noise : Cube or ndarray, or None
        What is to be kept of the masks (ny, nx) or (nints, ny, nx), and of background and noise of the groups
        (nints, ngroups, ny, nx), DN.
    """

    params: Any
    scenes: Scenes
    fitter: Fitter
    flat: np.ndarray | None
    median_image: MedianImage | None
    masks: Cube | np.ndarray | None
    background: Cube | None
    noise: Cube | None

    def work(self, ramps: Ramps, crew: Crew) -> None:
        """Clean all integrations, one mask after the other."""
        meta, scenes = ramps.meta, self.scenes
        benches = Benches(meta.ny * meta.nx)
        if self.median_image is not None and scenes.rates is not None:
            if not self.median_image.look(scenes.draft, ramps, crew, scenes.rates):
                crew.counters["clean_flicker_noise.without_flux"] += 1
                return
        elif not scenes.one_for_all and scenes.given is None and scenes.rates is not None:
            scenes.draft.integrations(ramps, crew, scenes.rates)
        step = meta.nints if scenes.one_for_all else 1
        for i0 in range(0, meta.nints, step):
            mask = scenes.mask(ramps, crew, i0)
            self._keep_mask(i0, mask)
            self._clean(ramps, crew, benches, mask, range(i0, i0 + step))

    def _keep_mask(self, i: int, mask: np.ndarray) -> None:
        if isinstance(self.masks, np.ndarray):
            self.masks[:] = mask
        elif self.masks is not None:
            self.masks.write(i, mask)

    def _clean(self, ramps: Ramps, crew: Crew, benches: Benches, mask: np.ndarray, some: range) -> None:
        """Clean some integrations: groups are looked at side by side, and put together one by one."""
        meta = ramps.meta
        first = 1 if self.median_image is None else 0
        places = [(i, g) for i in some for g in range(first, meta.ngroups)]
        at_once = max(crew.threads, HELD // (4 * meta.ny * meta.nx))
        before: dict[tuple[int, int], np.ndarray] = {}  # a group as it was, for the one after it
        cleaned = np.empty((0, 0), np.float32)
        for k in range(0, len(places), at_once):
            part = places[k : k + at_once]
            found = crew.each(partial(self._look, ramps, mask, benches, before), part)
            before = {part[-1]: ramps.read(*part[-1])}
            for (i, g), frame in zip(part, found, strict=True):
                if self.median_image is None:
                    frame += ramps.read(i, 0) if g == 1 else cleaned
                cleaned = frame
                if self.noise is not None:
                    self.noise.write(i, g, cleaned - ramps.read(i, g))
                ramps.write(i, g, cleaned)

    def _look(
        self,
        ramps: Ramps,
        mask: np.ndarray,
        benches: Benches,
        earlier: Mapping[tuple[int, int], np.ndarray],
        place: tuple[int, int],
    ) -> np.ndarray:
        """The change from the group before to this one without noise; with a median image, the group so.

        ``earlier``: groups that were changed, as they were.
        """
        i, g = place
        frame, level = ramps.read(i, g), np.zeros((1, 1), np.float32)
        image = frame.copy()
        if self.median_image is not None:
            before = self.median_image.read(i, g)
            residual(image, before, mask)
        else:
            before = earlier[i, g - 1] if (i, g - 1) in earlier else ramps.read(i, g - 1)
            difference(image, before, ramps.read_flags(i, g), mask)
        if self.flat is not None:
            image /= self.flat
        if self.median_image is None:
            with benches.one() as bench:
                found = np.asarray(self._take_background(image, bench), np.float32)
            level = np.atleast_2d(np.nan_to_num(found))
        if self.background is not None:
            taken = level if self.median_image is None else before
            self.background.write(i, g, np.broadcast_to(taken, image.shape))
        noise = self.fitter.fit(image)
        self.fitter.image(noise, image)
        change(frame, before, level, image, np.empty((0, 0), np.float32) if self.flat is None else self.flat)
        if self.median_image is not None:
            frame += before
        return frame

    def _take_background(self, image: np.ndarray, bench: tuple[np.ndarray, np.ndarray]) -> Any:
        """Take the background off ``image``, make NaN what does not belong to it; the background."""
        p = self.params
        if p.background_method is None:
            return np.float32(0)
        if p.background_method == "median":
            return take_level(image, p.n_sigma, p.n_sigma, *bench)
        level: Any = clip_background(image, BACKGROUND, *bench)
        found = flicker_background.model(image, p.background_box_size)
        if found is not None:
            level = found
        image -= level
        if p.n_sigma > 0:
            clip_background(image, p.n_sigma, *bench)
        return level
