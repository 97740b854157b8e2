"""The tables of the ledger: every column with its type and meaning.

docs/store.md shows the same tables to readers; a test holds the two together. Each
row also carries ``commit_no`` and ``row_no``, which the ledger fills in: together
they name a row for good. Tables are append-only. Where a table keeps the state of
something, the newest row of each ``KEYS`` combination is its present state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

SCHEMA_VERSION = 3
"""Raised with every change of a schema. Older files are read (columns they lack are null), newer refused."""

TIME = pa.timestamp("us", tz="UTC")
_TEXTS = pa.list_(pa.string())
_INPUT = pa.struct([("path", pa.string()), ("sha256", pa.string())])
_PARAMETER = pa.struct([("name", pa.string()), ("value", pa.string()), ("source", pa.string())])
_REFERENCE = pa.struct([(n, pa.string()) for n in ("type", "name", "path", "checksum", "context")])

SEGMENT_STATES = ("waiting", "arrived", "calibrated", "failed", "superseded")
FAILURES = ("unprocessable", "retryable", "misconfigured", "crashed", "unexpected")
EXPOSURE_STATES = ("partial", "completed", "failed")
STEP_STATES = ("COMPLETE", "SKIPPED", "FAILED")
PRODUCT_STATES = ("current", "superseded")
RETENTIONS = ("keep", "until_completed", "scratch")
SOURCES = ("default", "crds", "config", "command line")
ASSOCIATION_STATES = ("waiting", "complete", "explicit", "quiet", "failed", "built", "superseded")
RUN_STATES = ("running", "ended", "failed")


def _col(
    name: str, dtype: Any, about: str, *, required: bool = False, values: Sequence[str] | None = None
) -> pa.Field:
    metadata = {"description": about}
    if values:
        metadata["values"] = "|".join(values)
    return pa.field(name, dtype, nullable=not required, metadata=metadata)


def _table(name: str, about: str, columns: Sequence[pa.Field]) -> pa.Schema:
    own = [
        _col("commit_no", pa.int64(), "number of the commit that wrote the row", required=True),
        _col("row_no", pa.int32(), "number of the row within its commit and table, from 0", required=True),
    ]
    facts = {"table": name, "description": about, "schema_version": str(SCHEMA_VERSION)}
    return pa.schema([*own, *columns], metadata=facts)


_SEGMENT_ID = "segment: root of the uncal file's name, without _uncal.fits"
_EXPOSURE_ID = "exposure: the segment's name without -segNNN"
_VERSION = "n-th content seen of this segment, from 1; the same content has the same number"
_SHA = "SHA-256 of the input file, lower-case hex"
_RUN = "the run that wrote the row (table runs)"
_JOB = "one attempt at calibrating one input; ties step_runs, integrations and products"

SCHEMAS: dict[str, pa.Schema] = {
    "segments": _table(
        "segments",
        "Input files: one row for every change of state.",
        [
            _col("segment_id", pa.string(), _SEGMENT_ID, required=True),
            _col("exposure_id", pa.string(), _EXPOSURE_ID, required=True),
            _col("version", pa.int32(), _VERSION, required=True),
            _col("state", pa.string(), "state from this row on", required=True, values=SEGMENT_STATES),
            _col("reason", pa.string(), "why it waits, failed or was superseded"),
            _col("remedy", pa.string(), "what the operator can do about it"),
            _col("failure", pa.string(), "kind of failure; decides when it is tried again", values=FAILURES),
            _col("attempts", pa.int32(), "calibrations begun so far on this version"),
            _col("at", TIME, "time of the change of state", required=True),
            _col("path", pa.string(), "absolute path of the input file", required=True),
            _col("bytes", pa.int64(), "size of the file"),
            _col("mtime_ns", pa.int64(), "modification time of the file, ns since 1970"),
            _col("sha256", pa.string(), _SHA),
            _col("key", pa.string(), "fingerprint of input, parameters, references and version it ran with"),
            _col("segment", pa.int32(), "number of the segment [EXSEGNUM]"),
            _col("segments", pa.int32(), "segments of the exposure [EXSEGTOT]"),
            _col("int_start", pa.int32(), "first integration, from 1 in the exposure [INTSTART]"),
            _col("int_end", pa.int32(), "last integration, inclusive [INTEND]"),
            _col("nints", pa.int32(), "integrations in this file"),
            _col("nints_total", pa.int32(), "integrations of the exposure [NINTS]"),
            _col("ngroups", pa.int32(), "groups of an integration [NGROUPS]"),
            _col("nx", pa.int32(), "columns"),
            _col("ny", pa.int32(), "rows"),
            _col("instrument", pa.string(), "instrument [INSTRUME]"),
            _col("detector", pa.string(), "detector [DETECTOR]"),
            _col("exp_type", pa.string(), "exposure type [EXP_TYPE]"),
            _col("subarray", pa.string(), "subarray [SUBARRAY]"),
            _col("readpatt", pa.string(), "read pattern [READPATT]"),
            _col("start_mjd", pa.float64(), "start of the exposure, UTC, MJD in days [EXPSTART]"),
            _col("end_mjd", pa.float64(), "end of the exposure, UTC, MJD in days [EXPEND]"),
            _col("upramp_version", pa.string(), "version of upramp"),
            _col("run_id", pa.string(), _RUN),
        ],
    ),
    "exposures": _table(
        "exposures",
        "Exposures: one row for every change of what is in.",
        [
            _col("exposure_id", pa.string(), _EXPOSURE_ID, required=True),
            _col("state", pa.string(), "state from this row on", required=True, values=EXPOSURE_STATES),
            _col("reason", pa.string(), "what is missing or contradicts itself"),
            _col("at", TIME, "time of the change of state", required=True),
            _col("segments_in", pa.int32(), "segments calibrated", required=True),
            _col("segments_expected", pa.int32(), "segments the headers promise [EXSEGTOT]", required=True),
            _col("integrations_in", pa.int32(), "integrations in the segments that are in"),
            _col("integrations_expected", pa.int32(), "integrations the headers promise [NINTS]"),
            _col("contiguous", pa.bool_(), "whether the integrations that are in follow on without gap"),
            _col("completed_at", TIME, "time at which the last segment was in"),
            _col("input_sha256", _TEXTS, "SHA-256 of the inputs, in the order of the segments"),
            _col("products", _TEXTS, "paths of the product set at completion"),
            _col("run_id", pa.string(), _RUN),
        ],
    ),
    "step_runs": _table(
        "step_runs",
        "Steps as they ran: one row for each step of each job.",
        [
            _col("run_id", pa.string(), _RUN, required=True),
            _col("job_id", pa.string(), _JOB, required=True),
            _col("segment_id", pa.string(), _SEGMENT_ID),
            _col("exposure_id", pa.string(), _EXPOSURE_ID),
            _col("input_sha256", pa.string(), _SHA),
            _col("pipeline", pa.string(), "pipeline, such as detector1"),
            _col("step", pa.string(), "name of the step", required=True),
            _col("step_order", pa.int32(), "place of the step in its pipeline, from 1", required=True),
            _col("state", pa.string(), "what became of the step", required=True, values=STEP_STATES),
            _col("reason", pa.string(), "why it was skipped or failed"),
            _col(
                "parameters",
                pa.list_(_PARAMETER),
                "effective parameters: name, value as JSON, source (default|crds|config|command line)",
            ),
            _col("pars_file", pa.string(), "parameter reference file that applied"),
            _col(
                "references",
                pa.list_(_REFERENCE),
                "reference files: type, name, path, checksum (sha1:...), CRDS context; N/A if none applies",
            ),
            _col("counters", pa.map_(pa.string(), pa.int64()), "counts, such as saturated pixels or jumps"),
            _col("started", TIME, "time at which the step began"),
            _col("wall_s", pa.float64(), "wall time, s; of steps that share a pass, the step's share"),
            _col("cpu_s", pa.float64(), "CPU time, s; of steps that share a pass, the step's share"),
            _col("peak_mb", pa.float64(), "peak resident memory of the process by then, MB (10^6 bytes)"),
            _col("upramp_version", pa.string(), "version of upramp"),
        ],
    ),
    "products": _table(
        "products",
        "Products and what one handler leaves for the next: one row when made, one when superseded.",
        [
            _col("path", pa.string(), "absolute path of the product", required=True),
            _col("created", TIME, "time of publication; with the path it names the product", required=True),
            _col("kind", pa.string(), "rate, rateints, cal ...", required=True),
            _col("state", pa.string(), "state from this row on", required=True, values=PRODUCT_STATES),
            _col("superseded_by", pa.string(), "key of the product or SHA-256 of the input that replaced it"),
            _col("superseded_at", TIME, "time at which it was superseded"),
            _col("exposure_id", pa.string(), _EXPOSURE_ID),
            _col("segment_id", pa.string(), _SEGMENT_ID),
            _col("version", pa.int32(), _VERSION),
            _col("inputs", pa.list_(_INPUT), "files it was made from: path, SHA-256"),
            _col(
                "key", pa.string(), "fingerprint of input, parameters, references and version", required=True
            ),
            _col("job_ids", _TEXTS, "jobs whose step runs made it"),
            _col("bytes", pa.int64(), "size of the file", required=True),
            _col("mtime_ns", pa.int64(), "modification time at publication, ns since 1970"),
            _col("sha256", pa.string(), "SHA-256 of the file; null where it was not computed"),
            _col("units", pa.string(), "units of the main array"),
            _col("shape", pa.list_(pa.int64()), "shape of the main array, slowest axis first"),
            _col("dtype", pa.string(), "numpy name of the main array's type, such as float32"),
            _col("retention", pa.string(), "how long the file stays", values=RETENTIONS),
            _col("upramp_version", pa.string(), "version of upramp"),
            _col("crds_context", pa.string(), "CRDS context [CRDS_CTX]"),
            _col("crds_version", pa.string(), "version of the CRDS client [CRDS_VER]"),
            _col("run_id", pa.string(), _RUN),
        ],
    ),
    "integrations": _table(
        "integrations",
        "Statistics of every integration: one row for each integration of each job.",
        [
            _col("job_id", pa.string(), _JOB, required=True),
            _col("segment_id", pa.string(), _SEGMENT_ID, required=True),
            _col("exposure_id", pa.string(), _EXPOSURE_ID),
            _col("version", pa.int32(), _VERSION),
            _col("integration", pa.int32(), "number in the exposure, from 1", required=True),
            _col("n_good", pa.int64(), "pixels with a slope and without DO_NOT_USE"),
            _col("slope_mean", pa.float64(), "mean slope of the good pixels, DN/s"),
            _col("slope_scatter", pa.float64(), "standard deviation of the good pixels' slopes, DN/s"),
            _col("n_saturated", pa.int64(), "pixels with SATURATED"),
            _col("n_jump", pa.int64(), "pixels with JUMP_DET"),
            _col("n_do_not_use", pa.int64(), "pixels with DO_NOT_USE"),
            _col("mid_mjd", pa.float64(), "middle of the integration, UTC, MJD in days, if known"),
        ],
    ),
    "persistence": _table(
        "persistence",
        "Windows of persistence from segment to segment: one row for each job that the step ran in.",
        [
            _col("job_id", pa.string(), _JOB, required=True),
            _col("segment_id", pa.string(), _SEGMENT_ID, required=True),
            _col("exposure_id", pa.string(), _EXPOSURE_ID),
            _col("version", pa.int32(), _VERSION),
            _col("key", pa.string(), "fingerprint of the products that were made with it", required=True),
            _col("detector", pa.string(), "detector [DETECTOR]", required=True),
            _col("start_s", pa.float64(), "start of the first integration, s since 1970", required=True),
            _col("end_s", pa.float64(), "end of the last group, s since 1970", required=True),
            _col("persistence_time", pa.float64(), "length of windows, s", required=True),
            _col(
                "windows",
                pa.int64(),
                "pixels whose window was open at the end, elsewhere on the detector too",
            ),
            _col("until_s", pa.float64(), "latest end of these windows, s since 1970"),
            _col("path", pa.string(), "file of these windows; null if there are none"),
            _col("bytes", pa.int64(), "size of the file"),
            _col("sha256", pa.string(), "SHA-256 of the windows in it"),
            _col("before", pa.string(), "segment before it on the detector, if its windows are known"),
            _col(
                "before_sha256", pa.string(), "SHA-256 of the windows it began with; null if there were none"
            ),
            _col("reason", pa.string(), "why it began without windows, or what it did not wait for longer"),
        ],
    ),
    "headers": _table(
        "headers",
        "What headers tell of exposures that may belong together: one row when heard, and for every change.",
        [
            _col("exposure", pa.string(), "name of its files, without their endings", required=True),
            _col("facts", pa.map_(pa.string(), pa.string()), "as in a pool, lower case; those with a value"),
            _col("at", TIME, "time at which it was heard of", required=True),
            _col("run_id", pa.string(), _RUN),
        ],
    ),
    "associations": _table(
        "associations",
        "Associations of stage 3: one row for every change of what is in.",
        [
            _col("file", pa.string(), "absolute path of the association file", required=True),
            _col("association", pa.string(), "name of the file; in segments and products its segment_id"),
            _col("product", pa.string(), "what its products begin with", required=True),
            _col("rule", pa.string(), "rule that its members follow [ASN_RULE]"),
            _col("requested", pa.bool_(), "whether somebody gave the file; else upramp wrote it"),
            _col("state", pa.string(), "state from this row on", required=True, values=ASSOCIATION_STATES),
            _col("how", pa.string(), "why it was handed on: complete, explicit or quiet"),
            _col("reason", pa.string(), "what is in and what it waits for, or why it failed"),
            _col("remedy", pa.string(), "what the operator can do about it"),
            _col("members", pa.int32(), "members that are known"),
            _col("present", pa.int32(), "of these, calibrated"),
            _col("pending", pa.int32(), "members, heard of or announced, that are being calibrated"),
            _col("failed", pa.int32(), "members, heard of or announced, that failed"),
            _col("missing", pa.int32(), "members, heard of or announced, that are not there"),
            _col("unheard", pa.int32(), "exposures of its visits that were not heard of; may be members"),
            _col("heard_at", TIME, "time at which a member last came in or failed: begin of quiet time"),
            _col("since", TIME, "time at which the state began", required=True),
            _col("at", TIME, "time of the change", required=True),
            _col("key", pa.string(), "fingerprint of the members that stand, at work or not"),
            _col("built_key", pa.string(), "fingerprint of the members that its product was built of last"),
            _col("run_id", pa.string(), _RUN),
        ],
    ),
    "runs": _table(
        "runs",
        "Runs of the program: one row at the start, one at the end.",
        [
            _col("run_id", pa.string(), "run", required=True),
            _col("state", pa.string(), "state from this row on", required=True, values=RUN_STATES),
            _col("started", TIME, "time of the start", required=True),
            _col("ended", TIME, "time of the end"),
            _col("command", pa.string(), "command line"),
            _col("pid", pa.int64(), "process number"),
            _col("upramp_version", pa.string(), "version of upramp"),
            _col("versions", pa.map_(pa.string(), pa.string()), "versions of python, numpy, numba, crds ..."),
            _col("crds_context", pa.string(), "CRDS context the run began with"),
            _col("reason", pa.string(), "why it ended, if not as asked"),
        ],
    ),
    "commits": _table(
        "commits",
        "One row for each commit. A row of another table counts once its commit stands here.",
        [
            _col("at", TIME, "time of the commit", required=True),
            _col("tables", pa.map_(pa.string(), pa.int64()), "rows that the commit added, by table"),
        ],
    ),
}

TABLES: tuple[str, ...] = tuple(name for name in SCHEMAS if name != "commits")

KEYS: dict[str, tuple[str, ...]] = {
    "segments": ("segment_id", "version"),
    "exposures": ("exposure_id",),
    "step_runs": ("job_id", "step_order"),
    "products": ("path", "created"),
    "integrations": ("job_id", "integration"),
    "persistence": ("job_id",),
    "headers": ("exposure",),
    "associations": ("file",),
    "runs": ("run_id",),
    "commits": ("commit_no",),
}


def now() -> datetime:
    """The present moment, UTC, as the ledger's time columns take it."""
    return datetime.now(UTC)


