"""How a Redis is copied: requests, what to think of an answer, and that every order of events ends well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from proxy.control.copying import Key, KeyList
from proxy.control.redis_copying import (
    UNKNOWN_BYTES,
    Doubts,
    Outcome,
    State,
    has_needed_version,
    is_reserved,
    judge_restore,
    read_states,
    restore_requests,
    sized,
    sizes_request,
    state_requests,
    transaction,
)
from proxy.control.reserved import token_key, trial_key

KEY = Key(b"a \r\n\xff", 5)


def test_our_own_keys_are_no_data() -> None:
    assert is_reserved(token_key("p", "s").encode())
    assert is_reserved(trial_key("p", "s").encode())
    assert not is_reserved(b"x__shardproxy:")


def test_versions() -> None:
    assert [has_needed_version(each) for each in ("7.0.0", "7.4.1", "8.0", "10.1.2")] == [True] * 4
    assert [has_needed_version(each) for each in ("6.2.14", "5.0", "7", "", "x.y")] == [False] * 5


def test_sizes() -> None:
    assert sizes_request([b"a"]) == b"*3\r\n$6\r\nMEMORY\r\n$5\r\nUSAGE\r\n$1\r\na\r\n"
    found = sized([b"a", b"gone", b"c"], [[56, None, "an error"]], 3)
    assert found == [Key(b"a", 56, database=3), Key(b"c", UNKNOWN_BYTES, database=3)]
    found = sized([b"a", b"gone", b"b"], [[56, None, None], [7, None, 8]], 0)
    assert found == [Key(b"a", 56), Key(b"b", 8)]


def test_requests_of_a_copy() -> None:
    (_, dump), (database, expires) = state_requests([replace(KEY, database=2)])
    assert database == 2
    assert dump == b"*2\r\n$4\r\nDUMP\r\n$5\r\na \r\n\xff\r\n"
    assert expires == b"*2\r\n$11\r\nPEXPIRETIME\r\n$5\r\na \r\n\xff\r\n"
    multi, exec_ = b"*1\r\n$5\r\nMULTI\r\n", b"*1\r\n$4\r\nEXEC\r\n"
    assert transaction([(0, b"x")]) == (multi + b"x" + exec_, [True])
    one, zero = b"*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n", b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
    batch, is_answer = transaction([(0, b"x"), (1, b"y"), (1, b"z")])
    assert batch == multi + b"x" + one + b"yz" + zero + exec_
    assert is_answer == [True, False, True, True, False]
    for at, text in ((-1, b"$1\r\n0"), (17, b"$2\r\n17")):
        ((database, request),) = restore_requests([(KEY, State(b"v", at))])
        assert database == 0
        assert (
            request
            == b"*5\r\n$7\r\nRESTORE\r\n$5\r\na \r\n\xff\r\n" + text + b"\r\n$1\r\nv\r\n$6\r\nABSTTL\r\n"
        )
    assert restore_requests([(KEY, State(None))]) == []


def test_states() -> None:
    assert read_states([b"v", -1, None, -2, b"w", 99]) == [State(b"v"), State(None, -2), State(b"w", 99)]
    assert read_states([b"v", None]) is None
    assert read_states([1, -1]) is None


@pytest.mark.parametrize(
    ("answer", "error", "outcome"),
    [
        (b"OK", None, Outcome.ADDED),
        (object(), "BUSYKEY Target key name already exists.", Outcome.OCCUPIED),
        (object(), "ERR DUMP payload version or checksum are wrong", Outcome.REFUSED),
        (b"QUEUED", None, Outcome.REFUSED),
    ],
)
def test_what_became_of_a_restore(answer: object, error: str | None, outcome: Outcome) -> None:
    assert judge_restore(answer, error) is outcome


def test_doubts_end_with_the_targets_names_but_for_batches_that_broke_off() -> None:
    doubts = Doubts()
    assert KEY in doubts
    doubts.add([KEY])
    doubts.everything = False
    assert KEY in doubts
    assert Key(b"other", 5) not in doubts
    doubts.settle([KEY])
    assert KEY not in doubts


def test_names_of_any_bytes_come_back() -> None:
    keys = [KEY, Key(b"", 1), Key(b"\n", 2), Key(b"5 6 b\n", 3), Key(b"Zm9v", 4, True)]
    assert [key for batch in KeyList(keys).batches() for key in batch] == keys


# Every order of the events around one key.


WRITES = 2
LEFT = "z"
"""What was left on the target and expires, at any moment."""
BRIEF = "b"
"""What the leader holds, was never given to the target, and expires, at any moment."""


@dataclass(frozen=True)
class World:
    """One key. ``fed`` are outcomes on their way to the target, in the leader's order.

    ``at`` is where the copy of the key is; ``listed`` is 0 before the target's names are gone through, 1
    before the leader's, 2 behind both. ``doubted``: its batch broke off. ``breaks``: how often it may.
    ``again``: it is among those to copy again. ``all_names``: not only of those that the leader lacks.
    """

    leader: str
    target: str
    writes: int = WRITES
    fed: tuple[str, ...] = ()
    at: str = ""
    listed: int = 0
    fetched: str = ""
    held: str = ""
    doubted: bool = False
    breaks: int = 1
    again: bool = False
    is_expected: bool = False
    all_names: bool = True


def steps(world: World) -> Iterator[World]:
    """What can happen next: a write, its arrival, a step of the copy, its end half-way."""
    if world.writes:
        for value in ("x", "y", ""):
            yield replace(world, writes=world.writes - 1, leader=value, fed=(*world.fed, value))
    if world.fed:
        yield replace(world, target=world.fed[0], fed=world.fed[1:])
    if world.at not in ("", "done") and world.breaks:
        at = "compare" if world.listed == 1 else "fetch"
        yield replace(world, at=at, doubted=True, is_expected=True, breaks=world.breaks - 1)
    if world.target == LEFT:
        yield replace(world, target="")
    if world.leader == BRIEF:
        yield replace(world, leader="")
    if world.target == BRIEF:
        yield replace(world, target="")
    yield from copy_steps(world)


def copy_steps(world: World) -> Iterator[World]:
    if world.at in ("", "done"):
        if world.listed == 0:
            is_named = bool(world.target) and (world.all_names or not world.leader)
            yield replace(world, at="compare" if is_named else "", is_expected=True, listed=1)
        elif world.listed == 1:
            world = replace(world, doubted=False)
            if world.leader:
                yield replace(world, at="fetch", listed=2)
            if not world.leader or world.writes < WRITES:  # SCAN may miss what comes and goes
                yield replace(world, at="done", listed=2)
        elif world.again:
            yield replace(world, at="fetch", again=False, doubted=False)
    elif world.at == "fetch":
        yield replace(world, at="add", fetched=world.leader)
    elif world.at == "add":
        if world.fetched and not world.target:
            yield replace(world, at="verify", target=world.fetched)
        elif world.doubted:
            yield replace(world, at="compare", is_expected=bool(world.fetched))
        else:
            yield replace(world, at="done")
    elif world.at == "verify":
        yield replace(world, at="done" if world.leader == world.fetched else "undo")
    elif world.at == "compare":
        is_compared = world.target or world.is_expected
        yield replace(world, at="compared" if is_compared else "done", held=world.target)
    elif world.at == "compared":
        # Equal values may look different, never the other way.
        if world.held == world.leader:
            yield replace(world, at="done")
        yield replace(world, at="undo")
    elif world.at == "undo":
        yield replace(world, at="done", target="", again=True)


def is_over(world: World) -> bool:
    return world.at == "done" and world.listed == 2 and not world.again and not world.fed


def explore(first: list[World]) -> tuple[int, list[World]]:
    """How many states there are, and those that are over with different copies."""
    seen, todo, wrong = set(first), list(first), []
    while todo:
        world = todo.pop()
        # Where BRIEF is left it ends on both at one moment.
        if is_over(world) and world.leader.strip(BRIEF) != world.target.strip(BRIEF):
            wrong.append(world)
        for following in steps(world):
            if following not in seen:
                seen.add(following)
                todo.append(following)
    return len(seen), wrong


def test_every_order_of_writes_and_steps_of_the_copy_ends_with_equal_copies() -> None:
    values = ("x", "y", "")
    leaders, targets = (*values, BRIEF), (*values, LEFT, BRIEF)
    count, wrong = explore([World(leader, target) for leader in leaders for target in targets])
    assert wrong == []
    assert count > 5000


@pytest.mark.parametrize(
    "first",
    [
        # Without the target's names what stands there is taken for a write that came since.
        World("x", "y", writes=0, breaks=0, listed=1),
        # And nobody asks for what the leader has no more,
        World("", "y", writes=0, breaks=0, listed=1),
        # or loses before its own names are gone through.
        World(BRIEF, "y", writes=0, breaks=0, all_names=False),
    ],
)
def test_what_the_argument_leans_on_is_needed(first: World) -> None:
    assert explore([first])[1] != []
