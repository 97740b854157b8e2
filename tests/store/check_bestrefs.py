"""Hold best references against a list of answers of the observatory's client.

    python tests/store/check_bestrefs.py [SHARED_FOLDER]

prints one line per disagreement and a summary; exit status 1 if there is any. The list has a
line per header: ``parameters`` and, per context, reference type -> answer.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upramp.store.crds_client import PARAMETERS
from upramp.store.references import Best, Crds, CrdsSettings, open_crds

CONTEXTS = ("jwst_0676.pmap", "jwst_0619.pmap")


def cache(shared: Path, context: str) -> Crds:
    """The cache of 2021, off line."""
    folder = shared / "real" / "crds_cache_2021"
    return open_crds(CrdsSettings(path=str(folder), context=context, offline=True))


def lines(shared: Path) -> list[dict[str, Any]]:
    """The list of answers."""
    found: list[dict[str, Any]] = json.loads((shared / "peer" / "bestrefs_truth.json").read_text())
    return found


def truth(line: Mapping[str, Any], context: str) -> dict[str, Any]:
    """Reference type -> the client's answer; None where the context lacks the type."""
    answers = dict(line[CONTEXTS[0]])
    if context != CONTEXTS[0]:
        answers.update(line[f"{context} differs"])
    return answers


def as_fits(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters by their FITS keywords."""
    return {PARAMETERS[name.upper()]: value for name, value in parameters.items()}


def agrees(best: Best, answer: Any) -> bool:
    """Whether we say the same as the client.

    A list as answer stands for contradictory rules, on which the client breaks off:
    if all of them say N/A, so do we; else the type is not found.
    """
    if isinstance(answer, list):
        if set(answer[1]) == {"N/A"}:
            return best.name is None and best.reason == "N/A"
        return best.name is None and "contradictory" in best.reason
    if answer is None:
        return best.name is None and "has no reference type" in best.reason
    if answer == "NOT FOUND n/a":
        return best.name is None and best.reason == "N/A"
    if answer.startswith("NOT FOUND"):
        return best.name is None and best.reason == answer
    return best.name == answer and best.reason == "" and best.path is not None


def disagreements(shared: Path, context: str) -> tuple[int, list[str]]:
    """The number of answers compared, and a line for each that differs."""
    crds = cache(shared, context)
    compared, bad = 0, []
    for line in lines(shared):
        answers = truth(line, context)
        by_name = [as_fits(line["parameters"])]
        if context == CONTEXTS[0]:
            by_name.append(line["parameters"])
        for header in by_name:
            for reftype, best in crds.best(header, answers).items():
                compared += 1
                if not agrees(best, answers[reftype]):
                    ours = best.name or best.reason
                    bad.append(f"{context} {line['source']} {reftype}: {ours!r}, not {answers[reftype]!r}")
    return compared, bad


def main() -> int:
    """Compare both contexts."""
    shared = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[3] / "shared"
    total, failed = 0, 0
    started = time.perf_counter()
    for context in CONTEXTS:
        compared, bad = disagreements(shared, context)
        print(*bad, sep="\n", end="\n" if bad else "")
        total, failed = total + compared, failed + len(bad)
    print(f"{total} answers compared, {failed} differ, {time.perf_counter() - started:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
