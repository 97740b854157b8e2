"""The ledger: append-only Parquet tables with one writer and any number of readers.

    ledger/lock                                     the writer's process number
    ledger/<table>/0000000007-0000000007.parquet    what commit 7 added to a table
    ledger/<table>/0000000000-0000000015.parquet    the compaction of commits 0 to 15
    ledger/commits/...                              the commit records, written last

A commit writes its data files, makes them durable, and then its record: rows count once
the record stands. Compaction writes one file for a range of commits and then removes those
it replaces; whatever a crash leaves in between, each committed row is read exactly once
(``parts.visible``). Readers take no lock; one that meets a compaction looks again.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from upramp.stages.core.errors import Misconfigured, Retryable
from upramp.store import parts, schema
from upramp.store.lock import WriterLock
from upramp.store.lookups import Lookups, superseded
from upramp.store.naming import lock_file
from upramp.store.parts import Part

_FEW = 500  # rows that are told apart sooner here than by Arrow
LOOKS = 50
"""How often a reader looks again when files go while it reads (each time means a compaction)."""


class _Torn(Exception):
    """Rows are missing: the writer compacted while we read, or files were removed."""


class Transaction:
    """Rows of any tables that are to be committed together."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Mapping[str, Any]]] = {}

    def append(self, table: str, *rows: Mapping[str, Any]) -> None:
        """Add rows (column -> value); they are checked at the commit."""
        if table not in schema.TABLES:
            raise ValueError(f"the ledger has no table {table!r}; it has {', '.join(schema.TABLES)}")
        self.rows.setdefault(table, []).extend(rows)


