"""Tables: what astropy reads back is what was put in, with the formats of the keywords' types."""

from __future__ import annotations

import numpy as np
from astropy.io import fits

from upramp.store.fitsio import BLOCK
from upramp.store.tables import structured, table


def test_columns_of_all_types():
    columns = {
        "NAME": np.array(["a", "longer"], "S6"),
        "GOOD": np.array([True, False]),
        "COUNT": np.array([1, -2]),
        "VALUE": np.array([0.5, np.nan]),
    }
    content = table(structured(columns), "HDRTAB")
    assert len(content) % BLOCK == 0
    hdu = fits.BinTableHDU.fromstring(content)
    assert hdu.name == "HDRTAB" and hdu.ver == 1
    assert [c.name for c in hdu.columns] == list(columns)
    assert [c.format for c in hdu.columns] == ["6A", "L", "K", "D"]
    assert list(hdu.data["NAME"]) == ["a", "longer"] and list(hdu.data["GOOD"]) == [True, False]
    np.testing.assert_array_equal(hdu.data["COUNT"], columns["COUNT"])
    np.testing.assert_array_equal(hdu.data["VALUE"], columns["VALUE"])
