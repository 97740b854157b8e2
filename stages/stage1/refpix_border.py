"""Reference pixels of the near infrared: what is needed of the detector's border, and its subtraction.

The method is told in `refpix`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, REFERENCE_PIXEL
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.statistics import median, ordered_sum
from upramp.stages.core.step import Bound, Context, Station, Window

BORDER = 4  # width of the reference pixels' frame
DETECTOR = 2048
DARK_COLUMNS = ("SUB32", "SUB512", "SUB512S")  # NIRSpec: no reference pixels, but unlit columns


@kernel
def clipped_mean(values, n, limit):
    """Mean of the first ``n`` values, clipped at ``limit`` sigma until it stays; NaN if there are none.

    ``values`` (float32 or float64) is a work array and loses what is clipped. All is done in its precision,
    and added in numpy's order, as in the observatory's package: rejecting one value more or less moves the
    mean by a thousandth of a count, and over many integrations that would show.
    """
    own = values.dtype.type
    squares = np.empty(n, values.dtype)
    while n > 0:
        mean = own(ordered_sum(values, 0, n) / n)
        for k in range(n):
            off = values[k] - mean
            squares[k] = off * off
        sigma = np.sqrt(own(ordered_sum(squares, 0, n) / n))
        reach = own(sigma * own(limit))
        low, high = own(mean - reach), own(mean + reach)
        kept = 0
        for k in range(n):
            if low <= values[k] <= high:
                values[kept] = values[k]
                kept += 1
        if kept == n:
            return mean
        n = kept
    return own(np.nan)


@kernel
def stripe_means(strip, good, stripe, parities, limit, fast, slow, single, means):
    """Clipped means of a strip of reference rows by frame, amplifier and column parity.

    ``strip`` (frames, 4, columns) float32 and ``good`` (4, columns) with the fast axis last; ``fast`` and
    ``slow`` (1 or -1) are the directions of reading, in which values are added; ``single``: the first frame
    is done in single precision; ``means`` (frames, amplifiers, parities or more) float64 is filled.
    """
    frames, rows, columns = strip.shape
    work = np.empty(rows * stripe)
    work_single = np.empty(rows * stripe, np.float32)
    for f in range(frames):
        for a in range(columns // stripe):
            for p in range(parities):
                first = a * stripe + p
                last = first + (stripe - 1 - p) // parities * parities
                n = 0
                for j in range(rows):
                    r = j if slow > 0 else rows - 1 - j
                    for k in range(0, stripe - p, parities):
                        c = first + k if fast > 0 else last - k
                        if good[r, c] and not np.isnan(strip[f, r, c]):
                            work[n] = strip[f, r, c]
                            n += 1
                if single and f == 0:
                    work_single[:n] = work[:n]
                    means[f, a, p] = clipped_mean(work_single, n, limit)
                else:
                    means[f, a, p] = clipped_mean(work, n, limit)


@kernel
def running_median(side, good, offsets, length, reflect_low, reflect_high, single, out):
    """Median over ``length`` rows of a strip of side columns, without their ``offsets``.

    ``side`` (frames, rows, 4) float32; ``offsets`` (frames, 4) float64. Rows beyond an end are mirrored (the
    end row itself not repeated) where ``reflect_*`` says so, else left out; ``single``: the first frame is
    done in single precision. Rows without any good pixel give NaN in ``out`` (frames, rows) float64.
    """
    frames, rows, columns = side.shape
    half = length // 2
    work = np.empty(length * columns)
    for f in range(frames):
        for r in range(rows):
            n = 0
            for k in range(r - half, r + half + 1):
                s = k
                if s < 0:
                    s = -s if reflect_low else -1
                elif s >= rows:
                    s = 2 * (rows - 1) - s if reflect_high else -1
                if s < 0 or s >= rows:
                    continue
                for c in range(columns):
                    if good[s, c] and not np.isnan(side[f, s, c]):
                        value = np.float64(side[f, s, c]) - offsets[f, c]
                        work[n] = np.float32(value) if single and f == 0 else value
                        n += 1
            middle = median(work, n) if n else np.nan
            out[f, r] = np.float32(middle) if single and f == 0 else middle


def average(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean of two arrays; of one where the other is NaN; 0 where both are."""
    only = np.where(np.isnan(a), b, np.where(np.isnan(b), a, 0.5 * (a + b)))
    return np.nan_to_num(only, nan=0.0)


