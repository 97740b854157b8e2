"""``upramp run``: files, globs or folders -> the same events, the same handlers, and a closing summary."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from upramp.daemon import telling, trigger
from upramp.daemon.config import UNTIL, Config
from upramp.daemon.desk import Calibrator, Desk, upramp_version
from upramp.daemon.events import (
    AssociationReady,
    Event,
    ExposureCompleted,
    ExposureContradicted,
    FileFailed,
    FileSettled,
    FileSkipped,
    InputsOver,
    RetryPlanned,
    SegmentCommitted,
    SegmentOutdated,
    SegmentStarted,
)
from upramp.daemon.jobs import Crew
from upramp.daemon.logs import get_logger
from upramp.daemon.machine import peak_mb
from upramp.daemon.records import names_of
from upramp.daemon.session import open_desk, warm_up
from upramp.store.naming import is_association

log = get_logger()

WELL, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""


@dataclass
class Summary:
    """What a run made, skipped and failed. A listener of the desk.

    ``unsupported`` holds, once each, (step, what its parameters ask for and this version does not do);
    ``incomplete`` what was combined without some members, ``waiting`` the ledger's rows of what was not
    combined.
    """

    made: list[SegmentCommitted] = field(default_factory=list)
    skipped: list[FileSkipped] = field(default_factory=list)
    failed: list[FileFailed | FileSkipped] = field(default_factory=list)
    completed: list[ExposureCompleted] = field(default_factory=list)
    contradicted: list[ExposureContradicted] = field(default_factory=list)
    outdated: list[SegmentOutdated] = field(default_factory=list)
    unsupported: dict[tuple[str, str], None] = field(default_factory=dict)
    incomplete: list[AssociationReady] = field(default_factory=list)
    waiting: list[Mapping[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    megabytes: float = 0.0
    interrupted: bool = False
    left: list[Path] = field(default_factory=list)

    def hear(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case SegmentStarted(work):
                self.unsupported.update(dict.fromkeys(work.notices))
            case SegmentCommitted():
                self.made.append(event)
            case FileFailed() | FileSkipped(failed=True):
                self.failed.append(event)
            case FileSkipped():
                self.skipped.append(event)
            case ExposureCompleted():
                self.completed.append(event)
            case SegmentOutdated():
                self.outdated.append(event)
            case AssociationReady() if event.without:
                self.incomplete.append(event)
            case ExposureContradicted():
                self.contradicted.append(event)

    @property
    def products(self) -> list[str]:
        """Paths of all products that were made."""
        return [str(product["path"]) for segment in self.made for product in segment.products]

    @property
    def over(self) -> set[Path]:
        """Files that were made, skipped or failed."""
        return {event.path for event in (*self.made, *self.skipped, *self.failed)}

    @property
    def exit_code(self) -> int:
        """0 all well, 1 some input failed or could not be combined, 2 nothing came of it for want of
        configuration or references."""
        if self.interrupted:
            return INTERRUPTED
        if not self.failed:
            return SOME_FAILED if self.waiting else WELL
        kinds = {f.failure.kind if isinstance(f, FileFailed) else "" for f in self.failed}
        return USAGE if kinds == {"misconfigured"} and not (self.made or self.skipped) else SOME_FAILED


def run(
    inputs: Sequence[Path],
    config: Config,
    *,
    left: Mapping[Path, str] = MappingProxyType({}),
    command: str = "upramp run",
    force: bool = False,
    console: Console | None = None,
    calibrator: Calibrator | None = None,
    crew: Crew | None = None,
) -> Summary:
    """Calibrate files; returns when all are done, failed or found unchanged.

    Parameters
    ----------
    inputs : sequence of Path
        Absolute paths; see ``inputs.find_inputs``.
    config : Config
    left : mapping
        Files beside the inputs that are not taken, and why.
    command : str
        As typed, for the ledger.
    force : bool
        Do again what the ledger says is done or hopeless.
    console : Console, optional
        Where the progress bar goes, if it is a terminal.
    calibrator, crew : optional
        Instead of the real ones, for tests.

    Raises
    ------
    Misconfigured
        If the ledger cannot be written, or another process writes it.
    """
    console = console or Console(stderr=True)
    summary = Summary()
    begin = time.perf_counter()
    with open_desk(
        config, command=command, force=force, inputs=len(inputs), calibrator=calibrator, crew=crew
    ) as desk:
        if calibrator is None:
            warm_up(config, lambda text: console.print(text, highlight=False), inputs=inputs)
        log.info(
            "run_started", inputs=len(inputs), version=upramp_version(), output=str(config.output.folder)
        )
        desk.listeners.append(summary.hear)
        for path, reason in left.items():
            skipped = FileSkipped(path, names_of(path)[0], reason)
            summary.hear(skipped)
            telling.tell(skipped)
        trigger.recall(desk, UNTIL[: UNTIL.index(config.run.until) + 1])
        with _progress(console, desk, len(inputs)):
            try:
                for path in sorted(inputs, key=lambda path: not is_association(path.name)):
                    desk.dispatch(FileSettled(path))
                desk.run(until=lambda: desk.idle)
                desk.dispatch(InputsOver())
                desk.run(until=lambda: desk.idle)
                summary.waiting = trigger.left_over(desk)
            except KeyboardInterrupt:
                summary.interrupted = True
                over = summary.over
                todo = dict.fromkeys([*inputs, *desk.in_hand])  # rates and associations follow by themselves
                summary.left = [path for path in todo if path not in over]
    summary.seconds = time.perf_counter() - begin
    summary.megabytes = max([peak_mb(), *(segment.peak_mb for segment in summary.made)])
    log.info(
        "run_finished",
        made=len(summary.products),
        skipped=len(summary.skipped),
        failed=len(summary.failed),
        seconds=round(summary.seconds, 3),
        megabytes=round(summary.megabytes, 1),
    )
    return summary


@contextmanager
def _progress(console: Console, desk: Desk, total: int) -> Iterator[None]:
    """A bar on a terminal: how many files are over, and what is being done."""
    if not console.is_terminal:
        yield
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("reading", total=total)

        def hear(event: Event) -> None:
            match event:
                case SegmentStarted(work):
                    progress.update(task, description=work.segment_id)
                case RetryPlanned(segment_id=segment_id, seconds=seconds):
                    progress.update(task, description=f"{segment_id}: again in {seconds:.0f} s")
                case SegmentCommitted() | FileFailed() | FileSkipped():
                    progress.advance(task)

        desk.listeners.append(hear)
        yield
