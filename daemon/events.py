"""The vocabulary of what happens: what a handler is given and what it says next.

``handlers.py`` has one function for each event that asks for something to be done; the others
(``FileSkipped``, ``SegmentCommitted``, ``ExposureCompleted`` ...) are told to whoever listens:
the log, the progress bar, the closing summary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upramp.stages.associations.pool import Exposure


@dataclass(frozen=True)
class Identity:
    """What tells without reading it whether a file is still the same: where, how long, how old."""

    path: Path
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Tries:
    """How often a file was tried already: ``attempts`` in all, ``crashes`` of them killed the worker."""

    attempts: int = 0
    crashes: int = 0


@dataclass(frozen=True)
class Turn:
    """The place of a segment among those of its detector, where persistence goes on from one to the next.

    ``start`` and ``end`` of its groups, s since 1970; ``seconds`` that windows of persistence last.
    """

    detector: str
    start: float
    end: float
    seconds: float = 0.0


@dataclass(frozen=True)
class Before:
    """What a segment takes over from the one before it on its detector.

    ``segment_id``: whose windows of persistence, "" if of none. ``path`` and ``sha256``: where they are and
    what they are, None and "" if there are none. ``reason``: why there are none, or what was not waited for.
    """

    segment_id: str = ""
    path: Path | None = None
    sha256: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Work:
    """One segment to be calibrated: the file as it was read, and what is planned for it.

    ``plan`` is what the calibrator made of the file; handlers read its ``segment_id``,
    ``exposure_id`` and ``fingerprint`` through the calibrator's facts, never its inside. ``notices``:
    (step, what its parameters ask for and this version does not do). ``turn``: None where the exposures of
    the detector need no order; ``before`` is known once it is this one's turn. ``goes_on``: the kind of its
    products that the next stage takes.
    """

    identity: Identity
    sha256: str
    segment_id: str
    exposure_id: str
    fingerprint: str
    plan: Any
    tries: Tries = field(default_factory=Tries)
    notices: Sequence[tuple[str, str]] = ()
    turn: Turn | None = None
    goes_on: str = ""
    before: Before | None = None


@dataclass(frozen=True)
class Failure:
    """Why something failed and what helps. ``kind`` decides whether and when it is tried again."""

    kind: str  # unprocessable | retryable | misconfigured | crashed | unexpected
    reason: str
    remedy: str
    traceback: str | None = None


@dataclass(frozen=True)
class FileSettled:
    """A file lies still: it is whole, as far as its size and time can tell."""

    path: Path
    tries: Tries = field(default_factory=Tries)


@dataclass(frozen=True)
class SegmentArrived:
    """The file was read: it is a segment of an exposure, and it is known what would be done."""

    work: Work


@dataclass(frozen=True)
class SegmentHeld:
    """It waits for the one before it on its detector.

    ``behind``: the file that comes first, None where nothing is known of it; then ``seconds`` are waited.
    """

    work: Work
    behind: Path | None
    seconds: float | None = None


@dataclass(frozen=True)
class PredecessorMissing:
    """Nothing came before it on its detector while it waited; it goes on without."""

    work: Work
    seconds: float


@dataclass(frozen=True)
class SegmentDue:
    """The segment's turn has come: nothing else works on it."""

    work: Work


@dataclass(frozen=True)
class SegmentStarted:
    """It was handed to a worker."""

    work: Work


@dataclass(frozen=True)
class SegmentCalibrated:
    """Products were published under their names; nothing is in the ledger yet."""

    work: Work
    outcome: Any


@dataclass(frozen=True)
class SegmentFailed:
    """Reading, planning or calibrating a file failed. ``work`` is None where it could not even be read."""

    identity: Identity
    failure: Failure
    tries: Tries
    sha256: str = ""
    work: Work | None = None


@dataclass(frozen=True)
class FileSkipped:
    """Nothing to do: the ledger has it. ``failed`` when what the ledger has is a failure."""

    path: Path
    segment_id: str
    reason: str
    failed: bool = False
    remedy: str = ""


@dataclass(frozen=True)
class SegmentCommitted:
    """A segment's products and the ledger's rows about them are both in place."""

    path: Path
    segment_id: str
    exposure_id: str
    version: int
    products: Sequence[Mapping[str, Any]]
    seconds: float
    peak_mb: float
    attempt: int = 1
    step_runs: Sequence[Mapping[str, Any]] = ()
    counters: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SegmentSuperseded:
    """A newer version of a segment stands: what was made of this one no longer counts."""

    path: Path
    segment_id: str
    exposure_id: str
    version: int
    reason: str


