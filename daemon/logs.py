"""Log set-up: structlog, one JSON object a line in service, readable colour on a terminal.

Loggers of libraries (crds, astropy, asdf, watchdog) and Python warnings go through the same
chain as event ``third_party``; nothing is written twice. Event names come from `vocabulary`.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import math
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, TextIO

import structlog
from structlog.contextvars import bind_contextvars, bound_contextvars, clear_contextvars, merge_contextvars

from upramp.daemon.config import Log
from upramp.daemon.vocabulary import COMMON, EVENTS

IDS = ("run_id", "exposure_id", "segment_id", "step")


class Vocabulary:
    """Processor that lets pass what the vocabulary holds.

    Strict (tests), it raises on anything else. Otherwise a wrong name becomes one
    ``unknown_event`` line with all it carried, later lines of that name are dropped.
    """

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self._told: set[str] = set()

    def __call__(self, logger: Any, method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        name = entry.get("event")
        event = EVENTS.get(str(name))
        if self.strict:
            if event is None:
                raise ValueError(f"event {name!r} is not in the vocabulary (daemon/vocabulary.py)")
            allowed = {*event.fields, *COMMON, "exc_info", "stack_info"}
            if odd := sorted(k for k in entry if k not in allowed and not k.startswith("_")):
                raise ValueError(f"event {name!r} has no field {', '.join(odd)} in the vocabulary")
        if event is None:
            if str(name) in self._told:
                raise structlog.DropEvent
            self._told.add(str(name))
            entry.update({"event": "unknown_event", "name": str(name), "level": "warning"})
        return entry


_RECORD = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName", "_logger", "_name"}


def _from_logging(logger: Any, method: str, entry: MutableMapping[str, Any]) -> dict[str, Any]:
    """A record of the logging module as an event.

    ``store`` and ``stages`` do not know the daemon: they speak through loggers ``upramp.*`` with an event
    of the vocabulary as message and its fields as ``extra``. Anything else is ``third_party``.
    """
    record: logging.LogRecord = entry["_record"]
    entry = dict(entry) | {"level": record.levelname.lower()}
    if record.name.startswith("upramp.") and record.msg in EVENTS:
        return entry | {k: v for k, v in record.__dict__.items() if k not in _RECORD}
    return entry | {"event": "third_party", "logger": record.name, "message": str(entry["event"]).strip()}


def _plain(value: Any) -> Any:
    """Anything as JSON can hold it: NaN and infinity are null, numpy scalars numbers, the rest text."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return _plain(value.item())
    return str(value)


def _json(logger: Any, method: str, entry: Any) -> str:
    """One line: the common fields first, in the same order always."""
    first = {k: entry[k] for k in ("timestamp", "level", "event", *IDS) if k in entry}
    return json.dumps(_plain(first | dict(entry)))  # ASCII: file names may be no valid text


class _Stderr(logging.StreamHandler):
    """Writes to what ``sys.stderr`` is at that moment, since progress bars put themselves in between."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _Quiet(logging.Filter):
    """Libraries speak from ``level`` on; upramp's own loggers follow [log] level."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level

    def filter(self, record: logging.LogRecord) -> bool:
        return record.name.partition(".")[0] == "upramp" or record.levelno >= self.level


class _Adopted(logging.Logger):
    """A library's logger that cannot install handlers of its own or keep its lines to itself."""

    def addHandler(self, hdlr: logging.Handler) -> None:
        return None

    def callHandlers(self, record: logging.LogRecord) -> None:
        self.propagate = True
        super().callHandlers(record)


def _adopt() -> None:
    """Take away the handlers of libraries that bring their own."""
    # its logger must exist before it is stripped; crds is slow to import and may come later
    import astropy.logger

    before = logging.getLoggerClass()
    logging.setLoggerClass(_Adopted)
    logging.getLogger("CRDS")
    logging.setLoggerClass(before)
    for name in (astropy.logger.log.name, "CRDS"):
        logger = logging.getLogger(name)
        for handler in logger.handlers[:]:
            logger.removeHandler(handler)
        logger.propagate = True
    for name in ("watchdog", "numba"):
        logging.getLogger(name).setLevel(logging.WARNING)  # their debug lines drown everything
    logging.captureWarnings(True)


def configure(log: Log | None = None, *, strict: bool = False, stream: TextIO | None = None) -> None:
    """Set up logging for this process; call once, at the start, in worker processes too.

    Parameters
    ----------
    log : Log, optional
        The [log] section. With ``file``, lines go there (it is reopened when it was rotated),
        else to standard error. Format ``auto`` is colour on a terminal, JSON anywhere else.
    strict : bool
        Raise on events or fields outside the vocabulary.
    stream : text stream, optional
        Where to write instead of standard error.
    """
    log = log or Log()
    handler: logging.Handler
    if log.file is not None:
        log.file.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.WatchedFileHandler(log.file, encoding="utf-8", errors="backslashreplace")
    else:
        handler = logging.StreamHandler(stream) if stream is not None else _Stderr()
    terminal = log.file is None and (stream or sys.stderr).isatty()
    console = log.format == "console" or (log.format == "auto" and terminal)
    level = logging.getLevelNamesMapping()[log.level.upper()]

    shared: list[Any] = [merge_contextvars, structlog.processors.TimeStamper(fmt="iso", utc=True)]
    last: list[Any]
    if console:
        last = [
            structlog.dev.ConsoleRenderer(
                colors=terminal, pad_event_to=20, exception_formatter=structlog.dev.plain_traceback
            )
        ]
    else:
        last = [structlog.processors.format_exc_info, _json]
    structlog.configure(
        processors=[
            *shared,
            structlog.stdlib.add_log_level,
            Vocabulary(strict),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _from_logging],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    # a library's chatter matters from warnings on, unless somebody is hunting a fault
    handler.addFilter(_Quiet(level if level <= logging.DEBUG else max(level, logging.WARNING)))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level)
    _adopt()


def get_logger() -> Any:
    """A logger; call its level methods with an event of the vocabulary and its fields."""
    return structlog.get_logger("upramp")


def bind(**ids: Any) -> None:
    """Put ids (run_id, exposure_id, segment_id, step) on every later line of this context."""
    bind_contextvars(**ids)


def bound(**ids: Any) -> AbstractContextManager[Any]:
    """Put ids on every line inside a ``with`` block.

    Threads begin with a context of their own: run their work in ``contextvars.copy_context()``
    or bind there again.
    """
    return bound_contextvars(**ids)


def unbind() -> None:
    """Forget all ids of this context."""
    clear_contextvars()
