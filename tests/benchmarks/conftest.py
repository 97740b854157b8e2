"""The benchmarks are programs in a folder of their own, which their modules import each other from."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    """Find the benchmarks' modules."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
