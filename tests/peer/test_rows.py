"""Rows of the fidelity table against the observatory's package: those that take little time."""

from __future__ import annotations

import os
from collections import defaultdict
from functools import partial

import pytest
from peerkit import ours
from peerkit.compare import compare_products, explain, header_differences
from peerkit.peer import failure, product
from peerkit.rows import rows
from peerkit.scenes import Scene

pytestmark = pytest.mark.peer

SELECTED = [row for row in rows() if not row.long or os.environ.get("UPRAMP_PEER") == "all"]


@pytest.mark.parametrize("row", SELECTED, ids=lambda row: row.name)
def test_products_agree(row, drawn, tmp_path):
    source, expected = drawn(row)
    row = row.at(source)
    assert not failure(expected)
    done = ours.run(source, tmp_path, row.assignments)
    assert done.returncode == 0, done.stdout + done.stderr
    alike = True
    for suffix in row.products:
        made, wanted = ours.product(tmp_path, suffix), product(expected, suffix)
        shares = compare_products(made, wanted)
        alike &= min(shares.values()) >= row.level
        assert alike or row.differs, f"{suffix} {shares}\n{explain(made, wanted)}"
        assert set(header_differences(made, wanted)) <= row.headers
    assert alike != bool(row.differs), "the known difference is gone: say so in docs/fidelity.md"


def test_no_context_is_shared_by_detectors():
    """The peer's process remembers contexts by their names, and so by the serials of rows."""
    seen = defaultdict(set)
    for row in rows():
        assert isinstance(row.make, partial)
        words = [*row.make.args, *row.make.keywords.values()]
        [serial] = (word for word in words if isinstance(word, int))
        seen[serial] |= {
            (w.observation.detector, w.observation.subarray) for w in words if isinstance(w, Scene)
        }
    assert not {serial: places for serial, places in seen.items() if len(places) > 1}
