"""The runner: whatever the cuts, threads, budgets and sizes, the answer is that of whole arrays."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upramp.stages.core import runner, windows
from upramp.stages.core.frames import RampStore
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.plan import BoundStep
from upramp.stages.core.step import Bound, Station, Window

TALL = 1024.0  # toys keep to integers below this, so that sums in float32 are exact


def describe(nints, ngroups, ny, nx):
    return ExposureMeta("NIRCAM", "NRCALONG", "NRC_IMAGE", "SUB", 1, 1, nx, ny, -1, 2, nints, nints, ngroups)


@dataclass
class Frames:
    """A source of ramps (nints, ngroups, ny, nx); knows how much it was asked for."""

    ramps: np.ndarray
    reads: Counter = field(default_factory=Counter)

    def read(self, out, y0, x0, i0=0):
        rows, nints, _, columns = out.shape
        self.reads["calls"] += 1
        self.reads["rows"] = max(self.reads["rows"], rows)
        out[:] = self.ramps[i0 : i0 + nints, :, y0 : y0 + rows, x0 : x0 + columns].transpose(2, 0, 1, 3)


class Collect:
    """A sink that puts the pieces together, and sees that each pixel comes once."""

    def __init__(self, meta):
        self.meta = meta
        self.seen = np.zeros((meta.ny, meta.nx), int)
        self.arrays = {}
        self._lock = threading.Lock()

    def emit(self, y0, x0, outputs):
        for name, a in outputs.items():
            with self._lock:
                whole = self.arrays.setdefault(
                    name, np.zeros((self.meta.ny, *a.shape[1:-1], self.meta.nx), a.dtype)
                )
            whole[y0 : y0 + len(a), ..., x0 : x0 + a.shape[-1]] = a
        rows, columns = outputs["rate.pdq"].shape
        self.seen[y0 : y0 + rows, x0 : x0 + columns] += 1


def boxes(a, h, combine):
    """Combine the (2h + 1)^2 neighbours on the last two axes; outside are zeros."""
    wide = np.pad(a, [(0, 0)] * (a.ndim - 2) + [(h, h)] * 2)
    ny, nx = a.shape[-2:]
    total = np.zeros_like(a)
    for y in range(2 * h + 1):
        for x in range(2 * h + 1):
            total = combine(total, wide[..., y : y + ny, x : x + nx])
    return total


def rows_first(a):
    return np.moveaxis(a, -2, 0)


class Shift:
    """Adds a number that depends on the pixel."""

    def __init__(self, n, meta):
        self.image = (np.arange(meta.ny)[:, None] * 37 + np.arange(meta.nx) * (11 + n)) % 101

    def bind(self, name):
        def run(w, lo, hi):
            at = self.image[lo:hi, w.x0 : w.x0 + w.data.shape[-1]]
            w.data[w.rows(lo, hi)] = (w.data[w.rows(lo, hi)] + at[:, None, None]) % TALL
            w.pdq[w.rows(lo, hi)] += at.astype(np.uint32)

        return Bound([Station(run)])

    def whole(self, x):
        x.data = (x.data + self.image) % TALL
        x.pdq = x.pdq + self.image.astype(np.uint32)


class Blur:
    """Sums over a box of neighbours."""

    def __init__(self, halo, meta):
        self.halo = halo

    def bind(self, name):
        def keep(w, lo, hi):
            w.planes[name][w.rows(lo, hi)] = w.data[w.rows(lo, hi)]

        def blur(w, lo, hi):
            near, at = w.haloed(lo, hi, self.halo)
            plane = np.moveaxis(w.planes[name][near], 0, -2)
            w.data[w.rows(lo, hi)] = rows_first(boxes(plane, self.halo, np.add) % TALL)[at : at + hi - lo]

        return Bound([Station(keep, planes={name: np.float32}), Station(blur, halo=self.halo)])

    def whole(self, x):
        x.data = boxes(x.data, self.halo, np.add) % TALL


class Grow:
    """Flags every seventh value and its neighbours, and counts it."""

    def __init__(self, halo, meta):
        self.halo = halo

    def bind(self, name):
        def find(w, lo, hi):
            hit = w.data[w.rows(lo, hi)] % 7 == 0
            w.planes[name][w.rows(lo, hi)] = hit
            r0, r1, c0, c1 = w.core(lo, hi)
            w.counters[name] += int(hit[r0:r1, ..., c0:c1].sum())

        def grow(w, lo, hi):
            near, at = w.haloed(lo, hi, self.halo)
            plane = np.moveaxis(w.planes[name][near], 0, -2)
            w.gdq[w.rows(lo, hi)] ^= rows_first(boxes(plane, self.halo, np.bitwise_or))[at : at + hi - lo]

        return Bound([Station(find, planes={name: np.uint8}), Station(grow, halo=self.halo)])

    def whole(self, x):
        hit = x.data % 7 == 0
        x.gdq = x.gdq ^ boxes(hit.astype(np.uint8), self.halo, np.bitwise_or)
        x.counts.append(int(hit.sum()))


class Drift:
    """Subtracts from every frame the sum of what two tiles hold: a step that must look ahead."""

    def __init__(self, n, meta):
        self.meta = meta
        n = max(n, 1)
        self.where = [
            (slice(0, min(n, meta.ny)), slice(0, meta.nx)),
            (slice(min(n, meta.ny), meta.ny), slice(max(meta.nx - n, 0), meta.nx)),
        ]
        self.levels = np.full((meta.nints, meta.ngroups), np.nan)

    def tiles(self):
        return self.where

    def begin(self, first, last):
        self.first = first
        shape = (self.meta.ny, last - first, self.meta.ngroups, self.meta.nx)
        self.values, self.times = np.zeros(shape), np.zeros((self.meta.ny, self.meta.nx), int)

    def absorb(self, w, lo, hi):
        r0, r1, c0, c1 = w.core(lo, hi)
        rows, columns = slice(lo - w.y0 + r0, lo - w.y0 + r1), slice(w.x0 + c0, w.x0 + c1)
        self.values[lo + r0 : lo + r1, ..., columns] = w.data[rows, ..., c0:c1] + w.gdq[rows, ..., c0:c1]
        self.times[lo + r0 : lo + r1, columns] += 1

    def finish(self):
        wanted = np.zeros_like(self.times)
        for rows, columns in self.where:
            wanted[rows, columns] += 1
        assert (self.times == wanted).all()
        self.levels[self.first : self.first + self.values.shape[1]] = self.values.sum(axis=(0, 3))

    def bind(self, name):
        def run(w, lo, hi):
            s = w.rows(lo, hi)
            levels = self.levels[w.i0 : w.i0 + w.data.shape[1]]
            w.data[s] = (w.data[s] - levels[None, :, :, None]) % TALL

        return Bound([Station(run)], survey=self)

    def whole(self, x):
        both = x.data + x.gdq
        levels = sum(both[:, :, r, c].sum(axis=(2, 3)) for r, c in self.where)
        x.data = (x.data - levels[:, :, None, None]) % TALL


class Level:
    """Subtracts its sum from each frame, and flags values in the frame after it: needs whole frames."""

    def __init__(self, n, meta):
        self.meta = meta

    def bind(self, name):
        def work(ramps, crew):
            def one(frame):
                i, g = frame
                data = ramps.read(i, g)
                if g + 1 < self.meta.ngroups:
                    ramps.write_flags(i, g + 1, ramps.read_flags(i, g + 1) ^ (data % 5 == 0))
                ramps.write(i, g, (data - data.sum(dtype=float)) % TALL)

            every = [(i, g) for i in range(self.meta.nints) for g in range(self.meta.ngroups)]
            crew.each(one, every)
            ramps.pdq += np.uint32(3)
            crew.counters[name + ".frames"] += len(every)

        return Bound([], frames=work)

    def whole(self, x):
        x.gdq[:, 1:] ^= x.data[:, :-1] % 5 == 0
        x.data = (x.data - x.data.sum(axis=(2, 3), keepdims=True)) % TALL
        x.pdq = x.pdq + np.uint32(3)


TOYS = {"shift": Shift, "blur": Blur, "grow": Grow, "drift": Drift, "level": Level}


def total():
    """The last step: makes one array per integration and one for the exposure of all that there is."""

    def run(w, lo, hi):
        s = w.rows(lo, hi)
        w.outputs["rateints.sum"][s] = (w.data[s] * (1 + w.gdq[s])).sum(axis=2)
        w.outputs["rate.sum"][s] = w.outputs["rateints.sum"][s].sum(axis=1)
        w.outputs["rate.pdq"][s] = w.pdq[s]

    kinds = {"rateints.sum": ("integration", np.float32), "rate.sum": ("exposure", np.float64)}
    return BoundStep("total", Bound([Station(run)], outputs={**kinds, "rate.pdq": ("exposure", np.uint32)}))


def counts(meta, seed=0):
    shape = (meta.nints, meta.ngroups, meta.ny, meta.nx)
    return np.random.default_rng(seed).integers(0, 1000, shape).astype(np.float32)


def chain(meta, names):
    toys = [TOYS[kind](n, meta) for kind, n in names]
    steps = [BoundStep(f"s{k}", toy.bind(f"s{k}")) for k, toy in enumerate(toys)]
    return toys, [*steps, total()]


def whole(meta, data, names):
    """The answer from whole arrays."""
    x = SimpleNamespace(
        data=data.astype(float),
        gdq=np.zeros(data.shape, np.uint8),
        pdq=np.zeros((meta.ny, meta.nx), np.uint32),
    )
    x.counts = []
    for kind, n in names:
        TOYS[kind](n, meta).whole(x)
    sums = (x.data * (1 + x.gdq)).sum(axis=1)
    arrays = {"rateints.sum": rows_first(sums), "rate.sum": sums.sum(axis=0), "rate.pdq": x.pdq}
    return arrays, x.counts


PLANS = st.lists(st.tuples(st.sampled_from(sorted(TOYS)), st.integers(0, 3)), max_size=4)
SIZES = st.one_of(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 20), st.integers(1, 20)),
    st.tuples(st.just(1), st.integers(1, 2), st.integers(60, 200), st.integers(1, 12)),
    st.tuples(st.integers(1, 2), st.just(1), st.integers(1, 12), st.integers(60, 280)),
)


class Glance:
    """Looks at the first integrations only, and remembers which, and where its columns begin."""

    def __init__(self, meta, nints):
        self.meta, self.nints = meta, nints
        self.chunks, self.begins = [], set()

    def tiles(self):
        return [(slice(0, self.meta.ny), slice(0, self.meta.nx))]

    def begin(self, first, last):
        self.chunks.append((first, last))

    def absorb(self, w, lo, hi):
        self.begins.add(w.x0 + w.core(lo, hi)[2])

    def finish(self):
        pass


@pytest.mark.parametrize(("nints", "chunks"), [(2, [(0, 1), (1, 2)]), (9, [(k, k + 1) for k in range(4)])])
def test_a_survey_may_want_the_first_integrations_only(monkeypatch, nints, chunks):
    meta = describe(4, 3, 5, 16)
    monkeypatch.setattr(runner, "SURVEY_BYTES", 1)
    looks = [Glance(meta, nints), Glance(meta, nints)]
    steps = [BoundStep("a", Bound([], survey=looks)), total()]
    report = runner.run(Frames(counts(meta)), Collect(meta), meta, steps, threads=1)
    assert [one.chunks for one in looks] == [chunks, chunks]
    assert report.passes == 3


@settings(max_examples=20, deadline=None)
@given(nx=st.integers(1, 200), budget=st.sampled_from([1, 5000, 30_000]))
def test_columns_are_cut_by_fours(nx, budget):
    meta = describe(1, 30, 3, nx)
    look = Glance(meta, 1)
    steps = [BoundStep("a", Bound([], survey=look)), total()]
    runner.run(Frames(counts(meta)), Collect(meta), meta, steps, threads=1, budget_bytes=budget)
    assert all(x % 4 == 0 for x in look.begins)


@settings(max_examples=60, deadline=None)
@given(
    ny=st.integers(0, 700), nx=st.integers(1, 60), edge=st.integers(0, 9), threads=st.integers(1, 5),
    budget=st.sampled_from([1, 10_000, 1 << 30]),
)  # fmt: skip
def test_blocks_cover_all_pixels_once(ny, nx, edge, threads, budget):
    job = windows.Job(describe(2, 3, ny, nx), [], {}, fill=None, drain=None, drain_name="")
    blocks = windows.cut_blocks(job, slice(0, ny), slice(0, nx), budget, edge, threads)
    seen = np.zeros((ny, nx), int)
    for (y0, y1), (x0, x1) in blocks:
        seen[y0:y1, x0:x1] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize(
    ("ny", "nx", "heights"),
    [(64, 8, [32, 32]), (160, 8, [80, 80]), (4, 8, [4]), (2048, 8, [1024] * 2), (2048, 2048, [64] * 32)],
)
def test_every_thread_has_as_many_strips(ny, nx, heights):
    job = windows.Job(describe(2, 10, ny, nx), [], {}, fill=None, drain=None, drain_name="")
    blocks = windows.cut_blocks(job, slice(0, ny), slice(0, nx), 1 << 30, 1, threads=2)
    assert [y1 - y0 for (y0, y1), _ in blocks] == heights


@settings(max_examples=60, deadline=None)
@given(
    size=SIZES,
    names=PLANS,
    cuts=st.sets(st.integers(-1, 6)),
    threads=st.integers(1, 3),
    budget=st.sampled_from([1, 10_000, 40_000, 300_000, 128 << 20]),
    looked_at=st.sampled_from([1, 5000, 32 << 20]),
    batch=st.sampled_from([1, 3 << 20]),
)
def test_any_plan_gives_what_whole_arrays_give(size, names, cuts, threads, budget, looked_at, batch):
    meta = describe(*size)
    data = counts(meta)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "SURVEY_BYTES", looked_at)
        patch.setattr(windows, "BATCH_BYTES", batch)
        _, steps = chain(meta, names)
        sink = Collect(meta)
        report = runner.run(Frames(data), sink, meta, steps, threads=threads, budget_bytes=budget, cuts=cuts)
    expected, hits = whole(meta, data, names)
    assert (sink.seen == 1).all()
    for name, array in expected.items():
        assert np.array_equal(sink.arrays[name], array), name
    surveys = sum(kind == "drift" for kind, _ in names)
    levels = {k + 1 for k, (kind, _) in enumerate(names) if kind == "level"}
    edges = sorted({c for c in {*cuts} | levels if 0 < c < len(steps)})
    moves = 1 + len(edges) - sum(kind == "level" and k in edges for k, (kind, _) in enumerate(names) if k)
    assert report.passes == moves + len(levels) + surveys
    grown = [f"s{k}" for k, (kind, _) in enumerate(names) if kind == "grow"]
    for name, n in zip(grown, hits, strict=True):
        looks = report.counters[name]
        later = any(kind == "drift" for kind, _ in names[int(name[1:]) :])
        assert looks >= n if later else looks == n


def spy(sizes):
    """A step that notes how large each worker's window is."""

    def run(w: Window, lo, hi):
        arrays = [w.data, w.gdq, w.pdq, *w.planes.values(), *w.outputs.values()]
        with lock:
            ident = threading.get_ident()
            sizes[ident] = max(sizes.get(ident, 0), sum(a.nbytes for a in arrays))

    lock = threading.Lock()
    return BoundStep("spy", Bound([Station(run)]))


