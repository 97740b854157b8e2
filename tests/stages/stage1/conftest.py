"""A small stand-in for the runner, so that one step can be tested on its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.step import Context, Step, Window


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
        raise KeyError(extname)


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
    )
    facts |= dict(nx=nx, ny=ny, fastaxis=-1, slowaxis=2, nints=nints, nints_total=nints, ngroups=ngroups)
    return ExposureMeta(**(facts | changes))


@pytest.fixture(name="describe")
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
