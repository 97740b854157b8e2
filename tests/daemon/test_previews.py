"""Previews of mosaics: due when something arrives, one at a time, told, and nobody else's concern."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hands import Hands
from structlog.testing import capture_logs

from upramp.daemon import previewing
from upramp.daemon.desk import Desk
from upramp.daemon.events import (
    FileFailed,
    FileSettled,
    PreviewFailed,
    PreviewOver,
    PreviewRefreshed,
    Resumed,
)
from upramp.daemon.jobs import Crew
from upramp.daemon.previews import Job
from upramp.daemon.telling import tell
from upramp.stages.core.errors import Unprocessable

HEADER = {
    "PROGRAM": "01234",
    "OBSERVTN": "001",
    "VISIT": "001",
    "VISITGRP": "02",
    "SEQ_ID": "1",
    "ACT_ID": "01",
    "NEXPOSUR": 99,
    "EXPCOUNT": 1,
    "NUMDTHPT": 99,
    "EXP_TYPE": "NRC_IMAGE",
    "INSTRUME": "NIRCAM",
    "CHANNEL": "SHORT",
    "TARGPROP": "NGC-3324",
    "FILTER": "F200W",
    "PUPIL": "CLEAR",
    "SUBARRAY": "FULL",
}
PRODUCT = "jw01234-o001_tngc3324_nircam_clear-f200w"


def name(number: int, kind: str = "cal") -> str:
    return f"jw01234001001_02101_{number:05d}_nrca1_{kind}.fits"


class Headed:
    """The calibrator of the workshop, whose files have headers."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def plan(self, path: Path, settings: Any) -> Any:
        plan = self.inner.plan(path, settings)
        plan.uncal.header = json.loads(path.read_text()).get("header", {})
        return plan


class Site:
    """A service over exposures without pixels; what would be drawn is written down."""

    def __init__(self, shop: Any, inline: type[Executor]) -> None:
        self.shop, self.spare = shop, Crew(inline, in_process=True)
        shop.calibrator = Headed(shop.calibrator)
        self.told: list[Any] = []
        self.jobs: list[Job] = []
        self.draw: Callable[[Job], PreviewOver] = self.drawn
        self.set(run={"until": "stage3"}, associations={"previews": True})

    def set(self, **sections: dict[str, Any]) -> None:
        config = self.shop.config
        for section, values in sections.items():
            config = replace(config, **{section: replace(getattr(config, section), **values)})
        self.shop.config = config

    def start(self) -> None:
        self.desk, self.ledger = self.shop.open(service=True)
        self.desk.clock = lambda: 0.0
        self.desk.spare = self.spare
        self.desk.listeners += [self.told.append, tell]
        self.desk.dispatch(Resumed())

    def restart(self) -> None:
        self.ledger.close()
        self.start()

    def expose(self, number: int, note: str = "", **header: Any) -> Path:
        values = HEADER | {"EXPOSURE": str(number), "DETECTOR": "NRCA1"} | header
        return self.shop.write(name(number, "uncal"), header=values, note=note)

    def arrive(self, *paths: Path) -> None:
        for path in paths:
            self.desk.dispatch(FileSettled(path))
        self.work()

    def work(self) -> None:
        """Until nothing more happens by itself; timers of associations that wait do not count."""
        desk: Desk = self.desk
        desk.run(until=lambda: not (desk._unread or desk._reading or len(desk.queue)) and desk.inbox.empty())

    def refresh(self, job: Job, stop: Callable[[], bool]) -> PreviewOver:
        self.jobs.append(job)
        return self.draw(job)

    def drawn(self, job: Job) -> PreviewOver:
        n = len(job.members)
        return PreviewOver(job.file, job.of, job.product, job.path, members=n, added=1, seconds=0.25)

    @property
    def members(self) -> list[list[str]]:
        return [[path.name for path in job.members] for job in self.jobs]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]


