"""Calibrated images that belong together to a mosaic: the third stage, of one association at a time.

Steps look at all exposures and say what changes in each; pixels are read when their turn comes, so memory
does not grow with the number of exposures.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from upramp.daemon.aside import Aside
from upramp.daemon.images import arrays_of, changed, given_grid, picture
from upramp.daemon.logs import get_logger
from upramp.daemon.machine import cores
from upramp.daemon.mosaic_size import refuse_too_large
from upramp.daemon.planning import CalibrationPlan, PlannedStep
from upramp.daemon.results import Result, association_cards, may_publish, prepared, state_cards
from upramp.stages.core.errors import Misconfigured, NotApplicable, Unprocessable
from upramp.stages.core.extras import Extra
from upramp.stages.core.frames import Crew
from upramp.stages.core.image import Image
from upramp.stages.resample.combine import without_effect
from upramp.stages.resample.given import Given
from upramp.stages.stage3 import assign_mtwcs, outlier_detection, resample, source_catalog, tweakreg
from upramp.stages.stage3.members import Change, Changed, CommonStep, Means, Member, Shown
from upramp.stages.stage3.source_columns import Column
from upramp.store.association_file import AssociationFile
from upramp.store.catalogues import read_catalogue, write_catalogue
from upramp.store.cubes import DiskCube
from upramp.store.durable import sync_paths
from upramp.store.image_file import ImageFile
from upramp.store.naming import InputName, scratch_folder
from upramp.store.products import Published, write_product
from upramp.store.scratch import Scratch
from upramp.store.uncal import header_values

log = get_logger()

ENDING = "i2d"
CONTEXT = ("CRDS_CTX", "CRDS_VER", "CAL_VCS")
LOST = ("BKGLEVEL", "BKGSUB", source_catalog.STEP.keyword)
"""What is not told of a mosaic: its sky was taken off, and a catalogue is made of it, not it of one."""

NOT_CALLED = {
    assign_mtwcs.STEP.name: "the target does not move",
    tweakreg.STEP.name: "the target moves, so that stars do not lie still",
}
"""Steps that are not called for what does not move, or for what does, and why; headers are silent then."""

OF_LIGHT = ("BUNIT", "PHOTMJSR", "PHOTUJA2", "PIXAR_A2", "PIXAR_SR")
"""What means nothing of labels."""


def association_of(work: CalibrationPlan) -> AssociationFile:
    """The association of a plan for one."""
    if not isinstance(work.uncal, AssociationFile):
        raise TypeError(f"{work.uncal.path.name} holds no association")
    return work.uncal


class Course:
    """How the steps of an association went: whether they ran and why not, seconds of wall and CPU time."""

    def __init__(self, work: CalibrationPlan) -> None:
        self.states = {s.name: (s.runs, s.reason) for s in work.steps}
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    @contextmanager
    def of(self, step: PlannedStep) -> Iterator[None]:
        """Do a step's work; that it cannot be applied is written down and not raised."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        except NotApplicable as why:
            self.states[step.name] = (False, str(why))
        self.wall[step.name] = time.perf_counter() - wall
        self.cpu[step.name] = time.process_time() - cpu


def image3(work: CalibrationPlan, job_id: str, stop: Callable[[], bool]) -> Result:
    """Images of an association to exposures that agree, and to their mosaic.

    All products are published together at the end: if there is no mosaic, what an earlier one was made with
    still stands beside it.
    """
    config = work.job.config
    output, durable = config.output.folder, config.store.fsync
    aside = Scratch(scratch_folder(output, f"{job_id}-whole"))
    try:
        there = replace(config, output=replace(config.output, folder=aside.folder))
        made = _made(replace(work, job=replace(work.job, config=there)), job_id, stop)
        may_publish(work, stop)
        files = sorted(path.name for path in aside.folder.iterdir() if path.is_file())
        aside.publish({name: output / name for name in files})  # each is on the disk already
        if durable:
            sync_paths([output])
    finally:
        aside.remove()
    return replace(made, published=[replace(one, path=output / one.path.name) for one in made.published])


