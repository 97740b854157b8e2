"""Names of products and of members.

They are those of the archive: "Association Naming" and "Field Guide to File Names" in the documentation of
jwst, and the names in association files. A member is named after its exposure with the ending of the stage
that the association takes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from upramp.stages.associations.pool import Exposure
from upramp.stages.associations.rules import Rule

ENDINGS = {2: ("rate", "rateints"), 3: ("cal", "calints")}
"""By level: of members, and of members whose integrations are kept apart."""

_ENDING = re.compile(
    r"_(uncal|ramp|rate|rateints|cal|calints|([oac]\d{3,4}_)?crf(ints)?)(\.fits)?$", re.IGNORECASE
)
_COMBINED = re.compile(
    r"(jw\d{11}_\d{5}_\d{5}(?:-seg\d{3})?_[a-z0-9]+)_[^_]+_crf(?:ints)?(?:\.fits)?", re.IGNORECASE
)
"""An exposure as it was combined: the identifier of the association, whatever it is, stands in the name."""


def exposure_name(file: str) -> str:
    """What all products of an exposure begin with: the file name without ending."""
    if found := _COMBINED.fullmatch(file):
        return found[1]
    return re.sub(r"\.fits$", "", _ENDING.sub("", file), flags=re.IGNORECASE)


def is_exposure(name: str) -> bool:
    """Whether a file of this name holds an exposure, of whatever stage."""
    return name.lower().endswith(".fits") and not name.startswith(".") and _ENDING.search(name) is not None


def member_name(exposure: Exposure, rule: Rule) -> str:
    """The file of an exposure that a rule's association takes; a name without a known ending stays."""
    if _ENDING.search(exposure.file) is None:
        return exposure.file
    plain, integrations = ENDINGS[rule.level]
    ending = integrations if rule.integrations and exposure.keeps_integrations else plain
    return f"{exposure_name(exposure.file)}_{ending}.fits"


def target_name(target: str) -> str:
    """The target in the name of a product: ``t001``."""
    return f"t{int(target):03d}" if target.isdigit() else f"t{target}"


def program_name(program: str) -> str:
    """The program in names: five digits."""
    return program.zfill(5)


def product_name(rule: Rule, program: str, candidate: str, target: str, exposures: Sequence[Exposure]) -> str:
    """What the products of a level 3 association begin with: ``jw01234-o001_t001_nircam_clear-f200w``.

    Optics are those of all members, in alphabetical order; a subarray follows.
    """
    found = [pair for exposure in exposures for pair in rule.values(exposure)]
    optics = sorted({value for name, value in found if name.startswith(("opt_elem", "fxd_slit"))})
    subarrays = sorted({value for name, value in found if name == "subarray"} - {"full"})
    last = "-".join([*(optics or ["clear"]), *subarrays, *_ending(rule, exposures[0])])
    instrument = exposures[0].facts["instrume"]
    return f"jw{program_name(program)}-{candidate}_{target}_{instrument}_{last}"


def _ending(rule: Rule, exposure: Exposure) -> list[str]:
    return [rule.ending.format_map(exposure.facts)] if rule.ending else []
