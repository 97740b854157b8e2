"""Plain YAML: a reader gets back what was written, and what is not plain is refused."""

from __future__ import annotations

import datetime
import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.store.plain_yaml import NotPlain, plain_yaml

TEXTS = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12),
    st.sampled_from(
        ["yes", "No", "ON", "null", "~", "1e5", "0x1F", "1:30", ".5", "2024-03-01", "", "- a", "a: b"]
    ),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXTS)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(TEXTS, TREES, max_size=5))
def test_it_is_read_back_as_it_was(tree):
    assert yaml.safe_load(plain_yaml(tree)) == tree


def test_how_it_looks():
    tree = {"meta": {"filename": "a_rate.fits", "wcs": {}, "x": [1, {"b": 1e-20}], "on": True, "t": "12:00"}}
    assert plain_yaml(tree) == (
        'meta:\n  filename: a_rate.fits\n  wcs: {}\n  x: [1, {b: 1.0e-20}]\n  "on": true\n  t: "12:00"\n'
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, 5e-324, 1e16, -0.0])
def test_odd_numbers(value):
    found = yaml.safe_load(plain_yaml({"a": value}))["a"]
    assert isinstance(found, float)
    assert found == value or math.isnan(value)


@pytest.mark.parametrize("value", ["\u00e9", "a\nb", "\x7f", datetime.date(2024, 3, 1), object(), b"x"])
def test_what_is_not_plain_is_refused(value):
    with pytest.raises(NotPlain):
        plain_yaml({"a": [value]})
