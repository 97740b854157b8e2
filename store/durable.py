"""Files that last: several made durable at once.

A file system puts what is asked for at the same time into one commit of its journal. One after the other,
each call waits for a commit of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path


def sync(descriptors: Sequence[int]) -> None:
    """Wait until what open files or folders hold is on the disk; all are asked for at once.

    Raises
    ------
    OSError
        If the disk refuses one of them.
    """
    trouble: list[BaseException] = []

    def one(descriptor: int) -> None:
        try:
            os.fsync(descriptor)
        except BaseException as error:  # raised below, in the caller's thread
            trouble.append(error)

    others = [threading.Thread(target=one, args=(d,), name="sync", daemon=True) for d in descriptors[1:]]
    for thread in others:
        thread.start()
    for descriptor in descriptors[:1]:
        one(descriptor)
    for thread in others:
        thread.join()
    if trouble:
        raise trouble[0]


def sync_paths(paths: Sequence[Path]) -> None:
    """The same for files or folders by their paths; of folders, names of what is in them."""
    opened: list[int] = []
    try:
        opened += (os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths)
        sync(opened)
    finally:
        for descriptor in opened:
            os.close(descriptor)
