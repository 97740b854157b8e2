"""Whole steps one after the other: which run, what they get, how they end."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from upramp.stages.core.errors import NotApplicable
from upramp.stages.core.image import Image
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import Loaded, Prepared
from upramp.stages.core.whole import WholeStep, run_whole

META = ExposureMeta("NIRCAM", "NRCALONG", "NRC_IMAGE", "FULL", 1, 1, 4, 3, -1, 2, 1, 1, 5)


@dataclass(frozen=True)
class Params:
    skip: bool = False


@pytest.fixture
def image():
    zeros = np.zeros((3, 4), np.float32)
    header = {"PRIMARY": {"FILTER": "F444W", "BOTH": 1}, "SCI": {"RA_REF": 80.0, "BOTH": 2}}
    return Image(zeros, zeros, np.zeros((3, 4), np.uint32), zeros, zeros, header=header)


def add(image, context):
    amount = context.references["flat"]["sci"] if context.references else context.loaded["area"].tree["by"]
    return replace(image, sci=image.sci + amount).count("add.pixels", image.sci.size)


def refuse(image, context):
    raise NotApplicable("no lamp was on")


ADD = WholeStep("add", "S_ADD", Params, add, references=("flat", "area"), loads=("area",))
FLAT = replace(ADD, needs=lambda meta, params: ("flat",))
AREA = replace(ADD, needs=lambda meta, params: ("area",))


def test_steps_get_the_references_they_take(image):
    given = {"flat": Prepared({"sci": np.float32(2)}), "area": Loaded("area.asdf", {"by": 3})}
    after, states = run_whole((FLAT,), image, META, given, {})
    assert (after.sci == 2).all() and (image.sci == 0).all()
    after, states = run_whole((AREA,), image, META, given, {})
    assert (after.sci == 3).all()
    assert states["add"].state == "COMPLETE"
    assert after.counters == {"add.pixels": 12}


def test_without_a_reference_that_it_takes_a_step_is_skipped(image):
    after, states = run_whole((FLAT,), image, META, {"area": Loaded("area.asdf", {"by": 3})}, {})
    assert after is image
    assert (states["add"].state, states["add"].reason) == ("SKIPPED", "no flat reference")


def test_a_step_may_find_out_that_it_does_not_apply(image):
    after, states = run_whole((replace(ADD, apply=refuse, references=()),), image, META, {}, {})
    assert after is image
    assert (states["add"].state, states["add"].reason) == ("SKIPPED", "no lamp was on")


def test_a_step_that_does_not_apply_may_leave_something_all_the_same(image):
    def refuse_in_part(given, context):
        raise NotApplicable("no lamp was on", given.with_cards("SCI", {"LAMP": "OFF"}))

    after, states = run_whole((replace(ADD, apply=refuse_in_part, references=()),), image, META, {}, {})
    assert states["add"].state == "SKIPPED" and after.header["SCI"]["LAMP"] == "OFF"


def test_skip_leaves_a_step_out(image):
    after, states = run_whole((ADD,), image, META, {}, {"add": Params(skip=True)})
    assert after is image and states["add"].reason == "skip = true"


def test_cards_of_an_image(image):
    assert image.cards() == {"FILTER": "F444W", "RA_REF": 80.0, "BOTH": 1}
    more = image.with_cards("SCI", {"RA_REF": None, "A_ORDER": 4})
    assert more.header["SCI"] == {"RA_REF": None, "A_ORDER": 4, "BOTH": 2}
    assert image.header["SCI"]["RA_REF"] == 80.0
    assert more.shape == (3, 4)
