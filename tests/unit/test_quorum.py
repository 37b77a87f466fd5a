"""`views: majority`: who may go on, from votes to the shard's state."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from proxy.control.event import Action, Commit, CommitFailed, CommitLost, CommitWon, Event, Probed, Restore
from proxy.control.model import (
    BackendSpec,
    Condition,
    HealthSpec,
    Incarnation,
    PoolSpec,
    ProbeResult,
    Reason,
    ShardSpec,
    View,
)
from proxy.control.quorum import elect
from proxy.control.shard import step
from proxy.control.state import ShardState, new_shard
from proxy.control.view import beats, encode, first_view, next_view, parse
from proxy.tasks.views import may_write

A, B, C = ADDRESSES = ("a:1", "b:1", "c:1")
FIRST = first_view("p", "s", A, {each: f"run-{each}" for each in ADDRESSES})


def after(view: View, *survivors: str) -> View:
    return next_view(view, survivors, lead=survivors[0])


ONE, OTHER, THIRD = after(FIRST, A, C), after(FIRST, B), after(FIRST, C)


class TestElect:
    @pytest.mark.parametrize(
        ("votes", "elected"),
        [
            ((FIRST, FIRST, FIRST), None),
            ((None, None, None), None),
            ((ONE, FIRST, FIRST), ONE),
            ((ONE, None, None), ONE),
            ((ONE, ONE, OTHER), ONE),
            ((OTHER, ONE, OTHER), OTHER),
            ((ONE, OTHER, FIRST), OTHER if beats(OTHER, ONE) else ONE),
        ],
    )
    def test_the_newest_that_can_win_is_voted_for(
        self, votes: tuple[View | None, ...], elected: View | None
    ) -> None:
        assert elect(votes, 2, above=1) == elected

    def test_where_none_can_win_a_next_round_begins(self) -> None:
        found = elect((ONE, OTHER, THIRD), 2, above=1)
        assert found is not None
        assert found.epoch == 3
        assert elect((ONE, OTHER), 2, above=1) in (after(ONE, A, C), after(OTHER, B))

    def test_as_long_as_a_vote_is_unknown_it_may_have_been_the_winner(self) -> None:
        assert elect((ONE, OTHER, None), 2, above=1) in (ONE, OTHER)

    def test_what_may_have_a_majority_is_never_passed_over(self) -> None:
        """Whatever two of four show, a view that the other two may have made win is not outdated."""
        for votes in itertools.product((FIRST, ONE, OTHER, None), repeat=4):
            found = elect(votes, 3, above=1)
            for view in (ONE, OTHER):
                others = sum(vote is not None and vote.epoch > 1 and vote != view for vote in votes)
                if found is not None and found.epoch > 2:
                    assert 4 - others < 3, "it could still win"


class Network:
    """Backends with their records, one proxy's shard, and whom it reaches. Commits end at once."""

    def __init__(self, *addresses: str, views: str = "majority") -> None:
        spec = ShardSpec("s", tuple(BackendSpec(each) for each in addresses))
        pool = PoolSpec("p", "redis", (spec,), views=views, health=HealthSpec(fall=2, rise=2))
        self.now = 0.0
        self.records: dict[str, bytes | None] = dict.fromkeys(addresses)
        self.runs = {each: f"run-{each}" for each in addresses}
        self.reached = set(addresses)
        self.shard: ShardState = new_shard(pool, spec, 0.0)
        self.proposals: list[View] = []

    def probe(self, *addresses: str, panic: bool = False) -> Network:
        for address in addresses or tuple(self.records):
            self.now += 0.1
            result = ProbeResult(address, failure=Reason.TIMEOUT)
            if address in self.reached:
                incarnation = Incarnation(self.runs[address])
                record = self.records[address]
                result = ProbeResult(address, None, None, incarnation, record, True, flushes=0, items=0)
            self.happen(Probed(result, panic))
        return self

    def happen(self, event: Event) -> None:
        self.shard, actions = step(self.shard, event, self.now)
        self.perform(actions)

    def restart(self, address: str) -> None:
        """As another process, empty."""
        self.records[address] = None
        self.runs[address] += "'"

    def perform(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            if isinstance(action, Commit):
                self.proposals.append(action.view)
                self.happen(self.vote(action))
            elif isinstance(action, Restore) and action.address in self.reached:
                self.restore(action)

    def restore(self, action: Restore) -> None:
        view, current = parse(action.record, "p", "s"), self.records[action.address]
        assert isinstance(view, View)
        if may_write(current, view, blank=action.blank, settles=True, elected=action.elected):
            self.records[action.address] = action.record

    def vote(self, action: Commit) -> Event:
        """As `proxy.tasks.views.commit`."""
        view, taken, changed, missed = action.view, 0, 0, []
        assert action.needed == len(self.records) // 2 + 1
        last = action.blank if view.epoch > 1 else ()
        told = [*action.arbiters, *view.in_sync, *action.witnesses]
        for address in [*filter(lambda each: each not in last, told), *last]:
            held = self.records.get(address)
            found = parse(held, "p", "s") if held else None
            is_late = address in last and changed + len(last) < action.needed
            is_missing = found is None and address not in action.blank
            if address not in self.reached or is_missing or is_late:
                missed.append(address)
            elif found != view and not may_write(held, view, blank=True, settles=False, skips=action.skips):
                return CommitLost(view, address, held, bool(taken))
            else:
                changed += found != view
                taken += 1
                self.records[address] = encode(view)
        if taken >= action.needed:
            missing = tuple(each for each in missed if each in view.in_sync)
            return CommitWon(view, missing, is_fresh=changed >= action.needed)
        return CommitFailed(view, "", Reason.NO_MAJORITY, True, tuple(missed))


def serving(*addresses: str) -> Network:
    network = Network(*addresses).probe()
    assert network.shard.in_sync == addresses
    return network.probe()


def outside(address: str) -> Network:
    """All three answer, and one is not in sync."""
    network = serving(*ADDRESSES)
    network.reached.remove(address)
    network.probe().probe()
    network.reached.add(address)
    network.probe().probe()
    assert network.shard.in_sync == tuple(each for each in ADDRESSES if each != address)
    assert set(network.records.values()) == {network.shard.record}
    return network


class TestFirstContact:
    def test_a_majority_that_is_empty_begins_once_it_has_waited(self) -> None:
        network = Network(A, B, C)
        network.reached = {A, C}
        network.probe().probe()
        assert network.shard.reason is Reason.WAITING_FOR_OTHERS
        network.now += 30.0
        network.probe()
        assert network.shard.in_sync == (A, C)

    def test_a_minority_does_not(self) -> None:
        network = Network(A, B, C)
        network.reached = {A}
        network.probe().probe()
        network.now += 30.0
        network.probe()
        assert (network.shard.lead, network.shard.reason) == (None, Reason.NO_MAJORITY)
        assert not network.proposals

    def test_a_view_on_a_minority_is_not_followed(self) -> None:
        network = Network(A, B, C)
        network.records = {A: encode(ONE), B: encode(FIRST), C: encode(FIRST)}
        network.reached = {A}
        network.probe().probe()
        assert network.shard.lead is None

    def test_a_newer_view_on_one_that_can_be_seen_is_seen_through_first(self) -> None:
        network = Network(A, B, C)
        network.records = {A: encode(FIRST), B: encode(OTHER), C: encode(FIRST)}
        network.reached = {B, C}
        network.probe().probe()
        assert network.proposals == [OTHER]
        assert network.shard.in_sync == (B,)
        assert network.records == {A: encode(FIRST), B: encode(OTHER), C: encode(OTHER)}

    def test_who_came_back_without_its_record_has_no_vote(self) -> None:
        network = Network(A, B, C)
        network.records = {A: encode(FIRST), B: None, C: encode(FIRST)}
        network.reached = {A, B}
        network.probe().probe().probe()
        assert network.shard.lead is None
        network.reached.add(C)
        network.probe(C)
        assert network.shard.in_sync == (A, C)

    def test_a_first_view_that_stands_on_one_only_is_seen_through(self) -> None:
        network = Network(A, B, C)
        network.records[B] = encode(FIRST)
        network.probe().probe()
        assert network.proposals == [FIRST]
        assert network.shard.in_sync == ADDRESSES

    @pytest.mark.parametrize("record", [FIRST, ONE])
    def test_but_not_if_there_may_be_a_newer_one(self, record: View) -> None:
        network = Network(A, B, C)
        network.records[B] = encode(record)
        network.reached = {B, C} if record == FIRST else {A, B, C}
        network.probe().probe().probe()
        assert network.shard.lead is None
        assert network.records[C] is None


class TestServing:
    @pytest.mark.parametrize("panic", [True, False])
    def test_the_minority_refuses_and_the_majority_goes_on(self, panic: bool) -> None:
        ours, theirs = serving(A, B, C), serving(A, B, C)
        theirs.records = ours.records
        ours.reached, theirs.reached = {A}, {B, C}
        for _ in range(3):
            ours.probe(panic=panic)
            theirs.probe(panic=panic)
        assert (ours.shard.lead, ours.shard.in_sync, ours.shard.reason) == (None, (), Reason.NO_MAJORITY)
        assert ours.shard.member(A).reason is Reason.NO_MAJORITY
        assert theirs.shard.in_sync == (B, C)
        ours.reached = theirs.reached = {A, B, C}
        for _ in range(3):
            ours.probe()
            theirs.probe()
        assert ours.shard.view == theirs.shard.view
        assert ours.shard.in_sync == theirs.shard.in_sync == (B, C)
        assert ours.shard.member(A).state == "stale"
        assert ours.shard.conflicts == theirs.shard.conflicts == 0

    def test_a_stale_backend_votes(self) -> None:
        network = serving(A, B, C)
        network.reached = {A, B}
        network.probe().probe()
        assert network.shard.in_sync == (A, B)
        network.reached = {A, C}
        network.records[C] = network.shard.record  # as `Restore` does
        network.probe().probe().probe()
        assert network.shard.in_sync == (A,)

    def test_a_stale_backend_that_lost_its_record_cannot_vote_again(self) -> None:
        """Found by ``tests/model``: it voted for one side, was given the old view, voted for the other."""
        ours, theirs = outside(C), outside(C)
        theirs.records, theirs.runs = ours.records, ours.runs
        ours.reached, theirs.reached = {A, C}, {B, C}
        ours.probe().probe().probe()
        assert ours.shard.in_sync == (A,)
        ours.restart(C)
        for _ in range(4):
            theirs.probe()
        assert (theirs.shard.lead, theirs.records[C]) == (None, None)
        theirs.reached.add(A)
        for _ in range(4):
            theirs.probe()
        assert (theirs.shard.lead, theirs.shard.reason) == (None, Reason.NO_MAJORITY), "C's vote is not known"
        ours.reached.add(B)
        for _ in range(4):
            ours.probe()
            theirs.probe()
        assert ours.shard.in_sync == theirs.shard.in_sync == (A,)
        assert set(ours.records.values()) == {ours.shard.record}

    def test_nobody_is_read_while_a_newer_view_cannot_be_decided(self) -> None:
        """Found by ``tests/model``: whoever has its votes goes on, and what we would read is old."""
        network = serving(A, B, C)
        network.records[B] = encode(OTHER)
        network.records[A] = encode(ONE)
        network.reached = {A, B}
        network.probe(A, B)
        for _ in range(3):
            network.probe()
            assert (network.shard.lead, network.shard.reason) == (None, Reason.NO_MAJORITY)
        network.records[C] = encode(OTHER)
        network.reached.add(C)
        network.probe().probe()
        assert network.shard.in_sync == (B,)

    def test_it_votes_again_once_a_view_was_recorded_without_it(self) -> None:
        network = outside(C)
        epoch = network.shard.epoch
        network.restart(C)
        network.probe().probe().probe()
        assert (network.shard.in_sync, network.shard.epoch) == ((A, B), epoch + 1)
        assert set(network.records.values()) == {network.shard.record}
        for _ in range(3):
            network.probe()
        assert network.shard.epoch == epoch + 1
        network.reached.remove(B)
        network.probe().probe().probe()
        assert network.shard.in_sync == (A,)

    def test_it_does_not_where_somebody_had_recorded_that_view_before(self) -> None:
        network = outside(C)
        view = network.shard.view
        assert view is not None
        earlier = encode(after(view, A, B))
        network.restart(C)
        network.records[A] = network.records[B] = earlier
        network.probe(C)
        assert [each.epoch for each in network.proposals[-2:]] == [view.epoch + 1, view.epoch + 2]
        network.probe()
        assert set(network.records.values()) == {network.shard.record}

    def test_one_that_evicted_its_record_votes_again_likewise(self) -> None:
        network = serving(A, B, C)
        network.records[C] = None
        network.probe().probe()
        assert (network.shard.in_sync, network.shard.epoch) == ((A, B, C), 2)
        assert set(network.records.values()) == {network.shard.record}

    def test_it_is_not_told_of_a_view_before(self) -> None:
        network = serving(A, B, C)
        network.restart(C)
        network.reached.remove(B)
        network.probe().probe().probe()
        assert network.records[C] is None
        assert (network.shard.lead, network.shard.reason) == (None, Reason.NO_MAJORITY)
        network.reached.add(B)
        network.probe().probe().probe()
        assert network.shard.lead is not None
        assert set(network.records.values()) == {network.shard.record}

    def test_too_few_records_tell_of_no_newer_view(self) -> None:
        """Found by ``tests/model``: others went on with A and C's vote, of which B was not told."""
        network = outside(C)
        ours = after(network.shard.view or FIRST, B)
        network.records = {A: encode(ours), B: encode(ours), C: encode(ours)}
        network.probe().probe()
        assert network.shard.in_sync == (B,)
        network.reached.remove(A)
        network.probe()
        assert network.shard.in_sync == (B,)
        network.records[C] = None
        network.probe()
        assert (network.shard.lead, network.shard.reason) == (None, Reason.NO_MAJORITY)

    def test_one_that_a_script_keeps_busy_counts(self) -> None:
        network = serving(A, B, C)
        network.reached.remove(C)
        network.probe().probe()
        busy = ProbeResult(B, None, Condition.BUSY, Incarnation(network.runs[B]), None, False)
        network.happen(Probed(busy))
        assert network.shard.in_sync == (A, B)
        loading = ProbeResult(B, None, Condition.LOADING, Incarnation(network.runs[B]), None, False)
        network.happen(Probed(loading))
        assert network.shard.lead is None

    def test_one_of_two_that_lost_its_record_has_the_last_vote(self) -> None:
        network = serving(A, B)
        network.restart(A)
        network.probe().probe()
        assert network.shard.in_sync == (B,)
        assert network.shard.epoch == 3, "it may have voted for an epoch 2"
        assert set(network.records.values()) == {network.shard.record}
        network.restart(B)
        network.restart(A)
        network.probe().probe().probe()
        assert network.shard.lead is None, "nobody knows"

    def test_what_the_other_one_of_two_took_is_kept(self) -> None:
        network = serving(A, B)
        newer = after(first_view("p", "s", A, network.runs), A)
        network.records[B] = encode(newer)
        network.records[A] = None
        network.probe().probe().probe()
        assert network.shard.view is not None
        assert (network.shard.in_sync, network.shard.view.in_sync) == ((A,), (A,))
        assert network.proposals[1].epoch == newer.epoch + 2
        assert network.shard.epoch <= newer.epoch + 4

    def test_nor_does_it_vote_if_the_other_one_knows_the_epoch_between(self) -> None:
        second = after(FIRST, A)
        view = replace(after(FIRST, B), epoch=3)
        assert may_write(encode(FIRST), view, blank=False, settles=False, skips=True)
        assert not may_write(encode(second), view, blank=False, settles=False, skips=True)
        assert may_write(encode(second), view, blank=False, settles=False)

    def test_of_two_backends_both_are_needed(self) -> None:
        network = serving(A, B)
        network.reached = {A}
        network.probe().probe()
        assert network.shard.lead is None
        network.reached = {A, B}
        network.probe().probe()
        assert network.shard.in_sync == (A, B)
        assert network.shard.epoch == 1, "nothing was decided meanwhile"

    def test_a_view_that_falls_short_is_not_tried_again_before_a_probe(self) -> None:
        network = serving(A, B, C)
        network.reached = {A}
        network.probe(B).probe(B)
        assert len(network.proposals) == 2, "the first view, and one without B that nobody else took"
        assert network.shard.member(C).warned
        network.probe(C)
        assert network.shard.lead is None
        assert network.shard.epoch == 1

    def test_votes_that_nobody_can_win_with_lead_to_a_next_round(self) -> None:
        network = serving(A, B, C)
        network.records = {A: encode(ONE), B: encode(OTHER), C: encode(THIRD)}
        for _ in range(4):
            network.probe()
        assert network.shard.view is not None
        assert network.shard.epoch == 3
        assert set(network.records.values()) == {encode(network.shard.view)}

    def test_a_view_with_members_we_do_not_know_is_voted_for_and_then_left(self) -> None:
        network = serving(A, B, C)
        strange = View("p", "s", 2, A, (A, B, "z:1"), ("run-a:1", "run-b:1", "run-z"), parent=(A, B, C))
        network.records[C] = encode(strange)
        network.probe().probe().probe()
        assert network.proposals[1:3] == [strange, after(strange, A, B)]
        assert network.shard.in_sync == (A, B)

    def test_a_leftover_of_the_epoch_that_was_decided_changes_nothing(self) -> None:
        network = serving(A, B, C)
        network.records = {A: encode(ONE), B: encode(ONE), C: encode(OTHER)}
        network.probe().probe()
        assert network.shard.view == ONE
        assert network.shard.conflicts == 0


def test_available_needs_no_votes() -> None:
    spec = ShardSpec("s", tuple(map(BackendSpec, ADDRESSES)))
    pool = PoolSpec("p", "redis", (spec,))
    assert (pool.votes_needed(spec), replace(pool, views="majority").votes_needed(spec)) == (0, 2)
    assert not new_shard(pool, spec, 0.0).is_outvoted
