"""Medians, ratios of medians, and what falls short."""

from __future__ import annotations

import pytest


def run(who, seconds, *, case="full", wall=None, peak_mb=500.0):
    return {
        "case": case,
        "who": who,
        "seconds": seconds,
        "wall": wall or seconds,
        "cpu": 1.0,
        "peak_mb": peak_mb,
        "load": 0.5,
    }


@pytest.fixture
def result():
    import results

    runs = [run("peer", s, wall=s + 4) for s in (20.0, 30.0, 22.0)]
    runs += [run("warm", s) for s in (1.0, 9.0, 2.0)] + [run("cold", 2.0, peak_mb=1200.0)]
    runs += [run("floor", 0.0)]
    made = {"summary": results.summarize(runs), "quick": False, "titles": {"full": "full frame"}}
    made |= {"machine": {"cores": "2"}, "versions": {"upramp": "1"}, "source": "simulated", "repeats": 3}
    made["profile"] = {"full": {"passes": 2, "cpu": 1.5, "steps": {"read": [0.2, 0.1], "jump": [0.5, 0.4]}}}
    shares = {"SCI": 1.0, "DQ": 0.9999}
    made["agreement"] = [
        {"case": "full", "kind": "rate", "who": who, "shares": shares | {"SCI": share}}
        for who, share in (("warm", 1.0), ("cold", 0.9998))
    ]
    made["differences"] = []
    made["shortfalls"] = results.shortfalls(made)
    return made


def test_ratios_are_of_medians(result):
    facts = result["summary"]["full"]
    assert facts["peer"]["process_s"] == 26
    assert facts["warm"]["seconds"] == 2
    assert facts["warm"]["faster"] == 11
    assert facts["warm"]["faster_than_process"] == 13
    assert "faster" not in facts["floor"]


def test_shortfalls(result):
    import results

    assert result["shortfalls"] == [
        "full, warm: 11.0 times faster, asked are 12",
        "full, cold: 1200 MB, allowed are 1000",
    ]
    assert results.shortfalls(result | {"quick": True}) == []


@pytest.mark.parametrize("markdown", [False, True])
def test_report(result, markdown):
    import results

    text = results.report(result, markdown=markdown)
    assert "2.00 (1.00-9.00)" in text and "2 passes" in text and "0.999800" in text
    assert ("| exposure |" in text) is markdown
    # seconds of steps and all else make up the whole
    assert "1.000" in text.split("all else")[1].splitlines()[0]


def test_pages_get_new_figures(result):
    import results

    mark = "<!-- figures: benchmarks/stage1.py -->"
    page = f"before\n{mark}\nstale\n<!-- end of figures -->\nafter\n"
    filled = results.fill(page, result)
    assert filled.startswith(f"before\n{mark}\n|  | full frame |\n")
    assert filled.endswith("\n<!-- end of figures -->\nafter\n")
    assert "| upramp, warm process, s | 2.00 (11 times faster) |" in filled and "stale" not in filled
    assert results.fill(filled, result) == filled
