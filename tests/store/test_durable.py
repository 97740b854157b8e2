"""Several files made durable at once."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from upramp.store import durable


def test_all_are_asked_for_before_any_is_waited_for(tmp_path, monkeypatch):
    together = threading.Barrier(4, timeout=30)
    done = []

    def fsync(descriptor):
        together.wait()
        done.append(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    durable.sync_paths([tmp_path] * 4)
    assert len(done) == 4


def test_trouble_with_one_is_raised_and_nothing_is_left_open(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no room"):
        patch.setattr(os, "fsync", lambda d: (_ for _ in ()).throw(OSError(28, "no room")))
        durable.sync_paths(paths)
    with pytest.raises(FileNotFoundError):
        durable.sync_paths([*paths, tmp_path / "none"])
    durable.sync_paths(paths)
    durable.sync_paths([])
    assert len(list(Path("/proc/self/fd").iterdir())) == before
