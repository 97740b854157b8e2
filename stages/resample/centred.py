"""Drizzling with kernels about pixels' centres: point, turbo, gaussian, lanczos2 and lanczos3.

A pixel of weight w whose centre lies at (x, y) of the output adds to output pixel (c, r), as a share of w,

    a = f(c - x) f(r - y)

whatever its shape on the output. With s the side of an output pixel over that of an input pixel, p the
shrinking (``pixfrac``), d a distance in output pixels, and t = s d,

    point      f = 1 for the nearest pixel
    turbo      f = the part of a pixel of side p / s about the centre that lies in the output pixel
    gaussian   f = sqrt(e / pi) exp(-e d^2), e = (2.3548 s / p)^2 / 2: FWHM p, as far as 1.2 / s
    lanczos n  f = sinc(t) sinc(t / n), as far as n / s; t in steps of 0.003, ``pixfrac`` has no effect

Only point and turbo keep the flux: weights of the others do not add up to w, and those of lanczos may be
negative. Sums of weights and values are those of `drizzle.drop`.

Source: Fruchter & Hook 2002, PASP 114, 144; documentation of the drizzle package; reach and steps were
measured on that package.
"""

from __future__ import annotations

import numpy as np

from upramp.stages.core.kernel import kernel
from upramp.stages.resample.pixmap import row_of

POINT, TURBO, GAUSSIAN, LANCZOS2, LANCZOS3 = range(5)
KERNELS = {"point": POINT, "turbo": TURBO, "gaussian": GAUSSIAN, "lanczos2": LANCZOS2, "lanczos3": LANCZOS3}
TINY = 1e-3
"""With a ``pixfrac`` up to this, all kernels are points."""

_FWHM = 2.3548
_GAUSSIAN_REACH = 1.2
_LANCZOS_STEP = 0.003


def reach_of(name: str, pixfrac: float, ratio: float) -> float:
    """How far from its centre a pixel reaches on the output, output pixels; 0 for square, which knows."""
    if name in ("square", "point") or pixfrac <= TINY:
        return 0.0
    nominal = {"turbo": pixfrac / 2, "gaussian": _GAUSSIAN_REACH, "lanczos2": 2.0, "lanczos3": 3.0}
    return nominal[name] / ratio


def table_of(name: str) -> np.ndarray:
    """Values of lanczos at multiples of its step, up to where it ends, float64; one 0 for other kernels."""
    if not name.startswith("lanczos"):
        return np.zeros(1)
    order = int(name[-1])
    t = _LANCZOS_STEP * np.arange(1000 * order // 3 + 1)
    return np.sinc(t) * np.sinc(t / order)


@kernel
def profile(kind, distance, width, table):
    """f at a distance, output pixels, from the centre.

    ``width``: of turbo half the shrunk pixel's side on the output, of gaussian e, of lanczos steps of the
    table per output pixel. ``table``: of lanczos.
    """
    d = abs(distance)
    if kind == TURBO:
        return max(min(0.5, d + width) - max(-0.5, d - width), 0.0) / (2 * width)
    if kind == GAUSSIAN:
        return np.sqrt(width / np.pi) * np.exp(-width * d * d)
    if kind == POINT:
        return 1.0
    k = int(d * width + 0.5)
    return table[k] if k < table.size else 0.0


@kernel
def span(at, reach, kind):
    """First and last output pixel, along one axis, that a pixel at ``at`` reaches."""
    if kind >= LANCZOS2:
        return int(np.ceil(at - reach)), int(np.floor(at + reach))
    return int(np.floor(at - reach + 0.5)), int(np.floor(at + reach + 0.5))


def width_of(name: str, pixfrac: float, ratio: float) -> float:
    """``width`` of `profile`."""
    if pixfrac <= TINY:
        return 0.0
    if name == "turbo":
        return pixfrac / ratio / 2
    if name == "gaussian":
        return (_FWHM * ratio / pixfrac) ** 2 / 2
    return float(np.float32(ratio)) / _LANCZOS_STEP


@kernel
def drop_centred(
    planes, weight, dq, map_x, map_y, step, spans, kind, reach, width, table, lo, hi, x_origin, sums, context,
    plane, flags,
):  # fmt: skip
    """Drizzle all pixels onto the output rows lo to hi (half open), from column ``x_origin`` on.

    Parameters
    ----------
    planes, weight, map_x, map_y, step, spans, lo, hi, x_origin, sums
        As for `drizzle.drop`.
    dq : (ny, nx) uint32
    kind : int
        Of `KERNELS`.
    reach : float
        See `reach_of`.
    width, table
        See `profile`.
    context : (hi - lo, columns) int32
        Gets the bits ``plane`` where a pixel adds a positive weight.
    flags : (hi - lo, columns) uint32, or (0, 0)
        Gets the flags of the pixels that add something.
    """
    ny, nx, n = planes.shape
    columns = sums.shape[1]
    room = int(2 * reach) + 3
    along = np.empty(room)
    row_x, row_y = np.empty(nx + 2), np.empty(nx + 2)
    for y in range(ny):
        begin, end = spans[y]
        if begin >= end:
            continue
        row_of(map_y, step, y, row_y)
        if row_y.min() - reach > hi or row_y.max() + reach < lo - 1:
            continue
        row_of(map_x, step, y, row_x)
        for x in range(begin, end):
            w, px, py = weight[y, x], row_x[x + 1], row_y[x + 1]
            if not (w > 0 and py + reach > lo - 1 and py - reach < hi):
                continue
            first, last = span(py, reach, kind)
            c0, c1 = span(px, reach, kind)
            if c1 < x_origin or c0 >= x_origin + columns:
                continue
            for c in range(c0, c1 + 1):
                along[c - c0] = profile(kind, c - px, width, table) * w
            for r in range(max(first, lo), min(last + 1, hi)):
                part = profile(kind, r - py, width, table)
                for c in range(max(c0, x_origin), min(c1 + 1, x_origin + columns)):
                    share = part * along[c - c0]
                    if share == 0:
                        continue
                    at, column = r - lo, c - x_origin
                    target = sums[at, column]
                    target[0] += share
                    for p in range(n):
                        target[1 + p] += share * planes[y, x, p]
                    if share > 0:
                        context[at, column] |= plane
                    if flags.shape[0]:
                        flags[at, column] |= dq[y, x]
