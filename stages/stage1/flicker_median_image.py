"""The median image of clean_flicker_noise: what all integrations show, scaled to the brightness of each.

How bright an integration is tells the median of its draft rate, or, in time series of images, the flux of the
source: the sum of the rate in a circle of 3 pixels around its place. That is the median over the integrations
of its centres of mass, first in a box of 41, then in one of 11 pixels, less the median outside of 5 pixels.

Source: JWST pipeline documentation, clean_flicker_noise and tso_photometry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.extras import Cube
from upramp.stages.core.frames import Crew, Ramps
from upramp.stages.core.kernel import kernel
from upramp.stages.core.statistics import median
from upramp.stages.stage1.draft_rate import Draft
from upramp.stages.stage1.flicker_clip import collect_all, middle_of, sort

RADIUS = 3.0
BOXES, SOURCE = (41, 11), 5.0
"""Where the source is looked for, and how large it is taken to be: pixels."""
STRIPS = 1000  # into which pixels are cut for their share of the circle


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
    source : tuple of float, or None
        Column and row, from 0, at which a source is looked for whose flux tells how bright integrations are.
    """

    ramp: Cube
    factors: np.ndarray
    source: tuple[float, float] | None = None

    def look(self, draft: Draft, ramps: Ramps, crew: Crew, rates: Cube) -> bool:
        """Fill all of it, and ``rates`` (nints, ny, nx) with draft rates, DN/s.

        Returns
        -------
        bool
            False where no factor can be told, because the typical brightness is 0 or not known.
        """

        def also(data: np.ndarray, y: int, x: int) -> None:
            rows, _, ngroups, columns = data.shape
            found = np.empty((rows, ngroups, columns), np.float32)
            medians(data, found)
            self.ramp.write_rows(y, x, found)

        draft.integrations(ramps, crew, rates, also)
        integrations = range(len(self.factors))
        if self.source is None:
            fluxes = crew.each(lambda i: typical(rates.read(i)), integrations)
        else:
            source = self.source
            places = crew.each(lambda i: centre(rates.read(i), *source), integrations)
            x, y = np.median(places, axis=0)
            fluxes = crew.each(lambda i: flux(rates.read(i), x, y), integrations)
        bright = np.array(fluxes, np.float32)
        known = bright[np.isfinite(bright)]
        middle = np.median(known) if known.size else np.float32(0)
        if middle == 0:
            return False
        self.factors[:] = bright / middle
        return True

    def read(self, i: int, g: int) -> np.ndarray:
        """Of group ``g`` of integration ``i``: DN, float32 (ny, nx)."""
        return self.ramp.read(g) * self.factors[i]


def typical(rate: np.ndarray) -> np.float32:
    """Median of an image without NaN; NaN if there is nothing."""
    values, spare = np.empty((2, rate.size), np.float32)
    n = collect_all(rate, values)
    sort(values, spare, n)
    return np.float32(middle_of(values, 0, n) if n else np.nan)


def centre(image: np.ndarray, x: float, y: float) -> tuple[float, float]:
    """Centre of mass of the source near column ``x`` and row ``y``; these themselves where there is none."""
    for box in BOXES:
        cuts = [
            slice(max(int(np.floor(v + 0.5)) - box // 2, 0), max(int(np.floor(v + 0.5)) + box // 2 + 1, 0))
            for v in (y, x)
        ]
        part = image[cuts[0], cuts[1]].astype(np.float64)
        rows, columns = np.arange(part.shape[0])[:, None], np.arange(part.shape[1])[None, :]
        away = np.hypot(columns + cuts[1].start - x, rows + cuts[0].start - y)
        outside = part[(away > SOURCE) & ~np.isnan(part)]
        part = np.nan_to_num(part - (np.median(outside) if outside.size else 0.0))
        total = part.sum()
        if not total > 0:
            break
        column, row = float((part * columns).sum() / total), float((part * rows).sum() / total)
        if not (0 <= row <= part.shape[0] - 1 and 0 <= column <= part.shape[1] - 1):
            break
        x, y = cuts[1].start + column, cuts[0].start + row
    return x, y


def flux(image: np.ndarray, x: float, y: float) -> float:
    """Sum of an image, without NaN, in a circle around column ``x`` and row ``y``."""
    reach = int(np.ceil(RADIUS)) + 1
    cuts = [slice(max(int(v) - reach, 0), max(int(v) + reach + 2, 0)) for v in (y, x)]
    part = image[cuts[0], cuts[1]].astype(np.float64)
    rows, columns = np.arange(part.shape[0])[:, None], np.arange(part.shape[1])[None, :]
    strips = columns[..., None] + cuts[1].start - x + (np.arange(STRIPS) + 0.5) / STRIPS - 0.5
    chord = np.sqrt(np.maximum(RADIUS**2 - strips**2, 0))
    low = rows[..., None] + cuts[0].start - y - 0.5
    share = np.clip(np.minimum(low + 1, chord) - np.maximum(low, -chord), 0, 1).mean(axis=-1)
    return float(np.nansum(part * share))
