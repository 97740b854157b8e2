"""Files of a ledger table: their names, which of them count, and writing them so that they last.

A part holds the rows of a range of commits and its name tells the range:
``0000000007-0000000007.parquet`` is what commit 7 wrote, ``0000000001-0000000064.parquet``
the compaction of commits 1 to 64. A part hides every part whose range lies within its own;
so replacing many by one is a single rename, and the leftovers of a crash do no harm.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from upramp.stages.core.errors import Misconfigured
from upramp.store import durable
from upramp.store.schema import SCHEMA_VERSION

_NAME = re.compile(r"(\d{10})-(\d{10})\.parquet")
_ASIDE = re.compile(r"\.\d{10}-\d{10}\.parquet\.tmp")
_FEW = 100  # rows of a part that is not compressed
_SMALL, _MOST = 1 << 15, 512  # bytes of parts that are remembered once they were read, and how many are


@dataclass(frozen=True, order=True)
class Part:
    """The commits ``first`` to ``last``, inclusive, of one table."""

    first: int
    last: int

    @property
    def name(self) -> str:
        """File name."""
        return f"{self.first:010d}-{self.last:010d}.parquet"

    @property
    def span(self) -> int:
        """Number of commits in the range."""
        return self.last - self.first + 1

    def within(self, other: Part) -> bool:
        """Whether the other part's range covers this one's and is larger."""
        return self != other and other.first <= self.first and self.last <= other.last


def parse(name: str) -> Part | None:
    """The part that a file name stands for, or None for other files."""
    match = _NAME.fullmatch(name)
    return Part(int(match[1]), int(match[2])) if match else None


def is_leftover(name: str, counting: set[str]) -> bool:
    """Whether a file is what a dead writer left: half written, or a part that does not count."""
    return _ASIDE.fullmatch(name) is not None or (parse(name) is not None and name not in counting)


def listed(folder: Path) -> list[Part]:
    """All parts in a folder, sorted."""
    return sorted(part for entry in os.scandir(folder) if (part := parse(entry.name)) is not None)


def visible(parts: Iterable[Part]) -> tuple[list[Part], list[Part]]:
    """Split into the parts that count, in order of their commits, and those that others hide."""
    seen: list[Part] = []
    hidden: list[Part] = []
    for part in sorted(parts, key=lambda p: (p.first, -p.last)):
        if seen and part.within(seen[-1]):
            hidden.append(part)
        else:
            seen.append(part)
    return seen, hidden


def due(parts: list[Part], fan: int) -> list[Part]:
    """Which of the visible parts to compact into one: the longest worthwhile run at the end, or none.

    A run of parts shorter than ``fan**k`` is worthwhile when ``fan`` of them have at least
    ``fan**(k-1)`` commits. So n commits lie in O(fan log n) files, and each row is
    rewritten O(log n) times.
    """
    best: list[Part] = []
    bound, start = fan, len(parts)
    while start:
        while start and parts[start - 1].span < bound:
            start -= 1
        if sum(part.span * fan >= bound for part in parts[start:]) >= fan:
            best = parts[start:]
        bound *= fan
    return best


def write(root: Path, part: Part, tables: Mapping[str, pa.Table], last: str = "") -> None:
    """Write parts of several tables, in their folders in ``root``, durably.

    ``last``: of these the one that must not stand under its name before the others are sure to; its own
    rename is durable only after ``sync`` of its folder.
    """
    paths = {root / name / part.name: table for name, table in tables.items()}
    _put_aside(paths)
    first = [path for path in paths if path.parent.name != last]
    for path in first:
        _aside(path).replace(path)
    sync(path.parent for path in first)
    if last:
        _aside(root / last / part.name).replace(root / last / part.name)
    for path, table in paths.items():
        _remember(path, _facts(path), table)


def put(path: Path, table: pa.Table) -> None:
    """Write a table aside, make it durable and rename it into place, durably."""
    _put_aside({path: table})
    _aside(path).replace(path)
    sync([path.parent])


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _put_aside(tables: Mapping[Path, pa.Table]) -> None:
    """Write tables under hidden names and make them durable, all at once."""
    opened: list[int] = []
    try:
        for path, table in tables.items():
            opened.append(os.open(_aside(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644))
            left = memoryview(_encoded(table))
            while len(left):
                left = left[os.write(opened[-1], left) :]
        durable.sync(opened)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _encoded(table: pa.Table) -> pa.Buffer:
    """The table as Parquet. A few rows are not worth the setting up of compression for every column."""
    buffer = pa.BufferOutputStream()
    if table.num_rows < _FEW:
        pq.write_table(table, buffer, compression="none", use_dictionary=False)
    else:
        pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def discard(folders: Iterable[Path], part: Part) -> None:
    """Remove what a failed commit wrote, as far as the disk lets us; leftovers do no harm."""
    for folder in folders:
        for name in (part.name, f".{part.name}.tmp"):
            with contextlib.suppress(OSError):
                (folder / name).unlink()


def sync(folders: Iterable[Path]) -> None:
    """Make the folders' renames durable."""
    durable.sync_paths(list(folders))


def read(path: Path, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """Read a part as the given schema; columns that an older writer did not know become null.

    Parts never change, so small ones are remembered: who opens a ledger again and again, or follows its
    writer, reads only what is new.

    Raises
    ------
    FileNotFoundError
        If the part is gone, as happens to readers while the writer compacts.
    Misconfigured
        If it cannot be read or a newer upramp wrote it.
    """
    wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    facts = _facts(path)
    with _lock:
        known = _read.get(path)
    if known is not None and known[0] == facts:
        table = known[1]
    elif facts[0] > _SMALL:
        return _decoded(path, wanted)
    else:
        table = _decoded(path, schema)
        _remember(path, facts, table)
    return table if columns is None else table.select(wanted.names)


_Facts = tuple[int, int, int]
_read: OrderedDict[Path, tuple[_Facts, pa.Table]] = OrderedDict()
_lock = threading.Lock()


def _facts(path: Path) -> _Facts:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _remember(path: Path, facts: _Facts, table: pa.Table) -> None:
    if facts[0] > _SMALL:
        return
    with _lock:
        _read[path] = facts, table
        while len(_read) > _MOST:
            _read.popitem(last=False)


def _decoded(path: Path, wanted: pa.Schema) -> pa.Table:
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            written = file.schema_arrow
            known = [name for name in wanted.names if name in written.names]
            table = file.read(columns=known, use_threads=False)
            rows = file.metadata.num_rows
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise Misconfigured(
            f"{path} cannot be read ({error}); restore the ledger from a copy, "
            "or move it away to begin a new one"
        ) from error
    version = int((written.metadata or {}).get(b"schema_version", b"0"))
    if version > SCHEMA_VERSION:
        raise Misconfigured(
            f"{path} has schema version {version}; this upramp knows {SCHEMA_VERSION}: install a newer one"
        )
    arrays = [
        table.column(f.name).cast(f.type) if f.name in known else pa.nulls(rows, f.type) for f in wanted
    ]
    return pa.Table.from_arrays(arrays, schema=wanted)