@kernel
def lane_means(values, starts, limit, means):
    """Clipped means of reference pixels by frame and lane.

    ``values`` (frames, pixels) float32, in each lane in the order of reading; lane k has pixels starts[k] to
    starts[k + 1]; ``means`` (frames, lanes) float32 is filled.
    """
    frames, pixels = values.shape
    work = np.empty(pixels, np.float32)
    for f in range(frames):
        for lane in range(len(starts) - 1):
            n = 0
            for k in range(starts[lane], starts[lane + 1]):
                if not np.isnan(values[f, k]):
                    work[n] = values[f, k]
                    n += 1
            means[f, lane] = clipped_mean(work, n, limit)


@kernel
def subtract_columns(data, stripes, side, stripe, single, y0, x0, i0):
    """Subtract the corrections where amplifiers read stripes of the last axis.

    ``data`` (rows, nints, ngroups, columns) float32; ``stripes`` (nints, ngroups, amplifiers, 2) float64;
    ``side`` (nints, ngroups, rows of the exposure) float64, of zero size for none; ``single``: the first
    frame of the file is rounded in between.
    """
    rows, nints, ngroups, columns = data.shape
    for r in range(rows):
        for i in range(nints):
            for g in range(ngroups):
                line = data[r, i, g]
                row = side[i0 + i, g, y0 + r] if side.size else 0.0
                c = 0
                while c < columns:
                    a = (x0 + c) // stripe
                    end = min(columns, (a + 1) * stripe - x0)
                    even, odd = stripes[i0 + i, g, a, x0 & 1], stripes[i0 + i, g, a, 1 - (x0 & 1)]
                    if single and i0 + i + g == 0:
                        for k in range(c, end):
                            line[k] = np.float64(line[k]) - (odd if k & 1 else even)
                        even = odd = 0.0
                    for k in range(c, end):
                        line[k] = (np.float64(line[k]) - (odd if k & 1 else even)) - row
                    c = end


@kernel
def subtract_rows(data, stripes, side, stripe, single, y0, x0, i0):
    """The same where amplifiers read stripes of rows: the side signal runs along the last axis."""
    rows, nints, ngroups, columns = data.shape
    for r in range(rows):
        a, p = (y0 + r) // stripe, (y0 + r) & 1
        for i in range(nints):
            for g in range(ngroups):
                line = data[r, i, g]
                level = stripes[i0 + i, g, a, p]
                if single and i0 + i + g == 0:
                    for c in range(columns):
                        line[c] = np.float64(line[c]) - level
                    level = 0.0
                if side.size:
                    row = side[i0 + i, g, x0 : x0 + columns]
                    for c in range(columns):
                        line[c] = (np.float64(line[c]) - level) - row[c]
                else:
                    for c in range(columns):
                        line[c] = np.float64(line[c]) - level


@dataclass
class Tile:
    """A strip of the frame, with what was seen there."""

    rows: slice
    columns: slice
    values: np.ndarray = field(default_factory=lambda: np.empty(0, "f4"))  # (nints, ngroups, rows, columns)
    flags: np.ndarray = field(default_factory=lambda: np.empty(0, "u4"))  # (rows, columns)


class Strips:
    """Gathers some strips of every frame.

    Attributes
    ----------
    strips : list of Tile
    first : int
        The first integration of those that are looked at.
    dark_columns : bool
        All that is gathered counts as reference pixels.
    """

    def __init__(self, meta: ExposureMeta, strips: list[Tile]) -> None:
        self.meta, self.strips, self.first = meta, strips, 0
        self.dark_columns = has_dark_columns(meta)

    def tiles(self) -> list[tuple[slice, slice]]:
        """The strips that hold reference pixels."""
        return [(t.rows, t.columns) for t in self.strips]

    def begin(self, first: int, last: int) -> None:
        """Integrations ``first`` to ``last`` (half open) come next."""
        self.first = first
        for t in self.strips:
            shape = (t.rows.stop - t.rows.start, t.columns.stop - t.columns.start)
            t.values = np.empty((last - first, self.meta.ngroups, *shape), "f4")
            t.flags = np.empty(shape, "u4")

    def absorb(self, w: Window, lo: int, hi: int) -> None:
        """Keep the core of rows lo to hi of the tile that the window works on."""
        t = self.strips[w.tile]
        r0, r1, c0, c1 = w.core(lo, hi)
        rows = slice(lo - w.y0 + r0, lo - w.y0 + r1)
        to = slice(lo + r0 - t.rows.start, lo + r1 - t.rows.start)
        x = slice(w.x0 + c0 - t.columns.start, w.x0 + c1 - t.columns.start)
        t.values[:, :, to, x] = w.data[rows, ..., c0:c1].transpose(1, 2, 0, 3)
        t.flags[to, x] = w.pdq[rows, c0:c1]
        if self.dark_columns:
            t.flags[to, x] |= np.uint32(REFERENCE_PIXEL)

    def by_lane(self, lane_of: Callable[[np.ndarray, np.ndarray], np.ndarray], lanes: int) -> Lanes:
        """Valid reference pixels of all strips by lane, in each in the order of reading.

        ``lane_of(rows, columns)`` gives the lanes, 0 to ``lanes`` - 1, of pixels.
        """
        values, rows, columns = [], [], []
        for t in self.strips:
            y, x = np.nonzero((t.flags & (REFERENCE_PIXEL | DO_NOT_USE)) == REFERENCE_PIXEL)
            values.append(t.values[:, :, y, x].reshape(t.values.shape[0] * t.values.shape[1], y.size))
            rows.append(y + t.rows.start)
            columns.append(x + t.columns.start)
        along, across = np.concatenate(columns), np.concatenate(rows)
        lane = lane_of(across, along)
        if abs(self.meta.fastaxis) == 2:
            along, across = across, along
        order = np.lexsort((along * np.sign(self.meta.fastaxis), across * np.sign(self.meta.slowaxis), lane))
        starts = np.searchsorted(lane[order], np.arange(lanes + 1))
        return Lanes(np.ascontiguousarray(np.concatenate(values, axis=1)[:, order]), starts)


