"""Large cosmic-ray events: snowballs of the near infrared, ellipses of the mid infrared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.simulate.effects import Effect
from upramp.simulate.observation import Observation

REACH = 12
"""Lengths of the halo's fall beyond which nothing is added."""

EVENT = np.dtype(
    [("integration", "i4"), ("group", "i4"), ("frame", "i4")]
    + [(name, "f8") for name in ("y", "x", "radius", "ratio", "angle", "core", "halo", "length")]
)
"""One event: when (0-based) and where (may lie outside); the core's major half axis (pixels), minor to major
axis, direction of the major axis (radians from the columns' axis); electrons in the core, those where the
halo begins, and in how many pixels they fall by e."""


@dataclass(frozen=True)
class LargeEvents(Effect):
    """Charge of large events, to be drawn with `snowballs` or `ellipses`; ``events`` of `EVENT`."""

    events: np.ndarray

    def charge(self, i: int, g: int, f: int, electrons: np.ndarray) -> None:
        """See `Effect`."""
        e = self.events
        for one in e[(e["integration"] == i) & (e["group"] == g) & (e["frame"] == f)]:
            add(one, electrons)


def add(event: np.void, electrons: np.ndarray) -> None:
    """Add one event's charge to ``electrons`` (ny, nx)."""
    reach = float(event["radius"] + REACH * event["length"])
    (y0, y1), (x0, x1) = (
        np.clip([int(event[k] - reach), int(event[k] + reach) + 2], 0, n).tolist()
        for k, n in zip("yx", electrons.shape, strict=True)
    )
    y, x = np.mgrid[y0:y1, x0:x1]
    dy, dx = y - event["y"], x - event["x"]
    cos, sin = np.cos(event["angle"]), np.sin(event["angle"])
    away = np.hypot(dx * cos + dy * sin, (dy * cos - dx * sin) / event["ratio"]) - event["radius"]
    halo = event["halo"] * np.exp(-np.maximum(away, 0) / event["length"])
    electrons[y0:y1, x0:x1] += np.where(away <= 0, event["core"], halo).astype(np.float32)


def _draw(o: Observation, number: int, rng: np.random.Generator) -> np.ndarray:
    """Times and places: half of them anywhere, a quarter at the edges, a quarter beside another one."""
    events = np.zeros(number, EVENT)
    events["integration"] = rng.integers(0, o.nints, number)
    events["group"] = rng.integers(0, o.ngroups, number)
    events["frame"] = rng.integers(0, o.pattern.nframes, number)
    events["y"], events["x"] = rng.uniform(0, o.ny, number), rng.uniform(0, o.nx, number)
    events["angle"] = rng.uniform(0, np.pi, number)
    for k in range(0, number, 4):
        axis, end = ("y", o.ny) if rng.random() < 0.5 else ("x", o.nx)
        events[axis][k] = (end if rng.random() < 0.5 else 0) + rng.normal(0, 6)
    for k in range(1, number, 4):
        for name in ("integration", "group"):
            events[name][k] = events[name][k - 1]
        for axis in "yx":
            events[axis][k] = events[axis][k - 1] + rng.normal(0, 12)
    return events


def snowballs(observation: Observation, number: int, seed: int = 1) -> LargeEvents:
    """Round, with a core that saturates and a halo that fades below what is found as a jump."""
    rng = np.random.default_rng([seed, number])
    events = _draw(observation, number, rng)
    events["radius"] = rng.exponential(2.5, number) + 0.5
    events["ratio"] = rng.uniform(0.9, 1, number)
    events["core"] = 5e5
    events["halo"] = rng.uniform(800, 6000, number)
    events["length"] = rng.uniform(1, 4, number)
    return LargeEvents(events)


def ellipses(observation: Observation, number: int, seed: int = 1) -> LargeEvents:
    """As the mid infrared has them: long rather than round, and nothing saturates."""
    rng = np.random.default_rng([seed, number])
    events = _draw(observation, number, rng)
    events["radius"] = rng.exponential(4, number) + 1
    events["ratio"] = rng.uniform(0.25, 1, number)
    events["core"] = events["halo"] = rng.uniform(500, 8000, number)
    events["length"] = rng.uniform(0.5, 2, number)
    return LargeEvents(events)
