"""Rows for the ledger: what is written down of files, segments and exposures. Pure.

Version: content of a segment that was not seen before gets the next number, content seen before its old one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from upramp.daemon.events import Failure, Identity, Work
from upramp.stages.core.errors import Unprocessable
from upramp.store.naming import association_id, is_association, parse_name

Row = dict[str, Any]


def names_of(path: Path) -> tuple[str, str]:
    """Segment and exposure of a file by its name alone, for files that cannot be read."""
    try:
        if is_association(path.name):
            return (association_id(path.name),) * 2
        name = parse_name(path.name)
    except Unprocessable:
        shown = ascii(path.name)[1:-1]
        return shown, shown
    return name.segment_id, name.exposure_id


def input_row(identity: Identity, sha256: str) -> Row:
    """The columns that say which file it was."""
    return {
        "path": str(identity.path),
        "bytes": identity.size,
        "mtime_ns": identity.mtime_ns,
        "sha256": sha256,
    }


def header_row(uncal: Any) -> Row:
    """The columns that say what the file's header promises."""
    meta = uncal.meta
    header: Mapping[str, Any] = getattr(uncal, "header", None) or {}
    mjd = {"start_mjd": header.get("EXPSTART"), "end_mjd": header.get("EXPEND")}
    return {
        "segment": meta.segment,
        "segments": meta.segments,
        "int_start": meta.int_start,
        "int_end": meta.int_end or meta.int_start + meta.nints - 1,
        "nints": meta.nints,
        "nints_total": meta.nints_total,
        "ngroups": meta.ngroups,
        "nx": meta.nx,
        "ny": meta.ny,
        "instrument": meta.instrument,
        "detector": meta.detector,
        "exp_type": meta.exp_type,
        "subarray": meta.subarray,
        "readpatt": meta.readpatt,
        **{name: float(value) for name, value in mjd.items() if isinstance(value, int | float)},
    }


def calibrated_row(work: Work, version: int, products: Sequence[Mapping[str, Any]]) -> Row:
    """A segment that was calibrated.

    Its key is that of its products: where a worker planned anew, references may have changed since the
    work was queued.
    """
    return {
        "segment_id": work.segment_id,
        "exposure_id": work.exposure_id,
        "version": version,
        "state": "calibrated",
        "attempts": work.tries.attempts + 1,
        "key": products[0]["key"] if products else work.fingerprint,
        **input_row(work.identity, work.sha256),
        **header_row(work.plan.uncal),
    }


def failed_row(
    identity: Identity,
    sha256: str,
    work: Work | None,
    version: int,
    failure: Failure,
    attempts: int,
    state: str,
) -> Row:
    """A file that failed (``state`` failed) or that will be tried again soon (waiting)."""
    segment_id, exposure_id = (work.segment_id, work.exposure_id) if work else names_of(identity.path)
    return {
        "segment_id": segment_id,
        "exposure_id": exposure_id,
        "version": version,
        "state": state,
        "reason": failure.reason,
        "remedy": failure.remedy,
        "failure": failure.kind,
        "attempts": attempts,
        "key": work.fingerprint if work else None,
        **input_row(identity, sha256),
        **(header_row(work.plan.uncal) if work else {}),
    }


def plain(row: Mapping[str, Any]) -> Row:
    """A row as it can be written anew: without its numbers."""
    return {name: value for name, value in row.items() if name not in ("commit_no", "row_no")}


def retired_row(old: Mapping[str, Any], by: Identity, at: datetime, run_id: str) -> Row:
    """An old version of a segment, once a newer one stands."""
    what = "the file changed" if old["path"] == str(by.path) else f"a newer delivery came as {by.path}"
    return {**plain(old), "state": "superseded", "reason": what, "remedy": None, "at": at, "run_id": run_id}


@dataclass(frozen=True)
class Tally:
    """How much of an exposure is there.

    ``expected`` segments and ``promised`` integrations are what headers say; ``ranges`` are (first, last)
    of the calibrated segments, in order.
    """

    members: Sequence[Mapping[str, Any]]
    calibrated: Sequence[Mapping[str, Any]]
    expected: int
    promised: int

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """First and last integration of the segments that are in, ordered."""
        return sorted((row["int_start"], row["int_end"]) for row in self.calibrated)

    @property
    def integrations(self) -> int:
        """Integrations in the segments that are in."""
        return sum(last - first + 1 for first, last in self.ranges)

    @property
    def contiguous(self) -> bool:
        """Whether each range begins where the one before ends."""
        ranges = self.ranges
        return all(b[0] == a[1] + 1 for a, b in itertools.pairwise(ranges))


def tally(members: Iterable[Mapping[str, Any]], promised: Mapping[str, Any] | None = None) -> Tally:
    """Count the present versions of an exposure's segments.

    ``promised`` is the exposure's last row: what it expects holds where no header can be read any more.
    """
    rows = list(members)
    return Tally(
        members=rows,
        calibrated=sorted((r for r in rows if r["state"] == "calibrated"), key=lambda r: r["segment"]),
        expected=max((r.get("segments") or 0 for r in rows), default=0)
        or (promised["segments_expected"] if promised else 0),
        promised=max((r.get("nints_total") or 0 for r in rows), default=0)
        or ((promised["integrations_expected"] or 0) if promised else 0),
    )


def verdict(t: Tally) -> tuple[str, str | None]:
    """State of an exposure, and what is missing or contradicts itself."""
    numbers = [row["segment"] for row in t.calibrated]
    here = {row.get("segment") for row in t.members if row["state"] == "calibrated"}
    missing = [n for n in range(1, t.expected + 1) if n not in here]
    failed = [row["segment_id"] for row in t.members if row["state"] in ("failed", "waiting")]
    if missing or failed:
        parts = [f"waits for segment {_listed(missing)} of {t.expected}"] if missing else []
        parts += ["failed or to be tried again: " + _listed(failed)] if failed else []
        return "partial", "; ".join(parts)
    if any(row["segments"] != t.expected for row in t.calibrated) or len(numbers) != len(set(numbers)):
        return (
            "failed",
            "its segments contradict each other in EXSEGNUM or EXSEGTOT; deliver them anew together",
        )
    ranges = t.ranges
    if not t.contiguous or ranges[0][0] != 1 or ranges[-1][1] != t.promised:
        shown = ", ".join(f"{first}-{last}" for first, last in ranges)
        return "failed", (
            f"all {t.expected} segments are in, but their integrations {shown} do not make up 1-{t.promised} "
            "[INTSTART, INTEND, NINTS]; deliver the wrong segment anew"
        )
    return "completed", None


def _listed(items: Sequence[int | str], limit: int = 8) -> str:
    shown = ", ".join(map(str, items[:limit]))
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"


def exposure_row(exposure_id: str, t: Tally, products: Sequence[str], at: datetime) -> Row:
    """An exposure as it stands now."""
    state, reason = verdict(t)
    return {
        "exposure_id": exposure_id,
        "state": state,
        "reason": reason,
        "at": at,
        "segments_in": len(t.calibrated),
        "segments_expected": t.expected,
        "integrations_in": t.integrations,
        "integrations_expected": t.promised,
        "contiguous": t.contiguous,
        "completed_at": at if state == "completed" else None,
        "input_sha256": [row["sha256"] for row in t.calibrated],
        "products": sorted(products) if state == "completed" else [],
    }


def same_exposure(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> bool:
    """Whether two rows of an exposure say the same, times apart."""
    ignored = {"at", "completed_at", "run_id", "commit_no", "row_no"}
    return old is not None and all(old.get(k) == v for k, v in new.items() if k not in ignored)
