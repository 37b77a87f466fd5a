"""SORT with BY and GET reads keys that the request does not name: taken where one shard has them all."""

from collections.abc import Iterator

import pytest
from support.cluster import Cluster
from support.servers import RedisServer
from support.store import RedisStore, Refused

ELSEWHERE = "BY and GET of SORT name keys that may be on other shards"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("redis", shards=3, replicas=2, hash_tag="{}") as made:
        yield made


def fill(store: RedisStore) -> None:
    store.ask("RPUSH", "list{t}", 3, 1, 2, "none")
    store.ask("MSET", "w{t}:1", 30, "w{t}:2", 20, "w{t}:3", 10, "v{t}:1", "one", "v{t}:2", "two")
    store.ask("HSET", "h{t}:1", "f", 5, "g", "x")


def test_patterns_with_the_tag_of_the_key(cluster: Cluster, redis_server: RedisServer) -> None:
    with RedisStore(cluster.proxy.redis_port) as ours, RedisStore(redis_server.port) as plain:
        fill(ours)
        fill(plain)
        for line in (
            "SORT list{t} BY w{t}:*",
            "SORT list{t} BY w{t}:* GET v{t}:* GET #",
            "SORT_RO list{t} BY w{t}:* DESC GET v{t}:* LIMIT 1 2",
            "SORT list{t} BY h{t}:*->f GET h{t}:*->g GET {t}*",
            "SORT list{t} BY nosort GET # GET nothing",
            "SORT list{t} BY w{t}:* GET v{t}:* STORE stored{t}",
            "LRANGE stored{t} 0 -1",
        ):
            words = line.split()
            assert ours.ask(*words) == plain.ask(*words), line
        for store in (ours, plain):
            store.ask("MULTI")
            assert store.ask("SORT", "list{t}", "BY", "w{t}:*", "STORE", "again{t}") == b"QUEUED"
            assert store.ask("EXEC") == [4]
    assert cluster.differences() == {}


@pytest.mark.parametrize("options", ["BY w:*", "GET *", "BY w{t}:* GET *{t}", "BY w{*}", "GET x{other}*"])
def test_patterns_of_other_shards(cluster: Cluster, options: str) -> None:
    with RedisStore(cluster.proxy.redis_port) as client:
        # The tag of "other" is on another shard than that of some of these.
        lists = [f"list{{{number}:tag}}" for number in range(20)] if "other" in options else ["list{t}"]
        told = []
        for name in lists:
            try:
                client.ask("SORT", name, *options.split())
            except Refused as refused:
                told.append(str(refused))
        assert told
        assert all(ELSEWHERE in text for text in told), told
        if len(lists) > 1:
            assert len(told) < len(lists), "all are on other shards"
        client.ask("MULTI")
        with pytest.raises(Refused, match=ELSEWHERE):
            client.ask("SORT", "list{t}", "BY", "w:*")
        with pytest.raises(Refused, match="EXECABORT"):
            client.ask("EXEC")


def test_one_shard_has_all_keys() -> None:
    with Cluster("redis", shards=1, replicas=2) as cluster, RedisStore(cluster.proxy.redis_port) as ours:
        ours.ask("RPUSH", "list", 1, 2, 3)
        ours.ask("MSET", "w1", 3, "w2", 2, "w3", 1)
        assert ours.ask("SORT", "list", "BY", "w*", "GET", "w*") == [b"1", b"2", b"3"]
