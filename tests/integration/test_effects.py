"""Every write of Redis leaves the replicas of a shard equal: by value, and by when each key expires.

That has to hold for writes that chance or the clock decides, and for those that look at what was there
when a key has expired on one server and not yet on another. The latter is made here by taking a key with
a time to live away from one of the servers, as a clock that is ahead would; in time it goes on the other.
"""

import itertools
import random
import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.servers import RedisServer
from support.store import RESERVED, RedisStore, command

from proxy import _engine

DUMPED = bytes.fromhex("0001760a009108ceb219388ace")
"""What DUMP answers for the string "v", in the version of Redis 7.0."""
FILL = {
    "n": "SET n 5",
    "v": "SET v value",
    "h": "HSET h f 1.5 g 2",
    "l": "RPUSH l a b c a",
    "s": "SADD s a b c",
    "t": "SADD t b c d",
    "z": "ZADD z 1 a 2 b 3 c",
    "y": "ZADD y 5 a 1 d",
    "g": "GEOADD g 13.361389 38.115556 p 15.087269 37.502669 c",
    "p": "PFADD p a b c",
    "q": "PFADD q c d",
    "x": "XADD x 5-1 f v",
}
"""Keys by their first letter and how each is filled; every request gets keys of its own."""

LIVES = """
SET v w EX 100 | SET v w PX 100000 | SET v w EXAT 4000000000 | SET v w PXAT 4000000000123
SET v w XX EX 100 GET | SET v w NX PX 100000 | SET m w NX PX 100000 | SETEX v 100 w | PSETEX v 100000 w
EXPIRE v 100 | PEXPIRE v 100000 | EXPIRE v 100 NX | EXPIRE v 100 XX | EXPIRE v 100 GT | EXPIRE v 100 LT
EXPIREAT v 4000000000 | PEXPIREAT v 4000000000123 | GETEX v EX 100 | GETEX v PX 100000
GETEX v EXAT 4000000000 | GETEX v PERSIST | GETEX v | PERSIST v | RESTORE m 0 DUMP | RESTORE m 100000 DUMP
RESTORE v 100000 DUMP | RESTORE v 100000 DUMP REPLACE | RESTORE v 4000000000123 DUMP REPLACE ABSTTL
EXPIRE v 0 | EXPIRE v -1 | PEXPIREAT v 1
"""
CONDITIONS = """
SET v w | SET v w NX | SET v w XX | SET v w GET | SET v w XX KEEPTTL | SET v w KEEPTTL | SET m w NX
SET m w XX | SETNX v w | SETNX m w | MSETNX v w m w | MSETNX m w k w | MSET v w m w | HSETNX h f 9
HSETNX h m 9 | LPUSHX l w | LPUSHX m w | RPUSHX l w w | RENAMENX v w | RENAMENX v h | RENAME v w
RENAME m w | COPY v w | COPY v h | COPY v h REPLACE | ZADD z NX 9 a 9 d | ZADD z XX 9 a 9 d
ZADD z GT 2 a 1 b | ZADD z LT CH 0 a 9 b | ZADD z INCR 2.5 a | ZADD z NX INCR 2.5 a | GETSET v w
GETDEL v | GETDEL m | GETSET l w | DEL v m | UNLINK v | LSET l 0 w | LSET m 0 w | LINSERT l BEFORE b w
"""
CHANGES = """
APPEND v w | APPEND m w | SETRANGE v 2 xx | SETBIT v 3 1 | BITFIELD n INCRBY u8 0 3 | BITOP AND m v n
INCR n | INCR m | INCR l | INCRBY n 7 | DECR n | DECRBY n 3 | INCRBYFLOAT n 0.1 | INCRBYFLOAT m 3.7e3
INCRBYFLOAT l 1 | HINCRBYFLOAT h f 0.1 | HINCRBYFLOAT m f 1e2 | HINCRBY h g 3 | HSET h f 2 k 3
HMSET h f 2 | HDEL h f | HDEL h f g | LPUSH l w | RPUSH l w | LPOP l | LPOP l 2 | RPOP l | RPOP l 9
LREM l 0 a | LTRIM l 1 2 | LMOVE l k LEFT RIGHT | RPOPLPUSH l l | LMPOP 2 m l LEFT COUNT 2 | SADD s d
SADD s a | SREM s a | SREM s a b c | SPOP s | SPOP s 2 | SPOP s 9 | SPOP m | SPOP v | SMOVE s t a
SMOVE s t w | SDIFFSTORE m s t | SINTERSTORE m s t | SUNIONSTORE s s t | ZINCRBY z 0.7 a | ZREM z a
ZPOPMIN z | ZPOPMAX z 2 | ZMPOP 1 z MIN COUNT 2 | ZREMRANGEBYLEX z - + | ZREMRANGEBYRANK z 0 1
ZREMRANGEBYSCORE z 2 3 | ZRANGESTORE m z 0 1 | ZDIFFSTORE m 2 z y | ZINTERSTORE m 2 z y
ZUNIONSTORE z 2 z y WEIGHTS 2 3 | GEOADD g 2 3 w | GEORADIUS g 15 37 200 km STORE m
GEORADIUSBYMEMBER g p 200 km STORE m | GEOSEARCHSTORE m g FROMMEMBER p BYRADIUS 500 km | PFADD p e
MOVE l 3 | MOVE m 3 | COPY v w DB 3 | PFMERGE p q | SORT l ALPHA | SORT s ALPHA STORE m | SORT v
"""
STREAMS = """
XADD x 7-7 f v | XADD x 1-1 f v | XADD s * f v | XADD x * f v | XADD m * f v | XADD x 7-* f v
XADD m NOMKSTREAM * f v | XADD x MAXLEN ~ 2 * f v | XADD x MAXLEN = 1 * f v | XADD x MINID ~ 7 9-9 f v
XTRIM x MAXLEN ~ 0 | XTRIM x MAXLEN 0 | XDEL x 5-1 | XSETID x 9-9 | XGROUP CREATE x o $
XGROUP CREATE m o $ MKSTREAM | XGROUP CREATE m o $ | XGROUP SETID x o 0 | XGROUP DESTROY x o
XGROUP CREATECONSUMER x o c | XGROUP DELCONSUMER x o c | XREADGROUP GROUP o c STREAMS x > | XACK x o 5-1
XCLAIM x o d 0 5-1 | XAUTOCLAIM x o d 0 0
EVAL return(redis.call('APPEND',KEYS[1],redis.call('TIME')[2])) 1 v
"""
NEWER = """
HEXPIRE h 100 FIELDS 1 f | HPEXPIRE h 100000 FIELDS 2 f g | HEXPIREAT h 4000000000 FIELDS 1 f
HPEXPIREAT h 4000000000123 FIELDS 1 f | HPEXPIRE m 100000 FIELDS 1 f | HPERSIST h FIELDS 1 f
HGETDEL h FIELDS 1 f | HGETDEL h FIELDS 2 f g | HGETEX h EX 100 FIELDS 1 f | HGETEX h PX 100000 FIELDS 1 f
HSETEX h EX 100 FIELDS 1 f 2 | HSETEX m PX 100000 FIELDS 1 f 2 | HSETEX h FNX EX 100 FIELDS 1 k 2
MSETEX 2 v w m w EX 100 | MSETEX 2 v w m w NX | MSETEX 1 v w XX KEEPTTL | DELIFEQ v value | DELIFEQ v w
"""
"""Of servers that have these commands."""
OPTIONS = {
    "DELEX": """
SET v w IFEQ value EX 100 | SET v w PX 100000 IFNE x GET | SET v w IFEQ x
SET v w IFDNE 0123456789abcdef KEEPTTL | DELEX v IFEQ value | DELEX v IFEQ x | DELEX v | DELEX m | DELEX l
DELEX v IFNE value | DELEX v IFNE x | DELEX v IFDEQ 87d57e269b9df0f0 | DELEX v IFDEQ 0123456789abcdef
DELEX v IFDNE 87d57e269b9df0f0 | DELEX v IFDNE 0123456789abcdef | DELEX v IFDEQ x | DELEX l IFEQ a
""",
    "DELIFEQ": "SET v w IFEQ value EX 100 | SET v w PX 100000 GET IFEQ value | SET v w IFEQ x",
    "XDELEX": """
XADD x DELREF * f v | XADD x MAXLEN ~ 1 DELREF * f v | XADD x ACKED MAXLEN ~ 0 * f v
XTRIM x MAXLEN ~ 0 DELREF | XTRIM x DELREF MAXLEN ~ 0 | XTRIM x MAXLEN ~ 0 ACKED | XTRIM x MAXLEN 0 DELREF
XDELEX x IDS 1 5-1 | XDELEX x DELREF IDS 2 5-1 9-9 | XDELEX x ACKED IDS 1 5-1 | XDELEX m DELREF IDS 1 5-1
XACKDEL x o IDS 1 5-1 | XACKDEL x o DELREF IDS 1 5-1 | XACKDEL x o ACKED IDS 1 5-1 | XACKDEL x q IDS 1 5-1
""",
    "XCFGSET": """
XADD x IDMPAUTO p * f v | XADD x MAXLEN ~ 9 IDMPAUTO p * f v | XADD x IDMP p i MAXLEN ~ 1 * f v
XADD x MAXLEN ~ 1 IDMP p i * f v | XCFGSET x IDMP-DURATION 5 IDMP-MAXSIZE 7 | XCFGSET m IDMP-MAXSIZE 7
""",
}
"""Commands, and what servers that have them take besides."""
WITH_GROUP = (
    *("XGROUP SETID", "XGROUP DESTROY", "XGROUP CREATECONSUMER", "XGROUP DELCONSUMER"),
    *("XREADGROUP", "XACK", "XCLAIM", "XAUTOCLAIM"),
)
"""Requests to streams that need a group."""
REFERENCES = {"DELREF", "ACKED"}
"""Options that look at what a group was given."""


