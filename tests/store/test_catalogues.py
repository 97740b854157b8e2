"""Catalogues through files and back, by astropy's reader."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import QTable

from upramp.stages.core.errors import Misconfigured, Retryable
from upramp.stages.stage3.source_columns import Column
from upramp.store.catalogues import write_catalogue

COLUMNS = [
    Column("label", np.array([1, 2], np.int32), text="number"),
    Column("sky_centroid", np.array([[359.9, -69.5], [0.1, -69.4]]), text="place"),
    Column("flux", np.array([1.23456789012345e-7, np.nan]), "Jy", ".6e", "how bright"),
    Column("is_extended", np.array([True, False])),
]
META = {"aperture_params": {"aperture_radii": [1.0, 2.5], "inner": 8.0}, "abvega_offset": 3.25}


def test_what_was_written_is_read(tmp_path):
    target = tmp_path / "out" / "mosaic_cat.ecsv"
    published = write_catalogue(tmp_path / "scratch", target, COLUMNS, META)
    assert (published.path, published.kind, published.bytes) == (target, "cat", target.stat().st_size)
    assert published.shape == (2,)
    table = QTable.read(target)
    assert table.colnames == [c.name for c in COLUMNS]
    assert table["label"].dtype == np.int32
    np.testing.assert_array_equal(table["flux"].value, COLUMNS[2].values)
    assert (table["flux"].unit, table["flux"].info.format) == ("Jy", ".6e")
    assert table["flux"].info.description == "how bright"
    assert table["sky_centroid"].frame.name == "icrs"
    np.testing.assert_allclose(table["sky_centroid"].ra.deg, [359.9, 0.1], rtol=0, atol=1e-12)
    assert table["is_extended"].tolist() == [True, False]
    assert table.meta["aperture_params"] == META["aperture_params"]
    assert table.meta["version"]["photutils"]
    assert not (tmp_path / "scratch").exists()


def test_a_newer_one_takes_its_place(tmp_path):
    target = tmp_path / "mosaic_cat.ecsv"
    for n in (2, 1):
        columns = [Column(c.name, c.values[:n], c.unit) for c in COLUMNS]
        write_catalogue(tmp_path / "scratch", target, columns, META, durable=True)
    assert len(QTable.read(target)) == 1


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((Misconfigured, Retryable), match=r"mosaic_cat\.ecsv"):
        write_catalogue(tmp_path / "scratch", tmp_path / "file" / "mosaic_cat.ecsv", COLUMNS, META)
    assert not (tmp_path / "scratch").exists()