def allocated(size, budget, threads=2, names=(("blur", 2), ("grow", 1))):
    """Bytes of all windows together."""
    meta = describe(*size)
    sizes: dict[int, int] = {}
    _, steps = chain(meta, names)
    runner.run(
        Frames(counts(meta)), Collect(meta), meta, [*steps, spy(sizes)], threads=threads, budget_bytes=budget
    )
    return sum(sizes.values())


@pytest.mark.parametrize(
    ("size", "budget"),
    [
        ((1, 3, 200, 70), 100_000),
        ((4, 6, 100, 300), 1 << 20),
        ((4, 6, 100, 300), 4 << 20),
        ((60, 4, 20, 150), 3 << 20),
        ((1, 2, 150, 2048), 3 << 20),
        ((100, 10, 8, 200), 16 << 20),
    ],
)
def test_windows_stay_within_the_budget(size, budget):
    assert 0 < allocated(size, budget) <= budget


def test_memory_does_not_grow_with_the_number_of_integrations():
    few, many = (allocated((n, 4, 12, 256), 4 << 20, threads=1) for n in (40, 160))
    assert few <= 4 << 20
    assert many <= 4 << 20


def workers():
    return [t for t in threading.enumerate() if t.name.startswith("upramp")]


@pytest.mark.parametrize("threads", [1, 3])
def test_stop_interrupts_and_leaves_no_thread(monkeypatch, threads):
    monkeypatch.setattr(windows, "BATCH_BYTES", 1)
    meta = describe(1, 2, 700, 4)
    asked = Counter()

    def stop():
        asked["times"] += 1
        return asked["times"] > 3

    source, sink = Frames(counts(meta)), Collect(meta)
    with pytest.raises(runner.Interrupted):
        runner.run(source, sink, meta, chain(meta, [("blur", 1)])[1], threads=threads, stop=stop)
    assert workers() == []
    assert not sink.seen.all()
    assert source.reads["calls"] <= 3


