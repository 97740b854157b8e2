"""Checksums are computed once and remembered."""

from __future__ import annotations

import hashlib
import os
import threading

import pytest

from upramp.store import checksums
from upramp.store.checksums import Checksums, sha1_of


@pytest.fixture
def counted(monkeypatch):
    calls = []

    def count(path):
        calls.append(path.name)
        return sha1_of(path)

    monkeypatch.setattr(checksums, "sha1_of", count)
    return calls


@pytest.mark.parametrize("size", [0, 1, checksums.CHUNK, checksums.CHUNK + 1])
def test_value(tmp_path, size):
    path = tmp_path / "x"
    path.write_bytes(os.urandom(size))
    assert Checksums().get(path) == hashlib.sha1(path.read_bytes()).hexdigest()


def test_once_across_processes(tmp_path, counted):
    memory = tmp_path / "deep" / "checksums.json"
    path, other = tmp_path / "x", tmp_path / "y"
    path.write_bytes(b"one")
    other.write_bytes(b"two")
    first = Checksums(memory)
    late = Checksums(memory)
    assert first.known(path) is None
    assert first.get(path) == first.get(path) == first.known(path)
    late.get(other)  # does not forget what the other wrote
    again = Checksums(memory)
    assert again.get(path) == first.get(path) and again.known(other)
    assert counted == ["x", "y"]


def test_changed_file(tmp_path, counted):
    path = tmp_path / "x"
    path.write_bytes(b"one")
    sums = Checksums()
    before = sums.get(path)
    path.write_bytes(b"four")
    assert sums.get(path) != before and counted == ["x", "x"]


def test_damaged_memory(tmp_path):
    memory = tmp_path / "checksums.json"
    memory.write_text('{"')
    path = tmp_path / "x"
    path.write_bytes(b"one")
    assert Checksums(memory).get(path) == hashlib.sha1(b"one").hexdigest()
    assert Checksums(memory).known(path)


def test_background(tmp_path, monkeypatch):
    """`start` returns at once; a second one waits for the same computation."""
    go = threading.Event()
    calls = []

    def slow(path):
        calls.append(path)
        assert go.wait(20)
        return "digest"

    monkeypatch.setattr(checksums, "sha1_of", slow)
    path = tmp_path / "x"
    path.write_bytes(b"one")
    sums = Checksums()
    future = sums.start(path)
    assert sums.start(path) is future and not future.done()
    go.set()
    assert sums.get(path) == "digest" and len(calls) == 1
