"""The record of absent shards: its bytes, its versions, and two that must become one."""

from __future__ import annotations

import json

import pytest

from proxy.control.absence import (
    RECORD_BYTES_LIMIT,
    Absence,
    absence_key,
    blind_key,
    chore_key,
    encode,
    is_of_pool,
    may_write,
    merge,
    parse,
)
from proxy.control.model import Reason
from proxy.control.reserved import lease_key
from proxy.control.view import view_key

SOME = Absence("p", 7, ("a", "c"), (("b", 0), ("d", 23)))


def test_a_record_is_read_as_it_was_written() -> None:
    assert encode(SOME) == b'{"v":1,"pool":"p","epoch":7,"absent":["a","c"],"returned":{"b":0,"d":23}}'
    assert parse(encode(SOME), "p") == SOME


def test_versions_follow_each_other() -> None:
    none = Absence("p")
    one = none.leave(["b", "a"])
    assert one == Absence("p", 1, ("a", "b"))
    two = one.enter("a", 17)
    assert two == Absence("p", 2, ("b",), (("a", 17),))
    assert two.floors == {"a": 17}
    assert two.leave(["a"]) == Absence("p", 3, ("a", "b")), "who is absent again has not returned"
    assert two.swept(["a", "x"]) == Absence("p", 3, ("b",))


def test_merging_makes_absent_whoever_is_absent_in_either() -> None:
    one = Absence("p", 7, ("a",), (("b", 1), ("c", 9)))
    other = Absence("p", 7, ("b",), (("c", 3),))
    both = Absence("p", 8, ("a", "b"), (("c", 9),))
    assert merge(one, other) == merge(other, one) == both
    assert encode(merge(one, other)) == encode(merge(other, one)), "two that merge write the same bytes"


def change(**fields: object) -> bytes:
    return json.dumps({**json.loads(encode(SOME)), **fields}, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.RECORD_DAMAGED),
        (b"\xff", Reason.RECORD_DAMAGED),
        (b"[" * 100_000, Reason.RECORD_DAMAGED),
        (b"[]", Reason.RECORD_DAMAGED),
        (b" " * RECORD_BYTES_LIMIT + encode(SOME), Reason.RECORD_DAMAGED),
        (b" " + encode(SOME), Reason.RECORD_DAMAGED),
        (change(v=2), Reason.RECORD_NEWER_VERSION),
        (change(v=0), Reason.RECORD_DAMAGED),
        (change(v=True), Reason.RECORD_DAMAGED),
        (change(epoch=0), Reason.RECORD_DAMAGED),
        (change(epoch=1 << 63), Reason.RECORD_DAMAGED),
        (change(epoch="7"), Reason.RECORD_DAMAGED),
        (change(pool=7), Reason.RECORD_DAMAGED),
        (change(pool="q"), Reason.RECORD_FOREIGN),
        (change(absent="a"), Reason.RECORD_DAMAGED),
        (change(absent=[1]), Reason.RECORD_DAMAGED),
        (change(absent=["c", "a"]), Reason.RECORD_DAMAGED),
        (change(absent=["b"]), Reason.RECORD_DAMAGED),
        (change(returned=[]), Reason.RECORD_DAMAGED),
        (change(returned={"b": -1}), Reason.RECORD_DAMAGED),
        (change(returned={"b": None}), Reason.RECORD_DAMAGED),
    ],
)
def test_what_is_no_record_of_ours_is_named(data: bytes, reason: Reason) -> None:
    assert parse(data, "p") is reason
    assert not may_write(data, Absence("p", 1 << 62)), "and never overwritten"


def test_a_record_replaces_nothing_or_an_older_one() -> None:
    assert may_write(None, SOME)
    assert may_write(encode(Absence("p", 6)), SOME)
    assert not may_write(encode(Absence("p", 7)), SOME), "who came first stays"
    assert not may_write(encode(SOME), SOME)
    assert not may_write(encode(Absence("p", 8)), SOME)


def test_reserved_keys_tell_their_pool() -> None:
    ours = [absence_key("p"), blind_key("p", "s"), chore_key("p"), view_key("p", "s"), lease_key("p", "s")]
    for key in ours:
        assert is_of_pool(key.encode(), "p")
        assert not is_of_pool(key.encode(), "q")
        assert not is_of_pool(key.replace(":p", ":pq").encode(), "p")
    assert not is_of_pool(b"__shardproxy:\xff", "p")
