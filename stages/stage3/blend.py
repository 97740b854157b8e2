"""Headers of exposures merged into one, and the table that keeps what each exposure had.

A combined image keeps the header of its first member. Keywords with a rule (`RULES`) are found from those of
all members that have them: the least, the greatest, the mean, the sum, MULTIPLE where they differ. The table
(HDRTAB) has a row for each member and a column for each keyword of `COLUMNS` that any member has.

Source: JWST pipeline documentation, model_blender; which keywords are in the table, their order and their
rules stand in the public data-model schemas (``blend_table``, ``blend_rule``); what becomes of missing values
was measured on the observatory's package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MULTIPLE = "MULTIPLE"
OUTSIDE, INSIDE = "outside calibration tolerance", "within commanded tolerance"
TEXT_WITH_GAPS = 32
"""Width, at least, of a column of text in which values are missing."""


@dataclass(frozen=True)
class Blended:
    """Keywords for the primary and SCI headers, and the columns of the table by keyword, in order."""

    primary: Mapping[str, Any]
    sci: Mapping[str, Any]
    table: Mapping[str, np.ndarray]


def common(values: Sequence[Any]) -> Any:
    """The value that all have, or MULTIPLE."""
    return values[0] if all(v == values[0] for v in values) else MULTIPLE


def tolerance(values: Sequence[Any]) -> str:
    """Whether a wheel was out of its tolerance in any exposure."""
    return OUTSIDE if OUTSIDE in values else INSIDE


def mean(values: Sequence[Any]) -> float:
    """The mean, float64."""
    return float(np.mean(values))


def first(values: Sequence[Any]) -> Any:
    """The first value."""
    return values[0]


Rule = Callable[[Sequence[Any]], Any]
RULES: dict[str, dict[str, Rule]] = {
    "PRIMARY": {
        "DATE-OBS": min,
        "TIME-OBS": min,
        "DATE-BEG": min,
        "DATE-END": max,
        "DETECTOR": common,
        "MODULE": common,
        "FILTER": common,
        "FWPOSOFF": max,
        "FWPOSTOL": tolerance,
        "PWPOSOFF": max,
        "PWPOSTOL": tolerance,
        "GRATING": common,
        "BAND": common,
        "EXPSTART": min,
        "EXPMID": mean,
        "EXPEND": max,
        "EXSEGNUM": first,
        "INTSTART": min,
        "INTEND": max,
        "EFFEXPTM": sum,
        "TMEASURE": sum,
        "DURATION": sum,
    },
    "SCI": {
        "MJD-BEG": min,
        "MJD-AVG": mean,
        "MJD-END": max,
        "TDB-BEG": min,
        "TDB-MID": mean,
        "TDB-END": max,
        "XPOSURE": sum,
        "TELAPSE": sum,
    },
}
"""Extension -> keyword -> how its values are merged. Dates and times, as text, sort as they follow each
other."""

_TABLE = """
DATE ORIGIN TIMESYS FILENAME SDP_VER PRD_VER OSS_VER GSC_VER CAL_VER CAL_VCS DATAMODL TELESCOP HGA_MOVE
HGA_STRT HGA_STOP PWFSEET NWFSEST ASNPOOL ASNTABLE TITLE PI_NAME CATEGORY SUBCAT SCICAT CONT_ID DATE-OBS
TIME-OBS DATE-BEG DATE-END OBS_ID VISIT_ID PROGRAM OBSERVTN VISIT VISITGRP SEQ_ID ACT_ID EXPOSURE BKGDTARG
TEMPLATE OBSLABEL ENG_QUAL ENGQLPTG VISITYPE VSTSTART VISITSTA NEXPOSUR INTARGET TARGOOPP TSOVISIT EXP_ONLY
TARGPROP TARGNAME TARGTYPE TARG_RA TARG_DEC TARGURA TARGUDEC MU_RA MU_DEC MU_EPOCH PROP_RA PROP_DEC SRCTYAPT
INSTRUME DETECTOR MODULE CHANNEL FILTER FWPOSOFF FWPOSTOL PUPIL PILIN PWPOSOFF PWPOSTOL GRATING BAND
FXD_SLIT FOCUSPOS PREIMAGE CCCSTATE CORONMSK MSASTATE MSAMETFL MSAMETID MSACONID LAMP OPMODE GWA_XTIL
GWA_YTIL GWA_XP_V GWA_YP_V GWA_PXAV GWA_PYAV GWA_TILT FWCPOS PWCPOS EXPCOUNT EXPRIPAR EXP_TYPE EXPSTART
MJD-BEG EXPMID MJD-AVG EXPEND MJD-END TDB-BEG TDB-MID TDB-END READPATT HYBRIDFF EXSEGNUM EXSEGTOT NOUTPUTS
NINTS INTSTART INTEND NGROUPS NFRAMES MIRNGRPS MIRNFRMS FRMDIVSR GROUPGAP DRPFRMS1 DRPFRMS3 NSAMPLES TSAMPLE
TFRAME TGROUP EFFINTTM EFFEXPTM XPOSURE TMEASURE DURATION TELAPSE NRSTSTRT NRESETS ZEROFRAM DATAPROB SCA_NUM
DATAMODE NRS_NORM NRS_REF SCTARATE GAINFACT IS_IMPRT IS_PSF SELFREF SUBARRAY SUB_SHRT SUB_LONG SUBSTRT1
SUBSTRT2 SUBSIZE1 SUBSIZE2 FASTAXIS SLOWAXIS DETXCOR DETYCOR DETXSIZ DETYSIZ MSTR_RD1 MSTR_SK1 MSTR_RD2
MSTR_SK2 MSTR_RPT MSTR_ILV SSTR_STP SSTR_NST PATTTYPE PRIDTYPE PRIDTPTS PATT_NUM PATTSTRT NUMDTHPT PATTNPTS
NRIMDTPT NOD_TYPE PATTSIZE SMGRDPAT SUBPXPTS SUBPXPAT SPEC_NUM SPECNSTP SPECSTEP SPCOFFST SPAT_NUM SPATNSTP
SPATSTEP SPTOFFST XOFFSET YOFFSET REFFRAME EPH_TYPE EPH_TIME JWST_X JWST_Y JWST_Z OBSGEO-X OBSGEO-Y OBSGEO-Z
JWST_DX JWST_DY JWST_DZ OBSGEODX OBSGEODY OBSGEODZ APERNAME PPS_APER PA_APER VA_RA VA_DEC VA_SCALE BARTDELT
BSTRTIME BENDTIME BMIDTIME HELIDELT HSTRTIME HENDTIME HMIDTIME FAM_LA1 FASTEP1 FAUNIT1 FAPHASE1 FA1VALUE
FAM_LA2 FASTEP2 FAUNIT2 FAPHASE2 FA2VALUE FAM_LA3 FASTEP3 FAUNIT3 FAPHASE3 FA3VALUE RMA_POS FCSRLPOS
GS_ORDER GSSTRTTM GSENDTIM GDSTARID GS_RA GS_DEC GS_URA GS_UDEC GS_MAG GS_UMAG GS_V3_PA PCS_MODE VISITEND
FGS_APER GSIDL_X GSIDL_Y GSACSTAT GSCENTX GSCENTY GS_EPOCH GS_MURA GS_MUDEC GS_PARA CRDS_VER CRDS_CTX R_AREA
R_BKG R_MSAOPE R_BARSHA R_CAMERA R_CHRCOR R_COLLIM R_SIRSKL R_CUBPAR R_DARK R_DISPER R_DISTOR R_MIREMI
R_EXTR1D R_FILOFF R_FLAT R_DFLAT R_FFLAT R_SFLAT R_FORE R_FPA R_FRINGE R_FRIFRQ R_GAIN R_IFUFOR R_IFUPOS
R_IFUSLI R_IPC R_LASTFR R_LINEAR R_MASK R_MSA R_MRSXAR R_MRSPT R_NRM R_OTE R_PSTSOS R_PTHLOS R_PERSAT
R_PHOTOM R_PSFMAS R_READNO R_REFPIX R_REGION R_RESAMP R_RESOL R_RESET R_RSCD R_SATURA R_SPKERN R_SPPROF
R_SPTRAC R_SPCWCS R_STRAY R_SUPERB R_THRPUT R_TRPDEN R_TRPPAR R_TSPHOT R_V2V3 R_WAVCOR R_WAVRAN R_WAVMAP
S_TRCMOD S_PSFALI S_AMIANA S_AMINOR S_WCS S_MTWCS S_BKDSUB S_BPXSLF S_BARSHA S_CHGMIG S_CLNFNS S_COMB1D
S_IFUCUB S_DARK S_DQINIT S_MIREMI S_TELEMI S_ERRINI S_EXTR1D S_EXTR2D S_FRSTFR S_FLAT S_FRINGE S_GANSCL
S_GRPSCL S_GUICDS S_IMPRNT S_IPC S_JUMP S_KLIP S_LASTFR S_LINEAR S_MSBSUB S_MSAFLG S_OUTLIR S_PTHLOS
S_PERSIS S_PHOTOM S_PCTFRM S_PXREPL S_RAMP S_REFPIX S_RESAMP S_RESFRI S_RESET S_RSCD S_SATURA S_SKYMAT
S_SRCCAT S_SPLEAK S_SRCTYP S_PSFSTK S_STRAY S_SUPERB S_TACNTR S_TSPHOT S_TWKREG S_WAVCOR S_WFSCOM S_CONTAM
S_WHTLIT BKGMETH BKGLEVEL BKGSUB BKGD_SCL BUNIT PHOTMJSR PHOTUJA2 PIXAR_SR PIXAR_A2 RADESYS RA_V1 DEC_V1
PA_V3 WCSAXES CRPIX1 CRPIX2 CRPIX3 CRVAL1 CRVAL2 CRVAL3 CTYPE1 CTYPE2 CTYPE3 CUNIT1 CUNIT2 CUNIT3 CDELT1
CDELT2 CDELT3 PC1_1 PC1_2 PC1_3 PC2_1 PC2_2 PC2_3 PC3_1 PC3_2 PC3_3 CD1_1 CD1_2 CD2_1 CD2_2 S_REGION
WAVSTART WAVEND DISPAXIS SPORDER V2_REF V3_REF VPARITY V3I_YANG RA_REF DEC_REF ROLL_REF
"""
COLUMNS = tuple(_TABLE.split())
"""Keywords of the table, in the order of its columns."""


def blend(every: Sequence[Mapping[str, Any]]) -> Blended:
    """Merge the headers of members.

    Parameters
    ----------
    every : sequence of mapping
        The keywords (upper case) of each member, all its headers in one mapping; None stands for no value.

    Returns
    -------
    Blended
        Keywords that no member has are left out.
    """
    merged: dict[str, dict[str, Any]] = {}
    for extension, rules in RULES.items():
        there = {k: [v for c in every if (v := c.get(k)) is not None] for k in rules}
        merged[extension] = {k: rules[k](values) for k, values in there.items() if values}
    table = {
        k: column([c.get(k) for c in every]) for k in COLUMNS if any(c.get(k) is not None for c in every)
    }
    return Blended(merged["PRIMARY"], merged["SCI"], table)


def column(values: Sequence[Any]) -> np.ndarray:
    """A column of the table: text as bytes, truth values, int64 or float64.

    Missing numbers are NaN and make the column one of float64; missing text is "nan", in a column of at least
    `TEXT_WITH_GAPS` bytes.
    """
    gaps = any(v is None for v in values)
    if any(isinstance(v, str) for v in values):
        text = [b"nan" if v is None else str(v).encode("ascii", "replace") for v in values]
        width = max(1, *map(len, text), TEXT_WITH_GAPS if gaps else 0)
        return np.array(text, f"S{width}")
    if gaps:
        return np.array([np.nan if v is None else float(v) for v in values])
    if all(isinstance(v, bool | np.bool_) for v in values):
        return np.array(values, bool)
    whole = all(isinstance(v, int | np.integer) for v in values)
    return np.array(values, np.int64 if whole else np.float64)
