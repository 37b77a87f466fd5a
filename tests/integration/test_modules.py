"""Commands of real modules: RedisJSON, RedisBloom, RediSearch, RedisTimeSeries. They are learned.

``SHARDPROXY_TEST_REDIS_MODULES`` names a directory with rejson.so, redisbloom.so, redisearch.so and
redistimeseries.so, for a module that the server takes (tests/README.md says where such files are found).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.process import StartFailed
from support.servers import RedisServer, Server
from support.store import RESERVED, RedisStore, Refused

DIRECTORY = os.environ.get("SHARDPROXY_TEST_REDIS_MODULES", "")

pytestmark = pytest.mark.skipif(not DIRECTORY, reason="SHARDPROXY_TEST_REDIS_MODULES names no modules")


def loads(name: str) -> tuple[str, str]:
    """The options of a server that has the module; skips the test where it cannot be had."""
    path = Path(DIRECTORY) / f"{name}.so"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    options = ("--loadmodule", str(path))
    try:
        with RedisServer(*options):
            return options
    except StartFailed as failed:
        if "Can't load module" not in str(failed):
            raise
        pytest.skip(f"the server does not take {name}.so")


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def protocol(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture
def made(resources: ExitStack, protocol: int) -> Callable[..., tuple[Cluster, RedisStore]]:
    """Starts a cluster whose servers have a module, and connects to it."""

    def make(name: str, shards: int = 2, **options: object) -> tuple[Cluster, RedisStore]:
        cluster = Cluster("redis", shards=shards, replicas=2, arguments=loads(name), hash_tag="{}", **options)
        resources.enter_context(cluster)
        client = connected(cluster, protocol)
        resources.callback(client.raw.close)
        return cluster, client

    return make


def connected(cluster: Cluster, protocol: int) -> RedisStore:
    client = cluster.connect()
    assert isinstance(client, RedisStore)
    return client.hello3() if protocol == 3 else client


def payloads(server: Server) -> dict[bytes, object]:
    """All values of a server as it would write them down, the proxy's own records left out."""
    with RedisStore(server.port) as direct:
        keys = [name for name in direct.ask("KEYS", "*") if not name.startswith(RESERVED)]
        return {name: payload(direct, name) for name in keys}


def payload(direct: RedisStore, name: bytes) -> object:
    if direct.ask("TYPE", name) == b"TopK-TYPE":
        return direct.ask("TOPK.LIST", name, "WITHCOUNT")  # it writes down where things are in memory
    return direct.ask("DUMP", name)


def check_replicas(cluster: Cluster, keys: int) -> None:
    """Both backends of each shard hold the same, each shard some, all of them so many."""
    found = 0
    for leading, following in cluster.servers:
        held = payloads(leading)
        assert held
        assert held == payloads(following)
        found += len(held)
    assert found == keys
    assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


def key(kind: str, number: int) -> str:
    """Names that differ enough to be on all shards."""
    return hashlib.md5(f"{kind}{number}".encode()).hexdigest()


def error_of(client: RedisStore, *words: str | int) -> str:
    with pytest.raises(Refused) as refused:
        client.ask(*words)
    return refused.value.args[0].decode()


def test_json(made: Callable[..., tuple[Cluster, RedisStore]]) -> None:
    cluster, client = made("rejson")
    for n in range(30):
        assert client.ask("JSON.SET", key("d", n), "$", '{"n":1,"list":[1],"text":"a"}') == b"OK"
        client.ask("JSON.NUMINCRBY", key("d", n), "$.n", n)
        client.ask("JSON.ARRAPPEND", key("d", n), "$.list", "2", '"x"')
        client.ask("JSON.STRAPPEND", key("d", n), "$.text", '"b"')
        client.ask("JSON.DEL", key("d", n), "$.list[0]")
        assert client.ask("JSON.GET", key("d", n)) == b'{"n":%d,"list":[2,"x"],"text":"ab"}' % (n + 1)
    assert client.ask("JSON.SET", key("d", 1), "$.n", "5", "XX") == b"OK"
    assert "new objects must be created at the root" in error_of(client, "JSON.SET", "none", "$.a", "1")
    assert client.ask("TYPE", key("d", 1)) == b"ReJSON-RL"
    # A module names only the first key of this one; the proxy knows of the others.
    client.ask("JSON.SET", "{t}a", "$", "1")
    client.ask("JSON.SET", "{t}b", "$", "2")
    assert client.ask("JSON.MGET", "{t}a", "{t}b", "$") == [b"[1]", b"[2]"]
    assert "CROSSSLOT" in error_of(client, "JSON.MGET", *(key("d", n) for n in range(20)), "$")
    assert client.ask("JSON.MSET", "{t}a", "$", "7", "{t}b", "$", "8") == b"OK"
    check_replicas(cluster, 32)
    # In a transaction, with the time to live of the key.
    client.ask("EXPIRE", "{t}a", 1000)
    client.ask("MULTI")
    for words in (("JSON.NUMINCRBY", "{t}a", "$", 1), ("JSON.GET", "{t}a"), ("JSON.DEL", "{t}b")):
        assert client.ask(*words) == b"QUEUED"
    assert client.ask("EXEC")[1:] == [b"8", 1]
    assert 0 < client.ask("TTL", "{t}a") <= 1000
    check_replicas(cluster, 31)


