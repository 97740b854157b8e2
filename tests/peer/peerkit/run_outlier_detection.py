"""Run by the peer's interpreter: outlier_detection of images that are made up.

usage: run_outlier_detection.py JOBS ANSWERS

JOBS: name -> {"input": ASDF file with lists sci, err, rnoise, dq, wcs, name, exposure, region, background,
seconds, and aperture, "parameters": {...}}.
ANSWERS: a folder that gets NAME.npz: for each image k state_k, dq_k, sci_k, blank_k (pixels that are NaN in
all of ERR and the variances), and the arrays of intermediate products by file name.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from pathlib import Path

logging.disable(logging.CRITICAL)

import asdf  # noqa: E402
import numpy as np  # noqa: E402
from astropy.io import fits  # noqa: E402
from jwst.datamodels import ModelLibrary  # noqa: E402
from jwst.outlier_detection import OutlierDetectionStep  # noqa: E402
from stdatamodels.jwst import datamodels  # noqa: E402

KEYS = ("sci", "err", "rnoise", "dq", "wcs", "name", "exposure", "region", "background", "seconds")


def models(path: str) -> list:
    """The images as data models."""
    found = []
    with asdf.open(path, memmap=False, lazy_load=False) as file:
        for sci, err, rnoise, dq, wcs, name, exposure, region, background, seconds in zip(
            *(file[key] for key in KEYS), strict=True
        ):
            model = datamodels.ImageModel(np.array(sci))
            model.err, model.dq = np.array(err), np.array(dq)
            model.var_rnoise = np.array(rnoise)
            model.var_poisson = np.array(rnoise)
            model.var_flat = np.array(rnoise)
            model.meta.wcs = wcs
            model.meta.filename = name
            model.meta.instrument.name = "NIRCAM"
            model.meta.exposure.type = "NRC_IMAGE"
            model.meta.exposure.measurement_time = seconds
            model.meta.exposure.exposure_time = seconds
            model.meta.exposure.duration = seconds
            for key, value in file["aperture"].items():
                setattr(model.meta.wcsinfo, key, value)
            model.meta.wcsinfo.s_region = region
            level, subtracted = background
            model.meta.background.level = level
            model.meta.background.subtracted = subtracted
            observation = model.meta.observation
            observation.date, observation.time = "2024-01-01", "00:00:00.000"
            observation.program_number, observation.observation_number = "01234", "001"
            observation.visit_number, observation.visit_group = "001", "02"
            observation.sequence_id, observation.activity_id = "1", "01"
            observation.exposure_number = exposure
            found.append(model)
    return found


def main() -> None:
    """All jobs."""
    jobs, answers = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    for name, job in jobs.items():
        found = {}
        with tempfile.TemporaryDirectory() as folder:
            library = OutlierDetectionStep.call(
                ModelLibrary(models(job["input"])),
                save_intermediate_results=True,
                output_dir=folder,
                **job["parameters"],
            )
            with library:
                for k in range(len(library)):
                    model = library.borrow(k)
                    found[f"state_{k}"] = str(model.meta.cal_step.outlier_detection)
                    found[f"dq_{k}"], found[f"sci_{k}"] = model.dq, model.data
                    others = (model.err, model.var_rnoise, model.var_poisson, model.var_flat)
                    found[f"blank_{k}"] = np.isnan(others).all(axis=0)
                    library.shelve(model, k, modify=False)
            for path in sorted(Path(folder).glob("*.fits")):
                with fits.open(path) as file:
                    for hdu in file:
                        if hdu.name in ("SCI", "WHT"):
                            found[f"{path.name} {hdu.name}"] = hdu.data.astype(np.float32)
        np.savez(answers / name, **found)


main()
