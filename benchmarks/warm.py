"""The warm process: calibrates the files that it is told on standard input, one JSON object a line.

    {"input": "..._uncal.fits", "output": "folder", "set": ["step.parameter=value", ...]}

Each goes through all that a service does for a file: checksum, header, CRDS look-ups, prepared references,
calibration, products synced and renamed into place, and the commits to the ledger; here a ledger is opened
for each as well. The answer is one line of JSON: ``error``, ``seconds`` and ``cpu`` from file to published
products, ``peak_mb`` of this process so far, ``passes`` over the data, ``profile`` (wall and CPU seconds by
step, summed over threads, with "read" and "write").
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from upramp.daemon import kernel_cache
from upramp.daemon.config import Config, Log, load

kernel_cache.place(Config().cache_folder / "kernels")  # before anything imports numba
from upramp.daemon import detector1, logs, oneshot  # noqa: E402
from upramp.daemon.planning import reference_types  # noqa: E402
from upramp.stages.pipelines import registry  # noqa: E402

MB_PER_KB = 1024 / 1e6


def noted(reports: list[Any]) -> None:
    """Keep the runner's reports; the ledger holds the seconds of steps only."""
    stream = detector1.stream

    def streamed(*args: Any, **named: Any) -> Any:
        report, tally = stream(*args, **named)
        reports.append(report)
        return report, tally

    detector1.stream = streamed


def one(request: dict[str, Any], path: Path, reports: list[Any]) -> dict[str, Any]:
    """Calibrate one file; the answer."""
    reports.clear()
    config = load(
        path, assignments=request.get("set", []), registry=registry(), reference_types=reference_types()
    ).override(output_folder=Path(request["output"]))
    before, begin = os.times(), time.perf_counter()
    summary = oneshot.run([Path(request["input"])], config, force=True)
    seconds, after = time.perf_counter() - begin, os.times()
    report = reports[-1] if reports else None
    return {
        "error": "" if summary.products else f"no products: {summary.failed}",
        "seconds": seconds,
        "cpu": after.user + after.system - before.user - before.system,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MB_PER_KB,
        "passes": report.passes if report else 0,
        "profile": {name: [report.wall[name], report.cpu[name]] for name in report.wall} if report else {},
    }


def main() -> None:
    """Answer until standard input ends."""
    config = Path(sys.argv[1])
    logs.configure(Log(level="warning"))
    reports: list[Any] = []
    noted(reports)
    for line in sys.stdin:
        print(json.dumps(one(json.loads(line), config, reports)), flush=True)


if __name__ == "__main__":
    main()
