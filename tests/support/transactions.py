"""What tests of transactions have in common: requests by lines, replies by elements, layouts."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from support.cluster import Cluster
from support.raw import RawClient
from support.store import RedisStore, command

NULL = {2: b"*-1\r\n", 3: b"_\r\n"}
ABORTED = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
CROSSSLOT = b"-CROSSSLOT Keys in request don't hash to the same slot\r\n"
LAYOUTS = [(1, 1, 1), (1, 2, 2), (3, 2, 1), (3, 2, 3)]
"""Shards, replicas per shard, workers."""
LOSSES = [(1, 0), (2, 0), (2, 1)]
"""Workers, and which backend is lost: the first one leads."""


def send(client: RawClient, *lines: str) -> None:
    """Sends requests, one per line of words."""
    client.send(b"".join(command(*line.split()) for line in lines))


def ask(client: RawClient, *lines: str) -> list[bytes]:
    """The replies to requests that are sent at once."""
    send(client, *lines)
    return [client.read_reply() for _ in lines]


def elements(reply: bytes) -> list[bytes]:
    """The elements of an array, as bytes."""
    end = reply.index(b"\r\n") + 2
    assert reply[:1] == b"*", reply
    found = []
    for _ in range(int(reply[1 : end - 2])):
        start, end = end, value_end(reply, end)
        found.append(reply[start:end])
    assert end == len(reply)
    return found


def value_end(reply: bytes, at: int) -> int:
    """Where the value that begins at ``at`` ends."""
    line_end = reply.index(b"\r\n", at)
    kind, rest, end = reply[at : at + 1], reply[at + 1 : line_end], line_end + 2
    if kind in b"$=" and rest != b"-1":
        return end + int(rest) + 2
    for _ in range({b"*": 1, b"~": 1, b"%": 2}.get(kind, 0) * max(0, int(rest) if kind in b"*~%" else 0)):
        end = value_end(reply, end)
    return end


@contextmanager
def clients(cluster: Cluster, count: int) -> Iterator[list[RawClient]]:
    """So many connections to the proxy."""
    with ExitStack() as stack:
        yield [stack.enter_context(RawClient(cluster.proxy.redis_port, timeout=20)) for _ in range(count)]


def connections(server: Any) -> int:
    """How many connections a server has had."""
    with RedisStore(server.port) as store:
        lines = store.ask("INFO", "stats").split(b"\r\n")
        found = dict(line.split(b":", 1) for line in lines if b":" in line)
        return int(found[b"total_connections_received"])


def assert_replicas_equal(cluster: Cluster) -> None:
    """And none of them was given up for it."""
    assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}, "a healthy replica was given up"
    assert cluster.differences() == {}
