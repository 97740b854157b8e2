"""Outliers of made-up visits."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from astropy.stats import sigma_clipped_stats

from upramp.stages.core.dq import DO_NOT_USE, OUTLIER
from upramp.stages.core.errors import Unprocessable
from upramp.stages.core.extras import MemoryCube
from upramp.stages.core.frames import Crew
from upramp.stages.stage3.members import Changed, Means
from upramp.stages.stage3.outlier_detection import STEP, Params, run

DITHER = [(0.0, 0.0), (0.09, -0.06), (-0.05, 0.08), (0.04, 0.11)]
FLAGS = OUTLIER | DO_NOT_USE


def found(members, means=None, **parameters):
    """The pixels that are outliers, for each member."""
    return [change.lost.pixels() for change in run(members, Params(**parameters), means or Means())]


def rays(members):
    """The pixels where cosmic rays are."""
    there = np.zeros((len(members), *members[0].shape), bool)
    for k, member in enumerate(members):
        there[(k, *member.cards["ray"])] = True
    return there


def test_cosmic_rays_are_found_and_stars_are_not(visit):
    members = visit(DITHER)
    changes = run(members, Params(), Means())
    inside = np.s_[2:-2, 2:-2]
    for change, ray in zip(changes, rays(members), strict=True):
        assert change.state == "COMPLETE" and change.flags == FLAGS
        np.testing.assert_array_equal(change.lost.pixels()[inside], ray[inside])
    assert [m.reads for m in members] == [2] * 4
    assert (STEP.name, STEP.keyword) == ("outlier_detection", "S_OUTLIR")


@pytest.mark.parametrize("kernel", ["point", "turbo"])
def test_other_kernels(visit, kernel):
    members = visit(DITHER)
    for ours, ray in zip(found(members, kernel=kernel), rays(members), strict=True):
        assert ours[ray].all() and ours[5:-5, 5:-5].sum() < 4


def test_what_becomes_of_outliers(visit):
    members = visit(DITHER)
    members[0].dq[3, 3] = DO_NOT_USE
    members[0].rnoise[4, 4] = np.nan
    [change, *_] = run(members, Params(), Means())
    before, image = members[0].read(), Changed(members[0], change).read()
    ray = members[0].cards["ray"]
    assert image.dq[ray] == FLAGS and image.dq[3, 3] == image.dq[4, 4] == DO_NOT_USE
    lost = (image.dq & DO_NOT_USE) > 0
    for name in ("sci", "err", "var_poisson", "var_rnoise"):
        values = getattr(image, name)
        np.testing.assert_array_equal(np.isnan(values), lost)
        np.testing.assert_array_equal(values[~lost], getattr(before, name)[~lost])


def test_whatever_the_threads_and_the_room(visit):
    one = found(visit(DITHER))
    shapes = []

    def room(shape):
        shapes.append(shape)
        return MemoryCube(shape)

    np.testing.assert_array_equal(found(visit(DITHER), Means(Crew(3), room=room)), one)
    [(groups, bands, rows, columns)] = shapes
    assert groups == 4 and bands * rows >= 40 and columns >= 40


@pytest.mark.parametrize("resampled", [True, False])
def test_one_image_is_held_at_a_time(visit, resampled):
    read, alive = [], []

    class Watched:
        def __init__(self, member):
            self.member = member

        def __getattr__(self, name):
            return getattr(self.member, name)

        def read(self, *names):
            image = self.member.read(*names)
            read.append(weakref.ref(image.sci))
            alive.append(sum(pixels() is not None for pixels in read))
            return image

    found([Watched(m) for m in visit(DITHER)], resample_data=resampled)
    assert alive == [1] * 8


@pytest.mark.parametrize("subtracted", [False, True])
def test_the_sky_may_differ_if_skymatch_has_seen_it(visit, subtracted):
    members = visit(DITHER, levels=(0.0,) * 4 if subtracted else (0.0, 2.0, 0.7, 9.0))
    for member, level in zip(members, (0.0, 2.0, 0.7, 9.0), strict=True):
        member.cards |= {"BKGLEVEL": level, "BKGSUB": subtracted}
    np.testing.assert_array_equal(found(members), found(visit(DITHER)))
    # a level that is in the pixels goes before the user's; one that is not does not
    assert np.array_equal(found(members, backg=3.0), found(members)) is not subtracted


def test_background_of_the_users(visit):
    assert np.mean(found(visit(DITHER), backg=3.0)) > 0.9


def test_images_of_an_exposure_are_one(visit):
    members = visit(DITHER)
    for member in members[:2]:
        member.sci[5:15, 5:15] = 50.0
    part = np.s_[8:12, 8:12]
    assert [f[part].all() for f in found(members)] == [True] * 4  # two of four: half of 50 in between
    for member, group in zip(members, "aabc", strict=True):
        member.group = group
    assert [f[part].all() for f in found(members)] == [True, True, False, False]  # one of three
    for member in members:
        member.group = "a"
    assert len(found(members)) == 4


def test_weights_and_flags(visit):
    members = visit(DITHER)
    for member in members[1:]:
        member.sci[5:15, 5:15] = 50.0
        member.dq[5:15, 5:15] = DO_NOT_USE | 4
    members[0].sci[5:15, 5:15] = 2.0
    ours, theirs = found(members), found(members, good_bits="JUMP_DET, DO_NOT_USE")
    assert not ours[0][8:12, 8:12].any()  # only this image says something
    assert theirs[0][8:12, 8:12].all() and ours[1][8:12, 8:12].all()
    np.testing.assert_array_equal(found(members, weight_type="exptime")[0], ours[0])


def test_low_weights_say_nothing(visit):
    members = visit(DITHER)
    for member in members[1:]:
        member.rnoise[5:15, 5:15] = 0.02
        member.sci[5:15, 5:15] = 50.0
    assert not found(members)[0][8:12, 8:12].any()
    assert found(members, maskpt=0.4)[0][8:12, 8:12].all()


def test_fill_value_counts_where_weights_do_not(visit):
    members = visit([(0.0, 0.0), (0.9, 0.0), (0.9, 0.0)])
    beyond = found(members, maskpt=0.0, fillval="900")
    assert beyond[0].sum() > found(members, maskpt=0.0)[0].sum() + 100


def test_without_resampling(visit):
    members = visit([(0.0, 0.0)] * 4)
    for k, found_here in enumerate(found(members, resample_data=False)):
        # four times the same place: limits are 5 errors, of values that scatter by one
        np.testing.assert_array_equal(found_here, rays(members)[k])
    assert [m.reads for m in members] == [2] * 4
    with pytest.raises(Unprocessable, match=r"jw1_cal.fits has \(30, 30\)"):
        run([*members, *visit([(0.0, 0.0)], side=30)], Params(resample_data=False), Means())


def test_products_between(visit):
    kept = []
    members = visit(DITHER[:3])
    members[1].group = members[0].group
    means = Means(keep=lambda name, product: kept.append((name[:3], product)))
    run(members, Params(save_intermediate_results=True), means)
    names = [(name, product.suffix) for name, product in kept]
    assert names == [
        ("jw1", "outlier_i2d"), ("jw3", "outlier_i2d"), ("jw1", "median"),
        ("jw1", "blot"), ("jw2", "blot"), ("jw3", "blot"),
    ]  # fmt: skip
    first, second, median, blot, *_ = (product for _, product in kept)
    both = np.stack([first.arrays["SCI"], second.arrays["SCI"]])
    for values, weights in zip(both, (first.arrays["WHT"], second.arrays["WHT"]), strict=True):
        mean, *_ = sigma_clipped_stats(weights[weights > 0], sigma=3, maxiters=5)
        values[weights < 0.7 * mean] = np.nan
    counts = np.isfinite(both)
    expected = np.nansum(both, axis=0) / counts.sum(axis=0).clip(1)
    expected[~counts.any(axis=0)] = np.nan
    np.testing.assert_allclose(median.arrays["SCI"], expected, rtol=1e-5)
    assert first.header["NDRIZ"] == 1 and median.sci["CTYPE1"] == "RA---TAN"
    assert blot.arrays["SCI"].shape == (40, 40) and blot.leaves["meta"]["wcs"] is members[0].wcs
    kept.clear()
    run(members, Params(save_intermediate_results=True, resample_data=False), means)
    assert [(name, product.suffix) for name, product in kept] == [("jw1", "median")]


def test_what_cannot_be_done(visit):
    [change] = run(visit(DITHER[:1]), Params(), Means())
    assert change.state == "FAILED" and "one image" in change.reason and change.lost is None
    members = visit(DITHER[:2])
    members[1].cards["S_REGION"] = ""
    changes = run(members, Params(), Means())
    assert [c.state for c in changes] == ["SKIPPED"] * 2 and "S_REGION" in changes[0].reason


@pytest.mark.parametrize(
    "wrong",
    [
        {"snr": "5"}, {"scale": "a b"}, {"weight_type": "ones"}, {"pixfrac": 1.5}, {"kernel": "round"},
        {"good_bits": "NOFLAG"}, {"fillval": "many"},
    ],
)  # fmt: skip
def test_parameters_that_mean_nothing(wrong):
    with pytest.raises(ValueError):
        Params(**wrong)
