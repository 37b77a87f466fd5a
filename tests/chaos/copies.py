"""All that a backend holds, as values that compare: every type, every flag, every expiry.

Called by `chaos.run` once everything has come to rest. Reads each type with its own commands, not by
DUMP, whose bytes differ where values are equal.
"""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import unquote_to_bytes

from support.servers import Server
from support.store import RESERVED, MemcachedStore, RedisStore, command, contents, parse

HYPERLOGLOG = b"HYLL"
CACHED_COUNT = slice(8, 16)
"""Of a HyperLogLog: what PFCOUNT counted last, on the server it was asked on."""
REDIS_EXPIRY_MS = 1000
"""A relative expiry reaches each server at a moment of its own."""
MEMCACHED_EXPIRY_SECONDS = 3
"""And memcached counts in whole seconds of its own clock."""


def copy_of(protocol: str, server: Server, slack: float = 0.0) -> dict[bytes, Any]:
    """By key, everything but the proxy's own records.

    Args:
        slack: seconds by which expiries may differ besides, where clocks have jumped.
    """
    return redis_copy(server, slack) if protocol == "redis" else memcached_copy(server, slack)


def redis_copy(server: Server, slack: float = 0.0) -> dict[bytes, Any]:
    """Type, value and expiry in unix milliseconds (-1 for none) of each key."""
    found = contents(server)
    with RedisStore(server.port) as store:
        store.raw.send(b"".join(command("PEXPIRETIME", key) for key in found))
        for key, (kind, value) in found.items():
            expires = parse(store.raw.read_reply())
            if kind == b"string" and value.startswith(HYPERLOGLOG):
                value = value[: CACHED_COUNT.start] + value[CACHED_COUNT.stop :]
            found[key] = kind, value, Moment(expires, REDIS_EXPIRY_MS + int(slack * 1000))
    return found


def memcached_copy(server: Server, slack: float = 0.0) -> dict[bytes, Any]:
    """Value, flags, whether it is stale, and expiry in unix seconds (-1 for none) of each key.

    Who has won an item is left out: where it is marked as stale at the moment when somebody wins it, replicas
    know only when it is won again.
    """
    expiries = {}
    with MemcachedStore(server.port) as store:
        store.raw.send(b"lru_crawler metadump hash\r\n")
        # Its lines end with a mere LF, so this is the whole listing. A walk of the LRU (`all`) misses items.
        lines = store.raw.read_until(b"END\r\n").splitlines()
        for line in (each for each in lines if each.startswith(b"key=")):
            fields = dict(part.partition(b"=")[::2] for part in line.split())
            expiries[unquote_to_bytes(fields[b"key"])] = int(fields[b"exp"])
        found = {}
        for key, expires in expiries.items():
            if key.startswith(RESERVED):
                continue
            store.raw.send(b"mg %b v f b\r\n" % base64.b64encode(key))
            status, *words = store.raw.read_line().split()
            if status == b"VA":
                value = store.raw.read_exactly(int(words[0]) + 2)[:-2]
                moment = Moment(expires, MEMCACHED_EXPIRY_SECONDS + int(slack))
                found[key] = value, words[1], b"X" in words, moment
    return found


class Moment:
    """A time that equals those near it.

    Args:
        at: -1 for never.
        tolerance: in the unit of ``at``.
    """

    def __init__(self, at: int, tolerance: int) -> None:
        self.at = at
        self.tolerance = tolerance

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Moment) or (self.at < 0) != (other.at < 0):
            return False
        return abs(self.at - other.at) <= self.tolerance

    __hash__ = None  # type: ignore[assignment]  # equality is not transitive

    def __repr__(self) -> str:
        return f"at {self.at}" if self.at >= 0 else "never"
