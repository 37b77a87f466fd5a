"""What concerns all shards looks as on one server: counting, listing, walking and removing keys.

Against real servers, with a plain one beside them where the answers can be compared. The proxy's own keys
must never be seen, and never be gone.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.servers import RedisServer
from support.store import RESERVED, RedisStore, Refused, keys_on, parse

PATIENT = {
    "timeouts": {"connect": "1s", "request": "10s"},
    "health": {"interval": "2s", "timeout": "2s", "fall": 10},
}
"""Options for tests that break nothing, so that a slow machine breaks nothing either."""

StartRedis = Callable[..., RedisServer]


@pytest.fixture(params=[(3, 2, 3), (2, 1, 2), (1, 2, 1)], ids=lambda shape: "x".join(map(str, shape)))
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Shards, replicas of each, workers of the proxy."""
    shards, replicas, workers = request.param
    with Cluster("redis", shards=shards, replicas=replicas, workers=workers, **PATIENT) as made:
        yield made


def store(cluster: Cluster) -> RedisStore:
    connected = cluster.connect()
    assert isinstance(connected, RedisStore)
    return connected


def fill(rng: random.Random, count: int, *stores: RedisStore, first: int = 0) -> None:
    """The same keys of several types into each."""
    for number in range(first, first + count):
        key = f"{rng.choice(('user', 'cart', 'x'))}:{number}"
        words = rng.choice((("SET", key, "v"), ("HSET", key, "f", "v"), ("RPUSH", key, "a", "b")))
        assert len({str(each.ask(*words)) for each in stores}) == 1


def scan(connected: RedisStore, *options: str | int) -> list[bytes]:
    """All that a SCAN shows, a key as often as it comes."""
    found, cursor = [], b"0"
    for _ in range(100_000):
        cursor, page = connected.ask("SCAN", cursor, *options)
        found += page
        if cursor == b"0":
            return found
        assert 0 < int(cursor) < 1 << 53
    raise AssertionError("a SCAN without end")


def records(cluster: Cluster, shards: Iterable[int] | None = None) -> list[dict[bytes, bytes]]:
    """Our own keys on each backend, of these shards."""
    found = []
    rows = cluster.servers if shards is None else [cluster.servers[shard] for shard in shards]
    for server in [server for row in rows for server in row]:
        with RedisStore(server.port) as direct:
            found.append({key: direct.ask("GET", key) for key in direct.ask("KEYS", RESERVED + b"*")})
    return found


def found(connected: RedisStore, *options: str | int) -> list[bytes] | str:
    """What a SCAN shows, or the error: newer servers know no type "nosuch"."""
    try:
        return sorted(set(scan(connected, *options)))
    except Refused as refused:
        return str(refused)


