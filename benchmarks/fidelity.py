"""Every instrument and option of stage 1 beside the observatory's package: agreement, action, passes, speed.

    python benchmarks/fidelity.py --peer .venv-peer/bin/python [--only irs2] [--repeats 3]

For each row of ``tests/peer/peerkit/rows_*.py`` a synthetic exposure is drawn with a CRDS cache of its own.
The package calibrates it (all rows in one process, one after the other; the import is not counted); a warm
process of upramp calibrates it with the same parameters, some times, and once more with the step left out, to
tell on how many pixels the step acted. Products are compared by the criteria of docs/fidelity.md.

Exit status 1 if a row does not agree as it should, or its step changed nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from astropy.io import fits
from children import Warm, settle
from results import as_text, between

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "peer"))

from peerkit.compare import compare_products, explain, header_differences
from peerkit.peer import Job, Peer, failure, product, seconds
from peerkit.rows import Row, rows
from peerkit.scenes import Input

WORK = Path("/var/tmp/upramp-fidelity")
LEAST, MEDIAN = 4.0, 15.0
"""How many times faster than the peer every row must be, and half of them."""


def changed(made: Path, idle: Path, suffix: str) -> float:
    """Share of a product's pixels whose value or flags differ between two folders of products.

    All of them, if the product is only in the first.
    """
    if not list(idle.rglob(f"*_{suffix}.fits")):
        return 1.0
    with fits.open(_one(made, suffix)) as a, fits.open(_one(idle, suffix)) as b:
        if a["SCI"].shape != b["SCI"].shape:
            return 1.0
        one, two = a["SCI"].data, b["SCI"].data
        other = ~((one == two) | (np.isnan(one) & np.isnan(two)))
        for name in ("DQ", "GROUPDQ", "VAR_POISSON"):
            if name in a and name in b and a[name].shape == other.shape:
                flags, before = a[name].data, b[name].data
                other |= ~((flags == before) | ((flags != flags) & (before != before)))
        return float(other.mean())


def _one(folder: Path, suffix: str) -> Path:
    [found] = folder.rglob(f"*_{suffix}.fits")
    return found


class Measure:
    """Takes rows, one after the other.

    Parameters
    ----------
    work : Path
        Where exposures, products, logs and upramp's cache go.
    peer : Peer
    repeats : int
        Warm runs of which the median counts.
    """

    def __init__(self, work: Path, peer: Peer, repeats: int) -> None:
        self.work, self.peer, self.repeats = work, peer, repeats

    def row(self, row: Row, source: Input, truth: Path) -> dict[str, Any]:
        """What is found on one row; ``truth`` is the folder of the peer's products."""
        found: dict[str, Any] = {"name": row.name, "what": row.what, "step": row.step, "level": row.level}
        if trouble := failure(truth):
            return found | {"error": f"the peer: {trouble.strip().splitlines()[-1]}"}
        folder = self.work / "ours" / row.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        config = folder / "config.toml"
        config.write_text('[run]\nuntil = "stage1"\n')
        environment = dict(source.environment) | {"UPRAMP_CACHE": str(self.work / "cache")}
        try:
            with Warm(environment, config, folder / "log.txt") as warm:
                runs = [
                    warm.calibrate(source.uncal, folder / "made", row.assignments)
                    for _ in range(1 + self.repeats)
                ]
                warm.calibrate(source.uncal, folder / "idle", row.idle_assignments)
        except RuntimeError as error:
            return found | {"error": str(error)}
        shares, words = {}, []
        for suffix in row.products:
            made, wanted = _one(folder / "made", suffix), product(truth, suffix)
            own = compare_products(made, wanted)
            shares |= {f"{suffix} {name}": share for name, share in own.items()}
            if min(own.values()) < 1:
                words.append(f"{suffix}: {explain(made, wanted)}")
            differ = header_differences(made, wanted)
            words += [
                f"{suffix}: {k} is {a!r}, not {b!r}" for k, (a, b) in differ.items() if k not in row.headers
            ]
        worst = min(shares, key=shares.__getitem__)
        ours, theirs = median(run["seconds"] for run in runs[1:]), seconds(truth)
        best = runs[-1]
        acted = max(changed(folder / "made", folder / "idle", suffix) for suffix in row.products)
        for name in ("made", "idle"):
            shutil.rmtree(folder / name)
        return found | {
            "shares": shares,
            "share": shares[worst],
            "worst": worst,
            "words": words,
            "changed": acted,
            "passes": best["passes"],
            "peer_s": theirs,
            "ours_s": ours,
            "faster": theirs / ours,
            "profile": best["profile"],
            "differs": row.differs,
        }


def draw(chosen: Sequence[Row], folder: Path) -> list[Input]:
    """The rows' exposures, drawn side by side; rows that are drawn in the same way share one."""
    shutil.rmtree(folder, ignore_errors=True)
    first: dict[str, Row] = {}
    for row in chosen:
        first.setdefault(_recipe(row), row)
    for row in first.values():
        (folder / row.name).mkdir(parents=True)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        names = [row.name for row in first.values()]
        drawn = pool.map(_make, names, [folder / name for name in names])
        inputs = dict(zip(first, drawn, strict=True))
    return [inputs[_recipe(row)] for row in chosen]


def _recipe(row: Row) -> str:
    """What an exposure is drawn from, as text."""
    return repr(row.make) if isinstance(row.make, partial) else row.name


