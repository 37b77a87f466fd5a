"""MULTI, EXEC, DISCARD, WATCH and UNWATCH answer as one plain server does, whatever is behind the proxy.

Every shard's part of a transaction is atomic and reaches all its replicas. The differences that are meant
stand in `test_what_is_refused`.
"""

import hashlib
import random
from typing import Any

import pytest
from support.cluster import Cluster
from support.random_commands import UNORDERED, redis_commands
from support.raw import RawClient
from support.servers import RedisServer
from support.store import RESERVED, RedisStore, command, contents, parse
from support.transactions import (
    ABORTED,
    CROSSSLOT,
    LAYOUTS,
    ask,
    assert_replicas_equal,
    clients,
    elements,
    send,
)
from support.wording import as_redis_7

SCRIPT = "return{KEYS[1],1}"
DIGEST = hashlib.sha1(SCRIPT.encode()).hexdigest()

# --- as one server ---------------------------------------------------------------------------------

DIALOGUES = {
    "without multi": "EXEC | DISCARD | UNWATCH | EXEC now | GET t",
    "empty": "MULTI | EXEC | EXEC | MULTI | DISCARD | EXEC",
    "plain": "MULTI | SET t 1 | INCR t | GET t | EXEC | GET t",
    "discarded": "SET t 1 | MULTI | SET t 2 | DISCARD | GET t | EXEC",
    "nested": "MULTI | MULTI | SET t 3 | EXEC",
    "watch inside": "MULTI | WATCH t | SET t 4 | EXEC | GET t",
    "unwatch inside": "WATCH t | MULTI | UNWATCH | GET t | EXEC",
    "unknown": "MULTI | NOSUCH t | SET t 5 | EXEC | GET t | EXEC",
    "arity": "MULTI | SET t | GET t | EXEC | MULTI | GET t | EXEC now | EXEC",
    "nested errors": "SET t x | MULTI | LPUSH t 1 | INCR t | GET t | SET t 1 EX nope | EXEC | GET t",
    "own answers": "MULTI | PING | ECHO hi | GET t | CLIENT SETNAME me | CLIENT GETNAME | EXEC",
    "only own answers": "MULTI | PING | PING me | EXEC",
    "reset": "MULTI | SET t 9 | RESET | EXEC | GET t",
    "reset of watch": "WATCH t | RESET | SET t 10 | MULTI | SET t 11 | EXEC | GET t",
    "scripts": "MULTI | EVAL return{KEYS[1],ARGV[1]} 1 t a | EVAL x x t | EVALSHA beef 1 t | GET t | EXEC",
    "blocking": "RPUSH l 1 2 | MULTI | BLPOP l 0 | BRPOP nolist 0 | BLMOVE l l LEFT RIGHT 0 | EXEC | LLEN l",
    "streams": "XADD x 1-1 f v | MULTI | XREAD BLOCK 0 STREAMS x 0 | XREAD BLOCK 0 STREAMS x $ | EXEC",
    "keys that cannot be told": "MULTI | ZUNION 0 t | LMPOP x t LEFT | GET t | EXEC",
    "watch": "WATCH t | GET t | MULTI | SET t 6 | EXEC | WATCH t | SET t 7 | MULTI | SET t 8 | EXEC | GET t",
    "unwatched": "WATCH t | SET t 7 | UNWATCH | MULTI | SET t 8 | EXEC | GET t",
    "watch ends with discard": "WATCH t | MULTI | DISCARD | SET t 9 | MULTI | SET t 10 | EXEC | GET t",
    "watch ends with exec": "WATCH t | MULTI | EXEC | SET t 9 | MULTI | SET t 10 | EXEC | GET t",
    "watch ends with an error": "WATCH t | MULTI | NOSUCH | EXEC | SET t 1 | MULTI | GET t | EXEC",
    "nothing to do, but watched": "WATCH t | SET t 1 | MULTI | EXEC | WATCH t | MULTI | EXEC",
    "own answers, watched": "WATCH t | SET t 1 | MULTI | PING | EXEC | WATCH t | MULTI | PING | GET t | EXEC",
    "watch of nothing": "WATCH | WATCH t t t | MULTI | GET t | EXEC",
    "select": "MULTI | SELECT 0 | GET t | EXEC",
    "databases": "SELECT 2 | MULTI | SET t 1 | SELECT 2 | EXEC | WATCH t | MULTI | INCR t | EXEC | GET t",
    "into others": "SET t 5 | MULTI | MOVE t 2 | GET t | EXEC | SELECT 2 | GET t | MULTI | COPY t t DB 3 | "
    "MOVE t 99 | INCR t | EXEC | SELECT 3 | GET t | MULTI | MOVE t 0 | EXEC | SELECT 0 | GET t",
    "watched and moved": "SET t 5 | WATCH t | MULTI | MOVE t 2 | SET t 6 | EXEC | GET t | SELECT 2 | GET t",
    "of all shards": "MULTI | DBSIZE | SET t 1 | KEYS t | DBSIZE | WAIT x 0 | WAIT 0 x | KEYS none | EXEC",
    "flushed": "SET t 1 | MULTI | SET t 2 | FLUSHALL | DBSIZE | SET t 3 | DBSIZE | RANDOMKEY | EXEC | GET t",
    "flushed, with chance": "SADD t a | MULTI | SADD t b | FLUSHDB SYNC | DBSIZE | RANDOMKEY | "
    "SADD t c | SPOP t | SADD t d | EXEC | SMEMBERS t | DBSIZE",
    "flushed wrongly": "SET t 1 | MULTI | FLUSHALL x | FLUSHDB SYNC x | GET t | EXEC",
    "flushed beside": "SELECT 3 | SET t 1 | SELECT 0 | SET t 2 | MULTI | FLUSHDB | INCR t | EXEC | "
    "SELECT 3 | GET t | MULTI | FLUSHALL ASYNC | EXEC | GET t | SELECT 0 | GET t",
    "scripts by digest": f"MULTI | SCRIPT LOAD {SCRIPT} | EVALSHA {DIGEST} 1 t | "
    f"SCRIPT EXISTS {DIGEST} beef | SCRIPT LOAD x( | EXEC | EVALSHA {DIGEST} 1 t | SCRIPT FLUSH | "
    f"EVALSHA {DIGEST} 1 t",
    "libraries": "MULTI | FUNCTION LIST | FUNCTION DELETE nosuch | FUNCTION LOAD x | FUNCTION STATS | "
    "FUNCTION FLUSH | EXEC",
    "keys without values": "MULTI | MSET t 1 t | SET t 2 | EXEC | GET t | MSET t",
}
"""Requests and replies of one connection; the proxy's equal the plain server's, sent singly or at once."""
BEGUN_INSIDE = {"nested", "watch inside"}
"""Those that Valkey answers in its own way since 9.1, refusing EXEC, too. The proxy does as Redis."""


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("layout", LAYOUTS[:1] + LAYOUTS[3:], ids=str)
def test_dialogues_are_those_of_a_server(
    redis_server: RedisServer, layout: tuple[int, int, int], protocol: int
) -> None:
    shards, replicas, workers = layout
    with (
        Cluster("redis", shards=shards, replicas=replicas, workers=workers, hash_tag="{}") as cluster,
        clients(cluster, 4) as every,
        RawClient(redis_server.port, timeout=20) as theirs,
    ):
        begun = ask(theirs, "MULTI", "MULTI", "DISCARD")[1]
        left_out = BEGUN_INSIDE if b"not allowed inside a transaction" in begun else set()
        dialogues = [each for each in DIALOGUES.items() if each[0] not in left_out]
        for number, (ours, (name, text)) in enumerate(
            (ours, dialogue) for dialogue in dialogues for ours in every
        ):
            for each in (ours, theirs):
                assert ask(each, "RESET", f"HELLO {protocol}")[0] == b"+RESET\r\n"
            # Keys of their own for each, and of one shard.
            names = {word: f"{{{number}}}{word}" for word in ("t", "l", "nolist", "x")}
            at = {"EVAL": (3, 4), "BLPOP": (1, 2)}
            lines = []
            for line in text.split(" | "):
                words = line.split()
                keys = range(*at.get(words[0], (1, len(words)))) if words else ()
                lines.append(
                    " ".join(
                        names.get(w, w) if i in keys or w in ("t", "l") else w for i, w in enumerate(words)
                    )
                )
            if number % 4 < 2:
                got, expected = ([ask(each, line)[0] for line in lines] for each in (ours, theirs))
            else:
                got, expected = ask(ours, *lines), ask(theirs, *lines)
            assert got == [as_redis_7(reply) for reply in expected], f"{name}: {lines}"
        assert_replicas_equal(cluster)


