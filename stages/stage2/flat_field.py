"""flat_field: divide by the sensitivity of the pixels.

    SCI' = SCI / f        VAR_P' = VAR_P / f^2        VAR_R' = VAR_R / f^2        VAR_F = (SCI' e / f)^2
    ERR' = sqrt(VAR_P' + VAR_R' + VAR_F)              DQ' = DQ | q

f, e and q are the flat reference, its error and its flags. Where f is NaN or 0, or q says NO_FLAT_FIELD, the
pixel becomes NO_FLAT_FIELD and DO_NOT_USE; where q says DO_NOT_USE, f counts as 1. Afterwards a pixel that is
DO_NOT_USE, or NaN in one of these arrays, is both, and NaN in all of them. The other way round
(``inverse``) multiplies, and VAR_F is 0. Source: JWST pipeline documentation, flat_field step; that NaN makes
DO_NOT_USE was measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, NO_FLAT_FIELD
from upramp.stages.core.image import Image
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference, native, window
from upramp.stages.core.step import Context
from upramp.stages.core.whole import WholeStep


@dataclass(frozen=True)
class Params:
    """Parameters of flat_field.

    ``user_supplied_flat`` is a file that is used in place of the reference. ``save_interpolated_flat``
    concerns spectra alone. ``inverse`` multiplies, to undo an earlier correction.
    """

    skip: bool = False
    save_interpolated_flat: bool = False
    user_supplied_flat: str | None = None
    inverse: bool = False


@kernel
def apply_flat(sci, err, dq, var_poisson, var_rnoise, var_flat, flat, flat_err, flags, inverse):
    """Divide planes by the flat in place, or multiply, and fill ``var_flat``.

    ``sci`` and the others (planes, pixels), float32, ``dq`` uint32; the flat (pixels).
    """
    nan = np.float32(np.nan)
    for p in range(sci.shape[0]):
        s, e, q, vp, vr, vf = sci[p], err[p], dq[p], var_poisson[p], var_rnoise[p], var_flat[p]
        for k in range(flat.size):
            f = flat[k] if inverse else np.float32(1) / flat[k]
            square = f * f
            value = s[k] * f
            one, two = vp[k] * square, vr[k] * square
            three = np.float32(0) if inverse else (value * flat_err[k]) * (value * flat_err[k]) * square
            error = np.sqrt(one + two + three)
            bad = (q[k] | flags[k]) & DO_NOT_USE or np.isnan(value + error)
            q[k] |= flags[k] | np.uint32(DO_NOT_USE if bad else 0)
            s[k] = nan if bad else value
            e[k] = nan if bad else error
            vp[k] = nan if bad else one
            vr[k] = nan if bad else two
            vf[k] = nan if bad else three


def prepare(raw: RawReference, meta: ExposureMeta, params: object) -> Prepared:
    """Cut the flat to the exposure and settle which of its pixels are usable."""
    image = raw.array("SCI")
    cut = window(raw, meta, image.shape)
    flat = native(image[cut], np.float32)
    err = native(raw.array("ERR")[cut], np.float32) if raw.has("ERR") else np.zeros_like(flat)
    flags = native(raw.dq()[cut], np.uint32)
    useless = np.isnan(flat) | (flat == 0) | (flags & NO_FLAT_FIELD != 0)
    flags[useless] |= np.uint32(NO_FLAT_FIELD | DO_NOT_USE)
    flat[flags & DO_NOT_USE != 0] = 1
    return Prepared({"flat": flat, "err": err, "dq": flags})


def takes(meta: ExposureMeta, params: Any) -> tuple[str, ...]:
    """The file that is given, or else the reference."""
    return ("user_supplied_flat",) if params.user_supplied_flat else ("flat",)


def apply(image: Image, context: Context) -> Image:
    """Divide by the flat, or multiply by it."""
    [ref] = context.references.values()
    flat, flat_err, flags = (ref[name].ravel() for name in ("flat", "err", "dq"))
    var_flat = np.empty_like(image.sci)
    arrays = (image.sci, image.err, image.dq, image.var_poisson, image.var_rnoise, var_flat)
    planes = [a.reshape(-1, flat.size) for a in arrays]
    apply_flat(*planes, flat, flat_err, flags, context.params.inverse)
    bad = np.count_nonzero(flags & NO_FLAT_FIELD)
    return replace(image, var_flat=var_flat).count("flat_field.unflattened_pixels", bad)


def skip_if(meta: ExposureMeta, params: object) -> str | None:
    """Images by which NIRSpec's shutters are checked."""
    return "images of EXP_TYPE NRS_VERIFY are not flattened" if meta.exp_type == "NRS_VERIFY" else None


STEP = WholeStep(
    name="flat_field",
    keyword="S_FLAT",
    params=Params,
    apply=apply,
    references=("flat", "user_supplied_flat"),
    prepare={"flat": prepare, "user_supplied_flat": prepare},
    needs=takes,
    skip_if=skip_if,
    pars="pars-flatfieldstep",
)
