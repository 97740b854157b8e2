"""What people are shown: closing summary, status, plans, provenance. Nothing is decided here."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from upramp.daemon.events import FileFailed
from upramp.daemon.jobs import printable
from upramp.daemon.oneshot import Summary
from upramp.store.ledger import Ledger
from upramp.store.naming import is_association

SHOWN = 12
"""Lines of a list before it is cut."""


def console(stderr: bool = False, markup: bool = False) -> Console:
    """A console that never cuts or wraps names when its output goes to a file or a pipe.

    Without ``markup``, brackets in file names stay what they are.
    """
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, markup=markup, width=None if terminal else 400)


def as_json(value: Any) -> str:
    """Facts for machines: times as ISO 8601, paths as text."""
    return json.dumps(value, default=_jsonable, indent=2, ensure_ascii=False)


def _jsonable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def _lines(out: Console, rows: Sequence[str], style: str | None = None) -> None:
    for row in rows[:SHOWN]:
        out.print("  " + row, style=style, soft_wrap=True)
    if len(rows) > SHOWN:
        out.print(f"  ... and {len(rows) - SHOWN} more", soft_wrap=True)


def _files(n: int) -> str:
    return f"{n} file" if n == 1 else f"{n} files"


# The closing summary of a run


def print_summary(out: Console, summary: Summary, ledger: Path) -> None:
    """What was made, skipped and failed, and why."""
    if summary.made:
        out.print(
            f"made {len(summary.products)} products of {_files(len(summary.made))} "
            f"in {summary.seconds:.1f} s, peak memory {summary.megabytes:.0f} MB",
            style="green",
            soft_wrap=True,
        )
        _lines(out, _last_first(summary))
    if summary.skipped:
        out.print(f"skipped {_files(len(summary.skipped))}", soft_wrap=True)
        _lines(out, [_skipped(s) for s in summary.skipped])
    if summary.failed:
        out.print(f"failed {_files(len(summary.failed))}", style="red", soft_wrap=True)
        for event in summary.failed[:SHOWN]:
            why = event.failure if isinstance(event, FileFailed) else event
            out.print(f"  {printable(event.path.name)}: {why.reason}", soft_wrap=True)
            out.print(f"    {why.remedy}", style="dim", soft_wrap=True)
        if len(summary.failed) > SHOWN:
            out.print(f"  ... and {len(summary.failed) - SHOWN} more: upramp status", soft_wrap=True)
    if summary.unsupported:
        out.print("asked for by parameters, and not in this version", style="yellow")
        _lines(out, [f"{step}: {notice}" for step, notice in summary.unsupported])
    if summary.incomplete:
        out.print("combined without some members", style="yellow")
        _lines(out, [f"{event.product}: {event.without}" for event in summary.incomplete])
    told = {str(event.path) for event in summary.failed}
    if waiting := [row for row in summary.waiting if row["file"] not in told]:
        out.print("not combined", style="yellow")
        _lines(out, [_association(row) for row in waiting])
    if summary.outdated:
        out.print(
            f"to be given again: {_files(len(summary.outdated))}, calibrated before with other windows of "
            "persistence than those that this run left",
            style="yellow",
            soft_wrap=True,
        )
        _lines(out, [printable(str(event.path)) for event in summary.outdated])
    for exposure in summary.contradicted:
        out.print(f"exposure {exposure.exposure_id}: {exposure.reason}", style="red", soft_wrap=True)
    if summary.interrupted:
        out.print(
            f"interrupted with {_files(len(summary.left))} to do; the same command goes on", style="yellow"
        )
    out.print(f"ledger {ledger}", style="dim", soft_wrap=True)


def _last_first(summary: Summary) -> list[str]:
    """Paths of products, those of associations before others and mosaics before their exposures."""
    made = [(is_association(s.path.name), p) for s in summary.made for p in s.products]
    return [str(p["path"]) for _, p in sorted(made, key=lambda one: (not one[0], one[1]["kind"] == "crf"))]


def _skipped(event: Any) -> str:
    remedy = f" ({event.remedy})" if event.remedy else ""
    return f"{printable(event.path.name)}: {event.reason}{remedy}"


# upramp status


def status(root: Path, live: Path, last: int = SHOWN) -> dict[str, Any]:
    """The ledger's present state, and what a running service has in hand.

    Raises
    ------
    Misconfigured
        If there is no ledger.
    """
    with Ledger.open(root) as ledger:
        state = ledger.state
        products = sorted(state.products(), key=lambda row: row["created"])
        runs = state.runs()
        return {
            "ledger": str(root),
            "service": _alive(live),
            "counts": _counts(state.segments()),
            "exposures": sorted(state.exposures(), key=lambda row: row["at"]),
            "associations": sorted(
                (row for row in state.associations() if row["state"] != "superseded"),
                key=lambda row: (row["product"], row["file"]),
            ),
            "waiting": [row for row in state.segments() if row["state"] in ("waiting", "arrived")],
            "failed": [row for row in state.segments() if row["state"] == "failed"],
            "products": products[-last:],
            "products_total": len(products),
            "last_run": runs[-1] if runs else None,
        }


def _counts(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["state"]] = counts.get(row["state"], 0) + 1
    return counts


def _alive(live: Path) -> dict[str, Any] | None:
    """What the service says it has in hand, if it lives."""
    try:
        facts = json.loads(live.read_text())
        os.kill(int(facts["pid"]), 0)
    except PermissionError:
        return facts
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return facts


def print_status(out: Console, facts: Mapping[str, Any]) -> None:
    """Exposures with what they wait for, failures with remedies, the last products."""
    service = facts["service"]
    if service:
        ago = max(time.time() - service["at"], 0.0)
        out.print(f"service runs as process {service['pid']} (heard of {ago:.0f} s ago)", style="green")
        for what in ("running", "queued", "not_whole"):
            if service[what]:
                out.print(f"{what.replace('_', ' ')}: {len(service[what])}")
                _lines(out, [Path(name).name for name in service[what]])
        if held := service.get("held"):
            out.print(f"queued until it is their turn on their detector, for persistence: {len(held)}")
            _lines(out, [f"{one['segment_id']} {_held(one)}" for one in held])
        if service["unread"]:
            out.print(f"to be read in: {service['unread']}")
    else:
        out.print("no service runs on this ledger")
    open_ones = [e for e in facts["exposures"] if e["state"] != "completed"]
    done = len(facts["exposures"]) - len(open_ones)
    out.print(f"exposures: {done} complete, {len(open_ones)} not")
    _lines(
        out,
        [
            f"{e['exposure_id']}: {e['segments_in']} of {e['segments_expected']} segments; {e['reason']}"
            for e in open_ones
        ],
    )
    if associations := facts["associations"]:
        done = sum(row["state"] == "built" for row in associations)
        out.print(f"associations: {done} combined, {len(associations) - done} not")
        open_first = sorted(associations, key=lambda row: row["state"] == "built")
        _lines(out, [_association(row) for row in open_first])
    for what, style in (("waiting", "yellow"), ("failed", "red")):
        if facts[what]:
            out.print(f"{what}: {_files(len(facts[what]))}", style=style)
        for row in facts[what][-SHOWN:]:
            out.print(f"  {row['segment_id']} (try {row['attempts']}): {row['reason']}", soft_wrap=True)
            if row["remedy"]:
                out.print(f"    {row['remedy']}", style="dim", soft_wrap=True)
    out.print(f"products: {facts['products_total']}, the last")
    _lines(out, [f"{row['created']:%Y-%m-%d %H:%M:%S} {row['path']}" for row in facts["products"]])
    out.print(f"ledger {facts['ledger']}", style="dim", soft_wrap=True)


def _association(row: Mapping[str, Any]) -> str:
    """What an association is, and what it waits for."""
    named = row["product"] if not row["requested"] else f"{row['product']} ({printable(row['file'])})"
    state = row["state"] if row["state"] != "built" else f"built, {row['how']}"
    remedy = f"; {row['remedy']}" if row["remedy"] else ""
    return f"{named}: {state}: {row['reason']}{remedy}"


def _held(one: Mapping[str, Any]) -> str:
    """What a segment waits for."""
    if one["behind"]:
        return f"waits for {printable(Path(one['behind']).name)}"
    if one["until"]:
        return f"waits {max(one['until'] - time.time(), 0.0):.0f} s more for what may come before it"
    return "waits until the times of all files are known"


# upramp explain


def explained(plan: Any) -> dict[str, Any]:
    """A plan as plain facts."""
    uncal = plan.uncal
    return {
        "segment_id": uncal.segment_id,
        "exposure_id": uncal.exposure_id,
        "exp_type": uncal.meta.exp_type,
        "instrument": uncal.meta.instrument,
        "detector": uncal.meta.detector,
        "segment": uncal.meta.segment,
        "segments": uncal.meta.segments,
        "shape": [uncal.meta.nints, uncal.meta.ngroups, uncal.meta.ny, uncal.meta.nx],
        "members": [str(file.path) for file in getattr(uncal, "members", ())],
        "crds_context": plan.context,
        "crds_version": plan.crds_version,
        "steps": [
            {
                "step": step.name,
                "state": step.state,
                "reason": step.reason,
                "parameters": [
                    {"name": name, "value": value, "source": source}
                    for name, (value, source) in step.parameters.items()
                ],
                "references": list(step.references),
                "notices": list(step.notices),
            }
            for step in plan.steps
        ],
    }


def print_explained(out: Console, facts: Mapping[str, Any]) -> None:
    """Steps in order; below each its parameters with their sources, and its reference files."""
    shape = " x ".join(map(str, facts["shape"]))
    out.print(
        f"{facts['segment_id']}: {facts['instrument']} {facts['detector']} {facts['exp_type']}", style="bold"
    )
    if members := facts["members"]:
        out.print(f"an association of {_files(len(members))}; the first tells what references fit")
        _lines(out, [printable(name) for name in members])
    else:
        part = f"segment {facts['segment']} of {facts['segments']}"
        out.print(f"{part}, integrations x groups x rows x columns: {shape}")
    out.print(f"CRDS context {facts['crds_context']}, client {facts['crds_version']}")
    for number, step in enumerate(facts["steps"], 1):
        reason = f": {step['reason']}" if step["reason"] else ""
        style = "bold green" if step["state"] == "run" else "yellow"
        out.print(f"{number:2d} {step['step']}  {step['state']}{reason}", style=style, soft_wrap=True)
        for notice in step["notices"]:
            out.print(f"     {notice}", style="yellow", soft_wrap=True)
        for p in step["parameters"]:
            out.print(f"     {p['name']} = {p['value']!r}  [{p['source']}]", soft_wrap=True)
        for r in step["references"]:
            where = f"  {r['path']}" if r.get("path") else ""
            out.print(f"     {r['type']}: {r['name']}{where}", style="cyan", soft_wrap=True)
    out.print("nothing was processed", style="dim")


# upramp provenance


def print_provenance(out: Console, facts: Mapping[str, Any]) -> None:
    """Inputs with checksums, steps, parameters, references, versions, times."""
    product = facts["product"]
    out.print(str(product["path"]), style="bold", soft_wrap=True)
    for note in facts["notes"]:
        out.print(f"note: {note}", style="yellow", soft_wrap=True)
    out.print(f"created {product.get('created')}, {product.get('bytes')} bytes", soft_wrap=True)
    out.print("versions " + ", ".join(f"{k} {v}" for k, v in facts["versions"].items() if v), soft_wrap=True)
    for source in facts["inputs"]:
        out.print(f"made from {source['path']}", soft_wrap=True)
        out.print(f"  sha256 {source['sha256']}", soft_wrap=True)
    for step in facts["steps"]:
        _print_step(out, step)
    if facts["references"]:
        grid = Table("type", "reference", "context", "checksum", box=None, pad_edge=False)
        for r in facts["references"]:
            names = (r.get("type") or r.get("keyword"), r["name"], r.get("context"), r.get("checksum"))
            grid.add_row(*(Text(str(n or "")) for n in names))
        out.print(grid)
    if run := facts["run"]:
        out.print(f"run {run['run_id']}: {run['command']}", style="dim", soft_wrap=True)


def _print_step(out: Console, step: Mapping[str, Any]) -> None:
    name = step.get("step") or step.get("keyword")
    reason = f": {step['reason']}" if step.get("reason") else ""
    seconds = f"  {step['wall_s']:.2f} s" if step.get("wall_s") is not None else ""
    out.print(f"{name}  {step['state']}{reason}{seconds}", style="bold", soft_wrap=True)
    for p in step.get("parameters") or ():
        out.print(f"  {p['name']} = {p['value']!r}  [{p['source']}]", soft_wrap=True)
    counters = step.get("counters") or {}
    if counters:
        out.print("  " + ", ".join(f"{n} {k}" for k, n in counters.items()), soft_wrap=True)


def print_users(out: Console, reference: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """The products that a reference file went into."""
    out.print(f"{reference} went into {len(rows)} products", style="bold", soft_wrap=True)
    for row in rows:
        mark = "" if row["state"] == "current" else f"  ({row['state']})"
        out.print(f"  {row['created']:%Y-%m-%d %H:%M:%S} {row['path']}{mark}", soft_wrap=True)
