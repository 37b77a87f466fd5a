"""Records and the order of views."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest

from proxy.control.model import Reason, View
from proxy.control.view import (
    MEMBER_LIMIT,
    RECORD_BYTES_LIMIT,
    beats,
    encode,
    first_view,
    is_conflict,
    lives,
    next_view,
    parse,
    view_key,
)

VIEW = View("p", "s", 7, "a:1", ("a:1", "b:1"), ("ra", "rb"), ("c:1",), ("rc",), parent=("a:1", "d:1"))
FIELDS = json.loads(encode(VIEW))


def changed(**fields: object) -> bytes:
    return json.dumps({**FIELDS, **fields}).encode()


def test_the_record_is_these_very_bytes() -> None:
    assert encode(VIEW) == (
        b'{"v":1,"pool":"p","shard":"s","epoch":7,"lead":"a:1","in_sync":["a:1","b:1"],'
        b'"runs":["ra","rb"],"joining":["c:1"],"joining_runs":["rc"],"fanout":false,"parent":["a:1","d:1"]}'
    )
    assert view_key("p", "s") == "__shardproxy:view:p/s"


def test_what_is_encoded_is_parsed() -> None:
    assert parse(encode(VIEW), "p", "s") == VIEW


def test_whose_processes_a_record_names_is_told_without_its_shard() -> None:
    assert lives(encode(VIEW)) == ("ra", "rb")
    for junk in (b"", b"{}", b"[]", b"[" * 5000, changed(pool=7), changed(v=2), encode(VIEW)[:-1]):
        assert lives(junk) == ()


def test_names_that_are_not_ascii_survive_in_ascii() -> None:
    view = first_view("pöol", "s\n", "a:1", {"a:1": ""})
    assert encode(view).isascii()
    assert parse(encode(view), "pöol", "s\n") == view


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"7",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"[" * 5000,
        b"9" * 5000,
        encode(VIEW)[:-1],
        changed(v=0),
        changed(v=True),
        changed(v="1"),
        changed(epoch=0),
        changed(epoch=1.5),
        changed(epoch=1 << 63),
        changed(lead="c:1"),
        changed(lead=None),
        changed(in_sync=[]),
        changed(in_sync="a:1"),
        changed(in_sync=["a:1", "a:1"]),
        changed(in_sync=["a:1", 2]),
        changed(runs=["ra"]),
        changed(joining=["a:1"]),
        changed(joining=None),
        changed(joining_runs=[]),
        changed(joining_runs=None),
        changed(fanout=None),
        changed(fanout=1),
        changed(parent=None),
        changed(parent=["a:1", 2]),
        changed(parent=["a:1", "a:1"]),
        changed(parent=["d:1"]),
        changed(parent=["a:1", *(f"{n}:1" for n in range(MEMBER_LIMIT))]),
        changed(joining=[f"{n}:1" for n in range(MEMBER_LIMIT + 1)]),
        changed(extra="x" * RECORD_BYTES_LIMIT),
    ],
)
def test_damage_is_named_as_such(record: bytes) -> None:
    assert parse(record, "p", "s") is Reason.RECORD_DAMAGED


def test_a_newer_version_is_not_damage() -> None:
    assert parse(b'{"v":2,"what":"ever"}', "p", "s") is Reason.RECORD_NEWER_VERSION


def test_another_shards_record_is_foreign() -> None:
    assert parse(encode(VIEW), "p", "t") is Reason.RECORD_FOREIGN
    assert parse(encode(VIEW), "q", "s") is Reason.RECORD_FOREIGN


def test_fields_we_do_not_know_are_let_be() -> None:
    assert parse(changed(note="hello"), "p", "s") == VIEW


def test_the_next_view_keeps_runs_and_forgets_who_left_or_joined() -> None:
    view = next_view(VIEW, ["b:1"], lead="b:1")
    assert view == View("p", "s", 8, "b:1", ("b:1",), ("rb",), parent=("a:1", "b:1"))


def test_a_first_view_has_no_parent() -> None:
    assert first_view("p", "s", "a:1", {"a:1": ""}).parent == ()


def test_the_next_view_names_a_new_life() -> None:
    assert next_view(VIEW, ["a:1"], lead="a:1", runs={"a:1": "new"}).runs == ("new",)


def test_who_joined_is_no_longer_joining() -> None:
    view = next_view(VIEW, ["a:1", "c:1"], lead="a:1", runs={"c:1": "rc"})
    assert (view.in_sync, view.runs, view.joining) == (("a:1", "c:1"), ("ra", "rc"), ())
    assert view.joining_runs == ()


def test_who_joins_is_named_with_its_life() -> None:
    view = next_view(VIEW, ["a:1"], lead="a:1", runs={"b:1": "new"}, joining=["b:1"])
    assert (view.joining, view.joining_runs, view.run_of("b:1")) == (("b:1",), ("new",), "new")
    assert parse(encode(replace(view, fans_out=True)), "p", "s") == replace(view, fans_out=True)


VIEWS = [
    VIEW,
    next_view(VIEW, ["b:1"], lead="b:1"),
    next_view(VIEW, ["a:1"], lead="a:1"),
    next_view(VIEW, ["a:1", "b:1"], lead="b:1"),
    next_view(next_view(VIEW, ["b:1"], lead="b:1"), ["b:1"], lead="b:1"),
    next_view(next_view(VIEW, ["a:1"], lead="a:1"), ["a:1"], lead="a:1"),
    *(
        replace(next_view(VIEW, ["a:1", "b:1"], lead="a:1"), parent=parent)
        for parent in [(), ("b:1", "a:1"), ("a:1", "b:1", "c:1")]
    ),
]


def test_any_two_views_have_exactly_one_winner() -> None:
    for one, other in itertools.permutations(VIEWS, 2):
        assert beats(one, other) != beats(other, one)
    assert not any(beats(view, view) for view in VIEWS)


def of_three(*survivors: str) -> View:
    """What follows c:1, b:1, a:1, whose succession runs against the order of addresses."""
    runs = {"c:1": "rc", "b:1": "rb", "a:1": "ra"}
    return next_view(first_view("p", "s", "c:1", runs), survivors, lead=survivors[0])


def test_epoch_beats_succession_beats_size_beats_bytes() -> None:
    assert beats(VIEWS[4], VIEWS[3])
    assert beats(of_three("b:1"), of_three("c:1", "a:1")), (
        "b:1 stands later in the parent, and had to be asked"
    )
    assert beats(of_three("c:1", "b:1"), of_three("c:1"))
    assert beats(of_three("c:1", "a:1"), of_three("c:1", "b:1"))


def test_order_is_transitive() -> None:
    for one, two, three in itertools.permutations(VIEWS, 3):
        if beats(one, two) and beats(two, three):
            assert beats(one, three)


def test_conflict_is_one_epoch_and_two_contents() -> None:
    assert is_conflict(VIEWS[1], VIEWS[2])
    assert not is_conflict(VIEWS[0], VIEWS[1])
    assert not is_conflict(VIEW, VIEW)
