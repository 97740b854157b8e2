"""Run by the peer's interpreter: tweakreg of images that are made up.

usage: run_tweakreg.py JOBS ANSWERS

JOBS: name -> {"input": ASDF file with lists sci, err, dq, wcs, name, exposure, and aperture,
"parameters": {...}}.
ANSWERS: name -> for each image {"state", "frames", "sky" of a grid of pixels, "region"}.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

logging.disable(logging.CRITICAL)

import asdf  # noqa: E402
import numpy as np  # noqa: E402
from jwst.datamodels import ModelLibrary  # noqa: E402
from jwst.tweakreg import TweakRegStep  # noqa: E402
from stdatamodels.jwst import datamodels  # noqa: E402


def models(path: str) -> list:
    """The images as data models."""
    found = []
    with asdf.open(path, memmap=False, lazy_load=False) as file:
        keys = ("sci", "err", "dq", "wcs", "name", "exposure")
        for sci, err, dq, wcs, name, exposure in zip(*(file[key] for key in keys), strict=True):
            model = datamodels.ImageModel(np.array(sci))
            model.err, model.dq = np.array(err), np.array(dq)
            model.meta.wcs = wcs
            model.meta.filename = name
            model.meta.instrument.name = "NIRCAM"
            for key, value in file["aperture"].items():
                setattr(model.meta.wcsinfo, key, value)
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
    jobs = json.loads(Path(sys.argv[1]).read_text())
    answers = {}
    for name, job in jobs.items():
        library = TweakRegStep.call(ModelLibrary(models(job["input"])), **job["parameters"])
        rows = []
        with library:
            for k in range(len(library)):
                model = library.borrow(k)
                ny, nx = model.data.shape
                x, y = np.meshgrid(np.linspace(0, nx - 1, 5), np.linspace(0, ny - 1, 5))
                rows.append(
                    {
                        "state": model.meta.cal_step.tweakreg,
                        "frames": list(model.meta.wcs.available_frames),
                        "sky": np.array(model.meta.wcs(x, y)).tolist(),
                        "region": model.meta.wcsinfo.s_region,
                    }
                )
                library.shelve(model, k, modify=False)
        answers[name] = rows
    Path(sys.argv[2]).write_text(json.dumps(answers))


main()
