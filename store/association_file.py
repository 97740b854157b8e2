"""An association as an input: the exposures that its file lists, looked at and ready to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from upramp.stages.associations.record import Association, Product
from upramp.stages.core.errors import Unprocessable
from upramp.stages.core.image import Image
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.stage3.members import exposure_group
from upramp.store.associations import KINDS, member_paths, read_association
from upramp.store.image_file import ImageFile, open_image
from upramp.store.naming import association_id
from upramp.store.transforms import read_wcs

POINTING = ("RA_REF", "DEC_REF", "ROLL_REF", "V2_REF", "V3_REF")

OPTICS = ("INSTRUME", "FILTER", "PUPIL")
"""What exposures of one mosaic commonly share."""


@dataclass(frozen=True, eq=False)
class FileMember:
    """A product of images as a member of an association; see `stages.stage3.members.Member`.

    ``group_id``: its group, where that does not follow from its header.
    """

    file: ImageFile
    group_id: str | None = None

    @property
    def name(self) -> str:
        """See `Member`."""
        return self.file.path.name

    @property
    def group(self) -> str:
        """See `Member`."""
        return self.group_id or exposure_group(self.cards, self.name)

    @property
    def cards(self) -> Mapping[str, Any]:
        """See `Member`."""
        return self.file.header

    @property
    def shape(self) -> tuple[int, int]:
        """See `Member`."""
        return self.file.meta.ny, self.file.meta.nx

    @cached_property
    def wcs(self) -> Any:
        """See `Member`.

        Raises
        ------
        Unprocessable
            If the file has none.
        """
        unit = self.file.unit("ASDF")
        wcs = None if unit is None else read_wcs(self.file.raw(unit)[len(unit.header) :], self.name)
        if wcs is None:
            raise Unprocessable(
                f"{self.name} has no WCS, so it has no place among the others; calibrate it again with "
                "steps.assign_wcs.skip = false, or take it out of the association"
            )
        return wcs

    def read(self, *names: str) -> Image:
        """See `Member`."""
        return replace(self.file.read(*names), wcs=self.wcs)


@dataclass(frozen=True, eq=False)
class AssociationFile:
    """A look at an association's file and the exposures that it lists; no pixel is read.

    Attributes
    ----------
    path : Path
        The association file.
    association : Association
    product : Product
        What is made.
    science : list of ImageFile
        Its members that serve as science, in their order; of level 2, one.
    backgrounds : list of ImageFile
        Of level 2: rates of what is to be subtracted.
    """

    path: Path
    association: Association
    product: Product
    science: Sequence[ImageFile]
    backgrounds: Sequence[ImageFile] = ()

    @property
    def segment_id(self) -> str:
        """What the ledger calls it: its name's stem; of level 2, the exposure, which counts once."""
        return self.science[0].segment_id if self.level == 2 else association_id(self.path.name)

    @property
    def exposure_id(self) -> str:
        """See `segment_id`."""
        return self.science[0].exposure_id if self.level == 2 else self.segment_id

    @property
    def level(self) -> int:
        """2 for an exposure with its backgrounds, 3 for exposures that are combined."""
        return self.association.level

    @property
    def exposures(self) -> list[FileMember]:
        """Those that serve as science, as members of their groups."""
        named = self.product.of("science")
        return [FileMember(file, one.group_id) for file, one in zip(self.science, named, strict=True)]

    @property
    def members(self) -> Sequence[ImageFile]:
        """All files that products are made of."""
        return [*self.science, *self.backgrounds]

    @property
    def differing(self) -> str:
        """Optics in which exposures that are combined differ, which somebody may want or not; "" if none."""
        found = {
            keyword: dict.fromkeys(str(file.header.get(keyword) or "none") for file in self.science)
            for keyword in OPTICS
        }
        return "; ".join(
            f"{keyword} {', '.join(values)}" for keyword, values in found.items() if len(values) > 1
        )

    @property
    def meta(self) -> ExposureMeta:
        """That of its first exposure."""
        return self.science[0].meta

    @property
    def header(self) -> Mapping[str, Any]:
        """Keywords of its first exposure, for reference selection."""
        return self.science[0].header


def open_association(path: Path, folders: Sequence[Path] = ()) -> AssociationFile:
    """Look at an association file and its members, which are beside it or in one of ``folders``.

    Raises
    ------
    Unprocessable
        If it is not valid, or members are missing, no images, or not of one unit.
    Retryable
        If something cannot be read for the time being.
    """
    association = read_association(path)
    if association.asn_type not in KINDS:
        raise Unprocessable(
            f"{path.name} is of type {association.asn_type}, which is not in this version; "
            f"it takes {' and '.join(KINDS)}"
        )
    if len(association.products) != 1:
        raise Unprocessable(
            f"{path.name} lists {len(association.products)} products; give each a file of its own"
        )
    [product] = association.products
    roles, endings = KINDS[association.asn_type]
    places = member_paths(path, association, folders, only=roles)
    science, backgrounds = (
        [open_image(places[m.expname]) for m in product.of(role) if role in roles]
        for role in ("science", "background")
    )
    for file in (*science, *backgrounds):
        if file.kind not in endings or (association.level == 3 and file.meta.nints != 1):
            raise Unprocessable(
                f"{path.name}: {file.path.name} is no image of the kind that {association.asn_type} takes; "
                f"list products that end in {' or '.join(f'_{ending}.fits' for ending in endings)}"
            )
        lacks = [key for key in POINTING if file.header.get(key) is None]
        if association.level == 3 and lacks:
            raise Unprocessable(
                f"{path.name}: {file.path.name} lacks {', '.join(lacks)}, which tell where it points; "
                "calibrate it again from its uncal or rate file"
            )
    units = {str(file.sci.get("BUNIT") or ""): file.path.name for file in reversed((*science, *backgrounds))}
    if len(units := {unit: name for unit, name in units.items() if unit}) > 1:
        told = ", ".join(f"{name} in {unit}" for unit, name in sorted(units.items(), key=lambda one: one[1]))
        raise Unprocessable(
            f"{path.name}: its members are not of one unit (BUNIT): {told}; calibrate all of them alike, "
            "with photom or without"
        )
    return AssociationFile(path, association, product, science, backgrounds)
