"""Run by the peer's interpreter: skymatch of images that are made up.

usage: run_skymatch.py JOBS ANSWERS

JOBS: name -> {"input": ASDF file with lists sci, dq, wcs, name, exposure, "parameters": {...}}.
ANSWERS: name -> for each image [state, level, subtracted, sum of all finite values].
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import asdf
import numpy as np
from jwst.datamodels import ModelLibrary
from jwst.skymatch import SkyMatchStep
from stdatamodels.jwst import datamodels


def models(path: str) -> list:
    """The images as data models."""
    found = []
    with asdf.open(path, memmap=False, lazy_load=False) as file:
        for sci, dq, wcs, name, exposure in zip(
            *(file[key] for key in ("sci", "dq", "wcs", "name", "exposure")), strict=True
        ):
            model = datamodels.ImageModel(np.array(sci))
            model.dq = np.array(dq)
            model.meta.wcs = wcs
            model.meta.filename = name
            model.meta.instrument.name = "NIRCAM"
            observation = model.meta.observation
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
        library = SkyMatchStep.call(ModelLibrary(models(job["input"])), **job["parameters"])
        rows = []
        with library:
            for k in range(len(library)):
                model = library.borrow(k)
                background = model.meta.background
                finite = model.data[np.isfinite(model.data)]
                rows.append(
                    [
                        model.meta.cal_step.skymatch,
                        background.level,
                        background.subtracted,
                        float(finite.astype(float).sum()),
                    ]
                )
                library.shelve(model, k, modify=False)
        answers[name] = rows
    Path(sys.argv[2]).write_text(json.dumps(answers))


main()