def _made(work: CalibrationPlan, job_id: str, stop: Callable[[], bool]) -> Result:
    """What is made of an association, in the output folder of ``work``."""
    source, config = association_of(work), work.job.config
    if differing := source.differing:
        log.warning("members_differ", path=str(source.path), differing=differing)
    crew = Crew(config.run.threads or cores(), stop)
    scratch = scratch_folder(config.output.folder, job_id)
    course = Course(work)
    files = {file.path.name: file for file in source.science}
    members: list[Member] = [*source.exposures]
    published: list[Published] = []

    def keep(name: str, product: Extra) -> None:
        may_publish(work, stop)
        place = f"{job_id}-{product.suffix}-{name}"
        published.append(_write_extra(work, place, named(files[name], stem_in(source, files[name])), product))

    def shown(member: Member, aside: Aside) -> Member:
        """The member; once it is read whole, which is done once, its image becomes a product."""

        def show(image: Image) -> None:
            may_publish(work, stop)
            aside.put(partial(_write_exposure, work, job_id, files[member.name], image))

        return Shown(member, Change(), show)

    means = Means(
        crew,
        text=lambda path: Path(path).read_text(),
        table=read_catalogue,
        room=lambda shape: DiskCube(shape, scratch),
        keep=keep,
        named=lambda name, ending: f"{stem_in(source, files[name])}_{ending}",
    )
    combining = next(s for s in work.steps if s.step is resample.MOSAIC)
    if not combining.runs:
        raise Misconfigured(
            f"resample does not run ({combining.reason}), so there is no mosaic; "
            "leave steps.resample.skip = false"
        )
    grid = given_grid(combining.params)
    for step in work.steps:
        if step.step is outlier_detection.STEP:
            refuse_too_large(source.path.name, members, combining, step, grid)
        if isinstance(step.step, CommonStep):
            members = _in_common(step, step.step, members, means, course)
            published += _write_tables(work, job_id, members)
    with Aside() as aside:
        combined = members
        if course.states.get(outlier_detection.STEP.name, (False,))[0]:
            combined = [shown(member, aside) for member in members]
        if combining.params.single:
            own = _one_by_one(work, job_id, combining, grid, crew, combined, course, stop)
            published += [*aside.published(), *own]
            return Result(published, course.states, Counter(), course.wall, course.cpu, [])
        made: resample.Resampled | None = None
        with course.of(combining):
            made = resample.resample(combined, combining.params, crew, given=grid)
        if made is None:
            raise _not_made(work, combining, course)
        if "CON" in made.arrays and (idle := without_effect(made.arrays["CON"], len(members))):
            log.warning("members_unused", path=str(source.path), members=[members[k].name for k in idle])
        may_publish(work, stop)
        aside.put(partial(_write_mosaic, work, job_id, made, source.product.name, members, course))
        catalogue = _catalogue(work, made, crew, course)
        published += aside.published()
    if catalogue is not None:
        may_publish(work, stop)
        published += _write_catalogue(work, job_id, catalogue, made, members, course)
    counters: Counter[str] = Counter()
    return Result(published, course.states, counters, course.wall, course.cpu, [])


def _one_by_one(
    work: CalibrationPlan,
    job_id: str,
    planned: PlannedStep,
    grid: Given | None,
    crew: Crew,
    members: Sequence[Member],
    course: Course,
    stop: Callable[[], bool],
) -> list[Published]:
    """Each exposure by itself on the grid of all, in place of a mosaic, which would have a catalogue."""
    source, published = association_of(work), []
    catalogue = source_catalog.STEP.name
    if course.states[catalogue][0]:
        course.states[catalogue] = (False, f"{planned.name}.single makes no mosaic to take sources from")
    with course.of(planned):
        for k, (group, made) in enumerate(resample.one_by_one(members, planned.params, crew, given=grid)):
            own = [members[i] for i in group]
            name = f"{source.product.name}_{k}"
            may_publish(work, stop)
            published.append(_write_mosaic(work, f"{job_id}-{k}", made, name, own, course))
    if not published:
        raise _not_made(work, planned, course)
    return published


