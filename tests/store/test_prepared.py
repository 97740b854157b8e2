"""Prepared references: made once, safe to share."""

from __future__ import annotations

import dataclasses
import errno
import gc
import json
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np
import pytest
from astropy.io import fits

from upramp.stages.core.errors import Misconfigured, Retryable, UprampError
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import ByRows, Prepared
from upramp.store import prepared as store_prepared
from upramp.store.prepared import INFO, PreparedStore, code_version, release, watched

META = ExposureMeta(
    instrument="NIRCAM",
    detector="NRCA1",
    exp_type="NRC_IMAGE",
    subarray="FULL",
    xstart=1,
    ystart=1,
    nx=6,
    ny=4,
    fastaxis=-1,
    slowaxis=2,
    nints=1,
    nints_total=1,
    ngroups=3,
)
CALLS: list[str] = []


@dataclasses.dataclass(frozen=True)
class Params:
    skip: bool = False
    scale: float = 2.0
    unused: int = 1


def double(raw, meta, params):
    """Looks at nx, ny and scale only."""
    CALLS.append("double")
    image = raw.array("SCI")[: meta.ny, : meta.nx] * np.float32(params.scale)
    return Prepared({"image": image, "dq": raw.dq()}, {"mean": float(image.mean()), "names": ["a"]})


def stack(raw, meta, params):
    """Looks at a property, and so at what it looks at; and at the number of groups."""
    CALLS.append("stack")
    extra = 1 if meta.is_irs2 else 0
    return Prepared(
        {"cube": np.repeat(raw.array("SCI")[None], meta.ngroups + extra, 0), "none": np.empty((0, 3))}
    )


def empty(raw, meta, params):
    return Prepared({})


def transposed(raw, meta, params):
    return Prepared({"t": raw.array("SCI").T, "x": np.float64(3.0)})


def by_rows(raw, meta, params):
    image = raw.array("SCI")
    return Prepared({"a": ByRows(image.shape, np.float32, lambda lo, hi: 2 * image[lo:hi])})


def crooked(raw, meta, params):
    image = raw.array("SCI")
    return Prepared({"a": ByRows((9, *image.shape[1:]), np.float32, lambda lo, hi: image[lo : hi - 1])})


def failing(raw, meta, params):
    raise Misconfigured("it does not fit")


@pytest.fixture
def reference(tmp_path) -> Path:
    path = tmp_path / "jwst_nircam_gain_0001.fits"
    image = np.arange(24, dtype=np.float32).reshape(4, 6)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image, name="SCI")]).writeto(path)
    return path


@pytest.fixture
def prepared(tmp_path) -> Iterator[PreparedStore]:
    CALLS.clear()
    return PreparedStore(tmp_path / "prepared")


def entries(store: PreparedStore) -> list[Path]:
    return sorted(info.parent for info in store.folder.glob(f"*/*/{INFO}"))


def get(store, path, prepare=double, meta=META, params=None, step="jump"):
    return store.get(step, "gain", path, prepare, meta, params or Params())


def test_arrays(prepared, reference):
    made = get(prepared, reference)
    assert type(made["image"]) is np.ndarray
    flags = made["image"].flags
    assert flags.c_contiguous and flags.aligned and not flags.writeable and not flags.owndata
    assert made["image"].dtype == np.float32 and made["image"].dtype.isnative
    np.testing.assert_array_equal(made["image"], 2 * np.arange(24).reshape(4, 6))
    assert made["dq"].shape == (4, 6)
    assert made.info == {"mean": 23.0, "names": ["a"]}


def test_small_ones_stay_mapped_and_large_ones_do_not(prepared, reference, monkeypatch):
    gc.collect()
    known = id(get(prepared, reference))
    assert id(get(prepared, reference)) == known
    monkeypatch.setattr("upramp.store.prepared._KEPT", 1)
    get(prepared, reference, transposed)
    assert len(prepared._kept) == 1
    monkeypatch.setattr("upramp.store.prepared._SMALL", 1)
    get(prepared, reference, stack)
    assert len(prepared._kept) == 1
    gc.collect()
    assert len(prepared._open) == 1