def test_the_keys_of_all_shards_are_those_of_one_server(
    cluster: Cluster, redis_server: RedisServer, rng: random.Random
) -> None:
    with store(cluster) as ours, RedisStore(redis_server.port) as plain:
        for connected in (ours, plain):
            assert connected.ask("DBSIZE") == 0
            assert connected.ask("RANDOMKEY") is None
            assert connected.ask("KEYS", "*") == []
            assert scan(connected) == []
        fill(rng, 1, ours, plain)
        assert {ours.ask("RANDOMKEY") for _ in range(50)} == {plain.ask("RANDOMKEY")}
        fill(rng, 900, ours, plain, first=1)
        assert ours.ask("DBSIZE") == plain.ask("DBSIZE")
        for pattern in ("*", "user:*", "*:1?", "none*", "__shardproxy:*", "[cx]*:*7"):
            assert sorted(ours.ask("KEYS", pattern)) == sorted(plain.ask("KEYS", pattern)), pattern
        for options in (
            (),
            ("COUNT", 1),
            ("COUNT", 100_000),
            ("MATCH", "cart:*"),
            ("TYPE", "hash", "COUNT", 50),
            ("MATCH", "*:*5", "TYPE", "list"),
            ("MATCH", "__shardproxy:*"),
            ("TYPE", "nosuch"),
        ):
            assert found(ours, *options) == found(plain, *options), options
        # Nothing has changed meanwhile, so nothing came twice.
        assert len(scan(ours)) == ours.ask("DBSIZE")
        drawn = Counter(ours.ask("RANDOMKEY") for _ in range(600))
        assert len(drawn) > 200
        assert set(drawn) <= set(plain.ask("KEYS", "*"))
        for words in (
            ("SCAN",),
            ("SCAN", "x"),
            ("SCAN", "1x"),
            ("SCAN", "18446744073709551616"),
            ("SCAN", 0, "COUNT", 0),
            ("SCAN", 0, "COUNT", "x"),
            ("SCAN", 0, "NOSUCH"),
            ("SCAN", 0, "MATCH"),
            ("SCAN", "0", "NOVALUES"),
            ("KEYS",),
            ("KEYS", "a", "b"),
            ("DBSIZE", "x"),
            ("RANDOMKEY", "x"),
            ("FLUSHALL", "x"),
            ("FLUSHDB", "ASYNC", "SYNC"),
            ("FLUSHALL", ""),
            ("FLUSHALL", "SYNC", "x"),
        ):
            with pytest.raises(Refused) as theirs:
                plain.ask(*words)
            with pytest.raises(Refused) as got:
                ours.ask(*words)
            assert str(got.value) == str(theirs.value), words
        with pytest.raises(Refused, match="invalid cursor"):
            ours.ask("SCAN", " 1")  # which servers newer than 7.0 take
        assert ours.ask("DBSIZE") == plain.ask("DBSIZE")


def test_a_random_key_is_any_key() -> None:
    """Not first any shard: who draws has each key as often, however few are where it is."""
    with Cluster("redis", shards=2, replicas=1, **PATIENT) as cluster, store(cluster) as ours:
        few, many = keys_on(cluster.proxy, "p", 200, [row[0] for row in cluster.servers])
        assert ours.ask("FLUSHALL") == b"OK"
        few = few[:4]
        for key in (*few, *many):
            ours.ask("SET", key, "v")
        ours.raw.send(b"RANDOMKEY\r\n" * 1000)
        drawn = Counter(parse(ours.raw.read_reply()) in few for _ in range(1000))
        # One in 51 is due to them: 20 of 1000. None or more than 60 comes about once in 10**8 runs.
        assert 0 < drawn[True] < 60


def test_cursors_that_nobody_gave_out(cluster: Cluster, rng: random.Random) -> None:
    with store(cluster) as ours:
        fill(rng, 200, ours)
        whole = set(scan(ours))
        for cursor in ("-1", "+0", "", "18446744073709551615", *(rng.getrandbits(64) for _ in range(60))):
            for _ in range(1000):
                cursor, page = ours.ask("SCAN", cursor, "COUNT", 60)
                assert set(page) <= whole
                if cursor == b"0":
                    break
            else:
                raise AssertionError("it does not end")


def test_pipelined_in_order(cluster: Cluster, redis_server: RedisServer) -> None:
    """Each sees what the requests before it did, and nothing of those behind it."""
    requests = []
    for number in range(40):
        requests += [("SET", f"k{number}", "v"), ("DBSIZE",), ("DEL", "k0", f"k{number - 3}"), ("KEYS", "*1")]
        if number % 13 == 12:
            requests += [("FLUSHALL",), ("DBSIZE",), ("RANDOMKEY",), ("SET", "last", "v"), ("RANDOMKEY",)]
    with store(cluster) as ours, RedisStore(redis_server.port) as plain:
        for connected in (ours, plain):
            connected.raw.send(b"".join(connected_request(*words) for words in requests))
        for words in requests:
            got, expected = ours.raw.read_reply(), plain.raw.read_reply()
            if words[0] == "KEYS":
                got, expected = (bytes(sorted(reply)) for reply in (got, expected))
            assert got == expected, words


