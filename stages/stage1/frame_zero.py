"""Frame zero: the first frame of each integration, which NIRCam may send beside groups of several frames.

It is an exposure of its own, one group of one frame to an integration, and goes through those steps that the
observatory's package has for it (dq_init for the reference pixels, saturation, superbias, refpix,
linearity). Saturated pixels, and those at the converter's floor, become 0, which says that they are not to be
used; a pixel that happens to be 0 after superbias stays so, too. ramp_fit takes the rest where nothing else
of a ramp can be used, and ramps that are kept have it beside them.

Source: JWST pipeline documentation, calwebb_detector1 and the steps; what each does was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from upramp.stages.core import runner
from upramp.stages.core.dq import AD_FLOOR, DO_NOT_USE, JUMP_DET, SATURATED
from upramp.stages.core.frames import Ramps
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.plan import BoundStep
from upramp.stages.core.step import Bound, Station, Window

STEPS = ("dq_init", "saturation", "superbias", "refpix", "linearity")
"""Steps that frame zero goes through."""

BEFORE_BLANK = STEPS[:3]
"""Those before which, or in which, nothing is 0 yet that is not to be used."""

UNUSABLE = SATURATED | DO_NOT_USE

SHARED: Mapping[str, Any] = {"first_frame": False}
"""What its steps share to begin with: it comes after the file's other frames (see `refpix_border`)."""


class _Nowhere:
    """A sink for nothing."""

    def emit(self, y0: int, x0: int, outputs: Mapping[str, np.ndarray]) -> None:
        """There are no products."""


def exposure(meta: ExposureMeta) -> ExposureMeta:
    """Frame zero of all integrations as an exposure: one group of one frame."""
    return replace(
        meta, ngroups=1, nframes=1, groupgap=0, frame_divisor=None, group_time=meta.frame_time,
        has_zeroframe=False,
    )  # fmt: skip


def correct(
    source: runner.Source,
    meta: ExposureMeta,
    steps: Sequence[BoundStep],
    *,
    scratch: Callable[[ExposureMeta], Ramps],
    **options: Any,
) -> Ramps:
    """Send frame zero through its steps; the result has 0 where it is not to be used.

    Parameters
    ----------
    source : Source
        Gives frame zero as ramps of one group.
    meta : ExposureMeta
        `exposure`.
    steps : sequence of BoundStep
        Bound for it, in the order of the pipeline.
    scratch : callable
        Makes room for the result; to be closed by the caller.
    options
        For the runner.
    """
    last = meta
    for s in steps:
        last = s.bound.meta or last
    kept = scratch(last)

    def blank(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        w.data[s][w.gdq[s] & (SATURATED | AD_FLOOR) != 0] = 0
        w.gdq[s][w.data[s] == 0] |= SATURATED

    def keep(w: Window, lo: int, hi: int) -> None:
        blank(w, lo, hi)
        runner.put_down(kept)(w, lo, hi)

    # refpix takes a saturated reference pixel for one that is 0
    early = [s for s in steps if s.name in BEFORE_BLANK]
    late = [s for s in steps if s.name not in BEFORE_BLANK]
    try:
        chain = [
            *early,
            BoundStep("frame zero", Bound([Station(blank)])),
            *late,
            BoundStep("frame zero", Bound([Station(keep)])),
        ]
        runner.run(source, _Nowhere(), meta, chain, scratch=scratch, **options)
    except BaseException:
        kept.close()
        raise
    return kept


@kernel
def stand_in(zero, data, gdq, used):
    """Put frame zero in place of the first group of ramps that have nothing else, in place.

    ``zero`` (rows, nints, 1, columns) float32; ``data`` and ``gdq`` (rows, nints, ngroups, columns);
    ``used`` (rows, nints, columns) bool gets where. Flags of other groups stay.
    """
    rows, nints, ngroups, columns = data.shape
    for r in range(rows):
        for i in range(nints):
            for c in range(columns):
                value = zero[r, i, 0, c]
                lost = value != 0 and not np.isnan(value)
                for g in range(ngroups):
                    lost &= gdq[r, i, g, c] & UNUSABLE != 0
                used[r, i, c] = lost
                if lost:
                    data[r, i, 0, c] = value
                    gdq[r, i, 0, c] &= ~np.uint8(UNUSABLE | JUMP_DET)
