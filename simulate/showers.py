"""Showers: the faint light of cosmic rays that spreads over many pixels of a mid-infrared detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.simulate.effects import Effect
from upramp.simulate.observation import Observation

SHOWER = np.dtype(
    [("integration", "i4"), ("frame", "i4")]
    + [(name, "f8") for name in ("y", "x", "major", "minor", "angle", "electrons")]
)
"""One shower: when (0-based; frames of an integration, those between groups counted) and where (may lie
outside); half axes in pixels, direction of the major one (radians from the columns' axis), electrons in its
middle."""


@dataclass(frozen=True)
class Showers(Effect):
    """Charge of showers: most at once, some more in frames that follow.

    Attributes
    ----------
    events : ndarray of SHOWER
    frames_per_group, frames_between : int
        Of the read pattern: how many frames make a group, and how many are left out between two.
    tail : float
        What follows, in units of what comes at once.
    fall : float
        Frames in which the tail falls by e.
    """

    events: np.ndarray
    frames_per_group: int = 1
    frames_between: int = 0
    tail: float = 0.3
    fall: float = 3.0

    def charge(self, i: int, g: int, f: int, electrons: np.ndarray) -> None:
        """See `Effect`."""
        now = g * (self.frames_per_group + self.frames_between) + f
        before = now - 1 - (self.frames_between if f == 0 and g else 0)
        for one in self.events[self.events["integration"] == i]:
            more = self._grown(now - one["frame"]) - self._grown(before - one["frame"])
            if more > 0:
                _add(one, electrons, more)

    def _grown(self, frames: int) -> float:
        """How much has come some frames after the first that shows it (0)."""
        return 0.0 if frames < 0 else 1 + self.tail * (1 - float(np.exp(-frames / self.fall)))


def _add(shower: np.void, electrons: np.ndarray, factor: float) -> None:
    """Add a shower, times ``factor``, to ``electrons`` (ny, nx): flat, with an edge that is not sharp."""
    reach = 2 * max(shower["major"], shower["minor"])
    (y0, y1), (x0, x1) = (
        np.clip([int(shower[k] - reach), int(shower[k] + reach) + 2], 0, n).tolist()
        for k, n in zip("yx", electrons.shape, strict=True)
    )
    dy, dx = np.mgrid[y0:y1, x0:x1] - np.array([shower["y"], shower["x"]])[:, None, None]
    cos, sin = np.cos(shower["angle"]), np.sin(shower["angle"])
    r2 = ((dx * cos + dy * sin) / shower["major"]) ** 2 + ((dy * cos - dx * sin) / shower["minor"]) ** 2
    electrons[y0:y1, x0:x1] += (factor * shower["electrons"] * np.exp(-(r2**2))).astype(np.float32)


def showers(
    observation: Observation, number: int, electrons: tuple[float, float] = (60.0, 250.0), seed: int = 1
) -> Showers:
    """Draw some: anywhere, some over an edge, round or long, as bright as ``electrons`` (from, to)."""
    o, rng = observation, np.random.default_rng([seed, number])
    events = np.zeros(number, SHOWER)
    events["integration"] = rng.integers(0, o.nints, number)
    events["frame"] = rng.integers(1, o.frames_read, number)
    events["y"], events["x"] = rng.uniform(-4, o.ny + 4, number), rng.uniform(-4, o.nx + 4, number)
    events["minor"] = rng.uniform(6, 16, number)
    events["major"] = events["minor"] * rng.uniform(1, 3, number)
    events["angle"] = rng.uniform(0, np.pi, number)
    events["electrons"] = electrons[0] * (electrons[1] / electrons[0]) ** rng.random(number)
    return Showers(events, o.pattern.nframes, o.pattern.groupgap)
