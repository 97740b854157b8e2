"""References as the steps see them: raw (as the file has them) and prepared.

A step's ``prepare`` functions turn a raw reference into exactly the arrays that
its kernel reads: native byte order, cut to the exposure's window, averaged to its
groups. They are pure; ``store`` runs them once, keeps the result memory-mapped and
keyed by checksum, and hands it to ``bind``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from upramp.stages.core import stripes
from upramp.stages.core.errors import Misconfigured
from upramp.stages.core.meta import ExposureMeta

Cut = tuple[slice | np.ndarray, slice | np.ndarray]
"""Rows and columns, as an index of images."""


class RawReference(Protocol):
    """One reference file; arrays come lazily and may be big-endian and memory-mapped."""

    reftype: str
    name: str

    @property
    def header(self) -> Mapping[str, Any]:
        """Keywords of the primary and SCI headers, upper case."""

    def has(self, extname: str) -> bool:
        """Whether an extension of this name holds data."""

    def array(self, extname: str) -> np.ndarray:
        """The pixels of an extension."""

    def dq(self, extname: str = "DQ") -> np.ndarray:
        """DQ flags (uint32) translated through the file's DQ_DEF table; zeros if absent."""

    def table(self, extname: str) -> np.ndarray:
        """A table extension as a structured array."""

    def tree(self) -> Mapping[str, Any]:
        """The content of an ASDF file; whoever needs an array of it takes ``np.array`` of it."""


@dataclass(frozen=True)
class ByRows:
    """A prepared array that is made some rows at a time, because whole it might not fit into memory.

    ``make(lo, hi)`` gives the elements lo to hi (half open) of the first axis; the other axes are those of
    ``shape``.
    """

    shape: tuple[int, ...]
    dtype: Any
    make: Callable[[int, int], np.ndarray]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The whole array at once, where it is known to be small."""
        return np.ascontiguousarray(self.make(0, self.shape[0]), dtype or self.dtype)


@dataclass(frozen=True)
class Prepared:
    """A prepared reference: arrays by name and a few scalars.

    ``info`` holds what fits JSON; ``arrays`` are C-contiguous and native. ``prepare`` functions may leave
    `ByRows` among them; what they are kept as, and steps get, are arrays.
    """

    arrays: Mapping[str, np.ndarray | ByRows]
    info: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> np.ndarray:
        return np.asarray(self.arrays[name])

    def get(self, name: str) -> np.ndarray | None:
        """The array of this name, or None if there is none."""
        return self[name] if name in self.arrays else None


@dataclass(frozen=True)
class Loaded:
    """A reference taken as the file has it: the tree of an ASDF file, its transforms as models.

    ``name`` is the file's name, for messages. Several exposures share one; leave the tree as it is.
    """

    name: str
    tree: Mapping[str, Any]


def window(ref: RawReference, meta: ExposureMeta, shape: tuple[int, ...]) -> Cut:
    """The rows and columns of a reference of this shape that cover the exposure.

    A reference of the exposure's own size fits as it is; a larger one is cut by the
    SUBSTRT keywords of both; to an exposure of stripes, line by line.

    Raises
    ------
    Misconfigured
        If the reference does not cover the exposure.
    """
    ny, nx = shape[-2:]
    if (ny, nx) == (meta.ny, meta.nx):
        return slice(0, ny), slice(0, nx)
    x0 = meta.xstart - int(ref.header.get("SUBSTRT1") or 1)
    y0 = meta.ystart - int(ref.header.get("SUBSTRT2") or 1)
    rows, columns = slice(y0, y0 + meta.ny), slice(x0, x0 + meta.nx)
    picked = None
    if meta.stripes is not None:
        picked = stripes.lines(meta).line
        if abs(meta.slowaxis) == 1:
            picked += x0 - (meta.xstart - 1)
            columns = slice(int(picked.min()), int(picked.max()) + 1)
        else:
            picked += y0 - (meta.ystart - 1)
            rows = slice(int(picked.min()), int(picked.max()) + 1)
    if columns.start < 0 or rows.start < 0 or columns.stop > nx or rows.stop > ny:
        raise Misconfigured(
            f"reference {ref.name} ({ref.reftype}, {nx} x {ny} pixels) does not cover the exposure's "
            f"{meta.nx} x {meta.ny} pixels at column {meta.xstart}, row {meta.ystart}; "
            f"give a matching one with [references] {ref.reftype} = ... or another CRDS context"
        )
    if picked is None:
        return rows, columns
    return (rows, picked) if abs(meta.slowaxis) == 1 else (picked, columns)


def native(a: np.ndarray, dtype: Any) -> np.ndarray:
    """A C-contiguous copy in native byte order."""
    return np.array(a, dtype=dtype, order="C", copy=True)
