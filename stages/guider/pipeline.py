"""The guider pipeline: which steps, for which exposures, with which references."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from upramp.stages.core.errors import Misconfigured, Unprocessable
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference
from upramp.stages.core.whole import Frames, StepState, WholeStep, run_whole
from upramp.stages.guider import dq_init, flat_field, guider_cds

NAME = "calwebb_guider"
EXP_TYPES = guider_cds.MODES
STEPS: tuple[WholeStep, ...] = (dq_init.STEP, guider_cds.STEP, flat_field.STEP)
REFERENCES = tuple(r for step in STEPS for r in step.references)
"""Reference types to ask for: mask, gain, readnoise, flat."""


@dataclass(frozen=True)
class GuiderResult:
    """A calibrated guide star exposure, the pixels of a ``cal`` product.

    Attributes
    ----------
    sci, err : ndarray, float32, shape (nints, ny, nx)
        Count rates and their standard errors, DN/s; nints is 1 for the ID modes.
    dq : ndarray, uint32, shape (ny, nx)
        Pixel flags, for all integrations together.
    bunit : str
        Unit of SCI, for its header.
    states : dict of StepState
        By step name, in order.
    counters : collections.Counter
        Events by "step.counter".
    """

    sci: np.ndarray
    err: np.ndarray
    dq: np.ndarray
    bunit: str
    states: dict[str, StepState]
    counters: Counter[str]


def prepare_references(
    raw: Mapping[str, RawReference | None], meta: ExposureMeta, params: Mapping[str, object] | None = None
) -> dict[str, Prepared]:
    """Make the references ready; types without a file are left out.

    Raises
    ------
    Misconfigured
        If a reference does not cover the exposure.
    """
    given = params or {}
    return {
        reftype: prepare(ref, meta, given.get(step.name) or step.params())
        for step in STEPS
        for reftype, prepare in step.prepare.items()
        if (ref := raw.get(reftype)) is not None
    }


def run_guider(
    data: np.ndarray,
    meta: ExposureMeta,
    references: Mapping[str, Prepared | None],
    params: Mapping[str, object] | None = None,
    dq: np.ndarray | None = None,
) -> GuiderResult:
    """Calibrate one guide star exposure.

    Parameters
    ----------
    data : ndarray, shape (nints, ngroups, ny, nx)
        Counts, DN, of any number type.
    meta : ExposureMeta
    references : mapping
        Reference type -> prepared reference, from `prepare_references`.
    params : mapping, optional
        Step name -> its parameters; defaults where absent.
    dq : ndarray, uint32, shape (ny, nx), optional
        Flags that the input has already (its DQ extension).

    Raises
    ------
    Unprocessable
        If the exposure is none of `EXP_TYPES`, or its shape does not fit its header or its mode.
    Misconfigured
        If guider_cds is skipped or lacks a reference: without it there is no count rate.
    """
    shape = (meta.nints, meta.ngroups, meta.ny, meta.nx)
    if data.shape != shape:
        raise Unprocessable(
            f"the pixels have shape {data.shape}, the header promises {shape} (integrations, groups, rows, "
            f"columns); fetch the file again"
        )
    flags = np.zeros(shape[2:], np.uint32) if dq is None else np.asarray(dq, np.uint32)
    if flags.shape != shape[2:]:
        raise Unprocessable(
            f"DQ has shape {flags.shape}, the frames {shape[2:]}; guide star files have one plane of flags"
        )
    zero = np.broadcast_to(np.float32(0), shape)
    frames = Frames(np.asarray(data, np.float32), zero, flags)
    before = STEPS.index(flat_field.STEP)
    frames, states = run_whole(STEPS[:before], frames, meta, references, params or {})
    if states["guider_cds"].state == "SKIPPED":
        raise Misconfigured(
            f"guider_cds was skipped ({states['guider_cds'].reason}), so there is no count rate to write; "
            f"it needs a gain and a readnoise reference: choose another CRDS context or give "
            f"[references] gain = ... and readnoise = ..., and leave steps.guider_cds.skip = false"
        )
    frames, rest = run_whole(STEPS[before:], frames, meta, references, params or {})
    return GuiderResult(frames.sci, frames.err, frames.dq, frames.bunit, states | rest, frames.counters)