def _make(name: str, folder: Path) -> Input:
    """Draw a row, by name, since what draws it may not travel between processes."""
    return next(row for row in rows() if row.name == name).make(folder)


def agreement_table(found: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """For the page of fidelity; the first row names the columns."""
    table = [["row", "exposure and option", "step", "acts on", "agree", "least in", "passes"]]
    for one in found:
        if "error" in one:
            table.append([one["name"], one["what"], one["step"], "", "", one["error"], ""])
            continue
        table.append(
            [
                f"`{one['name']}`",
                one["what"] + (f" — differs: {one['differs']}" if one["differs"] else ""),
                one["step"],
                f"{one['changed']:.2%}",
                f"{one['share']:.6f}",
                one["worst"] if one["share"] < 1 else "",
                str(one["passes"]),
            ]
        )
    return table


def speed_table(found: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """For the page of performance: seconds, ratio, and the steps that take most."""
    table = [["row", "jwst, s", "upramp, warm, s", "times faster", "most CPU seconds in"]]
    for one in found:
        if "error" in one:
            continue
        steps = sorted(one["profile"].items(), key=lambda item: -item[1][1])[:3]
        table.append(
            [
                f"`{one['name']}`",
                f"{one['peer_s']:.2f}",
                f"{one['ours_s']:.2f}",
                f"{one['faster']:.1f}",
                ", ".join(f"{name} {cpu:.2f}" for name, (_, cpu) in steps),
            ]
        )
    return table


def summary(found: Sequence[Mapping[str, Any]]) -> str:
    """One sentence of all rows."""
    good = [one for one in found if "error" not in one]
    if not good:
        return "no row could be compared"
    ratios = [one["faster"] for one in good]
    agreeing = sum(one["share"] >= one["level"] for one in good)
    return (
        f"{agreeing} of {len(found)} rows agree; times faster: least {min(ratios):.1f}, median "
        f"{median(ratios):.1f} (asked: {LEAST:g}, {MEDIAN:g})"
    )


def problems(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """What should not be, in words."""
    words = []
    for one in found:
        name = one["name"]
        if "error" in one:
            words.append(f"{name}: {one['error']}")
            continue
        if one["share"] < one["level"] and not one["differs"]:
            words.append(f"{name}: {one['share']:.6f} of {one['worst']} agree, asked are {one['level']}")
        if one["share"] >= one["level"] and one["differs"]:
            words.append(f"{name}: the known difference is gone; say so in docs/fidelity.md")
        if not one["changed"]:
            words.append(f"{name}: {one['step']} changes no pixel")
    return words


def measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Draw the rows, run both packages, compare; each row is told, and kept, as soon as it is done."""
    work = options.work.absolute()
    chosen = [row for row in rows() if re.search(options.only, row.name)]
    peer = Peer(options.peer.absolute(), work / "peer")
    measure = Measure(work, peer, options.repeats)
    inputs = draw(chosen, work / "rows")
    chosen = [row.at(source) for row, source in zip(chosen, inputs, strict=True)]
    jobs = [Job(source, row.steps, pipeline=row.pipeline) for row, source in zip(chosen, inputs, strict=True)]
    if options.again:
        for job in jobs:
            shutil.rmtree(peer.folder / job.key(peer.version), ignore_errors=True)
    settle()
    truths = peer.results(jobs, processes=1)
    found = []
    for row, source, truth in zip(chosen, inputs, truths, strict=True):
        one = measure.row(row, source, truth)
        found.append(one)
        print(
            row.name, one.get("error") or f"{one['share']:.6f} {one['changed']:.2%} {one['faster']:.1f} times"
        )
        for words in one.get("words", []):
            print("  ", words.replace("\n", "\n   "))
        sys.stdout.flush()
        if options.json:
            options.json.write_text(json.dumps(found, indent=1))
    return found


def gathered(files: Iterable[Path]) -> list[dict[str, Any]]:
    """The rows of earlier runs, in the order of the table; of a row that was measured twice the later one."""
    kept = {one["name"]: one for file in files for one in json.loads(file.read_text())}
    return [kept[row.name] for row in rows() if row.name in kept]


def main() -> int:
    """Draw, run, compare, print."""
    parser = argparse.ArgumentParser(description="agreement and speed of every option of stage 1")
    parser.add_argument("--peer", type=Path, required=True, help="Python of the peer's environment")
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder for all files (default: {WORK})")
    parser.add_argument("--only", default="", metavar="PATTERN", help="rows whose name matches")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="run the peer anew, where its products are kept")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured, row by row")
    parser.add_argument(
        "--show",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="measure nothing: the rows of earlier --json files",
    )
    parser.add_argument(
        "--fill", type=Path, nargs="+", default=[], metavar="PAGE", help="renew the tables of pages"
    )
    options = parser.parse_args()
    found = gathered(options.show) if options.show else measured(options)
    for table in (agreement_table(found), speed_table(found)):
        print("\n" + as_text(table))
    print("\n" + summary(found))
    for page in options.fill:
        text = page.read_text()
        tables = {"rows": agreement_table(found), "speeds": speed_table(found)}
        for kind, table in tables.items():
            shown = as_text(table, markdown=True) + "\n\n" + summary(found)
            text = between(text, kind, "fidelity.py", shown)
        page.write_text(text)
    words = problems(found)
    print("\n".join(words))
    return int(bool(words))


if __name__ == "__main__":
    sys.exit(main())
