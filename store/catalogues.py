"""Catalogues of sources in and out: tables in ECSV, astropy's text format, as the observatory writes them.

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
        Where it goes; its name ends in ``.ecsv``, or ``.fits`` for a binary table, which tells no versions.
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
    binary = target.suffix == ".fits"
    told = {**known, **meta}
    table = table_of(columns, {k: v for k, v in told.items() if not binary or isinstance(v, str)})
    folder = Scratch(scratch)
    try:
        path = folder.folder / target.name
        try:
            table.write(path, format="fits" if binary else "ascii.ecsv", overwrite=True)
            size = path.stat().st_size
        except OSError as error:
            raise writing_error(error, target) from error
        folder.publish({target.name: target}, durable)
    finally:
        folder.remove()
    kind = target.stem.rpartition("_")[2]
    return Published(target, kind, size, shape=(len(table),), dtype="table")


def read_catalogue(path: Path | str) -> dict[str, np.ndarray]:
    """The columns of a table by name: ECSV, FITS, or whatever astropy knows by the name's ending.

    Angles are in degrees; positions on the sky, as `write_catalogue` has them, are two columns, ``name.ra``
    and ``name.dec``.

    Raises
    ------
    OSError, ValueError
        If it cannot be read.
    """
    from astropy.coordinates import SkyCoord
    from astropy.table import QTable

    known = {".ecsv": "ascii.ecsv", ".fits": "fits", ".csv": "ascii.csv"}
    table = QTable.read(path, format=known.get(Path(path).suffix.lower(), "ascii"))
    found: dict[str, np.ndarray] = {}
    for name in table.colnames:
        column = table[name]
        if isinstance(column, SkyCoord):
            found |= {f"{name}.ra": column.icrs.ra.deg, f"{name}.dec": column.icrs.dec.deg}
        elif getattr(column, "unit", None) is not None:
            angle = column.unit.physical_type == "angle"
            found[name] = np.asarray(column.to_value("deg") if angle else column.value)
        else:
            found[name] = np.asarray(column)
    return found
