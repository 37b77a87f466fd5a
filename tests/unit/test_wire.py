"""Control connections' protocols: any split of the bytes gives the same replies, and rubbish an error."""

from __future__ import annotations

import pytest

from proxy.control.model import Condition, Reason
from proxy.tasks.prober import FLUSH_SECONDS, INFO_SECTIONS, has_flushed_lately, read_memcached, read_redis
from proxy.tasks.wire import (
    REPLY_BYTES_LIMIT,
    ErrorReply,
    Listing,
    MemcachedReader,
    Reader,
    Reply,
    RespReader,
    Value,
    WireError,
    condition_of,
    key_counts,
    reason_of,
)


def test_what_an_error_repeats_of_a_request_is_left_out() -> None:
    text = "ERR unknown command 'CONFIG', with args beginning with: 'SET' 'masterauth' 's3cret' "
    assert ErrorReply(text).brief == "ERR unknown command 'CONFIG'"
    assert ErrorReply("OOM " + "x" * 200).brief == "OOM " + "x" * 96


def test_keys_are_counted_by_database() -> None:
    text = b"# Keyspace\r\ndb0:keys=5,expires=1,avg_ttl=0\r\ndb11:keys=2,expires=0\r\ndbx:keys=1\r\ndb3:\r\n"
    assert key_counts(text) == {0: 5, 11: 2}
    assert key_counts(ErrorReply("NOAUTH x")) == {}


RESP = b"+OK\r\n$-1\r\n$5\r\na\r\nbc\r\n-NOAUTH Authentication required.\r\n*2\r\n:1\r\n+x\r\n:7\r\n"
RESP_REPLIES: list[Reply] = [
    b"OK",
    None,
    b"a\r\nbc",
    ErrorReply("NOAUTH Authentication required."),
    [1, b"x"],
    7,
]
TEXT = (
    b"STAT pid 7\r\nSTAT version 1.6.18\r\nEND\r\nVALUE k 5 4 99\r\nE\r\nD\r\nVALUE j 0 0\r\n\r\nEND\r\n"
    b"STORED\r\nSERVER_ERROR out of memory storing object\r\nEND\r\n"
)
TEXT_REPLIES: list[Reply] = [
    Listing({}, {b"pid": b"7", b"version": b"1.6.18"}),
    Listing({b"k": Value(b"E\r\nD", 5, 99), b"j": Value(b"", 0)}),
    b"STORED",
    b"SERVER_ERROR out of memory storing object",
    Listing(),
]
CASES = [(RespReader, RESP, RESP_REPLIES), (MemcachedReader, TEXT, TEXT_REPLIES)]


