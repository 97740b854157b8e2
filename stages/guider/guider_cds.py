"""guider_cds: count rates from correlated double sampling.

The difference D of two reads of the same integration cancels the bias of the detector.

    ID-IMAGE, ID-STACK   D = min over the first two integrations of (group 2 - group 1)
    ACQ1, ACQ2, TRACK    D = group 2 - group 1, for each integration
    FINEGUIDE            D = mean of the last four groups - mean of the first four, for each integration

    SCI = D / t        ERR = sqrt(max(D / (t g), 0) + 2 (R / t)^2)

t is the group time, g the gain (electrons per DN), R the read noise (DN). The minimum of two
integrations rids the ID image of cosmic rays. Source: JWST pipeline documentation, guider_cds step.

Where the documentation and jwst 3.0.0 differ, this module follows the numbers of the package:

- The Poisson variance of a rate S is documented as S / (t g). The package takes D / (t g) = S / g,
  smaller by the factor t, also in units; a negative one counts as 0.
- FINEGUIDE is documented to use the slope averaged over all integrations there; each integration
  uses its own.
- A missing gain or read noise is documented to be replaced by a default; in fact the step is skipped.
- Of more groups than the mode has, ID, ACQ and TRACK use the first two. FINEGUIDE with four to
  seven groups uses some on both sides; that we refuse, since such a file contradicts its mode.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from upramp.stages.core.errors import Unprocessable
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference, native, window
from upramp.stages.core.step import Context
from upramp.stages.core.whole import Frames, WholeStep

ID_MODES = frozenset({"FGS_ID-IMAGE", "FGS_ID-STACK"})
PAIR_MODES = frozenset({"FGS_ACQ1", "FGS_ACQ2", "FGS_TRACK"})
FINE_MODES = frozenset({"FGS_FINEGUIDE"})
MODES = ID_MODES | PAIR_MODES | FINE_MODES

FINE_READS = 4


@dataclass(frozen=True)
class Params:
    """Parameters of guider_cds."""

    skip: bool = False


def difference(data: np.ndarray, exp_type: str) -> np.ndarray:
    """What the detector gathered between the first and the last reads.

    Parameters
    ----------
    data : ndarray, float32, shape (nints, ngroups, ny, nx)
        Counts, DN.
    exp_type : str
        One of `MODES`.

    Returns
    -------
    ndarray, float32, shape (nints, ny, nx)
        DN; nints is 1 for the ID modes.

    Raises
    ------
    Unprocessable
        If there are too few groups or integrations, or ``exp_type`` is none of `MODES`.
    """
    if exp_type not in MODES:
        raise Unprocessable(
            f"guider_cds does not know EXP_TYPE {exp_type}; it takes {', '.join(sorted(MODES))}"
        )
    nints, ngroups = data.shape[:2]
    groups = 2 * FINE_READS if exp_type in FINE_MODES else 2
    ints = 2 if exp_type in ID_MODES else 1
    if ngroups < groups or nints < ints:
        raise Unprocessable(
            f"{exp_type} needs NGROUPS of at least {groups} and NINTS of at least {ints}, the exposure has "
            f"NGROUPS = {ngroups} and NINTS = {nints}: it is incomplete or its EXP_TYPE is wrong"
        )
    if exp_type in FINE_MODES:
        return data[:, -FINE_READS:].mean(axis=1) - data[:, :FINE_READS].mean(axis=1)
    pairs = data[:, 1] - data[:, 0]
    if exp_type in ID_MODES:
        return np.minimum(pairs[0], pairs[1])[np.newaxis]
    return pairs


def count_rates(
    diff: np.ndarray, group_time: float, gain: np.ndarray, readnoise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rates and their standard errors, DN/s.

    Parameters
    ----------
    diff : ndarray, float32, shape (nints, ny, nx)
        From `difference`, DN.
    group_time : float
        TGROUP, s.
    gain, readnoise : ndarray, float32, shape (ny, nx)
        Electrons per DN, and DN.

    Returns
    -------
    sci, err : ndarray, float32, shape (nints, ny, nx)
        ``err`` is NaN where gain or readnoise is, and infinite where a signal meets a gain of 0.
    """
    t = np.float32(group_time)
    with np.errstate(divide="ignore", invalid="ignore"):
        poisson = diff / (t * gain)
        poisson[poisson < 0] = 0
        read = 2 * (readnoise / t) ** 2
        return diff / t, np.sqrt(poisson + read)


def prepare(raw: RawReference, meta: ExposureMeta, params: object) -> Prepared:
    """Cut the gain or the read noise to the exposure."""
    image = raw.array("SCI")
    return Prepared({"image": native(image[window(raw, meta, image.shape)], np.float32)})


def apply(frames: Frames, context: Context) -> Frames:
    """Turn counts into count rates with errors.

    Raises
    ------
    Unprocessable
        If the exposure has too few groups or integrations for its mode, or no group time.
    """
    meta = context.meta
    if not 0 < meta.group_time < np.inf:
        raise Unprocessable(
            f"TGROUP = {meta.group_time} is no time; guider_cds needs the seconds between two groups"
        )
    diff = difference(frames.sci, meta.exp_type)
    gain, readnoise = context.references["gain"]["image"], context.references["readnoise"]["image"]
    sci, err = count_rates(diff, meta.group_time, gain, readnoise)
    counters = frames.count("guider_cds.nan_samples", np.count_nonzero(np.isnan(err)))
    return replace(frames, sci=sci, err=err, bunit="DN/s", counters=counters)


STEP = WholeStep(
    name="guider_cds",
    keyword="S_GUICDS",
    params=Params,
    apply=apply,
    references=("gain", "readnoise"),
    prepare={"gain": prepare, "readnoise": prepare},
    pars="pars-guidercdsstep",
)
