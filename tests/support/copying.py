"""What tests of the copies key by key have in common: how such clusters are started, filled and compared.

A Redis is copied so where it refuses REPLICAOF, a Memcached always.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from support.cluster import Cluster
from support.servers import Server
from support.store import RESERVED, RedisStore, Store, command, connect, contents

A, B = 0, 1
MANAGED = ("--rename-command", "REPLICAOF", "")
AUTO = {"auto": True}
SLOW = {"auto": True, "rate": "100KiB"}
"""So that there is a middle to break something in."""


def managed(**options: Any) -> Cluster:
    """A cluster whose servers are copied, as managed ones must be: they have no REPLICAOF."""
    return Cluster("redis", arguments=MANAGED, **options)


def fill(client: Store, count: int, size: int = 5) -> None:
    """Sets so many keys to values of so many bytes; in Memcached with flags of their own."""
    for start in range(0, count, 500):
        numbers = range(start, min(start + 500, count))
        requests = [_set_request(client, number, b"%d" % (number % 10) * size) for number in numbers]
        client.raw.send(b"".join(requests))
        for _ in numbers:
            reply = client.raw.read_line()
            assert reply == (b"+OK\r\n" if isinstance(client, RedisStore) else b"STORED\r\n")


def _set_request(client: Store, number: int, value: bytes) -> bytes:
    if isinstance(client, RedisStore):
        return command("SET", f"fill{number}", value)
    return b"set fill%d %d 0 %d\r\n%b\r\n" % (number, number, len(value), value)


def expiries(server: Server) -> dict[bytes, int]:
    """When each key of a server expires, in ms since 1970; the proxy's own left out."""
    with connect("redis", server.port) as direct:
        assert isinstance(direct, RedisStore)
        keys = [key for key in direct.ask("KEYS", "*") if not key.startswith(RESERVED)]
        return {key: direct.ask("PEXPIRETIME", key) for key in keys}


def assert_equal(cluster: Cluster) -> None:
    """All servers of each shard hold the same, and for as long."""
    for row in cluster.servers:
        first, *others = [(contents(server), expiries(server)) for server in row]
        for other in others:
            for ours, theirs in zip(first, other, strict=True):
                assert {key: each for key, each in ours.items() if theirs.get(key) != each} == {}
                assert ours.keys() == theirs.keys()


def _assert_same(cluster: Cluster) -> None:
    assert cluster.differences() == {}


@dataclass(frozen=True)
class Copied:
    """A protocol whose servers are copied key by key.

    Args:
        start: makes a cluster of such servers.
        assert_same: that they hold the same.
    """

    protocol: str
    start: Callable[..., Cluster]
    assert_same: Callable[[Cluster], None]


MEMCACHED = Copied("memcached", partial(Cluster, "memcached"), _assert_same)
REDIS = Copied("redis", managed, assert_equal)
