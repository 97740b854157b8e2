"""rscd: leave out the groups in which the reset switches of mid-infrared detectors still settle.

The reference says by read pattern and subarray how many groups n of the first integration, and how many of
each later one, are flagged DO_NOT_USE. Of NGROUPS groups at least three are left; with five or fewer, n is 1.
Where a pixel saturates so early that groups would be lost which it needs, with s the index (from 0) of its
first saturated group,

    0 < s < n + 2:   only max(s - 2, 0) groups are flagged, and the pixel is FLUX_ESTIMATED.

Source: JWST pipeline documentation, rscd step; the rule for s was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, FLUX_ESTIMATED, SATURATED
from upramp.stages.core.errors import NotApplicable
from upramp.stages.core.groups import ends, follow_leading
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference
from upramp.stages.core.step import Bound, Context, Station, Step, Window

LEFT = 3  # groups that are left in any case
FEW = 5  # groups up to which one is left out


@dataclass(frozen=True)
class Params:
    """Parameters of rscd."""

    skip: bool = False


@kernel
def flag(gdq, pdq, skips, seen):
    """Flag the first groups of rows of ramps in place.

    ``gdq`` (rows, nints, ngroups, columns) uint8; ``pdq`` (rows, columns) uint32. ``skips`` (nints, 2): how
    many groups an integration leaves out, and whether it is the exposure's first (0) or a later one (1). In
    ``seen`` (first or later, 2, rows, columns; bool) is noted whether a pixel's first group was kept, and
    whether fewer groups were flagged.
    """
    rows, nints, ngroups, columns = gdq.shape
    for r in range(rows):
        p = pdq[r]
        for i in range(nints):
            n = skips[i, 0]
            kept, fewer = seen[skips[i, 1], 0, r], seen[skips[i, 1], 1, r]
            flags = gdq[r, i]
            for c in range(columns):
                k = n
                if n > 0 and flags[0, c] & SATURATED == 0:
                    s = 1
                    while s < min(n + 2, ngroups) and flags[s, c] & SATURATED == 0:
                        s += 1
                    if s < n + 2 and s < ngroups:
                        k = max(s - 2, 0)
                        p[c] |= np.uint32(FLUX_ESTIMATED)
                        fewer[c] = True
                if k == 0:
                    kept[c] = True
                for g in range(k):
                    flags[g, c] |= np.uint8(DO_NOT_USE)


def left_out(tabled: int, ngroups: int) -> int:
    """How many groups of an integration are left out, where the reference says ``tabled``."""
    return max(min(1 if ngroups <= FEW else tabled, ngroups - LEFT), 0)


def prepare(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Find the row of this subarray and read pattern.

    Raises
    ------
    NotApplicable
        If there is none.
    """
    table = raw.table("RSCD_GROUP_SKIP")
    names = {name.lower(): name for name in table.dtype.names or ()}
    for row in table:
        where = tuple(str(row[names[key]]).strip() for key in ("subarray", "readpatt"))
        if where == (meta.subarray, meta.readpatt):
            first, later = (int(row[names[key]]) for key in ("group_skip1", "group_skip"))
            return Prepared({}, {"first": first, "later": later})
    raise NotApplicable(f"{raw.name} has no row for {meta.subarray} in {meta.readpatt}")


def skip_if(meta: ExposureMeta, params: Params) -> str | None:
    """Three groups are the least."""
    if meta.ngroups < LEFT:
        return f"{meta.ngroups} groups; at least {LEFT} are needed"
    return None


def bind(context: Context) -> Bound:
    """Make the station for one exposure; what it leaves out and counts goes into the header."""
    meta, info = context.meta, context.references["rscd"].info
    first, later = left_out(info["first"], meta.ngroups), left_out(info["later"], meta.ngroups)
    is_later = (np.arange(meta.int_start, meta.int_start + meta.nints) > 1).astype(np.int64)
    skips = np.stack([np.where(is_later == 1, later, first), is_later], axis=1)
    left = ends(context)[:, 0]
    np.maximum(left, skips[:, 0], out=left)
    leading = follow_leading(context)
    header = context.shared.setdefault("header", {})
    counted = context.shared.setdefault("counted", {})
    for k, skipped in ((0, first), (1, later)):
        if (is_later == k).any():
            header[f"INT{k + 1}SKIP"] = skipped
            counted |= {
                f"INT{k + 1}UGP1": f"rscd.kept_int{k + 1}",
                f"INT{k + 1}BORS": f"rscd.fewer_int{k + 1}",
            }

    def run(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        seen = np.zeros((2, 2, hi - lo, w.pdq.shape[1]), np.bool_)
        flag(w.gdq[s], w.pdq[s], skips[w.i0 : w.i0 + w.data.shape[1]], seen)
        if seen.any():
            leading.see(w.gdq[s])
        r0, r1, c0, c1 = w.core(lo, hi)
        for k in range(2):
            for j, what in enumerate(("kept", "fewer")):
                w.counters[f"rscd.{what}_int{k + 1}"] += int(seen[k, j, r0:r1, c0:c1].sum())

    return Bound([Station(run)])


STEP = Step(
    name="rscd",
    keyword="S_RSCD",
    params=Params,
    bind=bind,
    references=("rscd",),
    prepare={"rscd": prepare},
    skip_if=skip_if,
    pars="pars-rscdstep",
)
