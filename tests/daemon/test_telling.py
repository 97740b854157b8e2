"""What the log and the closing summary say of what happened."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from structlog.testing import capture_logs

from upramp.daemon import oneshot, report
from upramp.daemon.jobs import Crew
from upramp.daemon.telling import tell
from upramp.stages.core.errors import Retryable

NAME = "jw01234001001_02101_00001_nrca1_uncal.fits"
VAIN = ("jump", "this is not in this version")


@pytest.fixture
def said(workshop):
    """Runs over files; the log lines of what was told, by event."""

    def run(*paths, **settings):
        workshop.run(*paths, **settings)
        with capture_logs() as lines:
            for event in workshop.told:
                tell(event)
        return lines

    return run


def of(lines, name):
    return [line for line in lines if line["event"] == name]


def test_steps_are_told_one_by_one(workshop, said, monkeypatch):
    calibrate = workshop.calibrator.calibrate

    def skips_too(*given):
        outcome = calibrate(*given)
        left_out = {"step": "ipc", "step_order": 2, "state": "SKIPPED", "reason": "skip = true"}
        outcome.step_runs.append({**outcome.step_runs[0], **left_out})
        return outcome

    monkeypatch.setattr(workshop.calibrator, "calibrate", skips_too)
    lines = said(workshop.write(NAME))
    (done,), (skipped,) = of(lines, "step_finished"), of(lines, "step_skipped")
    assert (done["step"], done["counters"], done["log_level"]) == ("jump", {"jumps": 3}, "debug")
    assert (skipped["step"], skipped["reason"]) == ("ipc", "skip = true")


@pytest.mark.parametrize("changed", [False, True])
def test_replaced_products_are_told(workshop, said, changed):
    path = workshop.write(NAME)
    assert not of(said(path), "product_superseded")
    if changed:
        workshop.write(NAME, more="content")
    lines = of(said(path, force=True), "product_superseded")
    assert [line["kind"] for line in lines] == ["rate", "rateints"]
    assert all(line["path"].startswith(str(workshop.config.output.folder)) for line in lines)


def test_products_of_a_file_that_turned_bad_are_told(workshop, said):
    path = workshop.write(NAME)
    said(path)
    path.write_text("not FITS")
    assert len(of(said(path), "product_superseded")) == 2


def test_what_is_not_in_this_version_is_told_once_per_segment(workshop, said):
    workshop.calibrator.notices = [VAIN]
    path = workshop.write(NAME)
    workshop.calibrator.failures[path.name] = [Retryable("busy")]
    (line,) = of(said(path), "parameter_unsupported")
    assert (line["step"], line["notice"], line["log_level"]) == (*VAIN, "warning")
    assert not of(said(path), "parameter_unsupported")


def test_the_summary_names_it_once(workshop, inline):
    workshop.calibrator.notices = [VAIN]
    paths = [workshop.segment(1), workshop.segment(2)]
    crew, quiet = Crew(inline, in_process=True), Console(file=io.StringIO())
    summary = oneshot.run(paths, workshop.config, console=quiet, calibrator=workshop.calibrator, crew=crew)
    out = io.StringIO()
    report.print_summary(Console(file=out, width=300), summary, workshop.config.store_folder)
    assert out.getvalue().count(": ".join(VAIN)) == 1


def test_leftovers_in_the_ledger_are_told(workshop, inline):
    workshop.run(workshop.write(NAME))
    left = workshop.config.store_folder / "products" / "0000000099-0000000099.parquet"
    left.write_bytes(b"half")
    crew, quiet = Crew(inline, in_process=True), Console(file=io.StringIO())
    with capture_logs() as lines:
        oneshot.run([], workshop.config, console=quiet, calibrator=workshop.calibrator, crew=crew)
    (line,) = of(lines, "ledger_recovered")
    assert line["removed"] == [f"products/{left.name}"]
    assert not left.exists()
