"""Checksums of large files: computed once, in the background, and remembered.

A file counts as unchanged while its path, size and time of last change do. The memory
is one small JSON file, replaced whole; if two processes write at once, one
result may be forgotten and is computed again.
"""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

CHUNK = 1 << 20


def sha1_of(path: Path) -> str:
    """Hexadecimal sha1 of a file (what CRDS uses), read in small pieces."""
    digest = hashlib.sha1(usedforsecurity=False)
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(view[:count])
    return digest.hexdigest()


class Checksums:
    """sha1 of files, by path, size and time of change.

    Parameters
    ----------
    memory : Path or None
        JSON file that outlives the process; None to remember within the process only.
    """

    def __init__(self, memory: Path | None = None) -> None:
        self._memory = memory
        self._lock = threading.Lock()
        self._known: dict[str, list[object]] = self._read()
        self._running: dict[str, Future[str]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def _read(self) -> dict[str, list[object]]:
        if self._memory is None:
            return {}
        try:
            found = json.loads(self._memory.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @staticmethod
    def _key(path: Path) -> tuple[str, list[object]]:
        stat = path.stat()
        return str(path.absolute()), [stat.st_size, stat.st_mtime_ns]

    def known(self, path: Path) -> str | None:
        """The checksum if it is remembered, else None."""
        name, state = self._key(path)
        with self._lock:
            return self._remembered(name, state)

    def _remembered(self, name: str, state: list[object]) -> str | None:
        """With the lock held."""
        entry = self._known.get(name)
        return str(entry[2]) if entry and len(entry) == 3 and entry[:2] == state else None

    def start(self, path: Path) -> Future[str]:
        """Compute in the background unless it is known or under way."""
        name, state = self._key(path)
        with self._lock:  # once for both questions: between them the computation could end
            if (known := self._remembered(name, state)) is not None:
                done: Future[str] = Future()
                done.set_result(known)
                return done
            if name not in self._running:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(1, thread_name_prefix="checksums")
                self._running[name] = self._pool.submit(self._compute, path)
            return self._running[name]

    def get(self, path: Path) -> str:
        """The checksum, waiting for it if need be."""
        return self.start(path).result()

    def _compute(self, path: Path) -> str:
        name, state = self._key(path)
        try:
            digest = sha1_of(path)
            if self._key(path)[1] == state:  # else it changed while it was read
                self._remember(name, [*state, digest])
            return digest
        finally:
            with self._lock:
                self._running.pop(name, None)

    def _remember(self, name: str, entry: list[object]) -> None:
        with self._lock:
            self._known[name] = entry
            if self._memory is None:
                return
            self._known = {**self._read(), **self._known}
            aside = self._memory.with_name(f".{self._memory.name}.{uuid.uuid4().hex}")
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(json.dumps(self._known))
            aside.replace(self._memory)
