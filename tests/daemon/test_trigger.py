"""When exposures that belong together are combined: in any order, once, with what is there, and told."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hands import Hands
from rich.console import Console
from structlog.testing import capture_logs

from upramp.daemon import gathering, oneshot, report, service
from upramp.daemon.desk import Desk
from upramp.daemon.events import (
    AssociationFailed,
    AssociationReady,
    AssociationWaits,
    ExposureHeard,
    FileSettled,
    Identity,
    InputsOver,
    Resumed,
    SegmentCommitted,
    Tries,
)
from upramp.daemon.jobs import Crew
from upramp.daemon.telling import tell
from upramp.stages.associations.record import SOUND
from upramp.stages.core.errors import Retryable, Unprocessable
from upramp.store import schema
from upramp.store.associations import read_association
from upramp.store.lookups import Lookups
from upramp.store.naming import is_association

QUIET = 3600.0
HEADER = {
    "PROGRAM": "01234",
    "OBSERVTN": "001",
    "VISIT": "001",
    "VISITGRP": "02",
    "SEQ_ID": "1",
    "ACT_ID": "01",
    "NEXPOSUR": 4,
    "EXPCOUNT": 1,
    "NUMDTHPT": 4,
    "EXP_TYPE": "NRC_IMAGE",
    "INSTRUME": "NIRCAM",
    "CHANNEL": "SHORT",
    "TARGPROP": "NGC-3324",
    "FILTER": "F200W",
    "PUPIL": "CLEAR",
    "SUBARRAY": "FULL",
}
ALL = [(number, detector) for number in (1, 2, 3, 4) for detector in (1, 2, 3, 4)]
PRODUCT = "jw01234-o001_tngc3324_nircam_clear-f200w"
TWO = {"NUMDTHPT": 2, "NEXPOSUR": 2, "SUBARRAY": "SUB64P"}
TWO_PRODUCT = f"{PRODUCT}-sub64p"


def name(number: int, detector: int, kind: str = "cal") -> str:
    return f"jw01234001001_02101_{number:05d}_nrca{detector}_{kind}.fits"


class Combiner:
    """The calibrator of the workshop, which combines exposures, too: it writes down what went in."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.failures: dict[str, list[BaseException]] = inner.failures
        self.parameters = ""
        self.built: list[tuple[str, list[str]]] = []
        self.during: Callable[[Path], None] = lambda path: None

    def glance(self, path: Path) -> Any:
        return None

    def plan(self, path: Path, settings: Any) -> Any:
        if not is_association(path.name):
            plan = self.inner.plan(path, settings)
            plan.uncal.header = json.loads(path.read_text()).get("header", {})
            return plan
        association = read_association(path)
        product = association.products[0]
        names = [m.expname for role in ("science", "background") for m in product.of(role)]
        folders = (path.parent, settings.config.output.folder)
        found = [next((f / n for f in folders if (f / n).is_file()), None) for n in names]
        if None in found:
            raise Unprocessable("members are missing; put them there")
        text = "".join(place.read_text() for place in found if place)
        meta = SimpleNamespace(
            **dict.fromkeys(("segment", "int_start", "int_end", "nints", "nints_total", "ngroups"), 1),
            **dict.fromkeys(("nx", "ny", "segments"), 0),
            **dict.fromkeys(("instrument", "detector", "exp_type", "subarray", "readpatt"), ""),
        )
        stem = names[0].removesuffix(".fits") if association.level == 2 else path.stem
        ids = {
            "segment_id": stem,
            "exposure_id": stem.removesuffix("_rate"),
            "meta": meta,
            "header": {},
            "path": path,
        }

        def fingerprint(sha256: str, windows: str = "") -> str:
            return hashlib.sha256(f"{sha256} {text} {self.parameters}".encode()).hexdigest()

        common = {"turn": None, "goes_on": "", "notices": [], "settings": settings}
        uncal = SimpleNamespace(**ids)
        return SimpleNamespace(uncal=uncal, fingerprint=fingerprint, names=names, text=text, **common)

    def calibrate(self, plan: Any, sha256: str, *rest: Any, **named: Any) -> Any:
        path = plan.uncal.path
        if not is_association(path.name):
            return self.inner.calibrate(plan, sha256, *rest, **named)
        if waiting := self.failures.get(path.name):
            raise waiting.pop(0)
        product, level = read_association(path).products[0].name, read_association(path).level
        self.built.append((product, plan.names))
        self.during(path)
        made = {"cal": product} if level == 2 else {"crf": path.stem, "i2d": product}
        rows = []
        for kind, stem in made.items():
            target = plan.settings.config.output.folder / f"{stem}_{kind}.fits"
            target.write_text(plan.text)
            row = {"path": str(target), "kind": kind, "bytes": target.stat().st_size, "job_ids": []}
            rows.append(row | {"created": schema.now(), "key": plan.fingerprint(sha256)})
        empty: dict[str, Any] = {"step_runs": [], "integrations": [], "left": None}
        return SimpleNamespace(products=rows, seconds=0.1, peak_mb=1.0, **empty)


class Time:
    """Passes when it is told to."""

    def __init__(self) -> None:
        self.passed = 0.0

    def __call__(self) -> float:
        return self.passed

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.passed)


