"""persistence: flag the groups that a saturated pixel's afterglow may reach.

A pixel that saturates opens a window of ``persistence_time`` seconds, in which all its groups are flagged
PERSISTENCE (with ``persistence_dnu`` also DO_NOT_USE), through the integrations that follow:

    t(i, g) = start + i * EFFINTTM + (g + 1) * TGROUP,    E = t + persistence_time where a window opens,
    flagged where t <= E

The first saturated group of an integration opens a window, also where one is open; so does each group after
it until another one is saturated. Groups above ``dn_threshold`` open one where none is. Windows may come from
an earlier exposure, in seconds since 1970; one that ends later than a window that opened now is not believed.

Source: JWST pipeline documentation, persistence step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, PERSISTENCE, SATURATED
from upramp.stages.core.errors import Misconfigured
from upramp.stages.core.extras import Extra, extras_of
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference
from upramp.stages.core.step import Bound, Context, Station, Step, Window
from upramp.stages.stage1.persistence_windows import Windows

EPOCH, DAY = 40587.0, 86400.0
"""1970 as MJD, and seconds of a day."""


@dataclass(frozen=True)
class Params:
    """Parameters of persistence.

    ``persistence_array_file`` is an ASDF file as ``save_persistence`` writes it: by detector the pixels
    (``rows``, ``cols``) with an open window, the ends of these (``vals``), and ``pers_time``.
    """

    skip: bool = True
    save_persistence: str | None = None
    persistence_time: int | None = None
    dn_threshold: float | None = None
    persistence_array_file: str | None = None
    persistence_dnu: bool = False


@kernel
def flag(data, gdq, ends, y0, x0, times, length, threshold, bits):
    """Flag the groups within windows in place, and leave the ends of windows that are open at the end.

    ``data`` (rows, nints, ngroups, columns) float32, DN; ``gdq`` the same, uint8; ``ends`` (ny, nx)
    float64, s since 1970, row ``y0`` and column ``x0`` being the first of ``data``; ``times`` (nints,
    ngroups), s; ``length`` of a window, s; ``threshold`` float32, DN, infinite for none; ``bits`` to set.
    Returns the new ends (rows, columns), 0 where no window is open, and the flagged groups by pixel.
    """
    rows, nints, ngroups, columns = gdq.shape
    left = np.zeros((rows, columns))
    flagged = np.zeros((rows, columns), np.int64)
    seen = np.empty(columns, np.int64)
    for r in range(rows):
        end, count, first = left[r], flagged[r], times[0, 0]
        for c in range(columns):
            old = ends[y0 + r, x0 + c]
            end[c] = 0.0 if old - first > length else old
        for i in range(nints):
            for c in range(columns):
                seen[c] = 0
            for g in range(ngroups):
                f, d, t = gdq[r, i, g], data[r, i, g], times[i, g]
                for c in range(columns):
                    if f[c] & SATURATED:
                        seen[c] += 1
                    if seen[c] == 1 or (d[c] > threshold and end[c] < t):
                        end[c] = t + length
                    if t <= end[c]:
                        f[c] |= bits
                        count[c] += 1
        last = times[nints - 1, ngroups - 1]
        for c in range(columns):
            if end[c] < last:
                end[c] = 0.0
    return left, flagged


def span(meta: ExposureMeta) -> tuple[float, float]:
    """Start of the first integration and end of the last group, s since 1970; of a later segment its own."""
    start = (meta.exposure_start - EPOCH) * DAY + (meta.int_start - 1) * meta.integration_time
    return start, start + (meta.nints - 1) * meta.integration_time + meta.ngroups * meta.group_time


def group_times(meta: ExposureMeta) -> np.ndarray:
    """Ends of the groups, s since 1970, float64 (nints, ngroups); of a later segment its own."""
    start = (meta.exposure_start - EPOCH) * DAY
    times = np.full((meta.nints, 1 + meta.ngroups), meta.group_time)
    times[:, 0] = start + (meta.int_start - 1 + np.arange(meta.nints)) * meta.integration_time
    # added one after the other: whether t <= E hangs on the last bit
    return np.ascontiguousarray(np.add.accumulate(times, axis=1)[:, 1:])


def prepare(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Windows of the exposure's detector as an array; those of another length count for nothing.

    Raises
    ------
    Misconfigured
        If the file is not of this form, or of pixels that the exposure does not have.
    """
    ends = np.zeros((meta.ny, meta.nx))
    entry = raw.tree().get(meta.detector)
    if entry is not None:
        try:
            same = entry["pers_time"] == params.persistence_time
            rows, columns = (np.asarray(entry[key], np.int64) for key in ("rows", "cols"))
            values = np.asarray(entry["vals"], np.float64)
            if same and rows.size:
                if min(rows.min(), columns.min()) < 0:
                    raise IndexError
                ends[rows, columns] = values
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise Misconfigured(
                f"persistence_array_file: {raw.name} has no rows, cols, vals and pers_time for "
                f"{meta.detector} that fit {meta.ny} rows of {meta.nx} pixels; "
                "give a file that save_persistence wrote for this subarray"
            ) from error
    return Prepared({"ends": ends})


