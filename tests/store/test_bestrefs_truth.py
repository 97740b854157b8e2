"""Best references under two real contexts equal what the observatory's client says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location(
    "check_bestrefs", Path(__file__).with_name("check_bestrefs.py")
)
assert _spec is not None and _spec.loader is not None
check = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(check)


@pytest.mark.shared
@pytest.mark.parametrize("context", check.CONTEXTS)
def test_every_line(shared, context):
    compared, bad = check.disagreements(shared, context)
    assert compared > 4000
    assert bad == []


@pytest.mark.shared
def test_real_files_are_whole(shared):
    """Every real file passes the look at its structure, and has the checksum that the cache remembers."""
    from upramp.store.references import Best

    crds = check.cache(shared, check.CONTEXTS[0])
    crds.client.start()
    files = sorted(crds.client.references_folder.rglob("*.asdf"))
    assert len(files) > 50
    verified = 0
    for path in files:
        best = Best("distortion", path.name, path)
        if not crds.client.is_bad(path.name):
            assert crds.fetch(best) == path
            assert crds.checksum(best)
            verified += crds.client.expected(path.name) is not None
    assert verified > 20
