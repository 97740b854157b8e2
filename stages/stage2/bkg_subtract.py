"""bkg_subtract: subtract the mean of background exposures.

    SCI' = SCI - B        B = mean of clipped b_k        DQ' = DQ | q_1 | q_2 ...

b_k and q_k are the background exposures' values and flags. The mean leaves out NaN and, again and again, what
is more than ``sigma`` standard deviations from the median; of stacks of integrations each exposure is
averaged first in this way, then the averages. Where nothing is left, B is 0. Errors stay as they are.
Exposures of another part of the detector count where they overlap. Source: JWST pipeline documentation,
bkg_subtract step; that flags do not keep a value out was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from upramp.stages.core.errors import NotApplicable
from upramp.stages.core.extras import Extra, extras_of
from upramp.stages.core.image import Image
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.statistics import median
from upramp.stages.core.step import Context
from upramp.stages.core.whole import WholeStep

BACKGROUNDS = "backgrounds"
"""Key of ``Context.shared``: a sequence of `Background`."""

KEPT = "bkg_subtract.kept"
"""Key of ``Context.shared``: whether what is left becomes a product."""

PRODUCTS = ("combinedbackground", "bsub", "bsubints")
"""Endings of what the step makes beside."""


@dataclass(frozen=True)
class Background:
    """A background exposure: sci, err float32 and dq uint32, (ny, nx) or (nints, ny, nx), and its origin."""

    sci: np.ndarray
    err: np.ndarray
    dq: np.ndarray
    xstart: int = 1
    ystart: int = 1


@dataclass(frozen=True)
class Params:
    """Parameters of bkg_subtract. Those that begin with soss and wfss concern spectra alone.

    ``bkg_list``: files of background exposures, in place of those of the association.
    """

    skip: bool = False
    bkg_list: list[str] | None = None
    save_combined_background: bool = False
    sigma: float = 3.0
    maxiters: int | None = None
    soss_source_percentile: float = 35.0
    soss_bkg_percentile: list[float] | None = None
    wfss_mmag_extract: float | None = None
    wfss_mask: str | None = None
    wfss_maxiter: int = 5
    wfss_rms_stop: float = 0.0
    wfss_outlier_percent: float = 1.0


@kernel
def clipped_mean(stack, errors, sigma, maxiters, mean, error):
    """Mean of each column of ``stack`` without NaN and outliers, and its error; 0 where nothing is left.

    ``stack``, ``errors`` (n, pixels) float32; ``mean``, ``error`` (pixels) float32 are filled; sums are
    float64. An error is that of the values that count, added in quadrature, over their number.
    ``maxiters`` < 0: until nothing more is left out.
    """
    n, pixels = stack.shape
    work, kept = np.empty(n), np.empty(n, np.bool_)
    for p in range(pixels):
        left = 0
        for k in range(n):
            kept[k] = not np.isnan(stack[k, p])
            left += kept[k]
        rounds = 0
        while left > 2 and (maxiters < 0 or rounds < maxiters):
            m, total = 0, 0.0
            for k in range(n):
                if kept[k]:
                    work[m] = stack[k, p]
                    total += work[m]
                    m += 1
            average, square = total / m, 0.0
            for k in range(m):
                square += (work[k] - average) ** 2
            middle, reach = median(work, m), sigma * np.sqrt(square / m)
            for k in range(n):
                if kept[k] and abs(stack[k, p] - middle) > reach:
                    kept[k] = False
                    left -= 1
            rounds += 1
            if left == m:
                break
        total, square = 0.0, 0.0
        for k in range(n):
            if kept[k]:
                total += np.float64(stack[k, p])
                square += np.float64(errors[k, p]) ** 2
        mean[p] = total / left if left else 0.0
        error[p] = np.sqrt(square) / left if left else 0.0


def _overlap(
    background: Background, meta: ExposureMeta
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """The rows and columns that both have, in the exposure and in the background."""
    mine, its = [], []
    for length, other, start, origin in (
        (meta.ny, background.sci.shape[-2], meta.ystart, background.ystart),
        (meta.nx, background.sci.shape[-1], meta.xstart, background.xstart),
    ):
        lo, hi = max(start, origin), min(start + length, origin + other)
        if hi <= lo:
            return None
        mine.append(slice(lo - start, hi - start))
        its.append(slice(lo - origin, hi - origin))
    return (mine[0], mine[1]), (its[0], its[1])


def _reduce(stack: np.ndarray, errors: np.ndarray, p: Params) -> tuple[np.ndarray, np.ndarray]:
    shape = stack.shape[1:]
    mean, error = np.empty(shape, np.float32), np.empty(shape, np.float32)
    limit = -1 if p.maxiters is None else p.maxiters
    flat = (stack.reshape(len(stack), -1), errors.reshape(len(stack), -1))
    clipped_mean(*flat, float(p.sigma), limit, mean.reshape(-1), error.reshape(-1))
    return mean, error


def combine(
    backgrounds: Sequence[Background], meta: ExposureMeta, params: Params
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean background of an exposure's pixels, its error, and the flags of all, each (ny, nx)."""
    shape = (len(backgrounds), meta.ny, meta.nx)
    stack, errors = np.full(shape, np.nan, np.float32), np.zeros(shape, np.float32)
    flags = np.zeros(shape[1:], np.uint32)
    for k, background in enumerate(backgrounds):
        places = _overlap(background, meta)
        if places is None:
            continue
        mine, its = places
        sci, err, dq = (
            np.ascontiguousarray(a[(..., *its)]) for a in (background.sci, background.err, background.dq)
        )
        if sci.ndim == 3:
            sci, err = _reduce(sci, err, params)
            dq = np.bitwise_or.reduce(dq, axis=0)
        stack[(k, *mine)], errors[(k, *mine)] = sci, err
        flags[mine] |= dq
    mean, error = _reduce(stack, errors, params)
    return mean, error, flags


def _kept(image: Image) -> Extra:
    """The image as it is now, as a product."""
    names = ("sci", "err", "dq", "var_poisson", "var_rnoise")
    arrays = {name.upper(): getattr(image, name).copy() for name in names}
    stack = image.sci.ndim == 3
    units = {name: image.bunit for name in ("SCI", "ERR")}
    return Extra("bsubints" if stack else "bsub", "CubeModel" if stack else "ImageModel", arrays, units)


def apply(image: Image, context: Context) -> Image:
    """Subtract the mean background from every integration."""
    backgrounds: Sequence[Background] = context.shared.get(BACKGROUNDS, ())
    if not backgrounds:
        raise NotApplicable("no background exposures")
    mean, error, flags = combine(backgrounds, context.meta, context.params)
    np.subtract(image.sci, mean, out=image.sci)
    np.bitwise_or(image.dq, flags, out=image.dq)
    if context.params.save_combined_background:
        arrays = {"SCI": mean, "DQ": flags, "ERR": error}
        extras_of(context).append(Extra("combinedbackground", "ImageModel", arrays))
    if context.shared.get(KEPT):
        extras_of(context).append(_kept(image))
    return image.count("bkg_subtract.backgrounds", len(backgrounds))


STEP = WholeStep(
    name="bkg_subtract",
    keyword="S_BKDSUB",
    params=Params,
    apply=apply,
    pars="pars-backgroundstep",
)
