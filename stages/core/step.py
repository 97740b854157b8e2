"""The record of a step, and the window of rows that its kernels work on.

Layout: a window holds consecutive detector rows, every integration and group of
them side by side: ``data[row, integration, group, column]`` (float32). So a batch
of rows is one contiguous block, and statistics over all integrations of a pixel
(which the jump and ramp_fit steps need) are at hand without a second pass.
Rows roll through the stations of all steps of a pass; a station with a halo runs
that many rows behind, because it looks at its neighbours' rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from upramp.stages.core.frames import Crew, Ramps
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Loaded, Prepared, RawReference


@dataclass
class Window:
    """The rolling working area of one worker.

    Attributes
    ----------
    data : ndarray, float32, shape (rows, nints, ngroups, columns)
        Ramps, DN.
    gdq : ndarray, uint8, shape (rows, nints, ngroups, columns)
        Group flags.
    pdq : ndarray, uint32, shape (rows, columns)
        Pixel flags.
    planes : dict of ndarray
        What a step's first station leaves for its second, one row per window row.
    outputs : dict of ndarray
        What the last steps make: "exposure" arrays (rows, columns), "integration" arrays (rows, nints,
        columns), "group" arrays (rows, nints, ngroups, columns).
    trimmed : dict of ndarray
        Room for outputs without the margin, flat; only where columns are cut.
    y0, x0 : int
        Detector row and column (0-based, of the exposure's array) of element [0, ..., 0].
    i0 : int
        First integration (0-based, in the file) in the window; not 0 only in surveys.
    tile : int
        Which of a survey's tiles is looked at.
    top, bottom : int
        The first row of the exposure that was loaded, and one past the last that will be.
    core_rows, core_columns : tuple of int
        The half-open ranges that count; what lies outside is margin for the halos,
        computed and thrown away.
    counters : collections.Counter
        Event counts by "step.counter" over the core.
    """

    data: np.ndarray
    gdq: np.ndarray
    pdq: np.ndarray
    planes: dict[str, np.ndarray] = field(default_factory=dict)
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    trimmed: dict[str, np.ndarray] = field(default_factory=dict)
    y0: int = 0
    x0: int = 0
    i0: int = 0
    tile: int = 0
    top: int = 0
    bottom: int = 0
    core_rows: tuple[int, int] = (0, 0)
    core_columns: tuple[int, int] = (0, 0)
    counters: Counter[str] = field(default_factory=Counter)

    def rows(self, lo: int, hi: int) -> slice:
        """Window indices of the exposure's rows lo to hi (half open)."""
        return slice(lo - self.y0, hi - self.y0)

    def haloed(self, lo: int, hi: int, halo: int) -> tuple[slice, int]:
        """Window indices of rows lo - halo to hi + halo, clipped to what exists.

        Returns the slice and the index, within it, of row lo.
        """
        first = max(lo - halo, self.top)
        return self.rows(first, min(hi + halo, self.bottom)), lo - first

    def core(self, lo: int, hi: int) -> tuple[int, int, int, int]:
        """The part of rows lo to hi that counts: first row, end row, first column, end column.

        Rows are relative to ``lo``, columns to the window.
        """
        r0, r1 = max(lo, self.core_rows[0]), min(hi, self.core_rows[1])
        c0, c1 = self.core_columns
        return r0 - lo, max(r1, r0) - lo, c0 - self.x0, c1 - self.x0


Run = Callable[[Window, int, int], None]


@dataclass(frozen=True)
class Station:
    """One stop of the rows on their way: ``run(window, lo, hi)`` treats rows lo to hi.

    A station with ``halo`` h may read ``planes`` of h rows on either side, but writes only
    its own rows. What it reads of its neighbours must be a plane that an earlier station
    of the same step wrote, never an array that stations change in place.
    ``planes`` names the planes to allocate with their dtypes (shape of ``gdq``).
    """

    run: Run
    halo: int = 0
    planes: Mapping[str, Any] = field(default_factory=dict)


class Survey(Protocol):
    """A look at part of every frame before the rows roll (reference pixels, for one).

    One that needs to see the first integrations only has an attribute ``nints``: how many.
    """

    def tiles(self) -> Sequence[tuple[slice, slice]]:
        """Rows and columns (of the exposure's array) to look at."""

    def begin(self, first: int, last: int) -> None:
        """Integrations ``first`` to ``last`` (half open) come next."""

    def absorb(self, window: Window, lo: int, hi: int) -> None:
        """Take rows lo to hi of tile ``window.tile`` as all earlier steps left them.

        May be called from several threads, each with its own window.
        """

    def finish(self) -> None:
        """All tiles of these integrations were seen: derive what the stations need."""


@dataclass(frozen=True)
class Bound:
    """A step made ready for one exposure.

    Attributes
    ----------
    stations : sequence of Station
        What is done to the rows as they roll by.
    survey : Survey, sequence of Survey, or None
        A look ahead, or several, one after the other: each sees rows as earlier steps left them.
    outputs : mapping
        Arrays that the step adds to ``Window.outputs``: name -> (kind, dtype), the kind being "exposure",
        "integration" or "group".
    frames : callable or None
        ``frames(ramps, crew)``, done once all rows went through the stations: the ramps are put down for it,
        and later steps take up what it leaves. A step with ``frames`` has no ``outputs``.
    meta : ExposureMeta or None
        The exposure as later steps see it, if ``frames`` changes the size of frames.
    apart : bool
        All rows must have gone through the steps before it first: the ramps are put down ahead of it.
    """

    stations: Sequence[Station]
    survey: Survey | Sequence[Survey] | None = None
    outputs: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    frames: Callable[[Ramps, Crew], None] | None = None
    meta: ExposureMeta | None = None
    apart: bool = False


@dataclass(frozen=True)
class Context:
    """What ``bind`` gets: the exposure, the parameters, the prepared references.

    ``loaded`` has the references of whole steps that are taken as the file has them. ``shared`` carries
    scalars from step to step (for one, the dark's average current); what ends up in product headers under
    ``header``, and under ``counted`` the counters whose sums do, by keyword.
    """

    meta: ExposureMeta
    params: Any
    references: Mapping[str, Prepared]
    shared: dict[str, Any] = field(default_factory=dict)
    loaded: Mapping[str, Loaded] = field(default_factory=dict)


def never(meta: ExposureMeta, params: Any) -> str | None:
    """The skip rule of steps that always apply."""
    return None


def everything(params: Any) -> Sequence[str]:
    """The notices of steps that do all that their parameters can ask for."""
    return ()


@dataclass(frozen=True)
class Step:
    """A pipeline step: everything the runner and the planner need to know about it.

    Parameters
    ----------
    name : str
        As the field names it; also the section in config.toml and in ``--set``.
    keyword : str
        Header keyword of its state (COMPLETE or SKIPPED).
    params : type
        Frozen dataclass; names, types and defaults are those of the CRDS parameter references.
        Every one has ``skip``.
    bind : callable
        Makes the stations for one exposure. Pure apart from ``Context.shared``.
    references : sequence of str
        Reference types; if one has no file (N/A), the step is skipped with that reason,
        unless it is in ``optional``.
    prepare : mapping
        Reference type -> function (raw reference, meta, params) -> Prepared.
    needs : callable
        (meta, params) -> which of ``references`` this exposure takes; the others are left alone. Pure.
    skip_if : callable
        (meta, params) -> the reason to skip, or None. Pure.
    pars : str
        CRDS type of its parameter reference.
    unsupported : callable
        params -> sentences about what they ask for and this version does not do. Pure.
    """

    name: str
    keyword: str
    params: type
    bind: Callable[[Context], Bound]
    references: Sequence[str] = ()
    optional: Sequence[str] = ()
    prepare: Mapping[str, Callable[[RawReference, ExposureMeta, Any], Prepared]] = field(default_factory=dict)
    needs: Callable[[ExposureMeta, Any], Sequence[str]] | None = None
    skip_if: Callable[[ExposureMeta, Any], str | None] = never
    pars: str = ""
    unsupported: Callable[[Any], Sequence[str]] = everything

    def takes(self, meta: ExposureMeta, params: Any) -> Sequence[str]:
        """The reference types that an exposure needs."""
        return self.references if self.needs is None else self.needs(meta, params)
