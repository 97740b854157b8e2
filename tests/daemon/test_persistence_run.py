"""Persistence from exposure to exposure, with pixels: files given in any order, a subarray in between."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from upramp.simulate import detector, references, uncal
from upramp.simulate.cache import Cache
from upramp.simulate.expose import Noise, expose
from upramp.simulate.observation import Observation
from upramp.stages.core.dq import PERSISTENCE
from upramp.store.ledger import Ledger
from upramp.store.provenance import products_using, provenance

SIZE = 72
SUB = {"subarray": "SUB40P", "ny": 40, "nx": 40, "xstart": 17, "ystart": 9}
WHOLE = {"subarray": "SUB72P", "ny": SIZE, "nx": SIZE}
# names in another order than times: exposures 3, 2, 1 follow each other
TAKEN = ((3, "00:00:00", WHOLE, 3e5), (2, "00:03:00", SUB, 0.0), (1, "00:06:00", WHOLE, 0.0))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Three exposures: one with saturated pixels, then a subarray, then as the first; and a CRDS cache."""
    folder = tmp_path_factory.mktemp("drawn")
    chip = detector.draw("NRCALONG", SIZE, SIZE, ipc=0.0)
    cache = Cache(folder / "crds")
    observations = [
        Observation(detector="NRCALONG", ngroups=4, exposure=n, start=f"2024-03-01T{at}", **frame)
        for n, at, frame, _ in TAKEN
    ]
    references.write_all(cache, chip, observations, whole=True)
    paths = []
    for observation, (*_, bright) in zip(observations, TAKEN, strict=True):
        sky = np.full((observation.ny, observation.nx), 10.0)
        sky[5::23, 3::11] += bright
        taken = expose(chip, sky, observation, seed=observation.exposure, noise=Noise(cosmic_rays=0.0))
        paths += uncal.write_exposure(folder / "in", taken.counts, observation)
    return folder, paths, cache.environment | {"CRDS_CONTEXT": cache.write()}


RUN = """
import sys
from pathlib import Path
from upramp.daemon import config, desk, oneshot
from upramp.daemon.planning import reference_types
from upramp.stages.pipelines import registry
if __name__ == "__main__":
    output, workers, force, words, *inputs = sys.argv[1:]
    chosen = config.load("/dev/null", assignments=words.split(), registry=registry()).override(
        output_folder=Path(output), run_workers=int(workers), run_until="stage1")
    summary = oneshot.run([*map(Path, inputs)], chosen, force=force == "force", calibrator=desk.Calibration())
    sys.exit(summary.exit_code)
"""


@pytest.fixture
def calibrate(drawn, tmp_path):
    """Calibrate files in a process of its own, which compiles nothing ahead; folder of the products."""
    _, everything, environment = drawn
    script = tmp_path / "run.py"
    script.write_text(RUN.replace("/dev/null", str(tmp_path / "config.toml")))
    (tmp_path / "config.toml").write_text("")

    def run(output, inputs=everything, *, workers=1, force=False, **more):
        more = {"skip": False, "persistence_time": 900} | more
        words = " ".join(f"persistence.{name}={value}" for name, value in more.items())
        inputs = sorted(map(str, inputs))
        options = [str(tmp_path / output), str(workers), "force" if force else "", words]
        done = subprocess.run(
            [sys.executable, script, *options, *inputs],
            env=os.environ | environment | {"UPRAMP_CACHE": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return tmp_path / output

    return run


def flags(folder, exposure):
    """Where the exposure's slopes are flagged PERSISTENCE."""
    [path] = folder.glob(f"*_{exposure:05d}_*_rateints.fits")
    return fits.getdata(path, "DQ") & PERSISTENCE != 0


def test_windows_go_on_whatever_the_order_of_files_and_the_number_of_workers(drawn, calibrate):
    one, two = calibrate("one"), calibrate("two", workers=2)
    first, sub, third = (flags(one, n) for n in (3, 2, 1))
    assert np.count_nonzero(first[0][5::23, 3::11]) == 15
    assert np.array_equal(sub[0], first[0][8:48, 16:56])
    assert np.array_equal(third, first)
    for n in (1, 2, 3):
        assert np.array_equal(flags(two, n), flags(one, n))


def test_the_ledger_tells_whose_windows_were_taken(drawn, calibrate):
    output = calibrate("out")
    _, (first, sub, third), _ = drawn
    name = sub.name.removesuffix("_uncal.fits")
    product = output / f"{name}_rate.fits"
    facts = provenance(output / "ledger", product)
    [windows] = [r for r in facts["references"] if r["type"] == "persistence_windows"]
    assert windows["name"] == first.name.removesuffix("_uncal.fits")
    assert windows["checksum"].startswith("sha256:")
    users = products_using(output / "ledger", name)
    assert {row["segment_id"] for row in users} == {third.name.removesuffix("_uncal.fits")}
    with Ledger.open(output / "ledger") as ledger:
        rows = {row["segment_id"]: row for row in ledger.latest("persistence")}
    assert len({row["windows"] for row in rows.values()}) == 1, "the subarray passes on what lies beyond it"
    before = {path: path.stat().st_mtime_ns for path in (Path(row["path"]) for row in rows.values())}
    calibrate("out", force=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before, "the same windows, the same files"


def test_files_of_windows_by_hand_do_the_same(drawn, calibrate, tmp_path):
    """``save_persistence`` and ``persistence_array_file``, where frames are the same."""
    _, (first, _, third), _ = drawn
    by_itself = calibrate("itself", [first, third])
    calibrate("hand", [first], save_persistence="w.asdf")
    by_hand = calibrate("hand", [third], persistence_array_file=tmp_path / "hand" / "w.asdf")
    for n in (3, 1):
        assert np.array_equal(flags(by_hand, n), flags(by_itself, n))
    with Ledger.open(by_hand / "ledger") as ledger:
        assert len(ledger.latest("persistence")) == 1, "where a file is given, nothing goes on by itself"


def test_without_the_step_there_is_no_trace_of_it(calibrate):
    output = calibrate("out", skip=True)
    assert not (output / "ledger" / "windows").exists()
    with Ledger.open(output / "ledger") as ledger:
        assert ledger.table("persistence").num_rows == 0
