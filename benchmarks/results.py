"""What was measured, as tables: medians, ratios of medians, where the time goes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

WHO = {
    "floor": "floor: read every count, write as many bytes",
    "peer": "jwst, import apart",
    "warm": "upramp, warm process",
    "cold": "upramp run, cold process",
}
LEAST = {("full", "warm"): 12, ("full", "cold"): 5, ("series", "warm"): 20, ("series", "cold"): 14}
"""How many times faster than the peer without its import it must be, at full size."""

MOST_MB = 1000.0
"""Peak resident memory that it may take, MB."""

Run = Mapping[str, Any]
Rows = Sequence[Sequence[str]]


def summarize(runs: Iterable[Run]) -> dict[str, dict[str, dict[str, float]]]:
    """Case -> who -> medians, extremes, the largest peak, and ratios of medians to the peer's."""
    found: dict[str, dict[str, list[Run]]] = {}
    for one in runs:
        found.setdefault(one["case"], {}).setdefault(one["who"], []).append(one)
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for case, by_who in found.items():
        summary[case] = {}
        for who, group in by_who.items():
            seconds = [one["seconds"] for one in group]
            summary[case][who] = {
                "repeats": len(group),
                "seconds": median(seconds),
                "least": min(seconds),
                "most": max(seconds),
                "process_s": median(one["wall"] for one in group),
                "cpu_s": median(one["cpu"] for one in group),
                "peak_mb": max(one["peak_mb"] for one in group),
                "load": max(one["load"] for one in group),
            }
        peer = summary[case].get("peer")
        if peer:
            for facts in summary[case].values():
                if not facts["seconds"]:  # the floor of a tiny exposure, told with two decimals
                    continue
                facts["faster"] = peer["seconds"] / facts["seconds"]
                facts["faster_than_process"] = peer["process_s"] / facts["seconds"]
    return summary


def shortfalls(result: Mapping[str, Any]) -> list[str]:
    """Where speed or memory fall short of what is asked, in words; nothing is asked of small sizes."""
    if result["quick"]:
        return []
    found = []
    for case, by_who in result["summary"].items():
        for who in ("warm", "cold"):
            facts = by_who.get(who)
            if facts is None:
                continue
            least = LEAST[case, who]
            if facts.get("faster", least) < least:
                found.append(f"{case}, {who}: {facts['faster']:.1f} times faster, asked are {least}")
            if facts["peak_mb"] > MOST_MB:
                found.append(f"{case}, {who}: {facts['peak_mb']:.0f} MB, allowed are {MOST_MB:.0f}")
    return found


def speed_table(result: Mapping[str, Any]) -> Rows:
    """Seconds, memory and ratios; the first row names the columns."""
    rows = [
        [
            "exposure",
            "program",
            "seconds (least-most)",
            "CPU s",
            "peak MB",
            "times faster",
            "than the whole process of jwst",
            "asked",
            "load",
        ]
    ]
    for case, by_who in result["summary"].items():
        for who, label in WHO.items():
            if who not in by_who:
                continue
            f = by_who[who]
            least = LEAST.get((case, who))
            ratio = "faster" in f and who != "peer"
            rows.append(
                [
                    result["titles"][case],
                    label,
                    f"{f['seconds']:.2f} ({f['least']:.2f}-{f['most']:.2f})",
                    "" if who == "floor" else f"{f['cpu_s']:.2f}",
                    f"{f['peak_mb']:.0f}",
                    f"{f['faster']:.1f}" if ratio else "",
                    f"{f['faster_than_process']:.1f}" if ratio else "",
                    f"{least}" if least and not result["quick"] else "",
                    f"{f['load']:.1f}",
                ]
            )
            if who == "peer":
                rows.append(
                    [result["titles"][case], "jwst, whole process", f"{f['process_s']:.2f}", *[""] * 6]
                )
    return rows


