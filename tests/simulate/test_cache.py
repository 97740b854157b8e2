"""The cache as the real crds client and the observatory's data models see it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from upramp.simulate import cache as caches
from upramp.simulate import detector as detectors
from upramp.simulate import references
from upramp.simulate.observation import Observation
from upramp.stages.core import dq

ASK = """
import json, sys, crds
from crds.refactoring import checksum
header, types, mappings = json.load(sys.stdin)
for name in mappings:
    checksum.verify_checksum(name)
found = crds.getreferences(header, reftypes=types, observatory="jwst")
print(json.dumps(found))
"""


def make(root, **changes):
    given = {"detector": "NIS", "ny": 16, "nx": 24, "subarray": "SUB80", "xstart": 9, "ystart": 5} | changes
    o = Observation(**given)
    chip = detectors.draw(o.detector, 32, 48, bad=0.02, hot=0.05, ipc=0.005)
    cache = caches.Cache(root)
    references.write_all(cache, chip, [o], with_flat=True)
    return cache, chip, o


def test_the_client_selects_every_reference(tmp_path):
    cache, _, o = make(tmp_path)
    cache.parameters(
        "NIRISS", "pars-jumpstep", {"rejection_threshold": 5.5}, step_class="jwst.jump.jump_step.JumpStep"
    )
    assert cache.write() == "jwst_0001.pmap"
    types = ["mask", "saturation", "superbias", "linearity", "gain", "readnoise", "dark", "ipc", "flat"]
    types += ["pars-jumpstep", "photom", "pars-rampfitstep"]
    header = {f"META.{k.upper()}": str(v) for k, v in o.metadata().items()}
    mappings = [str(p) for p in (tmp_path / "mappings" / "jwst").iterdir()]
    answer = subprocess.run(
        [sys.executable, "-c", ASK],
        input=json.dumps([header, types, mappings]),
        env={**os.environ, **cache.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout.splitlines()[-1])
    folder = tmp_path / "references" / "jwst" / "niriss"
    for reftype in types[:-2]:
        assert Path(found[reftype]).parent == folder, reftype
        assert f"_{reftype}_" in found[reftype]
    assert found["photom"].startswith("NOT FOUND")
    assert found["pars-rampfitstep"].startswith("NOT FOUND")


def test_references_tell_the_truth(tmp_path):
    _, chip, o = make(tmp_path, readpatt="NIS", ngroups=2)
    folder = tmp_path / "references" / "jwst" / "niriss"
    with fits.open(folder / "jwst_niriss_dark_0001.fits") as hdus:
        p = hdus[0].header
        assert (p["NFRAMES"], p["GROUPGAP"], p["SUBARRAY"], p["SUBSTRT1"]) == (1, 0, "SUB80", 9)
        assert hdus["SCI"].data.shape == (8, 16, 24)
        own = chip.cut(o.window)
        np.testing.assert_allclose(hdus["SCI"].data[-1], own.dark_rate * o.frame_seconds * 8, rtol=1e-6)
        assert ((hdus["DQ"].data != 0) == own.hot).all()
    with fits.open(folder / "jwst_niriss_superbias_0001.fits") as hdus:
        assert (hdus[0].header["SUBARRAY"], hdus[0].header["SUBSIZE1"]) == ("GENERIC", 48)
        np.testing.assert_array_equal(hdus["SCI"].data, chip.superbias)
    with fits.open(folder / "jwst_niriss_readnoise_0001.fits") as hdus:
        np.testing.assert_allclose(hdus["SCI"].data, chip.read_noise * np.sqrt(2), rtol=1e-6)


def test_references_may_cover_the_subarray_only(tmp_path):
    o = Observation(detector="NIS", ny=16, nx=24, subarray="SUB80", xstart=9, ystart=5)
    chip = detectors.draw("NIS", 32, 48)
    cache = caches.Cache(tmp_path)
    references.write_all(cache, chip, [o], whole=False)
    with fits.open(cache.root / "references/jwst/niriss/jwst_niriss_gain_0001.fits") as hdus:
        p = hdus[0].header
        assert [p[k] for k in ("SUBSTRT1", "SUBSTRT2", "SUBSIZE1", "SUBSIZE2")] == [9, 5, 24, 16]
        assert hdus["SCI"].data.shape == (16, 24)


def test_flags_travel_by_definition():
    names = {"REFERENCE_PIXEL": dq.REFERENCE_PIXEL, "DEAD": dq.DEAD}
    flags = np.array([[0, dq.DEAD], [dq.REFERENCE_PIXEL, dq.DEAD | dq.REFERENCE_PIXEL]], np.uint32)
    image, table = caches.dq_hdus(flags, names)
    assert image.data.tolist() == [[0, 2], [1, 3]]
    assert table.data["NAME"].tolist() == ["REFERENCE_PIXEL", "DEAD"]
    assert table.data["VALUE"].tolist() == [1, 2]
    with pytest.raises(ValueError, match="not among"):
        caches.dq_hdus(flags, {"DEAD": dq.DEAD})


def test_one_type_has_one_set_of_keys(tmp_path):
    cache = caches.Cache(tmp_path)
    cache.rule("NIRCAM", "gain", ("META.INSTRUMENT.DETECTOR",), ("NRCA1",), "N/A")
    with pytest.raises(ValueError, match="selected by"):
        cache.rule("NIRCAM", "gain", ("META.EXPOSURE.TYPE",), ("NRC_IMAGE",), "N/A")


def test_deconvolution_undoes_crosstalk():
    kernel = np.array([[0, 0.005, 0], [0.005, 0.98, 0.005], [0, 0.005, 0]])
    inverse = references.deconvolution(kernel)
    both = np.zeros((5, 5))
    for dy in range(3):
        for dx in range(3):
            both[dy : dy + 3, dx : dx + 3] += kernel[dy, dx] * inverse
    assert both[2, 2] == pytest.approx(1, abs=1e-3)
    assert np.abs(both).sum() - both[2, 2] < 1e-3
    assert inverse.sum() == pytest.approx(1)


def test_data_models_accept_the_references(tmp_path):
    datamodels = pytest.importorskip("stdatamodels.jwst.datamodels")
    cache, chip, _ = make(tmp_path)
    for path in (cache.root / "references" / "jwst" / "niriss").glob("*.fits"):
        with datamodels.open(path, strict_validation=True) as model:
            model.validate()
            if "_mask_" in path.name:
                np.testing.assert_array_equal(model.dq, chip.mask)
