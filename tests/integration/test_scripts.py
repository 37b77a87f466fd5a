"""Scripts and functions over shards and replicas: as on one server, whatever a backend has forgotten."""

import hashlib
import random
from collections.abc import Iterator
from typing import Any

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.servers import RedisServer
from support.store import RedisStore, Refused, command

from proxy.control.view import view_key

PATIENT = {
    "timeouts": {"connect": "1s", "request": "10s"},
    "health": {"interval": "2s", "timeout": "2s", "fall": 10},
}
APPEND = "return redis.call('APPEND', KEYS[1], ARGV[1])"
KEYS = [f"k{number}" for number in range(12)]
"""On all shards."""
LIBRARY = """#!lua name=lib
redis.register_function('put', function(keys, args) return redis.call('SET', keys[1], args[1]) end)
redis.register_function{function_name='look', flags={'no-writes'},
  callback=function(keys) return redis.call('GET', keys[1]) end}
"""


@pytest.fixture(params=[(3, 2, 3), (2, 1, 1)], ids=lambda shape: "x".join(map(str, shape)))
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Shards, replicas of each, workers of the proxy."""
    shards, replicas, workers = request.param
    with Cluster("redis", shards=shards, replicas=replicas, workers=workers, **PATIENT) as made:
        yield made


def store(cluster: Cluster) -> RedisStore:
    connected = cluster.connect()
    assert isinstance(connected, RedisStore)
    return connected


def everywhere(cluster: Cluster, *words: str) -> list[object]:
    """What each backend says itself."""
    found = []
    for server in [server for row in cluster.servers for server in row]:
        with RedisStore(server.port) as direct:
            found.append(direct.ask(*words))
    return found


def answer(connected: RedisStore, *words: str | int) -> bytes:
    return connected.raw.ask(command(*words))


def check_in_sync(cluster: Cluster) -> None:
    assert cluster.differences() == {}
    assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


def test_scripts_are_those_of_one_server(cluster: Cluster, redis_server: RedisServer) -> None:
    unknown = "f" * 40
    with store(cluster) as ours, RedisStore(redis_server.port) as plain:
        digest = plain.ask("SCRIPT", "LOAD", APPEND).decode()
        assert answer(ours, "SCRIPT", "LOAD", APPEND) == answer(plain, "SCRIPT", "LOAD", APPEND)
        assert everywhere(cluster, "SCRIPT", "EXISTS", digest) == [[1]] * sum(map(len, cluster.servers))
        conversation: list[tuple[str | int, ...]] = [
            ("SCRIPT", "EXISTS", digest, unknown, "x"),
            ("SCRIPT", "EXISTS"),
            ("SCRIPT", "LOAD", "this is no Lua"),
            ("SCRIPT", "LOAD"),
            ("SCRIPT", "FLUSH", "x"),
            ("SCRIPT", "FLUSH", "SYNC", "x"),
            ("SCRIPT", "NOSUCH"),
            ("SCRIPT", "KILL"),
            ("FUNCTION", "KILL"),
            *(("EVALSHA", digest, 1, key, "a") for key in KEYS),
            *(("EVALSHA", digest.upper(), 1, key, "b") for key in KEYS),
            *(("EVALSHA_RO", digest, 1, key, "b") for key in KEYS[:3]),
            ("EVALSHA", unknown, 1, "k", "a"),
            ("EVALSHA", "x", 1, "k", "a"),
            ("EVALSHA", unknown, 0),
            ("EVALSHA", digest, -1),
            ("EVALSHA", digest, "x"),
            ("EVALSHA", digest, 2, "k"),
            ("EVALSHA", digest),
            # What was run is known by its digest, on all shards.
            ("EVAL", "return {KEYS[1], 7}", 1, "k1"),
            ("EVAL", "return {KEYS[1], 7}", 1, "k1"),
            *(("EVALSHA", "{seven}", 1, key) for key in KEYS),
            ("SCRIPT", "EXISTS", "{seven}"),
            ("EVAL_RO", "return redis.call('GET', KEYS[1])", 1, "k1"),
            ("EVAL", "no Lua", 1, "k"),
            ("EVAL", "no Lua", 0),
            ("SCRIPT", "FLUSH"),
            ("SCRIPT", "EXISTS", digest, "{seven}"),
            ("EVALSHA", digest, 1, "k1", "a"),
            ("SCRIPT", "EXISTS", digest),
        ]
        seven = plain.ask("SCRIPT", "LOAD", "return {KEYS[1], 7}").decode()
        plain.ask("SCRIPT", "FLUSH")
        plain.ask("SCRIPT", "LOAD", APPEND)
        for words in conversation:
            words = tuple(seven if word == "{seven}" else word for word in words)
            assert answer(ours, *words) == answer(plain, *words), words
    check_in_sync(cluster)


def test_what_a_backend_has_forgotten_is_told_again(cluster: Cluster) -> None:
    with store(cluster) as ours:
        digest = ours.ask("SCRIPT", "LOAD", APPEND).decode()
        reader = ours.ask("SCRIPT", "LOAD", "return redis.call('GET', KEYS[1])").decode()
        for number, how in enumerate(("alone", "pipelined", "alone"), start=1):
            assert everywhere(cluster, "SCRIPT", "FLUSH") == [b"OK"] * sum(map(len, cluster.servers))
            if how == "alone":
                assert [ours.ask("EVALSHA", digest, 1, key, "a") for key in KEYS] == [number] * len(KEYS)
                assert [ours.ask("EVALSHA_RO", reader, 1, key) for key in KEYS] == [b"a" * number] * len(KEYS)
            else:
                # Here a request may not go before an earlier one, so a client may be told; it says it again.
                requests = [
                    command(*w) for key in KEYS for w in (("EVALSHA", digest, 1, key, "a"), ("GET", key))
                ]
                ours.raw.send(b"".join(requests))
                replies = [(ours.raw.read_reply(), ours.raw.read_reply()) for _ in KEYS]
                for key, (called, seen) in zip(KEYS, replies, strict=True):
                    is_told = called.startswith(b"-NOSCRIPT")
                    length = number - 1 if is_told else number
                    assert is_told or called == b":%d\r\n" % number
                    assert seen == b"$%d\r\n%s\r\n" % (length, b"a" * length)
                    if is_told:
                        assert ours.ask("EVALSHA", digest, 1, key, "a") == number
    check_in_sync(cluster)


@pytest.mark.fault
@pytest.mark.parametrize("workers", [1, 2])
def test_scripts_outlive_their_backends(workers: int) -> None:
    """A client that has loaded a script once is never told NOSCRIPT, also in the middle of a pipeline."""
    with Cluster("redis", shards=2, replicas=1, workers=workers) as cluster, store(cluster) as ours:
        digest = ours.ask("SCRIPT", "LOAD", APPEND).decode()
        for row in cluster.servers:
            row[0].restart()
        eventually(lambda: ours.ask("DBSIZE") == 0, what="both are back, and empty")
        ours.raw.send(b"".join(command("EVALSHA", digest, 1, key, "a") for key in KEYS * 2))
        got = [ours.raw.read_reply() for _ in KEYS * 2]
        assert got == [b":1\r\n"] * len(KEYS) + [b":2\r\n"] * len(KEYS)
    with Cluster("redis", shards=2, replicas=2, workers=workers, resync={"auto": True}) as cluster:
        with store(cluster) as ours:
            digest = ours.ask("SCRIPT", "LOAD", APPEND).decode()
            for replica in (0, 1):
                cluster.servers[0][replica].restart()
                eventually(lambda: ours.ask("EVALSHA", digest, 1, "k1", "x") > 0, what="it can be called")
                cluster.wait_state(replica, "in_sync", within=20)
                ours.raw.send(b"".join(command("EVALSHA", digest, 1, key, "a") for key in KEYS))
                assert all(ours.raw.read_reply().startswith(b":") for _ in KEYS)
        check_in_sync(cluster)


@pytest.mark.fault
@pytest.mark.parametrize("workers", [1, 2])
def test_transactions_call_scripts_that_backends_have_lost(workers: int) -> None:
    with Cluster("redis", shards=2, replicas=1, workers=workers) as cluster, store(cluster) as ours:
        digest = ours.ask("SCRIPT", "LOAD", APPEND).decode()
        calls = [command("EVALSHA", digest, 1, key, "a") for key in KEYS]
        for batch in ([command("MULTI"), *calls], [command("WATCH", "k1"), command("MULTI"), calls[1]]):
            for row in cluster.servers:
                row[0].restart()
            eventually(lambda: ours.ask("DBSIZE") == 0, what="both are back, and empty")
            ours.raw.send(b"".join([*batch, command("EXEC")]))
            replies = [ours.raw.read_reply() for _ in range(len(batch) + 1)]
            assert replies[-1].count(b":1\r\n") == sum(each in calls for each in batch), replies
    with (
        Cluster("redis", shards=2, replicas=2, workers=workers, **PATIENT) as cluster,
        store(cluster) as ours,
    ):
        digest = ours.ask("SCRIPT", "LOAD", APPEND).decode()
        batch = [
            command("MULTI"),
            *(command("EVALSHA", digest, 1, key, "a") for key in KEYS),
            command("EXEC"),
        ]
        for how in ("known", "flushed", "known again"):
            if how == "flushed":
                # By somebody else, on connections that stay. Others of the transaction are done, so it is not
                # made again; but the next one is preceded by the script.
                everywhere(cluster, "SCRIPT", "FLUSH")

            def is_called() -> bool:
                ours.raw.send(b"".join(batch))
                return b"-NOSCRIPT" not in [ours.raw.read_reply() for _ in batch][-1]

            eventually(is_called, what=how)
        check_in_sync(cluster)


def test_scripts_without_keys(cluster: Cluster, redis_server: RedisServer) -> None:
    """They run on one shard. What they write, which they should not, is written on all its replicas."""
    with store(cluster) as ours, RedisStore(redis_server.port) as plain:
        for words in (
            ("EVAL", "return {1, 'two', ARGV[1]}", 0, "x"),
            ("EVAL_RO", "return redis.call('PING')", 0),
            ("EVAL", "return redis.error_reply('MINE x')", 0),
            ("EVAL", "error('x')", 0),
            ("EVAL", "return redis.call('SET', 'u', ARGV[1])", 0, "v"),
            ("EVAL", "return redis.call('GET', 'u')", 0),
            ("EVAL", "redis.call('INCR', 'n') return redis.call('NOSUCH')", 0),
            ("EVAL", "return redis.call('INCR', 'n')", 0),
            ("EVAL", "#!lua flags=no-writes\nreturn redis.call('SET', 'u', 1)", 0),
            ("EVAL_RO", "return redis.call('SET', 'u', 1)", 0),
            ("FCALL", "nosuch", 0),
            ("FCALL_RO", "nosuch", 0),
        ):
            assert answer(ours, *words) == answer(plain, *words), words
        # What the clock or chance makes differ is no difference while nothing is written.
        for _ in range(3):
            assert len(ours.ask("EVAL", "return redis.call('TIME')", 0)) == 2
            ours.ask("EVAL", "return tostring(math.random())", 0)
        ours.ask("SET", "k", "v")
    check_in_sync(cluster)


REMOVE = """local found = redis.call('KEYS', ARGV[1])
if #found > 0 then redis.call('DEL', unpack(found)) end
return #found"""


