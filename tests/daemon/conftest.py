"""A workshop without pixels: the real desk, handlers and ledger around a calibrator that writes text."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from upramp.daemon import handlers
from upramp.daemon.config import Config, Output, Run, Store
from upramp.daemon.desk import Desk, Settings, never
from upramp.daemon.events import Before, Event, FileSettled, Turn
from upramp.daemon.jobs import Crew, Queue, RetryPolicy
from upramp.stages.core.errors import Unprocessable
from upramp.store import schema
from upramp.store.ledger import Ledger
from upramp.store.naming import parse_name, windows_file


class Kill(BaseException):
    """The process dies here."""


class Inline(Executor):
    """Runs work when it is handed in. A kill goes straight through, as it would."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        pass


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1000.0
        return self.now


class FakeCalibrator:
    """Plans from JSON files, 'calibrates' by writing their text twice. Fails as its files ask it to.

    A file with a "time", [start, end], is one whose persistence goes on: it leaves windows that hang on its
    text and on those it began with, and last for "seconds".
    """

    def __init__(self, hook: Callable[[str], None] = lambda where: None) -> None:
        self.hook = hook
        self.calibrated: list[str] = []
        self.failures: dict[str, list[BaseException]] = {}
        self.parameters = "default"
        self.notices: list[tuple[str, str]] = []
        self.begun: dict[str, Before | None] = {}
        self.during: Callable[[Path], None] = lambda path: None

    def glance(self, path: Path) -> Turn | None:
        return self.turn(json.loads(path.read_text()))

    def turn(self, facts: dict[str, Any]) -> Turn | None:
        if "time" not in facts:
            return None
        return Turn(facts.get("detector", "NRCA1"), *facts["time"], facts.get("seconds", 100.0))

    def plan(self, path: Path, settings: Settings) -> Any:
        try:
            facts = json.loads(path.read_text())
        except ValueError as error:
            raise Unprocessable(f"{path.name} is not FITS; fetch it again") from error
        name = parse_name(path.name)
        nints = facts["last"] - facts["first"] + 1
        meta = SimpleNamespace(
            segment=facts["segment"],
            segments=facts["of"] if name.name.endswith("_uncal.fits") else 0,
            int_start=facts["first"],
            int_end=facts["last"],
            nints=nints,
            nints_total=facts["total"],
            ngroups=5,
            nx=8,
            ny=8,
            instrument="NIRCAM",
            detector="NRCA1",
            exp_type="NRC_IMAGE",
            subarray="FULL",
            readpatt="RAPID",
        )
        uncal = SimpleNamespace(
            segment_id=name.segment_id, exposure_id=name.exposure_id, meta=meta, header={}, path=path
        )

        def fingerprint(sha256: str, windows: str = "") -> str:
            return hashlib.sha256(f"{sha256} {self.parameters}{windows}".encode()).hexdigest()

        turn = None if facts.get("off") else self.turn(facts)
        goes_on = "rate" if path.name.endswith("_uncal.fits") else ""
        facts = {"settings": settings, "text": path.read_text(), "notices": self.notices, "goes_on": goes_on}
        return SimpleNamespace(uncal=uncal, fingerprint=fingerprint, turn=turn, **facts)

    def calibrate(
        self, plan: Any, input_sha256: str, stop: Callable[[], bool] = never, before: Before | None = None
    ) -> Any:
        uncal, output = plan.uncal, plan.settings.config.output.folder
        self.hook("calibrate")
        if waiting := self.failures.get(uncal.path.name):
            raise waiting.pop(0)
        self.during(uncal.path)
        self.calibrated.append(uncal.path.name)
        self.begun[uncal.segment_id] = before
        key = plan.fingerprint(input_sha256, before.sha256 if before else "")
        job = f"{uncal.segment_id}-{len(self.calibrated)}-{os.urandom(4).hex()}"
        products = []
        output.mkdir(parents=True, exist_ok=True)
        kinds = ("rate", "rateints") if plan.goes_on else ("cal",)
        for kind in kinds:
            target = output / f"{uncal.segment_id.removesuffix('_rate')}_{kind}.fits"
            aside = output / f".{target.name}"
            aside.write_text(json.dumps({**json.loads(plan.text), "kind": kind}))
            self.hook("publish")
            aside.replace(target)
            self.hook("published")
            products.append(
                {
                    "path": str(target),
                    "kind": kind,
                    "created": schema.now(),
                    "bytes": target.stat().st_size,
                    "key": key,
                    "inputs": [{"path": str(uncal.path), "sha256": input_sha256}],
                    "job_ids": [job],
                }
            )
        return SimpleNamespace(
            products=products,
            step_runs=[
                {
                    "job_id": job,
                    "step": "jump",
                    "step_order": 1,
                    "state": "COMPLETE",
                    "counters": {"jumps": 3},
                }
            ],
            integrations=[
                {"job_id": job, "integration": i} for i in range(uncal.meta.int_start, uncal.meta.int_end + 1)
            ],
            seconds=0.5,
            peak_mb=100.0,
            left=self.leave(plan, before, job, key),
        )

    def leave(self, plan: Any, before: Before | None, job: str, key: str) -> dict[str, Any] | None:
        turn = plan.turn
        if turn is None:
            return None
        text = f"{plan.text} after {before.sha256 if before else ''}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        path = windows_file(plan.settings.config.store_folder, turn.detector, plan.uncal.segment_id, digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return {
            "job_id": job,
            "key": key,
            "detector": turn.detector,
            "start_s": turn.start,
            "end_s": turn.end,
            "persistence_time": turn.seconds,
            "windows": 1,
            "until_s": turn.end + turn.seconds,
            "path": str(path),
            "bytes": len(text),
            "sha256": digest,
            "before": before and (before.segment_id or None),
            "before_sha256": before and (before.sha256 or None),
            "reason": before and (before.reason or None),
        }


