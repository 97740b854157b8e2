"""Run by the peer's Python: assign_wcs on images, and what it makes of WCS objects in files.

usage: run_assign_wcs.py JOBS.json ANSWERS.json
"""

import json
import logging
import sys
import warnings
from pathlib import Path

import numpy as np

logging.disable(logging.CRITICAL)
warnings.filterwarnings("ignore")

from jwst.assign_wcs import AssignWcsStep  # noqa: E402
from stdatamodels.jwst import datamodels  # noqa: E402


def told(wcs, pixels):
    """Positions, the way back, and the bounding box of a WCS."""
    sky = wcs(*pixels, with_bounding_box=False)
    box = wcs.bounding_box.bounding_box(order="F")
    back = wcs.backward_transform(*sky)
    return {
        "frames": list(wcs.available_frames),
        "sky": np.array(sky).tolist(),
        "back": np.array(back).tolist(),
        "box": [[float(a) for a in pair] for pair in box],
    }


def run(job):
    pixels = np.array(job["pixels"])
    with datamodels.open(job["input"]) as model:
        if job.get("written"):
            return told(model.meta.wcs, pixels)
        overrides = {f"override_{t}": "N/A" for t in AssignWcsStep.reference_file_types}
        overrides |= {f"override_{t}": path for t, path in job["references"].items()}
        result = AssignWcsStep.call(model, **overrides, **job["parameters"])
        answer = {"state": result.meta.cal_step.assign_wcs}
        if answer["state"] == "COMPLETE":
            info = {
                k: v.item() if isinstance(v, np.generic) else v
                for k, v in result.meta.wcsinfo.instance.items()
            }
            answer |= told(result.meta.wcs, pixels) | {"wcsinfo": info}
        return answer


jobs = json.loads(Path(sys.argv[1]).read_text())
Path(sys.argv[2]).write_text(json.dumps({name: run(job) for name, job in jobs.items()}))
