"""The observatory's own package calibrates simulated exposures without complaint and finds the truth.

So the forward model does not merely agree with this project's idea of the detector. Needs
UPRAMP_PEER_PYTHON, a Python that has the package ``jwst``, or the repository's .venv-peer.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from upramp.simulate import cache as caches
from upramp.simulate import detector as detectors
from upramp.simulate import references, uncal
from upramp.simulate.expose import Noise, expose
from upramp.simulate.observation import Observation
from upramp.simulate.recovery import recovery

RUN = """
import sys
from jwst.pipeline import Detector1Pipeline
for name in sys.argv[2:]:
    Detector1Pipeline.call(name, output_dir=sys.argv[1], save_results=True)
"""

MODES = [
    ("NRCB2", "SHALLOW4", 0.005),
    ("NRCALONG", "BRIGHT1", 0.0),
    ("NIS", "NISRAPID", 0.0),
    ("NRS1", "NRS", 0.0),
    ("GUIDER1", "FGSRAPID", 0.004),
]


@pytest.mark.peer
def test_the_peer_finds_the_truth(tmp_path):
    default = Path(__file__).resolve().parents[2] / ".venv-peer" / "bin" / "python"
    python = Path(os.environ.get("UPRAMP_PEER_PYTHON") or default)
    if not python.is_file():
        pytest.skip("make peer installs the observatory's package, or UPRAMP_PEER_PYTHON tells where it is")
    cache = caches.Cache(tmp_path / "crds")
    exposures = []
    for k, (name, pattern, ipc) in enumerate(MODES):
        chip = detectors.draw(name, 160, 160, ipc=ipc)
        o = Observation(
            detector=name,
            ny=160,
            nx=160,
            subarray="SUB160P",
            nints=2,
            ngroups=5,
            readpatt=pattern,
            exposure=k + 1,
        )
        photons = 5 + np.random.default_rng(k).exponential(5, chip.shape)
        # One output has no side columns to follow the drift from row to row.
        e = expose(
            chip, photons * 60 / o.integration_seconds, o, seed=k, noise=Noise(drift=0), zeroframe=k == 0
        )
        references.write_all(cache, chip, [o])
        exposures += [
            (path, e) for path in uncal.write_exposure(tmp_path / "in", e.counts, o, zeroframe=e.zeroframe)
        ]
    cache.parameters(
        "NIRCAM", "pars-jumpstep", {"rejection_threshold": 4.5}, step_class="jwst.jump.jump_step.JumpStep"
    )
    cache.write()
    done = subprocess.run(
        [str(python), "-c", RUN, str(tmp_path), *(str(path) for path, _ in exposures)],
        env={**os.environ, **cache.environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    log = done.stdout + done.stderr
    assert done.returncode == 0, log[-3000:]
    assert " ERROR " not in log
    assert "CR rejection threshold = 4.5 sigma" in log
    for path, e in exposures:
        product = tmp_path / path.name.replace("_uncal", "_rate")
        found = recovery(product, e.mean_rate)
        assert found.good, (path.name, found)
        assert found.n > 0.85 * found.total
