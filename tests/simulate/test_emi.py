from __future__ import annotations

import asdf
import numpy as np
import pytest

from upramp.simulate.cache import Cache
from upramp.simulate.detector import draw
from upramp.simulate.emi import Interference, Tone
from upramp.simulate.expose import QUIET, expose
from upramp.simulate.observation import Observation
from upramp.simulate.references import write_all

SUB64 = {"detector": "MIRIMAGE", "subarray": "SUB64", "ny": 64, "nx": 72, "ystart": 779}
ONE = (Tone(390.625, 10.0, 0.0),)


def test_four_columns_are_read_at_once_and_a_row_after_28_clocks():
    level = Interference(Observation(**SUB64), ONE).level(0, 0, 0)
    assert level.shape == (64, 72)
    np.testing.assert_array_equal(level[:, 0::4], level[:, 3::4])
    shape = ONE[0].shape
    assert level[3, 41] == pytest.approx(10 * shape((3 * 28 + 10) / 256), abs=1e-4)


@pytest.mark.parametrize(("i", "g", "clock"), [(0, 1, 8512), (1, 0, 6 * 8512), (2, 3, 15 * 8512)])
def test_groups_and_integrations_follow_after_frames_and_resets(i, g, clock):
    tone = Tone(10.039216, 10.0, 0.2)
    level = Interference(Observation(**SUB64, ngroups=5, nints=3), (tone,)).level(i, g, 0)
    assert level[0, 0] == pytest.approx(10 * tone.shape(clock / (1e5 / 10.039216) + 0.2), abs=1e-3)


def test_slow_patterns_take_nine_samples():
    o = Observation(detector="MIRIMAGE", ny=1024, nx=1032, readpatt="SLOWR1")
    assert o.samples == 9
    level = Interference(o, ONE).level(0, 0, 0)
    assert level[2, 8] == pytest.approx(10 * ONE[0].shape((2 * 2333 + 18) / 256), abs=1e-3)


def test_phases_may_wander():
    o = Observation(**SUB64, ngroups=5, nints=3)
    steady, wandering = (Interference(o, ONE, wander=w).level(1, 0, 0) for w in (0.0, 0.2))
    assert not np.allclose(steady, wandering)
    np.testing.assert_array_equal(wandering, Interference(o, ONE, wander=0.2).level(1, 0, 0))


@pytest.mark.parametrize(
    ("readpatt", "case", "freqs"),
    [
        ("FASTR1", "SUB64", {"FAST": ["Hz391", "Hz10"], "SLOW": {"MIRIMAGE": ["Hz391"]}}),
        ("SLOWR1", "SUB64", {"FAST": ["Hz391"], "SLOW": {"MIRIMAGE": ["Hz391", "Hz10"]}}),
    ],
)
def test_its_reference_tells_frequencies_and_clocks(tmp_path, readpatt, case, freqs):
    o = Observation(**SUB64, readpatt=readpatt)
    cache = Cache(tmp_path / "crds")
    write_all(cache, draw("MIRIMAGE"), [o], effects=[Interference(o)])
    (path,) = (tmp_path / "crds").rglob("*emicorr*.asdf")
    with asdf.open(path) as file:
        own = file["subarray_cases"][case]
        assert (own["rowclocks"], own["frameclocks"]) == (28, 8512)
        assert own["freqs"] == freqs
        assert file["frequencies"]["Hz10"]["frequency"] == 10.039216
        assert np.asarray(file["frequencies"]["Hz10"]["phase_amplitudes"]).shape == (500,)
    assert Interference(o, known=False).truth(o) == []


def test_it_shows_in_exposures():
    o = Observation(**SUB64, ngroups=3)
    chip, dark = draw("MIRIMAGE"), np.zeros((64, 72), np.float32)
    with_it, without = (
        expose(chip, dark, o, seed=3, noise=QUIET, effects=some).counts.astype(float)
        for some in ((Interference(o),), ())
    )
    expected = [Interference(o).level(0, g, 0) for g in range(3)]
    np.testing.assert_allclose(with_it[0] - without[0], expected, atol=1.0)
