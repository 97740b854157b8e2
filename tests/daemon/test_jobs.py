"""Queue, keys, retries, workers."""

from __future__ import annotations

import errno
import os
import queue
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upramp.daemon.config import Log
from upramp.daemon.events import Identity, Tries, Work
from upramp.daemon.jobs import (
    Queue,
    RetryPolicy,
    WorkerDied,
    after,
    classify,
    make_crew,
    next_pause,
    printable,
)
from upramp.stages.core.errors import Misconfigured, NotApplicable, Retryable, Unprocessable


def work(segment: str, path: str = "", crashes: int = 0, plan: object = None) -> Work:
    identity = Identity(Path(path or f"/in/{segment}"), 1, 1)
    return Work(identity, "sha", segment, "exposure", "key", plan, Tries(crashes, crashes))


class TestQueue:
    def test_first_come_first_served_up_to_the_room(self):
        q = Queue(room=2)
        for name in "abc":
            q.put(work(name))
        assert [q.take().segment_id, q.take().segment_id, q.take()] == ["a", "b", None]
        q.done(q.running[0])
        assert q.take().segment_id == "c"

    def test_a_segment_is_never_twice_at_work(self):
        q = Queue(room=4)
        q.put(work("a", "/one/a"))
        q.put(work("a", "/two/a"))
        q.put(work("b"))
        first = q.take()
        assert q.take().segment_id == "b"
        assert q.take() is None
        q.done(first)
        assert q.take().identity.path == Path("/two/a")

    def test_a_newer_reading_of_a_file_takes_the_place_of_the_old_one(self):
        q = Queue(room=1)
        q.put(work("a", plan="old"))
        q.put(work("b"))
        q.put(work("a", plan="new"))
        assert len(q) == 2
        assert q.take().plan == "new"

    def test_what_killed_a_worker_runs_alone(self):
        q = Queue(room=3)
        q.put(work("a"))
        q.put(work("bad", crashes=1))
        q.put(work("c"))
        a = q.take()
        c = q.take()
        assert (a.segment_id, c.segment_id, q.take()) == ("a", "c", None)
        q.done(a)
        assert q.take() is None
        q.done(c)
        q.put(work("d"))
        bad = q.take()
        assert bad.segment_id == "bad"
        assert q.take() is None, "nothing starts beside it"
        q.done(bad)
        assert q.take().segment_id == "d"

    @given(
        st.integers(1, 3),
        st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.integers(0, 1)), max_size=12),
        st.lists(st.booleans(), max_size=30),
    )
    def test_in_any_play_keys_are_exclusive_and_nothing_is_lost(self, room, arrivals, moves):
        q = Queue(room)
        put, taken = set(), set()
        waiting = list(arrivals)
        for arrive in [*moves, *[True] * len(arrivals), *[False] * 40]:
            if arrive and waiting:
                segment, folder, crashes = waiting.pop()
                q.put(work(segment, f"/{folder}/{segment}", crashes))
                put.add(f"/{folder}/{segment}")
            elif (next_one := q.take()) is not None:
                taken.add(str(next_one.identity.path))
            elif q.running:
                q.done(q.running[0])
            names = [w.segment_id for w in q.running]
            assert len(names) == len(set(names)) <= room
            assert len(names) <= 1 or not any(w.tries.crashes for w in q.running)
        assert taken == put
        assert len(q) == 0


