import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upramp.simulate import detector as detectors
from upramp.stages.core import dq

CHIP = detectors.draw("NRCALONG", 24, 32, seed=3, bad=0.02, hot=0.02)


@given(st.floats(0, 50000))
def test_unlinearize_undoes_linearize(level):
    linear = np.full(CHIP.shape, level, np.float32)
    back = CHIP.linearize(CHIP.unlinearize(linear))
    np.testing.assert_allclose(back, linear, rtol=2e-6, atol=0.01)


def test_same_seed_same_detector():
    again = detectors.draw("NRCALONG", 24, 32, seed=3, bad=0.02, hot=0.02)
    np.testing.assert_array_equal(again.superbias, CHIP.superbias)
    other = detectors.draw("NRCBLONG", 24, 32, seed=3, bad=0.02, hot=0.02)
    assert not np.array_equal(other.superbias, CHIP.superbias)


def test_the_border_sees_no_light():
    inner = np.zeros(CHIP.shape, bool)
    inner[4:-4, 4:-4] = True
    np.testing.assert_array_equal(CHIP.reference_pixels, ~inner)
    assert not CHIP.dark_rate[~inner].any()
    assert ((CHIP.mask[inner] & dq.DEAD) != 0).any()
    assert CHIP.hot.any()


@pytest.mark.parametrize(("name", "axis"), [("NRCALONG", 1), ("NIS", 0), ("NRS1", 0), ("GUIDER2", 0)])
def test_gain_stripes_lie_along_the_fast_axis(name, axis):
    gain = detectors.draw(name, 16, 16).gain
    assert (gain == np.take(gain, [0], axis=1 - axis)).all()
    assert np.unique(gain).size == 4


def test_cut_refuses_what_is_not_there():
    part = CHIP.cut((slice(4, 10), slice(8, 20)))
    assert part.shape == (6, 12)
    assert part.linearity.shape == (4, 6, 12)
    with pytest.raises(ValueError, match="beyond"):
        CHIP.cut((slice(20, 30), slice(0, 4)))
