"""lastframe: the last group goes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from upramp.stages.stage1.lastframe import STEP, Params


def test_the_last_group_of_every_integration_goes(apply):
    gdq = np.zeros((2, 3, 2, 2), np.uint8)
    gdq[:, 1] = 4
    out = apply(STEP, np.ones(gdq.shape), gdq=gdq)
    assert np.array_equal(out.gdq[:, :2], gdq[:, :2])
    assert (out.gdq[:, 2] == 1).all()
    assert (out.data == 1).all()
    assert (out.pdq == 0).all()
    assert out.shared["ends"].tolist() == [[0, 2], [0, 2]]


def test_not_with_two_groups():
    assert STEP.skip_if(SimpleNamespace(ngroups=2), Params()) is not None
    assert STEP.skip_if(SimpleNamespace(ngroups=3), Params()) is None
