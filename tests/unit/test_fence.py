"""Who holds his writes, and who sends any, by CLIENT LIST. Values in, values out."""

from __future__ import annotations

from proxy.control.fence import Owner, fence, traffic_of

ONE, TWO = Owner("1", "p", "s"), Owner("2", "p", "s")


def listing(*names: str) -> bytes:
    lines = [f"id={number} addr=1.2.3.4:5 name={name} age=1 cmd=get" for number, name in enumerate(names, 1)]
    return "\n".join([*lines, ""]).encode()


def test_all_hold() -> None:
    found = fence(listing(ONE.traffic, ONE.control(7), TWO.control(7), TWO.traffic), "p", "s", 7)
    assert (found.holding, found.missing, found.cut) == ({"1", "2"}, set(), ())


def test_one_does_not_hold_yet() -> None:
    found = fence(listing(ONE.control(7), TWO.traffic, TWO.control(), TWO.traffic), "p", "s", 7)
    assert found.missing == {"2"}
    assert found.wake == (("2", 3),)
    assert sorted(found.cut) == [2, 3, 4]


def test_a_hold_of_an_earlier_view_is_none() -> None:
    assert fence(listing(ONE.control(6), ONE.traffic), "p", "s", 7).missing == {"1"}


def test_traffic_without_a_control_connection_is_missing() -> None:
    found = fence(listing(ONE.control(7), TWO.traffic), "p", "s", 7)
    assert (found.missing, found.wake, found.cut) == ({"2"}, (), (2,))


def test_strangers_and_other_shards_are_no_business_of_ours() -> None:
    names = ["", "redis-cli", "shardproxy:x", Owner("3", "p", "s2").traffic, Owner("4", "q", "s").control(1)]
    found = fence(listing(*names), "p", "s", 7)
    assert (found.holding, found.missing, found.cut) == (set(), set(), ())


def test_connections_that_carry_requests_are_told_from_others() -> None:
    named = listing(ONE.traffic, ONE.control(7), TWO.traffic, "redis-cli", Owner("x", "p", "other").traffic)
    assert traffic_of(named, "p", "s") == (1, 3)


def test_a_listing_that_is_cut_or_no_text_names_nobody() -> None:
    for junk in (b"", b"\xff\xfe=", b"id=x name=" + ONE.traffic.encode(), b"name= id="):
        assert fence(junk, "p", "s", 7).missing == set()
