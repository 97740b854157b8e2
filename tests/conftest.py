"""Fixtures that all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

KEYWORDS: dict[str, Any] = {
    "DATE": "2024-03-01T00:00:00.000",
    "FILENAME": "jw01234001001_02101_00001_nrcalong_uncal.fits",
    "DATAMODL": "Level1bModel",
    "TELESCOP": "JWST",
    "DATE-OBS": "2024-03-01",
    "TIME-OBS": "01:15:00.000",
    "PROGRAM": "01234",
    "TSOVISIT": False,
    "INSTRUME": "NIRCAM",
    "DETECTOR": "NRCALONG",
    "MODULE": "A",
    "CHANNEL": "LONG",
    "FILTER": "F444W",
    "PUPIL": "CLEAR",
    "EXP_TYPE": "NRC_IMAGE",
    "READPATT": "RAPID",
    "NFRAMES": 1,
    "FRMDIVSR": 1,
    "GROUPGAP": 0,
    "DRPFRMS1": 0,
    "TFRAME": 10.73677,
    "TGROUP": 10.73677,
    "SUBARRAY": "SUB64P",
    "SUBSTRT1": 1,
    "SUBSTRT2": 1,
    "FASTAXIS": -1,
    "SLOWAXIS": 2,
}
WCS: dict[str, Any] = {"BUNIT": "DN", "WCSAXES": 2, "CRPIX1": 4.5, "CTYPE1": "RA---TAN", "RA_REF": 80.0}
TIMES = ("start_MJD_UTC", "mid_MJD_UTC", "end_MJD_UTC", "start_BJD_TDB", "mid_BJD_TDB", "end_BJD_TDB")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data beside the project; tests that need it are skipped where it is missing."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("UPRAMP_SHARED") or default)
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: set UPRAMP_SHARED to the folder of shared data")
    return folder


@pytest.fixture
def make_uncal(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a small uncal file: random counts, all keywords that are needed.

    ``keywords`` override (None takes away) those of the primary header, or of SCI where they
    are there; ``counts`` gives the pixels.
    """

    def make(
        name: str = "jw01234001001_02101_00001_nrcalong_uncal.fits",
        shape: tuple[int, ...] = (2, 3, 6, 8),
        counts: np.ndarray | None = None,
        folder: Path = tmp_path,
        **keywords: Any,
    ) -> Path:
        if counts is None:
            counts = np.random.default_rng(1).integers(0, 65536, shape).astype(np.uint16)
        axes = counts.shape[::-1] + (1,) * 4
        sizes = {"SUBSIZE1": axes[0], "SUBSIZE2": axes[1], "NGROUPS": axes[2], "NINTS": axes[3]}
        keywords = {k.replace("_OBS", "-OBS"): v for k, v in keywords.items()}
        primary, sci = fits.PrimaryHDU(), fits.ImageHDU(counts, name="SCI")
        for hdu, defaults in ((primary, KEYWORDS | sizes), (sci, WCS)):
            hdu.header.update({k: keywords.pop(k, v) for k, v in defaults.items()})
            for k in [k for k in defaults if hdu.header[k] is None or hdu.header[k] == ""]:
                del hdu.header[k]
        primary.header.update(keywords)
        n = int(primary.header.get("NINTS") or 1)
        times = np.zeros(n, [("integration_number", "i4"), *((f"int_{t}", "f8") for t in TIMES)])
        times["integration_number"] = np.arange(n) + 1
        for k, t in enumerate(TIMES):
            times[f"int_{t}"] = 60370.0 + 0.01 * np.arange(n) + 0.001 * k
        path = folder / name
        fits.HDUList([primary, sci, fits.BinTableHDU(times, name="INT_TIMES")]).writeto(path, overwrite=True)
        return path

    return make
