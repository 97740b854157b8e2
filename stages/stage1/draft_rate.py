"""Draft rates: what ramp_fit would give with all defaults, for steps before it that ask where light falls.

Ramps that were put down are read some rows at a time, so never more than a few of them are in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from upramp.stages.core.extras import Cube
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
        rate = np.empty((self.meta.ny, self.meta.nx), np.float32)

        def take(data: np.ndarray, gdq: np.ndarray, pdq: np.ndarray, y: int, x: int) -> None:
            whole, _ = self._fit(data, gdq, pdq, y, x)
            rate[y : y + len(whole), x : x + whole.shape[1]] = whole

        self.pieces(ramps, crew, take)
        return rate

    def integrations(
        self,
        ramps: Ramps,
        crew: Crew,
        rates: Cube,
        also: Callable[[np.ndarray, int, int], None] = lambda data, y, x: None,
    ) -> None:
        """Fill ``rates`` (nints, ny, nx) with the rates of the integrations, DN/s; NaN where there is none.

        ``also(data, y, x)`` gets the ramps, piece by piece: [rows, nints, ngroups, columns].
        """

        def take(data: np.ndarray, gdq: np.ndarray, pdq: np.ndarray, y: int, x: int) -> None:
            rates.write_rows(y, x, self._fit(data, gdq, pdq, y, x)[1])
            also(data, y, x)

        self.pieces(ramps, crew, take)

    def pieces(
        self, ramps: Ramps, crew: Crew, take: Callable[[np.ndarray, np.ndarray, np.ndarray, int, int], None]
    ) -> None:
        """Call ``take(data, gdq, pdq, y, x)`` for pieces of the ramps, side by side.

        ``data`` and ``gdq`` are [rows, nints, ngroups, columns] of all integrations, ``pdq`` [rows, columns].
        """
        meta = self.meta
        one_row = 4 * meta.nx * meta.ngroups * meta.nints
        rows, columns = max(1, PIECE // one_row), min(meta.nx, max(64, PIECE * meta.nx // one_row))

        def one(place: tuple[int, int]) -> None:
            y, x = place
            part = np.s_[y : min(y + rows, meta.ny), x : min(x + columns, meta.nx)]
            shape = (part[0].stop - y, meta.nints, meta.ngroups, part[1].stop - x)
            data, gdq = np.empty(shape, np.float32), np.empty(shape, np.uint8)
            ramps.read_rows(data, gdq, y, 0, x)
            take(data, gdq, ramps.pdq[part].copy(), y, x)

        crew.each(one, [(y, x) for y in range(0, meta.ny, rows) for x in range(0, meta.nx, columns)])

    def _fit(
        self, data: np.ndarray, gdq: np.ndarray, pdq: np.ndarray, y0: int, x0: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rates of exposure (rows, columns) and integrations (rows, nints, columns); ``pdq`` changes."""
        meta = self.meta
        rows, nints, _, columns = data.shape
        jump.flag_bad_gain(pdq, self.gain, y0, x0)
        types = [np.uint32 if name == "dq" else np.float32 for name in ARRAYS]
        each = [np.empty((rows, nints, columns), t) for t in types]
        whole = [np.empty((rows, columns), t) for t in types]
        fit_rows(
            data, gdq, pdq, self.gain, self.noise, 0.0, y0, x0, meta.group_time,
            (meta.nframes + 1) / 2 * meta.frame_time, meta.nframes, True, self.ends, self.ends, self.table,
            np.zeros((0, 0, 0), np.bool_), meta.frame_time, *each, *whole,
        )  # fmt: skip
        return whole[0], each[0]


def draft(context: Context) -> Draft:
    """What makes draft rates of an exposure."""
    meta, references = context.meta, context.references
    gain, noise = references["gain"]["gain"], references["readnoise"]["noise"]
    return Draft(meta, gain, noise, ends(context).copy(), slope_coefficients(meta.ngroups))
