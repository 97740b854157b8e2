"""Cards of headers: what astropy reads is read, what it writes is written."""

from __future__ import annotations

import re
import warnings

import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.store import cards
from upramp.store.cards import CARD, Cards, blank, new_card, parse_cards

TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=70)
NUMBERS = st.one_of(st.integers(-(10**15), 10**15), st.floats(allow_nan=False, allow_infinity=False))
VALUES = st.one_of(st.booleans(), NUMBERS, TEXTS.map(str.rstrip))

pytestmark = pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")


def header(*images: str) -> str:
    return "".join(image.ljust(CARD) for image in (*images, "END"))


def theirs(image: str) -> tuple | None:
    card = fits.Card.fromstring(image.ljust(CARD))
    try:
        return card.keyword, card.value, card.comment
    except (fits.VerifyError, ValueError):
        return None


@pytest.mark.parametrize(
    "image",
    [
        "KEY     =                    5 / a comment",
        "KEY     =                  -05 /a comment / and more",
        "KEY     =                    T",
        "KEY     =                    F / no /",
        "KEY     =                 1.5D3 / old",
        "KEY     =                  .5",
        "KEY     =                  5. / point",
        "KEY     =                1E-20",
        "KEY     = 'a  b   '           /  two spaces",
        "KEY     = 'it''s  '",
        "KEY     = '  led  '",
        "KEY     = ''",
        "KEY     = '' / nothing",
        "KEY     = 'a' / b 'c'",
        "KEY     = 'EXTVER: 5.0'",
        "KEY     = 'a: b'",
        "KEY     =                      / undefined",
        "KEY     = (1, 2)",
        "KEY = 'free'",
        "KEY     ='close'",
        "KEY     = 'unclosed",
        "KEY     = 1 2",
        "KEY     = NaN",
        "HIERARCH ESO DET X = 5 / long keyword",
        "DATE-OBS= '2024-03-01'",
        "COMMENT any = 'thing' / at all  ",
        "HISTORY = 5",
        "        a title",
    ],
)
def test_cards_are_read_as_astropy_reads_them(image):
    found, bad = parse_cards(header(image))
    expected = theirs(image)
    if expected is None:
        assert bad == {"KEY": image} and len(found) == 0
        return
    (card,) = found.cards
    assert (card.keyword, card.comment) == (expected[0], expected[2])
    assert card.value == expected[1] or isinstance(card.value, fits.card.Undefined)
    assert type(card.value) is type(expected[1])
    assert len(card.image) == CARD and not bad


@settings(max_examples=300, deadline=None)
@given(st.text("KEY= '/:.+-0123456789TFED()&\t~ab", max_size=72))
def test_whatever_is_taken_apart_here_means_the_same_to_astropy(tail):
    for image in (f"KEY     = {tail}", f"KEY     {tail}", tail):
        card = cards._read(image.ljust(CARD)[:CARD])
        if card is not None and not re.search(r"'' */", image):  # where astropy takes a quote for the end
            assert theirs(image[:CARD]) == (card.keyword, card.value, card.comment)


def test_a_quote_before_a_slash_does_not_end_a_text():
    """The FITS standard (4.0, 4.2.1): a quote within a text is two, whatever follows."""
    for text in ("'/", "a'/", "'/ b"):
        found, _ = parse_cards(header(str(fits.Card("KEY", text))))
        assert found["KEY"] == text


@settings(max_examples=200, deadline=None)
@given(VALUES, TEXTS.map(str.strip))
def test_new_cards_are_those_of_astropy(value, comment):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        card = new_card("KEYWORD", value, comment)
        assert card.image == str(fits.Card("KEYWORD", value, comment))
        assert len(card.image) % CARD == 0
        again, bad = parse_cards(header(card.image))
    assert not bad
    if not isinstance(value, str):
        assert again["KEYWORD"] == fits.Card.fromstring(card.image).value
    elif ": " not in value:  # astropy itself does not read back all texts with quotes, such as '/
        assert again["KEYWORD"] == value.rstrip()


def test_long_texts_go_over_several_cards():
    long = "word " * 40 + "end"
    text = str(fits.Card("LONG", long, "about it")) + "NEXT    =                    1".ljust(CARD)
    found, bad = parse_cards(header(*(text[i : i + CARD] for i in range(0, len(text), CARD))))
    assert (found["LONG"], found["NEXT"], bad) == (long, 1, {})
    assert found.text() == text
    assert new_card("LONG", long).image == str(fits.Card("LONG", long))


def test_what_is_no_fits_is_left_out_and_told():
    found, bad = parse_cards(header("A       =                    1", "B       = 'unclosed", "B       =  2"))
    assert list(found) == ["A"]
    assert bad == {"B": "B       = 'unclosed"}


def test_a_header_is_changed_in_place():
    whole = Cards([new_card("A", 1), blank(), new_card("B", 2, "two"), new_card("A", 3), new_card("C", "x")])
    assert (whole["A"], whole.get("Z", 7), "B" in whole, "Z" in whole, len(whole)) == (1, 7, True, False, 5)
    assert whole.comment("B") == "two"
    whole.replace(new_card("B", "text", "two"))
    whole.insert(1, new_card("D", True))
    assert list(whole) == ["A", "D", "", "B", "A", "C"]
    assert whole["B"] == "text" and whole["D"] is True
    assert list(whole.without({"A", ""})) == ["D", "B", "C"]
    assert fits.Header.fromstring(whole.text()).tostring(endcard=False, padding=False) == whole.text()


def test_room_at_the_end_is_no_part_of_the_header():
    found, _ = parse_cards(header("A       =                    1", "", "        title", "", ""))
    assert [card.value for card in found.cards] == [1, "", "title"]
