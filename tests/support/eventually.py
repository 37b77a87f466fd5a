"""Waiting for something to become true, without sleeping for a time that is too short or too long.

Called by tests and by the rest of `support`. Knows nothing about servers.
"""

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.01
"""Short beside any wait, long enough that polling costs a loaded machine nothing."""

PATIENCE = float(os.environ.get("SHARDPROXY_TEST_PATIENCE", "1"))
"""Multiplies every limit, for machines much slower than a developer's (valgrind, emulators)."""


def eventually(condition: Callable[[], T], *, within: float = 5.0, what: str = "") -> T:
    """Calls ``condition`` until it returns something true, and returns that.

    Args:
        condition: called repeatedly. An exception counts as "not yet", except `BaseException`\\ s that
            are no `Exception`, such as those of `pytest.fail`, which end the wait at once.
        within: seconds, multiplied by ``SHARDPROXY_TEST_PATIENCE``.
        what: what is waited for, for the message.

    Raises:
        AssertionError: the time is over; the message has the elapsed time and the last value or exception.
    """
    start = time.monotonic()
    limit = within * PATIENCE
    while True:
        failure: Exception | None = None
        try:
            value = condition()
        except Exception as exception:
            failure = exception
        else:
            if value:
                return value
        elapsed = time.monotonic() - start
        if elapsed >= limit:
            last = f"raised {failure!r}" if failure else f"last value {value!r}"
            name = what or getattr(condition, "__name__", repr(condition))
            raise AssertionError(f"not within {elapsed:.2f} s: {name}; {last}") from failure
        time.sleep(POLL_SECONDS)