def requests() -> list[list[str]]:
    """All of the above, as words."""
    every = [words_of(text) for text in (LIVES, CONDITIONS, CHANGES, STREAMS)]
    every += [words_of(text) for name, text in OPTIONS.items() if name in known()]
    newer = [words for words in words_of(NEWER) if words[0] in known()]
    return [*itertools.chain.from_iterable(every), *newer]


def words_of(text: str) -> list[list[str]]:
    return [request.split() for line in text.splitlines() if line for request in line.split(" | ")]


@cache
def known() -> frozenset[str]:
    """The commands of the server that is tested with."""
    with RedisServer() as server, RedisStore(server.port) as store:
        return frozenset(name.decode().upper() for name in store.ask("COMMAND", "LIST"))


def name_of(words: Sequence[str]) -> str:
    """As the command table has it."""
    return "|".join(words[:2]) if words[0] == "XGROUP" else words[0]


def keyed(words: Sequence[str], tag: str) -> list[bytes | str]:
    """The request with its keys, single letters and no options, in one hash tag."""
    names = key_positions(words)
    return [
        f"{{{tag}}}{word}" if at in names else DUMPED if word == "DUMP" else word
        for at, word in enumerate(words)
    ]


def key_positions(words: Sequence[str]) -> set[int]:
    """Positions of the keys of the requests above."""
    name, count = words[0], len(words)
    match name:
        case (
            "DEL"
            | "UNLINK"
            | "RENAME"
            | "RENAMENX"
            | "SDIFFSTORE"
            | "SINTERSTORE"
            | "SUNIONSTORE"
            | "PFMERGE"
        ):
            return set(range(1, count))
        case "MSET" | "MSETNX":
            return set(range(1, count, 2))
        case "MSETEX":
            return set(range(2, 2 + 2 * int(words[1]), 2))
        case "COPY" | "LMOVE" | "RPOPLPUSH" | "SMOVE" | "ZRANGESTORE" | "GEOSEARCHSTORE":
            return {1, 2}
        case "BITOP":
            return set(range(2, count))
        case "LMPOP" | "ZMPOP":
            return set(range(2, 2 + int(words[1])))
        case "ZDIFFSTORE" | "ZINTERSTORE" | "ZUNIONSTORE":
            return {1, *range(3, 3 + int(words[2]))}
        case "XGROUP":
            return {2}
        case "XREADGROUP":
            return {count - 2}
        case "EVAL":
            return {3}
    stored = {at + 1 for at, word in enumerate(words) if word == "STORE"}
    return {1, *stored}


