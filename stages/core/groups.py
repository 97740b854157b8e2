"""Groups at the ends of ramps that steps leave out for (nearly) all pixels of an integration."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE
from upramp.stages.core.step import Context


def ends(context: Context) -> np.ndarray:
    """The groups of each integration that are left: first, and one past the last.

    Leading groups may be kept for some pixels all the same (bright ones); trailing ones are not.

    Returns
    -------
    ndarray, int64, shape (nints, 2)
        May be narrowed in place, by a step that flags whole groups DO_NOT_USE, when it is bound.
    """
    meta = context.meta
    whole = np.tile(np.array([0, meta.ngroups], np.int64), (meta.nints, 1))
    found: np.ndarray = context.shared.setdefault("ends", whole)
    return found


@dataclass
class Leading:
    """How many groups at the beginning are DO_NOT_USE in every pixel and integration.

    ``least``: as far as rows were seen; to be asked once all were.
    """

    least: int
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def see(self, gdq: np.ndarray) -> None:
        """Take note of group flags (rows, nints, ngroups, columns) in which a pixel kept some."""
        n = 0
        while n < self.least and (gdq[:, :, n] & DO_NOT_USE).all():
            n += 1
        with self._lock:
            self.least = min(self.least, n)


def follow_leading(context: Context) -> Leading:
    """For a step that leaves groups out, once it has narrowed `ends`: what it is to keep up with."""
    found = Leading(int(ends(context)[:, 0].min()))
    context.shared["leading"] = found
    return found


def leading(context: Context) -> Leading:
    """What the last step that leaves groups out keeps up with."""
    found: Leading | None = context.shared.get("leading")
    return Leading(0) if found is None else found
