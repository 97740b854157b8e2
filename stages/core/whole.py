"""Steps that take an exposure whole: guide stars, whose frames are small, and images of slopes.

A `WholeStep` has the same fields as `Step`, so that references, parameters, skipping and records
are one code for both; instead of ``bind`` it has ``apply``, a pure function of all pixels at once.
What goes from step to step is `Frames` of a guide star exposure, or an `Image` (``core.image``).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, SupportsInt, TypeVar, cast

import numpy as np

from upramp.stages.core.errors import NotApplicable
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Loaded, Prepared, RawReference
from upramp.stages.core.step import Context, everything, never

T = TypeVar("T")
"""What goes from step to step."""


@dataclass(frozen=True)
class Frames:
    """All pixels of an exposure on their way through whole steps.

    Attributes
    ----------
    sci : ndarray, float32
        Counts [nints, ngroups, ny, nx] in DN, or count rates [nints, ny, nx] in DN/s; see ``bunit``.
    err : ndarray, float32
        Standard error of ``sci``, same shape; 0 as long as no step has made one.
    dq : ndarray, uint32, shape (ny, nx)
        Pixel flags, for all integrations together.
    bunit : str
        Unit of ``sci`` and ``err``.
    counters : collections.Counter
        Events counted so far by "step.counter".
    """

    sci: np.ndarray
    err: np.ndarray
    dq: np.ndarray
    bunit: str = "DN"
    counters: Counter[str] = field(default_factory=Counter)

    def count(self, name: str, events: SupportsInt) -> Counter[str]:
        """The counters with one more entry."""
        return Counter({**self.counters, name: int(events)})


@dataclass(frozen=True)
class WholeStep(Generic[T]):
    """A step that treats an exposure whole; the other fields are those of `Step`.

    ``apply(exposure, context)`` returns a new exposure; frames it leaves as they are, an image is its own.
    ``loads`` names those of ``references`` that are not prepared but taken as the file has them (`Loaded`):
    ASDF files that hold transforms.
    """

    name: str
    keyword: str
    params: type
    apply: Callable[[T, Context], T]
    references: Sequence[str] = ()
    optional: Sequence[str] = ()
    prepare: Mapping[str, Callable[[RawReference, ExposureMeta, Any], Prepared]] = field(default_factory=dict)
    loads: Sequence[str] = ()
    needs: Callable[[ExposureMeta, Any], Sequence[str]] | None = None
    skip_if: Callable[[ExposureMeta, Any], str | None] = never
    pars: str = ""
    unsupported: Callable[[Any], Sequence[str]] = everything

    def takes(self, meta: ExposureMeta, params: object) -> Sequence[str]:
        """The reference types that an exposure needs."""
        return self.references if self.needs is None else self.needs(meta, params)


@dataclass(frozen=True)
class StepState:
    """How a step ended: COMPLETE, or SKIPPED with a reason; seconds of wall and CPU time."""

    state: str
    reason: str = ""
    wall: float = 0.0
    cpu: float = 0.0


def skip_reason(
    step: WholeStep[T],
    meta: ExposureMeta,
    params: object,
    references: Mapping[str, Prepared | Loaded | None],
) -> str | None:
    """Why a step does not run, or None if it does."""
    if getattr(params, "skip", False):
        return "skip = true"
    takes = step.takes(meta, params)
    missing = [r for r in takes if r not in step.optional and references.get(r) is None]
    if missing:
        return f"no {' and no '.join(missing)} reference"
    return step.skip_if(meta, params)


def run_whole(
    steps: Sequence[WholeStep[T]],
    exposure: T,
    meta: ExposureMeta,
    references: Mapping[str, Prepared | Loaded | None],
    params: Mapping[str, object],
    shared: dict[str, Any] | None = None,
) -> tuple[T, dict[str, StepState]]:
    """Apply steps one after the other.

    Parameters
    ----------
    steps : sequence of WholeStep
    exposure : Frames or Image
        What the steps take.
    meta : ExposureMeta
    references : mapping
        Reference type -> prepared or loaded reference; None or absent if there is none.
    params : mapping
        Step name -> its parameters; defaults where absent.
    shared : dict, optional
        See `Context`.

    Returns
    -------
    exposure : Frames or Image
        As the last step left it.
    states : dict of StepState
        By step name, in the order of the steps. A step that finds out by itself that it cannot be applied
        (`NotApplicable`) is SKIPPED, and leaves the exposure as it was, or as it says.
    """
    states, common = {}, {} if shared is None else shared
    for step in steps:
        own = params.get(step.name) or step.params()
        reason = skip_reason(step, meta, own, references)
        if reason is not None:
            states[step.name] = StepState("SKIPPED", reason)
            continue
        wall, cpu = time.perf_counter(), time.thread_time()
        given = {r: references.get(r) for r in step.takes(meta, own)}
        prepared = {r: ref for r, ref in given.items() if isinstance(ref, Prepared)}
        loaded = {r: ref for r, ref in given.items() if isinstance(ref, Loaded)}
        try:
            exposure = step.apply(exposure, Context(meta, own, prepared, common, loaded))
        except NotApplicable as why:
            states[step.name] = StepState("SKIPPED", str(why))
            exposure = exposure if why.left is None else cast(T, why.left)
            continue
        states[step.name] = StepState(
            "COMPLETE", wall=time.perf_counter() - wall, cpu=time.thread_time() - cpu
        )
    return exposure, states
