"""Headers of FITS files as cards of text, read and written without touching those that stay as they are.

Cards in the standard's fixed format, nearly all there are, are taken apart and written here; astropy sees to
the others (long strings, free format, HIERARCH). It does all of it well, but takes milliseconds a header.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from astropy.io import fits

CARD = 80

_FIXED = re.compile(
    r"([A-Z0-9_-]{1,8}) *= +"
    r"(?:'((?:[^']|'')*)'|([TF])|([+-]?\d+)|([+-]?(?:\d+\.\d*|\.\d+)(?:[ED][+-]?\d+)?))"
    r" *(?:/ *(.*))?"
)
_FREE = ("COMMENT ", "HISTORY ", " " * 8)
_ODD = re.compile(r"[^ -~]")


@dataclass(slots=True)
class Card:
    """One keyword; ``image`` is its text in the file, 80 characters, or several times as many."""

    keyword: str
    value: Any
    comment: str
    image: str


def _read(image: str) -> Card | None:
    """A card of fixed format, None for others."""
    if image[:8] in _FREE and not _ODD.search(image):
        return Card(image[:8].rstrip(), image[8:].rstrip(), "", image)
    match = None if image[8:10] != "= " or _ODD.search(image) else _FIXED.fullmatch(image)
    if match is None:
        return None
    keyword, text, truth, whole, real, comment = match.groups()
    value: Any
    if text is not None:
        if ": " in text:  # may be one of the cards that hold several values
            return None
        value = text.replace("''", "'").rstrip()
    elif truth:
        value = truth == "T"
    elif whole:
        value = int(whole)
    else:
        value = float(real.replace("D", "E"))
    return Card(keyword, value, (comment or "").rstrip(), image)


def _read_odd(image: str) -> Card:
    """Any card, by astropy.

    Raises
    ------
    fits.VerifyError, ValueError
        If it is not valid FITS.
    """
    card = fits.Card.fromstring(image)
    return Card(card.keyword, card.value, card.comment, str(card))


def new_card(keyword: str, value: Any, comment: str = "") -> Card:
    """A card that no file has yet; ``value`` is a truth value, a number or a text."""
    shown = ""
    if isinstance(value, bool):
        shown = f"{'T' if value else 'F':>20}"
    elif isinstance(value, int):
        shown = f"{value:>20d}"
    elif isinstance(value, str) and not _ODD.search(value):
        quoted = value.replace("'", "''")
        shown = f"'{quoted:8}'".ljust(20) if value else "''"
    image = f"{keyword:8}= {shown}{f' / {comment}' if comment else ''}"
    if not shown or not keyword or len(keyword) > 8 or len(image) > CARD or _ODD.search(comment):
        image = str(fits.Card(keyword, value, comment))
    return Card(keyword, value, comment, image.ljust(CARD))


def blank(text: str = "") -> Card:
    """A line without a keyword, for titles of sections."""
    return Card("", text, "", f"{'':8}{text}".ljust(CARD))


class Cards:
    """A header: cards in their order, found by keyword (the first of each)."""

    def __init__(self, cards: Iterable[Card] = ()) -> None:
        self.cards = list(cards)
        self._first: dict[str, Card] = {}
        for card in self.cards:
            self._first.setdefault(card.keyword, card)

    def __contains__(self, keyword: object) -> bool:
        return keyword in self._first

    def __getitem__(self, keyword: str) -> Any:
        return self._first[keyword].value

    def __iter__(self) -> Iterator[str]:
        return (card.keyword for card in self.cards)

    def __len__(self) -> int:
        return len(self.cards)

    def get(self, keyword: str, default: Any = None) -> Any:
        """The value of a keyword, or the default."""
        card = self._first.get(keyword)
        return default if card is None else card.value

    def comment(self, keyword: str) -> str:
        """The comment of a keyword that is there."""
        return self._first[keyword].comment

    def without(self, keywords: Collection[str]) -> Cards:
        """A copy without these keywords."""
        return Cards(card for card in self.cards if card.keyword not in keywords)

    def replace(self, card: Card) -> None:
        """Put a card in the place of the first one of its keyword."""
        self.cards[self.cards.index(self._first[card.keyword])] = card
        self._first[card.keyword] = card

    def insert(self, where: int, card: Card) -> None:
        """Put a card of a new keyword before the one at this place."""
        self.cards.insert(where, card)
        self._first.setdefault(card.keyword, card)

    def text(self) -> str:
        """The header as it stands in a file, without END and padding."""
        return "".join(card.image for card in self.cards)


def parse_cards(text: str) -> tuple[Cards, dict[str, str]]:
    """The cards of a header, and those (keyword: text) that are not valid FITS, left out.

    ``text`` is ASCII, whole blocks, with END.
    """
    images = [text[i : i + CARD] for i in range(0, len(text), CARD)]
    end = next((i for i, image in enumerate(images) if image.rstrip() == "END"), len(images))
    while end and not images[end - 1].strip():  # room that was left at the end
        end -= 1
    found: list[Card] = []
    bad: dict[str, str] = {}
    i = 0
    while i < end:
        last = i + 1
        while last < end and images[last].startswith("CONTINUE") and not images[i].startswith(_FREE):
            last += 1
        image = "".join(images[i:last])
        card = _read(image) if last == i + 1 else None
        if card is None:
            try:
                card = _read_odd(image)
            except (fits.VerifyError, ValueError):
                bad[image[:8].rstrip()] = image[:CARD].strip()
        if card is not None:
            found.append(card)
        i = last
    return Cards(card for card in found if card.keyword not in bad), bad