def test_a_random_key_is_none_that_comes_later(cluster: Cluster) -> None:
    """However often it is drawn until it is none of our own."""
    with store(cluster) as ours:
        assert ours.ask("SET", "early", "v") == b"OK"
        for _ in range(150):
            ours.raw.send(connected_request("RANDOMKEY") + connected_request("SET", "late", "v"))
            assert [ours.raw.read_reply() for _ in range(2)] == [b"$5\r\nearly\r\n", b"+OK\r\n"]
            assert ours.ask("DEL", "late") == 1


def connected_request(*words: str) -> bytes:
    return b"".join(
        [b"*%d\r\n" % len(words), *(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)]
    )


def test_a_flush_keeps_replicas_equal_and_records_there(cluster: Cluster, rng: random.Random) -> None:
    with store(cluster) as ours:
        before = records(cluster)
        if len(cluster.servers[0]) > 1:
            assert all(before)
        for words in (("FLUSHALL",), ("FLUSHDB",), ("FLUSHALL", "SYNC"), ("FLUSHDB", "async")):
            fill(rng, 100, ours)
            assert ours.ask(*words) == b"OK"
            assert ours.ask("DBSIZE") == 0
            assert records(cluster) == before
        # Of one database, and of all.
        for words, left in ((("FLUSHDB",), 1), (("FLUSHALL",), 0)):
            ours.ask("SELECT", 0)
            ours.ask("SET", "k", "v")
            ours.ask("SELECT", 5)
            ours.ask("MSET", "k", "v", "l", "w")
            assert ours.ask("DBSIZE") == len(ours.ask("KEYS", "*")) == len(scan(ours)) == 2
            assert ours.ask(*words) == b"OK"
            assert (ours.ask("DBSIZE"), ours.ask("RANDOMKEY")) == (0, None)
            ours.ask("SELECT", 0)
            assert ours.ask("DBSIZE") == left
            assert records(cluster) == before
        ours.hello3()
        assert ours.raw.ask(b"RANDOMKEY\r\n") == b"_\r\n"
    assert cluster.differences() == {}
    assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


def test_flushes_among_writes_from_all_sides(rng: random.Random) -> None:
    """Replicas see writes and flushes in one order, whatever worker, protocol and database they use."""
    with Cluster("redis", shards=2, replicas=2, workers=3, **PATIENT) as cluster:
        before = records(cluster)
        errors: list[BaseException] = []

        def work(seed: int) -> None:
            own = random.Random(seed)
            try:
                with store(cluster) as ours:
                    if own.random() < 0.5:
                        ours.hello3()
                    ours.ask("SELECT", own.randrange(2))
                    for number in range(150):
                        key = f"k{own.randrange(60)}"
                        ours.ask(*own.choice((("INCR", key), ("SET", key, number), ("DEL", key, "k1"))))
                        if own.random() < 0.05:
                            ours.ask(own.choice(("FLUSHALL", "FLUSHDB")))
                        if own.random() < 0.1:
                            assert not any(key.startswith(RESERVED) for key in ours.ask("KEYS", "*"))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(rng.getrandbits(32),)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert cluster.differences() == {}
        assert records(cluster) == before
        assert cluster.proxy.metric("shardproxy_backend_write_failures_total") == 0


def test_a_full_server_can_be_flushed() -> None:
    with Cluster("redis", shards=2, replicas=2, **PATIENT) as cluster, store(cluster) as ours:
        for number in range(20):
            ours.ask("SET", f"k{number}", "v")
        before = records(cluster)
        for server in [server for row in cluster.servers for server in row]:
            with RedisStore(server.port) as direct:
                direct.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(Refused, match="OOM"):
            ours.ask("SET", "k", "v")
        assert ours.ask("FLUSHALL") == b"OK"
        assert ours.ask("DBSIZE") == 0
        assert records(cluster) == before


