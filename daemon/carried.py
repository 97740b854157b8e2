"""Windows of persistence that a segment begins with, and those that it leaves for the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from upramp.daemon.events import Before
from upramp.daemon.planning import CalibrationPlan
from upramp.stages.stage1 import persistence
from upramp.store import windows


def to_begin_with(before: Before | None) -> dict[str, Any]:
    """What the step finds in ``Context.shared``.

    Raises
    ------
    Misconfigured
        If the file of the windows is damaged.
    OSError
        If it is gone.
    """
    if before is None or before.path is None:
        return {}
    return {"persistence": windows.read(before.path, before.sha256)}


def keep(work: CalibrationPlan, before: Before | None, shared: Mapping[str, Any]) -> dict[str, Any] | None:
    """Put the windows that are open at the end where the next exposure finds them.

    Returns
    -------
    dict or None
        The row for the ledger, without what all rows of the job have; None where nobody takes them over.

    Raises
    ------
    Retryable
        If the disk refuses.
    """
    turn, open_ones = work.turn, persistence.windows_left(shared)
    if turn is None or open_ones is None:
        return None
    begun = before or Before()
    row: dict[str, Any] = {
        "detector": turn.detector,
        "start_s": turn.start,
        "end_s": turn.end,
        "persistence_time": turn.seconds,
        "windows": len(open_ones),
        "before": begun.segment_id or None,
        "before_sha256": begun.sha256 or None,
        "reason": begun.reason or None,
    }
    if len(open_ones):
        ledger = work.job.config.store_folder.absolute()
        path, digest = windows.write(ledger, turn.detector, work.uncal.segment_id, open_ones)
        row |= {"until_s": float(open_ones.ends.max()), "path": str(path), "sha256": digest}
        row["bytes"] = path.stat().st_size
    return row


def reference_rows(step: str, before: Before | None) -> list[dict[str, Any]]:
    """The windows as something that their step took, by the name of the segment that left them."""
    if step != "persistence" or before is None or before.path is None:
        return []
    return [
        {
            "type": "persistence_windows",
            "name": before.segment_id,
            "path": str(before.path),
            "checksum": f"sha256:{before.sha256}",
            "context": "",
        }
    ]


def notes(step: str, before: Before | None) -> list[str]:
    """What the ledger says of the windows that their step began with, if there is something to say."""
    return [before.reason] if step == "persistence" and before and before.reason else []
