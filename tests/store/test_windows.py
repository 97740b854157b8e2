"""Windows of persistence on disk: as they were, whole, under names that tell their content."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from upramp.stages.core.errors import Misconfigured, Retryable
from upramp.stages.stage1.persistence_windows import Windows
from upramp.store import windows

T = 1.7e9 + 0.1


def some(*ends):
    n = len(ends)
    return Windows(np.arange(n, dtype=np.int32), np.arange(n, dtype=np.int32) * 3, np.array(ends, float))


def test_they_come_back_as_they_went_in(tmp_path):
    path, digest = windows.write(tmp_path, "NRCA1", "jw1_nrca1", some(T, np.nextafter(T, 0), 1e300))
    assert path == tmp_path / "windows" / "nrca1" / f"jw1_nrca1-{digest[:16]}.parquet"
    found = windows.read(path, digest)
    assert found.ends.tolist() == [T, np.nextafter(T, 0), 1e300]
    assert (found.rows.tolist(), found.columns.tolist()) == ([0, 1, 2], [0, 3, 6])
    assert pq.read_table(path).column_names == ["row", "column", "end_s"]


def test_the_same_windows_are_the_same_file(tmp_path):
    path, digest = windows.write(tmp_path, "NIS", "a", some(T))
    before = path.stat().st_mtime_ns
    assert windows.write(tmp_path, "NIS", "a", some(T)) == (path, digest)
    assert path.stat().st_mtime_ns == before
    assert windows.write(tmp_path, "NIS", "a", some(T + 1))[0] != path
    assert len(list(path.parent.iterdir())) == 2


def test_damage_is_seen(tmp_path):
    path, digest = windows.write(tmp_path, "NIS", "a", some(T))
    for content in (b"", path.read_bytes()[:-9], b"x" * 500):
        path.write_bytes(content)
        with pytest.raises(Misconfigured, match="remove it"):
            windows.read(path, digest)
    other, _ = windows.write(tmp_path, "NIS", "a", some(T + 1))
    with pytest.raises(Misconfigured, match="remove it"):
        windows.read(other, digest)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        windows.read(path, digest)


def test_a_disk_that_refuses_is_passing_trouble_and_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Retryable, match="is the disk full"):
        windows.write(tmp_path, "NIS", "a", some(T))
    assert not list(tmp_path.rglob("a-*.parquet"))
