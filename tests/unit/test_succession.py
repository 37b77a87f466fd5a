"""Who goes on without a leader that may still serve others lets the table say so."""

from __future__ import annotations

import pytest
from support.shard_world import A, B, C, World, serving, view_of

from proxy.control.event import CommitLost, WriteFailed
from proxy.control.model import Reason
from proxy.control.routing import shard_routing
from proxy.control.view import encode


def test_nobody_succeeds_the_first_leader() -> None:
    assert not serving(A, B).shard.succeeds


@pytest.mark.parametrize("reason", [Reason.TIMEOUT, Reason.EOF, Reason.RESET, Reason.UNREACHABLE])
def test_a_leader_that_is_not_known_to_be_dead_may_serve_others(reason: Reason) -> None:
    world = serving(A, B).fail(A, reason, times=3)
    assert world.win().lead == B
    assert world.shard.succeeds
    assert shard_routing(world.shard, {}).succeeds


def test_one_that_refuses_connections_does_not() -> None:
    world = serving(A, B).fail(A, Reason.REFUSED, times=3)
    assert world.win().lead == B
    assert not world.shard.succeeds


def test_a_refusal_that_comes_later_is_published() -> None:
    world = serving(A, B).happen(WriteFailed(A))
    world.win()
    before = world.shard.revision
    world.fail(A, Reason.REFUSED)
    assert not world.shard.succeeds
    assert world.shard.revision == before + 1


def test_the_loss_of_one_that_follows_changes_nothing() -> None:
    world = serving(A, B, C).happen(WriteFailed(C))
    assert world.win().lead == A
    assert not world.shard.succeeds


def test_whoever_made_the_view() -> None:
    world = serving(A, B, C)
    world.answer(B, record=encode(view_of(2, B, [B, C])))
    assert world.shard.succeeds
    world = serving(A, B, C).happen(WriteFailed(C))
    world.happen(CommitLost(world.proposed(), B, encode(view_of(2, B, [B, C]))))
    assert (world.shard.lead, world.shard.succeeds) == (B, True)


def test_a_view_that_follows_at_once_forgets_nothing() -> None:
    world = serving(A, B, C).happen(WriteFailed(A))
    world.win()
    world.happen(WriteFailed(C))
    assert world.win().in_sync == (B,)
    assert world.shard.succeeds


def test_who_starts_does_not_know_who_led_before() -> None:
    record = encode(view_of(7, B, [B, C]))
    for reason, succeeds in ((Reason.TIMEOUT, True), (Reason.REFUSED, False)):
        world = World(A, B, C).answer(B, record=record).answer(C, record=record).fail(A, reason, times=2)
        assert (world.shard.lead, world.shard.succeeds) == (B, succeeds)
    record = encode(view_of(7, B, [B, C, A]))
    world = World(A, B, C).answer(B, record=record).answer(C, record=record).answer(A, record=record)
    assert (world.shard.lead, world.shard.succeeds) == (B, False)


def test_its_return_is_no_succession() -> None:
    world = serving(A, B).happen(WriteFailed(A))
    world.win()
    before = world.shard.succession
    world.answer(B, record=encode(view_of(4, B, [B, A])))
    assert world.shard.succession == before == 2


def test_what_may_have_happened_unseen_is_one() -> None:
    """One may have left and come back, and lead again since another left."""
    world = serving(A, B)
    world.answer(B, record=encode(view_of(3, A, [A, B])))
    assert world.shard.succession == 0
    world.answer(B, record=encode(view_of(6, A, [A, B])))
    assert (world.shard.succession, world.shard.succeeds) == (6, True)


@pytest.mark.parametrize(("epoch", "succeeds"), [(2, False), (3, True)])
def test_all_that_left_unseen_may_have_led(epoch: int, succeeds: bool) -> None:
    world = serving(A, B, C).fail(A, Reason.REFUSED)
    world.answer(C, record=encode(view_of(epoch, C, [C])))
    assert (world.shard.succession, world.shard.succeeds) == (epoch, succeeds)
