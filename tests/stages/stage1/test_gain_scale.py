"""gain_scale: rates by the factor, variances by its square."""

from __future__ import annotations

import numpy as np
import pytest

from upramp.stages.core.errors import NotApplicable
from upramp.stages.stage1.gain_scale import STEP

NAMES = [f"{p}.{n}" for p in ("rate", "rateints") for n in ("sci", "err", "var_poisson", "var_rnoise")]


def outputs():
    made = {n: np.full((2, 3) if n.startswith("rate.") else (2, 2, 3), 3.0, np.float32) for n in NAMES}
    return made | {"rate.dq": np.full((2, 3), 4, np.uint32)}


@pytest.mark.parametrize(
    ("exposure", "header", "factor"),
    [(2.0, {}, 2), (None, {"GAINFACT": 0.5}, 0.5), (2.0, {"GAINFACT": 7}, 2)],
)
def test_factor_of_the_exposure_goes_before_that_of_the_reference(apply, reference, exposure, header, factor):
    gain = reference("gain", {"SCI": np.ones((2, 3))}, header)
    out = apply(STEP, np.zeros((2, 1, 2, 3)), {"gain": gain}, outputs=outputs(), gain_factor=exposure)
    for name in NAMES:
        assert (out.window.outputs[name] == 3 * factor ** (2 if "var" in name else 1)).all(), name
    assert (out.window.outputs["rate.dq"] == 4).all()
    assert out.shared["header"] == {"GAINFACT": factor}


def test_skipped_without_any_factor(apply, reference):
    gain = reference("gain", {"SCI": np.ones((2, 3))})
    with pytest.raises(NotApplicable, match="GAINFACT"):
        apply(STEP, np.zeros((1, 1, 2, 3)), {"gain": gain}, outputs=outputs())


def test_exposure_factor_without_a_reference(apply):
    out = apply(STEP, np.zeros((2, 1, 2, 3)), outputs=outputs(), gain_factor=2.0)
    assert (out.window.outputs["rate.sci"] == 6).all()