def _not_made(work: CalibrationPlan, planned: PlannedStep, course: Course) -> Unprocessable:
    return Unprocessable(f"{association_of(work).path.name}: {course.states[planned.name][1]}")


def _catalogue(
    work: CalibrationPlan, made: resample.Resampled, crew: Crew, course: Course
) -> source_catalog.Catalogue | None:
    """The sources of a mosaic; None where there is no catalogue, which the step's state then tells why."""
    step = next(s for s in work.steps if s.step is source_catalog.STEP)
    if not step.runs:
        return None
    found = None
    with course.of(step):
        unit = str(association_of(work).science[0].sci.get("BUNIT") or "")
        references = prepared(work, step, work.uncal.meta)
        found = source_catalog.make(made, step.params, references, crew, unit)
    return found


def _in_common(
    planned: PlannedStep, step: CommonStep, members: Sequence[Member], means: Means, course: Course
) -> list[Member]:
    """Members as a step leaves them, with its state in their headers."""
    other = step.name in NOT_CALLED and assign_mtwcs.moving(members) != (step is assign_mtwcs.STEP)
    if planned.runs and other:
        course.states[planned.name] = (False, NOT_CALLED[step.name])
        return list(members)
    changes: Sequence[Change] = [Change("SKIPPED", planned.reason) for _ in members]
    if planned.runs:
        with course.of(planned):
            changes = step.run(members, planned.params, means)
            ran = [c for c in changes if c.state == "COMPLETE"] or changes
            reasons = dict.fromkeys(c.reason for c in changes if c.reason)
            course.states[planned.name] = (ran[0].state == "COMPLETE", "; ".join(reasons))
    return [
        Changed(member, replace(change, primary={**change.primary, step.keyword: change.state}))
        for member, change in zip(members, changes, strict=True)
    ]


def _cards(work: CalibrationPlan, members: Sequence[Member], course: Course) -> dict[str, Any]:
    """What the primary header of a product says of steps, references and the association."""
    keywords = [s.step.keyword for s in work.steps if isinstance(s.step, CommonStep)]
    told = {keyword: members[0].cards.get(keyword) for keyword in (*keywords, "TCATFILE", "BKGMETH")}
    return {**state_cards(work, course.states), **told, **association_cards(association_of(work))}


def _centre(members: Sequence[Member]) -> dict[str, Any]:
    """Where a target that moves is, on the mean."""
    cards = members[0].cards
    return {key: cards[key] for key in ("MT_AVRA", "MT_AVDEC") if cards.get(key) is not None}


def stem_in(source: AssociationFile, file: ImageFile) -> str:
    """The beginning of the names of what an association makes of an exposure, which may be in others, too."""
    return "_".join(filter(None, (file.segment_id.removesuffix(f"_{file.kind}"), source.association.asn_id)))


def _write_exposure(work: CalibrationPlan, job_id: str, file: ImageFile, image: Image) -> Published:
    """What has become of an exposure: aligned, its sky known, outliers flagged."""
    config, source = work.job.config, association_of(work)
    crds = state_cards(work, dict.fromkeys((s.name for s in work.steps), (True, "")))
    own = {
        extension: changed(image.header.get(extension, {}), header_values(cards))
        for extension, cards in (("PRIMARY", file.primary), ("SCI", file.sci))
    }
    leaves = dict(image.leaves)
    leaves["meta"] = {**leaves.get("meta", {}), "wcs": image.wcs}
    made = write_product(
        named(file, stem_in(source, file)),
        scratch_folder(config.output.folder, f"{job_id}-{file.segment_id}"),
        config.output.folder,
        "crf",
        "ImageModel",
        arrays_of(image),
        {**own["PRIMARY"], **{k: crds[k] for k in CONTEXT}, **association_cards(source)},
        own["SCI"],
        leaves,
        units={name: image.bunit for name in ("SCI", "ERR")},
        durable=config.store.fsync,
    )
    picture(made.path, image.sci, image.dq, image.wcs)
    return made


