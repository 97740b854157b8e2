"""The command line: what is parsed, called and printed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from upramp.daemon import cli, oneshot, report
from upramp.daemon.events import Failure, FileFailed, SegmentCommitted
from upramp.daemon.jobs import Crew

NAME = "jw01234001001_02101_00001_nrca1_uncal.fits"


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No configuration of the machine or the user gets in."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("UPRAMP_CONFIG", "UPRAMP_CACHE", "CRDS_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cli, "_known", lambda: (None, ["dark", "gain"]))
    monkeypatch.setattr("upramp.daemon.logs.configure", lambda log: None)


@pytest.fixture
def upramp(workshop, inline, monkeypatch, capsys):
    """Call the command line with the workshop's calibrator; code, output, errors."""
    monkeypatch.chdir(workshop.root)
    monkeypatch.setattr("upramp.daemon.session.Calibration", lambda: workshop.calibrator)
    monkeypatch.setattr("upramp.daemon.desk.Calibration", lambda: workshop.calibrator)
    monkeypatch.setattr("upramp.daemon.session.make_crew", lambda n, log: Crew(inline, in_process=True))
    monkeypatch.setattr(oneshot, "warm_up", lambda config, say, inputs: 0.0)

    def call(*words: str):
        try:
            code = cli.main(words)
        except SystemExit as stop:
            code = stop.code
        out = capsys.readouterr()
        return SimpleNamespace(code=code, out=out.out, err=out.err)

    return call


def test_help_and_version_load_nothing_heavy():
    program = (
        "import sys\nfrom upramp.daemon import cli\ncli.parser().format_help()\n"
        "heavy = {'numpy', 'numba', 'astropy', 'pyarrow', 'rich', 'structlog', 'crds'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_commands(upramp):
    shown = upramp("--help")
    assert shown.code == 0
    for command in ("run", "watch", "warm", "status", "explain", "provenance", "demo"):
        assert f"\n    {command}" in shown.out
        assert upramp(command, "--help").code == 0
    assert upramp("--version").out.startswith("upramp ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "required"),
        (("rum", NAME), "invalid choice"),
        (("run",), "INPUT"),
        (("run", "nowhere.fits"), "there is no 'nowhere.fits'"),
        (("run", "incoming/" + NAME, "--config", "nowhere.toml"), "nowhere.toml"),
        (("run", "incoming/" + NAME, "--set", "jump"), "expected step.parameter=value"),
        (("run", "incoming/" + NAME, "--until", "stage9"), "expected one of"),
        (("run", "incoming/" + NAME, "--workers", "many"), "invalid int"),
        (("run", "incoming/" + NAME, "--workers", "-1"), "at least 0"),
        (("status",), "there is no ledger"),
        (("provenance",), "required"),
        (("explain", "incoming"), "names 2"),
    ],
)
def test_usage_and_configuration_errors_end_with_2_and_a_sentence(upramp, workshop, words, message):
    workshop.write(NAME)
    workshop.write(NAME.replace("nrca1", "nrca2"))
    shown = upramp(*words)
    assert shown.code == 2
    assert message in shown.err
    assert "Traceback" not in shown.err


def test_a_reference_type_that_no_step_has_is_refused_with_the_nearest(upramp, workshop):
    workshop.write(NAME)
    (workshop.root / "own.toml").write_text('[references]\ndrak = "x.fits"\n')
    shown = upramp("run", "incoming/" + NAME, "--config", str(workshop.root / "own.toml"))
    assert shown.code == 2
    assert "[references] drak: unknown reference type; did you mean 'dark'" in shown.err


def test_run_then_ask_about_it(upramp, workshop):
    workshop.segment(1, of=2)
    (workshop.incoming / NAME.replace("00001_n", "00002_n")).write_text("not FITS")
    shown = upramp("run", "incoming", "--output", "out", "--until", "stage1")
    assert shown.code == 1
    assert "made 2 products of 1 file" in shown.out and "is not FITS" in shown.out
    product = next((workshop.root / "out").glob("*_rate.fits"))
    assert str(product) in shown.out

    shown = upramp("status", "--output", "out")
    assert shown.code == 0
    assert "1 of 2 segments; waits for segment 2 of 2" in shown.out
    assert "is not FITS" in shown.out and "replace the file" in shown.out
    assert "no service runs" in shown.out
    facts = json.loads(upramp("status", "--output", "out", "--json").out)
    assert facts["counts"] == {"calibrated": 1, "failed": 1}

    shown = upramp("provenance", str(product))
    assert shown.code == 0
    (source,) = json.loads(upramp("provenance", str(product), "--json").out)["inputs"]
    assert source["path"] in shown.out and source["sha256"] in shown.out
    assert "jump  COMPLETE" in shown.out and "3 jumps" in shown.out

    shown = upramp("provenance", "--reference", "nobody.fits", "--output", "out")
    assert shown.out == "nobody.fits went into 0 products\n"
    assert upramp("provenance", "nothing_rate.fits").code == 1

    assert upramp("run", "incoming", "--output", "out", "--force", "--until", "stage1").code == 1
    assert len(workshop.calibrator.calibrated) == 2


def test_a_second_run_is_quick_to_say_that_nothing_changed(upramp, workshop):
    workshop.write(NAME)
    assert upramp("run", "incoming", "--until", "stage1").code == 0
    shown = upramp("run", "incoming/" + NAME, "--until", "stage1")
    assert shown.code == 0
    assert "skipped 1 file" in shown.out and "unchanged" in shown.out


