"""reset: integrations of the reference by the number in the exposure, its groups from the first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.core.errors import Misconfigured
from upramp.stages.stage1.reset import STEP


def test_later_integrations_take_the_last_plane_and_later_groups_stay(apply):
    # a reference of 2 integrations of 2 groups; 3 integrations of 3 groups
    cube = np.array([[[[1.0, 2.0]], [[3.0, np.nan]]], [[[10.0, 20.0]], [[30.0, 40.0]]]])
    reference = {"SCI": cube, "DQ": np.array([[0, 2]])}
    out = apply(STEP, np.full((3, 3, 1, 2), 100.0), {"reset": reference}, pdq=4)
    assert out.data[:, :, 0].tolist() == [
        [[99, 98], [97, 100], [100, 100]],
        [[90, 80], [70, 60], [100, 100]],
        [[90, 80], [70, 60], [100, 100]],
    ]
    assert out.pdq.tolist() == [[4, 6]]
    assert (out.gdq == 0).all()


@settings(max_examples=40, deadline=None)
@given(
    frames=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    planes=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    start=st.integers(1, 5),
    strip=st.integers(1, 3),
)
def test_every_integration_of_a_segment(through, frames, planes, size, start, strip):
    rng = np.random.default_rng(3)
    data = rng.normal(100, 10, frames + size).astype(np.float32)
    cube = rng.normal(0, 5, planes + size).astype(np.float32)
    cube[rng.random(cube.shape) < 0.1] = np.nan
    flags = rng.choice([0, 1, 16], size).astype(np.uint32)
    out = through(
        [(STEP, {})],
        data,
        {"reset": {"SCI": cube, "DQ": flags}},
        int_start=start,
        options={"threads": 2, "budget_bytes": strip * 2000},
    )
    expected = data.copy()
    for i in range(frames[0]):
        for g in range(min(frames[1], planes[1])):
            expected[i, g] -= np.nan_to_num(cube[min(start - 1 + i, planes[0] - 1), g])
    assert np.array_equal(out.data, expected)
    assert np.array_equal(out.pdq, flags)


@pytest.mark.parametrize("shape", [(1, 2, 3, 4), (2, 2, 4)])
def test_a_reference_of_another_size_is_refused(apply, shape):
    with pytest.raises(Misconfigured, match="never cut"):
        apply(STEP, np.zeros((1, 2, 4, 4)), {"reset": {"SCI": np.zeros(shape)}})