def fill(words: Sequence[str], tag: str) -> Iterator[list[str]]:
    """Requests that make the keys of one."""
    for at in sorted(key_positions(words)):
        if words[at] in FILL:
            first = FILL[words[at]].split()
            yield [first[0], f"{{{tag}}}{first[1]}", *first[2:]]
    if " ".join(words).startswith(WITH_GROUP) or REFERENCES & {*words}:
        yield ["XGROUP", "CREATE", f"{{{tag}}}x", "o", "0"]
    if words[0] in ("XACK", "XACKDEL", "XCLAIM", "XAUTOCLAIM") or REFERENCES & {*words}:
        yield ["XREADGROUP", "GROUP", "o", "c", "STREAMS", f"{{{tag}}}x", ">"]


STREAM_FACTS = (
    *(b"length", b"last-generated-id", b"entries-added", b"max-deleted-entry-id"),
    *(b"idmp-duration", b"idmp-maxsize", b"pids-tracked", b"iids-tracked"),
)


def by_chance(words: Sequence[str]) -> bool:
    """Whether chance or the clock decides what comes of a request."""
    return "*" in words or "7-*" in words or words[0] in ("SPOP", "EVAL")


def compare(words: Sequence[str], got: bytes, expected: bytes) -> None:
    """Compares two replies as far as chance and the clock have no part in them."""
    if by_chance(words):
        assert got[:1] == expected[:1], words
    elif words[0] in ("XCLAIM", "XAUTOCLAIM"):
        assert len(got) == len(expected), words
    else:
        assert got == expected, words


