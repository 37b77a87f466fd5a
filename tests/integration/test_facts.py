"""What the proxy says of its shards together: INFO, WAIT, LASTSAVE, SLOWLOG, LATENCY, MEMORY."""

import re
import time

import pytest
from support.cluster import Cluster
from support.eventually import PATIENCE, eventually
from support.servers import RedisServer
from support.store import RedisStore, command

PATIENT = {
    "timeouts": {"connect": "1s", "request": "10s"},
    "health": {"interval": "5s", "timeout": "5s", "fall": 10},
}


def store(cluster: Cluster) -> RedisStore:
    connected = cluster.connect()
    assert isinstance(connected, RedisStore)
    return connected


def info(connected: RedisStore, *sections: str) -> dict[str, str]:
    lines = connected.ask("INFO", *sections).decode().splitlines()
    pairs = [line.split(":", 1) for line in lines if line and not line.startswith("#")]
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


@pytest.mark.parametrize("workers", [1, 3])
def test_info_sums_shards_and_shows_none(redis_server: RedisServer, workers: int) -> None:
    with (
        Cluster("redis", shards=3, replicas=2, workers=workers, **PATIENT) as cluster,
        store(cluster) as ours,
        RedisStore(redis_server.port) as plain,
    ):
        assert [name for name in info(ours) if name.startswith("db")] == []
        for connected in (ours, plain):
            for number in range(60):
                connected.ask("SET", f"k{number}", "v" * number)
            for number in range(10):
                connected.ask("EXPIRE", f"k{number}", 1000)
            connected.ask("SELECT", 3)
            connected.ask("SET", "elsewhere", "v")
        got, expected = info(ours, "keyspace"), info(plain, "keyspace")
        assert set(got) == {"db0", "db3"}
        assert [got[name].split(",")[:2] for name in got] == [expected[n].split(",")[:2] for n in expected]

        def average() -> int:
            return int(info(ours, "keyspace")["db0"].rpartition("=")[2])

        # Each server samples now and then.
        eventually(lambda: 900_000 < average() <= 1_000_000, what="the mean time to live is known")
        found = info(ours)
        assert (found["role"], found["connected_slaves"], found["loading"]) == ("master", "0", "0")
        assert (found["shards"], found["shards_counted"]) == ("3", "3")
        leaders = [row[0] for row in cluster.servers]
        with RedisStore(leaders[0].port) as direct:
            theirs = info(direct)
            assert int(found["used_memory"]) > 2 * int(theirs["used_memory"])
            assert int(found["total_commands_processed"]) > int(theirs["total_commands_processed"]) - 200
            assert theirs["run_id"] not in str(found)
        # What is not about shards asks none of them.
        requests = cluster.proxy.metric("shardproxy_backend_requests_total")
        assert info(ours, "server", "replication")["redis_mode"] == "standalone"
        assert cluster.proxy.metric("shardproxy_backend_requests_total") <= requests + 2
        ours.hello3()
        assert ours.raw.ask(command("INFO", "keyspace")).startswith(b"=")


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("workers", [1, 2])
def test_info_inside_a_transaction(workers: int, protocol: int) -> None:
    with (
        Cluster("redis", shards=2, replicas=2, workers=workers, **PATIENT) as cluster,
        store(cluster) as ours,
    ):
        if protocol == 3:
            ours.hello3()
        for database in (0, 3):
            ours.ask("SELECT", database)
            for number in range(20):
                ours.ask("SET", f"k{number}", "v")
        for database in (0, 3):
            ours.ask("SELECT", database)
            ours.ask("MULTI")
            for words in (("SET", "new", 1), ("INFO", "keyspace"), ("INFO", "replication"), ("DEL", "new")):
                assert ours.ask(*words) == b"QUEUED"
            done, keyspace, replication, deleted = ours.ask("EXEC")
            assert (done, deleted) == (b"OK", 1)
            lines = keyspace.decode().splitlines()
            assert lines[0].removeprefix("txt:") == "# Keyspace"
            counted = {line.split(":")[0]: int(re.split("[=,]", line)[1]) for line in lines[1:]}
            assert counted == {"db0": 20, "db3": 20} | {f"db{database}": 21}, "without our own keys"
            assert b"role:master" in replication
            assert ours.ask("DBSIZE") == 20, "the database is what it was"
        assert cluster.differences() == {}