def test_numba_sees_the_usual_type(prepared, reference):
    image = get(prepared, reference)["image"]
    ordinary = np.zeros((4, 6), np.float32)
    ordinary.flags.writeable = False
    assert numba.typeof(image) == numba.typeof(ordinary)


def test_odd_shapes(prepared, reference):
    made = get(prepared, reference, transposed)
    assert made["t"].flags.c_contiguous and made["t"].shape == (6, 4) and made["t"][5, 0] == 5.0
    assert made["x"].shape == () and made["x"] == 3.0
    assert get(prepared, reference, stack)["none"].shape == (0, 3)
    assert dict(get(prepared, reference, empty).arrays) == {}


@pytest.mark.parametrize("piece", [1, 16 << 20])
def test_some_rows_at_a_time(prepared, reference, monkeypatch, piece):
    monkeypatch.setattr(store_prepared, "_PIECE", piece)
    made, whole = get(prepared, reference, by_rows), get(prepared, reference)
    assert np.array_equal(made["a"], whole["image"])
    assert made["a"].dtype == np.float32 and made["a"].flags.c_contiguous
    release(made)
    assert np.array_equal(made["a"], whole["image"])
    with fits.open(reference) as hdus:
        alone = by_rows(SimpleNamespace(array=lambda name: hdus[name].data), None, None)
        assert np.array_equal(alone["a"], whole["image"])
        assert alone.get("b") is None


def test_rows_must_be_as_many_as_promised(prepared, reference):
    with pytest.raises(ValueError, match="rows 0 to 9"):
        get(prepared, reference, crooked)
    assert entries(prepared) == []


def test_once(prepared, reference):
    first = get(prepared, reference)
    assert get(prepared, reference) is first  # one map for all who hold it
    np.testing.assert_array_equal(get(PreparedStore(prepared.folder), reference)["image"], first["image"])
    assert CALLS == ["double"]


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"nx": 5}, True),
        ({"ngroups": 7}, False),
        ({"nints": 9, "filter": "F444W"}, False),
    ],
)
def test_only_what_was_looked_at_matters(prepared, reference, change, again):
    get(prepared, reference)
    made = get(prepared, reference, meta=dataclasses.replace(META, **change))
    assert len(CALLS) == 1 + again
    assert made["image"].shape == (4, change.get("nx", 6))


def test_properties_are_looked_through(prepared, reference):
    assert get(prepared, reference, stack)["cube"].shape[0] == 3
    spec = dataclasses.replace(META, instrument="NIRSPEC", nx=3200)
    assert get(prepared, reference, stack, meta=spec)["cube"].shape[0] == 4
    assert get(prepared, reference, stack, meta=dataclasses.replace(META, ngroups=1))["cube"].shape[0] == 1
    assert get(prepared, reference, stack, meta=dataclasses.replace(META, ystart=9))["cube"].shape[0] == 3
    assert len(CALLS) == 3 and len(entries(prepared)) == 3


def test_parameters_matter(prepared, reference):
    get(prepared, reference)
    assert get(prepared, reference, params=Params(unused=5)).info["mean"] == 23.0
    assert get(prepared, reference, params=Params(scale=4.0)).info["mean"] == 46.0
    assert CALLS == ["double", "double"]