def contents(server: Any) -> dict[bytes, tuple[Any, ...]]:
    """All that a server holds, with when it expires and what XRANGE does not show of a stream."""
    with RedisStore(server.port) as store:
        # What is told beside a key is asked for while its database is selected.
        return {
            mark + key: tuple(_described(store, key))
            for mark in store.databases()
            for key in store.shown_keys()
        }


def _described(store: RedisStore, key: bytes) -> Iterator[Any]:
    kind, value = store.content(key)
    if kind == b"string" and value.startswith(b"HYLL"):
        store.ask("PFCOUNT", key)  # stores the count, on the replica it was asked of
        kind, value = store.content(key)
    yield kind, value
    yield store.ask("PEXPIRETIME", key)
    if kind == b"hash" and "HPEXPIRETIME" in known():
        fields = [name for name, _ in value]
        yield store.ask("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)
    if kind == b"stream":
        shown = store.ask("XINFO", "STREAM", key)
        told = dict(zip(shown[::2], shown[1::2], strict=True))
        yield [told.get(name) for name in STREAM_FACTS]
        for group in store.ask("XINFO", "GROUPS", key):
            yield group
            yield store.ask("XPENDING", key, group[1])


def assert_equal(cluster: Cluster) -> dict[bytes, tuple[Any, ...]]:
    """Compares the replicas of each shard, none of which may have been given up; returns what they hold."""
    assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}
    everything: dict[bytes, tuple[Any, ...]] = {}
    for row in cluster.servers:
        leading, *following = (contents(server) for server in row)
        for other in following:
            for key in leading.keys() | other.keys():
                assert leading.get(key) == other.get(key), key
        everything |= leading
    return everything


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    options = {"hash_tag": "{}", "timeouts": {"request": "20s"}}
    with Cluster("redis", shards=2, replicas=2, workers=2, **options) as started:
        yield started


def connected(cluster: Cluster, protocol: int) -> RedisStore:
    store = cluster.connect()
    assert isinstance(store, RedisStore)
    return store.hello3() if protocol == 3 else store


def test_every_write_the_server_knows_is_here() -> None:
    rows = [row for row in _engine.command_table() if row.handling in ("forward", "split")]
    wanted = {row.name for row in rows if "write" in row.flags and row.name.partition("|")[0] in known()}
    assert wanted - {name_of(words) for words in requests()} == set()