@pytest.mark.fault
@pytest.mark.parametrize("workers", [1, 3])
def test_a_walk_misses_nothing_while_leaders_die(workers: int, rng: random.Random) -> None:
    """Keys that are there throughout are shown, whatever comes and goes, and whoever leads."""
    with Cluster("redis", shards=3, replicas=2, workers=workers) as cluster, store(cluster) as ours:
        lasting = {f"lasting:{number}".encode() for number in range(2000)}
        for start in range(0, 2000, 100):
            words = [word for number in range(start, start + 100) for word in (f"lasting:{number}", "v")]
            ours.ask("MSET", *words)
        found: set[bytes] = set()
        cursor, steps, killed = b"0", 0, 0
        while True:
            cursor, page = ours.ask("SCAN", cursor, "COUNT", 20)
            found.update(page)
            steps += 1
            assert steps < 5000
            for _ in range(2):
                ours.ask(
                    *rng.choice(
                        (
                            ("SET", f"passing:{rng.randrange(500)}", "v"),
                            ("DEL", f"passing:{rng.randrange(500)}"),
                        )
                    )
                )
            if steps in (10, 60, 110):
                # The leader of the shard that is being walked, in the middle of it.
                cluster.servers[killed][0].kill9()
                killed += 1
            if cursor == b"0":
                break
        assert killed == 3
        assert found >= lasting
        assert {key for key in found if not key.startswith((b"lasting:", b"passing:"))} == set()
        eventually(lambda: ours.ask("DBSIZE") == len(set(scan(ours))), what="counting and walking agree")


@pytest.mark.fault
def test_reads_of_all_shards_go_on_and_say_when_they_cannot(rng: random.Random) -> None:
    with Cluster("redis", shards=2, replicas=2, workers=2) as cluster, store(cluster) as ours:
        fill(rng, 100, ours)
        cluster.servers[1][0].kill9()
        assert ours.ask("DBSIZE") == 100
        assert len(ours.ask("KEYS", "*")) == 100
        assert ours.ask("RANDOMKEY") is not None
        assert len(set(scan(ours))) == 100
        cluster.wait_state(0, "down", shard=1)
        assert ours.ask("DBSIZE") == 100
        cluster.servers[1][1].kill9()
        for words in (("DBSIZE",), ("KEYS", "*"), ("RANDOMKEY",)):
            with pytest.raises(Refused, match="CLUSTERDOWN"):
                ours.ask(*words)
        with pytest.raises(Refused):
            ours.ask("FLUSHALL")


@pytest.mark.fault
def test_a_shard_whose_keys_are_elsewhere_is_left_out(rng: random.Random) -> None:
    with (
        Cluster("redis", shards=3, replicas=1, workers=2, on_shard_loss="remap") as cluster,
        store(cluster) as ours,
    ):
        fill(rng, 60, ours)
        cluster.servers[1][0].kill9()
        remapped = "shardproxy_shard_remapped"
        eventually(lambda: cluster.proxy.metric(remapped) == 1, within=20, what="it is absent")
        left = {key for row in (0, 2) for key in contents_of(cluster, row)}
        assert set(scan(ours)) == set(ours.ask("KEYS", "*")) == left
        assert ours.ask("DBSIZE") == len(left)
        assert ours.ask("RANDOMKEY") in left
        absence = [found for found in records(cluster, (0, 2)) if b"__shardproxy:absent:p" in found]
        assert len(absence) == 2
        assert ours.ask("FLUSHALL") == b"OK"
        assert ours.ask("DBSIZE") == 0
        assert all(b"__shardproxy:absent:p" in found for found in records(cluster, (0, 2)))
        assert ours.ask("EVAL", "return 1", 0) == 1


def contents_of(cluster: Cluster, shard: int) -> list[bytes]:
    with RedisStore(cluster.servers[shard][0].port) as direct:
        return [key for key in direct.ask("KEYS", "*") if not key.startswith(RESERVED)]
