"""Uncalibrated exposures as files: ``*_uncal.fits`` with the extensions and keywords of the archive's.

PRIMARY and SCI hold the keywords, SCI the counts (16 bits with BZERO 32768, so unsigned),
ZEROFRAME the first frame of each integration if it was kept, INT_TIMES the times of all integrations
of the exposure, ASDF the metadata once more as a tree.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import asdf
import numpy as np
from astropy.io import fits

from upramp.simulate.observation import Observation

PRIMARY: tuple[tuple[str, str], ...] = (
    ("FILENAME", "filename"),
    ("DATE", "date"),
    ("TELESCOP", "telescope"),
    ("ORIGIN", "origin"),
    ("TITLE", "program.title"),
    ("PI_NAME", "program.pi_name"),
    ("CATEGORY", "program.category"),
    ("SUBCAT", "program.sub_category"),
    ("DATE-OBS", "observation.date"),
    ("TIME-OBS", "observation.time"),
    ("DATE-BEG", "observation.date_beg"),
    ("DATE-END", "observation.date_end"),
    ("OBS_ID", "observation.obs_id"),
    ("VISIT_ID", "observation.visit_id"),
    ("PROGRAM", "observation.program_number"),
    ("OBSERVTN", "observation.observation_number"),
    ("VISIT", "observation.visit_number"),
    ("VISITGRP", "observation.visit_group"),
    ("SEQ_ID", "observation.sequence_id"),
    ("ACT_ID", "observation.activity_id"),
    ("EXPOSURE", "observation.exposure_number"),
    ("BKGDTARG", "observation.bkgdtarg"),
    ("VISITYPE", "visit.type"),
    ("VISITSTA", "visit.status"),
    ("INTARGET", "visit.internal_target"),
    ("TSOVISIT", "visit.tsovisit"),
    ("CROWDFLD", "visit.crowded_field"),
    ("TARGPROP", "target.proposer_name"),
    ("TARGNAME", "target.catalog_name"),
    ("TARGTYPE", "target.type"),
    ("TARG_RA", "target.ra"),
    ("TARG_DEC", "target.dec"),
    ("PROP_RA", "target.proposer_ra"),
    ("PROP_DEC", "target.proposer_dec"),
    ("INSTRUME", "instrument.name"),
    ("DETECTOR", "instrument.detector"),
    ("MODULE", "instrument.module"),
    ("CHANNEL", "instrument.channel"),
    ("FILTER", "instrument.filter"),
    ("PUPIL", "instrument.pupil"),
    ("PWCPOS", "instrument.pupil_position"),
    ("GRATING", "instrument.grating"),
    ("FXD_SLIT", "instrument.fixed_slit"),
    ("FOCUSPOS", "instrument.focus_position"),
    ("MSASTATE", "instrument.msa_state"),
    ("MSAMETFL", "instrument.msa_metadata_file"),
    ("MSAMETID", "instrument.msa_metadata_id"),
    ("LAMP", "instrument.lamp_state"),
    ("GWA_XTIL", "instrument.gwa_xtilt"),
    ("GWA_YTIL", "instrument.gwa_ytilt"),
    ("GWA_PXAV", "instrument.gwa_pxav"),
    ("GWA_PYAV", "instrument.gwa_pyav"),
    ("GWA_TILT", "instrument.gwa_tilt"),
    ("EXP_TYPE", "exposure.type"),
    ("EXPSTART", "exposure.start_time"),
    ("EXPMID", "exposure.mid_time"),
    ("EXPEND", "exposure.end_time"),
    ("READPATT", "exposure.readpatt"),
    ("EXSEGNUM", "exposure.segment_number"),
    ("EXSEGTOT", "exposure.segment_total"),
    ("NOUTPUTS", "exposure.noutputs"),
    ("NINTS", "exposure.nints"),
    ("INTSTART", "exposure.integration_start"),
    ("INTEND", "exposure.integration_end"),
    ("NGROUPS", "exposure.ngroups"),
    ("NFRAMES", "exposure.nframes"),
    ("FRMDIVSR", "exposure.frame_divisor"),
    ("GROUPGAP", "exposure.groupgap"),
    ("DRPFRMS1", "exposure.drop_frames1"),
    ("DRPFRMS3", "exposure.drop_frames3"),
    ("NSAMPLES", "exposure.nsamples"),
    ("NRS_NORM", "exposure.nrs_normal"),
    ("NRS_REF", "exposure.nrs_reference"),
    ("TSAMPLE", "exposure.sample_time"),
    ("TFRAME", "exposure.frame_time"),
    ("TGROUP", "exposure.group_time"),
    ("EFFINTTM", "exposure.integration_time"),
    ("EFFEXPTM", "exposure.exposure_time"),
    ("TMEASURE", "exposure.measurement_time"),
    ("DURATION", "exposure.duration"),
    ("NRSTSTRT", "exposure.nresets_at_start"),
    ("NRESETS", "exposure.nresets_between_ints"),
    ("ZEROFRAM", "exposure.zero_frame"),
    ("DATAPROB", "exposure.data_problem"),
    ("SCA_NUM", "exposure.sca_num"),
    ("GAINFACT", "exposure.gain_factor"),
    ("SUBARRAY", "subarray.name"),
    ("SUBSTRT1", "subarray.xstart"),
    ("SUBSTRT2", "subarray.ystart"),
    ("SUBSIZE1", "subarray.xsize"),
    ("SUBSIZE2", "subarray.ysize"),
    ("FASTAXIS", "subarray.fastaxis"),
    ("SLOWAXIS", "subarray.slowaxis"),
    ("MSTR_RD1", "subarray.multistripe_reads1"),
    ("MSTR_SK1", "subarray.multistripe_skips1"),
    ("MSTR_RD2", "subarray.multistripe_reads2"),
    ("MSTR_SK2", "subarray.multistripe_skips2"),
    ("MSTR_RPT", "subarray.repeat_stripe"),
    ("MSTR_ILV", "subarray.interleave_reads1"),
    ("SSTR_STP", "subarray.superstripe_step"),
    ("SSTR_NST", "subarray.num_superstripe"),
    ("PATTTYPE", "dither.primary_type"),
    ("PATT_NUM", "dither.position_number"),
    ("NUMDTHPT", "dither.total_points"),
    ("XOFFSET", "dither.x_offset"),
    ("YOFFSET", "dither.y_offset"),
    ("APERNAME", "aperture.name"),
    ("PPS_APER", "aperture.pps_name"),
    ("TIMESYS", "time_sys"),
    ("TIMEUNIT", "time_unit"),
    ("SDP_VER", "data_processing_software_version"),
    ("DATAMODL", "model_type"),
    ("VA_RA", "velocity_aberration.va_ra_ref"),
    ("VA_DEC", "velocity_aberration.va_dec_ref"),
    ("BARTDELT", "time.barycentric_correction"),
    ("HELIDELT", "time.heliocentric_correction"),
    ("GS_MAG", "guidestar.gs_mag"),
)
"""Keyword and dotted path of what the primary header holds, in its order."""

SCI: tuple[tuple[str, str], ...] = (
    ("XPOSURE", "exposure.effective_exposure_time"),
    ("TELAPSE", "exposure.elapsed_exposure_time"),
    ("VA_SCALE", "velocity_aberration.scale_factor"),
    ("BUNIT", "bunit_data"),
    ("PIXAR_SR", "photometry.pixelarea_steradians"),
    ("PIXAR_A2", "photometry.pixelarea_arcsecsq"),
    ("RADESYS", "coordinates.reference_frame"),
    ("RA_V1", "pointing.ra_v1"),
    ("DEC_V1", "pointing.dec_v1"),
    ("PA_V3", "pointing.pa_v3"),
    ("WCSAXES", "wcsinfo.wcsaxes"),
    ("CRPIX1", "wcsinfo.crpix1"),
    ("CRPIX2", "wcsinfo.crpix2"),
    ("CRVAL1", "wcsinfo.crval1"),
    ("CRVAL2", "wcsinfo.crval2"),
    ("CTYPE1", "wcsinfo.ctype1"),
    ("CTYPE2", "wcsinfo.ctype2"),
    ("CUNIT1", "wcsinfo.cunit1"),
    ("CUNIT2", "wcsinfo.cunit2"),
    ("CDELT1", "wcsinfo.cdelt1"),
    ("CDELT2", "wcsinfo.cdelt2"),
    ("PC1_1", "wcsinfo.pc1_1"),
    ("PC1_2", "wcsinfo.pc1_2"),
    ("PC2_1", "wcsinfo.pc2_1"),
    ("PC2_2", "wcsinfo.pc2_2"),
    ("V2_REF", "wcsinfo.v2_ref"),
    ("V3_REF", "wcsinfo.v3_ref"),
    ("VPARITY", "wcsinfo.vparity"),
    ("V3I_YANG", "wcsinfo.v3yangle"),
    ("RA_REF", "wcsinfo.ra_ref"),
    ("DEC_REF", "wcsinfo.dec_ref"),
    ("ROLL_REF", "wcsinfo.roll_ref"),
    ("XREF_SCI", "wcsinfo.siaf_xref_sci"),
    ("YREF_SCI", "wcsinfo.siaf_yref_sci"),
)
"""Keyword and dotted path of what the SCI header holds."""

KEYWORDS: dict[str, str] = {path: keyword for keyword, path in PRIMARY + SCI}
"""Dotted path -> keyword."""


def tree(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted paths as a nested tree."""
    root: dict[str, Any] = {}
    for path, value in meta.items():
        *branches, leaf = path.split(".")
        node = root
        for name in branches:
            node = node.setdefault(name, {})
        node[leaf] = value
    return root


