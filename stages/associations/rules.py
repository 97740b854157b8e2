"""The rules, as a table: what each association holds, and what its members have in common.

Names, types, conditions and their order are those of the observatory's rules, as its documentation
("Stage 2 Associations: Rules", "Stage 3 Associations: Rules", `asn_type` in "JWST Conventions") and the
association files tell; where rules make the same association, the later of the table is kept.
Here are those for images (coronagraphy, interferometry and wavefront sensing included); other modes join by
further rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from upramp.stages.associations.conditions import (
    AnyOf,
    Check,
    Condition,
    Fixed,
    Key,
    Never,
    Same,
    Told,
    joint_key,
    joint_told,
    shown,
)
from upramp.stages.associations.pool import Exposure

SEVERAL_OBSERVATIONS = frozenset({"group", "mosaic", "background"})
"""Types of candidates that are for combining observations: with members of one alone there is none."""


@dataclass(frozen=True)
class Rule:
    """One row of the table.

    Attributes
    ----------
    name : str
        The observatory's name of the rule.
    level : int
        2: one association for each science exposure. 3: one for all exposures with the same key.
    type : str
        Type of the association, which tells the pipeline that takes it.
    conditions : tuple of Condition
        What every member must be, and share.
    all_science : bool
        Members count as science whatever they serve as elsewhere.
    backgrounds : bool
        Level 2: backgrounds with the same key are members beside the science exposure.
    acquisitions : bool
        Level 3: target acquisitions of the members' observations are members, too.
    candidates : frozenset of str or None
        Types of candidates that it is for; None: all.
    discovered : bool
        Whether it also combines exposures of the whole program.
    integrations : bool
        Whether members that keep their integrations come by integration (rateints, calints).
    target : str
        Of the name of the product, where members may have different targets.
    ending : str
        Of the name of the product; facts of a member may stand in it in braces.
    members : int
        Science members without which there is no association.
    needs : tuple of str
        What there must be at least one of.
    """

    name: str
    level: int
    type: str
    conditions: tuple[Condition, ...]
    all_science: bool = False
    backgrounds: bool = False
    acquisitions: bool = False
    candidates: frozenset[str] | None = None
    discovered: bool = False
    integrations: bool = True
    target: str = ""
    ending: str = ""
    members: int = 1
    needs: tuple[str, ...] = ()

    def key(self, exposure: Exposure) -> Key | None:
        """What the exposure shares with all members; None if the rule is not for it."""
        return joint_key(self.conditions, exposure)

    def told(self, exposure: Exposure) -> list[str]:
        """The conditions, and what they found in an exposure, as the association file tells them."""
        return joint_told(self.conditions, exposure)

    def role(self, exposure: Exposure) -> str:
        """What the exposure is as a member."""
        if self.all_science or (self.level == 2 and exposure.kind == "psf"):
            return "science"
        return exposure.kind

    def values(self, exposure: Exposure) -> list[tuple[str, str]]:
        """The values found for the conditions, with their names."""
        return [value for condition in self.conditions for value in condition.values(exposure)]


_SCIENCE = "fgs_image|mir_4qpm|mir_image|mir_lyot|nis_ami|nis_image|nrc_coron|nrc_image|nrs_mimf|nrc_tsimage"
_NONSCIENCE = (
    "mir_coroncal|nis_focus|nrc_focus|nrs_focus|nrs_image|mir_tacq|mir_taconfirm|nis_taconfirm|nis_tacq|"
    "nrc_taconfirm|nrc_tacq|nrs_confirm|nrs_msata|nrs_taconfirm|nrs_tacq|nrs_taslit|nrs_verify|nrs_wata"
)
_WFSC = ".+wfsc.+"

_PROGRAM = Same("program", ("program",))
_INSTRUMENT = Same("instrument", ("instrume",))
_NOT_TSO = Check(lambda exposure: not exposure.is_time_series)
_SEES_MASK = Check(lambda e: e.get("pupil") is not None and not e.is_off_target)
_NO_IMPRINT = Never("", ("is_imprt",))
_NO_JITTER = Never("dms_note", ("dms_note",), "wfsc_los_jitter")

# Level 2

_BASE2 = (_PROGRAM, Same("is_tso", ("tsovisit",), required=False))
_MODE2 = (
    _INSTRUMENT,
    Same("detector", ("detector",)),
    Same("opt_elem", ("filter", "band")),
    Same("opt_elem2", ("pupil", "grating"), required=False),
    Same("fxd_slit", ("fxd_slit",), required=False),
    Same("subarray", ("subarray",), required=False),
    Same("channel", ("channel",), required=False),
    Never("", ("filter",), "opaque"),
    Never("", ("visitype",), _WFSC),
    Same("slit", ("fxd_slit",), required=False),
)
_SCIENCE2 = Same("exp_type", ("exp_type",), _SCIENCE, label="Constraint_Image_Science")
_BACKGROUND2 = Told(shown("Constraint_Background", "background", None, ("bkgdtarg",)))
_CANDIDATES2 = frozenset({"observation", "background"})


def _level2(
    name: str, *conditions: Condition, type: str = "image2", all_science: bool = False, **more: Any
) -> Rule:
    return Rule(name, 2, type, _BASE2 + conditions, all_science=all_science, candidates=_CANDIDATES2, **more)


LEVEL2 = (
    _level2(
        "Asn_Lv2CoronAsRate",
        *_MODE2,
        Same("exp_type", ("exp_type",), "nrc_coron"),
        Same("subarray", ("subarray",), "full"),
        _SEES_MASK,
        _BACKGROUND2,
        backgrounds=True,
        integrations=False,
    ),
    _level2(
        "Asn_Lv2FGS",
        Same("exp_type", ("exp_type",), "fgs_image|fgs_focus"),
        Never("wfsc", ("visitype",), _WFSC),
    ),
    _level2("Asn_Lv2Image", *_MODE2, _SCIENCE2, _NOT_TSO, _BACKGROUND2, backgrounds=True),
    _level2(
        "Asn_Lv2ImageNonScience",
        AnyOf(
            (
                (
                    Check(lambda exposure: exposure.kind == "target_acquisition"),
                    Told(shown("Constraint_TargetAcq", "target_acq", "target_acquisition")),
                ),
                (Same("non_science", ("exp_type",), _NONSCIENCE),),
                (
                    Same("exp_type", ("exp_type",), "nrs_msaspec"),
                    Same("", ("msastate",), "primarypark_allopen"),
                    Same("", ("grating",), "mirror"),
                ),
            )
        ),
        all_science=True,
    ),
    _level2(
        "Asn_Lv2ImageSpecial",
        *_MODE2,
        _SCIENCE2,
        Same("is_special", ("bkgdtarg", "is_psf"), label="Constraint_Special"),
        all_science=True,
    ),
    _level2(
        "Asn_Lv2ImageTSO",
        *_MODE2,
        _SCIENCE2,
        Check(lambda exposure: exposure.is_time_series),
        type="tso-image2",
    ),
    _level2(
        "Asn_Lv2NRSLAMPImage",
        Same("exp_type", ("exp_type",), "nrs_lamp"),
        Same("", ("grating",), "mirror"),
        Same("", ("opmode",), "image", required=False),
        all_science=True,
    ),
    _level2(
        "Asn_Lv2WFSC",
        _SCIENCE2,
        Same("wfsc", ("visitype",), _WFSC),
        Check(lambda e: not (e.get("dms_note") == "wfsc_los_jitter" and e.get("exp_type") == "nrc_image")),
        Told(_NO_JITTER.told(None)[0]),
        Told(shown("DMSAttrConstraint", "exp_type", "nrc_image", ("exp_type",))),
    ),
)

# Level 3

_OPTICS3 = (
    Same("opt_elem", ("filter",), required=False),
    Same("opt_elem2", ("pupil", "grating"), required=False),
    AnyOf(
        (
            (Same("fxd_slit2", ("fxd_slit",), "s200a1|s200a2", required=False, shared=False),),
            (Same("fxd_slit", ("fxd_slit",), required=False),),
        )
    ),
    Same("subarray", ("subarray",)),
)
_BASE3 = (_PROGRAM, _INSTRUMENT, _NO_IMPRINT, *_OPTICS3)
_TARGET3 = Same("target", ("targetid",))
_DIRECT3 = Same("acdirect", ("asn_candidate",), r"\[\('c\d{4}', 'direct_image'\)\]")
_TARGET_OR_DIRECT3 = AnyOf(((_DIRECT3, Fixed("target", "000")), (_TARGET3,)))
_TARGET_OR_PSF3 = Same("target", ("targetid",), of_science=True)
_EXP_TYPE3 = Same(
    "exp_type", ("exp_type",), "nrc_image|mir_image|nis_image|fgs_image|nrs_mimf", label="Constraint_Image"
)
_VISIT3 = Same("wfsvisit", ("visitype",), "((?!wfsc).)*", required=False)
_NO_BACKGROUND = Never("bkgdtarg", ("bkgdtarg",))
_END3 = (
    Told(shown("Constraint_Obsnum", "obs_num", None, ("obs_num",))),
    Told(shown("Constraint_TargetAcq", "target_acq", "target_acquisition")),
    Told(shown("DMSAttrConstraint", "acq_obsnum", None, ("obs_num",))),
)


def _level3(name: str, type: str, *conditions: Condition, **more: Any) -> Rule:
    every = (*_BASE3, *conditions, *_END3)
    return Rule(name, 3, type, every, acquisitions=True, **({"discovered": True} | more))


LEVEL3 = (
    _level3(
        "Asn_Lv3AMI",
        "ami3",
        Same("exp_type", ("exp_type",), "nis_ami"),
        _TARGET_OR_PSF3,
        Never("", ("bkgdtarg",)),
        needs=("psf",),
    ),
    _level3("Asn_Lv3Image", "image3", _TARGET_OR_DIRECT3, _EXP_TYPE3, _VISIT3, _NO_BACKGROUND, _NOT_TSO),
    _level3(
        "Asn_Lv3ImageBackground",
        "image3",
        _TARGET_OR_DIRECT3,
        _EXP_TYPE3,
        _VISIT3,
        Same("bkgdtarg", ("bkgdtarg",)),
        _NOT_TSO,
        all_science=True,
    ),
    _level3(
        "Asn_Lv3ImageMosaic",
        "image3",
        _EXP_TYPE3,
        _VISIT3,
        _NO_BACKGROUND,
        _NOT_TSO,
        candidates=frozenset({"mosaic"}),
        discovered=False,
        target="000",
    ),
    _level3(
        "Asn_Lv3MIRCoron",
        "coron3",
        Same("exp_type", ("exp_type",), "mir_lyot|mir_4qpm"),
        _TARGET_OR_PSF3,
        _NO_BACKGROUND,
        needs=("psf",),
    ),
    _level3(
        "Asn_Lv3NRCCoron",
        "coron3",
        Same("exp_type", ("exp_type",), "nrc_coron"),
        _TARGET_OR_PSF3,
        _NO_BACKGROUND,
        _SEES_MASK,
        needs=("psf",),
    ),
    _level3(
        "Asn_Lv3NRCCoronImage",
        "image3",
        Same("exp_type", ("exp_type",), "nrc_coron"),
        _TARGET_OR_PSF3,
        _NO_BACKGROUND,
        Never("is_psf", ("is_psf",), "T"),
        Same("channel", ("channel",), "short"),
        Same("subarray", ("subarray",), "full"),
        Check(lambda exposure: exposure.kind == "science"),
        integrations=False,
        ending="image3",
    ),
    _level3(
        "Asn_Lv3WFSCMB",
        "wfs-image3",
        _TARGET_OR_DIRECT3,
        _EXP_TYPE3,
        Same("patttype", ("patttype",), "wfsc"),
        Same("detector", ("detector",)),
        Same("obs_id", ("obs_id",)),
        Same("act_id", ("act_id",)),
        _NO_JITTER,
        members=2,
        ending="{detector}_{{suffix}}-{act_id}",
    ),
)

RULES = LEVEL2 + LEVEL3
