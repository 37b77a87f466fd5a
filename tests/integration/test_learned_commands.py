"""Commands that the table does not have, of modules or newer servers: learned when first seen.

Servers here have commands under other names, which is what a module's look like from outside: they are
described by COMMAND INFO, and do what they do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from support.cluster import Cluster
from support.raw import RawClient
from support.servers import RedisServer
from support.store import RedisStore, Refused, command
from support.wording import as_redis_7

from proxy import _engine

RENAMED = {
    "RPUSH": "doc.push", "LINDEX": "doc.index", "MSETNX": "doc.many", "BLPOP": "doc.wait",
    "OBJECT": "doc.object", "ACL": "doc.admin", "SPOP": "doc.chance", "XREAD": "doc.read",
}  # fmt: skip
ARGUMENTS = [word for name, other in RENAMED.items() for word in ("--rename-command", name, other)]


@pytest.fixture(params=[1, 3], ids=["1 worker", "3 workers"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with Cluster(
        "redis", shards=2, replicas=2, workers=request.param, arguments=ARGUMENTS, hash_tag="{}"
    ) as made:
        yield made


def connected(cluster: Cluster) -> RedisStore:
    client = cluster.connect()
    assert isinstance(client, RedisStore)
    return client


def asked(cluster: Cluster) -> int:
    """How often backends were asked about commands."""
    total = 0
    for server in (server for row in cluster.servers for server in row):
        with RedisStore(server.port) as direct:
            for line in direct.ask("INFO", "commandstats").splitlines():
                if line.startswith(b"cmdstat_command|info:"):
                    total += int(line.partition(b"calls=")[2].partition(b",")[0])
    return total


def test_they_are_routed_by_their_keys_and_replicated(cluster: Cluster) -> None:
    clients = [connected(cluster) for _ in range(4)]
    clients[1].hello3()
    clients[2].ask("SELECT", 2)
    for number in range(40):
        for client in clients:
            assert client.ask("Doc.Push", f"l{number}", "a", "b") in (2, 4, 6)
    for client in (clients[0], clients[2]):
        assert client.ask("DOC.INDEX", "l7", 1) == b"b"
    clients[0].ask("SADD", "s", *range(50))
    assert len({clients[0].ask("doc.chance", "s") for _ in range(20)}) == 20
    assert clients[0].ask("doc.object", "ENCODING", "l7") in (b"quicklist", b"listpack")  # by version
    for client in clients:
        client.raw.close()
    assert cluster.differences() == {}
    assert asked(cluster) <= 6 * 3, "each name once by each worker at most"
    assert cluster.proxy.metric("shardproxy_requests_total", command="other", result="ok") >= 180


def test_they_are_part_of_transactions(cluster: Cluster) -> None:
    with connected(cluster) as client, connected(cluster).hello3() as other:
        for each in (client, other):
            each.ask("SADD", "s", *range(50))
            lines = [f"DOC.PUSH {{l{number}}}x a" for number in range(10)]
            lines = ["MULTI", *lines, "doc.chance s", "DOC.INDEX {l1}x 0", "EXEC"]
            each.raw.send(b"".join(b"%b\r\n" % line.encode() for line in lines))
            replies = [each.raw.read_reply() for _ in lines]
            assert replies[-2] == b"+QUEUED\r\n"
            assert replies[-1].endswith(b"$1\r\na\r\n")
            assert b"-" not in replies[-1]
            for line in (b"doc.wait l 1", b"doc.admin LIST"):
                each.raw.send(b"MULTI\r\n%b\r\nEXEC\r\n" % line)
                replies = [each.raw.read_reply() for _ in range(3)]
                assert replies[1].startswith(b"-ERR unknown command")
                assert replies[2].startswith(b"-EXECABORT")
    assert cluster.differences() == {}
    assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


def test_what_cannot_be_routed_is_refused(cluster: Cluster) -> None:
    with connected(cluster) as client:
        assert client.ask("doc.many", "{a}1", 1, "{a}2", 2) == 1
        with pytest.raises(Refused, match="CROSSSLOT"):
            client.ask("doc.many", *(word for number in range(20) for word in (f"k{number}", 1)))
        with pytest.raises(Refused, match="reserved"):
            client.ask("doc.push", "__shardproxy:x", 1)
        with pytest.raises(Refused, match=r"wrong number of arguments for 'doc\.push' command"):
            client.ask("doc.push", "l")
        for words in (
            ("doc.wait", "l", 1),
            ("doc.admin", "LIST"),
            ("doc.object", "NOSUCH", "l"),
            ("doc.read", "STREAMS", "x", 0),
        ):
            with pytest.raises(Refused, match="unknown"):
                client.ask(*words)


def test_requests_keep_their_order_while_one_is_learned(cluster: Cluster) -> None:
    with connected(cluster) as client:
        client.raw.send(b"SET a 1\r\nDOC.PUSH l x\r\nINCR a\r\nNOSUCH\r\nDOC.INDEX l 0\r\nGET a\r\n")
        expected = b"+OK\r\n:1\r\n:2\r\n-ERR unknown command 'NOSUCH', with args beginning with: \r\n"
        client.raw.expect(expected + b"$1\r\nx\r\n$1\r\n2\r\n")


def test_every_command_of_the_server_has_a_place(start_redis: Callable[..., RedisServer]) -> None:
    """What the table lacks is answered as by the server itself, once it is known."""
    table = {row.name.partition("|")[0] for row in _engine.command_table()}
    plain = start_redis()
    with Cluster("redis", shards=2, replicas=2) as cluster, connected(cluster) as ours:
        with RedisStore(plain.port) as theirs:
            entries = {entry[0].decode().upper(): entry for entry in theirs.ask("COMMAND")}
            names = sorted(entries.keys() - table)
            for words in (words for name in names for words in ([name], [name, "k"])):
                got = ours.raw.ask(command(*words))
                if not entries[words[0]][8]:
                    # It names no key: HOTKEYS, TRIMSLOTS.
                    assert got == unknown(*words)
                    continue
                # Some servers write their own name in capitals.
                assert got.lower() == theirs.raw.ask(command(*words)).lower(), words
    if not names:
        pytest.skip("the table has all commands of this server")


def test_what_the_table_has_and_the_servers_lack_they_refuse(start_redis: Callable[..., RedisServer]) -> None:
    """Commands of newer servers than the backends are: the answer is theirs, inside a transaction too."""
    plain = start_redis()
    rows = [row for row in _engine.command_table() if row.handling == "forward" and "|" not in row.name]
    with Cluster("redis", shards=2, replicas=2) as cluster, connected(cluster) as ours:
        with RedisStore(plain.port) as theirs:
            known = {name.decode().upper() for name in theirs.ask("COMMAND", "LIST")}
            lacking = [row for row in rows if row.name not in known]
            for row in lacking:
                # Not a time to live: HEXPIRE goes as HPEXPIREAT, which the error would name.
                request = command(row.name, "k", *("0" for _ in range(abs(row.arity) - 2)))
                refusal = theirs.raw.ask(request)
                assert refusal.startswith(b"-ERR unknown command")
                assert ours.raw.ask(request) == refusal
                ours.ask("MULTI")
                assert ours.raw.ask(request) == b"+QUEUED\r\n"
                assert ours.raw.ask(command("EXEC")).startswith(b"-EXECABORT")
        assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}
        assert cluster.proxy.metric("shardproxy_write_repairs_total") == 0
    if not lacking:
        pytest.skip("the server has all commands of the table")


def unknown(name: str, *words: str) -> bytes:
    """Redis' answer to what it does not know."""
    shown = "".join(f"'{word}' " for word in words)
    return f"-ERR unknown command '{name}', with args beginning with: {shown}\r\n".encode()


