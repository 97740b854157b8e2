import numpy as np
import pytest

from upramp.simulate.effects import Flicker
from upramp.simulate.observation import Observation


@pytest.mark.parametrize("detector", ["NRCALONG", "NRCBLONG", "NIS", "NRS1"])
def test_flicker_is_common_to_lines_along_the_fast_axis(detector):
    o = Observation(detector=detector, ny=64, nx=64)
    level = Flicker(o, common=10.0, own=0.0).level(0, 1, 0)
    along = 1 if o.layout.fast_is_x else 0
    lines, across = level.mean(axis=along).std(), level.mean(axis=1 - along).std()
    assert level.shape == (64, 64)
    assert lines > 3 * across
    parts = np.split(level, 4, axis=along)  # all outputs read the same
    for part in parts[1:]:
        np.testing.assert_array_equal(part, parts[0])


def test_flicker_of_outputs_alone_differs_between_them():
    o = Observation(detector="NRCALONG", ny=64, nx=64)
    level = Flicker(o, common=0.0, own=10.0).level(0, 1, 0)
    one, two = (level[:, part].mean(axis=1) for part in (slice(0, 16), slice(16, 32)))
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.6


def test_flicker_of_the_mid_infrared_runs_along_columns():
    level = Flicker(Observation(detector="MIRIMAGE", ny=32, nx=40)).level(0, 0, 0)
    assert np.ptp(np.broadcast_to(level, (32, 40)), axis=0).max() == 0
    assert level.std() > 1


def test_flicker_is_drawn_anew_and_the_same_again():
    o = Observation(ny=16, nx=16)
    one, two, again = (Flicker(o).level(0, g, 0) for g in (0, 1, 0))
    assert not np.allclose(one, two)
    np.testing.assert_array_equal(one, again)


def test_flicker_has_more_power_at_low_frequencies():
    o = Observation(detector="NRCBLONG", subarray="SUB", ny=256, nx=256, noutputs=1)
    stream = Flicker(o, common=1.0, own=0.0).level(0, 0, 0)[::-1].ravel()
    power = np.abs(np.fft.rfft(stream)) ** 2
    low, high = power[10:100].mean(), power[1000:10000].mean()
    assert 10 < low / high < 1000
