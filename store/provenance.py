"""Where products come from: the fingerprint of what goes in, and the record of what was done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from upramp.stages.core.errors import Misconfigured, Unprocessable
from upramp.store import schema
from upramp.store.ledger import Ledger


def fingerprint(
    inputs: str | Iterable[str],
    steps: Iterable[tuple[str, Mapping[str, Any]]],
    references: Mapping[str, str],
    version: str,
) -> str:
    """What a product is made from, as one number: equal exactly if all of it is equal.

    Parameters
    ----------
    inputs : str or iterable of str
        SHA-256 of the input, or of the inputs in order.
    steps : iterable of (str, mapping)
        Steps in order, each with its effective parameters (values as JSON has them, numpy
        scalars and tuples included).
    references : mapping of str to str
        Reference type -> checksum of the file (or its name, or N/A). Order does not matter.
    version : str
        Version of upramp.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    content = {
        "inputs": [inputs] if isinstance(inputs, str) else list(inputs),
        "steps": [[name, dict(parameters)] for name, parameters in steps],
        "references": dict(references),
        "version": version,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a parameter of type {type(value).__name__} cannot be recorded: {value!r}")


def parameter_rows(values: Mapping[str, Any], sources: Mapping[str, str]) -> list[dict[str, str]]:
    """Parameters as the ``parameters`` column of ``step_runs`` takes them.

    ``sources`` tells where a value came from; what it leaves out is a default.
    """
    rows = []
    for name, value in values.items():
        source = sources.get(name, "default")
        if source not in schema.SOURCES:
            raise ValueError(f"parameter {name} comes from {source!r}; it must be one of {schema.SOURCES}")
        rows.append({"name": name, "value": json.dumps(value, default=_plain), "source": source})
    return rows


def provenance(root: str | Path, product: str | Path) -> dict[str, Any]:
    """Everything known about how a product was made.

    Parameters
    ----------
    root : path
        Folder of the ledger.
    product : path
        The product. One that was moved is found by its name and content.

    Returns
    -------
    dict
        ``product`` (its row, or its path), ``known`` (whether the ledger has it), ``state``, ``inputs``
        (path, sha256), ``steps`` (state, reason, parameters with sources, references with
        checksums, counters, times), ``references`` (all of them), ``versions``, ``run``, and
        ``notes``: sentences about what a reader should know, for one that the file was altered.

    Raises
    ------
    Unprocessable
        If neither the ledger nor a readable file of that name tells anything.
    """
    path = Path(product).absolute()
    notes: list[str] = []
    try:
        with Ledger.open(root) as ledger:
            row = _find(ledger.latest("products"), path, notes)
            if row is not None:
                return _from_ledger(ledger, row, path, notes)
    except Misconfigured as error:
        notes.append(f"{error}.")
    return _from_header(path, notes)


def products_using(root: str | Path, reference: str) -> list[dict[str, Any]]:
    """Products, superseded ones included, that a reference or parameter reference file went into.

    Parameters
    ----------
    root : path
        Folder of the ledger.
    reference : str
        File name; a leading ``crds://`` or folder is ignored.

    Returns
    -------
    list of dict
        Newest rows of table ``products``, oldest first.
    """
    name = reference.rsplit("/", 1)[-1]
    with Ledger.open(root) as ledger:
        steps = ledger.table("step_runs", ["job_id", "pars_file", "references"])
        products = ledger.latest("products")
    jobs = {
        row["job_id"]
        for row in schema.python_rows(steps)
        if any(_base(item["name"]) == name for item in row["references"] or ())
        or _base(row["pars_file"]) == name
    }
    return [row for row in products if not jobs.isdisjoint(row["job_ids"] or ())]


def _base(name: str | None) -> str:
    return (name or "").rsplit("/", 1)[-1]


def _find(rows: Sequence[dict[str, Any]], path: Path, notes: list[str]) -> dict[str, Any] | None:
    """The product that lies at the path: the newest row of that path, else one of the same content."""
    at_path = [row for row in rows if row["path"] == str(path)]
    if at_path:
        row = max(at_path, key=lambda r: r["created"])
        notes += _alterations(row, path)
        return row
    namesakes = [row for row in rows if Path(row["path"]).name == path.name and row["bytes"] == _size(path)]
    summed = [row for row in namesakes if row["sha256"]]
    if summed:
        digest = _sha256(path)
        namesakes = [row for row in summed if row["sha256"] == digest]
    if not namesakes:
        return None
    row = namesakes[-1]
    evidence = "content" if summed else "name and size"
    notes.append(f"The ledger has no product at {path}; by {evidence} it is the one made as {row['path']}.")
    return row


def _alterations(row: Mapping[str, Any], path: Path) -> list[str]:
    try:
        found = path.stat()
    except OSError:
        return [f"{path} is no longer there; what follows is the ledger's record of it."]
    touched = row["mtime_ns"] is not None and found.st_mtime_ns != row["mtime_ns"]
    if found.st_size == row["bytes"] and not touched:
        return []
    if found.st_size == row["bytes"] and row["sha256"]:
        if _sha256(path) == row["sha256"]:
            return [f"{path} has a new modification time, but its content is what was published."]
        return [f"{path} was ALTERED after publication: its SHA-256 is not the recorded one."]
    change = (
        f"its size was {row['bytes']} and is {found.st_size} bytes"
        if found.st_size != row["bytes"]
        else "its modification time changed (no checksum was recorded to compare)"
    )
    return [f"{path} was ALTERED after publication: {change}."]


def _from_ledger(ledger: Ledger, row: dict[str, Any], path: Path, notes: list[str]) -> dict[str, Any]:
    tables = ledger.tables("step_runs", "runs")
    jobs = pa.array(row["job_ids"] or [], pa.string())
    steps = schema.python_rows(
        tables["step_runs"].filter(pc.is_in(tables["step_runs"]["job_id"], value_set=jobs))
    )
    steps.sort(key=lambda step: (step["job_id"], step["step_order"]))
    runs = [run for run in schema.python_rows(tables["runs"]) if run["run_id"] == row["run_id"]]
    if row["state"] == "superseded":
        notes.append(f"Superseded at {row['superseded_at']} by {row['superseded_by']}.")
    if not steps:
        notes.append("The ledger has no step runs for this product.")
    for step in steps:
        for parameter in step["parameters"] or ():
            parameter["value"] = json.loads(parameter["value"])
    references = {(item["type"], item["name"]): item for step in steps for item in step["references"] or ()}
    return {
        "product": {**row, "asked_for": str(path)},
        "known": True,
        "state": row["state"],
        "inputs": row["inputs"] or [],
        "steps": steps,
        "references": [references[key] for key in sorted(references)],
        "versions": {
            **(runs[-1]["versions"] or {} if runs else {}),
            "upramp": row["upramp_version"],
            "crds": row["crds_version"],
            "context": row["crds_context"],
        },
        "run": runs[-1] if runs else None,
        "notes": notes,
    }


def _from_header(path: Path, notes: list[str]) -> dict[str, Any]:
    """What a product tells of itself."""
    from astropy.io import fits

    try:
        header = fits.getheader(path)
    except (OSError, ValueError) as error:
        raise Unprocessable(
            f"the ledger does not know {path}, and its header cannot be read ({error}); check the name"
        ) from error
    notes.append("The ledger does not know this file; what follows is what its own header says.")
    named = sorted(key for key in header if key.startswith("R_") and str(header[key]).strip())
    states = [key for key in header if key.startswith("S_")]
    return {
        "product": {"path": str(path), "created": header.get("DATE"), "bytes": _size(path)},
        "known": False,
        "state": None,
        "inputs": [],
        "steps": [{"keyword": key, "state": str(header[key])} for key in states],
        "references": [{"keyword": key, "name": str(header[key]).removeprefix("crds://")} for key in named],
        "versions": {
            "software": header.get("CAL_VER"),
            "crds": header.get("CRDS_VER"),
            "context": header.get("CRDS_CTX"),
        },
        "run": None,
        "notes": notes,
    }


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
