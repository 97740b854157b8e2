"""upramp watch: the service around the handlers, without a disk to watch and without waiting."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from upramp.daemon import report
from upramp.daemon.config import Store
from upramp.daemon.jobs import Crew, make_crew
from upramp.daemon.service import LIVE, Stop, serve
from upramp.daemon.settle import Settler, Stamp
from upramp.store.prepared import INFO


class Source:
    """A watcher that hands on the files it was given."""

    def __init__(self, paths):
        self.paths = list(paths)
        self.stopped = False

    def __call__(self, on_settled):
        self.on_settled = on_settled
        return self

    def start(self):
        for path in self.paths:
            self.on_settled(path)

    def stop(self):
        self.stopped = True

    def waiting(self):
        return [self.paths[0].with_name("jw_half_uncal.fits")]


@pytest.fixture
def service(workshop, inline):
    """Serve these files until the last is calibrated, or as ``during`` says."""

    def serve_files(*paths, during=None, crew=None, stop=None):
        stop = stop or Stop()
        source = Source(paths)

        def last(path):
            if path == paths[-1]:
                stop.ask("SIGTERM")

        workshop.calibrator.during = during or last
        abandoned = serve(
            workshop.config,
            calibrator=workshop.calibrator,
            crew=crew or Crew(inline, in_process=True),
            make_watcher=source,
            stop=stop,
        )
        assert source.stopped
        return abandoned

    return serve_files


def test_files_in_products_out(workshop, service):
    assert service(workshop.segment(2), workshop.segment(1)) is False
    assert workshop.picture()["exposures"][0][1] == "completed"
    assert workshop.read().state.runs()[-1]["state"] == "ended"


def test_the_next_start_goes_on_where_this_one_stopped(workshop, service):
    paths = [workshop.segment(n, of=3) for n in (1, 2, 3)]
    stop = Stop()
    service(*paths, during=lambda path: stop.ask("SIGTERM"), stop=stop)
    assert len(workshop.read().state.segments("calibrated")) == 1
    service(*paths)
    assert len(workshop.read().state.segments("calibrated")) == 3
    assert len(workshop.calibrator.calibrated) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_work_under_way_end(workshop, service, number):
    path, before = workshop.segment(1, of=1, total=2), signal.getsignal(number)
    crew = make_crew(1, workshop.config.log)
    assert service(path, during=lambda path: os.kill(os.getpid(), number), crew=crew) is False
    assert len(workshop.read().state.segments("calibrated")) == 1
    assert signal.getsignal(number) is before


def test_work_that_takes_too_long_is_abandoned_and_done_again(workshop, service):
    path = workshop.segment(1, of=1, total=2)
    go_on = threading.Event()

    def hang(path):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        go_on.wait(30)

    stop = Stop(clock=iter(range(0, 10**9, 10**6)).__next__)
    assert service(path, during=hang, crew=make_crew(1, workshop.config.log), stop=stop) is True
    go_on.set()
    assert workshop.read().state.segments() == []
    assert service(path) is False
    assert len(workshop.read().state.segments("calibrated")) == 1


def test_a_file_that_takes_too_long_to_read_is_abandoned_too(workshop, service, monkeypatch):
    path = workshop.segment(1, of=1, total=2)
    go_on, plan = threading.Event(), workshop.calibrator.plan

    def hang(path, settings):
        os.kill(os.getpid(), signal.SIGTERM)
        go_on.wait(60)
        return plan(path, settings)

    stop = Stop(clock=iter(range(0, 10**9, 10**6)).__next__)
    begin = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(workshop.calibrator, "plan", hang)
        assert service(path, stop=stop) is True
    assert time.monotonic() - begin < 30
    go_on.set()
    assert workshop.read().state.segments() == []
    assert service(path) is False
    assert len(workshop.read().state.segments("calibrated")) == 1


def test_leftovers_are_cleaned_at_the_start(workshop, service):
    left = workshop.config.output.folder / ".upramp-scratch" / "old-job"
    left.mkdir(parents=True)
    (left / "half.fits").write_text("half")
    service(workshop.segment(1, of=1, total=2))
    assert not left.exists()


def test_the_cache_is_kept_to_its_size_at_the_start(workshop, service):
    cache = workshop.root / "cache"
    workshop.config = replace(workshop.config, store=Store(cache=cache, cache_mb=0.001))
    for name, used in (("old", 1000), ("new", 2000)):
        entry = cache / "prepared" / "jump-gain-0" / name
        entry.mkdir(parents=True)
        (entry / "x.npy").write_bytes(bytes(600))
        (entry / INFO).touch()
        os.utime(entry / INFO, (used, used))
    service(workshop.segment(1, of=1, total=2))
    assert [p.name for p in (cache / "prepared" / "jump-gain-0").iterdir()] == ["new"]


def test_what_a_scan_finds_is_handed_on_oldest_first():
    settler = Settler(settle_s=0, stale_s=0)
    times = {Path("/a/x"): 3, Path("/b/x"): 1, Path("/c/x"): 2}
    for path, mtime in times.items():
        settler.observe(path, Stamp(1, mtime), now=0.0)
    assert settler.due(0.0) == sorted(times, key=times.__getitem__)


def test_bad_files_do_not_end_the_service(workshop, service):
    bad = workshop.incoming / "jw01234001001_02101_00009_nrca1_uncal.fits"
    bad.write_text("not FITS")
    odd = workshop.write("jw01234001001_02101_00008_nrca1_uncal.fits")
    workshop.calibrator.failures[odd.name] = [ZeroDivisionError("bug")]
    service(bad, odd, workshop.segment(1, of=1, total=2))
    state = workshop.read().state
    assert len(state.segments("failed")) == 2
    assert len(state.segments("calibrated")) == 1


def test_status_sees_what_the_service_has_in_hand(workshop, service):
    first, second = workshop.segment(1), workshop.segment(2)
    live = workshop.config.store_folder / LIVE
    seen = []
    stop = Stop()

    def look(path):
        seen.append(report.status(workshop.config.store_folder, live))
        if path == second:
            stop.ask("SIGTERM")

    service(first, second, during=look, crew=make_crew(1, workshop.config.log), stop=stop)
    assert seen[-1]["service"]["pid"] == os.getpid()
    assert seen[-1]["service"]["not_whole"]
    assert seen[-1]["exposures"][0]["reason"] == "waits for segment 2 of 2"
    after = report.status(workshop.config.store_folder, live)
    assert after["service"] is None
    assert after["counts"] == {"calibrated": 2}
    live.write_text(json.dumps({"pid": 2**22 + 1, "at": 0}))
    assert report.status(workshop.config.store_folder, live)["service"] is None, "a dead one's last words"
