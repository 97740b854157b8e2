"""What the steps need to know of an exposure, free of file formats."""

from __future__ import annotations

from dataclasses import dataclass

from upramp.stages.core.stripes import Stripes


@dataclass(frozen=True, slots=True)
class ExposureMeta:
    """The facts of one uncal file (a whole exposure or one segment) that steps use.

    Names follow the header keywords, which stand in brackets. ``nints`` counts the
    integrations in this file; ``nints_total`` those of the whole exposure [NINTS].
    Pixel origins are 1-based as in the header; ``nx`` is the length along the last
    (fastest) axis of the arrays. Superstripes make one integration together, and lie side by side
    (see `stripes`).
    """

    instrument: str  # INSTRUME
    detector: str  # DETECTOR
    exp_type: str  # EXP_TYPE
    subarray: str  # SUBARRAY
    xstart: int  # SUBSTRT1
    ystart: int  # SUBSTRT2
    nx: int  # length of the last axis of the data
    ny: int  # length of the last but one axis of the data
    fastaxis: int  # FASTAXIS
    slowaxis: int  # SLOWAXIS
    nints: int
    nints_total: int  # NINTS
    ngroups: int  # NGROUPS
    nframes: int = 1  # NFRAMES
    groupgap: int = 0  # GROUPGAP
    frame_divisor: int | None = None  # FRMDIVSR
    drop_frames1: int = 0  # DRPFRMS1
    frame_time: float = 0.0  # TFRAME, s
    group_time: float = 0.0  # TGROUP, s
    noutputs: int = 1  # NOUTPUTS
    nsamples: int = 1  # NSAMPLES
    readpatt: str = ""  # READPATT
    filter: str = ""  # FILTER
    pupil: str = ""  # PUPIL
    grating: str = ""  # GRATING
    int_start: int = 1  # INTSTART
    int_end: int = 0  # INTEND
    segment: int = 1  # EXSEGNUM
    segments: int = 1  # EXSEGTOT
    is_tso: bool = False  # TSOVISIT
    has_zeroframe: bool = False  # a ZEROFRAME extension is present
    gain_factor: float | None = None  # GAINFACT
    exposure_start: float = 0.0  # EXPSTART, MJD in days
    integration_time: float = 0.0  # EFFINTTM, s
    pupil_position: float | None = None  # PWCPOS, deg
    x_target: float | None = None  # XREF_SCI, pixels from 1
    y_target: float | None = None  # YREF_SCI
    stripes: Stripes | None = None  # MSTR_*, SSTR_*: how lines were picked along the slow axis

    @property
    def is_irs2(self) -> bool:
        """NIRSpec IRS2: reference pixels interleaved, an axis longer than 2048."""
        return self.instrument == "NIRSPEC" and max(self.nx, self.ny) > 2048 and self.stripes is None

    @property
    def is_full_frame(self) -> bool:
        """Whether the whole detector was read, reference pixels included."""
        return self.subarray == "FULL"
