"""The rules of the checker on histories made by hand: some they must pass, some they must catch."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from chaos.history import History, Kind, Op, Outcome, Value
from chaos.rules import Promises, check, divergence, unfinished

OK, FAIL, UNKNOWN = Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN
NEVER = float("inf")
KEY = b"k"


def op(
    kind: Kind,
    value: Value,
    begin: float,
    end: float,
    outcome: Outcome = OK,
    *,
    session: int = 1,
    proxy: int = 0,
    text: str = "",
    is_odd: bool = False,
    is_final: bool = False,
) -> Op:
    return Op(kind, KEY, value, proxy, session, begin, end, outcome, text, is_odd, is_final)


def put(value: bytes, begin: float, end: float, outcome: Outcome = OK, **more: int | str) -> Op:
    return op(Kind.SET, value, begin, end, outcome, **more)  # type: ignore[arg-type]


def delete(begin: float, end: float, outcome: Outcome = OK, **more: int) -> Op:
    return op(Kind.DELETE, None, begin, end, outcome, **more)  # type: ignore[arg-type]


def get(value: Value, begin: float, end: float, session: int = 9, **more: bool | int) -> Op:
    return op(Kind.GET, value, begin, end, session=session, **more)  # type: ignore[arg-type]


def increment(value: Value, begin: float, end: float, outcome: Outcome = OK, **more: int) -> Op:
    return op(Kind.INCR, value, begin, end, outcome, **more)  # type: ignore[arg-type]


def append(value: bytes, begin: float, end: float, outcome: Outcome = OK, **more: int | str) -> Op:
    return op(Kind.APPEND, value, begin, end, outcome, **more)  # type: ignore[arg-type]


def broken(ops: Iterable[Op], promises: Promises | None = None) -> set[str]:
    """The names of the rules that a history breaks."""
    return {each.rule for each in check(History(list(ops)), promises or Promises())}


REFUSED = "-CLUSTERDOWN nothing was applied"

GOOD: dict[str, list[Op]] = {
    "nothing written yet": [get(None, 0, 1), put(b"a", 2, 3), get(b"a", 4, 5)],
    "a write shows before its answer": [put(b"a", 0, 5), get(b"a", 1, 2)],
    "and need not": [put(b"a", 0, 1), put(b"b", 2, 6), get(b"a", 3, 4), get(b"b", 3, 5)],
    "it may even come and go": [put(b"a", 0, 1), put(b"b", 2, 9), get(b"b", 3, 4), get(b"a", 5, 6)],
    "writers that raced": [
        put(b"a", 0, 5, session=1),
        put(b"b", 1, 4, session=2),
        get(b"a", 6, 7),
        get(b"a", 8, 9),
    ],
    "a deletion": [put(b"a", 0, 1), delete(2, 3), get(None, 4, 5), put(b"b", 6, 7), get(b"b", 8, 9)],
    "an unknown write may show": [put(b"a", 0, 1), put(b"b", 2, NEVER, UNKNOWN), get(b"b", 3, 4)],
    "or not": [put(b"a", 0, 1), put(b"b", 2, NEVER, UNKNOWN), get(b"a", 3, 4)],
    "or late, over a later one of another connection": [
        put(b"a", 0, NEVER, UNKNOWN, session=1),
        put(b"b", 2, 3, session=2),
        get(b"b", 4, 5),
        get(b"a", 6, 7),
    ],
    "requests of one connection, sent at once": [put(b"a", 0, 2), put(b"b", 0, 2), get(b"b", 3, 4)],
    "an honest refusal": [put(b"a", 0, 1), put(b"b", 2, 3, FAIL, text=REFUSED), get(b"a", 4, 5)],
    "counting": [increment(1, 0, 1), increment(2, 2, 3), get(2, 4, 5)],
    "counting at once": [
        increment(2, 0, 3, session=1),
        increment(1, 0, 3, session=2),
        get(1, 1, 2),
        get(2, 4, 5),
    ],
    "an unknown increment counts or not": [
        increment(None, 0, NEVER, UNKNOWN),
        increment(1, 2, 3, session=2),
        get(1, 4, 5),
        increment(2, 6, 7, session=2),
        get(3, 8, 9),
    ],
    "a list": [append(b"a", 0, 1), append(b"b", 2, 3), get((b"a", b"b"), 4, 5)],
    "a list with an unknown element": [
        append(b"a", 0, NEVER, UNKNOWN),
        append(b"b", 2, 3, session=2),
        get((b"b",), 4, 5),
        get((b"b", b"a"), 6, 7),
    ],
}

BAD: dict[str, tuple[str, list[Op]]] = {
    "an older value": ("stale read", [put(b"a", 0, 1), put(b"b", 2, 3), get(b"a", 4, 5)]),
    "absent": ("stale read", [put(b"a", 0, 1), get(None, 2, 3)]),
    "a deleted value": ("stale read", [put(b"a", 0, 1), delete(2, 3), get(b"a", 4, 5)]),
    "older than two that raced": (
        "stale read",
        [put(b"a", 0, 1), put(b"b", 2, 5), put(b"c", 2, 5, session=2), get(b"a", 6, 7)],
    ),
    "older, with requests sent at once": (
        "stale read",
        [put(b"a", 0, 2), put(b"b", 0, 2), get(b"a", 3, 4)],
    ),
    "an unknown write behind a later one of its connection": (
        "stale read",
        [put(b"a", 0, 1, UNKNOWN), put(b"b", 2, 3), get(b"a", 4, 5)],
    ),
    "gone in the end": ("lost write", [put(b"a", 0, 1), put(b"b", 2, 3), get(b"a", 8, 9, is_final=True)]),
    "all gone in the end": ("lost write", [put(b"a", 0, 1), get(None, 8, 9, is_final=True)]),
    "never written": ("impossible read", [put(b"a", 0, 1), get(b"x", 2, 3)]),
    "not yet written": ("impossible read", [put(b"a", 0, 1), get(b"b", 2, 3), put(b"b", 4, 5)]),
    "refused, yet there": (
        "dishonest error",
        [put(b"a", 0, 1), put(b"b", 2, 3, FAIL, text=REFUSED), get(b"b", 4, 5)],
    ),
    "copies that differ": (
        "disagreement",
        [put(b"a", 0, 5, session=1), put(b"b", 1, 4, session=2), get(b"a", 6, 7), get(b"b", 8, 9)],
    ),
    "counted twice": ("double increment", [increment(1, 0, 1), get(2, 2, 3)]),
    "counted twice, as answered": ("double increment", [increment(2, 0, 1)]),
    "an increment lost": ("stale read", [increment(1, 0, 1), increment(2, 2, 3), get(1, 4, 5)]),
    "a counter lost": ("lost write", [increment(1, 0, 1), get(None, 4, 5, is_final=True)]),
    "counted on an old copy": ("stale increment", [increment(1, 0, 1), increment(1, 2, 3)]),
    "one answer twice": (
        "repeated answer",
        [increment(1, 0, 5, session=1), increment(1, 0, 5, session=2), increment(None, 0, NEVER, UNKNOWN)],
    ),
    "a refused increment counted": ("double increment", [increment(None, 0, 1, FAIL), get(1, 2, 3)]),
    "an element lost": ("stale read", [append(b"a", 0, 1), append(b"b", 2, 3), get((b"b",), 4, 5)]),
    "an element twice": ("applied twice", [append(b"a", 0, 1), get((b"a", b"a"), 2, 3)]),
    "elements in the wrong order": (
        "wrong order",
        [append(b"a", 0, 1), append(b"b", 2, 3, session=2), get((b"b", b"a"), 4, 5)],
    ),
    "elements of one connection in the wrong order": (
        "wrong order",
        [append(b"a", 0, 2), append(b"b", 0, 2), get((b"b", b"a"), 4, 5)],
    ),
    "an element from nowhere": ("impossible read", [append(b"a", 0, 1), get((b"a", b"x"), 2, 3)]),
    "a refused element": (
        "dishonest error",
        [append(b"a", 0, 1), append(b"b", 2, 3, FAIL, text=REFUSED), get((b"a", b"b"), 4, 5)],
    ),
    "a read that failed": ("failed read", [op(Kind.GET, None, 0, 1, FAIL, text="-ERR read timed out")]),
    "a closed connection": ("closed", [put(b"a", 0, NEVER, UNKNOWN, text="closed")]),
    "no answer": ("silence", [put(b"a", 0, NEVER, UNKNOWN, text="silence")]),
    "an error of no known kind": ("odd error", [op(Kind.SET, b"a", 0, 1, UNKNOWN, text="-HUH", is_odd=True)]),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_history_as_it_should_be(name: str) -> None:
    assert broken(GOOD[name]) == set()


@pytest.mark.parametrize("name", BAD)
def test_a_history_that_must_not_be(name: str) -> None:
    rule, ops = BAD[name]
    assert rule in broken(ops)


def test_every_rule_shows_the_requests_that_break_it() -> None:
    for rule, ops in BAD.values():
        found = next(each for each in check(History(ops), Promises()) if each.rule == rule)
        assert found.ops
        assert rule in str(found)
        assert KEY.decode() in str(found)


LATE = [put(b"a", 0, 1), put(b"b", 2, 3), get(b"a", 3.5, 4, proxy=1)]


def test_another_proxy_may_lag_for_its_grace_only() -> None:
    assert broken(LATE) == {"stale read"}
    assert broken(LATE, Promises(grace_seconds=1.0)) == set()
    assert broken(LATE, Promises(grace_seconds=0.4)) == {"stale read"}
    own = [put(b"a", 0, 1), put(b"b", 2, 3), get(b"a", 3.5, 4, proxy=0)]
    assert broken(own, Promises(grace_seconds=1.0)) == {"stale read"}, "the proxy of the writer may not"
    final = [put(b"a", 0, 1), put(b"b", 2, 3), get(b"a", 3.5, 4, proxy=1, is_final=True)]
    assert broken(final, Promises(grace_seconds=1.0)) == {"lost write"}, "nor anybody in the end"


def test_a_write_through_another_proxy_may_not_lag() -> None:
    counted = [increment(1, 0, 1, proxy=0), increment(2, 2, 3, proxy=1), get(1, 4, 5, proxy=0)]
    assert broken(counted, Promises(grace_seconds=5.0)) == set()
    counted[1].value = 1
    assert broken(counted, Promises(grace_seconds=5.0)) == {"stale increment", "repeated answer"}


def test_what_was_refused_may_show_where_its_leader_is_still_followed() -> None:
    lagging = Promises(grace_seconds=1.0)
    for ops in (
        [put(b"a", 0, 1), put(b"b", 2, 3, FAIL), get(b"b", 3.5, 4, proxy=1), get(b"a", 5, 6, proxy=1)],
        [increment(1, 0, 1), increment(None, 2, 3, FAIL), get(2, 3.5, 4, proxy=1), get(1, 5, 6)],
        [append(b"a", 0, 1), append(b"b", 2, 3, FAIL), get((b"a", b"b"), 3.5, 4, proxy=1)],
    ):
        assert broken(ops, lagging) == set()
        assert broken(ops)
        assert broken(ops, Promises(grace_seconds=0.4)), "for its grace only"
        ops[2].proxy = 0
        assert broken(ops, lagging), "and not at the proxy that refused it"
        ops[2].proxy, ops[2].is_final = 1, True
        assert broken(ops, lagging), "nor in the end"


def test_what_servers_evict_may_be_absent_but_not_old() -> None:
    evicting = Promises(may_vanish=True)
    assert broken([put(b"a", 0, 1), get(None, 2, 3)], evicting) == set()
    assert broken([put(b"a", 0, 1), put(b"b", 2, 3), get(b"a", 4, 5)], evicting) == {"stale read"}
    assert broken([increment(1, 0, 1), get(None, 2, 3)], evicting) == set()
    assert broken([increment(1, 0, 1), get(2, 2, 3)], evicting) == {"double increment"}


def test_an_evicted_list_may_be_absent_at_one_copy() -> None:
    ops = [append(b"a", 0, 1), get((b"a",), 2, 3), get((), 4, 5), get((b"a",), 6, 7)]
    assert broken(ops) == {"disagreement", "stale read"}
    assert broken(ops, Promises(may_vanish=True)) == set()


def test_what_a_network_held_back_may_come_late() -> None:
    late = Promises(may_come_late=True)
    writes = [put(b"a", 0, 1, UNKNOWN), put(b"b", 2, 3)]
    assert broken([*writes, get(b"a", 4, 5)], late) == set()
    assert broken([put(b"a", 0, 1), put(b"b", 2, 3), get(b"a", 4, 5)], late) == {"stale read"}
    between = [put(b"a", 0, 1), put(b"b", 2, 3, UNKNOWN), get(b"a", 4, 5), get(b"b", 6, 7)]
    assert broken(between, late) == set()
    assert broken(between) == {"disagreement"}
    # As what a last copy is sent while it is stopped.
    assert broken(between, Promises(blackouts=((2.5, 3.5),))) == set()
    assert broken(between, Promises(blackouts=((3.5, 6),))) == {"disagreement"}
    elements = [append(b"a", 0, 1, UNKNOWN), append(b"b", 2, 3)]
    assert broken([*elements, get((b"b", b"a"), 4, 5)]) == {"wrong order"}
    assert broken([*elements, get((b"b", b"a"), 4, 5)], late) == set()


def test_a_restarted_proxy_may_close_connections_then_and_there_only() -> None:
    closed = [put(b"a", 4, NEVER, UNKNOWN, text="closed")]
    assert broken(closed, Promises(interruptions=((0, 5, 6),))) == set()
    assert broken(closed, Promises(interruptions=((1, 5, 6),))) == {"closed"}
    assert broken(closed, Promises(interruptions=((0, 2, 3),))) == {"closed"}


def test_reads_may_fail_where_nobody_could_answer() -> None:
    failed = [op(Kind.GET, None, 0, 1, FAIL, text="-ERR read timed out")]
    assert broken(failed, Promises(reads_go_on=False)) == set()
    assert broken(failed, Promises(blackouts=((0.5, 3.0),))) == set()
    assert broken(failed, Promises(blackouts=((2.0, 3.0),))) == {"failed read"}
    stale = [put(b"a", 0, 1), put(b"b", 2, 3), get(b"a", 4, 5)]
    assert broken(stale, Promises(blackouts=((0, 9),))) == {"stale read"}, "but not be wrong"


def test_copies_are_compared_key_by_key() -> None:
    same = {"a:1": {b"k": 1, b"l": 2}, "a:2": {b"l": 2, b"k": 1}}
    assert divergence(same) == []
    other = {"a:1": {b"k": 1, b"l": 2}, "a:2": {b"k": 3}, "a:3": {b"k": 1, b"l": 2}}
    assert [each.key for each in divergence(other)] == [b"k", b"l"]
    assert [each.key for each in divergence(other, excused=[b"k"])] == [b"l"]


def test_only_writes_that_a_killed_proxy_left_half_done_are_excused() -> None:
    history = History([put(b"a", 4, NEVER, UNKNOWN, text="closed")])
    assert unfinished(history, [(0, 5, 6)]) == {KEY}
    assert unfinished(history, [(1, 5, 6)]) == set()
    assert unfinished(History([put(b"a", 4, 5)]), [(0, 4, 6)]) == set()