@pytest.fixture
def site(workshop: Any, inline: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    found = Site(workshop, inline)
    monkeypatch.setattr(previewing, "refresh", found.refresh)
    yield found
    found.ledger.close()


def test_every_arrival_refreshes_the_preview(site):
    site.start()
    with capture_logs() as lines:
        for n in (1, 2, 3):
            site.arrive(site.expose(n))
            assert site.members[-1] == [name(k) for k in range(1, n + 1)]
    assert len(site.jobs) == 3
    output = site.shop.config.output.folder
    job = site.jobs[-1]
    assert (job.product, job.path) == (PRODUCT, output / f"{PRODUCT}_preview.fits")
    assert job.file == output / "associations" / f"{PRODUCT}_image3_asn.json"
    assert job.members[0] == output / name(1)
    assert [(e.members, e.added) for e in site.of(PreviewRefreshed)] == [(1, 1), (2, 1), (3, 1)]
    (line, *_) = [one for one in lines if one["event"] == "preview_refreshed"]
    facts = {"path": str(job.path), "product": PRODUCT, "members": 1, "added": 1, "seconds": 0.25}
    assert {k: line[k] for k in facts} == facts
    state = site.shop.read().state
    assert not [p for p in state.products() if p["kind"] == "preview"], "it is nobody's product"


def test_off_unless_asked_for(site):
    site.set(associations={"previews": False})
    site.start()
    site.arrive(site.expose(1))
    assert not site.jobs and not site.of(PreviewOver)
    assert site.desk.spare._executor is None


def test_a_burst_costs_one_more_look(site):
    hands = Hands()
    site.spare = Crew(lambda: hands, in_process=True)
    site.start()
    site.arrive(*(site.expose(n) for n in range(1, 7)))
    assert len(hands.work) == 1
    state = site.ledger.state
    assert all(state.product(site.shop.config.output.folder / name(n)) for n in range(1, 7)), (
        "calibration does not wait"
    )
    hands.finish()
    site.work()
    assert len(hands.work) == 1
    hands.finish()
    site.work()
    assert not hands.work
    assert site.members == [[name(1)], [name(n) for n in range(1, 7)]]


def test_a_run_is_over_once_its_previews_are(site):
    hands = Hands()
    site.spare = Crew(lambda: hands, in_process=True)
    site.start()
    site.arrive(site.expose(1))
    site.desk._timers.clear()  # the association waits for more
    assert not site.desk.idle and not site.desk.busy, "the service may end, `upramp run` may not"
    hands.finish()
    site.work()
    assert site.desk.idle


def test_a_member_made_anew_and_one_that_failed(site):
    site.start()
    site.arrive(site.expose(1), site.expose(2))
    before = len(site.jobs)
    site.arrive(site.expose(2, note="better"))
    assert len(site.jobs) > before
    assert site.members[-1] == [name(1), name(2)]
    site.shop.calibrator.failures[name(2, "uncal")] = [Unprocessable("it is dark; take it again")]
    site.arrive(site.expose(2, note="worse"))
    assert site.members[-1] == [name(1)]


def test_after_a_restart_what_was_not_put_is_put(site):
    site.draw = lambda job: PreviewOver(job.file, job.of, job.product, job.path)  # dies before it is written
    site.start()
    paths = [site.expose(n) for n in (1, 2)]
    site.arrive(*paths)
    assert not site.of(PreviewRefreshed)
    site.draw = site.drawn
    site.restart()
    site.arrive(*paths)  # the first scan
    assert site.members[-1] == [name(1), name(2)]
    assert site.of(PreviewRefreshed)[-1].members == 2


def test_what_is_left_is_taken_up_by_itself(site):
    def some(job: Job) -> PreviewOver:
        return replace(site.drawn(job), left=len(site.jobs) < 3)

    site.draw = some
    site.start()
    site.arrive(site.expose(1))
    assert len(site.jobs) == 3


def test_associations_of_a_group_have_their_own(site):
    site.start()
    site.arrive(site.expose(1), site.expose(2, FILTER="F150W"), site.expose(3))
    last = {job.product: [path.name for path in job.members] for job in site.jobs}
    assert last == {PRODUCT: [name(1), name(3)], PRODUCT.replace("f200w", "f150w"): [name(2)]}


def test_an_association_that_somebody_gave(site):
    site.set(associations={"enabled": False})
    site.start()
    members = [{"expname": name(n), "exptype": "science"} for n in (1, 2)]
    asked = site.shop.incoming / "mine_asn.json"
    product = {"name": "mine", "members": members}
    asked.write_text(
        json.dumps({"asn_type": "image3", "asn_id": "c1001", "asn_pool": "none", "products": [product]})
    )
    site.arrive(asked)
    site.arrive(site.expose(1))
    (job,) = site.jobs
    assert (job.file, job.product, [path.name for path in job.members]) == (asked, "mine", [name(1)])
    assert job.path == site.shop.config.output.folder / "mine_preview.fits"


@pytest.mark.parametrize("broken", ["writing", "forming"])
def test_trouble_is_told_once_for_each_reason_and_costs_nothing(site, monkeypatch, broken):
    reasons = [errno.ENOSPC, errno.ENOSPC, errno.EIO, None, errno.ENOSPC]

    def fail(*args: Any) -> Any:
        why = reasons.pop(0)
        if why is None:
            return site.drawn(args[0]) if broken == "writing" else []
        raise OSError(why, {errno.ENOSPC: "no space left", errno.EIO: "i/o error"}[why], "disk")

    site.start()
    if broken == "writing":
        site.draw = fail
    else:
        monkeypatch.setattr(site.desk.gathering, "present", fail)
    told = []
    with capture_logs() as lines:
        for n in range(1, 6):
            site.arrive(site.expose(n))
            told.append(len(site.of(PreviewFailed)))
    assert not reasons, "it is tried with every arrival, and not in between"
    assert told == ([1, 1, 2, 2, 3] if broken == "writing" else [1, 1, 2, 2, 2])
    log = [one for one in lines if one["event"] == "preview_failed"]
    assert {one["log_level"] for one in log} == {"warning"}
    assert [one["reason"] for one in log][:2] == ["no space left: disk", "i/o error: disk"]
    state = site.shop.read().state
    assert {row["state"] for row in state.segments()} == {"calibrated"}
    assert len([p for p in state.products() if p["kind"] == "cal"]) == 5


def test_a_name_that_no_file_can_have(site):
    site.set(associations={"enabled": False})
    site.start()
    asked = site.shop.incoming / "mine_asn.json"
    product = {"name": "../mine", "members": [{"expname": name(n), "exptype": "science"} for n in (1, 2)]}
    asked.write_text(
        json.dumps({"asn_type": "image3", "asn_id": "c1001", "asn_pool": "none", "products": [product]})
    )
    site.arrive(asked)
    site.arrive(site.expose(1))
    assert not site.jobs and not site.of(PreviewFailed), "it is refused as an association before that"
    assert [event.path for event in site.of(FileFailed)] == [asked]
