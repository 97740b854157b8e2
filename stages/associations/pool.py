"""The facts of exposures that decide what belongs together.

A pool is a list of exposures, each a row of facts: as the archive's pool files have them, or taken from
the FITS primary header of an exposure. Facts are text in lower case under lower-case names; what counts
as "nothing" is in `NOTHING`. Documentation: jwst, "Association Pool" and "Association Candidates".

An association candidate is a set of exposures that the proposal tool suggests to combine: an observation
(``o001``) or several (``c1000``, of a type such as ``background``, ``mosaic`` or ``group``). Headers know
of the observation alone. What else belongs together is then found from program, target and optics:
`discovered` associations do that across observations; `link_backgrounds` finds backgrounds.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from upramp.stages.core.errors import Unprocessable

NOTHING = frozenset({"", "null", "--", "n", "f", "false", "n/a"})
"""Values that say that there is no value."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ACQUISITIONS = frozenset(
    _words(
        "mir_tacq mir_taconfirm nis_tacq nis_taconfirm nrc_tacq nrc_taconfirm "
        "nrs_confirm nrs_msata nrs_taconfirm nrs_tacq nrs_taslit nrs_wata"
    )
)
CORONAGRAPHY = frozenset({"mir_4qpm", "mir_lyot", "nrc_coron"})
TIME_SERIES = frozenset({"nrc_tsimage", "nrc_tsgrism", "nrs_brightobj"})

_CALIBRATION = {
    **dict.fromkeys(_words("mir_darkall mir_darkimg mir_darkmrs nis_dark nrc_dark nrs_dark"), "dark"),
    **dict.fromkeys(_words("mir_flatimage mir_flatmrs mir_flatimage-ext mir_flatmrs-ext nrc_flat"), "flat"),
    **dict.fromkeys(
        _words("nis_focus nis_lamp nrc_focus nrc_led nrs_focus nrs_image nrs_lamp"), "engineering"
    ),
    "nrs_autoflat": "autoflat",
    "nrs_autowave": "autowave",
}
_OFF_TARGET = {
    "maskrnd": frozenset({"nrca1", "nrca3", "nrca4"}),
    "maskbar": frozenset({"nrca1", "nrca2", "nrca3"}),
}
"""Full-frame coronagraphy: short-wavelength detectors that do not see the mask."""

HEADER = _words(
    "PROGRAM EXP_TYPE INSTRUME DETECTOR VISIT VISIT_ID VISITGRP VISITYPE SEQ_ID ACT_ID EXPOSURE EXPRIPAR "
    "OBS_ID NEXPOSUR EXPCOUNT CHANNEL MODULE FILTER PUPIL GRATING FXD_SLIT BAND SUBARRAY APERNAME PPS_APER "
    "TARGPROP TARGNAME PATTTYPE PATT_NUM NUMDTHPT OPMODE MSASTATE IS_PSF IS_IMPRT BKGDTARG TSOVISIT"
)
"""Keywords of the primary header that become facts of the same name; OBSERVTN becomes ``obs_num``."""

