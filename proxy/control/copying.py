"""How a Memcached that missed writes is brought back: copied key by key while writes go on. Values only.

Called by `proxy.tasks.copying`, which asks the servers and does what is said here. Must not know sockets,
tasks or the clock.

    stale ──► EMPTYING ──► JOINING ──► SETTLING ──► COPYING ──► in sync
              flush_all    view E+1    a lease      key by key  view E+2

Memcached cannot list or cut the connections of other proxies, and has no transactions. What is leant on:

 1. Under a view that lists the target as joining each write goes to the leader, and once the leader has
    answered its outcome goes to the target (`worker/behind.rs`); only then is the client answered. If the
    target fails, it is out of the view before that.
 2. A proxy writes only while the leader has shown the record of its view within a lease, so one that has
    not heard of E+1 stops by itself (`worker/renew.rs`). SETTLING waits for that, and for the request
    timeout, after which no answer to an older write counts any more.

So every write that the leader carries out from then on reaches the target, after the leader. COPYING takes
the names of all keys there are, and for each:

    fetch   value, flags, time to live and CAS token from the leader
    add     to the target, which refuses if anything is there by now: a write that came since, which is newer
    verify  the leader's token again. If it has changed, the write that did it may have reached the target
            before our add did and been overwritten, so the copy is taken back, unless something newer has
            taken its place there (`md` with the token of our own add), and is made again

If a write is carried out by the leader at t1 and by the target at t2 > t1, and the key is fetched at f,
added at a > f and verified at v > a: if a < t2, the write comes last on the target. If a > t2, then v > t1,
so either f > t1 and the copy has the write, or the token has changed and the copy is taken back. The model
in ``tests/model`` tries every order.

What the target holds already, when it refuses the add, may also be the copy of a proxy that died before it
could verify it. It is compared: the target's item first, then the leader's; a write in between reaches the
target later. If they differ, it is taken back by its token and copied again.

The target is emptied first if it holds anything, as what was deleted meanwhile would stay. A flush cannot be
made conditional: the lease on the leader and the target's own record are looked at right before it, and one
that comes too late all the same removes the target's record, by which every proxy sees that it was flushed.
A proxy that takes over from one that died goes on without emptying it.

Sources: memcached's doc/protocol.txt (meta commands, lru_crawler metadump); its ``do_store_item`` and
``oldest_live`` for what add and flush_all see.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from proxy.control.model import WRITE_LEASE_SECONDS
from proxy.control.view import RESERVED_PREFIX

BATCHES_PER_SECOND = 10
"""At least, where the rate is limited."""
BATCH_KEYS, BATCH_BYTES = 400, 512 * 1024
"""Keys and bytes that are on their way at once: a few milliseconds of a server's time, and of our own."""
RELATIVE_SECONDS_LIMIT = 60 * 60 * 24 * 30
"""A longer time to live is a moment to memcached."""
PASSES_LIMIT = 50
"""Keys that changed while they were copied are copied again. Each write to one of them reaches the target by
itself, so the number falls quickly; if it does not, something is wrong."""
META_SINCE = (1, 6)
SETTLE_SLACK_SECONDS = 0.1


def settle_seconds(request_timeout: float) -> float:
    """How long after the joining view is recorded the copy may begin (2 above)."""
    return WRITE_LEASE_SECONDS + request_timeout + SETTLE_SLACK_SECONDS


