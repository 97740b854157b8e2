"""From a configuration to a desk that is open for business, and back: what ``run`` and ``watch`` share."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from upramp.daemon import kernel_cache, telling
from upramp.daemon.config import Config
from upramp.daemon.desk import Calibration, Calibrator, Desk, Settings, new_run_id, upramp_version
from upramp.daemon.handlers import HANDLERS
from upramp.daemon.jobs import Crew, Queue, RetryPolicy, make_crew
from upramp.daemon.logs import bind, get_logger, unbind
from upramp.daemon.machine import cores, count_threads, count_workers, memory_mb
from upramp.stages.core.errors import Retryable
from upramp.store import schema
from upramp.store.ledger import Ledger
from upramp.store.naming import prepared_folder
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
            readers=Crew(lambda: ThreadPoolExecutor(1, thread_name_prefix="read"), in_process=True),
            queue=Queue(workers),
            handlers=HANDLERS,
            policy=policy,
            listeners=[telling.tell],
        )
        try:
            yield desk
        finally:
            abandoned = desk.busy
            if abandoned:
                desk.abandoned.set()
            desk.readers.close(kill=abandoned)
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


def warm_up(config: Config, say: Callable[[str], None] = lambda text: None, always: bool = False) -> float:
    """Compile the kernels unless this installation did so before; seconds that it took.

    numba keeps the machine code; what is kept here is a mark that it is there.
    """
    mark = config.cache_folder / f"kernels-{_code_stamp()}"
    if mark.exists() and not always:
        return 0.0
    with kernel_cache.alone():
        if mark.exists() and not always:  # another process compiled them meanwhile
            return 0.0
        log.info("kernels_compiling", cache=os.environ.get(kernel_cache.VARIABLE) or "beside the code")
        say("first run of this version: compiling the kernels, once, for up to a minute ...")
        from upramp.daemon.warm import warm

        seconds = warm()
        log.info("kernels_ready", seconds=round(seconds, 2))
        say(f"kernels ready after {seconds:.0f} s")
        with contextlib.suppress(OSError):  # without the mark the next start says the same again, no more
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
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
