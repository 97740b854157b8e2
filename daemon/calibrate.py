"""One uncal file, calibrated as planned.

``plan`` (see ``planning``) opens the file, asks CRDS for references and parameters and says which steps run.
``calibrate`` prepares the references, sends the counts through the steps and publishes the products. It
knows files and steps, but not the ledger: what it returns are rows for it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from upramp.daemon import carried
from upramp.daemon.desk import never
from upramp.daemon.detector1 import detector1, uncal_of
from upramp.daemon.events import Before
from upramp.daemon.images import image2
from upramp.daemon.machine import peak_mb
from upramp.daemon.mosaics import image3
from upramp.daemon.planning import CalibrationJob, CalibrationPlan, PlannedStep, plan
from upramp.daemon.results import Result, may_publish, prepared, state_cards
from upramp.stages import pipelines
from upramp.stages.guider.pipeline import run_guider
from upramp.store import schema
from upramp.store.naming import scratch_folder
from upramp.store.products import write_product
from upramp.store.provenance import parameter_rows

__all__ = ["CalibrationJob", "CalibrationOutcome", "CalibrationPlan", "PlannedStep", "calibrate", "plan"]

GUIDER_TABLES = (
    "PLANNED REFERENCE STARS",
    "FLIGHT REFERENCE STARS",
    "POINTING",
    "FGS CENTROID PACKET",
    "TRACK SUBARRAY TABLE",
)


@dataclass(frozen=True)
class CalibrationOutcome:
    """Rows for the ledger, and what it took.

    ``left``: the row about windows of persistence, where they go on from exposure to exposure.
    """

    products: list[dict[str, Any]]
    step_runs: list[dict[str, Any]]
    integrations: list[dict[str, Any]]
    seconds: float
    peak_mb: float
    left: dict[str, Any] | None = None


def calibrate(
    work: CalibrationPlan,
    input_sha256: str,
    stop: Callable[[], bool] = never,
    before: Before | None = None,
) -> CalibrationOutcome:
    """Calibrate a file and publish its products.

    Parameters
    ----------
    work : CalibrationPlan
    input_sha256 : str
        Checksum of the file.
    stop : callable
        Asked now and then; once it is true, the work ends soon and nothing is published.
    before : Before, optional
        Windows of persistence to begin with.

    Raises
    ------
    Unprocessable, Retryable, Misconfigured
        As `plan`, and if the disk fills up, or if the file changed since the plan was made.
    Interrupted
        If ``stop`` asked for the end.
    """
    started, clock = schema.now(), time.perf_counter()
    job_id = f"{work.uncal.segment_id}-{uuid.uuid4().hex[:12]}"
    if work.pipeline is pipelines.GUIDER:
        result = _guider(work, job_id, stop)
    elif work.pipeline is pipelines.IMAGE2:
        result = image2(work, job_id, stop)
    elif work.pipeline is pipelines.IMAGE3:
        result = image3(work, job_id, stop)
    else:
        result = detector1(work, job_id, stop, before)
    seconds, peak = time.perf_counter() - clock, peak_mb()
    key = work.fingerprint(input_sha256, before.sha256 if before else "")
    meta = work.uncal.meta
    files = [(work.uncal.path, input_sha256), *((m.path, sha256) for m, sha256 in work.members)]
    inputs = [{"path": str(path.absolute()), "sha256": sha256} for path, sha256 in files]
    products = [
        {
            "path": str(p.path.absolute()),
            "created": schema.now(),
            "kind": p.kind,
            "inputs": inputs,
            "key": key,
            "job_ids": [job_id],
            "bytes": p.bytes,
            "mtime_ns": p.path.stat().st_mtime_ns,
            "sha256": p.sha256,
            "units": p.units,
            "shape": list(p.shape),
            "dtype": p.dtype,
            "retention": "keep",
            "crds_context": work.context,
            "crds_version": work.crds_version,
        }
        for p in result.published
    ]
    step_runs = [
        {
            "job_id": job_id,
            "pipeline": work.pipeline.name,
            "step": s.name,
            "step_order": k,
            "state": "COMPLETE" if result.states[s.name][0] else "SKIPPED",
            "reason": "; ".join(
                filter(None, (result.states[s.name][1], *s.notices, *carried.notes(s.name, before)))
            ),
            "parameters": parameter_rows(
                {n: v for n, (v, _) in s.parameters.items()},
                {n: _source(src) for n, (_, src) in s.parameters.items()},
            ),
            "pars_file": s.pars_file,
            "references": _reference_rows(work, s, before),
            "counters": {
                n.partition(".")[2]: c for n, c in result.counters.items() if n.partition(".")[0] == s.name
            },
            "started": started,
            "wall_s": result.wall.get(s.name, 0.0),
            "cpu_s": result.cpu.get(s.name, 0.0),
            "peak_mb": peak,
        }
        for k, s in enumerate(work.steps, 1)
    ]
    integrations = [
        {"job_id": job_id, "integration": meta.int_start + k, **row}
        for k, row in enumerate(result.integrations)
    ]
    left = result.left and {"job_id": job_id, "key": key, **result.left}
    return CalibrationOutcome(products, step_runs, integrations, seconds, peak, left)


def _source(text: str) -> str:
    """Where a value came from, as the ledger spells it."""
    return text.partition(":")[0] if text.partition(":")[0] in schema.SOURCES else "config"


def _reference_rows(work: CalibrationPlan, step: PlannedStep, before: Before | None) -> list[dict[str, Any]]:
    rows = []
    for row in step.references:
        best = step.best[row["type"]]
        rows.append({**row, "checksum": work.crds.checksum(best) if best.path else None})
    return rows + carried.reference_rows(step.name, before)


def _guider(work: CalibrationPlan, job_id: str, stop: Callable[[], bool]) -> Result:
    """Guide star frames to count rates, taken whole: they are small."""
    config, uncal = work.job.config, uncal_of(work)
    given = {r: ref for s in work.steps if s.runs for r, ref in prepared(work, s, uncal.meta).items()}
    params = {s.name: s.params for s in work.steps}
    result = run_guider(uncal.read_all(), uncal.meta, given, params)
    states = {name: (s.state == "COMPLETE", s.reason) for name, s in result.states.items()}
    output = config.output.folder
    may_publish(work, stop)
    published = write_product(
        uncal,
        scratch_folder(output, job_id),
        output,
        "cal",
        "GuiderCalModel",
        {"SCI": result.sci, "ERR": result.err, "DQ": result.dq},
        state_cards(work, states),
        units={"SCI": result.bunit},
        carry=GUIDER_TABLES,
        durable=config.store.fsync,
    )
    wall = {name: s.wall for name, s in result.states.items()}
    cpu = {name: s.cpu for name, s in result.states.items()}
    return Result([published], states, result.counters, wall, cpu, [])
