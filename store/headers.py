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

from upramp.store.asdf_tree import keyword_paths
from upramp.store.cards import CARD, Cards, blank, new_card
from upramp.store.fitsio import BLOCK

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


class _Branches:
    """Where the last card of every branch of the metadata tree stands in a header."""

    def __init__(self, cards: Cards, paths: Mapping[str, str]) -> None:
        self._last: dict[str, int] = {}
        for index, keyword in enumerate(cards):
            if keyword in paths:
                self._note(paths[keyword], index)

    def _note(self, path: str, index: int) -> None:
        branch = path.rpartition(".")[0]
        while branch:
            # of what hangs on the tree's top, only leaves are relatives
            if branch != "meta" or path.count(".") == 1:
                self._last[branch] = max(index, self._last.get(branch, 0))
            branch = branch.rpartition(".")[0]

    def position(self, path: str) -> int | None:
        """Where a new card belongs: behind the last one of its branch; None if it has no relatives."""
        branch = path.rpartition(".")[0]
        if "ref_file" in path or "cal_step" in path:
            branch = ".".join(path.split(".")[:2])  # one section each, however deep
        return self._last[branch] + 1 if branch in self._last else None

    def inserted(self, path: str, where: int) -> None:
        """A card of this path stands there now; those behind it moved."""
        self._last = {branch: last + (last >= where) for branch, last in self._last.items()}
        if path:
            self._note(path, where)


def put_cards(cards: Cards, extension: str, values: Mapping[str, Any]) -> Cards:
    """A header with keywords set: in place if they are there, else beside their relatives.

    What FITS cannot hold (None, NaN) removes the keyword.
    """
    plain = {keyword.upper(): _plain(value) for keyword, value in values.items()}
    cards = cards.without({keyword for keyword, value in plain.items() if value is None})
    paths = keyword_paths().get(extension, {})
    branches = _Branches(cards, paths)
    for keyword, value in plain.items():
        if value is None:
            continue
        if keyword in cards:
            cards.replace(new_card(keyword, value, _fitting(value, cards.comment(keyword))))
            continue
        path = paths.get(keyword, "")
        card = new_card(keyword, value, _fitting(value, _comment(keyword, path)))
        where = branches.position(path) if path else None
        if where is None:
            section = next((title for branch, title in _SECTIONS.items() if f".{branch}." in path), None)
            for title in ("", section, "") if section else ():
                cards.insert(len(cards), blank(title))
            where = len(cards)
        cards.insert(where, card)
        branches.inserted(path, where)
    return cards


def kept_cards(header: Cards) -> Cards:
    """A copy without the cards that describe the input's own layout."""
    return header.without(_STRUCTURE)


def primary_header(start: Cards, filename: str, model: str, cards: Mapping[str, Any]) -> Cards:
    """The primary header of a product.

    Parameters
    ----------
    start : Cards
        Primary header of the input.
    filename, model : str
        FILENAME and DATAMODL.
    cards : mapping
        What calibration adds or changes: keyword -> value.
    """
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    fixed = {"DATE": now, "FILENAME": filename, "DATAMODL": model, "TELESCOP": "JWST", "CAL_VER": software()}
    header = put_cards(kept_cards(start), "PRIMARY", {**fixed, **cards})
    head = [
        new_card("SIMPLE", True, "conforms to FITS standard"),
        new_card("BITPIX", 8, "array data type"),
        new_card("NAXIS", 0, "number of array dimensions"),
        new_card("EXTEND", True),
    ]
    return Cards([*head, *header.cards])


def image_header(
    name: str,
    bitpix: int,
    shape: tuple[int, ...],
    kept: Cards | None,
    cards: Mapping[str, Any],
    unsigned: bool = False,
) -> Cards:
    """The header of an image extension; ``unsigned``: its integers of 32 bits are."""
    head = [
        new_card("XTENSION", "IMAGE", "Image extension"),
        new_card("BITPIX", bitpix, "array data type"),
        new_card("NAXIS", len(shape), "number of array dimensions"),
        *(new_card(f"NAXIS{i}", n) for i, n in enumerate(reversed(shape), 1)),
        new_card("PCOUNT", 0, "number of parameters"),
        new_card("GCOUNT", 1, "number of groups"),
    ]
    if unsigned:
        head += [new_card("BSCALE", 1), new_card("BZERO", 1 << 31)]
    head += [new_card("EXTNAME", name, "extension name"), new_card("EXTVER", 1, "extension value")]
    body = put_cards(Cards() if kept is None else kept_cards(kept), name, cards)
    return Cards([*head, *body.cards])


def header_bytes(header: Cards, blocks: int = 0) -> bytes:
    """The header as the file has it, filled with blank cards to at least so many blocks."""
    text = header.text()
    fill = blocks * BLOCK - len(text) - CARD
    text = text + " " * max(fill, 0) + "END".ljust(CARD)
    return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("ascii")