def _write_tables(work: CalibrationPlan, job_id: str, members: Sequence[Member]) -> list[Published]:
    """Catalogues of single exposures that the last step handed out."""
    config, made = work.job.config, []
    for member in members:
        tables = member.change.tables if isinstance(member, Changed) else {}
        for name, columns in tables.items():
            target = config.output.folder / name
            folder = scratch_folder(config.output.folder, f"{job_id}-{target.name}")
            own = [Column(column, np.asarray(values)) for column, values in columns.items()]
            made.append(write_catalogue(folder, target, own, {}, durable=config.store.fsync))
    return made


def _write_extra(work: CalibrationPlan, place: str, template: ImageFile, extra: Extra) -> Published:
    """Something that a step makes beside, and that somebody asked for."""
    config, source = work.job.config, association_of(work)
    return write_product(
        template,
        scratch_folder(config.output.folder, place),
        config.output.folder,
        extra.suffix,
        extra.model,
        {name: array for name, array in extra.arrays.items() if isinstance(array, np.ndarray)},
        {**extra.header, **association_cards(source)},
        extra.sci,
        extra.leaves,
        units=extra.units,
        durable=config.store.fsync,
    )


def _write_mosaic(
    work: CalibrationPlan,
    scratch: str,
    made: resample.Resampled,
    name: str,
    members: Sequence[Member],
    course: Course,
) -> Published:
    """Write an image of all or some members; ``name``: the beginning of the file's."""
    config, source = work.job.config, association_of(work)
    output = config.output.folder
    first = next(file for file in source.science if file.path.name == members[0].name)
    template = named(first, name)
    published = write_product(
        template,
        scratch_folder(output, scratch),
        output,
        ENDING,
        "ImageModel",
        made.arrays,
        {**_cards(work, members, course), **dict.fromkeys(LOST), **made.primary},
        {**_centre(members), **made.sci},
        made.leaves,
        units={name: str(first.sci.get("BUNIT") or "") for name in ("SCI", "ERR")},
        tables=made.tables,
        durable=config.store.fsync,
    )
    sci = made.arrays["SCI"]
    picture(published.path, sci, np.zeros(sci.shape, np.uint32), made.wcs)
    return published


def _write_catalogue(
    work: CalibrationPlan,
    scratch: str,
    catalogue: source_catalog.Catalogue,
    mosaic: resample.Resampled,
    members: Sequence[Member],
    course: Course,
) -> list[Published]:
    """The table of sources, and the map of their pixels, which lie as the mosaic's, if there is one."""
    config, source = work.job.config, association_of(work)
    output, durable = config.output.folder, config.store.fsync
    template = named(source.science[0], source.product.name)
    folder = scratch_folder(output, scratch)
    [suffix] = [s.params.suffix for s in work.steps if s.step is source_catalog.STEP]
    target = output / template.name.product(suffix, "ecsv")
    published = [write_catalogue(folder, target, catalogue.columns, catalogue.meta, durable=durable)]
    if catalogue.segments is not None:
        made = write_product(
            template,
            folder,
            output,
            "segm",
            "SegmentationMapModel",
            {"SCI": catalogue.segments},
            {
                **_cards(work, members, course),
                **dict.fromkeys(LOST),
                **mosaic.primary,
                "SCATFILE": target.name,
            },
            {**_centre(members), **mosaic.sci, **dict.fromkeys(OF_LIGHT)},
            {"meta": {**mosaic.leaves.get("meta", {}), "bunit_err": None}},
            durable=durable,
        )
        published.append(made)
    return published


def named(file: ImageFile, stem: str) -> ImageFile:
    """The file as the beginning of a product whose name begins with ``stem``."""
    return replace(file, name=InputName(file.path.name, stem, stem, None, False))
