"""What tests of the copy of Redis key by key have in common: servers that refuse REPLICAOF."""

from __future__ import annotations

from typing import Any

from support.cluster import Cluster
from support.servers import Server
from support.store import RESERVED, RedisStore, command, connect, contents

A, B = 0, 1
MANAGED = ("--rename-command", "REPLICAOF", "")
AUTO = {"auto": True}
SLOW = {"auto": True, "rate": "100KiB"}
"""So that there is a middle to break something in."""


def managed(**options: Any) -> Cluster:
    """A cluster whose servers are copied, as managed ones must be: they have no REPLICAOF."""
    return Cluster("redis", arguments=MANAGED, **options)


def fill(client: RedisStore, count: int, size: int = 5) -> None:
    """Sets so many keys to values of so many bytes."""
    requests = [command("SET", f"fill{number}", f"{number % 10}" * size) for number in range(count)]
    for start in range(0, count, 500):
        batch = requests[start : start + 500]
        client.raw.send(b"".join(batch))
        for _ in batch:
            assert client.raw.read_reply() == b"+OK\r\n"


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
