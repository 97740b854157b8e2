"""Products that steps make beside the rates: masks, backgrounds, corrections as large as the ramps.

A step calls ``extras_of(context).append(Extra(...))``, when it is bound or while it works on frames; whoever
runs the pipeline writes what was gathered. An array as large as the ramps must not be held in memory:
``extras_of(context).cube(shape)`` gives room for it, which is filled by frames or by rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from upramp.stages.core.step import Context


class Cube(Protocol):
    """Frames (ny, nx) of float32 behind leading axes, zeros to begin with; any number of threads may fill it.

    ``shape`` is (..., ny, nx).
    """

    shape: tuple[int, ...]

    def write(self, *place: Any) -> None:
        """``write(i, g, frame)``: put a frame in its place; one index for each leading axis, from 0."""

    def write_rows(self, y0: int, x0: int, values: np.ndarray, first: int = 0) -> None:
        """Put rows of frames in place: ``values`` (rows, ..., columns) from row y0, column x0 on.

        ``first``: where its first leading axis begins. Leading axes may be shorter than those of the cube:
        frames beyond are left alone.
        """

    def read(self, *index: int) -> np.ndarray:
        """``read(i, g)``: a frame, a new array."""

    def cut(self, *lengths: int) -> None:
        """Keep only the first elements along each leading axis, as many as ``lengths`` tells."""


class MemoryCube:
    """A cube in memory."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.array = np.zeros(shape, np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """See `Cube`."""
        return self.array.shape

    def write(self, *place: Any) -> None:
        """See `Cube`."""
        self.array[place[:-1]] = place[-1]

    def write_rows(self, y0: int, x0: int, values: np.ndarray, first: int = 0) -> None:
        """See `Cube`."""
        rows, columns = values.shape[0], values.shape[-1]
        begins = [first] + [0] * values.ndim
        frames = tuple(slice(b, b + n) for b, n in zip(begins, values.shape[1:-1], strict=False))
        self.array[(*frames, slice(y0, y0 + rows), slice(x0, x0 + columns))] = np.moveaxis(values, 0, -2)

    def read(self, *index: int) -> np.ndarray:
        """See `Cube`."""
        return self.array[index].copy()

    def cut(self, *lengths: int) -> None:
        """See `Cube`."""
        self.array = self.array[tuple(slice(n) for n in lengths)]


@dataclass(frozen=True)
class Extra:
    """A product beside the rates.

    Attributes
    ----------
    suffix : str
        Ending of its name: "mask" makes ``<segment>_mask.fits``. Also its kind in the ledger.
    model : str
        Data model (DATAMODL), such as "ImageModel".
    arrays : mapping
        Extension -> array of two axes or more (float32, or uint32 and uint8 flags), or a `Cube`. SCI, if
        any, comes first. None for an ASDF file.
    units : mapping
        Extension -> unit (BUNIT).
    header : mapping
        Keywords for the primary header, beside those that all products have.
    path : str
        File name or path that the user gave, in place of the name after the suffix; relative to the output
        folder.
    tree : mapping, optional
        Makes it an ASDF file of this content, small arrays among it. Of a file that is there already all is
        kept but the keys at the top that the tree has.
    sci : mapping
        Keywords for the SCI header; None takes one away.
    leaves : mapping
        Nested; merged into the product's metadata tree.
    ready : callable
        Called once all rows went through all steps, before it is written: the place to cut cubes to what
        was found.
    """

    suffix: str
    model: str
    arrays: Mapping[str, np.ndarray | Cube] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""
    tree: Mapping[str, Any] | None = None
    sci: Mapping[str, Any] = field(default_factory=dict)
    leaves: Mapping[str, Any] = field(default_factory=dict)
    ready: Callable[[], None] = lambda: None


@dataclass
class Extras:
    """What the steps of one exposure made beside the rates, in order."""

    make_cube: Callable[[tuple[int, ...]], Any] = MemoryCube
    found: list[Extra] = field(default_factory=list)

    def append(self, extra: Extra) -> None:
        """Add a product; its arrays may still be filled until all steps are done."""
        self.found.append(extra)

    def cube(self, shape: tuple[int, ...]) -> Cube:
        """Room for frames (the last two axes)."""
        made: Cube = self.make_cube(shape)
        return made


def extras_of(context: Context) -> Extras:
    """The further products of the exposure that a step was bound for."""
    found: Extras = context.shared.setdefault("extras", Extras())
    return found
