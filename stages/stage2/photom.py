"""photom: from count rates to surface brightness.

    SCI' = k SCI        ERR' = k ERR        VAR' = k^2 VAR        k = k0 / c        MJy/sr per DN/s

k0 stands in the reference's row of the exposure's optics. c is what is left of the sensitivity t - t0 days
after a day t0, the product of those forms of decline that the reference has tables of:

    linear        1 - loss (t - t0) / 365
    exponential   a exp(-(t - t0) / tau) + const
    power law     (t - t0 + s)^alpha / ((365 + s)^alpha / v)        v: sensitivity after a year

t is the middle of the exposure. Pixel areas come from the area reference, in steradians and square arcseconds
from its header, or without one from that of the photom reference. Source: JWST pipeline documentation, photom
step; that exposures without a row keep their rates, that integrations of NIRISS do, and that t is the middle,
was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from upramp.stages.core.errors import Misconfigured, NotApplicable
from upramp.stages.core.image import Image
from upramp.stages.core.kernel import kernel
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Prepared, RawReference, native, window
from upramp.stages.core.step import Context
from upramp.stages.core.whole import WholeStep

MICROJANSKY = 23.504430530970776
"""Microjansky per square arcsecond in one MJy/sr."""

GENERIC = "GENERIC"


@dataclass(frozen=True)
class Params:
    """Parameters of photom.

    ``inverse`` divides, to undo an earlier calibration. ``source_type`` concerns spectra alone.
    """

    skip: bool = False
    inverse: bool = False
    source_type: str | None = None
    apply_time_correction: bool = True


@kernel
def scale(sci, err, var_poisson, var_rnoise, var_flat, k):
    """Multiply values and errors by ``k`` (float32), variances by its square, in place; flat arrays."""
    square = k * k
    for p in range(sci.size):
        sci[p] *= k
        err[p] *= k
        var_poisson[p] *= square
        var_rnoise[p] *= square
    for p in range(var_flat.size):
        var_flat[p] *= square


def _linear(row: Mapping[str, float], days: float) -> float:
    return 1 - row["lossperyear"] * days / 365


def _exponential(row: Mapping[str, float], days: float) -> float:
    return row["amplitude"] * float(np.exp(-days / row["tau"])) + row["const"]


def _power_law(row: Mapping[str, float], days: float) -> float:
    alpha, soft = row["alpha"], row["tsoft"]
    return float((days + soft) ** alpha / ((365 + soft) ** alpha / row["year1value"]))


DECLINES = {
    "TIMECOEFF_LINEAR": _linear,
    "TIMECOEFF_EXPONENTIAL": _exponential,
    "TIMECOEFF_POWERLAW": _power_law,
}
"""Forms of decline, by the extension that holds their coefficients."""


def _column(table: np.ndarray, name: str) -> list[str]:
    [own] = [n for n in table.dtype.names or () if n.lower() == name]
    return [
        (v.decode("ascii", "replace") if isinstance(v, bytes) else str(v)).strip().upper() for v in table[own]
    ]


def _row(raw: RawReference, table: np.ndarray, meta: ExposureMeta) -> int | None:
    """The row of the exposure's optics, or None."""
    if meta.instrument == "FGS":
        return 0 if len(table) else None
    if meta.instrument == "MIRI":
        optics, subarrays = _column(table, "filter"), _column(table, "subarray")
        found: list[int] = []
        for wanted in (meta.subarray, GENERIC):
            found = found or [
                k
                for k, pair in enumerate(zip(optics, subarrays, strict=True))
                if pair == (meta.filter, wanted)
            ]
    else:
        pairs = zip(_column(table, "filter"), _column(table, "pupil"), strict=True)
        found = [k for k, pair in enumerate(pairs) if pair == (meta.filter, meta.pupil)]
    if len(found) > 1:
        raise Misconfigured(
            f"the photom reference {raw.name} has {len(found)} rows for {meta.filter} {meta.pupil}, not one; "
            "give another with [references] photom = ... or another CRDS context"
        )
    return found[0] if found else None


