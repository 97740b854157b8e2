"""Draft rates: what ramp_fit would give with all defaults, for steps before it that ask where light falls.

Ramps that were put down are read some rows at a time, so never more than a few of them are in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.frames import Crew, Ramps
from upramp.stages.core.groups import ends
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Context
from upramp.stages.stage1 import jump
from upramp.stages.stage1.ramp_fit import ARRAYS, fit_rows
from upramp.stages.stage1.ramp_segments import slope_coefficients

PIECE = 4 << 20  # bytes of ramps that are fitted in one go

REFERENCES = ("gain", "readnoise")
"""What a step needs for drafts, and how it is prepared."""
PREPARE = {"gain": jump.prepare_gain, "readnoise": jump.prepare_readnoise}


@dataclass(frozen=True)
class Draft:
    """Makes draft rates of one exposure; see `draft`."""

    meta: ExposureMeta
    gain: np.ndarray
    noise: np.ndarray
    ends: np.ndarray
    table: np.ndarray

    def exposure(self, ramps: Ramps, crew: Crew) -> np.ndarray:
        """The rate of the exposure, DN/s, float32 (ny, nx); NaN where there is none."""
        return self._fit(ramps, crew, 0, self.meta.nints)

    def integration(self, ramps: Ramps, crew: Crew, i: int) -> np.ndarray:
        """The rate of integration ``i`` alone."""
        return self._fit(ramps, crew, i, i + 1)

    def _fit(self, ramps: Ramps, crew: Crew, i0: int, i1: int) -> np.ndarray:
        meta = self.meta
        rate = np.empty((meta.ny, meta.nx), np.float32)
        one_row = 4 * meta.nx * meta.ngroups * (i1 - i0)
        rows, columns = max(1, PIECE // one_row), min(meta.nx, max(64, PIECE * meta.nx // one_row))
        pieces = [(y, x) for y in range(0, meta.ny, rows) for x in range(0, meta.nx, columns)]

        def one(piece: tuple[int, int]) -> None:
            y, x = piece
            part = np.s_[y : min(y + rows, meta.ny), x : min(x + columns, meta.nx)]
            shape = (part[0].stop - y, i1 - i0, meta.ngroups, part[1].stop - x)
            data, gdq = np.empty(shape, np.float32), np.empty(shape, np.uint8)
            ramps.read_rows(data, gdq, y, i0, x)
            pdq = ramps.pdq[part].copy()
            jump.flag_bad_gain(pdq, self.gain, y, x)
            rate[part] = self.rows(data, gdq, pdq, y, x, self.ends[i0:i1])

        crew.each(one, pieces)
        return rate

    def rows(
        self, data: np.ndarray, gdq: np.ndarray, pdq: np.ndarray, y0: int, x0: int, kept: np.ndarray
    ) -> np.ndarray:
        """Rates of some rows (rows, columns); arguments as of `ramp_fit.fit_rows`."""
        meta = self.meta
        rows, nints, _, columns = data.shape
        types = [np.uint32 if name == "dq" else np.float32 for name in ARRAYS]
        each = [np.empty((rows, nints, columns), t) for t in types]
        whole = [np.empty((rows, columns), t) for t in types]
        fit_rows(
            data, gdq, pdq, self.gain, self.noise, 0.0, y0, x0, meta.group_time,
            (meta.nframes + 1) / 2 * meta.frame_time, meta.nframes, True, kept, kept, self.table,
            np.zeros((0, 0, 0), np.bool_), meta.frame_time, *each, *whole,
        )  # fmt: skip
        return whole[0]


def draft(context: Context) -> Draft:
    """What makes draft rates of an exposure."""
    meta, references = context.meta, context.references
    gain, noise = references["gain"]["gain"], references["readnoise"]["noise"]
    return Draft(meta, gain, noise, ends(context).copy(), slope_coefficients(meta.ngroups))
