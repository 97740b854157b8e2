"""Every path and file-name rule in one place.

Names on disk follow the archive's: a product is named like its input, with the
ending of its kind in place of ``_uncal``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from upramp.stages.core.errors import Unprocessable

SCRATCH = ".upramp-scratch"
"""Hidden folder, in the output folder, of what is being written."""

LEDGER = "ledger"
PREPARED = "prepared"
WINDOWS = "windows"
LOCK = "lock"

# What stage 1 makes of an uncal file.
KINDS = ("rate", "rateints", "ramp", "dark", "cal")

_MAX_NAME = 200  # bytes; file systems allow 255, and product names are longer than input names
_EXPOSURE = re.compile(r"(jw\d{11}_\d{5}_\d{5})(?:-seg(\d{3}))?_([a-z0-9]+)")
_GUIDER = re.compile(r"jw\d{11}_gs-[a-z0-9]+(?:_[a-z0-9]+)*")
_SEGMENT = re.compile(r"-seg(\d{3})(?=_|$)")


@dataclass(frozen=True, slots=True)
class InputName:
    """What the name of an input file tells.

    Attributes
    ----------
    name : str
        The file name.
    exposure_id : str
        The same for all segments of an exposure: the stem without ``-segNNN``.
    segment_id : str
        The stem without ``_uncal``; products are named after it.
    segment : int or None
        NNN of ``-segNNN``.
    standard : bool
        Whether the name is one that the archive gives to uncal files.
    """

    name: str
    exposure_id: str
    segment_id: str
    segment: int | None
    standard: bool

    def product(self, kind: str, extension: str = "fits") -> str:
        """The file name of a product of this input; ``kind`` is one of `KINDS`, or what a step calls it."""
        return f"{self.segment_id}_{kind}.{extension}"


def parse_name(name: str) -> InputName:
    """Take an input's file name apart.

    A name that the archive would not give is taken as it is, less ``.fits`` and ``_uncal``.

    Raises
    ------
    Unprocessable
        If products cannot safely be named after it.
    """
    shown = ascii(name)
    if "/" in name or "\\" in name or name in (".", ".."):
        raise Unprocessable(f"{shown} is not a plain file name: it has parts of a path; rename the file")
    if not name.isprintable():
        raise Unprocessable(f"the file name {shown} has control or unprintable characters; rename the file")
    if len(name.encode("utf-8", "surrogatepass")) > _MAX_NAME:
        raise Unprocessable(f"the file name {shown} is longer than {_MAX_NAME} bytes; rename the file")
    stem = re.sub(r"\.fits$", "", name, flags=re.IGNORECASE)
    stem = re.sub(r"_uncal$", "", stem)
    if not stem.strip() or stem.startswith((".", "-", "~")) or stem != stem.strip():
        raise Unprocessable(
            f"no product can be named after {shown}: nothing is left before '_uncal.fits', or it "
            "begins with '.', '-' or '~' or has spaces at an end; rename the file"
        )
    if match := _EXPOSURE.fullmatch(stem):
        exposure, segment, detector = match.groups()
        return InputName(name, f"{exposure}_{detector}", stem, int(segment) if segment else None, True)
    if _GUIDER.fullmatch(stem):
        return InputName(name, stem, stem, None, True)
    match = _SEGMENT.search(stem)
    exposure_id = _SEGMENT.sub("", stem, count=1) or stem
    return InputName(name, exposure_id, stem, int(match[1]) if match else None, False)


def preceding(segment_id: str) -> str | None:
    """What the same detector took directly before a segment, as far as the archive's names tell.

    The segment before it; of the first one, the exposure before, because exposures of an activity are
    numbered. None for the first exposure of an activity, and for other names.
    """
    match = _EXPOSURE.fullmatch(segment_id)
    if match is None:
        return None
    exposure, segment, detector = match.groups()
    if segment and int(segment) > 1:
        return f"{exposure}-seg{int(segment) - 1:03d}_{detector}"
    activity, _, number = exposure.rpartition("_")
    return f"{activity}_{int(number) - 1:05d}_{detector}" if int(number) > 1 else None


def is_input(name: str) -> bool:
    """Whether a file of this name in a folder is taken for an input."""
    return name.endswith("_uncal.fits") and not name.startswith(".")


def is_association(name: str) -> bool:
    """Whether a file of this name holds an association."""
    return name.endswith("_asn.json") and not name.startswith(".")


def association_id(name: str) -> str:
    """What the ledger calls an association: the stem of its file's name.

    Raises
    ------
    Unprocessable
        If products cannot safely be recorded under it.
    """
    return parse_name(name.removesuffix(".json")).segment_id


def preview_file(output: Path, product: str) -> Path:
    """Where the preview of a mosaic lies whose products' names begin with ``product``.

    Raises
    ------
    Unprocessable
        If no file can safely be named after it.
    """
    return output / parse_name(product).product("preview")


def scratch_root(output: Path) -> Path:
    """The hidden folder that holds the scratch folders of all jobs of an output folder."""
    return output / SCRATCH


def scratch_folder(output: Path, job: str) -> Path:
    """The scratch folder of one job; ``job`` is any text that no other running job has."""
    return scratch_root(output) / re.sub(r"[^A-Za-z0-9_.-]", "_", job).lstrip(".")


def ledger_folder(output: Path) -> Path:
    """Where the ledger of an output folder lies, unless another place is set."""
    return output / LEDGER


def prepared_folder(cache: Path) -> Path:
    """Where the prepared references of a cache folder lie."""
    return cache / PREPARED


def windows_file(ledger: Path, detector: str, segment_id: str, digest: str) -> Path:
    """Where the windows of persistence that a segment left on its detector lie."""
    return ledger / WINDOWS / detector.lower() / f"{segment_id}-{digest[:16]}.parquet"


def lock_file(ledger: Path) -> Path:
    """The file that the one writer of a ledger locks."""
    return ledger / LOCK
