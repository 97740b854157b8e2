"""emicorr: take periodic electromagnetic interference out of mid-infrared ramps.

Some frequencies show in the raw counts as waves in the order of reading: with T the clock of a read
(`emicorr_clocks`) and p that of one turn, every read of phase T / p mod 1 is off by the same amount,

    F' = F - N(T / p mod 1)

one frequency after the other. The reference tells by subarray, read pattern and detector which ones, and
what their waves look like. The joint algorithm finds amplitude and phase of each together with the ramps
(`emicorr_joint`); the sequential one in what straight lines leave of the ramps (`emicorr_sequential`), also
without a reference, for frequencies of the user's own.

Source: JWST pipeline documentation, emicorr step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from upramp.stages.core.errors import Misconfigured, NotApplicable
from upramp.stages.core.extras import Extra, extras_of
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference
from upramp.stages.core.step import Bound, Context, Station, Step, Survey, Window
from upramp.stages.stage1 import emicorr_joint, emicorr_sequential, emicorr_wave
from upramp.stages.stage1.emicorr_clocks import (
    ROW_CLOCKS,
    SPEEDS,
    Clocks,
    case_name,
    frame_clocks,
    period,
    speed,
)

LEAST_GROUPS = 3


@dataclass(frozen=True)
class Params:
    """Parameters of emicorr.

    ``algorithm``: "joint" or "sequential". ``onthefly_corr_freq``, Hz: frequencies to take off without a
    reference, sequentially; with ``save_intermediate_results`` their waves are written. Of the sequential
    algorithm: ``nints_to_phase`` integrations, else as many as hold ``use_n_cycles`` turns (None: all) are
    looked at, ``nbins`` steps of phase are told apart, ``scale_reference`` fits the wave's height.
    ``fit_ints_separately``: the joint fit is made for each integration. ``user_supplied_reffile``: an ASDF
    file in place of the reference.
    """

    skip: bool = True
    algorithm: str = "joint"
    nints_to_phase: int | None = None
    nbins: int | None = None
    scale_reference: bool = True
    onthefly_corr_freq: tuple[float, ...] | None = None
    use_n_cycles: int | None = 3
    fit_ints_separately: bool = False
    user_supplied_reffile: str | None = None
    save_intermediate_results: bool = False

    def __post_init__(self) -> None:
        if self.algorithm not in ("joint", "sequential"):
            raise ValueError(f"algorithm must be 'joint' or 'sequential', not {self.algorithm!r}")
        for name in ("nints_to_phase", "nbins", "use_n_cycles"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be positive, or None, not {value}")
        for frequency in self.onthefly_corr_freq or ():
            if not (frequency > 0 and period(frequency) >= 2):
                raise ValueError(
                    f"onthefly_corr_freq must be positive and at most 50000 Hz, half the rate of reading, "
                    f"not {frequency:g}"
                )


def needs(meta: ExposureMeta, params: Params) -> list[str]:
    """A reference, unless frequencies are given, or no read pattern has any."""
    if params.onthefly_corr_freq or not speed(meta.readpatt):
        return []
    return ["user_supplied_reffile" if params.user_supplied_reffile else "emicorr"]


def skip_if(meta: ExposureMeta, params: Params) -> str | None:
    """Ramps must be long enough, and the order of reading known."""
    if meta.ngroups < LEAST_GROUPS:
        return f"{meta.ngroups} groups; a wave and a ramp can be told apart with {LEAST_GROUPS} or more"
    if not speed(meta.readpatt):
        return f"read pattern {meta.readpatt} is not one of {', '.join(SPEEDS)}"
    if meta.nx < emicorr_sequential.LEAST_COLUMNS or meta.nx % 4:
        return f"frames of {meta.nx} columns; outputs are told apart with a multiple of 4, at least 16"
    name = case_name(meta.subarray, meta.readpatt)
    if params.onthefly_corr_freq and name not in ROW_CLOCKS:
        return f"the clocks of subarray {meta.subarray} are not known"
    return None


def _wrong(raw: RawReference, what: str) -> Misconfigured:
    return Misconfigured(
        f"reference {raw.name} (emicorr) {what}; give another with [references] emicorr = ..."
    )


def _chosen(case: Mapping[str, Any], meta: ExposureMeta) -> Sequence[str]:
    """The names of the frequencies of a read pattern and detector."""
    found = (case.get("freqs") or {}).get(speed(meta.readpatt))
    if isinstance(found, Mapping):
        found = found.get(meta.detector)
    return [str(name) for name in found or ()]


def prepare(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Waves of the exposure's frequencies (``wave0``, ...), their splines, and its clocks.

    Raises
    ------
    NotApplicable
        If the reference has no frequency for the exposure's subarray, read pattern and detector.
    Misconfigured
        If it is not of this form.
    """
    tree, name = raw.tree(), case_name(meta.subarray, meta.readpatt)
    cases, known = tree.get("subarray_cases"), tree.get("frequencies")
    if not isinstance(cases, Mapping) or not isinstance(known, Mapping):
        raise _wrong(raw, "has no tables subarray_cases and frequencies")
    case = cases.get(name)
    chosen = _chosen(case, meta) if isinstance(case, Mapping) else ()
    if not isinstance(case, Mapping) or not chosen:
        raise NotApplicable(f"{raw.name} has no frequencies for {name}, {meta.readpatt}, {meta.detector}")
    arrays, frequencies = {}, []
    for k, one in enumerate(chosen):
        try:
            frequencies.append(float(known[one]["frequency"]))
            wave = np.array(known[one]["phase_amplitudes"], np.float64)
            row, reset = int(case["rowclocks"]), int(case["frameclocks"])
        except (KeyError, TypeError, ValueError) as error:
            raise _wrong(raw, f"does not tell frequency, wave or clocks of {one} in {name}") from error
        if wave.ndim != 1 or len(wave) < LEAST_GROUPS or not period(frequencies[-1]) >= 2:
            raise _wrong(raw, f"has a wave of shape {wave.shape} and {frequencies[-1]:g} Hz for {one}")
        arrays[f"wave{k}"] = wave
        arrays[f"spline{k}"] = emicorr_wave.spline_of(wave)
    return Prepared(arrays, {"frequencies": frequencies, "row": row, "reset": reset})


