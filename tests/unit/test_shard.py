"""The shard state machine, one situation at a time. The world is a handful of values; no clock, no IO."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.shard_world import A, B, C, World, serving, view_of

from proxy.control.event import (
    Commit,
    CommitFailed,
    CommitLost,
    CommitWon,
    ConnectionFailed,
    Probed,
    ProbeNow,
    Restore,
    VerifyFailed,
    WriteFailed,
)
from proxy.control.finding import Finding
from proxy.control.model import (
    BackendState,
    Condition,
    Phase,
    ProbeResult,
    Reason,
    Transition,
    View,
)
from proxy.control.state import readable
from proxy.control.transitions import TRANSITIONS
from proxy.control.view import encode, next_view


def test_the_table_is_total() -> None:
    assert set(TRANSITIONS) == {(state, finding) for state in BackendState for finding in Finding}


def test_nothing_but_a_view_or_its_agreement_brings_a_backend_into_sync() -> None:
    into = {
        finding
        for (state, finding), move in TRANSITIONS.items()
        if move.state is BackendState.IN_SYNC and state is not BackendState.IN_SYNC
    }
    assert into == {Finding.ELECTED, Finding.CURRENT, Finding.LAGGING}


class TestFirstContact:
    def test_all_empty_are_all_in_sync(self) -> None:
        world = World(A, B).answer(A)
        assert not [each for each in world.actions if isinstance(each, Commit)], "B was not heard yet"
        world.answer(B)
        view = world.win()
        assert (view.epoch, view.lead, view.in_sync) == (1, A, (A, B))
        assert world.shard.reason is Reason.BOOTSTRAPPED
        assert world.states() == {A: "in_sync", B: "in_sync"}
        assert world.shard.phase is Phase.SERVING

    def test_the_first_that_holds_data_is_the_truth(self) -> None:
        world = World(A, B, C).answer(A, items=0).answer(B, items=5).answer(C, items=9)
        assert world.win().in_sync == (B,)
        assert world.states() == {A: "stale", B: "in_sync", C: "stale"}
        assert world.shard.member(C).reason is Reason.DIFFERS

    def test_trust_takes_whoever_answers(self) -> None:
        world = World(A, B, C, bootstrap="trust").answer(A, items=3).answer(B, items=5).fail(C, times=2)
        assert world.win().in_sync == (A, B)
        assert world.states()[C] == "down"

    def test_a_first_timeout_is_tried_once_more(self) -> None:
        world = World(A, B).answer(A, items=1).fail(B)
        assert world.actions == [ProbeNow(B)]
        assert not world.shard.is_contacted
        assert world.fail(B).win().in_sync == (A,)

    def test_refuse_waits_for_the_operator(self) -> None:
        world = World(A, B, bootstrap="refuse").answer(A).answer(B)
        assert world.shard.lead is None
        assert world.shard.reason is Reason.BOOTSTRAP_REFUSED
        assert not [each for each in world.actions if isinstance(each, Commit)]

    def test_empty_backends_wait_for_one_that_may_hold_the_data(self) -> None:
        world = World(A, B).fail(A, Reason.REFUSED).answer(B)
        assert world.shard.reason is Reason.WAITING_FOR_OTHERS
        world.now = 9.0
        assert world.answer(B).win().in_sync == (B,)
        assert world.states() == {A: "down", B: "in_sync"}

    def test_one_that_holds_data_waits_for_nobody(self) -> None:
        world = World(A, B).fail(A, Reason.REFUSED).answer(B, items=1)
        assert [each.blank for each in world.actions if isinstance(each, Commit)] == [(B,)]
        assert world.win().in_sync == (B,)

    @pytest.mark.parametrize("bootstrap", ["sync", "trust"])
    @pytest.mark.parametrize("condition", [Condition.LOADING, Condition.NOAUTH, Condition.BUSY])
    @pytest.mark.parametrize("items", [0, 4])
    def test_one_that_does_not_show_yet_what_it_holds_is_waited_for(
        self, bootstrap: str, condition: Condition, items: int
    ) -> None:
        world = World(A, B, bootstrap=bootstrap)
        world.answer(A, condition=condition, record_known=False).answer(B, items=items)
        world.now = 900.0
        world.answer(A, condition=condition, record_known=False).answer(B, items=items)
        assert not [each for each in world.actions if isinstance(each, Commit)]
        assert world.shard.reason is Reason(condition.value)
        world.answer(A, items=9)
        assert world.win().lead == A

    def test_one_behind_the_truth_is_not_waited_for(self) -> None:
        world = World(A, B).answer(A, items=4).answer(B, condition=Condition.LOADING, record_known=False)
        assert world.win().in_sync == (A,)

    def test_one_that_does_not_say_how_much_it_holds_is_not_empty(self) -> None:
        world = World(A, B).answer(A, items=None).answer(B, items=None)
        assert world.win().in_sync == (A,)

    def test_a_readonly_server_does_not_become_the_truth(self) -> None:
        world = World(A, B).answer(A, items=4, condition=Condition.READONLY).answer(B, items=4)
        assert world.win().in_sync == (B,)

    @pytest.mark.parametrize(
        ("record", "reason"),
        [
            (b"{", Reason.RECORD_DAMAGED),
            (b'{"v":2}', Reason.RECORD_NEWER_VERSION),
            (encode(View("other", "s", 3, A, (A,), ("r",))), Reason.RECORD_FOREIGN),
            (encode(View("p", "s", 3, "z:1", ("z:1",), ("r",))), Reason.RECORD_FOREIGN),
        ],
    )
    def test_a_record_we_cannot_follow_stops_everything_and_is_kept(
        self, record: bytes, reason: Reason
    ) -> None:
        world = World(A, B).answer(A, record=record).answer(B)
        assert world.shard.reason is reason
        assert world.shard.lead is None
        assert world.shard.member(A).reason is reason
        assert not [each for each in world.actions if isinstance(each, Commit | Restore)]

    def test_the_highest_epoch_found_wins(self) -> None:
        old, new = encode(view_of(3, A, [A, B])), encode(view_of(4, B, [B]))
        world = World(A, B).answer(A, record=old)
        assert world.shard.lead is None, "A may have missed a newer view"
        world.answer(B, record=new)
        assert world.states() == {A: "stale", B: "in_sync"}
        assert world.shard.member(A).reason is Reason.MISSED_VIEW
        assert Restore(A, new, blank=False) in world.actions

    def test_a_process_the_view_does_not_name_is_stale_even_with_the_record(self) -> None:
        record = encode(view_of(3, A, [A, B]))
        world = World(A, B).answer(A, run="another", record=record).answer(B, record=record)
        view = world.win()
        assert (view.epoch, view.lead, view.in_sync) == (4, B, (B,))
        assert world.states() == {A: "stale", B: "in_sync"}


class TestWriteFailed:
    def test_a_view_without_it_first_then_the_table(self) -> None:
        world = serving(A, B)
        before = world.shard.revision
        world.happen(WriteFailed(B))
        assert world.states()[B] == "in_sync", "until the view is recorded"
        assert readable(world.shard) == (A,)
        view = world.win()
        assert (view.epoch, view.lead, view.in_sync) == (2, A, (A,))
        assert world.states() == {A: "in_sync", B: "stale"}
        assert world.shard.member(B).reason is Reason.WRITE_FAILED
        assert world.shard.revision > before

    def test_leadership_moves_on(self) -> None:
        assert serving(A, B, C).happen(WriteFailed(A)).win().lead == B

    @pytest.mark.parametrize(
        ("failed", "arbiters", "witnesses"),
        [((A,), (A,), ()), ((B,), (), (B,)), ((A, B), (), (B,)), ((A, C), (), (C,))],
    )
    def test_who_leaves_from_the_front_decides_races_and_all_others_are_told(
        self, failed: tuple[str, ...], arbiters: tuple[str, ...], witnesses: tuple[str, ...]
    ) -> None:
        world = serving(A, B, C).happen(*(WriteFailed(each) for each in reversed(failed)))
        (commit,) = [each for each in world.actions if isinstance(each, Commit)]
        assert (commit.arbiters, commit.witnesses) == (arbiters, witnesses)

    def test_the_last_is_never_removed_but_published_again(self) -> None:
        world = serving(A, B).happen(WriteFailed(B))
        world.win()
        before = world.shard
        world.happen(WriteFailed(A))
        assert world.shard.in_sync == (A,)
        assert world.shard.epoch == before.epoch
        assert world.shard.revision == before.revision + 1

    def test_both_fail_at_once_and_one_stays(self) -> None:
        world = serving(A, B).happen(WriteFailed(A), WriteFailed(B))
        assert world.win().in_sync == (B,), "the view without A was under way when B failed"
        assert world.shard.in_sync == (B,)
        assert not [each for each in world.actions if isinstance(each, Commit)]

    def test_a_survivor_that_takes_no_view_is_passed_over(self) -> None:
        world = serving(A, B, C).happen(WriteFailed(A))
        world.happen(CommitFailed(world.proposed(), B, Reason.TIMEOUT))
        assert world.win().in_sync == (C,)

    def test_an_outcome_that_is_not_pending_changes_nothing(self) -> None:
        world = serving(A, B)
        before = world.shard
        world.happen(CommitWon(view_of(9, B, [B])), CommitFailed(view_of(9, B, [B]), A, Reason.TIMEOUT))
        assert world.shard == before


class TestHealth:
    def test_fall_probes_then_a_view_without_it(self) -> None:
        world = serving(A, B).fail(B, times=2)
        assert not world.actions
        world.fail(B)
        assert world.win().in_sync == (A,)
        assert world.states()[B] == "down"

    def test_a_lost_connection_makes_one_failed_probe_enough(self) -> None:
        world = serving(A, B).happen(ConnectionFailed(B, "refused"))
        assert world.actions == [ProbeNow(B)]
        assert world.fail(B, Reason.REFUSED).win().in_sync == (A,)

    def test_the_last_one_keeps_its_tries_and_makes_them_at_once(self) -> None:
        """Its connections may have been cut by another proxy's fence, the one of the probe among them."""
        world = serving(A, B).fail(B, times=3)
        world.win()
        world.actions.clear()
        world.happen(ConnectionFailed(A, "eof"))
        for _ in range(2):
            assert world.actions == [ProbeNow(A)]
            world.actions.clear()
            world.fail(A, Reason.EOF)
            assert readable(world.shard) == (A,)
        world.current(A)
        assert readable(world.shard) == (A,)
        world.happen(ConnectionFailed(A, "refused")).fail(A, Reason.REFUSED, times=3)
        assert world.states()[A] == "down"

    def test_a_lost_connection_alone_is_nothing(self) -> None:
        world = serving(A, B).happen(ConnectionFailed(B, "eof")).current(B).fail(B)
        assert world.shard.in_sync == (A, B)
        assert world.shard.pending is None

    def test_panic_keeps_the_table(self) -> None:
        world = serving(A, B).fail(B, times=5, panic=True)
        assert world.shard.in_sync == (A, B)
        assert world.fail(B).win().in_sync == (A,), "the panic is over and B is still silent"

    def test_what_comes_back_is_stale_even_if_it_is_the_same_process(self) -> None:
        world = serving(A, B)
        old = world.shard.record
        world.fail(B, times=3).win()
        world.answer(B, record=old)
        assert world.states()[B] == "down", "rise is 2"
        world.answer(B, record=old)
        assert world.states()[B] == "stale"
        assert Restore(B, world.shard.record) in world.actions
        world.current(B, B, B)
        assert world.states()[B] == "stale", "a fresh record does not bring back missed writes"

    def test_a_restart_between_two_probes_is_stale(self) -> None:
        world = serving(A, B).answer(B, run="new", record=None)
        assert world.win().in_sync == (A,)
        assert world.shard.member(B).reason is Reason.RESTARTED

    def test_loading_is_not_a_death(self) -> None:
        world = serving(A, B).answer(B, record_known=False, condition=Condition.LOADING)
        assert world.shard.in_sync == (A, B)
        assert readable(world.shard) == (A,)
        assert world.shard.member(B).reason is Reason.LOADING
        world.current(B)
        assert readable(world.shard) == (A, B)

    def test_a_verify_failure_is_looked_at(self) -> None:
        assert serving(A, B).happen(VerifyFailed(B)).actions == [ProbeNow(B)]