@pytest.mark.fault
def test_info_is_quick_when_a_shard_is_not() -> None:
    with Cluster("redis", shards=2, replicas=1, **PATIENT) as cluster, store(cluster) as ours:
        for number in range(20):
            ours.ask("SET", f"k{number}", "v")
        cluster.servers[1][0].stop()
        began = time.monotonic()
        found = info(ours)
        assert time.monotonic() - began < 2.0 * PATIENCE
        assert (found["shards"], found["shards_counted"]) == ("2", "1")
        assert 0 < int(found["db0"].partition(",")[0].removeprefix("keys=")) < 20
        cluster.servers[1][0].cont()
        eventually(lambda: info(ours)["db0"].startswith("keys=20,"), what="it is counted again")
        cluster.servers[0][0].kill9()
        eventually(lambda: info(ours)["shards_counted"] == "1", what="it is left out")


@pytest.mark.parametrize(
    ("ack", "replicas", "expected"), [("all", 3, 2), ("quorum", 3, 1), ("primary", 2, 0)]
)
def test_wait_says_what_is_certain(redis_server: RedisServer, ack: str, replicas: int, expected: int) -> None:
    with (
        Cluster("redis", shards=2, replicas=replicas, replication={"ack": ack}, **PATIENT) as cluster,
        store(cluster) as ours,
        RedisStore(redis_server.port) as plain,
    ):
        ours.raw.send(command("SET", "k", "v") + command("WAIT", replicas, 0) + command("GET", "k"))
        assert [ours.raw.read_reply() for _ in range(3)] == [
            b"+OK\r\n",
            b":%d\r\n" % expected,
            b"$1\r\nv\r\n",
        ]
        for words in (
            ("WAIT",),
            ("WAIT", 1),
            ("WAIT", "x", 0),
            ("WAIT", 1, "x"),
            ("WAIT", 1, -1),
            ("WAIT", 1, 2, 3),
        ):
            assert ours.raw.ask(command(*words)) == plain.raw.ask(command(*words)), words


def test_what_any_server_would_say(redis_server: RedisServer) -> None:
    with (
        Cluster("redis", shards=2, replicas=2, workers=2, **PATIENT) as cluster,
        store(cluster) as ours,
        RedisStore(redis_server.port) as plain,
    ):
        for words in (
            ("ACL", "CAT"),
            ("ACL", "CAT", "nosuch"),
            ("ACL", "GENPASS", "x"),
            ("ACL", "GENPASS", 0),
            ("LOLWUT", "VERSION", 5, 1, 1, 1),
            ("LASTSAVE", "x"),
        ):
            assert ours.raw.ask(command(*words)) == plain.raw.ask(command(*words)), words
        scripting = [sorted(each.ask("ACL", "CAT", "scripting")) for each in (ours, plain)]
        assert scripting[0] == scripting[1]
        assert re.fullmatch(b"[0-9a-f]{16}", ours.ask("ACL", "GENPASS", 64))
        with RedisStore(cluster.servers[1][0].port) as direct:
            began = direct.ask("LASTSAVE")
            # A server's seconds are those of the kernel's last tick, so they may begin a little later.
            eventually(lambda: time.time() > began + 1.1, what="the clock goes on")
            assert direct.ask("SAVE") == b"OK"
            assert direct.ask("LASTSAVE") > began
        with RedisStore(cluster.servers[0][0].port) as direct:
            least = direct.ask("LASTSAVE")
        assert ours.ask("LASTSAVE") == least, "since when all have"
        assert [ours.ask(*words) for words in (("MULTI",), ("LASTSAVE",), ("ACL", "CAT"))][1:] == [
            b"QUEUED"
        ] * 2
        assert ours.ask("EXEC") == [least, plain.ask("ACL", "CAT")]


def test_nothing_is_known_to_be_on_a_disk() -> None:
    """As of a server without an append-only file. The installed server has no WAITAOF to compare with."""
    with Cluster("redis", shards=2, replicas=2, **PATIENT) as cluster, store(cluster) as ours:
        for words, expected in {
            (0, 0, 0): "*2\r\n:0\r\n:0\r\n",
            (0, 1, 10_000): "*2\r\n:0\r\n:0\r\n",
            (1, 0, 0): "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n",
            (2, 0, 0): "-ERR value is out of range, must be between 0 and 1\r\n",
            ("x", 0, 0): "-ERR value is not an integer or out of range\r\n",
            (0, -1, 0): "-ERR value is out of range, must be positive\r\n",
            (0, 0, -1): "-ERR timeout is negative\r\n",
            (0, 0, "x"): "-ERR timeout is not an integer or out of range\r\n",
            (0, 0): "-ERR wrong number of arguments for 'waitaof' command\r\n",
        }.items():
            assert ours.raw.ask(command("WAITAOF", *words)) == expected.encode(), words


