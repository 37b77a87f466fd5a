"""What a connection remembers is what a server's remembers, whatever has led there.

Transactions, watched keys, databases, protocol versions, subscriptions, silence and waiting are each tested
on their own elsewhere; here one connection goes through all of them in any order. It sends all at once to the
proxy and to a plain server, and is answered the same bytes. What is meant to differ (COMMANDS.md: what a
transaction does not take) is left out.
"""

import random
import re
from collections.abc import Iterator, Sequence

import pytest
from support.cluster import Cluster
from support.pipeline import resp
from support.raw import answers
from support.servers import RedisServer

END = (resp("RESET") + resp("ECHO", "the end of it"), b"$13\r\nthe end of it\r\n")
"""Ends whatever state the connection is in."""

STORIES = (
    # Silence.
    "CLIENT REPLY OFF | SET k 1 | RESET | GET k",
    "CLIENT REPLY OFF | MULTI | SET k 1 | RESET | GET k",
    "CLIENT REPLY OFF | SUBSCRIBE c | CLIENT REPLY ON | RESET | PING",
    "CLIENT REPLY SKIP | SUBSCRIBE c | CLIENT REPLY SKIP | PING",
    "CLIENT REPLY SKIP | MULTI | CLIENT GETNAME | EXEC",
    "CLIENT REPLY SKIP | RESET | PING",
    "CLIENT REPLY SKIP | CLIENT REPLY x | PING",
    "CLIENT REPLY SKIP | CLIENT REPLY | PING",
    "CLIENT REPLY SKIP | CLIENT REPLY SKIP | PING | PING",
    "CLIENT REPLY OFF | CLIENT REPLY x | CLIENT REPLY SKIP | CLIENT REPLY ON | PING",
    "CLIENT REPLY SKIP | BLPOP none 0.001 | BLPOP none 0.001",
    "CLIENT REPLY OFF | WATCH k | SET k 1 | MULTI | GET k | EXEC | CLIENT REPLY ON | MULTI | GET k | EXEC",
    # What is watched stays watched in another database and protocol.
    "SET k 0 | WATCH k | SELECT 1 | MULTI | SET k 1 | GET k | EXEC | GET k | SELECT 0 | GET k",
    "WATCH k | HELLO 3 | MULTI | HSET h f v | HGETALL h | EXEC",
    "HELLO 3 | WATCH k | HELLO 2 | HSET h f v | HGETALL h | MULTI | HGETALL h | EXEC",
    "WATCH k | SELECT 1 | SET k 1 | MULTI | GET k | EXEC",
    "WATCH k | SELECT 1 | WATCH k | SET k 1 | MULTI | GET k | EXEC",
    "WATCH k | SELECT 1 | WATCH n | SELECT 0 | SET k 1 | SELECT 2 | MULTI | SET k 1 | EXEC | GET k",
    "WATCH k | SET k 1 | SELECT 1 | GET k | MULTI | GET k | EXEC | MULTI | GET k | EXEC",
    "SELECT 1 | WATCH k | SELECT 0 | HELLO 3 | SADD s a b | MULTI | SREM s a | EXEC | SCARD s",
    "WATCH k | SELECT 99 | MULTI | INCR k | EXEC | GET k",
    "WATCH k | SELECT 1 | UNWATCH | SELECT 0 | SET k 5 | MULTI | GET k | EXEC",
    "WATCH k | SELECT 3 | RESET | SET k 1 | MULTI | INCR k | EXEC",
    "SET k 0 | WATCH k | SELECT 1 | MULTI | SET k 1 | MOVE k 2 | EXEC | SELECT 2 | GET k | SELECT 0 | GET k",
    # The end.
    "WATCH k | MULTI | SET k 1 | QUIT | GET k",
    "SUBSCRIBE c | PSUBSCRIBE p | QUIT | PING",
    "BLPOP none 0.001 | QUIT | PING",
    "QUIT x | RESET x | PING",
    # What ends a transaction without its doing anything.
    "WATCH k | SET k 1 | MULTI | CLIENT SETNAME me | GET k | EXEC | CLIENT GETNAME",
    "WATCH k | MULTI | CLIENT SETNAME me | CLIENT GETNAME | GET k | EXEC | CLIENT GETNAME",
    "MULTI | CLIENT SETNAME me | SET k 1 | CLIENT GETNAME | EXEC | CLIENT GETNAME | MULTI | EXEC",
    "WATCH k | SUBSCRIBE c | EXEC | UNSUBSCRIBE | SET k 1 | MULTI | GET k | EXEC",
    "WATCH k | SET k 1 | EXEC x | MULTI | GET k | EXEC",
    "WATCH k | SET k 1 | EXEC | MULTI | GET k | EXEC",
    "SUBSCRIBE c | MULTI | EXEC | EXEC x | DISCARD | WATCH k",
)  # fmt: skip