def test_stop_before_anything_is_read():
    meta = describe(1, 1, 4, 4)
    source = Frames(counts(meta))
    with pytest.raises(runner.Interrupted):
        runner.run(source, Collect(meta), meta, chain(meta, [("drift", 1)])[1], stop=lambda: True)
    assert source.reads["calls"] == 0


def failing(at, error):
    """A step that fails on one row."""

    def run(w, lo, hi):
        if lo <= at < hi:
            raise error

    return BoundStep("failing", Bound([Station(run)]))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("row", [0, 130, 299])
def test_an_error_in_one_worker_surfaces(threads, row):
    meta = describe(1, 1, 300, 4)
    sink = Collect(meta)
    steps = [*chain(meta, [("blur", 1)])[1][:-1], failing(row, ZeroDivisionError("row")), total()]
    with pytest.raises(ZeroDivisionError, match="row"):
        runner.run(Frames(counts(meta)), sink, meta, steps, threads=threads)
    assert workers() == []
    assert not sink.seen[row].any()


@pytest.mark.parametrize("threads", [1, 2])
def test_errors_of_source_and_sink_surface(threads):
    meta = describe(1, 1, 300, 4)

    class Broken:
        def read(self, out, y0, x0, i0=0):
            raise OSError("cannot read")

        def emit(self, y0, x0, outputs):
            raise OSError("disk full")

    steps = chain(meta, [])[1]
    with pytest.raises(OSError, match="cannot read"):
        runner.run(Broken(), Collect(meta), meta, steps, threads=threads)
    with pytest.raises(OSError, match="disk full"):
        runner.run(Frames(counts(meta)), Broken(), meta, steps, threads=threads)
    assert workers() == []


