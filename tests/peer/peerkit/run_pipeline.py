"""Runs the observatory's pipelines of stages 1 to 3; for the Python of the peer's virtual environment only.

    python run_pipeline.py jobs.json
    python run_pipeline.py --uncal FILE --output DIR [--set step.param=value ...] [--each-step]

A job is {"uncal", "output", "steps", "environment", "each_step", "pipeline"}; its products, and
with each_step those of every step, come into the folder ``output``, which appears when all is done, with a
``run.json`` that tells seconds, step states, or the error. Many jobs share one process, because
importing takes longer than a small exposure.
"""

from __future__ import annotations

import argparse
import ast
import gc
import json
import logging
import os
import shutil
import time
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def run(pipeline: Any, job: Mapping[str, Any]) -> None:
    """Run one job."""
    from crds.core import heavy_client

    os.environ.update(job.get("environment", {}))
    # the client reads CRDS_CONTEXT once and then remembers
    heavy_client.get_processing_mode.cache.clear()
    heavy_client.get_context_name.cache.clear()
    output = Path(job["output"])
    scratch = output.with_name(output.name + ".part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    steps = {name: dict(values) for name, values in job.get("steps", {}).items()}
    # what concerns the pipeline itself; darks are named after it unless CRDS says otherwise
    own = {k: v for name in ("detector1", "image2", "image3") for k, v in steps.pop(name, {}).items()}
    own |= {"suffix": "dark"} if job.get("pipeline") == "dark" else {}
    if job.get("each_step"):
        for name in pipeline.step_defs:
            steps.setdefault(name, {})["save_results"] = True
    if job["uncal"].endswith(".json"):  # names of members are relative to the current folder
        os.chdir(Path(job["uncal"]).parent)
    report: dict[str, Any] = {"error": ""}
    began = time.perf_counter()
    try:
        result = pipeline.call(job["uncal"], steps=steps, output_dir=str(scratch), save_results=True, **own)
        # stage 2 gives a list, of one exposure here
        model = result[0] if isinstance(result, list) else result
        if model is not None:  # stage 3 gives nothing, and leaves files
            report["states"] = dict(model.meta.cal_step.instance)
            model.close()
    except Exception:
        report["error"] = traceback.format_exc()
    report["seconds"] = time.perf_counter() - began
    (scratch / "run.json").write_text(json.dumps(report, indent=1))
    shutil.rmtree(output, ignore_errors=True)
    scratch.rename(output)


def main() -> None:
    """Run the jobs of the command line or of a file."""
    parser = argparse.ArgumentParser(description="stages 1 to 3 of the observatory's package")
    parser.add_argument("jobs", nargs="?", type=Path)
    parser.add_argument("--uncal")
    parser.add_argument("--output")
    parser.add_argument("--set", action="append", default=[], metavar="STEP.PARAM=VALUE")
    parser.add_argument("--each-step", action="store_true")
    options = parser.parse_args()
    if options.jobs:
        jobs = json.loads(options.jobs.read_text())
    elif options.uncal and options.output:
        steps: dict[str, dict[str, Any]] = {}
        for word in options.set:
            target, _, value = word.partition("=")
            step, _, name = target.partition(".")
            steps.setdefault(step, {})[name] = ast.literal_eval(value)
        jobs = [
            {"uncal": options.uncal, "output": options.output, "steps": steps, "each_step": options.each_step}
        ]
    else:
        parser.error("give a file of jobs, or --uncal and --output")
    for variables in (job.get("environment", {}) for job in jobs[:1]):
        os.environ.update(variables)
    warnings.filterwarnings("ignore")
    from jwst.pipeline import DarkPipeline, Detector1Pipeline, Image2Pipeline, Image3Pipeline

    pipelines = {
        "detector1": Detector1Pipeline,
        "dark": DarkPipeline,
        "image2": Image2Pipeline,
        "image3": Image3Pipeline,
    }
    logging.disable(logging.WARNING)
    for job in jobs:
        # the pipeline collects garbage after every step; what is loaded already need not be looked at
        gc.freeze()
        run(pipelines[job.get("pipeline", "detector1")], job)


if __name__ == "__main__":
    main()
