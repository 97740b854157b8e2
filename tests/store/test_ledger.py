"""The ledger keeps every committed row exactly once, whatever happens in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upramp.stages.core.errors import Misconfigured, Retryable
from upramp.store import parts, schema
from upramp.store.ledger import Ledger
from upramp.store.lookups import superseded
from upramp.store.parts import Part


def segment(name: str, state: str = "arrived", version: int = 1, **more: Any) -> dict[str, Any]:
    row = {"segment_id": name, "exposure_id": name.split("-")[0], "version": version, "state": state}
    return {**row, "at": schema.now(), "path": f"/in/{name}_uncal.fits", **more}


def step(job: str, order: int = 1) -> dict[str, Any]:
    return {"run_id": "r", "job_id": job, "step": "jump", "step_order": order, "state": "COMPLETE"}


def product(path: Path | str, key: str, size: int = 3, **more: Any) -> dict[str, Any]:
    row = {"path": str(path), "created": schema.now(), "kind": "rate", "state": "current", "key": key}
    return {**row, "bytes": size, **more}


def names(root: Path, table: str = "segments") -> list[str]:
    column = {"segments": "segment_id", "step_runs": "job_id"}[table]
    return Ledger.open(root).table(table)[column].to_pylist()


def test_what_was_committed_is_read_in_order(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, writer=True) as ledger:
        assert ledger.commit({"segments": [segment("a"), segment("b")]}) == 1
        with ledger.transaction() as tx:
            tx.append("segments", segment("c"))
            tx.append("step_runs", step("j", 1), step("j", 2))
        assert ledger.commit({"segments": []}) == 2  # nothing to write
    reader = Ledger.open(tmp_path)
    table = reader.table("segments")
    assert table["segment_id"].to_pylist() == ["a", "b", "c"]
    assert table["commit_no"].to_pylist() == [1, 1, 2]
    assert table["row_no"].to_pylist() == [0, 1, 0]
    assert reader.table("step_runs", ["step_order"]).to_pydict() == {"step_order": [1, 2]}
    assert reader.table("products").num_rows == 0
    assert reader.last_commit == 2
    counts = [row["tables"] for row in schema.python_rows(reader.table("commits"))]
    assert counts[1:] == [{"segments": 2}, {"segments": 1, "step_runs": 2}]


def test_a_block_that_raises_commits_nothing(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, writer=True) as ledger:
        with pytest.raises(ZeroDivisionError), ledger.transaction() as tx:
            tx.append("segments", segment("a"))
            tx.append("step_runs", step(str(1 // 0)))
        with pytest.raises(ValueError, match="no table 'segment'"), ledger.transaction() as tx:
            tx.append("segment", segment("a"))
        with pytest.raises(ValueError, match="state is 'done'"):
            ledger.commit({"step_runs": [step("j")], "segments": [segment("a", "done")]})
        assert ledger.last_commit == 0
    assert names(tmp_path) == names(tmp_path, "step_runs") == []


def test_latest_is_the_newest_row_of_each_key(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, writer=True) as ledger:
        ledger.commit({"segments": [segment("a"), segment("b"), segment("a", version=2)]})
        ledger.commit({"segments": [segment("a", "calibrated")]})
        found = [(row["segment_id"], row["version"], row["state"]) for row in ledger.latest("segments")]
        assert found == [("b", 1, "arrived"), ("a", 2, "arrived"), ("a", 1, "calibrated")]
        assert [row["state"] for row in ledger.latest("segments", ["exposure_id"])] == [
            "arrived",
            "calibrated",
        ]


def test_compaction_keeps_rows_and_bounds_the_files(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, writer=True, compact_every=4) as ledger:
        expected = [f"s{i}" for i in range(70)]
        for name in expected:
            ledger.commit({"segments": [segment(name)]})
            assert len(parts.listed(tmp_path / "segments")) <= 3 * 4
            assert ledger.compaction_trouble is None
        assert ledger.table("segments")["segment_id"].to_pylist() == expected
        ledger.compact()
        assert parts.listed(tmp_path / "segments") == parts.listed(tmp_path / "commits") == [Part(0, 70)]
        ledger.commit({"segments": [segment("last")]})
    assert names(tmp_path) == [*expected, "last"]


def test_any_parquet_reader_reads_the_folders(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, writer=True) as ledger:
        empty = pyarrow.dataset.dataset(tmp_path / "integrations", format="parquet").to_table()
        assert empty.num_rows == 0 and empty.schema.names == schema.SCHEMAS["integrations"].names
        for name in "abc":
            ledger.commit({"segments": [segment(name)]})
        ledger.compact()
        ledger.commit({"segments": [segment("d")]})
    found = pyarrow.dataset.dataset(tmp_path / "segments", format="parquet").to_table()
    assert sorted(found["segment_id"].to_pylist()) == ["a", "b", "c", "d"]


def test_tables_are_seen_as_of_one_commit_while_another_compacts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(tmp_path, writer=True) as ledger:
        ledger.commit({"segments": [segment("a")], "step_runs": [step("a")]})
        reader, read = Ledger.open(tmp_path), parts.read
        pending = iter(["b", "c"])

        def meanwhile(path: Path, *rest: Any) -> Any:
            table = read(path, *rest)
            name = next(pending, None)  # between any two reads the writer commits and compacts
            if name:
                with monkeypatch.context() as inner:
                    inner.setattr(parts, "read", read)
                    ledger.commit({"segments": [segment(name)], "step_runs": [step(name)]})
                    ledger.compact()
            return table

        monkeypatch.setattr(parts, "read", meanwhile)
        tables = reader.tables("segments", "step_runs")
    seen = tables["segments"]["segment_id"].to_pylist()
    assert seen == tables["step_runs"]["job_id"].to_pylist()
    assert seen == ["a", "b", "c"][: len(seen)] and seen


# One writer


def test_a_second_writer_is_told_who_writes(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, writer=True):
        with pytest.raises(Misconfigured, match=rf"written by process {os.getpid()}\b"):
            Ledger.open(tmp_path, writer=True)
        assert names(tmp_path) == []  # readers need no lock
    Ledger.open(tmp_path, writer=True).close()


def test_a_child_that_outlives_the_writer_holds_no_lock(tmp_path: Path) -> None:
    script = f"""
        import os
        from upramp.store.ledger import Ledger
        ledger = Ledger.open({str(tmp_path)!r}, writer=True)
        if os.fork():
            os._exit(0)
        os.close(1)  # tells that the child is there
        os.read(0, 1)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None and writer.stdout.read() == b"" and writer.wait() == 0
        Ledger.open(tmp_path, writer=True).close()


