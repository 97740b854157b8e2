"""The real service, killed at random while segments arrive slowly, out of order, one of them twice.

Whatever happens, products and ledger end as those of one clean run. Takes about a minute a seed;
run with ``pytest -m fault``.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from upramp.daemon.service import LIVE
from upramp.simulate import detector, references
from upramp.simulate.cache import Cache
from upramp.simulate.expose import expose
from upramp.simulate.observation import Observation
from upramp.simulate.uncal import write_exposure
from upramp.stages.core.errors import Misconfigured
from upramp.store.ledger import Ledger

pytestmark = pytest.mark.fault

KILLS = 5
PATIENCE_S = 180.0
VOLATILE = {"DATE", "CHECKSUM", "DATASUM"}


@dataclass
class Site:
    """A place to process: its own incoming, products and ledger; references and caches are shared."""

    root: Path
    environment: dict[str, str]
    crds: Cache

    def __post_init__(self) -> None:
        self.incoming.mkdir(parents=True)
        self.config.write_text(
            f'[watch]\nfolders = ["{self.incoming}"]\nsettle_s = 0.3\nrescan_s = 1.0\n'
            f'[output]\nfolder = "{self.root / "products"}"\n'
            f'[crds]\npath = "{self.crds.root}"\ncontext = "{self.crds.context}"\noffline = true\n'
            f'[log]\nfile = "{self.root / "log.jsonl"}"\n'
            f'[run]\nuntil = "stage1"\n'
        )

    @property
    def incoming(self) -> Path:
        return self.root / "incoming"

    @property
    def config(self) -> Path:
        return self.root / "config.toml"

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "upramp.daemon.cli", *words, "--config", str(self.config)]

    def upramp(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    @contextmanager
    def service(self) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(self.command("watch"), env=self.environment)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def completed(self) -> bool:
        with suppress(Misconfigured):
            with Ledger.open(self.root / "products" / "ledger") as ledger:
                return bool(ledger.state.exposures("completed"))
        return False

    def up(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether the service has said what it has in hand."""
        with suppress(OSError, ValueError):
            return json.loads((self.root / "products/ledger" / LIVE).read_text())["pid"] == process.pid
        return False

    def picture(self) -> dict[str, Any]:
        """Products to the bit and the ledger without times and chance names."""
        with Ledger.open(self.root / "products" / "ledger") as ledger:
            tables = {
                name: ledger.latest(name)
                for name in ("segments", "exposures", "step_runs", "products", "integrations")
            }
        files = sorted((self.root / "products").glob("*.fits"))
        return {
            "segments": plain(tables["segments"], "path", "mtime_ns"),
            "exposures": plain(tables["exposures"], "completed_at", "products"),
            "step_runs": plain(
                tables["step_runs"], "job_id", "started", "wall_s", "cpu_s", "peak_mb", "references"
            ),
            "products": plain(
                tables["products"], "path", "created", "inputs", "job_ids", "mtime_ns", "sha256"
            ),
            "integrations": plain(tables["integrations"], "job_id"),
            "files": {path.name: pixels(path) for path in files},
            "hidden": [p.name for p in (self.root / "products").glob(".*") if any(p.iterdir())],
        }


def plain(rows: list[dict[str, Any]], *volatile: str) -> list[str]:
    """Rows in a fixed order without what may differ from run to run."""
    gone = {"commit_no", "row_no", "run_id", "at", *volatile}
    return sorted(repr({k: v for k, v in row.items() if k not in gone}) for row in rows)


def pixels(path: Path) -> list[tuple[str, str, bytes]]:
    """Extensions with header cards and data; the metadata tree, which holds the time of writing, apart."""
    with fits.open(path) as hdus:
        return [
            (
                hdu.name,
                repr([card for card in hdu.header.cards if card.keyword not in VOLATILE]),
                b"" if hdu.data is None else np.asarray(hdu.data).tobytes(),
            )
            for hdu in hdus
            if hdu.name != "ASDF"
        ]


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Cache, dict[str, str]]:
    """Two segments of a small time series, their references, the environment of all processes."""
    root = tmp_path_factory.mktemp("visit")
    o = Observation(ny=64, nx=256, nints=6, ngroups=6, subarray="SUB64", exp_type="NRC_TSIMAGE", tso=True)
    chip = detector.draw(o.detector, 64, 256)
    cache = Cache(root / "crds")
    references.write_all(cache, chip, [o])
    cache.write()
    exposure = expose(chip, np.full((o.ny, o.nx), 20.0, np.float32), o, seed=1)
    segments = write_exposure(root / "in", exposure.counts, o, segments=2)
    (root / "none").mkdir()
    own = {"UPRAMP_CACHE": str(root / "cache"), "XDG_CONFIG_HOME": str(root / "none")}
    return segments, cache, {**os.environ, **cache.environment, **own}


@pytest.fixture(scope="module")
def clean(visit: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one clean run leaves."""
    segments, cache, environment = visit
    site = Site(tmp_path_factory.mktemp("clean"), environment, cache)
    for path in segments:
        (site.incoming / path.name).write_bytes(path.read_bytes())
    done = site.upramp("run", str(site.incoming))
    assert done.returncode == 0, done.stdout + done.stderr
    return site.picture()


def copy_slowly(source: Path, target: Path, pause: float, over: threading.Event) -> None:
    """Write a file piece by piece, as a slow network would."""
    content = source.read_bytes()
    step = len(content) // 6 + 1
    with target.open("wb") as file:
        for start in range(0, len(content), step):
            file.write(content[start : start + step])
            file.flush()
            over.wait(pause)


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_it_ends_as_one_clean_run(visit, clean, tmp_path, seed):
    segments, cache, environment = visit
    site = Site(tmp_path / "site", environment, cache)
    chance = random.Random(seed)
    over = threading.Event()

    def deliver() -> None:
        for path in (segments[1], segments[0], segments[1]):
            copy_slowly(path, site.incoming / path.name, chance.uniform(0.05, 0.5), over)

    copier = threading.Thread(target=deliver)
    copier.start()
    try:
        for _ in range(KILLS):
            with site.service() as process:
                with suppress(subprocess.TimeoutExpired):
                    code = process.wait(timeout=chance.uniform(0.5, 8.0))
                    pytest.fail(f"the service ended by itself with {code}")
        copier.join()
        with site.service() as process:
            end = time.monotonic() + PATIENCE_S
            while not (site.completed() and site.up(process)) and time.monotonic() < end:
                with suppress(subprocess.TimeoutExpired):
                    pytest.fail(f"the service ended by itself with {process.wait(timeout=0.2)}")
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=PATIENCE_S) == 0
    finally:
        over.set()
        copier.join()
    assert site.completed(), (site.root / "log.jsonl").read_text()
    again = site.upramp("run", str(site.incoming))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "skipped 2 files" in again.stdout
    assert site.picture() == clean
