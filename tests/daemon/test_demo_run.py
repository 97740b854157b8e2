"""upramp demo: what may be made anew."""

from __future__ import annotations

from upramp.daemon import demo


def test_only_what_a_demo_made_is_cleared(tmp_path):
    for name in ("in", "products", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    demo._clear(tmp_path)
    assert (tmp_path / "in" / "file").exists(), "no mark, not ours"
    (tmp_path / demo.MARK).touch()
    demo._clear(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [demo.MARK, "mine"]
