"""Quick answers from the ledger: what is the present state of a segment, an exposure, a product?

The index is built when a ledger opens and follows every commit.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def superseded(product: Mapping[str, Any], by: str, at: datetime) -> Row:
    """The row that retires a product: append it to ``products``.

    Parameters
    ----------
    product : mapping
        The product's row, as a lookup returned it.
    by : str
        Key of its replacement, or the SHA-256 of the input that made it obsolete.
    at : datetime
        When, with time zone.
    """
    own = {name: value for name, value in product.items() if name not in ("commit_no", "row_no")}
    return {**own, "state": "superseded", "superseded_by": by, "superseded_at": at}


class Lookups:
    """Present state, kept in memory. Rows are returned as dicts with all columns."""

    TABLES = ("segments", "exposures", "products", "persistence", "headers", "associations", "runs")

    def __init__(self) -> None:
        self._segments: dict[str, Row] = {}
        self._versions: dict[str, dict[int, Row]] = {}
        self._contents: dict[str, dict[str, int]] = {}
        self._members: dict[str, dict[str, None]] = {}
        self._exposures: dict[str, Row] = {}
        self._products: dict[str, Row] = {}
        self._keys: dict[str, dict[str, None]] = {}
        self._windows: dict[str, Row] = {}
        self._in_time: dict[str, list[tuple[float, str]]] = {}  # detector -> (start, segment), sorted
        self._headers: dict[str, Row] = {}
        self._associations: dict[str, Row] = {}
        self._runs: dict[str, Row] = {}

    def absorb(self, table: str, rows: Iterable[Row]) -> None:
        """Follow rows that were committed, in their order."""
        if table == "segments":
            for row in rows:
                self._absorb_segment(row)
        elif table == "exposures":
            self._exposures.update((row["exposure_id"], row) for row in rows)
        elif table == "products":
            for row in rows:
                self._absorb_product(row)
        elif table == "persistence":
            for row in rows:
                self._absorb_windows(row)
        elif table == "headers":
            self._headers.update((row["exposure"], row) for row in rows)
        elif table == "associations":
            self._associations.update((row["file"], row) for row in rows)
        elif table == "runs":
            self._runs.update((row["run_id"], row) for row in rows)

    def _absorb_segment(self, row: Row) -> None:
        name = row["segment_id"]
        self._versions.setdefault(name, {})[row["version"]] = row
        self._contents.setdefault(name, {}).setdefault(row["sha256"] or "", row["version"])
        present = self._segments.get(name)
        # Retiring an old version must not make it the present one again.
        if present is None or row["state"] != "superseded" or row["version"] == present["version"]:
            self._segments[name] = row
            self._members.setdefault(row["exposure_id"], {})[name] = None

    def _absorb_product(self, row: Row) -> None:
        path, old = row["path"], self._products.get(row["path"])
        if row["state"] == "current":
            if old is not None:
                self._keys[old["key"]].pop(path, None)
            self._products[path] = row
            self._keys.setdefault(row["key"], {})[path] = None
        elif old is not None and old["created"] == row["created"]:
            del self._products[path]
            self._keys[old["key"]].pop(path, None)

    def _absorb_windows(self, row: Row) -> None:
        name, old = row["segment_id"], self._windows.get(row["segment_id"])
        if old is not None:
            self._in_time[old["detector"]].remove((old["start_s"], name))
        insort(self._in_time.setdefault(row["detector"], []), (row["start_s"], name))
        self._windows[name] = row

    def segment(self, segment_id: str) -> Row | None:
        """The newest row of the segment's present version, or None if it was never seen."""
        return self._segments.get(segment_id)

    def segments(self, *states: str) -> list[Row]:
        """Present rows of all segments, or of those in one of the given states."""
        return [row for row in self._segments.values() if not states or row["state"] in states]

    def versions(self, segment_id: str) -> list[Row]:
        """The newest row of every version of a segment, lowest version first."""
        return [row for _, row in sorted(self._versions.get(segment_id, {}).items())]

    def version(self, segment_id: str, sha256: str) -> int:
        """The number of this content of a segment: the old one if it was seen before, else the next.

        An empty checksum stands for content that could not be read; it has a number of its own.
        """
        known = self._contents.get(segment_id, {})
        return known[sha256] if sha256 in known else max(self._versions.get(segment_id, ()), default=0) + 1

    def exposure(self, exposure_id: str) -> Row | None:
        """The newest row of an exposure, or None."""
        return self._exposures.get(exposure_id)

    def exposures(self, *states: str) -> list[Row]:
        """Newest rows of all exposures, or of those in one of the given states."""
        return [row for row in self._exposures.values() if not states or row["state"] in states]

    def exposure_segments(self, exposure_id: str) -> list[Row]:
        """Present rows of an exposure's segments, ordered by segment number."""
        rows = [self._segments[name] for name in self._members.get(exposure_id, ())]
        return sorted(rows, key=lambda row: (row["segment"] or 0, row["segment_id"]))

    def done(self, key: str) -> list[Row]:
        """The current products made under this fingerprint; empty unless every file is there, whole.

        A file counts as whole when its size is the recorded one.
        """
        rows = [self._products[path] for path in self._keys.get(key, ())]
        return rows if all(_size(row["path"]) == row["bytes"] for row in rows) else []

    def product(self, path: str | Path) -> Row | None:
        """The current product at this path, or None."""
        return self._products.get(str(path))

    def products(self, *, exposure_id: str | None = None, segment_id: str | None = None) -> list[Row]:
        """Current products, of all or of one exposure or segment."""
        return [
            row
            for row in self._products.values()
            if (exposure_id is None or row["exposure_id"] == exposure_id)
            and (segment_id is None or row["segment_id"] == segment_id)
        ]

    def windows(self, segment_id: str) -> Row | None:
        """The newest row about the windows of persistence that a segment left, whether it counts or not."""
        return self._windows.get(segment_id)

    def windows_before(self, detector: str, start_s: float) -> Row | None:
        """Of the detector's segments that began earlier, the last one whose windows count, or None.

        Those of a segment count while it is calibrated, and as it was calibrated last.
        """
        order = self._in_time.get(detector, [])
        return next(self._that_count(reversed(order[: bisect_left(order, (start_s, ""))])), None)

    def windows_from(self, detector: str, start_s: float) -> Iterator[Row]:
        """The segments that began at this time or later and whose windows count, in order."""
        order = self._in_time.get(detector, [])
        return self._that_count(order[bisect_left(order, (start_s, "")) :])

    def _that_count(self, order: Iterable[tuple[float, str]]) -> Iterator[Row]:
        for _, name in order:
            row, present = self._windows[name], self._segments.get(name)
            if present and present["state"] == "calibrated" and present["key"] == row["key"]:
                yield row

    def header(self, exposure: str) -> Row | None:
        """What an exposure's header tells, or None if it was not heard of."""
        return self._headers.get(exposure)

    def headers(self) -> list[Row]:
        """What the headers of all exposures tell."""
        return list(self._headers.values())

    def association(self, file: str | Path) -> Row | None:
        """The newest row of an association, by its file, or None."""
        return self._associations.get(str(file))

    def associations(self, *states: str) -> list[Row]:
        """Newest rows of all associations, or of those in one of the given states."""
        return [row for row in self._associations.values() if not states or row["state"] in states]

    def runs(self) -> list[Row]:
        """Newest row of every run, oldest run first."""
        return sorted(self._runs.values(), key=lambda row: row["started"])


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return -1
