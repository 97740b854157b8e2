"""Where products are written before they are published, and how leftovers of a killed process go away.

Every job has a hidden folder inside the output folder, so that publishing is a rename
within one file system. The job holds a lock on its folder; the system lets go of it when
the process dies, however it dies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from upramp.stages.core.errors import Retryable
from upramp.store.durable import sync_paths
from upramp.store.fitsio import writing_error
from upramp.store.naming import scratch_root


@dataclass(frozen=True)
class Published:
    """A product that now stands in the output folder; ``shape``, ``dtype``, ``units`` of its main array."""

    path: Path
    kind: str
    bytes: int
    sha256: str | None = None
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    units: str | None = None


class Scratch:
    """The locked scratch folder of one job.

    Parameters
    ----------
    folder : Path
        Made if it is missing, with its parents.

    Raises
    ------
    Retryable
        If another live job holds the folder.
    Misconfigured
        If it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fd = -1
        while self._fd < 0:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # a cleaner took the empty folder between the two calls
            except OSError as error:
                raise writing_error(error, folder) from error
            if not _lock(fd):
                os.close(fd)
                raise Retryable(f"{folder} is in use by another running job; it will be tried again")
            if _is_at(fd, folder):
                self._fd = fd
            else:
                os.close(fd)

    def publish(self, files: Mapping[str, Path], durable: bool = False) -> None:
        """Move finished files of the folder to their places, each at once and as a whole.

        ``files``: name in the folder -> place. ``durable`` waits until their bytes are on the disk, so that
        not even a power cut can leave a product that is not whole.
        """
        target = next(iter(files.values()), self.folder)
        try:
            if durable:
                sync_paths([self.folder / name for name in files])
            for name, target in files.items():
                target.parent.mkdir(parents=True, exist_ok=True)
                source = self.folder / name
                try:
                    source.replace(target)
                except OSError as error:
                    if error.errno != errno.EXDEV:
                        raise
                    _carry(source, target, durable)  # a place that the user named, on another file system
            if durable:
                sync_paths(sorted({target.parent for target in files.values()}))
        except OSError as error:
            raise writing_error(error, target) from error

    def remove(self) -> None:
        """Remove the folder with all in it and give up the lock; a second call does nothing."""
        if self._fd >= 0:
            shutil.rmtree(self.folder, ignore_errors=True)
            os.close(self._fd)
            self._fd = -1
            _remove_if_empty(self.folder.parent)


def clean_scratch(output: Path) -> list[Path]:
    """Remove the scratch folders that no living job holds; returns which.

    Safe at any time, also while other processes write into the same output folder.
    """
    removed: list[Path] = []
    root = scratch_root(output)
    if not root.is_dir():
        return removed
    for folder in sorted(root.iterdir()):
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # gone meanwhile, or not a job's folder
        try:
            if _lock(fd) and _is_at(fd, folder):
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
        finally:
            os.close(fd)
    _remove_if_empty(root)
    return removed


def _lock(fd: int) -> bool:
    """Whether the lock on an open folder is now ours."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks: then nobody can hold one
    return True


def _is_at(fd: int, path: Path) -> bool:
    """Whether the open folder is still the one at this path."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        return False


def _carry(source: Path, target: Path, durable: bool) -> None:
    """Copy a file beside its target on another file system, and rename it there."""
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(source, beside)
        if durable:
            sync_paths([beside])
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # other jobs are at work