@pytest.mark.parametrize(("make", "data", "expected"), CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_any_split_gives_the_same_replies(
    make: type[RespReader] | type[MemcachedReader], data: bytes, expected: list[Reply], size: int
) -> None:
    reader: Reader = make()
    found: list[Reply] = []
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
        found += reader.replies()
    assert found == expected


@pytest.mark.parametrize(
    ("make", "data"),
    [
        (RespReader, b"?what\r\n"),
        (MemcachedReader, b"VALUE k 0 x\r\n"),
        (MemcachedReader, b"VALUE k 0\r\n"),
        (MemcachedReader, b"VALUE k 0 -1\r\n"),
        (MemcachedReader, b"VALUE k 0 1\r\nabc\r\n"),
    ],
)
def test_rubbish_is_an_error(make: type[RespReader] | type[MemcachedReader], data: bytes) -> None:
    reader = make()
    reader.feed(data)
    with pytest.raises(WireError):
        reader.replies()


@pytest.mark.parametrize(("make", "start"), [(RespReader, b"$2000000\r\n"), (MemcachedReader, b"")])
def test_a_reply_without_end_is_bounded(make: type[RespReader] | type[MemcachedReader], start: bytes) -> None:
    reader = make()
    reader.feed(start)
    for _ in range(REPLY_BYTES_LIMIT // 1024 - 1):
        reader.feed(b"x" * 1024)
        assert reader.replies() == []
    with pytest.raises(WireError):
        reader.feed(b"x" * 2048)


@pytest.mark.parametrize(
    ("reply", "condition", "reason"),
    [
        (ErrorReply("LOADING Redis is loading the dataset in memory"), Condition.LOADING, Reason.LOADING),
        (ErrorReply("MISCONF Redis is configured to save"), Condition.MISCONF, Reason.MISCONF),
        (ErrorReply("BUSY Redis is busy running a script."), Condition.BUSY, Reason.BUSY),
        (ErrorReply("ERR something"), None, Reason.PROTOCOL),
        (b"SERVER_ERROR out of memory storing object", Condition.OOM, Reason.OOM),
        (b"CLIENT_ERROR unauthenticated", Condition.NOAUTH, Reason.NOAUTH),
        (b"ERROR", None, Reason.PROTOCOL),
        (None, None, Reason.PROTOCOL),
    ],
)
def test_conditions_are_named(reply: Reply, condition: Condition | None, reason: Reason) -> None:
    assert condition_of(reply) is condition
    assert reason_of(reply) is reason


def answers(ping: Reply = b"PONG", get: Reply = None, **sections: bytes | ErrorReply) -> list[Reply]:
    return [ping, *(sections.get(name, b"# Empty\r\n") for name in INFO_SECTIONS), get]


def test_a_redis_answer() -> None:
    result = read_redis(
        "a:1",
        answers(
            get=b"record",
            server=b"# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n",
            replication=b"role:master\r\nmaster_replid:def\r\n",
            commandstats=b"cmdstat_flushall:calls=2,usec=9\r\ncmdstat_flushdb:calls=1,usec=9\r\n",
            keyspace=b"db0:keys=3,expires=0,avg_ttl=0\r\ndb5:keys=4,expires=1,avg_ttl=0\r\n",
        ),
    )
    assert (result.failure, result.condition) == (None, None)
    assert (result.record, result.record_known) == (b"record", True)
    assert result.incarnation is not None
    assert (result.incarnation.token, result.flushes, result.items) == ("abc", 3, 6)
    assert result.lineage == "def"


@pytest.mark.parametrize(
    ("replies", "condition", "known"),
    [
        (answers(replication=b"role:slave\r\n"), Condition.READONLY, True),
        (answers(persistence=b"loading:1\r\n", get=ErrorReply("LOADING x")), Condition.LOADING, False),
        (answers(ping=ErrorReply("MISCONF x"), get=b"r"), Condition.MISCONF, True),
        (answers(get=ErrorReply("NOPERM x")), Condition.NOAUTH, False),
        (answers(server=ErrorReply("NOPERM x"), get=b"r"), Condition.NOAUTH, False),
        (answers(keyspace=ErrorReply("ERR unknown command 'INFO'"), get=None), Condition.NOAUTH, False),
        (answers(ping=ErrorReply("BUSY x"), get=ErrorReply("BUSY x")), Condition.BUSY, False),
    ],
)
def test_redis_conditions(replies: list[Reply], condition: Condition, known: bool) -> None:
    result = read_redis("a:1", replies)
    assert (result.failure, result.condition, result.record_known) == (None, condition, known)


def test_something_else_on_the_port_is_a_failure() -> None:
    assert read_redis("a:1", answers(ping=ErrorReply("ERR what"))).failure is Reason.PROTOCOL
    assert read_memcached("a:1", [b"ERROR", b"ERROR"], "k").failure is Reason.PROTOCOL


def test_a_memcached_answer() -> None:
    statistics = Listing(
        {}, {b"pid": b"7", b"time": b"1005", b"uptime": b"5", b"cmd_flush": b"2", b"curr_items": b"4"}
    )
    result = read_memcached("a:1", [statistics, Listing({b"k": Value(b"record", 0)})], "k")
    assert result.incarnation is not None
    assert (result.incarnation.token, result.flushes, result.items) == ("7@1000", 2, 3)
    assert (result.record, result.record_known) == (b"record", True)


@pytest.mark.parametrize(
    ("uptime", "oldest", "expected"),
    [
        (b"100", b"0", False),
        (b"100", b"160", True),
        (b"100", b"161", True),  # due in this very second
        (b"100", b"170", False),
        (b"1000", b"%d" % (1060 - FLUSH_SECONDS), False),
        (b"1000", b"%d" % (1061 - FLUSH_SECONDS), True),
        (b"", b"5", True),
    ],
)
def test_a_flush_that_was_due_lately_is_told_by_memcacheds_own_clock(
    uptime: bytes, oldest: bytes, expected: bool
) -> None:
    assert has_flushed_lately(Listing({}, {b"uptime": uptime}), Listing({}, {b"oldest": oldest})) is expected
    assert has_flushed_lately(Listing({}, {b"uptime": uptime}), b"ERROR")
