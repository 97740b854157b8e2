"""Tables out: small binary tables as extensions of FITS files."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from astropy.io import fits

from upramp.store.fitsio import BLOCK


def structured(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Columns of one length, side by side: a structured array."""
    first = next(iter(columns.values()))
    rows = np.empty(len(first), [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        rows[name] = values
    return rows


def table(rows: np.ndarray, name: str) -> bytes:
    """A structured array as an extension, header and padding included.

    Bytes become text, truth values logical columns; numbers keep their types.
    """
    hdu = fits.BinTableHDU(rows, name=name)
    hdu.header["EXTVER"] = 1
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    return buffer.getvalue()[BLOCK:]
