"""Prepared references: made once, kept as memory-mapped arrays, shared by all workers.

A prepared reference depends on the file, the step's ``prepare`` function (its source code), and
on those facts of the exposure and those parameters that the function really looked at:
they are watched while it runs. So the gain of a subarray is prepared once whatever the
number of groups, and a dark once for every read pattern.

    <folder>/<file, step and code>/<facts>/info.json, <array>.npy
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import inspect
import json
import logging
import math
import mmap
import os
import shutil
import sys
import threading
import time
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from upramp.stages.core.errors import Misconfigured
from upramp.stages.core.meta import ExposureMeta
from upramp.stages.core.reference import ByRows, Prepared, RawReference
from upramp.store.fitsio import writing_error
from upramp.store.raw_reference import raw_reference

log = logging.getLogger(__name__)

Prepare = Callable[[RawReference, ExposureMeta, Any], Prepared]

FORMAT = 1
_MISSING = object()
INFO = "info.json"
_ASIDE = ".aside-"
_PIECE = 16 << 20  # bytes of an array that is made some rows at a time
_SMALL, _KEPT = 2 << 20, 48  # bytes of references that stay mapped between files, and how many do
_STALE = 24 * 3600.0  # s; what a dead process left aside is removed after this


@cache
def code_version(module_name: str) -> str:
    """A digest of a module's source and of the source of all of upramp.stages that it uses."""
    seen: dict[str, bytes] = {}
    todo = [module_name]
    while todo:
        name = todo.pop()
        module = sys.modules.get(name)
        if name in seen or module is None:
            continue
        file = inspect.getsourcefile(module) if hasattr(module, "__file__") else None
        seen[name] = Path(file).read_bytes() if file and Path(file).is_file() else b""
        for value in vars(module).values():
            used = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            if isinstance(used, str) and used.startswith("upramp.stages"):
                todo.append(used)
    digest = hashlib.sha256()
    for name in sorted(seen):
        digest.update(name.encode() + b"\0" + seen[name])
    return digest.hexdigest()


@cache
def _resolved(path: Path, device: int, inode: int) -> str:
    """The path without symbolic links, of the file that it leads to."""
    return str(path.resolve())


