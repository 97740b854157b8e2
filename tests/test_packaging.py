"""What is installed is what stands in the tree."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("daemon", "simulate", "stages", "store")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

DISTRIBUTIONS = {
    "PIL": "pillow",
    "skimage": "scikit-image",
    "spherical_geometry": "spherical-geometry",
    "yaml": "pyyaml",
}
"""Import names that are not those of the distribution."""


def in_rooms(pattern: str) -> list[Path]:
    found = (path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob(pattern))
    return sorted(path for path in found if "__pycache__" not in path.parts)


def test_listed_packages_are_those_of_the_tree():
    """A package that is not listed imports from the tree, yet is missing from the wheel."""
    listed = PROJECT["tool"]["setuptools"]["packages"]
    there = [".".join(("upramp", *path.parent.parts)) for path in in_rooms("__init__.py")]
    assert sorted(listed) == sorted(there)
    with_modules = {".".join(("upramp", *path.parent.parts)) for path in in_rooms("*.py")}
    assert with_modules == set(listed)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> list[str]:
    """Names in a wheel that was built from a copy of the tree."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]):
        shutil.copy(ROOT / name, copy)
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__", "*.nb?"))
    try:
        major = int(version("setuptools").partition(".")[0])
    except (ImportError, ValueError):
        major = 0
    if major < 77:
        pytest.skip(f"setuptools {major} cannot build this project; pip install 'setuptools>=77'")
    build = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=copy, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (path,) = (copy / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_a_wheel_holds_every_file(wheel):
    there = [
        path for path in in_rooms("*") if (ROOT / path).is_file() and path.suffix not in (".nbi", ".nbc")
    ]
    expected = {f"upramp/{path.as_posix()}" for path in there}
    assert expected == {name for name in wheel if name.startswith("upramp/")}


def test_a_wheel_brings_nothing_else_but_its_metadata(wheel):
    tops = {name.partition("/")[0] for name in wheel}
    assert tops == {"upramp", f"upramp-{PROJECT['project']['version']}.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_one_version_everywhere():
    expected = PROJECT["project"]["version"]
    assert version("upramp") == expected, "install again: make test"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == expected
    assert citation["license"] == PROJECT["project"]["license"]
    newest = re.search(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None and newest[1] == expected


def test_dependencies_are_what_is_imported():
    names = {re.match(r"[\w-]+", entry)[0] for entry in PROJECT["project"]["dependencies"]}
    used = set()
    for path in in_rooms("*.py"):
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.Import):
                used |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                used.add(node.module.partition(".")[0])
    used = {DISTRIBUTIONS.get(name, name) for name in used - set(sys.stdlib_module_names) - {"upramp"}}
    assert used == names
