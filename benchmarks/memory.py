"""Peak memory of ``upramp run`` on a time series, and on one with ten times as many integrations.

    python benchmarks/memory.py [--peer .venv-peer/bin/python] [--times 10] [--quick]

The long exposure is the short one's integrations again and again, written without holding them in memory.
At full size it takes 5 GB, and its products 8 GB. Exit status 1 if the peaks differ by more than 10%, or
exceed 1.0 GB; a tiny exposure does not fill the budget, so its peaks may grow.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import exposures
from results import MOST_MB, as_text, between
from stage1 import WORK, Bench

MOST_GROWTH = 0.1


def main() -> int:
    """Measure both, compare."""
    parser = argparse.ArgumentParser(description="peak memory against the number of integrations")
    parser.add_argument("--peer", type=Path, help="Python that the kit's generators need; else simulated")
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder for all files (default: {WORK})")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="a tiny exposure, to try the benchmark itself")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    parser.add_argument(
        "--fill", type=Path, nargs="+", default=[], metavar="PAGE", help="renew the figures of Markdown pages"
    )
    options = parser.parse_args()
    work = options.work.absolute()
    short = exposures.prepare("series", work, options.peer and options.peer.absolute(), quick=options.quick)
    name = short.uncal.name.replace("_00001", "_00002", 1)
    folder = work / f"series-times-{options.times}{'-quick' if options.quick else ''}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    exposures.repeat(short.uncal, folder / name, options.times)
    long = exposures.Case("long", f"{options.times} times as many", folder / name, short.environment)

    rows, peaks = [["exposure", "seconds", "peak MB", "load"]], []
    for case in (short, long):
        bench = Bench(case, work, None)
        if case is short:
            bench.cold()  # compiles the kernels and prepares the references
        found = bench.cold()
        peaks.append(found.peak_mb)
        rows.append([case.title, f"{found.wall:.2f}", f"{found.peak_mb:.0f}", f"{found.load:.1f}"])
        shutil.rmtree(bench.output("cold"))
    shutil.rmtree(folder)
    ratio = peaks[1] / peaks[0]
    said = f"ratio of the peaks: {ratio:.3f}"
    print(f"{as_text(rows)}\n\n{said}")
    for page in options.fill:
        table = as_text(rows, markdown=True)
        page.write_text(between(page.read_text(), "memory", "memory.py", f"{table}\n\n{said}"))
    if options.json:
        options.json.write_text(json.dumps({"peak_mb": peaks, "ratio": ratio, "rows": rows}, indent=1))
    return int(not options.quick and (abs(ratio - 1) > MOST_GROWTH or max(peaks) > MOST_MB))


if __name__ == "__main__":
    sys.exit(main())
