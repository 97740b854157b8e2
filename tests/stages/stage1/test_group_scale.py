"""group_scale: the on-board average put right."""

from __future__ import annotations

import numpy as np
import pytest

from upramp.stages.core.errors import Unprocessable
from upramp.stages.stage1.group_scale import STEP, Params, skip_if


def test_five_frames_divided_by_eight(apply):
    counts = np.array([5.0, 10.0, 65535.0], np.float32).reshape(1, 1, 1, 3)
    out = apply(STEP, counts, nframes=5, frame_divisor=8)
    # 8/5 = 1.6 in single precision
    assert out.data.ravel().tolist() == [8.0, 16.0, float(np.float32(65535) * np.float32(1.6))]


@pytest.mark.parametrize(("divisor", "reason"), [(None, "not given"), (4, "equals")])
def test_skipped(describe, divisor, reason):
    meta = describe(np.zeros((1, 1, 1, 1)), nframes=4, frame_divisor=divisor)
    assert reason in skip_if(meta, Params())


def test_applies_when_divisor_differs(describe):
    assert skip_if(describe(np.zeros((1, 1, 1, 1)), nframes=4, frame_divisor=8), Params()) is None


def test_zero_frames_is_an_error_of_the_input(apply):
    with pytest.raises(Unprocessable, match="NFRAMES = 0"):
        apply(STEP, np.zeros((1, 1, 1, 1)), nframes=0, frame_divisor=8)
