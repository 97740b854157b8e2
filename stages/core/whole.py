"""Steps that take an exposure whole, for modes so small that streaming would buy nothing.

A `WholeStep` has the same fields as `Step`, so that references, parameters, skipping and records
are one code for both; instead of ``bind`` it has ``apply``, a pure function of all pixels at once.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import SupportsInt

import numpy as np

from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference
from upramp.stages.core.step import Context, never


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
class WholeStep:
    """A step that treats an exposure whole; the other fields are those of `Step`.

    ``apply(frames, context)`` returns new frames and leaves those it was given as they are.
    """

    name: str
    keyword: str
    params: type
    apply: Callable[[Frames, Context], Frames]
    references: Sequence[str] = ()
    optional: Sequence[str] = ()
    prepare: Mapping[str, Callable[[RawReference, ExposureMeta, object], Prepared]] = field(
        default_factory=dict
    )
    skip_if: Callable[[ExposureMeta, object], str | None] = never
    pars: str = ""


@dataclass(frozen=True)
class StepState:
    """How a step ended: COMPLETE, or SKIPPED with a reason; seconds of wall and CPU time."""

    state: str
    reason: str = ""
    wall: float = 0.0
    cpu: float = 0.0


def skip_reason(
    step: WholeStep, meta: ExposureMeta, params: object, references: Mapping[str, Prepared | None]
) -> str | None:
    """Why a step does not run, or None if it does."""
    if getattr(params, "skip", False):
        return "skip = true"
    missing = [r for r in step.references if r not in step.optional and references.get(r) is None]
    if missing:
        return f"no {' and no '.join(missing)} reference"
    return step.skip_if(meta, params)


def run_whole(
    steps: Sequence[WholeStep],
    frames: Frames,
    meta: ExposureMeta,
    references: Mapping[str, Prepared | None],
    params: Mapping[str, object],
) -> tuple[Frames, dict[str, StepState]]:
    """Apply steps one after the other.

    Parameters
    ----------
    steps : sequence of WholeStep
    frames : Frames
    meta : ExposureMeta
    references : mapping
        Reference type -> prepared reference; None or absent if there is none.
    params : mapping
        Step name -> its parameters; defaults where absent.

    Returns
    -------
    frames : Frames
    states : dict of StepState
        By step name, in the order of the steps.
    """
    states = {}
    for step in steps:
        own = params.get(step.name) or step.params()
        reason = skip_reason(step, meta, own, references)
        if reason is not None:
            states[step.name] = StepState("SKIPPED", reason)
            continue
        wall, cpu = time.perf_counter(), time.thread_time()
        given = {r: ref for r in step.references if (ref := references.get(r)) is not None}
        frames = step.apply(frames, Context(meta, own, given))
        states[step.name] = StepState(
            "COMPLETE", wall=time.perf_counter() - wall, cpu=time.thread_time() - cpu
        )
    return frames, states
