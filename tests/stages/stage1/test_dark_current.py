"""dark_current: frames averaged to groups, extension, exceptions."""

from __future__ import annotations

import numpy as np
import pytest

from upramp.stages.core.errors import Misconfigured, NotApplicable
from upramp.stages.stage1.dark_current import STEP, average


def squares(n):
    """A dark of n frames of 2 x 3 pixels with the values 1, 2, 5, 10, 17, 26 ..."""
    return (np.arange(n) ** 2 + 1.0)[:, None, None] * np.ones((n, 2, 3))


def subtracted(apply, reference, dark, ngroups, header=None, dq=0, **facts):
    arrays = {"SCI": dark, "DQ": np.full(dark.shape[1:], dq)}
    out = apply(
        STEP, np.zeros((2, ngroups, 2, 3)), {"dark": reference("dark", arrays, header or {})}, **facts
    )
    return -out.data


@pytest.mark.parametrize(
    ("frames", "ngroups", "nframes", "gap", "expected"),
    [
        (5, 5, 1, 0, [1, 2, 5, 10, 17]),
        (9, 3, 1, 0, [1, 2, 5]),
        (5, 8, 1, 0, [1, 2, 5, 10, 17, 24, 31, 38]),  # extended by 17 - 10
        (10, 4, 2, 0, [1.5, 7.5, 21.5, 43.5]),
        (10, 3, 2, 1, [1.5, 13.5, 43.5]),
        (10, 4, 2, 1, [1.5, 13.5, 43.5, 90.5]),  # frames 10 and 11: (82 + 99) / 2
        (5, 4, 4, 0, [4.5, 27.5, 55.5, 83.5]),
        (10, 3, 1, 2, [1, 10, 37]),
    ],
)
def test_frames_to_groups(apply, reference, frames, ngroups, nframes, gap, expected):
    taken = subtracted(apply, reference, squares(frames), ngroups, nframes=nframes, groupgap=gap)
    assert (taken == np.array(expected)[:, None, None]).all()


@pytest.mark.parametrize(("frames", "ngroups", "expected"), [(10, 3, [1, 2, 5]), (3, 5, [1, 2, 5, 8, 11])])
def test_dark_of_the_same_pattern_goes_group_by_group(apply, reference, frames, ngroups, expected):
    header = {"NFRAMES": 2, "GROUPGAP": 1}
    taken = subtracted(apply, reference, squares(frames), ngroups, header, nframes=2, groupgap=1)
    assert (taken == np.array(expected)[:, None, None]).all()


def test_coarser_dark_is_averaged_as_far_as_it_goes(apply, reference):
    # what the dark promises (10 x 3 frames) suffices for 3 x 5, so it is not extended; group 3 finds no frame
    taken = subtracted(apply, reference, squares(10), 3, {"NFRAMES": 2, "GROUPGAP": 1}, nframes=4, groupgap=1)
    assert taken[0, :2, 0, 0].tolist() == [4.5, 44.5]
    assert np.isnan(taken[:, 2]).all()


@pytest.mark.parametrize("header", [{"NFRAMES": 4}, {"NFRAMES": 1, "GROUPGAP": 1}])
def test_dark_with_more_frames_or_gap_does_not_apply(apply, reference, header):
    with pytest.raises(NotApplicable, match="NFRAMES"):
        subtracted(apply, reference, squares(9), 3, header, nframes=2)


def test_nan_counts_as_zero_within_the_average_and_after_extension(apply, reference):
    dark = squares(4)
    dark[1, 0, 0] = np.nan
    dark[3, 1, 1] = np.nan
    taken = subtracted(apply, reference, dark, 3, nframes=2)
    assert taken[0, :, 0, 0].tolist() == [0.5, 7.5, 17.5]  # (1 + 0) / 2, (5 + 10) / 2, (15 + 20) / 2
    assert taken[0, :, 1, 1].tolist() == [1.5, 2.5, 0]


def test_flags_join_the_pixel_flags_only(apply, reference):
    dark = reference("dark", {"SCI": squares(2), "DQ": np.array([[1, 0, 0], [0, 0, 1 << 23]])})
    out = apply(STEP, np.zeros((1, 2, 2, 3)), {"dark": dark}, pdq=4, columns=(1, 3))
    assert out.pdq.tolist() == [[4, 4], [4, 4 | 1 << 23]]
    assert not out.gdq.any()


@pytest.mark.parametrize(
    ("header", "extra", "parameter", "expected"),
    [
        ({}, {}, None, 0.0),
        ({"AVDRKCUR": 0.25}, {}, None, 0.25),
        ({"AVDRKCUR": 0.25}, {}, 0.0, 0.0),
        ({"AVDRKCUR": 0.25}, {"AVDRKCUR": np.ones((2, 3))}, None, 0.0),
        ({}, {"AVDRKCUR": np.ones((2, 3))}, 0.5, 0.5),
    ],
)
def test_average_dark_current(apply, reference, header, extra, parameter, expected):
    dark = reference("dark", {"SCI": squares(2), **extra}, header)
    out = apply(STEP, np.zeros((1, 2, 2, 3)), {"dark": dark}, params={"average_dark_current": parameter})
    assert out.shared["average_dark_current"] == expected


@pytest.mark.parametrize(
    ("shape", "ngroups", "message"), [((4, 8, 8), 3, "never cut"), ((1, 2, 3), 3, "one frame")]
)
def test_dark_that_does_not_fit_is_refused(apply, reference, shape, ngroups, message):
    with pytest.raises(Misconfigured, match=message):
        apply(STEP, np.zeros((1, ngroups, 2, 3)), {"dark": reference("dark", {"SCI": np.ones(shape)})})


def test_dark_output_is_refused(apply, reference):
    with pytest.raises(Misconfigured, match="dark_output"):
        apply(
            STEP,
            np.zeros((1, 2, 2, 3)),
            {"dark": reference("dark", {"SCI": squares(2)})},
            params={"dark_output": "x.fits"},
        )


@pytest.mark.parametrize(("nframes", "gap"), [(1, 0), (4, 2), (8, 0)])
def test_average_has_the_bits_of_a_single_precision_mean(nframes, gap):
    frames = np.random.default_rng(3).normal(0, 5, (40, 4, 5)).astype(">f4")
    groups = average(frames, 3, nframes, gap, 40)
    starts = [g * (nframes + gap) for g in range(3)]
    expected = [frames[k : k + nframes].astype("f4").mean(axis=0) for k in starts]
    assert groups.shape == (4, 3, 5)
    assert np.array_equal(groups.transpose(1, 0, 2), expected)
