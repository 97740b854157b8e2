"""Files read in: whether they are still the same, their checksum, and what is planned for them.

Runs on a reader or a worker; the desk is told by an event.
"""

from __future__ import annotations

import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upramp.daemon.events import Before, Event, Identity, SegmentArrived, SegmentFailed, Tries, Work
from upramp.daemon.jobs import classify
from upramp.stages.core.errors import Retryable, Unprocessable, UprampError

if TYPE_CHECKING:
    from upramp.daemon.desk import Calibrator, Settings


def identify(path: Path) -> Identity:
    """Size and time of a regular file.

    Raises
    ------
    Unprocessable
        If it is a folder, a pipe or the like.
    OSError
        If it cannot be looked at.
    """
    facts = path.stat()
    if stat.S_ISDIR(facts.st_mode):
        raise Unprocessable(f"{path.name!r} is a folder with the name of a file; rename it or move it away")
    if not stat.S_ISREG(facts.st_mode):
        raise Unprocessable(f"{path.name!r} is not a regular file but a device, pipe or socket; move it away")
    return Identity(path, facts.st_size, facts.st_mtime_ns)


def changed_since(identity: Identity) -> bool:
    """Whether another content lies there now. A file that went away after it was read has not changed."""
    if identity.size == identity.mtime_ns == 0:
        return False
    try:
        return identify(identity.path) != identity
    except FileNotFoundError:
        return False
    except (OSError, UprampError):
        return True


def refuse_changed(identity: Identity) -> None:
    """See that a file is still the one that was read.

    Raises
    ------
    Retryable
        If another content lies there now.
    """
    if changed_since(identity):
        raise Retryable(
            f"{identity.path} changed while it was calibrated; it is taken anew once it lies still"
        )


def sha256_of(path: Path) -> str:
    """Checksum of a file, lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_known: dict[Identity, str] = {}


def sha256_known(path: Path) -> tuple[Identity, str]:
    """Size and time of a file with its checksum, computed once a process as long as those stay the same.

    Raises
    ------
    Unprocessable, OSError
        As `identify`.
    """
    identity = identify(path)
    if identity not in _known:
        _known[identity] = sha256_of(path)
    return identity, _known[identity]


def look(calibrator: Calibrator, settings: Settings, identity: Identity, sha256: str, tries: Tries) -> Event:
    """Read a file in: its checksum and, meanwhile, its header and the plan. Runs on a reader."""
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="checksum") as beside:
            digest = beside.submit(lambda: sha256 or sha256_of(identity.path))
            try:
                plan = calibrator.plan(identity.path, settings)
            finally:
                sha256 = digest.result()
        uncal = plan.uncal
        key, ids = plan.fingerprint(sha256), (uncal.segment_id, uncal.exposure_id)
        refuse_changed(identity)
        facts = plan.notices, plan.turn, plan.goes_on
        return SegmentArrived(Work(identity, sha256, *ids, key, plan, tries, *facts))
    except Exception as error:
        return SegmentFailed(identity, classify(error, identity.path), tries, sha256)


def plan_and_calibrate(
    calibrator: Calibrator, identity: Identity, settings: Settings, sha256: str, before: Before | None
) -> Any:
    """Plan again and calibrate, in a worker process: plans hold open files and do not travel."""
    plan = calibrator.plan(identity.path, settings)
    refuse_changed(identity)
    return calibrator.calibrate(plan, sha256, before=before)