def skip_if(meta: ExposureMeta, params: Params) -> str | None:
    """Nothing can be done without a length of windows, or without times."""
    if params.persistence_time is None or params.persistence_time <= 0:
        return f"persistence_time is {params.persistence_time}; windows need a positive number of seconds"
    if meta.exposure_start <= 0 or meta.integration_time <= 0:
        return (
            f"EXPSTART is {meta.exposure_start:g} and EFFINTTM {meta.integration_time:g}: "
            "the times of groups are not known"
        )
    return None


def sparse(ends: np.ndarray, params: Params, name: str) -> dict[str, Any]:
    """The entry of a detector in a persistence file."""
    rows, columns = np.nonzero(ends)
    return {
        "rows": rows,
        "cols": columns,
        "vals": ends[rows, columns],
        "pers_time": params.persistence_time,
        "filename": name,
    }


def windows_left(shared: Mapping[str, Any]) -> Windows | None:
    """What an exposure leaves for the next, once all rows went through; None if the step was not bound."""
    if "persistence_left" not in shared:
        return None
    left, meta, params = shared["persistence_left"]
    carried: Windows = shared.get("persistence", Windows.none())
    return carried.followed_by(left, meta, group_times(meta), float(params.persistence_time))


def bind(context: Context) -> Bound:
    """Make the station for one exposure.

    Windows come from ``persistence_array_file``, else from ``context.shared["persistence"]``, the `Windows`
    that the exposure before left, if there are any; see `windows_left` for those that this one leaves.
    """
    meta, params = context.meta, context.params
    given: Mapping[str, Prepared] = context.references
    carried: Windows = context.shared.get("persistence", Windows.none())
    if "persistence_array_file" in given:
        before = given["persistence_array_file"]["ends"]
    else:
        before = carried.frame(meta)
    after = np.zeros((meta.ny, meta.nx))
    times, length = group_times(meta), float(params.persistence_time)
    context.shared["persistence_left"] = (after, meta, params)
    threshold = np.float32(np.inf if params.dn_threshold is None else params.dn_threshold)
    bits = np.uint8(PERSISTENCE | DO_NOT_USE if params.persistence_dnu else PERSISTENCE)
    if params.save_persistence:
        tree: dict[str, Any] = {}

        def ready() -> None:
            tree[meta.detector] = sparse(after, params, context.shared.get("filename", ""))

        path = str(params.save_persistence)
        extras_of(context).append(Extra("persistence", "", path=path, tree=tree, ready=ready))

    def run(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        left, flagged = flag(w.data[s], w.gdq[s], before, lo, w.x0, times, length, threshold, bits)
        r0, r1, c0, c1 = w.core(lo, hi)
        after[lo + r0 : lo + r1, w.x0 + c0 : w.x0 + c1] = left[r0:r1, c0:c1]
        core = flagged[r0:r1, c0:c1]
        w.counters["persistence.groups"] += int(core.sum())
        w.counters["persistence.pixels"] += int(np.count_nonzero(core))

    return Bound([Station(run)])


STEP = Step(
    name="persistence",
    keyword="S_PERSIS",
    params=Params,
    bind=bind,
    references=("persistence_array_file",),
    optional=("persistence_array_file",),
    prepare={"persistence_array_file": prepare},
    skip_if=skip_if,
    pars="pars-persistencestep",
)
