"""Sends the rows of an exposure through the stations of a plan, on several threads.

The frame is cut into strips; a worker takes a strip, reads it batch by batch into its
window and lets the rows roll through all stations. Strips overlap by the margin of the halos, so
workers never wait for each other. Where a row of all integrations is too large for the budget
(a time series of thousands of integrations) the columns are cut as well, with the same margin. So
memory depends on the budget alone. Nothing here opens a file: rows come from a source and go to a sink.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from upramp.stages.core.frames import Crew, Interrupted, Ramps, RampStore
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.plan import BoundStep, Pass, margin, plan
from upramp.stages.core.step import Survey, Window
from upramp.stages.core.windows import (
    Arenas,
    Drain,
    Fill,
    Job,
    cut_blocks,
    make_window,
    span,
    trim,
    window_bytes,
)

SURVEY_BYTES = 12 << 20  # what a survey looks at in one go


class Source(Protocol):
    """Where ramps come from."""

    def read(self, out: np.ndarray, y0: int, x0: int, i0: int = 0) -> None:
        """Fill ``out`` [rows, nints, ngroups, columns] (float32, DN), thread-safe.

        Rows start at ``y0``, columns at ``x0``, integrations at ``i0``.
        """


class Sink(Protocol):
    """Where products go."""

    def emit(self, y0: int, x0: int, outputs: Mapping[str, np.ndarray]) -> None:
        """Take finished rows: ``rate.*`` [rows, columns], ``rateints.*`` [rows, nints, columns].

        Thread-safe.
        """


@dataclass
class RunReport:
    """What a run took and counted.

    ``wall`` and ``cpu``: seconds by step, summed over threads ("read" and "write" beside the steps);
    ``counters``: events by "step.counter"; ``passes``: how often the ramps were passed over, surveys
    included.
    """

    wall: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    counters: Counter[str] = field(default_factory=Counter)
    passes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def merge(self, clock: _Clock, counters: Counter[str]) -> None:
        """Add what one worker measured."""
        with self._lock:
            for name, wall in clock.wall.items():
                self.wall[name] += wall
                self.cpu[name] += clock.cpu[name]
            self.counters.update(counters)


class _Clock:
    """Adds up wall and CPU seconds by name, of one thread or of the whole process."""

    def __init__(self, process: bool = False) -> None:
        self.wall: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self._cpu_time = time.process_time if process else time.thread_time
        self._w, self._c = time.perf_counter(), self._cpu_time()

    def lap(self, name: str) -> None:
        w, c = time.perf_counter(), self._cpu_time()
        self.wall[name] += w - self._w
        self.cpu[name] += c - self._c
        self._w, self._c = w, c


@dataclass(frozen=True)
class _Means:
    """What all passes of a run share."""

    threads: int
    budget: int
    stop: Callable[[], bool]
    release: Callable[[], None]
    report: RunReport
    arenas: Arenas


def run(
    source: Source,
    sink: Sink,
    meta: ExposureMeta,
    steps: Sequence[BoundStep],
    *,
    threads: int = 2,
    budget_bytes: int = 128 << 20,
    cuts: Iterable[int] = (),
    scratch: Callable[[ExposureMeta], Ramps] = RampStore.empty,
    release: Callable[[], None] = lambda: None,
    stop: Callable[[], bool] = lambda: False,
) -> RunReport:
    """Send an exposure through its steps.

    Parameters
    ----------
    source, sink
        Where counts come from and products go.
    meta : ExposureMeta
        The exposure as the source has it.
    steps : sequence of BoundStep
        In the order of the pipeline.
    threads : int
        Workers; each has a window of its own.
    budget_bytes : int
        What all windows together may take.
    cuts : iterable of int
        Further positions where the ramps are put down between passes (see `plan`).
    scratch : callable
        Makes room for ramps between two passes; in memory by default.
    release : callable
        Called when a block of rows is done: what was read of references is not needed soon.
    stop : callable
        Asked between batches; once true the run ends with `Interrupted`.
    """
    report = RunReport()
    means = _Means(threads, budget_bytes, stop, release, report, Arenas())
    fill: Fill = _counts(source)
    passes = plan(steps, cuts)
    kept: Ramps | None = None
    try:
        for k, one in enumerate(passes):
            for position, survey in one.surveys:
                report.passes += 1
                _survey(one, position, survey, meta, fill, means)
            last = k == len(passes) - 1
            if last and one.frames is None:
                report.passes += 1
                _pass(one, meta, fill, _products(sink), "write", means)
            else:
                if kept is None or one.changes:
                    report.passes += 1
                    # rows go back to where they came from unless strips need each other's, as they were
                    after = scratch(meta) if kept is None or margin(one.stations()) else kept
                    drain = put_down(after)
                    _pass(one, meta, fill, drain, "put down", means)
                    if kept is not None and kept is not after:
                        kept.close()
                    kept = after
                fill = take_up(kept)
                if one.frames is not None:
                    report.passes += 1
                    meta = _frames(one, one.frames, kept, means) or meta
    finally:
        if kept is not None:
            kept.close()
    return report


def _frames(
    one: Pass,
    work: Callable[[Ramps, Crew], None],
    ramps: Ramps,
    means: _Means,
) -> ExposureMeta | None:
    """Let the last step of a pass work on whole frames; the exposure's new shape, if it has one."""
    clock, crew = _Clock(process=True), Crew(means.threads, means.stop)
    work(ramps, crew)
    clock.lap(one.steps[-1].name)
    means.release()
    means.report.merge(clock, crew.counters)
    return one.steps[-1].bound.meta


