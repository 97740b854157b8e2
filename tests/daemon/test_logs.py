"""The log: one line for each thing said, in the documented form, whoever says it."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import structlog

from upramp.daemon import logs
from upramp.daemon.config import Log
from upramp.daemon.vocabulary import COMMON, EVENTS, page

ROOT = Path(__file__).resolve().parents[2]
LEVELS = ("debug", "info", "warning", "error")


@pytest.fixture
def restored():
    """The logging of the test run itself comes back afterwards."""
    root, show = logging.getLogger(), warnings.showwarning
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    warnings.showwarning = show
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    logs.unbind()


@pytest.fixture
def lines(restored):
    """Configure and read back what was written."""
    stream = io.StringIO()

    def read() -> list[dict]:
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    read.stream = stream
    read.configure = lambda strict=False, **settings: logs.configure(
        Log(**settings), strict=strict, stream=stream
    )
    read.configure()
    return read


class TestLines:
    def test_one_object_with_ids_and_time(self, lines):
        log = logs.get_logger()
        logs.bind(run_id="r1")
        with logs.bound(exposure_id="e", segment_id="s"):
            log.info("file_settled", path="/a", bytes=3, seconds=0.5)
        log.info("file_gone", path="/b")
        first, second = lines()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first.pop("timestamp"))
        assert list(first.items()) == [
            ("level", "info"),
            ("event", "file_settled"),
            ("run_id", "r1"),
            ("exposure_id", "e"),
            ("segment_id", "s"),
            ("path", "/a"),
            ("bytes", 3),
            ("seconds", 0.5),
        ]
        assert set(second) == {"timestamp", "level", "event", "run_id", "path"}

    def test_whatever_is_said_is_valid_json(self, lines):
        said = {"a": np.float32("nan"), "b": np.int64(3), "c": Path("/x"), "d": float("inf"), 5: {1.5, None}}
        name = b"\xff\n.fits".decode("utf-8", "surrogateescape")
        logs.get_logger().info("step_finished", counters=said, path=name)
        line = json.loads(lines.stream.getvalue().encode("ascii"), parse_constant=pytest.fail)
        assert line["path"] == name
        counters = line["counters"]
        assert sorted(counters.pop("5"), key=str) == [1.5, None]
        assert counters == {"a": None, "b": 3, "c": "/x", "d": None}

    def test_tracebacks_are_one_string(self, lines):
        try:
            raise ValueError("odd\nindeed")
        except ValueError:
            logs.get_logger().error("watch_error", reason="odd", exc_info=True)
        (line,) = lines()
        assert line["exception"].startswith("Traceback") and line["exception"].endswith("odd\nindeed")

    def test_levels(self, lines):
        lines.configure(level="warning")
        logs.get_logger().info("file_gone", path="x")
        logs.get_logger().warning("watch_overflow")
        logging.getLogger("asdf").info("chatter")
        assert [line["event"] for line in lines()] == ["watch_overflow"]

    def test_console_is_for_people(self, lines):
        lines.configure(format="console")
        logs.get_logger().info("file_gone", path="/in/x.fits")
        text = lines.stream.getvalue()
        assert "file_gone" in text and "path=/in/x.fits" in text and "\x1b" not in text

    def test_colour_on_a_terminal_only(self, lines):
        lines.stream.isatty = lambda: True
        lines.configure()
        logs.get_logger().info("file_gone", path="x")
        assert "\x1b[" in lines.stream.getvalue()

    def test_to_a_file_that_is_rotated(self, lines, tmp_path):
        file = tmp_path / "logs" / "upramp.log"
        lines.configure(file=file)
        log = logs.get_logger()
        log.info("file_gone", path="a")
        file.rename(tmp_path / "old.log")
        log.info("file_gone", path="b")
        assert [json.loads(f.read_text())["path"] for f in (tmp_path / "old.log", file)] == ["a", "b"]
        assert lines() == []

    def test_to_what_standard_error_is_at_the_time(self, restored, monkeypatch):
        logs.configure(Log(format="json"))
        later = io.StringIO()
        monkeypatch.setattr(sys, "stderr", later)
        logs.get_logger().info("file_gone", path="x")
        assert json.loads(later.getvalue())["path"] == "x"


class TestLibraries:
    def test_they_speak_through_the_same_chain_once(self, lines):
        from astropy import log as astropy_log

        with logs.bound(segment_id="s"):
            logging.getLogger("watchdog.observers").warning("limit %d", 5)
            astropy_log.warning("odd card")
            warnings.warn("old habit", UserWarning, stacklevel=1)
            try:
                raise OSError("gone")
            except OSError:
                logging.getLogger("asdf").exception("broken")
        got = lines()
        assert {line["event"] for line in got} == {"third_party"}
        assert {line["segment_id"] for line in got} == {"s"}
        assert [(line["logger"], line["level"]) for line in got] == [
            ("watchdog.observers", "warning"),
            ("astropy", "warning"),
            ("py.warnings", "warning"),
            ("asdf", "error"),
        ]
        assert got[0]["message"] == "limit 5" and "old habit" in got[2]["message"]
        assert got[3]["exception"].endswith("OSError: gone")

    def test_their_chatter_is_left_out_unless_hunting(self, lines):
        logging.getLogger("asdf").info("chatter")
        assert lines() == []
        lines.configure(level="debug")
        logging.getLogger("asdf").info("chatter")
        assert [line["message"] for line in lines()] == ["chatter"]

    def test_crds_brings_a_handler_and_keeps_its_lines_to_itself_but_not_here(self):
        program = (
            "import sys; from upramp.daemon import logs; from upramp.daemon.config import Log\n"
            "if sys.argv[1] == 'before': import crds.core.log\n"
            "logs.configure(Log(format='json'))\n"
            "import crds.core.log as c; c.warning('no such context'); c.info('chatter')"
        )
        for when in ("before", "after"):
            done = subprocess.run(
                [sys.executable, "-c", program, when], capture_output=True, text=True, timeout=60, check=True
            )
            (line,) = (done.stdout + done.stderr).splitlines()
            assert json.loads(line)["logger"] == "CRDS"

    def test_rooms_that_do_not_know_the_daemon_speak_through_the_logging_module(self, lines):
        log = logging.getLogger("upramp.store.prepared")
        lines.configure(level="debug")
        log.debug("reference_prepared", extra={"reference": "d.fits", "type": "dark", "seconds": 0.2})
        log.warning("free text %d", 1)
        first, second = lines()
        assert (first["event"], first["reference"], first["type"]) == ("reference_prepared", "d.fits", "dark")
        assert set(first) == {"timestamp", "level", "event", "reference", "type", "seconds"}
        assert (second["event"], second["message"]) == ("third_party", "free text 1")
        lines.configure(level="info")
        logging.getLogger("upramp.store.x").info("scratch_cleaned", extra={"folder": "/s", "files": 1})
        assert lines()[-1]["event"] == "scratch_cleaned"


class TestVocabulary:
    def test_strict_refuses_names_and_fields(self, lines):
        lines.configure(strict=True)
        log = logs.get_logger()
        with pytest.raises(ValueError, match="'file_eaten' is not in the vocabulary"):
            log.info("file_eaten")
        with pytest.raises(ValueError, match="'file_gone' has no field colour"):
            log.info("file_gone", path="x", colour="red")
        log.info("file_gone", path="x", exc_info=None)
        assert len(lines()) == 1

    def test_in_service_a_wrong_name_is_told_once(self, lines):
        log = logs.get_logger()
        for name in ("file_eaten", "file_eaten", "file_drunk"):
            log.info(name, path="x")
        told = [(line["event"], line["name"], line["path"], line["level"]) for line in lines()]
        assert told == [
            ("unknown_event", "file_eaten", "x", "warning"),
            ("unknown_event", "file_drunk", "x", "warning"),
        ]

    def test_entries_are_well_formed(self):
        for name, event in EVENTS.items():
            assert re.fullmatch(r"[a-z]+(_[a-z]+)+", name)
            assert event.level in LEVELS and event.description.endswith(".")
            assert all(re.fullmatch(r"[a-z_]+", f) and text for f, text in event.fields.items())
            assert not set(event.fields) & {"timestamp", "level", "event", "exception"}

    def test_the_page_shows_the_vocabulary(self):
        text = (ROOT / "docs" / "logs.md").read_text()
        told = "## Common fields" + text.split("## Common fields")[1]
        assert told == page(), (
            "put what `python -m upramp.daemon.vocabulary` prints at the end of docs/logs.md"
        )

    def calls(self):
        """Every ``log.<level>("event", ...)`` of the code: place, level, arguments, names of fields.

        Loggers of structlog take fields as keywords, those of the logging module as ``extra={...}``;
        "**" among the names stands for others.
        """
        for folder in ("daemon", "simulate", "store", "stages"):
            for file in sorted((ROOT / folder).rglob("*.py")):
                for node in ast.walk(ast.parse(file.read_text())):
                    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                        continue
                    owner = getattr(node.func.value, "id", getattr(node.func.value, "attr", ""))
                    if owner.strip("_") not in ("log", "logger") or node.func.attr not in LEVELS:
                        continue
                    fields = [k.arg or "**" for k in node.keywords if k.arg != "extra"]
                    for extra in (k.value for k in node.keywords if k.arg == "extra"):
                        assert isinstance(extra, ast.Dict), "extra must be a literal dict"
                        fields += [key.value for key in extra.keys]
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", node.func.attr, node.args, fields

    def test_every_call_keeps_to_it(self):
        wrong, used = [], set()
        for place, level, args, fields in self.calls():
            if len(args) != 1 or not isinstance(args[0], ast.Constant):
                wrong.append(f"{place}: give the event as one literal string")
                continue
            name = args[0].value
            used.add(name)
            if name not in EVENTS:
                wrong.append(f"{place}: {name!r} is not in daemon/vocabulary.py")
                continue
            if level != EVENTS[name].level:
                wrong.append(f"{place}: {name} is said at {level}, the vocabulary has {EVENTS[name].level}")
            odd = set(fields) - {*EVENTS[name].fields, *COMMON, "exc_info", "**"}
            wrong += [f"{place}: {name} has no field {f}" for f in sorted(odd)]
        assert not wrong, "\n".join(wrong)
        assert used == set(EVENTS) - {"third_party", "unknown_event"}, "an event that nothing emits"

    def test_every_field_is_given_by_some_call(self):
        given: dict[str, set[str]] = {}
        for _, _, args, fields in self.calls():
            given.setdefault(args[0].value, set()).update(fields)
        left = {n: set(EVENTS[n].fields) - fields for n, fields in given.items() if "**" not in fields}
        assert not {name: fields for name, fields in left.items() if fields}
