"""guider_cds: hand-worked numbers, a naive oracle, and what it refuses."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from upramp.stages.core.errors import Unprocessable
from upramp.stages.guider.guider_cds import FINE_MODES, ID_MODES, MODES, PAIR_MODES, count_rates, difference


def one_pixel(reads):
    """Reads [nints][ngroups] of a detector of one pixel."""
    return np.array(reads, np.float32)[:, :, None, None]


@pytest.mark.parametrize("mode", sorted(PAIR_MODES))
def test_pairs_give_one_difference_per_integration(mode):
    assert difference(one_pixel([[10, 17], [10, 4]]), mode).ravel().tolist() == [7, -6]


@pytest.mark.parametrize("mode", sorted(ID_MODES))
def test_id_takes_the_smaller_difference_and_so_drops_a_cosmic_ray(mode):
    got = difference(one_pixel([[10, 17], [10, 5017]]), mode)
    assert got.shape == (1, 1, 1)
    assert got.item() == 7


@pytest.mark.parametrize("mode", sorted(ID_MODES))
def test_id_uses_two_integrations_even_if_there_are_more(mode):
    assert difference(one_pixel([[0, 9], [0, 7], [0, 1]]), mode).item() == 7


def test_fine_guide_takes_the_mean_of_four_reads_at_either_end():
    got = difference(one_pixel([[1, 2, 3, 6, 11, 12, 13, 20], [0, 0, 0, 0, 1, 1, 1, 1]]), "FGS_FINEGUIDE")
    assert got.ravel().tolist() == [14 - 3, 1]


def test_fine_guide_skips_reads_in_between():
    assert difference(one_pixel([[0, 0, 0, 0, 99, 99, 4, 4, 4, 4]]), "FGS_FINEGUIDE").item() == 4


@pytest.mark.parametrize(
    ("mode", "nints", "ngroups"),
    [
        ("FGS_ACQ1", 6, 1),
        ("FGS_ID-IMAGE", 2, 1),
        ("FGS_ID-STACK", 1, 2),
        ("FGS_FINEGUIDE", 3, 7),
        ("FGS_IMAGE", 3, 2),
    ],
)
def test_too_little_data_or_another_mode_is_refused_by_name(mode, nints, ngroups):
    with pytest.raises(Unprocessable, match=mode):
        difference(np.zeros((nints, ngroups, 2, 2), np.float32), mode)


def test_every_mode_has_one_rule():
    assert len(MODES) == len(ID_MODES) + len(PAIR_MODES) + len(FINE_MODES) == 6


def rates(diff, t=0.5, gain=2.0, noise=3.0):
    sci, err = count_rates(
        np.full((1, 1, 1), diff, np.float32),
        t,
        np.full((1, 1), gain, np.float32),
        np.full((1, 1), noise, np.float32),
    )
    return sci.item(), err.item()


def test_rate_and_error_by_hand():
    # 40 DN in 0.5 s; Poisson 40 / (0.5 * 2) = 40; read noise 2 * (3 / 0.5)^2 = 72
    assert rates(40) == (80, pytest.approx(math.sqrt(112), rel=1e-7))


def test_a_negative_signal_has_read_noise_alone():
    assert rates(-40) == (-80, pytest.approx(math.sqrt(72), rel=1e-7))


@pytest.mark.parametrize(
    ("diff", "gain", "noise", "err"),
    [
        (40, math.nan, 3, math.nan),
        (40, 2, math.nan, math.nan),
        (40, 0, 3, math.inf),
        (-40, 0, 3, math.sqrt(72)),
        (0, 0, 3, math.nan),
        (40, -2, 3, math.sqrt(72)),
        (40, math.inf, 3, math.sqrt(72)),
        (40, 2, 0, math.sqrt(40)),
        (math.nan, 2, 3, math.nan),
    ],
)
def test_useless_references_show_in_the_error_alone(diff, gain, noise, err):
    sci, got = rates(diff, gain=gain, noise=noise)
    assert got == pytest.approx(err, rel=1e-7, nan_ok=True)
    assert sci == pytest.approx(2 * diff, nan_ok=True)


def naive(data, mode, t, gain, noise):
    """The same, one pixel at a time in double precision."""
    nints, ngroups, ny, nx = data.shape
    frames = 1 if mode in ID_MODES else nints
    sci, err = np.zeros((frames, ny, nx)), np.zeros((frames, ny, nx))
    for i in range(frames):
        for y in range(ny):
            for x in range(nx):
                reads = data[:, :, y, x].astype(float)
                if mode in ID_MODES:
                    d = min(reads[0, 1] - reads[0, 0], reads[1, 1] - reads[1, 0])
                elif mode in FINE_MODES:
                    d = sum(reads[i, ngroups - 4 :]) / 4 - sum(reads[i, :4]) / 4
                else:
                    d = reads[i, 1] - reads[i, 0]
                sci[i, y, x] = d / t
                err[i, y, x] = math.sqrt(max(d / (t * gain[y, x]), 0) + 2 * (noise[y, x] / t) ** 2)
    return sci, err


@settings(max_examples=25, deadline=None)
@given(
    mode=st.sampled_from(sorted(MODES)),
    counts=hnp.arrays(np.uint16, (3, 8, 2, 3)),
    t=st.floats(0.01, 10),
    gain=hnp.arrays(np.float32, (2, 3), elements=st.floats(0.5, 4, width=32)),
    noise=hnp.arrays(np.float32, (2, 3), elements=st.floats(1, 30, width=32)),
)
def test_agrees_with_the_naive_oracle(mode, counts, t, gain, noise):
    data = counts.astype(np.float32)
    sci, err = count_rates(difference(data, mode), t, gain, noise)
    assert sci.dtype == err.dtype == np.float32
    want_sci, want_err = naive(data, mode, t, gain, noise)
    np.testing.assert_allclose(sci, want_sci, rtol=1e-6, atol=0.01 / t)
    np.testing.assert_allclose(err, want_err, rtol=1e-5)
