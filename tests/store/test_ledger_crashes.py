"""A crash or a failing disk at any moment loses no committed row and shows none twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pytest

from upramp.stages.core.errors import Misconfigured, Retryable
from upramp.store import parts, schema
from upramp.store.ledger import Ledger
from upramp.store.parts import Part


def segment(name: str, state: str = "arrived", version: int = 1, **more: Any) -> dict[str, Any]:
    row = {"segment_id": name, "exposure_id": name.split("-")[0], "version": version, "state": state}
    return {**row, "at": schema.now(), "path": f"/in/{name}_uncal.fits", **more}


def step(job: str, order: int = 1) -> dict[str, Any]:
    return {"run_id": "r", "job_id": job, "step": "jump", "step_order": order, "state": "COMPLETE"}


def names(root: Path, table: str = "segments") -> list[str]:
    column = {"segments": "segment_id", "step_runs": "job_id"}[table]
    return Ledger.open(root).table(table)[column].to_pylist()


class Crash(BaseException):
    """The process dies here."""


HOOKS = ("open", "write", "fsync", "replace", "unlink", "mkdir")


def dying_at(monkeypatch: pytest.MonkeyPatch, moment: int, root: Path) -> Callable[[], int]:
    """Let the process die before the n-th system call on the ledger's files; return the count of calls.

    No call works afterwards, so nothing can be put in order on the way out.
    """
    calls = 0

    def guard(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            nonlocal calls
            path = str(args[0])
            elsewhere = str(root) not in path or path.endswith("lock")
            if elsewhere and name not in ("write", "fsync"):
                return real(*args, **keywords)
            calls += 1
            if calls >= moment:
                raise Crash
            return real(*args, **keywords)

        return call

    for name in HOOKS:
        monkeypatch.setattr(os, name, guard(name, getattr(os, name)))
    return lambda: calls


def life(root: Path, acknowledged: list[str], begun: list[str]) -> None:
    """Create, commit, compact on the way, compact on demand, commit again."""
    with Ledger.open(root, writer=True, compact_every=2) as ledger:
        for name in ("a", "b", "c"):
            begun.append(name)
            ledger.commit({"segments": [segment(name)], "step_runs": [step(name)]})
            acknowledged.append(name)
        ledger.compact()
        begun.append("d")
        ledger.commit({"segments": [segment("d")], "step_runs": [step("d")]})
        acknowledged.append("d")


@pytest.mark.parametrize("stride", [13, pytest.param(1, marks=pytest.mark.fault)])
def test_a_crash_before_any_system_call_loses_and_doubles_nothing(tmp_path: Path, stride: int) -> None:
    with pytest.MonkeyPatch.context() as context:
        count = dying_at(context, 10**6, tmp_path / "whole")
        life(tmp_path / "whole", [], [])
        total = count()
    assert total > 100
    for moment in range(1, total + 1, stride):
        root = tmp_path / str(moment)
        acknowledged: list[str] = []
        begun: list[str] = []
        with pytest.MonkeyPatch.context() as context:
            dying_at(context, moment, root)
            with pytest.raises(Crash):
                life(root, acknowledged, begun)
        if acknowledged:  # a reader that comes before any writer recovers
            tables = Ledger.open(root).tables("segments", "step_runs")
            seen = tables["segments"]["segment_id"].to_pylist()
            assert seen == tables["step_runs"]["job_id"].to_pylist()
            assert seen in (acknowledged, begun), moment
        with Ledger.open(root, writer=True, compact_every=2) as ledger:
            seen = ledger.table("segments")["segment_id"].to_pylist()
            assert seen in (acknowledged, begun), moment
            assert seen == ledger.table("step_runs")["job_id"].to_pylist()
            ledger.commit({"segments": [segment("z")]})
            assert ledger.table("segments")["segment_id"].to_pylist() == [*seen, "z"]
        plain = pyarrow.dataset.dataset(root / "segments", format="parquet").to_table()
        assert sorted(plain["segment_id"].to_pylist()) == sorted([*seen, "z"])


def test_nothing_is_renamed_or_recorded_before_it_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data fsynced, renamed, folder fsynced; only then the record, likewise; only then removals."""
    with Ledger.open(tmp_path, writer=True, compact_every=2) as ledger:
        trace: list[tuple[str, str]] = []
        fsync, replace, unlink = os.fsync, os.replace, os.unlink

        def short(path: Any) -> str:
            return str(Path(path).relative_to(tmp_path)).replace(".tmp", "").replace("/.", "/")

        def traced_fsync(descriptor: int) -> None:
            trace.append(("sync", short(Path(f"/proc/self/fd/{descriptor}").readlink())))
            fsync(descriptor)

        def traced_replace(source: Any, target: Any, **more: Any) -> None:
            trace.append(("rename", short(target)))
            replace(source, target, **more)

        def traced_unlink(path: Any, **more: Any) -> None:
            trace.append(("remove", short(path)))
            unlink(path, **more)

        monkeypatch.setattr(os, "fsync", traced_fsync)
        monkeypatch.setattr(os, "replace", traced_replace)
        monkeypatch.setattr(os, "unlink", traced_unlink)
        ledger.commit({"segments": [segment("a")], "step_runs": [step("a")]})

    def position(kind: str, name: str) -> int:
        return trace.index((kind, name))

    one, merged = Part(1, 1).name, Part(0, 1).name
    record = position("rename", f"commits/{one}")
    for table in ("segments", "step_runs"):
        written = (
            position("sync", f"{table}/{one}"),
            position("rename", f"{table}/{one}"),
            position("sync", table),
        )
        assert list(written) == sorted(written) and written[-1] < record
        compacted = position("rename", f"{table}/{merged}")
        removed = position("remove", f"{table}/{one}")
        assert record < compacted < trace.index(("sync", table), compacted) < removed
    assert position("sync", f"commits/{one}") < record < position("sync", "commits")