def test_explain_shows_values_with_their_sources_and_processes_nothing(upramp, workshop, monkeypatch):
    path = workshop.write("jw_[odd]_uncal.fits")
    plan = workshop.calibrator.plan

    def planned(path, settings):
        steps = [
            SimpleNamespace(
                name="superbias",
                state="run",
                reason=None,
                parameters={"skip": (False, "default")},
                references=[
                    {"type": "superbias", "name": "sb.fits", "path": "/c/sb.fits", "context": "jwst_1.pmap"}
                ],
                notices=["snow is not in this version"],
            ),
            SimpleNamespace(
                name="jump", state="skip", reason="2 groups", parameters={}, references=[], notices=[]
            ),
        ]
        facts = {"steps": steps, "context": "jwst_1.pmap", "crds_version": "13"}
        return SimpleNamespace(**vars(plan(path, settings)), **facts)

    monkeypatch.setattr(workshop.calibrator, "plan", planned)
    shown = upramp("explain", str(path))
    assert shown.code == 0
    assert "jw_[odd]" in shown.out
    assert "1 superbias  run" in shown.out
    assert "skip = False  [default]" in shown.out
    assert "superbias: sb.fits  /c/sb.fits" in shown.out
    assert "2 jump  skip: 2 groups" in shown.out
    assert "snow is not in this version" in shown.out
    facts = json.loads(upramp("explain", str(path), "--json").out)
    assert facts["steps"][0]["parameters"] == [{"name": "skip", "value": False, "source": "default"}]
    assert [step["notices"] for step in facts["steps"]] == [["snow is not in this version"], []]
    assert workshop.calibrator.calibrated == []
    assert not workshop.config.output.folder.exists()


def test_explain_of_an_association_names_its_members():
    meta = SimpleNamespace(
        exp_type="NRC_IMAGE", instrument="NIRCAM", detector="NRCALONG", segment=1, segments=0,
        nints=1, ngroups=4, ny=200, nx=210,
    )  # fmt: skip
    members = [SimpleNamespace(path=Path(f"/in/{n}_cal.fits")) for n in range(2)]
    uncal = SimpleNamespace(segment_id="x_asn", exposure_id="x_asn", meta=meta, members=members)
    facts = report.explained(SimpleNamespace(uncal=uncal, context="jwst_1.pmap", crds_version="13", steps=()))
    out = io.StringIO()
    report.print_explained(Console(file=out, width=200), facts)
    assert "an association of 2 files" in out.getvalue() and "/in/1_cal.fits" in out.getvalue()
    assert "segment" not in out.getvalue()


def test_explain_of_a_bad_file_is_a_sentence(upramp, workshop):
    (workshop.incoming / NAME).write_text("not FITS")
    shown = upramp("explain", "incoming/" + NAME)
    assert shown.code == 1
    assert "is not FITS" in shown.err


def test_long_lists_are_cut(workshop):
    for n in range(20):
        workshop.write(NAME.replace("_00001_", f"_{n:05d}_"))
    events = workshop.run(*sorted(workshop.incoming.iterdir()))
    summary = oneshot.Summary()
    for event in events:
        summary.hear(event)
    out = io.StringIO()
    report.print_summary(Console(file=out, width=200), summary, Path("ledger"))
    assert "made 40 products of 20 files" in out.getvalue()
    assert "... and 28 more" in out.getvalue()


def test_mosaics_come_first_and_what_failed_is_told_once():
    out = io.StringIO()
    products = {
        "a_uncal.fits": {"rate": "a_rate.fits", "rateints": "a_rateints.fits"},
        "m_asn.json": {"crf": "a_o001_crf.fits", "i2d": "m_i2d.fits", "cat": "m_cat.ecsv"},
    }
    rows = {name: [{"path": p, "kind": k} for k, p in of.items()] for name, of in products.items()}
    summary = oneshot.Summary(
        made=[SegmentCommitted(Path(name), name, name, 1, row, 1.0, 9.0) for name, row in rows.items()],
        failed=[
            FileFailed(Path("/in/bad_asn.json"), "bad_asn", Failure("unprocessable", "no WCS", "mend"), 1)
        ],
        waiting=[
            {"file": f"/in/{name}_asn.json", "product": name, "requested": True, "state": state}
            | {"reason": reason, "remedy": None}
            for name, state, reason in (("bad", "failed", "no WCS"), ("late", "waiting", "1 missing"))
        ],
    )
    report.print_summary(Console(file=out, width=200), summary, Path("ledger"))
    shown = out.getvalue()
    places = [shown.index(name) for name in ("m_i2d", "m_cat", "a_o001_crf", "a_rate.fits", "a_rateints")]
    assert places == sorted(places)
    assert shown.count("no WCS") == 1 and "late (/in/late_asn.json): waiting: 1 missing" in shown


def test_a_reader_that_has_seen_enough_is_no_error(workshop):
    workshop.run(workshop.write(NAME))
    program = (
        f"upramp() {{ '{sys.executable}' -m upramp.daemon.cli \"$@\"; }}; upramp status --json | head -c 1"
    )
    environment = {**os.environ, "XDG_CONFIG_HOME": str(workshop.root)}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", program],
        cwd=workshop.root,
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"{", b"")
