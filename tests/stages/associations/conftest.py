"""Hand-made exposures: rows of pools and headers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from upramp.stages.associations.pool import Exposure, exposure_from_header, exposure_from_row

ROW = {
    "program": "99",
    "obs_num": "1",
    "visit": "1",
    "visitgrp": "02",
    "seq_id": "1",
    "act_id": "01",
    "exposure": "1",
    "visitype": "PRIME_TARGETED_FIXED",
    "exp_type": "NRC_IMAGE",
    "instrume": "NIRCAM",
    "detector": "NRCA1",
    "channel": "SHORT",
    "targetid": "1",
    "pntgtype": "SCIENCE",
    "filter": "F200W",
    "pupil": "CLEAR",
    "subarray": "FULL",
    "grating": "NULL",
    "exposerr": "NULL",
    "is_psf": "F",
    "bkgdtarg": "F",
    "tsovisit": "F",
}
HEADER = {
    "PROGRAM": "01234",
    "OBSERVTN": "001",
    "VISIT": "001",
    "VISITGRP": "02",
    "SEQ_ID": "1",
    "ACT_ID": "01",
    "EXPOSURE": "1",
    "NEXPOSUR": 2,
    "EXPCOUNT": 1,
    "NUMDTHPT": 2,
    "VISITYPE": "PRIME_TARGETED_FIXED",
    "EXP_TYPE": "NRC_IMAGE",
    "INSTRUME": "NIRCAM",
    "DETECTOR": "NRCALONG",
    "CHANNEL": "LONG",
    "TARGPROP": "NGC-3324",
    "FILTER": "F444W",
    "PUPIL": "CLEAR",
    "SUBARRAY": "FULL",
    "IS_PSF": False,
    "BKGDTARG": False,
    "TSOVISIT": False,
}


@pytest.fixture
def row() -> Callable[..., Exposure]:
    """A function that makes an exposure from the row of a pool; ``also`` are further candidates."""

    def make(name: str, also: tuple[tuple[str, str], ...] = (), **facts: Any) -> Exposure:
        values = ROW | {key: str(value) for key, value in facts.items()}
        own = (f"o{int(values['obs_num']):03d}", "OBSERVATION")
        values.setdefault("asn_candidate", str([own, *also]))
        return exposure_from_row({"filename": f"{name}_uncal.fits", **values})

    return make


@pytest.fixture
def header() -> Callable[..., Exposure]:
    """A function that makes an exposure from a header, named as the archive names it."""

    def make(**keywords: Any) -> Exposure:
        values = HEADER | keywords
        name = (
            f"jw{values['PROGRAM']}{values['OBSERVTN']}{values['VISIT']}_{values['VISITGRP']}"
            f"{values['SEQ_ID']}{values['ACT_ID']}_{int(values['EXPOSURE']):05d}_{values['DETECTOR'].lower()}"
        )
        return exposure_from_header(f"{name}_uncal.fits", values)

    return make