class TestMissingRecord:
    def test_evicted_is_put_back(self) -> None:
        world = serving(A, B).answer(B)
        assert world.actions == [ProbeNow(B)]
        world.answer(B)
        assert Restore(B, world.shard.record, blank=True) in world.actions
        assert world.shard.in_sync == (A, B)

    def test_a_view_is_not_written_over_a_record_that_may_have_been_flushed(self) -> None:
        world = serving(A, B, C).answer(B).happen(WriteFailed(C))
        assert [each.blank for each in world.actions if isinstance(each, Commit)] == [()]
        view = world.proposed()
        world.happen(CommitWon(view, missed=(B,)))
        assert ProbeNow(B) in world.actions
        assert Restore(B, world.shard.record, blank=True) not in world.actions
        world.answer(B, flushes=1)
        assert world.win().in_sync == (A,)

    def test_flushed_is_stale(self) -> None:
        world = serving(A, B).answer(B, flushes=1).answer(B, flushes=1)
        assert world.win().in_sync == (A,)
        assert world.shard.member(B).reason is Reason.FLUSHED

    def test_one_that_has_taken_over_another_servers_data_is_stale(self) -> None:
        world = serving(A, B).answer(B, record=world_record(A, B), lineage="own")
        world.answer(B, lineage="other")
        assert not [each for each in world.actions if isinstance(each, Commit)], "it may be under way"
        world.answer(B, lineage="other")
        assert world.win().in_sync == (A,)

    def test_one_that_hides_its_process_is_not_given_a_record_that_is_missing(self) -> None:
        world = serving(A, B).answer(B, run="").answer(B, run="")
        assert world.win().in_sync == (A,)

    def test_a_flush_through_the_proxy_leaves_the_record(self) -> None:
        world = serving(A, B).answer(B, flushes=1).answer(B, record=world_record(A, B), flushes=1)
        assert world.shard.in_sync == (A, B)
        world.answer(B, flushes=1).answer(B, flushes=1)
        assert world.shard.in_sync == (A, B), "the new count is the one to compare with"


