"""Blocks of rows and columns, and the windows in which their rows roll.

A window's size follows from the budget alone: rows enter in batches that stay in a core's
cache, and where one row of all integrations is too large (a time series of thousands) the columns are
cut as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Station, Window

BATCH_BYTES = 3 << 20  # a batch of rows and its flags should stay in the core's cache
STRIP_ROWS = 64
WHOLE_BYTES = 32 << 20  # rows of narrow windows, were they whole
LEAST_COLUMNS, LEAST_ROWS = 8, 8
FEW = 4  # strips for each thread that should be shared evenly


Spec = tuple[str, tuple[int, ...], Any]
Fill = Callable[[Window, int, int], None]
Drain = Callable[[Window, int, int], None]


@dataclass(frozen=True)
class Job:
    """A set of blocks to be sent from ``fill`` through ``stations`` to ``drain``."""

    meta: ExposureMeta
    stations: Sequence[tuple[str, Station]]
    outputs: Mapping[str, tuple[str, Any]]
    fill: Fill
    drain: Drain
    drain_name: str
    i0: int = 0
    counts: bool = True


class Arenas:
    """Memory of the workers' windows, kept from block to block and from pass to pass.

    Fresh memory is dear to touch, and the allocator does not give back what threads
    have freed: so each worker has one piece, and windows are views of it.
    """

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []

    def take(self, size: int) -> np.ndarray:
        """A piece of at least ``size`` bytes; put it back after use."""
        try:
            arena = self._free.pop()
        except IndexError:
            arena = np.empty(0, "u1")
        return arena if arena.nbytes >= size else np.empty(size, "u1")

    def put(self, arena: np.ndarray) -> None:
        """Give a piece back."""
        self._free.append(arena)


def trim(w: Window, name: str, core: np.ndarray) -> np.ndarray:
    """An output's core as a contiguous array, copied only where columns were cut."""
    if core.flags.c_contiguous:
        return core
    if name not in w.trimmed:
        return np.ascontiguousarray(core)
    room = w.trimmed[name][: core.size].reshape(core.shape)
    np.copyto(room, core)
    return room


def row_bytes(job: Job, columns: int) -> int:
    """Bytes of one window row."""
    return sum(_bytes(spec) for spec in _row_arrays(job, columns, 1))


def cut_blocks(
    job: Job, rows: slice, columns: slice, per_thread: int, edge: int, threads: int = 1
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Strips of rows, and where even one row is too large, of columns: whole fours of them.

    The outputs of mid-infrared detectors take turns along a row, so that four columns are read at once. A
    strip is worth a batch at least. Of few strips there are as many for one thread as for another, unless
    they would be little more than margin.
    """
    width = max(columns.stop - columns.start, 1)
    lag = 2 * edge + 2
    while width > LEAST_COLUMNS and row_bytes(job, width + 2 * edge) * lag > per_thread:
        width = -(-width // 8) * 4
    narrow = BATCH_BYTES // row_bytes(job, min(width + 2 * edge, job.meta.nx))
    height = max(STRIP_ROWS, 16 * edge, min(narrow, _whole_rows(job)))
    strips = -(-(rows.stop - rows.start) // height)
    if 0 < strips < FEW * threads:
        even = -(-strips // threads) * threads
        height = min(height, max(-(-(rows.stop - rows.start) // even), LEAST_ROWS, 8 * edge))
    return [
        ((y, min(y + height, rows.stop)), (x, min(x + width, columns.stop)))
        for x in range(columns.start, columns.stop, width)
        for y in range(rows.start, rows.stop, height)
    ]


def span(job: Job, c0: int, c1: int, edge: int) -> tuple[int, int]:
    """Columns of a block with their margin."""
    return max(c0 - edge, 0), min(c1 + edge, job.meta.nx)


def _whole_rows(job: Job) -> int:
    """Rows that may be looked at together in a narrow window: steps take references by whole rows."""
    return WHOLE_BYTES // row_bytes(job, job.meta.nx)


def capacity(job: Job, columns: int, per_thread: int, edge: int) -> int:
    """Rows of a window: a batch, and those that lag behind."""
    row = row_bytes(job, columns)
    lag = 2 * edge
    batch = min(max(8, BATCH_BYTES // row), max(STRIP_ROWS, min(_whole_rows(job), job.meta.ny)))
    return max(1, min(batch, per_thread // row - lag)) + lag


def _row_arrays(job: Job, columns: int, rows: int) -> list[Spec]:
    """Name, shape and dtype of all arrays of a window of so many rows."""
    m = job.meta
    shape = (rows, m.nints, m.ngroups, columns)
    specs: list[Spec] = [("data", shape, "f4"), ("gdq", shape, "u1"), ("pdq", (rows, columns), "u4")]
    for _, station in job.stations:
        specs += [(f"planes/{name}", shape, dtype) for name, dtype in station.planes.items()]
    for name, (kind, dtype) in job.outputs.items():
        between = {"exposure": (), "integration": (m.nints,), "group": (m.nints, m.ngroups)}[kind]
        one = (rows, *between, columns)
        specs.append((f"outputs/{name}", one, dtype))
        if columns < m.nx:
            specs.append((f"trimmed/{name}", (prod(one),), dtype))
    return specs


def _bytes(spec: Spec) -> int:
    """Bytes of an array, rounded up to a cache line."""
    _, shape, dtype = spec
    return -(-prod(shape) * np.dtype(dtype).itemsize // 64) * 64


def window_bytes(job: Job, columns: int, per_thread: int, edge: int) -> int:
    rows = capacity(job, columns, per_thread, edge)
    return sum(_bytes(spec) for spec in _row_arrays(job, columns, rows))


def make_window(arena: np.ndarray, job: Job, columns: int, per_thread: int, edge: int) -> Window:
    """A window whose arrays lie in ``arena``."""
    found: dict[str, np.ndarray] = {}
    at = 0
    for spec in _row_arrays(job, columns, capacity(job, columns, per_thread, edge)):
        name, shape, dtype = spec
        count = prod(shape) * np.dtype(dtype).itemsize
        found[name] = arena[at : at + count].view(dtype).reshape(shape)
        at += _bytes(spec)

    def group(prefix: str) -> dict[str, np.ndarray]:
        return {k.removeprefix(prefix): a for k, a in found.items() if k.startswith(prefix)}

    return Window(
        found["data"], found["gdq"], found["pdq"], group("planes/"), group("outputs/"), group("trimmed/")
    )