class Observatory:
    """Exposures of a visit, and a service that takes them: it can end and start again at any moment."""

    def __init__(self, shop: Any) -> None:
        self.shop = shop
        self.calibrator = shop.calibrator = Combiner(shop.calibrator)
        self.time = Time()
        self.told: list[Any] = []
        self.hands: Hands | None = None
        self.set(run={"until": "stage3"}, associations={"quiet_s": QUIET})

    def set(self, **sections: dict[str, Any]) -> None:
        config = self.shop.config
        for section, values in sections.items():
            config = replace(config, **{section: replace(getattr(config, section), **values)})
        self.shop.config = config

    def expose(self, number: int, detector: int, note: str = "", **header: Any) -> Path:
        values = HEADER | {"EXPOSURE": str(number), "DETECTOR": f"NRCA{detector}"} | header
        return self.shop.write(name(number, detector, "uncal"), header=values, note=note)

    def start(self, service: bool = True) -> None:
        self.desk, self.ledger = self.shop.open(service=service)
        self.desk.clock, self.desk.now = self.time, self.time.now
        if self.hands is not None:
            self.desk.crew = Crew(lambda: self.hands, in_process=True)
        self.desk.listeners.append(self.told.append)
        if service:
            self.desk.dispatch(Resumed())
            self.work()

    def stop(self) -> None:
        self.ledger.close()

    def restart(self, **settings: Any) -> None:
        """The process dies; another one begins."""
        self.stop()
        if self.hands is not None:
            self.hands.work.clear()
        self.start(**settings)

    def work(self) -> None:
        """Until nothing more happens by itself now."""
        desk: Desk = self.desk

        def over() -> bool:
            due = desk._timers and desk._timers[0][0] <= self.time.passed
            waits = desk._unread and not (self.hands and len(desk.queue) >= desk.queue.room + 2)
            return not (waits or desk._reading or due) and desk.inbox.empty()

        desk.run(until=lambda: over() and (self.hands is not None or not len(desk.queue)))

    def arrive(self, *paths: Path) -> None:
        for path in paths:
            self.desk.dispatch(FileSettled(path))
        self.work()

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.time.passed += seconds
        self.desk.wake()
        self.work()

    @property
    def rows(self) -> list[Any]:
        """As another process sees them."""
        return self.shop.read().state.associations()

    @property
    def row(self) -> Any:
        (row,) = self.rows
        return row

    def row_of(self, file: Path) -> Any:
        return self.ledger.state.association(file)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]

    @property
    def handed_on(self) -> list[Path]:
        return [e.path for e in self.of(FileSettled) if is_association(e.path.name)]

    @property
    def file(self) -> Path:
        return self.shop.config.output.folder / "associations" / f"{PRODUCT}_image3_asn.json"


@pytest.fixture
def observatory(workshop: Any) -> Iterator[Observatory]:
    found = Observatory(workshop)
    yield found
    found.stop()


def test_what_belongs_together_is_combined_once_all_is_in(observatory):
    observatory.start()
    for n, place in enumerate(ALL):
        observatory.arrive(observatory.expose(*place))
        row = observatory.row
        assert row["present"] == row["members"] == n + 1
        assert row["missing"] == 15 - n
        assert row["state"] == ("built" if n == 15 else "waiting")
    assert observatory.calibrator.built == [(PRODUCT, sorted(name(*place) for place in ALL))]
    assert observatory.handed_on == [observatory.file]
    assert (row["how"], row["reason"], row["file"]) == ("complete", "16 members in", str(observatory.file))
    (ready,) = observatory.of(AssociationReady)
    assert (ready.how, ready.members, ready.without) == ("complete", 16, "")
    written = read_association(observatory.file)
    assert written.degraded_status == SOUND
    assert written.asn_rule == "candidate_Asn_Lv3Image"
    state = observatory.shop.read().state
    (mosaic,) = [p for p in state.products() if p["kind"] == "i2d"]
    assert mosaic["segment_id"] == observatory.file.stem == row["association"]


class Watched:
    """Holds the ledger's row against what was told, after everything that happens."""

    def __init__(self, observatory: Observatory) -> None:
        self.observatory = observatory
        self.heard: set[str] = set()
        self.made: set[str] = set()
        self.looks = 0

    def follow(self) -> None:
        """Begin with this desk."""
        dispatch = self.observatory.desk.dispatch

        def checked(event: Any) -> None:
            dispatch(event)
            self.check()

        self.observatory.desk.dispatch = checked  # type: ignore[method-assign]

    def check(self) -> None:
        told = self.observatory.told
        self.heard |= {e.path.name.rpartition("_")[0] for e in told if isinstance(e, ExposureHeard)}
        committed = [e for e in told if isinstance(e, SegmentCommitted)]
        self.made |= {Path(p["path"]).name for e in committed for p in e.products if p["kind"] == "cal"}
        rows = self.observatory.ledger.state.associations()
        assert len(rows) == bool(self.heard)
        if not rows:
            return
        self.looks += 1
        (row,) = rows
        at_work = {path.name.rpartition("_")[0] for path in self.observatory.desk.in_hand}
        present = {n for n in self.made if n.rpartition("_")[0] not in at_work}
        everything = {name(*place).removesuffix("_cal.fits") for place in ALL}
        assert row["members"] == len(self.heard)
        if row["state"] != "built" or not at_work & everything:  # members that are only looked at again
            assert row["present"] == len(present)
            assert row["pending"] == len(at_work & everything)
        assert row["present"] + row["pending"] + row["missing"] == 16
        in_hand, built = self.observatory.desk.in_hand, bool(self.observatory.calibrator.built)
        meanwhile = "complete" if len(present) == 16 or self.observatory.file in in_hand else "waiting"
        assert row["state"] in (("built",) if built and not in_hand else (meanwhile, "built"))


@pytest.mark.parametrize("seed", range(4))
def test_order_and_restarts_change_nothing(observatory, seed):
    chance = random.Random(seed)
    observatory.hands = Hands()
    observatory.shop.room = chance.choice((1, 3))
    observatory.start()
    watched = Watched(observatory)
    watched.follow()
    coming = [observatory.expose(*place) for place in ALL]
    chance.shuffle(coming)
    arrived: list[Path] = []
    dies = chance.randrange(60)
    for moment in range(10_000):
        if moment == dies:
            observatory.restart()
            watched.follow()
            observatory.arrive(*chance.sample(arrived, len(arrived)))  # the first scan
        if coming and chance.random() < 0.4:
            arrived.append(coming.pop())
            observatory.arrive(arrived[-1])
        elif observatory.hands.work:
            observatory.hands.finish(chance.randrange(len(observatory.hands.work)))
            observatory.work()
        elif not coming and moment > dies:
            break
    assert observatory.row["state"] == "built"
    assert observatory.calibrator.built == [(PRODUCT, sorted(name(*place) for place in ALL))]
    assert [p.name for p in observatory.file.parent.iterdir()] == [observatory.file.name]
    assert watched.looks > 40


