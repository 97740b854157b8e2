"""Events as log lines: the one place where what happens is put into the log."""

from __future__ import annotations

from upramp.daemon.events import (
    AssociationFailed,
    AssociationReady,
    AssociationWaits,
    Event,
    ExposureCompleted,
    ExposureContradicted,
    FileFailed,
    FileSkipped,
    LedgerRefused,
    PredecessorMissing,
    PreviewFailed,
    PreviewRefreshed,
    ProductSuperseded,
    RetryPlanned,
    SegmentArrived,
    SegmentCommitted,
    SegmentHeld,
    SegmentOutdated,
    SegmentStarted,
    SegmentSuperseded,
)
from upramp.daemon.logs import bound, get_logger

log = get_logger()


def tell(event: Event) -> None:
    """Log an event, with its ids. A listener of the desk."""
    match event:
        case SegmentArrived(work) | SegmentStarted(work):
            with bound(segment_id=work.segment_id, exposure_id=work.exposure_id):
                _tell_work(event)
        case SegmentHeld(work) | PredecessorMissing(work):
            with bound(segment_id=work.segment_id, exposure_id=work.exposure_id):
                _tell_order(event)
        case SegmentOutdated():
            with bound(segment_id=event.segment_id, exposure_id=event.exposure_id):
                log.warning("segment_outdated", path=str(event.path), reason=event.reason, again=event.again)
        case SegmentCommitted() | SegmentSuperseded() | ProductSuperseded():
            with bound(segment_id=event.segment_id, exposure_id=event.exposure_id):
                _tell_made(event)
        case FileSkipped() | FileFailed() | RetryPlanned():
            with bound(segment_id=event.segment_id):
                _tell_not_made(event)
        case ExposureCompleted(exposure_id, segments, integrations):
            with bound(exposure_id=exposure_id):
                log.info("exposure_completed", segments=len(segments), integrations=integrations)
        case ExposureContradicted(exposure_id, reason):
            with bound(exposure_id=exposure_id):
                log.warning("exposure_incomplete", reason=reason)
        case AssociationWaits() | AssociationReady() | AssociationFailed():
            _tell_association(event)
        case PreviewRefreshed() | PreviewFailed():
            _tell_preview(event)
        case LedgerRefused(reason, seconds):
            log.warning("ledger_refused", reason=reason, wait_s=seconds)


def _tell_work(event: SegmentArrived | SegmentStarted) -> None:
    work = event.work
    path = str(work.identity.path)
    if isinstance(event, SegmentStarted):
        log.info("segment_started", path=path, attempt=work.tries.attempts + 1)
        if not work.tries.attempts:
            for step, notice in work.notices:
                log.warning("parameter_unsupported", step=step, notice=notice)
    else:
        meta = work.plan.uncal.meta
        log.info(
            "segment_arrived", path=path, checksum=work.sha256, segment=meta.segment, segments=meta.segments
        )


def _tell_order(event: SegmentHeld | PredecessorMissing) -> None:
    path = str(event.work.identity.path)
    if isinstance(event, PredecessorMissing):
        log.info("predecessor_missing", path=path, wait_s=event.seconds)
    else:
        behind = str(event.behind) if event.behind else None
        wait = None if event.seconds is None else round(event.seconds, 3)
        log.info("segment_held", path=path, behind=behind, wait_s=wait)


def _tell_association(event: AssociationWaits | AssociationReady | AssociationFailed) -> None:
    path, product = str(event.file), event.product
    if isinstance(event, AssociationWaits):
        log.info("association_waiting", path=path, product=product, reason=event.reason)
    elif isinstance(event, AssociationFailed):
        reason, remedy = event.reason, event.remedy
        extra = {"exception": event.traceback} if event.traceback else {}
        log.warning("association_failed", path=path, product=product, reason=reason, remedy=remedy, **extra)
    else:
        log.info("association_ready", path=path, product=product, how=event.how, members=event.members)
        if event.without:
            log.warning("association_incomplete", path=path, product=product, without=event.without)


def _tell_preview(event: PreviewRefreshed | PreviewFailed) -> None:
    path, product = str(event.path), event.product
    if isinstance(event, PreviewRefreshed):
        counts = {"members": event.members, "added": event.added}
        log.info("preview_refreshed", path=path, product=product, **counts, seconds=round(event.seconds, 3))
    else:
        failure = event.failure
        extra = {"exception": failure.traceback} if failure.traceback else {}
        log.warning("preview_failed", path=path, product=product, reason=failure.reason, **extra)


def _tell_made(event: SegmentCommitted | SegmentSuperseded | ProductSuperseded) -> None:
    path = str(event.path)
    if isinstance(event, SegmentSuperseded):
        log.info("segment_superseded", path=path, version=event.version)
        return
    if isinstance(event, ProductSuperseded):
        log.info("product_superseded", path=path, kind=event.kind)
        return
    for run in event.step_runs:
        if run["state"] == "SKIPPED":
            log.debug("step_skipped", step=run["step"], reason=run.get("reason"))
        else:
            seconds, counters = round(run.get("wall_s") or 0.0, 3), run.get("counters") or {}
            log.debug("step_finished", step=run["step"], seconds=seconds, counters=dict(counters))
    for product in event.products:
        log.info("product_published", path=product["path"], bytes=product["bytes"], kind=product["kind"])
    log.info(
        "segment_calibrated",
        path=path,
        seconds=round(event.seconds, 3),
        megabytes=round(event.peak_mb, 1),
        counters=dict(event.counters),
    )


def _tell_not_made(event: FileSkipped | FileFailed | RetryPlanned) -> None:
    path = str(event.path)
    if isinstance(event, FileSkipped):
        log.info("segment_unchanged", path=path, reason=event.reason)
    elif isinstance(event, RetryPlanned):
        reason, wait = event.failure.reason, event.seconds
        log.warning("segment_retried", path=path, reason=reason, attempt=event.attempts, wait_s=wait)
    else:
        failure = event.failure
        extra = {"exception": failure.traceback} if failure.traceback else {}
        log.error(
            "segment_failed",
            path=path,
            reason=failure.reason,
            remedy=failure.remedy,
            kind=failure.kind,
            attempt=event.attempts,
            **extra,
        )