def _nothing(window: Window, lo: int, hi: int) -> None:
    """Before the first frequency."""


def _chain(waves: Sequence[Any]) -> Callable[[Window, int, int], None]:
    """Take off all that was found of these waves, in order."""

    def run(w: Window, lo: int, hi: int) -> None:
        for wave in waves:
            wave.take_off(w, lo, hi)

    return run if waves else _nothing


def _joint(context: Context, clocks: Clocks, ref: Prepared) -> Bound:
    """Two looks for each frequency, and the station that subtracts."""
    meta, extras = context.meta, extras_of(context)
    separately = context.params.fit_ints_separately
    waves: list[emicorr_wave.Wave] = []
    looks: list[Survey] = []
    for k, frequency in enumerate(ref.info["frequencies"]):
        clean = _chain(tuple(waves))
        waves.append(emicorr_wave.Wave(meta, clocks, frequency, ref[f"spline{k}"]))
        first = emicorr_joint.Scatter(meta, extras.cube((meta.nints, meta.ny, meta.nx)), clean)
        kept = None if separately else extras.cube((meta.nints, 4, emicorr_wave.PHASES))
        looks += [first, emicorr_joint.Sums(waves[-1], first, clean, separately, kept)]
    return Bound([Station(_chain(waves))], looks)


def _sequential(
    context: Context, clocks: Clocks, known: Sequence[tuple[float, np.ndarray | None]]
) -> tuple[Bound, list[emicorr_sequential.Wave]]:
    """A look for each frequency, and the station that subtracts."""
    meta, p = context.meta, context.params
    waves: list[emicorr_sequential.Wave] = []
    looks: list[Survey] = []
    nints = meta.nints
    for frequency, reference in known:
        clean = _chain(tuple(waves))
        wave = emicorr_sequential.Wave(clocks, frequency, reference, p.nbins)
        if not waves:  # the first frequency decides for all, as with the observatory's package
            nints = emicorr_sequential.integrations_of(wave, meta.nints, p.nints_to_phase, p.use_n_cycles)
        cube = extras_of(context).cube((nints, meta.ngroups, meta.ny, meta.nx // 4))
        looks.append(emicorr_sequential.Residuals(meta, wave, nints, cube, clean, p.scale_reference))
        waves.append(wave)
    return Bound([Station(_chain(waves))], looks), waves


def _save(context: Context, clocks: Clocks, waves: Sequence[emicorr_sequential.Wave]) -> None:
    """Have the waves written as a reference that a later run can take."""
    meta = context.meta
    tree: dict[str, Any] = {}

    def ready() -> None:
        names = [repr(wave.frequency) for wave in waves]
        kind = speed(meta.readpatt)
        freqs = {meta.readpatt: names, kind: names if kind == "FAST" else {meta.detector: names}}
        tree["meta"] = {
            "model_type": "EmiModel",
            "reftype": "emicorr",
            "telescope": "JWST",
            "instrument": {"name": meta.instrument, "detector": meta.detector},
            "description": "interference as an exposure shows it",
        }
        tree["frequencies"] = {
            name: {"frequency": wave.frequency, "phase_amplitudes": wave.seen}
            for name, wave in zip(names, waves, strict=True)
        }
        tree["subarray_cases"] = {
            case_name(meta.subarray, meta.readpatt): {
                "rowclocks": clocks.row,
                "frameclocks": clocks.reset,
                "freqs": freqs,
            }
        }

    extras_of(context).append(Extra("emi_ref_waves", "", tree=tree, ready=ready))


def bind(context: Context) -> Bound:
    """Make the looks and the station for one exposure."""
    meta, p = context.meta, context.params
    if p.onthefly_corr_freq:
        row = ROW_CLOCKS[case_name(meta.subarray, meta.readpatt)]
        clocks = Clocks(row, frame_clocks(row, meta.ny), meta.nsamples, meta.ny, meta.ngroups)
        bound, waves = _sequential(context, clocks, [(f, None) for f in p.onthefly_corr_freq])
        if p.save_intermediate_results:
            _save(context, clocks, waves)
        return bound
    ref = context.references["user_supplied_reffile" if p.user_supplied_reffile else "emicorr"]
    clocks = Clocks(ref.info["row"], ref.info["reset"], meta.nsamples, meta.ny, meta.ngroups)
    if p.algorithm == "joint":
        return _joint(context, clocks, ref)
    known = [(f, ref[f"wave{k}"]) for k, f in enumerate(ref.info["frequencies"])]
    return _sequential(context, clocks, known)[0]


STEP = Step(
    name="emicorr",
    keyword="S_MIREMI",
    params=Params,
    bind=bind,
    references=("emicorr", "user_supplied_reffile"),
    optional=("user_supplied_reffile",),
    prepare={"emicorr": prepare, "user_supplied_reffile": prepare},
    needs=needs,
    skip_if=skip_if,
    pars="pars-emicorrstep",
)