@pytest.mark.parametrize("protocol", [2, 3])
def test_every_write_leaves_equal_replicas(
    cluster: Cluster, redis_server: RedisServer, protocol: int
) -> None:
    with connected(cluster, protocol) as ours, RedisStore(redis_server.port) as theirs:
        if protocol == 3:
            theirs.hello3()
        for number, words in enumerate(requests()):
            tag = f"k{number}"
            for filling in fill(words, tag):
                assert ours.raw.ask(command(*filling)) == theirs.raw.ask(command(*filling))
            request = command(*keyed(words, tag))
            got, expected = ours.raw.ask(request), theirs.raw.ask(request)
            compare(words, got, expected)
    held = assert_equal(cluster)
    plain = contents(redis_server)
    assert held.keys() == {key for key in plain if not key.startswith(RESERVED)}
    timed = [key for key, value in held.items() if value[1] > 0]
    assert len(timed) == 20 + 2 * ("MSETEX" in known()) + 2 * bool({"DELEX", "DELIFEQ"} & known())
    for key in timed:
        # The proxy's clock and the server's are the same one here.
        assert abs(held[key][1] - plain[key][1]) < 1000, key
    for number, words in enumerate(requests()):
        if not by_chance(words):
            for key in (f"{{k{number}}}{words[at]}".encode() for at in key_positions(words)):
                assert held.get(key, [None])[0] == plain.get(key, [None])[0], words
    # All of them were decided alike at once, so that nothing had to be copied.
    assert cluster.proxy.metric("shardproxy_write_repairs_total") == 0


@pytest.mark.slow
@pytest.mark.parametrize("gone_on", [0, 1], ids=["leader", "other"])
@pytest.mark.parametrize("protocol", [2, 3])
def test_a_key_that_has_expired_on_one_server_only(
    cluster: Cluster, redis_server: RedisServer, gone_on: int, protocol: int
) -> None:
    every = requests()
    with connected(cluster, protocol) as client, RedisStore(redis_server.port) as plain:
        if protocol == 3:
            plain.hello3()
        until = int(time.time() * 1000) + 6000
        for number, words in enumerate(every):
            for filling in fill(words, f"k{number}"):
                assert client.raw.ask(command(*filling)) == plain.raw.ask(command(*filling))
        # The plain server has what the leader has, whose word counts.
        expire(redis_server, until, gone=gone_on == 0)
        for row in cluster.servers:
            for server in row:
                expire(server, until, gone=server is row[gone_on])
        for number, words in enumerate(every):
            request = command(*keyed(words, f"k{number}"))
            compare(words, client.raw.ask(request), plain.raw.ask(request))
        assert time.time() * 1000 < until, "too slow: keys expired while requests were made"
    eventually(lambda: time.time() * 1000 > until, within=10)
    assert_equal(cluster)
    assert cluster.proxy.metric("shardproxy_write_repairs_total") > 40


def expire(server: Any, until: int, *, gone: bool) -> None:
    """Gives every key but one of a request's two sources a time to live, or takes them away."""
    with RedisStore(server.port) as direct:
        for key in direct.ask("KEYS", "{*"):
            if not key.endswith(b"}t"):
                assert direct.ask("PEXPIREAT", key, until) == 1
                assert not gone or direct.ask("DEL", key) == 1


def shuffled(rng: random.Random, count: int) -> Iterator[bytes]:
    """Requests to the same few keys, of which many have a time to live of milliseconds."""
    every = [words for words in requests() if words[0] not in ("RESTORE", "GEOADD")]
    for _ in range(count):
        tag = f"k{rng.randrange(6)}"
        if rng.random() < 0.3:
            made = FILL[rng.choice(list(FILL))].split()
            yield command(*[made[0], f"{{{tag}}}{made[1]}", *made[2:]])
        words = rng.choice(every)
        if rng.random() < 0.4:
            letter = rng.choice(list(FILL))
            yield command("PEXPIRE", f"{{{tag}}}{letter}", rng.randrange(1, 30))
        yield command(*keyed(words, tag))


@pytest.mark.slow
def test_random_writes_to_keys_that_expire_meanwhile(cluster: Cluster, rng: random.Random) -> None:
    clients = [connected(cluster, 2 + number % 2) for number in range(6)]
    for _ in range(40):
        batches = [list(shuffled(rng, rng.randrange(1, 40))) for _ in clients]
        for client, batch in zip(clients, batches, strict=True):
            client.raw.send(b"".join(batch))
        for client, batch in zip(clients, batches, strict=True):
            for _ in batch:
                client.raw.read_reply()
    for client in clients:
        client.raw.close()
    settled = time.monotonic() + 0.2
    eventually(lambda: time.monotonic() > settled, within=2)
    assert assert_equal(cluster)