class TestRetries:
    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (Unprocessable("x"), "unprocessable"),
            (NotApplicable("x"), "unprocessable"),
            (Retryable("x"), "retryable"),
            (Misconfigured("x"), "misconfigured"),
            (OSError(errno.ENOSPC, "No space left on device", "/out/x"), "retryable"),
            (OSError(errno.ESTALE, "Stale file handle"), "retryable"),
            (FileNotFoundError(errno.ENOENT, "No such file or directory", "/in/x"), "unprocessable"),
            (FileNotFoundError(errno.ENOENT, "No such file or directory", "/scratch/y"), "retryable"),
            (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/out/y"), "retryable"),
            (PermissionError(errno.EACCES, "Permission denied", "/in/x"), "misconfigured"),
            (MemoryError(), "crashed"),
            (WorkerDied("x"), "crashed"),
            (KeyError("x"), "unexpected"),
        ],
    )
    def test_errors_by_what_they_ask(self, error, kind):
        failure = classify(error, Path("/in/x"))
        assert failure.kind == kind
        assert failure.reason
        assert failure.remedy
        assert (failure.traceback is None) == (kind != "unexpected")

    def test_reasons_of_the_system_are_words(self):
        error = OSError(errno.ENOSPC, "No space left on device", "/out/x")
        assert classify(error).reason == "no space left on device: /out/x"

    def test_what_is_wrong_with_an_association_may_be_a_member(self):
        failure = classify(Unprocessable("x_cal.fits has no WCS"), Path("/in/x_asn.json"))
        assert failure.kind == "unprocessable" and failure.remedy.startswith("mend or take out what is named")

    def test_control_characters_are_spelled_out(self):
        assert printable("a\x1b[31mb\nc") == "a\\x1b[31mb\nc"

    def test_pauses_grow_to_a_limit_and_end(self):
        policy = RetryPolicy(attempts=5, first_s=10, factor=3, longest_s=100)
        failure, tries, pauses = classify(Retryable("x")), Tries(), []
        while True:
            tries = after(tries, failure)
            pause = next_pause(failure, tries, policy)
            if pause is None:
                break
            pauses.append(pause)
        assert pauses == [10, 30, 90, 100]
        assert tries.attempts == 5

    def test_a_dead_worker_is_given_one_more_try(self):
        failure = classify(WorkerDied("x"))
        once = after(Tries(), failure)
        assert next_pause(failure, once, RetryPolicy(attempts=1)) == 0
        assert next_pause(failure, after(once, failure), RetryPolicy(attempts=9)) is None

    @pytest.mark.parametrize("error", [Unprocessable("x"), Misconfigured("x"), ValueError("x")])
    def test_what_time_does_not_heal_is_not_tried_again(self, error):
        assert next_pause(classify(error), Tries(1), RetryPolicy()) is None


class TestCrew:
    def ask(self, crew, fn, *args):
        answers: queue.SimpleQueue = queue.SimpleQueue()
        crew.submit(lambda result, error: answers.put((result, error)), fn, *args)
        return answers.get(timeout=60)

    def test_one_worker_is_a_thread_of_this_process(self):
        crew = make_crew(1, Log())
        assert crew.in_process
        assert self.ask(crew, os.getpid) == (os.getpid(), None)
        result, error = self.ask(crew, int, "x")
        assert result is None
        assert isinstance(error, ValueError)
        crew.close()

    def test_more_are_processes_and_one_that_is_killed_is_replaced(self):
        crew = make_crew(2, Log(level="warning"))
        assert not crew.in_process
        pid, _ = self.ask(crew, os.getpid)
        assert pid != os.getpid()
        result, error = self.ask(crew, os._exit, 9)
        assert result is None
        assert isinstance(error, WorkerDied)
        assert self.ask(crew, abs, -3) == (3, None)
        crew.close(kill=True)

    def test_no_worker_outlives_a_killed_parent(self):
        # the pipe reaches its end only when nobody holds it any more
        program = (
            "import os, signal, sys, time\n"
            "from upramp.daemon.config import Log\n"
            "from upramp.daemon.jobs import make_crew\n"
            "crew = make_crew(2, Log())\n"
            "def then(pid, error):\n"
            "    print(pid, flush=True)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
            "crew.submit(then, os.getpid)\n"
            "signal.pause()\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
        assert done.returncode == -9
        assert int(done.stdout) > 0


def test_works_with_plans_that_cannot_be_compared():
    class Odd(SimpleNamespace):
        def __eq__(self, other):
            raise ValueError("arrays have no single truth")

    q = Queue(room=1)
    q.put(work("a", plan=Odd()))
    q.put(work("b", plan=Odd()))
    a = q.take()
    q.done(a)
    assert q.take().segment_id == "b"