def test_report_names_every_step_and_counts_passes():
    meta = describe(2, 2, 70, 5)
    _, steps = chain(meta, [("shift", 1), ("drift", 1), ("grow", 1)])
    report = runner.run(Frames(counts(meta)), Collect(meta), meta, steps, cuts=[3])
    assert report.passes == 3
    assert set(report.wall) == {"read", "s0", "s1", "s2", "total", "put down", "write"} == set(report.cpu)
    assert all(seconds >= 0 for seconds in report.wall.values())


def test_frames_may_become_smaller():
    meta, small = describe(2, 3, 90, 11), describe(2, 3, 70, 11)
    data, opened, closed = counts(meta), [], []

    class Own(RampStore):
        def close(self):
            closed.append(self)

    def scratch(meta):
        opened.append(Own.empty(meta))
        return opened[-1]

    def work(ramps, crew):
        crew.each(
            lambda f: ramps.write(*f, ramps.read(*f)[20:]), [(i, g) for i in range(2) for g in range(3)]
        )
        ramps.cut(small)

    shrink = BoundStep("shrink", Bound([], frames=work, meta=small))
    _, steps = chain(small, [("blur", 1), ("level", 1), ("shift", 2)])
    sink = Collect(small)
    runner.run(Frames(data), sink, meta, [shrink, *steps], scratch=scratch)
    expected, _ = whole(small, data[:, :, 20:], [("blur", 1), ("level", 1), ("shift", 2)])
    for name, array in expected.items():
        assert np.array_equal(sink.arrays[name], array), name
    assert len(opened) == 2 == len(closed)  # put down anew after blur, which needs the rows as they were


