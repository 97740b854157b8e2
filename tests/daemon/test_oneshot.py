"""upramp run: which files, what is told at the end, which exit code."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from upramp.daemon import oneshot, report
from upramp.daemon.inputs import find_for_run, find_inputs
from upramp.daemon.jobs import Crew, make_crew
from upramp.stages.core.errors import Misconfigured, Retryable

DEADLY = """
import json, os
from types import SimpleNamespace as Facts

class Calibrator:
    def plan(self, path, settings):
        facts = json.loads(path.read_text())
        names = ("ngroups", "nx", "ny", "instrument", "detector", "exp_type", "subarray", "readpatt")
        meta = Facts(segment=1, segments=1, int_start=1, int_end=2, nints=2, nints_total=2)
        vars(meta).update(dict.fromkeys(names))
        stem = path.name.removesuffix("_uncal.fits")
        uncal = Facts(segment_id=stem, exposure_id=stem, meta=meta)
        common = {"notices": [], "turn": None, "goes_on": ""}
        return Facts(uncal=uncal, fingerprint=lambda sha256: sha256, deadly=facts["deadly"], **common)

    def calibrate(self, plan, sha256, before=None):
        if plan.deadly:
            os._exit(137)
        return Facts(products=[], step_runs=[], integrations=[], seconds=0.0, peak_mb=0.0, left=None)