def world_record(*addresses: str) -> bytes:
    return serving(*addresses).shard.record


class TestLastSurvivor:
    def test_it_is_the_truth_whatever_it_holds(self) -> None:
        world = serving(A, B).fail(B, times=3)
        world.win()
        world.answer(A, run="new")
        view = world.win()
        assert (view.epoch, view.in_sync, view.runs) == (3, (A,), ("new",))
        assert world.shard.in_sync == (A,)

    @pytest.mark.parametrize(("items", "expected"), [(0, A), (3, B)])
    def test_one_that_loads_its_data_is_waited_for_if_nobody_else_has_any(
        self, items: int, expected: str
    ) -> None:
        world = serving(A, B).fail(A, Reason.REFUSED, times=3)
        world.happen(CommitFailed(world.proposed(), B, Reason.REFUSED)).fail(B, Reason.REFUSED, times=3)
        world.actions.clear()
        for _ in range(2):
            world.answer(A, run="new", condition=Condition.LOADING, record_known=False)
            world.answer(B, run="newer", items=items)
            world.now += 900.0
        if expected == B:
            assert world.answer(B, run="newer", items=items).win().in_sync == (B,)
            return
        assert not [each for each in world.actions if isinstance(each, Commit)]
        assert world.shard.reason is Reason.WAITING_FOR_OTHERS
        world.answer(A, run="new", items=9)
        assert world.win().in_sync == (A,)

    def test_flushed_it_is_recorded_once_and_no_more(self) -> None:
        world = serving(A, B).fail(B, times=3)
        world.win()
        world.answer(A, flushes=1).answer(A, flushes=1)
        world.win()
        assert not [each for each in world.actions if isinstance(each, Commit)]
        assert world.shard.in_sync == (A,)

    def test_silent_it_is_lost_and_comes_back_as_it_was(self) -> None:
        world = serving(A, B).fail(B, times=3)
        world.win()
        world.fail(A, times=3)
        assert (world.shard.lead, world.shard.phase) == (None, Phase.LOST)
        assert world.states() == {A: "down", B: "down"}
        world.current(A)
        assert world.shard.in_sync == (A,), "nobody else can serve, so one answer is enough"
        assert world.shard.reason is Reason.ANSWERS

    def test_with_several_restarted_the_one_that_is_not_is_waited_for(self) -> None:
        world = serving(A, B).fail(A, times=3)
        world.happen(CommitFailed(world.proposed(), B, Reason.TIMEOUT))
        world.fail(B, times=3)
        assert world.shard.reason == "nobody_reachable"
        world.actions.clear()
        world.answer(A, run="new")
        assert world.shard.reason is Reason.WAITING_FOR_OTHERS
        world.answer(B, record=world.shard.record)
        assert world.win().in_sync == (B,)
        assert world.states() == {A: "stale", B: "in_sync"}

    def test_but_not_for_ever(self) -> None:
        world = serving(A, B).fail(A, times=3)
        world.happen(CommitFailed(world.proposed(), B, Reason.TIMEOUT))
        world.fail(B, times=3)
        world.actions.clear()
        world.answer(A, run="new")
        world.now += 9.0
        world.answer(A, run="new")
        assert world.win().in_sync == (A,)

    def test_all_restarted_the_one_with_data_leads(self) -> None:
        world = serving(A, B).fail(A, times=3)
        world.happen(CommitFailed(world.proposed(), B, Reason.TIMEOUT))
        world.fail(B, times=3)
        world.actions.clear()
        world.answer(A, run="new", items=0).answer(B, run="newer", items=7)
        assert world.win().in_sync == (B,)


