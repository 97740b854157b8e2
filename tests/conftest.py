"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data beside the project; tests that need it are skipped where it is missing."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("UPRAMP_SHARED") or default)
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: set UPRAMP_SHARED to the folder of shared data")
    return folder
