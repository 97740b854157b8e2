"""Stage 1 side by side with the observatory's package, interleaved in one run.

    python benchmarks/stage1.py --peer .venv-peer/bin/python [--repeats 3] [--cases full,series] [--quick]

Two exposures, 10 groups x 2048 x 2048 and 80 integrations x 6 groups x 256 x 2048, go in rotation through

    floor   a program that reads every count once and writes as many bytes as the products have
    peer    a new process: Detector1Pipeline.call with its defaults; the import is timed apart
    warm    a process of upramp that has calibrated once: file to published products, with checksum,
            look-ups and ledger (see warm.py)
    cold    `upramp run` as a new process, compiled kernels cached and references prepared

Then medians, ratios of medians and peak resident memory are printed, where the time goes, and whether the
products agree with the peer's. Exit status 1 if they do not. docs/performance.md tells more.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import children
import exposures
import results

HERE = Path(__file__).resolve().parent
PROGRAMS = ("floor", "peer", "warm", "cold")
WORK = Path("/var/tmp/upramp-bench")
LIBRARIES = ("upramp", "numpy", "numba", "astropy")


class Bench:
    """One exposure and all programs that are measured on it.

    Parameters
    ----------
    case : Case
    work : Path
        Where outputs, logs and upramp's cache go.
    peer : Path or None
        The peer's Python.
    """

    def __init__(self, case: exposures.Case, work: Path, peer: Path | None) -> None:
        self.case, self.work, self.peer = case, work, peer
        self.logs = work / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.config = work / "config.toml"
        self.config.write_text('[run]\nuntil = "stage1"\n')
        self.environment = case.environment | {"UPRAMP_CACHE": str(work / "cache"), "TMPDIR": str(work)}
        self.warm: children.Warm | None = None
        self.last: dict[str, Any] = {}

    def output(self, who: str) -> Path:
        """Where a program's products go."""
        return self.work / "out" / f"{self.case.name}-{who}"

    def fresh(self, who: str) -> Path:
        """The same, empty."""
        folder = self.output(who)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def ready(self) -> None:
        """Compile the kernels, prepare the references, start the warm process and let it calibrate once."""
        upramp = Path(sys.executable).with_name("upramp")
        log = self.logs / f"{self.case.name}-ready.log"
        children.run([upramp, "warm", "--config", self.config], self.environment, log)
        self.cold()
        self.warm = children.Warm(self.environment, self.config, self.logs / f"{self.case.name}-warm.log")
        self.warm.calibrate(self.case.uncal, self.fresh("warm"))

    def measure(self, who: str) -> dict[str, Any]:
        """Measure a program once."""
        return {"case": self.case.name, "who": who, **getattr(self, f"run_{who}")()}

    def _child(self, who: str, command: Sequence[str | Path]) -> children.Measured:
        return children.run(command, self.environment, self.logs / f"{self.case.name}-{who}.log")

    def run_floor(self) -> dict[str, Any]:
        """The floor; the middle one of its three tries."""
        kit = exposures.kit_folder()
        program = kit / "floor.py" if kit and (kit / "floor.py").exists() else HERE / "floor.py"
        found = self._child("floor", [sys.executable, program, self.case.uncal])
        tries = sorted(
            float(line.split()[1]) for line in found.output.splitlines() if line.startswith("total")
        )
        return _facts(found, tries[len(tries) // 2])

    def run_peer(self) -> dict[str, Any]:
        """The observatory's package."""
        assert self.peer is not None
        found = self._child("peer", [self.peer, HERE / "peer.py", self.case.uncal, self.fresh("peer")])
        told = json.loads(found.output.splitlines()[-1])
        return {**_facts(found, told["run_s"]), "import_s": told["import_s"]}

    def run_warm(self) -> dict[str, Any]:
        """upramp in a process that has calibrated before."""
        assert self.warm is not None
        told = self.last = self.warm.calibrate(self.case.uncal, self.fresh("warm"))
        return {k: told[k] for k in ("seconds", "cpu", "peak_mb", "load")} | {"wall": told["seconds"]}

    def run_cold(self) -> dict[str, Any]:
        """``upramp run`` as a new process."""
        found = self.cold()
        return _facts(found, found.wall)

    def cold(self) -> children.Measured:
        """Run the command."""
        upramp = Path(sys.executable).with_name("upramp")
        options = ["--force", "--config", self.config, "--output", self.fresh("cold")]
        return self._child("cold", [upramp, "run", *options, self.case.uncal])

    def close(self) -> None:
        """End the warm process."""
        if self.warm is not None:
            self.warm.__exit__()


def _facts(found: children.Measured, seconds: float) -> dict[str, Any]:
    facts = {"seconds": seconds, "wall": found.wall, "cpu": found.cpu}
    return {**facts, "peak_mb": found.peak_mb, "load": found.load}


def machine() -> dict[str, str]:
    """What it runs on."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next(
        (line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), ""
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "memory GB": f"{memory:.0f}",
        "processor": model or platform.machine(),
        "Linux": platform.release(),
        "Python": platform.python_version(),
    }


def compare(bench: Bench) -> tuple[list[dict[str, Any]], list[str]]:
    """Products of both programs against the peer's: shares that agree, and in words what does not."""
    sys.path.insert(0, str(HERE.parent / "tests" / "peer"))
    from peerkit.compare import MIN_SHARE, compare_products, explain, header_differences

    rows, differences = [], []
    for theirs in sorted(bench.output("peer").glob("*_rate*.fits")):
        for who in ("warm", "cold"):
            ours = bench.output(who) / theirs.name
            if not ours.exists():
                differences.append(f"{who} made no {theirs.name}")
                continue
            shares = compare_products(ours, theirs)
            kind = theirs.stem.rpartition("_")[2]
            rows.append({"case": bench.case.name, "kind": kind, "who": who, "shares": shares})
            if min(shares.values()) < MIN_SHARE:
                differences.append(f"{who} {theirs.name}: {explain(ours, theirs)}")
            for keyword, (a, b) in header_differences(ours, theirs).items():
                differences.append(f"{who} {theirs.name}: {keyword} is {a!r}, the peer's {b!r}")
    return rows, differences


def peer_version(peer: Path) -> str:
    """The version of jwst in the peer's environment."""
    ask = "from importlib.metadata import version; print(version('jwst'))"
    return subprocess.run([peer, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; what ``--json`` writes."""
    work, peer = options.work.absolute(), options.peer
    peer = peer and peer.absolute()
    programs = [who for who in PROGRAMS if who != "peer" or peer]
    runs: list[dict[str, Any]] = []
    result: dict[str, Any] = {
        "quick": options.quick,
        "repeats": options.repeats,
        "machine": machine(),
        "versions": {name: version(name) for name in LIBRARIES}
        | ({"jwst": peer_version(peer)} if peer else {}),
        "source": "exposures of the kit"
        if peer and exposures.kit_folder() and not options.quick
        else "simulated exposures",
        "titles": {},
        "runs": runs,
        "profile": {},
        "agreement": [],
        "differences": [],
    }
    for name in options.cases.split(","):
        _say(f"{name}: exposure and references")
        case = exposures.prepare(name, work, peer, quick=options.quick)
        result["titles"][name] = case.title
        bench = Bench(case, work, peer)
        try:
            bench.ready()
            for k in range(options.repeats):
                for who in programs:
                    runs.append({**bench.measure(who), "repeat": k})
                    _say(f"{name} {k + 1}/{options.repeats} {who}: {runs[-1]['seconds']:.2f} s")
        finally:
            bench.close()
        told = bench.last
        result["profile"][name] = {"passes": told["passes"], "cpu": told["cpu"], "steps": told["profile"]}
        if peer:
            rows, differences = compare(bench)
            result["agreement"] += rows
            result["differences"] += differences
    result["summary"] = results.summarize(runs)
    result["shortfalls"] = results.shortfalls(result)
    return result


def _say(text: str) -> None:
    print(f"[load {os.getloadavg()[0]:.1f}] {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure, or show what was measured before."""
    parser = argparse.ArgumentParser(description="stage 1 side by side with the observatory's package")
    parser.add_argument(
        "--peer", type=Path, help="Python of the environment with jwst; without it: upramp alone"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", default="full,series", help="full, series or both (default)")
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder for all files (default: {WORK})")
    parser.add_argument("--quick", action="store_true", help="tiny exposures, to try the benchmark itself")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--show", type=Path, metavar="FILE", help="measure nothing; tables of such a file")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument(
        "--fill", type=Path, nargs="+", default=[], metavar="PAGE", help="renew the figures of Markdown pages"
    )
    options = parser.parse_args()
    if options.peer and not options.peer.exists():
        parser.error(f"{options.peer} does not exist; `make peer` installs the observatory's package")
    if wrong := set(options.cases.split(",")) - set(exposures.LABELS):
        parser.error(f"no such case: {', '.join(sorted(wrong))}")
    result = json.loads(options.show.read_text()) if options.show else measure(options)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    for page in options.fill:
        page.write_text(results.fill(page.read_text(), result))
    print(results.report(result, markdown=options.markdown))
    return int(bool(result["differences"]))


if __name__ == "__main__":
    sys.exit(main())