def test_an_interrupted_hand_over_is_made_up_for(observatory, monkeypatch):
    """The process dies when all is in the ledger, and the file is not yet taken."""
    observatory.start()
    observatory.arrive(*(observatory.expose(*place) for place in ALL[:-1]))
    settled, last = observatory.desk.gathering.settled, observatory.expose(*ALL[-1])
    hands = observatory.hands = Hands()
    observatory.desk.crew = Crew(lambda: hands, in_process=True)
    observatory.arrive(last)
    hands.finish()
    observatory.work()
    hands.finish()
    observatory.work()
    assert observatory.row["state"] == "complete"
    assert settled == {str(observatory.file): observatory.row["key"]}
    observatory.hands = None
    observatory.restart()
    assert observatory.row["state"] == "built"
    assert len(observatory.calibrator.built) == 1
    observatory.restart()
    assert len(observatory.handed_on) == 2, "nothing is handed on again for a start alone"


def test_a_late_member_and_one_made_anew(observatory):
    observatory.start()
    observatory.arrive(*(observatory.expose(*place) for place in ALL))
    observatory.arrive(observatory.expose(5, 1, NUMDTHPT=5, NEXPOSUR=5))
    row = observatory.row
    assert (row["state"], row["members"], row["missing"]) == ("waiting", 17, 3)
    assert len(observatory.calibrator.built) == 1, "it waits for the other detectors"
    observatory.arrive(*(observatory.expose(5, d, NUMDTHPT=5, NEXPOSUR=5) for d in (2, 3, 4)))
    assert [len(members) for _, members in observatory.calibrator.built] == [16, 20]
    observatory.arrive(observatory.expose(1, 1, note="better"))
    assert [len(members) for _, members in observatory.calibrator.built] == [16, 20, 20]
    state = observatory.shop.read().state
    assert len([p for p in state.products() if p["kind"] == "i2d"]) == 1
    assert [row["version"] for row in state.segments() if row["segment_id"] == observatory.file.stem] == [2]
    assert observatory.row["state"] == "built"


def test_exposures_given_again_change_nothing(observatory):
    observatory.start()
    paths = [observatory.expose(*place) for place in ALL]
    observatory.arrive(*paths)
    observatory.arrive(*paths)
    assert len(observatory.handed_on) == 1
    observatory.restart()
    before = observatory.ledger.last_commit
    observatory.arrive(*paths)
    assert observatory.ledger.last_commit == before
    assert len(observatory.handed_on) == 2, "other parameters might hold now"
    assert len(observatory.calibrator.built) == 1
    observatory.calibrator.parameters = "others"
    observatory.restart()
    observatory.arrive(*paths)
    assert len(observatory.calibrator.built) == 2


def test_quiet_time_decides_where_something_never_comes(observatory):
    observatory.start()
    observatory.arrive(*(observatory.expose(*place) for place in ALL[:14]))
    observatory.wait(QUIET - 100.0)
    observatory.arrive(observatory.expose(*ALL[14]))
    observatory.wait(QUIET - 100.0)
    assert observatory.row["state"] == "waiting"
    assert "1 missing (jw01234001001_02101_00004_nrca4)" in observatory.row["reason"]
    observatory.restart()
    observatory.arrive(*(observatory.expose(*place) for place in ALL[:15]))
    observatory.wait(50.0)
    assert not observatory.handed_on
    observatory.wait(51.0)
    assert (observatory.row["state"], observatory.row["how"]) == ("built", "quiet")
    (ready,) = observatory.of(AssociationReady)
    assert (ready.how, ready.members) == ("quiet", 15)
    assert ready.without == "1 missing (jw01234001001_02101_00004_nrca4)"
    written = read_association(observatory.file)
    assert written.degraded_status == "Not there when it was built: jw01234001001_02101_00004_nrca4."
    assert len(written.members) == 15
    observatory.wait(10 * QUIET)
    observatory.arrive(observatory.expose(*ALL[15]))
    assert [len(members) for _, members in observatory.calibrator.built] == [15, 16]
    assert read_association(observatory.file).degraded_status == SOUND
    assert observatory.row["how"] == "complete"


def test_after_a_long_pause_what_arrived_meanwhile_is_seen_first(observatory):
    observatory.start()
    observatory.arrive(*(observatory.expose(*place) for place in ALL[:15]))
    observatory.time.passed += 10 * QUIET
    observatory.restart()
    assert not observatory.handed_on
    observatory.arrive(observatory.expose(*ALL[15]))
    assert [how.how for how in observatory.of(AssociationReady)] == ["complete"]


def test_members_at_work_are_waited_for_however_long_it_takes(observatory):
    observatory.hands = Hands()
    observatory.start()
    observatory.arrive(*(observatory.expose(*place) for place in ALL[:3]))
    for _ in range(4):
        observatory.hands.finish()
        observatory.work()
    observatory.wait(5 * QUIET)
    row = observatory.row
    assert (row["state"], row["present"], row["pending"]) == ("waiting", 1, 2)


@pytest.mark.parametrize("allowed", [False, True])
def test_a_member_that_failed(observatory, allowed):
    observatory.set(associations={"build_without_failed": allowed})
    observatory.start()
    observatory.calibrator.failures[name(2, 2, "uncal")] = [Unprocessable("all is saturated; leave it")]
    observatory.arrive(*(observatory.expose(*place) for place in ALL))
    row, lost = observatory.row, "jw01234001001_02101_00002_nrca2"
    assert (row["present"], row["failed"], row["reason"]) == (15, 1, f"15 members in; 1 failed ({lost})")
    if not allowed:
        assert (row["state"], row["remedy"]) == (
            "failed",
            "deliver it anew, or set [associations] build_without_failed = true",
        )
        assert [e.file for e in observatory.of(AssociationFailed)] == [observatory.file]
        assert not observatory.handed_on
        observatory.set(associations={"build_without_failed": True})
        observatory.restart()
    row = observatory.row
    assert (row["state"], row["how"], row["remedy"]) == ("built", "complete", None)
    (ready,) = observatory.of(AssociationReady)
    assert ready.without == f"1 failed ({lost})"
    written = read_association(observatory.file)
    assert written.degraded_status == f"Left out, because their calibration failed: {lost}."
    assert len(written.members) == 15
    observatory.arrive(observatory.expose(2, 2, note="delivered anew"))
    assert len(observatory.calibrator.built[-1][1]) == 16
    assert read_association(observatory.file).degraded_status == SOUND


