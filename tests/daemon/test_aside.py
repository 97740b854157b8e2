"""Products written beside the work: in order, one waiting at most, and what goes wrong is told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from upramp.daemon.aside import Aside
from upramp.store.products import Published


def product(name):
    return Published(Path(name), "crf", 1)


def test_in_order_and_never_two_at_a_time():
    begun, going = [], threading.Event()

    def first():
        begun.append("first")
        going.wait(10)
        return product("first")

    def second():
        begun.append("second")
        return product("second")

    with Aside() as aside:
        aside.put(first)
        waiting = threading.Thread(target=aside.put, args=(second,))
        waiting.start()
        assert "second" not in begun
        going.set()
        waiting.join()
        assert [one.path.name for one in aside.published()] == ["first", "second"]
    assert begun == ["first", "second"]


def test_what_goes_wrong_is_told_by_the_next_and_at_the_end():
    def full():
        raise OSError("disk full")

    with Aside() as aside:
        aside.put(full)
        with pytest.raises(OSError, match="disk full"):
            aside.put(lambda: product("next"))
        with pytest.raises(OSError, match="disk full"):
            aside.published()


def test_nothing_to_write():
    with Aside() as aside:
        assert aside.published() == []
