"""How NIRSpec's IRS2 read-out lays pixels and reference pixels out, and in which order they are read.

Five outputs (the reference output first, then four amplifiers) give 640 samples a detector row each: 32
times 8 pixels, 4 interleaved reference pixels, 8 pixels. On the way to a group of four reference pixels and
back one sample's time passes, and eight at a row's end: a row takes 712 sample times. Outputs 0, 2 and 4
(from 0) are read backwards. Detector columns run along the first axis of the products' frames.

Source: Rauscher et al. 2017, PASP 129, 105003; JWST pipeline documentation, refpix step.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from upramp.stages.core.meta import ExposureMeta

OUTPUTS = 5
BLOCKS = 32
BLOCK = 20
BEFORE, REFERENCES = 8, 4  # pixels of a block before its reference pixels, and those
COLUMNS = BLOCKS * BLOCK  # of an output
ROW = 712  # sample times of a detector row
PIXELS = OUTPUTS * COLUMNS - COLUMNS - (OUTPUTS - 1) * BLOCKS * REFERENCES  # columns that see light: 2048


def is_turned(meta: ExposureMeta) -> tuple[bool, bool]:
    """Whether detector columns and rows run against the first and the second axis of frames."""
    return meta.fastaxis < 0, meta.slowaxis < 0


def without_references(meta: ExposureMeta) -> ExposureMeta:
    """The exposure as it is without interleaved reference pixels; others stay as they are."""
    return replace(meta, ny=PIXELS) if meta.is_irs2 else meta


def interleaved() -> np.ndarray:
    """Which columns are reference pixels between pixels, those of the reference output too; bool (3200)."""
    within = np.arange(OUTPUTS * COLUMNS) % BLOCK
    return (within >= BEFORE) & (within < BEFORE + REFERENCES)


def light_columns() -> np.ndarray:
    """Which detector columns are ordinary pixels; bool (3200)."""
    light = ~interleaved()
    light[:COLUMNS] = False
    return light


def light_rows(meta: ExposureMeta) -> np.ndarray:
    """The same along the first axis of frames as they are stored."""
    light = light_columns()
    return light[::-1].copy() if is_turned(meta)[0] else light


def parities() -> np.ndarray:
    """Even (0) or odd (1) address of every column on the detector; int64 (3200)."""
    within = np.arange(OUTPUTS * COLUMNS) % BLOCK
    return np.where(interleaved(), (within - BEFORE) // 2, within % 2)


def sample_times() -> np.ndarray:
    """At which sample time of a row each column of an output is read; int64 (outputs, 640)."""
    column = np.arange(COLUMNS)
    block, within = column // BLOCK, column % BLOCK
    late = (within >= BEFORE).astype(np.int64) + (within >= BEFORE + REFERENCES)
    forward = block * (BLOCK + 2) + within + late
    return np.array([forward[::-1] if output % 2 == 0 else forward for output in range(OUTPUTS)])