def test_what_cannot_be_opened_is_explained(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="there is no ledger at"):
        Ledger.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="cannot write the ledger"):
        Ledger.open(tmp_path / "file", writer=True)
    with pytest.raises(Misconfigured, match="at least 2"):
        Ledger.open(tmp_path / "l", writer=True, compact_every=1)
    with Ledger.open(tmp_path / "l", writer=True) as ledger:
        ledger.commit({"segments": [segment("a")]})
    with pytest.raises(Misconfigured, match="not open for writing"):
        ledger.commit({"segments": [segment("b")]})
    with pytest.raises(Misconfigured, match="not open for writing"):
        Ledger.open(tmp_path / "l").compact()


def test_damage_is_noticed(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, writer=True) as ledger:
        ledger.commit({"segments": [segment("a")], "step_runs": [step("a")]})
    (tmp_path / "step_runs" / Part(1, 1).name).write_bytes(b"PAR1 and nothing more")
    with pytest.raises(Misconfigured, match="cannot be read"):
        Ledger.open(tmp_path).table("step_runs")
    (tmp_path / "segments" / Part(1, 1).name).unlink()
    with pytest.raises(Misconfigured, match="table segments has 0 of 1 rows"):
        Ledger.open(tmp_path).table("segments")
    for part in parts.listed(tmp_path / "commits"):
        (tmp_path / "commits" / part.name).unlink()
    with pytest.raises(Misconfigured, match="lost its commit records"):
        Ledger.open(tmp_path, writer=True)


