"""A longer time series from a short one."""

from __future__ import annotations

import numpy as np

from upramp.store.uncal import open_uncal


def test_integrations_come_again(make_uncal, tmp_path):
    import exposures

    short = make_uncal(shape=(4, 3, 6, 10))
    long = tmp_path / "jw01234001001_02101_00002_nrcalong_uncal.fits"
    exposures.repeat(short, long, 3)
    a, b = open_uncal(short), open_uncal(long)
    assert (b.meta.nints, b.meta.nints_total, b.meta.int_start, b.meta.int_end) == (12, 12, 1, 12)
    np.testing.assert_array_equal(b.read_all(), np.concatenate([a.read_all()] * 3))
    assert b.int_times["integration_number"].tolist() == list(range(1, 13))
    np.testing.assert_allclose(np.diff(b.int_times["int_mid_MJD_UTC"]), 0.01, rtol=1e-6)
    assert long.stat().st_size % 2880 == 0