def test_a_file_that_cannot_be_read_is_a_member_that_failed(observatory):
    observatory.start()
    broken = observatory.expose(4, 4)
    broken.write_text("half a file")
    observatory.arrive(*(observatory.expose(*place) for place in ALL[:-1]), broken)
    row = observatory.row
    assert (row["state"], row["members"], row["failed"], row["missing"]) == ("failed", 15, 1, 0)
    observatory.restart()
    assert observatory.row["state"] == "failed"


def test_a_member_that_turned_bad(observatory):
    observatory.start()
    observatory.arrive(*(observatory.expose(*place) for place in ALL))
    path = observatory.expose(1, 1)
    path.write_text("half a file")
    observatory.arrive(path)
    assert (observatory.row["state"], observatory.row["failed"]) == ("failed", 1)
    assert observatory.row["built_key"], "its product is the old one still"


def test_without_science_there_is_nothing_to_build(observatory):
    observatory.start()
    observatory.calibrator.failures[name(1, 1, "rate")] = [Unprocessable("no stars; leave it")]
    observatory.arrive(observatory.expose(1, 1, NUMDTHPT=1, NEXPOSUR=1, SUBARRAY="SUB64P"))
    assert observatory.row["state"] == "failed"


def test_other_filters_and_observations_are_others(observatory):
    observatory.start()
    alone = {"NUMDTHPT": 1, "NEXPOSUR": 1, "SUBARRAY": "SUB64P"}
    observatory.arrive(
        observatory.expose(1, 1, **alone),
        observatory.expose(1, 2, FILTER="F150W", **alone),
        observatory.shop.write(
            "jw01234002001_02101_00001_nrca1_uncal.fits",
            header=HEADER | {"EXPOSURE": "1", "DETECTOR": "NRCA1", "OBSERVTN": "002"} | alone,
        ),
    )
    assert sorted(product for product, _ in observatory.calibrator.built) == [
        "jw01234-o001_tngc3324_nircam_clear-f150w-sub64p",
        "jw01234-o001_tngc3324_nircam_clear-f200w-sub64p",
        "jw01234-o002_tngc3324_nircam_clear-f200w-sub64p",
    ]


def test_observations_of_a_program_are_combined_where_that_is_asked_for(observatory):
    observatory.set(associations={"across_observations": True})
    observatory.start()
    alone = {"NUMDTHPT": 1, "NEXPOSUR": 1, "SUBARRAY": "SUB64P", "EXPOSURE": "1", "DETECTOR": "NRCA1"}
    for number in ("001", "002"):
        observatory.arrive(
            observatory.shop.write(
                f"jw01234{number}001_02101_00001_nrca1_uncal.fits",
                header=HEADER | alone | {"OBSERVTN": number},
            )
        )
    assert sorted(product[8:13] for product, _ in observatory.calibrator.built) == ["a3001", "o001_", "o002_"]


def test_exposures_of_other_modes_count_among_those_of_their_visit(observatory):
    observatory.start()
    observatory.arrive(observatory.expose(1, 1, NUMDTHPT=1, NEXPOSUR=2, SUBARRAY="SUB64P"))
    assert (observatory.row["state"], observatory.row["unheard"]) == ("waiting", 1)
    grism = HEADER | {"EXP_TYPE": "NRC_WFSS", "ACT_ID": "02", "EXPCOUNT": 2, "NEXPOSUR": 2}
    grism |= {"EXPOSURE": "1", "DETECTOR": "NRCA1"}
    path = observatory.shop.write("jw01234001001_02102_00001_nrca1_uncal.fits", header=grism)
    observatory.arrive(path)
    assert (observatory.row["state"], observatory.row["members"]) == ("built", 1)


def test_stages_before_combine_nothing(observatory):
    observatory.set(run={"until": "stage2"})
    observatory.start()
    observatory.arrive(*(observatory.expose(*place) for place in ALL))
    assert not observatory.rows
    assert not observatory.of(ExposureHeard)


def test_headers_that_do_not_say_what_they_are(observatory):
    observatory.start()
    observatory.arrive(observatory.expose(1, 1, OBSERVTN=None))
    assert not observatory.rows
    assert len(observatory.of(SegmentCommitted)) == 2


def test_more_of_a_header_makes_another_product(observatory):
    """The exposure is delivered anew with another filter: what it was in before is formed no more."""
    observatory.start()
    observatory.arrive(observatory.expose(1, 1))
    observatory.arrive(observatory.expose(1, 1, FILTER="F150W"))
    states = {row["product"][-5:]: row["state"] for row in observatory.rows}
    assert states == {"f200w": "superseded", "f150w": "waiting"}


