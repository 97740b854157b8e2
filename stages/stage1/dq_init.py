"""dq_init: start the data-quality arrays from the static bad-pixel mask.

The flags of the mask (and of the user's own, if given) join the pixel flags; their
DO_NOT_USE also joins the flags of every group, so that no ramp is fitted there.
Source: JWST pipeline documentation, dq_init step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core import dq
from upramp.stages.core.errors import Misconfigured
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference, native, window
from upramp.stages.core.step import Bound, Context, Station, Step, Window


@dataclass(frozen=True)
class Params:
    """Parameters of dq_init.

    ``user_supplied_dq`` names a FITS file with one integer image of the exposure's own
    size, whose flags are set in addition to the mask's.
    """

    skip: bool = False
    user_supplied_dq: str | None = None


@kernel
def flag(gdq, pdq, mask, y0, x0):
    """Merge ``mask`` into pixel flags, and its DO_NOT_USE into group flags, in place.

    ``gdq`` (rows, nints, ngroups, columns) uint8; ``pdq`` (rows, columns) uint32; ``mask`` (uint32)
    covers the exposure, row ``y0`` and column ``x0`` being element [0, 0].
    """
    rows, nints, ngroups, columns = gdq.shape
    unusable = np.empty(columns, np.uint8)
    for r in range(rows):
        m = mask[y0 + r, x0 : x0 + columns]
        p = pdq[r]
        found = np.uint32(0)
        for c in range(columns):
            p[c] |= m[c]
            found |= m[c]
            unusable[c] = m[c] & dq.DO_NOT_USE
        if not found & dq.DO_NOT_USE:
            continue
        for i in range(nints):
            for g in range(ngroups):
                q = gdq[r, i, g]
                for c in range(columns):
                    q[c] |= unusable[c]


def prepare(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Cut the mask to the exposure."""
    flags = raw.dq()
    return Prepared({"dq": native(flags[window(raw, meta, flags.shape)], np.uint32)})


def prepare_user(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Take the user's flags as they are.

    Raises
    ------
    Misconfigured
        If the file holds no image, or one of another size than the exposure's.
    """
    for name in ("PRIMARY", "DQ", "SCI"):
        if raw.has(name):
            flags = raw.array(name)
            break
    else:
        raise Misconfigured(
            f"user_supplied_dq: {raw.name} holds no image; give a FITS file with one integer image"
        )
    if flags.shape != (meta.ny, meta.nx) or flags.dtype.kind not in "iu":
        raise Misconfigured(
            f"user_supplied_dq: the image in {raw.name} has shape {flags.shape} and type {flags.dtype.name}; "
            f"it must be of integers and of the exposure's own shape {(meta.ny, meta.nx)}"
        )
    return Prepared({"dq": native(flags, np.uint32)})


def bind(context: Context) -> Bound:
    """Make the station for one exposure."""
    mask = context.references["mask"]["dq"]
    if context.params.user_supplied_dq is not None:
        mask = mask | context.references["user_supplied_dq"]["dq"]

    def run(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        flag(w.gdq[s], w.pdq[s], mask, lo, w.x0)

    return Bound([Station(run)])


STEP = Step(
    name="dq_init",
    keyword="S_DQINIT",
    params=Params,
    bind=bind,
    references=("mask", "user_supplied_dq"),
    optional=("user_supplied_dq",),
    prepare={"mask": prepare, "user_supplied_dq": prepare_user},
    pars="pars-dqinitstep",
)
