"""Detectors and their read patterns."""

from __future__ import annotations

from dataclasses import dataclass

BORDER = 4
"""Width of the frame of reference pixels around each detector, pixels; in the mid infrared, columns only."""

OUTPUTS = 4
"""Amplifiers that read a full frame: stripes along the fast axis; in the mid infrared they take turns."""

PIXEL_SECONDS = 1e-5
"""Time between two samples of one output, s."""

ROW_OVERHEAD = 12
"""Samples that pass at each row's end without a pixel being read."""

MIRI_OVERHEAD = 13
"""The same of mid-infrared detectors."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a detector's axes point, and where it lies in the telescope's focal plane.

    ``fastaxis`` and ``slowaxis`` are the read-out directions in the science frame (1 along a row,
    2 along a column, negative: towards lower pixel numbers). ``v2``, ``v3`` in arcsec,
    ``yangle`` in degrees and ``scale`` in arcsec per pixel are nominal values of the full aperture.
    """

    instrument: str
    detector: str
    fastaxis: int
    slowaxis: int
    aperture: str
    v2: float
    v3: float
    parity: int
    yangle: float
    scale: float
    module: str = ""
    channel: str = ""

    @property
    def mid_infrared(self) -> bool:
        """Whether amplifiers take turns along a row, with reference pixels at its ends only."""
        return self.instrument == "MIRI"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the whole detector."""
        return (1024, 1032) if self.mid_infrared else (2048, 2048)

    @property
    def fast_is_x(self) -> bool:
        """Whether the fast axis is the last axis of the arrays."""
        return abs(self.fastaxis) == 1


LAYOUTS: dict[str, Layout] = {
    row.detector: row
    for row in (
        Layout("NIRCAM", "NRCA1", -1, 2, "NRCA1_FULL", 120.577, -527.501, -1, -0.552, 0.0311, "A", "SHORT"),
        Layout("NIRCAM", "NRCA2", 1, -2, "NRCA2_FULL", 119.740, -459.784, -1, -0.207, 0.0307, "A", "SHORT"),
        Layout("NIRCAM", "NRCA3", -1, 2, "NRCA3_FULL", 51.946, -527.928, -1, 0.282, 0.0313, "A", "SHORT"),
        Layout("NIRCAM", "NRCA4", 1, -2, "NRCA4_FULL", 52.359, -459.901, -1, 0.100, 0.0309, "A", "SHORT"),
        Layout("NIRCAM", "NRCALONG", -1, 2, "NRCA5_FULL", 85.927, -493.503, -1, -0.063, 0.0628, "A", "LONG"),
        Layout("NIRCAM", "NRCB1", 1, -2, "NRCB1_FULL", -122.428, -457.707, -1, 0.345, 0.0307, "B", "SHORT"),
        Layout("NIRCAM", "NRCB2", -1, 2, "NRCB2_FULL", -122.680, -525.421, -1, 0.847, 0.0311, "B", "SHORT"),
        Layout("NIRCAM", "NRCB3", 1, -2, "NRCB3_FULL", -54.611, -457.703, -1, -0.452, 0.0308, "B", "SHORT"),
        Layout("NIRCAM", "NRCB4", -1, 2, "NRCB4_FULL", -54.387, -525.630, -1, -0.338, 0.0312, "B", "SHORT"),
        Layout("NIRCAM", "NRCBLONG", 1, -2, "NRCB5_FULL", -89.403, -491.360, -1, 0.023, 0.0629, "B", "LONG"),
        Layout("NIRISS", "NIS", -2, -1, "NIS_CEN", -291.141, -698.015, -1, 0.561, 0.0653),
        Layout("NIRSPEC", "NRS1", 2, 1, "NRS1_FULL", 293.311, -503.319, -1, 139.228, 0.1033),
        Layout("NIRSPEC", "NRS2", -2, -1, "NRS2_FULL", 462.677, -353.896, -1, 137.796, 0.1033),
        Layout("FGS", "GUIDER1", -2, -1, "FGS1_FULL", 206.407, -697.765, -1, -1.241, 0.0684),
        Layout("FGS", "GUIDER2", 2, -1, "FGS2_FULL", 22.865, -699.280, -1, 0.291, 0.0679),
        Layout("MIRI", "MIRIMAGE", 1, 2, "MIRIM_FULL", -453.363, -374.069, -1, 4.836, 0.1109),
        Layout("MIRI", "MIRIFULONG", 1, 2, "MIRIFU_CHANNEL3A", -503.654, -318.742, -1, 7.572, 0.245),
        Layout("MIRI", "MIRIFUSHORT", 1, 2, "MIRIFU_CHANNEL1A", -503.654, -318.742, -1, 8.387, 0.196),
    )
}


@dataclass(frozen=True, slots=True)
class ReadPattern:
    """Frames averaged into a group, and frames dropped between two groups."""

    nframes: int
    groupgap: int


PATTERNS: dict[str, ReadPattern] = {
    "RAPID": ReadPattern(1, 0),
    "BRIGHT1": ReadPattern(1, 1),
    "BRIGHT2": ReadPattern(2, 0),
    "SHALLOW2": ReadPattern(2, 3),
    "SHALLOW4": ReadPattern(4, 1),
    "MEDIUM2": ReadPattern(2, 8),
    "MEDIUM8": ReadPattern(8, 2),
    "DEEP2": ReadPattern(2, 18),
    "DEEP8": ReadPattern(8, 12),
    "NISRAPID": ReadPattern(1, 0),
    "NIS": ReadPattern(4, 0),
    "NRSRAPID": ReadPattern(1, 0),
    "NRS": ReadPattern(4, 0),
    "NRSIRS2RAPID": ReadPattern(1, 0),
    "NRSIRS2": ReadPattern(5, 0),
    "FGSRAPID": ReadPattern(1, 0),
    "FGS": ReadPattern(4, 0),
    "ACQ1": ReadPattern(1, 1),
    "FASTR1": ReadPattern(1, 0),
    "FASTR100": ReadPattern(1, 0),
    "SLOWR1": ReadPattern(1, 0),
    "FASTGRPAVG": ReadPattern(4, 0),
    "FASTGRPAVG8": ReadPattern(8, 0),
}


def frame_time(layout: Layout, ny: int, nx: int, noutputs: int) -> float:
    """Seconds that one frame takes: every output reads its stripe, sample by sample.

    For 2048 x 2048 pixels and four outputs this is the observatory's 10.737 s, for the 1032 x 1024 of
    the mid infrared 2.775 s.
    """
    if layout.mid_infrared:
        return (nx // OUTPUTS + MIRI_OVERHEAD) * ny * PIXEL_SECONDS
    fast, slow = (nx, ny) if layout.fast_is_x else (ny, nx)
    return (fast // noutputs + ROW_OVERHEAD) * (slow + 1) * PIXEL_SECONDS
