"""What an association is: products to be made, and the members that each is made of.

The fields, and their order in a file, are those of the observatory's association files ("Stage 2
Associations: Technical Specifications", "Stage 3 Associations: Technical Specifications").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

DEGRADED = (
    "One or more members have an error associated with them.\n"
    "Details can be found in the member.exposerr attribute."
)
SOUND = "No known degraded exposures in association."
DISCOVERED = "a3001"
"""Identifier of associations across the whole program."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a product.

    Attributes
    ----------
    expname : str
        File name.
    exptype : str
        What it serves as: science, background, psf, target_acquisition, ...
    exposerr : str or None
        What went wrong on board, as the pool tells it.
    asn_candidate : str or None
        Its candidates; level 3 only.
    group_id : str or None
        What members that are treated as one exposure have in common, if somebody wrote that by hand.
    """

    expname: str
    exptype: str
    exposerr: str | None = None
    asn_candidate: str | None = None
    group_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As in an association file."""
        found: dict[str, Any] = {"expname": self.expname, "exptype": self.exptype, "exposerr": self.exposerr}
        more = {"asn_candidate": self.asn_candidate, "group_id": self.group_id}
        return found | {name: value for name, value in more.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Product:
    """What is made: the start of its name, and its members."""

    name: str
    members: tuple[Member, ...]

    def of(self, exptype: str) -> tuple[Member, ...]:
        """The members that serve as this."""
        return tuple(m for m in self.members if m.exptype == exptype)


@dataclass(frozen=True, slots=True)
class Association:
    """Exposures that are calibrated together; attributes are named as in association files.

    ``level`` is 2 or 3, ``sequence`` numbers the associations of one program, identifier and type.
    """

    asn_type: str
    asn_rule: str
    level: int
    program: str
    asn_id: str
    target: str
    products: tuple[Product, ...]
    constraints: str = ""
    asn_pool: str = "none"
    version_id: str | None = None
    code_version: str = ""
    degraded_status: str = SOUND
    sequence: int = 1

    @property
    def members(self) -> tuple[Member, ...]:
        """Of all products, in order."""
        return tuple(member for product in self.products for member in product.members)

    @property
    def name(self) -> str:
        """The name of its file, without ``.json``."""
        version = f"_{self.version_id}" if self.version_id else ""
        return f"jw{self.program}-{self.asn_id}{version}_{self.asn_type}_{self.sequence:05d}_asn"

    def to_dict(self) -> dict[str, Any]:
        """As in an association file."""
        end = (
            {"asn_id": self.asn_id, "target": self.target, "asn_pool": self.asn_pool}
            if self.level == 3
            else {"asn_id": self.asn_id, "asn_pool": self.asn_pool, "target": self.target}
        )
        return {
            "asn_type": self.asn_type,
            "asn_rule": self.asn_rule,
            "version_id": self.version_id,
            "code_version": self.code_version,
            "degraded_status": self.degraded_status,
            "program": self.program,
            "constraints": self.constraints,
            **end,
            "products": [
                {"name": product.name, "members": [member.to_dict() for member in product.members]}
                for product in self.products
            ],
        }
