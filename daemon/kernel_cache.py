"""Where compiled kernels are kept, and that one process at a time puts them there.

numba keeps machine code in __pycache__ beside the code, or where NUMBA_CACHE_DIR says when numba is
imported. So this module imports nothing that imports numba.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from upramp.stages.core.errors import Misconfigured

VARIABLE = "NUMBA_CACHE_DIR"
LOCK = "upramp-kernels.lock"


def place(folder: Path) -> None:
    """Have kernels kept in ``folder`` if they cannot be kept beside the code.

    To be called before numba is imported. A choice by NUMBA_CACHE_DIR stays; worker processes inherit it.

    Raises
    ------
    Misconfigured
        If neither place can be written.
    """
    if os.environ.get(VARIABLE) or beside_the_code():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            os.environ[VARIABLE] = str(folder)
    except OSError as error:
        raise _nowhere(f"neither beside the code nor in {folder}", error) from error


def beside_the_code() -> bool:
    """Whether kernels can be kept beside the code."""
    folders = [folder for code in _code() for folder in (code, *code.rglob("*")) if folder.is_dir()]
    return all(os.access(folder, os.W_OK | os.X_OK) for folder in folders)


def _code() -> list[Path]:
    """Folders of modules with kernels."""
    import upramp.stages
    import upramp.store

    return [Path(next(iter(package.__path__))) for package in (upramp.stages, upramp.store)]


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let one process compile at a time; the others wait, and then find everything done.

    Two that compile into one folder could take each other's files for their own.

    Raises
    ------
    Misconfigured
        If the folder of the kernels cannot be written.
    """
    given = os.environ.get(VARIABLE)
    folder = Path(given) if given else _code()[0] / "__pycache__"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise _nowhere(f"not in {folder}", error) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _nowhere(where: str, error: OSError) -> Misconfigured:
    return Misconfigured(
        f"compiled kernels can be kept {where} ({error.strerror}); "
        f"set {VARIABLE} to a folder that can be written"
    )
