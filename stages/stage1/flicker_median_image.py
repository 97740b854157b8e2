"""The median image of clean_flicker_noise: what all integrations show, scaled to the brightness of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.extras import Cube
from upramp.stages.core.frames import Crew, Ramps
from upramp.stages.core.kernel import kernel
from upramp.stages.core.statistics import median
from upramp.stages.stage1.draft_rate import Draft
from upramp.stages.stage1.flicker_clip import collect_all, middle_of, sort


@kernel
def medians(data, out):
    """Medians over integrations without NaN: ``data`` [rows, nints, ngroups, columns] float32, ``out``
    [rows, ngroups, columns] float32; NaN where there is nothing.
    """
    rows, nints, ngroups, columns = data.shape
    values = np.empty(nints, np.float32)
    for r in range(rows):
        for g in range(ngroups):
            for c in range(columns):
                n = 0
                for i in range(nints):
                    values[n] = data[r, i, g, c]
                    n += not np.isnan(data[r, i, g, c])
                out[r, g, c] = median(values, n) if n else np.float32(np.nan)


@dataclass(frozen=True)
class MedianImage:
    """The median ramp of an exposure, and the factors of its integrations.

    Attributes
    ----------
    ramp : Cube
        Room for (ngroups, ny, nx), DN.
    factors : ndarray, float32, shape (nints,)
    """

    ramp: Cube
    factors: np.ndarray

    def look(self, draft: Draft, ramps: Ramps, crew: Crew, rates: Cube) -> None:
        """Fill all of it, and ``rates`` (nints, ny, nx) with draft rates, DN/s."""

        def also(data: np.ndarray, y: int, x: int) -> None:
            rows, _, ngroups, columns = data.shape
            found = np.empty((rows, ngroups, columns), np.float32)
            medians(data, found)
            self.ramp.write_rows(y, x, found)

        draft.integrations(ramps, crew, rates, also)
        fluxes = crew.each(lambda i: typical(rates.read(i)), range(len(self.factors)))
        self.factors[:] = np.array(fluxes, np.float32) / np.median(np.array(fluxes, np.float32))

    def read(self, i: int, g: int) -> np.ndarray:
        """Of group ``g`` of integration ``i``: DN, float32 (ny, nx)."""
        return self.ramp.read(g) * self.factors[i]


def typical(rate: np.ndarray) -> np.float32:
    """Median of an image without NaN; NaN if there is nothing."""
    values, spare = np.empty((2, rate.size), np.float32)
    n = collect_all(rate, values)
    sort(values, spare, n)
    return np.float32(middle_of(values, 0, n) if n else np.nan)
