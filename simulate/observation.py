"""What was asked of the telescope: one exposure's mode, times, pointing and names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy.time import Time

from upramp.simulate.layout import LAYOUTS, OUTPUTS, PATTERNS, Layout, ReadPattern, frame_time
from upramp.stages.stage1 import irs2

DAY = 86400.0

EXP_TYPES = {
    "NIRCAM": "NRC_IMAGE",
    "NIRISS": "NIS_IMAGE",
    "NIRSPEC": "NRS_IMAGE",
    "FGS": "FGS_IMAGE",
    "MIRI": "MIR_IMAGE",
}
RAPID = {"NIRCAM": "RAPID", "NIRISS": "NISRAPID", "NIRSPEC": "NRSRAPID", "FGS": "FGSRAPID", "MIRI": "FASTR1"}
OPTICS = {
    "NIRCAM": {"filter": "F444W", "pupil": "CLEAR"},
    "NIRISS": {"filter": "CLEAR", "pupil": "F150W"},
    "NIRSPEC": {"filter": "CLEAR", "grating": "MIRROR"},
    "FGS": {},
    "MIRI": {"filter": "F770W"},
}


@dataclass(frozen=True)
class Observation:
    """One exposure as the observatory would schedule it.

    ``ny``, ``nx`` is the shape that is read, ``xstart``, ``ystart`` its 1-based origin on the
    detector. Empty ``exp_type`` and ``readpatt`` stand for the instrument's imaging mode and its
    pattern without averaging. ``tframe`` (s) overrides the read-out's own frame time, so that small
    arrays can have the exposure times of large ones. ``extra`` adds metadata by dotted path
    (see ``uncal.KEYWORDS``).

    Raises
    ------
    ValueError
        If the detector or the read pattern is unknown.
    """

    detector: str = "NRCALONG"
    ny: int = 64
    nx: int = 64
    nints: int = 1
    ngroups: int = 5
    subarray: str = "FULL"
    xstart: int = 1
    ystart: int = 1
    exp_type: str = ""
    readpatt: str = ""
    noutputs: int | None = None
    tframe: float | None = None
    program: str = "01234"
    number: int = 1
    visit: int = 1
    group: int = 2
    sequence: str = "1"
    activity: str = "01"
    exposure: int = 1
    start: str = "2024-03-01T00:00:00"
    tso: bool = False
    ra: float = 80.0
    dec: float = -69.5
    pa_v3: float = 30.0
    dither: tuple[int, int] = (1, 1)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.detector not in LAYOUTS:
            raise ValueError(f"unknown detector {self.detector!r}; known are {', '.join(LAYOUTS)}")
        if self.readpatt and self.readpatt not in PATTERNS:
            raise ValueError(f"unknown read pattern {self.readpatt!r}; known are {', '.join(PATTERNS)}")

    @property
    def layout(self) -> Layout:
        """Axes and place of the detector."""
        return LAYOUTS[self.detector]

    @property
    def pattern_name(self) -> str:
        """READPATT."""
        return self.readpatt or RAPID[self.layout.instrument]

    @property
    def pattern(self) -> ReadPattern:
        """Frames per group and gap."""
        return PATTERNS[self.pattern_name]

    @property
    def outputs(self) -> int:
        """Amplifiers used."""
        whole = self.subarray == "FULL" or self.layout.mid_infrared
        return self.noutputs or (OUTPUTS if whole else 1)

    @property
    def frame_seconds(self) -> float:
        """Time between two frames, s."""
        return self.tframe or frame_time(self.layout, self.ny, self.nx, self.outputs)

    @property
    def rows_read(self) -> int:
        """Length of the files' second axis from the last: IRS2 has reference pixels between the others."""
        return irs2.OUTPUTS * irs2.COLUMNS if "IRS2" in self.pattern_name else self.ny

    @property
    def samples(self) -> int:
        """How often each pixel is sampled in a frame."""
        return 9 if self.pattern_name.startswith("SLOW") else 1

    @property
    def group_seconds(self) -> float:
        """Time between two groups, s."""
        return self.frame_seconds * (self.pattern.nframes + self.pattern.groupgap)

    @property
    def integration_seconds(self) -> float:
        """Time from the reset to the end of the last group, s."""
        return self.frame_seconds * self.frames_read

    @property
    def frames_read(self) -> int:
        """Frames from the reset to the last one that counts; no gap follows the last group."""
        return self.ngroups * self.pattern.nframes + (self.ngroups - 1) * self.pattern.groupgap

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the whole detector that are read."""
        y, x = self.ystart - 1, self.xstart - 1
        return slice(y, y + self.ny), slice(x, x + self.nx)

    @property
    def begin(self) -> float:
        """Start of the exposure, MJD UTC."""
        return float(Time(self.start, scale="utc").mjd)

    @property
    def cadence_seconds(self) -> float:
        """From the start of one integration to that of the next: one reset frame lies between, s."""
        return self.integration_seconds + self.frame_seconds

    @property
    def end(self) -> float:
        """End of the exposure, MJD UTC."""
        return self.begin + (self.cadence_seconds * self.nints - self.frame_seconds) / DAY

    def int_times(self) -> np.ndarray:
        """Start, middle and end of every integration of the exposure (MJD UTC, and BJD TDB, taken equal)."""
        table = np.zeros(
            self.nints,
            dtype=[("integration_number", ">i4")]
            + [(f"int_{w}_{s}", ">f8") for s in ("MJD_UTC", "BJD_TDB") for w in ("start", "mid", "end")],
        )
        table["integration_number"] = np.arange(self.nints) + 1
        start = self.begin + np.arange(self.nints) * self.cadence_seconds / DAY
        for scale in ("MJD_UTC", "BJD_TDB"):
            for fraction, which in ((0.0, "start"), (0.5, "mid"), (1.0, "end")):
                table[f"int_{which}_{scale}"] = start + fraction * self.integration_seconds / DAY
        return table

    def file_name(self, segment: int | None = None) -> str:
        """The uncal file's name by the observatory's rules."""
        seg = f"-seg{segment:03d}" if segment else ""
        return (
            f"jw{self.program}{self.number:03d}{self.visit:03d}_{self.group:02d}{self.sequence}{self.activity}_"
            f"{self.exposure:05d}{seg}_{self.detector.lower()}_uncal.fits"
        )

    def metadata(self) -> dict[str, Any]:
        """Everything the headers tell of the exposure as a whole, by dotted path."""
        lay, pat = self.layout, self.pattern
        visit_id = f"{self.program}{self.number:03d}{self.visit:03d}"
        begin = Time(self.begin, format="mjd", scale="utc")
        optics: dict[str, Any] = {f"instrument.{k}": v for k, v in OPTICS[lay.instrument].items()}
        if lay.module:
            optics |= {"instrument.module": lay.module, "instrument.channel": lay.channel}
        if self.rows_read != self.ny:
            optics |= {
                "exposure.nrs_normal": irs2.BLOCK - irs2.REFERENCES,
                "exposure.nrs_reference": irs2.REFERENCES,
            }
        if lay.instrument == "NIRSPEC":
            optics |= {
                "instrument.lamp_state": "NONE",
                "instrument.gwa_xtilt": 0.35,
                "instrument.gwa_ytilt": 0.13,
                "instrument.gwa_tilt": 35.0,
            }
        xref, yref = (self.nx + 1) / 2, (self.ny + 1) / 2
        angle = np.radians(self.pa_v3 + lay.yangle)
        meta: dict[str, Any] = {
            "telescope": "JWST",
            "origin": "SIMULATION",
            "time_sys": "UTC",
            "time_unit": "s",
            "date": begin.isot,
            "model_type": "Level1bModel",
            "bunit_data": "DN",
            "data_processing_software_version": "simulated",
            "program.title": "Synthetic visit",
            "program.category": "GO",
            "program.pi_name": "NOBODY",
            "observation.date": begin.isot[:10],
            "observation.time": begin.isot[11:],
            "observation.date_beg": begin.isot,
            "observation.date_end": Time(self.end, format="mjd", scale="utc").isot,
            "observation.obs_id": f"V{visit_id}P00000000{self.group:02d}{self.sequence}{self.activity}",
            "observation.visit_id": visit_id,
            "observation.program_number": self.program,
            "observation.observation_number": f"{self.number:03d}",
            "observation.visit_number": f"{self.visit:03d}",
            "observation.visit_group": f"{self.group:02d}",
            "observation.sequence_id": self.sequence,
            "observation.activity_id": self.activity,
            "observation.exposure_number": f"{self.exposure:05d}",
            "visit.type": "PRIME_TARGETED_FIXED",
            "visit.status": "SUCCESSFUL",
            "visit.tsovisit": self.tso,
            "visit.internal_target": False,
            "target.proposer_name": "SYNTHETIC",
            "target.catalog_name": "SYNTHETIC",
            "target.type": "FIXED",
            "target.ra": self.ra,
            "target.dec": self.dec,
            "target.proposer_ra": self.ra,
            "target.proposer_dec": self.dec,
            "instrument.name": lay.instrument,
            "instrument.detector": lay.detector,
            **optics,
            "exposure.type": self.exp_type or EXP_TYPES[lay.instrument],
            "exposure.start_time": self.begin,
            "exposure.mid_time": (self.begin + self.end) / 2,
            "exposure.end_time": self.end,
            "exposure.readpatt": self.pattern_name,
            "exposure.noutputs": self.outputs,
            "exposure.nints": self.nints,
            "exposure.ngroups": self.ngroups,
            "exposure.nframes": pat.nframes,
            "exposure.frame_divisor": pat.nframes,
            "exposure.groupgap": pat.groupgap,
            "exposure.drop_frames1": 0,
            "exposure.drop_frames3": 0,
            "exposure.nsamples": self.samples,
            "exposure.sample_time": 10.0,
            "exposure.frame_time": self.frame_seconds,
            "exposure.group_time": self.group_seconds,
            "exposure.integration_time": self.group_seconds * self.ngroups,
            "exposure.exposure_time": self.group_seconds * self.ngroups * self.nints,
            "exposure.duration": (self.end - self.begin) * DAY,
            "exposure.nresets_at_start": 1,
            "exposure.nresets_between_ints": 1,
            "exposure.zero_frame": False,
            "exposure.data_problem": False,
            "subarray.name": self.subarray,
            "subarray.xstart": self.xstart,
            "subarray.ystart": self.ystart,
            "subarray.xsize": self.nx,
            "subarray.ysize": self.ny,
            "subarray.fastaxis": lay.fastaxis,
            "subarray.slowaxis": lay.slowaxis,
            "dither.primary_type": "NONE" if self.dither[1] == 1 else "INTRAMODULE",
            "dither.position_number": self.dither[0],
            "dither.total_points": self.dither[1],
            "aperture.name": lay.aperture,
            "aperture.pps_name": lay.aperture,
            "velocity_aberration.va_ra_ref": self.ra,
            "velocity_aberration.va_dec_ref": self.dec,
            "velocity_aberration.scale_factor": 1.0,
            "time.barycentric_correction": 0.0,
            "time.heliocentric_correction": 0.0,
            "guidestar.gs_mag": 12.0,
            "coordinates.reference_frame": "ICRS",
            "photometry.pixelarea_arcsecsq": lay.scale**2,
            "pointing.ra_v1": self.ra,
            "pointing.dec_v1": self.dec,
            "pointing.pa_v3": self.pa_v3,
            "wcsinfo.wcsaxes": 2,
            "wcsinfo.crpix1": xref,
            "wcsinfo.crpix2": yref,
            "wcsinfo.crval1": self.ra,
            "wcsinfo.crval2": self.dec,
            "wcsinfo.ctype1": "RA---TAN",
            "wcsinfo.ctype2": "DEC--TAN",
            "wcsinfo.cunit1": "deg",
            "wcsinfo.cunit2": "deg",
            "wcsinfo.cdelt1": lay.scale / 3600,
            "wcsinfo.cdelt2": lay.scale / 3600,
            "wcsinfo.pc1_1": float(lay.parity * np.cos(angle)),
            "wcsinfo.pc1_2": float(np.sin(angle)),
            "wcsinfo.pc2_1": float(-lay.parity * np.sin(angle)),
            "wcsinfo.pc2_2": float(np.cos(angle)),
            "wcsinfo.v2_ref": lay.v2,
            "wcsinfo.v3_ref": lay.v3,
            "wcsinfo.vparity": lay.parity,
            "wcsinfo.v3yangle": lay.yangle,
            "wcsinfo.ra_ref": self.ra,
            "wcsinfo.dec_ref": self.dec,
            "wcsinfo.roll_ref": self.pa_v3,
            "wcsinfo.siaf_xref_sci": xref,
            "wcsinfo.siaf_yref_sci": yref,
        }
        return meta | dict(self.extra)