def full_disk(*args: Any, **more: Any) -> Any:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_commits_nothing_and_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with Ledger.open(tmp_path, writer=True) as ledger:
        with monkeypatch.context() as context:
            context.setattr(os, call, full_disk)
            with pytest.raises(Retryable, match="is the disk full"):
                ledger.commit({"segments": [segment("a")], "step_runs": [step("a")]})
        assert ledger.state.segment("a") is None
        ledger.commit({"segments": [segment("a")]})
        assert names(tmp_path) == ["a"] and names(tmp_path, "step_runs") == []
        assert len(list((tmp_path / "step_runs").iterdir())) == 1


def test_a_disk_that_fails_at_the_record_asks_for_opening_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.open(tmp_path, writer=True)
    sync = parts.sync
    with monkeypatch.context() as context:
        context.setattr(parts, "sync", lambda f: full_disk() if f == [tmp_path / "commits"] else sync(f))
        with pytest.raises(Misconfigured, match=r"open the ledger .* anew"):
            ledger.commit({"segments": [segment("a")]})
    with pytest.raises(Misconfigured, match="anew"):
        ledger.commit({"segments": [segment("b")]})
    ledger.close()
    with Ledger.open(tmp_path, writer=True) as again:
        assert again.state.segment("a") is not None


def test_trouble_with_compaction_does_not_fail_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(tmp_path, writer=True, compact_every=2) as ledger:
        write = parts.write
        with monkeypatch.context() as context:
            context.setattr(
                parts, "write", lambda r, p, t, **m: full_disk() if p.span > 1 else write(r, p, t, **m)
            )
            ledger.commit({"segments": [segment("a")]})
            assert ledger.compaction_trouble and "No space" in ledger.compaction_trouble
            with pytest.raises(Retryable, match="cannot compact"):
                ledger.compact()
        ledger.commit({"segments": [segment("b")]})
        assert ledger.compaction_trouble is None
        assert names(tmp_path) == ["a", "b"]


@pytest.mark.fault
def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    script = f"""
        from upramp.store import schema
        from upramp.store.ledger import Ledger
        with Ledger.open({str(tmp_path / "l")!r}, writer=True, compact_every=2) as ledger:
            print("ready", flush=True)
            for i in range(ledger.last_commit + 1, 100000):
                row = {{"segment_id": str(i), "exposure_id": "e", "version": 1, "state": "arrived"}}
                ledger.commit({{"segments": [{{**row, "at": schema.now(), "path": "/x"}}],
                    "runs": [{{"run_id": str(i), "state": "running", "started": schema.now()}}]}})
                print(i, flush=True)
    """
    for wait in (1, 3, 8, 2, 13):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            told = [writer.stdout.readline() for _ in range(wait + 1)]
            writer.send_signal(signal.SIGKILL)
            told += writer.stdout.readlines()
        acknowledged = int([line for line in told if line.endswith("\n")][-1])
        tables = Ledger.open(tmp_path / "l").tables("segments", "runs")
        seen = [int(name) for name in tables["segments"]["segment_id"].to_pylist()]
        assert seen == sorted(set(seen)) and acknowledged in seen and len(seen) <= seen[-1]
        assert seen[-1] <= acknowledged + 1
        assert tables["runs"]["run_id"].to_pylist() == [str(i) for i in seen]