def asdf_hdu(meta: Mapping[str, Any]) -> fits.BinTableHDU:
    """The metadata tree as an ASDF file inside a one-row table."""
    buffer = io.BytesIO()
    asdf.AsdfFile({"meta": tree(meta)}).write_to(buffer)
    raw = np.frombuffer(buffer.getvalue(), np.uint8)
    column = fits.Column("ASDF_METADATA", format=f"{raw.size}B", array=raw[None])
    return fits.BinTableHDU.from_columns([column], name="ASDF")


def build(
    counts: np.ndarray,
    observation: Observation,
    *,
    name: str | None = None,
    segment: tuple[int, int, int] | None = None,
    zeroframe: np.ndarray | None = None,
) -> fits.HDUList:
    """One uncal file in memory.

    Parameters
    ----------
    counts : ndarray, uint16, shape (integrations, ngroups, ny, nx)
        What the file holds; for a segment, its own integrations.
    observation : Observation
        The exposure.
    name : str, optional
        FILENAME; by default the observatory's.
    segment : tuple of int, optional
        Number of this segment, of all segments (EXSEGNUM, EXSEGTOT), and its first integration
        (INTSTART, from 1).
    zeroframe : ndarray, uint16, shape (integrations, ny, nx), optional
        The first frames.

    Raises
    ------
    ValueError
        If the counts have another type or shape than the observation says, or if ``extra``
        names metadata that no keyword is known for.
    """
    expected = (observation.ngroups, observation.rows_read, observation.nx)
    if counts.ndim != 4 or counts.shape[1:] != expected or counts.dtype != np.uint16:
        raise ValueError(
            f"counts are {counts.dtype} {counts.shape}; the observation needs uint16 (integrations, "
            f"{', '.join(map(str, expected))})"
        )
    meta = observation.metadata()
    meta["filename"] = name or observation.file_name(segment[0] if segment else None)
    meta["exposure.zero_frame"] = zeroframe is not None
    number, total, first = segment or (1, 1, 1)
    meta |= {
        "exposure.segment_number": number,
        "exposure.segment_total": total,
        "exposure.integration_start": first,
        "exposure.integration_end": first + len(counts) - 1,
    }
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(counts, name="SCI")])
    fill_headers(hdus, meta)
    if zeroframe is not None:
        hdus.append(fits.ImageHDU(zeroframe, name="ZEROFRAME"))
    hdus.append(fits.BinTableHDU(observation.int_times(), name="INT_TIMES"))
    hdus.append(asdf_hdu(meta))
    for hdu in hdus[1:-1]:
        hdu.header["EXTVER"] = 1
    return hdus