REQUESTS = """
SET k v | GET k | INCR n | MGET k n | MGET k x1 x2 x3 | DEL k | LPUSH l x | BLPOP l 0.001 | BLPOP none l 0.001
WATCH k | WATCH k n | UNWATCH | MULTI | MULTI | MULTI | EXEC | EXEC | EXEC | DISCARD | SELECT 0 | SELECT 1
SELECT 2 | SELECT 99 | HELLO 2 | HELLO 3 | HELLO 3 SETNAME x | HELLO 9 | HELLO | RESET | CLIENT REPLY ON
CLIENT REPLY OFF | CLIENT REPLY SKIP | CLIENT REPLY x | CLIENT REPLY | CLIENT SETNAME a | CLIENT GETNAME
CLIENT SETNAME | CLIENT NO-EVICT ON | CLIENT INFO | SUBSCRIBE c | SUBSCRIBE c c | UNSUBSCRIBE c
UNSUBSCRIBE d | UNSUBSCRIBE | PSUBSCRIBE p* | PUNSUBSCRIBE p* | PUNSUBSCRIBE | SSUBSCRIBE e | SUNSUBSCRIBE
PUBLISH nobody m | PING | PING x | ECHO e | NOSUCH a | GET | EXEC x | AUTH x | DBSIZE | QUIT | RESET x
XADD s 1-1 f v | XREAD BLOCK 1 STREAMS s $ | XREAD BLOCK 1 STREAMS s 0 | TYPE k | RENAME k n
COPY k n DB 1 | MOVE k 2 | EXPIRE k 100 | GETEX k PERSIST | SETEX k 100 v | SET k | SPOP k | WATCH | MULTI x
SADD t a | SPOP t | EVAL return{KEYS[1]} 1 k | EVAL return(redis.call('incr',KEYS[1])) 1 n
"""
KEYS = frozenset(("k", "n", "l", "s", "t", "none"))
"""Words that are keys, given a tag that puts them on one shard."""
KEYLESS = frozenset(("AUTH", "CLIENT", "ECHO", "HELLO", "PING", "PUBLISH"))
NOT_INSIDE = ("HELLO", "SELECT", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE",
              "SUNSUBSCRIBE", "CLIENT REPLY", "CLIENT INFO")  # fmt: skip
"""What transactions take in another way, or tell otherwise."""
ELSEWHERE = ("DBSIZE", "PUBLISH")
"""What asks other shards than the one whose keys are watched: refused with them in one transaction."""


SILENCE = frozenset(("CLIENT REPLY OFF", "CLIENT REPLY SKIP"))
"""After which a server does not close the connection with QUIT, as it has nothing to send."""


@pytest.fixture(scope="module", params=[(1, 1, 1), (3, 2, 2)], ids=str)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    shards, replicas, workers = request.param
    patient = {"timeouts": {"request": "20s"}, "health": {"interval": "2s", "timeout": "2s", "fall": 10}}
    with Cluster(
        "redis", shards=shards, replicas=replicas, workers=workers, hash_tag="{}", **patient
    ) as made:
        yield made


@pytest.fixture(scope="module")
def plain() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def request(line: str, tag: str) -> bytes:
    name, *words = line.split(" ")
    tagged = [f"{{{tag}}}{word}" if word in KEYS and name not in KEYLESS else word for word in words]
    return resp(name, *tagged)


def answered(port: int, lines: Sequence[str], tag: str) -> bytes:
    return comparable(answers(port, b"".join(request(line, tag) for line in lines), END))


def comparable(reply: bytes) -> bytes:
    """Without numbers of connections, and of what a client is told of itself only its state."""
    reply = re.sub(rb"(?<=\$2\r\nid\r\n:)\d+", b"N", reply)
    state = re.compile(rb" ((?:name|db|sub|psub|multi|resp|user)=\S*)")
    return re.sub(
        rb"[$=]\d+\r\n(?:txt:)?id=\d+ [^\r]*\r\n", lambda found: b" ".join(state.findall(found[0])), reply
    )


@pytest.mark.parametrize("story", STORIES)
def test_what_has_happened_is_remembered(cluster: Cluster, plain: RedisServer, story: str) -> None:
    lines, tag = story.split(" | "), str(STORIES.index(story))
    answered(plain.port, ["FLUSHALL"], tag)
    expected = answered(plain.port, lines, tag)
    for _ in range(3):  # whichever worker has the client
        answered(cluster.proxy.redis_port, ["FLUSHALL"], tag)
        assert answered(cluster.proxy.redis_port, lines, tag) == expected
    assert cluster.differences() == {}


def drawn(rng: random.Random) -> list[str]:
    """Some requests, but for those that a transaction takes in another way."""
    requests = [line for row in REQUESTS.strip().splitlines() for line in row.split(" | ")]
    lines: list[str] = []
    is_inside = False
    for _ in range(rng.randrange(2, 25)):
        line = rng.choice(requests)
        if is_inside and line.startswith(NOT_INSIDE):
            continue
        if is_inside and line.startswith(ELSEWHERE) and any(said.startswith("WATCH") for said in lines):
            continue
        if line == "QUIT" and SILENCE & {*lines}:
            continue
        ends = line in ("EXEC", "EXEC x", "DISCARD", "RESET")
        is_inside = line == "MULTI" or (is_inside and not ends)
        lines.append(line)
    return lines


@pytest.mark.slow
def test_any_requests_in_any_order(cluster: Cluster, plain: RedisServer, rng: random.Random) -> None:
    for port in (cluster.proxy.redis_port, plain.port):
        answered(port, ["FLUSHALL"], "")
    for number in range(400):
        lines, tag = drawn(rng), f"random:{number}"
        ours, theirs = (answered(port, lines, tag) for port in (cluster.proxy.redis_port, plain.port))
        assert ours == theirs, " | ".join(lines)
    assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}
    assert cluster.differences() == {}
