"""The real service: a visit of four dithers and four detectors, copied in any order, with a restart between.

Takes half a minute or more; run with ``pytest -m fault``.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from astropy.io import fits

from upramp.simulate.cache import Cache
from upramp.simulate.expose import Noise
from upramp.simulate.observation import Observation
from upramp.simulate.visit import Visit
from upramp.stages.core.errors import Misconfigured
from upramp.store.ledger import Ledger
from upramp.store.preview_file import read_preview

pytestmark = pytest.mark.fault

PATIENCE_S = 300.0
DETECTORS = ("NRCA1", "NRCA2", "NRCA3", "NRCA4")
FIRST = Observation(
    detector="NRCA1",
    ny=96,
    nx=96,
    subarray="SUB160",
    ngroups=4,
    tframe=10.0,
    extra={"instrument.filter": "F200W"},
)


class Site:
    """A watched folder, and the service."""

    def __init__(self, root):
        self.root, self.incoming, self.output = root, root / "incoming", root / "products"
        self.incoming.mkdir()
        self.visit = Visit(FIRST, DETECTORS, stars=20)
        cache = Cache(root / "crds")
        self.visit.references(cache, counts=True)
        context = cache.write()
        self.files = self.visit.write_counts(root / "taken", Noise(drift=0.0, cosmic_rays=0.0))
        self.environment = os.environ | cache.environment | {"UPRAMP_CACHE": str(root / "cache")}
        self.config = root / "config.toml"
        self.config.write_text(
            f'[watch]\nfolders = ["{self.incoming}"]\nsettle_s = 0.3\nrescan_s = 1.0\n'
            f'[output]\nfolder = "{self.output}"\n[associations]\npreviews = true\n'
            f'[crds]\npath = "{cache.root}"\ncontext = "{context}"\noffline = true\n'
            f'[log]\nfile = "{root / "log.jsonl"}"\n'
        )

    def command(self, *words):
        return [sys.executable, "-m", "upramp.daemon.cli", *words, "--config", str(self.config)]

    @contextmanager
    def service(self, how=signal.SIGTERM):
        process = self.process = subprocess.Popen(self.command("watch"), env=self.environment)
        try:
            yield process
            process.send_signal(how)
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.wait()

    def ledger(self, ask):
        """What ``ask`` finds in the ledger, or nothing as long as there is none."""
        with suppress(Misconfigured), Ledger.open(self.output / "ledger") as ledger:
            return ask(ledger)
        return None

    def status(self):
        done = subprocess.run(
            self.command("status", "--json"), env=self.environment, capture_output=True, text=True
        )
        return json.loads(done.stdout)

    def wait(self, until):
        end = time.monotonic() + PATIENCE_S
        while not until():
            assert self.process.poll() is None, "the service ended by itself"
            assert time.monotonic() < end, self.status()
            time.sleep(0.2)

    def shown(self):
        """The exposures in the preview of the mosaic."""
        previews = list(self.output.glob("*_preview.fits"))
        return set().union(*(read_preview(path).members for path in previews))

    def made(self, kind):
        return sorted(self.output.glob(f"*_{kind}.fits"))


def built(ledger):
    return [row for row in ledger.latest("associations") if row["state"] == "built"]


def test_one_mosaic_of_all(tmp_path):
    site = Site(tmp_path)
    assert len(site.files) == 16
    order = list(site.files)
    random.Random(4).shuffle(order)
    with site.service(signal.SIGKILL):
        for path in order[:9]:
            shutil.copy(path, site.incoming)
            time.sleep(0.3)
        site.wait(lambda: len(site.made("cal")) >= 5)
    assert not site.made("i2d") or all("nrca" in path.name.rpartition("_i2d")[0] for path in site.made("i2d"))
    with site.service():
        for path in order[9:-1]:
            shutil.copy(path, site.incoming)
            time.sleep(0.1)
        site.wait(lambda: len(site.made("cal")) == 15)
        [waiting] = [row for row in site.status()["associations"] if row["state"] == "waiting"]
        missing = order[-1].name.removesuffix("_uncal.fits")
        assert missing in waiting["reason"]
        shutil.copy(order[-1], site.incoming)
        site.wait(lambda: site.ledger(built))
        site.wait(lambda: site.shown() == {path.name.replace("_uncal", "_cal") for path in site.files})
    [row] = site.ledger(built)
    [mosaic] = site.output.glob(f"{row['product']}_i2d.fits")
    with Ledger.open(site.output / "ledger") as ledger:
        products = [p for p in ledger.latest("products") if p["path"] == str(mosaic)]
        runs = [s for s in ledger.table("step_runs").to_pylist() if s["step"] == "resample"]
    assert len(products) == 1 and row["how"] == "complete"
    names = {Path(one["path"]).name for one in products[0]["inputs"]}
    assert names == {path.name.replace("_uncal", "_cal") for path in site.files} | {
        f"{row['association']}.json"
    }
    # built exactly once
    assert len({r["job_id"] for r in runs if r["segment_id"] == row["association"]}) == 1
    with fits.open(mosaic) as file:
        assert file[0].header["NDRIZ"] == 4
        assert file["CON"].data.max() > 0
