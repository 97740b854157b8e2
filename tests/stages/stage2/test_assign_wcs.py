"""assign_wcs as a step: what the image gets, and when there is nothing to get."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from astropy.modeling.models import Scale, Shift

from upramp.stages.core.errors import Unprocessable
from upramp.stages.core.image import Image
from upramp.stages.core.reference import Loaded
from upramp.stages.core.whole import run_whole
from upramp.stages.stage2.assign_wcs import MODES, STEP, Params

SCI = {
    "V2_REF": 86.0, "V3_REF": -493.0, "RA_REF": 80.0, "DEC_REF": -69.5, "ROLL_REF": 30.0, "CRPIX1": 16.5,
    "CRPIX2": 12.5, "PC1_1": -1.0, "CDELT1": 1e-5,
}  # fmt: skip
PRIMARY = {
    "INSTRUME": "NIRCAM",
    "DETECTOR": "NRCALONG",
    "EXP_TYPE": "NRC_IMAGE",
    "FILTER": "F444W",
    "PUPIL": "CLEAR",
}
MODEL = Shift(-16.0) & Shift(-12.0) | Scale(0.063) & Scale(0.063) | Shift(86.0) & Shift(-493.0)
REFERENCES = {"distortion": Loaded("distortion.asdf", {"model": MODEL}), "camera": Loaded("camera.asdf", {})}


@pytest.fixture
def run(make_meta):
    """A function that runs the step: image, state."""

    def do(params=None, sci=SCI, references=REFERENCES, shape=(24, 32), **meta):
        zeros = np.zeros(shape, np.float32)
        image = Image(zeros, zeros, zeros, zeros, zeros, header={"PRIMARY": PRIMARY, "SCI": sci})
        facts = make_meta(*shape[-2:], **meta)
        made, states = run_whole((STEP,), image, facts, references, {"assign_wcs": params or Params()})
        return made, states["assign_wcs"]

    return do


def test_an_image_gets_its_wcs_and_tells_of_it(run):
    image, state = run()
    assert state.state == "COMPLETE"
    ra, dec = image.wcs(16.0, 12.0)
    assert (ra, dec) == pytest.approx((80.0, -69.5))
    cards = image.header["SCI"]
    assert cards["S_REGION"].startswith("POLYGON ICRS  ")
    assert cards["CTYPE1"] == "RA---TAN" and cards["CRPIX1"] == 16.5
    assert cards["PC1_1"] is None and cards["CDELT1"] is None
    assert image.leaves["meta"]["wcsinfo"]["sipmxerr"] < 0.01
    assert not image.counters


def test_integrations_share_one(run):
    image, _ = run(shape=(3, 24, 32))
    assert image.wcs.bounding_box.bounding_box(order="F") == ((-0.5, 31.5), (-0.5, 23.5))


def test_without_an_approximation_the_header_keeps_its_own(run):
    image, _ = run(Params(sip_approx=False))
    assert image.header["SCI"] == SCI | {"S_REGION": image.header["SCI"]["S_REGION"]}
    assert not image.leaves


def test_an_approximation_that_fails_is_counted(run):
    image, state = run(Params(sip_degree=6, sip_npoints=3))
    assert state.state == "COMPLETE" and image.wcs is not None
    assert image.counters == {"assign_wcs.sip_failed": 1}
    assert image.header["SCI"]["PC1_1"] == -1.0


def test_one_beyond_its_limit_too(run):
    image, _ = run(Params(sip_max_pix_error=1e-18))
    assert image.counters == {"assign_wcs.sip_beyond_limit": 1}


def test_only_the_references_of_the_mode_are_needed(run):
    _, state = run(references={})
    assert (state.state, state.reason) == ("SKIPPED", "no distortion reference")
    _, state = run(exp_type="NRS_TACQ", grating="MIRROR")
    assert state.reason.startswith("no collimator and no disperser and")


def test_what_has_no_wcs(run):
    _, state = run(exp_type="NRC_DARK")
    assert state.reason == "no WCS for EXP_TYPE NRC_DARK"
    _, state = run(
        exp_type="NRS_VERIFY",
        grating="G140M",
        references=dict.fromkeys(STEP.references, REFERENCES["camera"]),
    )
    assert state.reason == "NRS_VERIFY with GRATING G140M is no image"


def test_without_pointing_the_file_is_refused(run):
    with pytest.raises(Unprocessable, match="ROLL_REF"):
        run(sci={k: v for k, v in SCI.items() if k != "ROLL_REF"})


def test_modes_take_references_of_the_record():
    assert {r for mode in MODES.values() for r in mode.references} == set(STEP.references) == set(STEP.loads)
    assert next(iter(dataclasses.fields(Params))).name == "skip"
