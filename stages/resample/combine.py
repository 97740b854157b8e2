"""Images put together on one grid: values, weights, errors, and which images reach a pixel.

Every image is drizzled with its weights w: the inverse of its read-noise variance (ivm), its exposure time,
or 1; 0 where it is unusable. With W_i and S_i of one image on an output pixel,

    S = sum W_i S_i / sum W_i          VAR = sum u_i^2 E_i^2 / (sum u_i)^2

E_i being the drizzled square root of a kind of variance and u_i the inverse of the square of that of read
noise (or W_i's own kind). Source: JWST pipeline documentation, resample step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, NON_SCIENCE
from upramp.stages.core.frames import Crew
from upramp.stages.core.image import Image
from upramp.stages.core.kernel import kernel
from upramp.stages.resample.centred import KERNELS, POINT, TINY, drop_centred, reach_of, table_of, width_of
from upramp.stages.resample.drizzle import ROOM, drop, extent
from upramp.stages.resample.pixmap import Pixmap
from upramp.stages.resample.spans import spans

UNUSABLE = DO_NOT_USE | NON_SCIENCE
KINDS = ("rnoise", "poisson", "flat")
"""Kinds of variance, in the order of planes."""

BANDS = 4
"""Bands of output rows for each thread: enough that none waits long for another."""

CONTEXT_BITS = 32


def without_effect(context: np.ndarray, number: int) -> list[int]:
    """Which of ``number`` images add to no pixel, by the mosaic's context (planes, ny, nx) int32."""
    bits = np.bitwise_or.reduce(context.reshape(len(context), -1), axis=1).view(np.uint32)
    return [k for k in range(number) if not int(bits[k // CONTEXT_BITS]) >> k % CONTEXT_BITS & 1]


@dataclass(frozen=True)
class Drizzling:
    """How images are put together; names and defaults as those of the resample step.

    ``scale_ratio``: side of an output pixel over that of an input pixel. Its inverse square goes into the
    variances, because smaller pixels share the noise of the input's. ``flags``: gather the flags of the
    pixels that add to an output pixel.
    """

    pixfrac: float = 1.0
    weight_type: str | None = "ivm"
    scale_ratio: float = 1.0
    errors: bool = True
    context: bool = True
    flags: bool = False
    kernel: str = "square"

    @property
    def reach(self) -> float:
        """How far pixels reach from their centres, output pixels; 0 for square, whose corners tell."""
        return reach_of(self.kernel, self.pixfrac, self.scale_ratio)


def exposure_time(cards: Mapping[str, Any]) -> float:
    """Measurement time of an image, s, or else its exposure time."""
    for keyword in ("TMEASURE", "EFFEXPTM"):
        if cards.get(keyword):
            return float(cards[keyword])
    return 1.0


@kernel
def gather(sci, dq, rnoise, poisson, flat, level, kind, amount, planes, weight):
    """Put an image's values side by side, and its weights.

    ``sci``, the variances and ``dq`` flat; ``level`` is taken off the values. ``kind`` 0: weights are the
    inverse of ``rnoise``; else ``amount``. ``planes`` (pixels, n) float32: values, then, if n is 4, square
    roots of the variances; ``weight`` (pixels) float32, 0 where an image is unusable.
    """
    errors = planes.shape[1] > 1
    for k in range(sci.size):
        usable = not dq[k] & UNUSABLE and not np.isnan(sci[k])
        if kind == 0:
            usable = usable and rnoise[k] > 0 and np.isfinite(rnoise[k])
        weight[k] = 0
        if not usable:
            planes[k] = 0
            continue
        weight[k] = 1 / rnoise[k] if kind == 0 else amount
        planes[k, 0] = sci[k] - level
        if errors:
            planes[k, 1] = root(rnoise[k])
            planes[k, 2] = root(poisson[k])
            planes[k, 3] = root(flat[k])


@kernel
def root(variance):
    """Square root; 0 of what is none."""
    return np.sqrt(variance) if variance > 0 else np.float32(0)


@kernel
def absorb(sums, by_noise, amount, plane, total, context):
    """Add one image's sums to those of all.

    Parameters
    ----------
    sums : (rows, columns, 2 or 5) float32
        Of one image, from `drizzle.drop`.
    by_noise : bool
        Weigh variances by the inverse of that of read noise, else by ``amount``.
    plane : int32
        The image's bit.
    total : (rows, columns, 2 or 6) float64
        Sum of weights, of weighted values; then of weights of variances, and of weighted variances.
    context : (rows, columns) int32
    """
    errors = sums.shape[2] > 2
    for r in range(sums.shape[0]):
        for c in range(sums.shape[1]):
            w = sums[r, c, 0]
            if w == 0:
                continue
            t = total[r, c]
            t[0] += w
            t[1] += sums[r, c, 1]
            if w > 0:
                context[r, c] |= plane
            if not errors:
                continue
            u = amount
            if by_noise:
                e = np.float64(sums[r, c, 2]) / w
                u = 1 / (e * e) if e != 0 else 0.0
            t[2] += u
            for k in range(3):
                e = np.float64(sums[r, c, 2 + k]) / w
                t[3 + k] += (u * e) * (u * e)


@kernel
def finish_values(total, factor, fill, sci, wht, err, variances):
    """From sums to the product's arrays, float32; ``factor`` goes into the variances, ``fill`` where nothing
    is."""
    errors = total.shape[2] > 2
    nan = np.float32(np.nan)
    for r in range(total.shape[0]):
        for c in range(total.shape[1]):
            t = total[r, c]
            there = t[0] != 0
            wht[r, c] = t[0]
            sci[r, c] = t[1] / t[0] if there else fill
            if not errors:
                continue
            whole = np.float32(0)
            for k in range(3):
                v = np.float32(t[3 + k] / (t[2] * t[2]) * factor) if there and t[2] > 0 else nan
                variances[k, r, c] = v
                whole += v
            err[r, c] = np.sqrt(whole)


def dropper(
    how: Drizzling,
    planes: np.ndarray,
    weight: np.ndarray,
    dq: np.ndarray,
    where: Pixmap,
    shape: tuple[int, int],
) -> Callable[..., int]:
    """A function that drizzles an image onto rows of an output of ``shape`` (ny, nx), with any kernel.

    ``planes``, ``weight``, ``dq``: see `drizzle.drop`. The function takes (lo, hi, x_origin, sums, context,
    plane, flags) as `centred.drop_centred` does, and tells how many pixels it left out. The context is only
    needed, and filled, with kernels about pixels' centres.
    """
    point = how.pixfrac <= TINY
    inputs = (planes, weight, dq, where.x, where.y, where.step, spans(where, shape))
    if how.kernel == "square" and not point:
        room = min(ROOM, max(6, int(np.ceil(3 / how.scale_ratio)) + 3))

        def square(lo: int, hi: int, x_origin: int, sums: Any, context: Any, plane: Any, flags: Any) -> int:
            left: int = drop(*inputs, how.pixfrac, lo, hi, x_origin, sums, flags, room)
            return left

        return square
    kind = POINT if point else KERNELS[how.kernel]
    width, table = width_of(how.kernel, how.pixfrac, how.scale_ratio), table_of(how.kernel)

    def centred(lo: int, hi: int, x_origin: int, sums: Any, context: Any, plane: Any, flags: Any) -> int:
        bounds = lo, hi, x_origin
        drop_centred(*inputs, kind, how.reach, width, table, *bounds, sums, context, plane, flags)
        return 0

    return centred


@dataclass
class Mosaic:
    """Images put together so far; memory is that of the output, whatever the number of images.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the output.
    how : Drizzling
    crew : Crew
        Threads.
    """

    shape: tuple[int, int]
    how: Drizzling = field(default_factory=Drizzling)
    crew: Crew = field(default_factory=Crew)

    def __post_init__(self) -> None:
        self.images = 0
        self.left_out = 0
        self._flat = False
        self.total = np.zeros((*self.shape, 6 if self.how.errors else 2))
        self.context = np.zeros((1, *self.shape), np.int32)
        self.flags = np.zeros(self.shape if self.how.flags else (0, 0), np.uint32)
        self._let_go()

    def _let_go(self) -> None:
        """Give up working memory."""
        self._planes = np.empty(0, np.float32)
        self._weight = np.empty(0, np.float32)
        self._rooms: SimpleQueue[np.ndarray] = SimpleQueue()
        for _ in range(self.crew.threads):
            self._rooms.put(np.empty(0, np.float32))

    def add(self, image: Image, where: Pixmap, level: float = 0.0) -> None:
        """Add an image; ``level`` is the sky to be taken off."""
        n = 4 if self.how.errors else 1
        pixels = image.sci.size
        self._planes = _room(self._planes, pixels * n)
        self._weight = _room(self._weight, pixels)
        planes, weight = self._planes[: pixels * n].reshape(*image.shape, n), self._weight[:pixels]
        time = exposure_time(image.cards())
        by_noise = self.how.weight_type == "ivm"
        amount = time if self.how.weight_type == "exptime" else 1.0
        self._flat |= image.var_flat is not None
        flat = np.zeros_like(image.sci) if image.var_flat is None else image.var_flat
        arrays = (image.sci, image.dq, image.var_rnoise, image.var_poisson, flat)
        kind = 0 if by_noise else 1
        gather(
            *(a.reshape(-1) for a in arrays),
            np.float32(level),
            kind,
            np.float32(amount),
            planes.reshape(-1, n),
            weight,
        )
        how = self.how
        r0, r1, c0, c1 = extent(where, self.shape, how.reach)
        index, bit = divmod(self.images, CONTEXT_BITS)
        if index == len(self.context):
            self.context = np.concatenate([self.context, np.zeros((1, *self.shape), np.int32)])
        plane = np.array(1 << bit, np.uint32).view(np.int32)[()]
        columns = c1 - c0
        drizzle = dropper(how, planes, weight.reshape(image.shape), image.dq, where, self.shape)

        def band(rows: tuple[int, int]) -> int:
            lo, hi = rows
            size = (hi - lo) * columns * (1 + n)
            room = _room(self._rooms.get(), size)
            try:
                sums = room[:size].reshape(hi - lo, columns, 1 + n)
                sums[:] = 0
                part = np.s_[lo:hi, c0:c1]
                context, flags = self.context[(index, *part)], self.flags[part] if how.flags else self.flags
                left = drizzle(lo, hi, c0, sums, context, plane, flags)
                absorb(sums, by_noise, amount, plane, self.total[part], context)
            finally:
                self._rooms.put(room)
            return left

        edges = np.linspace(r0, r1, max(1, BANDS * self.crew.threads) + 1).astype(int)
        bands = [(int(a), int(b)) for a, b in pairwise(edges) if b > a]
        self.left_out += sum(self.crew.each(band, bands))
        self.images += 1

    def finish(self, fill: float = np.nan) -> dict[str, np.ndarray]:
        """The product's arrays, as far as asked for: SCI, ERR, DQ, CON, WHT, VAR_POISSON, VAR_RNOISE,
        VAR_FLAT.

        ``fill`` is the value of SCI where no image reaches. VAR_FLAT is NaN if no image had one.
        """
        self._let_go()
        sci, wht = np.empty(self.shape, np.float32), np.empty(self.shape, np.float32)
        errors = self.how.errors
        err = np.empty(self.shape if errors else (0, 0), np.float32)
        variances = np.empty((3, *err.shape), np.float32)
        edges = np.linspace(0, self.shape[0], self.crew.threads + 1).astype(int)

        def band(k: int) -> None:
            s = slice(edges[k], edges[k + 1])
            finish_values(
                self.total[s],
                self.how.scale_ratio**-2,
                np.float32(fill),
                sci[s],
                wht[s],
                err[s],
                variances[:, s],
            )

        self.crew.each(band, range(self.crew.threads))
        made: dict[str, np.ndarray] = {"SCI": sci}
        if errors:
            made["ERR"] = err
        if self.how.flags:
            made["DQ"] = self.flags
        if self.how.context:
            made["CON"] = self.context
        made["WHT"] = wht
        if errors:
            kinds = dict(zip(KINDS, variances, strict=True))
            if not self._flat:
                kinds["flat"][:] = np.nan
            made |= {f"VAR_{k.upper()}": kinds[k] for k in ("poisson", "rnoise", "flat")}
        return made


def _room(a: np.ndarray, size: int) -> np.ndarray:
    """``a``, or a larger one of its type: memory is used again from image to image."""
    return a if a.size >= size else np.empty(size, a.dtype)
