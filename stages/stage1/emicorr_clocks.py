"""When a mid-infrared detector reads each pixel, in clocks of 10 microseconds.

The four outputs read four neighbouring columns at once, each ``samples`` times; the rows that are not wanted
are skipped. With N rows of r clocks, group g of integration i, row y and column x are read at

    T = i (G f + R) + g f + r y + samples floor(x / 4),    f = r N + 7 (1024 - N)

G being the groups of an integration and R the clocks of a reset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from upramp.stages.core.kernel import kernel
from upramp.stages.core.step import Window

Clean = Callable[[Window, int, int], None]
"""``clean(window, lo, hi)``: take the waves that were found before off rows lo to hi."""

SECONDS = 1e-5
SPEEDS = {"FAST": "FAST", "FASTR1": "FAST", "SLOW": "SLOW", "SLOWR1": "SLOW"}
OUTPUTS = 4
ROWS, SKIP = 1024, 7  # of the detector; clocks that a row takes which is not read

ROW_CLOCKS = {
    "SLITLESSPRISM": 28,
    "SUB64": 28,
    "SUB128": 44,
    "SUB256": 96,
    "MASK1065": 82,
    "MASK1140": 82,
    "MASK1550": 82,
    "MASKLYOT": 90,
    "BRIGHTSKY": 162,
    "FULL_FAST": 271,
    "FULL_SLOW": 2333,
}
"""Clocks that a row takes; the full frame has two ways to be read."""


@dataclass(frozen=True)
class Clocks:
    """How an exposure is read: clocks of a ``row`` and of a ``reset``, ``samples`` of each pixel."""

    row: int
    reset: int
    samples: int
    ny: int
    ngroups: int

    @property
    def frame(self) -> int:
        """Clocks from a group to the next."""
        return frame_clocks(self.row, self.ny)

    @property
    def integration(self) -> int:
        """Clocks from an integration to the next."""
        return self.ngroups * self.frame + self.reset

    def start(self, i: int, g: int) -> int:
        """The clock of a frame's first pixel."""
        return i * self.integration + g * self.frame

    def pixels(self, ny: int, nx: int) -> np.ndarray:
        """Clocks from the first pixel of a frame, int64 (ny, nx / 4)."""
        return self.row * np.arange(ny)[:, None] + self.samples * np.arange(-(-nx // OUTPUTS))


def frame_clocks(row: int, ny: int) -> int:
    """Clocks that ``ny`` rows of a frame take, with those that are skipped."""
    return ny * row + SKIP * (ROWS - ny)


def case_name(subarray: str, readpatt: str) -> str:
    """What the reference calls an exposure's way of reading."""
    return f"FULL_{speed(readpatt)}" if subarray == "FULL" else subarray


def speed(readpatt: str) -> str:
    """FAST or SLOW; nothing for a pattern that is neither, or averages frames."""
    return SPEEDS.get(readpatt, "")


def period(frequency: float) -> float:
    """Clocks of one wave of a frequency in Hz."""
    return 1 / frequency / SECONDS


@kernel
def spread(noise, line, x0):
    """Subtract what each four columns share from a row of counts (float32), whose first column is ``x0``.

    ``noise`` float64, from the four that column ``x0`` belongs to on.
    """
    first = x0 // OUTPUTS
    for c in range(len(line)):
        line[c] = np.float32(np.float64(line[c]) - noise[(x0 + c) // OUTPUTS - first])