def test_quit_ends_a_transaction_and_the_connection() -> None:
    with Cluster("redis", replicas=1) as cluster, clients(cluster, 1) as (client,):
        assert ask(client, "MULTI", "SET t 1") == [b"+OK\r\n", b"+QUEUED\r\n"]
        send(client, "QUIT")
        assert client.expect_closed() == b"+OK\r\n"
        with clients(cluster, 1) as (other,):
            assert ask(other, "GET t") == [b"$-1\r\n"]


def test_quiet_transactions(redis_server: RedisServer) -> None:
    """CLIENT REPLY concerns each answer for itself, as with a server."""
    requests = ["SET q 1", "CLIENT REPLY SKIP", "MULTI", "INCR q", "EXEC", "CLIENT REPLY SKIP", "MULTI"]
    requests += ["CLIENT GETNAME", "INCR q", "EXEC", "CLIENT REPLY OFF", "MULTI", "INCR q", "EXEC", "WATCH q"]
    requests += ["MULTI", "INCR q", "EXEC", "CLIENT REPLY ON", "GET q", "PING end"]
    with Cluster("redis", workers=2) as cluster, clients(cluster, 3) as every:
        with RawClient(redis_server.port) as theirs:
            send(theirs, *requests)
            expected = theirs.read_until(b"end\r\n")
        for client in every:
            send(client, *requests)
            assert client.read_until(b"end\r\n") == expected


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_walk_through_all_keys(redis_server: RedisServer, protocol: int) -> None:
    """SCAN inside shows all keys, each step in a transaction of its own and on either connection."""
    names = {b"k%d" % number for number in range(100)}
    errors = ["MULTI", "SCAN", "EXEC", "MULTI", "SCAN x", "SCAN 0 COUNT 0", "SCAN 0 TYPE", "EXEC"]
    cluster = Cluster("redis", shards=2, workers=2, reads="spread")
    with cluster, clients(cluster, 2) as (one, two):
        with RawClient(redis_server.port) as theirs:
            assert ask(one, *errors) == ask(theirs, *errors)
        for client in (one, two):
            client.ask(command("HELLO", protocol))
        for name in names:
            one.ask(command("SET", name, 1))
        for writes in (True, False):
            for client, others in ((one, one), (one, two)):
                found: set[bytes] = set()
                cursor = b"0"
                for _ in range(1000):
                    queued = ["INCR n", "DEL n"] if writes else ["EXISTS n"]
                    scan = b"SCAN %b COUNT 7" % cursor
                    replies = ask(client, "MULTI", *queued, scan.decode(), "EXEC")
                    cursor, keys = parse(replies[-1])[-1]
                    found.update(keys)
                    client, others = others, client
                    if cursor == b"0":
                        break
                assert found == names
        # What was asked outside goes on inside, and the other way round.
        cursor, keys = parse(one.ask(command("SCAN", 0, "COUNT", 60)))
        found = set(keys)
        for step in range(1000):
            if cursor == b"0":
                break
            words = command("SCAN", cursor, "COUNT", 5)
            if step % 2:
                cursor, keys = parse(one.ask(words))
            else:
                one.send(b"MULTI\r\n" + words + b"EXEC\r\n")
                cursor, keys = parse([one.read_reply() for _ in range(3)][-1])[0]
            found.update(keys)
        assert found == names


