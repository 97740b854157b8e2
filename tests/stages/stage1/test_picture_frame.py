import numpy as np
import pytest

from upramp.simulate.effects import PictureFrame
from upramp.simulate.observation import Observation
from upramp.stages.core.errors import Misconfigured
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.stage1 import picture_frame, ramp_fit
from upramp.stages.stage1.flicker_scene import fixed_slits
from upramp.stages.stage1.picture_frame import correct, median_where, parts

STEP = picture_frame.STEP
ON = {"skip": False, "mask_science_regions": False}
NIRSPEC = {
    "instrument": "NIRSPEC", "detector": "NRS1", "subarray": "FULL", "exp_type": "NRS_MSASPEC", "xstart": 1,
    "ystart": 1, "fastaxis": 2, "slowaxis": 1,
}  # fmt: skip
EDGES, INSIDE = ((2, 8), (24, 30)), (9, 23)


def meta(**changes):
    facts = NIRSPEC | {"nx": 32, "ny": 32, "nints": 1, "nints_total": 1, "ngroups": 3} | changes
    return ExposureMeta(**facts)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A detector of 32 x 32 pixels."""
    monkeypatch.setattr(picture_frame, "EDGES", EDGES)
    monkeypatch.setattr(picture_frame, "INSIDE", INSIDE)


def references(frame):
    ones = np.ones((32, 32))
    return {"pictureframe": {"SCI": frame}, "gain": {"SCI": ones}, "readnoise": {"SCI": 4 * ones}}


def ramps(seed, nints=2, ngroups=4):
    rng = np.random.default_rng(seed)
    rate = np.where(rng.random((32, 32)) < 0.05, 300, 20)
    return np.cumsum(rng.poisson(rate, (nints, ngroups, 32, 32)), axis=1).astype(np.float32)


def framed(seed=1):
    return np.random.default_rng(seed).normal(0.2, 0.01, (32, 32)) + np.where(parts((32, 32))[0], 0.6, 0)


def test_as_one_would_write_it_down(through):
    data, frame = ramps(1), framed().astype(np.float32)
    refs = references(frame)
    out = through([(STEP, ON | {"save_mask": True, "save_correction": True})], data, refs, **NIRSPEC)
    mask, correction = out.shared["extras"].found
    rate = through([(ramp_fit.STEP, {})], data, refs, **NIRSPEC).products["rate.sci"]
    background = mask.arrays["SCI"] > 0
    assert 0.7 < background.mean() < 0.97
    assert not background[rate > 100].any()
    edge, inside = (background & part for part in parts((32, 32)))
    expected = data.astype(np.float64)
    for i in range(2):
        for g in range(1, 4):
            d = data[i, g] - data[i, 0]
            at_edge, at_inside = np.median(d[edge]), np.median(d[inside])
            scale = (at_inside - at_edge) / (np.median(frame[inside]) - np.median(frame[edge]))
            expected[i, g] -= scale * (frame - np.median(frame[edge])) + at_edge
    np.testing.assert_allclose(out.data, expected, atol=1e-3)
    np.testing.assert_array_equal(correction.arrays["SCI"].array, out.data - data)
    assert correction.arrays["GROUPDQ"].shape == data.shape
    assert (mask.suffix, correction.suffix) == ("pctfrm_mask", "pctfrm_correction")
    assert out.report.counters["picture_frame.groups"] == 6


@pytest.mark.parametrize("threads", [1, 3])
def test_same_bits_whatever_the_threads(through, threads):
    data, refs = ramps(2), references(framed())
    one = through([(STEP, ON)], data, refs, options={"threads": 1}, **NIRSPEC)
    other = through([(STEP, ON)], data, refs, options={"threads": threads, "budget_bytes": 1}, **NIRSPEC)
    assert one.data.tobytes() == other.data.tobytes()


def test_truth(through):
    """A picture frame that was put in is taken out, and stars keep their brightness."""
    data = ramps(3, nints=1, ngroups=5)
    o = Observation(detector="NRS1", ny=2048, nx=2048, ngroups=5, tframe=10.0)
    effect = PictureFrame(o, inside=0.1, edge=0.6, width=300.0)
    image = effect.level(0, 0, 0)[::64, ::64] / 10
    levels = np.arange(1, 6)[:, None, None] * 10 * image
    refs = references(image)
    plain, bare = (
        through(steps, data, refs, **NIRSPEC).products["rate.sci"]
        for steps in ([(STEP, ON), (ramp_fit.STEP, {})], [(ramp_fit.STEP, {})])
    )
    steps = [(STEP, ON), (ramp_fit.STEP, {})]
    cleaned = through(steps, data + levels.astype(np.float32), refs, **NIRSPEC).products["rate.sci"]
    assert np.abs(cleaned - plain).max() < 0.3  # as if it had never been there
    stars = bare > 15
    level = np.median((cleaned - bare)[~stars])
    assert abs(np.mean((cleaned - bare)[stars]) - level) < 0.3


def test_without_background_nothing_is_taken_off(through):
    data = ramps(4)
    data[:, :, 9:23, 9:23] = 5  # no rate, so no background inside
    out = through([(STEP, ON)], data, references(framed()), **NIRSPEC)
    np.testing.assert_array_equal(out.data, data)
    assert out.report.counters["picture_frame.groups"] == 0


def test_gaps_of_the_reference_are_left_alone(through):
    data, frame = ramps(5), framed()
    frame[4, 5] = np.nan
    out = through([(STEP, ON)], data, references(frame), **NIRSPEC)
    np.testing.assert_array_equal(out.data[..., 4, 5], data[..., 4, 5])
    assert np.isfinite(out.data).all()


def test_parts_of_a_detector(monkeypatch):
    monkeypatch.undo()
    edges, inside = parts((2048, 2048))
    assert edges.sum() == 2039**2 - 1910**2
    assert inside.sum() == 1908**2
    assert not (edges & inside).any()
    assert not edges[:4].any()
    assert not edges[2043:].any()


def test_kernels():
    image, before = np.array([[1, 2], [3, np.nan]], np.float32), np.ones((2, 2), np.float32)
    values = np.empty(4, np.float32)
    everywhere = np.ones((2, 2), bool)
    assert median_where(image, before, everywhere, values) == 1
    assert np.isnan(median_where(image, before, ~everywhere, values))
    correct(image, before, 2 * np.ones((2, 2), np.float32), 0.5, 3.0)
    np.testing.assert_array_equal(image, [[-3, -2], [-1, np.nan]])
    np.testing.assert_array_equal(before, [[-4, -4], [-4, np.nan]])


def test_what_is_skipped_and_what_is_not_done():
    params = STEP.params()
    assert STEP.skip_if(meta(), params) is None
    assert "SUB2048" in STEP.skip_if(meta(subarray="SUB2048"), params)
    assert "NIRCAM" in STEP.skip_if(meta(instrument="NIRCAM"), params)
    assert "one group" in STEP.skip_if(meta(ngroups=1), params)
    assert len(STEP.unsupported(params)) == 1
    assert not STEP.unsupported(STEP.params(mask_science_regions=False))


def test_fixed_slits_may_be_lit():
    allowed = fixed_slits(meta(ny=2048, nx=4))
    assert np.flatnonzero(~allowed[:, 0])[[0, -1]].tolist() == [922, 1115]
    assert fixed_slits(meta(exp_type="NRS_FIXEDSLIT")) is None


def test_a_level_cannot_be_scaled(reference):
    level = reference("pictureframe", {"SCI": np.ones((32, 32))})
    with pytest.raises(Misconfigured, match="same everywhere"):
        picture_frame.prepare(level, meta(), STEP.params())
