"""Exposures of stripes: which pixels they show, and what their headers say."""

from __future__ import annotations

import numpy as np
import pytest

from upramp.simulate import uncal
from upramp.simulate.detector import draw
from upramp.simulate.expose import QUIET
from upramp.simulate.observation import Observation
from upramp.simulate.stripes import Striped
from upramp.stages.core.stripes import Stripes
from upramp.store.uncal import open_uncal

DETECTOR = draw("NRCA1")


def test_frames_show_the_lines_that_were_picked(tmp_path):
    striped = Striped(
        Observation("NRCA1", ny=15, nx=64, subarray="SUB164STRIPE4_DHS", xstart=101, ngroups=2),
        Stripes(1, 99, 4, 6, 1, 1),
    )
    own = striped.own(DETECTOR)
    rows = [0, *range(100, 104), 0, *range(110, 114), 0, *range(120, 124)]
    assert np.array_equal(own.superbias, DETECTOR.superbias[rows, 100:164])
    assert np.array_equal(own.linearity, DETECTOR.linearity[:, rows, 100:164])
    assert own.reference_pixels[[0, 5, 10]].all() and own.reference_pixels.sum() == 3 * 64
    taken = striped.expose(DETECTOR, [np.zeros((15, 64))], noise=QUIET)
    light = own.mask == 0
    assert abs(taken.counts[0, 0].astype(float) - own.superbias)[light].max() < 60
    meta = open_uncal(
        uncal.write(tmp_path / striped.observation.file_name(), taken.counts, striped.headed)
    ).meta
    assert meta.stripes == striped.stripes


def test_superstripes_take_turns():
    stripes = Stripes(0, 0, 0, 0, 0, 0, 8, 3)
    observation = Observation(
        "NRCB1", ny=8, nx=16, subarray="SUB64P", xstart=901, ystart=924, ngroups=2, nints=6
    )
    striped = Striped(observation, stripes)
    detector = draw("NRCB1")
    taken = striped.expose(detector, [np.full((8, 16), 10.0 * k) for k in range(3)], zeroframe=True)
    assert taken.counts.shape == (6, 2, 8, 16)
    assert taken.zeroframe.shape == (6, 8, 16)
    # this detector is read backwards: each superstripe lies below the one before
    for i in range(6):
        y = 916 - 8 * (i % 3)
        bias = detector.superbias[y : y + 8, 900:916]
        assert np.median(abs(taken.zeroframe[i] - bias)) < 60 + 10 * (i % 3) * observation.frame_seconds
    parent = striped.parent
    assert (parent.xstart, parent.ystart, parent.nx, parent.ny, parent.nints) == (901, 901, 16, 24, 2)
    with pytest.raises(ValueError, match="do not fit 3 regions"):
        striped.expose(detector, [np.zeros((8, 16))])
