"""SELECT: a client's database is one of the backends', and replicates as database 0 does.

Real servers. Replies are those of a plain redis-server; what replicas hold is compared in all databases, here
after single stories, after random writes in test_p7_replicas_converge.py and after copies below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.proxy_process import ProxyProcess, pool
from support.servers import RedisServer, Server
from support.store import RESERVED, RedisStore, Refused, command, contents

Start = Callable[..., RedisServer]
StartProxy = Callable[..., ProxyProcess]
MANAGED = ("--rename-command", "REPLICAOF", "")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster("redis", shards=2, replicas=2, workers=2) as made:
        yield made


def connected(cluster: Cluster, database: int) -> RedisStore:
    client = cluster.connect()
    assert isinstance(client, RedisStore)
    assert client.ask("SELECT", database) == b"OK"
    return client


def test_databases_are_apart_and_connections_keep_theirs(cluster: Cluster) -> None:
    clients = [connected(cluster, number) for number in (0, 1, 15)]
    clients[1].hello3()
    for number, client in enumerate(clients):
        client.raw.send(b"".join(b"SET k%d %d\r\n" % (key, number) for key in range(50)))
        assert [client.raw.read_reply() for _ in range(50)] == [b"+OK\r\n"] * 50
    for number, client in enumerate(clients):
        assert client.ask("MGET", *(f"k{key}" for key in range(50))) == [b"%d" % number] * 50
    assert b" db=15 " in clients[2].ask("CLIENT", "INFO")
    # Back and forth in one pipeline.
    clients[0].raw.send(b"SELECT 15\r\nGET k1\r\nSELECT 1\r\nGET k1\r\nRESET\r\nGET k1\r\n")
    expected = b"+OK\r\n$1\r\n2\r\n+OK\r\n$1\r\n1\r\n+RESET\r\n$1\r\n0\r\n"
    clients[0].raw.expect(expected)
    for client in clients:
        client.raw.close()
    assert cluster.differences() == {}


def test_it_answers_as_a_server_does(start_redis: Start, start_proxy: StartProxy) -> None:
    plain, backend = start_redis(), start_redis()
    proxy = start_proxy({"pools": {"p": pool("redis", [backend.address])}})
    requests = (
        "SELECT 16", "SELECT -1", "SELECT x", "SELECT 9999999999", "SELECT 1 2", "SELECT 3", "SET a 1",
        "MOVE a 3", "MOVE a 99", "MOVE a x", "MOVE a 9999999999", "MOVE a 4", "EXISTS a", "MOVE a 4",
        "SELECT 4", "GET a", "COPY a b DB 3", "COPY a b DB 3", "COPY a b DB 3 REPLACE", "COPY a a DB 4",
        "COPY a b DB 99", "COPY a b DB x", "COPY a b DB", "COPY a b", "SELECT 3", "GET b",
        "CONFIG GET databases",
    )  # fmt: skip
    with RedisStore(plain.port) as theirs, RedisStore(proxy.ports["p"]) as ours:
        for request in requests:
            line = request.encode() + b"\r\n"
            assert ours.raw.ask(line) == theirs.raw.ask(line), request


def test_fewer_databases_are_all_there_is(start_redis: Start, start_proxy: StartProxy) -> None:
    proxy = start_proxy({"pools": {"p": pool("redis", [start_redis().address], databases=2)}})
    with RedisStore(proxy.ports["p"]) as client:
        assert client.ask("SELECT", 1) == b"OK"
        client.ask("SET", "a", 1)
        for words in (("SELECT", 2), ("MOVE", "a", 2), ("COPY", "a", "b", "DB", 2)):
            with pytest.raises(Refused, match="DB index is out of range"):
                client.ask(*words)
        assert client.ask("CONFIG", "GET", "databases") == [b"databases", b"2"]


def test_a_server_with_too_few_databases_is_named(start_redis: Start, start_proxy: StartProxy) -> None:
    proxy = start_proxy({"pools": {"p": pool("redis", [start_redis("--databases", "2").address])}})
    with RedisStore(proxy.ports["p"]) as client:
        client.ask("SET", "a", 1)
        client.ask("SELECT", 5)
        with pytest.raises(Refused, match="CLUSTERDOWN"):
            client.ask("GET", "a")
        client.ask("SELECT", 0)
        assert client.ask("GET", "a") == b"1"
        # A transaction that watches a key of another database is not executed in that one instead.
        client.ask("WATCH", "a")
        client.ask("SELECT", 5)
        client.raw.send(command("MULTI") + command("SET", "a", 2) + command("EXEC"))
        assert [client.raw.read_reply() for _ in range(3)][2] == b"*-1\r\n"
        client.ask("SELECT", 0)
        assert client.ask("GET", "a") == b"1"


def test_keys_move_between_databases_on_every_replica(cluster: Cluster) -> None:
    with connected(cluster, 0) as zero, connected(cluster, 7) as seven:
        for number in range(40):
            zero.ask("SET", f"m{number}", number, "EX", 1000)
            zero.ask("RPUSH", f"c{number}", number, number)
            assert zero.ask("MOVE", f"m{number}", 7) == 1
            assert zero.ask("COPY", f"c{number}", f"c{number}", "DB", 7) == 1
        assert seven.ask("MGET", *(f"m{number}" for number in range(40))) == [b"%d" % n for n in range(40)]
        assert 900 < seven.ask("TTL", "m1") <= 1000
    assert cluster.differences() == {}
    assert cluster.shard_status()["epoch"] == 1


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 1, 1)], ids=str)
def test_databases_change_places(shape: tuple[int, int, int], start_redis: Start) -> None:
    shards, replicas, workers = shape
    plain = start_redis()
    with Cluster("redis", shards=shards, replicas=replicas, workers=workers) as cluster:
        records = [server_records(server) for row in cluster.servers for server in row]
        ours = [connected(cluster, number) for number in (0, 1, 2, 0)]
        theirs = [RedisStore(plain.port) for _ in ours]
        for each, number in zip(theirs, (0, 1, 2, 0), strict=True):
            each.ask("SELECT", number)
        ours[3].hello3()
        pairs = list(zip(ours, theirs, strict=True))
        swaps = [
            (0, 1),
            (1, 2),
            (2, 0),
            (1, 1),
            (15, 1),
            ("x", 1),
            (1, "x"),
            (-1, 1),
            (1, 16),
            (1 << 40, 0),
            (1,),
        ]
        for number, swap in enumerate(swaps):
            for at, pair in enumerate(pairs):
                for each in pair:
                    each.raw.send(b"".join(b"SET k%d:%d %d\r\n" % (at, key, number) for key in range(20)))
                    assert [each.raw.read_reply() for _ in range(20)] == [b"+OK\r\n"] * 20
                asked = [each.raw.ask(command("SWAPDB", *swap)) for each in pair]
                assert asked[0] == asked[1], swap
                for each, other in pairs:
                    keys = [f"k{place}:{key}" for place in range(4) for key in range(0, 20, 5)]
                    assert each.ask("MGET", *keys) == other.ask("MGET", *keys)
                    assert each.ask("DBSIZE") == other.ask("DBSIZE")
        for each in (*ours, *theirs):
            each.raw.close()
        held: dict[bytes, Any] = {}
        for row in cluster.servers:
            held |= contents(row[0])
        assert held == contents(plain)
        assert cluster.differences() == {}
        assert [server_records(server) for row in cluster.servers for server in row] == records
        assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


def test_who_waits_for_a_key_gets_it_by_a_swap(cluster: Cluster) -> None:
    """Without a change of the key itself; on both workers, with the swap from either."""
    pushing = connected(cluster, 2)
    waiting = [connected(cluster, 1) for _ in range(6)]
    for round_number, (first, second) in enumerate(((1, 2), (2, 1), (0, 1), (1, 2))):
        elsewhere = ({first, second} - {1}).pop()
        pushing.ask("SELECT", elsewhere)
        for number, client in enumerate(waiting):
            client.raw.send(command("BLPOP", f"queue{number}", 0))
        eventually(lambda: cluster.proxy.metric("shardproxy_clients_blocked") == len(waiting))
        for number in range(len(waiting)):
            assert pushing.ask("RPUSH", f"queue{number}", round_number) == 1
        assert pushing.ask("SWAPDB", first, second) == b"OK"
        for number, client in enumerate(waiting):
            assert client.raw.read_reply() == command(f"queue{number}", round_number)
        if round_number == 1:
            assert pushing.ask("FLUSHALL") == b"OK"  # what was tracked is forgotten with it
    for client in (pushing, *waiting):
        assert client.ask("DBSIZE") == 0
        client.raw.close()
    assert cluster.differences() == {}


def server_records(server: Server) -> dict[bytes, bytes]:
    """The proxy's own keys on a server."""
    with RedisStore(server.port) as direct:
        return {key: direct.ask("GET", key) for key in direct.ask("KEYS", RESERVED + b"*")}