class Ledger:
    """A ledger in a folder. Make one with ``Ledger.open``.

    The methods may be called from several threads of the writer's process.
    """

    def __init__(self, root: Path, lock: WriterLock | None, compact_every: int) -> None:
        self.root = root
        self.compaction_trouble: str | None = None  # why files could not be merged; harmless
        self.removed: list[str] = []  # what a dead writer had left, at opening
        self._lock = lock
        self._fan = compact_every
        self._mutex = threading.RLock()
        self._next = 0
        self._broken: str | None = None
        self._lookups: Lookups | None = None
        self._lookups_at = -1

    @classmethod
    def open(cls, root: str | Path, *, writer: bool = False, compact_every: int = 16) -> Self:
        """Open a ledger; a writer creates a missing one and clears away what a crash left.

        Parameters
        ----------
        root : path
            The ledger's folder.
        writer : bool
            Whether to write. There is one writer at a time.
        compact_every : int
            Small files are compacted when there are this many; at least 2.

        Raises
        ------
        Misconfigured
            If another process writes, there is no ledger to read, a newer upramp wrote it,
            or files of it are missing or damaged.
        """
        root = Path(root).absolute()
        if not writer:
            if not (root / "commits").is_dir() or not parts.listed(root / "commits"):
                raise Misconfigured(
                    f"there is no ledger at {root}; 'upramp run' or 'upramp watch' begins one, "
                    "or name the folder that holds it"
                )
            return cls(root, None, compact_every)
        if compact_every < 2:
            raise Misconfigured(f"the ledger compacts every {compact_every} commits; at least 2 are needed")
        try:
            for name in schema.SCHEMAS:
                (root / name).mkdir(parents=True, exist_ok=True)
            lock = WriterLock(lock_file(root))
        except OSError as error:
            raise Misconfigured(
                f"cannot write the ledger {root}: {error}; choose a writable folder"
            ) from error
        ledger = cls(root, lock, compact_every)
        try:
            ledger._recover()
        except BaseException:
            lock.release()
            raise
        return ledger

    def close(self) -> None:
        """Release the lock. Nothing else is pending: a commit is durable when it returns."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Writing

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Gather rows and commit them together; nothing is written if the block raises."""
        gathered = Transaction()
        yield gathered
        self.commit(gathered.rows)

    def commit(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> int:
        """Append rows of one or more tables: all of them become readable together, or none.

        A new current product supersedes the one recorded at the same path.

        Parameters
        ----------
        rows : mapping
            Table -> rows (column -> value). See ``schema``.

        Returns
        -------
        int
            Number of the commit, durable by now; that of the last one if there were no rows.

        Raises
        ------
        ValueError
            If a row does not fit its table; nothing is written.
        Retryable
            If the disk refuses (full, for one); nothing is committed.
        Misconfigured
            If this ledger is not open for writing, or must be opened anew because the disk
            failed at the last moment.
        """
        with self._mutex:
            self._check_writable()
            filled = {name: list(some) for name, some in rows.items() if some}
            if not filled:
                return self._next - 1
            if "products" in filled:
                filled["products"] = list(self._with_superseded(filled["products"]))
            number = self._next
            tables = {name: schema.arrow_table(name, some, number) for name, some in filled.items()}
            self._write_commit(number, tables)
            for name in Lookups.TABLES:
                if name in tables:
                    self.state.absorb(name, schema.python_rows(tables[name]))
            self._lookups_at = number
            self._compact_if_due()
            return number

    def _with_superseded(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        for row in rows:
            old = self.state.product(row.get("path", ""))
            if old is not None and row.get("state") == "current" and row.get("created") != old["created"]:
                yield superseded(old, by=str(row.get("key")), at=schema.now())
            yield row

    def _check_writable(self) -> None:
        if self._lock is None:
            raise Misconfigured(f"the ledger {self.root} is not open for writing")
        if self._broken:
            raise Misconfigured(f"{self._broken}; open the ledger {self.root} anew to see what it holds")

    def _write_commit(self, number: int, tables: Mapping[str, pa.Table]) -> None:
        part = Part(number, number)
        counts = {name: table.num_rows for name, table in tables.items()}
        record = schema.arrow_table("commits", [{"at": schema.now(), "tables": counts}], number)
        # A number is used once even if its commit fails: then leftovers can never count.
        self._next = number + 1
        try:
            parts.write(self.root, part, {**tables, "commits": record}, last="commits")
        except OSError as error:
            parts.discard([self.root / name for name in (*tables, "commits")], part)
            raise Retryable(f"cannot write the ledger {self.root}: {error}; is the disk full?") from error
        try:
            parts.sync([self.root / "commits"])
        except OSError as error:
            self._broken = f"the disk failed while commit {number} was being made durable: {error}"
            self._check_writable()

    # Compacting and recovering

    def compact(self) -> None:
        """Merge all files of every table into one. Not needed for correctness.

        Raises
        ------
        Retryable
            If the disk refuses; nothing is lost.
        """
        with self._mutex:
            self._check_writable()
            try:
                self._merge(parts.visible(parts.listed(self.root / "commits"))[0])
            except OSError as error:
                raise Retryable(
                    f"cannot compact the ledger {self.root}: {error}; is the disk full?"
                ) from error

    def _compact_if_due(self) -> None:
        seen, _ = parts.visible(parts.listed(self.root / "commits"))
        try:
            self._merge(parts.due(seen, self._fan))
            self.compaction_trouble = None
        except (OSError, Misconfigured) as error:
            # The commit stands, so it must not seem to have failed; the next one tries again.
            self.compaction_trouble = f"{type(error).__name__}: {error}"

    def _merge(self, run: Sequence[Part]) -> None:
        if len(run) < 2:
            return
        merged = Part(run[0].first, run[-1].last)
        committed = self._committed()
        # The commit records come last: until then, the old ones say which files count.
        for name in (*schema.TABLES, "commits"):
            folder = self.root / name
            old = [part for part in self._counting(name, committed) if part.within(merged)]
            if len(old) < 2:
                continue
            pieces = [parts.read(folder / part.name, schema.SCHEMAS[name]) for part in old]
            parts.write(self.root, merged, {name: pa.concat_tables(pieces)})
            for part in old:
                (folder / part.name).unlink()

    def _recover(self) -> None:
        if not parts.listed(self.root / "commits"):
            orphans = [p for name in schema.TABLES for p in parts.listed(self.root / name) if p != Part(0, 0)]
            if orphans:
                raise Misconfigured(
                    f"the ledger {self.root} has lost its commit records (folder commits); "
                    "restore the folder from a copy, or move the ledger away to begin a new one"
                )
            parts.sync([self.root])
            self._write_commit(0, {name: schema.SCHEMAS[name].empty_table() for name in schema.TABLES})
        committed = self._committed()
        for name in schema.SCHEMAS:
            folder = self.root / name
            keep = {part.name for part in self._counting(name, committed)}
            for entry in list(os.scandir(folder)):
                if parts.is_leftover(entry.name, keep):
                    Path(entry.path).unlink()
                    self.removed.append(f"{name}/{entry.name}")
        self._next = max(committed) + 1
        self._load_lookups()

    # Reading

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """All committed rows of a table, in the order of their commits.

        Parameters
        ----------
        name : str
            Table, or ``commits``.
        columns : sequence of str, optional
            Read only these.

        Raises
        ------
        Misconfigured
            If files are missing or damaged, or a newer upramp wrote them.
        """
        return self._look([name], columns)[name]

    def tables(self, *names: str) -> dict[str, pa.Table]:
        """Several tables (all if none is named) as of one and the same commit."""
        return self._look(names or schema.TABLES, None)

    def latest(self, name: str, keys: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """The newest row of each combination of key columns (default: ``schema.KEYS``), oldest first."""
        return schema.python_rows(_newest(self.table(name), keys or schema.KEYS[name]))

    @property
    def last_commit(self) -> int:
        """Number of the newest commit."""
        return pc.max(self.table("commits", ["commit_no"])["commit_no"]).as_py()

    @property
    def state(self) -> Lookups:
        """Quick answers about the present state; a reader's follow the writer's commits."""
        with self._mutex:
            if self._lookups is None or (self._lock is None and self._newest_listed() != self._lookups_at):
                self._load_lookups()
            assert self._lookups is not None
            return self._lookups

    def _newest_listed(self) -> int:
        return max((part.last for part in parts.listed(self.root / "commits")), default=-1)

    def _load_lookups(self) -> None:
        tables = self._look(("commits", *Lookups.TABLES), None)
        lookups = Lookups()
        for name in Lookups.TABLES:
            # Of segments every row matters: a later one may not know the checksum of its version.
            table = tables[name] if name == "segments" else _newest(tables[name], schema.KEYS[name])
            if name == "products":  # what is superseded is asked for nowhere
                table = table.filter(pc.equal(table["state"], "current"))
            lookups.absorb(name, schema.python_rows(table))
        self._lookups = lookups
        self._lookups_at = pc.max(tables["commits"]["commit_no"]).as_py()

    def _look(self, names: Sequence[str], columns: Sequence[str] | None) -> dict[str, pa.Table]:
        with self._mutex:
            trouble: Exception | None = None
            for _ in range(LOOKS):
                try:
                    return self._snapshot(names, columns)
                except (FileNotFoundError, _Torn) as error:
                    trouble = error
            raise Misconfigured(
                f"the ledger {self.root} is incomplete: {trouble}; restore the folder from a copy, "
                "or move it away to begin a new one"
            )

    def _snapshot(self, names: Sequence[str], columns: Sequence[str] | None) -> dict[str, pa.Table]:
        committed = self._committed()
        last = max(committed)
        wanted = None if columns is None else list(dict.fromkeys([*columns, "commit_no"]))
        tables = {}
        for name in names:
            folder, layout = self.root / name, schema.SCHEMAS[name]
            counting = self._counting(name, committed)
            pieces = [parts.read(folder / part.name, layout, wanted) for part in counting]
            if not pieces and any(name in counts for counts in committed.values()):
                raise _Torn(f"table {name} has no files")
            if not pieces:  # a table that the ledger's writers did not know yet
                empty = layout.empty_table()
                tables[name] = empty if columns is None else empty.select(list(columns))
                continue
            table = pa.concat_tables(pieces)
            if counting[-1].last > last:  # compacted with commits made since we looked
                table = table.filter(pc.less_equal(table["commit_no"], last))
            expected = (
                len(committed) if name == "commits" else sum(c.get(name, 0) for c in committed.values())
            )
            if table.num_rows != expected:
                raise _Torn(f"table {name} has {table.num_rows} of {expected} rows")
            tables[name] = table if columns is None else table.select(list(columns))
        return tables

    def _committed(self) -> dict[int, dict[str, int]]:
        """Commit number -> rows by table, from the commit records."""
        folder, layout = self.root / "commits", schema.SCHEMAS["commits"]
        seen, _ = parts.visible(parts.listed(folder))
        pieces = [parts.read(folder / part.name, layout, ["commit_no", "tables"]) for part in seen]
        if not pieces:
            raise _Torn("it has no commit records")
        table = pa.concat_tables(pieces)
        return dict(zip(table["commit_no"].to_pylist(), map(dict, table["tables"].to_pylist()), strict=True))

    def _counting(self, name: str, committed: Mapping[int, Mapping[str, int]]) -> list[Part]:
        """The parts of a table whose rows count, in order."""
        folder = self.root / name
        listed = parts.listed(folder) if folder.is_dir() else []
        if name != "commits":  # only commits that stand are ever compacted, so ranges need no record
            listed = [p for p in listed if p.span > 1 or name in committed.get(p.first, ())]
        return parts.visible(listed)[0]


def _newest(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    if table.num_rows < _FEW:
        rows = zip(*(table[key].to_pylist() for key in keys), strict=True)
        return table.take(pa.array(sorted({row: at for at, row in enumerate(rows)}.values()), pa.int64()))
    numbered = table.select(list(keys)).append_column("_at", pa.array(range(table.num_rows), pa.int64()))
    last = numbered.group_by(list(keys)).aggregate([("_at", "max")])["_at_max"]
    return table.take(last.take(pc.sort_indices(last)))
