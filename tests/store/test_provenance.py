"""Fingerprints tell inputs apart; provenance tells where a product comes from."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from upramp.stages.core.errors import Unprocessable
from upramp.store import schema
from upramp.store.ledger import Ledger
from upramp.store.provenance import fingerprint, parameter_rows, products_using, provenance

VALUES = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.none())
STEPS = st.lists(st.tuples(st.text(), st.dictionaries(st.text(), VALUES, max_size=3)), max_size=3)
REFERENCES = st.dictionaries(st.text(), st.text(), max_size=3)


@given(st.text(), STEPS, REFERENCES, st.text())
def test_the_order_of_parameters_and_references_does_not_matter(
    sha: str, steps: list[tuple[str, dict[str, Any]]], references: dict[str, str], version: str
) -> None:
    turned = [(name, dict(reversed(parameters.items()))) for name, parameters in steps]
    one = fingerprint(sha, steps, references, version)
    assert one == fingerprint([sha], turned, dict(reversed(references.items())), version)
    assert len(one) == 64 and int(one, 16) >= 0


def test_any_difference_shows_in_the_fingerprint() -> None:
    base: tuple[Any, ...] = ("sha", [("jump", {"a": 1.0}), ("refpix", {})], {"gain": "g"}, "1")
    others: list[tuple[Any, ...]] = [
        ("sh", *base[1:]),
        (["sha", "sha"], *base[1:]),
        ("sha", [("jump", {"a": 1.5}), ("refpix", {})], *base[2:]),
        ("sha", [("jump", {"a": True}), ("refpix", {})], *base[2:]),
        ("sha", [("refpix", {}), ("jump", {"a": 1.0})], *base[2:]),
        (*base[:2], {"gain": "N/A"}, "1"),
        (*base[:2], {"gain": "g", "dark": "d"}, "1"),
        (*base[:3], "2"),
    ]
    prints = {fingerprint(*case) for case in [base, *others]}
    assert len(prints) == len(others) + 1
    numpy_value = ("sha", [("jump", {"a": np.float64(1.0)}), ("refpix", {})], {"gain": "g"}, "1")
    assert fingerprint(*numpy_value) == fingerprint(*base)
    with pytest.raises(TypeError, match="cannot be recorded"):
        fingerprint("sha", [("jump", {"a": object()})], {}, "1")


def test_the_fingerprint_stays_the_same_between_versions_of_the_program() -> None:
    """It is kept in ledgers: if it changed, everything would be made again."""
    content = (
        '{"inputs":["ab"],"references":{"gain":"cd"},"steps":[["jump",{"after":null,"cores":"none",'
        '"flag":true,"threshold":4.0}]],"version":"0.1.0"}'
    )
    parameters = {"threshold": 4.0, "cores": "none", "flag": True, "after": None}
    found = fingerprint("ab", [("jump", parameters)], {"gain": "cd"}, "0.1.0")
    assert found == hashlib.sha256(content.encode()).hexdigest()


def test_parameter_rows_tell_value_and_source() -> None:
    assert parameter_rows({"a": 5.0, "b": "x"}, {"a": "config"}) == [
        {"name": "a", "value": "5.0", "source": "config"},
        {"name": "b", "value": '"x"', "source": "default"},
    ]
    with pytest.raises(ValueError, match="it must be one of"):
        parameter_rows({"a": 1}, {"a": "hearsay"})


@pytest.fixture
def product(tmp_path: Path) -> Path:
    path = tmp_path / "out" / "jw1_rate.fits"
    path.parent.mkdir()
    header = fits.Header({"CAL_VER": "3.0.0", "CRDS_CTX": "jwst_0001.pmap", "CRDS_VER": "14.0"})
    header["R_GAIN"], header["R_IPC"], header["S_JUMP"] = "crds://gain_1.fits", "N/A", "COMPLETE"
    fits.PrimaryHDU(header=header).writeto(path)
    return path


@pytest.fixture
def root(tmp_path: Path, product: Path) -> Path:
    """A ledger with one run that made the product from one input in job j, and job k for something else."""
    folder = tmp_path / "ledger"
    gain = {
        "type": "gain",
        "name": "gain_1.fits",
        "path": "/c/gain_1.fits",
        "checksum": "sha1:cd",
        "context": "c",
    }
    step = {"run_id": "r", "input_sha256": "ab", "state": "COMPLETE"}
    found = product.stat()
    row = {
        "path": str(product),
        "created": schema.now(),
        "kind": "rate",
        "state": "current",
        "key": "k1",
        "inputs": [{"path": "/in/jw1_uncal.fits", "sha256": "ab"}],
        "job_ids": ["j"],
        "bytes": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "sha256": hashlib.sha256(product.read_bytes()).hexdigest(),
        "upramp_version": "0.1.0",
        "crds_context": "jwst_0001.pmap",
        "run_id": "r",
    }
    with Ledger.open(folder, writer=True) as ledger:
        run = {"run_id": "r", "started": schema.now(), "command": "upramp run"}
        ledger.commit({"runs": [{**run, "state": "running", "versions": {"numpy": "2.4"}}]})
        with ledger.transaction() as tx:
            tx.append("products", row)
            jump = {
                "job_id": "j",
                "step": "jump",
                "step_order": 2,
                "references": [gain],
                "pars_file": "pars.asdf",
            }
            parameters = parameter_rows({"rejection_threshold": 5.0}, {"rejection_threshold": "config"})
            tx.append("step_runs", {**step, **jump, "parameters": parameters, "counters": {"jumps": 3}})
            tx.append("step_runs", {**step, "job_id": "j", "step": "dq_init", "step_order": 1})
            tx.append("step_runs", {**step, "job_id": "k", "step": "dq_init", "step_order": 1})
    return folder


def test_provenance_tells_the_whole_story(root: Path, product: Path) -> None:
    told = provenance(root, product)
    assert told["known"] and told["state"] == "current" and told["notes"] == []
    assert told["inputs"] == [{"path": "/in/jw1_uncal.fits", "sha256": "ab"}]
    assert [(step["step"], step["job_id"]) for step in told["steps"]] == [("dq_init", "j"), ("jump", "j")]
    jump = told["steps"][1]
    assert jump["parameters"] == [{"name": "rejection_threshold", "value": 5.0, "source": "config"}]
    assert jump["counters"] == {"jumps": 3} and jump["pars_file"] == "pars.asdf"
    assert [(item["type"], item["checksum"]) for item in told["references"]] == [("gain", "sha1:cd")]
    assert told["versions"]["numpy"] == "2.4" and told["versions"]["context"] == "jwst_0001.pmap"
    assert told["run"]["command"] == "upramp run"


def test_an_altered_product_is_pointed_out(root: Path, product: Path) -> None:
    os.utime(product, ns=(1, 1))
    assert "its content is what was published" in provenance(root, product)["notes"][0]
    content = bytearray(product.read_bytes())
    content[-1] ^= 1
    product.write_bytes(content)
    assert "ALTERED after publication: its SHA-256" in provenance(root, product)["notes"][0]
    product.write_bytes(b"short")
    assert f"its size was {len(content)} and is 5 bytes" in provenance(root, product)["notes"][0]
    product.unlink()
    told = provenance(root, product)
    assert "no longer there" in told["notes"][0] and len(told["steps"]) == 2


def test_a_moved_product_is_found_by_its_content(root: Path, product: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / product.name
    moved.parent.mkdir()
    product.rename(moved)
    told = provenance(root, moved)
    assert told["known"] and f"by content it is the one made as {product}" in told["notes"][0]


def test_a_superseded_product_says_by_what(root: Path, product: Path) -> None:
    with Ledger.open(root, writer=True) as ledger:
        old = ledger.state.product(product)
        assert old is not None
        new = {name: old[name] for name in ("path", "kind", "state", "bytes", "mtime_ns", "job_ids")}
        ledger.commit({"products": [{**new, "created": schema.now(), "key": "k2"}]})
    assert provenance(root, product)["product"]["key"] == "k2"
    states = [(row["key"], row["state"]) for row in products_using(root, "gain_1.fits")]
    assert states == [("k1", "superseded"), ("k2", "current")]


def test_which_products_used_a_reference(root: Path, product: Path) -> None:
    for name in ("gain_1.fits", "crds://gain_1.fits", "/c/gain_1.fits", "pars.asdf"):
        assert [row["path"] for row in products_using(root, name)] == [str(product)]
    assert products_using(root, "gain_2.fits") == []


def test_without_the_ledger_the_header_speaks(product: Path, tmp_path: Path) -> None:
    told = provenance(tmp_path / "none", product)
    assert not told["known"] and told["versions"]["context"] == "jwst_0001.pmap"
    assert told["references"] == [
        {"keyword": "R_GAIN", "name": "gain_1.fits"},
        {"keyword": "R_IPC", "name": "N/A"},
    ]
    assert told["steps"] == [{"keyword": "S_JUMP", "state": "COMPLETE"}]
    assert "there is no ledger" in told["notes"][0] and "does not know this file" in told["notes"][1]
    (tmp_path / "text.fits").write_text("no FITS")
    for name in ("text.fits", "missing.fits"):
        with pytest.raises(Unprocessable, match="its header cannot be read"):
            provenance(tmp_path / "none", tmp_path / name)
