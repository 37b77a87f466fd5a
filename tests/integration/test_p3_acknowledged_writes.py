"""Promise P3: a write is acknowledged only after every in-sync replica of its shard has applied it."""

import time

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.store import PROTOCOLS, MemcachedStore, RedisStore, Store, connect

pytestmark = pytest.mark.parametrize("protocol", PROTOCOLS)

SLOW_SECONDS = 0.15
"""What a slow replica adds; far below the request timeout, far above an answer's way."""


def write(client: Store, number: int) -> bytes:
    """A write of a kind that depends on ``number``; returns the key that must hold something now."""
    key = b"w%d" % number
    kind = number % 3
    if isinstance(client, RedisStore):
        if kind == 0:
            client.set(key, b"v")
        elif kind == 1:
            assert client.ask("SET", key, "v", "NX") == b"OK"
        else:
            assert client.ask("EVAL", "return redis.call('SET', KEYS[1], 'v')", 1, key) == b"OK"
    else:
        assert isinstance(client, MemcachedStore)
        verb = [b"set", b"add", b"add"][kind]
        assert client.ask(b"%b %b 0 0 1\r\nv" % (verb, key)) == b"STORED"
    return key


@pytest.mark.parametrize("workers", [1, 2])
def test_at_the_acknowledgement_every_replica_has_it(protocol: str, workers: int) -> None:
    with Cluster(protocol, replicas=3, workers=workers) as cluster, cluster.connect() as client:
        directs = [connect(protocol, server.port) for server in cluster.servers[0]]
        for number in range(150):
            key = write(client, number)
            assert [direct.get(key) for direct in directs] == [b"v"] * 3
        for direct in directs:
            direct.raw.close()


@pytest.mark.parametrize("slow", [0, 1, 2])
@pytest.mark.parametrize(("ack", "waits_for"), [("all", {0, 1, 2}), ("quorum", {0}), ("primary", {0})])
def test_ack_says_who_is_waited_for(protocol: str, ack: str, waits_for: set[int], slow: int) -> None:
    replication = {"mode": "fanout", "ack": ack}
    timeouts, health = {"request": "5s"}, {"interval": "5s", "timeout": "2s"}
    with (
        Cluster(
            protocol, replicas=3, relays=True, replication=replication, timeouts=timeouts, health=health
        ) as cluster,
        cluster.connect() as client,
    ):
        write(client, 0)
        cluster.relays[0][slow].delay(SLOW_SECONDS)
        for number in range(1, 4):
            start = time.monotonic()
            write(client, number)
            elapsed = time.monotonic() - start
            if slow in waits_for:
                assert elapsed >= SLOW_SECONDS
        if slow not in waits_for:
            # Its answers are late, so it was not waited for; it gets the writes all the same.
            assert elapsed < SLOW_SECONDS
            with connect(protocol, cluster.servers[0][slow].port) as direct:
                eventually(lambda: direct.get(b"w3") == b"v")


@pytest.mark.fault
@pytest.mark.parametrize("victim", [0, 1])
def test_what_was_acknowledged_just_before_a_death_is_there(protocol: str, victim: int) -> None:
    with Cluster(protocol, workers=2) as cluster:
        clients = [cluster.connect() for _ in range(4)]
        for number, client in enumerate(clients):
            for i in range(100):
                client.raw.send(client.set_request(b"c%d:%d" % (number, i), b"v"))
        acknowledged = []
        for number, client in enumerate(clients):  # the first 50 answers are read, then it dies
            for i in range(50):
                client.read_set()
                acknowledged.append(b"c%d:%d" % (number, i))
        cluster.servers[0][victim].kill9()
        for client in clients:
            client.raw.close()
        with connect(protocol, cluster.servers[0][1 - victim].port) as survivor:
            assert [key for key in acknowledged if survivor.get(key) != b"v"] == []


def test_quiet_writes_reach_every_replica(protocol: str) -> None:
    with Cluster(protocol, workers=2) as cluster, cluster.connect() as client:
        if isinstance(client, RedisStore):
            client.raw.send(b"CLIENT REPLY OFF\r\n")
            client.raw.send(b"".join(client.set_request(b"q%d" % n, b"v") for n in range(50)))
            client.raw.send(b"CLIENT REPLY ON\r\n")
            assert client.raw.read_reply() == b"+OK\r\n"
        else:
            client.raw.send(b"".join(b"set q%d 0 0 1 noreply\r\nv\r\n" % n for n in range(50)))
            client.raw.send(b"delete q0 noreply\r\nincr q1 1 noreply\r\nnonsense\r\nset q0 0 0 1\r\nv\r\n")
            # An answer to a quiet request would stand before these; a refused one (incr) has none.
            client.raw.expect(b"ERROR\r\nSTORED\r\n")
        assert client.get(b"q49") == b"v"
        for server in cluster.servers[0]:
            with connect(protocol, server.port) as direct:
                assert [direct.get(b"q%d" % n) for n in range(50)] == [b"v"] * 50
