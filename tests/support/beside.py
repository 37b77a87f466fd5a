"""Something that goes on in a thread while a test does something else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Has ``work`` done while the block lasts, at whose end the event is set and ``work`` has to return.

    Raises:
        BaseException: what ``work`` raised, unless the block raised something itself.
    """
    is_over = threading.Event()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work(is_over)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    if raised:
        raise raised[0]
