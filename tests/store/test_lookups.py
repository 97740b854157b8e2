"""The present state of segments, exposures, products and runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from upramp.store import schema
from upramp.store.ledger import Ledger
from upramp.store.lookups import superseded


def segment(name: str, state: str = "arrived", version: int = 1, **more: Any) -> dict[str, Any]:
    row = {"segment_id": name, "exposure_id": name.split("-")[0], "version": version, "state": state}
    return {**row, "at": schema.now(), "path": f"/in/{name}_uncal.fits", **more}


def product(path: Path | str, key: str, size: int = 3, **more: Any) -> dict[str, Any]:
    row = {"path": str(path), "created": schema.now(), "kind": "rate", "state": "current", "key": key}
    return {**row, "bytes": size, **more}


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


def left(name: str, start: float, key: str = "k", **more: Any) -> dict[str, Any]:
    row = {"job_id": f"{name}-{key}", "segment_id": name, "key": key, "detector": "NRCA1", "start_s": start}
    return {**row, "end_s": start + 40, "persistence_time": 100.0, **more}


def test_windows_in_the_order_of_times(ledger: Ledger) -> None:
    for name, start in (("c", 30.0), ("a", 10.0), ("b", 20.0)):
        segments = [segment(name, "calibrated", key="k")]
        ledger.commit({"segments": segments, "persistence": [left(name, start)]})
    ledger.commit({"persistence": [left("other", 15.0, detector="NRCA2")]})
    for state in (ledger.state, Ledger.open(ledger.root).state):
        before = {start: state.windows_before("NRCA1", start) for start in (5.0, 10.0, 10.5, 30.0, 99.0)}
        assert {s: row and row["segment_id"] for s, row in before.items()} == {
            5.0: None,
            10.0: None,
            10.5: "a",
            30.0: "b",
            99.0: "c",
        }
        assert [row["segment_id"] for row in state.windows_from("NRCA1", 20.0)] == ["b", "c"]
        assert state.windows_before("NRCA2", 99.0) is None, "no segment of that name is calibrated"
        assert list(state.windows_from("NIS", 0.0)) == []


def test_windows_count_as_long_as_their_segment_is_what_it_was(ledger: Ledger) -> None:
    ledger.commit({"segments": [segment("a", "calibrated", key="k")], "persistence": [left("a", 10.0)]})
    ledger.commit({"segments": [segment("a", "calibrated", key="without the step")]})
    assert ledger.state.windows_before("NRCA1", 99.0) is None
    assert ledger.state.windows("a")["key"] == "k"
    ledger.commit({"segments": [segment("a", "calibrated", key="n")], "persistence": [left("a", 50.0, "n")]})
    assert ledger.state.windows_before("NRCA1", 40.0) is None, "the time of a new version counts"
    assert ledger.state.windows_before("NRCA1", 99.0)["key"] == "n"
    ledger.commit({"segments": [segment("a", "failed", key="n")]})
    assert ledger.state.windows_before("NRCA1", 99.0) is None