def watched(record: Any) -> tuple[Any, dict[str, Any]]:
    """A copy of a frozen dataclass instance, and a dict that fills with the fields that are read."""
    cls = type(record)
    names = {field.name for field in dataclasses.fields(record)}
    seen: dict[str, Any] = {}

    def read(self: Any, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name in names:
            seen[name] = value
        return value

    spy = type(cls.__name__, (cls,), {"__getattribute__": read, "__slots__": ()})
    copy: Any = object.__new__(spy)
    for name in names:
        object.__setattr__(copy, name, getattr(record, name))
    return copy, seen


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


class PreparedStore:
    """Prepared references in a folder. Safe for several threads and processes at once.

    Parameters
    ----------
    folder : Path
        Is made if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: weakref.WeakValueDictionary[Path, Prepared] = weakref.WeakValueDictionary()
        self._kept: OrderedDict[Path, Prepared] = OrderedDict()  # small ones: opening them takes longest
        self._lock = threading.Lock()

    def get(
        self, step: str, reftype: str, path: Path, prepare: Prepare, meta: ExposureMeta, params: Any
    ) -> Prepared:
        """The reference prepared for this exposure, from the store or made now.

        Parameters
        ----------
        step, reftype : str
            Names of the step and of the reference type.
        path : Path
            The reference file.
        prepare : callable
            (raw reference, meta, params) -> Prepared; a module-level, deterministic function.
        meta : ExposureMeta
            The exposure.
        params : dataclass instance
            The step's parameters.

        Returns
        -------
        Prepared
            With read-only, C-contiguous arrays backed by files.

        Raises
        ------
        Misconfigured
            If the reference is damaged or does not fit, or the folder cannot be written; and
            whatever ``prepare`` raises.
        Retryable
            If the disk is full.
        """
        base = self._base(step, reftype, path, prepare)
        try:
            found = self._find(base, meta, params)
            if found is None:
                base.mkdir(parents=True, exist_ok=True)
                with self._alone(base):
                    found = self._find(base, meta, params)
                    if found is None:
                        found = self._make(base, reftype, path, prepare, meta, params)
        except OSError as exc:
            raise writing_error(exc, self.folder) from exc
        return found

    def _base(self, step: str, reftype: str, path: Path, prepare: Prepare) -> Path:
        try:
            stat = path.stat()
        except OSError as exc:
            raise Misconfigured(f"reference file {path} (type {reftype}) cannot be read: {exc}") from exc
        identity = [
            FORMAT,
            _resolved(path, stat.st_dev, stat.st_ino),
            stat.st_size,
            stat.st_mtime_ns,
            step,
            reftype,
            f"{prepare.__module__}.{prepare.__qualname__}",
            code_version(prepare.__module__),
        ]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]
        return self.folder / f"{step}-{reftype}-{digest}"

    def _find(self, base: Path, meta: ExposureMeta, params: Any) -> Prepared | None:
        for entry in self._entries(base):
            facts = self._facts(entry)
            if facts is None:
                self._discard(entry)
            elif self._fits(facts["meta"], meta) and self._fits(facts["params"], params):
                return self._load(entry, facts)
        return None

    @staticmethod
    def _entries(base: Path) -> list[Path]:
        try:
            found = [entry for entry in base.iterdir() if not entry.name.startswith(".") and entry.is_dir()]
        except FileNotFoundError:
            return []
        return sorted(found)

    @staticmethod
    def _fits(facts: Mapping[str, Any], record: Any) -> bool:
        return all(_json(getattr(record, name, _MISSING)) == value for name, value in facts.items())

    @staticmethod
    def _facts(entry: Path) -> dict[str, Any] | None:
        """The entry's description, or None if the entry is damaged. Trouble of the machine's is raised."""
        try:
            facts: dict[str, Any] = json.loads((entry / INFO).read_text())
            for name, size in facts["sizes"].items():
                if (entry / f"{name}.npy").stat().st_size != size:
                    return None
            return facts if {"meta", "params", "info"} <= facts.keys() else None
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _load(self, entry: Path, facts: Mapping[str, Any]) -> Prepared | None:
        with self._lock:
            known = self._open.get(entry)
            if known is None:
                try:
                    arrays = {name: _mapped(entry / f"{name}.npy") for name in facts["sizes"]}
                except (FileNotFoundError, ValueError):
                    self._discard(entry)
                    return None
                known = self._open[entry] = Prepared(arrays, facts["info"])
                if sum(facts["sizes"].values()) <= _SMALL:
                    self._kept[entry] = known
                    if len(self._kept) > _KEPT:
                        self._kept.popitem(last=False)
        with contextlib.suppress(OSError):
            os.utime(entry / INFO)  # last used, for prune
        return known

    def _make(
        self, base: Path, reftype: str, path: Path, prepare: Prepare, meta: ExposureMeta, params: Any
    ) -> Prepared:
        spied_meta, meta_facts = watched(meta)
        spied_params, params_facts = watched(params)
        started = time.perf_counter()
        aside = base / f"{_ASIDE}{uuid.uuid4().hex}"
        aside.mkdir()
        try:
            with raw_reference(path, reftype) as raw:
                made = prepare(raw, spied_meta, spied_params)
                sizes = {
                    name: _save(aside / f"{name}.npy", array, raw.release)
                    for name, array in made.arrays.items()
                }
            facts = {"meta": _json(meta_facts), "params": _json(params_facts), "info": dict(made.info)}
            digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
            (aside / INFO).write_text(json.dumps({**facts, "sizes": sizes}))
            entry = base / digest
            self._discard(entry)
            aside.rename(entry)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        log.debug(
            "reference_prepared",
            extra={
                "reference": path.name,
                "type": reftype,
                "seconds": round(time.perf_counter() - started, 3),
                "bytes": sum(sizes.values()),
            },
        )
        facts = self._facts(entry) or {}
        found = self._load(entry, facts) if facts else None
        if found is None:
            raise OSError(f"what was just written to {entry} cannot be read back")
        return found

    def _discard(self, entry: Path) -> None:
        """Take an entry away; who has it mapped may go on with it."""
        gone = entry.with_name(f"{_ASIDE}{uuid.uuid4().hex}")
        with contextlib.suppress(FileNotFoundError):
            entry.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
        self._open.pop(entry, None)
        self._kept.pop(entry, None)

    @contextlib.contextmanager
    def _alone(self, base: Path) -> Iterator[None]:
        """One at a time prepares from one file; the others wait and find it done."""
        with (base / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def prune(self, max_bytes: int) -> int:
        """Remove what was used least recently until at most ``max_bytes`` remain; bytes freed."""
        entries: list[tuple[float, int, Path]] = []
        for base in self.folder.glob("*-*"):
            for entry in base.iterdir() if base.is_dir() else ():
                with contextlib.suppress(OSError):
                    size = sum(file.stat().st_size for file in entry.iterdir()) if entry.is_dir() else 0
                    if not entry.name.startswith("."):
                        entries.append(((entry / INFO).stat().st_mtime, size, entry))
                    elif entry.name.startswith(_ASIDE) and time.time() - entry.stat().st_mtime > _STALE:
                        shutil.rmtree(entry, ignore_errors=True)
        total = sum(size for _, size, _ in entries)
        freed = 0
        for _, size, entry in sorted(entries):
            if total - freed <= max_bytes:
                break
            self._discard(entry)
            freed += size
        return freed


def release(prepared: Prepared) -> None:
    """Let go of the pages of a prepared reference; they are found again in the page cache."""
    for array in prepared.arrays.values():
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, mmap.mmap):
            with contextlib.suppress(ValueError, OSError):
                base.madvise(mmap.MADV_DONTNEED)


def _save(path: Path, array: np.ndarray | ByRows, release: Callable[[], None]) -> int:
    """Write an array, whole and on disk before it is renamed into place; its length in bytes.

    ``release`` is called between pieces of an array that is made some rows at a time.
    """
    if "/" in path.name or path.name.startswith("."):
        raise ValueError(f"a prepared array cannot be called {path.stem!r}")
    with path.open("wb") as file:
        if isinstance(array, ByRows):
            _save_rows(file, array, release)
        else:
            native = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape)
            np.save(file, native, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    return path.stat().st_size


def _save_rows(file: BinaryIO, array: ByRows, release: Callable[[], None]) -> None:
    dtype = np.dtype(array.dtype)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(file, header)
    row = max(dtype.itemsize * math.prod(array.shape[1:]), 1)
    step = max(1, _PIECE // row)
    for lo in range(0, array.shape[0], step):
        hi = min(lo + step, array.shape[0])
        piece = np.ascontiguousarray(array.make(lo, hi), dtype)
        if piece.shape != (hi - lo, *array.shape[1:]):
            raise ValueError(f"rows {lo} to {hi} of an array {array.shape} have the shape {piece.shape}")
        file.write(piece.data)
        release()


def _mapped(path: Path) -> np.ndarray:
    """A read-only array on a file; a plain ndarray, so that compiled kernels see the usual type."""
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
