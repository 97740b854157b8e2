"""The peer, its results for all selected cases, and the scenes, each made once per session."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from peerkit.cases import Case
from peerkit.images import ImageCase
from peerkit.peer import Job, Peer, python
from peerkit.rows import Row
from peerkit.scenes import Input, make


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Peer:
    """The peer; results are kept in UPRAMP_PEER_CACHE if that is set, else for the session."""
    interpreter = python()
    if interpreter is None:
        pytest.skip("no virtual environment of the peer: make peer, or set UPRAMP_PEER_PYTHON")
    kept = os.environ.get("UPRAMP_PEER_CACHE")
    return Peer(interpreter, Path(kept) if kept else tmp_path_factory.mktemp("peer"))


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Input]:
    """Scenes by name, on disk."""
    root, made = tmp_path_factory.mktemp("scenes"), {}

    def get(name: str) -> Input:
        if name not in made:
            made[name] = make(name, root)
        return made[name]

    return get


@pytest.fixture(scope="session")
def drawn(
    peer: Peer, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[Row], tuple[Input, Path]]:
    """The exposure of a row and the peer's products for it. All selected rows run together."""
    root, inputs = tmp_path_factory.mktemp("rows"), {}
    selected = {
        row.name: row
        for item in request.session.items
        if isinstance(row := getattr(item, "callspec", None) and item.callspec.params.get("row"), Row)
    }
    for row in selected.values():
        (root / row.name).mkdir()
        inputs[row.name] = row.make(root / row.name)
    jobs = [
        Job(inputs[name], row.at(inputs[name]).steps, pipeline=row.pipeline) for name, row in selected.items()
    ]
    folders = dict(zip(selected, peer.results(jobs), strict=True))
    return lambda row: (inputs[row.name], folders[row.name])


@pytest.fixture(scope="session")
def imaged(
    peer: Peer, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[ImageCase], tuple[Input, Path]]:
    """The rates of an image and the peer's products for them. All selected images run together."""
    root = tmp_path_factory.mktemp("images")
    selected = {
        image.name: image
        for item in request.session.items
        if isinstance(
            image := getattr(item, "callspec", None) and item.callspec.params.get("image"), ImageCase
        )
    }
    inputs = {name: image.make(root / name) for name, image in selected.items()}
    jobs = [Job(inputs[name], image.steps, pipeline="image2") for name, image in selected.items()]
    folders = dict(zip(selected, peer.results(jobs), strict=True))
    return lambda image: (inputs[image.name], folders[image.name])


@pytest.fixture(scope="session")
def truth(
    peer: Peer, scene: Callable[[str], Input], request: pytest.FixtureRequest
) -> Callable[[Case], Path]:
    """The peer's products for a case. All selected cases run together, so that it is imported once."""
    selected = {
        case.name: case
        for item in request.session.items
        if isinstance(case := getattr(item, "callspec", None) and item.callspec.params.get("case"), Case)
    }
    jobs = [Job(scene(case.scene), case.steps) for case in selected.values()]
    folders = dict(zip(selected, peer.results(jobs), strict=True))
    return lambda case: folders[case.name]
