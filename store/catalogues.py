"""Catalogues of sources out: tables in ECSV, astropy's text format, as the observatory writes them.

Libraries are imported when a catalogue is written, because few jobs make one and they take their time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from upramp.store.fitsio import writing_error
from upramp.store.scratch import Published, Scratch

LIBRARIES = ("astropy", "gwcs", "numpy", "photutils", "scipy", "upramp")


class Column(Protocol):
    """A column as stages make it; see `stages.stage3.source_columns.Column`."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def values(self) -> np.ndarray:
        """(n), or (n, 2) positions on the sky, degrees."""

    @property
    def unit(self) -> str:
        """Empty for none."""

    @property
    def form(self) -> str:
        """How values are shown."""

    @property
    def text(self) -> str:
        """What it means."""


def table_of(columns: Sequence[Column], meta: Mapping[str, Any]) -> Any:
    """The columns as an astropy table: with units, and positions on the sky as coordinates."""
    from astropy.coordinates import SkyCoord
    from astropy.table import QTable
    from astropy.units import Quantity

    table = QTable(meta=dict(meta))
    for one in columns:
        if one.values.ndim == 2:
            table[one.name] = SkyCoord(*one.values.T, unit="deg", frame="icrs")
        else:
            table[one.name] = Quantity(one.values, one.unit, copy=False) if one.unit else one.values
        info = table[one.name].info
        info.description = one.text
        if one.form:
            info.format = one.form
    return table


def write_catalogue(
    scratch: Path,
    target: Path,
    columns: Sequence[Column],
    meta: Mapping[str, Any],
    *,
    durable: bool = False,
) -> Published:
    """Write and publish a catalogue.

    Parameters
    ----------
    scratch : Path
        Folder of the job, inside the output folder.
    target : Path
        Where it goes; its name ends in ``.ecsv``.
    columns : sequence of Column
    meta : mapping
        What goes in beside the table: plain values, lists and mappings. Date and versions come by themselves.
    durable : bool
        Wait until it is on the disk.

    Raises
    ------
    Retryable, Misconfigured
        If the disk is full or may not be written.
    """
    known = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "version": {name: version(name) for name in LIBRARIES},
    }
    table = table_of(columns, {**known, **meta})
    folder = Scratch(scratch)
    try:
        path = folder.folder / target.name
        try:
            table.write(path, format="ascii.ecsv", overwrite=True)
            size = path.stat().st_size
        except OSError as error:
            raise writing_error(error, target) from error
        folder.publish({target.name: target}, durable)
    finally:
        folder.remove()
    kind = target.stem.rpartition("_")[2]
    return Published(target, kind, size, shape=(len(table),), dtype="table")
