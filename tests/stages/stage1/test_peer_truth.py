"""Single steps against what the observatory's package made of the same ramps (see make_peer_truth.py)."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

TRUTH = Path(__file__).with_name("peer_truth.npz")
TOLERANCE = {"ipc": 3e-5, "linearity": 3e-6, "dark_current": 3e-7}  # of a value; all others to the bit


@pytest.fixture(scope="module")
def truth():
    with np.load(TRUTH) as file:
        arrays = dict(file)
    return json.loads(str(arrays["index"])), arrays


@pytest.mark.parametrize(
    "name",
    [
        "group_scale",
        "dq_init",
        "saturation",
        "ipc",
        "superbias",
        "linearity",
        "dark_current",
        "charge_migration",
    ],
)
def test_same_as_the_peer(apply, truth, name):
    index, arrays = truth
    step = importlib.import_module(f"upramp.stages.stage1.{name}").STEP
    cases = [k for k, case in enumerate(index) if case["step"] == name]
    assert cases
    for k in cases:
        references: dict[str, dict[str, np.ndarray]] = {}
        for key in arrays:
            if key.startswith(f"{k}.ref."):
                reftype, extname = key.split(".")[2:]
                references.setdefault(reftype, {})[extname] = arrays[key]
        data, gdq, pdq = (arrays[f"{k}.in.{a}"] for a in ("data", "gdq", "pdq"))
        facts, params = index[k]["facts"], index[k]["params"]
        out = apply(step, data, references, params=params, gdq=gdq, pdq=pdq, batch=1 + k % 5, **facts)
        assert np.array_equal(out.gdq, arrays[f"{k}.out.gdq"]), k
        assert np.array_equal(out.pdq, arrays[f"{k}.out.pdq"]), k
        expected = arrays[f"{k}.out.data"]
        if name in TOLERANCE:
            assert np.allclose(out.data, expected, rtol=TOLERANCE[name], atol=1e-3, equal_nan=True), k
        else:
            assert np.array_equal(out.data, expected, equal_nan=True), k