class TestRequests:
    """Association files that somebody gives."""

    @pytest.fixture
    def request_file(self, observatory):
        def write(members: list[tuple[int, int]], folder: Path | None = None, **facts: Any) -> Path:
            folder = folder or observatory.shop.incoming
            folder.mkdir(parents=True, exist_ok=True)
            listed = [{"expname": name(*place), "exptype": "science"} for place in members]
            path = folder / "mine_asn.json"
            members = [*listed, *facts.pop("also", ())]
            product = {"name": facts.pop("name", "mine"), "members": members}
            path.write_text(json.dumps({"asn_type": "image3", "products": [product], **facts}))
            return path

        return write

    @pytest.fixture(autouse=True)
    def until(self, observatory):
        """Requests count whatever the last stage is; here nothing is formed of headers."""
        observatory.set(run={"until": "stage2"})

    def test_the_file_first_members_later(self, observatory, request_file):
        observatory.start()
        path = request_file(ALL[:3])
        observatory.arrive(path)
        row = observatory.row
        assert (row["state"], row["missing"], row["requested"]) == ("waiting", 3, True)
        assert "3 missing (jw01234001001_02101_00001_nrca1, " in row["reason"]
        assert [e.file for e in observatory.of(AssociationWaits)] == [path]
        observatory.arrive(*(observatory.expose(*place) for place in ALL[:2]))
        observatory.restart()
        row = observatory.row
        assert (row["present"], row["missing"]) == (2, 1)
        observatory.arrive(*(observatory.expose(*place) for place in ALL[:3]))
        assert observatory.calibrator.built == [("mine", [name(*place) for place in ALL[:3]])]
        assert (observatory.row["state"], observatory.row["how"]) == ("built", "explicit")

    def test_members_first(self, observatory, request_file):
        observatory.start()
        observatory.arrive(*(observatory.expose(*place) for place in ALL[:3]))
        observatory.arrive(request_file(ALL[:3]))
        assert len(observatory.calibrator.built) == 1
        observatory.arrive(observatory.file.parents[2] / "incoming" / "mine_asn.json")
        assert len(observatory.calibrator.built) == 1
        observatory.arrive(observatory.expose(1, 2, note="anew"))
        assert len(observatory.calibrator.built) == 2
        observatory.arrive(request_file(ALL[:2]))
        assert observatory.calibrator.built[-1] == ("mine", [name(*place) for place in ALL[:2]])
        observatory.arrive(request_file(ALL[:5]))
        assert (observatory.row["state"], observatory.row["missing"]) == ("waiting", 2)

    def test_of_two_of_the_same_product_the_one_given_last_stands(self, observatory, request_file):
        observatory.start()
        observatory.arrive(*(observatory.expose(*place) for place in ALL[:3]))
        one = request_file(ALL[:3])
        other = one.rename(one.with_name("other_asn.json"))
        one = request_file(ALL[:2])
        for given in (one, other, one, one):
            observatory.arrive(given)
        members = [[name(*place) for place in places] for places in (ALL[:2], ALL[:3])]
        assert [names for _, names in observatory.calibrator.built] == [members[0], members[1], members[0]]

    def test_members_that_lie_beside_it(self, observatory, request_file):
        observatory.start()
        path = request_file(ALL[:2], observatory.shop.root / "other")
        observatory.arrive(path)
        for place in ALL[:2]:
            (path.parent / name(*place)).write_text("pixels")
        assert not observatory.calibrator.built
        observatory.wait(60.0)
        assert len(observatory.calibrator.built) == 1

    def test_others_than_science_are_not_waited_for(self, observatory, request_file):
        observatory.start()
        observatory.arrive(observatory.expose(*ALL[0]))
        acquisition = {"expname": "jw01234001001_01101_00001_nrca3_cal.fits", "exptype": "target_acquisition"}
        observatory.arrive(request_file(ALL[:1], also=[acquisition]))
        assert len(observatory.calibrator.built) == 1

    @pytest.mark.parametrize("product", [PRODUCT, "jw01234-o001_t001_nircam_clear-f200w"])
    def test_it_stands_in_for_what_would_be_formed_of_the_same(self, observatory, request_file, product):
        observatory.set(run={"until": "stage3"})
        observatory.start()
        path = request_file(ALL, name=product)
        observatory.arrive(path, *(observatory.expose(*place) for place in ALL))
        assert observatory.handed_on == [path, path]
        assert len(observatory.calibrator.built) == 1
        assert {row["file"]: row["state"] for row in observatory.rows} == {
            str(path): "built",
            str(observatory.file): "superseded",
        }
        assert observatory.row_of(observatory.file)["reason"] == "mine_asn.json asks for the same"
        observatory.arrive(observatory.expose(1, 1, note="anew"))
        assert len(observatory.calibrator.built) == 2
        path.unlink()
        observatory.arrive(observatory.expose(1, 2, note="anew"))
        assert observatory.handed_on[-1] == observatory.file
        assert observatory.row_of(observatory.file)["state"] == "built"

    def test_one_that_lacks_members_stands_in_for_nothing(self, observatory, request_file):
        observatory.set(run={"until": "stage3"})
        observatory.start()
        path = request_file([*ALL, (5, 1)], name=PRODUCT)
        observatory.arrive(path, *(observatory.expose(*place) for place in ALL))
        assert observatory.row_of(path)["state"] == "waiting"
        assert observatory.row_of(observatory.file)["state"] == "built"

    def test_a_member_that_failed(self, observatory, request_file):
        observatory.set(associations={"build_without_failed": True})
        observatory.start()
        observatory.arrive(request_file(ALL[:2]))
        observatory.calibrator.failures[name(1, 1, "rate")] = [Unprocessable("no stars; leave it")]
        observatory.arrive(*(observatory.expose(*place) for place in ALL[:2]))
        row = observatory.row
        assert (row["state"], row["failed"]) == ("failed", 1)
        assert row["remedy"] == "take what failed out of the file, or deliver it anew"
        observatory.arrive(observatory.expose(1, 1, note="anew"))
        assert observatory.row["state"] == "built"

    @pytest.mark.parametrize("text", ["no JSON", '{"asn_type": "spec3", "products": [{"name": "a"}]}'])
    def test_what_is_no_association_is_recorded_as_such(self, observatory, request_file, text):
        observatory.start()
        path = request_file(ALL[:1])
        path.write_text(text)
        observatory.arrive(path)
        assert not observatory.rows
        (row,) = observatory.shop.read().state.segments()
        assert row["state"] == "failed"

    def test_the_file_is_taken_away_again(self, observatory, request_file):
        observatory.start()
        path = request_file(ALL[:2])
        observatory.arrive(path)
        path.unlink()
        observatory.wait(60.0)
        assert (observatory.row["state"], observatory.row["reason"]) == ("superseded", "its file is gone")

    def test_the_file_is_edited_while_it_is_built(self, observatory, request_file):
        observatory.start()
        observatory.arrive(*(observatory.expose(*place) for place in ALL[:3]))
        hands = observatory.hands = Hands()
        observatory.desk.crew = Crew(lambda: hands, in_process=True)
        observatory.arrive(request_file(ALL[:2]))
        observatory.arrive(request_file(ALL[:3]))
        while hands.work:
            hands.finish()
            observatory.work()
        assert [len(members) for _, members in observatory.calibrator.built][-1] == 3
        assert observatory.row["state"] == "built"

    def test_passing_trouble_is_waited_for(self, observatory, request_file):
        observatory.start()
        observatory.arrive(*(observatory.expose(*place) for place in ALL[:2]))
        observatory.calibrator.failures["mine_asn.json"] = [Retryable("the disk is full; make room")]
        observatory.arrive(request_file(ALL[:2]))
        assert observatory.row["state"] == "explicit"
        observatory.wait(60.0)
        assert observatory.row["state"] == "built"

    def test_building_fails_and_members_made_anew_may_help(self, observatory, request_file):
        observatory.start()
        observatory.arrive(*(observatory.expose(*place) for place in ALL[:2]))
        observatory.calibrator.failures["mine_asn.json"] = [Unprocessable("too few stars; give others")]
        observatory.arrive(request_file(ALL[:2]))
        row = observatory.row
        assert (row["state"], row["reason"]) == ("failed", "too few stars; give others")
        assert row["remedy"]
        observatory.arrive(observatory.expose(1, 1, note="anew"))
        assert observatory.row["state"] == "built"


