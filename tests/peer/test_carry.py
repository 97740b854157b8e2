"""Persistence from exposure to exposure: by itself here, by a file from run to run in the other package."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from peerkit.compare import compare_products, explain
from peerkit.ours import MAIN
from peerkit.peer import Job, failure, product
from peerkit.rows_persistence import SMALL
from peerkit.scenes import Input, write

pytestmark = pytest.mark.peer

LEVEL = 0.9995
FLAGS = {"skip": False, "persistence_time": 900}
TIMES = ("2024-03-01T00:00:00", "2024-03-01T00:06:00", "2024-03-01T00:12:00")


def exposures(folder):
    """Three exposures of a subarray, one with many bright stars, the others with few; names tell no order."""
    found = []
    for k, (start, stars, number) in enumerate(zip(TIMES, (60, 5, 0), (3, 1, 2), strict=True)):
        observation = replace(SMALL.observation, start=start, exposure=number, nints=3)
        scene = replace(SMALL, observation=observation, stars=stars, cosmic_rays=2e-5)
        found.append(write(scene, folder / str(k), serial=831 + k))
    # one cache for all: references are those of the detector
    return [Input(one.uncal, found[0].environment, one.files + found[0].files) for one in found]


def test_the_second_exposure_shows_the_windows_of_the_first(peer, tmp_path):
    inputs = exposures(tmp_path / "scenes")
    kept = [tmp_path / f"windows{k}.asdf" for k in range(3)]
    jobs = []
    for k, source in enumerate(inputs):
        given = {"persistence_array_file": str(kept[k - 1])} if k else {}
        jobs.append(Job(source, {"persistence": {**FLAGS, "save_persistence": str(kept[k]), **given}}))
    truths = peer.results(jobs, processes=1)
    alone = peer.results([Job(inputs[1], {"persistence": FLAGS})], processes=1)[0]
    assert not any(failure(folder) for folder in (*truths, alone))
    words = [w for name, value in FLAGS.items() for w in ("--set", f"persistence.{name}={value}")]
    files = sorted((str(source.uncal) for source in inputs), key=lambda name: name.rpartition("/")[2])
    words += ["--output", str(tmp_path / "ours"), "--until", "stage1"]
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "run", *files, *words],
        env=os.environ | dict(inputs[0].environment) | {"UPRAMP_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for source, truth in zip(inputs, truths, strict=True):
        for suffix in ("rate", "rateints"):
            made = tmp_path / "ours" / source.uncal.name.replace("uncal", suffix)
            shares = compare_products(made, product(truth, suffix))
            assert min(shares.values()) >= LEVEL, (
                f"{suffix} {shares}\n{explain(made, product(truth, suffix))}"
            )
    with fits.open(product(truths[1], "rateints")) as a, fits.open(product(alone, "rateints")) as b:
        assert np.count_nonzero(a["DQ"].data ^ b["DQ"].data) > 100, "the first exposure's windows show"