def has_meta(version: bytes) -> bool:
    """True if ``VERSION 1.6.18`` names a server with meta commands."""
    numbers = version.removeprefix(b"VERSION ").split(b".")
    if len(numbers) < 2 or not (numbers[0].isdigit() and numbers[1].isdigit()):
        return False
    return (int(numbers[0]), int(numbers[1])) >= META_SINCE


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it stands in a request: ``word``, base64 if ``is_binary``; ``size`` of the item in bytes."""

    word: bytes
    size: int
    is_binary: bool = False

    @property
    def mark(self) -> bytes:
        """What a request says behind the word."""
        return b" b" if self.is_binary else b""


@dataclass(frozen=True, slots=True)
class Shown:
    """What ``mg`` shows of an item. ``data`` is empty unless it was asked for; ``ttl`` -1 is for ever."""

    token: int
    flags: int = 0
    ttl: int = -1
    data: bytes = b""


def read_dump_line(line: bytes) -> Key | None:
    """The key of ``key=a%20b exp=-1 la=... size=70``; None if the line is another one."""
    if not line.startswith(b"key="):
        return None
    word, _, rest = line[4:].partition(b" ")
    size = rest.rpartition(b"size=")[2].partition(b" ")[0]
    number = int(size) if size.isdigit() else 0
    if b"%" not in word:
        return Key(word, number)
    key = unquote_to_bytes(word)
    if any(byte <= 0x20 or byte == 0x7F for byte in key):
        return Key(base64.b64encode(key), number, is_binary=True)
    return Key(key, number)


def is_reserved(key: Key) -> bool:
    """True for keys of our own, which are not data."""
    return key.word.startswith(RESERVED_PREFIX.encode()) and not key.is_binary


class KeyList:
    """Keys in little memory: about their length and ten bytes each. Read once, from the front."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._lines = bytearray()
        self.count = 0
        self.size = 0
        for key in keys:
            self.append(key)

    def append(self, key: Key) -> None:
        """Puts a key behind the others."""
        self._lines += b"%s %d%s\n" % (key.word, key.size, key.mark)
        self.count += 1
        self.size += key.size

    def batches(self, size_limit: int = BATCH_BYTES) -> Iterator[list[Key]]:
        """All keys, in groups of at most `BATCH_KEYS` and, but for a single one, ``size_limit`` bytes."""
        start, size = 0, 0
        batch: list[Key] = []
        while start < len(self._lines):
            end = self._lines.index(b"\n", start)
            words = bytes(self._lines[start:end]).split(b" ")
            start = end + 1
            key = Key(words[0], int(words[1]), len(words) == 3)
            if batch and (len(batch) == BATCH_KEYS or size + key.size > size_limit):
                yield batch
                batch, size = [], 0
            batch.append(key)
            size += key.size
        if batch:
            yield batch


def fetch_request(keys: Sequence[Key]) -> bytes:
    """Asks for everything; the item's place in the LRU is left alone."""
    return b"".join(b"mg %s v f t c u%s\r\n" % (key.word, key.mark) for key in keys)


def token_request(keys: Sequence[Key]) -> bytes:
    """Asks for the token only."""
    return b"".join(b"mg %s c u%s\r\n" % (key.word, key.mark) for key in keys)


def add_request(key: Key, item: Shown, now: int) -> bytes:
    """Adds the item, and asks for its token. ``now`` by the target's clock, in seconds since 1970."""
    ttl = 0 if item.ttl < 0 else item.ttl
    if ttl > RELATIVE_SECONDS_LIMIT:
        ttl += now
    head = b"ms %s %d ME T%d F%d c%s\r\n" % (key.word, len(item.data), ttl, item.flags, key.mark)
    return b"%s%s\r\n" % (head, item.data)


def take_back_request(key: Key, token: int) -> bytes:
    """Removes the item if it is still the one of that token."""
    return b"md %s C%d%s\r\n" % (key.word, token, key.mark)


def is_worth_copying(item: Shown | None) -> bool:
    """An item with a second left is gone before anybody could read the copy."""
    return item is not None and not 0 <= item.ttl <= 1


def is_changed(fetched: Shown, now: Shown | None) -> bool:
    """True if the leader's item is not the one that was fetched."""
    return now is None or now.token != fetched.token


def is_alike(target: Shown | None, leader: Shown | None) -> bool:
    """True if both hold the same value, or both none."""
    if target is None or leader is None:
        return target is None and leader is None
    return (target.data, target.flags) == (leader.data, leader.flags)


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
