"""Warm up stages 2 and 3, make mosaics of visits of several kinds, and print what numba met only then.

A process of its own, as ``run_modes.py``.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from run_modes import late_in, signatures

from upramp.daemon import calibrate, warm
from upramp.daemon.config import Config, Crds, Output, Run, Store
from upramp.daemon.previewing import refresh
from upramp.daemon.previews import Job
from upramp.simulate import visit
from upramp.simulate.cache import Cache
from upramp.simulate.observation import Observation
from upramp.stages.stage3 import preview_mosaic

STARS = {"minobj": 5, "bkg_boxsize": 50, "separation": 0.3, "tolerance": 0.2}
MODES: dict[str, tuple[dict, dict, dict]] = {
    "a visit": ({}, {}, {}),
    "two detectors": ({"detector": "NRCA1"}, {"detectors": ("NRCA1", "NRCA2"), "dithers": 2}, {}),
    "mid infrared": ({"detector": "MIRIMAGE"}, {}, {}),
    "slitless": ({"detector": "NIS", "nints": 2}, {"dithers": 2}, {}),
    "drizzled otherwise": (
        {},
        {},
        {
            "skymatch": {"skymethod": "local", "skystat": "mean", "subtract": True},
            "outlier_detection": {
                "weight_type": "exptime",
                "save_intermediate_results": True,
            },
            "resample": {"kernel": "lanczos3", "weight_type": "exptime", "pixfrac": 0.7},
        },
    ),
    "against each other": (
        {},
        {"dithers": 2},
        {
            "skymatch": {"skymethod": "global", "skystat": "midpt"},
            "outlier_detection": {"resample_data": False},
            "resample": {"weight_type": None, "report_var": False, "enable_ctx": False},
        },
    ),
}


def calibrated(folder: Path, k: int, given: dict, how: dict, steps: dict) -> None:
    """Rates of a visit to their mosaic, the first also less the second."""
    one = Observation(
        **{"ny": 150, "nx": 164, "subarray": "SUB164", "number": k + 1, "tframe": 10.0, **given}
    )
    taken = visit.Visit(one, stars=80, flux=(1000.0, 3e4), **how)
    cache = Cache(folder / "crds" / str(k))
    taken.references(cache)
    context = cache.write()
    os.environ.update(cache.environment)
    config = replace(
        Config(),
        output=Output(folder / "out"),
        store=Store(cache=folder / "cache", fsync=False),
        crds=Crds(path=cache.root, context=context, offline=True),
        run=Run(threads=2),
        steps={"tweakreg": STARS, **steps},
    )

    def run(path: Path) -> None:
        calibrate.calibrate(calibrate.plan(calibrate.CalibrationJob(path, "run", config)), "0" * 64)

    def associated(place: Path, kind: str, members: dict[str, str]) -> Path:
        listed = [{"expname": name, "exptype": exptype} for name, exptype in members.items()]
        path = place / f"{kind}_asn.json"
        path.write_text(json.dumps({"asn_type": kind, "products": [{"name": "made", "members": listed}]}))
        return path

    rates = taken.write_rates(folder / "in")
    for path in rates:
        run(path)
    run(associated(folder / "in", "image2", {rates[0].name: "science", rates[1].name: "background"}))
    cals = [path.name.replace("_rate.", "_cal.") for path in rates]
    run(associated(folder / "out", "image3", dict.fromkeys(cals, "science")))
    preview_mosaic.LIMIT = 100  # cells are joined
    target = folder / "out" / f"{k}_preview.fits"
    done = refresh(Job(target, "", "made", target, [folder / "out" / name for name in cals]), lambda: False)
    assert done.added == len(cals), done


def main(folder: Path) -> None:
    """Print, by mode, the signatures that the warm-up had left out."""
    warm.warm(["stage2", "stage3"])
    known = signatures()
    late: dict[str, list[str]] = {}
    for k, (mode, how) in enumerate(MODES.items()):
        late[mode] = late_in(partial(calibrated, folder, k, *how), known, folder / f"{k}.json")
    print(json.dumps(late))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