# Crashes


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
        context.setattr(parts, "sync", lambda f: full_disk() if f.name == "commits" else sync(f))
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
            context.setattr(parts, "write", lambda f, p, t: full_disk() if p.span > 1 else write(f, p, t))
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


# Against a plain list


ACTIONS = st.lists(
    st.one_of(
        st.integers(0, 3).map(lambda n: ("commit", n)),
        st.sampled_from([("fail", 1), ("compact", 0), ("reopen", 0), ("read", 0)]),
    ),
    max_size=10,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS, fan=st.integers(2, 4))
def test_any_sequence_of_actions_equals_a_plain_list(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int]], fan: int
) -> None:
    root = tmp_path_factory.mktemp("ledger")
    model: list[str] = []
    count = 0
    ledger = Ledger.open(root, writer=True, compact_every=fan)
    reader = Ledger.open(root)
    for action, number in actions:
        fresh = [f"s{count + i}" for i in range(number)]
        count += number
        if action == "commit":
            ledger.commit(
                {"segments": [segment(n) for n in fresh], "step_runs": [step(n) for n in fresh[:1]]}
            )
            model += fresh
        elif action == "fail":
            with pytest.MonkeyPatch.context() as context:
                context.setattr(os, "fsync", full_disk)
                with pytest.raises(Retryable):
                    ledger.commit({"segments": [segment(n) for n in fresh]})
        elif action == "compact":
            ledger.compact()
        elif action == "reopen":
            ledger.close()
            ledger = Ledger.open(root, writer=True, compact_every=fan)
        else:
            assert {row["segment_id"] for row in reader.state.segments()} == set(model)
    assert reader.table("segments")["segment_id"].to_pylist() == model
    assert {row["segment_id"] for row in ledger.state.segments()} == set(model)
    ledger.close()


ranges = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda p: Part(min(p), max(p)))


@given(st.sets(ranges, max_size=12))
def test_parts_that_count_hide_exactly_those_within(listed: set[Part]) -> None:
    seen, hidden = parts.visible(listed)
    assert {*seen, *hidden} == listed and len(seen) + len(hidden) == len(listed)
    assert seen == sorted(seen)
    for part in listed:
        assert (part in hidden) == any(part.within(other) for other in listed)


def test_which_parts_are_due() -> None:
    singles = [Part(i, i) for i in range(9)]
    assert parts.due(singles[:2], 3) == []
    assert parts.due(singles[:3], 3) == singles[:3]
    tail = [Part(0, 2), Part(3, 5), Part(6, 6), Part(7, 7)]
    assert parts.due(tail, 3) == []
    assert parts.due([*tail, Part(8, 8)], 3) == [Part(6, 6), Part(7, 7), Part(8, 8)]
    threes = [Part(0, 2), Part(3, 5), Part(6, 8)]
    assert parts.due([*threes, Part(9, 9)], 3) == [*threes, Part(9, 9)]
    assert parts.due([Part(0, 500), *singles[:2]], 3) == []


# Lookups


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger", writer=True) as opened:
        yield opened


def test_the_present_version_of_a_segment(ledger: Ledger) -> None:
    ledger.commit({"segments": [segment("e-2", sha256="A", segment=2), segment("e-1", segment=1)]})
    ledger.commit(
        {"segments": [segment("e-2", version=2, sha256="B"), segment("e-2", "superseded", sha256="A")]}
    )
    ledger.commit({"segments": [segment("e-2", "failed", version=2)]})  # its checksum is not known here
    for state in (ledger.state, Ledger.open(ledger.root).state):
        present = state.segment("e-2")
        assert present is not None and (present["version"], present["state"]) == (2, "failed")
        assert [row["segment_id"] for row in state.exposure_segments("e")] == ["e-2", "e-1"]
        assert [row["state"] for row in state.versions("e-2")] == ["superseded", "failed"]
        assert [state.version("e-2", sha) for sha in ("A", "B", "C")] == [1, 2, 3]
        assert state.version("new", "A") == 1
        assert [row["segment_id"] for row in state.segments("arrived")] == ["e-1"]
        assert state.segment("none") is None and state.exposure_segments("none") == []


