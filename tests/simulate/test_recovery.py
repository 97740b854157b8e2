import numpy as np
import pytest
from astropy.io import fits

from upramp.simulate.recovery import recovery
from upramp.stages.core import dq


def product(path, sci, err, flags):
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(sci, name="SCI"), fits.ImageHDU(err, name="ERR")]
    fits.HDUList([*hdus, fits.ImageHDU(flags, name="DQ")]).writeto(path)
    return path


def test_honest_errors_are_recognised(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.uniform(1, 9, (100, 100)).astype(np.float32)
    err = rng.uniform(0.1, 0.5, truth.shape).astype(np.float32)
    sci = (truth + err * rng.standard_normal(truth.shape)).astype(np.float32)
    flags = np.zeros(truth.shape, np.uint32)
    sci[:10], flags[:10] = 1e6, dq.SATURATED
    sci[10, 0] = np.nan
    found = recovery(product(tmp_path / "a.fits", sci, err, flags), truth)
    assert found.n == 100 * 100 - 1001
    assert found.total == 10000
    assert found.good
    assert not recovery(product(tmp_path / "b.fits", sci, err / 2, flags), truth).good
    assert not recovery(product(tmp_path / "c.fits", sci + 0.1, err, flags), truth).good


def test_flags_may_be_allowed_and_reference_pixels_do_not_count(tmp_path):
    truth = np.array([[0.0, 2.0], [2.0, 2.0]])
    sci = np.array([[9.0, 1.0], [3.0, 5.0]], np.float32)
    flags = np.array([[0, 0], [dq.JUMP_DET, dq.HOT]], np.uint32)
    path = product(tmp_path / "a.fits", sci, np.ones((2, 2), np.float32), flags)
    assert recovery(path, truth).n == 1
    both = recovery(path, truth, allow=dq.JUMP_DET)
    assert (both.n, both.mean, both.width) == (2, 0.0, 1.0)


def test_integrations_follow_their_curve(tmp_path):
    truth, curve = np.full((3, 4), 10.0), np.array([1.0, 0.5])
    sci = (truth * curve[:, None, None]).astype(np.float32)
    path = product(tmp_path / "a.fits", sci, np.ones_like(sci), np.zeros(sci.shape, np.uint32))
    found = recovery(path, truth, curve)
    assert (found.n, found.mean, found.width) == (24, 0.0, 0.0)


def test_misfits_are_told(tmp_path):
    sci = np.ones((4, 4), np.float32)
    path = product(tmp_path / "a.fits", sci, sci, np.zeros((4, 4), np.uint32))
    with pytest.raises(ValueError, match="do not fit"):
        recovery(path, np.ones((3, 3)))
    with pytest.raises(ValueError, match="no good pixel"):
        recovery(path, np.zeros((4, 4)))
