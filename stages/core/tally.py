"""Statistics of every integration, gathered while its slopes go by."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, JUMP_DET, SATURATED
from upramp.stages.core.kernel import kernel

COUNTS = ("n_good", "n_saturated", "n_jump", "n_do_not_use")


@kernel
def add_rows(slopes, flags, counts, sums):
    """Add rows of slopes to the statistics of their integrations.

    ``slopes`` (rows, nints, columns) float32, DN/s; ``flags`` uint32, same shape; ``counts`` (nints, 4)
    int64 in the order of `COUNTS`; ``sums`` (nints, 2) float64: sum and sum of squares of the good pixels'
    slopes.
    """
    rows, nints, columns = slopes.shape
    for r in range(rows):
        for i in range(nints):
            line, bits = slopes[r, i], flags[r, i]
            good, saturated, jumps, bad = 0, 0, 0, 0
            total, squares = 0.0, 0.0
            for c in range(columns):
                f = bits[c]
                v = np.float64(line[c])
                unusable = f & DO_NOT_USE != 0
                saturated += f & SATURATED != 0
                jumps += f & JUMP_DET != 0
                bad += unusable
                if not unusable and not np.isnan(v):
                    good += 1
                    total += v
                    squares += v * v
            counts[i, 0] += good
            counts[i, 1] += saturated
            counts[i, 2] += jumps
            counts[i, 3] += bad
            sums[i, 0] += total
            sums[i, 1] += squares


class Tally:
    """Adds up statistics per integration from rows that come from several threads."""

    def __init__(self, nints: int) -> None:
        self.counts = np.zeros((nints, len(COUNTS)), np.int64)
        self.sums = np.zeros((nints, 2))
        self._lock = threading.Lock()

    def add(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Take rows of ``rateints.sci`` and ``rateints.dq``."""
        counts, sums = np.zeros_like(self.counts), np.zeros_like(self.sums)
        add_rows(outputs["rateints.sci"], outputs["rateints.dq"], counts, sums)
        with self._lock:
            self.counts += counts
            self.sums += sums

    def rows(self) -> list[dict[str, Any]]:
        """For each integration counts of pixels, mean and scatter (DN/s) of the good ones' slopes."""
        found = []
        for counts, (total, squares) in zip(self.counts, self.sums, strict=True):
            good = int(counts[0])
            mean = total / good if good else None
            scatter = float(np.sqrt(max(squares / good - mean**2, 0.0))) if mean is not None else None
            row = {name: int(n) for name, n in zip(COUNTS, counts, strict=True)}
            found.append({**row, "slope_mean": mean, "slope_scatter": scatter})
        return found
