"""The lock that keeps a ledger to one writer."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from upramp.stages.core.errors import Misconfigured

_held: set[int] = set()


def _let_go_in_child() -> None:
    # A forked worker that outlives a killed writer must not go on holding its lock.
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


class WriterLock:
    """An exclusive ``flock`` on a file that holds the writer's process number.

    The system drops it with the process, however that ends.

    Raises
    ------
    Misconfigured
        If another writer holds it; the message names its process number.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # longer than any number that stood there: cutting the file first would cost a wait for the disk
            os.pwrite(descriptor, f"{os.getpid():<20}\n".encode(), 0)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode().strip() or "unknown"
            os.close(descriptor)
            raise Misconfigured(
                f"the ledger {path.parent} is being written by process {holder}; "
                "wait until it ends, stop it, or give another output folder"
            ) from None
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _held.add(descriptor)

    def release(self) -> None:
        """Let the next writer in. Doing it twice is harmless."""
        if self._descriptor in _held:
            _held.discard(self._descriptor)
            os.close(self._descriptor)
        self._descriptor = -1
