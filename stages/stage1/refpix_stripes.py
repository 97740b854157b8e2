"""Reference pixels of exposures of stripes (`stages.core.stripes`), and superstripes put together.

Whatever the number of outputs, a pixel loses the clipped mean of all flagged reference pixels of its frame
that belong to its amplifier (512 pixels of the detector along the fast axis) and parity; those of other
superstripes are of other frames. Then superstripes are put together to a picture of the detector; of its
lines those that were not read hold NaN, and are flagged REFERENCE_PIXEL. Measured on the observatory's
package.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from upramp.stages.core.dq import REFERENCE_PIXEL
from upramp.stages.core.frames import Crew, Ramps
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Bound, Context, Station, Window
from upramp.stages.core.stripes import lines, together
from upramp.stages.stage1.refpix_border import Strips, Tile

AMPLIFIER = 512  # pixels along the fast axis


def strips(flagged: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Strips (first row, end row, first column, end column) that hold all flagged pixels and do not overlap.

    Rows that are flagged throughout come first, then columns that are so between them. If others are
    flagged, it is the whole frame.
    """
    rows, columns = np.asarray(flagged.all(axis=1)), np.asarray(flagged.all(axis=0))
    if (flagged & ~rows[:, None] & ~columns).any():
        return [(0, flagged.shape[0], 0, flagged.shape[1])]
    found = [(a, b, 0, flagged.shape[1]) for a, b in runs(rows)]
    return found + [(a, b, c, d) for c, d in runs(columns) for a, b in runs(~rows)]


def runs(which: np.ndarray) -> list[tuple[int, int]]:
    """Where a row of bools is true: begins and ends (half open)."""
    bounds = np.flatnonzero(np.diff(np.concatenate([[0], which.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in bounds.reshape(-1, 2)]


@kernel
def pick(frame, source, across, nothing, out):
    """Fill ``out`` with lines of ``frame``: columns if ``across``, else rows.

    ``source`` (int64) tells for each of its lines which one it is; -1 for none, which becomes ``nothing``.
    """
    for y in range(out.shape[0]):
        line = out[y]
        if across:
            found = frame[y]
            for x in range(out.shape[1]):
                line[x] = found[source[x]] if source[x] >= 0 else nothing
        elif source[y] >= 0:
            line[:] = frame[source[y]]
        else:
            line[:] = nothing


@kernel
def subtract(data, levels, row_lanes, column_lanes, y0, x0, i0):
    """Subtract the level of each pixel's lane from rows of ramps in place, in single precision.

    ``data`` (rows, nints, ngroups, columns) float32; ``levels`` (nints, ngroups, lanes) float32; a pixel's
    lane is the sum of what ``row_lanes`` and ``column_lanes`` (int64) have for its row and its column.
    """
    rows, nints, ngroups, columns = data.shape
    for r in range(rows):
        lane = row_lanes[y0 + r]
        own = column_lanes[x0 : x0 + columns]
        for i in range(nints):
            for g in range(ngroups):
                line, level = data[r, i, g], levels[i0 + i, g]
                for c in range(columns):
                    line[c] -= level[lane + own[c]]


class StripedPixels(Strips):
    """Gathers the reference pixels of all stripes and derives the corrections.

    Attributes
    ----------
    levels : ndarray, float32, shape (nints, ngroups, lanes)
        What a lane loses: lanes are superstripes, in them amplifiers, in them parities.
    rows, columns : ndarray, int64
        The shares of an exposure's rows and columns in a pixel's lane.
    """

    def __init__(self, context: Context, flagged: list[Tile]) -> None:
        meta, params = context.meta, context.params
        super().__init__(meta, flagged)
        self.limit = float(params.siglimit)
        fast_is_x = abs(meta.fastaxis) == 1
        start, length = (meta.xstart, meta.nx) if fast_is_x else (meta.ystart, meta.ny)
        parities = 2 if params.odd_even_columns else 1
        place = np.arange(length) + start - 1
        amplifier = place // AMPLIFIER
        amplifier -= amplifier.min()
        along = amplifier * parities + place % parities
        own = (int(amplifier.max()) + 1) * parities
        across = lines(meta).region * own
        self.rows: np.ndarray = across if fast_is_x else along
        self.columns: np.ndarray = along if fast_is_x else across
        self.levels = np.zeros((meta.nints, meta.ngroups, int(across.max()) + own), np.float32)

    def finish(self) -> None:
        """Derive the corrections of the integrations that were seen."""
        if not self.strips:
            return
        lanes = self.levels.shape[2]
        found = self.by_lane(lambda rows, columns: self.rows[rows] + self.columns[columns], lanes)
        n = self.strips[0].values.shape[0]
        self.levels[self.first : self.first + n] = found.means(self.limit).reshape(n, -1, lanes)
        for t in self.strips:
            t.values = t.values[:0]


def put_together(meta: ExposureMeta) -> tuple[ExposureMeta, Callable[[Ramps, Crew], None]]:
    """The exposure with its superstripes put together, and the work on frames that does it."""
    new, to, of = together(meta)
    across = abs(meta.slowaxis) == 1
    source = np.full(new.nx if across else new.ny, -1)
    source[to] = of

    def assemble(ramps: Ramps, crew: Crew) -> None:
        def one(place: tuple[int, int]) -> None:
            frame = np.empty((new.ny, new.nx), np.float32)
            pick(ramps.read(*place), source, across, np.float32(np.nan), frame)
            flags = np.empty((new.ny, new.nx), np.uint8)
            pick(ramps.read_flags(*place), source, across, np.uint8(0), flags)
            ramps.write(*place, frame)
            ramps.write_flags(*place, flags)

        crew.each(one, itertools.product(range(meta.nints), range(meta.ngroups)))
        pdq = np.empty((new.ny, new.nx), np.uint32)
        pick(ramps.pdq, source, across, np.uint32(REFERENCE_PIXEL), pdq)
        ramps.pdq[: new.ny, : new.nx] = pdq
        ramps.cut(new)

    return new, assemble


def bind(context: Context) -> Bound:
    """Make the survey of the reference pixels, the station that subtracts, and the work on superstripes."""
    meta = context.meta
    mask = context.references.get("mask")
    flagged = [] if mask is None else [Tile(slice(a, b), slice(c, d)) for a, b, c, d in mask.info["strips"]]
    pixels = StripedPixels(context, flagged)

    def run(w: Window, lo: int, hi: int) -> None:
        subtract(w.data[w.rows(lo, hi)], pixels.levels, pixels.rows, pixels.columns, lo, w.x0, w.i0)

    if meta.stripes is None or meta.stripes.regions == 1:
        return Bound([Station(run)], survey=pixels)
    new, assemble = put_together(meta)
    return Bound([Station(run)], survey=pixels, frames=assemble, meta=new)
