"""When a lost shard's keys go elsewhere and come back: one situation at a time, without clock or IO."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.control import remap as rules
from proxy.control.absence import Absence, encode
from proxy.control.event import CommitWon, Probed
from proxy.control.model import (
    PROBE_SPREAD,
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
from proxy.control.remap import Action, Empty, Propose, PutBack, Remap, Standing, Sweep
from proxy.control.routing import build
from proxy.control.shard import step
from proxy.control.state import ShardState, new_shard
from proxy.control.view import encode as encode_view
from proxy.tasks.prober import JITTER

HEALTH = HealthSpec(interval=1.0, timeout=0.5, fall=3, rise=2)


class World:
    """A pool, its shards named after their position (s0, s1, ...), and what one proxy knows of it.

    Backends are called by shard and number: s0a, s0b, s1a.
    """

    def __init__(self, *sizes: int, protocol: str = "redis", distribution: str = "ketama") -> None:
        specs = tuple(
            ShardSpec(f"s{at}", tuple(BackendSpec(f"s{at}{letter}") for letter in "abc"[:size]))
            for at, size in enumerate(sizes)
        )
        self.pool = PoolSpec(
            "p", protocol, specs, distribution=distribution, health=HEALTH, on_shard_loss="remap"
        )
        self.now = 0.0
        self.shards: dict[str, ShardState] = {
            spec.name: new_shard(self.pool, spec, 0.0) for spec in self.pool.shards
        }
        self.remap: Remap = rules.new_remap(self.pool)
        self.stored: dict[str, bytes | None] = {}

    def answer(self, *addresses: str, times: int = 1, **facts: object) -> World:
        for address in addresses * times:
            shard = self.shards[address[:2]]
            settings: dict[str, object] = {
                "incarnation": Incarnation(f"run-{address}"),
                "record": shard.record or None,
                "record_known": shard.keeps_view,
                "absent": self.stored.get(address),
                "absent_known": True,
                "flushes": 0,
                "items": 0,
                **facts,
            }
            self._probed(ProbeResult(address, **settings))  # type: ignore[arg-type]
            pending = self.shards[address[:2]].pending
            if pending is not None:
                self.shards[address[:2]], _ = step(self.shards[address[:2]], CommitWon(pending), self.now)
        return self

    def fail(self, *addresses: str, times: int = 1, panic: bool = False) -> World:
        for address in addresses * times:
            self._probed(ProbeResult(address, failure=Reason.TIMEOUT), panic)
        return self

    def _probed(self, result: ProbeResult, panic: bool = False) -> None:
        name = result.address[:2]
        self.shards[name], _ = step(self.shards[name], Probed(result, panic), self.now)
        if result.absent_known:
            self.remap = rules.observe(self.remap, result.absent, self.now)

    def begin(self) -> World:
        self.remap = rules.begin(self.remap)
        return self

    def decide(self) -> list[Action]:
        self.remap, actions = rules.decide(self.remap, list(self.shards.values()), self.now)
        return [each for each in actions if not isinstance(each, PutBack)]

    def put_backs(self) -> list[str]:
        _, actions = rules.decide(self.remap, list(self.shards.values()), self.now)
        return [each.address for each in actions if isinstance(each, PutBack)]

    def propose(self) -> Propose:
        (action,) = self.decide()
        assert isinstance(action, Propose)
        return action

    def win(self) -> Absence:
        action = self.propose()
        self.remap = rules.recorded(self.remap, action.record, self.now)
        self.store()
        return action.record

    def store(self) -> None:
        self.stored = {m.address: self.remap.data for s in self.shards.values() for m in s.members}

    def settle(self) -> World:
        self.now += rules.settle_seconds(self.pool)
        return self

    def standings(self) -> str:
        words = [rules.standing(self.remap, shard, self.now) for shard in self.shards.values()]
        return " ".join(words)


def serving(*sizes: int, **options: str) -> World:
    world = World(*sizes, **options)
    for shard in world.pool.shards:
        world.answer(*(backend.address for backend in shard.backends))
    return world.begin()


def absent(*sizes: int) -> World:
    """s1 is lost, recorded and settled."""
    world = serving(*sizes)
    world.fail(*(member.address for member in world.shards["s1"].members), times=3)
    world.win()
    return world.settle()


# Leaving.


def test_nothing_is_done_while_all_is_well() -> None:
    world = serving(1, 1)
    assert world.decide() == []
    assert world.put_backs() == [], "without an absence ever there is no record"
    assert world.standings() == "present present"


def test_a_shard_is_absent_after_fall_probes_and_its_keys_settle_first() -> None:
    world = serving(1, 1)
    world.fail("s1a", times=2)
    assert world.decide() == []
    world.fail("s1a")
    proposal = world.propose()
    assert proposal == Propose(Absence("p", 1, ("s1",)), ("s1",), Reason.NOBODY_REACHABLE)
    assert world.standings() == "present present", "nothing changes before it is recorded"
    assert world.decide() == [], "one proposal at a time"
    world.remap = rules.recorded(world.remap, proposal.record, world.now)
    assert world.standings() == "present settling"
    world.now += rules.settle_seconds(world.pool) - 0.001
    assert world.standings() == "present settling"
    world.now += 0.001
    assert world.standings() == "present absent"


def test_one_failed_probe_after_a_lost_connection_is_not_enough() -> None:
    world = serving(1, 1)
    member = world.shards["s1"].members[0]
    world.shards["s1"] = replace(world.shards["s1"], members=(replace(member, warned=True),))
    world.fail("s1a")
    assert world.shards["s1"].lead == "s1a", "the last one keeps its tries"
    assert world.decide() == []


def test_not_in_panic() -> None:
    world = serving(1, 1)
    world.fail("s1a", times=10, panic=True)
    assert world.decide() == []
    assert rules.blind_to(world.remap, list(world.shards.values())) == ()


def test_a_server_that_answers_is_not_gone_whatever_it_says() -> None:
    world = serving(1, 1)
    for condition in (Condition.LOADING, Condition.NOAUTH, Condition.READONLY):
        world.answer("s1a", times=5, condition=condition)
        assert world.decide() == []


def test_a_replicated_shard_is_gone_when_all_that_are_in_sync_are() -> None:
    world = serving(2, 2)
    world.fail("s1a", times=3)
    world.answer("s1b")
    assert world.shards["s1"].view is not None
    assert world.shards["s1"].view.in_sync == ("s1b",)
    assert world.decide() == []
    world.answer("s1a", record=encode_view(View("p", "s1", 1, "s1a", ("s1a", "s1b"), ("", ""))), times=3)
    world.fail("s1b", times=3)
    assert world.shards["s1"].lead is None
    assert world.win().absent == ("s1",), "one that is stale cannot serve"


def test_nobody_leaves_where_nobody_is_left_to_go_to() -> None:
    world = serving(1, 1)
    world.fail("s0a", "s1a", times=3)
    assert world.decide() == []
    world = absent(1, 1)
    world.fail("s0a", times=3)
    assert world.decide() == [], "the last one keeps what it has"


def test_several_leave_together() -> None:
    world = serving(1, 1, 1)
    world.fail("s0a", "s2a", times=3)
    assert world.win().absent == ("s0", "s2")


def test_first_contact_with_a_dead_shard_counts() -> None:
    world = World(1, 1).answer("s0a").fail("s1a", times=2).begin()
    assert world.shards["s1"].is_contacted
    assert world.decide() == []
    world.fail("s1a")
    assert world.win().absent == ("s1",)


def test_nothing_is_decided_before_every_shard_was_contacted() -> None:
    world = World(1, 1).answer("s0a")
    world.stored["s0a"] = encode(Absence("p", 4, ("s1",)))
    world.fail("s1a", times=5)
    assert world.decide() == []
    world.answer("s0a")
    assert world.remap.record.epoch == 4, "the record is followed all the same"


# Agreeing.


def test_a_record_found_is_followed_and_settles() -> None:
    world = serving(1, 1)
    world.stored["s0a"] = encode(Absence("p", 5, ("s1",)))
    world.answer("s0a", "s1a")
    assert world.standings() == "present settling", "although it answers us"
    assert world.settle().standings() == "present absent"
    world.stored["s0a"] = encode(Absence("p", 6, (), (("s1", 0),)))
    world.answer("s0a")
    assert world.standings() == "present settling"
    assert world.settle().standings() == "present present"


def test_one_that_starts_settles_what_others_may_only_be_learning() -> None:
    world = World(1, 1, 1, 1)
    data = encode(Absence("p", 5, ("s1",), (("s2", 0),)))
    world.stored = dict.fromkeys(["s0a", "s1a", "s2a", "s3a"], data)
    world.answer("s0a", "s1a", "s2a", "s3a").begin()
    assert world.standings() == "present settling settling present"
    assert world.settle().standings() == "present absent present present"


def test_an_older_record_is_overwritten_and_a_missing_one_put_back() -> None:
    world = absent(1, 1, 1)
    world.answer("s0a", "s2a")
    assert world.put_backs() == []
    world.stored["s0a"] = None
    world.answer("s0a")
    assert world.put_backs() == ["s0a"]
    world.stored["s0a"] = world.remap.data
    world.remap = rules.follow(world.remap, Absence("p", 9, ("s1",)), world.now)
    assert world.put_backs() == ["s0a", "s2a"]
    world.stored["s0a"] = b"unreadable"
    world.answer("s0a")
    assert world.put_backs() == ["s2a"], "what we cannot read is left alone"


def test_an_absent_shard_that_answers_is_given_the_record_too() -> None:
    world = absent(1, 1)
    world.stored["s1a"] = None
    world.answer("s0a", "s1a")
    assert world.put_backs() == ["s1a"]


def test_who_loses_the_race_follows_the_winner() -> None:
    world = serving(1, 1, 1).fail("s1a", times=3)
    proposal = world.propose()
    winner = Absence("p", 1, ("s2",))
    world.remap = rules.refused(world.remap, proposal.record, encode(winner), world.now)
    assert world.remap.record == winner
    assert world.standings() == "present present settling"
    assert world.win().absent == ("s1", "s2"), "what it wanted is proposed again, on top"


def test_a_proposal_nobody_took_changes_nothing() -> None:
    world = serving(1, 1).fail("s1a", times=3)
    proposal = world.propose()
    world.remap = rules.refused(world.remap, proposal.record, None, world.now)
    assert world.remap.record.epoch == 0
    assert world.propose() == proposal


def test_an_outcome_of_a_proposal_that_was_overtaken_is_ignored() -> None:
    world = serving(1, 1, 1).fail("s1a", times=3)
    proposal = world.propose()
    world.stored["s0a"] = encode(Absence("p", 3, ("s2",)))
    world.answer("s0a")
    before = world.remap
    assert rules.recorded(before, proposal.record, world.now) == before
    assert rules.refused(before, proposal.record, None, world.now) == before


def test_two_records_of_one_epoch_become_one_that_has_everybody_absent() -> None:
    world = absent(1, 1, 1)
    world.stored["s0a"] = encode(Absence("p", 1, ("s2",)))
    world.answer("s0a")
    assert world.standings() == "present absent present", "not before it is recorded"
    proposal = world.propose()
    assert proposal == Propose(Absence("p", 2, ("s1", "s2")), ("s2",), Reason.CONFLICT)
    world.remap = rules.recorded(world.remap, proposal.record, world.now)
    assert world.standings() == "present absent settling"
    assert world.remap.rival is None


# Returning.


def test_a_shard_that_is_back_for_good_is_emptied_then_present_then_swept() -> None:
    world = absent(1, 1)
    world.answer("s1a")
    assert world.decide() == [], "one good probe is not yet rise"
    world.answer("s1a")
    assert world.decide() == [Empty("s1", ("s1a",))]
    assert world.standings() == "present absent"
    world.remap, (proposal,) = rules.emptied(world.remap, "s1", 0)
    assert proposal == Propose(Absence("p", 2, (), (("s1", 0),)), ("s1",), Reason.EMPTIED)
    world.remap = rules.recorded(world.remap, proposal.record, world.now)
    world.store()
    world.answer("s0a", "s1a")
    assert world.standings() == "present settling"
    assert world.decide() == [], "no sweep while others may still write elsewhere"
    world.settle()
    assert world.standings() == "present present"
    assert world.decide() == [Sweep(("s1",), is_urgent=False)]
    world.remap, (proposal,) = rules.finished(world.remap, ["s1"], 2)
    assert proposal == Propose(Absence("p", 3), ("s1",), Reason.SWEPT)


def test_not_emptied_while_it_settles() -> None:
    world = serving(1, 1).fail("s1a", times=3)
    world.win()
    world.answer("s1a", times=5)
    assert world.standings() == "present settling"
    assert world.decide() == []


@pytest.mark.parametrize(
    "facts",
    [
        {"condition": Condition.LOADING},
        {"condition": Condition.READONLY},
        {"condition": Condition.NOAUTH, "absent_known": False},
        {"absent": b"damaged"},
        {"absent": encode(Absence("other", 1))},
    ],
)
def test_not_emptied_if_it_is_not_ready_or_holds_what_we_cannot_read(facts: dict[str, object]) -> None:
    world = absent(1, 1)
    world.answer("s1a", times=5, **facts)
    assert world.decide() == []
    world.answer("s1a")
    assert world.decide() == [Empty("s1", ("s1a",))]


def test_a_replicated_shard_waits_for_all_its_members_but_not_for_ever() -> None:
    world = absent(2, 2)
    world.answer("s1a", times=3)
    assert world.decide() == []
    world.answer("s1b", times=2)
    assert world.decide() == [Empty("s1", ("s1a", "s1b"))]
    world.fail("s1b", times=3)
    world.now += world.shards["s1"].waits_long
    assert world.decide() == [Empty("s1", ("s1a",))]


def test_a_member_with_an_unreadable_view_keeps_the_shard_away() -> None:
    world = absent(2, 2)
    world.answer("s1a", times=3)
    world.answer("s1b", times=3, record=b"damaged")
    world.now += 10 * world.shards["s1"].waits_long
    assert world.decide() == []


def test_the_emptied_view_must_be_known_before_the_shard_is_used() -> None:
    world = absent(2, 2)
    old = world.shards["s1"].epoch
    world.answer("s1a", "s1b", times=3)
    world.remap, (proposal,) = rules.emptied(world.remap, "s1", old + 16)
    assert isinstance(proposal, Propose)
    world.remap = rules.recorded(world.remap, proposal.record, world.now)
    world.settle()
    assert world.shards["s1"].lead is not None
    assert world.standings() == "present settling", "the old view names who may not have been emptied"
    fresh = View("p", "s1", old + 16, "s1a", ("s1a", "s1b"), ("run-s1a", "run-s1b"))
    world.answer("s1a", "s1b", record=encode_view(fresh))
    assert world.standings() == "present present"


def test_a_view_that_was_lost_does_not_keep_a_shard_away_for_ever() -> None:
    world = absent(2, 2)
    world.answer("s1a", "s1b", times=3)
    world.remap, (proposal,) = rules.emptied(world.remap, "s1", 99)
    assert isinstance(proposal, Propose)
    world.remap = rules.recorded(world.remap, proposal.record, world.now)
    world.settle()
    assert world.decide() == [Sweep(("s1",), is_urgent=False)]
    world.remap, (proposal,) = rules.finished(world.remap, ["s1"], world.remap.record.epoch)
    assert isinstance(proposal, Propose)
    world.remap = rules.recorded(world.remap, proposal.record, world.now)
    assert world.standings() == "present present"


def test_emptied_counts_only_for_who_is_absent_and_while_nothing_else_is_under_way() -> None:
    world = absent(1, 1, 1)
    before = world.remap
    assert rules.emptied(before, "s0", 0) == (before, ())
    world.fail("s2a", times=3)
    world.propose()
    before = world.remap
    assert rules.emptied(before, "s1", 0) == (before, ())


def test_lost_again_before_it_was_swept_it_stays_an_error_until_it_is() -> None:
    world = absent(1, 1)
    world.answer("s1a", times=2)
    world.remap, (proposal,) = rules.emptied(world.remap, "s1", 0)
    assert isinstance(proposal, Propose)
    world.remap = rules.recorded(world.remap, proposal.record, world.now)
    world.settle()
    world.fail("s1a", times=5)
    assert world.decide() == [Sweep(("s1",), is_urgent=True)]
    assert world.standings() == "present present"
    world.remap, (proposal,) = rules.finished(world.remap, ["s1"], world.remap.record.epoch)
    assert isinstance(proposal, Propose)
    world.remap = rules.recorded(world.remap, proposal.record, world.now)
    assert world.win() == Absence("p", 4, ("s1",))


def test_a_sweep_under_another_record_does_not_count() -> None:
    world = absent(1, 1)
    before = world.remap
    assert rules.finished(before, ["s1"], before.record.epoch - 1) == (before, ())


def test_blindness_is_told_while_it_lasts() -> None:
    world = absent(1, 1)
    shards = list(world.shards.values())
    assert rules.blind_to(world.remap, shards) == ("s1",)
    world.answer("s1a")
    assert rules.blind_to(world.remap, list(world.shards.values())) == ()


def test_records_and_marks_go_to_who_answers() -> None:
    world = absent(1, 1, 2)
    shards = list(world.shards.values())
    assert rules.answering(shards) == ("s0a", "s2a", "s2b")
    assert rules.answering(shards, but=("s2",)) == ("s0a",)
    world.answer("s2a", absent_known=False)
    assert rules.answering(list(world.shards.values())) == ("s0a", "s2b")


def test_not_emptied_while_others_may_only_learn_that_it_is_absent() -> None:
    """Of two halves that meet again one has had it absent for long, and the other uses it until now."""
    world = absent(1, 1, 1)
    world.answer("s1a", times=3)
    world.stored["s0a"] = encode(Absence("p", 1, ("s2",)))
    world.answer("s0a")
    proposal = world.propose()
    world.remap = rules.recorded(world.remap, proposal.record, world.now)
    world.store()
    world.answer("s0a", "s1a", "s2a")
    assert world.standings() == "present absent settling"
    assert world.decide() == []
    world.settle()
    assert world.decide() == [Empty("s1", ("s1a",)), Empty("s2", ("s2a",))]


# What follows from it.


def test_the_time_of_settling_covers_a_probe_and_a_request() -> None:
    assert PROBE_SPREAD == 1 + JITTER
    single, replicated = World(1, 1).pool, World(1, 2).pool
    assert rules.settle_seconds(single) == pytest.approx(1.1 + 1.0 + 1.0)
    assert rules.settle_seconds(replicated) == pytest.approx(1.1 + 1.0 + 3.0)


def test_the_routing_table_has_nobody_asked_who_is_absent_or_settles() -> None:
    world = serving(1, 1).fail("s1a", times=3)
    world.win()
    world.answer("s1a", times=3)
    assert world.shards["s1"].lead == "s1a"

    def table() -> object:
        shards = list(world.shards.values())
        return build(1, [(world.pool, shards)], {}, "", {"p": world.remap}, world.now).pools[0]

    settling = table()
    assert (settling.absent, settling.shards[1].lead) == ((), None)  # type: ignore[attr-defined]
    assert settling.shards[1].in_sync == settling.shards[1].reads == ()  # type: ignore[attr-defined]
    world.settle()
    settled = table()
    assert (settled.absent, settled.shards[1].lead) == ((1,), None)  # type: ignore[attr-defined]
    assert settled.shards[0].lead == 0  # type: ignore[attr-defined]


def test_if_all_are_absent_nobody_is_passed_over() -> None:
    world = serving(1, 1)
    world.stored["s0a"] = encode(Absence("p", 5, ("s0", "s1")))
    world.answer("s0a").settle()
    assert world.standings() == "absent absent"
    table = build(1, [(world.pool, list(world.shards.values()))], {}, "", {"p": world.remap}, world.now)
    assert table.pools[0].absent == ()
    assert [shard.lead for shard in table.pools[0].shards] == [None, None]


def test_a_flush_puts_both_records_back_in_one_request() -> None:
    world = serving(2, 1, protocol="memcached").fail("s1a", times=3)
    world.win()
    table = build(1, [(world.pool, list(world.shards.values()))], {}, "", {"p": world.remap}, world.now)
    view = world.shards["s0"].record
    assert table.pools[0].shards[0].restore == (
        b"set __shardproxy:view:p/s0 0 0 %d noreply\r\n%s\r\n" % (len(view), view)
        + b"set __shardproxy:absent:p 0 0 %d\r\n%s\r\n" % (len(world.remap.data), world.remap.data)
    )
    assert table.pools[0].shards[1].restore.startswith(b"set __shardproxy:absent:p 0 0 ")


def test_without_remap_a_table_is_what_it_was() -> None:
    world = serving(2, 1)
    pools = [(world.pool, list(world.shards.values()))]
    assert build(1, pools, {}, "", {"p": world.remap}, world.now) == build(1, pools, {}, "")
    assert rules.standing(world.remap, world.shards["s0"], world.now) == Standing.PRESENT