def test_the_file_and_the_step_matter(prepared, reference):
    get(prepared, reference)
    get(prepared, reference, step="ramp_fit")
    assert len(CALLS) == 2
    stat = reference.stat()
    os.utime(reference, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    get(prepared, reference)
    assert len(CALLS) == 3


def test_the_code_matters(prepared, reference, monkeypatch):
    get(prepared, reference)
    monkeypatch.setattr("upramp.store.prepared.code_version", lambda name: "another")
    get(prepared, reference)
    assert len(CALLS) == 2


def test_code_version_covers_helpers():
    from upramp.stages.stage1 import superbias

    assert code_version(superbias.__name__) != code_version("upramp.stages.core.reference")
    assert code_version("no.such.module") == code_version("no.such.module")


def test_watched_is_the_same_to_its_user():
    copy, seen = watched(META)
    assert isinstance(copy, ExposureMeta) and seen == {}
    assert copy.nx == 6 and seen == {"nx": 6}
    assert copy.is_full_frame and seen == {"nx": 6, "subarray": "FULL"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        copy.nx = 3


@pytest.mark.parametrize("damage", ["cut", "gone", "info", "no info", "header", "facts"])
def test_damage_is_mended(prepared, reference, damage):
    get(prepared, reference)
    (entry,) = entries(prepared)
    if damage == "cut":
        (entry / "image.npy").write_bytes(b"\x93NUMPY")
    elif damage == "gone":
        (entry / "image.npy").unlink()
    elif damage == "info":
        (entry / INFO).write_text("{")
    elif damage == "no info":
        (entry / INFO).unlink()
    elif damage == "facts":
        (entry / INFO).write_text(json.dumps({"meta": {}, "params": {}}))
    else:
        data = bytearray((entry / "image.npy").read_bytes())
        data[:6] = b"XXXXXX"
        (entry / "image.npy").write_bytes(data)
    made = get(PreparedStore(prepared.folder), reference)
    np.testing.assert_array_equal(made["image"], 2 * np.arange(24).reshape(4, 6))
    assert len(CALLS) == 2
    assert [p.name for p in entry.parent.iterdir() if p.name.startswith(".aside")] == []


def test_failures_leave_nothing(prepared, reference):
    with pytest.raises(Misconfigured, match="does not fit"):
        get(prepared, reference, failing)
    assert entries(prepared) == []
    with pytest.raises(Misconfigured, match="cannot be read"):
        get(prepared, reference.with_name("gone.fits"))


def test_trouble_of_the_machine_costs_no_good_entry(prepared, reference, monkeypatch):
    get(prepared, reference)

    def refuse(path, *args, **kwargs):
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", refuse)
        with pytest.raises(Retryable, match="Too many open files"):
            get(prepared, reference)
    get(prepared, reference)
    assert CALLS == ["double"]


def test_folder_that_cannot_be_made(tmp_path, reference):
    (tmp_path / "file").touch()
    with pytest.raises(UprampError, match="cannot be written"):
        get(PreparedStore(tmp_path / "file"), reference)


def test_prune(prepared, reference):
    held = get(prepared, reference)
    get(prepared, reference, stack)
    get(prepared, reference, transposed)
    for age, prepare in ((300, "double"), (200, "stack"), (100, "transposed")):
        for entry in entries(prepared):
            facts = json.loads((entry / INFO).read_text())
            if {"double": "image", "stack": "cube", "transposed": "t"}[prepare] in facts["sizes"]:
                os.utime(entry / INFO, (1e9 - age, 1e9 - age))
    get(prepared, reference)  # used again: now the youngest
    assert prepared.prune(10**9) == 0
    total = sum(f.stat().st_size for e in entries(prepared) for f in e.iterdir())
    freed = prepared.prune(total - 1)
    assert freed > 0
    assert {p.name for e in entries(prepared) for p in e.glob("*.npy")} == {
        "image.npy",
        "dq.npy",
        "t.npy",
        "x.npy",
    }
    assert prepared.prune(0) == total - freed and entries(prepared) == []
    assert held["image"].sum() == 552  # who has it goes on with it
    get(prepared, reference)
    assert CALLS == ["double", "stack", "double"]


def _worker(folder, path, barrier, queue):
    store = PreparedStore(folder)
    barrier.wait(20)
    made = store.get("jump", "gain", path, double, META, Params())
    queue.put((float(made["image"].sum()), len(CALLS)))


def test_two_processes_at_once(prepared, reference):
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(2), context.Queue()
    workers = [
        context.Process(target=_worker, args=(prepared.folder, reference, barrier, queue)) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    results = [queue.get(timeout=20) for _ in workers]
    for worker in workers:
        worker.join(20)
    assert [value for value, _ in results] == [552.0, 552.0]
    assert sum(calls for _, calls in results) == 1
    assert len(entries(prepared)) == 1