def test_what_servers_have_measured(redis_server: RedisServer) -> None:
    with (
        Cluster(
            "redis", shards=2, replicas=2, workers=2, arguments=("--slowlog-log-slower-than", "0"), **PATIENT
        ) as cluster,
        store(cluster) as ours,
        RedisStore(redis_server.port) as plain,
    ):
        for number in range(20):
            ours.ask("SET", f"slow{number}", "v")
        entries = ours.ask("SLOWLOG", "GET", 1000)
        named = [entry for entry in entries if entry[3][:1] == [b"SET"] and entry[3][1].startswith(b"slow")]
        assert len(named) == 40, "each on both replicas"
        assert "__shardproxy:" not in str(entries)
        assert ours.ask("SLOWLOG", "LEN") >= 40
        assert ours.ask("SLOWLOG", "RESET") == b"OK"
        assert not [entry for entry in ours.ask("SLOWLOG", "GET", 1000) if b"slow1" in entry[3]]
        for words in (
            ("SLOWLOG", "GET", "x"),
            ("SLOWLOG", "NOSUCH"),
            ("SLOWLOG",),
            ("LATENCY", "RESET"),
            ("LATENCY", "LATEST"),
            ("LATENCY", "HISTORY", "command"),
            ("LATENCY", "HISTORY"),
            ("LATENCY", "NOSUCH"),
            ("MEMORY", "PURGE"),
            ("MEMORY", "DOCTOR", "x"),
        ):
            assert ours.raw.ask(command(*words)) == plain.raw.ask(command(*words)), words
        addresses = [server.address for row in cluster.servers for server in row]
        report = ours.ask("LATENCY", "DOCTOR").decode()
        assert [address for address in addresses if f"{address}:\n" in report] == addresses
        for words in (("MEMORY", "DOCTOR"), ("MEMORY", "MALLOC-STATS")):
            report = ours.ask(*words).decode()
            assert sum(f"{address}:\n" in report for address in addresses) == 2, words


def test_numbers_of_all_servers_are_summed(redis_server: RedisServer) -> None:
    with (
        Cluster("redis", shards=2, replicas=2, workers=2, **PATIENT) as cluster,
        store(cluster) as ours,
        store(cluster).hello3() as ours3,
        RedisStore(redis_server.port) as plain,
    ):
        for number in range(30):
            ours.ask("HSETNX", f"h{number}", "f", 1)
        for words in (
            ("LATENCY", "HISTOGRAM", "nosuch"),
            ("LATENCY", "HISTOGRAM", "pfadd"),
            ("LATENCY", "GRAPH", "command"),
            ("LATENCY", "GRAPH"),
            ("MEMORY", "STATS", "x"),
            ("MODULE", "LIST"),
        ):
            assert ours.raw.ask(command(*words)) == plain.raw.ask(command(*words)), words
        for each in (ours, ours3):
            name, histogram = each.ask("LATENCY", "HISTOGRAM", "hsetnx")
            assert name == b"hsetnx"
            assert histogram[:3] == [b"calls", 60, b"histogram_usec"], "30 on two replicas each"
            counts = histogram[3][1::2]
            assert counts == sorted(counts)
            assert counts[-1] == 60
            found = each.ask("MEMORY", "STATS")
            numbers = dict(zip(found[::2], found[1::2], strict=True))
            assert numbers[b"keys.count"] >= 30, "of the leaders"
            assert numbers[b"total.allocated"] > 2 * 500_000
            assert set(numbers) < {*plain.ask("MEMORY", "STATS")[::2], b"db.0"}, "percentages are left out"
        leader = cluster.servers[1][0]
        with RedisStore(leader.port) as direct:
            direct.ask("CONFIG", "SET", "latency-monitor-threshold", 1)
            direct.ask("EVAL", "for i = 1, 20000000 do end", 0)
        graph = ours.ask("LATENCY", "GRAPH", "command").decode()
        assert graph.startswith(f"{leader.address}:\ncommand - high ")