def write(
    path: Path | str,
    counts: np.ndarray,
    observation: Observation,
    *,
    segment: tuple[int, int, int] | None = None,
    zeroframe: np.ndarray | None = None,
) -> Path:
    """Write one uncal file; for the arguments see ``build``. A file of this name is replaced."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    build(counts, observation, name=path.name, segment=segment, zeroframe=zeroframe).writeto(
        path, overwrite=True
    )
    return path


def write_exposure(
    folder: Path | str,
    counts: np.ndarray,
    observation: Observation,
    *,
    segments: int = 1,
    zeroframe: np.ndarray | None = None,
) -> list[Path]:
    """Write a whole exposure under the observatory's names, in ``segments`` files of about equal length.

    Raises
    ------
    ValueError
        If there are fewer integrations than segments, or not as many as the observation has.
    """
    if not 1 <= segments <= len(counts) or len(counts) != observation.nints:
        raise ValueError(f"{len(counts)} integrations do not make {segments} segments of {observation.nints}")
    paths = []
    for k, part in enumerate(parts(len(counts), segments)):
        segment = (k + 1, segments, part.start + 1) if segments > 1 else None
        target = Path(folder) / observation.file_name(k + 1 if segment else None)
        zero = None if zeroframe is None else zeroframe[part]
        paths.append(write(target, counts[part], observation, segment=segment, zeroframe=zero))
    return paths


def parts(integrations: int, segments: int) -> list[slice]:
    """The integrations (0-based) that each segment holds."""
    bounds = [round(k * integrations / segments) for k in range(segments + 1)]
    return [slice(lo, hi) for lo, hi in itertools.pairwise(bounds)]


def fill_headers(hdus: fits.HDUList, meta: Mapping[str, Any]) -> None:
    """Put metadata into the primary and SCI headers.

    Raises
    ------
    ValueError
        If it names what no keyword is known for.
    """
    unknown = sorted(set(meta) - set(KEYWORDS))
    if unknown:
        raise ValueError(f"no keyword is known for {', '.join(unknown)}; KEYWORDS lists those that are")
    _fill(hdus[0].header, PRIMARY, meta)
    _fill(hdus["SCI"].header, SCI, meta)


def _fill(header: fits.Header, rows: Iterable[tuple[str, str]], meta: Mapping[str, Any]) -> None:
    for keyword, path in rows:
        if path in meta:
            header[keyword] = meta[path]
