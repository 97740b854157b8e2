"""The observatory's next pipeline stage takes the products as they are.

Needs UPRAMP_PEER_PYTHON, a Python that has the package ``jwst``, or the repository's .venv-peer.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from upramp.simulate.cache import Cache
from upramp.store.products import ProductWriter
from upramp.store.uncal import open_uncal

NEXT_STAGE = """
import sys
from astropy import units as u
from astropy.modeling.models import Scale, Shift
from jwst.assign_wcs import AssignWcsStep
from stdatamodels.jwst import datamodels

product, distortion = sys.argv[1:]
axis = (Shift(-4.0) | Scale(0.06)) & (Shift(-4.0) | Scale(0.06))
model = datamodels.DistortionModel(model=axis, input_units=u.pixel, output_units=u.arcsec)
model.meta.instrument.name, model.meta.instrument.detector = "NIRCAM", "NRCALONG"
model.meta.instrument.module, model.meta.instrument.channel = "A", "LONG"
model.meta.exposure.type = "NRC_IMAGE"
model.meta.exposure.p_exptype, model.meta.description = "NRC_IMAGE|", "a plain scale"
model.meta.author, model.meta.pedigree, model.meta.useafter = "test", "DUMMY", "2020-01-01T00:00:00"
model.save(distortion)
types = set(AssignWcsStep.reference_file_types) - {"distortion"}
overrides = {f"override_{name}": "N/A" for name in types}
result = AssignWcsStep.call(product, override_distortion=distortion, **overrides)
assert result.meta.cal_step.assign_wcs == "COMPLETE", result.meta.cal_step.assign_wcs
ra, dec = result.meta.wcs(3.5, 2.5)
assert abs(ra - 80) < 0.01 and abs(dec + 69.5) < 0.01, (ra, dec)
assert result.meta.calibration_software_version
print("accepted")
"""


@pytest.mark.peer
def test_the_next_stage_of_the_peer_accepts_them(make_uncal, tmp_path):
    default = Path(__file__).resolve().parents[2] / ".venv-peer" / "bin" / "python"
    python = Path(os.environ.get("UPRAMP_PEER_PYTHON") or default)
    if not python.is_file():
        pytest.skip("make peer installs the observatory's package, or UPRAMP_PEER_PYTHON tells where it is")
    path = make_uncal()
    wcs = {
        "CRPIX2": 3.5,
        "CRVAL1": 80.0,
        "CRVAL2": -69.5,
        "CTYPE2": "DEC--TAN",
        "DEC_REF": -69.5,
        "ROLL_REF": 30.0,
        "V2_REF": 0.0,
        "V3_REF": 0.0,
        "VPARITY": -1,
        "V3I_YANG": 0.0,
        "VA_SCALE": 1.0,
    }
    with fits.open(path, mode="update") as hdus:
        hdus["SCI"].header.update(wcs)
    cache = Cache(tmp_path / "crds")
    cache.write()
    uncal = open_uncal(path)
    images = {
        f"rate.{name}": np.ones((6, 8), np.float32) for name in ("sci", "err", "var_poisson", "var_rnoise")
    }
    images["rate.dq"] = np.zeros((6, 8), np.uint32)
    cubes = {k.replace("rate", "rateints"): np.repeat(v[:, None], 2, axis=1) for k, v in images.items()}
    with ProductWriter(uncal, tmp_path / "scratch", tmp_path) as writer:
        writer.emit(0, 0, images | cubes)
        published = writer.finish({"CRDS_CTX": cache.context, "S_RAMP": "COMPLETE"})
    for product in published:
        done = subprocess.run(
            [str(python), "-c", NEXT_STAGE, str(product.path), str(tmp_path / "distortion.asdf")],
            env={**os.environ, **cache.environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert "accepted" in done.stdout, (done.stdout + done.stderr)[-3000:]