def _pass(
    one: Pass,
    meta: ExposureMeta,
    fill: Fill,
    drain: Drain,
    drain_name: str,
    means: _Means,
) -> None:
    """Send all rows through the stations of a pass."""
    whole = [(slice(0, meta.ny), slice(0, meta.nx))]
    job = Job(meta, one.stations(), _outputs(one), fill, drain, drain_name)
    _work(job, whole, means)


def put_down(ramps: Ramps) -> Drain:
    """The core of finished rows to where ramps lie between two passes."""

    def drain(w: Window, lo: int, hi: int) -> None:
        r0, r1, c0, c1 = w.core(lo, hi)
        if r1 > r0:
            rows = slice(lo - w.y0 + r0, lo - w.y0 + r1)
            ramps.write_rows(w.data[rows, ..., c0:c1], w.gdq[rows, ..., c0:c1], lo + r0, w.x0 + c0)
            ramps.pdq[lo + r0 : lo + r1, w.x0 + c0 : w.x0 + c1] = w.pdq[rows, c0:c1]

    return drain


def take_up(ramps: Ramps) -> Fill:
    """Rows of ramps that were put down."""

    def fill(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        ramps.read_rows(w.data[s], w.gdq[s], lo, w.i0, w.x0)
        w.pdq[s] = ramps.pdq[lo:hi, w.x0 : w.x0 + w.pdq.shape[1]]

    return fill


def _survey(
    one: Pass,
    position: int,
    survey: Survey,
    meta: ExposureMeta,
    fill: Fill,
    means: _Means,
) -> None:
    """Send a survey's tiles through the steps before it, some integrations at a time."""
    tiles = survey.tiles()
    pixels = sum((r.stop - r.start) * (c.stop - c.start) for r, c in tiles)
    nints = min(meta.nints, getattr(survey, "nints", meta.nints))
    step = max(1, min(nints, SURVEY_BYTES // max(1, 4 * meta.ngroups * pixels)))
    name = one.steps[position].name
    for first in range(0, nints, step):
        last = min(first + step, nints)
        some = replace(meta, nints=last - first)
        job = Job(some, one.stations(position), {}, fill, survey.absorb, name, first, counts=False)
        survey.begin(first, last)
        _work(job, tiles, means)
        clock = _Clock()
        survey.finish()
        clock.lap(name)
        means.report.merge(clock, Counter())


def _outputs(one: Pass) -> dict[str, tuple[str, Any]]:
    return {name: kind for s in one.steps for name, kind in s.bound.outputs.items()}


def _counts(source: Source) -> Fill:
    """Rows of raw counts, with no flag set yet."""

    def fill(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        source.read(w.data[s], lo, w.x0, w.i0)
        w.gdq[s] = 0
        w.pdq[s] = 0

    return fill


def _products(sink: Sink) -> Drain:
    """The core of finished rows to the sink."""

    def drain(w: Window, lo: int, hi: int) -> None:
        r0, r1, c0, c1 = w.core(lo, hi)
        if r1 > r0:
            rows = slice(lo - w.y0 + r0, lo - w.y0 + r1)
            outputs = {k: trim(w, k, a[rows, ..., c0:c1]) for k, a in w.outputs.items()}
            sink.emit(lo + r0, w.x0 + c0, outputs)

    return drain


def _work(
    job: Job,
    tiles: Sequence[tuple[slice, slice]],
    means: _Means,
) -> None:
    """Cut the tiles into blocks and share these among the workers."""
    threads, arenas, report = means.threads, means.arenas, means.report
    per_thread = means.budget // threads
    edge = margin(job.stations)
    share = -(-threads // max(len(tiles), 1))  # threads for a tile
    blocks = [
        (k, *b) for k, tile in enumerate(tiles) for b in cut_blocks(job, *tile, per_thread, edge, share)
    ]
    spans = {span(job, *columns, edge) for _, _, columns in blocks}
    size = max((window_bytes(job, x1 - x0, per_thread, edge) for x0, x1 in spans), default=0)

    def one(block: tuple[int, tuple[int, int], tuple[int, int]]) -> None:
        clock = _Clock()
        tile, (s0, s1), (c0, c1) = block
        x0, x1 = span(job, c0, c1, edge)
        arena = arenas.take(size)
        window = make_window(arena, job, x1 - x0, per_thread, edge)
        window.x0, window.core_rows, window.core_columns = x0, (s0, s1), (c0, c1)
        window.i0, window.tile = job.i0, tile
        _roll(window, job, edge, clock, means.stop)
        arenas.put(arena)
        means.release()
        report.merge(clock, window.counters if job.counts else Counter())

    if threads == 1 or len(blocks) <= 1:
        for block in blocks:
            one(block)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="upramp") as pool:
        futures = [pool.submit(one, block) for block in blocks]
        try:
            for future in futures:
                future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            raise


def _roll(w: Window, job: Job, edge: int, clock: _Clock, stop: Callable[[], bool]) -> None:
    """Let one block's rows roll through all stations."""
    s0, s1 = w.core_rows
    w.top, w.bottom = max(s0 - edge, 0), min(s1 + edge, job.meta.ny)
    w.y0 = loaded = w.top
    cap = w.data.shape[0]
    done = [w.top] * len(job.stations)
    drained = w.top
    rolling = [w.data, w.gdq, w.pdq, *w.planes.values()]
    while loaded < w.bottom:
        if stop():
            raise Interrupted
        needed = min([drained, *(d - s.halo for d, (_, s) in zip(done, job.stations, strict=True))])
        _make_room(w, rolling, max(needed, w.y0), loaded)
        new = min(w.y0 + cap, w.bottom)
        job.fill(w, loaded, new)
        clock.lap("read")
        loaded = ready = new
        for k, (name, station) in enumerate(job.stations):
            ready = ready if ready == w.bottom else ready - station.halo
            if ready > done[k]:
                station.run(w, done[k], ready)
                done[k] = ready
            clock.lap(name)
        if ready > drained:
            job.drain(w, drained, ready)
            drained = ready
        clock.lap(job.drain_name)


def _make_room(w: Window, arrays: Sequence[np.ndarray], keep: int, loaded: int) -> None:
    """Move the rows that are still needed to the window's start; row by row, as they may overlap."""
    shift = keep - w.y0
    if shift == 0:
        return
    for a in arrays:
        for r in range(loaded - keep):
            a[r] = a[r + shift]
    w.y0 = keep
