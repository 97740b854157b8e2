"""Products out: what stage 1 makes appears under its name whole or not at all.

Files are written into a scratch folder and renamed when they are whole, so a reader
never sees a part of one, whatever happens to the writer.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from upramp.stages.core.meta import ExposureMeta
from upramp.store.fitsio import writing_error
from upramp.store.product_file import Extension, ProductFile
from upramp.store.scratch import Published, Scratch, clean_scratch
from upramp.store.uncal import Uncal

__all__ = ["Published", "RateWriter", "clean_scratch", "write_product"]

FLUSH_S = 0.2  # pause between two rounds of writing back
_ARRAYS = ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE")
_WITH_UNIT = ("SCI", "ERR")
_RATE_UNIT = "DN/s"


def _model(kind: str, meta: ExposureMeta) -> str:
    """Data model of a rate product: slopes of an integral-field unit have one of their own."""
    if kind == "rateints":
        return "CubeModel"
    return "IFUImageModel" if meta.exp_type in ("NRS_IFU", "MIR_MRS") else "ImageModel"


def _layout(kind: str, uncal: Uncal, meta: ExposureMeta) -> list[Extension | bytes]:
    shape = (meta.ny, meta.nx) if kind == "rate" else (meta.nints, meta.ny, meta.nx)
    layout: list[Extension | bytes] = []
    for name in _ARRAYS:
        layout.append(Extension(name, shape, name == "DQ", _RATE_UNIT if name in _WITH_UNIT else None))
        times = uncal.unit("INT_TIMES")
        if name == "DQ" and kind == "rateints" and times is not None:
            layout.append(uncal.raw(times))
    return layout


class RateWriter:
    """Writes the slope products of one uncal file while they are calibrated.

    Use it in a ``with`` statement: leaving that without ``finish`` abandons the products.

    Parameters
    ----------
    uncal : Uncal
        The input; its headers and metadata tree are carried over.
    scratch : Path
        The job's own scratch folder (``naming.scratch_folder``), in ``output``.
    output : Path
        Where the products are published.
    kinds : sequence of str
        "rate", "rateints" or both.
    durable : bool
        Be proof against power cuts: products are on the disk before they are published. Writing
        back begins at once, beside the calibration, so that little is left to wait for.
    meta : ExposureMeta, optional
        The exposure as the last step sees it, if frames became smaller on their way.

    Raises
    ------
    Retryable
        If the disk is full, or another job holds the scratch folder.
    Misconfigured
        If the output folder cannot be written.
    """

    def __init__(
        self,
        uncal: Uncal,
        scratch: Path,
        output: Path,
        kinds: Sequence[str] = ("rate", "rateints"),
        durable: bool = False,
        meta: ExposureMeta | None = None,
    ) -> None:
        self._output = output
        self._durable = durable
        self._trouble: OSError | None = None
        self._enough = threading.Event()
        self._write_back: threading.Thread | None = None
        self._scratch = Scratch(scratch)
        self._files: list[ProductFile] = []
        try:
            for kind in kinds:
                layout = _layout(kind, uncal, meta or uncal.meta)
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
            for name in _ARRAYS:
                file.write(name, y0, x0, outputs[f"{file.kind}.{name.lower()}"])

    def finish(
        self,
        cards: Mapping[str, Any],
        sci_cards: Mapping[str, Any] | None = None,
        tree_updates: Mapping[str, Any] | None = None,
        *,
        checksum: bool = False,
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

        Returns
        -------
        list of Published
            In the order of ``kinds``.
        """
        done: list[Published] = []
        try:
            self._stop_flushing()
            if self._trouble is not None:
                raise self._trouble
            sizes = [file.finish(cards, sci_cards or {}, tree_updates) for file in self._files]
            sums = [file.checksum() if checksum else None for file in self._files]
            for file, size, digest in zip(self._files, sizes, sums, strict=True):
                target = self._output / file.name
                self._scratch.publish(file.name, target, self._durable)
                done.append(Published(target, file.kind, size, digest))
        except OSError as error:
            raise writing_error(error, self._output) from error
        finally:
            self.abandon()
        return done

    def abandon(self) -> None:
        """Close everything and remove the scratch folder; after ``finish`` it does nothing."""
        self._stop_flushing()
        for file in self._files:
            file.close()
        self._scratch.remove()

    def __enter__(self) -> RateWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()


def write_product(
    uncal: Uncal,
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
    checksum: bool = False,
    durable: bool = False,
) -> Published:
    """Write and publish a product whose arrays are at hand whole.

    Parameters
    ----------
    uncal, scratch, output
        As for `RateWriter`.
    kind, model : str
        Ending of the file name ("cal") and data model ("GuiderCalModel").
    arrays : mapping
        Extension name -> float32 or uint32 array of two or three axes; SCI comes first.
    cards, sci_cards, tree_updates, checksum, durable
        As for `RateWriter.finish`.
    units : mapping, optional
        Extension name -> BUNIT.
    carry : sequence of str
        Extensions of the input that go in unaltered, if it has them.

    Raises
    ------
    Retryable, Misconfigured
        As for `RateWriter`.
    """
    layout: list[Extension | bytes] = [
        Extension(name, array.shape, array.dtype == np.uint32, (units or {}).get(name))
        for name, array in arrays.items()
    ]
    layout += [uncal.raw(unit) for name in carry if (unit := uncal.unit(name.upper())) is not None]
    folder = Scratch(scratch)
    file = None
    try:
        file = ProductFile(uncal, folder, kind, model, layout)
        for name, array in arrays.items():
            file.write(name, 0, 0, array if array.ndim == 2 else array.transpose(1, 0, 2))
        size = file.finish(cards, sci_cards or {}, tree_updates)
        digest = file.checksum() if checksum else None
        folder.publish(file.name, output / file.name, durable)
    finally:
        if file is not None:
            file.close()
        folder.remove()
    return Published(output / file.name, kind, size, digest)
