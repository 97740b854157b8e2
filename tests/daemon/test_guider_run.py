"""Guide star exposures through `upramp run`, as a user does it: the flight acquisition, the other modes."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

pytestmark = pytest.mark.shared

MODES = ("acq2", "fineguide", "id-image", "id-stack", "track")
TYPES = ("mask", "gain", "readnoise", "flat")


def unpack(packed: Path, folder: Path) -> Path:
    target = folder / packed.name.removesuffix(".gz")
    with gzip.open(packed) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink)
    return target


def run(uncal: Path, output: Path, crds: Path, *words: str) -> fits.HDUList:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CRDS_")}
    environment |= {"CRDS_PATH": str(crds), "CRDS_SERVER_URL": "https://serverless.invalid"}
    command = "import sys; from upramp.daemon.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", command, "run", str(uncal), "--output", str(output), *words],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [product] = output.glob("*_cal.fits")
    return fits.open(product)


def assert_equal(ours: fits.HDUList, truth: Path) -> None:
    with ours, fits.open(truth) as peers:
        for name in ("SCI", "ERR", "DQ"):
            assert np.array_equal(ours[name].data, peers[name].data, equal_nan=name != "DQ"), name
        assert ours["SCI"].header["BUNIT"] == peers["SCI"].header["BUNIT"]
        for keyword in ("S_DQINIT", "S_GUICDS", "S_FLAT", "DATAMODL"):
            assert ours[0].header[keyword] == peers[0].header[keyword]


def test_flight_acquisition(shared, tmp_path):
    [uncal] = (shared / "real/fgs_guider").glob("*gs-acq1*_uncal.fits")
    [truth] = (shared / "peer/fgs_truth").glob("*_cal.fits.gz")
    ours = run(uncal, tmp_path / "out", shared / "peer/fgs_crds")
    assert_equal(ours, unpack(truth, tmp_path))


@pytest.mark.parametrize("mode", MODES)
def test_other_modes(shared, tmp_path, mode):
    stem = f"fgs_{mode}_guider2"
    folder = shared / "peer/fgs_modes" / stem
    references = {t: unpack(folder / f"{stem}_{t}.fits.gz", tmp_path) for t in TYPES}
    config = tmp_path / "config.toml"
    config.write_text("[references]\n" + "".join(f'{t} = "{p}"\n' for t, p in references.items()))
    uncal = unpack(folder / f"{stem}_uncal.fits.gz", tmp_path)
    ours = run(uncal, tmp_path / "out", shared / "peer/fgs_crds", "--config", str(config))
    assert_equal(ours, unpack(folder / f"{stem}_cal.fits.gz", tmp_path))
