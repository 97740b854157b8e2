"""keywords.json against the public schemas. Run this file to write it anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TABLE = Path(__file__).resolve().parents[2] / "store" / "keywords.json"
MODELS = [
    "Level1bModel",
    "RampModel",
    "ImageModel",
    "CubeModel",
    "IFUImageModel",
    "GuiderRawModel",
    "GuiderCalModel",
]


def table_from_schemas() -> dict[str, dict[str, str]]:
    from stdatamodels import schema
    from stdatamodels.jwst import datamodels

    table: dict[str, dict[str, str]] = {"PRIMARY": {}, "SCI": {}, "ERR": {}}

    def visit(node, path, combiner, context, recurse):
        if "fits_keyword" in node:
            extension = node.get("fits_hdu", "PRIMARY")
            if extension in table:
                table[extension][node["fits_keyword"]] = ".".join(map(str, path))

    for model in MODELS:
        schema.walk_schema(getattr(datamodels, model)().schema, visit)
    return {extension: dict(sorted(paths.items())) for extension, paths in table.items()}


def test_table_says_what_the_schemas_say():
    pytest.importorskip("stdatamodels")
    table, schemas = json.loads(TABLE.read_text()), table_from_schemas()
    for extension, paths in schemas.items():
        both = paths.keys() & table[extension].keys()
        assert {k: table[extension][k] for k in both} == {k: paths[k] for k in both}
        assert len(both) > 0.98 * len(paths), "many keywords are new: run this file to write the table anew"


if __name__ == "__main__":
    TABLE.write_text(json.dumps(table_from_schemas(), indent=1) + "\n")