def test_what_is_refused() -> None:
    """The differences to a server: what would change the connection itself inside EXEC, and what is asked of
    servers that a transaction does not go to."""
    refused = b"-ERR Command not allowed inside a transaction\r\n"
    requests = (
        "HELLO 3",
        "CLIENT REPLY ON",
        "SELECT 1",
        "SLOWLOG LEN",
        "SCRIPT FLUSH",
        "SWAPDB 0 1",
        "SUBSCRIBE c",
        f"GET {RESERVED.decode()}view",
    )
    with Cluster("redis", replicas=1, limits={"request_bytes": "64KiB"}) as cluster:
        with clients(cluster, 1) as (client,):
            for request in requests:
                replies = ask(client, "MULTI", "GET a", request, "EXEC", "PING")
                error = refused if "GET" not in request else b"-ERR keys beginning"
                assert replies[2].startswith(error), request
                assert replies[3:] == [ABORTED, b"+PONG\r\n"]
            assert client.ask(command("MULTI")) == b"+OK\r\n"
            for _ in range(3):
                assert client.ask(command("SET", "a", b"x" * 20_000)) == b"+QUEUED\r\n"
            too_large = b"-ERR the transaction exceeds the proxy's limit for requests\r\n"
            assert client.ask(command("SET", "a", b"x" * 20_000)) == too_large
            assert ask(client, "SET a 1", "EXEC", "GET a") == [b"+QUEUED\r\n", ABORTED, b"$-1\r\n"]
            # What a short request becomes counts as well.
            replies = ask(client, "MULTI", "SET a 1", *["RANDOMKEY"] * 1200, "EXEC", "GET a")
            assert replies[-3:] == [b"+QUEUED\r\n", too_large, b"$-1\r\n"]