@dataclass
class Lanes:
    """Reference pixels of frames by lane: ``values`` (frames, pixels) float32, ``starts`` (lanes + 1)."""

    values: np.ndarray
    starts: np.ndarray

    def means(self, limit: float) -> np.ndarray:
        """Clipped means (frames, lanes) float32; 0 in lanes without any."""
        found = np.empty((len(self.values), len(self.starts) - 1), np.float32)
        lane_means(self.values, self.starts, limit, found)
        return np.nan_to_num(found, nan=0.0)


class ReferencePixels(Strips):
    """Gathers the reference pixels of every frame and derives its corrections.

    Attributes
    ----------
    stripes : ndarray, float64, shape (nints, ngroups, amplifiers, 2)
        What to subtract by amplifier and parity along the fast axis.
    side : ndarray, float64, shape (nints, ngroups, rows)
        What to subtract along the slow axis; zero size for none.

    single : bool
        Round the first frame in between.

    With four outputs the observatory's package takes the first frame of a file in single precision, all
    others (and frames zero) in double; with one output it takes all in single precision. So does this.
    """

    def __init__(self, context: Context, flagged: list[Tile]) -> None:
        self.params = params = context.params
        meta = context.meta
        super().__init__(meta, flagged)
        self.single = context.shared.get("first_frame", True)
        self.transposed = abs(meta.fastaxis) == 2
        self.parities = 2 if params.odd_even_columns else 1
        self.limit = float(params.siglimit)
        self.four = meta.noutputs > 1
        self.along = meta.ny if self.transposed else meta.nx  # length of the fast axis
        self.across = meta.nx if self.transposed else meta.ny
        fast0, slow0 = (meta.ystart, meta.xstart) if self.transposed else (meta.xstart, meta.ystart)
        self.at_low, self.at_high = slow0 == 1, slow0 + self.across - 1 == DETECTOR
        self.at_left, self.at_right = fast0 == 1, fast0 + self.along - 1 == DETECTOR
        self.stripe = self.along // meta.noutputs if self.four else self.along
        sides = self.four and params.use_side_ref_pixels and (self.at_left or self.at_right)
        frames = (meta.nints, meta.ngroups)
        self.stripes = np.zeros((*frames, meta.noutputs if self.four else 1, 2))
        self.side = np.zeros((*frames, self.across if sides else 0))
        if self.four:
            self.strips = self._edges()

    @property
    def rounds(self) -> bool:
        """Whether the first of the frames that are looked at is to be rounded."""
        return self.single and self.first == 0

    def _edges(self) -> list[Tile]:
        """Bottom, top, left and right of the detector frame; empty where the read-out does not reach."""

        def strip(there: bool, at_end: bool, across: bool) -> Tile:
            length = self.across if across else self.along
            width = slice(length - BORDER, length) if at_end else slice(0, BORDER)
            whole = slice(0, self.along if across else self.across)
            edge = width if there else slice(0, 0)
            rows, columns = (edge, whole) if across else (whole, edge)
            return Tile(columns, rows) if self.transposed else Tile(rows, columns)

        side = self.side.size > 0
        return [
            strip(self.at_low, False, True),
            strip(self.at_high, True, True),
            strip(self.at_left and side, False, False),
            strip(self.at_right and side, True, False),
        ]

    def finish(self) -> None:
        """Derive the corrections of the integrations that were seen."""
        if not self.strips:
            return
        n = self.strips[0].values.shape[0]
        at = slice(self.first, self.first + n)
        stripes = self.stripes[at].reshape(n * self.meta.ngroups, *self.stripes.shape[2:])
        if self.four:
            bottom, top, left, right = (self._detector(t.values) for t in self.strips)
            goods = [self._detector((t.flags & DO_NOT_USE) == 0) for t in self.strips]
            stripes[:] = average(self._levels(bottom, goods[0]), self._levels(top, goods[1]))
            if self.rounds:
                stripes[0] = stripes[0].astype(np.float32)
            if self.side.size:
                self.smooth(at, [left, right], goods[2:], stripes)
        else:
            stripes[:, 0] = self._one_output()
        for t in self.strips:
            t.values = t.values[:0]

    def smooth(self, at: slice, sides: list[np.ndarray], goods: list[np.ndarray], levels: np.ndarray) -> None:
        """Derive what the integrations ``at`` lose along the slow axis.

        Of the left and the right ``sides`` (frames, rows, 4) float32, some of which are ``goods``; ``levels``
        (frames, amplifiers, 2) go first.
        """
        one = self._drift(sides[0], goods[0], levels[:, 0])
        other = self._drift(sides[1], goods[1], levels[:, -1])
        side = self.side[at].reshape(len(levels), -1)
        side[:] = self.params.side_gain * average(one, other)

    def _levels(self, strip: np.ndarray, good: np.ndarray) -> np.ndarray:
        """Means of a strip of reference rows (frames, 4, columns) by frame, amplifier, parity.

        NaN where there are none.
        """
        means = np.full((len(strip), *self.stripes.shape[2:]), np.nan)
        if not strip.size:
            return means
        p = self.parities
        fast, slow = int(np.sign(self.meta.fastaxis)), int(np.sign(self.meta.slowaxis))
        stripe_means(strip, good, self.stripe, p, self.limit, fast, slow, self.rounds, means)
        means[:, :, p:] = means[:, :, :1]
        return means

    def _drift(self, strip: np.ndarray, good: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Running medians of a strip of side columns (frames, rows, 4) without its amplifier's ``levels``."""
        out = np.full((len(levels), self.across), np.nan)
        if strip.size:
            offsets = np.ascontiguousarray(levels[:, np.arange(BORDER) & 1])
            length = self.params.side_smoothing_length
            running_median(strip, good, offsets, length, self.at_low, self.at_high, self.rounds, out)
        return out

    def _one_output(self) -> np.ndarray:
        """Means of all valid reference pixels (frames, 2)."""
        fast = 0 if self.transposed else 1
        means = self.by_lane(lambda *place: place[fast] % self.parities, self.parities).means(self.limit)
        return np.repeat(means, 3 - self.parities, axis=1)

    def _detector(self, a: np.ndarray) -> np.ndarray:
        """Frames of a tile, or its flags, with the fast axis last."""
        if a.ndim == 4:
            a = a.reshape(a.shape[0] * a.shape[1], *a.shape[2:])
        return np.ascontiguousarray(a.swapaxes(-1, -2) if self.transposed else a)


def has_dark_columns(meta: ExposureMeta) -> bool:
    """NIRSpec subarrays without reference pixels, whose outer columns take their place."""
    return meta.instrument == "NIRSPEC" and meta.subarray in DARK_COLUMNS


def bind(context: Context) -> Bound:
    """Make the survey of the reference pixels and the station that subtracts."""
    meta = context.meta
    if has_dark_columns(meta):
        strips = [(0, meta.ny, 0, BORDER), (0, meta.ny, meta.nx - BORDER, meta.nx)]
    else:
        mask = context.references.get("mask")
        strips = mask.info["strips"] if mask is not None else []
    flagged = [Tile(slice(y0, y1), slice(x0, x1)) for y0, y1, x0, x1 in strips]
    pixels = ReferencePixels(context, flagged)
    subtract = subtract_rows if pixels.transposed else subtract_columns

    def run(w: Window, lo: int, hi: int) -> None:
        rows, p = w.data[w.rows(lo, hi)], pixels
        subtract(rows, p.stripes, p.side, p.stripe, p.single, lo, w.x0, w.i0)

    return Bound([Station(run)], survey=pixels)
