"""Rates to calibrated images: the second stage, of one file at a time.

Pixels are read whole and go through the steps (`stages.core.whole`); the calibrated image and the quick look
beside it are written when all is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from upramp.daemon.machine import cores
from upramp.daemon.planning import CalibrationPlan, backgrounds_given
from upramp.daemon.results import Result, association_cards, may_publish, prepared, state_cards
from upramp.stages.core.extras import Extra, Extras
from upramp.stages.core.frames import Crew
from upramp.stages.core.image import Image
from upramp.stages.core.preview import draw
from upramp.stages.core.reference import Loaded, Prepared
from upramp.stages.core.whole import WholeStep, run_whole
from upramp.stages.resample.given import Given, given_of
from upramp.stages.stage2 import bkg_subtract
from upramp.stages.stage3 import resample
from upramp.stages.wcs.evaluate import pixel_to_sky
from upramp.store import transforms
from upramp.store.association_file import AssociationFile
from upramp.store.image_file import ImageFile, open_image
from upramp.store.naming import scratch_folder
from upramp.store.preview import write_picture
from upramp.store.products import Published, write_product

ENDINGS = {"rate": "cal", "rateints": "calints"}
TIMES = ("INT_TIMES",)
SINGLE = {"ASNPOOL": "singleton", "ASNTABLE": "singleton"}
"""What stands in the header of an exposure that no association file was given for."""


def image2(work: CalibrationPlan, job_id: str, stop: Callable[[], bool]) -> Result:
    """Rates of an image to its calibrated image, and to a resampled one for a quick look."""
    config, source = work.job.config, image_of(work)
    references: dict[str, Prepared | Loaded | None] = {}
    steps = []
    for s in work.steps:
        if s.runs and isinstance(s.step, WholeStep):
            steps.append(s.step)
            references |= prepared(work, s, source.meta)
            loads = {r: b.path for r, b in s.best.items() if b.path is not None and r in s.step.loads}
            references |= {r: transforms.load(path, r) for r, path in loads.items()}
    extras = Extras()
    shared: dict[str, Any] = {"extras": extras, "crew": Crew(config.run.threads or cores(), stop)}
    shared[bkg_subtract.BACKGROUNDS] = [background(path) for path in backgrounds_of(work)]
    params = {s.name: s.params for s in work.steps}
    shared[bkg_subtract.KEPT] = work.params.save_bsub
    shared[resample.GIVEN] = given_grid(params[resample.STEP.name])
    before = source.read()
    image, ran = run_whole(steps, before, source.meta, references, params, shared)
    states = {s.name: (s.runs, s.reason) for s in work.steps}
    states |= {name: (state.state == "COMPLETE", state.reason) for name, state in ran.items()}
    may_publish(work, stop)
    own = {name: changed(image.header[name], before.header.get(name, {})) for name in image.header}
    own["PRIMARY"] = own.get("PRIMARY", {}) | state_cards(work, states)
    own["PRIMARY"] |= association_cards(work.uncal) if isinstance(work.uncal, AssociationFile) else SINGLE
    if not states[bkg_subtract.STEP.name][0]:
        own["PRIMARY"][bkg_subtract.STEP.keyword] = None  # as with the peer, where nothing is subtracted
    published = [_write(work, job_id, ENDINGS[source.kind], image, own)]
    for extra in extras.found:
        cards = early(own) if extra.suffix in bkg_subtract.PRODUCTS else own
        published.append(_write_extra(work, f"{job_id}-{extra.suffix}", extra, cards))
    wall = {name: state.wall for name, state in ran.items()}
    cpu = {name: state.cpu for name, state in ran.items()}
    return Result(published, states, image.counters, wall, cpu, [])


def given_grid(params: resample.Params) -> Given | None:
    """The grid that resample's ``output_wcs`` names, if it does."""
    if params.skip or not params.output_wcs:
        return None
    tree = transforms.tree_of(params.output_wcs, "steps.resample.output_wcs")
    return given_of(tree, params.output_wcs, params.output_shape)


def backgrounds_of(work: CalibrationPlan) -> list[Path]:
    """Files of the background exposures: those that a parameter names, else those of the association."""
    given = backgrounds_given(work.steps)
    if given or not isinstance(work.uncal, AssociationFile):
        return given
    return [file.path for file in work.uncal.backgrounds]


