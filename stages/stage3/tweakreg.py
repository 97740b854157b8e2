"""tweakreg: align exposures by their stars, with each other and with a catalogue.

Stars are found in each image (``tweakreg_sources.py``), or come from catalogues of the user's; catalogues are
matched, and a correction of each exposure's pointing is fitted (``tweakreg_align.py``). With a reference
catalogue, all exposures are then moved together. An image that changes gets a new WCS, footprint (S_REGION)
and SIP approximation. Source: JWST pipeline documentation, tweakreg step.

Images are read one after the other; of each its catalogue is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from upramp.stages.core.dq import DO_NOT_USE, NON_SCIENCE
from upramp.stages.core.errors import Misconfigured
from upramp.stages.stage3.members import Change, CommonStep, Means, Member
from upramp.stages.stage3.tweakreg_align import (
    ONE_GROUP,
    REFERENCE,
    SUCCESS,
    Matching,
    align,
    corrector,
    status,
)
from upramp.stages.stage3.tweakreg_sources import FINDERS, Columns, Finding, find_sources, refuse_senseless
from upramp.stages.wcs.approximation import fit_sip, s_region
from upramp.stages.wcs.quick import whole

ON_LINE = ("GAIAREFCAT", "GAIADR1", "GAIADR2", "GAIADR3", "GAIADR3_S3")
"""Reference catalogues that come over the network."""


FORMATS = ("ecsv", "fits")
GEOMETRIES = ("shift", "rshift", "rscale", "general")


@dataclass(frozen=True)
class Params:
    """Parameters of tweakreg. ``in_memory`` has no effect: images are read one after the other."""

    skip: bool = False
    save_catalogs: bool = False
    use_custom_catalogs: bool = False
    catalog_format: str = "ecsv"
    catfile: str = ""
    starfinder: str = "iraf"
    snr_threshold: float = 10.0
    kernel_fwhm: float = 2.5
    bkg_boxsize: int = 400
    minsep_fwhm: float = 0.0
    sigma_radius: float = 1.5
    sharplo: float = 0.5
    sharphi: float = 2.0
    roundlo: float = 0.0
    roundhi: float = 0.2
    brightest: int | None = 200
    peakmax: float | None = None
    npixels: int = 10
    connectivity: int = 8
    nlevels: int = 32
    contrast: float = 0.001
    multithresh_mode: str = "exponential"
    localbkg_width: int = 0
    apermask_method: str = "correct"
    kron_params: list[float] | None = None
    deblend: bool = True
    enforce_user_order: bool = False
    expand_refcat: bool = False
    minobj: int = 15
    fitgeometry: str = "rshift"
    nclip: int = 3
    sigma: float = 3.0
    searchrad: float = 2.0
    use2dhist: bool = True
    separation: float = 1.0
    tolerance: float = 0.7
    xoffset: float = 0.0
    yoffset: float = 0.0
    abs_refcat: str = ""
    save_abs_catalog: bool = False
    abs_minobj: int = 15
    abs_fitgeometry: str = "rshift"
    abs_nclip: int = 3
    abs_sigma: float = 3.0
    abs_searchrad: float = 6.0
    abs_use2dhist: bool = True
    abs_separation: float = 1.0
    abs_tolerance: float = 0.7
    sip_approx: bool = True
    sip_max_pix_error: float = 0.01
    sip_degree: int | None = None
    sip_max_inv_pix_error: float = 0.01
    sip_inv_degree: int | None = None
    sip_npoints: int = 12
    output_use_model: bool = True
    in_memory: bool = True

    def __post_init__(self) -> None:
        if self.catalog_format not in FORMATS:
            raise ValueError(
                f"catalog_format must be one of {', '.join(FORMATS)}, not {self.catalog_format!r}"
            )
        if self.starfinder not in FINDERS:
            raise ValueError(f"starfinder must be one of {', '.join(FINDERS)}, not {self.starfinder!r}")
        refuse_senseless(self)
        for name in ("fitgeometry", "abs_fitgeometry"):
            if getattr(self, name) not in GEOMETRIES:
                raise ValueError(
                    f"{name} must be one of {', '.join(GEOMETRIES)}, not {getattr(self, name)!r}"
                )
        for name in ("", "abs_"):
            separation, tolerance = (getattr(self, f"{name}{what}") for what in ("separation", "tolerance"))
            if separation < np.sqrt(2) * tolerance:
                raise ValueError(
                    f"{name}separation must be at least sqrt(2) {name}tolerance = "
                    f"{np.sqrt(2) * tolerance:.3g}, not {separation:g}"
                )

    @property
    def finding(self) -> Finding:
        """How sources are found."""
        return Finding.of(self)

    @property
    def relative(self) -> Matching:
        """How images are matched with each other."""
        return Matching(
            self.searchrad,
            self.separation,
            self.use2dhist,
            self.tolerance,
            self.xoffset,
            self.yoffset,
            self.minobj,
            self.fitgeometry,
            self.nclip,
            self.sigma,
        )

    @property
    def absolute(self) -> Matching:
        """How images are matched with a reference."""
        return Matching(
            self.abs_searchrad,
            self.abs_separation,
            self.abs_use2dhist,
            self.abs_tolerance,
            0.0,
            0.0,
            self.abs_minobj,
            self.abs_fitgeometry,
            self.abs_nclip,
            self.abs_sigma,
        )


def on_line(params: Params) -> bool:
    """Whether the reference catalogue is one that comes over the network."""
    return str(params.abs_refcat).upper() in ON_LINE


def unsupported(params: Params) -> list[str]:
    """What the parameters ask for and this version does not do."""
    if not on_line(params):
        return []
    return [
        f"abs_refcat = {params.abs_refcat} comes over the network and is left out: exposures are aligned "
        "with each other alone; save its sources in a table (ECSV, FITS or CSV; columns RA and DEC, degrees, "
        "at the time of observation) and give that file as abs_refcat"
    ]


def table_of(path: str, means: Means, parameter: str) -> Mapping[str, np.ndarray]:
    """The columns of a file that a parameter names, names in lower case.

    Raises
    ------
    Misconfigured
        If it cannot be read.
    """
    try:
        return {name.lower(): column for name, column in means.table(path).items()}
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{path} ({parameter}) cannot be read: {error}") from error


def custom_catalogues(members: Sequence[Member], p: Params, means: Means) -> dict[str, str]:
    """Catalogues of the user's: file name of a member -> path. Others are made."""
    if not p.use_custom_catalogs:
        return {}
    found = {m.name: str(m.cards["TCATFILE"]) for m in members if m.cards.get("TCATFILE")}
    if not p.catfile:
        return found
    folder, slash, _ = p.catfile.rpartition("/")
    try:
        lines = [line.split() for line in means.text(p.catfile).splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise Misconfigured(f"steps.tweakreg.catfile {p.catfile} cannot be read: {error}") from error
    for number, words in enumerate(lines, 1):
        if len(words) > 2:
            raise Misconfigured(
                f"line {number} of {p.catfile} has {len(words)} words, but should be the file names of an "
                "image and of its catalogue"
            )
        name = words[0].rpartition("/")[2]
        if len(words) == 2:
            found[name] = words[1] if words[1].startswith("/") else f"{folder}{slash}{words[1]}"
        else:
            found.pop(name, None)
    return found


def catalogue_of(member: Member, path: str | None, p: Params, means: Means) -> Columns:
    """The sources of a member: x, y (pixels, 0-based), perhaps weight, flux."""
    if path is None:
        image = member.read("SCI", "DQ", *(("ERR",) if p.starfinder == "segmentation" else ()))
        unusable = (image.dq & (DO_NOT_USE | NON_SCIENCE)) > 0
        return find_sources(image.sci, image.err, unusable, p.finding, means.crew)
    table = table_of(path, means, "a catalogue of steps.tweakreg.catfile")
    found = {}
    for axis in ("x", "y"):
        names = [n for n in (axis, f"{axis}centroid", f"{axis}_centroid") if n in table]
        if not names:
            raise Misconfigured(f"{path} has no column {axis} or {axis}centroid; name the positions so")
        found[axis] = np.asarray(table[names[0]], float)
    if "weight" in table:
        found["weight"] = np.asarray(table["weight"], float)
    return found


def reference_of(p: Params, means: Means) -> Mapping[str, np.ndarray]:
    """RA, DEC (degrees) and perhaps weight of a reference catalogue in a file."""
    path = str(p.abs_refcat)
    table = table_of(path, means, "steps.tweakreg.abs_refcat")
    pairs = (("ra", "dec"), ("sky_centroid.ra", "sky_centroid.dec"))
    for names in pairs:
        if all(name in table for name in names):
            found = {"RA": np.asarray(table[names[0]], float), "DEC": np.asarray(table[names[1]], float)}
            if "weight" in table:
                found["weight"] = np.asarray(table["weight"], float)
            return found
    raise Misconfigured(f"{path} has no columns RA and DEC, and no sky_centroid; name the positions so")


def with_each_other(correctors: Sequence[Any], p: Params) -> str:
    """Align exposures with each other; why that failed, or nothing."""
    groups = {one.meta["group_id"] for one in correctors if len(one.meta["catalog"])}
    if len(groups) < 2:
        return "fewer than two exposures have sources, so there is nothing to align"
    return align(correctors, p.relative, None, p.enforce_user_order, p.expand_refcat)


def with_a_reference(correctors: Sequence[Any], p: Params, reference: Mapping[str, np.ndarray]) -> str:
    """Align all exposures together with a reference; why that failed, or nothing."""
    if len(reference["RA"]) < p.abs_minobj:
        return f"{p.abs_refcat} has {len(reference['RA'])} sources; abs_minobj asks for {p.abs_minobj}"
    if not any(len(one.meta["catalog"]) for one in correctors):
        return "no exposure has sources"
    for one in correctors:
        one.meta["group_id"] = ONE_GROUP
    return align(correctors, p.absolute, reference, True, False)


def run(members: Sequence[Member], params: Params, means: Means) -> list[Change]:
    """Corrected WCS of the members, with footprints and SIP.

    Parameters
    ----------
    members : sequence of Member
    params : Params
    means : Means
        ``text`` reads ``catfile``, ``table`` catalogues and ``abs_refcat``.

    Returns
    -------
    list of Change
        FAILED and why, for all of them, if nothing could be aligned. A member that found too few matches is
        COMPLETE and stays where it was, with a reason.

    Raises
    ------
    Misconfigured
        If a file that parameters name cannot be read, or lacks columns.
    """
    p = params
    reference = reference_of(p, means) if p.abs_refcat and not on_line(p) else None
    paths = custom_catalogues(members, p, means)
    catalogues = [catalogue_of(m, paths.get(m.name), p, means) for m in members]

    def fresh() -> list[Any]:
        return [
            corrector(m.wcs, m.cards, catalogue, m.name, m.group)
            for m, catalogue in zip(members, catalogues, strict=True)
        ]

    correctors = fresh()
    why = with_each_other(correctors, p)
    if reference is not None:
        if why:
            correctors = fresh()
        why = with_a_reference(correctors, p, reference)
    left_out = f"{p.abs_refcat} comes over the network, which is not used; give a file" if on_line(p) else ""
    changes = []
    for member, one, catalogue in zip(members, correctors, catalogues, strict=True):
        path = paths.get(member.name)
        if why:
            change = Change("FAILED", "; ".join(filter(None, (why, left_out))))
        elif status(one) == SUCCESS:
            change = replace(_corrected(member, one.wcs, p), reason=left_out)
        else:
            own = "" if status(one) == REFERENCE else f"stays where it was: {status(one)}"
            change = Change(reason="; ".join(filter(None, (own, left_out))))
        if path is not None:
            change = replace(change, primary={**change.primary, "TCATFILE": path})
        elif p.save_catalogs:
            name = means.named(member.name, f"cat.{p.catalog_format}")
            number = np.arange(1, len(catalogue["x"]) + 1)
            change = replace(change, primary={**change.primary, "TCATFILE": name})
            change = change.with_table(name, {"id": number, **catalogue})
        changes.append(change)
    return changes


def _corrected(member: Member, wcs: Any, p: Params) -> Change:
    """The change of a member that gets a new WCS; ``wcs`` is it with quick transforms."""
    new = whole(wcs)
    if p.abs_refcat and not on_line(p):
        new.name = f"FIT-LVL3-{p.abs_refcat}"
    cards: dict[str, Any] = {"S_REGION": s_region(wcs)}
    if not p.sip_approx:
        return Change(sci=cards, wcs=new)
    x, y = member.cards.get("CRPIX1"), member.cards.get("CRPIX2")
    sip = fit_sip(
        wcs,
        None if x is None or y is None else (float(x), float(y)),
        p.sip_degree,
        p.sip_max_pix_error,
        p.sip_inv_degree,
        p.sip_max_inv_pix_error,
        p.sip_npoints,
    )
    if sip is None:
        return Change(sci=cards, wcs=new)
    return Change(sci={**cards, **sip.cards}, leaves={"meta": {"wcsinfo": sip.leaves}}, wcs=new)


STEP = CommonStep(
    name="tweakreg",
    keyword="S_TWKREG",
    params=Params,
    run=run,
    pars="pars-tweakregstep",
    unsupported=unsupported,
)
