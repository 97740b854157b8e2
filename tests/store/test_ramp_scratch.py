"""Ramps on disk are what ramps in memory are."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.core.errors import Misconfigured, Retryable
from upramp.stages.core.frames import RampStore
from upramp.stages.core.meta import ExposureMeta
from upramp.store import ramp_scratch
from upramp.store.ramp_scratch import DiskRamps


def describe(nints, ngroups, ny, nx):
    return ExposureMeta("NIRCAM", "NRCALONG", "NRC_IMAGE", "SUB", 1, 1, nx, ny, -1, 2, nints, nints, ngroups)


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    size=st.tuples(*(st.integers(1, n) for n in (3, 4, 9, 8))),
    piece=st.sampled_from([1, 100, 1 << 20]),
)
def test_disk_is_as_memory(tmp_path_factory, data, size, piece):
    meta = describe(*size)
    nints, ngroups, ny, nx = size
    rng = np.random.default_rng(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ramp_scratch, "_PIECE", piece)
        disk, memory = DiskRamps(meta, tmp_path_factory.mktemp("scratch")), RampStore.empty(meta)
        for _ in range(data.draw(st.integers(1, 4))):
            x0, y0 = data.draw(st.integers(0, nx - 1)), data.draw(st.integers(0, ny - 1))
            x1, y1 = data.draw(st.integers(x0 + 1, nx)), data.draw(st.integers(y0 + 1, ny))
            i, g = data.draw(st.integers(0, nints - 1)), data.draw(st.integers(0, ngroups - 1))
            shape = (y1 - y0, nints, ngroups, nx)
            ramps, flags = rng.random(shape, "f4"), rng.integers(0, 200, shape, "u1")
            frame, bits = rng.random((ny, nx), "f4"), rng.integers(0, 200, (ny, nx), "u1")
            for store in (disk, memory):
                store.write_rows(ramps[..., x0:x1], flags[..., x0:x1], y0, x0)
                store.write(i, g, frame)
                store.write_flags(i, g, bits)
                store.pdq += np.uint32(1)
            i0 = data.draw(st.integers(0, nints - 1))
            part = (y1 - y0, nints - i0, ngroups, x1 - x0)
            others = rng.integers(0, 200, part, "u1")
            for store in (disk, memory):
                store.write_rows(None, others, y0, x0, i0)
            found = [(np.empty(part, "f4"), np.empty(part, "u1")) for _ in range(2)]
            for store, (a, b) in zip((disk, memory), found, strict=True):
                store.read_rows(a, b, y0, i0, x0)
            assert np.array_equal(found[0][0], found[1][0]) and np.array_equal(found[0][1], found[1][1])
        frames = [(i, g) for i in range(nints) for g in range(ngroups)]
        for i, g in frames:
            assert np.array_equal(disk.read(i, g), memory.read(i, g))
            assert np.array_equal(disk.read_flags(i, g), memory.read_flags(i, g))
        assert np.array_equal(disk.pdq, memory.pdq)
        disk.close()
        disk.close()


@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_frames_may_become_smaller(tmp_path, kind):
    meta = describe(2, 3, 7, 5)
    small = replace(meta, ny=4, nx=3)
    ramps = DiskRamps(meta, tmp_path) if kind == "disk" else RampStore.empty(meta)
    frames = [(i, g) for i in range(2) for g in range(3)]
    for i, g in frames:
        ramps.write(i, g, np.full((7, 5), 10 * i + g, "f4"))
        ramps.write_flags(i, g, np.full((7, 5), 10 * i + g, "u1"))
    ramps.pdq[:] = np.arange(35).reshape(7, 5)
    for i, g in frames:
        ramps.write(i, g, 1 + ramps.read(i, g)[:4, :3])
        ramps.write_flags(i, g, 1 + ramps.read_flags(i, g)[:4, :3])
    ramps.cut(small)
    data, flags = np.empty((2, 2, 3, 3), "f4"), np.empty((2, 2, 3, 3), "u1")
    ramps.read_rows(data, flags, 1)
    assert np.array_equal(data[1, :, :, 2], [[1, 2, 3], [11, 12, 13]])
    assert np.array_equal(flags, data)
    assert np.array_equal(ramps.read(1, 2), np.full((4, 3), 13))
    assert np.array_equal(ramps.pdq, np.arange(35).reshape(7, 5)[:4, :3])


def test_no_more_than_there_is_room_for(tmp_path):
    meta = describe(1, 1, 7, 5)
    ramps = DiskRamps(meta, tmp_path)
    with pytest.raises(ValueError, match="room"):
        ramps.cut(replace(meta, ny=8))
    with pytest.raises(ValueError, match="room"):
        ramps.write(0, 0, np.zeros((8, 5), "f4"))


def test_leaves_no_file(tmp_path):
    ramps = DiskRamps(describe(1, 1, 3, 3), tmp_path)
    ramps.write(0, 0, np.ones((3, 3), "f4"))
    assert list(tmp_path.iterdir()) == []
    assert not ramps.read_flags(0, 0).any()


def test_trouble_with_the_disk_is_told(tmp_path, monkeypatch):
    with pytest.raises(Misconfigured):
        DiskRamps(describe(1, 1, 3, 3), tmp_path / "missing")
    ramps = DiskRamps(describe(1, 1, 3, 3), tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(Retryable):
        ramps.write(0, 0, np.ones((3, 3), "f4"))