def background(path: Path) -> bkg_subtract.Background:
    """A background exposure, read."""
    file = open_image(path)
    image = file.read()
    return bkg_subtract.Background(image.sci, image.err, image.dq, file.meta.xstart, file.meta.ystart)


def image_of(work: CalibrationPlan) -> ImageFile:
    """The product of images that a plan is for, by itself or as an association has it."""
    if isinstance(work.uncal, AssociationFile):
        return work.uncal.science[0]
    if not isinstance(work.uncal, ImageFile):
        raise TypeError(f"{work.uncal.path.name} holds no image")
    return work.uncal


def changed(after: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords that steps set, or took away (None)."""
    return {k: v for k, v in after.items() if k not in before or before[k] != v}


def early(own: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Keywords of what is made before the other steps: nothing of their states and references."""
    later = ("S_", "R_", "CRDS_")
    known = own["PRIMARY"].items()
    return {"PRIMARY": {k: v for k, v in known if not k.startswith(later) or k == bkg_subtract.STEP.keyword}}


def arrays_of(image: Image) -> dict[str, np.ndarray]:
    """Extensions in the order that products have them."""
    made = {"SCI": image.sci, "ERR": image.err, "DQ": image.dq, **image.arrays}
    made |= {"VAR_POISSON": image.var_poisson, "VAR_RNOISE": image.var_rnoise}
    return made if image.var_flat is None else {**made, "VAR_FLAT": image.var_flat}


def _write(
    work: CalibrationPlan, scratch: str, kind: str, image: Image, own: Mapping[str, Mapping[str, Any]]
) -> Published:
    """Write the image with the keywords of its ``own``; of the quick look, which follows, they
    tell only that it was left out on purpose, as with the peer."""
    config, source = work.job.config, image_of(work)
    output = config.output.folder
    quick_look = next(s for s in work.steps if s.name == resample.STEP.name)
    left_out = quick_look.params.skip and not resample.skip_if(source.meta, quick_look.params)
    leaves = dict(image.leaves)
    if image.wcs is not None:
        leaves["meta"] = {**leaves.get("meta", {}), "wcs": image.wcs}
    made = write_product(
        source,
        scratch_folder(output, scratch),
        output,
        kind,
        "ImageModel" if image.sci.ndim == 2 else "CubeModel",
        arrays_of(image),
        {**own["PRIMARY"], resample.STEP.keyword: "SKIPPED" if left_out and image.sci.ndim == 2 else None},
        own.get("SCI", {}),
        leaves,
        units={name: image.bunit for name in ("SCI", "ERR")},
        carry=TIMES if image.sci.ndim == 3 else (),
        durable=config.store.fsync,
    )
    if image.sci.ndim == 2:
        picture(made.path, image.sci, image.dq, image.wcs)
    return made


def _write_extra(
    work: CalibrationPlan, scratch: str, extra: Extra, own: Mapping[str, Mapping[str, Any]]
) -> Published:
    config, source = work.job.config, image_of(work)
    output = config.output.folder
    extra.ready()
    arrays = {name: array for name, array in extra.arrays.items() if isinstance(array, np.ndarray)}
    made = write_product(
        source,
        scratch_folder(output, scratch),
        output,
        extra.suffix,
        extra.model,
        arrays,
        {**own["PRIMARY"], **extra.header},
        {**own.get("SCI", {}), **extra.sci},
        extra.leaves,
        units=extra.units,
        carry=TIMES if extra.model == "CubeModel" else (),
        durable=config.store.fsync,
    )
    sci = arrays["SCI"]
    if sci.ndim != 2:
        return made
    flags = arrays.get("DQ", np.zeros(sci.shape, np.uint32))
    picture(made.path, sci, flags, extra.leaves.get("meta", {}).get("wcs"))
    return made


def picture(product: Path, sci: np.ndarray, dq: np.ndarray, wcs: Any) -> None:
    """A picture beside a product. It is for people alone: the ledger does not know it."""
    drawn = draw(sci, dq, None if wcs is None else pixel_to_sky(wcs))
    write_picture(product.with_suffix(".png"), drawn)
