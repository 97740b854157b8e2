"""Reference pixels of NIRSpec's IRS2 read-out: noise that is common to all outputs, filtered in frequency.

Frame by frame, less the mean of its integration, every output becomes a stream in the order of reading,
712 samples a detector row, and loses the straight line of its first and last four rows. With r_k the stream
of amplifier k's interleaved reference pixels (each standing for the samples around it) and o that of the
reference output, its gaps filled by cosine-weighted neighbours and then three times by low frequencies,

    F'_k = F_k - line - IFFT(beta_k FFT(r_k) + alpha_k FFT(o))

alpha and beta being the reference's. Before, reference pixels that are now and then bad are replaced
(`refpix_irs2_outliers`), and with ``irs2_mean_subtraction`` the clipped means of the first and last four rows
are taken off, by output and parity. What the reference's table DQ names bad is replaced, too. Only the
2048 rows of light are left after it. Where every group of a pixel is the same, no line is subtracted.

Source: Rauscher et al. 2017, PASP 129, 105003; JWST pipeline documentation, refpix step; gaps, filter and the
place of each sample were measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from upramp.stages.core.dq import BAD_REF_PIXEL, DO_NOT_USE
from upramp.stages.core.errors import NotApplicable
from upramp.stages.core.frames import Crew, Ramps
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference
from upramp.stages.core.step import Bound, Context
from upramp.stages.stage1 import irs2, refpix_irs2_outliers
from upramp.stages.stage1.refpix_border import BORDER, average, clipped_mean

DETECTOR = 2048
SAMPLES = irs2.ROW * DETECTOR
PASS, STOP = 30268, 35268  # of SAMPLES frequencies: filling gaps keeps what lies below, and near the highest
REACH = 15  # samples that a gap is filled from, on either side
FILLINGS = 3
PLACES = np.array([[7, 9], [11, 13], [8, 10], [12, 14]])  # sample times that each of the four stands for
AT_ONCE = 64  # columns of frames that stay in the cache
PIECE = 16 << 20  # bytes that are looked at in one go


@kernel
def fit_lines(frame, mean, times, lines):
    """Straight lines through the first and last rows of each output, least squares.

    ``frame`` (3200, nx) float32 and ``mean`` (3200, nx) float64 in the detector's orientation, columns first;
    ``times`` (5, 640). ``lines`` (5, 2) float64 gets slope and value at the middle.
    Samples that do not differ from the mean do not count.
    """
    nx = frame.shape[1]
    middle = (irs2.ROW * nx - 1) / 2
    for output in range(irs2.OUTPUTS):
        n, st, stt, sv, stv = 0, 0.0, 0.0, 0.0, 0.0
        for c in range(irs2.COLUMNS):
            y = output * irs2.COLUMNS + c
            for b in range(2 * BORDER):
                x = b if b < BORDER else nx - 2 * BORDER + b
                v = np.float64(np.float32(frame[y, x] - mean[y, x]))
                if v != 0:
                    t = x * irs2.ROW + times[output, c] - middle
                    n += 1
                    st += t
                    stt += t * t
                    sv += v
                    stv += t * v
        spread = n * stt - st * st
        slope = (n * stv - st * sv) / spread if spread > 0 else 0.0
        lines[output, 0] = slope
        lines[output, 1] = (sv - slope * st) / n if n > 0 else 0.0


@kernel
def gather(frame, mean, times, lines, output, places, stream):
    """Put an output's samples in the order of reading, less mean and line, into ``stream`` (float32, zeros).

    All columns of the reference output (0); of an amplifier its reference columns, each at its ``places``.
    """
    nx = frame.shape[1]
    middle = (irs2.ROW * nx - 1) / 2
    slope, level = lines[output, 0], lines[output, 1]
    for x0 in range(0, nx, AT_ONCE):
        x1 = min(x0 + AT_ONCE, nx)
        for c in range(irs2.COLUMNS):
            y = output * irs2.COLUMNS + c
            k = c % irs2.BLOCK - irs2.BEFORE
            is_reference = 0 <= k < irs2.REFERENCES
            if output > 0 and not is_reference:
                continue
            time = times[output, c]
            if output > 0:
                block = time // (irs2.BLOCK + 2) * (irs2.BLOCK + 2)
                place = places[time - block - irs2.BEFORE - 1]
                one, two = block + place[0], block + place[1]
            else:
                one = two = time
            line, level_of = frame[y], mean[y]
            for x in range(x0, x1):
                v = np.float32(line[x] - level_of[x])
                if v != 0:
                    v -= np.float32(level + slope * (x * irs2.ROW + time - middle))
                stream[x * irs2.ROW + one] = v
                stream[x * irs2.ROW + two] = v


@kernel
def fill_gaps(stream, weights, out):
    """Zeros of ``stream`` (float32) become the weighted mean of what is there nearby, in ``out`` (float32).

    ``weights`` (odd number) float64. Where nothing is near, 0.
    """
    n, half = len(stream), len(weights) // 2
    for t in range(n):
        if stream[t] != 0:
            out[t] = stream[t]
            continue
        s = h = 0.0
        for k in range(max(0, t - half), min(n, t + half + 1)):
            if stream[k] != 0:
                s += weights[k - t + half] * stream[k]
                h += weights[k - t + half]
        out[t] = s / h if h > 0 else 0.0


@kernel
def keep_measured(smooth, measured, is_pixel):
    """Put ``measured`` in the place of ``smooth`` (both float32) where a row's sample time is a pixel's."""
    row = len(is_pixel)
    for r in range(len(smooth) // row):
        s, m = smooth[r * row : (r + 1) * row], measured[r * row : (r + 1) * row]
        for k in range(row):
            if is_pixel[k]:
                s[k] = m[k]


@kernel
def weigh(own, other, beta, alpha):
    """``own`` beta + ``other`` alpha, frequency by frequency (complex64), in place of ``own``."""
    for k in range(len(own)):
        own[k] = own[k] * beta[k] + other[k] * alpha[k]


@kernel
def subtract(frame, mean, times, light, lines, output, noise, out):
    """Take line and noise off an amplifier's pixels.

    ``noise`` (samples) float32; ``light`` (3200) says which columns are pixels; these go to ``out``
    (2048, nx) float32, from the amplifier's first on.
    """
    nx = frame.shape[1]
    middle = (irs2.ROW * nx - 1) / 2
    slope, level = lines[output, 0], lines[output, 1]
    first = (output - 1) * (irs2.PIXELS // (irs2.OUTPUTS - 1))
    for x0 in range(0, nx, AT_ONCE):
        x1 = min(x0 + AT_ONCE, nx)
        k = first
        for c in range(irs2.COLUMNS):
            y = output * irs2.COLUMNS + c
            if not light[y]:
                continue
            time = times[output, c]
            line, level_of, target = frame[y], mean[y], out[k]
            for x in range(x0, x1):
                v = np.float64(line[x])
                if np.float32(v - level_of[x]) != 0:
                    v -= level + slope * (x * irs2.ROW + time - middle)
                target[x] = v - noise[x * irs2.ROW + time]
            k += 1


def low_pass(samples: int) -> np.ndarray:
    """What filling gaps keeps of each frequency (samples / 2 + 1; float32): low ones, and the highest."""
    k = np.arange(samples // 2 + 1) * (SAMPLES / samples)
    away = np.minimum(k, SAMPLES / 2 - k)
    fall = 0.5 * (1 + np.cos(np.pi * (away - PASS) / (STOP - PASS)))
    return np.where(away <= PASS, 1, np.where(away < STOP, fall, 0)).astype(np.float32)


def _half(column: np.ndarray) -> np.ndarray:
    """Of weights by frequency, real and imaginary parts in turn, what acts on real streams: half of them."""
    weights = np.ascontiguousarray(column, np.float32).view(np.complex64)
    mirrored = np.conj(np.roll(weights[::-1], 1))
    both = (weights.astype(np.complex128) + mirrored) / 2
    return both[: len(weights) // 2 + 1].astype(np.complex64)


def prepare(raw: RawReference, meta: ExposureMeta, params: Any) -> Prepared:
    """Weights of all frequencies (4, samples / 2 + 1) complex64, and which reference columns are bad.

    Raises
    ------
    NotApplicable
        If its table is not made for streams of the exposure's length.
    """
    table = raw.table("IRS2")
    names = {name.lower(): name for name in table.dtype.names or ()}
    if len(table) != 2 * irs2.ROW * meta.nx:
        raise NotApplicable(
            f"the table of {raw.name} has {len(table)} rows; this exposure needs {2 * irs2.ROW * meta.nx}"
        )
    arrays = {
        kind: np.array([_half(table[names[f"{kind}_{k}"]]) for k in range(irs2.OUTPUTS - 1)])
        for kind in ("alpha", "beta")
    }
    dead = np.zeros(irs2.OUTPUTS * irs2.COLUMNS, bool)
    if raw.has("DQ"):
        bad = raw.table("DQ")
        names = {name.upper(): name for name in bad.dtype.names or ()}
        for row in bad:
            output, pair, mask = (int(row[names[key]]) for key in ("OUTPUT", "ODD_EVEN", "MASK"))
            blocks = np.flatnonzero((mask >> np.arange(irs2.BLOCKS)) & 1)
            place = pair - 1 if output % 2 else 2 - pair  # counted against the columns in outputs 2 and 4
            first = output * irs2.COLUMNS + blocks * irs2.BLOCK + irs2.BEFORE + 2 * place
            dead[first] = dead[first + 1] = True
    return Prepared({**arrays, "dead": dead})


@dataclass(frozen=True)
class Correction:
    """All that one exposure's frames are corrected with."""

    params: Any
    turned: tuple[bool, bool]
    light: np.ndarray
    times: np.ndarray
    dead: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    keep: np.ndarray

    def turn(self, a: np.ndarray) -> np.ndarray:
        """Between the orientation of products and the detector's own, both ways."""
        steps = tuple(slice(None, None, -1 if t else 1) for t in self.turned)
        return np.ascontiguousarray(a[steps[: a.ndim]])

    def noise(self, stream: Callable[[int], np.ndarray]) -> Any:
        """The common noise in the amplifiers' streams, one by one; ``stream`` gathers an output's."""
        from scipy import fft  # slow to import, and few exposures need it

        measured = stream(0)
        filled = np.empty_like(measured)
        weights = np.cos(np.pi * np.arange(-REACH, REACH + 1) / (2 * REACH + 2))
        fill_gaps(measured, weights, filled)
        is_pixel = np.zeros(irs2.ROW, bool)
        is_pixel[self.times[1][self.light[irs2.COLUMNS : 2 * irs2.COLUMNS]]] = True
        smooth = filled.copy()
        for _ in range(FILLINGS):
            spectrum = fft.rfft(smooth)
            spectrum *= self.keep
            smooth = fft.irfft(spectrum, len(filled), overwrite_x=True)
            keep_measured(smooth, filled, is_pixel)
        reference = fft.rfft(smooth, overwrite_x=True)
        for k in range(irs2.OUTPUTS - 1):
            own = fft.rfft(stream(k + 1), overwrite_x=True)
            weigh(own, reference, self.beta[k], self.alpha[k])
            yield fft.irfft(own, len(filled), overwrite_x=True)

    def correct(self, frame: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Pixels (2048, nx) of a frame (3200, nx), both in the detector's orientation."""
        lines = np.zeros((irs2.OUTPUTS, 2))
        fit_lines(frame, mean, self.times, lines)

        def stream(output: int) -> np.ndarray:
            samples = np.zeros(irs2.ROW * frame.shape[1], np.float32)
            gather(frame, mean, self.times, lines, output, PLACES, samples)
            return samples

        out = np.empty((irs2.PIXELS, frame.shape[1]), np.float32)
        for k, noise in enumerate(self.noise(stream)):
            subtract(frame, mean, self.times, self.light, lines, k + 1, noise, out)
        return out

    def levels(self, frame: np.ndarray, good: np.ndarray) -> np.ndarray:
        """Clipped means of the first and last rows by output and parity, for each column (3200) float32."""
        p, odd = self.params, irs2.parities()
        limit = float(p.siglimit)
        found = np.zeros(len(frame), np.float32)
        output = np.arange(len(frame)) // irs2.COLUMNS
        for k in range(irs2.OUTPUTS):
            for parity in (0, 1) if p.odd_even_columns else (None,):
                rows = np.flatnonzero((output == k) & ((odd == parity) if parity is not None else True))
                means = []
                for edge in (slice(0, BORDER), slice(frame.shape[1] - BORDER, None)):
                    values = frame[rows, edge][good[rows, edge]]
                    values = values[~np.isnan(values)]
                    means.append(np.array([clipped_mean(values, len(values), limit)], np.float32))
                found[rows] = average(*means)[0]
        return found


class Sums:
    """Sums over the groups of an integration, and what tells bad reference columns."""

    def __init__(self, ramps: Ramps, crew: Crew) -> None:
        self._ramps, self._crew = ramps, crew
        meta = ramps.meta
        fit = max(1, PIECE // (4 * irs2.BLOCK * meta.ngroups * meta.nx))
        step = fit * irs2.BLOCK
        self._pieces = [(lo, min(lo + step, meta.ny)) for lo in range(0, meta.ny, step)]

    def of(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Of integration ``i``: the sums (3200, nx) float64, and the pairs of `refpix_irs2_outliers.look`."""
        meta = self._ramps.meta
        total = np.empty((meta.ny, meta.nx))
        pairs = np.empty((meta.ny // irs2.BLOCK, 2, 3))

        def one(piece: tuple[int, int]) -> None:
            lo, hi = piece
            data = np.empty((hi - lo, 1, meta.ngroups, meta.nx), np.float32)
            self._ramps.read_rows(data, None, lo, i)
            blocks = slice(lo // irs2.BLOCK, hi // irs2.BLOCK)
            refpix_irs2_outliers.look(data[:, 0], total[lo:hi], pairs[blocks])

        self._crew.each(one, self._pieces)
        return total, pairs


def work(correction: Correction, after: ExposureMeta, ramps: Ramps, crew: Crew) -> None:
    """Correct all frames, and leave only the rows of light."""
    meta, c, sums = ramps.meta, correction, Sums(ramps, crew)
    bad = np.asarray((ramps.pdq & BAD_REF_PIXEL).any(axis=1))
    seen = None
    for i in range(meta.nints):
        seen = sums.of(i)
        bad |= refpix_irs2_outliers.outliers(seen[1], float(c.params.ovr_corr_mitigation_ftr))
    crew.counters["refpix.bad_reference_columns"] += int(bad.sum())
    found = refpix_irs2_outliers.sources(bad | c.turn(c.dead))
    good = c.turn(((ramps.pdq & DO_NOT_USE) == 0) & ~bad[:, None])
    kept = np.flatnonzero(irs2.light_rows(meta))

    def levels(i: int, g: int) -> np.ndarray:
        return c.turn(c.levels(c.turn(ramps.read(i, g)), good))

    def one(i: int, mean: np.ndarray, levels: Sequence[np.ndarray], g: int) -> None:
        frame = ramps.read(i, g)
        if levels:
            frame -= levels[g][:, None]
        refpix_irs2_outliers.replace(frame, found)
        frame = c.turn(frame)
        ramps.write(i, g, c.turn(c.correct(frame, mean)))
        ramps.write_flags(i, g, ramps.read_flags(i, g)[kept])

    for i in range(meta.nints):
        total = sums.of(i)[0] if meta.nints > 1 or seen is None else seen[0]
        off: list[np.ndarray] = []
        if c.params.irs2_mean_subtraction:
            off = crew.each(partial(levels, i), range(meta.ngroups))
            total -= np.asarray(np.sum(off, axis=0, dtype=np.float64))[:, None]
        # before dividing: what a replaced pixel differs from its mean by must be 0 where it should
        refpix_irs2_outliers.replace(total, found)
        total /= meta.ngroups
        crew.each(partial(one, i, c.turn(total), off), range(meta.ngroups))
    flags = ramps.pdq[kept]
    ramps.cut(after)
    ramps.pdq[:] = flags


def bind(context: Context) -> Bound:
    """Make the work on frames; later steps see 2048 rows."""
    meta, ref = context.meta, context.references["refpix"]
    correction = Correction(
        context.params,
        irs2.is_turned(meta),
        irs2.light_columns(),
        irs2.sample_times(),
        ref["dead"],
        ref["alpha"],
        ref["beta"],
        low_pass(irs2.ROW * meta.nx),
    )
    after = irs2.without_references(meta)
    return Bound([], frames=partial(work, correction, after), meta=after)
