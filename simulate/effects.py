"""What else happens to an exposure: charge that arrives, and levels that the electronics add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits

from upramp.simulate.cache import dq_hdus
from upramp.simulate.observation import Observation
from upramp.stages.core import dq


@dataclass(frozen=True)
class Truth:
    """A reference file that tells of an effect: its type, extensions, and further keywords.

    ``raw`` is the tree of one that is an ASDF file, in place of extensions.
    """

    reftype: str
    extensions: Sequence[Any] = ()
    keywords: Mapping[str, Any] | None = None
    raw: Mapping[str, Any] | None = None


class Effect:
    """Something that happens to every frame; by itself it does nothing."""

    def charge(self, i: int, g: int, f: int, electrons: np.ndarray) -> None:
        """Add charge (electrons) to what has gathered (ny, nx) by frame f of group g of integration i."""

    def level(self, i: int, g: int, f: int) -> np.ndarray | float:
        """What the electronics add to this frame, DN, shape (ny, nx) or broadcasting to it."""
        return 0.0

    def truth(self, observation: Observation) -> list[Truth]:
        """References of the observation's own window that tell of it."""
        return []


@dataclass(frozen=True)
class ResetDecay(Effect):
    """The level after a reset of a mid-infrared detector decays, other in the first integration.

    ``image`` (ny, nx): DN right after the reset; ``factors``: how strong it is in the integrations, the
    last one standing for all that follow; it falls by e in ``groups``, and is over after ``length``
    groups.
    """

    image: np.ndarray
    factors: tuple[float, ...] = (1.0, 0.6)
    groups: float = 3.0
    length: int = 15

    def _time(self, g: int) -> float:
        last = np.exp(-(self.length - 1) / self.groups)
        return float(max((np.exp(-g / self.groups) - last) / (1 - last), 0.0))

    def level(self, i: int, g: int, f: int) -> np.ndarray | float:
        """See `Effect`."""
        return self.image * np.float32(self.factors[min(i, len(self.factors) - 1)] * self._time(g))

    def truth(self, observation: Observation) -> list[Truth]:
        """The reset reference."""
        planes = [[self.image * f * self._time(g) for g in range(self.length)] for f in self.factors]
        flags = np.zeros(self.image.shape, np.uint32)
        flags.ravel()[:: max(flags.size // 5, 1)] = dq.UNRELIABLE_DARK
        hdus = [
            fits.ImageHDU(np.array(planes, np.float32), name="SCI"),
            *dq_hdus(flags, {"UNRELIABLE_DARK": dq.UNRELIABLE_DARK}),
        ]
        return [Truth("reset", hdus, {"NGROUPS": self.length, "NINTS": len(self.factors)})]


@dataclass(frozen=True)
class SwitchDecay(Effect):
    """Reset switches of a mid-infrared detector settle: the first groups of each integration lie too low.

    ``depth`` (DN) in the first integration and in later ones; it falls by e in ``groups``. ``skips``:
    how many groups the reference has left out of these.
    """

    depth: tuple[float, float] = (60.0, 150.0)
    groups: float = 0.7
    skips: tuple[int, int] = (2, 4)

    def level(self, i: int, g: int, f: int) -> np.ndarray | float:
        """See `Effect`."""
        return float(-self.depth[min(i, 1)] * np.exp(-g / self.groups))

    def truth(self, observation: Observation) -> list[Truth]:
        """The rscd reference: its row, and one of another read pattern."""
        rows = [
            ("ELSEWHERE", observation.pattern_name, 9, 9),
            (observation.subarray, observation.pattern_name, *self.skips),
        ]
        kinds = [("subarray", "S13"), ("readpatt", "S16"), ("group_skip1", ">i4"), ("group_skip", ">i4")]
        return [Truth("rscd", [fits.BinTableHDU(np.array(rows, kinds), name="RSCD_GROUP_SKIP")])]


@dataclass(frozen=True)
class OddGroup(Effect):
    """One group of each integration lies off by ``offset`` DN: the first (0) or the last (-1) of them."""

    group: int
    offset: float
    ngroups: int

    def level(self, i: int, g: int, f: int) -> np.ndarray | float:
        """See `Effect`."""
        return self.offset if g == self.group % self.ngroups else 0.0
