"""A folder that is watched: whether it is there, and who observes it; how a file in it stands."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from upramp.daemon import observers
from upramp.daemon.config import Watch
from upramp.daemon.logs import get_logger
from upramp.daemon.settle import Stamp

log = get_logger()


def read_mounts() -> str:
    """The mounted file systems; empty where the system does not tell."""
    try:
        return Path("/proc/mounts").read_text(errors="replace")
    except OSError:
        return ""


class Folder:
    """One of the folders of [watch].

    Parameters
    ----------
    path : Path
        Absolute.
    watch : Watch
        The [watch] section.
    sink : observers.Sink
        Who is told of changes.
    factory : callable
        As `observers.start`.
    mounts : callable
        The text of /proc/mounts.

    Attributes
    ----------
    lost : bool
        Whether it is away, or cannot be read or observed.
    """

    def __init__(
        self,
        path: Path,
        watch: Watch,
        sink: observers.Sink,
        factory: observers.Factory,
        mounts: Callable[[], str],
    ) -> None:
        self.path = path
        self.lost = False
        self._watch, self._sink, self._factory, self._mounts = watch, sink, factory, mounts
        self._observer: observers.Observer | None = None
        self._identity: tuple[int, int] | None = None
        self._kind: observers.Kind = "inotify"

    def look_after(self) -> bool:
        """See that it is there and observed; whether it is observed anew, replaced or back.

        What was known of who writes there, and which files there are, is then to be found out again.
        """
        try:
            info = self.path.stat()
            if not stat.S_ISDIR(info.st_mode):
                raise NotADirectoryError(20, "not a folder", str(self.path))
            os.scandir(self.path).close()
        except OSError as e:
            self.lose(e.strerror or str(e))
            return False
        identity = (info.st_dev, info.st_ino)
        if self._observer and self._observer.alive() and identity == self._identity and not self.lost:
            return False
        self.release()
        fstype = observers.filesystem(self.path.resolve(), self._mounts())
        self._kind = observers.choose(self._watch.observer, fstype)
        try:
            try:
                self._observer = self._observe()
            except OSError as e:
                if self._watch.observer != "auto" or self._kind == "polling":
                    raise
                if not self.lost:
                    log.warning("watch_fallback", folder=str(self.path), reason=e.strerror or str(e))
                self._kind = "polling"
                self._observer = self._observe()
        except OSError as e:
            self.lose(e.strerror or str(e))
            return False
        self._identity, self.lost = identity, False
        log.info("watch_started", folder=str(self.path), observer=self._kind, filesystem=fstype)
        return True

    def _observe(self) -> observers.Observer:
        recursive, poll_s = self._watch.recursive, self._watch.poll_s
        return self._factory(self._kind, self.path, recursive, poll_s, self._sink)

    def lose(self, reason: str) -> None:
        """It cannot be watched; told once."""
        self.release()
        if not self.lost:
            self.lost = True
            log.warning("watch_lost", folder=str(self.path), reason=reason)

    def release(self) -> None:
        """Observe it no more."""
        if self._observer is not None:
            self._observer.stop()
            self._observer = None

    def holds(self, path: Path) -> bool:
        """Whether a file lies in it, symbolic links followed."""
        return path.resolve(strict=True).is_relative_to(self.path.resolve())

    def stamp(self, path: Path) -> tuple[Stamp, bool]:
        """The file's state and whether it is a regular file."""
        info = path.stat()
        # over a network inode numbers may be made up anew each time
        inode = info.st_ino if self._kind == "inotify" else 0
        if not stat.S_ISREG(info.st_mode):
            return Stamp(0, 0, inode), False
        return Stamp(info.st_size, info.st_mtime_ns, inode), True
