"""Peak memory of ``upramp run`` against the number of groups: MIRI full frames, NIRSpec IRS2.

    python benchmarks/groups.py [--work FOLDER] [--only miri] [--fill docs/performance.md]

Ramps of ten groups are continued, group by group with the same steps, until there are as many as asked; the
references are those of the short ramp. Takes 5 GB of disk. Exit status 1 if a peak exceeds its limit: 1.2 GB
for MIRI, 2 GB for IRS2.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from exposures import Case
from results import as_text, between
from stage1 import WORK, Bench

from upramp.simulate import detector, uncal
from upramp.simulate.cache import Cache
from upramp.simulate.effects import Effect, ResetDecay, SwitchDecay
from upramp.simulate.expose import expose
from upramp.simulate.irs2 import Interleaving
from upramp.simulate.observation import Observation
from upramp.simulate.references import write_all

DRAWN = 10
MIRI: dict[str, Any] = {"detector": "MIRIMAGE", "ny": 1024, "nx": 1032, "ngroups": DRAWN}
IRS2: dict[str, Any] = {
    "detector": "NRS1",
    "ny": 2048,
    "nx": 2048,
    "ngroups": DRAWN,
    "readpatt": "NRSIRS2RAPID",
    "exp_type": "NRS_MSASPEC",
    "noutputs": 5,
    "tframe": 14.58889,
}
SIZES = (
    *((f"miri-{n}", f"MIRI full frame, {n} groups", MIRI, n, 1200) for n in (20, 100, 400)),
    ("irs2-200", "NIRSpec IRS2, 200 groups", IRS2, 200, 2000),
)


def make(name: str, title: str, what: dict[str, Any], ngroups: int, work: Path) -> Case:
    """Draw the first groups, continue them, and write the exposure with its references."""
    folder = work / f"groups-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    short = Observation(**what)
    chip = detector.draw(short.detector)
    cache = Cache(folder / "crds")
    decay = ResetDecay(np.full((short.ny, short.nx), 30, np.float32))
    effects: list[Effect] = [decay, SwitchDecay()] if chip.layout.mid_infrared else []
    write_all(cache, chip, [short], effects=effects)
    counts = expose(chip, np.full((short.ny, short.nx), 2.0), short, effects=effects).counts
    if "IRS2" in short.pattern_name:
        reading = Interleaving()
        reading.truth(cache, chip, short)
        counts = reading.read(counts, short)
    environment = cache.environment | {"CRDS_CONTEXT": cache.write()}
    long = np.empty((1, ngroups, *counts.shape[2:]), np.uint16)
    rise = counts[:, -1].astype(np.int32) - counts[:, 0] + 20
    for g in range(ngroups):
        long[:, g] = (counts[:, g % DRAWN] + g // DRAWN * rise).clip(0, 65535)
    [path] = uncal.write_exposure(folder / "in", long, replace(short, ngroups=ngroups))
    return Case(name, title, path, environment)


def main() -> int:
    """Measure all, compare with the limits."""
    parser = argparse.ArgumentParser(description="peak memory against the number of groups")
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder for all files (default: {WORK})")
    parser.add_argument("--only", default="", help="begin of the names")
    parser.add_argument(
        "--fill", type=Path, nargs="+", default=[], metavar="PAGE", help="renew the figures of Markdown pages"
    )
    options = parser.parse_args()
    work = options.work.absolute()
    rows, over = [["exposure", "seconds", "peak MB", "limit MB"]], 0
    for name, title, what, ngroups, limit in SIZES:
        if not name.startswith(options.only):
            continue
        case = make(name, title, what, ngroups, work)
        bench = Bench(case, work, None)
        bench.cold()  # compiles the kernels and prepares the references
        found = bench.cold()
        rows.append([title, f"{found.wall:.1f}", f"{found.peak_mb:.0f}", str(limit)])
        over += found.peak_mb > limit
        shutil.rmtree(bench.output("cold"))
        shutil.rmtree(work / f"groups-{name}")
    print(as_text(rows))
    for page in options.fill:
        table = as_text(rows, markdown=True)
        page.write_text(between(page.read_text(), "groups", "groups.py", table))
    return int(over > 0)


if __name__ == "__main__":
    sys.exit(main())