class HookedLedger:
    """The real ledger with a place to die before and after each commit."""

    def __init__(self, ledger: Ledger, hook: Callable[[str], None]) -> None:
        self.ledger = ledger
        self.hook = hook

    @property
    def state(self) -> Any:
        return self.ledger.state

    def commit(self, rows: Any) -> int:
        self.hook("commit")
        number = self.ledger.commit(rows)
        self.hook("committed")
        return number


class Workshop:
    """Folders, and a desk that can be opened, killed and opened again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.incoming = root / "incoming"
        self.incoming.mkdir(parents=True)
        folders = {"output": Output(folder=root / "products"), "store": Store(cache=root / "cache")}
        self.config = Config(run=Run(until="stage1"), **folders)
        self.hook: Callable[[str], None] = lambda where: None
        self.calibrator = FakeCalibrator(lambda where: self.hook(where))
        self.told: list[Event] = []
        self.policy = RetryPolicy(attempts=3)
        self.room = 1

    def write(self, name: str, folder: Path | None = None, mtime: int | None = None, **facts: Any) -> Path:
        """An input file; content follows from ``facts``."""
        folder = folder or self.incoming
        folder.mkdir(exist_ok=True, parents=True)
        path = folder / name
        path.write_text(json.dumps({"segment": 1, "of": 1, "first": 1, "last": 2, "total": 2, **facts}))
        if mtime is not None:
            os.utime(path, ns=(mtime, mtime))
        return path

    def segment(self, number: int, of: int = 2, **facts: Any) -> Path:
        """Segment ``number`` of an exposure of two integrations each."""
        first = 2 * number - 1
        place = {"segment": number, "of": of, "first": first, "last": first + 1, "total": 2 * of}
        return self.write(f"jw01234001001_02101_00001-seg{number:03d}_nrca1_uncal.fits", **place | facts)

    def open(self, **settings: Any) -> tuple[Desk, Ledger]:
        """A desk over the ledger as it stands; close the ledger when done."""
        ledger = Ledger.open(self.config.store_folder, writer=True)
        desk = Desk(
            Settings(self.config, "run", **settings),
            HookedLedger(ledger, lambda where: self.hook(where)),
            self.calibrator,
            crew=Crew(Inline, in_process=True),
            readers=Crew(Inline, in_process=True),
            queue=Queue(self.room),
            handlers=handlers.HANDLERS,
            policy=self.policy,
            listeners=[self.told.append],
            clock=Clock(),
        )
        return desk, ledger

    def run(self, *paths: Path, **settings: Any) -> list[Event]:
        """One run over these files, in this order; what was told."""
        self.told.clear()
        desk, ledger = self.open(**settings)
        try:
            for path in paths:
                desk.dispatch(FileSettled(path))
            desk.run(until=lambda: desk.idle)
        finally:
            ledger.close()
        return list(self.told)

    def told_of(self, kind: type) -> list[Any]:
        """The events of a kind that the last run told."""
        return [event for event in self.told if type(event) is kind]

    def read(self) -> Ledger:
        """The ledger, for reading."""
        return Ledger.open(self.config.store_folder)

    def picture(self) -> dict[str, Any]:
        """All that must not depend on order, repetition or accidents."""
        ledger = self.read()
        state = ledger.state
        jobs = {row["job_id"] for row in ledger.latest("step_runs")}
        current = state.products()
        return {
            "segments": sorted(
                (r["segment_id"], r["version"], r["state"], r["sha256"], r["attempts"], r["key"])
                for r in state.segments()
            ),
            "exposures": sorted(
                (
                    r["exposure_id"],
                    r["state"],
                    r["segments_in"],
                    tuple(r["input_sha256"]),
                    tuple(r["products"]),
                )
                for r in state.exposures()
            ),
            "products": sorted((r["path"], r["key"], r["version"], r["bytes"]) for r in current),
            "jobs": len(jobs),
            "integrations": len(ledger.latest("integrations")),
            "made by known jobs": all(set(r["job_ids"]) <= jobs for r in current),
            "files": {p.name: p.read_text() for p in sorted(self.config.output.folder.glob("*.fits"))},
        }


@pytest.fixture(scope="session")
def new_workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Workshop]]:
    """Makes workshops, each in folders of its own. Nothing is synced: here processes die, not machines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield lambda: Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture
def workshop(new_workshop: Callable[[], Workshop]) -> Iterator[Workshop]:
    """A workshop for one test."""
    yield new_workshop()


@pytest.fixture(scope="session")
def kill() -> type[BaseException]:
    """What stands for SIGKILL."""
    return Kill


@pytest.fixture(scope="session")
def inline() -> type[Executor]:
    """The executor that runs work at once."""
    return Inline