@pytest.mark.parametrize("workers", [1, 3])
def test_scripts_without_keys_run_everywhere_where_it_is_said(workers: int) -> None:
    """What looks through all keys finds those of all shards; answers are put together by what they are."""
    options: dict[str, Any] = {**PATIENT, "keyless_scripts": "all"}
    with (
        Cluster("redis", shards=3, replicas=2, workers=workers, **options) as cluster,
        store(cluster) as ours,
    ):
        ours.ask("MSET", *(word for key in KEYS for word in (key, key)))
        ours.ask("SET", "other", 1)
        assert ours.ask("EVAL_RO", "return #redis.call('KEYS', ARGV[1])", 0, "k?") == 10
        assert sorted(ours.ask("EVAL", "return redis.call('KEYS', ARGV[1])", 0, "k*")) == sorted(
            key.encode() for key in KEYS
        )
        look = "#!lua flags=no-writes\nreturn redis.call('GET', ARGV[1])"
        assert ours.ask("EVAL", look, 0, "k3") == b"k3"
        assert ours.ask("EVAL", look, 0, "nosuch") is None
        assert answer(ours, "EVAL", "return redis.status_reply('FINE')", 0) == b"+FINE\r\n"
        assert b"script:" in answer(ours, "EVAL", "error('x')", 0)
        assert b"MINE x" in answer(ours, "EVAL_RO", "return redis.error_reply('MINE x')", 0)
        # With keys it is on their shard, as ever; so is what has a wrong count of them.
        assert ours.ask("EVAL", "return redis.call('GET', KEYS[1])", 1, "k1") == b"k1"
        assert b"Number of keys" in answer(ours, "EVAL", "return 1", 7)
        # By its digest, though some backends have lost it: all or none run it.
        digest = ours.ask("SCRIPT", "LOAD", REMOVE).decode()
        with RedisStore(cluster.servers[1][0].port) as direct:
            direct.ask("SCRIPT", "FLUSH")
        assert b"-NOSCRIPT" in answer(ours, "EVALSHA", "f" * 40, 0)
        ours.raw.send(b"".join(command("EVALSHA", digest, 0, pattern) for pattern in ("k?", "k*", "k*")))
        assert [ours.raw.read_reply() for _ in range(3)] == [b":10\r\n", b":2\r\n", b":0\r\n"]
        assert ours.ask("KEYS", "*") == [b"other"]
        # What they write is on all shards, and on all replicas of each.
        assert ours.ask("EVAL", "return redis.call('INCRBY', 'n', 2)", 0) == 6
        ours.ask("FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('add', function(_, a) "
                 "return redis.call('RPUSH', 'l', a[1]) end)")  # fmt: skip
        assert ours.ask("FCALL", "add", 0, "x") == 3
        check_in_sync(cluster)


