"""What happens when: decisions, versions, failures, and that no order or accident changes the end."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upramp.daemon.events import (
    ExposureCompleted,
    ExposureContradicted,
    FileFailed,
    FileSkipped,
    LedgerRefused,
    RetryPlanned,
    SegmentCalibrated,
    SegmentCommitted,
    SegmentSuperseded,
)
from upramp.daemon.jobs import WorkerDied
from upramp.stages.core.errors import Misconfigured, Retryable, Unprocessable


def states(workshop: Any) -> list[tuple[Any, ...]]:
    return [(r["segment_id"][-14:], r["version"], r["state"]) for r in workshop.read().state.segments()]


def test_a_file_becomes_products_and_rows(workshop):
    path = workshop.write("jw01234001001_02101_00001_nrca1_uncal.fits")
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    workshop.run(path)
    (committed,) = workshop.told_of(SegmentCommitted)
    assert (committed.version, len(committed.products), committed.attempt) == (1, 2, 1)
    assert committed.counters == {"jump.jumps": 3}
    (completed,) = workshop.told_of(ExposureCompleted)
    assert completed.integrations == 2
    state = workshop.read().state
    (row,) = state.segments()
    assert (row["state"], row["bytes"], row["exp_type"]) == ("calibrated", len(before[0]), "NRC_IMAGE")
    (exposure,) = state.exposures()
    assert exposure["state"] == "completed"
    assert exposure["products"] == sorted(p["path"] for p in committed.products)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_what_is_done_is_not_done_again(workshop):
    path = workshop.write("jw01234001001_02101_00001_nrca1_uncal.fits")
    workshop.run(path, path)
    workshop.run(path)
    assert [e.reason for e in workshop.told_of(FileSkipped)] == ["unchanged"]
    os.utime(path)
    workshop.run(path)
    assert [e.reason for e in workshop.told_of(FileSkipped)] == ["unchanged"]
    assert len(workshop.calibrator.calibrated) == 1


def test_an_unchanged_file_is_not_read_again_for_its_checksum(workshop, monkeypatch):
    path = workshop.write("jw01234001001_02101_00001_nrca1_uncal.fits")
    workshop.run(path)
    monkeypatch.setattr("upramp.daemon.reading.sha256_of", lambda path: pytest.fail("read again"))
    workshop.run(path)
    assert len(workshop.told_of(FileSkipped)) == 1


def test_force_other_parameters_and_lost_products_are_reasons_to_do_it_again(workshop):
    path = workshop.write("jw01234001001_02101_00001_nrca1_uncal.fits")
    workshop.run(path)
    workshop.run(path, force=True)
    workshop.calibrator.parameters = "jump.rejection_threshold=5"
    workshop.run(path)
    next(workshop.config.output.folder.glob("*_rate.fits")).unlink()
    workshop.run(path)
    workshop.run(path)
    assert len(workshop.calibrator.calibrated) == 4
    picture = workshop.picture()
    assert [s[1:3] for s in picture["segments"]] == [(1, "calibrated")]
    assert len(picture["products"]) == 2
    assert len(workshop.told_of(ExposureCompleted)) == 0


def test_a_changed_file_is_a_new_version_and_supersedes_the_old_one(workshop):
    first = workshop.segment(1)
    workshop.run(first, workshop.segment(2))
    assert len(workshop.told_of(ExposureCompleted)) == 1
    workshop.segment(1, note="changed")
    workshop.run(first)
    (gone,) = workshop.told_of(SegmentSuperseded)
    assert (gone.version, gone.reason) == (1, "the file changed")
    assert [e.version for e in workshop.told_of(SegmentCommitted)] == [2]
    assert len(workshop.told_of(ExposureCompleted)) == 1
    assert {p["version"] for p in workshop.read().state.products()} == {1, 2}
    assert len(workshop.read().state.products()) == 4
    workshop.segment(1)
    workshop.run(first)
    assert [e.version for e in workshop.told_of(SegmentCommitted)] == [1], "old content has its old number"
    assert "changed" not in workshop.picture()["files"][first.name.replace("uncal", "rate")]


def test_a_bad_new_version_supersedes_and_its_exposure_is_partial_again(workshop):
    path = workshop.write("jw01234001001_02101_00001_nrca1_uncal.fits")
    workshop.run(path)
    path.write_text("not FITS")
    workshop.run(path)
    (row,) = workshop.read().state.segments()
    assert (row["state"], row["version"], row["failure"]) == ("failed", 2, "unprocessable")
    assert workshop.read().state.products() == []
    assert workshop.read().state.exposures()[0]["state"] == "partial"


def test_the_same_segment_in_two_folders(workshop):
    name = "jw01234001001_02101_00001_nrca1_uncal.fits"
    one = workshop.write(name)
    same = workshop.write(name, folder=workshop.root / "copy")
    other = workshop.write(name, folder=workshop.root / "newer", note="newer")
    workshop.run(one, same)
    assert [e.reason for e in workshop.told_of(FileSkipped)] == [
        f"same content as {one}, which is calibrated"
    ]
    workshop.run(other)
    assert [e.version for e in workshop.told_of(SegmentCommitted)] == [2]
    workshop.run(one, other)
    assert [e.reason for e in workshop.told_of(FileSkipped)] == [
        f"superseded by {other}, which came later",
        "unchanged",
    ]
    other.unlink()
    workshop.run(one)
    assert [e.version for e in workshop.told_of(SegmentCommitted)] == [1], "its rival is gone"


def test_a_bad_file_never_displaces_a_good_one_elsewhere(workshop):
    name = "jw01234001001_02101_00001_nrca1_uncal.fits"
    good = workshop.write(name)
    workshop.run(good)
    before = workshop.picture()
    bad = workshop.root / "elsewhere" / name
    bad.parent.mkdir()
    bad.write_text("half a file")
    workshop.run(bad)
    assert len(workshop.told_of(FileFailed)) == 1
    assert workshop.picture() == before
    workshop.run(bad)
    assert workshop.told_of(FileFailed) == []
    assert [e.failed for e in workshop.told_of(FileSkipped)] == [True]


def test_an_unprocessable_file_is_told_once_and_tried_again_when_it_changes(workshop):
    path = workshop.incoming / "jw01234001001_02101_00001_nrca1_uncal.fits"
    path.write_text("not FITS")
    workshop.run(path)
    (failed,) = workshop.told_of(FileFailed)
    assert failed.failure.kind == "unprocessable"
    assert "is not FITS" in failed.failure.reason
    workshop.run(path)
    assert workshop.told_of(FileFailed) == []
    (skipped,) = workshop.told_of(FileSkipped)
    assert skipped.failed
    assert skipped.reason == failed.failure.reason
    workshop.run(path, force=True)
    assert len(workshop.told_of(FileFailed)) == 1
    workshop.write(path.name)
    workshop.run(path)
    assert len(workshop.told_of(SegmentCommitted)) == 1


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda p: p.symlink_to(p.parent / "nowhere")])
def test_things_that_are_no_files(workshop, make):
    path = workshop.incoming / "jw01234001001_02101_00001_nrca1_uncal.fits"
    make(path)
    good = workshop.write("jw01234001001_02101_00002_nrca1_uncal.fits")
    workshop.run(path, good)
    (failed,) = workshop.told_of(FileFailed)
    assert failed.failure.kind == "unprocessable"
    assert len(workshop.told_of(SegmentCommitted)) == 1


@pytest.mark.parametrize(
    "name", ["..\\x_uncal.fits", "a\nb_uncal.fits", "\x1b[31mred_uncal.fits", "-rf_uncal.fits"]
)
def test_names_with_tricks_are_recorded_printably(workshop, name):
    path = workshop.incoming / name
    path.write_text("not FITS")
    workshop.run(path)
    (row,) = workshop.read().state.segments("failed")
    assert row["segment_id"].isprintable()
    assert row["reason"].replace("\n", "").isprintable()


def test_passing_trouble_is_tried_again_up_to_the_limit(workshop):
    path = workshop.write("jw01234001001_02101_00001_nrca1_uncal.fits")
    workshop.calibrator.failures[path.name] = [Retryable("the server is out of reach")] * 2
    workshop.run(path)
    assert [e.attempts for e in workshop.told_of(RetryPlanned)] == [1, 2]
    (committed,) = workshop.told_of(SegmentCommitted)
    assert committed.attempt == 3
    other = workshop.write("jw01234001001_02101_00002_nrca1_uncal.fits")
    workshop.calibrator.failures[other.name] = [Retryable("the server is out of reach")] * 9
    workshop.run(other)
    (failed,) = workshop.told_of(FileFailed)
    assert (failed.failure.kind, failed.attempts) == ("retryable", 3)


@pytest.mark.parametrize(
    ("error", "kind", "again"),
    [
        (Misconfigured("no dark"), "misconfigured", True),
        (ValueError("bug"), "unexpected", True),
        (WorkerDied("killed"), "crashed", True),
        (Unprocessable("NaN"), "unprocessable", False),
    ],
)
def test_failures_and_the_next_start(workshop, error, kind, again):
    path = workshop.write("jw01234001001_02101_00001_nrca1_uncal.fits")
    good = workshop.write("jw01234001001_02101_00002_nrca1_uncal.fits")
    workshop.calibrator.failures[path.name] = [error, error]
    workshop.run(path, good)
    (failed,) = workshop.told_of(FileFailed)
    assert failed.failure.kind == kind
    assert (failed.failure.traceback is not None) == (kind == "unexpected")
    assert failed.failure.remedy
    assert len(workshop.told_of(SegmentCommitted)) == 1, "the rest goes on"
    assert failed.attempts == (2 if kind == "crashed" else 1)
    workshop.calibrator.failures.clear()
    workshop.run(path)
    assert len(workshop.told_of(SegmentCommitted)) == int(again)


@pytest.mark.parametrize(
    "error", [Misconfigured("no such context"), Retryable("no server"), WorkerDied("x"), KeyError("bug")]
)
def test_a_run_that_fails_for_other_reasons_than_the_content_leaves_good_work_standing(workshop, error):
    path = workshop.write("jw01234001001_02101_00001_nrca1_uncal.fits")
    workshop.run(path)
    before = workshop.picture()
    workshop.calibrator.parameters = "mistaken"
    workshop.calibrator.failures[path.name] = [error] * 3
    workshop.run(path)
    assert len(workshop.told_of(FileFailed)) == 1
    assert workshop.picture() == before
    workshop.calibrator.failures.clear()
    workshop.calibrator.parameters = "default"
    workshop.run(path)
    assert [e.reason for e in workshop.told_of(FileSkipped)] == ["unchanged"]
    assert workshop.read().state.exposures()[0]["state"] == "completed"


def test_the_key_on_record_is_that_of_the_products(workshop):
    path = workshop.write("jw01234001001_02101_00001_nrca1_uncal.fits")

    def references_change(path: Path) -> None:
        workshop.calibrator.parameters = "new"

    workshop.calibrator.during = references_change
    workshop.run(path)
    workshop.run(path)
    assert [e.reason for e in workshop.told_of(FileSkipped)] == ["unchanged"]


def test_a_plan_that_cannot_be_made_leaves_good_work_standing(workshop, monkeypatch):
    path = workshop.write("jw01234001001_02101_00001_nrca1_uncal.fits")
    workshop.run(path)
    before = workshop.picture()

    def refuse(path: Path, settings: Any) -> Any:
        raise Misconfigured("no such context")

    with monkeypatch.context() as patch:
        patch.setattr(workshop.calibrator, "plan", refuse)
        workshop.run(path)
        assert len(workshop.told_of(FileFailed)) == 1
    assert workshop.picture() == before


def test_a_file_that_changes_under_our_hands_is_done_again_and_only_that_is_recorded(workshop):
    path = workshop.write("jw01234001001_02101_00001_nrca1_uncal.fits")

    def change(path: Path) -> None:
        workshop.calibrator.during = lambda path: None
        workshop.write(path.name, note="changed meanwhile")

    workshop.calibrator.during = change
    workshop.run(path)
    assert [e.version for e in workshop.told_of(SegmentCommitted)] == [1]
    assert workshop.picture()["jobs"] == 1
    assert "meanwhile" in workshop.picture()["files"][path.name.replace("uncal", "rate")]


def test_in_service_the_watcher_says_when_a_changing_file_lies_still(workshop):
    path = workshop.write("jw01234001001_02101_00001_nrca1_uncal.fits")
    whole = path.read_text()

    def begin_to_change(path: Path) -> None:
        workshop.calibrator.during = lambda path: None
        path.write_text(whole[:5])

    workshop.calibrator.during = begin_to_change
    workshop.run(path, service=True)
    assert workshop.read().state.segments() == [], "half a file is nobody's version"
    path.write_text(whole)
    workshop.run(path, service=True)
    assert [e.version for e in workshop.told_of(SegmentCommitted)] == [1]


def test_a_file_that_vanishes_while_it_is_calibrated_is_still_recorded(workshop):
    path = workshop.write("jw01234001001_02101_00001_nrca1_uncal.fits")
    workshop.calibrator.during = Path.unlink
    workshop.run(path)
    assert len(workshop.told_of(SegmentCommitted)) == 1
    workshop.run(path)
    (skipped,) = workshop.told_of(FileSkipped)
    assert "gone" in skipped.reason


def test_a_vanished_file_that_nobody_knew_is_recorded_as_failed(workshop):
    workshop.run(workshop.incoming / "jw01234001001_02101_00001_nrca1_uncal.fits")
    (row,) = workshop.read().state.segments("failed")
    assert "no such file" in row["reason"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser can read everything")
def test_an_unreadable_file_is_tried_again_at_the_next_start(workshop):
    path = workshop.write("jw01234001001_02101_00001_nrca1_uncal.fits")
    path.chmod(0)
    workshop.run(path)
    (failed,) = workshop.told_of(FileFailed)
    assert failed.failure.kind == "misconfigured"
    path.chmod(stat.S_IRUSR)
    workshop.run(path)
    assert len(workshop.told_of(SegmentCommitted)) == 1


def test_integrations_that_do_not_add_up_make_no_complete_exposure(workshop):
    workshop.run(workshop.segment(1), workshop.segment(2, first=4, last=4))
    assert workshop.told_of(ExposureCompleted) == []
    assert len(workshop.told_of(ExposureContradicted)) == 1
    (exposure,) = workshop.read().state.exposures()
    assert exposure["state"] == "failed"
    assert "1-2, 4-4 do not make up 1-4" in exposure["reason"]
    workshop.run(workshop.segment(2))
    assert len(workshop.told_of(ExposureCompleted)) == 1


def test_what_an_exposure_waits_for_is_told(workshop):
    workshop.run(workshop.segment(2, of=3))
    (exposure,) = workshop.read().state.exposures()
    assert (exposure["state"], exposure["segments_in"]) == ("partial", 1)
    assert exposure["reason"] == "waits for segment 1, 3 of 3"


def test_a_full_ledger_disk_is_waited_for(workshop):
    path = workshop.write("jw01234001001_02101_00001_nrca1_uncal.fits")
    refusals = iter(["commit", "commit"])

    def refuse(where: str) -> None:
        if where == "commit" and next(refusals, None):
            raise Retryable("the disk is full")

    workshop.hook = refuse
    workshop.run(path)
    assert len(workshop.calibrator.calibrated) == 1
    assert [type(e) for e in workshop.told[-4:]] == [
        LedgerRefused,
        SegmentCalibrated,
        SegmentCommitted,
        ExposureCompleted,
    ]


NAMES = (1, 2, 3)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.permutations(NAMES),
    st.lists(st.sampled_from(NAMES), max_size=3),
    st.lists(st.integers(0, 40), max_size=4),
)
def test_no_order_repetition_or_kill_changes_the_end(new_workshop, kill, order, again, deaths):
    clean = new_workshop()
    clean.run(*(clean.segment(n, of=3) for n in NAMES))

    other = new_workshop()
    paths = {n: other.segment(n, of=3) for n in NAMES}
    arrivals = [paths[n] for n in (*order, *again)]
    completed = 0
    for death in [*deaths, None]:
        countdown = iter(range(death if death is not None else 10**6))

        def hook(where: str, countdown: Any = countdown) -> None:
            if next(countdown, None) is None:
                raise kill

        other.hook = hook
        with contextlib.suppress(kill):
            other.run(*arrivals)
        completed += len(other.told_of(ExposureCompleted))
    a, b = clean.picture(), other.picture()
    for path in (clean.root, other.root):
        a, b = (_without(str(path), p) for p in (a, b))
    assert a == b
    assert completed <= 1


def _without(root: str, value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(root, "")
    if isinstance(value, dict):
        return {k: _without(root, v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_without(root, v) for v in value)
    return value


@pytest.mark.parametrize("death", range(14))
def test_a_kill_at_each_point_while_a_version_is_replaced(new_workshop, kill, death):
    shop = new_workshop()
    first, second = shop.segment(1), shop.segment(2)
    shop.run(first, second)
    shop.segment(1, note="changed")
    countdown = iter(range(death))

    def hook(where: str) -> None:
        if next(countdown, None) is None:
            raise kill

    shop.hook = hook
    with contextlib.suppress(kill):
        shop.run(second, first)
    shop.hook = lambda where: None
    shop.run(first, second)
    picture = shop.picture()
    assert [s[1:3] for s in picture["segments"]] == [(2, "calibrated"), (1, "calibrated")]
    assert picture["jobs"] == 3
    assert picture["made by known jobs"]
    assert "changed" in picture["files"][first.name.replace("uncal", "rate")]
    rows = shop.read().latest("segments")
    assert [r["state"] for r in rows if r["version"] == 1 and r["segment"] == 1] == ["superseded"]
