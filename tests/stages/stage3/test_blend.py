"""Headers merged: every rule by hand, missing values, and the table; rules and columns as the schemas say."""

from __future__ import annotations

import numpy as np
import pytest

from upramp.stages.stage3.blend import COLUMNS, INSIDE, MULTIPLE, OUTSIDE, RULES, blend, common

ONE = {
    "FILENAME": "one.fits",
    "DATE-OBS": "2024-03-02",
    "TIME-OBS": "01:15:00.000",
    "DATE-BEG": "2024-03-02T01:15:00.000",
    "DATE-END": "2024-03-02T01:25:00.000",
    "DETECTOR": "NRCA1",
    "FILTER": "F200W",
    "FWPOSTOL": INSIDE,
    "FWPOSOFF": 1.0,
    "EXPSTART": 60370.2,
    "EXPMID": 1.0,
    "EXPEND": 3.0,
    "EXSEGNUM": 2,
    "INTSTART": 3,
    "INTEND": 5,
    "EFFEXPTM": 10.0,
    "XPOSURE": 10.0,
    "MJD-AVG": 4.0,
    "ZEROFRAM": True,
}
TWO = ONE | {
    "FILENAME": "second.fits",
    "DATE-OBS": "2024-03-01",
    "TIME-OBS": "00:15:00.000",
    "DATE-END": "2024-03-02T02:25:00.000",
    "FILTER": "F444W",
    "FWPOSTOL": OUTSIDE,
    "FWPOSOFF": 3.0,
    "EXPSTART": 60370.1,
    "EXPMID": 2.0,
    "EXPEND": 4.0,
    "EXSEGNUM": 1,
    "INTSTART": 2,
    "INTEND": 6,
    "EFFEXPTM": 20.5,
    "XPOSURE": 20.5,
    "MJD-AVG": 8.0,
    "ZEROFRAM": False,
}


def test_every_rule():
    found = blend([ONE, TWO])
    assert found.primary == {
        "DATE-OBS": "2024-03-01",
        "TIME-OBS": "00:15:00.000",
        "DATE-BEG": "2024-03-02T01:15:00.000",
        "DATE-END": "2024-03-02T02:25:00.000",
        "DETECTOR": "NRCA1",
        "FILTER": MULTIPLE,
        "FWPOSOFF": 3.0,
        "FWPOSTOL": OUTSIDE,
        "EXPSTART": 60370.1,
        "EXPMID": 1.5,
        "EXPEND": 4.0,
        "EXSEGNUM": 2,
        "INTSTART": 2,
        "INTEND": 6,
        "EFFEXPTM": 30.5,
    }
    assert found.sci == {"MJD-AVG": 6.0, "XPOSURE": 30.5}
    assert blend([ONE, ONE]).primary["FWPOSTOL"] == INSIDE


def test_the_table_has_what_any_member_has_in_order():
    table = blend([ONE, TWO]).table
    assert list(table) == [k for k in COLUMNS if k in ONE]
    assert table["FILENAME"].dtype == "S11" and list(table["FILENAME"]) == [b"one.fits", b"second.fits"]
    assert table["ZEROFRAM"].dtype == bool and table["INTEND"].dtype == np.int64
    assert table["EXPMID"].dtype == np.float64 and list(table["EXPMID"]) == [1.0, 2.0]


def test_missing_values_do_not_count_and_are_nan_in_the_table():
    some = {"DETECTOR": "NRCA1", "EXPMID": None, "EXPEND": 3.0, "NINTS": 1, "ZEROFRAM": True, "PI_NAME": ""}
    others = {"EXPMID": 2.0, "BAND": "x" * 40}
    found = blend([some, others])
    assert found.primary == {"DETECTOR": "NRCA1", "EXPMID": 2.0, "EXPEND": 3.0, "BAND": "x" * 40}
    assert list(found.table["DETECTOR"]) == [b"NRCA1", b"nan"] and found.table["DETECTOR"].dtype == "S32"
    assert found.table["BAND"].dtype == "S40"
    for name, values in (("EXPMID", [np.nan, 2]), ("NINTS", [1, np.nan]), ("ZEROFRAM", [1, np.nan])):
        assert found.table[name].dtype == np.float64
        np.testing.assert_array_equal(found.table[name], values)
    assert blend([{}, {"PI_NAME": None}]).table == {}


def test_numbers_whole_and_broken_make_a_column_of_floats():
    assert blend([{"TSAMPLE": 10}, {"TSAMPLE": 10.5}]).table["TSAMPLE"].dtype == np.float64
    assert common([1, 1.0]) == 1


def test_rules_and_columns_are_those_of_the_schemas():
    schema = pytest.importorskip("stdatamodels.schema")
    from stdatamodels.jwst.datamodels import ImageModel

    rules: dict[str, dict[str, str]] = {"PRIMARY": {}, "SCI": {}}
    columns = []

    def visit(node, path, combiner, context, recurse):
        if "fits_keyword" in node and node.get("blend_rule"):
            rules[node.get("fits_hdu", "PRIMARY")][node["fits_keyword"]] = node["blend_rule"]
        if "fits_keyword" in node and node.get("blend_table"):
            columns.append(node["fits_keyword"])

    schema.walk_schema(ImageModel().schema, visit)
    names = {"multi": "common", "wheeltol": "tolerance"}
    names |= {f"{way}{what}": way for way in ("min", "max") for what in ("date", "time", "datetime")}
    plain = {ext: {k: names.get(rule, rule) for k, rule in found.items()} for ext, found in rules.items()}
    assert plain == {ext: {k: rule.__name__ for k, rule in found.items()} for ext, found in RULES.items()}
    assert list(COLUMNS) == columns
