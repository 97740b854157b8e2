"""Large events: cores that saturate, halos that fade."""

from __future__ import annotations

import numpy as np
import pytest

from upramp.simulate.large_events import EVENT, LargeEvents, ellipses, snowballs
from upramp.simulate.observation import Observation

OBSERVATION = Observation(ny=60, nx=80, ngroups=4, nints=2, readpatt="BRIGHT2")


def one(**values):
    event = np.zeros(1, EVENT)
    facts = {"y": 20, "x": 30, "radius": 3, "ratio": 1, "core": 1e5, "halo": 1000, "length": 2}
    for name, value in (facts | values).items():
        event[name] = value
    return LargeEvents(event)


def image(effect, i=0, g=0, f=0, shape=(60, 80)):
    electrons = np.zeros(shape, np.float32)
    effect.charge(i, g, f, electrons)
    return electrons


def test_core_and_halo():
    got = image(one())
    assert got[20, 30] == got[20, 33] == got[17, 30] == 1e5
    assert got[20, 35] == pytest.approx(1000 * np.exp(-1))
    assert got[20, 37] == pytest.approx(1000 * np.exp(-2))
    assert got[20, 60] == 0  # too far
    assert np.argwhere(got == 1e5).mean(axis=0).tolist() == [20, 30]


def test_only_in_its_own_frame():
    event = one(integration=1, group=2, frame=1)
    assert not image(event).any() and not image(event, 1, 2, 0).any()
    assert image(event, 1, 2, 1).any()


def test_flattened_and_turned():
    got = image(one(ratio=0.5, radius=6, angle=np.pi / 2)) == 1e5
    assert np.ptp(np.argwhere(got), axis=0).tolist() == [12, 6]


@pytest.mark.parametrize("place", [(-2, 30), (61, 30), (20, -4), (20, 83), (-300, 30), (20, 900)])
def test_beyond_the_edge(place):
    y, x = place
    got = image(one(y=y, x=x, radius=6))
    assert bool((got == 1e5).any()) == (-6 <= y <= 65 and -6 <= x <= 85)


@pytest.mark.parametrize("draw", [snowballs, ellipses])
def test_drawn_events(draw):
    events = draw(OBSERVATION, 40, seed=3).events
    assert np.array_equal(events, draw(OBSERVATION, 40, seed=3).events)
    assert not np.array_equal(events, draw(OBSERVATION, 40, seed=4).events)
    assert set(events["integration"]) == {0, 1} and events["group"].max() <= 3
    assert set(events["frame"]) == {0, 1}
    edge = np.minimum(np.minimum(events["y"], 60 - events["y"]), np.minimum(events["x"], 80 - events["x"]))
    assert (edge[::4] < 20).all()
    together = events[1::4]
    assert np.array_equal(together["group"], events["group"][::4])
    assert (events["core"] > 1e5).all() == (draw is snowballs)
