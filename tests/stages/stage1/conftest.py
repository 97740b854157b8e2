"""A small stand-in for the runner, so that one step can be tested on its own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upramp.stages.core import runner
from upramp.stages.core.errors import NotApplicable
from upramp.stages.core.frames import RampStore
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.plan import BoundStep
from upramp.stages.core.step import Bound, Context, Station, Step, Window


@dataclass
class Reference:
    """A reference in memory; floats are big-endian, as in a file."""

    reftype: str
    arrays: Mapping[str, Any]
    header: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.reftype}.fits"

    def has(self, extname: str) -> bool:
        return extname in self.arrays

    def array(self, extname: str) -> np.ndarray:
        a = np.asarray(self.arrays[extname])
        return a.astype(">f4") if a.dtype.kind == "f" else a

    def dq(self, extname: str = "DQ") -> np.ndarray:
        if extname in self.arrays:
            return np.asarray(self.arrays[extname], np.uint32)
        shape = next(iter(self.arrays.values())).shape[-2:]
        return np.zeros(shape, np.uint32)

    def table(self, extname: str) -> np.ndarray:
        return np.asarray(self.arrays[extname])

    def tree(self) -> Mapping[str, Any]:
        return self.arrays


@dataclass
class Outcome:
    """Ramps (nints, ngroups, ny, nx) after a step, and what else it left."""

    data: np.ndarray
    gdq: np.ndarray
    pdq: np.ndarray
    counters: Counter[str]
    shared: dict[str, Any]
    window: Window


def describe(data: np.ndarray, **changes: Any) -> ExposureMeta:
    """The facts of an exposure that has these ramps (nints, ngroups, ny, nx)."""
    nints, ngroups, ny, nx = data.shape
    facts: dict[str, Any] = dict(
        instrument="NIRCAM",
        detector="NRCALONG",
        exp_type="NRC_IMAGE",
        subarray="SUB64P",
        xstart=101,
        ystart=201,
        frame_time=10.0,
        group_time=10.0,
    )
    facts |= dict(nx=nx, ny=ny, fastaxis=-1, slowaxis=2, nints=nints, nints_total=nints, ngroups=ngroups)
    return ExposureMeta(**(facts | changes))


@pytest.fixture(name="describe", scope="session")
def describe_fixture() -> Callable[..., ExposureMeta]:
    return describe


@pytest.fixture
def reference() -> type[Reference]:
    return Reference


@pytest.fixture
def apply() -> Callable[..., Outcome]:
    """A function that sends ramps (nints, ngroups, ny, nx) through one step.

    ``batch`` rows enter at a time; stations with a halo lag behind, as with the runner. The window may
    hold only some columns (``columns``) of the exposure, ``core`` of which count.
    """

    def run(
        step: Step,
        data: Any,
        references: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        gdq: Any = 0,
        pdq: Any = 0,
        outputs: Mapping[str, np.ndarray] | None = None,
        batch: int = 3,
        columns: tuple[int, int] | None = None,
        **facts: Any,
    ) -> Outcome:
        data = np.asarray(data, np.float32)
        meta = describe(data, **facts)
        x0, x1 = columns or (0, meta.nx)
        chosen = step.params(**(params or {}))
        refs = {k: v if isinstance(v, Reference) else Reference(k, v) for k, v in (references or {}).items()}
        prepared = {k: step.prepare[k](v, meta, chosen) for k, v in refs.items()}
        shared: dict[str, Any] = {}
        bound = step.bind(Context(meta, chosen, prepared, shared))
        ramps = data.transpose(2, 0, 1, 3)[..., x0:x1].copy(order="C")
        flags = (
            np.broadcast_to(np.asarray(gdq, np.uint8), data.shape).transpose(2, 0, 1, 3)[..., x0:x1].copy("C")
        )
        pixels = np.broadcast_to(np.asarray(pdq, np.uint32), data.shape[-2:])[:, x0:x1].copy("C")
        w = Window(ramps, flags, pixels, bottom=meta.ny, x0=x0, outputs=dict(outputs or {}))
        w.core_rows, w.core_columns = (0, meta.ny), (x0, x1)
        for station in bound.stations:
            w.planes.update({k: np.full(ramps.shape, 77, t) for k, t in station.planes.items()})
        done, loaded = [0] * len(bound.stations), 0
        while done[-1] < meta.ny:
            limit = loaded = min(loaded + batch, meta.ny)
            for k, station in enumerate(bound.stations):
                limit = limit if limit == meta.ny else max(limit - station.halo, 0)
                if limit > done[k]:
                    station.run(w, done[k], limit)
                    done[k] = limit
        return Outcome(
            ramps.transpose(1, 2, 0, 3), flags.transpose(1, 2, 0, 3), pixels, w.counters, shared, w
        )

    return run


@dataclass
class Through:
    """What came out of the runner: ramps (nints, ngroups, ny, nx) after the last step, and the products."""

    data: np.ndarray
    gdq: np.ndarray
    pdq: np.ndarray
    products: dict[str, np.ndarray]  # rate.* (ny, nx), rateints.* (nints, ny, nx)
    report: runner.RunReport
    shared: dict[str, Any]


class Ends:
    """Source of ramps (nints, ngroups, ny, nx) and sink of products, in memory."""

    def __init__(self, data: np.ndarray, meta: ExposureMeta) -> None:
        self.data, self.meta = data, meta
        self.products: dict[str, np.ndarray] = {}
        self.seen = np.zeros((meta.ny, meta.nx), int)

    def read(self, out: np.ndarray, y0: int, x0: int, i0: int = 0) -> None:
        rows, nints, _, columns = out.shape
        out[:] = self.data[i0 : i0 + nints, :, y0 : y0 + rows, x0 : x0 + columns].transpose(2, 0, 1, 3)

    def emit(self, y0: int, x0: int, outputs: Mapping[str, np.ndarray]) -> None:
        for name, a in outputs.items():
            between = a.shape[1:-1]
            empty = np.zeros((*between, self.meta.ny, self.meta.nx), a.dtype)
            whole = self.products.setdefault(name, empty)
            whole[..., y0 : y0 + len(a), x0 : x0 + a.shape[-1]] = np.moveaxis(a, 0, -2)


def start(gdq: np.ndarray, pdq: np.ndarray) -> BoundStep:
    """A step that sets the flags to begin with."""

    def run(w: Window, lo: int, hi: int) -> None:
        s, x = w.rows(lo, hi), slice(w.x0, w.x0 + w.pdq.shape[1])
        w.pdq[s] = pdq[lo:hi, x]
        w.gdq[s] = gdq[w.i0 : w.i0 + w.gdq.shape[1], :, lo:hi, x].transpose(2, 0, 1, 3)

    return BoundStep("start", Bound([Station(run)]))


def keep(store: RampStore, w: Window, lo: int, hi: int) -> None:
    runner.put_down(store)(w, lo, hi)


@pytest.fixture(scope="session")
def through() -> Callable[..., Through]:
    """A function that sends ramps (nints, ngroups, ny, nx) through steps with the runner itself.

    ``steps``: (step, parameters) in order; those that are not applicable are left out. ``references`` by
    type, each a mapping of extension to array or a `Reference`. ``options`` go to the runner,
    ``shared`` is what earlier steps handed on.
    """

    def run(
        steps: Sequence[tuple[Step, Mapping[str, Any]]],
        data: Any,
        references: Mapping[str, Any] | None = None,
        *,
        gdq: Any = 0,
        pdq: Any = 0,
        options: Mapping[str, Any] | None = None,
        shared: Mapping[str, Any] | None = None,
        **facts: Any,
    ) -> Through:
        data = np.asarray(data, np.float32)
        meta = describe(data, **facts)
        flags = np.broadcast_to(np.asarray(gdq, np.uint8), data.shape)
        pixels = np.broadcast_to(np.asarray(pdq, np.uint32), data.shape[-2:])
        raw = {k: v if isinstance(v, Reference) else Reference(k, v) for k, v in (references or {}).items()}
        handed_on: dict[str, Any] = dict(shared or {})
        chain = [start(flags, pixels)]
        for step, params in steps:
            chosen = step.params(**params)
            if step.skip_if(meta, chosen):
                continue
            refs = {k: step.prepare[k](raw[k], meta, chosen) for k in step.references if k in raw}
            try:
                chain.append(BoundStep(step.name, step.bind(Context(meta, chosen, refs, handed_on))))
            except NotApplicable:
                continue
            meta = chain[-1].bound.meta or meta
        store = RampStore.empty(meta)
        chain.append(BoundStep("keep", Bound([Station(partial(keep, store))])))
        ends = Ends(data, meta)
        report = runner.run(ends, ends, describe(data, **facts), chain, **(options or {}))
        return Through(store.data, store.gdq, store.pdq, ends.products, report, handed_on)

    return run


@dataclass(frozen=True)
class PeerCase:
    """What the observatory's package was given and what it answered (see make_peer_truth.py)."""

    params: Mapping[str, Any]
    facts: Mapping[str, Any]
    references: Mapping[str, Mapping[str, np.ndarray]]
    given: Mapping[str, np.ndarray]  # data, gdq, pdq
    answer: Mapping[str, np.ndarray]


@pytest.fixture(scope="session")
def peer_cases() -> Callable[[str], list[PeerCase]]:
    """A function that gives the recorded cases of a step."""
    with np.load(Path(__file__).with_name("peer_truth.npz")) as file:
        arrays = dict(file)

    def cases(step: str) -> list[PeerCase]:
        found = []
        for k, case in enumerate(json.loads(str(arrays["index"]))):
            if case["step"] != step:
                continue
            own = {name.split(".", 1)[1]: a for name, a in arrays.items() if name.split(".")[0] == str(k)}
            references: dict[str, dict[str, np.ndarray]] = {}
            for name, a in own.items():
                if name.startswith("ref."):
                    _, reftype, extname = name.split(".")
                    references.setdefault(reftype, {})[extname] = a
            parts = [
                {name.split(".", 1)[1]: a for name, a in own.items() if name.startswith(kind)}
                for kind in ("in.", "out.")
            ]
            found.append(PeerCase(case["params"], case["facts"], references, *parts))
        return found

    return cases