class TestOtherProxies:
    def test_a_newer_view_is_adopted_and_drops_our_commit(self) -> None:
        world = serving(A, B, C).happen(WriteFailed(B))
        ours = world.proposed()
        theirs = view_of(2, A, [A, B])
        world.happen(CommitLost(ours, A, encode(theirs)))
        assert world.shard.view == theirs
        assert world.states()[C] == "stale"
        following = world.win()
        assert (following.epoch, following.in_sync) == (3, (A,)), "B still has a failed write"
        assert following.parent == (A, B)

    def test_a_rival_is_not_followed_before_the_outcome_of_our_own_is_known(self) -> None:
        world = serving(A, B, C).happen(WriteFailed(A))
        ours = world.proposed()
        theirs = encode(view_of(2, A, [A, B]))
        world.answer(B, record=theirs)
        assert (world.shard.epoch, world.shard.pending) == (1, ours)
        world.happen(CommitWon(ours)).answer(A, record=encode(view_of(3, A, [A, B])))
        assert world.shard.epoch == 3, "a newer one is, at any time"

    def test_what_only_one_that_leaves_was_told_replaces_nothing_of_its_epoch(self) -> None:
        world = serving(A, B, C).happen(WriteFailed(A))
        ours = world.win()
        rival = encode(replace(view_of(2, C, [C]), parent=(A, B, C)))
        world.answer(A, record=rival)
        assert (world.shard.view, world.shard.conflicts) == (ours, 0)
        assert Restore(A, world.shard.record, blank=False) in world.actions
        world.answer(C, record=rival)
        assert (world.shard.epoch, world.shard.in_sync, world.shard.conflicts) == (2, (C,), 1)

    @pytest.mark.parametrize("placed", [True, False])
    def test_who_loses_half_way_makes_a_view_that_outdates_what_is_left(self, placed: bool) -> None:
        world = serving(A, B, C).happen(WriteFailed(A))
        ours = world.proposed()
        theirs = view_of(2, C, [C])
        world.happen(CommitLost(ours, C, encode(theirs), placed))
        if not placed:
            assert world.shard.view == theirs
            assert not [each for each in world.actions if isinstance(each, Commit)]
            return
        assert world.shard.epoch == 1, "either of the two may count: neither is followed before the next one"
        assert world.shard.pending == next_view(theirs, [C], lead=C)
        following = world.win()
        assert (following.epoch, following.in_sync, world.shard.reason) == (3, (C,), Reason.CONFLICT)
        world.answer(B, record=encode(ours))
        assert world.shard.view == following
        assert not [each for each in world.actions if isinstance(each, Commit)]

    def test_with_nobody_in_both_the_winner_is_followed_and_outdated_all_the_same(self) -> None:
        world = serving(A, B, C).happen(WriteFailed(C)).fail(B, times=3)
        world.happen(CommitWon(world.proposed()))
        ours = world.proposed()
        assert ours.in_sync == (A,)
        theirs = replace(view_of(3, B, [B]), parent=(A, B))
        world.happen(CommitLost(ours, B, encode(theirs), placed=True))
        assert world.shard.view == theirs
        assert world.shard.tried == ours

    def test_our_own_view_that_was_given_up_half_way_may_be_followed_after_all(self) -> None:
        world = serving(A, B, C).happen(WriteFailed(A))
        ours = world.proposed()
        world.happen(CommitFailed(ours, B, Reason.TIMEOUT, placed=True))
        second = world.proposed()
        assert second.in_sync == (C,)
        world.happen(CommitLost(second, A, encode(ours)))
        assert world.shard.view == ours
        assert world.shard.tried is None
        following = world.win()
        assert (following.epoch, following.in_sync) == (3, (C,)), "B takes no view"

    @pytest.mark.parametrize("silent", [True, False])
    def test_one_with_a_record_we_cannot_follow_is_not_asked_for_ever(self, silent: bool) -> None:
        world = serving(A, B)
        if silent:
            world.fail(A, times=3)
        else:
            world.happen(WriteFailed(A))
        ours = world.proposed()
        strange = encode(View("p", "s", 9, "z:1", ("z:1",), ("r",)))
        world.happen(CommitLost(ours, A, strange))
        (commit,) = [each for each in world.actions if isinstance(each, Commit)]
        assert (commit.view.in_sync, commit.arbiters) == ((B,), ())

    def test_a_member_elected_by_another_proxy_gets_writes_at_once(self) -> None:
        world = serving(A, B).fail(B, times=3)
        world.win()
        world.answer(A, record=encode(view_of(3, A, [A, B])))
        assert world.shard.in_sync == (A, B)
        world.fail(B, times=2)
        assert world.shard.pending is None, "it was silent to us before; the other proxy knew better"
        assert world.fail(B).proposed().in_sync == (A,), "if it stays silent to us it leaves by a view"

    def test_a_conflict_is_counted_once_and_has_one_winner(self) -> None:
        one, other = (A, encode(view_of(2, A, [A]))), (B, encode(view_of(2, B, [B])))
        ends = []
        for first, second in ((one, other), (other, one)):
            world = serving(A, B).answer(first[0], record=first[1])
            world.answer(second[0], record=second[1]).answer(second[0], record=second[1])
            assert world.shard.conflicts == 1
            ends.append(world.shard.view)
        assert ends[0] == ends[1]

    def test_a_member_that_left_the_configuration_leaves_the_view(self) -> None:
        record = encode(view_of(5, "z:1", ["z:1", A, B]))
        world = World(A, B).answer(A, record=record).answer(B, record=record)
        assert world.shard.lead is None
        view = world.win()
        assert (view.lead, view.in_sync) == (A, (A, B))
        assert (world.shard.in_sync, world.shard.reason) == ((A, B), Reason.OTHER_MEMBERS)

    def test_nothing_is_served_under_a_view_with_members_that_others_may_read_from(self) -> None:
        world = serving(A, B).answer(A, record=encode(view_of(2, A, [A, B, "z:1"])))
        assert (world.shard.lead, world.states()) == (None, {A: "stale", B: "stale"})
        assert {each.reason for each in world.shard.members} == {Reason.OTHER_MEMBERS}
        assert world.win().in_sync == (A, B)
        assert world.states() == {A: "in_sync", B: "in_sync"}

    def test_a_view_without_any_of_ours_is_foreign_and_leaves_ours_alone(self) -> None:
        world = serving(A, B).answer(B, record=encode(view_of(9, "z:1", ["z:1"])))
        assert world.win().in_sync == (A,)
        assert world.shard.member(B).reason is Reason.RECORD_FOREIGN
        assert not [each for each in world.actions if isinstance(each, Restore)]