class TestOneRun:
    """``upramp run``: what is given is all there is."""

    @pytest.fixture
    def run(self, observatory, inline):
        def run(*paths: Path) -> tuple[Any, str]:
            observatory.stop()
            summary = oneshot.run(
                paths,
                observatory.shop.config,
                console=Console(file=StringIO()),
                calibrator=observatory.calibrator,
                crew=Crew(inline, in_process=True),
            )
            out = StringIO()
            report.print_summary(Console(file=out, width=400), summary, observatory.shop.config.store_folder)
            return summary, out.getvalue()

        observatory.start(service=False)
        return run

    def test_all_is_there(self, observatory, run):
        summary, shown = run(*(observatory.expose(*place) for place in ALL))
        assert [len(members) for _, members in observatory.calibrator.built] == [16]
        assert summary.exit_code == 0
        assert f"{PRODUCT}_i2d.fits" in summary.products[-1]
        assert "combined" not in shown

    def test_what_is_not_given_is_not_waited_for(self, observatory, run):
        summary, shown = run(*(observatory.expose(*place) for place in ALL[:7]))
        assert [len(members) for _, members in observatory.calibrator.built] == [7]
        assert observatory.row["how"] == "quiet"
        assert f"combined without some members\n  {PRODUCT}: 9 missing (" in shown
        assert summary.exit_code == 0
        summary, shown = run(*(observatory.expose(*place) for place in ALL[7:]))
        assert [len(members) for _, members in observatory.calibrator.built] == [7, 16]
        assert "without" not in shown

    def test_the_same_again_changes_nothing(self, observatory, run):
        paths = [observatory.expose(*place) for place in ALL[:7]]
        run(*paths)
        summary, shown = run(*paths)
        assert len(observatory.calibrator.built) == 1
        assert not summary.made and len(summary.skipped) == 15
        assert "combined" not in shown
        assert observatory.row["state"] == "built"

    def test_what_failed_is_told(self, observatory, run):
        observatory.calibrator.failures[name(1, 1, "uncal")] = [Unprocessable("all is saturated; leave it")]
        summary, shown = run(*(observatory.expose(*place) for place in ALL))
        assert not observatory.calibrator.built
        assert f"not combined\n  {PRODUCT}: failed: 15 members in; 1 failed (jw01234001001_02101_" in shown
        assert "build_without_failed = true" in shown
        assert summary.exit_code == 1

    def test_a_request_is_taken_as_it_is(self, observatory, run):
        path = observatory.shop.incoming / "mine_asn.json"
        listed = [{"expname": name(*place), "exptype": "science"} for place in ALL[:2]]
        path.write_text(json.dumps({"asn_type": "image3", "products": [{"name": "mine", "members": listed}]}))
        observatory.set(run={"until": "stage2"})
        summary, shown = run(observatory.expose(*ALL[0]), path)
        assert not observatory.calibrator.built
        assert f"mine ({path}): failed: mine_asn.json: of 2 members 1 are not in " in shown
        assert name(*ALL[1]) in shown
        assert "put them there, or take them out of the association" in shown
        assert summary.exit_code == 1
        summary, shown = run(path, observatory.expose(*ALL[1]))
        assert len(observatory.calibrator.built) == 1
        assert summary.exit_code == 0

    def test_a_later_run_takes_up_what_was_asked_for(self, observatory, run):
        path = observatory.shop.incoming / "mine_asn.json"
        listed = [{"expname": name(*place), "exptype": "science"} for place in ALL[:3]]
        path.write_text(json.dumps({"asn_type": "image3", "products": [{"name": "mine", "members": listed}]}))
        observatory.set(associations={"enabled": False})
        run(observatory.expose(*ALL[0]), path)
        summary, shown = run(observatory.expose(*ALL[1]))
        assert "mine" not in shown
        assert summary.exit_code == 0, "it was not given in this run, which has done what it was given"
        assert (observatory.row["state"], observatory.row["present"]) == ("failed", 2)
        observatory.set(run={"until": "stage2"})
        run(observatory.expose(*ALL[2]))
        assert not observatory.calibrator.built
        observatory.set(run={"until": "stage3"})
        summary, shown = run(observatory.expose(*ALL[2], note="anew"))
        assert observatory.calibrator.built == [("mine", [name(*place) for place in ALL[:3]])]
        assert observatory.row["state"] == "built"
        assert any(product.endswith("mine_i2d.fits") for product in summary.products)
        run(observatory.expose(*ALL[0], note="anew"))
        assert len(observatory.calibrator.built) == 2
        path.unlink()
        run(observatory.expose(*ALL[0], note="and again"))
        assert len(observatory.calibrator.built) == 2


