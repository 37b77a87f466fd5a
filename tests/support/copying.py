"""What tests of the copies key by key have in common: how such clusters are started, filled and compared.

A Redis is copied so where it refuses REPLICAOF, a Memcached always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from support.cluster import Cluster
from support.proxy_process import ProxyProcess
from support.refill import wait_back, wait_phase
from support.servers import Server
from support.store import RESERVED, MemcachedStore, RedisStore, Store, command, connect, contents

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


@contextmanager
def outlived(
    copied: Copied, replica: int, count: int
) -> Iterator[tuple[Cluster, ProxyProcess, ProxyProcess]]:
    """The proxy that copied ``count`` keys to a replica until it was stopped, and one that has brought the
    replica back since and deleted all of them. The first goes on now."""
    with copied.start(reads="spread", resync=SLOW) as cluster:
        proxies = [cluster.proxy, cluster.start_proxy()]
        with cluster.connect() as client:
            fill(client, count)
        cluster.servers[0][replica].kill9()
        cluster.servers[0][replica].restart()
        worker = wait_phase(cluster, "copying", *proxies)
        survivor = next(each for each in proxies if each is not worker)
        worker.stop()
        wait_back(cluster, replica, survivor)
        with connect(copied.protocol, survivor.ports["p"]) as client:
            for number in range(count):
                if isinstance(client, RedisStore):
                    assert client.ask("DEL", f"fill{number}") == 1
                elif isinstance(client, MemcachedStore):
                    assert client.ask(b"delete fill%d" % number) == b"DELETED"
        worker.cont()
        yield cluster, worker, survivor


MEMCACHED = Copied("memcached", partial(Cluster, "memcached"), _assert_same)
REDIS = Copied("redis", managed, assert_equal)
