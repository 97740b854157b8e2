"""The ledger keeps every committed row exactly once, whatever happens in between."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
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
from upramp.store.parts import Part


def segment(name: str, state: str = "arrived", version: int = 1, **more: Any) -> dict[str, Any]:
    row = {"segment_id": name, "exposure_id": name.split("-")[0], "version": version, "state": state}
    return {**row, "at": schema.now(), "path": f"/in/{name}_uncal.fits", **more}


def step(job: str, order: int = 1) -> dict[str, Any]:
    return {"run_id": "r", "job_id": job, "step": "jump", "step_order": order, "state": "COMPLETE"}


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


def test_a_ledger_from_before_a_table_was_known_is_read_and_goes_on(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, writer=True) as ledger:
        ledger.commit({"segments": [segment("a")]})
    # as an older version left it: no folder, and no word of the table in the first commit
    (tmp_path / "persistence" / Part(0, 0).name).unlink()
    (tmp_path / "persistence").rmdir()
    record = parts.read(tmp_path / "commits" / Part(0, 0).name, schema.SCHEMAS["commits"])
    [row] = schema.python_rows(record)
    counts = {name: n for name, n in row["tables"].items() if name != "persistence"}
    older = schema.arrow_table("commits", [{"at": row["at"], "tables": counts}], 0)
    parts.write(tmp_path, Part(0, 0), {"commits": older})
    assert Ledger.open(tmp_path).table("persistence", ["job_id"]).num_rows == 0
    assert Ledger.open(tmp_path).state.windows("a") is None
    with Ledger.open(tmp_path, writer=True, compact_every=2) as ledger:
        row = {"job_id": "j", "segment_id": "a", "key": "k", "detector": "NIS"}
        times = {"start_s": 0.0, "end_s": 1.0, "persistence_time": 5.0}
        ledger.commit({"persistence": [{**row, **times}]})
        ledger.compact()
    assert Ledger.open(tmp_path).table("persistence").num_rows == 1


def full_disk(*args: Any, **more: Any) -> Any:
    raise OSError(28, "No space left on device")


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