def test_a_replica_that_lacks_a_document_is_given_it(
    made: Callable[..., tuple[Cluster, RedisStore]],
) -> None:
    cluster, client = made("rejson", shards=1)
    client.ask("JSON.SET", "d", "$", '{"n":1}')
    with RedisStore(cluster.servers[0][1].port) as direct:
        direct.ask("DEL", "d")  # as if it were over there already
    client.ask("JSON.SET", "d", "$.n", "2")
    check_replicas(cluster, 1)
    assert client.ask("JSON.GET", "d") == b'{"n":2}'


def test_bloom_filters_and_their_like(made: Callable[..., tuple[Cluster, RedisStore]]) -> None:
    cluster, client = made("redisbloom")
    for n in range(20):
        client.ask("BF.RESERVE", key("b", n), "0.001", 100)
        assert client.ask("BF.ADD", key("b", n), "x") in (1, True)
        assert client.ask("BF.ADD", key("b", n), "x") in (0, False)
        assert client.ask("BF.MADD", key("b", n), "x", "y", "z")[0] in (0, False)
        assert client.ask("BF.EXISTS", key("b", n), "y") in (1, True)
        assert client.ask("BF.EXISTS", key("b", n), "w") in (0, False)
        client.ask("CF.ADD", key("c", n), "x")
        client.ask("CF.DEL", key("c", n), "x")
        client.ask("CMS.INITBYDIM", key("m", n), 100, 5)
        assert client.ask("CMS.INCRBY", key("m", n), "x", 3, "y", 1) == [3, 1]
        client.ask("TOPK.RESERVE", key("k", n), 2)
        client.ask("TOPK.ADD", key("k", n), "a", "b", "c", "a", "d")
        client.ask("TDIGEST.CREATE", key("t", n))
        client.ask("TDIGEST.ADD", key("t", n), 1, 2, 3)
    total = f"{{{key('m', 3)}}}sum"
    client.ask("CMS.INITBYDIM", total, 100, 5)
    assert "CROSSSLOT" in error_of(client, "CMS.MERGE", total, 20, *(key("m", n) for n in range(20)))
    assert client.ask("CMS.MERGE", total, 1, key("m", 3)) == b"OK"
    assert client.ask("CMS.QUERY", total, "x") == [3]
    check_replicas(cluster, 101)


def test_documents_are_on_the_shards_of_their_keys(made: Callable[..., tuple[Cluster, RedisStore]]) -> None:
    cluster, client = made("redisearch")
    assert client.ask("FT.CREATE", "idx", "SCHEMA", "title", "TEXT") == b"OK"
    for n in range(20):
        assert client.ask("FT.ADD", "idx", key("d", n), 1, "FIELDS", "title", "hello") == b"OK"
        assert client.ask("HGET", key("d", n), "title") == b"hello"
        assert client.ask("FT.GET", "idx", key("d", n))
    check_replicas(cluster, 20)


def series(server: Server) -> dict[bytes, list[object]]:
    """Samples, rules and labels of every time series of a server."""
    with RedisStore(server.port) as direct:
        names = [name for name in direct.ask("KEYS", "*") if not name.startswith(RESERVED)]
        found = {}
        for name in names:
            info = direct.ask("TS.INFO", name)
            told = dict(zip(info[::2], info[1::2], strict=True))
            facts = [told[fact] for fact in (b"sourceKey", b"rules", b"labels", b"totalSamples")]
            found[name] = [direct.ask("TS.RANGE", name, "-", "+"), facts]
        return found


