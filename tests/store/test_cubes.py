from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upramp.stages.core.extras import MemoryCube
from upramp.store.cubes import DiskCube


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rows_on_disk_are_those_in_memory(tmp_path, data):
    leading = data.draw(st.lists(st.integers(1, 4), max_size=2))
    shape = (*leading, data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6)))
    disk, memory = DiskCube(shape, tmp_path), MemoryCube(shape)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    for _ in range(3):
        first = data.draw(st.integers(0, leading[0] - 1)) if leading else 0
        kept = [data.draw(st.integers(1, n - (first if k == 0 else 0))) for k, n in enumerate(leading)]
        y0, x0 = (data.draw(st.integers(0, n - 1)) for n in shape[-2:])
        rows, columns = data.draw(st.integers(1, shape[-2] - y0)), data.draw(st.integers(1, shape[-1] - x0))
        values = rng.normal(size=(rows, *kept, columns)).astype(np.float32)
        for cube in (disk, memory):
            cube.write_rows(y0, x0, values, first=first)
    for index in np.ndindex(*leading):
        np.testing.assert_array_equal(disk.read(*index), memory.read(*index))


def test_frames_beyond_a_cube_are_refused(tmp_path):
    cube = DiskCube((2, 3, 4), tmp_path)
    with pytest.raises(IndexError, match="no frame"):
        cube.write_rows(0, 0, np.zeros((3, 1, 4), np.float32), first=2)
