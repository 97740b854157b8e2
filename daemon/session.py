"""From a configuration to a desk that is open for business, and back: what ``run`` and ``watch`` share."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from upramp.daemon import kernel_cache, telling
from upramp.daemon.config import UNTIL, Config
from upramp.daemon.desk import Calibration, Calibrator, Desk, Settings, new_run_id, upramp_version
from upramp.daemon.handlers import HANDLERS
from upramp.daemon.jobs import Crew, Queue, RetryPolicy, make_crew, one_thread
from upramp.daemon.logs import bind, get_logger, unbind
from upramp.daemon.machine import cores, count_threads, count_workers, memory_mb
from upramp.stages.core.errors import Retryable
from upramp.store import schema
from upramp.store.ledger import Ledger
from upramp.store.naming import is_association, prepared_folder
from upramp.store.prepared import PreparedStore
from upramp.store.scratch import clean_scratch

log = get_logger()

LIBRARIES = ("numpy", "numba", "astropy", "asdf", "crds", "pyarrow")


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    found = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), **found}


@contextlib.contextmanager
def open_desk(
    config: Config,
    *,
    command: str,
    force: bool = False,
    service: bool = False,
    inputs: int | None = None,
    calibrator: Calibrator | None = None,
    crew: Crew | None = None,
) -> Iterator[Desk]:
    """A desk over the ledger of this configuration, scratch folders cleaned; closed at the end.

    Parameters
    ----------
    config : Config
    command : str
        As typed; goes into the ledger's table of runs.
    force, service : bool
        See ``desk.Settings``.
    inputs : int, optional
        How many files there are to do: no more workers than that.
    calibrator, crew : optional
        Instead of the real ones, for tests.

    Raises
    ------
    Misconfigured
        If the ledger or the output folder cannot be written, or another process writes there.
    """
    workers = count_workers(config.run.workers, cores(), memory_mb())
    if inputs is not None:
        workers = max(1, min(workers, inputs))
    threads = count_threads(config.run.threads, cores(), workers)
    config = replace(config, run=replace(config.run, workers=workers, threads=threads))
    settings = Settings(config, new_run_id(), force, service)
    policy = RetryPolicy(attempts=config.run.attempts, first_s=config.run.retry_s, factor=2.0)
    with (
        Ledger.open(config.store_folder, writer=True, compact_every=config.store.compact_after) as ledger,
        _recorded(ledger, settings, command),
    ):
        if ledger.removed:
            log.warning("ledger_recovered", folder=str(ledger.root), removed=ledger.removed)
        _clean(config.output.folder)
        _prune(config)
        desk = Desk(
            settings,
            ledger,
            calibrator or Calibration(),
            crew=crew or make_crew(workers, config.log),
            readers=one_thread("read"),
            queue=Queue(workers),
            handlers=HANDLERS,
            policy=policy,
            listeners=[telling.tell],
        )
        try:
            yield desk
        finally:
            abandoned = desk.busy
            desk.abandoned.set()
            desk.readers.close(kill=abandoned)
            desk.spare.close(kill=abandoned)
            desk.crew.close(kill=abandoned)


@contextlib.contextmanager
def _recorded(ledger: Ledger, settings: Settings, command: str) -> Iterator[None]:
    """A row of the run at its start, another at its end. Runs of a dead process are closed."""
    bind(run_id=settings.run_id)
    for row in ledger.state.runs():
        if row["state"] == "running":
            old = {name: value for name, value in row.items() if name not in ("commit_no", "row_no")}
            why = "the process ended without a word: killed, or the machine went down"
            ledger.commit({"runs": [{**old, "state": "failed", "ended": schema.now(), "reason": why}]})
    row = {
        "run_id": settings.run_id,
        "state": "running",
        "started": schema.now(),
        "command": command,
        "pid": os.getpid(),
        "upramp_version": upramp_version(),
        "versions": versions(),
        "crds_context": settings.config.crds.context or os.environ.get("CRDS_CONTEXT"),
    }
    ledger.commit({"runs": [row]})
    reason: str | None = None
    state = "ended"
    try:
        yield
    except BaseException as error:
        reason, state = f"{type(error).__name__}: {error}", "failed"
        raise
    finally:
        try:
            ledger.commit({"runs": [{**row, "state": state, "ended": schema.now(), "reason": reason}]})
        except Retryable as error:  # the next start closes the row
            log.warning("ledger_refused", reason=str(error))
        unbind()


def _clean(output: Path) -> None:
    removed = clean_scratch(output)
    if removed:
        log.info("scratch_cleaned", folder=str(removed[0].parent), files=len(removed))


def _prune(config: Config) -> None:
    """Keep the cache of prepared references to its size; each version of the code adds its own."""
    try:
        freed = PreparedStore(prepared_folder(config.cache_folder)).prune(int(config.store.cache_mb * 1e6))
    except OSError as error:  # a cache that cannot be tidied is no reason not to start
        log.warning("cache_not_pruned", folder=str(config.cache_folder), reason=str(error))
        return
    if freed:
        log.info("cache_pruned", folder=str(config.cache_folder), freed_mb=round(freed / 1e6, 1))


def warm_up(
    config: Config,
    say: Callable[[str], None] = lambda text: None,
    always: bool = False,
    inputs: Iterable[Path] | None = None,
) -> float:
    """Compile the kernels unless this installation did so before; seconds that it took.

    Those of the stages that will be done, of ``inputs`` if they are known. numba keeps the machine code; what
    is kept here are marks that it is there.
    """
    stages = stages_of(config, inputs)
    if _unmarked(config, stages) or always:
        with kernel_cache.alone():  # another process may have compiled them meanwhile
            stages = stages if always else _unmarked(config, stages)
            return _compile(config, stages, say) if stages else 0.0
    return 0.0


def stages_of(config: Config, inputs: Iterable[Path] | None = None) -> list[str]:
    """The stages that will be done: up to the last one that is asked for, from where the inputs stand.

    An association is taken whichever is the last. The third stage begins with images of the second.
    """
    from upramp.daemon.planning import RATES  # imports numba
    from upramp.store.image_file import kind_of

    last = UNTIL.index(config.run.until)
    if inputs is None:
        return list(UNTIL[: last + 1])
    first = len(UNTIL)
    for name in (path.name for path in inputs):
        begin, least = (1, 2) if is_association(name) else (1, 1) if kind_of(name) in RATES else (0, 0)
        first, last = min(first, begin), max(last, least)
    return list(UNTIL[first : last + 1])


def _unmarked(config: Config, stages: Sequence[str]) -> list[str]:
    return [stage for stage in stages if not _mark(config, stage).exists()]


def _mark(config: Config, stage: str) -> Path:
    return config.cache_folder / f"kernels-{_code_stamp()}-{stage}"


def _and(stages: Sequence[str]) -> str:
    """The stages in words: "stage 2 and 3"."""
    numbers = [stage.removeprefix("stage") for stage in stages]
    return "stage " + " and ".join(filter(None, (", ".join(numbers[:-1]), numbers[-1])))


def _compile(config: Config, stages: Sequence[str], say: Callable[[str], None]) -> float:
    cache = os.environ.get(kernel_cache.VARIABLE) or "beside the code"
    log.info("kernels_compiling", cache=cache, stages=list(stages))
    say(
        f"first run of this version: compiling the kernels of {_and(stages)}, once, for up to two minutes ..."
    )
    from upramp.daemon.warm import warm

    seconds = warm(stages)
    log.info("kernels_ready", seconds=round(seconds, 2))
    say(f"kernels ready after {seconds:.0f} s")
    with contextlib.suppress(OSError):  # without the marks the next start says the same again, no more
        config.cache_folder.mkdir(parents=True, exist_ok=True)
        for stage in stages:
            _mark(config, stage).touch()
    return seconds


@functools.cache
def _code_stamp() -> str:
    """Names the code that is compiled and what compiles it, for this kind of machine."""
    import upramp.stages

    folder = Path(next(iter(upramp.stages.__path__)))
    facts = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*.py"))]
    tools = (sys.version, importlib.metadata.version("numba"), platform.machine(), platform.node())
    place = os.environ.get(kernel_cache.VARIABLE, "")
    return hashlib.sha256(repr((facts, tools, place)).encode()).hexdigest()[:16]


def describe(config: Config) -> Mapping[str, Any]:
    """What the service says of itself when it starts."""
    return {
        "version": upramp_version(),
        "config": str(config.source or ""),
        "folders": [str(f) for f in config.watch.folders],
        "output": str(config.output.folder),
        "ledger": str(config.store_folder),
        "workers": config.run.workers,
        "threads": config.run.threads,
        "pid": os.getpid(),
    }
