"""Runs upramp as a user does: the command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from peerkit.scenes import Input

MAIN = "import sys; from upramp.daemon.cli import main; sys.exit(main())"


def run(
    source: Input,
    output: Path,
    assignments: Sequence[str] = (),
    cache: Path | None = None,
    until: str = "stage1",
) -> subprocess.CompletedProcess[str]:
    """``upramp run FILE --output OUTPUT --until STAGE --set ...`` in an empty folder, with the scene's CRDS
    cache.

    ``cache``: upramp's own, with compiled kernels; the scene's unless it is given.
    """
    output.mkdir(parents=True, exist_ok=True)
    words = [word for assignment in assignments for word in ("--set", assignment)]
    command = [sys.executable, "-c", MAIN, "run", str(source.uncal), "--output", str(output)]
    command += ["--until", until, *words]
    cache = cache or source.uncal.parent.with_name("cache")
    environment = os.environ | dict(source.environment) | {"UPRAMP_CACHE": str(cache)}
    return subprocess.run(command, cwd=output, env=environment, capture_output=True, text=True, timeout=600)


def product(output: Path, suffix: str) -> Path:
    """The product with this suffix, wherever below ``output``."""
    [found] = output.rglob(f"*_{suffix}.fits")
    return found