def test_no_frames_after_products():
    steps = [total(), BoundStep("late", Bound([], frames=lambda ramps, crew: None))]
    with pytest.raises(ValueError, match="whole frames"):
        runner.run(
            Frames(counts(describe(1, 1, 4, 4))), Collect(describe(1, 1, 4, 4)), describe(1, 1, 4, 4), steps
        )


def test_what_is_put_down_is_taken_up():
    meta = describe(2, 3, 7, 9)
    ramps = RampStore.empty(meta)
    rng = np.random.default_rng(3)
    shape = (5, 2, 3, 8)
    w = Window(
        rng.random(shape, "f4"), rng.integers(0, 9, shape, "u1"), rng.integers(0, 9, (5, 8)).astype("u4")
    )
    w.y0, w.x0, w.core_rows, w.core_columns = 1, 1, (2, 5), (2, 8)
    runner.put_down(ramps)(w, 1, 6)
    assert np.array_equal(ramps.read(1, 2)[2:5, 2:8], w.data[1:4, 1, 2, 1:7])
    assert np.array_equal(ramps.read_flags(1, 2)[2:5, 2:8], w.gdq[1:4, 1, 2, 1:7])
    back = Window(
        np.zeros((3, 2, 3, 6), "f4"), np.zeros((3, 2, 3, 6), "u1"), np.zeros((3, 6), "u4"), y0=2, x0=2
    )
    runner.take_up(ramps)(back, 2, 5)
    assert np.array_equal(back.data, w.data[1:4, ..., 1:7])
    assert np.array_equal(back.gdq, w.gdq[1:4, ..., 1:7])
    assert np.array_equal(back.pdq, w.pdq[1:4, 1:7])
    for a in (ramps.data, ramps.gdq, ramps.pdq):
        a[..., 2:5, 2:8] = 0
        assert not a.any()