"""

NAME = "jw01234001001_02101_00001_nrca1_uncal.fits"


def until(workshop, stage):
    return replace(workshop.config, run=replace(workshop.config.run, until=stage))


class TestInputs:
    def test_files_globs_and_folders_each_file_once(self, workshop, monkeypatch):
        a = workshop.write(NAME)
        b = workshop.write(NAME.replace("00001_n", "00002_n"))
        workshop.write("notes.txt")
        monkeypatch.chdir(workshop.root)
        assert find_inputs(["incoming"]) == [a, b]
        assert find_inputs([str(a), "incoming/*00002*", "incoming", "./incoming/../incoming/" + NAME]) == [
            a,
            b,
        ]
        assert find_inputs(["inc*"]) == [a, b]
        assert find_inputs(["**/*_00001_*"]) == [a]

    def test_any_file_may_be_named(self, workshop):
        path = workshop.write("renamed.fits")
        assert find_inputs([str(path)]) == [path]

    def test_same_names_come_oldest_first(self, workshop):
        new = workshop.write(NAME, mtime=2000)
        old = workshop.write(NAME, folder=workshop.root / "z", mtime=1000)
        assert find_inputs([str(new), str(old)]) == [old, new]

    @pytest.mark.parametrize(
        ("word", "hint"),
        [
            ("incoming/jw01234001001_02101_00001_nrca2_uncal.fits", "did you mean '.*nrca1_uncal.fits'"),
            ("incomming", "did you mean '.*incoming'"),
            ("nowhere/at/all.fits", "holds no 'nowhere'"),
            ("incoming/*_rate.fits", "nothing matches"),
            ("empty", r"the folder 'empty' holds no \*_uncal.fits; name the folder"),
            ("rates", r"holds no \*_uncal.fits; rates are taken if they are named: .*rates/\*_rate.fits"),
            (".", r"holds no \*_uncal.fits; there are some in .*incoming"),
        ],
    )
    def test_what_names_nothing_is_told_with_the_nearest(self, workshop, monkeypatch, word, hint):
        workshop.write(NAME)
        (workshop.root / "empty").mkdir()
        workshop.write(NAME.replace("_uncal", "_rate"), folder=workshop.root / "rates")
        monkeypatch.chdir(workshop.root)
        with pytest.raises(Misconfigured, match=hint):
            find_inputs([word])

    def test_a_folder_or_dangling_link_named_like_a_file_is_judged_later(self, workshop):
        odd = workshop.incoming / NAME
        odd.mkdir()
        link = workshop.incoming / NAME.replace("nrca1", "nrca2")
        link.symlink_to("nowhere")
        assert find_inputs([str(odd), str(link)]) == [odd, link]
        assert find_inputs([str(workshop.incoming)]) == [odd, link]


class TestAssociationsInFolders:
    """Association files that lie beside what was downloaded."""

    CAL = NAME.replace("_uncal", "_cal")

    @pytest.fixture
    def association(self, workshop):
        def write(name: str, member: str = self.CAL, folder: Path | None = None, **facts) -> Path:
            product = facts.pop("product", "jw01234-o001_t001_nircam_clear-f444w")
            members = [{"expname": member, "exptype": "science"}]
            content = {"asn_type": "image3", "products": [{"name": product, "members": members}], **facts}
            path = (folder or workshop.incoming) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
            return path

        return write

    def test_they_are_taken_with_all_else(self, workshop, association):
        counts, rate = workshop.write(NAME), NAME.replace("_uncal", "_rate")
        second = association("jw01234-o001_image2_00001_asn.json", rate, asn_type="image2")
        third = association("jw01234-o001_image3_00001_asn.json")
        broken = workshop.write("jw01234-o002_image3_00001_asn.json")
        broken.write_text("{")
        hidden = association(".jw01234-o001_image3_00001_asn.json")
        found, left = find_for_run([str(workshop.incoming)], until(workshop, "stage3"))
        assert (found, left) == ([second, third, broken, counts], {})
        assert hidden not in found
        (workshop.root / "empty").mkdir()
        with pytest.raises(Misconfigured, match=r"holds no \*_uncal.fits or \*_asn.json"):
            find_for_run([str(workshop.root / "empty")], workshop.config)

    def test_what_is_not_done_is_told_unless_it_is_named(self, workshop, association):
        spectra = association("jw01234-o001_spec2_00001_asn.json", asn_type="spec2")
        mosaic = association("jw01234-o001_image3_00001_asn.json")
        found, left = find_for_run([str(workshop.incoming)], until(workshop, "stage2"))
        assert not found
        assert left[spectra].startswith(
            "associations of type spec2 are not in this version, which takes image2"
        )
        assert left[mosaic] == "the last stage is stage2 ([run] until); name it to have it done"
        named = [spectra, mosaic], [workshop.incoming / "*_asn.json"], [workshop.incoming, mosaic, spectra]
        for words in named:
            found, left = find_for_run([str(word) for word in words], until(workshop, "stage2"))
            assert (found, left) == ([mosaic, spectra], {})

    def test_the_last_of_a_product_counts(self, workshop, association):
        old, new = (association(f"jw01234-o001_2024{n}01t000000_image3_00001_asn.json") for n in ("03", "05"))
        other = association("jw01234-o001_20240301t000000_image3_00002_asn.json", product="other")
        found, left = find_for_run([str(workshop.incoming)], until(workshop, "stage3"))
        assert found == [other, new]
        assert left == {old: f"{new.name} makes the same product and is taken; name it to have it done"}

    def test_what_upramp_wrote_is_no_input(self, workshop, association):
        folder = workshop.config.output.folder / "associations"
        own = association("product_image3_asn.json", folder=folder, product="product")
        given = association("jw01234-o001_image3_00001_asn.json", folder=folder)
        found, left = find_for_run([str(folder)], until(workshop, "stage3"))
        assert found == [given]
        assert left == {own: "upramp wrote it, and sees to it by itself"}

    def test_members_that_are_made_anew_here_are_not_taken_as_they_lie_there(self, workshop, association):
        counts, cal = workshop.write(NAME), workshop.write(self.CAL)
        path = association("jw01234-o001_image3_00001_asn.json")
        found, left = find_for_run([str(workshop.incoming)], until(workshop, "stage3"))
        assert found == [counts]
        assert left[path].startswith(f"{cal.name} lies beside it, but is made anew of counts here; name it")
        found, left = find_for_run([str(workshop.incoming), str(path)], until(workshop, "stage3"))
        assert (found, left) == ([path, counts], {})

    def test_the_summary_tells_of_them(self, run, association, workshop):
        path = association("jw01234-o001_spec2_00001_asn.json", asn_type="spec2")
        summary = run(workshop.write(NAME), left={path: "associations of type spec2 are not in this version"})
        assert [event.path for event in summary.skipped] == [path]
        assert "associations of type spec2 are not in this version" in run.shown
        assert summary.exit_code == 0


@pytest.fixture
def run(workshop, inline):
    """Run over files; the summary, with what is printed of it in ``shown``."""

    def run(*paths, **options):
        summary = oneshot.run(
            find_inputs([str(p) for p in paths]),
            replace(workshop.config, run=replace(workshop.config.run, retry_s=0.0)),
            console=Console(file=io.StringIO()),
            calibrator=workshop.calibrator,
            crew=Crew(inline, in_process=True),
            **options,
        )
        out = io.StringIO()
        report.print_summary(Console(file=out, width=300), summary, workshop.config.store_folder)
        run.shown = out.getvalue()
        return summary

    return run


class TestRun:
    def test_all_well(self, workshop, run):
        workshop.segment(1)
        workshop.segment(2)
        summary = run(workshop.incoming)
        assert summary.exit_code == 0
        assert len(summary.products) == 4
        assert len(summary.completed) == 1
        assert "made 4 products of 2 files" in run.shown
        assert summary.products[0] in run.shown
        again = run(workshop.incoming)
        assert again.exit_code == 0
        assert "skipped 2 files" in run.shown and "unchanged" in run.shown

    def test_bad_input_is_told_with_its_remedy_and_the_rest_goes_on(self, workshop, run):
        workshop.write(NAME)
        bad = workshop.incoming / NAME.replace("nrca1", "nrca2")
        bad.write_text("not FITS")
        for _ in range(2):
            summary = run(workshop.incoming)
            assert summary.exit_code == 1
            assert "failed 1 file" in run.shown and "is not FITS" in run.shown
            assert "replace the file" in run.shown

    def test_nothing_but_misconfiguration_is_a_usage_error(self, workshop, run):
        path = workshop.write(NAME)
        other = workshop.write(NAME.replace("nrca1", "nrca2"))
        workshop.calibrator.failures[path.name] = [Misconfigured("no superbias")] * 2
        assert run(path).exit_code == 2
        assert run(path, other).exit_code == 1

    def test_passing_trouble_passes(self, workshop, run):
        path = workshop.write(NAME)
        workshop.calibrator.failures[path.name] = [Retryable("busy")]
        summary = run(path)
        assert summary.exit_code == 0
        assert summary.made[0].attempt == 2

    def test_the_run_is_recorded_and_a_dead_one_closed(self, workshop, run, kill):
        path = workshop.write(NAME)

        def die(where):
            raise kill

        workshop.hook = die
        with pytest.raises(kill):
            run(path, command="upramp run first")
        workshop.hook = lambda where: None
        run(path, command="upramp run second")
        rows = workshop.read().state.runs()
        assert [(r["command"], r["state"]) for r in rows][-1] == ("upramp run second", "ended")
        assert {r["state"] for r in rows} == {"failed", "ended"}
        assert rows[-1]["versions"]["numpy"]

    def test_two_writers_are_refused(self, workshop, run):
        path = workshop.write(NAME)
        _, ledger = workshop.open()
        with pytest.raises(Misconfigured, match=str(os.getpid())):
            run(path)
        ledger.close()

    def test_a_file_that_kills_its_worker_fails_alone(self, workshop, tmp_path, monkeypatch):
        (tmp_path / "deadly.py").write_text(DEADLY)
        monkeypatch.syspath_prepend(tmp_path)
        from deadly import Calibrator

        names = [NAME.replace("_00001_", f"_{n:05d}_") for n in range(1, 5)]
        paths = [workshop.write(name, deadly=name == names[1]) for name in names]
        summary = oneshot.run(
            paths,
            replace(workshop.config, run=replace(workshop.config.run, workers=2)),
            console=Console(file=io.StringIO()),
            calibrator=Calibrator(),
        )
        assert sorted(event.path.name for event in summary.made) == sorted({*names} - {names[1]})
        (failed,) = summary.failed
        assert (failed.path.name, failed.failure.kind, failed.attempts) == (names[1], "crashed", 2)
        assert "killed" in failed.failure.reason
        assert summary.exit_code == 1

    @pytest.mark.parametrize(("stage", "left"), [("stage1", NAME), ("stage2", NAME.replace("uncal", "rate"))])
    def test_ctrl_c_leaves_what_is_left(self, workshop, request, stage, left):
        # Under a shell's background job SIGINT is ignored.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
        path = workshop.write(NAME)
        go_on, begun = threading.Event(), []

        def interrupted(where):
            begun.append(where)
            if where == "calibrate" and begun.count(where) == int(stage[-1]):
                os.kill(os.getpid(), signal.SIGINT)
                go_on.wait(30)

        workshop.hook = interrupted
        crew = make_crew(1, workshop.config.log)
        summary = oneshot.run(
            [path],
            until(workshop, stage),
            console=Console(file=io.StringIO()),
            calibrator=workshop.calibrator,
            crew=crew,
        )
        go_on.set()
        assert summary.exit_code == 130
        assert [one.name for one in summary.left] == [left]
        assert len(workshop.read().state.segments()) == int(stage[-1]) - 1

    def test_ctrl_c_does_not_wait_for_a_file_that_is_being_read(self, workshop, request, monkeypatch):
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
        paths = [workshop.segment(1), workshop.segment(2)]
        go_on = threading.Event()

        def hang(path, settings):
            os.kill(os.getpid(), signal.SIGINT)
            go_on.wait(60)
            raise Retryable("gone")

        monkeypatch.setattr(workshop.calibrator, "plan", hang)
        begin = time.monotonic()
        summary = oneshot.run(
            paths,
            workshop.config,
            console=Console(file=io.StringIO()),
            calibrator=workshop.calibrator,
            crew=make_crew(1, workshop.config.log),
        )
        assert time.monotonic() - begin < 30
        go_on.set()
        assert summary.exit_code == 130
        assert summary.left == paths
