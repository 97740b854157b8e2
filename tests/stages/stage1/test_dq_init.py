"""dq_init: the mask's flags, and those of the user."""

from __future__ import annotations

import numpy as np
import pytest

from upramp.stages.core.errors import Misconfigured
from upramp.stages.stage1.dq_init import STEP


def test_pixel_flags_are_joined_and_only_do_not_use_goes_into_groups(apply):
    mask = np.array([[0, 1, 2, 3, 1 << 31, (1 << 31) | 1]], np.uint32)
    before = np.array([[4, 8, 0, 0, 0, 1 << 9]], np.uint32)
    out = apply(STEP, np.ones((2, 3, 1, 6)), {"mask": {"DQ": mask}}, pdq=before, gdq=4)
    assert out.pdq.tolist() == [[4, 9, 2, 3, 1 << 31, (1 << 31) | (1 << 9) | 1]]
    assert (out.gdq == np.array([4, 5, 4, 5, 4, 5])).all()


def test_do_not_use_of_earlier_pixel_flags_stays_out_of_the_groups(apply):
    out = apply(STEP, np.ones((1, 2, 2, 2)), {"mask": {"DQ": np.zeros((2, 2), int)}}, pdq=1)
    assert not out.gdq.any()


def test_full_frame_mask_is_cut_to_the_subarray(apply, reference):
    rows, columns = np.mgrid[:2048, :2048]
    mask = reference("mask", {"DQ": ((rows % 7) * 8 + columns % 5).astype(np.uint32)}, {"SUBSTRT1": 1})
    out = apply(STEP, np.ones((1, 1, 4, 6)), {"mask": mask}, xstart=11, ystart=2001)
    assert (out.pdq == (rows[2000:2004, 10:16] % 7) * 8 + columns[2000:2004, 10:16] % 5).all()


def test_window_of_some_columns(apply):
    mask = np.arange(24, dtype=np.uint32).reshape(3, 8)
    out = apply(STEP, np.ones((1, 2, 3, 8)), {"mask": {"DQ": mask}}, columns=(2, 7))
    assert (out.pdq == mask[:, 2:7]).all()
    assert (out.gdq == (mask[:, 2:7] & 1)).all()


def test_user_flags_join_the_mask(apply):
    user = np.array([[0, 1], [4, 5]], np.int32)
    refs = {"mask": {"DQ": np.array([[2, 2], [0, 0]])}, "user_supplied_dq": {"PRIMARY": user}}
    out = apply(STEP, np.ones((1, 1, 2, 2)), refs, params={"user_supplied_dq": "mine.fits"})
    assert out.pdq.tolist() == [[2, 3], [4, 5]]
    assert out.gdq[0, 0].tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize("user", [{"PRIMARY": np.zeros((3, 2), int)}, {"SCI": np.zeros((2, 2))}, {}])
def test_user_flags_of_the_wrong_kind_are_refused(apply, user):
    refs = {"mask": {"DQ": np.zeros((2, 2), int)}, "user_supplied_dq": user}
    with pytest.raises(Misconfigured, match="user_supplied_dq"):
        apply(STEP, np.ones((1, 1, 2, 2)), refs, params={"user_supplied_dq": "mine.fits"})
