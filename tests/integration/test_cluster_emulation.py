"""CLUSTER: "support disabled" by default, or a cluster of one node as redis-server shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from support.cluster import Cluster
from support.proxy_process import ProxyProcess, pool
from support.raw import RawClient
from support.servers import RedisServer
from support.store import RedisStore

REQUESTS = (
    "CLUSTER INFO", "CLUSTER NODES", "CLUSTER SLOTS", "CLUSTER SHARDS", "CLUSTER LINKS", "CLUSTER MYID",
    "CLUSTER KEYSLOT a{b}c", "CLUSTER KEYSLOT {}x", "CLUSTER KEYSLOT", "CLUSTER REPLICAS x",
    "CLUSTER SLAVES y", "READONLY", "READWRITE", "ASKING",
)  # fmt: skip


def shape(client: RawClient, request: str, ours: str) -> bytes:
    """The reply, with names and addresses that differ by server put in its place."""
    reply = client.ask(request.encode() + b"\r\n")
    for identity in {client.ask(b"CLUSTER MYID\r\n")[5:-2]}:
        reply = reply.replace(identity, b"0" * 40)
    host, _, port = ours.partition(":")
    bus = b"%d" % (int(port) + 10_000)
    # A lone server does not know its own host.
    reply = reply.replace(b"$9\r\n" + host.encode() + b"\r\n", b"$0\r\n\r\n").replace(
        host.encode() + b":", b":"
    )
    return reply.replace(bus, b"<bus>").replace(port.encode(), b"<port>")


@pytest.mark.parametrize("protocol", [2, 3])
def test_it_looks_like_a_cluster_of_one(
    start_redis: Callable[..., RedisServer],
    start_proxy: Callable[..., ProxyProcess],
    tmp_path: Path,
    protocol: int,
) -> None:
    real = start_redis("--cluster-enabled", "yes", "--dir", str(tmp_path))
    backend = start_redis()
    proxy = start_proxy({"pools": {"p": pool("redis", [backend.address], cluster="emulate")}})
    with RawClient(real.port) as theirs, RawClient(proxy.ports["p"]) as ours:
        assert theirs.ask(b"CLUSTER ADDSLOTSRANGE 0 16383\r\n") == b"+OK\r\n"
        until = time.monotonic() + 20
        while b"cluster_state:ok" not in theirs.ask(b"CLUSTER INFO\r\n"):
            assert time.monotonic() < until
        for client in (theirs, ours):
            client.ask(b"HELLO %d\r\n" % protocol)
        for request in REQUESTS:
            got = shape(ours, request, f"127.0.0.1:{proxy.ports['p']}")
            expected = shape(theirs, request, real.address)
            if protocol == 3 or "NODES" in request:  # lengths differ by the host's
                got, expected = (reply.partition(b"\r\n")[2] or reply for reply in (got, expected))
            assert got == expected, request
        for request in ("CLUSTER NOSUCH", "CLUSTER"):
            assert ours.ask(request.encode() + b"\r\n") == theirs.ask(request.encode() + b"\r\n"), request
        # What it does not take is unknown, not a sign that this is no cluster.
        unknown = b"-ERR unknown subcommand 'COUNTKEYSINSLOT'. Try CLUSTER HELP.\r\n"
        assert ours.ask(b"CLUSTER COUNTKEYSINSLOT 1\r\n") == unknown
        assert ours.ask(b"HELLO %d\r\n" % protocol).count(b"cluster") == 1
        assert b"redis_mode:cluster" in ours.ask(b"INFO server\r\n")


def test_a_cluster_client_works_over_several_shards() -> None:
    with Cluster("redis", shards=3, replicas=2, cluster="emulate", workers=2) as cluster:
        client = redis.RedisCluster("127.0.0.1", cluster.proxy.ports["p"], decode_responses=True)
        assert len(client.get_nodes()) == 1
        names = [f"k{number}" for number in range(100)]
        for name in names:
            client.set(name, name)
        assert [client.get(name) for name in names] == names
        assert client.mget_nonatomic(names) == names
        with client.pipeline() as pipe:
            for name in names:
                pipe.incr(f"n:{name}")
            assert pipe.execute() == [1] * 100
        assert client.delete(*names) == 100
        client.close()
        assert cluster.differences() == {}


def test_it_is_no_cluster_by_default() -> None:
    disabled = b"-ERR This instance has cluster support disabled\r\n"
    with Cluster("redis", replicas=1) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        for request in (
            b"CLUSTER INFO",
            b"CLUSTER SLOTS",
            b"READONLY",
            b"CLUSTER NOSUCH",
            b"CLUSTER MEET h 1",
        ):
            assert client.raw.ask(request + b"\r\n") == disabled
        assert b"cluster_enabled:0" in client.ask("INFO", "cluster")
