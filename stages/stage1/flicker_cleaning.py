"""The work of clean_flicker_noise on whole frames: noise is fitted group by group, then subtracted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    clip_background,
    difference,
    residual,
    take_level,
)
from upramp.stages.stage1.flicker_median_image import MedianImage
from upramp.stages.stage1.flicker_scene import Scenes

NOISE = 16 << 20  # bytes of noise that are held at once


class Fitter(Protocol):
    """A way to fit the noise of a frame, as an array of its own; the noise of a sum is the sum of noises."""

    @property
    def size(self) -> int:
        """Elements of one frame's noise."""

    def fit(self, image: np.ndarray) -> np.ndarray:
        """Noise of an image (ny, nx; float32) with NaN where it is of no use. The image may change."""

    def subtract(self, frame: np.ndarray, noise: np.ndarray, flat: np.ndarray | None) -> None:
        """Take noise (float64) off ``frame`` (ny, nx; float32) in place; with a flat field, times that."""


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
        """Clean all integrations, some at a time; if they are many, or noise takes room, some groups."""
        meta, scenes = ramps.meta, self.scenes
        benches = Benches(meta.ny * meta.nx)
        if self.median_image is not None and scenes.rates is not None:
            self.median_image.look(scenes.draft, ramps, crew, scenes.rates)
        elif not scenes.one_for_all and scenes.given is None and scenes.rates is not None:
            scenes.draft.integrations(ramps, crew, scenes.rates)
        groups = range(1 if self.median_image is None else 0, meta.ngroups)
        at_once = max(1, NOISE // (8 * self.fitter.size))
        step = max(1, at_once // len(groups)) if scenes.one_for_all else 1
        parts = [groups[k : k + at_once] for k in range(0, len(groups), at_once)]
        for i0 in range(0, meta.nints, step):
            if i0 == 0 or not scenes.one_for_all:
                mask = scenes.mask(ramps, crew, i0)
                self._keep_mask(i0, mask)
            some = range(i0, min(i0 + step, meta.nints))
            self._clean(ramps, crew, benches, mask, some, parts)

    def _clean(
        self,
        ramps: Ramps,
        crew: Crew,
        benches: Benches,
        mask: np.ndarray,
        some: range,
        parts: Sequence[range],
    ) -> None:
        """Clean some integrations, one part of their groups after the other."""
        before: dict[tuple[int, int], np.ndarray] = {}  # groups as they were, where they are needed again
        sums: Any = 0.0
        for groups in parts:
            places = [(i, g) for i in some for g in groups]
            found = crew.each(partial(self._measure, ramps, mask, benches, before), places)
            noise = np.array(found, np.float64).reshape(len(some), len(groups), *found[0].shape)
            if self.median_image is None:
                noise[:, 0] += sums
                np.cumsum(noise, axis=1, out=noise)
                sums = noise[:, -1].copy()
                if groups is not parts[-1]:
                    before = {(i, groups[-1]): ramps.read(i, groups[-1]) for i in some}
            total = noise.reshape(-1, *found[0].shape)
            crew.each(partial(self._subtract, ramps), zip(places, total, strict=True))

    def _keep_mask(self, i: int, mask: np.ndarray) -> None:
        if isinstance(self.masks, np.ndarray):
            self.masks[:] = mask
        elif self.masks is not None:
            self.masks.write(i, mask)

    def _measure(
        self,
        ramps: Ramps,
        mask: np.ndarray,
        benches: Benches,
        before: Mapping[tuple[int, int], np.ndarray],
        place: tuple[int, int],
    ) -> np.ndarray:
        """Noise from the group before to this one, or of this one; ``before``: groups that were changed."""
        i, g = place
        image = ramps.read(i, g)
        if self.median_image is not None:
            background = self.median_image.read(i, g)
            residual(image, background, mask)
        else:
            earlier = before.get((i, g - 1))
            earlier = ramps.read(i, g - 1) if earlier is None else earlier
            difference(image, earlier, ramps.read_flags(i, g), mask)
        if self.flat is not None:
            image /= self.flat
        if self.median_image is None:
            with benches.one() as bench:
                background = np.nan_to_num(self._take_background(image, bench))
        if self.background is not None:
            self.background.write(i, g, np.broadcast_to(background, image.shape))
        return self.fitter.fit(image)

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

    def _subtract(self, ramps: Ramps, what: tuple[tuple[int, int], np.ndarray]) -> None:
        (i, g), noise = what
        frame = ramps.read(i, g)
        before = frame.copy() if self.noise is not None else frame
        self.fitter.subtract(frame, noise, self.flat)
        ramps.write(i, g, frame)
        if self.noise is not None:
            self.noise.write(i, g, frame - before)
