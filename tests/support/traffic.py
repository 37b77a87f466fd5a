"""Writers and readers that run while a test breaks something, and keep account of what they were told.

Each key has one writer, which writes 1, 2, 3, ... as soon as it was answered; so any value read tells
which write it came from. Called by integration tests; knows nothing of what is broken meanwhile.
"""

import itertools
import random
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from support.eventually import eventually
from support.store import Refused, Store

Connect = Callable[[], Store]


class Traffic:
    """Threads that write and read until the ``with`` block ends.

    Args:
        connect: makes a connection to the proxy.
        writers, readers: threads of each kind, one connection each.
        keys: keys per writer.
        forgets: the shards are a cache that may lose what it holds: errors and misses are allowed then,
            and only an older value is not.

    Attributes:
        acknowledged: by key, the highest value whose write was acknowledged.
        failed_writes: texts of writes that were answered with an error.
        violations: what must not happen, in words: a failed read, a read older than an acknowledged
            write, a connection that the proxy closed.
    """

    def __init__(
        self, connect: Connect, *, writers: int = 2, readers: int = 2, keys: int = 8, forgets: bool = False
    ) -> None:
        self._forgets = forgets
        self._connect = connect
        self._own = [[b"traffic:%d:%d" % (writer, key) for key in range(keys)] for writer in range(writers)]
        self.acknowledged: dict[bytes, int] = {key: 0 for own in self._own for key in own}
        self.failed_writes: list[str] = []
        self.violations: list[str] = []
        self.writes = 0
        self.reads = 0
        self._acknowledged_at: list[list[float]] = [[] for _ in self._own]
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._guard, args=(self._write, i)) for i in range(writers)]
        self._threads += [threading.Thread(target=self._guard, args=(self._read, i)) for i in range(readers)]

    def __enter__(self) -> Self:
        with self._connect() as client:  # so that every read has something to find
            for key in self.acknowledged:
                client.set(key, b"0")
        for thread in self._threads:
            thread.start()
        self.flow()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def flow(self, count: int = 200) -> None:
        """Returns once so many more writes were acknowledged and so many more reads answered."""
        writes, reads = self.writes + count, self.reads + count
        eventually(
            lambda: self.writes >= writes and self.reads >= reads,
            within=20,
            what=f"{count} more of each; failed {self.failed_writes[:3]}, violated {self.violations[:3]}",
        )

    def stop(self) -> None:
        """Ends all threads; each finishes what it has begun."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def longest_pause(self) -> float:
        """Seconds between two acknowledgements of one writer, the longest; call it after `stop`."""
        return max(
            (
                after - before
                for times in self._acknowledged_at
                for before, after in itertools.pairwise(times)
            ),
            default=0.0,
        )

    def lost(self, client: Store) -> list[str]:
        """Acknowledged writes that cannot be read from there, in words. Call it after `stop`."""
        missing = []
        for key, value in self.acknowledged.items():
            found = client.get(key)
            if found is None or int(found) < value:
                missing.append(f"{key!r}: {value} was acknowledged, found {found!r}")
        return missing

    def _guard(self, run: Callable[[Store, int], None], number: int) -> None:
        try:
            with self._connect() as client:
                run(client, number)
        except Exception as exception:
            self.violations.append(f"{run.__name__} {number} ended: {exception!r}")

    def _write(self, client: Store, number: int) -> None:
        value = 0
        while not self._stopping.is_set():
            value += 1
            for key in self._own[number]:
                try:
                    client.set(key, b"%d" % value)
                except Refused as refused:
                    self.failed_writes.append(str(refused))
                else:
                    self.acknowledged[key] = value
                    self._acknowledged_at[number].append(time.monotonic())
                    self.writes += 1

    def _read(self, client: Store, number: int) -> None:
        choice = random.Random(number)
        keys = list(self.acknowledged)
        while not self._stopping.is_set():
            key = choice.choice(keys)
            least = self.acknowledged[key]
            try:
                found = client.get(key)
            except Refused as refused:
                if not self._forgets:
                    self.violations.append(f"read of {key!r} failed: {refused}")
                continue
            is_missing = found is None and not self._forgets
            if is_missing or (found is not None and int(found) < least):
                self.violations.append(f"{key!r}: {least} was acknowledged, then {found!r} was read")
            self.reads += 1
