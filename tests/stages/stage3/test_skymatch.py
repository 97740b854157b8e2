"""Levels of exposures: every method, groups, what is left out, what the headers say."""

from __future__ import annotations

import numpy as np
import pytest

from upramp.stages.core.errors import Misconfigured, Unprocessable
from upramp.stages.core.frames import Crew
from upramp.stages.stage3.members import Changed, Means
from upramp.stages.stage3.skymatch import STEP, Measured, Params, levels_of, matched, run


def levels(members, means=None, **parameters):
    changes = run(members, Params(**parameters), means or Means())
    return [change.primary.get("BKGLEVEL") for change in changes]


def near(*values):
    return [v if v is None else pytest.approx(v, abs=0.05) for v in values]


@pytest.mark.parametrize(
    ("method", "down", "expected"),
    [
        ("local", True, (1, 3, 7, 2)),
        ("global", True, (1, 1, 1, 1)),
        ("match", True, (0, 2, 6, None)),
        ("match", False, (-6, -4, 0, None)),
        ("global+match", True, (1, 3, 7, 1)),
        ("global+match", False, (-4, -2, 2, 2)),
    ],
)
def test_methods(exposures, method, down, expected):
    assert levels(exposures(), skymethod=method, match_down=down, skystat="median") == near(*expected)


def test_an_image_is_read_once_and_whatever_the_threads(exposures):
    members = exposures()
    one = levels(members, skymethod="global+match")
    assert [m.reads for m in members] == [1, 1, 1, 1]
    assert levels(exposures(), Means(Crew(3)), skymethod="global+match") == one


def test_headers_and_pixels(exposures):
    members = exposures()
    for subtract in (False, True):
        changes = run(members, Params(subtract=subtract), Means())
        assert [c.state for c in changes] == ["COMPLETE"] * 3 + ["SKIPPED"]
        image = Changed(members[2], changes[2]).read()
        cards = image.header["PRIMARY"]
        assert (cards["BKGMETH"], cards["BKGSUB"]) == ("match", subtract)
        assert np.nanmedian(image.sci) == pytest.approx(7 - 6 * subtract, abs=0.1)
    assert "overlaps with no other" in changes[3].reason and not changes[3].primary
    assert Changed(members[2], changes[2]).cards["BKGSUB"] is True
    assert (STEP.name, STEP.keyword) == ("skymatch", "S_SKYMAT")


def test_groups_share_a_level(exposures):
    members = exposures()
    for k, group in enumerate(("a", "a", "b", "b")):
        members[k].group = group
    found = levels(members, skymethod="match", skystat="median")
    assert found[0] == found[1] and found[2] == found[3]
    assert found[0] == 0 and 4 < found[2] < 6
    # a group's own level is the least of its images'
    assert levels(members, skymethod="local", skystat="median") == near(1, 1, 2, 2)


def test_an_image_without_a_good_pixel(exposures):
    members = exposures()
    members[1].dq[:] = 1
    assert levels(members, skystat="median") == near(0, None, 6, None)
    assert levels(members, skymethod="local", skystat="median") == near(1, None, 7, 2)
    assert levels(members, skymethod="global", skystat="median") == near(1, 1, 1, 1)


def test_flags_and_limits(exposures):
    how = {"skymethod": "local", "skystat": "mean", "nclip": 0}
    assert levels(exposures(), **how) == near(1, 3, 7, 2)
    assert levels(exposures(), **how, dqbits="DO_NOT_USE")[0] > 1000
    assert levels(exposures(), **how, dqbits="DO_NOT_USE", upper=50.0) == near(1, 3, 7, 2)
    assert levels(exposures(), **how, lower=8.0) == [None] * 4


