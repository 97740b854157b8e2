"""Products written beside the work on what comes next.

Writing waits for the disk, and drawing the picture beside a product keeps one core busy, so one thread does
both while the others calibrate. No more than one product waits for it, so that memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from upramp.store.products import Published


class Aside:
    """A thread that writes products, one after the other, in the order in which they are given.

    Use it in a ``with`` statement: leaving that waits for what has begun.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="aside")
        self._asked: list[Future[Published]] = []

    def put(self, write: Callable[[], Published]) -> None:
        """Have a product written, as soon as the one before is.

        Raises
        ------
        Exception
            What writing the one before raised.
        """
        if self._asked:
            self._asked[-1].result()
        self._asked.append(self._pool.submit(write))

    def published(self) -> list[Published]:
        """All products, once they are there; raises what writing them raised."""
        return [one.result() for one in self._asked]

    def __enter__(self) -> Aside:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
