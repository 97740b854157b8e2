"""The ordered steps of every pipeline, on one screen."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from upramp.stages.core.errors import Unprocessable
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Step
from upramp.stages.core.whole import WholeStep
from upramp.stages.guider import pipeline as guider
from upramp.stages.stage1 import (
    charge_migration,
    clean_flicker_noise,
    dark_current,
    dq_init,
    emicorr,
    firstframe,
    gain_scale,
    group_scale,
    ipc,
    jump,
    lastframe,
    linearity,
    persistence,
    picture_frame,
    ramp_fit,
    refpix,
    reset,
    rscd,
    saturation,
    superbias,
)
from upramp.stages.stage2 import assign_wcs, bkg_subtract, flat_field, photom
from upramp.stages.stage3 import (
    assign_mtwcs,
    outlier_detection,
    resample,
    skymatch,
    source_catalog,
    tweakreg,
)
from upramp.stages.stage3.members import JointStep


@dataclass(frozen=True)
class NoParams:
    """Of a pipeline that has no parameters of its own."""


@dataclass(frozen=True)
class Detector1Params:
    """Parameters of detector1 itself: ``save_calibrated_ramp`` also writes the ramps that are fitted."""

    save_calibrated_ramp: bool = False


@dataclass(frozen=True)
class Image2Params:
    """Parameters of image2 itself: ``save_bsub`` also writes rates less their background."""

    save_bsub: bool = False


@dataclass(frozen=True)
class Image3Params:
    """Parameters of image3 itself. ``in_memory`` has no effect: images are read one after the other."""

    in_memory: bool = True


@dataclass(frozen=True)
class Pipeline:
    """Steps in order.

    ``pars`` is the CRDS type of the pipeline's own parameter reference, ``params`` the class of its own
    parameters.
    """

    name: str
    steps: tuple[Step | WholeStep[Any] | JointStep, ...]
    pars: str
    params: type = NoParams


NEAR_INFRARED = Pipeline(
    "detector1",
    (
        group_scale.STEP,
        dq_init.STEP,
        saturation.STEP,
        ipc.STEP,
        superbias.STEP,
        refpix.STEP,
        linearity.STEP,
        dark_current.STEP,
        charge_migration.STEP,
        jump.STEP,
        picture_frame.STEP,
        clean_flicker_noise.STEP,
        persistence.STEP,
        ramp_fit.STEP,
        gain_scale.STEP,
    ),
    "pars-detector1pipeline",
    Detector1Params,
)

MID_INFRARED = Pipeline(
    "detector1",
    (
        group_scale.STEP,
        dq_init.STEP,
        emicorr.STEP,
        saturation.STEP,
        ipc.STEP,
        firstframe.STEP,
        lastframe.STEP,
        reset.STEP,
        linearity.STEP,
        rscd.STEP,
        dark_current.STEP,
        refpix.STEP,
        charge_migration.STEP,
        jump.STEP,
        picture_frame.STEP,
        clean_flicker_noise.STEP,
        persistence.STEP,
        ramp_fit.STEP,
        gain_scale.STEP,
    ),
    "pars-detector1pipeline",
    Detector1Params,
)


def _dark(pipeline: Pipeline) -> Pipeline:
    """Darks: the same up to the dark current; the product is the ramps."""
    steps = takewhile(lambda step: step is not dark_current.STEP, pipeline.steps)
    return Pipeline("dark", tuple(steps), "pars-darkpipeline")


NEAR_INFRARED_DARK = _dark(NEAR_INFRARED)
MID_INFRARED_DARK = _dark(MID_INFRARED)
DARK_TYPES = frozenset(
    {"FGS_DARK", "MIR_DARKALL", "MIR_DARKIMG", "MIR_DARKMRS", "NIS_DARK", "NRC_DARK", "NRS_DARK"}
)

IMAGE2 = Pipeline(
    "image2",
    (bkg_subtract.STEP, assign_wcs.STEP, flat_field.STEP, photom.STEP, resample.STEP),
    "pars-image2pipeline",
    Image2Params,
)

IMAGE3 = Pipeline(
    "image3",
    (
        assign_mtwcs.STEP,
        tweakreg.STEP,
        skymatch.STEP,
        outlier_detection.STEP,
        resample.MOSAIC,
        source_catalog.STEP,
    ),
    "pars-image3pipeline",
    Image3Params,
)

BY_INTEGRATION = frozenset({"MIR_4QPM", "MIR_LYOT", "NIS_AMI", "NRC_CORON"})

GUIDER = Pipeline("guider", guider.STEPS, "pars-guiderpipeline")

PIPELINES = (NEAR_INFRARED, MID_INFRARED, NEAR_INFRARED_DARK, MID_INFRARED_DARK, IMAGE2, IMAGE3, GUIDER)


def for_exposure(meta: ExposureMeta) -> Pipeline:
    """The pipeline that takes an uncal file.

    Raises
    ------
    Unprocessable
        If no pipeline here takes this kind of exposure.
    """
    if meta.exp_type in guider.EXP_TYPES:
        return GUIDER
    if not (meta.group_time > 0 and meta.frame_time > 0):
        raise Unprocessable(
            f"TGROUP is {meta.group_time} s and TFRAME {meta.frame_time} s: without the times of groups and "
            f"frames there are no rates; fetch the file again"
        )
    dark = meta.exp_type in DARK_TYPES
    if meta.instrument == "MIRI":
        return MID_INFRARED_DARK if dark else MID_INFRARED
    return NEAR_INFRARED_DARK if dark else NEAR_INFRARED


def goes_on_with(pipeline: Pipeline, meta: ExposureMeta) -> str:
    """The kind of a pipeline's products that the next stage takes; "" where no stage here takes any.

    Time series, coronagraphs and interferometry go on by integration.
    """
    if pipeline not in (NEAR_INFRARED, MID_INFRARED) or meta.exp_type not in assign_wcs.MODES:
        return ""
    return "rateints" if meta.is_tso or meta.exp_type in BY_INTEGRATION else "rate"


def for_image(meta: ExposureMeta) -> Pipeline:
    """The pipeline that takes a rate or rateints file.

    Raises
    ------
    Unprocessable
        If no pipeline here takes this kind of exposure.
    """
    if meta.exp_type not in assign_wcs.MODES:
        raise Unprocessable(
            f"the second stage of EXP_TYPE {meta.exp_type} is not in this version, which calibrates images; "
            "the observatory's package takes the rates as they are"
        )
    return IMAGE2


def registry() -> dict[str, type]:
    """Parameters class by step name, or by the name of a pipeline that has its own, to check configuration.

    Of a step that two pipelines have it is the class of the first, which knows all names.
    """
    own = {pipeline.name: pipeline.params for pipeline in PIPELINES if pipeline.params is not NoParams}
    return own | {step.name: step.params for pipeline in reversed(PIPELINES) for step in pipeline.steps}
