"""assign_wcs: a WCS for the exposure, from its pointing and the distortion of its optics.

    (x, y) -> (V2, V3) -> (V2, V3) without velocity aberration -> right ascension and declination

What lies between pixels and (V2, V3) depends on the instrument: ``stages/wcs/imaging.py``,
``nirspec_imaging.py``. The image gets the WCS itself, its footprint (S_REGION), and in the header an
approximation that FITS readers understand (SIP, ``stages/wcs/approximation.py``). Source: JWST pipeline
documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from upramp.stages.core.image import Image
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Context
from upramp.stages.core.whole import WholeStep
from upramp.stages.wcs.approximation import fit_sip, s_region
from upramp.stages.wcs.facts import WcsFacts, wcs_facts
from upramp.stages.wcs.imaging import imaging_wcs
from upramp.stages.wcs.nirspec_imaging import filter_range, nirspec_imaging_wcs

MIRROR = "MIRROR"
"""GRATING of NIRSpec images."""


@dataclass(frozen=True)
class Params:
    """Parameters of assign_wcs. Those of slits and slices concern spectra alone."""

    skip: bool = False
    sip_approx: bool = True
    sip_max_pix_error: float = 0.01
    sip_degree: int | None = None
    sip_max_inv_pix_error: float = 0.01
    sip_inv_degree: int | None = None
    sip_npoints: int = 12
    slit_y_low: float = -0.55
    slit_y_high: float = 0.55
    nrs_ifu_slice_wcs: bool = False


@dataclass(frozen=True)
class Mode:
    """How the WCS of a kind of exposure is made: from facts and the trees of these references."""

    make: Callable[[WcsFacts, Mapping[str, Mapping[str, Any]]], Any]
    references: tuple[str, ...]


IMAGING = Mode(imaging_wcs, ("distortion", "filteroffset"))
NIRSPEC_IMAGING = Mode(
    nirspec_imaging_wcs, ("camera", "collimator", "disperser", "fore", "fpa", "ote", "wavelengthrange")
)

MODES: dict[str, Mode] = {
    "FGS_FOCUS": IMAGING,
    "FGS_IMAGE": IMAGING,
    "MIR_4QPM": IMAGING,
    "MIR_CORONCAL": IMAGING,
    "MIR_IMAGE": IMAGING,
    "MIR_LYOT": IMAGING,
    "MIR_TACONFIRM": IMAGING,
    "MIR_TACQ": IMAGING,
    "NIS_AMI": IMAGING,
    "NIS_FOCUS": IMAGING,
    "NIS_IMAGE": IMAGING,
    "NIS_TACONFIRM": IMAGING,
    "NIS_TACQ": IMAGING,
    "NRC_CORON": IMAGING,
    "NRC_FOCUS": IMAGING,
    "NRC_IMAGE": IMAGING,
    "NRC_TACONFIRM": IMAGING,
    "NRC_TACQ": IMAGING,
    "NRC_TSIMAGE": IMAGING,
    "NRS_CONFIRM": NIRSPEC_IMAGING,
    "NRS_FOCUS": NIRSPEC_IMAGING,
    "NRS_IMAGE": NIRSPEC_IMAGING,
    "NRS_MIMF": NIRSPEC_IMAGING,
    "NRS_MSATA": NIRSPEC_IMAGING,
    "NRS_TACONFIRM": NIRSPEC_IMAGING,
    "NRS_TACQ": NIRSPEC_IMAGING,
    "NRS_TASLIT": NIRSPEC_IMAGING,
    "NRS_VERIFY": NIRSPEC_IMAGING,
    "NRS_WATA": NIRSPEC_IMAGING,
}
"""By EXP_TYPE."""


def needs(meta: ExposureMeta, params: object) -> Sequence[str]:
    """The reference types that an exposure's mode takes."""
    mode = MODES.get(meta.exp_type)
    return mode.references if mode is not None else ()


def skip_if(meta: ExposureMeta, params: object) -> str | None:
    """Modes that have no WCS."""
    mode = MODES.get(meta.exp_type)
    if mode is None:
        return f"no WCS for EXP_TYPE {meta.exp_type}"
    if mode is NIRSPEC_IMAGING and meta.grating != MIRROR:
        return f"{meta.exp_type} with GRATING {meta.grating or '(none)'} is no image"
    return None


def apply(image: Image, context: Context) -> Image:
    """Attach the WCS, and tell of it in the header.

    Raises
    ------
    Unprocessable
        If the header lacks the pointing.
    Misconfigured
        If a reference does not have what it should have.
    """
    p = context.params
    facts = wcs_facts(image.cards(), image.shape)
    mode = MODES[facts.exp_type]
    trees = {reftype: loaded.tree for reftype, loaded in context.loaded.items()}
    wcs = mode.make(facts, trees)
    cards: dict[str, Any] = {"S_REGION": s_region(wcs)}
    if mode is NIRSPEC_IMAGING:
        span = filter_range(facts, trees["wavelengthrange"])
        cards |= {"WAVSTART": span.shortest, "WAVEND": span.longest, "SPORDER": span.order}
    image = replace(image, wcs=wcs).with_cards("SCI", cards)
    if not p.sip_approx:
        return image
    sip = fit_sip(
        wcs,
        facts.crpix,
        p.sip_degree,
        p.sip_max_pix_error,
        p.sip_inv_degree,
        p.sip_max_inv_pix_error,
        p.sip_npoints,
    )
    if sip is None:
        return image.count("assign_wcs.sip_failed", 1)
    image = image.with_cards("SCI", sip.cards).with_leaves({"meta": {"wcsinfo": sip.leaves}})
    return image if sip.good else image.count("assign_wcs.sip_beyond_limit", 1)


STEP = WholeStep(
    name="assign_wcs",
    keyword="S_WCS",
    params=Params,
    apply=apply,
    references=(*IMAGING.references, *NIRSPEC_IMAGING.references),
    optional=("filteroffset",),
    loads=(*IMAGING.references, *NIRSPEC_IMAGING.references),
    needs=needs,
    skip_if=skip_if,
    pars="pars-assignwcsstep",
)
