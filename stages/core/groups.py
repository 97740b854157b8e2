"""Groups at the ends of ramps that steps leave out for (nearly) all pixels of an integration."""

from __future__ import annotations

import numpy as np

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