def test_the_tables_of_the_documentation():
    """Two mosaics that do not touch; the levels are exact."""
    sky = np.array([100.0, 120, 105, 110, 95, 90, 100])
    touch = np.zeros((7, 7))
    touch[:4, :4] = touch[4:, 4:] = 50.0
    np.fill_diagonal(touch, 0)
    level = np.where(touch > 0, sky[:, None], np.nan)
    measured = Measured(sky, level, touch)
    for method, expected in {
        "match": [0, 20, 5, 10, 8.75, 3.75, 13.75],
        "global+match": [86.25, 106.25, 91.25, 96.25, 95, 90, 100],
        "global": [90.0] * 7,
        "local": sky,
    }.items():
        np.testing.assert_allclose(levels_of(measured, Params(skymethod=method)), expected, atol=1e-9)


def test_least_squares_as_the_pairs_say():
    rng = np.random.default_rng(1)
    n = 5
    pixels = rng.integers(1, 1000, (n, n)).astype(float)
    pixels[0, 3] = 0  # no pixel on one side: no pair
    np.fill_diagonal(pixels, 0)
    level = rng.normal(size=(n, n))
    rows, right = [], []
    for i in range(n):
        for j in range(i + 1, n):
            if pixels[i, j] and pixels[j, i]:
                row, w = np.zeros(n), (pixels[i, j] + pixels[j, i]) / 2
                row[i], row[j] = w, -w
                rows.append(row)
                right.append(w * (level[i, j] - level[j, i]))
    expected = np.linalg.pinv(np.array(rows)) @ np.array(right)
    np.testing.assert_allclose(matched(level, pixels), expected, atol=1e-10)


def test_levels_of_the_users(exposures):
    members, files = exposures()[:2], {"sky.txt": "# names\njw2_cal.fits 1.5\njw1_rate.fits 0.5\n"}
    means = Means(text=lambda path: files[path])
    assert levels(members, means, skymethod="user", skylist="sky.txt") == [0.5, 1.5]
    [first, _] = run(members, Params(skymethod="user", skylist="sky.txt", subtract=True), means)
    assert np.nanmedian(first.apply(members[0].read()).sci) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jw1_cal.fits 0.5\n", "1 levels for 2 images"),
        ("jw1_cal.fits 0.5\njw9_cal.fits 1\n", "no line for jw2_cal.fits"),
        ("jw1_cal.fits 0.5 7\njw2_cal.fits 1\n", "line 1"),
        ("jw1_cal.fits x\njw2_cal.fits 1\n", "line 1"),
    ],
)
def test_a_list_that_does_not_fit(exposures, text, message):
    with pytest.raises(Misconfigured, match=message):
        levels(exposures()[:2], Means(text=lambda path: text), skymethod="user", skylist="sky.txt")


def test_a_list_that_is_not_there(exposures):
    with pytest.raises(Misconfigured, match="names no file"):
        levels(exposures(), skymethod="user")
    with pytest.raises(Misconfigured, match="cannot be read"):
        levels(exposures(), skymethod="user", skylist="nowhere.txt")


def test_levels_that_were_subtracted_before_add_up(exposures):
    members = exposures(cards={"BKGLEVEL": 5.0, "BKGSUB": True})
    assert levels(members, subtract=True, skystat="median") == near(5, 7, 11, None)
    with pytest.raises(Misconfigured, match="set it to true"):
        levels(members)
    kept = exposures(cards={"BKGLEVEL": 5.0, "BKGSUB": False})
    assert levels(kept, skystat="median") == near(0, 2, 6, None)
    with pytest.raises(Unprocessable, match="one tells nothing"):
        levels(exposures(cards={"BKGLEVEL": 5.0}))


def test_a_lone_image(exposures):
    assert levels(exposures()[:1]) == [None]
    assert levels(exposures()[:1], skymethod="global+match", skystat="median") == near(1)


@pytest.mark.parametrize(
    "wrong", [{"skymethod": "best"}, {"skystat": "most"}, {"nclip": -1}, {"binwidth": 0.0}]
)
def test_parameters_that_make_no_sense(wrong):
    with pytest.raises(ValueError):
        Params(**wrong)
