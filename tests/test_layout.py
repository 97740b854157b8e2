"""Who may import whom, and whether what the steps declare hangs together."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import typing
from pathlib import Path
from typing import Any

import pytest

from upramp.daemon.parameters import convert
from upramp.stages.pipelines import GUIDER, PIPELINES

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("stages", "store", "simulate", "daemon")
"""A room may import from itself and from those to its left."""

STEPS = [pytest.param(step, id=f"{p.name}-{step.name}") for p in PIPELINES for step in p.steps]


def modules(room: str) -> list[Path]:
    return [path for path in sorted((ROOT / room).rglob("*.py")) if "__pycache__" not in path.parts]


def imported(path: Path) -> list[tuple[int, str]]:
    """Line and module of every import in a file, wherever it stands."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found.append((node.lineno, module))
            if module == "upramp":
                found += [(node.lineno, f"upramp.{alias.name}") for alias in node.names]
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room):
    allowed = ROOMS[: ROOMS.index(room) + 1]
    wrong = []
    for path in modules(room):
        for line, module in imported(path):
            top, _, rest = module.partition(".")
            bare = top in ROOMS
            upwards = top == "upramp" and rest and rest.split(".")[0] not in allowed
            if bare or upwards or module.startswith("."):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    assert not wrong


def test_stages_open_no_files():
    """Arrays and facts in, arrays out: no module of theirs can read or write anything.

    Tables are what the libraries that match stars take; they are made of arrays.
    """
    banned = {"os", "io", "pathlib", "shutil", "tempfile", "mmap", "astropy", "asdf", "crds", "pyarrow"}
    harmless = tuple(
        f"astropy.{name}" for name in ("convolution", "coordinates", "modeling", "stats", "table", "units")
    )
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in modules("stages")
        for line, module in imported(path)
        if module.partition(".")[0] in banned and not module.startswith(harmless)
    ]
    assert not wrong


def test_only_one_module_imports_numba():
    """All kernels are compiled the same way."""
    users = [
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in modules(room)
        if any(module.partition(".")[0] == "numba" for _, module in imported(path))
    ]
    assert users == ["stages/core/kernel.py"]


@pytest.mark.parametrize("step", STEPS)
def test_references_can_be_prepared(step):
    loaded = set(getattr(step, "loads", ()))
    assert set(step.prepare) | loaded == set(step.references)
    assert not set(step.prepare) & loaded
    assert set(step.optional) <= set(step.references)
    assert len(set(step.references)) == len(step.references)


@pytest.mark.parametrize("step", STEPS)
def test_parameters_are_a_frozen_record_whose_defaults_have_their_types(step):
    assert dataclasses.is_dataclass(step.params)
    defaults = step.params()
    with pytest.raises(dataclasses.FrozenInstanceError):
        defaults.skip = True
    first, *_ = dataclasses.fields(step.params)
    assert first.name == "skip"
    hints = typing.get_type_hints(step.params)
    for name, value in dataclasses.asdict(defaults).items():
        same = convert(value, hints[name])
        assert same == value and type(same) is type(value), name


@pytest.mark.parametrize("step", STEPS)
def test_names_belong_together(step):
    called = {"bkg_subtract": "background"}.get(step.name, step.name)  # CRDS goes by the peer's class
    assert step.pars == f"pars-{called.replace('_', '')}step"
    home = step.params.__module__.rpartition(".")[2]
    assert home == step.name, "a step stands in the file of its name"
    does = next(getattr(step, name) for name in ("bind", "apply", "run", "make") if hasattr(step, name))
    assert does.__module__ == step.params.__module__


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda p: p.name)
def test_state_keywords_are_known_and_told_apart(pipeline):
    keywords = [step.keyword for step in pipeline.steps]
    assert len(set(keywords)) == len(keywords)
    known = json.loads((ROOT / "store" / "keywords.json").read_text())
    text = json.dumps(known)
    for keyword in keywords:
        assert re.fullmatch(r"S_[A-Z0-9]{2,6}", keyword)
        assert f'"{keyword}"' in text, keyword


def table(text: str) -> dict[str, tuple[list[str], dict[str, Any]]]:
    """Reference types and default parameters by step, from the page of the observatory's package."""
    steps: dict[str, tuple[list[str], dict[str, Any]]] = {}
    name = None
    for line in text.partition("## Steps")[2].splitlines():
        if heading := re.match(r"### ([\w-]+) \(\w+\)", line):
            name = heading[1]
            steps[name] = ([], {})
        elif name and line.startswith("reference types:"):
            steps[name][0].extend(re.findall(r"[\w-]+", line.partition(":")[2]))
        elif name and (
            row := re.match(r"- `(\w+)`: `\w+\(.*\bdefault ?= ?(.*?)(?:, ?(?:min|max)=.*)?\),?`", line)
        ):
            word = row[2]
            steps[name][1][row[1]] = (
                {"true": True, "false": False}[word.lower()]
                if word.lower() in ("true", "false")
                else ast.literal_eval(word)
            )
    return steps


@pytest.mark.shared
@pytest.mark.parametrize("step", STEPS)
def test_parameters_are_those_of_the_observatory(step, shared):
    page = shared / "peer" / "jwst-3.0.0-parameters.md"
    if not page.is_file():
        pytest.skip(f"no file {page}")
    _, expected = table(page.read_text())[step.name]
    expected = {"skip": False, **expected}
    own = dataclasses.asdict(step.params())
    assert own == {name: expected.get(name) for name in own}
    if step not in GUIDER.steps:  # whose dq_init and flat_field can do less than their namesakes
        assert own.keys() == expected.keys()
