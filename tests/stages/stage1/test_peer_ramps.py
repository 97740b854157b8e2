"""ramp_fit against the recorded answers of the observatory's package (see make_peer_ramps.py)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from upramp.stages.core.frames import RampStore
from upramp.stages.stage1 import frame_zero, ramp_fit

with np.load(Path(__file__).with_name("peer_ramps.npz")) as _file:
    ARRAYS = dict(_file)
CASES = json.loads(str(ARRAYS["index"]))


def of(k, kind):
    start = f"{k}.{kind}."
    return {name.removeprefix(start): a for name, a in ARRAYS.items() if name.startswith(start)}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("k", range(len(CASES)))
def test_same_as_the_peer(through, describe, k):
    given, answer, case = of(k, "in"), of(k, "out"), CASES[k]
    refs = {name: {"SCI": given[name]} for name in ("gain", "readnoise")}
    facts, shared = dict(case["facts"]), {}
    if "zero" in given:
        facts["has_zeroframe"] = True
        store = RampStore.empty(frame_zero.exposure(describe(given["data"], **facts)))
        store.data[:] = given["zero"][:, None]
        shared = {ramp_fit.FRAME_ZERO: store}
    steps = [(ramp_fit.STEP, case["params"])]
    out = through(steps, given["data"], refs, gdq=given["gdq"], pdq=given["pdq"], shared=shared, **facts)
    made = dict(out.products)
    for extra in out.shared["extras"].found if "extras" in out.shared else ():
        extra.ready()
        made |= {f"{extra.suffix}.{name}": cube.array for name, cube in extra.arrays.items()}
    for name, wanted in answer.items():
        ours = made[name]
        assert ours.shape == wanted.shape, name
        if name.endswith("dq"):
            np.testing.assert_array_equal(ours, wanted, err_msg=name)
            continue
        far = 1e-3 if name.endswith(("YINT", "PEDESTAL")) else 1e-7
        # two differences that contradict each other: roundings decide which is left out
        differ = ~np.isclose(ours, wanted, rtol=3e-5, atol=far, equal_nan=True)
        allowed = 3 if case["params"].get("algorithm") == "LIKELY" else 0
        assert np.count_nonzero(differ) <= allowed, (name, ours[differ], wanted[differ])