@dataclass(frozen=True)
class SegmentOutdated:
    """It was calibrated with other windows of persistence than are known now; ``again``: it is done anew."""

    path: Path
    segment_id: str
    exposure_id: str
    reason: str
    again: bool


@dataclass(frozen=True)
class ProductSuperseded:
    """A product was replaced, or what it was made from no longer counts."""

    path: Path
    segment_id: str
    exposure_id: str
    kind: str


@dataclass(frozen=True)
class RetryPlanned:
    """It failed for a passing reason and will be tried again."""

    path: Path
    segment_id: str
    failure: Failure
    attempts: int
    seconds: float


@dataclass(frozen=True)
class FileFailed:
    """It failed for good, or for now: recorded, with reason and remedy."""

    path: Path
    segment_id: str
    failure: Failure
    attempts: int = 1


@dataclass(frozen=True)
class ExposureCompleted:
    """Every segment of the exposure is calibrated in its newest version, no integration missing."""

    exposure_id: str
    segments: Sequence[str]
    integrations: int


@dataclass(frozen=True)
class ExposureContradicted:
    """All segments are in, and do not make up one exposure."""

    exposure_id: str
    reason: str


@dataclass(frozen=True)
class ExposureHeard:
    """A header was read: what it tells of what the exposure belongs to."""

    path: Path
    exposure: Exposure


@dataclass(frozen=True)
class AssociationTouched:
    """Something happened to members of it: time to look whether it is ready.

    ``of``: the group of exposures, or the file that somebody gave. ``name``: the exposure. ``why``, if it was
    no exposure: its file was ``built`` or failed, the ``alarm`` rang, the process ``resumed``, inputs are
    ``over``.
    """

    of: str | Path
    name: str = ""
    why: str = ""


@dataclass(frozen=True)
class AssociationWaits:
    """It was formed, or waits again."""

    file: Path
    product: str
    reason: str


@dataclass(frozen=True)
class AssociationReady:
    """Its file stands, and is handed on.

    ``how``: complete, explicit or quiet. ``without``: what is left out of it or not there, "" if nothing.
    """

    file: Path
    product: str
    how: str
    members: int
    without: str = ""


@dataclass(frozen=True)
class AssociationFailed:
    """It cannot be made as things stand."""

    file: Path
    product: str
    reason: str
    remedy: str
    traceback: str | None = None


@dataclass(frozen=True)
class PreviewOver:
    """A look at the preview of an association is over.

    ``file``: the association's; ``of``: its group, or the file again if somebody gave it. ``path``: the
    preview. ``members``: images that are in it; ``added``: of these
    new ones, 0 if it stays as it was. ``left``: whether there are more to put. ``failure``: what went wrong,
    with all or with one of them.
    """

    file: Path
    of: str | Path
    product: str
    path: Path
    members: int = 0
    added: int = 0
    left: bool = False
    seconds: float = 0.0
    failure: Failure | None = None


@dataclass(frozen=True)
class PreviewRefreshed:
    """The preview of what is in of an association was written anew."""

    path: Path
    product: str
    members: int
    added: int
    seconds: float


@dataclass(frozen=True)
class PreviewFailed:
    """A preview could not be brought up to date, or not with all images; nothing else depends on it."""

    path: Path
    product: str
    failure: Failure


@dataclass(frozen=True)
class Resumed:
    """The service starts: what waited when the last one ended is taken up."""


@dataclass(frozen=True)
class InputsOver:
    """Nothing further comes in this run: what waits for what was announced waits no longer."""


@dataclass(frozen=True)
class LedgerRefused:
    """The ledger could not be written; nothing is lost, the same is tried again."""

    reason: str
    seconds: float


Event = (
    FileSettled
    | SegmentArrived
    | SegmentHeld
    | PredecessorMissing
    | SegmentDue
    | SegmentStarted
    | SegmentCalibrated
    | SegmentFailed
    | FileSkipped
    | SegmentCommitted
    | SegmentSuperseded
    | SegmentOutdated
    | ProductSuperseded
    | RetryPlanned
    | FileFailed
    | ExposureCompleted
    | ExposureContradicted
    | ExposureHeard
    | AssociationTouched
    | AssociationWaits
    | AssociationReady
    | AssociationFailed
    | PreviewOver
    | PreviewRefreshed
    | PreviewFailed
    | Resumed
    | InputsOver
    | LedgerRefused
)