def profile_table(result: Mapping[str, Any]) -> Rows:
    """Where the warm process spends its time: wall and CPU seconds by step, summed over threads."""
    rows = [["exposure", "step", "wall s", "CPU s"]]
    for case, facts in result["profile"].items():
        title = f"{result['titles'][case]}, {facts['passes']} passes"
        rows += [[title, name, f"{wall:.3f}", f"{cpu:.3f}"] for name, (wall, cpu) in facts["steps"].items()]
        inside = sum(cpu for _, cpu in facts["steps"].values())
        rest = facts["cpu"] - inside
        rows.append([title, "all else (checksum, headers, references, ledger)", "", f"{rest:.3f}"])
    return rows


def agreement_table(result: Mapping[str, Any]) -> Rows:
    """Share of the pixels that agree with the peer's, by product and extension: the smaller of both runs."""
    names = list(dict.fromkeys(name for one in result["agreement"] for name in one["shares"]))
    least: dict[tuple[str, str], dict[str, float]] = {}
    for one in result["agreement"]:
        shares = least.setdefault((result["titles"][one["case"]], one["kind"]), {})
        for name, share in one["shares"].items():
            shares[name] = min(share, shares.get(name, 1.0))
    rows = [["exposure", "product", *names]]
    return [
        *rows,
        *(
            [*key, *(f"{shares[n]:.6f}" if n in shares else "" for n in names)]
            for key, shares in least.items()
        ),
    ]


def short_table(result: Mapping[str, Any]) -> Rows:
    """The few figures of the README: programs down, exposures across."""
    cases = list(result["summary"])
    rows = [["", *(result["titles"][case] for case in cases)]]
    for who, label in (("peer", "jwst"), ("warm", "upramp, warm process"), ("cold", "upramp, cold process")):
        found = [result["summary"][case].get(who) for case in cases]
        if not all(found):
            continue
        seconds = [
            f"{f['seconds']:.2f}" + ("" if who == "peer" else f" ({f.get('faster', 0):.0f} times faster)")
            for f in found
        ]
        rows.append([f"{label}, s", *seconds])
        rows.append([f"{label}, peak memory, GB", *(f"{f['peak_mb'] / 1000:.2f}" for f in found)])
    return rows


def fill(page: str, result: Mapping[str, Any]) -> str:
    """A Markdown page with new figures between its marks: the short table, or all tables."""
    page = between(page, "figures", "stage1.py", as_text(short_table(result), markdown=True))
    return between(page, "tables", "stage1.py", report(result, markdown=True))


def between(page: str, kind: str, program: str, text: str) -> str:
    """A page with other text between two marks; unchanged if it has none."""
    marks = rf"(<!-- {kind}: benchmarks/{program} -->\n).*?(\n<!-- end of {kind} -->)"
    return re.sub(marks, lambda found: found[1] + text + found[2], page, flags=re.DOTALL)


def as_text(rows: Rows, *, markdown: bool = False) -> str:
    """A table with aligned columns, or for a Markdown page; repeated first cells are left out."""
    shown = [list(rows[0])]
    for before, row in itertools.pairwise(rows):
        shown.append([*([""] if row[0] == before[0] else [row[0]]), *row[1:]])
    if markdown:
        lines = ["| " + " | ".join(row) + " |" for row in shown]
        return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
    widths = [max(len(row[k]) for row in shown) for k in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in shown]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def report(result: Mapping[str, Any], *, markdown: bool = False) -> str:
    """All tables, and on which machine."""
    machine = ", ".join(f"{name} {value}" for name, value in result["machine"].items())
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    tried = "Tiny exposures: figures to try the benchmark, not to quote.\n\n" if result["quick"] else ""
    parts = [
        f"{tried}{machine}; {versions}; {result['source']}; {result['repeats']} repeats in rotation, medians",
        as_text(speed_table(result), markdown=markdown),
        as_text(profile_table(result), markdown=markdown),
    ]
    if result["agreement"]:
        parts.append(as_text(agreement_table(result), markdown=markdown))
    parts += result["differences"] + result["shortfalls"]
    return "\n\n".join(parts)