@pytest.mark.fault
def test_a_script_on_every_shard_of_which_one_is_lost() -> None:
    with (
        Cluster("redis", shards=2, replicas=1, keyless_scripts="all") as cluster,
        store(cluster) as ours,
    ):
        cluster.servers[1][0].kill9()
        eventually(lambda: b"-CLUSTERDOWN" in answer(ours, "KEYS", "*"), what="it is known to be lost")
        assert b"-CLUSTERDOWN" in answer(ours, "EVAL_RO", "return 1", 0)
        assert b"outcome unknown" in answer(ours, "EVAL", "return redis.call('INCR', 'n')", 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_scripts_without_keys_only_read_in_transactions(redis_server: RedisServer, workers: int) -> None:
    library = "#!lua name=l\nredis.register_function{function_name='f', callback=function() return 7 end, "
    library += "flags={'no-writes'}}"
    text = "return {2, ARGV[1]}"
    digest = hashlib.sha1(text.encode()).hexdigest()
    requests: tuple[tuple[str | int, ...], ...] = (
        ("SET", "k", 5),
        ("EVAL", "return redis.call('PING')", 0),
        ("eval", text, 0, "x"),
        ("EVALSHA", digest, 0, "y"),
        ("FCALL", "f", 0),
        ("EVAL_RO", "return 1", 0),
        ("EVAL", "#!lua flags=no-writes\nreturn 8", 0),
        ("EVAL", "error('x')", "0"),
        ("INCR", "k"),
    )
    with (
        Cluster("redis", shards=2, replicas=2, workers=workers, **PATIENT) as cluster,
        store(cluster) as ours,
        RedisStore(redis_server.port) as plain,
    ):
        for each in (ours, plain):
            each.ask("FUNCTION", "LOAD", library)
            each.ask("MULTI")
        for words in requests:
            assert answer(ours, *words) == answer(plain, *words) == b"+QUEUED\r\n"
        assert answer(ours, "EXEC") == answer(plain, "EXEC")
        for each in (ours, plain):
            each.ask("MULTI")
            each.ask("EVAL", "return redis.call('SET', 'u', 1)", 0)
        refused = answer(ours, "EXEC")
        assert b"Write commands are not allowed from read-only scripts" in refused
        assert ours.ask("GET", "u") is None
        check_in_sync(cluster)


def test_a_script_without_keys_that_writes_by_chance_costs_its_shard_a_replica() -> None:
    with Cluster("redis", shards=2, replicas=2, **PATIENT) as cluster, store(cluster) as ours:
        ours.ask("EVAL", "local t = redis.call('TIME') redis.call('SET', 'u', t[2]) return t", 0)
        assert sorted(cluster.proxy.backend_states("p").values()).count("in_sync") == 3
        assert ours.ask("EVAL", "return redis.call('INCR', 'n')", 0) == 1
        assert cluster.differences() == {}


@pytest.mark.parametrize("views", ["available", "majority"])
@pytest.mark.parametrize(
    "script",
    [
        "for _, k in ipairs(redis.call('KEYS', '*')) do redis.call('DEL', k) end return 1",
        "redis.call('FLUSHALL') return 1",
    ],
    ids=["DEL", "FLUSHALL"],
)
def test_a_script_that_removes_everything_leaves_the_record(views: str, script: str) -> None:
    """Where votes are counted nobody could say who is in sync, if it went everywhere at once."""
    with Cluster("redis", replicas=3, views=views) as cluster, store(cluster) as client:
        for key in KEYS:
            client.set(key.encode(), b"v")
        record = view_key("p", "s1")
        before = everywhere(cluster, "GET", record)
        for _ in range(3):
            assert client.ask("EVAL", script, 0) == 1
            assert client.get(KEYS[0].encode()) is None
            client.set(KEYS[0].encode(), b"w")
        assert everywhere(cluster, "GET", record) == before
        probes = cluster.proxy.metric("shardproxy_backend_probes_total")
        eventually(lambda: cluster.proxy.metric("shardproxy_backend_probes_total") >= probes + 9)
        check_in_sync(cluster)
        assert cluster.shard_status()["epoch"] == 1
        assert client.get(KEYS[0].encode()) == b"w"


def test_functions_are_on_every_server(
    cluster: Cluster, redis_server: RedisServer, rng: random.Random
) -> None:
    with store(cluster) as ours, RedisStore(redis_server.port) as plain:

        def both(*words: str | int) -> None:
            assert answer(ours, *words) == answer(plain, *words), words

        both("FUNCTION", "LOAD", LIBRARY)
        assert all(everywhere(cluster, "FUNCTION", "LIST"))
        both("FUNCTION", "LOAD", LIBRARY)
        both("FUNCTION", "LOAD", "REPLACE", LIBRARY)
        both("FUNCTION", "LOAD", "no library")
        both("FUNCTION", "LIST", "LIBRARYNAME", "nosuch")
        both("FUNCTION", "STATS")
        both("FUNCTION", "DELETE", "nosuch")
        both("FUNCTION", "RESTORE", "x")
        both("FUNCTION", "NOSUCH")
        for key in KEYS:
            both("FCALL", "put", 1, key, rng.randrange(1000))
            both("FCALL_RO", "look", 1, key)
            both("FCALL", "nosuch", 1, key)
        dump = ours.ask("FUNCTION", "DUMP")
        both("FUNCTION", "DELETE", "lib")
        assert everywhere(cluster, "FUNCTION", "LIST") == [[]] * sum(map(len, cluster.servers))
        both("FCALL_RO", "look", 1, "k1")
        assert ours.ask("FUNCTION", "RESTORE", dump) == plain.ask("FUNCTION", "RESTORE", dump) == b"OK"
        both("FCALL_RO", "look", 1, "k1")
        both("FUNCTION", "FLUSH")
        both("FUNCTION", "FLUSH", "x")
        assert everywhere(cluster, "FUNCTION", "LIST") == [[]] * sum(map(len, cluster.servers))
    check_in_sync(cluster)


def test_a_function_that_does_not_end_is_seen_and_killed() -> None:
    endless = "#!lua name=lib\nredis.register_function('endless', function() while true do end end)"
    with (
        Cluster("redis", shards=2, replicas=1, arguments=("--lua-time-limit", "50"), **PATIENT) as cluster,
        store(cluster) as caller,
        store(cluster) as killer,
    ):
        killer.ask("FUNCTION", "LOAD", endless)
        caller.raw.send(command("FCALL", "endless", 1, "k"))

        def is_seen() -> bool:
            told = killer.ask("FUNCTION", "STATS")
            return told[0] == b"running_script" and told[1] is not None and told[1][1] == b"endless"

        eventually(is_seen, what="it is seen to run")
        with pytest.raises(Refused, match="-BUSY"):
            killer.ask("SCRIPT", "KILL")
        assert killer.ask("FUNCTION", "KILL") == b"OK"
        assert b"killed by user" in caller.raw.read_reply()
        assert killer.ask("FUNCTION", "STATS")[1] is None


def test_a_script_that_does_not_end_is_killed() -> None:
    with (
        Cluster("redis", shards=2, replicas=1, arguments=("--lua-time-limit", "50"), **PATIENT) as cluster,
        store(cluster) as caller,
        store(cluster) as killer,
    ):
        # Nobody has a connection open to kill by.
        caller.raw.send(command("EVAL", "while true do end", 1, "k"))

        def is_killed() -> bool:
            reply = killer.raw.ask(command("SCRIPT", "KILL"))
            return reply == b"+OK\r\n"

        eventually(is_killed, what="it is killed")
        assert b"killed by user" in caller.raw.read_reply()
        with pytest.raises(Refused, match="NOTBUSY"):
            killer.ask("SCRIPT", "KILL")
