import numpy as np
import pytest

from upramp.simulate import sky
from upramp.simulate.observation import Observation


def test_a_star_at_the_pointing_lies_in_the_middle():
    o = Observation(ny=65, nx=65)
    image = sky.field(o, np.array([[o.ra, o.dec, 1000.0]]), background=2.0)
    assert np.unravel_index(image.argmax(), image.shape) == (32, 32)
    assert (image - 2.0).sum() == pytest.approx(1000.0, rel=1e-3)


def test_dithers_move_stars_by_what_was_asked():
    here, there = Observation(ny=65, nx=65), Observation(ny=65, nx=65, dec=-69.5 + 10 * 0.0628 / 3600)
    star = np.array([80.0]), np.array([-69.5])
    dx, dy = (b - a for a, b in zip(sky.pixels(here, *star), sky.pixels(there, *star), strict=True))
    assert np.hypot(dx, dy) == pytest.approx(10, abs=0.01)


def test_a_transit_dims_the_middle_only():
    curve = sky.transit(41, depth=0.02)
    assert curve[0] == curve[-1] == 1
    assert curve[20] == pytest.approx(0.98)


def test_a_trace_peaks_where_it_should():
    image = sky.trace(Observation(ny=64, nx=256), peak=100.0, background=1.0)
    assert image.max() == pytest.approx(101, rel=0.02)
    assert image[0].max() == pytest.approx(1)
