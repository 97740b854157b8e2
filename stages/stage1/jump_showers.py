"""Showers of the jump step: faint light of cosmic rays that spreads over many pixels, in the mid infrared.

For every difference d of neighbouring groups (in electrons), m being the median of a pixel's differences in
all integrations,

    s = |d - m| / sqrt(|m| + R^2 / NFRAMES)

and in a long series (``minimum_sigclip_groups`` integrations, whatever ``only_use_ints`` says) m and the
noise are median and standard deviation of this very difference in all integrations, clipped five times at
5 sigma. What is flagged is left out. The mean of s over a ring of pixels about each one shows faint light
that the single pixel hides in noise; outside the frame s is 0. Where the mean is above
``extend_snr_threshold`` and hangs together over ``extend_min_area`` pixels (see `jump_ellipses`), the
region's ellipse, larger by ``extend_ellipse_expand_ratio`` and no larger than ``max_extended_radius``, is a
shower: its pixels are flagged JUMP_DET in this group and all that begin in the time
``time_masked_after_shower``, up to the first that is saturated.

Flags of an integration's showers are taken back from a pixel whose mean difference would change by more than
6 e/s, or that would keep no difference. With less than ten differences in all, nothing is done.

The ring has the inner radius ``extend_inner_radius``; ``extend_outer_radius`` is its width.
``max_shower_amplitude`` has no effect.

Source: JWST pipeline documentation, jump step (parameters, ring). All else was measured: the noise, what is
left out, the ring's width, the limit of 6 e/s in place of ``max_shower_amplitude``, the taking back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, JUMP_DET, REFERENCE_PIXEL, SATURATED
from upramp.stages.core.frames import Crew, Ramps
from upramp.stages.core.kernel import kernel
from upramp.stages.core.step import Context
from upramp.stages.stage1 import jump_ellipses
from upramp.stages.stage1.jump_levels import Levels, is_out

BAD = DO_NOT_USE | SATURATED | JUMP_DET
LEAST_DIFFERENCES = 10
AMPLITUDE = 6.0  # e/s
PIECE = 4 << 20  # bytes of counts that are looked at in one go
AT_ONCE = 6  # groups that one thread takes


@kernel
def electrons(frame, flags, gain):
    """Counts of a frame (ny, nx) to electrons, in place; NaN where `jump_levels.is_out`."""
    for y in range(frame.shape[0]):
        line, bits, factor = frame[y], flags[y], gain[y]
        for x in range(line.size):
            line[x] = np.float32(np.nan) if is_out(bits[x]) else line[x] * factor[x]


@kernel
def ring_widths(inner, width):
    """A ring by rows: half widths of the disk and of the hole, -1 where there is none; how many pixels."""
    outer = inner + width
    reach = int(np.floor(outer))
    widths = np.full((2, 2 * reach + 1), -1)
    pixels = 0
    for dy in range(-reach, reach + 1):
        for dx in range(reach + 1):
            r2 = dy * dy + dx * dx
            if r2 <= outer * outer:
                widths[0, dy + reach] = dx
            if r2 < inner * inner:
                widths[1, dy + reach] = dx
        pixels += 2 * widths[0, dy + reach] + 1
        if widths[1, dy + reach] >= 0:
            pixels -= 2 * widths[1, dy + reach] + 1
    return widths, pixels


@kernel
def accumulate(before, now, flags, bad, median, sigma, sums, missing, margin):
    """Running sums along a row of its signal-to-noise (float64) and of what is missing (int32).

    Element ``margin + x`` has all columns before x; further ones on either side go on level.
    """
    nx = now.size
    total, gone = 0.0, 0
    for x in range(margin + 1):
        sums[x], missing[x] = 0.0, 0
    for x in range(nx):
        s = np.abs(now[x] - before[x] - median[x]) / sigma[x]
        if bad[x] or flags[x] & BAD or not np.isfinite(s):
            gone += 1
        else:
            total += s
        sums[margin + x + 1], missing[margin + x + 1] = total, gone
    for x in range(margin + nx + 1, sums.size):
        sums[x], missing[x] = total, gone


@kernel
def add_segment(sums, missing, half, nx, margin, sign, total, gone):
    """Add to ``total`` and ``gone`` (nx) what lies up to ``half`` columns away in a row, times ``sign``."""
    high, low = sums[margin + half + 1 :], sums[margin - half :]
    above, below = missing[margin + half + 1 :], missing[margin - half :]
    for x in range(nx):
        total[x] += sign * (high[x] - low[x])
        gone[x] += sign * (above[x] - below[x])


@kernel
def find_faint(before, now, flags, bad, median, sigma, widths, pixels, threshold, mask):
    """Set ``mask`` (uint8) where the mean signal-to-noise in a ring is above ``threshold``.

    ``before``, ``now``: electrons of two groups (ny, nx), NaN where unusable; ``flags`` of the later one;
    ``bad`` pixels; ``widths`` and ``pixels`` as from `ring_widths`. Returns how many were set.
    """
    ny, nx = now.shape
    size = widths.shape[1]
    reach = size // 2
    margin = reach + 1
    sums = np.zeros((size, nx + 2 * margin))
    missing = np.zeros((size, nx + 2 * margin), np.int32)
    total, gone = np.empty(nx), np.empty(nx, np.int32)
    found = 0
    for y in range(-reach, ny):
        new = y + reach
        if new < ny:
            accumulate(
                before[new], now[new], flags[new], bad[new], median[new], sigma[new],
                sums[new % size], missing[new % size], margin,
            )  # fmt: skip
        if y < 0:
            continue
        total[:] = 0
        gone[:] = 0
        for k in range(size):
            v = y + k - reach
            if v < 0 or v >= ny:
                continue
            for which, sign in ((0, 1), (1, -1)):
                if widths[which, k] >= 0:
                    slot = v % size
                    add_segment(
                        sums[slot], missing[slot], widths[which, k], nx, margin, np.int32(sign), total, gone
                    )
        own, line = missing[y % size], mask[y]
        for x in range(nx):
            there = own[margin + x + 1] == own[margin + x]
            above = there and gone[x] < pixels and total[x] > threshold * (pixels - gone[x])
            line[x] = above
            found += above
    return found


@kernel
def mean_difference(data, flags, gain):
    """Mean difference (electrons) of neighbouring good groups of a ramp, added up in float32; NaN if none."""
    total, n = np.float32(0), 0
    before = np.float32(np.nan)
    for g in range(data.size):
        now = data[g] * gain
        if flags[g] & BAD:
            now = np.float32(np.nan)
        step = now - before
        if not np.isnan(step):
            total += step
            n += 1
        before = now
    return np.float32(total / np.float32(n)) if n else np.float32(np.nan)


@kernel
def flag_showers(data, gdq, gain, reference, lo, spans, after, limit):
    """Flag the showers of an integration, but not where that would change a pixel's mean too much.

    ``data``, ``gdq`` (rows, ngroups, nx) from row ``lo`` on; ``reference``: pixels (ny, nx) that are never
    flagged; ``spans`` (row, first column, one past the last, group) sorted by rows; ``after``: how many later
    groups are flagged; ``limit`` in electrons. Returns how many pixels have new flags.
    """
    rows, ngroups, nx = gdq.shape
    new = np.empty((ngroups, nx), np.uint8)
    touched = np.empty(nx, np.bool_)
    k = changed = 0
    for r in range(rows):
        while k < len(spans) and spans[k, 0] < lo + r:
            k += 1
        if k == len(spans) or spans[k, 0] > lo + r:
            continue
        new[:] = gdq[r]
        touched[:] = False
        while k < len(spans) and spans[k, 0] == lo + r:
            group = spans[k, 3]
            for x in range(spans[k, 1], spans[k, 2]):
                touched[x] = True
                for g in range(group, min(group + after + 1, ngroups)):
                    if new[g, x] & SATURATED:
                        break
                    new[g, x] |= np.uint8(JUMP_DET)
            k += 1
        for x in range(nx):
            if touched[x] and not reference[lo + r, x]:
                old = mean_difference(data[r, :, x], gdq[r, :, x], gain[lo + r, x])
                mean = mean_difference(data[r, :, x], new[:, x], gain[lo + r, x])
                if np.abs(mean - old) <= limit:
                    gdq[r, :, x] = new[:, x]
                    changed += 1
    return changed


@dataclass(frozen=True)
class _Hunt:
    """What all frames of an exposure are searched with."""

    params: Any
    ramps: Ramps
    levels: Levels
    gain: np.ndarray
    bad: np.ndarray
    widths: np.ndarray
    pixels: int

    def frame(self, i: int, g: int) -> tuple[np.ndarray, np.ndarray]:
        """Electrons and flags of a frame."""
        frame, flags = self.ramps.read(i, g), self.ramps.read_flags(i, g)
        electrons(frame, flags, self.gain)
        return frame, flags

    def groups(self, part: tuple[int, int, int]) -> list[tuple[int, np.ndarray]]:
        """The showers in some groups of an integration: the integration and their spans.

        ``part``: the integration, the first group, and one past the last.
        """
        i, first, last = part
        p, shape = self.params, self.bad.shape
        mask = np.empty(shape, np.uint8)
        before, _ = self.frame(i, first - 1)
        found = []
        for g in range(first, last):
            now, flags = self.frame(i, g)
            median, sigma = self.levels.of(g)
            if find_faint(
                before, now, flags, self.bad, median, sigma, self.widths, self.pixels,
                p.extend_snr_threshold, mask,
            ):  # fmt: skip
                for ellipse in jump_ellipses.find(mask, p.extend_min_area):
                    y, x = ellipse.pixels(p.extend_ellipse_expand_ratio, p.max_extended_radius, shape)
                    found.append((i, spans(y, x, g)))
            before = now
        return found


def spans(y: np.ndarray, x: np.ndarray, g: int) -> np.ndarray:
    """The pixels of an ellipse, sorted by rows, as (row, first column, one past the last, ``g``)."""
    rows, first, number = np.unique(y, return_index=True, return_counts=True)
    return np.stack([rows, x[first], x[first] + number, np.full(len(rows), g)], axis=1)


def _flag(
    ramps: Ramps, gain: np.ndarray, reference: np.ndarray, after: int, limit: float,
    all_spans: dict[int, np.ndarray], part: tuple[int, int, int],
) -> int:  # fmt: skip
    """Flag showers in rows lo to hi of an integration; how many pixels."""
    i, lo, hi = part
    own = all_spans[i]
    own = own[(own[:, 0] >= lo) & (own[:, 0] < hi)]
    if not len(own):
        return 0
    shape = (hi - lo, 1, ramps.meta.ngroups, ramps.meta.nx)
    data, gdq = np.empty(shape, np.float32), np.empty(shape, np.uint8)
    ramps.read_rows(data, gdq, lo, i)
    changed: int = flag_showers(data[:, 0], gdq[:, 0], gain, reference, lo, own, after, np.float32(limit))
    if changed:
        ramps.write_rows(None, gdq, lo, i0=i)
    return changed


def _rows(ramps: Ramps) -> list[tuple[int, int]]:
    """Rows of one integration that fit into a piece."""
    meta = ramps.meta
    step = max(1, PIECE // (4 * meta.ngroups * meta.nx))
    return [(lo, min(lo + step, meta.ny)) for lo in range(0, meta.ny, step)]


def search(context: Context, ramps: Ramps, crew: Crew) -> int:
    """Find and flag the showers; how many there were."""
    meta, p = ramps.meta, context.params
    gain, noise = context.references["gain"]["gain"], context.references["readnoise"]["noise"]
    levels = Levels(ramps, crew, gain, noise, meta.nints >= p.minimum_sigclip_groups)
    if levels.differences < LEAST_DIFFERENCES:
        return 0
    reference = ramps.pdq == REFERENCE_PIXEL  # and nothing else, as measured
    widths, pixels = ring_widths(float(p.extend_inner_radius), float(p.extend_outer_radius))
    hunt = _Hunt(p, ramps, levels, gain, ((ramps.pdq & BAD) != 0) | reference, widths, pixels)
    found: list[tuple[int, np.ndarray]] = []
    for first, last in levels.parts():
        parts = [
            (i, g, min(g + AT_ONCE, last)) for i in range(meta.nints) for g in range(first, last, AT_ONCE)
        ]
        for some in crew.each(hunt.groups, parts):
            found += some
    together = {i: _together([own for k, own in found if k == i]) for i in {i for i, _ in found}}
    after, limit = int(p.time_masked_after_shower // meta.group_time), AMPLITUDE * meta.group_time
    work = partial(_flag, ramps, gain, reference, after, limit, together)
    crew.each(work, [(i, *rows) for i in together for rows in _rows(ramps)])
    return len(found)


def _together(some: Sequence[np.ndarray]) -> np.ndarray:
    """Spans of all showers of an integration, sorted by rows."""
    both = np.concatenate(some)
    return both[np.argsort(both[:, 0], kind="stable")]
