"""Runs programs as children and measures them: wall time, CPU time, peak resident memory.

Memory is what ``/usr/bin/time -v`` calls "Maximum resident set size": mapped files count. Where GNU time is
installed it starts the child, because the kernel counts what the starting process held at that moment towards
the child's peak; without it the same number comes from ``wait4``, and this process is kept small.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GNU_TIME = Path("/usr/bin/time")
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Measured:
    """One child: seconds, megabytes (10^6 bytes), load average when it began, and its standard output."""

    wall: float
    cpu: float
    peak_mb: float
    load: float
    output: str


def settle() -> float:
    """Let earlier writing reach the disk, so that nobody pays for another's; the load average."""
    os.sync()
    return os.getloadavg()[0]


@functools.cache
def has_gnu_time() -> bool:
    """Whether GNU time is there; other programs of this name know no formats."""
    if not GNU_TIME.exists():
        return False
    found = subprocess.run([GNU_TIME, "--version"], capture_output=True, text=True, check=False)
    return "GNU" in found.stdout + found.stderr


def run(command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> Measured:
    """Run a program to its end.

    Parameters
    ----------
    command : sequence
    environment : mapping
        Variables on top of this process's.
    log : Path
        Its standard error goes there.

    Raises
    ------
    RuntimeError
        If it fails; names the log.
    """
    load = settle()
    facts = log.with_suffix(".time")
    before = [GNU_TIME, "-f", "%U %S %M", "-o", facts] if has_gnu_time() else []
    with log.open("w") as errors:
        begin = time.perf_counter()
        child = subprocess.Popen(
            [*before, *command],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert child.stdout is not None
        output = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begin
        child.stdout.close()
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(
            f"{' '.join(map(str, command))} ended with {child.returncode}; see {log}\n{output}"
        )
    if before:
        user, system, kilobytes = map(float, facts.read_text().split()[-3:])
    else:
        user, system, kilobytes = usage.ru_utime, usage.ru_stime, usage.ru_maxrss
    return Measured(wall, user + system, kilobytes * 1024 / 1e6, load, output)


class Warm:
    """A process that has calibrated once and takes one file after the other; see ``warm.py``.

    Parameters
    ----------
    environment : mapping
        Variables on top of this process's.
    config : Path
        The configuration file.
    log : Path
        Its standard error goes there.
    """

    def __init__(self, environment: Mapping[str, str], config: Path, log: Path) -> None:
        self._log = log
        self._errors = log.open("w")
        self._child = subprocess.Popen(
            [sys.executable, HERE / "warm.py", config],
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def calibrate(self, uncal: Path, output: Path, assignments: Sequence[str] = ()) -> dict[str, Any]:
        """File to published products; what the process says of it (see ``warm.py``), and the load.

        ``assignments`` are parameters, step.name=value.

        Raises
        ------
        RuntimeError
            If the process died or the file failed; names the log.
        """
        load = settle()
        assert self._child.stdin is not None and self._child.stdout is not None
        request = {"input": str(uncal), "output": str(output), "set": list(assignments)}
        self._child.stdin.write(json.dumps(request) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"the warm process died; see {self._log}")
        answer: dict[str, Any] = json.loads(line)
        if answer["error"]:
            raise RuntimeError(f"the warm process: {answer['error']}; see {self._log}")
        return {**answer, "load": load}

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *problem: object) -> None:
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.close()
        self._child.wait()
        self._child.stdout.close()
        self._errors.close()