def _numbers(table: np.ndarray, row: int) -> dict[str, float]:
    names = [n for n in table.dtype.names or () if table.dtype[n].kind in "fiu"]
    return {n.lower(): float(table[n][row]) for n in names}


def areas(raw: RawReference) -> dict[str, float | None]:
    """Area of a pixel as the reference's header has it: PIXAR_SR, PIXAR_A2."""
    return {
        key: None if raw.header.get(key) is None else float(raw.header[key])
        for key in ("PIXAR_SR", "PIXAR_A2")
    }


def prepare_photom(raw: RawReference, meta: ExposureMeta, params: object) -> Prepared:
    """The conversion, float32, and the coefficients of its decline; none where no row fits.

    Raises
    ------
    Misconfigured
        If several rows fit, or a table of coefficients has other rows than the conversions.
    """
    table = raw.table("PHOTOM")
    row = _row(raw, table, meta)
    info: dict[str, Any] = {"areas": areas(raw), "row": row, "declines": {}}
    if row is None:
        return Prepared({}, info)
    info["conversion"] = _numbers(table, row)["photmjsr"]
    for name in DECLINES:
        if raw.has(name):
            coefficients = raw.table(name)
            if len(coefficients) != len(table):
                raise Misconfigured(
                    f"the photom reference {raw.name} has {len(table)} conversions, but {len(coefficients)} "
                    f"rows in {name}; give another with [references] photom = ..."
                )
            info["declines"][name] = _numbers(coefficients, row)
    return Prepared({}, info)


def prepare_area(raw: RawReference, meta: ExposureMeta, params: object) -> Prepared:
    """Relative areas of the exposure's pixels, float32 (ny, nx)."""
    image = raw.array("SCI")
    return Prepared(
        {"area": native(image[window(raw, meta, image.shape)], np.float32)}, {"areas": areas(raw)}
    )


def skip_if(meta: ExposureMeta, params: object) -> str | None:
    """Images of NIRSpec have no conversion."""
    return "images of NIRSpec are not calibrated in flux" if meta.instrument == "NIRSPEC" else None


def sensitivity(declines: Mapping[str, Mapping[str, float]], day: float) -> float:
    """What is left of the sensitivity on a day (MJD)."""
    left = 1.0
    for name, row in declines.items():
        left *= DECLINES[name](row, day - row["t0"])
    return left


def apply(image: Image, context: Context) -> Image:
    """Scale all values, and attach the pixel areas.

    Raises
    ------
    NotApplicable
        Of integrations of NIRISS, which get the areas alone.
    """
    ref, area, p = context.references["photom"].info, context.references.get("area"), context.params
    cards: dict[str, Any] = dict(ref["areas"] if area is None else area.info["areas"])
    if area is not None:
        image = replace(image, arrays={**image.arrays, "AREA": area["area"]})
    if context.meta.instrument == "NIRISS" and image.sci.ndim == 3:
        raise NotApplicable(
            "integrations of NIRISS images are not calibrated in flux", image.with_cards("SCI", cards)
        )
    if ref["row"] is None:
        return image.with_cards("SCI", cards).count("photom.without_conversion", 1)
    k: float | np.float32 = np.float32(ref["conversion"])
    day = float(image.cards().get("EXPMID") or 0.0)
    if p.apply_time_correction and ref["declines"]:
        k = float(k) / sensitivity(ref["declines"], day)
    factor = np.float32(1 / k) if p.inverse else np.float32(k)
    nothing = np.empty(0, np.float32)
    flat = nothing if image.var_flat is None else image.var_flat
    arrays = (image.sci, image.err, image.var_poisson, image.var_rnoise, flat)
    scale(*(a.reshape(-1) for a in arrays), factor)
    cards |= {"PHOTMJSR": float(k), "PHOTUJA2": float(k * type(k)(MICROJANSKY))}
    return replace(image, bunit="DN/s" if p.inverse else "MJy/sr").with_cards("SCI", cards)


STEP = WholeStep(
    name="photom",
    keyword="S_PHOTOM",
    params=Params,
    apply=apply,
    references=("photom", "area"),
    optional=("area",),
    prepare={"photom": prepare_photom, "area": prepare_area},
    skip_if=skip_if,
    pars="pars-photomstep",
)
