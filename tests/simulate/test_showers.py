"""Showers: faint, spread over many pixels, there to stay."""

from __future__ import annotations

import numpy as np
import pytest

from upramp.simulate.observation import Observation
from upramp.simulate.showers import SHOWER, Showers, showers

OBSERVATION = Observation(detector="MIRIMAGE", ny=60, nx=80, ngroups=6, nints=2)


def one(more=None, **values):
    event = np.zeros(1, SHOWER)
    facts = {"frame": 2, "y": 20, "x": 30, "major": 12, "minor": 6, "electrons": 100}
    for name, value in (facts | values).items():
        event[name] = value
    return Showers(event, **(more or {}))


def frames(effect, ngroups=6, nframes=1, i=0):
    """What has gathered in each frame."""
    electrons, kept = np.zeros((60, 80), np.float32), []
    for g in range(ngroups):
        for f in range(nframes):
            effect.charge(i, g, f, electrons)
            kept.append(electrons.copy())
    return np.array(kept)


def test_most_comes_at_once_and_a_tail_after():
    middle = frames(one())[:, 20, 30]
    expected = [0, 0, *(100 * (1 + 0.3 * (1 - np.exp(-np.arange(4) / 3))))]
    assert middle == pytest.approx(expected)


def test_frames_between_groups_count():
    effect = one({"frames_per_group": 2, "frames_between": 3, "fall": 1.0}, frame=3)
    middle = frames(effect, 3, 2)[:, 20, 30]
    after = np.array([5, 6, 10, 11]) - 3  # frames 2 to 4 are not read
    assert middle == pytest.approx([0, 0, *(100 * (1 + 0.3 * (1 - np.exp(-after))))])


def test_an_ellipse_with_soft_edges():
    image = frames(one(angle=np.pi / 2), 3)[-1]
    assert image[26, 30] > 90 > 20 > image[20, 37]
    assert image[32, 30] == pytest.approx(100 * np.exp(-1))
    assert image[20, 36] == pytest.approx(100 * np.exp(-1))
    assert not image[:, 60:].any()


def test_only_in_its_integration():
    assert not frames(one(integration=1)).any()
    assert frames(one(integration=1), i=1).any()


@pytest.mark.parametrize(("y", "seen"), [(-3, True), (62, True), (-40, False), (400, False)])
def test_beyond_the_edge(y, seen):
    assert bool(frames(one(y=y)).any()) == seen


def test_drawn_again_they_are_the_same():
    events = showers(OBSERVATION, 30, seed=3).events
    assert np.array_equal(events, showers(OBSERVATION, 30, seed=3).events)
    assert not np.array_equal(events, showers(OBSERVATION, 30, seed=4).events)
    assert set(events["integration"]) == {0, 1}
    assert events["electrons"].min() > 60 and events["electrons"].max() < 250
