"""How a backend that missed writes is brought back by a copy while writes go on. Values only.

Called by `proxy.tasks.copying`, which asks the servers and does what is said here. What differs by protocol
is in `proxy.control.memcached_copying` and `proxy.control.redis_copying`. Must not know sockets, tasks or
the clock.

    stale ──► PREPARING ──► JOINING ──► SETTLING ──► COPYING ──► in sync
              the record    view E+1    a lease      key by key  view E+2

For servers that cannot list and cut the connections of other proxies, or are not allowed to copy from each
other. What is leant on:

 1. Under a view that lists the target as joining each write goes to the leader, and once the leader has
    answered its outcome goes to the target (`worker/behind.rs`); only then is the client answered. If the
    target fails, it is out of the view before that.
 2. A proxy writes only while the leader has shown the record of its view within a lease, so one that has
    not heard of E+1 stops by itself (`worker/renew.rs`). SETTLING waits for that, and for the request
    timeout, after which no answer to an older write counts any more.

So every write that the leader carries out from then on reaches the target, after the leader. COPYING takes
the names of all keys there are, and for each:

    fetch   what the leader has
    add     to the target, if nothing is there by now: a write that came since is newer
    verify  that the leader has the same still. If not, the write that did it may have reached the target
            before our add did and been overwritten, so the copy is taken back and made again

If a write is carried out by the leader at t1 and by the target at t2 > t1, and the key is fetched at f,
added at a > f and verified at v > a: if a < t2, the write comes last on the target. If a > t2, then v > t1,
so either f > t1 and the copy has the write, or the leader has something else and the copy is taken back.
The model in ``tests/model`` tries every order.

What the target holds already would stay if it was deleted meanwhile, so it is compared: the names on the
target first, then the leader's. It may also be what a proxy that has died copied and never verified. A Redis
is emptied before that, by a transaction that its record is a condition of. A Memcached is not: it has no such
thing, and a flush that came late, from a proxy that was stopped or by a slow network, would empty a backend
that is in sync again.

Not covered, here as ever (P7): writes of two proxies to one key at the same moment may reach the target in
another order than the leader.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from proxy.control.model import WRITE_LEASE_SECONDS

BATCHES_PER_SECOND = 10
"""At least, where the rate is limited."""
BATCH_KEYS, BATCH_BYTES = 400, 512 * 1024
"""Keys and bytes that are on their way at once: a few milliseconds of a server's time, and of our own."""
PASSES_LIMIT = 50
"""Keys that changed while they were copied are copied again. Each write to one of them reaches the target by
itself, so the number falls quickly; if it does not, something is wrong."""
SETTLE_SLACK_SECONDS = 0.1


def settle_seconds(request_timeout: float) -> float:
    """How long after the joining view is recorded the copy may begin (2 above)."""
    return WRITE_LEASE_SECONDS + request_timeout + SETTLE_SLACK_SECONDS


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it stands in a request: ``word``, base64 if ``is_binary`` (Memcached only);
    ``size`` in bytes of what is under it, an estimate; ``database`` of Redis."""

    word: bytes
    size: int
    is_binary: bool = False
    database: int = 0

    @property
    def place(self) -> tuple[int, bytes]:
        """What no other key of the server has."""
        return self.database, self.word

    @property
    def mark(self) -> bytes:
        """What a request says behind the word."""
        return b" b" if self.is_binary else b""


class KeyList:
    """Keys in little memory: about their length and a dozen bytes each. Read once, from the front."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._lines = bytearray()
        self.count = 0
        self.size = 0
        for key in keys:
            self.append(key)

    def append(self, key: Key) -> None:
        """Puts a key behind the others."""
        self._lines += b"%d %d %d%s\n%s" % (
            len(key.word),
            key.size,
            key.database,
            key.mark,
            key.word,
        )
        self.count += 1
        self.size += key.size

    def batches(self, size_limit: int = BATCH_BYTES) -> Iterator[list[Key]]:
        """All keys, in groups of at most `BATCH_KEYS` and, but for a single one, ``size_limit`` bytes."""
        start, size = 0, 0
        batch: list[Key] = []
        while start < len(self._lines):
            end = self._lines.index(b"\n", start) + 1
            length, key_size, database, *mark = bytes(self._lines[start:end]).split()
            start = end + int(length)
            key = Key(bytes(self._lines[end:start]), int(key_size), bool(mark), int(database))
            if batch and (len(batch) == BATCH_KEYS or size + key.size > size_limit):
                yield batch
                batch, size = [], 0
            batch.append(key)
            size += key.size
        if batch:
            yield batch


class Pace:
    """Keeps a stream of bytes under ``rate`` bytes per second; 0 is no limit."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._free_at = 0.0

    @property
    def batch_bytes(self) -> int:
        """As much at once as keeps a low rate from becoming a few large bursts."""
        return min(BATCH_BYTES, max(1, self._rate // BATCHES_PER_SECOND)) if self._rate else BATCH_BYTES

    def delay(self, size: int, now: float) -> float:
        """Seconds to wait before ``size`` bytes more are asked for."""
        if not self._rate:
            return 0.0
        begin = max(now, self._free_at)
        self._free_at = begin + size / self._rate
        return begin - now
