"""Exposures of stripes: lines of the detector that need not lie side by side, read into one frame.

Along the slow axis a frame begins with READS1 lines (reference pixels, as a rule); then SKIPS1 lines are
passed over and READS2 are read, again and again with SKIPS2 lines between them, until the frame is full. With
REPEAT the first lines are read again ahead of every stripe; then, without INTERLEAVE, the stripe is always
the same.

A superstripe exposure cuts the detector into COUNT regions, which are read by turns, an integration each: the
stripes move on by STEP lines from one to the next. READS2 = 0 stands for STEP. To the steps, such an exposure
has frames in which all regions lie side by side along the slow axis, the first one first; refpix puts them
together to a picture of the detector.

Lines are counted from 0 in the order of reading; SUBSTRT of the slow axis tells the first one, or, where the
axis runs backwards, its place in the science frame. Source: JWST keyword dictionary; the observatory's
documentation of multistripe subarrays; what it leaves open was measured on the observatory's package.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from upramp.stages.core.meta import ExposureMeta

DETECTOR = 2048  # lines of a near-infrared detector


@dataclass(frozen=True, slots=True)
class Stripes:
    """How lines are picked; names follow the header keywords, which stand in brackets."""

    reads1: int  # MSTR_RD1
    skips1: int  # MSTR_SK1
    reads2: int  # MSTR_RD2
    skips2: int  # MSTR_SK2
    repeat: int = 0  # MSTR_RPT
    interleave: int = 0  # MSTR_ILV
    step: int = 0  # SSTR_STP
    count: int = 0  # SSTR_NST

    @property
    def regions(self) -> int:
        """Superstripes that make up one frame; 1 without."""
        return max(self.count, 1)


@dataclass(frozen=True, slots=True)
class Piece:
    """Lines that lie side by side: ``length`` of them.

    ``at``: the first one's place in the frame, ``line``: on the detector; ``reference``: they are the first
    lines, or their repetition.
    """

    at: int
    line: int
    length: int
    reference: bool


def pieces(stripes: Stripes, first: int, length: int, region: int = 0) -> list[Piece]:
    """What a frame of ``length`` lines is made of, in the order of reading, from line ``first`` on.

    ``region``: which superstripe, from 0.

    Raises
    ------
    ValueError
        If the stripes do not fill the frame, or reach beyond the detector.
    """
    found: list[Piece] = []
    at = 0
    for line, lines, reference in _read(stripes, first, region):
        if at >= length and not (found and found[-1].reference):
            break
        if lines:
            found.append(Piece(at, line, lines, reference))
            at += lines
    if at != length:
        raise ValueError(f"stripes fill {at} lines, but a frame has {length}")
    low, high = min(p.line for p in found), max(p.line + p.length for p in found)
    if low < 0 or high > DETECTOR:
        raise ValueError(f"stripes take lines {low + 1} to {high}, but the detector has {DETECTOR}")
    return found


def _read(s: Stripes, first: int, region: int) -> Iterator[tuple[int, int, bool]]:
    """What is read, without end: line, number of lines, whether they are the first ones."""
    reads = s.reads2 or s.step * (s.count > 1)
    if reads <= 0:
        raise ValueError(f"stripes of {reads} lines never fill a frame")
    line = first + s.reads1 + s.skips1 + region * s.step
    yield first, s.reads1, True
    while True:
        yield line, reads, False
        if s.repeat:
            yield first, s.reads1, True
        if s.interleave or not s.repeat:
            line += reads + s.skips2


def start(stripes: Stripes, slowaxis: int, origin: int) -> int:
    """The first line (from 0, in the order of reading) for SUBSTRT = ``origin`` (from 1) of the slow axis.

    Where the axis runs backwards, 1 cannot be meant in the science frame, and stands for the first line.
    """
    if slowaxis > 0 or origin == 1:
        return origin - 1
    return DETECTOR - origin


@dataclass(frozen=True, slots=True)
class Lines:
    """What the lines of an exposure's frames are, each array in the order of the frame's own lines.

    Attributes
    ----------
    line : ndarray, int64
        Their place on the detector (from 0, science frame).
    reference : ndarray, bool
        Whether they are the first lines, or their repetition.
    region : ndarray, int64
        Their superstripe, from 0.
    """

    line: np.ndarray
    reference: np.ndarray
    region: np.ndarray


def lines(meta: ExposureMeta) -> Lines:
    """The lines along the slow axis of an exposure of stripes.

    Raises
    ------
    ValueError
        As for `pieces`.
    """
    stripes = meta.stripes
    assert stripes is not None
    slow_is_x = abs(meta.slowaxis) == 1
    length = (meta.nx if slow_is_x else meta.ny) // stripes.regions
    first = start(stripes, meta.slowaxis, meta.xstart if slow_is_x else meta.ystart)
    line, reference = [], []
    for region in range(stripes.regions):
        found = pieces(stripes, first, length, region)
        own = np.concatenate([np.arange(p.length) + p.line for p in found])
        heads = np.concatenate([np.full(p.length, p.reference) for p in found])
        line.append(own if meta.slowaxis > 0 else DETECTOR - 1 - own[::-1])
        reference.append(heads if meta.slowaxis > 0 else heads[::-1])
    return Lines(
        np.concatenate(line), np.concatenate(reference), np.repeat(np.arange(stripes.regions), length)
    )


def edges(meta: ExposureMeta) -> tuple[np.ndarray, np.ndarray]:
    """First rows and first columns of regions that were read apart from each other, and the ends; int64."""
    rows, columns = np.array([0, meta.ny]), np.array([0, meta.nx])
    if meta.stripes is not None:
        n = meta.stripes.regions
        if abs(meta.slowaxis) == 1:
            columns = np.arange(n + 1) * (meta.nx // n)
        else:
            rows = np.arange(n + 1) * (meta.ny // n)
    return rows, columns


def together(meta: ExposureMeta) -> tuple[ExposureMeta, np.ndarray, np.ndarray]:
    """The exposure with its superstripes put together, and which of its lines are which of the frames'.

    Returns
    -------
    ExposureMeta
        It has all lines from the first to the last that a region holds; of NIRISS SOSS, the whole detector.
    ndarray, ndarray
        Lines of the new frames that were read, and where they come from in the old ones; int64.
    """
    found = lines(meta)
    light = np.flatnonzero(~found.reference)
    line = found.line[light]
    low, high = (0, DETECTOR) if "SOSS" in meta.subarray else (int(line.min()), int(line.max()) + 1)
    new = replace(meta, nx=high - low, xstart=low + 1, stripes=None)
    if abs(meta.slowaxis) == 2:
        new = replace(meta, ny=high - low, ystart=low + 1, stripes=None)
    return new, line - low, light
