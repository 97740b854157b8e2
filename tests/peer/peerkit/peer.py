"""Runs the peer in its own virtual environment, and remembers what it made."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peerkit.cases import Steps
from peerkit.scenes import Input

SCRIPT = Path(__file__).with_name("run_pipeline.py")
REPOSITORY = Path(__file__).resolve().parents[3]
SECONDS = 300
"""For one exposure, at most."""


def python() -> Path | None:
    """The peer's Python: UPRAMP_PEER_PYTHON, else .venv-peer in the repository; None if there is none."""
    path = Path(os.environ.get("UPRAMP_PEER_PYTHON") or REPOSITORY / ".venv-peer" / "bin" / "python")
    return path if path.exists() else None


@dataclass(frozen=True)
class Job:
    """One exposure with parameters, for the peer: "detector1" and "dark" take counts, "image2" rates,
    "image3" an association."""

    source: Input
    steps: Steps
    each_step: bool = False
    pipeline: str = "detector1"

    def key(self, version: str) -> str:
        """What the products depend on, as a file name."""
        digest = hashlib.sha256(version.encode())
        digest.update(json.dumps([self.steps, self.each_step, self.pipeline], sort_keys=True).encode())
        for path in self.source.files:
            digest.update(path.name.encode())
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()[:24]


class Peer:
    """The peer with a folder of results, which are found again by the hash of what they were made from.

    Parameters
    ----------
    interpreter : Path
        From `python`.
    folder : Path
        Where results are kept.
    """

    def __init__(self, interpreter: Path, folder: Path) -> None:
        self.interpreter, self.folder = interpreter, folder
        ask = "from importlib.metadata import version; print(version('jwst'))"
        self.version = subprocess.run(
            [interpreter, "-c", ask], capture_output=True, text=True, check=True
        ).stdout.strip()

    def results(self, jobs: Iterable[Job], processes: int = 2) -> list[Path]:
        """The folders of products, one for each job in its order; runs those that are not there yet.

        Raises
        ------
        RuntimeError
            If the peer could not be run at all. If it failed on one job, that job's `failure` tells.
        """
        folders = [self.folder / job.key(self.version) for job in jobs]
        todo: dict[Path, dict[str, Any]] = {}
        for job, output in zip(jobs, folders, strict=True):
            if not (output / "run.json").exists():
                todo[output] = {
                    "uncal": str(job.source.uncal),
                    "environment": dict(job.source.environment),
                    "output": str(output),
                    "steps": job.steps,
                    "each_step": job.each_step,
                    "pipeline": job.pipeline,
                }
        self.folder.mkdir(parents=True, exist_ok=True)
        waiting = list(todo.values())
        running = []
        for k in range(min(processes, len(waiting))):
            share = self.folder / f"jobs{k}.json"
            share.write_text(json.dumps(waiting[k::processes]))
            log = (self.folder / f"jobs{k}.log").open("w")
            command = [self.interpreter, SCRIPT, share]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            running.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
            log.close()
        try:
            for k, process in enumerate(running):
                if process.wait(SECONDS * len(waiting[k::processes])):
                    raise RuntimeError(
                        f"the peer ended with {process.returncode}; see {self.folder}/jobs{k}.log"
                    )
        finally:
            for process in running:
                process.kill()
        return folders


def failure(folder: Path) -> str:
    """Why the peer made no products, or the empty string."""
    return str(json.loads((folder / "run.json").read_text())["error"])


def seconds(folder: Path) -> float:
    """How long the peer took, without its import."""
    return float(json.loads((folder / "run.json").read_text())["seconds"])


def product(folder: Path, suffix: str) -> Path:
    """The product with this suffix (rate, rateints, or a step's name)."""
    [found] = folder.glob(f"*_{suffix}.fits")
    return found
