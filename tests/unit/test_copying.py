"""How a Memcached is copied: lines in, requests out, and what to think of an answer."""

from __future__ import annotations

import pytest

from proxy.control.copying import (
    BATCH_BYTES,
    BATCH_KEYS,
    BATCHES_PER_SECOND,
    Key,
    KeyList,
    Pace,
    settle_seconds,
)
from proxy.control.memcached_copying import (
    Mark,
    Shown,
    add_request,
    fetch_request,
    give_back_request,
    has_meta,
    is_added,
    is_alike,
    is_changed,
    is_reserved,
    is_worth_copying,
    mark_requests,
    read_dump_line,
    read_mark,
    take_back_request,
    token_request,
)
from proxy.control.model import WRITE_LEASE_SECONDS


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b"key=a exp=-1 la=1795877669 cas=2 fetch=no cls=1 size=72", Key(b"a", 72)),
        (b"key=a%25b exp=1795877769 la=1 cas=1 fetch=yes cls=1 size=67 flags=4", Key(b"a%b", 67)),
        (b"key=foo%20bar exp=-1 la=1 cas=4 fetch=yes cls=1 size=72", Key(b"Zm9vIGJhcg==", 72, True)),
        (b"key=%ff exp=-1 la=1 cas=4 fetch=no cls=1 size=70", Key(b"\xff", 70)),
        (b"key=%7f exp=-1 la=1 cas=4 fetch=no cls=1", Key(b"fw==", 0, True)),
        (b"END", None),
        (b"BUSY currently processing crawler request", None),
    ],
)
def test_a_line_of_the_dump(line: bytes, key: Key | None) -> None:
    assert read_dump_line(line) == key


def test_our_own_keys_are_no_data() -> None:
    assert is_reserved(Key(b"__shardproxy:view:p/s", 1))
    assert not is_reserved(Key(b"x__shardproxy:", 1))


def test_requests() -> None:
    keys = [Key(b"a", 1), Key(b"Zm9v", 1, True)]
    assert fetch_request(keys) == b"mg a v f t c u\r\nmg Zm9v v f t c u b\r\n"
    assert token_request(keys) == b"mg a c u\r\nmg Zm9v c u b\r\n"
    assert take_back_request(keys[1], 7) == b"md Zm9v C7 b\r\n"
    item = Shown(5, flags=9, ttl=-1, data=b"x\r\ny")
    assert add_request(keys[0], item, 0) == b"ms a 4 ME T0 F9 c\r\nx\r\ny\r\n"
    assert add_request(keys[1], item, 0) == b"ms Zm9v 4 ME T0 F9 c b\r\nx\r\ny\r\n"


@pytest.mark.parametrize(
    ("flags", "mark"),
    [
        ([b"c7", b"f0"], Mark.NONE),
        ([b"c7", b"X", b"W"], Mark.TAKEN),
        ([b"Z", b"X"], Mark.STALE_WON),
        ([b"Z"], Mark.WON),
    ],
)
def test_marks_are_read(flags: list[bytes], mark: Mark) -> None:
    assert read_mark(flags) is mark


def test_marks_are_made_on_the_copy_only() -> None:
    key = Key(b"Zm9v", 1, True)
    stale, win = b"md Zm9v I C7 b\r\n", b"mg Zm9v u R2147483647 b\r\n"
    made = [mark_requests(key, mark, 7) for mark in Mark]
    assert made == [[], [stale], [stale, win], [win]]
    assert give_back_request(key, 7) == stale


def test_what_mg_has_made_is_made_by_mg() -> None:
    empty = Shown(5, ttl=30, mark=Mark.WON)
    assert add_request(Key(b"a", 1), empty, 0) == b"mg a N30 c\r\n"
    assert is_added(empty, b"HD", [b"c9", b"W"])
    assert is_added(empty, b"HD", [b"c9"]) is False
    assert is_added(empty, b"HD", [b"c9", b"X", b"W"]) is False, "it was there, and is stale"
    other = Shown(5, data=b"x", mark=Mark.WON)
    assert add_request(Key(b"a", 1), other, 0).startswith(b"ms a 1 ME ")
    assert (is_added(other, b"HD", []), is_added(other, b"NS", [])) == (True, False)
    assert is_added(other, b"SERVER_ERROR", []) is None


def test_a_long_time_to_live_is_a_moment() -> None:
    month = 60 * 60 * 24 * 30
    for ttl, sent in ((month, month), (month + 1, 1_000_000 + month + 1)):
        assert b" T%d " % sent in add_request(Key(b"a", 1), Shown(1, ttl=ttl), 1_000_000)


def test_what_is_about_to_expire_is_not_copied() -> None:
    assert not is_worth_copying(None)
    assert [is_worth_copying(Shown(1, ttl=ttl)) for ttl in (-1, 0, 1, 2)] == [True, False, False, True]


def test_a_copy_is_out_of_date_when_the_token_is_another() -> None:
    assert not is_changed(Shown(5), Shown(5))
    assert is_changed(Shown(5), Shown(6))
    assert is_changed(Shown(5), None)


def test_alike_is_value_flags_and_about_the_same_moment() -> None:
    assert is_alike(None, None)
    assert is_alike(Shown(1, 2, 3, b"v"), Shown(9, 2, 5, b"v"))
    others = (Shown(1, 3, 3, b"v"), Shown(1, 2, 3, b"w"), Shown(1, 2, 6, b"v"), Shown(1, 2, -1, b"v"))
    for other in (None, *others):
        assert not is_alike(Shown(1, 2, 3, b"v"), other)
        assert not is_alike(other, Shown(1, 2, 3, b"v"))


def test_versions() -> None:
    assert [has_meta(b"VERSION " + each) for each in (b"1.6.0", b"1.6.45", b"2.0", b"1.10.1")] == [True] * 4
    assert [has_meta(each) for each in (b"VERSION 1.5.22", b"VERSION", b"ERROR", b"VERSION x.y")] == [
        False
    ] * 4


def test_the_copy_begins_after_the_last_write_that_did_not_know() -> None:
    assert settle_seconds(0.4) > WRITE_LEASE_SECONDS + 0.4


def test_keys_come_back_in_batches() -> None:
    keys = [Key(b"k%d" % number, 10, number % 3 == 0) for number in range(2 * BATCH_KEYS + 1)]
    batches = list(KeyList(keys).batches())
    assert [key for batch in batches for key in batch] == keys
    assert [len(batch) for batch in batches] == [BATCH_KEYS, BATCH_KEYS, 1]
    found = KeyList([Key(b"a", BATCH_BYTES), Key(b"b", 3 * BATCH_BYTES), Key(b"c", 1), Key(b"d", 1)])
    assert [len(batch) for batch in found.batches()] == [1, 1, 2]
    assert (found.count, found.size) == (4, 4 * BATCH_BYTES + 2)
    assert list(KeyList().batches()) == []


def test_the_pace() -> None:
    pace = Pace(1000)
    assert pace.delay(500, 10.0) == 0.0
    assert pace.delay(500, 10.0) == 0.5
    assert pace.delay(1, 20.0) == 0.0, "what was not used is not made up for"
    assert pace.batch_bytes == 1000 // BATCHES_PER_SECOND
    assert Pace(0).delay(1 << 40, 0.0) == 0.0
    assert Pace(0).batch_bytes == BATCH_BYTES
