"""The instruments, detectors and exposure types that JWST has."""

from __future__ import annotations

DETECTORS: dict[str, frozenset[str]] = {
    "FGS": frozenset({"GUIDER1", "GUIDER2"}),
    "MIRI": frozenset({"MIRIMAGE", "MIRIFULONG", "MIRIFUSHORT"}),
    "NIRCAM": frozenset(
        {"NRCA1", "NRCA2", "NRCA3", "NRCA4", "NRCALONG", "NRCB1", "NRCB2", "NRCB3", "NRCB4", "NRCBLONG"}
    ),
    "NIRISS": frozenset({"NIS"}),
    "NIRSPEC": frozenset({"NRS1", "NRS2"}),
}

GUIDER_TYPES = frozenset(
    {"FGS_ACQ1", "FGS_ACQ2", "FGS_FINEGUIDE", "FGS_ID-IMAGE", "FGS_ID-STACK", "FGS_TRACK"}
)

EXP_TYPES: dict[str, frozenset[str]] = {
    "FGS": GUIDER_TYPES | {"FGS_DARK", "FGS_FOCUS", "FGS_IMAGE", "FGS_INTFLAT", "FGS_SKYFLAT"},
    "MIRI": frozenset(
        {
            "MIR_4QPM",
            "MIR_CORONCAL",
            "MIR_DARKALL",
            "MIR_DARKIMG",
            "MIR_DARKMRS",
            "MIR_FLATIMAGE",
            "MIR_FLATIMAGE-EXT",
            "MIR_FLATMRS",
            "MIR_FLATMRS-EXT",
            "MIR_IMAGE",
            "MIR_LRS-FIXEDSLIT",
            "MIR_LRS-SLITLESS",
            "MIR_LYOT",
            "MIR_MRS",
            "MIR_TACONFIRM",
            "MIR_TACQ",
            "MIR_WFSS",
        }
    ),
    "NIRCAM": frozenset(
        {
            "NRC_CORON",
            "NRC_DARK",
            "NRC_FLAT",
            "NRC_FOCUS",
            "NRC_GRISM",
            "NRC_IMAGE",
            "NRC_LED",
            "NRC_TACONFIRM",
            "NRC_TACQ",
            "NRC_TSGRISM",
            "NRC_TSIMAGE",
            "NRC_WFSC",
            "NRC_WFSS",
        }
    ),
    "NIRISS": frozenset(
        {
            "NIS_AMI",
            "NIS_DARK",
            "NIS_EXTCAL",
            "NIS_FOCUS",
            "NIS_IMAGE",
            "NIS_LAMP",
            "NIS_SOSS",
            "NIS_TACONFIRM",
            "NIS_TACQ",
            "NIS_WFSS",
        }
    ),
    "NIRSPEC": frozenset(
        {
            "NRS_AUTOFLAT",
            "NRS_AUTOWAVE",
            "NRS_BRIGHTOBJ",
            "NRS_CONFIRM",
            "NRS_DARK",
            "NRS_FIXEDSLIT",
            "NRS_FOCUS",
            "NRS_IFU",
            "NRS_IMAGE",
            "NRS_LAMP",
            "NRS_MIMF",
            "NRS_MSASPEC",
            "NRS_MSATA",
            "NRS_TACONFIRM",
            "NRS_TACQ",
            "NRS_TASLIT",
            "NRS_VERIFY",
            "NRS_WATA",
        }
    ),
}
"""Exposure types (EXP_TYPE) by the instrument (INSTRUME) that takes them."""
