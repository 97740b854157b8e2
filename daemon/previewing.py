"""Bringing a preview mosaic up to date: what is in of an association, at a glance, while the rest arrives.

The preview itself tells which images are in it (`store.preview_file`): those that are new are put, and only
SCI, DQ and WCS of these are read. If one of those in it was made anew, or is no longer there or no longer a
member, the preview is begun anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from upramp.daemon.events import Failure, PreviewOver
from upramp.daemon.jobs import classify
from upramp.daemon.previews import Job
from upramp.stages.core.errors import Unprocessable, UprampError
from upramp.stages.resample.combine import exposure_time
from upramp.stages.stage3.preview_mosaic import Canvas
from upramp.stages.wcs.evaluate import pixel_to_sky
from upramp.store.association_file import FileMember
from upramp.store.image_file import open_image
from upramp.store.naming import scratch_folder
from upramp.store.preview_file import Preview, Shown, cards_of, read_preview, write_preview

AT_ONCE = 16
"""Images that are put before a preview is written and others have their turn."""


def refresh(job: Job, stop: Callable[[], bool]) -> PreviewOver:
    """Bring a preview up to date, as far as is done in one go.

    An image that cannot be put is left out and told. Once ``stop()`` is true, it ends after the image at hand
    and writes nothing.

    Raises
    ------
    Retryable, Misconfigured
        If the disk is full or may not be written.
    """
    begin = time.perf_counter()
    nothing = PreviewOver(job.file, job.of, job.product, job.path)
    present = {path.name: (path, facts) for path in job.members if (facts := _facts(path))}
    preview, failure = _as_it_stands(job.path, {name: facts for name, (_, facts) in present.items()})
    new = sorted(present.keys() - (preview.members.keys() if preview else set()))
    added, left = 0, False
    for name in new:
        if added == AT_ONCE:
            left = True
            break
        if stop():
            return nothing
        try:
            preview = _put(preview, *present[name])
            added += 1
        except (UprampError, OSError) as error:
            found = classify(error)
            failure = failure or replace(found, reason=f"{name}: {found.reason}")
    if preview is None or not added or stop():
        return replace(nothing, failure=failure)
    folder = scratch_folder(job.path.parent, f"preview-{job.product}")
    write_preview(folder, job.path, preview, job.file.name)
    seconds = time.perf_counter() - begin
    return replace(
        nothing, members=len(preview.members), added=added, left=left, seconds=seconds, failure=failure
    )


def _facts(path: Path) -> Shown | None:
    """What tells an image's content apart; None if it is gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Shown(found.st_size, found.st_mtime_ns)


def _as_it_stands(path: Path, present: Mapping[str, Shown]) -> tuple[Preview | None, Failure | None]:
    """The preview that there is, None if it is to be begun anew; why it cannot be read."""
    try:
        preview = read_preview(path)
    except Unprocessable as error:
        return None, classify(error)
    if preview is None:
        return None, None
    same = all(name in present and one.is_same(present[name]) for name, one in preview.members.items())
    return (preview if same else None), None


def _put(preview: Preview | None, path: Path, shown: Shown) -> Preview:
    """The preview with one more image; the one given shares its canvas."""
    member = FileMember(open_image(path))
    unit = member.file.unit("SCI")
    if unit is None or len(unit.shape) != 2:
        raise Unprocessable("it is no single image; previews are made of images")
    cards, sky = cards_of(member.cards), pixel_to_sky(member.wcs)
    if preview is not None and preview.cards.get("BUNIT") != cards.get("BUNIT"):
        units = cards.get("BUNIT"), preview.cards.get("BUNIT")
        raise Unprocessable(
            f"its unit is {units[0]}, not {units[1]} like that of those before; calibrate all alike"
        )
    image = member.file.read("SCI", "DQ")
    whole = preview or Preview(Canvas.about(sky, member.shape), cards)
    level = whole.canvas.put(image.sci, image.dq, sky, exposure_time(member.cards))
    return whole.plus(path.name, replace(shown, level=level))