NEEDED = ("PROGRAM", "OBSERVTN", "EXP_TYPE", "INSTRUME", "DETECTOR")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An association candidate: ``o001`` and ``observation``, ``c1000`` and ``background``."""

    id: str
    type: str

    def __str__(self) -> str:
        return f"('{self.id}', '{self.type}')"


@dataclass(frozen=True, slots=True)
class Exposure:
    """What is known of one exposure of one detector.

    Attributes
    ----------
    file : str
        The name of its file, of whatever stage.
    facts : Mapping[str, str]
        By the lower-case name of a pool's column.
    candidates : tuple of Candidate
        What it is a candidate for; the first is its observation.
    """

    file: str
    facts: Mapping[str, str]
    candidates: tuple[Candidate, ...]

    def get(self, name: str) -> str | None:
        """A fact; None if there is no value. ``asn_candidate`` tells the candidates."""
        value = self.candidacy if name == "asn_candidate" else self.facts.get(name)
        return None if value is None or value in NOTHING else value

    @property
    def candidacy(self) -> str:
        """The candidates, as pools tell them."""
        return "[" + ", ".join(map(str, self.candidates)) + "]" if self.candidates else ""

    @property
    def kind(self) -> str:
        """What it serves as: science, background, psf, imprint, target_acquisition, dark, flat, ..."""
        exp_type = self.facts.get("exp_type", "")
        if exp_type in ACQUISITIONS or self.facts.get("pntgtype") == "target_acquisition":
            return "target_acquisition"
        if exp_type in _CALIBRATION:
            return _CALIBRATION[exp_type]
        for name, kind in (("is_psf", "psf"), ("is_imprt", "imprint"), ("bkgdtarg", "background")):
            if self.get(name):
                return kind
        return "science"

    @property
    def is_time_series(self) -> bool:
        """Whether its integrations are kept apart: a time series of a target."""
        exp_type = self.facts.get("exp_type", "")
        return self.facts.get("pntgtype") == "science" and (
            self.facts.get("tsovisit") == "t" or exp_type in TIME_SERIES
        )

    @property
    def is_off_target(self) -> bool:
        """Full-frame NIRCam coronagraphy on a detector that does not see the mask."""
        blind = _OFF_TARGET.get(self.facts.get("pupil", ""), frozenset())
        return self.facts.get("subarray") == "full" and self.facts.get("detector") in blind

    @property
    def keeps_integrations(self) -> bool:
        """Whether later stages take the product by integration (rateints, calints)."""
        exp_type = self.facts.get("exp_type", "")
        if self.kind == "target_acquisition":
            return False
        coronagraphic = exp_type in CORONAGRAPHY and not self.is_off_target
        return coronagraphic or exp_type == "nis_ami" or self.is_time_series


def exposure_from_row(row: Mapping[str, str]) -> Exposure:
    """An exposure from a row of a pool file, whose columns are named as the archive names them.

    Raises
    ------
    Unprocessable
        If there is no file name, or the candidates cannot be read.
    """
    facts = {name.strip().lower(): (value or "").strip().lower() for name, value in row.items() if name}
    file = facts.get("filename", "")
    if file in NOTHING:
        raise Unprocessable("a row of the pool has no FILENAME; name the file, or take the row out")
    return Exposure(file, facts, parse_candidates(facts.get("asn_candidate", ""), file))


def parse_candidates(text: str, where: str) -> tuple[Candidate, ...]:
    """Candidates from the column ASN_CANDIDATE: ``[('o001', 'observation'), ('c1000', 'group')]``."""
    if text in NOTHING:
        return ()
    try:
        pairs = ast.literal_eval(text)
        found = tuple(Candidate(str(name).lower(), str(kind).lower()) for name, kind in pairs)
    except (ValueError, TypeError, SyntaxError):
        found = ()
    if not found or any(re.fullmatch(r"[ocar]\d{3,4}", c.id) is None for c in found):
        raise Unprocessable(
            f"{where}: the association candidates {text!r} cannot be read; "
            "write them as [('o001', 'observation'), ('c1000', 'background')]"
        )
    return found


def exposure_from_header(file: str, header: Mapping[str, Any]) -> Exposure:
    """An exposure from the FITS primary header of any of its products.

    Headers do not have the archive's number of the target. Its place is taken by the name that the
    proposer gave to it (TARGPROP, else TARGNAME), letters and digits alone; without a name, by the
    observation, so that unnamed targets of different observations are not taken for the same.

    Raises
    ------
    Unprocessable
        If a keyword is missing without which nothing can be said.
    """
    missing = [name for name in NEEDED if _text(header.get(name)) in NOTHING]
    if missing:
        raise Unprocessable(
            f"{file}: the primary header lacks {', '.join(missing)}; "
            "give a JWST product, or a pool that tells what belongs together"
        )
    facts = {name.lower(): _text(header.get(name)) for name in HEADER}
    observation = _number(file, "OBSERVTN", header["OBSERVTN"])
    target = _letters(facts["targprop"]) or _letters(facts["targname"])
    facts |= {
        "filename": file,
        "obs_num": str(observation),
        "targetid": target or f"o{observation:03d}",
        "pntgtype": "target_acquisition" if facts["exp_type"] in ACQUISITIONS else "science",
    }
    return Exposure(file, facts, (Candidate(f"o{observation:03d}", "observation"),))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "t" if value else "f"
    return "null" if value is None else str(value).strip().lower()


def _letters(text: str) -> str:
    """Letters and digits of a name; nothing if there is none."""
    return "" if text in NOTHING else re.sub(r"[^a-z0-9]", "", text)


def _number(file: str, keyword: str, value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise Unprocessable(
            f"{file}: {keyword} is {value!r}, not a number; give a product with a JWST header"
        ) from None


@dataclass(frozen=True, slots=True)
class Linked:
    """Exposures after `link_backgrounds`, and sentences on what was not linked and why."""

    exposures: list[Exposure]
    notes: list[str]


def link_backgrounds(
    exposures: Sequence[Exposure], key: Callable[[Exposure], tuple[str | None, ...] | None]
) -> Linked:
    """Give backgrounds and the science they were taken for a common candidate, from headers alone.

    Headers say that an exposure is a background (BKGDTARG), not of what. Where a program has one
    background target for an instrument, exposures of that instrument that agree in ``key`` (optics and
    detector; None: has no background) become a candidate of type ``background``. With several background
    targets it is not known which belongs to what: none is linked, and a note says so.
    """
    targets: dict[tuple[str, str], dict[str, None]] = {}
    keys: dict[tuple[str, str], set[tuple[str | None, ...]]] = {}
    for exposure in exposures:
        found = key(exposure)
        if exposure.kind == "background" and found is not None:
            place = _place(exposure)
            targets.setdefault(place, {})[exposure.facts.get("targetid", "")] = None
            keys.setdefault(place, set()).add(found)
    notes = [
        f"program {program}, {instrument.upper()}: {len(names)} background targets "
        f"({', '.join(sorted(names))}), so none is subtracted; a pool can tell which belongs to what"
        for (program, instrument), names in targets.items()
        if len(names) > 1
    ]
    single = sorted(place for place, names in targets.items() if len(names) == 1)
    ids = {place: Candidate(f"c{1000 + n}", "background") for n, place in enumerate(single)}
    linked = []
    for exposure in exposures:
        place = _place(exposure)
        if place in ids and key(exposure) in keys[place]:
            exposure = replace(exposure, candidates=(*exposure.candidates, ids[place]))
        linked.append(exposure)
    return Linked(linked, notes)


def _place(exposure: Exposure) -> tuple[str, str]:
    return exposure.facts.get("program", ""), exposure.facts.get("instrume", "")


def by_candidate(exposures: Iterable[Exposure]) -> dict[Candidate, list[int]]:
    """The positions of the exposures of every candidate, candidates in order of their names."""
    found: dict[Candidate, list[int]] = {}
    for position, exposure in enumerate(exposures):
        for candidate in dict.fromkeys(exposure.candidates):
            found.setdefault(candidate, []).append(position)
    return dict(sorted(found.items(), key=lambda item: (item[0].id, item[0].type)))
