"""Headers of products: the input's cards, kept in place, with what calibration adds.

New cards go beside their relatives (those whose leaves hang on the same branch of the
metadata tree); reference files and step states have sections of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
from astropy.io import fits

from upramp.store.asdf_tree import keyword_paths
from upramp.store.fitsio import BLOCK, CARD

_STRUCTURE = frozenset(
    {
        "SIMPLE",
        "XTENSION",
        "BITPIX",
        "NAXIS",
        "NAXIS1",
        "NAXIS2",
        "NAXIS3",
        "NAXIS4",
        "EXTEND",
        "NEXTEND",
        "PCOUNT",
        "GCOUNT",
        "GROUPS",
        "BSCALE",
        "BZERO",
        "BLANK",
        "EXTNAME",
        "EXTVER",
        "EXTLEVEL",
        "CHECKSUM",
        "DATASUM",
        "DATAMIN",
        "DATAMAX",
        "END",
    }
)
_SECTIONS = {"ref_file": "Reference files", "cal_step": "State of the calibration steps"}
_COMMENTS = {
    "CAL_VER": "calibration software and version",
    "CAL_VCS": "calibration software revision",
    "CRDS_VER": "version of the CRDS client",
    "CRDS_CTX": "CRDS context that chose the references",
    "PRIMECRS": "cosmic rays per thousand pixels per second",
    "EXTNCRS": "large events per million pixels per second",
    "BUNIT": "unit of the pixels",
    "DATE": "UTC time when the file was made",
    "FILENAME": "name of the file",
    "DATAMODL": "type of data model",
}


@cache
def software() -> str:
    """Name and version, as CAL_VER gives them."""
    return f"upramp {version('upramp')}"


def _plain(value: Any) -> Any:
    """A value that FITS can hold, or None."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, bool | int | float | str) else None


def _comment(keyword: str, path: str) -> str:
    branches = path.split(".")
    if keyword in _COMMENTS:
        return _COMMENTS[keyword]
    if "cal_step" in branches:
        return f"step {branches[-1]}"
    if "ref_file" in branches and len(branches) > 2:
        return f"{branches[2]} reference file"
    return ""


def _fitting(value: Any, comment: str) -> str:
    """As much of a comment as there is room for in one card beside the value."""
    taken = max(len(value.replace("'", "''")), 8) + 2 if isinstance(value, str) else 20
    return comment[: max(CARD - 10 - taken - 3, 0)]


def _position(header: fits.Header, path: str, paths: Mapping[str, str]) -> int | None:
    """Where a new card belongs: behind the last one of its branch."""
    branch = path.rpartition(".")[0]
    if "ref_file" in path or "cal_step" in path:
        branch = ".".join(path.split(".")[:2])  # one section each, however deep
    last = None
    for index, card in enumerate(header.cards):
        other = paths.get(card.keyword, "")
        if other.startswith(branch + ".") and (branch != "meta" or other.count(".") == 1):
            last = index
    return None if last is None else last + 1


def put_card(header: fits.Header, extension: str, keyword: str, value: Any) -> None:
    """Set a keyword: in place if it is there, else beside its relatives.

    What FITS cannot hold (None, NaN) removes the keyword.
    """
    value = _plain(value)
    if value is None:
        header.remove(keyword, ignore_missing=True, remove_all=True)
        return
    if keyword in header:
        header[keyword] = (value, _fitting(value, header.comments[keyword]))
        return
    paths = keyword_paths().get(extension, {})
    path = paths.get(keyword, "")
    card = fits.Card(keyword, value, _fitting(value, _comment(keyword, path)))
    where = _position(header, path, paths) if path else None
    if where is not None:
        header.insert(where, card)
        return
    section = next((title for branch, title in _SECTIONS.items() if f".{branch}." in path), None)
    if section:
        for title in ("", section, ""):
            header.append(fits.Card("", title), end=True)
    header.append(card, end=True)


def kept_cards(header: fits.Header) -> fits.Header:
    """A copy without the cards that describe the input's own layout."""
    return fits.Header([card for card in header.cards if card.keyword not in _STRUCTURE], copy=True)


def primary_header(start: fits.Header, filename: str, model: str, cards: Mapping[str, Any]) -> fits.Header:
    """The primary header of a product.

    Parameters
    ----------
    start : Header
        Primary header of the input.
    filename, model : str
        FILENAME and DATAMODL.
    cards : mapping
        What calibration adds or changes: keyword -> value.
    """
    header = kept_cards(start)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    fixed = {"DATE": now, "FILENAME": filename, "DATAMODL": model, "TELESCOP": "JWST", "CAL_VER": software()}
    for keyword, value in {**fixed, **cards}.items():
        put_card(header, "PRIMARY", keyword.upper(), value)
    head = [
        fits.Card("SIMPLE", True, "conforms to FITS standard"),
        fits.Card("BITPIX", 8, "array data type"),
        fits.Card("NAXIS", 0, "number of array dimensions"),
        fits.Card("EXTEND", True),
    ]
    return fits.Header([*head, *header.cards])


def image_header(
    name: str,
    bitpix: int,
    shape: tuple[int, ...],
    kept: fits.Header | None,
    cards: Mapping[str, Any],
    unsigned: bool = False,
) -> fits.Header:
    """The header of an image extension; ``unsigned``: its integers of 32 bits are."""
    head = [
        fits.Card("XTENSION", "IMAGE", "Image extension"),
        fits.Card("BITPIX", bitpix, "array data type"),
        fits.Card("NAXIS", len(shape), "number of array dimensions"),
        *(fits.Card(f"NAXIS{i}", n) for i, n in enumerate(reversed(shape), 1)),
        fits.Card("PCOUNT", 0, "number of parameters"),
        fits.Card("GCOUNT", 1, "number of groups"),
    ]
    if unsigned:
        head += [fits.Card("BSCALE", 1), fits.Card("BZERO", 1 << 31)]
    head += [fits.Card("EXTNAME", name, "extension name"), fits.Card("EXTVER", 1, "extension value")]
    body = fits.Header() if kept is None else kept_cards(kept)
    for keyword, value in cards.items():
        put_card(body, name, keyword.upper(), value)
    return fits.Header([*head, *body.cards])


def header_bytes(header: fits.Header, blocks: int = 0) -> bytes:
    """The header as the file has it, filled with blank cards to at least so many blocks."""
    text = header.tostring(endcard=False, padding=False)
    fill = blocks * BLOCK - len(text) - CARD
    text = text + " " * max(fill, 0) + "END".ljust(CARD)
    return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("ascii")