def test_databases_change_places_in_the_order_of_writes(cluster: Cluster) -> None:
    """Writes of several clients in several databases meanwhile come to the same on all replicas."""

    def work(database: int) -> None:
        with connected(cluster, database) as client:
            for number in range(30):
                lines = [f"INCR n{key}" for key in range(6)] + [
                    f"SWAPDB {database} {(database + number) % 3}"
                ]
                lines += [
                    f"SPOP s{number % 3}",
                    f"SADD s{number % 3} {number}",
                    "MULTI",
                    "INCR n1",
                    "SPOP s1",
                    "EXEC",
                ]
                client.raw.send(b"".join(line.encode() + b"\r\n" for line in lines))
                replies = [client.raw.read_reply() for _ in lines]
                assert not [reply for reply in replies if reply.startswith(b"-")]

    threads = [Thread(target=work, args=(database,)) for database in (0, 1, 2, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cluster.differences() == {}
    assert cluster.shard_status()["epoch"] == 1


@pytest.mark.fault
@pytest.mark.parametrize("arguments", [(), MANAGED], ids=["replicaof", "copy"])
def test_a_returning_backend_gets_all_databases(arguments: tuple[str, ...]) -> None:
    with (
        Cluster("redis", arguments=arguments, resync={"auto": True}, workers=2) as cluster,
        connected(cluster, 0) as zero,
        connected(cluster, 9) as nine,
    ):
        victim = cluster.servers[0][1]
        assert isinstance(victim, RedisServer)
        for number in range(300):
            zero.ask("SET", f"k{number}", "zero")
            nine.ask("SET", f"k{number}", "nine", "EX", 10_000)
        victim.kill9()
        nine.ask("DEL", *(f"k{number}" for number in range(100)))
        nine.ask("RPUSH", "list", 1, 2)
        victim.restart()
        eventually(lambda: cluster.shard_status()["backends"][1]["state"] == "in_sync", within=30)
        nine.ask("RPUSH", "list", 3)
        assert cluster.differences() == {}
        assert contents(victim)[b"database 9: list"][1] == [b"1", b"2", b"3"]


@pytest.mark.fault
def test_a_database_other_than_the_first_fails_over(cluster: Cluster) -> None:
    with connected(cluster, 5) as client:
        for number in range(100):
            client.ask("SET", f"k{number}", number)
        cluster.servers[0][0].kill9()
        for number in range(100):
            assert client.ask("GET", f"k{number}") == b"%d" % number
            assert client.ask("INCR", f"n{number}") == 1
