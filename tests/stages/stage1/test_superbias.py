"""superbias: a fixed image taken off every group."""

from __future__ import annotations

import numpy as np
import pytest

from upramp.stages.core.errors import Misconfigured
from upramp.stages.stage1.superbias import STEP


def test_subtracted_from_every_group_but_not_where_nan(apply):
    bias = np.array([[10.0, np.nan, -5.5]])
    counts = np.arange(1, 13).reshape(2, 2, 1, 3) * 100
    out = apply(STEP, counts, {"superbias": {"SCI": bias, "DQ": np.array([[0, 1, 2]])}}, pdq=4, gdq=64)
    assert (out.data == counts - np.array([10, 0, -5.5])).all()
    assert out.pdq.tolist() == [[4, 5, 6]]
    assert (out.gdq == 64).all()


def test_window_of_some_columns(apply):
    bias = np.arange(24.0).reshape(3, 8)
    out = apply(STEP, np.zeros((1, 2, 3, 8)), {"superbias": {"SCI": bias}}, columns=(3, 8), batch=1)
    assert (out.data == -bias[:, 3:]).all()


def test_reference_that_does_not_cover_the_exposure_is_refused(apply):
    with pytest.raises(Misconfigured, match="does not cover"):
        apply(STEP, np.zeros((1, 1, 4, 4)), {"superbias": {"SCI": np.zeros((3, 3))}})
