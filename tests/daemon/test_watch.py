"""Watching: the settle rules by hand and at random, the watcher on real folders with a clock of our own."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from upramp.daemon import observers
from upramp.daemon.config import Watch
from upramp.daemon.settle import Settler, Stamp, Verdict
from upramp.daemon.watch import Watcher, ignorable, whole_size
from upramp.stages.core.errors import Unprocessable

FILE = Path("/in/a_uncal.fits")


class TestSettle:
    def settler(self) -> Settler:
        return Settler(settle_s=2, stale_s=100)

    def test_quiet_and_whole_is_settled_once(self):
        s = self.settler()
        assert s.observe(FILE, Stamp(10, 1), 0)
        assert s.due(1.9) == []
        assert s.due(2) == [FILE]
        assert s.judge(FILE, True, 2) is Verdict.SETTLED
        assert not s.observe(FILE, Stamp(10, 1), 3)
        assert s.pending() == [] and s.due(1000) == []

    def test_growth_starts_the_wait_anew(self):
        s = self.settler()
        for now in range(0, 300):
            assert s.observe(FILE, Stamp(now, now), now)
            assert s.due(now + 1.9) == []
        assert s.due(301) == [FILE]
        assert s.judge(FILE, False, 301) is Verdict.WAITING

    @pytest.mark.parametrize("other", [Stamp(11, 1, 7), Stamp(10, 2, 7), Stamp(10, 1, 8)])
    def test_any_change_after_settling_is_a_new_version(self, other):
        s = self.settler()
        s.observe(FILE, Stamp(10, 1, 7), 0)
        s.judge(FILE, True, 2)
        assert s.observe(FILE, other, 50)
        assert s.age(FILE, 52) == 2
        assert s.due(52) == [FILE]

    def test_short_waits_then_is_stale_then_may_grow_again(self):
        s = self.settler()
        s.observe(FILE, Stamp(10, 1), 0)
        looks = []
        for now in range(2, 101):
            if s.due(now):
                looks.append((now, s.judge(FILE, False, now)))
        assert looks[-1] == (100, Verdict.STALE)
        assert all(v is Verdict.WAITING for _, v in looks[:-1])
        assert len(looks) < 20  # less and less often
        assert s.pending() == []
        s.observe(FILE, Stamp(20, 2), 200)
        assert s.due(202) == [FILE]
        assert s.judge(FILE, True, 202) is Verdict.SETTLED

    def test_an_open_file_waits_but_not_forever(self):
        s = self.settler()
        s.observe(FILE, Stamp(10, 1), 0)
        s.writing(FILE, True)
        assert s.judge(FILE, True, 2) is Verdict.WAITING
        s.writing(FILE, False)
        assert s.judge(FILE, True, 4) is Verdict.SETTLED
        s.observe(FILE, Stamp(11, 1), 10)
        s.writing(FILE, True)
        assert s.judge(FILE, True, 110) is Verdict.SETTLED

    def test_lost_events_leave_size_and_time(self):
        s = self.settler()
        s.observe(FILE, Stamp(10, 1), 0)
        s.writing(FILE, True)
        s.forget_writers()
        assert s.judge(FILE, True, 2) is Verdict.SETTLED

    def test_told_once_per_version(self):
        s = self.settler()
        s.observe(FILE, Stamp(10, 1), 0)
        assert [s.first_told(FILE), s.first_told(FILE)] == [True, False]
        s.observe(FILE, Stamp(11, 1), 1)
        assert not s.first_told(FILE)
        s.judge(FILE, True, 3)
        s.observe(FILE, Stamp(12, 1), 4)
        assert s.first_told(FILE)

    def test_oldest_first(self):
        s = self.settler()
        for now, name in enumerate("cab"):
            s.observe(Path(name), Stamp(1, 1), now)
        assert s.due(10) == [Path("c"), Path("a"), Path("b")]

    @given(
        st.lists(
            st.tuples(st.floats(0.01, 60), st.integers(0, 4), st.booleans(), st.sampled_from([True, False])),
            max_size=40,
        )
    )
    def test_never_handed_on_unquiet_and_never_forgotten(self, moves):
        """A state handed on was quiet for the settle time; in the end all are handed on."""
        s = Settler(settle_s=2, stale_s=50)
        now, last, size = 0.0, None, None
        for pause, new_size, whole, busy in moves:
            now += pause
            if new_size != size:
                last, size = now, new_size
            s.observe(FILE, Stamp(new_size, 0), now)
            s.writing(FILE, busy)
            for path in s.due(now):
                if s.judge(path, whole, now) is not Verdict.WAITING:
                    assert now - last >= 2
        if size is not None:
            for step in range(60):
                for path in s.due(now + step):
                    s.judge(path, False, now + step)
            assert s.pending() == []


class FakeObserver:
    def __init__(self, kind):
        self.kind, self.up = kind, True

    def alive(self):
        return self.up

    def stop(self):
        self.up = False


class Bench:
    """A watcher with a clock to set, observers that do nothing, and promised sizes to choose."""

    def __init__(self, *folders: Path, **settings):
        self.now = 0.0
        self.got: list[str] = []
        self.promised: dict[str, int | Exception] = {}
        self.observers: list[FakeObserver] = []
        self.refuse: dict[str, OSError] = {}
        self.fail = 0
        self.watcher = Watcher(
            dataclasses.replace(Watch(), folders=folders, **settings),
            self.take,
            clock=lambda: self.now,
            observer_factory=self.observe,
            size_of=self.size_of,
            mounts=lambda: "none / ext4 rw 0 0",
        )

    def take(self, path):
        if self.fail:
            self.fail -= 1
            raise RuntimeError("queue is full")
        self.got.append(path.name)

    def observe(self, kind, folder, recursive, poll_s, sink):
        if kind in self.refuse:
            raise self.refuse[kind]
        self.observers.append(FakeObserver(kind))
        return self.observers[-1]

    def size_of(self, path):
        size = self.promised.get(path.name, 3)
        if isinstance(size, Exception):
            raise size
        return size

    def at(self, now: float) -> list[str]:
        """Turn at this time; what was handed on."""
        self.now, self.got = now, []
        with capture_logs() as logs:
            self.watcher.tick()
        self.events = [line["event"] for line in logs if line["log_level"] != "debug"]
        self.logs = logs
        return sorted(self.got)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


class TestWatcher:
    def test_finds_what_arrived_while_nobody_watched(self, folder):
        (folder / "deep/er").mkdir(parents=True)
        for name in ("a_uncal.fits", "deep/er/b_uncal.fits", "c_rate.fits"):
            (folder / name).write_bytes(b"xyz")
        bench = Bench(folder)
        assert bench.at(0) == []
        assert bench.at(2) == ["a_uncal.fits", "b_uncal.fits"]
        assert bench.at(500) == []

    def test_association_files_are_inputs_once_their_text_ends(self, folder):
        file = folder / "mine_asn.json"
        file.write_text('{"asn_type": ')
        bench = Bench(folder)
        bench.watcher._size_of = whole_size
        bench.at(0)
        assert bench.at(2) == [] and "is not valid JSON" in bench.logs[-1]["reason"]
        file.write_text('{"asn_type": "image3"}')
        bench.watcher.touched(file)
        bench.at(10)
        assert bench.at(12) == ["mine_asn.json"]

    def test_not_recursive(self, folder):
        (folder / "deep").mkdir()
        (folder / "deep/b_uncal.fits").write_bytes(b"xyz")
        bench = Bench(folder, recursive=False)
        bench.at(0)
        assert bench.at(2) == []

    def test_a_slow_copy_waits(self, folder):
        bench = Bench(folder)
        file = folder / "a_uncal.fits"
        bench.promised[file.name] = 60
        for now in range(60):
            file.write_bytes(b"x" * (now + 1))
            bench.watcher.touched(file)
            assert bench.at(now) == []
        assert bench.at(61) == ["a_uncal.fits"]

    def test_a_short_file_is_told_once_and_handed_on_in_the_end(self, folder):
        bench = Bench(folder, stale_s=100)
        (folder / "a_uncal.fits").write_bytes(b"xy")
        bench.at(0)
        assert bench.at(2) == [] and bench.events == ["file_waiting"]
        assert bench.logs[-1]["reason"] == "2 of the 3 bytes that its headers promise are there"
        assert bench.at(50) == [] and bench.events == []
        assert bench.at(100) == ["a_uncal.fits"] and bench.events == ["file_stale"]
        assert bench.at(200) == []
        (folder / "a_uncal.fits").write_bytes(b"xyz")
        bench.at(300)
        assert bench.at(302) == ["a_uncal.fits"] and bench.events == ["file_settled"]

    def test_an_unreadable_header_waits_with_its_reason(self, folder):
        bench = Bench(folder)
        bench.promised["a_uncal.fits"] = Unprocessable("a_uncal.fits is no FITS")
        (folder / "a_uncal.fits").write_bytes(b"xyz")
        bench.at(0)
        assert bench.at(2) == [] and bench.logs[-1]["reason"] == "a_uncal.fits is no FITS"
        assert bench.at(700) == ["a_uncal.fits"]

    def test_a_change_while_looking_inside_is_noticed(self, folder):
        bench = Bench(folder)
        file = folder / "a_uncal.fits"
        file.write_bytes(b"xyz")
        bench.at(0)

        def grow(path):
            path.write_bytes(b"xyz-more")
            return 3

        bench.watcher._size_of = grow
        assert bench.at(2) == []
        bench.watcher._size_of = bench.size_of
        assert bench.at(3) == []
        assert bench.at(4) == ["a_uncal.fits"]

    def test_a_replaced_file_is_reported_again(self, folder):
        bench = Bench(folder)
        file = folder / "a_uncal.fits"
        file.write_bytes(b"xyz")
        bench.at(0)
        assert bench.at(2) == ["a_uncal.fits"]
        times = file.stat()
        other = folder / ".new"
        other.write_bytes(b"abc")
        os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
        other.rename(file)  # same size, same time, another file
        bench.watcher.touched(file)
        bench.at(10)
        assert bench.at(12) == ["a_uncal.fits"]

    def test_over_a_network_inode_numbers_do_not_count(self, folder):
        bench = Bench(folder, observer="polling")
        file = folder / "a_uncal.fits"
        file.write_bytes(b"xyz")
        bench.at(0)
        bench.at(2)
        times = file.stat()
        file.rename(folder / "old")
        file.write_bytes(b"abc")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        bench.at(100)
        assert bench.at(102) == []

    def test_an_open_file_waits_for_its_closing(self, folder):
        bench = Bench(folder)
        file = folder / "a_uncal.fits"
        file.write_bytes(b"xyz")
        bench.watcher.touched(file)
        bench.watcher.writing(file, True)
        bench.at(0)
        assert bench.at(30) == [] and bench.logs[-1]["reason"] == "it is still open for writing"
        bench.watcher.writing(file, False)
        assert bench.at(59) == ["a_uncal.fits"]

    def test_vanished_before_it_was_whole(self, folder):
        bench = Bench(folder)
        (folder / "a_uncal.fits").write_bytes(b"x")
        bench.at(0)
        (folder / "a_uncal.fits").unlink()
        assert bench.at(2) == [] and bench.events == ["file_gone"]

    def test_the_rescan_catches_what_events_missed(self, folder):
        bench = Bench(folder, rescan_s=60)
        bench.at(0)
        (folder / "a_uncal.fits").write_bytes(b"xyz")
        assert bench.at(30) == []
        bench.at(60)
        assert bench.at(62) == ["a_uncal.fits"]

    def test_overflow_scans_at_once_and_distrusts_open_marks(self, folder):
        bench = Bench(folder)
        file = folder / "a_uncal.fits"
        file.write_bytes(b"xyz")
        bench.watcher.writing(file, True)
        bench.at(0)
        (folder / "b_uncal.fits").write_bytes(b"xyz")
        bench.watcher.rescan(lost=True)
        assert bench.at(3) == ["a_uncal.fits"] and "watch_overflow" in bench.events
        assert bench.at(5) == ["b_uncal.fits"]

    def test_the_receivers_fault_is_tried_again(self, folder):
        bench = Bench(folder)
        bench.fail = 1
        (folder / "a_uncal.fits").write_bytes(b"xyz")
        bench.at(0)
        assert bench.at(2) == [] and bench.events == ["file_settled", "watch_error"]
        assert bench.at(4) == ["a_uncal.fits"]

    def test_two_folders_and_one_file_in_both_views(self, folder):
        (folder / "deep").mkdir()
        (folder / "deep/a_uncal.fits").write_bytes(b"xyz")
        bench = Bench(folder, folder / "deep")
        bench.at(0)
        assert bench.at(2) == ["a_uncal.fits"]


class TestOddities:
    @pytest.mark.parametrize("name", [".a", "a.part", "a.PART", "a.tmp", "a~", ".deep/a", "x/.y/a"])
    def test_names_on_the_way(self, name):
        assert ignorable(Path(name))

    @pytest.mark.parametrize("name", ["a.fits", "deep/a.fits", "a.tmp.fits", "..a/b"[2:]])
    def test_good_names(self, name):
        assert ignorable(Path(name)) is None

    def test_hidden_and_temporary_are_ignored_once(self, folder):
        for name in (".a_uncal.fits", "b.part", "c~"):
            (folder / name).write_bytes(b"xyz")
        bench = Bench(folder, pattern="*")
        bench.at(0)
        assert [line["event"] for line in bench.logs].count("file_ignored") == 3
        assert bench.at(100) == []
        assert "file_ignored" not in [line["event"] for line in bench.logs]

    def test_symlinks(self, folder, tmp_path):
        (tmp_path / "out_uncal.fits").write_bytes(b"xyz")
        (folder / "data").write_bytes(b"xyz")
        (folder / "leaves_uncal.fits").symlink_to(tmp_path / "out_uncal.fits")
        (folder / "stays_uncal.fits").symlink_to(folder / "data")
        (folder / "broken_uncal.fits").symlink_to(folder / "nothing")
        (folder / "loop_uncal.fits").symlink_to(folder / "loop_uncal.fits")
        bench = Bench(folder)
        bench.at(0)
        assert bench.at(2) == ["stays_uncal.fits"]

    def test_what_is_no_regular_file_is_handed_on_once_to_be_recorded(self, folder):
        (folder / "dir_uncal.fits").mkdir()
        os.mkfifo(folder / "pipe_uncal.fits")
        bench = Bench(folder)
        bench.at(0)
        assert bench.at(2) == ["dir_uncal.fits", "pipe_uncal.fits"]
        assert bench.events == ["file_stale", "file_stale"]
        (folder / "dir_uncal.fits/x").touch()
        bench.at(100)
        assert bench.at(102) == []

    def test_names_that_are_no_text(self, folder):
        name = os.fsdecode(b"\xff\n_uncal.fits")
        (folder / name).write_bytes(b"xyz")
        bench = Bench(folder)
        bench.at(0)
        assert bench.at(2) == [name]


class TestFolders:
    def test_a_folder_may_come_vanish_and_come_back(self, folder):
        late = folder / "late"
        bench = Bench(late, poll_s=5)
        bench.at(0)
        assert bench.events == ["watch_lost"] and not bench.observers
        bench.at(5)
        assert bench.events == []
        late.mkdir()
        (late / "a_uncal.fits").write_bytes(b"xyz")
        bench.at(10)
        assert bench.events == ["watch_started"]
        assert bench.at(12) == ["a_uncal.fits"]
        late.rename(folder / "away")
        bench.at(15)
        assert bench.events == ["watch_lost"] and not bench.observers[0].up
        (folder / "away").rename(late)
        assert bench.at(20) == [] and bench.events == ["watch_started"] and bench.observers[1].up
        assert bench.at(22) == []  # nothing changed: not reported again

    def test_a_replaced_folder_is_observed_anew(self, folder):
        bench = Bench(folder)
        bench.at(0)
        folder.rename(folder.with_name("old"))
        folder.mkdir()
        (folder / "a_uncal.fits").write_bytes(b"xyz")
        bench.at(5)
        assert [o.up for o in bench.observers] == [False, True]
        assert bench.at(7) == ["a_uncal.fits"]

    def test_a_dead_observer_is_replaced(self, folder):
        bench = Bench(folder)
        bench.at(0)
        bench.observers[0].up = False
        bench.at(5)
        assert [o.up for o in bench.observers] == [False, True]

    def test_a_file_in_the_folders_place(self, tmp_path):
        (tmp_path / "f").touch()
        bench = Bench(tmp_path / "f")
        bench.at(0)
        assert bench.events == ["watch_lost"] and bench.logs[0]["reason"] == "not a folder"

    def test_falls_back_to_polling_when_inotify_is_exhausted(self, folder):
        bench = Bench(folder)
        bench.refuse["inotify"] = OSError(28, "inotify watch limit reached")
        bench.at(0)
        assert bench.events == ["watch_fallback", "watch_started"]
        assert [o.kind for o in bench.observers] == ["polling"]

    def test_no_fallback_when_inotify_was_asked_for(self, folder):
        bench = Bench(folder, observer="inotify")
        bench.refuse["inotify"] = OSError(28, "inotify watch limit reached")
        bench.at(0)
        assert bench.events == ["watch_lost"]

    def test_no_polling_either(self, folder):
        bench = Bench(folder)
        bench.refuse = {kind: OSError(13, "denied") for kind in ("inotify", "polling")}
        bench.at(0)
        assert bench.events == ["watch_fallback", "watch_lost"]
        bench.at(5)
        assert bench.events == []


class TestChoice:
    MOUNTS = (
        "/dev/sda1 / ext4 rw 0 0\n"
        "server:/x /data nfs4 rw 0 0\n"
        "tmpfs /data/fast tmpfs rw 0 0\n"
        "me@host: /my\\040files fuse.sshfs rw 0 0\n"
        "auto /stack autofs rw 0 0\n"
        "srv /stack cifs rw 0 0\n"
        "odd\n"
    )

    @pytest.mark.parametrize(
        ("folder", "fstype", "kind"),
        [
            ("/home/me", "ext4", "inotify"),
            ("/data", "nfs4", "polling"),
            ("/data/in", "nfs4", "polling"),
            ("/database", "ext4", "inotify"),
            ("/data/fast/in", "tmpfs", "inotify"),
            ("/my files/in", "fuse.sshfs", "polling"),
            ("/stack", "cifs", "polling"),
        ],
    )
    def test_by_file_system(self, folder, fstype, kind):
        assert observers.filesystem(Path(folder), self.MOUNTS) == fstype
        assert observers.choose("auto", fstype) == kind
        assert observers.choose("inotify", fstype) == "inotify"
        assert observers.choose("polling", fstype) == "polling"

    def test_without_a_list_of_mounts(self):
        assert observers.filesystem(Path("/x"), "") == "unknown"
        assert observers.choose("auto", "unknown") == "inotify"


class TestReal:
    """With watchdog itself; these wait for events, not for time."""

    @pytest.mark.parametrize("kind", ["inotify", "polling"])
    def test_a_file_arrives(self, folder, kind):
        got: list[Path] = []
        came = threading.Event()

        def take(path: Path) -> None:
            got.append(path)
            came.set()

        settings = Watch(folders=(folder,), observer=kind, settle_s=0.05, poll_s=0.05, rescan_s=1000)
        watcher = Watcher(settings, take, size_of=lambda path: 3)
        watcher.start()
        try:
            with (folder / "a_uncal.fits").open("wb") as file:
                file.write(b"xyz")
            assert came.wait(10)
            came.clear()
            (folder / "part").write_bytes(b"xyz")
            (folder / "part").rename(folder / "b_uncal.fits")
            assert came.wait(10)
            came.clear()
            (folder / "new").mkdir()
            (folder / "new/c_uncal.fits").write_bytes(b"xyz")
            assert came.wait(10)
        finally:
            watcher.stop()
        assert [p.name for p in got] == ["a_uncal.fits", "b_uncal.fits", "c_uncal.fits"]
        assert watcher.waiting() == []

    def test_hints_of_inotify(self, folder):
        class Sink:
            def __init__(self):
                self.hints, self.closed = [], threading.Event()

            def touched(self, path):
                self.hints.append(("touched", path.name))

            def writing(self, path, busy):
                self.hints.append((busy, path.name))
                if not busy:
                    self.closed.set()

            def rescan(self, lost=False):
                self.hints.append(("lost" if lost else "rescan", ""))

        sink = Sink()
        observer = observers.start("inotify", folder, True, 1.0, sink)
        try:
            with (folder / "a").open("wb") as file:
                file.write(b"x")
                file.flush()
                assert not sink.closed.is_set()
            assert sink.closed.wait(10)
            assert (True, "a") in sink.hints and sink.hints[-1] == (False, "a")
            logging.getLogger("watchdog.observers.inotify_c").warning("Inotify queue overflowed")
            assert sink.hints[-1] == ("lost", "")
            assert observer.alive()
        finally:
            observer.stop()
        assert not observer.alive()

    def test_a_folder_that_is_not_there(self, folder):
        with pytest.raises(OSError):
            observers.start("inotify", folder / "none", True, 1.0, None)
