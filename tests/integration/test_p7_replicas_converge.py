"""Promise P7: after all is quiet the replicas of a shard hold equal data, whoever wrote what.

Clients on several workers, in RESP2 and RESP3, pipeline writes to the same few keys at once, many of
them such that the same bytes would act differently on two servers. Then the servers are compared
value by value, past the proxy.
"""

import random

import pytest
from support.cluster import Cluster
from support.random_writes import RANDOM_TEXT, RANDOM_WRITES
from support.store import PROTOCOLS, MemcachedStore, RedisStore

pytestmark = pytest.mark.parametrize("workers", [1, 2])

ROUNDS = 20
CLIENTS = 6
PIPELINE_REQUESTS = 60


@pytest.mark.parametrize("replicas", [2, 3])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_replicas_are_equal_after_random_writes(
    protocol: str, replicas: int, workers: int, rng: random.Random
) -> None:
    write, read = RANDOM_WRITES[protocol]
    # Two shards: each worker orders the writes of one of them.
    with Cluster(protocol, shards=2, replicas=replicas, workers=workers, hash_tag="{}") as cluster:
        clients = [cluster.connect() for _ in range(CLIENTS)]
        for client in clients[1::2]:
            if isinstance(client, RedisStore):
                client.hello3()
        for number, client in enumerate(clients):
            if isinstance(client, RedisStore):
                client.ask("SELECT", number // 2)
        for _ in range(ROUNDS):
            counts = []
            for client in clients:
                requests = [write(rng) for _ in range(rng.randint(1, PIPELINE_REQUESTS))]
                client.raw.send(b"".join(requests))
                counts.append(len(requests))
            for client, count in zip(clients, counts, strict=True):
                for _ in range(count):
                    read(client)
        for client in clients:
            client.raw.close()
        assert cluster.differences() == {}
        # Equal because every write arrived, not because one side was given up.
        assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}
        assert cluster.shard_status()["epoch"] == 1


def test_effects_of_chance_and_clock_are_the_leaders(workers: int) -> None:
    with Cluster("redis", workers=workers, replicas=2) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        client.ask("SADD", "set", *range(100))
        popped = {client.ask("SPOP", "set") for _ in range(50)}
        ids = [client.ask("XADD", "x", "*", "n", n) for n in range(20)]
        client.ask("EVAL", RANDOM_TEXT, 1, "random")
        for server in cluster.servers[0]:
            with RedisStore(server.port) as direct:
                assert not popped & set(direct.ask("SMEMBERS", "set"))
                assert [entry[0] for entry in direct.ask("XRANGE", "x", "-", "+")] == ids
                assert direct.ask("GET", "random") == client.ask("GET", "random")


def test_conditions_are_decided_once(workers: int) -> None:
    with Cluster("memcached", workers=workers, replicas=2) as cluster, cluster.connect() as client:
        assert isinstance(client, MemcachedStore)
        client.set(b"a", b"1")
        client.raw.send(b"gets a\r\n")
        token = client.read_values()[b"a"][2]
        assert client.ask(b"cas a 0 0 1 %b\r\n2" % token) == b"STORED"
        assert client.ask(b"cas a 0 0 1 %b\r\n3" % token) == b"EXISTS"
        assert client.ask(b"add a 0 0 1\r\n4") == b"NOT_STORED"
        assert client.ask(b"add b 5 0 1\r\n5") == b"STORED"
        assert client.ask(b"replace c 0 0 1\r\n6") == b"NOT_STORED"
        assert client.ask(b"cas c 0 0 1 1\r\n7") == b"NOT_FOUND"
        assert cluster.differences() == {}
        assert client.get(b"a") == b"2"


def test_times_to_live_are_close(workers: int) -> None:
    with Cluster("redis", workers=workers, replicas=2) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        client.ask("SET", "a", "v", "EX", 1000)
        client.ask("SET", "b", "v")
        client.ask("GETEX", "b", "PX", 500_000)
        client.ask("SET", "c", "v", "EX", 1000)
        client.ask("INCRBYFLOAT", "d", "0.1")
        client.ask("EXPIRE", "d", 1000)
        client.ask("INCRBYFLOAT", "d", "0.1")
        for key in "abcd":
            times = []
            for server in cluster.servers[0]:
                with RedisStore(server.port) as direct:
                    times.append(direct.ask("PEXPIRETIME", key))
            assert min(times) > 0
            assert max(times) - min(times) < 1000