class TestBackgrounds:
    """Association files of level 2 that somebody gives: an exposure, and what is subtracted from it."""

    @pytest.fixture
    def less(self, observatory):
        def write(number: int, background: str = name(9, 1, "rate")) -> Path:
            listed = [(name(number, 1, "rate"), "science"), (background, "background")]
            members = [{"expname": expname, "exptype": exptype} for expname, exptype in listed]
            product = {"name": name(number, 1).removesuffix("_cal.fits"), "members": members}
            path = observatory.shop.incoming / f"mine{number}_asn.json"
            path.write_text(json.dumps({"asn_type": "image2", "products": [product]}))
            return path

        return write

    @pytest.fixture
    def background(self, observatory):
        def expose() -> Path:
            header = HEADER | {
                "OBSERVTN": "002",
                "EXPOSURE": "9",
                "DETECTOR": "NRCA1",
                "NEXPOSUR": 1,
                "NUMDTHPT": 1,
            }
            return observatory.shop.write(name(9, 1, "uncal"), header=header | {"EXP_TYPE": "NRC_TACQ"})

        return expose

    def products(self, observatory) -> list[str]:
        return [product for product, _ in observatory.calibrator.built]

    def test_rates_wait_for_their_background_and_are_calibrated_once(self, observatory, less, background):
        observatory.start()
        path = less(1)
        observatory.arrive(path, *(observatory.expose(n, 1, **TWO) for n in (1, 2)))
        assert not self.products(observatory)
        assert name(1, 1, "rate") not in observatory.calibrator.inner.calibrated
        states = {Path(row["file"]).name: row["state"] for row in observatory.rows}
        assert states == {path.name: "waiting", f"{TWO_PRODUCT}_image3_asn.json": "waiting"}
        observatory.arrive(background())
        assert self.products(observatory) == [name(1, 1).removesuffix("_cal.fits"), TWO_PRODUCT]
        assert observatory.calibrator.built[0][1] == [name(1, 1, "rate"), name(9, 1, "rate")]
        assert name(1, 1, "rate") not in observatory.calibrator.inner.calibrated

    def test_nothing_is_combined_while_an_exposure_is_at_work_with_its_background(
        self, observatory, less, background
    ):
        """The mosaic is made; then a background is given, and the other exposure is done before it."""
        hands = observatory.hands = Hands()
        observatory.shop.room = 2
        observatory.start()

        def finish(last: bool = False) -> None:
            hands.finish(-1 if last else 0)
            observatory.work()

        observatory.arrive(background(), *(observatory.expose(n, 1, **TWO) for n in (1, 2)))
        while hands.work:
            finish()
        assert self.products(observatory) == [TWO_PRODUCT]
        observatory.arrive(less(1), observatory.expose(2, 1, note="anew", **TWO))
        for _ in ("counts", "rates"):
            assert len(hands.work) == 2
            finish(last=True)
        assert len(hands.work) == 1
        assert self.products(observatory) == [TWO_PRODUCT]
        while hands.work:
            finish()
        first = name(1, 1).removesuffix("_cal.fits")
        assert self.products(observatory) == [TWO_PRODUCT, first, TWO_PRODUCT]

    def test_new_counts_go_the_same_way(self, observatory, less, background):
        observatory.start()
        observatory.arrive(background(), less(1), *(observatory.expose(n, 1, **TWO) for n in (1, 2)))
        observatory.restart()
        observatory.arrive(observatory.expose(1, 1, note="anew", **TWO))
        first = name(1, 1).removesuffix("_cal.fits")
        assert self.products(observatory) == [first, TWO_PRODUCT] * 2
        assert name(1, 1, "rate") not in observatory.calibrator.inner.calibrated

    def test_without_its_background_an_exposure_is_calibrated_alone_at_the_end(self, observatory, less):
        observatory.start(service=False)
        path = less(1)
        observatory.arrive(path, *(observatory.expose(n, 1, **TWO) for n in (1, 2)))
        observatory.desk.dispatch(InputsOver())
        observatory.work()
        row = observatory.ledger.state.association(path)
        assert (row["state"], name(9, 1, "rate") in row["reason"]) == ("failed", True)
        assert name(1, 1, "rate") in observatory.calibrator.inner.calibrated
        assert observatory.calibrator.built == [(TWO_PRODUCT, [name(1, 1), name(2, 1)])]


def test_status_tells_what_waits_for_what(observatory):
    observatory.start()
    observatory.arrive(*(observatory.expose(*place) for place in ALL[:15]))
    alone = {"NUMDTHPT": 1, "NEXPOSUR": 1, "SUBARRAY": "SUB64P"}
    other = HEADER | alone | {"OBSERVTN": "002", "EXPOSURE": "1", "DETECTOR": "NRCA1"}
    observatory.arrive(observatory.shop.write("jw01234002001_02101_00001_nrca1_uncal.fits", header=other))
    store = observatory.shop.config.store_folder
    facts = report.status(store, store / "service.json")
    assert [row["state"] for row in json.loads(report.as_json(facts))["associations"]] == ["waiting", "built"]
    out = StringIO()
    report.print_status(Console(file=out, width=400), facts)
    assert "associations: 1 combined, 1 not" in out.getvalue()
    assert f"{PRODUCT}: waiting: 15 members in; 1 missing (" in out.getvalue()
    assert f"{PRODUCT.replace('o001', 'o002')}-sub64p: built, complete: 1 member in" in out.getvalue()


def test_the_log_tells_of_it(observatory):
    observatory.set(associations={"build_without_failed": True})
    observatory.start()
    observatory.calibrator.failures[name(2, 2, "uncal")] = [Unprocessable("all is saturated; leave it")]
    observatory.arrive(*(observatory.expose(*place) for place in ALL))
    with capture_logs() as lines:
        for event in observatory.told:
            tell(event)
    found = {line["event"]: line for line in lines if line["event"].startswith("association")}
    assert list(found) == ["association_waiting", "association_ready", "association_incomplete"]
    assert (found["association_ready"]["how"], found["association_ready"]["members"]) == ("complete", 15)
    assert found["association_incomplete"]["log_level"] == "warning"
    assert found["association_incomplete"]["without"] == "1 failed (jw01234001001_02101_00002_nrca2)"