def arrow_table(name: str, rows: Iterable[Mapping[str, Any]], commit_no: int) -> pa.Table:
    """Rows as an Arrow table of the named schema, numbered as one commit.

    Parameters
    ----------
    name : str
        Table.
    rows : iterable of mapping
        Column -> value. Columns left out become null; maps may be given as dicts and times
        as aware datetimes.
    commit_no : int
        Number for the ``commit_no`` column.

    Raises
    ------
    ValueError
        If a column is unknown, a required one is missing, a state is not in the
        vocabulary, a product's path is relative, or a value does not fit its type.
    """
    schema = SCHEMAS[name]
    numbered = [
        {**_checked(name, row), "commit_no": commit_no, "row_no": number} for number, row in enumerate(rows)
    ]
    arrays = []
    for column in schema:
        values = [row.get(column.name) for row in numbered]
        try:
            arrays.append(pa.array(values, type=column.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise ValueError(f"table {name}, column {column.name}: {error}") from error
    return pa.Table.from_arrays(arrays, schema=schema)


def _checked(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    schema = SCHEMAS[name]
    unknown = sorted(set(row) - set(schema.names[2:]))
    if unknown:
        raise ValueError(
            f"table {name} has no column {', '.join(unknown)}; it has {', '.join(schema.names[2:])}"
        )
    checked = dict(row)
    for column in list(schema)[2:]:
        value = row.get(column.name)
        if value is None:
            if not column.nullable:
                raise ValueError(
                    f"table {name}: column {column.name} is required, but the row has none: {row}"
                )
            continue
        allowed = (column.metadata or {}).get(b"values", b"").decode()
        if allowed and value not in allowed.split("|"):
            raise ValueError(f"table {name}: {column.name} is {value!r}; it must be one of {allowed}")
        if isinstance(value, datetime) and value.tzinfo is None:
            raise ValueError(f"table {name}: {column.name} has no time zone; use upramp.store.schema.now()")
        if pa.types.is_map(column.type) and isinstance(value, Mapping):
            checked[column.name] = list(value.items())
    if name == "products" and not Path(row["path"]).is_absolute():
        raise ValueError(f"table products: path {row['path']!r} is relative; give an absolute one")
    return checked


def python_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows of a table as dicts, as they were appended (maps as dicts), with their numbers."""
    return table.to_pylist(maps_as_pydicts="strict")
