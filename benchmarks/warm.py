"""The warm process: calibrates the files that it is told on standard input, one JSON object a line.

    {"input": "..._uncal.fits", "output": "folder", "set": ["step.parameter=value", ...]}

Each goes through all that a service does for a file: checksum, header, CRDS look-ups, prepared references,
calibration, products synced and renamed into place, and the commit to the ledger, which stays open as long
as output and parameters stay the same. The answer is one line of JSON: ``error``, ``seconds`` and ``cpu``
from a file that lies still to its products in the ledger, ``peak_mb`` of this process so far, ``passes`` over
the data, ``profile`` (wall and CPU seconds by step, summed over threads, with "read" and "write").
"""

from __future__ import annotations

import contextlib
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
from upramp.daemon import detector1, logs, oneshot, session  # noqa: E402
from upramp.daemon.desk import Desk  # noqa: E402
from upramp.daemon.events import FileSettled  # noqa: E402
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


class Service:
    """A desk that stays open from file to file, until output or parameters change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack, self._key = contextlib.ExitStack(), ""

    def desk(self, request: dict[str, Any]) -> Desk:
        """The desk for a request."""
        key = json.dumps([request["output"], request.get("set", [])])
        if key != self._key:
            self.close()
            config = load(
                self.path,
                assignments=request.get("set", []),
                registry=registry(),
                reference_types=reference_types(),
            ).override(output_folder=Path(request["output"]))
            session.warm_up(config)
            opened = session.open_desk(config, command="benchmark", force=True, inputs=1)
            self._desk, self._key = self._stack.enter_context(opened), key
        return self._desk

    def close(self) -> None:
        """Close the desk that is open, if any."""
        self._stack.close()
        self._key = ""


def one(service: Service, request: dict[str, Any], reports: list[Any]) -> dict[str, Any]:
    """Calibrate one file; the answer."""
    reports.clear()
    desk, summary = service.desk(request), oneshot.Summary()
    desk.listeners.append(summary.hear)
    before, begin = os.times(), time.perf_counter()
    desk.dispatch(FileSettled(Path(request["input"])))
    desk.run(until=lambda: desk.idle)
    seconds, after = time.perf_counter() - begin, os.times()
    desk.listeners.remove(summary.hear)
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
    service = Service(Path(sys.argv[1]))
    logs.configure(Log(level="warning"))
    reports: list[Any] = []
    noted(reports)
    with contextlib.closing(service):
        for line in sys.stdin:
            print(json.dumps(one(service, json.loads(line), reports)), flush=True)


if __name__ == "__main__":
    main()
