"""Steps of stage 3 that are called for targets that move, and those that are not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from upramp.daemon.mosaics import NOT_CALLED, _in_common
from upramp.stages.stage3 import assign_mtwcs, tweakreg
from upramp.stages.stage3.members import Means


@pytest.mark.parametrize(("step", "kind"), [(assign_mtwcs.STEP, "FIXED"), (tweakreg.STEP, "MOVING")])
def test_steps_that_are_not_called_leave_no_word(step, kind):
    members = [SimpleNamespace(cards={"TARGTYPE": kind}) for _ in range(2)]
    course = SimpleNamespace(states={})
    planned = SimpleNamespace(runs=True, name=step.name, reason="")
    assert _in_common(planned, step, members, Means(), course) == members
    assert course.states == {step.name: (False, NOT_CALLED[step.name])}


def test_steps_that_are_skipped_say_so():
    members = [SimpleNamespace(cards={"TARGTYPE": "MOVING"})]
    planned = SimpleNamespace(runs=False, name="tweakreg", reason="skip = true")
    [made] = _in_common(planned, tweakreg.STEP, members, Means(), SimpleNamespace(states={}))
    assert made.change.primary == {"S_TWKREG": "SKIPPED"}