# --- random transactions ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "protocol"), [*zip(LAYOUTS, [3, 2, 3, 2], strict=True)], ids=str)
def test_random_transactions(
    redis_server: RedisServer, rng: random.Random, layout: tuple[int, int, int], protocol: int
) -> None:
    shards, replicas, workers = layout
    options = {"hash_tag": "{}", "timeouts": {"request": "20s"}}
    with (
        Cluster("redis", shards=shards, replicas=replicas, workers=workers, **options) as cluster,
        clients(cluster, 4) as every,
        RawClient(redis_server.port, timeout=20) as theirs,
    ):
        for client in (*every, theirs):
            client.ask(command("HELLO", protocol))
        for _ in range(500):
            ours = rng.choice(every)
            size = rng.choice([0, 1, 1, 2, 3, 5, 12])
            drawn = redis_commands(rng, size, spread=0.0)
            transaction = [words for words in drawn if words[0] != "SCAN"]
            if rng.random() < 0.05:
                transaction.insert(rng.randrange(len(transaction) + 1), [rng.choice(["FLUSHDB", "FLUSHALL"])])
            end = rng.choice(["EXEC"] * 9 + ["DISCARD"])
            requests = [["MULTI"], *transaction, [end]]
            if rng.random() < 0.3:
                watched = next((w for words in transaction for w in words if w.startswith("{")), "{b}:str:1")
                requests.insert(0, ["WATCH", watched])
            data = b"".join(command(*words) for words in requests)
            ours.send(data)
            theirs.send(data)
            for words in requests:
                got, expected = ours.read_reply(), theirs.read_reply()
                if got == CROSSSLOT and requests[0][0] == "WATCH":
                    assert words == ["EXEC"]
                    assert shards > 1
                    # The plain server has done it; do it here too.
                    rest = requests[1:]
                    got = [ours.ask(command(*words)) for words in rest][-1]
                if words == ["EXEC"] and expected.startswith(b"*") and got != expected:
                    compare_exec(transaction, got, expected)
                else:
                    assert got == as_redis_7(expected), requests
        for server in (redis_server, *(each for row in cluster.servers for each in row)):
            with RedisStore(server.port) as store:  # PFCOUNT stores what it counted, where it was asked
                for key in store.ask("KEYS", "*:hll:*"):
                    store.ask("PFCOUNT", key)
        assert_replicas_equal(cluster)
        held: dict[bytes, Any] = {}
        for row in cluster.servers:
            held |= contents(row[0])
        assert held == contents(redis_server)


def compare_exec(transaction: list[list[str]], got: bytes, expected: bytes) -> None:
    pairs = zip(transaction, elements(got), elements(expected), strict=True)
    for words, one, other in pairs:
        if one != other and words[0] in UNORDERED:
            assert sorted(one.split(b"\r\n")) == sorted(other.split(b"\r\n")), words
        else:
            assert one == as_redis_7(other), (words, transaction)


def test_whole_keyspace_and_watched_keys(redis_server: RedisServer) -> None:
    lines = [
        "SET a 1",
        "WATCH a",
        "MULTI",
        "DBSIZE",
        "FLUSHALL",
        "DBSIZE",
        "SET a 2",
        "EXEC",
        "GET a",
        "DBSIZE",
    ]
    lines += [
        "WATCH a",
        "SET a 3",
        "MULTI",
        "FLUSHALL",
        "EXEC",
        "GET a",
        "WATCH a",
        "FLUSHDB",
        "MULTI",
        "EXEC",
    ]
    with Cluster("redis", workers=2) as cluster, clients(cluster, 2) as every:
        with RawClient(redis_server.port) as theirs:
            expected = ask(theirs, *lines)
        for client in every:
            assert ask(client, *lines) == expected
        assert_replicas_equal(cluster)
    with Cluster("redis", shards=2, replicas=1) as cluster, clients(cluster, 1) as (client,):
        # It is watched on one shard only.
        assert ask(client, "WATCH a", "MULTI", "DBSIZE", "EXEC", "DBSIZE")[2:] == [
            b"+QUEUED\r\n",
            CROSSSLOT,
            b":0\r\n",
        ]
