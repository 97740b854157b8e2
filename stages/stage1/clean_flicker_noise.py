"""clean_flicker_noise: take noise off that the pixels of a row read at the same time have in common.

The scene mask M holds the pixels in which a draft rate (`draft_rate`) shows nothing but background: those
within so many standard deviations of its clipped median. For group g of an integration, and lines r along the
fast axis (of one amplifier, with ``fit_by_channel``),

    D_g = F_g - F_(g-1)
    b_g = median of D_g over background          ("median"; 0 with no background method)
    n_g[r] = median of D_g - b_g over the background of line r
    F'_g = F_g - sum of n_k over k = 2 ... g

where the background of D_g is what is left of M after clipping: first at three standard deviations around the
centre of D_g, then at ``n_sigma`` of D_g - b_g; deviations are those of the values below the centre. Groups
that are DO_NOT_USE or JUMP_DET do not count. With a flat field f, D_g / f is looked at, and f n_g subtracted.
In the mid infrared the lines are columns, whatever is read when.

Source: JWST pipeline documentation, clean_flicker_noise; C. Willott's image1overf. Which
statistics are clipped how often was measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from upramp.stages.core.frames import Crew, Ramps
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Bound, Context, Step
from upramp.stages.stage1 import draft_rate
from upramp.stages.stage1.flicker_lines import (
    column_medians,
    difference,
    keep_background,
    measure_level,
    row_medians,
    subtract,
)
from upramp.stages.stage1.flicker_scene import scene

CHANNELS = 4
SPECTRA = frozenset({"NRS_BRIGHTOBJ", "NRS_FIXEDSLIT", "NRS_IFU", "NRS_MSASPEC"})
"""Exposure types that can be fitted by FFT."""
LINES = 16 << 20  # bytes of line noise that are held at once


@dataclass(frozen=True)
class Params:
    """Parameters of clean_flicker_noise."""

    skip: bool = True
    autoparam: bool = False
    fit_method: Literal["fft", "median"] = "median"
    fit_by_channel: bool = False
    background_method: Literal["median", "model", "median_image"] | None = "median"
    background_box_size: tuple[int, int] | None = None
    mask_science_regions: bool = False
    apply_flat_field: bool = False
    n_sigma: float = 2.0
    fit_histogram: bool = False
    single_mask: bool = True
    user_mask: str | None = None
    save_mask: bool = False
    save_background: bool = False
    save_noise: bool = False


@dataclass
class Bench:
    """Work arrays for one frame, kept because the first touch of memory is dear."""

    all: np.ndarray
    values: np.ndarray
    spare: np.ndarray


class Benches:
    """As many benches as threads want at the same time."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._free: list[Bench] = []

    @contextmanager
    def one(self) -> Iterator[Bench]:
        """A bench that nobody else uses."""
        try:
            bench = self._free.pop()
        except IndexError:
            size = self._shape[0] * self._shape[1]
            bench = Bench(
                np.ones(self._shape, np.bool_), np.empty(size, np.float32), np.empty(size, np.float32)
            )
        yield bench
        self._free.append(bench)


@dataclass(frozen=True)
class Cleaning:
    """How one exposure is cleaned.

    ``along_rows``: lines are rows of the arrays; ``channels``: into how many parts they are cut.
    """

    params: Params
    draft: draft_rate.Draft
    along_rows: bool
    channels: int

    def work(self, ramps: Ramps, crew: Crew) -> None:
        """Clean all integrations, some at a time."""
        meta = ramps.meta
        if meta.ngroups < 2:
            return
        benches = Benches((meta.ny, meta.nx))
        mask = (
            scene(self.draft.exposure(ramps, crew), self.params.n_sigma) if self.params.single_mask else None
        )
        lines = meta.ny if self.along_rows else meta.nx
        step = max(1, LINES // (8 * lines * self.channels * meta.ngroups)) if mask is not None else 1
        for i0 in range(0, meta.nints, step):
            some = range(i0, min(i0 + step, meta.nints))
            own = (
                scene(self.draft.integration(ramps, crew, i0), self.params.n_sigma) if mask is None else mask
            )
            places = [(i, g) for i in some for g in range(1, meta.ngroups)]
            found = crew.each(partial(self._measure, ramps, own, benches), places)
            noise = np.array(found, np.float64).reshape(len(some), meta.ngroups - 1, self.channels, lines)
            total = np.cumsum(noise, axis=1).astype(np.float32).reshape(-1, self.channels, lines)
            crew.each(partial(self._subtract, ramps), zip(places, total, strict=True))

    def _measure(
        self, ramps: Ramps, mask: np.ndarray, benches: Benches, place: tuple[int, int]
    ) -> np.ndarray:
        """Noise of lines (channels, lines), float32, between a group and the one before."""
        i, g = place
        image = ramps.read(i, g)
        difference(image, ramps.read(i, g - 1), ramps.read_flags(i, g), mask)
        if self.params.background_method is not None:
            with benches.one() as bench:
                found = measure_level(image, bench.all, self.params.n_sigma, bench.values, bench.spare)
            keep_background(image, *found)
        noise = np.empty((self.channels, image.shape[0 if self.along_rows else 1]), np.float32)
        (row_medians if self.along_rows else column_medians)(image, self.channels, noise)
        return noise

    def _subtract(self, ramps: Ramps, what: tuple[tuple[int, int], np.ndarray]) -> None:
        (i, g), noise = what
        frame = ramps.read(i, g)
        subtract(frame, noise, self.along_rows)
        ramps.write(i, g, frame)


def skip_if(meta: ExposureMeta, params: Params) -> str | None:
    """In the mid infrared there are lines in images only."""
    if meta.instrument == "MIRI" and meta.exp_type != "MIR_IMAGE":
        return f"EXP_TYPE {meta.exp_type}: of mid-infrared exposures only images (MIR_IMAGE) are cleaned"
    if params.fit_method == "fft" and meta.exp_type not in SPECTRA:
        return f"fit_method fft is for {', '.join(sorted(SPECTRA))}, not for {meta.exp_type}"
    return None


def unsupported(params: Params) -> list[str]:
    """What the parameters ask for and this version does not do."""
    asked = {
        "autoparam": "parameters are not chosen by themselves",
        "mask_science_regions": "science regions are not masked",
        "apply_flat_field": "no flat field is applied",
        "fit_histogram": "no histogram is fitted",
        "user_mask": "the user's mask is not taken",
        "save_mask": "the mask is not written",
        "save_background": "the background is not written",
        "save_noise": "the noise is not written",
    }
    notices = [f"{name}: {words}" for name, words in asked.items() if getattr(params, name)]
    if params.fit_method == "fft":
        notices.append("fit_method: fft is not done; medians are taken")
    if params.background_method in ("model", "median_image"):
        notices.append(f"background_method: {params.background_method} is not done; a median is taken")
    return notices


def bind(context: Context) -> Bound:
    """Make the work on frames."""
    meta, p = context.meta, context.params
    along_rows = meta.instrument != "MIRI" and abs(meta.slowaxis) == 2
    channels = CHANNELS if p.fit_by_channel and meta.is_full_frame and meta.instrument != "MIRI" else 1
    return Bound([], frames=Cleaning(p, draft_rate.draft(context), along_rows, channels).work)


STEP = Step(
    name="clean_flicker_noise",
    keyword="S_CLNFNS",
    params=Params,
    bind=bind,
    references=draft_rate.REFERENCES,
    prepare=draft_rate.PREPARE,
    skip_if=skip_if,
    unsupported=unsupported,
    pars="pars-cleanflickernoisestep",
)
