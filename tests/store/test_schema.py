"""The schemas hold what docs/store.md says, and read what earlier versions wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from upramp.store import parts, schema

GOLDEN = Path(__file__).parent / "golden"
DOCS = Path(__file__).parents[2] / "docs" / "store.md"
AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SHA = "ab" * 32


def example(table: str) -> dict[str, Any]:
    """A row with every column filled in: the content of the golden files."""
    special: Mapping[str, Any] = {
        "parameters": [{"name": "rejection_threshold", "value": "5.0", "source": "config"}],
        "references": [
            {
                "type": "gain",
                "name": "g.fits",
                "path": "/c/g.fits",
                "checksum": f"sha1:{SHA[:40]}",
                "context": "c.pmap",
            }
        ],
        "inputs": [{"path": "/in/a_uncal.fits", "sha256": SHA}],
        "counters": {"jumps": 12, "saturated": 2**40},
        "tables": {"segments": 1},
        "versions": {"python": "3.11.9", "numpy": "2.1.0"},
        "facts": {"program": "01234", "exp_type": "nrc_image"},
        "shape": [2, 2048, 2048],
        "products": ["/out/a_rate.fits"],
        "input_sha256": SHA if table == "step_runs" else [SHA],
        "job_ids": ["job-1"],
        "path": "/out/a_rate.fits",
    }
    row: dict[str, Any] = {}
    for column in list(schema.SCHEMAS[table])[2:]:
        allowed = (column.metadata or {}).get(b"values", b"").decode()
        if column.name in special:
            row[column.name] = special[column.name]
        elif allowed:
            row[column.name] = allowed.split("|")[-1]
        elif pa.types.is_timestamp(column.type):
            row[column.name] = AT
        elif pa.types.is_boolean(column.type):
            row[column.name] = True
        elif pa.types.is_floating(column.type):
            row[column.name] = 0.1
        elif pa.types.is_integer(column.type):
            row[column.name] = 7
        else:
            row[column.name] = f"a {column.name}"
    return row


@pytest.mark.parametrize("table", schema.SCHEMAS)
def test_rows_come_back_as_they_went_in(table: str) -> None:
    row = example(table)
    [found] = schema.python_rows(schema.arrow_table(table, [row], 9))
    assert found == {**row, "commit_no": 9, "row_no": 0}


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.parquet")), ids=lambda p: p.stem)
def test_files_of_earlier_schemas_are_read(path: Path) -> None:
    """Golden files are named <table>.v<schema version>.parquet; each holds ``example(table)``."""
    table, version = re.fullmatch(r"(\w+)\.v(\d+)", path.stem).groups()  # type: ignore[union-attr]
    stored = pq.ParquetFile(path)
    [found] = schema.python_rows(parts.read(path, schema.SCHEMAS[table]))
    expected = {**example(table), "commit_no": 9, "row_no": 0}
    assert {name: found[name] for name in stored.schema_arrow.names} == {
        name: expected[name] for name in stored.schema_arrow.names
    }
    if int(version) == schema.SCHEMA_VERSION:
        message = "the schema changed: raise SCHEMA_VERSION and add golden files of the new version"
        assert stored.schema_arrow.remove_metadata().equals(schema.SCHEMAS[table].remove_metadata()), message


def test_there_is_a_golden_file_of_every_table() -> None:
    assert {path.name for path in GOLDEN.iterdir()} >= {
        f"{table}.v{schema.SCHEMA_VERSION}.parquet" for table in schema.SCHEMAS
    }


def test_the_documentation_lists_every_column() -> None:
    text = DOCS.read_text().split("## Columns")[1]
    documented: dict[str, list[tuple[str, str, str]]] = {}
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        found = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", section, flags=re.MULTILINE)
        documented[section.split()[0]] = found
    assert f"Schema version {schema.SCHEMA_VERSION};" in DOCS.read_text()
    assert documented == {name: [_line(column) for column in table] for name, table in schema.SCHEMAS.items()}


def _line(column: pa.Field) -> tuple[str, str, str]:
    facts = {key.decode(): value.decode() for key, value in (column.metadata or {}).items()}
    about = facts["description"]
    if "values" in facts:
        about += ": " + ", ".join(facts["values"].split("|"))
    if not column.nullable:
        about += " (never null)"
    return column.name, str(column.type), about.replace("|", ", ")


def test_keys_are_columns() -> None:
    for table, keys in schema.KEYS.items():
        assert set(keys) <= set(schema.SCHEMAS[table].names)
    assert set(schema.KEYS) == set(schema.SCHEMAS) == {*schema.TABLES, "commits"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "table products has no column colour"),
        ({"commit_no": 3}, "no column commit_no"),
        ({"key": None}, "column key is required"),
        ({"state": "new"}, "state is 'new'; it must be one of current"),
        ({"path": "rate.fits"}, "is relative"),
        ({"created": datetime(2026, 1, 1)}, "created has no time zone"),
        ({"bytes": "many"}, "table products, column bytes"),
        ({"version": 2**40}, "table products, column version"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schema.arrow_table("products", [{**example("products"), **change}], 1)
