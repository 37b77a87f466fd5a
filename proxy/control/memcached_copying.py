"""How a Memcached is copied: its lines and requests, and what to think of an answer. Values only.

Called by `proxy.tasks.memcached_copying`. The procedure and the rest of why it is right are in
`proxy.control.copying`; here the copy of one key. Must not know sockets, tasks or the clock.

    fetch   value, flags, time to live and CAS token from the leader
    add     to the target, which refuses if anything is there by now: a write that came since, which is newer
    verify  the leader's token again. If it has changed, the write that did it may have reached the target
            before our add did and been overwritten, so the copy is taken back, unless something newer has
            taken its place there (`md` with the token of our own add), and is made again

What the target holds already may be old, or the copy of a proxy that died before it could verify it, or of a
batch that broke off, or have come while not every proxy knew of E+1. It is compared: the target's item first,
then the leader's; a write in between reaches the target later. If they differ, it is taken back by its token
and copied again. All names on the target are gone through for that before the leader's, as of what the leader
does not have any more only the target knows.

An item may be marked: as stale, and as won by a client that is to replace it. ``mg`` shows the marks, and
whoever is the first to see that an item is stale has won it. That is us here; so once the copy is verified
the item is marked anew (`give_back_request`), if it is the same still, and a client that asks in between
sees that somebody else has won. The copy is marked last, again only if it is ours still. What ``mg`` has
made for a client that missed (an empty item that is won) is added by the same means.

Nothing here is done to the target but by the token of an item, or where there is no item. Only an add could
come too late, from a proxy that was stopped between fetching and adding, when the key has been deleted and
the target is in sync again. So nothing is added once the lease on the leader is, by our own clock, close to
its end.

Sources: memcached's doc/protocol.txt (meta commands, lru_crawler metadump); its ``do_store_item`` and
``oldest_live`` for what add sees.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote_to_bytes

from proxy.control.copying import Key
from proxy.control.view import RESERVED_PREFIX

RELATIVE_SECONDS_LIMIT = 60 * 60 * 24 * 30
"""A longer time to live is a moment to memcached."""
META_SINCE = (1, 6)
TTL_SLACK_SECONDS = 2
"""By how much the same moment may differ: whole seconds of two clocks, asked one after the other. What seems
to differ by more, because a server was slow, is only copied again."""


def has_meta(version: bytes) -> bool:
    """True if ``VERSION 1.6.18`` names a server with meta commands."""
    numbers = version.removeprefix(b"VERSION ").split(b".")
    if len(numbers) < 2 or not (numbers[0].isdigit() and numbers[1].isdigit()):
        return False
    return (int(numbers[0]), int(numbers[1])) >= META_SINCE


class Mark(Enum):
    """What of an item is neither value nor flags nor time."""

    NONE = "none"
    TAKEN = "stale, and won by our asking"
    STALE_WON = "stale, and won"
    WON = "won"

    @property
    def is_stale(self) -> bool:
        """Whether clients are told so."""
        return self in (Mark.TAKEN, Mark.STALE_WON)


def read_mark(flags: Sequence[bytes]) -> Mark:
    """What the flags of a reply say."""
    if b"X" in flags:
        return Mark.TAKEN if b"W" in flags else Mark.STALE_WON
    return Mark.WON if b"Z" in flags else Mark.NONE


@dataclass(frozen=True, slots=True)
class Shown:
    """What ``mg`` shows of an item. ``data`` is empty unless it was asked for; ``ttl`` -1 is for ever."""

    token: int
    flags: int = 0
    ttl: int = -1
    data: bytes = b""
    mark: Mark = Mark.NONE

    @property
    def is_placeholder(self) -> bool:
        """Whether it looks like what ``mg N`` makes."""
        return self.mark is Mark.WON and not self.data and self.flags == 0


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
    if item.is_placeholder:
        return b"mg %s N%d c%s\r\n" % (key.word, ttl, key.mark)
    head = b"ms %s %d ME T%d F%d c%s\r\n" % (key.word, len(item.data), ttl, item.flags, key.mark)
    return b"%s%s\r\n" % (head, item.data)


def take_back_request(key: Key, token: int) -> bytes:
    """Removes the item if it is still the one of that token."""
    return b"md %s C%d%s\r\n" % (key.word, token, key.mark)


def is_added(item: Shown, status: bytes, flags: Sequence[bytes]) -> bool | None:
    """Whether the target took it; False if something is there; None if it says neither."""
    if status == b"NS" and not item.is_placeholder:
        return False
    if status != b"HD":
        return None
    return not item.is_placeholder or (b"W" in flags and b"X" not in flags)


def mark_requests(key: Key, mark: Mark, token: int) -> list[bytes]:
    """Marks a copy, if it is the one of that token still."""
    stale = b"md %s I C%d%s\r\n" % (key.word, token, key.mark)
    # Who asks for it wins it; and one that is not stale, if it ends before that moment.
    win = b"mg %s u R2147483647%s\r\n" % (key.word, key.mark)
    return {Mark.NONE: [], Mark.TAKEN: [stale], Mark.STALE_WON: [stale, win], Mark.WON: [win]}[mark]


def give_back_request(key: Key, token: int) -> bytes:
    """Marks an item that our asking has won as stale again, if it is the one of that token still."""
    return b"md %s I C%d%s\r\n" % (key.word, token, key.mark)


def is_worth_copying(item: Shown | None) -> bool:
    """An item with a second left is gone before anybody could read the copy."""
    return item is not None and not 0 <= item.ttl <= 1


def is_changed(fetched: Shown, now: Shown | None) -> bool:
    """True if the leader's item is not the one that was fetched."""
    return now is None or now.token != fetched.token


def is_alike(target: Shown | None, leader: Shown | None) -> bool:
    """True if both hold the same value for as long, or both none."""
    if target is None or leader is None:
        return target is None and leader is None
    if (target.ttl < 0) != (leader.ttl < 0) or abs(target.ttl - leader.ttl) > TTL_SLACK_SECONDS:
        return False
    # Who has won it is not told from our own asking.
    if target.mark.is_stale != leader.mark.is_stale:
        return False
    return (target.data, target.flags) == (leader.data, leader.flags)
