"""Promise P7: after all is quiet the replicas of a shard hold equal data, whoever wrote what.

Clients on several workers, in RESP2 and RESP3, pipeline writes to the same few keys at once, many of
them such that the same bytes would act differently on two servers. Then the servers are compared
value by value, past the proxy.
"""

import random
from collections.abc import Callable

import pytest
from support.cluster import Cluster
from support.store import PROTOCOLS, MemcachedStore, RedisStore, Store, command

pytestmark = pytest.mark.parametrize("workers", [1, 2])

ROUNDS = 20
CLIENTS = 6
PIPELINE_REQUESTS = 60

INCREMENT_AND_PUSH = "redis.call('INCR', KEYS[1]); return redis.call('TIME')[2]"
RANDOM_TEXT = "return redis.call('SET', KEYS[1], math.random() .. redis.call('TIME')[2])"


def redis_write(rng: random.Random) -> bytes:
    n = rng.randrange(4)
    value = rng.randrange(1000)
    return rng.choice(REDIS_WRITES)(n, value, rng)


REDIS_WRITES: list[Callable[[int, int, random.Random], bytes]] = [
    lambda n, v, r: command("SET", f"s{n}", v),
    lambda n, v, r: command("SET", f"s{n}", v, "NX"),
    lambda n, v, r: command("SET", f"s{n}", v, "XX", "GET"),
    lambda n, v, r: command("SETNX", f"s{n}", v),
    lambda n, v, r: command("GETSET", f"s{n}", v),
    lambda n, v, r: command("GETDEL", f"s{n}"),
    lambda n, v, r: command("APPEND", f"a{n}", v),
    lambda n, v, r: command("INCR", f"i{n}"),
    lambda n, v, r: command("INCRBYFLOAT", f"f{n}", f"{r.random():.17g}"),
    lambda n, v, r: command("HINCRBYFLOAT", f"h{n}", "x", f"{r.random():.17g}"),
    lambda n, v, r: command("HSET", f"h{n}", f"field{v % 7}", v),
    lambda n, v, r: command("SADD", f"set{n}", *(v + i for i in range(4))),
    lambda n, v, r: command("SPOP", f"set{n}"),
    lambda n, v, r: command("SPOP", f"set{n}", 2),
    lambda n, v, r: command("SMOVE", f"set{n}", f"set{n}", v),
    lambda n, v, r: command("XADD", f"x{n}", "*", "v", v),
    lambda n, v, r: command("XADD", f"x{n}", "MAXLEN", "~", 20, "*", "v", v),
    lambda n, v, r: command("XTRIM", f"x{n}", "MAXLEN", "=", 10),
    lambda n, v, r: command("LPUSH", f"l{n}", v),
    lambda n, v, r: command("RPOP", f"l{n}", 2),
    lambda n, v, r: command("ZADD", f"z{n}", "INCR", f"{r.random():.17g}", v % 9),
    lambda n, v, r: command("ZPOPMIN", f"z{n}"),
    lambda n, v, r: command("PFADD", f"p{n}", v),
    lambda n, v, r: command("EVAL", INCREMENT_AND_PUSH, 1, f"i{n}"),
    lambda n, v, r: command("EVAL", RANDOM_TEXT, 1, f"e{n}"),
    lambda n, v, r: command("SETEX", f"t{n}", 1000, v),
    lambda n, v, r: command("GETEX", f"t{n}", "EX", 2000),
    lambda n, v, r: command("PERSIST", f"t{n}"),
    lambda n, v, r: command("MSET", f"s{n}", v, f"s{(n + 1) % 4}", v + 1),
    lambda n, v, r: command("DEL", f"s{n}", f"set{n}", f"l{n}"),
    lambda n, v, r: command("LPUSH", f"s{n}", v),  # refused by every server alike, if it is a string
    lambda n, v, r: command("GET", f"s{n}"),
    lambda n, v, r: command("SMEMBERS", f"set{n}"),
]


def read_redis(client: Store) -> None:
    client.raw.read_reply()


def memcached_write(rng: random.Random) -> bytes:
    key = b"k%d" % rng.randrange(5)
    text = b"%d" % rng.randrange(1000)
    verb = rng.choice([b"set", b"add", b"replace", b"append", b"prepend", b"cas"])
    storage = b"%b %b %d %d %d" % (verb, key, rng.randrange(9), rng.choice([0, 0, 1000]), len(text))
    if verb == b"cas":
        storage += b" %d" % rng.randrange(1, 200)  # sometimes the right one, since they count up
    return rng.choice(
        [
            storage + b"\r\n" + text + b"\r\n",
            storage + b"\r\n" + text + b"\r\n",
            b"incr %b 7\r\n" % key,
            b"decr %b 3\r\n" % key,
            b"delete %b\r\n" % key,
            b"touch %b 2000\r\n" % key,
            b"gat 3000 %b k0 k1\r\n" % key,
            b"gat 0 %b\r\n" % key,
            b"get %b k2\r\n" % key,
        ]
    )


def read_memcached(client: Store) -> None:
    line = client.raw.read_line()
    while line.startswith(b"VALUE "):
        client.raw.read_exactly(int(line.split()[3]) + 2)
        line = client.raw.read_line()


TRAFFIC: dict[str, tuple[Callable[[random.Random], bytes], Callable[[Store], None]]] = {
    "redis": (redis_write, read_redis),
    "memcached": (memcached_write, read_memcached),
}


@pytest.mark.parametrize("replicas", [2, 3])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_replicas_are_equal_after_random_writes(
    protocol: str, replicas: int, workers: int, rng: random.Random
) -> None:
    write, read = TRAFFIC[protocol]
    # Two shards: each worker orders the writes of one of them.
    with Cluster(protocol, shards=2, replicas=replicas, workers=workers, hash_tag="{}") as cluster:
        clients = [cluster.connect() for _ in range(CLIENTS)]
        for client in clients[1::2]:
            if isinstance(client, RedisStore):
                client.hello3()
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
