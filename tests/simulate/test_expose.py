"""The read-out against simple arithmetic and statistics."""

from dataclasses import replace

import numpy as np
import pytest

from upramp.simulate import detector as detectors
from upramp.simulate.expose import QUIET, Noise, crosstalk, expose
from upramp.simulate.observation import Observation

CHIP = detectors.draw("NRCALONG", 48, 64, seed=5, bad=0, hot=0)
ZERO = np.zeros(CHIP.shape, np.float32)
SILENT = replace(CHIP, read_noise=ZERO, dark_rate=ZERO)


def taken(chip=CHIP, rate=50.0, seed=1, noise=QUIET, **changes):
    given = {"ny": 48, "nx": 64, "ngroups": 4, "tframe": 10.0} | {
        k: v for k, v in changes.items() if k not in ("light_curve", "zeroframe")
    }
    extra = {k: v for k, v in changes.items() if k in ("light_curve", "zeroframe")}
    o = Observation(**given)
    return expose(chip, np.full((o.ny, o.nx), rate), o, seed=seed, noise=noise, **extra)


def test_slopes_are_the_rate():
    e = taken(rate=100.0)
    linear = CHIP.linearize(e.counts[0].astype(np.float32) + 0.5 - CHIP.superbias)
    seconds = 10.0 * 3
    slope = (linear[-1] - linear[0]) / seconds - CHIP.dark_rate
    light = ~CHIP.reference_pixels
    # 3000 DN of Poisson noise (sqrt(3000 / gain)) and two reads; 2240 pixels
    sigma = np.sqrt(3000 / 1.85 + 2 * 4.3**2) / seconds
    z = (slope[light] - 100.0) / sigma
    assert abs(z.mean()) < 5 / np.sqrt(z.size)
    assert z.std() == pytest.approx(1, abs=0.1)


def test_reference_pixels_hold_the_bias():
    e = taken(SILENT, rate=1e4)
    edge = CHIP.reference_pixels
    expected = np.floor(SILENT.superbias[edge])
    np.testing.assert_array_equal(e.counts[0, -1][edge], expected)
    assert not e.rate[edge].any()


def test_groups_average_frames_and_drop_remainders():
    bright = taken(SILENT, rate=0.0, readpatt="SHALLOW4", ngroups=1, zeroframe=True)
    np.testing.assert_array_equal(bright.counts[0, 0], bright.zeroframe[0])  # equal frames: equal mean
    noisy = Noise(amplifier=0, odd_even=0, drift=0, cosmic_rays=0)
    frames = taken(rate=0.0, ngroups=1, noise=noisy, nints=40)
    averaged = taken(rate=0.0, ngroups=1, noise=noisy, nints=40, readpatt="SHALLOW4")
    ratio = frames.counts.std(axis=0).mean() / averaged.counts.std(axis=0).mean()
    assert ratio == pytest.approx(2, abs=0.1)


def test_gaps_gather_charge_too():
    e = taken(SILENT, rate=200.0, readpatt="DEEP2", ngroups=2)
    linear = SILENT.linearize(e.counts[0].astype(np.float32) + 0.5 - SILENT.superbias)
    light = ~SILENT.reference_pixels
    assert (linear[1] - linear[0])[light].mean() == pytest.approx(200.0 * 200, rel=0.01)


def test_saturation_stops_the_ramp():
    e = taken(rate=5000.0)
    light = ~CHIP.reference_pixels
    assert (e.counts[0, -1][light] > CHIP.saturation[light]).all()
    assert e.counts.max() < 65000


def test_cosmic_rays_are_known():
    rays = Noise(amplifier=0, odd_even=0, drift=0, cosmic_rays=2e-4, cosmic_electrons=(4000.0, 1000.0))
    hit, clean = taken(rate=0.0, seed=4, noise=rays, nints=2), taken(rate=0.0, seed=4, nints=2)
    assert 10 < hit.cosmic_rays.size < 200
    for ray in hit.cosmic_rays:
        i, g, y, x = (int(ray[k]) for k in ("integration", "group", "y", "x"))
        assert hit.counts[i, g, y, x] > clean.counts[i, g, y, x] + 1500
        assert not CHIP.reference_pixels[y, x]
    jumped = (np.diff(hit.counts.astype(int), axis=1) > 1000).sum()
    assert (
        jumped
        == np.unique(hit.cosmic_rays[hit.cosmic_rays["group"] > 0][["integration", "group", "y", "x"]]).size
    )


def test_integrations_do_not_depend_on_their_number():
    short, long = taken(noise=Noise(), nints=2), taken(noise=Noise(), nints=5)
    np.testing.assert_array_equal(short.counts, long.counts[:2])
    assert not np.array_equal(long.counts[0], long.counts[1])


def test_light_curve_scales_each_integration():
    e = taken(SILENT, rate=300.0, nints=2, light_curve=np.array([1.0, 0.5]))
    light = ~CHIP.reference_pixels
    gained = (e.counts[:, -1].astype(float) - e.counts[:, 0])[:, light].mean(axis=1)
    assert gained[1] / gained[0] == pytest.approx(0.5, abs=0.02)
    assert e.mean_rate[light] == pytest.approx(225.0)


@pytest.mark.parametrize(("name", "rows"), [("NRCALONG", False), ("NIS", True)])
def test_amplifiers_and_parity_lie_along_the_fast_axis(name, rows):
    chip = detectors.draw(name, 32, 32, bad=0, hot=0)
    chip = replace(
        chip, read_noise=np.zeros(chip.shape, np.float32), superbias=np.full(chip.shape, 9000.25, "f4")
    )
    o = Observation(detector=name, ny=32, nx=32, ngroups=1)
    e = expose(chip, np.zeros((32, 32)), o, noise=Noise(drift=0, cosmic_rays=0))
    edge = e.counts[0, 0] if not rows else e.counts[0, 0].T
    first = edge[0]  # a line of reference pixels along the fast axis
    assert (edge[:4] == first).all()
    assert [np.unique(first[8 * a + p : 8 * a + 8 : 2]).size for a in range(4) for p in (0, 1)] == [1] * 8
    assert np.unique(first).size > 4


def test_drift_follows_the_slow_axis():
    chip = replace(SILENT, superbias=np.full(CHIP.shape, 9000.0, np.float32))
    e = taken(chip, rate=0.0, noise=Noise(amplifier=0, odd_even=0, drift=5, cosmic_rays=0), ngroups=1)
    side = e.counts[0, 0][:, :4]
    assert (side == side[:, :1]).all()
    assert side.std() > 0


def test_crosstalk_keeps_the_charge_and_spares_reference_pixels():
    kernel = np.array([[0, 0.01, 0], [0.02, 0.94, 0.02], [0, 0.01, 0]])
    image = np.zeros((9, 9), np.float32)
    image[4, 4] = 1000
    dark = np.zeros((9, 9), bool)
    dark[3, 4] = True
    out = crosstalk(image, kernel, dark)
    assert out[4, 4] == pytest.approx(940)
    assert out[5, 4] == pytest.approx(10)
    assert out[4, 5] == out[4, 3] == pytest.approx(20)
    assert out[3, 4] == 0


def test_shapes_must_fit():
    with pytest.raises(ValueError, match="do not fit"):
        expose(CHIP, np.zeros((3, 3)), Observation(ny=48, nx=64))
