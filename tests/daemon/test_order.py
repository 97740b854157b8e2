"""Exposures of a detector in the order of their times, where persistence goes on from one to the next."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hands import Hands
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from structlog.testing import capture_logs

from upramp.daemon import oneshot, report
from upramp.daemon.events import (
    FileFailed,
    FileSettled,
    FileSkipped,
    PredecessorMissing,
    RetryPlanned,
    SegmentHeld,
    SegmentOutdated,
    Turn,
)
from upramp.daemon.jobs import Crew, Queue, WorkerDied
from upramp.daemon.order import reaches
from upramp.daemon.service import LIVE, Live
from upramp.daemon.telling import tell
from upramp.stages.core.errors import Retryable, Unprocessable

LIMIT = 600.0


def taken(shop: Any, number: int, *, name: str = "", **facts: Any) -> Path:
    """Exposure ``number`` of a detector: 40 s long, one each minute, windows of 100 s."""
    start = 60.0 * number
    facts = {"time": [start, start + 40.0], **facts}
    visit = "jw01234001001_02101"
    return shop.write(name or f"{visit}_{number:05d}_nrca1_uncal.fits", number=number, **facts)


def order(shop: Any) -> list[int]:
    """Numbers of the exposures in the order in which they were calibrated."""
    return [int(name.split("_")[2]) for name in shop.calibrator.calibrated]


def begun(shop: Any) -> dict[int, int | None]:
    """Number of exposure -> number of the one whose windows it began with."""
    found = {}
    for name, before in shop.calibrator.begun.items():
        from_whom = before.segment_id if before and before.path else ""
        found[int(name.split("_")[2])] = int(from_whom.split("_")[2]) if from_whom else None
    return found


class Watch:
    """A service whose time passes when it is told to."""

    def __init__(self, shop: Any, room: int = 1) -> None:
        self.shop, self.now = shop, 0.0
        shop.told.clear()
        self.desk, self.ledger = shop.open(service=True)
        self.desk.clock = lambda: self.now
        self.desk.queue = Queue(room)

    def settle(self, *paths: Path) -> None:
        """Files lie still; work on until nothing more can be done now."""
        for path in paths:
            self.desk.inbox.put(FileSettled(path))
        self.desk.wake()
        self.desk.run(until=self.quiet)

    def quiet(self) -> bool:
        return self.desk.inbox.empty() and not self.desk.unread

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.settle()


@contextlib.contextmanager
def watch(shop: Any, **more: Any) -> Iterator[Watch]:
    service = Watch(shop, **more)
    try:
        yield service
    finally:
        service.ledger.close()


class TestTurns:
    def test_windows_reach_as_long_as_they_may_be_open(self):
        first = Turn("NIS", 0.0, 40.0, 1.0)
        assert reaches(first, Turn("NIS", 140.0, 180.0, 100.0))
        assert not reaches(first, Turn("NIS", 140.1, 180.0, 100.0))
        assert not reaches(first, Turn("NRS1", 50.0, 90.0, 100.0))
        assert not reaches(first, first)
        assert not reaches(Turn("NIS", 50.0, 90.0, 100.0), first)


class TestRun:
    """``upramp run``: all files are known, nothing is waited for in vain."""

    def test_without_the_step_no_file_is_looked_into_ahead(self, workshop, monkeypatch):
        monkeypatch.setattr(workshop.calibrator, "glance", lambda path: pytest.fail("looked ahead"))
        paths = [taken(workshop, n, off=True) for n in (3, 1, 2)]
        workshop.run(*paths)
        assert order(workshop) == [3, 1, 2]
        assert workshop.read().table("persistence").num_rows == 0
        assert set(workshop.calibrator.begun.values()) == {None}

    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(numbers=st.permutations(range(1, 8)), room=st.integers(1, 3))
    def test_any_order_of_files_ends_in_the_order_of_times(self, new_workshop, numbers, room):
        shop = new_workshop()
        shop.room = room
        shop.run(*(taken(shop, n) for n in numbers))
        assert order(shop) == [1, 2, 3, 4, 5, 6, 7]
        assert begun(shop) == {1: None, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 6}

    def test_segments_follow_each_other(self, workshop):
        last, first = workshop.segment(2, time=[200, 240]), workshop.segment(1, time=[100, 140])
        workshop.run(last, first)
        assert workshop.calibrator.calibrated == [first.name, last.name]
        assert workshop.calibrator.begun[last.name.removesuffix("_uncal.fits")].segment_id.endswith(
            "seg001_nrca1"
        )

    def test_detectors_do_not_wait_for_each_other(self, workshop):
        a, b = taken(workshop, 2), taken(workshop, 1, detector="NRCA2")
        workshop.run(a, b)
        assert order(workshop) == [2, 1]
        assert begun(workshop) == {2: None, 1: None}

    def test_what_cannot_matter_is_not_waited_for(self, workshop):
        workshop.run(taken(workshop, 5), taken(workshop, 1))
        assert order(workshop) == [5, 1]
        assert "all windows" not in workshop.calibrator.begun["jw01234001001_02101_00005_nrca1"].reason

    def test_windows_that_are_over_are_not_taken(self, workshop):
        workshop.run(taken(workshop, 1))
        workshop.run(taken(workshop, 5))
        before = workshop.calibrator.begun["jw01234001001_02101_00005_nrca1"]
        assert (before.path, before.sha256) == (None, "")
        assert before.reason == "all windows of jw01234001001_02101_00001_nrca1 were over"

    def test_the_ledger_tells_what_was_taken_over(self, workshop):
        workshop.run(taken(workshop, 1), taken(workshop, 2))
        first, second = sorted(workshop.read().latest("persistence"), key=lambda row: row["start_s"])
        assert (first["before"], first["before_sha256"]) == (None, None)
        assert first["reason"] == "nothing is known of an exposure before it"
        assert (second["before"], second["before_sha256"]) == (first["segment_id"], first["sha256"])
        assert second["key"] == workshop.read().state.segment(second["segment_id"])["key"]

    def test_a_failed_predecessor_does_not_block(self, workshop):
        first, bad, third = (taken(workshop, n) for n in (1, 2, 3))
        workshop.calibrator.failures[bad.name] = [Unprocessable("NaN")]
        workshop.run(third, bad, first)
        assert len(workshop.told_of(FileFailed)) == 1
        assert order(workshop) == [1, 3]
        assert begun(workshop)[3] == 1

    def test_a_file_that_cannot_be_read_does_not_block(self, workshop):
        bad = workshop.incoming / "jw01234001001_02101_00001_nrca1_uncal.fits"
        bad.write_text("not FITS")
        workshop.run(taken(workshop, 2), bad)
        assert order(workshop) == [2]
        assert len(workshop.told_of(FileFailed)) == 1

    @pytest.mark.parametrize("error", [Retryable("no server"), WorkerDied("killed")])
    def test_a_predecessor_that_is_tried_again_is_waited_for(self, workshop, error):
        first, second = taken(workshop, 1), taken(workshop, 2)
        workshop.calibrator.failures[first.name] = [error]
        workshop.run(second, first)
        assert len(workshop.told_of(RetryPlanned)) == 1
        assert order(workshop) == [1, 2]
        assert begun(workshop)[2] == 1

    def test_what_waits_for_what_is_told_once(self, workshop):
        first, second = taken(workshop, 1), taken(workshop, 2)
        workshop.run(second, first)
        (held,) = workshop.told_of(SegmentHeld)
        assert (held.work.identity.path, held.behind, held.seconds) == (second, first, None)

    def test_windows_of_another_length_count_for_nothing(self, workshop):
        workshop.run(taken(workshop, 1, seconds=50.0), taken(workshop, 2))
        before = workshop.calibrator.begun["jw01234001001_02101_00002_nrca1"]
        assert before.path is None
        assert "persistence_time = 50" in before.reason

    def test_what_is_done_is_not_done_again(self, workshop):
        paths = [taken(workshop, n) for n in (1, 2, 3)]
        workshop.run(*paths)
        workshop.run(*reversed(paths))
        assert [e.reason for e in workshop.told_of(FileSkipped)] == ["unchanged"] * 3
        assert workshop.told_of(SegmentOutdated) == []

    def test_another_result_makes_the_followers_due_one_after_the_other(self, workshop):
        paths = [taken(workshop, n) for n in (1, 2, 3)]
        workshop.run(*paths)
        taken(workshop, 1, note="changed")
        workshop.run(*reversed(paths))
        assert order(workshop) == [1, 2, 3, 1, 2, 3]
        assert workshop.told_of(SegmentOutdated) == [], "all were at hand"

    def test_followers_that_were_not_given_are_told(self, workshop):
        first, second, third = (taken(workshop, n) for n in (1, 2, 3))
        workshop.run(first, second, third)
        taken(workshop, 1, note="changed")
        workshop.run(first)
        (outdated,) = workshop.told_of(SegmentOutdated)
        assert (outdated.path, outdated.again) == (second, False)
        summary, out = oneshot.Summary(), io.StringIO()
        summary.hear(outdated)
        report.print_summary(Console(file=out, width=300), summary, workshop.config.store_folder)
        assert "to be given again: 1 file" in out.getvalue() and str(second) in out.getvalue()
        workshop.run(second)
        assert [e.path for e in workshop.told_of(SegmentOutdated)] == [third]
        workshop.run(third)
        assert order(workshop) == [1, 2, 3, 1, 2, 3]
        assert workshop.told_of(SegmentOutdated) == []

    def test_the_same_result_again_concerns_nobody(self, workshop):
        first, second = taken(workshop, 1), taken(workshop, 2)
        workshop.run(first, second)
        workshop.run(first, force=True)
        assert workshop.told_of(SegmentOutdated) == []
        workshop.run(second)
        assert [e.reason for e in workshop.told_of(FileSkipped)] == ["unchanged"]

    def test_a_late_predecessor_makes_its_follower_due(self, workshop):
        first, second, third = (taken(workshop, n) for n in (1, 2, 3))
        workshop.run(first, third)
        assert begun(workshop)[3] == 1
        workshop.run(second)
        assert [e.path for e in workshop.told_of(SegmentOutdated)] == [third]
        workshop.run(third)
        assert begun(workshop) == {1: None, 2: 1, 3: 2}

    def test_a_predecessor_that_turned_bad_or_went_without_the_step_counts_no_more(self, workshop):
        first, second = taken(workshop, 1), taken(workshop, 2)
        workshop.run(first, second)
        first.write_text("not FITS")
        workshop.run(first)
        assert [e.path for e in workshop.told_of(SegmentOutdated)] == [second]
        taken(workshop, 1)
        workshop.run(first, second)
        assert begun(workshop)[2] == 1
        taken(workshop, 1, off=True)
        workshop.run(first)
        assert [e.path for e in workshop.told_of(SegmentOutdated)] == [second]
        workshop.run(second)
        assert begun(workshop)[2] is None

    def test_windows_that_were_removed_are_made_anew(self, workshop):
        first, second = taken(workshop, 1), taken(workshop, 2)
        workshop.run(first, second)
        before = workshop.picture()
        for path in (workshop.config.store_folder / "windows").rglob("*1_nrca1-*.parquet"):
            path.unlink()
        workshop.run(second)
        assert "no longer there" in workshop.calibrator.begun["jw01234001001_02101_00002_nrca1"].reason
        workshop.run(first, second)
        assert begun(workshop)[2] == 1
        assert workshop.picture()["products"] == before["products"]


class TestWatch:
    """``upramp watch``: what has not been seen yet is waited for, up to the limit."""

    def test_within_the_limit_the_order_is_kept(self, workshop):
        with watch(workshop) as service:
            service.settle(taken(workshop, 2))
            service.wait(LIMIT - 1)
            assert order(workshop) == []
            service.settle(taken(workshop, 1))
            service.wait(LIMIT)
        assert order(workshop) == [1, 2]
        assert begun(workshop)[2] == 1

    def test_it_is_told_who_waits_and_for_whom(self, workshop):
        with watch(workshop) as service:
            service.settle(taken(workshop, 2))
            ((work, hold),) = service.desk.held
            assert (work.segment_id, hold.behind, hold.until) == (
                "jw01234001001_02101_00002_nrca1",
                None,
                LIMIT,
            )
            (held,) = workshop.told_of(SegmentHeld)
            assert (held.behind, held.seconds) == (None, LIMIT)

    def test_status_shows_who_waits_for_whom(self, workshop):
        live_file = workshop.config.store_folder / LIVE
        with watch(workshop) as service:
            first, second = taken(workshop, 1, time=[200, 240]), taken(workshop, 2, time=[300, 340])
            service.settle(first, second)
            Live(live_file, service.desk, SimpleNamespace(waiting=lambda: [])).write()
            facts = report.status(workshop.config.store_folder, live_file)
            assert [one["segment_id"][20:25] for one in facts["service"]["held"]] == ["00001", "00002"]
            out = io.StringIO()
            report.print_status(Console(file=out, width=300), facts)
        text = out.getvalue()
        assert "queued until it is their turn on their detector, for persistence: 2" in text
        assert "s more for what may come before it" in text
        assert f"jw01234001001_02101_00002_nrca1 waits for {first.name}" in text

    def test_after_the_limit_it_goes_on_without_and_says_so(self, workshop):
        with watch(workshop) as service:
            service.settle(taken(workshop, 2))
            service.wait(LIMIT)
        (missing,) = workshop.told_of(PredecessorMissing)
        assert missing.seconds == LIMIT
        with capture_logs() as lines:
            for event in (*workshop.told_of(SegmentHeld), missing):
                tell(event)
        assert [(line["event"], line["wait_s"]) for line in lines] == [
            ("segment_held", LIMIT),
            ("predecessor_missing", LIMIT),
        ]
        assert order(workshop) == [2]
        (row,) = workshop.read().latest("persistence")
        assert row["reason"].startswith("nothing came directly before it within 600 s")

    def test_a_late_predecessor_has_its_followers_done_again(self, workshop):
        with watch(workshop) as service:
            service.settle(taken(workshop, 2), taken(workshop, 3))
            service.wait(LIMIT)
            assert order(workshop) == [2, 3]
            service.settle(taken(workshop, 1))
            service.wait(LIMIT)
        assert order(workshop) == [2, 3, 1, 2, 3]
        assert begun(workshop) == {1: None, 2: 1, 3: 2}
        assert [e.again for e in workshop.told_of(SegmentOutdated)] == [True, True]

    def test_one_that_comes_while_its_follower_is_at_work_is_noticed(self, workshop):
        with watch(workshop, room=2) as service:
            hands = Hands()
            service.desk.crew = Crew(lambda: hands, in_process=True)
            service.settle(taken(workshop, 2))
            service.wait(LIMIT)
            service.settle(taken(workshop, 1))
            service.wait(LIMIT)
            assert len(hands.work) == 2
            hands.finish(1)
            service.settle()
            assert order(workshop) == [1]
            hands.finish(0)
            service.settle()
            assert order(workshop) == [1, 2]
            assert begun(workshop)[2] is None
            assert [e.again for e in workshop.told_of(SegmentOutdated)] == [True]
            hands.finish(0)
            service.settle()
        assert order(workshop) == [1, 2, 2]
        assert begun(workshop) == {1: None, 2: 1}

    def test_numbered_exposures_are_not_waited_for_in_vain(self, workshop):
        with watch(workshop) as service:
            service.settle(taken(workshop, 1))
            service.wait(LIMIT)
            service.settle(taken(workshop, 2), taken(workshop, 3))
            assert order(workshop) == [1, 2, 3]
        assert len(workshop.told_of(PredecessorMissing)) == 1

    def test_numbered_exposures_that_failed_are_not_waited_for_either(self, workshop):
        bad = taken(workshop, 1)
        bad.write_text("not FITS")
        with watch(workshop) as service:
            service.settle(bad)
            service.settle(taken(workshop, 2))
            assert order(workshop) == [2]

    def test_all_segments_of_the_exposure_before_must_be_in(self, workshop):
        later = taken(workshop, 2, time=[400, 440])
        with watch(workshop) as service:
            service.settle(workshop.segment(1, time=[200, 240]))
            service.wait(LIMIT)
            service.settle(later)
            assert len(workshop.calibrator.calibrated) == 1
            service.settle(workshop.segment(2, time=[300, 340]))
            assert [n[:31] for n in workshop.calibrator.calibrated][1:] == [
                "jw01234001001_02101_00001-seg00",
                "jw01234001001_02101_00002_nrca1",
            ]

    def test_held_back_ones_do_not_keep_others_from_being_read(self, workshop):
        with watch(workshop) as service:
            service.settle(
                *(taken(workshop, 2, name=f"other{n}_00002_x_uncal.fits", detector=f"D{n}") for n in range(9))
            )
            service.settle(taken(workshop, 7, off=True))
            assert order(workshop) == [7]

    def test_at_a_restart_nothing_is_lost_and_what_is_done_does_not_wait(self, workshop):
        paths = [taken(workshop, n) for n in (1, 2, 4)]
        with watch(workshop) as service:
            service.settle(*paths)
            service.wait(LIMIT / 2)
            assert order(workshop) == []
        with watch(workshop) as service:
            service.settle(*paths)
            service.wait(LIMIT)
            assert order(workshop) == [1, 2, 4]
        with watch(workshop) as service:
            service.settle(*paths)
            assert len(workshop.told_of(FileSkipped)) == 3
            assert workshop.told_of(SegmentHeld) == []

    def test_a_limit_of_nothing_waits_for_nothing(self, workshop):
        workshop.config = replace(
            workshop.config, watch=replace(workshop.config.watch, persistence_wait_s=0.0)
        )
        with watch(workshop) as service:
            service.settle(taken(workshop, 2))
            assert order(workshop) == [2]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    arrivals=st.permutations((1, 2, 3, 4, 6)),
    pauses=st.lists(st.sampled_from([0.0, LIMIT / 2, LIMIT]), min_size=5, max_size=5),
    deaths=st.lists(st.integers(0, 40), max_size=3),
    room=st.integers(1, 3),
)
def test_no_order_of_arrival_lateness_or_kill_changes_the_end(
    new_workshop, kill, arrivals, pauses, deaths, room
):
    clean = new_workshop()
    clean.run(*(taken(clean, n) for n in (1, 2, 3, 4, 6)))
    other = new_workshop()
    seen: list[Path] = []
    for number, pause in zip(arrivals, pauses, strict=True):
        seen.append(taken(other, number))
        death = deaths.pop() if deaths else None
        countdown = iter(range(death if death is not None else 10**6))

        def hook(where: str, countdown: Any = countdown) -> None:
            if next(countdown, None) is None:
                raise kill

        other.hook = hook
        with contextlib.suppress(kill), watch(other, room=room) as service:
            service.settle(*seen)
            service.wait(pause)
    other.hook = lambda where: None
    with watch(other, room=room) as service:
        service.settle(*seen)
        service.wait(LIMIT)
        service.wait(LIMIT)
        assert service.desk.held == []
    assert texts(other) == texts(clean)
    assert len(other.read().state.segments("calibrated")) == 5


def texts(shop: Any) -> dict[str, Any]:
    """What was made with what: by segment the key and the windows that it began with and left."""
    state = shop.read().state
    rows = [state.windows(row["segment_id"]) for row in state.segments()]
    return {r["segment_id"]: (r["key"], r["before"], r["before_sha256"], r["sha256"]) for r in rows}