def test_unknown_commands_are_unknown_and_asked_about_seldom(
    cluster: Cluster, start_redis: Callable[..., RedisServer]
) -> None:
    requests = [
        b"NOSUCH a b\r\n",
        b"nosuch\r\n",
        b"JSON.GET %b\r\n" % (b"x" * 300),
        b"%b y\r\n" % (b"n" * 100),
    ]
    plain = start_redis()

    def work() -> None:
        with connected(cluster) as ours, RawClient(plain.port) as theirs:
            for _ in range(30):
                for request in requests:
                    assert ours.raw.ask(request) == as_redis_7(theirs.ask(request))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked(cluster) <= 3 * 3

    # Names made up one after the other keep neither the backends nor other clients busy.
    with connected(cluster) as hostile, connected(cluster) as other:
        hostile.raw.send(b"".join(b"MADEUP%d x\r\n" % number for number in range(2000)))
        for number in range(100):
            other.ask("SET", f"k{number}", number)
        for number in range(2000):
            assert hostile.raw.read_reply().startswith(b"-ERR unknown command 'MADEUP%d'" % number)


def test_a_lost_backend_is_not_waited_for(cluster: Cluster) -> None:
    for row in cluster.servers:
        for server in row:
            server.kill9()
    with connected(cluster) as client, pytest.raises(Refused, match=r"unknown command 'DOC\.PUSH'"):
        client.ask("DOC.PUSH", "l", 1)
