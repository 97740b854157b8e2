"""gain_scale: bring rates read out at another gain to the standard gain.

    S' = k S,  ERR' = k ERR,  VAR' = k^2 VAR

k is GAINFACT, from the exposure or else from the gain reference.
Source: JWST pipeline documentation, gain_scale step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upramp.stages.core.errors import NotApplicable
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference
from upramp.stages.core.step import Bound, Context, Station, Step, Window

LINEAR = ("sci", "err")
SQUARED = ("var_poisson", "var_rnoise")


@dataclass(frozen=True)
class Params:
    """Parameters of gain_scale."""

    skip: bool = False


def prepare(raw: RawReference, meta: ExposureMeta, params: Params) -> Prepared:
    """Keep the gain reference's factor, if it has one."""
    factor = raw.header.get("GAINFACT")
    return Prepared({}, {"factor": None if factor is None else float(factor)})


def bind(context: Context) -> Bound:
    """Make the station for one exposure.

    Raises
    ------
    NotApplicable
        If neither the exposure nor the gain reference has a GAINFACT.
    """
    factor = context.meta.gain_factor
    if factor is None and "gain" in context.references:
        factor = context.references["gain"].info["factor"]
    if factor is None:
        raise NotApplicable("neither the exposure nor the gain reference has a GAINFACT")
    context.shared.setdefault("header", {})["GAINFACT"] = factor
    factors = {
        f"{product}.{name}": np.float32(factor**power)
        for product in ("rate", "rateints")
        for names, power in ((LINEAR, 1), (SQUARED, 2))
        for name in names
    }

    def run(w: Window, lo: int, hi: int) -> None:
        s = w.rows(lo, hi)
        for name, k in factors.items():
            if name in w.outputs:
                w.outputs[name][s] *= k

    return Bound([Station(run)])


STEP = Step(
    name="gain_scale",
    keyword="S_GANSCL",
    params=Params,
    bind=bind,
    references=("gain",),
    optional=("gain",),
    prepare={"gain": prepare},
    pars="pars-gainscalestep",
)
