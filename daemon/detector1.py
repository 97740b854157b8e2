"""Counts to rates, or of darks to corrected ramps: the first stage, of one file at a time, streamed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from upramp.daemon import carried
from upramp.daemon.desk import never
from upramp.daemon.events import Before
from upramp.daemon.machine import cores
from upramp.daemon.planning import CalibrationPlan, PlannedStep
from upramp.daemon.results import Result, may_publish, prepared, state_cards
from upramp.stages.core import runner
from upramp.stages.core.errors import Misconfigured, NotApplicable
from upramp.stages.core.extras import Extras
from upramp.stages.core.frames import Ramps
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.plan import BoundStep
from upramp.stages.core.reference import Prepared
from upramp.stages.core.step import Bound, Context, Station, Window
from upramp.stages.core.tally import Tally
from upramp.stages.stage1 import frame_zero, ramp_fit
from upramp.store import superstripes
from upramp.store.cubes import DiskCube
from upramp.store.naming import scratch_folder
from upramp.store.prepared import release
from upramp.store.products import RAMP_KINDS, ProductWriter
from upramp.store.ramp_scratch import DiskRamps
from upramp.store.raw_reference import raw_reference
from upramp.store.uncal import Uncal


def uncal_of(work: CalibrationPlan) -> Uncal:
    """The level-1b file of a plan for one."""
    if not isinstance(work.uncal, Uncal):
        raise TypeError(f"{work.uncal.path.name} holds no counts")
    return work.uncal


class _Sink:
    """Products and statistics from the same rows."""

    def __init__(self, writer: ProductWriter, tally: Tally | None) -> None:
        self.writer, self.tally = writer, tally

    def emit(self, y0: int, x0: int, outputs: Mapping[str, Any]) -> None:
        """Write rows and count them."""
        self.writer.emit(y0, x0, outputs)
        if self.tally is not None:
            self.tally.add(outputs)


def _average_dark_current(step: PlannedStep) -> float:
    """What ramp_fit counts with though the dark itself does not fit, e-/s; as dark_current has it."""
    if step.params.average_dark_current is not None:
        return float(step.params.average_dark_current)
    path = step.best["dark"].path
    if path is None:
        return 0.0
    with raw_reference(path, "dark") as raw:
        return 0.0 if raw.has("AVDRKCUR") else float(raw.header.get("AVDRKCUR") or 0.0)


def detector1(work: CalibrationPlan, job_id: str, stop: Callable[[], bool], before: Before | None) -> Result:
    """Counts to rates, or of darks to corrected ramps, streamed."""
    config, uncal, meta = work.job.config, uncal_of(work), work.uncal.meta
    output = config.output.folder
    folder = scratch_folder(output, job_id)
    extras = Extras(lambda shape: DiskCube(shape, folder))
    shared: dict[str, Any] = {"extras": extras, **carried.to_begin_with(before)}
    steps: list[BoundStep] = []
    states: dict[str, tuple[bool, str]] = {}
    used: list[Prepared] = []
    for s in work.steps:
        states[s.name] = (s.runs, s.reason)
        if not s.runs:
            continue
        try:
            ready = prepared(work, s, meta)
            used += ready.values()
            context = Context(meta, s.params, ready, shared)
            steps.append(BoundStep(s.name, s.step.bind(context)))  # type: ignore[union-attr]
            meta = steps[-1].bound.meta or meta
        except NotApplicable as error:
            states[s.name] = (False, str(error))
            if s.name == "dark_current":
                shared["average_dark_current"] = _average_dark_current(s)
    if meta.stripes is not None and meta.stripes.regions > 1:
        raise Misconfigured(
            f"refpix does not run ({states['refpix'][1]}), but it puts superstripes together, and later "
            "steps need whole pictures; leave steps.refpix.skip = false"
        )
    rates = "ramp_fit" in states
    if rates and not states["ramp_fit"][0]:
        raise Misconfigured(
            f"ramp_fit does not run ({states['ramp_fit'][1]}), so there are no rates to write; "
            f"leave steps.ramp_fit.skip = false and give it a gain and a readnoise reference"
        )
    ramps = getattr(work.params, "save_calibrated_ramp", False)
    kinds = ("rate", "rateints", *(("ramp",) if ramps else ())) if rates else ("dark",)
    whole = kinds[-1] in RAMP_KINDS
    planes = {"ZEROFRAME": "integration"} if whole and uncal.meta.has_zeroframe else dict[str, str]()
    current = None
    if rates and states["dark_current"][0]:
        current = float(shared.get("average_dark_current") or 0.0)
        planes["AVDRKCUR"] = "exposure"
    durable = config.store.fsync
    with ProductWriter(uncal, folder, output, kinds, durable=durable, meta=meta, planes=planes) as writer:
        fitted = rates and ramp_fit.wants_frame_zero(uncal.meta, _params(work, "ramp_fit"))
        zero = _frame_zero(work, states, folder, stop) if fitted or "ZEROFRAME" in planes else None
        shared[ramp_fit.FRAME_ZERO] = zero
        if whole:
            at = next((k for k, s in enumerate(steps) if s.name == "ramp_fit"), len(steps))
            put = functools.partial(_put_ramps, writer, current, zero)
            steps.insert(at, BoundStep("write", Bound([Station(put)])))
        report, tally = stream(
            uncal,
            steps,
            writer,
            folder,
            used,
            threads=config.run.threads or cores(),
            budget_bytes=int(config.run.memory_limit_mb * 1e6),
            stop=stop,
            count=rates,
        )
        if zero is not None:
            zero.close()
        header = dict(shared.get("header", {}))
        counted = shared.get("counted", {})
        header |= {keyword: report.counters[name] for keyword, name in counted.items()}
        if states.get("jump", (False,))[0]:
            lost = int((~shared["usable_groups"]).sum())
            header["PRIMECRS"] = 1e3 * _hits(report.counters["jump.primary"], meta, lost)
            header["EXTNCRS"] = 1e6 * _hits(report.counters["jump.extended"], meta, lost)
        cards = {**state_cards(work, states), **header}
        if uncal.meta.stripes is not None and meta.stripes is None:
            cards |= superstripes.cards(meta)
        names = [s.name for s in work.steps]
        later = work.steps[names.index("ramp_fit") :] if rates else ()
        may_publish(work, stop)
        left = carried.keep(work, before, shared)
        published = writer.finish(
            cards, extras=extras.found, without={"ramp": {s.step.keyword for s in later}}
        )
    rows = tally.rows() if tally is not None else []
    if uncal.int_times is not None and "int_mid_MJD_UTC" in (uncal.int_times.dtype.names or ()):
        mids = dict(
            zip(uncal.int_times["integration_number"], uncal.int_times["int_mid_MJD_UTC"], strict=True)
        )
        for k, row in enumerate(rows):
            mid = mids.get(meta.int_start + k)
            row["mid_mjd"] = None if mid is None else float(mid)
    return Result(published, states, report.counters, report.wall, report.cpu, rows, left)


def _put_ramps(
    writer: ProductWriter, current: float | None, zero: Ramps | None, w: Window, lo: int, hi: int
) -> None:
    """Station: the core of finished rows goes into the product of ramps as it is.

    Beside it go the average dark ``current``, and frame ``zero`` as its steps left it.
    """
    r0, r1, c0, c1 = w.core(lo, hi)
    if r1 <= r0:
        return
    rows = slice(lo - w.y0 + r0, lo - w.y0 + r1)
    arrays = {
        "SCI": w.data[rows, ..., c0:c1],
        "GROUPDQ": w.gdq[rows, ..., c0:c1],
        "PIXELDQ": w.pdq[rows, c0:c1],
    }
    if current is not None:
        arrays["AVDRKCUR"] = np.full((r1 - r0, c1 - c0), current, np.float32)
    if zero is not None:
        frames = np.empty((r1 - r0, w.data.shape[1], 1, c1 - c0), np.float32)
        zero.read_rows(frames, None, lo + r0, w.i0, w.x0 + c0)
        arrays["ZEROFRAME"] = frames[:, :, 0]
    writer.put_ramps(lo + r0, w.x0 + c0, arrays)


def _params(work: CalibrationPlan, step: str) -> Any:
    """The parameters of a step."""
    return next(s.params for s in work.steps if s.name == step)


def _frame_zero(
    work: CalibrationPlan, states: Mapping[str, tuple[bool, str]], folder: Path, stop: Callable[[], bool]
) -> Ramps:
    """Frame zero through its steps."""
    uncal, config = uncal_of(work), work.job.config
    meta = now = frame_zero.exposure(uncal.meta)
    shared = dict(frame_zero.SHARED)
    steps: list[BoundStep] = []
    for s in work.steps:
        if s.name in frame_zero.STEPS and states[s.name][0]:
            context = Context(now, s.params, prepared(work, s, now), shared)
            steps.append(BoundStep(s.name, s.step.bind(context)))  # type: ignore[union-attr]
            now = steps[-1].bound.meta or now
    with uncal.zero_source() as source:
        return frame_zero.correct(
            source,
            meta,
            steps,
            scratch=lambda meta: DiskRamps(meta, folder),
            threads=config.run.threads or cores(),
            budget_bytes=int(config.run.memory_limit_mb * 1e6),
            stop=stop,
        )


def stream(
    uncal: Uncal,
    steps: Sequence[BoundStep],
    writer: ProductWriter,
    folder: Path,
    references: Sequence[Prepared] = (),
    *,
    threads: int,
    budget_bytes: int,
    stop: Callable[[], bool] = never,
    count: bool = True,
) -> tuple[runner.RunReport, Tally | None]:
    """Send an exposure's counts through bound steps into its products; what it took, and the statistics.

    Ramps are put down in ``folder`` where steps need whole frames. ``references``: those that the steps read,
    whose pages are let go of behind them. ``count``: there are slopes to make statistics of.
    """
    tally = Tally(uncal.meta.nints) if count else None

    def let_go() -> None:
        for reference in references:
            release(reference)

    with uncal.source() as source:
        sink = _Sink(writer, tally)
        report = runner.run(
            source,
            sink,
            uncal.meta,
            steps,
            threads=threads,
            budget_bytes=budget_bytes,
            scratch=lambda meta: DiskRamps(meta, folder),
            release=let_go,
            stop=stop,
        )
    return report, tally


def _hits(found: int, meta: ExposureMeta, lost: int) -> float:
    """Cosmic rays per pixel and second, over the time in which differences can show them.

    ``lost``: groups of integrations that no pixel may use; each takes the time of one difference.
    """
    seconds = (meta.nints * (meta.ngroups - 1) - lost) * meta.group_time
    return found / (meta.nx * meta.ny) / seconds if seconds > 0 else 0.0
