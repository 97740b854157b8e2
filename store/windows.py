"""Windows of persistence on disk: what a segment leaves for the next one on its detector.

    ledger/windows/nrca1/jw01234001001_02101_00001_nrca1-3f0c5a7712de90ab.parquet

A file of Parquet, a row for each pixel with an open window: ``row`` and ``column`` in the detector's full
frame, from 0, and ``end_s``, the end of the window in seconds since 1970. Its name ends with the first digits
of a checksum of these values, so that a file never changes; it is written aside, made durable and renamed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from upramp.stages.core.errors import Misconfigured, Retryable
from upramp.stages.stage1.persistence_windows import Windows
from upramp.store import parts
from upramp.store.naming import windows_file

_COLUMNS = pa.schema([("row", pa.int32()), ("column", pa.int32()), ("end_s", pa.float64())])


def checksum(windows: Windows) -> str:
    """SHA-256 of the values, hexadecimal: the same for the same windows, whatever wrote them."""
    digest = hashlib.sha256()
    for array, dtype in ((windows.rows, "<i4"), (windows.columns, "<i4"), (windows.ends, "<f8")):
        digest.update(np.ascontiguousarray(array, dtype).tobytes())
    return digest.hexdigest()


def write(ledger: Path, detector: str, segment_id: str, windows: Windows) -> tuple[Path, str]:
    """Keep the windows that a segment left.

    Parameters
    ----------
    ledger : Path
        Folder of the ledger; the file lies in it.
    detector, segment_id : str
        Whose windows they are; they name the file.
    windows : Windows

    Returns
    -------
    tuple of Path and str
        The file, whole and durable, and the checksum of its values.

    Raises
    ------
    Retryable
        If the disk refuses.
    """
    digest = checksum(windows)
    path = windows_file(ledger, detector, segment_id, digest)
    if path.exists():
        return path, digest
    about = {"detector": detector, "segment_id": segment_id, "sha256": digest}
    arrays = (windows.rows, windows.columns, windows.ends)
    table = pa.table([pa.array(a) for a in arrays], schema=_COLUMNS.with_metadata(about))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        parts.put(path, table)
    except OSError as error:
        raise Retryable(
            f"cannot keep the windows of persistence in {path.parent}: {error}; is the disk full?"
        ) from error
    return path, digest


def read(path: Path, digest: str) -> Windows:
    """The windows that a file holds.

    Raises
    ------
    Misconfigured
        If it is damaged.
    OSError
        If it cannot be opened; it may have been removed.
    """
    content = path.read_bytes()
    try:
        table = pq.read_table(pa.BufferReader(content), columns=_COLUMNS.names, use_threads=False)
        found = Windows(*(table[name].to_numpy() for name in _COLUMNS.names))
        whole = checksum(found) == digest
    except (pa.ArrowException, KeyError):
        whole = False
    if not whole:
        raise Misconfigured(
            f"{path} does not hold the windows of persistence that the ledger speaks of; remove it, and "
            "calibrate the exposure that it is named after once more"
        )
    return found