class TestWithoutReplicas:
    def test_it_keeps_no_view_and_a_restart_is_nothing(self) -> None:
        world = World(A).answer(A, record_known=False)
        assert (world.shard.lead, world.shard.epoch) == (A, 0)
        world.answer(A, run="new", record_known=False)
        assert world.shard.in_sync == (A,)
        assert not [each for each in world.actions if isinstance(each, Commit | Restore)]

    def test_down_and_up(self) -> None:
        world = World(A).answer(A, record_known=False).fail(A, times=3)
        assert world.shard.lead is None
        assert world.answer(A, record_known=False).shard.lead == A

    def test_a_failed_write_is_published_again(self) -> None:
        world = World(A).answer(A, record_known=False)
        before = world.shard.revision
        assert world.happen(WriteFailed(A)).shard.revision == before + 1


def test_each_change_is_reported_once_with_its_reason() -> None:
    world = serving(A, B).happen(WriteFailed(B))
    world.happen(CommitWon(world.proposed()))
    changes = [each for each in world.actions if isinstance(each, Transition)]
    assert changes == [
        Transition(B, "in_sync", "stale", Reason.WRITE_FAILED, 2),
        Transition("", A, A, Reason.COMMITTED, 2),
    ]


def test_first_contact_reports_each_backend_once() -> None:
    world = World(A, B, C).fail(C, Reason.REFUSED).answer(A, items=1).answer(B)
    world.happen(CommitWon(next(each.view for each in world.actions if isinstance(each, Commit))))
    changes = [each for each in world.actions if isinstance(each, Transition)]
    assert changes == [
        Transition(C, "down", "down", Reason.REFUSED, 0),
        Transition(A, "down", "in_sync", Reason.ANSWERS, 1),
        Transition(B, "down", "stale", Reason.DIFFERS, 1),
        Transition("", "nobody", A, Reason.BOOTSTRAPPED, 1),
    ]


def test_unknown_addresses_change_nothing() -> None:
    world = serving(A, B)
    before = world.shard
    for event in (
        WriteFailed("x:1"),
        ConnectionFailed("x:1"),
        VerifyFailed("x:1"),
        Probed(ProbeResult("x:1")),
    ):
        world.happen(event)
    assert world.shard == before