def test_a_file_that_cannot_be_written_is_tried_again(observatory):
    observatory.start()
    folder = observatory.file.parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("in the way")
    observatory.arrive(*(observatory.expose(*place) for place in ALL))
    assert observatory.row["state"] == "waiting"
    assert observatory.row["reason"].startswith("its file cannot be written: ")
    folder.unlink()
    observatory.wait(60.0)
    assert observatory.row["state"] == "built"


def test_a_fault_does_not_end_the_service(observatory, monkeypatch):
    observatory.start()
    with monkeypatch.context() as patch:
        patch.setattr("upramp.daemon.gathering.associate", lambda *a, **k: 1 / 0)
        observatory.arrive(observatory.expose(1, 1))
    failed = observatory.of(AssociationFailed)[0]
    assert failed.reason == "ZeroDivisionError: division by zero"
    with capture_logs() as lines:
        tell(failed)
    assert "associate" in lines[0]["exception"]
    observatory.arrive(*(observatory.expose(*place) for place in ALL))
    assert observatory.row["state"] == "built"


@pytest.mark.parametrize("seed", range(3))
def test_dying_anywhere_changes_nothing(new_workshop, kill, seed):
    """Between any two steps of writing; the next start sees all files again."""
    alone = {"NUMDTHPT": 1, "NEXPOSUR": 1}

    def life(observatory: Observatory, dies: int) -> int:
        moments = 0

        def hook(where: str) -> None:
            nonlocal moments
            moments += 1
            if moments == dies:
                raise kill

        observatory.start()
        observatory.shop.hook = hook
        try:
            observatory.arrive(*(observatory.expose(1, d, **alone) for d in (1, 2, 3, 4)))
        except kill:
            observatory.shop.hook = lambda where: None
            observatory.restart()
            observatory.arrive(*(observatory.expose(1, d, **alone) for d in (4, 3, 2, 1)))
        observatory.shop.hook = lambda where: None
        observatory.stop()
        row = observatory.row
        assert (row["state"], row["how"], row["members"], row["present"]) == ("built", "complete", 4, 4)
        names = [name(1, d) for d in (1, 2, 3, 4)]
        assert observatory.calibrator.built[-1] == (PRODUCT, names)
        assert [m.expname for m in read_association(observatory.file).members] == names
        assert len([p for p in observatory.shop.read().state.products() if p["kind"] == "i2d"]) == 1
        return moments

    moments = life(Observatory(new_workshop()), dies=-1)
    for dies in random.Random(seed).sample(range(1, moments + 1), 6):
        life(Observatory(new_workshop()), dies)


class InMemory:
    """A ledger that forgets."""

    def __init__(self) -> None:
        self.state = Lookups()

    def commit(self, tables: Any) -> int:
        for table in Lookups.TABLES:
            columns = schema.SCHEMAS[table].names
            self.state.absorb(table, [{c: row.get(c) for c in columns} for row in tables.get(table, ())])
        return 0


def test_the_work_does_not_grow_with_the_square(observatory, monkeypatch):
    """A mosaic of many visits that arrive together: formed some times, handed on once."""
    formed: list[int] = []
    associate = gathering.associate
    monkeypatch.setattr(
        gathering, "associate", lambda found, **named: formed.append(len(found)) or associate(found, **named)
    )

    def work(visits: int) -> int:
        formed.clear()
        desk, ledger = observatory.shop.open()
        ledger.close()
        desk.ledger = memory = InMemory()
        handed_on: list[Path] = []
        desk.handlers = {**desk.handlers, FileSettled: lambda desk, event: handed_on.append(event.path) or []}
        exposures = [
            gathering.exposure_of(
                f"jw01234001{visit:03d}_02101_{number:05d}_nrca{detector}_uncal.fits",
                HEADER | {"VISIT": f"{visit:03d}", "EXPOSURE": number, "DETECTOR": f"NRCA{detector}"},
            )
            for visit in range(1, visits + 1)
            for number, detector in ALL
        ]
        for exposure in exposures:
            desk.read(Identity(Path("/in", exposure.file), 1, 1), "", Tries())
        for exposure in exposures:
            stem, path = exposure.file.removesuffix("_uncal.fits"), Path("/in", exposure.file)
            desk.dispatch(ExposureHeard(path, exposure))
            place = observatory.shop.config.output.folder / f"{stem}_cal.fits"
            product = {"path": str(place), "key": stem, "state": "current", "created": schema.now()}
            memory.commit({"products": [product]})
            desk.drop(path)
            desk.dispatch(SegmentCommitted(path, stem, stem, 1, [product], 0.0, 0.0))
        assert handed_on == [observatory.file]
        (row,) = memory.state.associations()
        assert (row["state"], row["present"]) == ("complete", 16 * visits)
        return sum(formed)

    few, many = work(4), work(16)
    observatory.start()
    assert many < 10 * few  # with the square: 16 times


def test_the_service_takes_up_what_waited(observatory, inline):
    """The service itself, twice: the second start finds the rest, and what the first one knew."""
    observatory.start()

    def serve_until(paths: list[Path], last: Callable[[], bool]) -> None:
        stop = service.Stop()

        class Source:
            def __init__(self, on_settled: Callable[[Path], None]) -> None:
                self.on_settled = on_settled

            def start(self) -> None:
                for path in paths:
                    self.on_settled(path)

            def stop(self) -> None:
                pass

            def waiting(self) -> list[Path]:
                return []

        def during(path: Path) -> None:
            if last():
                stop.ask("SIGTERM")

        observatory.calibrator.inner.during = observatory.calibrator.during = during
        crew = Crew(inline, in_process=True)
        config, calibrator = observatory.shop.config, observatory.calibrator
        service.serve(config, calibrator=calibrator, crew=crew, make_watcher=Source, stop=stop)

    observatory.stop()
    paths = [observatory.expose(*place) for place in ALL]
    serve_until(paths[:15], lambda: len(observatory.calibrator.inner.calibrated) == 29)
    assert (observatory.row["state"], observatory.row["present"]) == ("waiting", 15)
    serve_until(paths[15:], lambda: bool(observatory.calibrator.built))
    assert observatory.row["state"] == "built"
    observatory.start()
