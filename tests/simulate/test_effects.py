import numpy as np
import pytest

from upramp.simulate.effects import Flicker, PictureFrame, SossTraces
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


def test_picture_frame_grows_with_time_and_is_stronger_at_the_edges():
    o = Observation(detector="NRS1", ny=2048, nx=2048, ngroups=3, nints=2, tframe=10.0)
    effect = PictureFrame(o, inside=0.2, edge=0.8, width=60.0)
    first, third, later = effect.level(0, 0, 0), effect.level(0, 2, 0), effect.level(1, 2, 0)
    assert first[0, 1000] == pytest.approx(8.0)
    assert first[1000, 1000] == pytest.approx(2.0)
    np.testing.assert_allclose(third, 3 * first, rtol=1e-6)
    np.testing.assert_allclose(later, third / 2, rtol=1e-6)
    [truth] = effect.truth(o)
    assert truth.reftype == "pictureframe"
    np.testing.assert_allclose(10 * truth.extensions[0].data, first, rtol=1e-6)


def test_picture_frame_of_a_subarray_is_cut_from_that_of_the_detector():
    whole = Observation(detector="NRS1", ny=2048, nx=2048, tframe=10.0)
    part = Observation(detector="NRS1", subarray="SUB", ny=32, nx=64, xstart=11, ystart=1001, tframe=10.0)
    one, other = (PictureFrame(o).level(0, 0, 0) for o in (part, whole))
    np.testing.assert_array_equal(one, other[1000:1032, 10:74])


def test_traces_have_the_flux_that_was_asked_for():
    o = Observation(
        detector="NIS", subarray="SUBSTRIP256", ny=256, nx=2048, ystart=1793, tframe=2.0, readpatt="NIS"
    )
    electrons = np.zeros((256, 2048), np.float32)
    SossTraces(o, flux=30.0).charge(0, 0, 1, electrons)
    assert electrons[80, 1024] == pytest.approx(60, rel=0.02)
    assert electrons[20].max() < 1e-3