def test_done_only_while_every_file_is_whole(ledger: Ledger, tmp_path: Path) -> None:
    rate, ints = tmp_path / "rate.fits", tmp_path / "rateints.fits"
    rate.write_bytes(b"123")
    ints.write_bytes(b"123")
    ledger.commit({"products": [product(rate, "k1", segment_id="s"), product(ints, "k1", segment_id="s")]})
    for state in (ledger.state, Ledger.open(ledger.root).state):
        assert [row["path"] for row in state.done("k1")] == [str(rate), str(ints)]
        assert state.done("k2") == []
        ints.write_bytes(b"12")
        assert state.done("k1") == []
        ints.write_bytes(b"123")
    rate.unlink()
    assert ledger.state.done("k1") == []


def test_a_new_product_supersedes_the_one_at_its_path(ledger: Ledger, tmp_path: Path) -> None:
    rate = tmp_path / "rate.fits"
    rate.write_bytes(b"123")
    for key in ("k1", "k2", "k2"):  # the last is made again by force
        ledger.commit({"products": [product(rate, key, exposure_id="e")]})
    rows = ledger.latest("products")
    assert [(row["key"], row["state"], row["superseded_by"]) for row in rows] == [
        ("k1", "superseded", "k2"),
        ("k2", "superseded", "k2"),
        ("k2", "current", None),
    ]
    for state in (ledger.state, Ledger.open(ledger.root).state):
        assert state.done("k1") == [] and len(state.done("k2")) == 1
        assert state.products(exposure_id="e") == [state.product(rate)]
    ledger.commit({"products": [superseded(ledger.state.done("k2")[0], "a sha256", schema.now())]})
    for state in (ledger.state, Ledger.open(ledger.root).state):
        assert state.done("k2") == state.products() == [] and state.product(rate) is None


def test_runs_and_exposures_by_their_newest_row(ledger: Ledger) -> None:
    run = {"run_id": "r", "started": schema.now(), "versions": {"python": "3.11"}}
    exposure = {"exposure_id": "e", "at": schema.now(), "segments_expected": 2}
    ledger.commit(
        {
            "runs": [{**run, "state": "running"}],
            "exposures": [{**exposure, "state": "partial", "segments_in": 1}],
        }
    )
    ledger.commit({"runs": [{**run, "state": "ended"}]})
    ledger.commit({"exposures": [{**exposure, "state": "completed", "segments_in": 2}]})
    for state in (ledger.state, Ledger.open(ledger.root).state):
        assert [(r["state"], r["versions"]) for r in state.runs()] == [("ended", {"python": "3.11"})]
        found = state.exposure("e")
        assert found is not None and found["segments_in"] == 2
        assert [len(state.exposures(*states)) for states in ((), ("completed",), ("partial",))] == [1, 1, 0]


def test_a_row_that_older_schemas_lack_columns_for_is_read_with_nulls(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, writer=True) as ledger:
        ledger.commit({"segments": [segment("a")]})
    path = tmp_path / "segments" / Part(1, 1).name
    pq.write_table(pq.ParquetFile(path).read().drop_columns(["remedy"]), path)
    row = Ledger.open(tmp_path).latest("segments")[0]
    assert row["segment_id"] == "a" and row["remedy"] is None
    newer = {b"schema_version": str(schema.SCHEMA_VERSION + 1).encode()}
    pq.write_table(pq.ParquetFile(path).read().replace_schema_metadata(newer), path)
    with pytest.raises(Misconfigured, match="install a newer one"):
        Ledger.open(tmp_path).table("segments")
