"""dark_current: subtract the dark ramp that the reference holds frame by frame.

    F'_k = F_k - mean of the dark's frames that make up group k

Group k (from 0) takes NFRAMES frames from frame k (NFRAMES + GROUPGAP) of the dark on. A dark
with the exposure's own NFRAMES and GROUPGAP is taken group by group; one with more frames or a
larger gap than the exposure cannot be used. A dark too short is extended by the difference of its
last two frames. NaN counts as 0. The dark's flags join the pixel flags.
Source: JWST pipeline documentation, dark_current step.

The average dark current (e-/s) goes to ramp_fit for its share in the Poisson variance: the
parameter, or else AVDRKCUR of the reference's header, or 0. An AVDRKCUR image in the reference
silences the keyword and is not used: the documentation has it used pixel by pixel, but jwst 3.0.0
gives the variance without dark current, and so do we.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.errors import Misconfigured, NotApplicable
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import ByRows, Prepared, RawReference, native
from upramp.stages.core.step import Bound, Context, Station, Step, Window


@dataclass(frozen=True)
class Params:
    """Parameters of dark_current.

    ``average_dark_current`` in e-/s, in place of the reference's; ``dark_output`` is known but refused.
    """

    skip: bool = False
    dark_output: str | None = None
    average_dark_current: float | None = None


@kernel
def subtract(data, pdq, dark, which, flags, y0, x0):
    """Subtract ``dark`` from rows of ramps in place and merge its flags.

    ``data`` (rows, nints, ngroups, columns) float32; ``pdq`` (rows, columns) uint32; ``dark`` (ny, planes,
    ngroups, nx) float32 and ``flags`` (ny, nx) uint32 cover the exposure, row ``y0`` and column ``x0``
    being element [0, 0]; ``which`` (nints) gives the plane of each integration.
    """
    rows, nints, ngroups, columns = data.shape
    for r in range(rows):
        f = flags[y0 + r, x0 : x0 + columns]
        p = pdq[r]
        for c in range(columns):
            p[c] |= f[c]
        for i in range(nints):
            for g in range(ngroups):
                d = data[r, i, g]
                b = dark[y0 + r, which[i], g, x0 : x0 + columns]
                for c in range(columns):
                    d[c] -= b[c]


def average(frames: np.ndarray, ngroups: int, nframes: int, gap: int, length: int) -> np.ndarray:
    """Average the frames of a dark to groups.

    Parameters
    ----------
    frames : ndarray, shape (n, ny, nx)
        The dark, any float type; read one frame at a time.
    ngroups, nframes, gap : int
        Groups wanted, frames in each, frames dropped between them.
    length : int
        Frames to count on: beyond n the dark goes on linearly, beyond ``length`` nothing is averaged.

    Returns
    -------
    ndarray, float32, shape (ny, ngroups, nx)
        NaN in groups of which the dark has no frame.
    """
    count, ny, nx = frames.shape
    out = np.empty((ny, ngroups, nx), np.float32)
    last = slope = None
    if length > count:
        last = frames[count - 1].astype(np.float32)
        slope = last - frames[count - 2].astype(np.float32)
    for g in range(ngroups):
        total = np.zeros((ny, nx), np.float32)
        first = g * (nframes + gap)
        used = max(min(first + nframes, length) - first, 0)
        for k in range(first, first + used):
            if last is None or slope is None or k < count:
                frame = frames[k].astype(np.float32)
            else:
                frame = last + slope * np.float32(k - count + 1)
            frame[np.isnan(frame)] = 0
            total += frame
        out[:, g] = total / np.float32(used) if used else np.nan
    return out


def planes(meta: ExposureMeta, available: int) -> np.ndarray:
    """Which of the dark's integrations (from 0) each integration of the file takes.

    The first ones in turn, the last one for all that follow, and throughout in later segments.
    """
    later = meta.nints if meta.int_start != 1 else 0
    return (
        np.minimum(np.arange(meta.nints) + later, available - 1)
        if available > 1
        else np.zeros(meta.nints, int)
    )


def prepare(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Average the dark to the exposure's groups, some rows at a time.

    Raises
    ------
    NotApplicable
        If the dark has more frames in a group or between groups than the exposure.
    Misconfigured
        If the dark has another size than the exposure, or needs extension and has one frame.
    """
    nframes, gap = int(raw.header.get("NFRAMES") or 1), int(raw.header.get("GROUPGAP") or 0)
    if nframes > meta.nframes or gap > meta.groupgap:
        raise NotApplicable(
            f"the dark {raw.name} has NFRAMES = {nframes} and GROUPGAP = {gap}, "
            f"more than the exposure's {meta.nframes} and {meta.groupgap}"
        )
    cube = raw.array("SCI")
    if cube.ndim not in (3, 4) or cube.shape[-2:] != (meta.ny, meta.nx):
        raise Misconfigured(
            f"the dark {raw.name} has shape {cube.shape}, the exposure {meta.ny} rows of {meta.nx} pixels; "
            "darks are never cut: give one of this very subarray with [references] dark = ..., "
            "or skip the step dark_current"
        )
    integrations = cube.reshape(-1, *cube.shape[-3:])  # the mid infrared has one dark for each
    frames = integrations.shape[1]
    length = max(frames, frames + meta.ngroups * (meta.nframes + meta.groupgap) - frames * (nframes + gap))
    if length > frames and frames < 2:
        raise Misconfigured(
            f"the dark {raw.name} has one frame and cannot be extended to the exposure's {meta.ngroups} "
            "groups; give a longer one with [references] dark = ..., or skip the step dark_current"
        )
    same = (nframes, gap) == (meta.nframes, meta.groupgap)
    pattern = (1, 0) if same else (meta.nframes, meta.groupgap)
    ngroups = meta.ngroups

    def rows(lo: int, hi: int) -> np.ndarray:
        parts = [average(one[:, lo:hi], ngroups, *pattern, length) for one in integrations]
        return np.stack(parts, axis=1)

    flags = raw.dq()
    flags = np.bitwise_or.reduce(flags.reshape(-1, *flags.shape[-2:]), axis=0)
    dark = ByRows((meta.ny, len(integrations), ngroups, meta.nx), np.float32, rows)
    current = 0.0 if raw.has("AVDRKCUR") else float(raw.header.get("AVDRKCUR") or 0.0)
    return Prepared({"dark": dark, "dq": native(flags, np.uint32)}, {"average_dark_current": current})


def bind(context: Context) -> Bound:
    """Make the station for one exposure; leaves ``average_dark_current`` in ``context.shared``.

    Raises
    ------
    Misconfigured
        If ``dark_output`` is set.
    """
    params, ref = context.params, context.references["dark"]
    if params.dark_output is not None:
        raise Misconfigured(
            f"dark_current.dark_output = {params.dark_output!r}: the averaged dark is kept among the "
            "prepared references and not written to a file of its own; remove the parameter"
        )
    current = params.average_dark_current
    context.shared["average_dark_current"] = ref.info["average_dark_current"] if current is None else current
    dark, flags = ref["dark"], ref["dq"]
    which = planes(context.meta, dark.shape[1])

    def run(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        subtract(w.data[s], w.pdq[s], dark, which[w.i0 : w.i0 + w.data.shape[1]], flags, lo, w.x0)

    return Bound([Station(run)])


STEP = Step(
    name="dark_current",
    keyword="S_DARK",
    params=Params,
    bind=bind,
    references=("dark",),
    prepare={"dark": prepare},
    pars="pars-darkcurrentstep",
)
