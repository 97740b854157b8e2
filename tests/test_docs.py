"""The pages tell the truth where a program can tell: links, commands, parameters, cases."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from upramp.daemon.cli import parser
from upramp.daemon.vocabulary import EVENTS
from upramp.stages.pipelines import GUIDER, IMAGE2, IMAGE3, PIPELINES
from upramp.store.associations import read_association

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
STAGE1 = {
    step.name: step
    for pipeline in PIPELINES
    if pipeline not in (GUIDER, IMAGE2, IMAGE3)
    for step in pipeline.steps
}
STAGE3 = [step for name, step in {step.name: step for step in IMAGE3.steps}.items() if name != "resample"]
"""Those that have their own page; resample is that of the second stage."""

PUBLIC = {
    "jwst-crds.stsci.edu",
    "jwst-serverless-mode.stsci.edu",
    "keepachangelog.com",
    "semver.org",
}
"""Hosts that the repository may name."""


def prose(text: str) -> str:
    """A page without its code blocks and without code in lines."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(text: str) -> set[str]:
    """What links to a page's headings end with."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    page = ROOT / name
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text())):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there.read_text())):
            lost.append(target)
    assert not lost


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text()
    missing = [
        p.name for p in (ROOT / "docs").glob("*.md") if p.name != "index.md" and f"({p.name})" not in index
    ]
    assert not missing


@pytest.mark.parametrize("name", NAMES)
def test_commands_exist(name):
    """Every ``upramp ...`` and ``make ...`` in code, with its options."""
    commands = next(a for a in parser()._actions if a.dest == "command" or a.metavar == "COMMAND").choices
    text = (ROOT / name).read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = "\n".join(
        re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL) + re.findall(r"`[^`\n]+`", text)
    )
    wrong = []
    for line in re.findall(r"(?:^|[`$/] ?)upramp ([a-z]+\b[^`\n#|]*)", code, re.MULTILINE):
        word, *rest = line.split()
        if word not in commands:
            wrong.append(f"upramp {word}")
            continue
        known = {option for action in commands[word]._actions for option in action.option_strings}
        wrong += [
            f"upramp {word} {option}"
            for option in rest
            if re.match(r"--[a-z]", option) and option not in known
        ]
    wrong += [
        f"make {t}" for t in re.findall(r"(?:^|[`] ?)make ([a-z]+)", code, re.MULTILINE) if t not in targets
    ]
    assert not wrong


def tables(text: str) -> dict[str, dict[str, str]]:
    """Of a page of steps: heading -> parameter -> default, from the tables of parameters."""
    found: dict[str, dict[str, str]] = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif row := re.match(r"\| `(\w+)` \| `(.*?)` \|", line):
            found.setdefault(heading, {})[row[1]] = row[2]
    return found


def test_parameters_of_steps_are_those_of_the_code():
    found = tables((ROOT / "docs" / "steps.md").read_text())
    steps = dict(STAGE1)
    for step in GUIDER.steps:
        steps[f"guider: {step.name}" if step.name in steps else step.name] = step
    expected = {
        name: {f.name: repr(f.default) for f in dataclasses.fields(step.params)}
        for name, step in steps.items()
    }
    assert found == expected


def test_parameters_of_the_second_stage_are_those_of_the_code():
    pages = [tables((ROOT / "docs" / name).read_text()) for name in ("stage2.md", "wcs.md")]
    found = pages[0] | {"assign_wcs": pages[1]["In FITS headers"]}
    assert found == {
        step.name: {f.name: repr(f.default) for f in dataclasses.fields(step.params)} for step in IMAGE2.steps
    }


def test_parameters_of_the_third_stage_are_those_of_the_code():
    assert tables((ROOT / "docs" / "stage3.md").read_text()) == {
        step.name: {f.name: repr(f.default) for f in dataclasses.fields(step.params)} for step in STAGE3
    }


@pytest.mark.parametrize(
    ("page", "step"),
    [("steps.md", step) for step in STAGE1.values()]
    + [("stage2.md", step) for step in IMAGE2.steps if step.name != "assign_wcs"]
    + [("stage3.md", step) for step in STAGE3],
    ids=lambda value: getattr(value, "name", ""),
)
def test_every_step_tells_its_keyword_and_references(page, step):
    text = (ROOT / "docs" / page).read_text()
    sections = dict(re.findall(r"^#+ (.*?)\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL))
    section = sections[step.name]
    assert step.keyword in section
    types = set(step.references) - {field.name for field in dataclasses.fields(step.params)}
    told = re.search(r"References: (.*?)Header\s+keyword", section, re.DOTALL)
    assert told is not None
    assert all(re.search(rf"\b{reftype}\b", told[1]) for reftype in types)


def test_cases_are_those_of_the_comparison():
    code = "import json, sys; sys.path.insert(0, sys.argv[1]); from peerkit.cases import CASES; " \
        "print(json.dumps([[c.name, c.long] for c in CASES]))"  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "tests" / "peer")], capture_output=True, text=True, check=True
    )
    section = (ROOT / "docs" / "fidelity.md").read_text().partition("\n## Cases")[2].partition("\n## ")[0]
    told = {
        name: bool(star)
        for cell in re.findall(r"^\| ([*`].*?) \|", section, re.MULTILINE)
        for star, name in re.findall(r"(\*?)`(\w+)`", cell)
    }
    assert told == dict(json.loads(done.stdout))


def test_events_that_pages_speak_of_are_in_the_vocabulary():
    for name in NAMES:
        for event in re.findall(r'"event": "(\w+)"|select\(\.event == "(\w+)"\)', (ROOT / name).read_text()):
            assert "".join(event) in EVENTS, name


def written() -> list[Path]:
    """Text of the repository."""
    endings = {".md", ".py", ".toml", ".cff", ".service", ".yml", ".yaml", ".cfg", ".txt", ""}
    done = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False
    )
    names = done.stdout.split("\0") if done.returncode == 0 else NAMES
    return [ROOT / n for n in names if n and Path(n).suffix in endings and (ROOT / n).is_file()]


def test_nothing_tells_of_this_machine():
    """No folder of the machine it was written on, no host but those that everybody can reach."""
    own = {str(p) for p in (ROOT, Path(sys.prefix).resolve()) if len(p.parts) > 2}
    wrong = []
    for path in written():
        text = path.read_text(errors="replace")
        name = path.relative_to(ROOT).as_posix()
        wrong += [f"{name}: {folder}" for folder in own if folder in text]
        wrong += [f"{name}: {folder}" for folder in re.findall(r"(?<![\w.])/(?:tmp|work|root)/\w+", text)]
        for host in re.findall(r"https?://([\w.-]+\w)", text):
            if host not in PUBLIC | {"localhost"} and not host.endswith((".invalid", ".example")):
                wrong.append(f"{name}: {host}")
    assert not wrong


def test_the_association_by_hand_is_one(tmp_path):
    [text] = re.findall(r"^```json\n(.*?)^```", (ROOT / "docs/associations.md").read_text(), re.M | re.S)
    (tmp_path / "x_asn.json").write_text(text)
    found = read_association(tmp_path / "x_asn.json")
    assert (found.asn_type, found.asn_id, len(found.members)) == ("image3", "mine", 2)
