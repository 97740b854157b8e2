"""Rates that a second stage takes: they follow by themselves, and are made up for where a run was cut off."""

from __future__ import annotations

from dataclasses import replace

import pytest

from upramp.daemon.events import FileFailed, FileSkipped, SegmentCommitted
from upramp.stages.core.errors import Misconfigured

NAME = "jw01234001001_02101_00001_nrca1_uncal.fits"
RATE = NAME.replace("_uncal", "_rate")


@pytest.fixture
def further(workshop):
    """A workshop that goes on to stage 2."""
    run = replace(workshop.config.run, until="stage2")
    workshop.config = replace(workshop.config, run=run)
    return workshop


def kinds(workshop):
    return sorted(row["kind"] for row in workshop.read().state.products())


def test_rates_are_the_end_by_default(workshop):
    workshop.run(workshop.write(NAME))
    assert kinds(workshop) == ["rate", "rateints"]


def test_rates_go_on(further):
    further.run(further.write(NAME))
    assert kinds(further) == ["cal", "rate", "rateints"]
    state = further.read().state
    assert {row["segment_id"] for row in state.segments()} == {NAME[:-11], RATE[:-5]}
    assert [row["exposure_id"] for row in state.exposures()] == [NAME[:-11]]


def test_what_is_done_is_not_done_again(further):
    path = further.write(NAME)
    further.run(path)
    further.run(path)
    assert not further.told_of(SegmentCommitted)
    assert [event.path.name for event in further.told_of(FileSkipped)] == [NAME, RATE]


def test_a_stage_that_was_cut_off_is_made_up_for(further, workshop):
    """The first run ended with the rates; the uncal file is unchanged."""
    path = further.write(NAME)
    first = replace(further.config, run=replace(further.config.run, until="stage1"))
    further.config, second = first, further.config
    further.run(path)
    further.config = second
    further.run(path)
    assert [event.path.name for event in further.told_of(SegmentCommitted)] == [RATE]
    assert kinds(further) == ["cal", "rate", "rateints"]


def test_a_failure_there_leaves_the_rates(further):
    further.calibrator.failures[RATE] = [Misconfigured("no distortion; give another context")]
    further.run(further.write(NAME))
    assert kinds(further) == ["rate", "rateints"]
    [failed] = further.told_of(FileFailed)
    assert failed.path.name == RATE


def test_new_counts_make_new_images(further):
    further.run(further.write(NAME))
    further.run(further.write(NAME, total=2, note="again"))
    state = further.read().state
    assert {
        row["segment_id"]: row["version"] for row in state.segments() if row["state"] == "calibrated"
    } == {
        NAME[:-11]: 2,
        RATE[:-5]: 2,
    }
    assert kinds(further) == ["cal", "rate", "rateints"]