def test_time_series_and_what_is_made_of_them(made: Callable[..., tuple[Cluster, RedisStore]]) -> None:
    cluster, client = made("redistimeseries")
    for n in range(10):
        tag = f"{{{key('t', n)}}}"
        raw, sums, counter = f"{tag}raw", f"{tag}sums", f"{tag}counter"
        client.ask("TS.CREATE", raw, "DUPLICATE_POLICY", "LAST", "LABELS", "kind", "raw")
        client.ask("TS.CREATE", sums)
        assert client.ask("TS.CREATERULE", raw, sums, "AGGREGATION", "sum", 10) == b"OK"
        for at in range(100, 200, 3):
            assert client.ask("TS.ADD", raw, at, at % 7) == at
        assert client.ask("TS.ADD", raw, "*", 5, "ON_DUPLICATE", "SUM") > 200
        assert len(client.ask("TS.MADD", raw, "*", 6, raw, "*", 7)) == 2
        assert client.ask("TS.INCRBY", counter, 5) <= client.ask("TS.DECRBY", counter, 2, "TIMESTAMP", "*")
        client.ask("MULTI")
        client.ask("TS.ADD", raw, "*", 8)
        client.ask("TS.INCRBY", counter, 1)
        assert len(client.ask("EXEC")) == 2
        assert client.ask("TS.DEL", raw, 100, 103) == 2
        client.ask("TS.ALTER", raw, "LABELS", "kind", "other")
    rules = [("TS.CREATERULE", key("c", 0), key("c", n), "AGGREGATION", "sum", 10) for n in range(1, 20)]
    assert any("CROSSSLOT" in error_of(client, *rule) for rule in rules)
    held = [[series(server) for server in row] for row in cluster.servers]
    for leading, following in held:
        assert leading == following
        assert any(facts[1] for _, facts in leading.values()), "no rules"
    assert sum(len(leading) for leading, _ in held) == 30
    assert cluster.proxy.metric("shardproxy_write_repairs_total") == 0


def test_suggestions_are_keys(made: Callable[..., tuple[Cluster, RedisStore]]) -> None:
    cluster, client = made("redisearch")
    for n in range(20):
        assert client.ask("FT.SUGADD", key("s", n), "hello", 1) == 1
        assert client.ask("FT.SUGGET", key("s", n), "hel") == [b"hello"]
    check_replicas(cluster, 20)


def found(client: RedisStore, *words: str | int) -> int:
    """How many documents a search has found."""
    reply = client.ask(*words)
    if isinstance(reply[0], int):
        return reply[0]
    fields = dict(zip(reply[::2], reply[1::2], strict=True))
    total: int = fields[b"total_results"]
    return total


def test_a_search_over_one_shard_goes_on_after_a_loss(
    made: Callable[..., tuple[Cluster, RedisStore]],
) -> None:
    cluster, client = made("redisearch", shards=1, resync={"auto": True})
    assert client.ask("FT.CREATE", "idx", "PREFIX", 1, "doc:", "SCHEMA", "title", "TEXT") == b"OK"
    assert client.ask("FT.ALIASADD", "other", "idx") == b"OK"
    for n in range(10):
        client.ask("HSET", f"doc:{n}", "title", "hello world")
    assert found(client, "FT.SEARCH", "other", "hello") == 10
    assert client.ask("FT._LIST") == [b"idx"]
    client.ask("MULTI")
    client.ask("HSET", "doc:10", "title", "hello")
    assert client.ask("FT.SEARCH", "idx", "hello", "NOCONTENT") == b"QUEUED"
    assert len(client.ask("EXEC")) == 2
    assert "already exists" in error_of(client, "FT.CREATE", "idx", "SCHEMA", "title", "TEXT")
    assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}
    cluster.servers[0][0].kill9()
    eventually(lambda: found(client, "FT.SEARCH", "other", "hello") == 11, within=10, what="all are found")
    # The one that comes back is given the index with the data.
    cluster.servers[0][0].start()
    cluster.wait_state(0, "in_sync", within=30)
    cluster.servers[0][1].kill9()
    eventually(lambda: found(client, "FT.SEARCH", "other", "hello") == 11, within=10, what="all are found")
    assert client.ask("FT.DROPINDEX", "idx") == b"OK"
    assert client.ask("FT._LIST") == []


def test_a_search_over_several_shards_is_refused(
    made: Callable[..., tuple[Cluster, RedisStore]],
) -> None:
    cluster, client = made("redisearch")
    assert client.ask("FT.CREATE", "idx", "SCHEMA", "title", "TEXT") == b"OK"
    for row in cluster.servers:
        for server in row:
            with RedisStore(server.port) as direct:
                assert direct.ask("FT._LIST") == [b"idx"]
    assert "CROSSSLOT" in error_of(client, "FT.SEARCH", "idx", "hello")
    client.ask("MULTI")
    assert client.ask("FT.SEARCH", "idx", "hello") == b"QUEUED"
    assert "CROSSSLOT" in error_of(client, "EXEC")
    assert client.ask("FT.DROPINDEX", "idx") == b"OK"
    assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}
