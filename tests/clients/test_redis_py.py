"""redis-py as applications use it: only the address changes, every default stays.

Both protocols and both flavours (sync, asyncio). redis-py 8 connects with HELLO 3, CLIENT SETINFO and
asks for maintenance notifications; what it does with the answers must leave it working.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.cache import CacheConfig
from support.cluster import Cluster

PROTOCOLS: list[dict[str, Any]] = [{}, {"protocol": 2}, {"protocol": 3}]
"""Options of the client; the first is what it does by itself."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("redis", shards=2, workers=2) as cluster:
        yield cluster


@pytest.fixture(params=PROTOCOLS, ids=["default", "resp2", "resp3"])
def client(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[redis.Redis]:
    with redis.Redis(port=cluster.proxy.redis_port, **request.param) as client:
        yield client
        client.delete(*[f"{kind}:{n}" for kind in "abcdefgh" for n in range(40)])


def test_connects_and_knows_itself(client: redis.Redis) -> None:
    assert client.ping() is True
    assert client.echo("héllo") == "héllo".encode()
    assert client.client_setname("worker-1")
    assert client.client_getname() in ("worker-1", b"worker-1")
    assert client.client_id() > 0
    assert client.info()["redis_version"]
    assert client.role()[0] in ("master", b"master")
    assert client.time()[0] > 1_700_000_000
    assert client.config_get("maxmemory*") is not None
    assert client.command_count() > 150
    assert client.select(0)


def test_a_cache_of_its_own_is_refused(cluster: Cluster) -> None:
    """Rather than being taken for one that is told of changes."""
    cache = CacheConfig()
    with redis.Redis(port=cluster.proxy.redis_port, protocol=3, cache_config=cache) as client:
        with pytest.raises(redis.ResponseError, match=r"unknown subcommand.*(?i:tracking)"):
            client.ping()


def test_strings_and_numbers(client: redis.Redis) -> None:
    assert client.set("a:1", b"\x00\r\n\xff", ex=1000)
    assert client.get("a:1") == b"\x00\r\n\xff"
    assert 990 < client.ttl("a:1") <= 1000
    assert client.set("a:1", "x", nx=True) is None
    assert client.set("a:1", "y", get=True) == b"\x00\r\n\xff"
    assert [client.incr("a:2"), client.incrby("a:2", 5), client.decr("a:2")] == [1, 6, 5]
    assert client.incrbyfloat("a:3", 1.5) == 1.5
    assert client.append("a:4", "abc") == 3
    assert client.getrange("a:4", 1, -1) == b"bc"
    assert client.setbit("a:5", 7, 1) == 0
    assert client.bitcount("a:5") == 1
    assert client.getdel("a:4") == b"abc"
    assert client.get("a:4") is None


def test_collections(client: redis.Redis) -> None:
    assert client.rpush("b:1", 1, 2, 3) == 3
    assert client.lrange("b:1", 0, -1) == [b"1", b"2", b"3"]
    assert client.lpop("b:1") == b"1"
    assert client.hset("b:2", mapping={"f": 1, "g": "two"}) == 2
    assert client.hgetall("b:2") == {b"f": b"1", b"g": b"two"}
    assert client.hmget("b:2", "g", "none") == [b"two", None]
    assert client.sadd("b:3", "x", "y") == 2
    assert client.smembers("b:3") == {b"x", b"y"}
    assert client.sismember("b:3", "x")
    assert client.spop("b:3") in (b"x", b"y")
    assert client.scard("b:3") == 1
    assert client.zadd("b:4", {"one": 1, "two": 2.5}) == 2
    assert client.zscore("b:4", "two") == 2.5
    # A pair is a tuple or a list, by the protocol; it is a pair.
    assert [tuple(pair) for pair in client.zrange("b:4", 0, -1, withscores=True)] == [
        (b"one", 1),
        (b"two", 2.5),
    ]
    assert client.pfadd("b:5", "a", "b") == 1
    assert client.pfcount("b:5") == 2
    assert client.geoadd("b:6", (13.361389, 38.115556, "Palermo")) == 1
    assert client.geosearch("b:6", longitude=13, latitude=38, radius=100, unit="km") == [b"Palermo"]
    assert client.type("b:4") in (b"zset", "zset")


def test_streams(client: redis.Redis) -> None:
    first = client.xadd("c:1", {"f": "v"})
    client.xadd("c:1", {"f": "w"})
    assert client.xlen("c:1") == 2
    entry, fields = client.xrange("c:1")[0]
    assert (entry, fields) == (first, {b"f": b"v"})
    assert client.xgroup_create("c:1", "g", id="0")
    assert client.xreadgroup("g", "consumer", {"c:1": ">"}, count=1)
    assert client.xack("c:1", "g", first) == 1
    assert client.xpending("c:1", "g")["pending"] == 0


def test_many_keys_of_many_shards(client: redis.Redis) -> None:
    names = [f"d:{n}" for n in range(40)]
    assert client.mset({name: name.upper() for name in names})
    assert client.mget(*names, "none") == [*(name.upper().encode() for name in names), None]
    assert client.exists(*names, "none") == 40
    assert client.touch(*names[:5]) == 5
    assert client.unlink(*names[:10]) == 10
    assert client.delete(*names) == 30
    assert client.mget(names) == [None] * 40


def test_pipeline_without_transaction(client: redis.Redis) -> None:
    with client.pipeline(transaction=False) as pipe:
        for n in range(40):
            pipe.set(f"e:{n}", n).get(f"e:{n}").incr(f"e:{n}")
        pipe.mget("e:0", "e:1", "e:39")
        answers = pipe.execute()
    for n in range(40):
        assert answers[3 * n : 3 * n + 3] == [True, str(n).encode(), n + 1]
    assert answers[-1] == [b"1", b"2", b"40"]
    with client.pipeline(transaction=False) as pipe:
        pipe.set("e:1", "text").incr("e:1").get("e:1")
        answers = pipe.execute(raise_on_error=False)
    assert isinstance(answers[1], redis.ResponseError)
    assert answers[0::2] == [True, b"text"]


def test_errors_are_those_of_the_server(client: redis.Redis) -> None:
    client.set("f:1", "text")
    with pytest.raises(redis.ResponseError, match="not an integer"):
        client.incr("f:1")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.lpush("f:1", 1)
    with pytest.raises(redis.ResponseError, match="wrong number of arguments"):
        client.execute_command("GET")
    with pytest.raises(redis.ResponseError, match="unknown command"):
        client.execute_command("NOSUCH", "f:1")
    assert client.get("f:1") == b"text", "the connection is still good"


def test_large_values(client: redis.Redis) -> None:
    value = bytes(range(256)) * 40_000  # 10 MB: many reads on each side
    assert client.set("g:1", value)
    assert client.get("g:1") == value
    assert client.mget("g:1", "g:2") == [value, None]
    assert client.rpush("g:3", *[str(n) for n in range(50_000)]) == 50_000
    assert client.lrange("g:3", -1, -1) == [b"49999"]
    assert len(client.lrange("g:3", 0, -1)) == 50_000


def test_decodes_for_those_who_ask(cluster: Cluster) -> None:
    with redis.Redis(port=cluster.proxy.redis_port, decode_responses=True) as client:
        assert client.set("h:1", "ä")
        assert client.get("h:1") == "ä"
        assert client.hset("h:2", "f", "v") == 1
        assert client.hgetall("h:2") == {"f": "v"}
        client.delete("h:1", "h:2")


def test_many_connections_of_one_pool(cluster: Cluster) -> None:
    pool = redis.ConnectionPool(port=cluster.proxy.redis_port)
    clients = [redis.Redis(connection_pool=pool) for _ in range(30)]
    held = [pool.get_connection() for _ in range(30)]
    for connection in held:
        pool.release(connection)
    for number, client in enumerate(clients):
        assert client.set(f"h:{number}", number)
    assert clients[0].delete(*[f"h:{n}" for n in range(30)]) == 30
    pool.disconnect()


async def use_all_kinds(client: redis.asyncio.Redis) -> None:
    assert await client.ping()
    assert await client.set("a:1", "v", px=100_000)
    assert await client.get("a:1") == b"v"
    assert await client.mset({f"a:{n}": n for n in range(2, 20)})
    assert await client.mget([f"a:{n}" for n in range(2, 20)]) == [str(n).encode() for n in range(2, 20)]
    assert await client.hset("b:1", mapping={"f": "v"}) == 1
    assert await client.hgetall("b:1") == {b"f": b"v"}
    assert await client.zadd("b:2", {"m": 1}) == 1
    pipe = client.pipeline(transaction=False)
    for n in range(20):
        pipe.incr(f"c:{n}")
    assert await pipe.execute() == [1] * 20
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        await client.incr("b:1")
    values = await asyncio.gather(*[client.incr("d:1") for _ in range(100)])
    assert sorted(values) == list(range(1, 101))
    names = [f"{kind}:{n}" for kind in "abcd" for n in range(20)]
    assert await client.delete(*names) == 19 + 2 + 20 + 1


@pytest.mark.parametrize("options", PROTOCOLS, ids=["default", "resp2", "resp3"])
def test_asyncio(cluster: Cluster, options: dict[str, Any]) -> None:
    async def run(use: Callable[[redis.asyncio.Redis], Awaitable[None]]) -> None:
        client = redis.asyncio.Redis(port=cluster.proxy.redis_port, **options)
        try:
            await use(client)
        finally:
            await client.aclose()

    asyncio.run(run(use_all_kinds))
