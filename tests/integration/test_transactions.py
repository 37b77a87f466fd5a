"""MULTI, EXEC, DISCARD, WATCH and UNWATCH answer as one plain server does, whatever is behind the proxy.

Every shard's part of a transaction is atomic and reaches all its replicas; WATCH keeps its promise over
connections that are used again and again. The differences that are meant stand in `test_what_is_refused`.
"""

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import redis
from support.cluster import Cluster
from support.eventually import eventually
from support.random_commands import UNORDERED, redis_commands
from support.raw import Closed, RawClient
from support.servers import RedisServer
from support.store import RESERVED, RedisStore, command, contents, keys_on

SCRIPT = "return{KEYS[1],1}"
DIGEST = hashlib.sha1(SCRIPT.encode()).hexdigest()
NULL = {2: b"*-1\r\n", 3: b"_\r\n"}
ABORTED = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
CROSSSLOT = b"-CROSSSLOT Keys in request don't hash to the same slot\r\n"
LAYOUTS = [(1, 1, 1), (1, 2, 2), (3, 2, 1), (3, 2, 3)]
"""Shards, replicas per shard, workers."""
LOSSES = [(1, 0), (2, 0), (2, 1)]
"""Workers, and which backend is lost: the first one leads."""


def send(client: RawClient, *lines: str) -> None:
    """Sends requests, one per line of words."""
    client.send(b"".join(command(*line.split()) for line in lines))


def ask(client: RawClient, *lines: str) -> list[bytes]:
    """The replies to requests that are sent at once."""
    send(client, *lines)
    return [client.read_reply() for _ in lines]


def elements(reply: bytes) -> list[bytes]:
    """The elements of an array, as bytes."""
    end = reply.index(b"\r\n") + 2
    assert reply[:1] == b"*", reply
    found = []
    for _ in range(int(reply[1 : end - 2])):
        start, end = end, value_end(reply, end)
        found.append(reply[start:end])
    assert end == len(reply)
    return found


def value_end(reply: bytes, at: int) -> int:
    line_end = reply.index(b"\r\n", at)
    kind, rest, end = reply[at : at + 1], reply[at + 1 : line_end], line_end + 2
    if kind in b"$=" and rest != b"-1":
        return end + int(rest) + 2
    for _ in range({b"*": 1, b"~": 1, b"%": 2}.get(kind, 0) * max(0, int(rest) if kind in b"*~%" else 0)):
        end = value_end(reply, end)
    return end


@contextmanager
def clients(cluster: Cluster, count: int) -> Iterator[list[RawClient]]:
    with ExitStack() as stack:
        yield [stack.enter_context(RawClient(cluster.proxy.redis_port, timeout=20)) for _ in range(count)]


def connections(server: Any) -> int:
    """How many connections a server has had."""
    with RedisStore(server.port) as store:
        lines = store.ask("INFO", "stats").split(b"\r\n")
        found = dict(line.split(b":", 1) for line in lines if b":" in line)
        return int(found[b"total_connections_received"])


