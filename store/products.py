"""Products out: what stage 1 makes appears under its name whole or not at all.

Files are written into a scratch folder and renamed when they are whole, so a reader
never sees a part of one, whatever happens to the writer.

Of an exposure come slopes ("rate", "rateints"), corrected ramps ("ramp", "dark"), and what steps make
beside them (`stages.core.extras`).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from upramp.stages.core.extras import Cube, Extra
from upramp.stages.core.meta import ExposureMeta
from upramp.store.cubes import DiskCube
from upramp.store.exposure_file import ExposureFile
from upramp.store.fitsio import writing_error
from upramp.store.product_file import Extension, ProductFile
from upramp.store.scratch import Published, Scratch, clean_scratch
from upramp.store.tables import structured, table
from upramp.store.transforms import table_node

__all__ = ["RAMP_KINDS", "ProductWriter", "Published", "clean_scratch", "write_product"]

FLUSH_S = 0.05  # pause between two rounds of writing back
_ARRAYS = ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE")
_WITH_UNIT = ("SCI", "ERR")
_RATE_UNIT, _RAMP_UNIT = "DN/s", "DN"

RAMP_KINDS = ("ramp", "dark")
"""Products that hold corrected ramps."""


def _model(kind: str, meta: ExposureMeta) -> str:
    """Data model of a product: slopes of an integral-field unit have one of their own."""
    if kind in RAMP_KINDS:
        return "RampModel"
    if kind == "rateints":
        return "CubeModel"
    return "IFUImageModel" if meta.exp_type in ("NRS_IFU", "MIR_MRS") else "ImageModel"


def _layout(
    kind: str, uncal: ExposureFile, meta: ExposureMeta, planes: Mapping[str, str]
) -> list[Extension | bytes]:
    times = uncal.time_tables()
    if kind in RAMP_KINDS:
        shapes = {"exposure": (meta.ny, meta.nx), "integration": (meta.nints, meta.ny, meta.nx)}
        cube = (meta.nints, meta.ngroups, meta.ny, meta.nx)
        ramps: list[Extension | bytes] = [
            Extension("SCI", cube, "float32", _RAMP_UNIT),
            Extension("PIXELDQ", cube[2:], "uint32"),
            Extension("GROUPDQ", cube, "uint8"),
            *(Extension(name, shapes[extent]) for name, extent in planes.items()),
        ]
        return [*ramps, *times]
    shape = (meta.ny, meta.nx) if kind == "rate" else (meta.nints, meta.ny, meta.nx)
    layout: list[Extension | bytes] = []
    for name in _ARRAYS:
        dtype = "uint32" if name == "DQ" else "float32"
        layout.append(Extension(name, shape, dtype, _RATE_UNIT if name in _WITH_UNIT else None))
        if name == "DQ" and kind == "rateints":
            layout += times
    return layout


class ProductWriter:
    """Writes the products of one uncal file while it is calibrated.

    Use it in a ``with`` statement: leaving that without ``finish`` abandons the products.

    Parameters
    ----------
    uncal : ExposureFile
        The input; its headers and metadata tree are carried over.
    scratch : Path
        The job's own scratch folder (``naming.scratch_folder``), in ``output``.
    output : Path
        Where the products are published.
    kinds : sequence of str
        Of "rate", "rateints", "ramp" and "dark".
    durable : bool
        Be proof against power cuts: products are on the disk before they are published. Writing
        back begins at once, beside the calibration, so that little is left to wait for.
    meta : ExposureMeta, optional
        The exposure as the last step sees it, if frames became smaller on their way.
    planes : mapping
        Further float32 extensions of ramps: name -> "exposure" (ny, nx) or "integration" (nints, ny, nx).

    Raises
    ------
    Retryable
        If the disk is full, or another job holds the scratch folder.
    Misconfigured
        If the output folder cannot be written.
    """

    def __init__(
        self,
        uncal: ExposureFile,
        scratch: Path,
        output: Path,
        kinds: Sequence[str] = ("rate", "rateints"),
        durable: bool = False,
        meta: ExposureMeta | None = None,
        planes: Mapping[str, str] | None = None,
    ) -> None:
        self._uncal = uncal
        self._output = output
        self._durable = durable
        self._trouble: OSError | None = None
        self._enough = threading.Event()
        self._write_back: threading.Thread | None = None
        self._scratch = Scratch(scratch)
        self._files: list[ProductFile] = []
        try:
            for kind in kinds:
                layout = _layout(kind, uncal, meta or uncal.meta, planes or {})
                self._files.append(ProductFile(uncal, self._scratch, kind, _model(kind, uncal.meta), layout))
        except BaseException:
            self.abandon()
            raise
        if durable:
            self._write_back = threading.Thread(target=self._flush, name="write back", daemon=True)
            self._write_back.start()

    def _flush(self) -> None:
        """Send to the disk what has been written, again and again. Trouble is kept for ``finish``."""
        try:
            while not self._enough.wait(FLUSH_S):
                for file in self._files:
                    file.flush()
        except OSError as error:
            self._trouble = error

    def _stop_flushing(self) -> None:
        self._enough.set()
        if self._write_back is not None:
            self._write_back.join()
            self._write_back = None

    def emit(self, y0: int, x0: int, outputs: Mapping[str, np.ndarray]) -> None:
        """Write rows of all arrays, from row ``y0`` and column ``x0`` on. Every pixel once; thread-safe.

        Parameters
        ----------
        y0, x0 : int
            Row and column (0-based, of the exposure's array) of the first element.
        outputs : mapping
            "rate.sci", "rate.err", "rate.dq", "rate.var_poisson", "rate.var_rnoise" (rows, columns)
            and "rateints.*" (rows, nints, columns); float32, the flags uint32. Other keys are left alone.
        """
        for file in self._files:
            if file.kind in RAMP_KINDS:
                continue
            for name in _ARRAYS:
                file.write(name, y0, x0, outputs[f"{file.kind}.{name.lower()}"])

    def put_ramps(self, y0: int, x0: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write rows of corrected ramps, from row ``y0`` and column ``x0`` on. Every pixel once; thread-safe.

        Parameters
        ----------
        y0, x0 : int
            As for `emit`.
        arrays : mapping
            SCI float32 and GROUPDQ uint8 (rows, nints, ngroups, columns), PIXELDQ uint32 (rows, columns), and
            the further planes, (rows, columns) or (rows, nints, columns).
        """
        for file in self._files:
            if file.kind in RAMP_KINDS:
                for name, values in arrays.items():
                    file.write(name, y0, x0, values)

    def cube(self, shape: tuple[int, ...]) -> DiskCube:
        """Room for an array of a further product, in the scratch folder."""
        return DiskCube(shape, self._scratch.folder)

    def finish(
        self,
        cards: Mapping[str, Any],
        sci_cards: Mapping[str, Any] | None = None,
        tree_updates: Mapping[str, Any] | None = None,
        *,
        checksum: bool = False,
        extras: Sequence[Extra] = (),
        without: Mapping[str, Collection[str]] | None = None,
    ) -> list[Published]:
        """Write headers and metadata and publish.

        Parameters
        ----------
        cards, sci_cards : mapping
            Keywords that calibration adds to the primary and SCI headers (R_*, S_*, CRDS_CTX ...);
            None and NaN take a keyword away. DATE, FILENAME, DATAMODL and CAL_VER come by themselves.
        tree_updates : mapping, optional
            Nested; merged into the metadata tree, which already follows the keywords.
        checksum : bool
            Also compute the SHA-256 of the products.
        extras : sequence of Extra
            What steps made beside.
        without : mapping, optional
            Kind of product -> keywords of ``cards`` that it does not have: of steps that came later.

        Returns
        -------
        list of Published
            In the order of ``kinds``, then of ``extras``.
        """
        done: list[Published] = []
        left = without or {}
        try:
            self._stop_flushing()
            if self._trouble is not None:
                raise self._trouble
            ready = []
            for file in self._files:
                own = {k: v for k, v in cards.items() if k not in left.get(file.kind, ())}
                size = file.finish(own, sci_cards or {}, tree_updates)
                main = file.main
                ready.append((file.name, file.name, file.kind, size, main.shape, main.dtype, main.unit))
            for k, extra in enumerate(extras):
                ready.append(self._extra(f"extra{k}", extra, cards, sci_cards, tree_updates))
            for name, place, kind, size, shape, dtype, unit in ready:
                digest = _sha256(self._scratch.folder / name) if checksum or not dtype else None
                target = self._output / place
                done.append(Published(target, kind, size, digest, shape, dtype or "float64", unit))
            targets = {one[0]: product.path for one, product in zip(ready, done, strict=True)}
            self._scratch.publish(targets, self._durable)
        except OSError as error:
            raise writing_error(error, self._output) from error
        finally:
            self.abandon()
        return done

    def _extra(
        self,
        name: str,
        extra: Extra,
        cards: Mapping[str, Any],
        sci_cards: Mapping[str, Any] | None,
        tree_updates: Mapping[str, Any] | None,
    ) -> tuple[str, str, str, int, tuple[int, ...], str, str | None]:
        """Write a further product into the scratch folder.

        Returns its name there, its place, kind, length, and its main array's shape, type and unit.
        """
        extra.ready()
        place = extra.path or self._uncal.name.product(extra.suffix, "fits" if extra.tree is None else "asdf")
        if extra.tree is not None:
            path = self._scratch.folder / name
            write_asdf(path, extra.tree, self._output / place)
            return name, place, extra.suffix, path.stat().st_size, (), "", None
        first, main = next(iter(extra.arrays.items()))
        layout = [
            Extension(key, array.shape, dtype_of(array), extra.units.get(key))
            for key, array in extra.arrays.items()
        ]
        file = ProductFile(
            self._uncal, self._scratch, extra.suffix, extra.model, layout, Path(place).name, name
        )
        self._files.append(file)
        for key, array in extra.arrays.items():
            for plane, index in enumerate(np.ndindex(*array.shape[:-2])):
                file.write_plane(
                    key, plane, array[index] if isinstance(array, np.ndarray) else array.read(*index)
                )
        size = file.finish({**cards, **extra.header}, sci_cards or {}, tree_updates)
        return name, place, extra.suffix, size, main.shape, dtype_of(main), extra.units.get(first)

    def abandon(self) -> None:
        """Close everything and remove the scratch folder; after ``finish`` it does nothing."""
        self._stop_flushing()
        for file in self._files:
            file.close()
        self._scratch.remove()

    def __enter__(self) -> ProductWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()


def dtype_of(array: np.ndarray | Cube) -> str:
    """Name of an array's type of number; cubes hold float32."""
    return array.dtype.name if isinstance(array, np.ndarray) else "float32"


def write_asdf(path: Path, tree: Mapping[str, Any], before: Path) -> None:
    """An ASDF file of a tree, with what the file ``before`` holds, if it is there, beside the tree's keys.

    The library is imported here, because few files need it and it takes its time.
    """
    import asdf

    kept: dict[str, Any] = {}
    if before.exists():
        with asdf.open(before, memmap=False, lazy_load=False) as old:
            kept = {k: v for k, v in old.tree.items() if k not in ("asdf_library", "history")}
    with asdf.AsdfFile(kept | dict(tree)) as file:
        file.write_to(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_product(
    uncal: ExposureFile,
    scratch: Path,
    output: Path,
    kind: str,
    model: str,
    arrays: Mapping[str, np.ndarray],
    cards: Mapping[str, Any],
    sci_cards: Mapping[str, Any] | None = None,
    tree_updates: Mapping[str, Any] | None = None,
    *,
    units: Mapping[str, str] | None = None,
    carry: Sequence[str] = (),
    tables: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    checksum: bool = False,
    durable: bool = False,
) -> Published:
    """Write and publish a product whose arrays are at hand whole.

    Parameters
    ----------
    uncal, scratch, output
        As for `ProductWriter`.
    kind, model : str
        Ending of the file name ("cal") and data model ("GuiderCalModel").
    arrays : mapping
        Extension name -> float32 or uint32 array of two or three axes; SCI comes first.
    cards, sci_cards, tree_updates, checksum, durable
        As for `ProductWriter.finish`.
    units : mapping, optional
        Extension name -> BUNIT.
    carry : sequence of str
        Extensions of the input that go in unaltered, if it has them: before the variances, or at the end.
    tables : mapping, optional
        Extension name -> column name -> values, one for each row.

    Raises
    ------
    Retryable, Misconfigured
        As for `ProductWriter`.
    """
    layout: list[Extension | bytes] = [
        Extension(name, array.shape, array.dtype.name, (units or {}).get(name))
        for name, array in arrays.items()
    ]
    behind = next((k for k, name in enumerate(arrays) if name.startswith("VAR_")), len(layout))
    units_carried = (uncal.unit(name.upper()) for name in carry)
    layout[behind:behind] = [uncal.raw(unit) for unit in units_carried if unit is not None]
    rows = {name: structured(columns) for name, columns in (tables or {}).items()}
    layout += [table(some, name) for name, some in rows.items()]
    tree_updates = {name.lower(): table_node(some, name) for name, some in rows.items()} | {
        **(tree_updates or {})
    }
    folder = Scratch(scratch)
    file = None
    try:
        file = ProductFile(uncal, folder, kind, model, layout)
        for name, array in arrays.items():
            file.write(name, 0, 0, np.moveaxis(array, -2, 0))
        size = file.finish(cards, sci_cards or {}, tree_updates)
        digest = file.checksum() if checksum else None
        folder.publish({file.name: output / file.name}, durable)
    finally:
        if file is not None:
            file.close()
        folder.remove()
    return Published(output / file.name, kind, size, digest, file.main.shape, file.main.dtype, file.main.unit)
