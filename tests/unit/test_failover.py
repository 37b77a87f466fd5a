"""Who leads, or nobody and why."""

from __future__ import annotations

import pytest

from proxy.control.failover import Candidate, Standing, bootstrap, choose, is_panic
from proxy.control.model import Reason, View

VIEW = View("p", "s", 3, "b:1", ("a:1", "b:1", "c:1"), ("ra", "rb", "rc"))
U, S, R, X = Standing.USABLE, Standing.SUSPECT, Standing.REBORN, Standing.ABSENT


def members(*standings: Standing, data: str = "") -> list[Candidate]:
    return [
        Candidate(f"{name}:1", standing, f"new-{name}", is_empty=name not in data)
        for name, standing in zip("abc", standings, strict=False)
    ]


@pytest.mark.parametrize(
    ("standings", "survivors", "lead"),
    [
        ((U, U, U), "abc", "b"),
        ((X, U, U), "bc", "b"),
        ((U, X, U), "ac", "a"),
        ((S, R, U), "c", "c"),
        ((S, S, S), "b", "b"),
        ((S, X, S), "a", "a"),
        ((R, X, S), "c", "c"),
    ],
)
def test_the_usable_stay_and_the_next_in_order_leads(
    standings: tuple[Standing, ...], survivors: str, lead: str
) -> None:
    choice = choose(VIEW, members(*standings), waited=False)
    assert "".join(each[0] for each in choice.survivors) == survivors
    assert choice.lead == f"{lead}:1"
    assert not choice.runs


def test_nobody_answers() -> None:
    choice = choose(VIEW, members(X, X, X), waited=True)
    assert (choice.survivors, choice.reason, choice.is_final) == ((), Reason.NOBODY_REACHABLE, True)


def test_the_restarted_wait_for_the_others() -> None:
    assert choose(VIEW, members(R, X, R), waited=False).reason is Reason.WAITING_FOR_OTHERS
    assert choose(VIEW, members(R, X, R), waited=True).survivors == ("a:1",)


def test_all_restarted_means_no_wait_and_the_lead_first() -> None:
    choice = choose(VIEW, members(R, R, R), waited=False)
    assert (choice.survivors, choice.runs) == (("b:1",), {"b:1": "new-b"})


def test_all_restarted_data_goes_before_the_lead() -> None:
    assert choose(VIEW, members(R, R, R, data="c"), waited=False).survivors == ("c:1",)


def test_who_takes_no_view_is_left_out_but_nothing_is_given_up_for_it() -> None:
    mute = [Candidate("a:1", U, can_record=False), Candidate("b:1", S), Candidate("c:1", X)]
    assert choose(VIEW, mute, waited=False).survivors == ("b:1",)
    choice = choose(VIEW, [mute[0], mute[2]], waited=True)
    assert (choice.survivors, choice.is_final) == ((), False)


def test_bootstrap_order_decides_between_holders() -> None:
    choice = bootstrap("sync", members(U, U, U, data="bc"), configured=3, waited=False)
    assert (choice.survivors, choice.lead, choice.runs) == (("b:1",), "b:1", {"b:1": "new-b"})


def test_bootstrap_of_the_empty_takes_all_once_all_answered_or_time_is_up() -> None:
    two = members(U, U)
    assert bootstrap("sync", two, configured=3, waited=False).reason is Reason.WAITING_FOR_OTHERS
    assert bootstrap("sync", two, configured=3, waited=True).survivors == ("a:1", "b:1")
    assert bootstrap("sync", two, configured=2, waited=False).survivors == ("a:1", "b:1")


def test_bootstrap_with_nobody_and_refusal() -> None:
    assert bootstrap("trust", [], configured=2, waited=True).reason is Reason.NOBODY_REACHABLE
    assert bootstrap("refuse", members(U), configured=1, waited=True).reason is Reason.BOOTSTRAP_REFUSED


@pytest.mark.parametrize(
    ("total", "silent", "expected"), [(4, 2, False), (4, 3, True), (1, 1, True), (0, 0, False)]
)
def test_panic_is_more_than_the_threshold(total: int, silent: int, expected: bool) -> None:
    assert is_panic(total, silent, 0.5) is expected
