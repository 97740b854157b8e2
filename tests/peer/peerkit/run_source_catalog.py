"""Run by the peer's interpreter: source_catalog of resampled images that are made up.

usage: run_source_catalog.py JOBS FOLDER

JOBS: name -> {"input": ASDF file of an image, "parameters": {...}, "apcorr", "abvegaoffset": paths}.
FOLDER gets <name>_cat.ecsv and <name>_segm.fits of those that have a catalogue.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import asdf
import numpy as np
from jwst.source_catalog import SourceCatalogStep
from stdatamodels.jwst import datamodels


def model_of(path: str, name: str) -> datamodels.ImageModel:
    """The image as a data model."""
    with asdf.open(path, memmap=False, lazy_load=False) as file:
        model = datamodels.ImageModel(np.array(file["sci"]))
        model.err, model.wht = np.array(file["err"]), np.array(file["wht"])
        meta = model.meta
        meta.wcs, meta.filename = file["wcs"], f"{name}_i2d.fits"
        meta.bunit_data = meta.bunit_err = "MJy/sr"
        meta.resample.pixel_scale_ratio = file["ratio"]
        meta.photometry.pixelarea_steradians = file["area"]
        meta.wcsinfo.crpix1, meta.wcsinfo.crpix2 = file["crpix"]
        cards = file["cards"]
    meta.instrument.name, meta.instrument.detector = cards["INSTRUME"], cards["DETECTOR"]
    meta.instrument.filter, meta.instrument.pupil = cards.get("FILTER"), cards.get("PUPIL")
    meta.subarray.name, meta.exposure.type = cards["SUBARRAY"], cards["EXP_TYPE"]
    meta.observation.date, meta.observation.time = "2023-01-01", "00:00:00"
    return model


def main() -> None:
    """All jobs."""
    jobs, folder = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2]
    for name, job in jobs.items():
        step = SourceCatalogStep(
            override_apcorr=job["apcorr"],
            override_abvegaoffset=job["abvegaoffset"],
            save_results=True,
            output_dir=folder,
            **job["parameters"],
        )
        step.run(model_of(job["input"], name))


main()
