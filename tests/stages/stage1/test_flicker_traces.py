import numpy as np
import pytest

from upramp.simulate.effects import SossTraces
from upramp.simulate.observation import Observation
from upramp.stages.core.errors import NotApplicable
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Context
from upramp.stages.stage1 import clean_flicker_noise
from upramp.stages.stage1.flicker_traces import polynomial, prepare, rotate, unlit

SOSS = Observation(detector="NIS", subarray="SUBSTRIP256", ny=256, nx=2048, ystart=1793, exp_type="NIS_SOSS")


class Tree:
    name = "pastasoss.asdf"

    def __init__(self, effect):
        [truth] = effect.truth(SOSS)
        self.content = truth.raw

    def tree(self):
        return self.content


def meta(**changes):
    facts = dict(
        instrument="NIRISS", detector="NIS", exp_type="NIS_SOSS", subarray="SUBSTRIP256", xstart=1,
        ystart=1793, nx=2048, ny=256, fastaxis=-2, slowaxis=-1, nints=2, nints_total=2, ngroups=3,
        pupil_position=245.76,
    )  # fmt: skip
    return ExposureMeta(**(facts | changes))


def rows(**changes):
    return prepare(Tree(SossTraces(SOSS)), meta(**changes), None)["rows"]


def test_traces_at_the_commanded_position():
    x = np.arange(2048)
    found = rows()
    for level, row in zip(SossTraces(SOSS).levels, found, strict=True):
        np.testing.assert_allclose(row[1:1200], (level + 25 * ((x - 1024) / 1024) ** 2)[1:1200], atol=1e-3)


def test_an_order_beyond_the_grid_of_wavelengths_goes_on_as_a_level():
    """The third order falls below 0.5 micrometres where (2.8 - 2 x / 2048) / 3 does."""
    last = int(2048 * (2.8 - 1.5) / 2)
    third = rows()[2]
    assert np.ptp(third[last + 1 :]) == 0
    assert third[last] < third[last + 1] + 0.1
    assert np.ptp(third[last - 200 : last]) > 1


def test_traces_turn_with_the_wheel():
    turned, straight = rows(pupil_position=245.96), rows()
    x = np.arange(2048)
    expected = np.sin(np.radians(0.2)) * (x - 1024)
    np.testing.assert_allclose((turned - straight)[0], expected, atol=0.1)


def test_a_shorter_strip_begins_ten_rows_later():
    np.testing.assert_allclose(rows() - rows(subarray="SUBSTRIP96"), 10, atol=1e-9)


@pytest.mark.parametrize("position", [None, 245.0, 246.5])
def test_unknown_positions(position):
    found = prepare(Tree(SossTraces(SOSS)), meta(pupil_position=position), None)
    assert not found.arrays
    assert str(position) in found.info["unknown"]
    params = clean_flicker_noise.Params(skip=False, mask_science_regions=True)
    with pytest.raises(NotApplicable, match="PWCPOS"):
        clean_flicker_noise._allowed(Context(meta(), params, {"pastasoss": found}))
    with pytest.raises(NotApplicable, match="no pastasoss"):
        clean_flicker_noise._allowed(Context(meta(), params, {}))


def test_what_is_masked():
    allowed = unlit(np.array([[40.0, 40.5, 5.0], [70.0, 70.5, 300.0]]), (100, 3))
    assert np.flatnonzero(~allowed[:, 0]).tolist() == [*range(24, 87)]
    assert np.flatnonzero(~allowed[:, 1]).tolist() == [*range(24, 88)]
    assert np.flatnonzero(~allowed[:, 2]).tolist() == [*range(22)]


def test_rotate_and_polynomial():
    x, y = rotate(np.array([2.0]), np.array([1.0]), 90.0, (1.0, 1.0))
    np.testing.assert_allclose([x[0], y[0]], [1, 2], atol=1e-12)
    model = {"scale_extents": [[0, -1], [10, 1]], "polynomial_degree": 2, "coefficients": [1, 2, 3, 4, 5, 6]}
    u, v = 0.5, 0.75
    expected = 1 + 2 * u + 3 * v + 4 * u * u + 5 * u * v + 6 * v * v
    assert polynomial(model, np.array([5.0]), 0.5)[0] == pytest.approx(expected)


def test_light_falls_where_the_reference_says():
    effect = SossTraces(SOSS, position=245.86)
    electrons = np.zeros((256, 2048), np.float32)
    effect.charge(0, 0, 0, electrons)
    allowed = unlit(rows(pupil_position=245.86), (256, 2048))[:, :1400]
    assert electrons[:, :1400][~allowed].mean() > 20 * electrons[:, :1400][allowed].mean()
