"""Interleaved reference pixels of NIRSpec IRS2 that are now and then bad, and what stands in for them.

Reference columns are read in pairs. For every pair, over all frames of an integration, the mean, the standard
deviation and the mean absolute difference of its two readings are compared with those of the other 63 pairs
of its output: clipped at n sigma (five times at most, around the median), a pair more than n standard
deviations above the mean in any of the three, in any integration, is bad; n is ``ovr_corr_mitigation_ftr``.
A bad column takes the average of the columns of the same place in the blocks before and after, or one of
these, or the one of the other pair of its own block, or 0.

Source: JWST pipeline documentation, refpix step; the clipping was measured.
"""

from __future__ import annotations

import numpy as np

from upramp.stages.core.kernel import kernel
from upramp.stages.stage1.irs2 import BEFORE, BLOCK, BLOCKS, COLUMNS, OUTPUTS, REFERENCES

PAIRS = REFERENCES // 2
CLIPPINGS = 5


@kernel
def look(data, total, pairs):
    """Sums over groups, and what is needed of the pairs of reference columns.

    ``data`` (rows, ngroups, nx) float32, whole blocks of 20 rows; ``total`` (rows, nx) float64 is filled with
    the sums over groups; ``pairs`` (rows / 20, 2, 3) float64 with mean, standard deviation, mean absolute
    difference.
    """
    rows, ngroups, nx = data.shape
    for r in range(rows):
        sums = total[r]
        sums[:] = 0
        for g in range(ngroups):
            line = data[r, g]
            for x in range(nx):
                sums[x] += line[x]
    for b in range(rows // BLOCK):
        for p in range(PAIRS):
            r = b * BLOCK + BEFORE + 2 * p
            level = np.float64(data[r, 0, 0])
            s = squares = apart = 0.0
            for g in range(ngroups):
                one, two = data[r, g], data[r + 1, g]
                for x in range(nx):
                    u, v = np.float64(one[x]) - level, np.float64(two[x]) - level
                    s += u + v
                    squares += u * u + v * v
                    apart += abs(u - v)
            n = 2 * ngroups * nx
            pairs[b, p, 0] = level + s / n
            pairs[b, p, 1] = np.sqrt(max(squares / n - (s / n) ** 2, 0.0))
            pairs[b, p, 2] = 2 * apart / n


def limit(values: np.ndarray, n: float) -> float:
    """Mean plus ``n`` standard deviations of what is left after clipping."""
    kept = values[np.isfinite(values)]
    for _ in range(CLIPPINGS):
        if kept.size == 0:
            return np.inf
        near = kept[np.abs(kept - np.median(kept)) <= n * kept.std()]
        if near.size == kept.size:
            break
        kept = near
    return float(kept.mean() + n * kept.std()) if kept.size else np.inf


def outliers(pairs: np.ndarray, n: float) -> np.ndarray:
    """Which rows of frames are bad reference columns in an integration.

    Parameters
    ----------
    pairs : ndarray, float64, shape (160, 2, 3)
        As `look` gives it for all rows.
    n : float
        How many standard deviations.

    Returns
    -------
    ndarray, bool, shape (3200,)
    """
    found = np.zeros((OUTPUTS, BLOCKS, PAIRS), bool)
    for output, own in enumerate(pairs.reshape(OUTPUTS, BLOCKS, PAIRS, 3)):
        for what in range(3):
            found[output] |= own[..., what] > limit(own[..., what].ravel(), n)
    rows = np.zeros((OUTPUTS * BLOCKS, BLOCK), bool)
    rows[:, BEFORE : BEFORE + REFERENCES] = np.repeat(found.reshape(-1, PAIRS), 2, axis=1)
    return rows.ravel()


def sources(bad: np.ndarray) -> dict[int, tuple[int, ...]]:
    """The rows (two, one, or none) whose average replaces each bad reference row of frames."""
    found: dict[int, tuple[int, ...]] = {}
    for row in np.flatnonzero(bad).tolist():
        within = row % BLOCK - BEFORE
        if not 0 <= within < REFERENCES:
            continue
        output = row // COLUMNS
        beside = [row - BLOCK, row + BLOCK]
        good = [r for r in beside if r >= 0 and r // COLUMNS == output and not bad[r]]
        other = row + PAIRS if within < PAIRS else row - PAIRS
        found[row] = tuple(good) if good or bad[other] else (other,)
    return found


def replace(frame: np.ndarray, found: dict[int, tuple[int, ...]]) -> None:
    """Put the replacements (see `sources`) into a frame (3200, nx), in place."""
    for row, good in found.items():
        if len(good) == 2:
            frame[row] = (frame[good[0]] + frame[good[1]]) / frame.dtype.type(2)
        else:
            frame[row] = frame[good[0]] if good else 0
