"""firstframe: the first group goes, except where bright pixels need it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from upramp.stages.stage1.firstframe import STEP, Params

DNU, SATURATED, FLUX_ESTIMATED = 1, 2, 1 << 28


def test_the_first_group_of_every_integration_goes(apply):
    out = apply(STEP, np.zeros((2, 4, 1, 3)), gdq=8)
    assert (out.gdq[:, 0] == 8 | DNU).all()
    assert (out.gdq[:, 1:] == 8).all()
    assert (out.data == 0).all()
    assert (out.pdq == 0).all()
    assert out.shared["ends"].tolist() == [[1, 4], [1, 4]]


@pytest.mark.parametrize("batch", [1, 5])
def test_bright_pixels_keep_it_in_the_integration_where_they_are_bright(apply, batch):
    gdq = np.zeros((2, 5, 5, 4), np.uint8)
    gdq[0, 2:, 3, 1] = SATURATED  # in the third group
    gdq[:, 1:, 0, 2] = SATURATED  # before: the third is saturated too
    gdq[:, 3:, 4, 3] = SATURATED  # too late to matter
    out = apply(STEP, np.zeros(gdq.shape), gdq=gdq, batch=batch)
    kept = np.zeros((2, 5, 4), bool)
    kept[0, 3, 1] = kept[:, 0, 2] = True
    assert np.array_equal(out.gdq[:, 0], np.where(kept, 0, DNU))
    assert np.array_equal(out.gdq[:, 1:], gdq[:, 1:])
    assert np.array_equal(out.pdq, np.where(kept.any(axis=0), FLUX_ESTIMATED, 0))
    every = apply(STEP, np.zeros(gdq.shape), gdq=gdq, params={"bright_use_group1": False})
    assert (every.gdq[:, 0] == DNU).all()
    assert (every.pdq == 0).all()


def test_not_with_three_groups():
    assert STEP.skip_if(SimpleNamespace(ngroups=3), Params(skip=False)) is not None
    assert STEP.skip_if(SimpleNamespace(ngroups=4), Params(skip=False)) is None
