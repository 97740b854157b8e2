"""upramp demo: what may be made anew."""

from __future__ import annotations

import pytest

from upramp.daemon import demo
from upramp.stages.core.errors import Misconfigured


def test_only_what_a_demo_made_is_cleared(tmp_path):
    for name in ("in", "products", "mine"):
        (tmp_path / name).mkdir()
    with pytest.raises(Misconfigured, match="not empty"):
        demo._clear(tmp_path)
    (tmp_path / demo.MARK).touch()
    demo._clear(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [demo.MARK, "mine"]
    demo._clear(tmp_path / "new")
    assert (tmp_path / "new" / demo.MARK).exists()