def assert_replicas_equal(cluster: Cluster) -> None:
    assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}, "a healthy replica was given up"
    assert cluster.differences() == {}


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
        for number, (ours, (name, text)) in enumerate(
            (ours, dialogue) for dialogue in DIALOGUES.items() for ours in every
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
            assert got == expected, f"{name}: {lines}"
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


def test_what_is_refused() -> None:
    """The differences to a server: what would change the connection itself inside EXEC, and what is asked of
    servers that a transaction does not go to."""
    refused = b"-ERR Command not allowed inside a transaction\r\n"
    requests = (
        "HELLO 3",
        "CLIENT REPLY ON",
        "SELECT 1",
        "SCAN 0",
        "SLOWLOG LEN",
        "SCRIPT FLUSH",
        "SWAPDB 0 1",
        "SUBSCRIBE c",
        "EVAL x 0",
        f"GET {RESERVED.decode()}view",
    )
    with Cluster("redis", replicas=1, limits={"request_bytes": "64KiB"}) as cluster:
        with clients(cluster, 1) as (client,):
            for request in requests:
                replies = ask(client, "MULTI", "GET a", request, "EXEC", "PING")
                error = refused if "GET" not in request else b"-ERR keys beginning"
                assert replies[2].startswith(error), request
                assert replies[3:] == [ABORTED, b"+PONG\r\n"]
            assert ask(client, "MULTI", "EVAL_RO return(1) 0", "EXEC")[-1] == b"*1\r\n:1\r\n"
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
                    assert got == expected, requests
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
            assert one == other, (words, transaction)


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


@pytest.mark.parametrize("workers", [1, 3])
def test_the_whole_keyspace_over_shards(redis_server: RedisServer, workers: int) -> None:
    sets = [f"SET k{number} {number}" for number in range(30)]
    lines = [
        "MULTI",
        *sets,
        "DBSIZE",
        "KEYS k1?",
        "EXEC",
        "MULTI",
        "DBSIZE",
        "DEL k1 k2 k3",
        "DBSIZE",
        "EXEC",
    ]
    with Cluster("redis", shards=3, workers=workers) as cluster, clients(cluster, 1) as (client,):
        with RawClient(redis_server.port) as theirs:
            got, expected = ask(client, *lines), ask(theirs, *lines)
        assert sorted(b"".join(got).split(b"\r\n")) == sorted(b"".join(expected).split(b"\r\n"))
        assert elements(got[-1])[:2] == [b":30\r\n", b":3\r\n"]
        drawn = {elements(ask(client, "MULTI", "RANDOMKEY", "EXEC")[-1])[0] for _ in range(100)}
        assert len(drawn) > 10
        mixed = ["MULTI", "DBSIZE", "GET k5", "FLUSHALL", "INCR k5", "SPOP none", "DBSIZE", "EXEC", "DBSIZE"]
        reply = ask(client, *mixed)
        assert reply[-2] == b"*6\r\n:27\r\n$1\r\n5\r\n+OK\r\n:1\r\n$-1\r\n:1\r\n"
        assert reply[-1] == b":1\r\n"
        # The fewest replicas that the pool's `ack` makes sure of.
        assert ask(client, "MULTI", "WAIT 1 0", "EXEC")[-1] == b"*1\r\n:1\r\n"
        assert_replicas_equal(cluster)


# --- several shards --------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
def test_a_transaction_over_shards_as_frameworks_send_it(workers: int) -> None:
    with Cluster("redis", shards=3, workers=workers) as cluster:
        with redis.Redis(port=cluster.proxy.redis_port) as client:
            many = {f"django:{n}": f"value {n}" for n in range(40)}
            with client.pipeline(transaction=True) as pipeline:
                pipeline.mset(many)
                for key in many:
                    pipeline.expire(key, 300)
                assert pipeline.execute() == [True, *[True] * 40]
            with client.pipeline(transaction=True) as pipeline:
                pipeline.mget(*many)
                pipeline.exists(*many, "none")
                pipeline.delete("django:0", "django:1", "none")
                for key in many:
                    pipeline.ttl(key)
                values, exist, gone, *lives = pipeline.execute()
            assert values == [value.encode() for value in many.values()]
            assert (exist, gone) == (40, 2)
            assert lives[:2] == [-2, -2]
            assert all(295 < life <= 300 for life in lives[2:])
        assert_replicas_equal(cluster)


def test_a_pool_that_refuses_to_split() -> None:
    with Cluster("redis", shards=2, replicas=1, cross_shard="refuse") as cluster:
        ours, others = (
            keys[0].decode() for keys in keys_on(cluster.proxy, "p", 1, [r[0] for r in cluster.servers])
        )
        with clients(cluster, 1) as (client,):
            replies = ask(
                client, "MULTI", f"SET {ours} 5", f"SET {others} 5", "EXEC", f"MGET {ours}", f"MGET {others}"
            )
            assert replies[3:] == [CROSSSLOT, b"*1\r\n$1\r\n1\r\n", b"*1\r\n$1\r\n1\r\n"]
            replies = ask(client, "MULTI", f"SET {ours} 5", "PING", f"GET {ours}", "EXEC")
            assert replies[-1] == b"*3\r\n+OK\r\n+PONG\r\n$1\r\n5\r\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_watched_keys_are_on_one_shard(workers: int) -> None:
    with Cluster("redis", shards=2, workers=workers) as cluster:
        first = [row[0] for row in cluster.servers]
        (a, b), (c, _) = ([key.decode() for key in keys] for keys in keys_on(cluster.proxy, "p", 2, first))
        with clients(cluster, 2) as (client, other):
            assert ask(client, f"WATCH {a}", f"WATCH {b}", f"WATCH {c}", f"WATCH {a} {c}") == [
                b"+OK\r\n",
                b"+OK\r\n",
                CROSSSLOT,
                CROSSSLOT,
            ]
            # The keys that were watched still are.
            ask(other, f"SET {b} 2")
            assert ask(client, "MULTI", f"SET {a} 3", "EXEC")[-1] == NULL[2]
            replies = ask(
                client, f"WATCH {a}", "MULTI", f"SET {a} 3", f"SET {c} 3", "EXEC", f"GET {a}", f"GET {c}"
            )
            assert replies[-3:] == [CROSSSLOT, b"$1\r\n1\r\n", b"$1\r\n1\r\n"]
            assert ask(client, "MULTI", f"SET {a} 3", f"SET {c} 3", "EXEC")[-1] == b"*2\r\n+OK\r\n+OK\r\n"
        assert_replicas_equal(cluster)


@pytest.mark.fault
def test_a_part_that_cannot_be_done_says_so_in_its_place() -> None:
    with Cluster("redis", shards=2, replicas=1) as cluster:
        lost, well = (
            [k.decode() for k in keys]
            for keys in keys_on(cluster.proxy, "p", 1, [r[0] for r in cluster.servers])
        )
        cluster.servers[0][0].kill9()
        cluster.wait_state(0, "down")
        with clients(cluster, 1) as (client,):
            replies = ask(client, "MULTI", f"INCR {lost[0]}", f"INCR {well[0]}", "EXEC", f"GET {well[0]}")
            failed, done = elements(replies[3])
            assert failed.startswith(b"-CLUSTERDOWN")
            assert b"nothing was applied" in failed
            assert (done, replies[4]) == (b":2\r\n", b"$1\r\n2\r\n")
            replies = ask(client, "MULTI", f"INCR {lost[0]}", "EXEC", "PING")
            assert replies[2] == failed
            assert replies[3] == b"+PONG\r\n"


def test_a_server_that_refuses_a_command_is_named_as_the_reason() -> None:
    with (
        Cluster("redis", replicas=2, arguments=("--maxmemory", "1")) as cluster,
        clients(cluster, 1) as (client,),
    ):
        *_, reply = ask(client, "MULTI", "GET a", "SET a 1", "EXEC")
        assert reply.startswith(b"-EXECABORT Transaction discarded because of: OOM command not allowed")
        assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


def test_what_a_slow_leader_refuses_is_answered_by_who_did_it() -> None:
    """Seed 140009: the error came last, and was shown over the answer."""
    health = {"interval": "60s", "timeout": "1s"}
    with Cluster("redis", relays=True, health=health) as cluster, clients(cluster, 1) as (client,):
        assert ask(client, "EXISTS k") == [b":0\r\n"]
        with RedisStore(cluster.servers[0][0].port) as leader:
            leader.ask("CONFIG", "SET", "maxmemory", "1")
        cluster.relays[0][0].delay(0.1)
        *_, reply = ask(client, "MULTI", "INCR k", "EXEC")
        assert reply == b"*1\r\n:1\r\n"
        assert cluster.shard_status()["lead"] == cluster.address(1)


# --- WATCH -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("layout", LAYOUTS[:2] + LAYOUTS[3:], ids=str)
def test_watch_sees_what_others_do(layout: tuple[int, int, int], protocol: int) -> None:
    shards, replicas, workers = layout
    changes = ["SET w 1", "DEL w", "EVAL return(redis.call('SET',KEYS[1],'x')) 1 w", "RENAME {w}2 w"]
    changes += ["MULTI | SET w 1 | EXEC", "WATCH w | MULTI | SET w 1 | EXEC", "EXPIRE w 100"]
    with Cluster("redis", shards=shards, replicas=replicas, workers=workers, hash_tag="{}") as cluster:
        with clients(cluster, 4) as (client, *others):
            client.ask(command("HELLO", protocol))
            for change in changes:
                for other in others:
                    change = change.replace(" w", " {w}")
                    lines = change.split(" | ")
                    ask(client, "SET {w} 0", "SET {w}2 0", "SET {w}3 0")
                    assert ask(client, "WATCH {w} {w}3", "GET {w}") == [b"+OK\r\n", b"$1\r\n0\r\n"]
                    ask(other, *lines)
                    assert ask(client, "MULTI", "SET {w} mine", "EXEC")[-1] == NULL[protocol], change
                    assert ask(client, "WATCH {w}2", "MULTI", "SET {w} mine", "GET {w}", "EXEC")[-1] == (
                        b"*2\r\n+OK\r\n$4\r\nmine\r\n"
                    )
                    assert ask(other, "GET {w}") == [b"$4\r\nmine\r\n"]
        assert_replicas_equal(cluster)


def test_what_is_read_while_keys_are_watched_is_what_the_leader_has() -> None:
    """A write that a replica still lacks is not written over by who has read there and seen no conflict."""
    options = {"timeouts": {"request": "20s"}, "health": {"interval": "20s", "timeout": "10s"}}
    with Cluster("redis", shards=2, workers=2, reads="spread", **options) as cluster:
        first = [row[0] for row in cluster.servers]
        for shard, (key, *_) in enumerate(keys_on(cluster.proxy, "p", 1, first)):
            name = key.decode()
            leader, follower = cluster.servers[shard]
            with clients(cluster, 5) as (writer, *readers), RedisStore(follower.port) as direct:
                writer.ask(command("HELLO", 3))
                direct.ask("CLIENT", "PAUSE", 20_000, "WRITE")
                send(writer, f"SET {name} 2")
                with RedisStore(leader.port) as there:
                    eventually(lambda: there.ask("GET", key) == b"2")  # noqa: B023
                for reader in readers:
                    for read in (f"GET {name}", f"MGET {name} other", f"MGET {name} a b c d e f g"):
                        replies = ask(reader, f"WATCH {name}", read, "UNWATCH")
                        assert b"$1\r\n2\r\n" in replies[1]
                direct.ask("CLIENT", "UNPAUSE")
                assert writer.read_reply() == b"+OK\r\n"


def count_up(connect: Callable[[], RawClient], key: str, times: int) -> tuple[int, int]:
    """Adds one so many times by reading and writing; how often that was acknowledged and in doubt."""
    done = doubtful = 0
    client = connect()
    while done + doubtful < times:
        try:
            replies = ask(client, f"WATCH {key}", f"GET {key}")
            if replies[1][:1] != b"$" or replies[0] != b"+OK\r\n":
                client.ask(command("UNWATCH"))
                continue
            value = int(replies[1].split(b"\r\n")[1]) if replies[1] != b"$-1\r\n" else 0
            reply = ask(client, "MULTI", f"SET {key} {value + 1}", "EXEC")[-1]
        except (Closed, TimeoutError, ConnectionError):
            client.close()
            client = connect()
            doubtful += 1
            continue
        if reply.startswith(b"*1"):
            done += 1
        elif reply not in NULL.values() and b"applied" in reply and b"nothing" not in reply:
            doubtful += 1
    client.close()
    return done, doubtful


def count_together(
    cluster: Cluster, keys: list[str], times: int, during: Callable[[], None]
) -> tuple[int, int]:
    """One thread per key, as `count_up`."""
    results: list[tuple[int, int]] = []
    connect = lambda: RawClient(cluster.proxy.redis_port, timeout=20)  # noqa: E731
    threads = [
        threading.Thread(target=lambda key=key: results.append(count_up(connect, key, times)))  # type: ignore[misc]
        for key in keys
    ]
    for thread in threads:
        thread.start()
    during()
    for thread in threads:
        thread.join()
    assert len(results) == len(keys), "a thread has failed"
    return sum(done for done, _ in results), sum(doubtful for _, doubtful in results)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_counter_of_many_clients_loses_nothing(layout: tuple[int, int, int]) -> None:
    shards, replicas, workers = layout
    with Cluster(
        "redis", shards=shards, replicas=replicas, workers=workers, timeouts={"request": "20s"}
    ) as cluster:
        before = [connections(server) for row in cluster.servers for server in row]
        done, doubtful = count_together(cluster, ["counter"] * 8, 20, lambda: None)
        assert (done, doubtful) == (160, 0)
        with clients(cluster, 1) as (client,):
            assert ask(client, "GET counter") == [b"$3\r\n160\r\n"]
        assert_replicas_equal(cluster)
        after = [connections(server) for row in cluster.servers for server in row]
        assert cluster.proxy.metric("shardproxy_watch_connections_taken_total", pool="p") >= 160
        # No connection per transaction: one per client at most, the lanes', and some of the health checks.
        assert sum(after) - sum(before) < 100
        eventually(lambda: cluster.proxy.metric("shardproxy_watch_connections", pool="p") == 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_connections_that_watched_are_used_again(workers: int) -> None:
    slow = {"interval": "60s", "timeout": "10s"}
    with Cluster("redis", workers=workers, health=slow) as cluster, clients(cluster, 2) as every:
        for client in every:
            ask(client, "SET k 0", "WATCH k", "UNWATCH")
        before = connections(cluster.servers[0][0])
        for number in range(150):
            client = every[number % 2]
            end = ["MULTI | SET k 1 | EXEC", "UNWATCH", "MULTI | DISCARD", "MULTI | NOSUCH | EXEC"][
                number % 4
            ]
            assert ask(client, "WATCH k", "GET k", *end.split(" | "))[0] == b"+OK\r\n"
        # The one that asks makes one; where a client's UNWATCH has no answer yet, another may be made.
        assert connections(cluster.servers[0][0]) - before <= 3


@pytest.mark.parametrize("layout", LAYOUTS[:2], ids=str)
def test_clients_that_leave_in_the_middle(layout: tuple[int, int, int]) -> None:
    _, replicas, workers = layout
    middles = ["WATCH k", "MULTI | SET k 9", "WATCH k | MULTI | SET k 9", "WATCH k | WATCH k2 | GET k"]
    with Cluster("redis", replicas=replicas, workers=workers) as cluster, clients(cluster, 1) as (client,):
        ask(client, "SET k 0")
        for number in range(60):
            with clients(cluster, 1) as (leaver,):
                lines = middles[number % 4].split(" | ")
                if number % 3:
                    assert ask(leaver, *lines)[0] == b"+OK\r\n"
                else:
                    send(leaver, *lines)
                if number % 2:
                    leaver.reset()
        eventually(lambda: cluster.proxy.metric("shardproxy_watch_connections", pool="p") == 0)
        assert ask(client, "GET k") == [b"$1\r\n0\r\n"]
        # What they watched on the connections they had is not watched by those who have them now.
        ask(client, "WATCH other", "SET k 1")
        assert ask(client, "MULTI", "GET k", "EXEC")[-1] == b"*1\r\n$1\r\n1\r\n"
        assert_replicas_equal(cluster)


def test_more_clients_watch_than_there_are_connections() -> None:
    """They wait in order; who has watched for long loses to those that wait, and tries again."""
    with Cluster("redis", replicas=2, workers=1) as cluster, clients(cluster, 150) as every:
        for number, client in enumerate(every):
            send(client, f"WATCH k{number}")
        for client in every:
            assert client.read_reply() == b"+OK\r\n"
        assert cluster.proxy.metric("shardproxy_watch_connections", pool="p") == 128
        replies = []
        for number, client in enumerate(every):
            replies.append(ask(client, "MULTI", f"SET k{number} 1", "EXEC")[-1])
        assert replies.count(NULL[2]) == 150 - 128
        assert replies.count(b"*1\r\n+OK\r\n") == 128
        with RedisStore(cluster.servers[0][0].port) as store:
            own = list(store.ask("CLIENT", "LIST").splitlines())
        assert len(own) < 150
        assert_replicas_equal(cluster)


# --- losses ----------------------------------------------------------------------------------------


@pytest.mark.fault
@pytest.mark.parametrize(("workers", "victim"), LOSSES)
def test_a_backend_is_lost_between_watch_and_exec(workers: int, victim: int) -> None:
    with Cluster("redis", workers=workers) as cluster, clients(cluster, 3) as every:
        for number, client in enumerate(every):
            assert ask(client, f"SET k{number} 1", f"WATCH k{number}", f"GET k{number}")[1] == b"+OK\r\n"
        cluster.servers[0][victim].kill9()
        cluster.wait_state(victim, "down", "stale")
        for number, client in enumerate(every):
            assert ask(client, "MULTI", f"SET k{number} 2", "EXEC", f"GET k{number}")[2:] == [
                NULL[2],
                b"$1\r\n1\r\n",
            ]
            replies = ask(client, f"WATCH k{number}", f"GET k{number}", "MULTI", f"SET k{number} 2", "EXEC")
            assert replies[-1] == b"*1\r\n+OK\r\n"
            assert ask(client, f"GET k{number}") == [b"$1\r\n2\r\n"]


@pytest.mark.fault
@pytest.mark.parametrize(("workers", "victim"), LOSSES)
def test_a_backend_is_lost_while_clients_count(workers: int, victim: int) -> None:
    """Nothing acknowledged is lost, and nothing counted twice: doubtful ones apart, the sum is exact."""
    with Cluster("redis", replicas=3, workers=workers) as cluster:
        keys = [f"c{n}" for n in range(3)] * 2

        def lose() -> None:
            eventually(
                lambda: cluster.proxy.metric("shardproxy_watch_connections_taken_total", pool="p") > 50
            )
            cluster.servers[0][victim].kill9()

        done, doubtful = count_together(cluster, keys, 60, lose)
        assert done + doubtful == 60 * len(keys)
        cluster.wait_state(victim, "down", "stale")
        for number in set(range(3)) - {victim}:
            found = contents(cluster.servers[0][number])
            total = sum(int(found[key][1]) for key in (b"c0", b"c1", b"c2"))
            assert done <= total <= done + doubtful
        assert cluster.differences() == {}


@pytest.mark.fault
@pytest.mark.parametrize(("workers", "victim"), LOSSES)
def test_a_backend_is_lost_while_transactions_run(workers: int, victim: int) -> None:
    """Both keys of a transaction, or neither; with effects of all kinds, at once and behind the leader."""
    kinds = [
        "INCR {k}a | INCR {k}b",
        "INCR {k}a | SADD s x | SPOP s | INCR {k}b",
        "INCR {k}a | INCR {k}b | PING",
    ]
    told: list[tuple[int, int]] = []

    def run(port: int, number: int) -> None:
        done = doubtful = 0
        with RawClient(port, timeout=20) as client:
            for turn in range(150):
                kind = (
                    kinds[(number + turn) % 3]
                    .replace("{k}", f"{{{number}}}")
                    .replace(" s", f" {{{number}}}s")
                )
                *_, reply = ask(client, "MULTI", *kind.split(" | "), "EXEC")
                if reply.startswith(b"*"):
                    done += 1
                elif b"may have been applied" in reply or b"may not survive" in reply:
                    doubtful += 1
        told.append((done, doubtful))

    with Cluster("redis", workers=workers, hash_tag="{}") as cluster:
        threads = [threading.Thread(target=run, args=(cluster.proxy.redis_port, n)) for n in range(4)]
        for thread in threads:
            thread.start()
        with clients(cluster, 1) as (client,):
            eventually(lambda: int(ask(client, "GET {0}a")[0].split(b"\r\n")[1]) > 20, within=20)
        cluster.servers[0][victim].kill9()
        for thread in threads:
            thread.join()
        assert len(told) == 4
        cluster.wait_state(victim, "down", "stale")
        found = contents(cluster.servers[0][1 - victim])
        for number in range(4):
            one, other = (int(found[b"{%d}%b" % (number, name)][1]) for name in (b"a", b"b"))
            assert one == other
        total = sum(int(found[b"{%d}a" % number][1]) for number in range(4))
        done, doubtful = (sum(each) for each in zip(*told, strict=True))
        assert done <= total <= done + doubtful
        assert doubtful <= 4
