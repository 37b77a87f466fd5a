"""A resynchronisation as the shard goes through it: who joins, is fed, is admitted, and may be touched."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
import trio
import trio.testing

from proxy.control.event import (
    Admit,
    Commit,
    CommitLost,
    CommitWon,
    ConnectionFailed,
    Dismiss,
    Event,
    Join,
    Probed,
    ProbeNow,
    Restore,
    VerifyFailed,
    WriteFailed,
)
from proxy.control.fence import Owner
from proxy.control.following import (
    is_not_allowed,
)
from proxy.control.model import (
    WRITE_LEASE_SECONDS,
    BackendSpec,
    BackendState,
    Condition,
    Incarnation,
    PoolSpec,
    ProbeResult,
    Reason,
    ShardSpec,
    View,
)
from proxy.control.resync import (
    Way,
    choose_way,
    may_overwrite,
    pick,
)
from proxy.control.routing import shard_routing
from proxy.control.shard import step
from proxy.control.state import ShardState, new_shard
from proxy.control.view import encode, next_view
from proxy.tasks.job import Desk
from proxy.tasks.resync import Resync

A, B, C = "a:1", "b:1", "c:1"
LATER = 100.0
"""When every proxy has long followed the view."""


def probed(address: str, record: bytes | None, **facts: object) -> Probed:
    settings: dict[str, object] = {"record_known": True, "flushes": 0, "items": 0, **facts}
    run = Incarnation(f"r{address}")
    return Probed(ProbeResult(address, incarnation=run, record=record, **settings))  # type: ignore[arg-type]


class World:
    """A shard whose view is ``view``; its commits succeed when told to."""

    def __init__(self, *in_sync: str, of: tuple[str, ...] = (A, B), protocol: str = "redis") -> None:
        spec = ShardSpec("s", tuple(BackendSpec(each) for each in of))
        self.now = 0.0
        self.shard: ShardState = new_shard(PoolSpec("p", protocol, (spec,), request_timeout=1.0), spec, 0.0)
        self.actions: tuple[object, ...] = ()
        view = View("p", "s", 5, in_sync[0], in_sync, tuple(f"r{each}" for each in in_sync))
        for address in of:
            for _ in range(2):
                self.happen(probed(address, encode(view)))

    def happen(self, event: Event) -> World:
        self.shard, self.actions = step(self.shard, event, self.now)
        return self

    def commit(self) -> Commit:
        (found,) = [each for each in self.actions if isinstance(each, Commit)]
        return found

    def win(self) -> World:
        assert self.shard.pending is not None
        return self.happen(CommitWon(self.shard.pending))

    def state(self, address: str) -> BackendState:
        return self.shard.member(address).state


def test_joining_holds_writes_and_admitting_lets_them_go() -> None:
    world = World(A)
    assert pick(world.shard, LATER) == B
    view = world.happen(Join(B)).commit().view
    assert (view.epoch, view.in_sync, view.joining) == (6, (A,), (B,))
    assert world.shard.held_epoch == 0, "not before it is recorded"
    world.win()
    assert (world.shard.held_epoch, world.state(B), world.shard.in_sync) == (6, BackendState.JOINING, (A,))
    assert pick(world.shard, LATER) is None
    view = world.happen(Admit(B, "rb9", 6)).commit().view
    assert (view.epoch, view.in_sync, view.runs, view.joining) == (7, (A, B), ("ra:1", "rb9"), ())
    assert world.commit().arbiters == ()
    assert world.shard.in_sync == (A,), "not before it is recorded"


def test_who_was_admitted_is_in_sync() -> None:
    world = World(A).happen(Join(B)).win().happen(Admit(B, f"r{B}", 6)).win()
    assert (world.shard.in_sync, world.shard.held_epoch, world.state(B)) == ((A, B), 0, BackendState.IN_SYNC)


def test_a_proxy_that_could_not_reach_it_meanwhile_takes_the_views_word() -> None:
    # A server that loads a copy does not answer probes in time.
    world = World(A)
    for _ in range(5):
        world.happen(Probed(ProbeResult(B, failure=Reason.TIMEOUT)))
    assert world.state(B) is BackendState.DOWN
    assert world.shard.view is not None
    joining = next_view(world.shard.view, (A,), lead=A, joining=(B,))
    both = next_view(joining, (A, B), lead=A, runs={B: "another life"})
    world.happen(probed(A, encode(joining))).happen(probed(A, encode(both)))
    assert (world.state(B), world.shard.pending) == (BackendState.IN_SYNC, None)
    assert ProbeNow(B) in world.actions
    for _ in range(3):
        assert world.shard.pending is None
        world.happen(Probed(ProbeResult(B, failure=Reason.TIMEOUT)))
    assert world.commit().view.in_sync == (A,), "it is out of reach after all"


def test_admission_is_to_the_view_under_which_writes_were_held() -> None:
    world = World(A).happen(Join(B)).win()
    for wrong in (Admit(B, "r", 5), Admit(B, "r", 7), Admit(A, "r", 6)):
        assert not any(isinstance(each, Commit) for each in world.happen(wrong).actions)


def test_our_own_record_seen_on_one_member_is_not_yet_ours() -> None:
    world = World(A, C, of=(A, B, C)).happen(Join(B))
    pending = world.shard.pending
    assert pending is not None
    world.happen(probed(A, encode(pending)))
    assert world.shard.held_epoch == 0, "the other member may not have it yet"
    assert world.win().shard.held_epoch == 6


def test_a_dismissed_backend_is_stale_again() -> None:
    world = World(A).happen(Join(B)).win()
    view = world.happen(Dismiss(B)).commit().view
    assert (view.epoch, view.in_sync, view.joining) == (7, (A,), ())
    world.win()
    assert (world.state(B), world.shard.held_epoch) == (BackendState.STALE, 0)


def test_whoever_follows_the_view_ends_a_hold_that_lasts() -> None:
    world = World(A)
    assert world.shard.view is not None
    joining = next_view(world.shard.view, (A,), lead=A, joining=(B,))
    world.happen(probed(A, encode(joining)))
    assert world.shard.held_epoch == 6
    assert ProbeNow(A) in world.actions, "clients wait for what comes next"
    limit = 2 * world.shard.pool.hold_limit
    world.now = limit - 0.01
    assert world.happen(probed(A, encode(joining))).shard.pending is None
    world.now = limit
    view = world.happen(probed(A, encode(joining))).commit().view
    assert (view.epoch, view.joining) == (7, ())


def test_the_hold_ends_when_another_member_is_lost() -> None:
    world = World(A, C, of=(A, B, C)).happen(Join(B)).win()
    refused = ProbeResult(C, failure=Reason.REFUSED)
    for _ in range(3):
        world.happen(Probed(refused))
    assert world.shard.pending is not None
    assert (world.shard.pending.in_sync, world.shard.pending.joining) == ((A,), ())


def test_a_lost_race_for_admission_leaves_it_out() -> None:
    world = World(A).happen(Join(B)).win().happen(Admit(B, "r", 6))
    pending = world.shard.pending
    assert pending is not None
    assert world.shard.view is not None
    without = next_view(world.shard.view, (A,), lead=A, joining=())
    world.happen(CommitLost(pending, A, encode(without)))
    assert (world.shard.view, world.state(B)) == (without, BackendState.STALE)


def test_the_table_is_published_again_when_a_doubt_was_unfounded() -> None:
    world = World(A, B)
    before = world.shard.revision
    assert world.shard.view is not None
    older = encode(replace(world.shard.view, epoch=4))
    assert world.happen(VerifyFailed(B)).happen(probed(B, older)).shard.revision == before
    world.happen(probed(B, world.shard.record))
    assert world.shard.revision == before + 1
    world.happen(probed(B, world.shard.record))
    assert world.shard.revision == before + 1


@pytest.mark.parametrize("fans_out", [True, False])
def test_a_restarted_leader_is_the_truth_only_if_nobody_was_brought_back_meanwhile(fans_out: bool) -> None:
    """Another proxy has admitted B; then A restarts before we look at B (`resync: admitted` in the model)."""
    world = World(A, of=(A, B, C)).happen(Join(B, f"r{B}", fans_out=fans_out)).win()
    known = world.shard.view
    assert known is not None
    world.happen(
        Probed(ProbeResult(A, incarnation=Incarnation("new"), record=None, record_known=True, items=0))
    )
    commit = world.commit()
    assert (commit.view.in_sync, commit.view.runs) == ((A,), ("new",))
    assert (commit.arbiters, commit.witnesses, commit.blank) == ((B, C), (), (A,))
    admitted = next_view(known, (A, B), lead=A, runs={B: f"r{B}"})
    world.happen(CommitLost(commit.view, B, encode(admitted)))
    assert world.shard.view == admitted
    assert world.commit().view.in_sync == (B,), "A has left it, as a new process"


def test_when_the_leader_is_lost_who_joins_may_be_in_sync_by_now() -> None:
    world = World(A, of=(A, B, C)).happen(Join(B)).win().happen(ConnectionFailed(A, "eof"))
    assert set(world.actions) >= {ProbeNow(A), ProbeNow(B)}


# A backend that is fed.


def fed_world() -> World:
    """A leads, and B is fed under the view of epoch 6."""
    world = World(A, of=(A, B, C), protocol="memcached")
    world.happen(Join(B, f"r{B}", fans_out=True)).win()
    return world.happen(probed(B, world.shard.record))


def test_writes_go_to_who_is_fed_and_are_not_held() -> None:
    world = fed_world()
    assert (world.shard.held_epoch, world.shard.fed, world.shard.in_sync) == (0, (B,), (A,))
    table = shard_routing(world.shard, {})
    assert (table.lead, table.in_sync, table.joining, table.reads) == (0, (0,), (1,), (0,))
    assert table.lease == WRITE_LEASE_SECONDS
    assert table.backends[1].verify == (table.backends[0].verify[0], (b"stats\r\n", b"STAT pid rb:1\r\n"))
    assert pick(world.shard, LATER) == B, "whoever gets the lease goes on with it"


def redis_fed_world() -> World:
    world = World(A).happen(Join(B, f"r{B}", fans_out=True)).win()
    return world.happen(probed(B, world.shard.record))


def test_whoever_goes_on_feeding_does_so_under_a_view_of_his_own() -> None:
    world = redis_fed_world()
    epoch = world.shard.epoch
    following = world.happen(Join(B, f"r{B}", fans_out=True)).commit().view
    assert (following.epoch, following.joining, following.fans_out) == (epoch + 1, (B,), True)
    assert following.run_of(B) == f"r{B}"
    world.win()
    assert (world.shard.fed, world.shard.held_epoch) == ((B,), 0)
    assert not commits(world.happen(Admit(B, f"r{B}", epoch))), "whoever began is too late"
    assert commits(world.happen(Admit(B, f"r{B}", epoch + 1)))


@pytest.mark.parametrize(
    "event", [Join(B, "another", fans_out=True), Join(B, f"r{B}"), Join(C, f"r{C}", fans_out=True)]
)
def test_nobody_else_joins_meanwhile(event: Join) -> None:
    assert not commits(redis_fed_world().happen(event))


def test_a_write_that_failed_on_who_is_fed_is_not_forgotten_with_the_view() -> None:
    world = redis_fed_world().happen(Join(B, f"r{B}", fans_out=True))
    world.happen(WriteFailed(B)).win()
    assert world.commit().view.joining == (), "it missed the write all the same"


def commits(world: World) -> list[Commit]:
    return [each for each in world.actions if isinstance(each, Commit)]


def test_who_is_fed_is_not_overdue() -> None:
    world = fed_world()
    world.now = 1000.0
    assert world.happen(probed(A, world.shard.record)).shard.pending is None
    assert world.happen(Admit(B, f"r{B}", 6)).win().shard.in_sync == (A, B)
    assert world.shard.fed == ()


@pytest.mark.parametrize(
    "event",
    [
        WriteFailed(B),
        Probed(ProbeResult(B, incarnation=Incarnation("another"), record_known=True)),
        probed(B, b"damaged"),
        Dismiss(B),
    ],
)
def test_who_is_fed_and_fails_has_to_be_out_of_the_view_first(event: Event) -> None:
    world = fed_world().happen(event)
    view = world.commit().view
    assert (view.epoch, view.in_sync, view.joining, view.fans_out) == (7, (A,), (), False)
    assert world.shard.fed == (B,), "writes it missed are not acknowledged before that is recorded"
    assert world.win().shard.fed == ()
    assert world.state(B) is not BackendState.IN_SYNC


def test_who_is_fed_and_silent() -> None:
    world = fed_world()
    for _ in range(3):
        assert world.shard.pending is None
        world.happen(Probed(ProbeResult(B, failure=Reason.TIMEOUT)))
    assert world.commit().view.joining == ()


def test_a_flush_of_who_is_fed_is_noticed_and_not_hidden() -> None:
    world = fed_world()
    world.happen(probed(B, None, flushes=1))
    assert not any(isinstance(each, Restore) and each.address == B for each in world.actions)
    assert world.happen(probed(B, None, flushes=1)).commit().view.joining == ()


def test_a_record_that_was_evicted_from_who_is_fed_is_put_back() -> None:
    world = fed_world()
    world.happen(probed(B, None)).happen(probed(B, None))
    assert Restore(B, world.shard.record, True) in world.actions
    assert world.shard.pending is None


def test_another_member_that_leaves_ends_it() -> None:
    # What was copied so far may hold a write that only the one that left had.
    world = World(A, C, of=(A, B, C), protocol="memcached").happen(Join(B, f"r{B}", fans_out=True)).win()
    world.happen(WriteFailed(C))
    view = world.commit().view
    assert (view.in_sync, view.joining) == ((A,), ())


def test_a_write_that_failed_on_who_was_admitted_just_now_counts() -> None:
    world = fed_world().happen(Admit(B, f"r{B}", 6)).happen(WriteFailed(B)).win()
    assert world.commit().view.in_sync == (A,)


def test_a_view_with_somebody_joining_whom_we_do_not_know() -> None:
    # Our writes would not reach it.
    world = World(A, of=(A, B), protocol="memcached")
    assert world.shard.view is not None
    stranger = next_view(world.shard.view, (A,), lead=A, joining=("d:1",), fans_out=True)
    world.happen(probed(A, encode(stranger)))
    assert world.commit().view.joining == ()


# What may be touched.


def test_nobody_is_emptied_whom_others_may_still_take_for_in_sync() -> None:
    world = World(A, B)
    at = world.now = 50.0
    world.happen(WriteFailed(B)).win()
    world.happen(probed(B, world.shard.record))
    assert world.state(B) is BackendState.STALE
    waits = world.shard.pool.health.adoption_seconds
    assert waits == pytest.approx(1.1 + 0.5), "a pause between probes and a probe"
    assert [pick(world.shard, at + since) for since in (0.0, waits - 0.01, waits)] == [None, None, B]
    assert pick(world.shard, at + 0.1, B) is None, "nor if somebody asks"


def test_a_new_process_is_refilled_at_once() -> None:
    world = World(A, B)
    world.now = 50.0
    reborn = ProbeResult(B, incarnation=Incarnation("new"), record_known=True, flushes=0, items=0)
    world.happen(Probed(reborn)).win()
    assert world.shard.member(B).reason is Reason.RESTARTED
    assert pick(world.shard, world.now) == B


def test_the_one_that_is_wanted() -> None:
    world = World(A, of=(A, B, C))
    assert (pick(world.shard, LATER), pick(world.shard, LATER, C), pick(world.shard, LATER, A)) == (
        B,
        C,
        None,
    )


@pytest.mark.parametrize("condition", [Condition.LOADING, Condition.NOAUTH, Condition.BUSY])
def test_a_target_in_no_condition(condition: Condition) -> None:
    world = World(A).happen(probed(B, None, record_known=False, condition=condition))
    assert pick(world.shard, LATER) is None


def test_a_target_that_is_a_replica_already() -> None:
    world = World(A).happen(probed(B, None, condition=Condition.READONLY))
    assert pick(world.shard, LATER) == B


def test_a_record_that_cannot_be_read_is_left_alone() -> None:
    world = World(A).happen(probed(B, b"damaged"))
    assert pick(world.shard, LATER) is None


def test_a_leader_that_does_not_answer_well_is_not_copied_from() -> None:
    assert pick(World(A).happen(Probed(ProbeResult(A, failure=Reason.TIMEOUT))).shard, LATER) is None
    loading = probed(A, None, record_known=False, condition=Condition.LOADING)
    assert pick(World(A).happen(loading).shard, LATER) is None


def with_method(world: World, method: str) -> ShardState:
    return replace(world.shard, pool=replace(world.shard.pool, resync_method=method))


def test_the_way_is_what_is_configured() -> None:
    world = World(A)
    ways = [choose_way(with_method(world, each), B, ()) for each in ("auto", "replicaof", "copy")]
    assert ways == [Way.FOLLOW, Way.FOLLOW, Way.COPY]
    for method in ("auto", "copy"):
        assert choose_way(with_method(World(A, protocol="memcached"), method), B, ()) is Way.COPY


@pytest.mark.parametrize("refusing", [{A}, {B}, {A, B}])
def test_who_has_refused_is_copied(refusing: set[str]) -> None:
    world = World(A)
    assert choose_way(with_method(world, "auto"), B, refusing) is Way.COPY
    assert choose_way(with_method(world, "replicaof"), B, refusing) is Way.FOLLOW
    assert choose_way(with_method(world, "auto"), B, {C}) is Way.FOLLOW


def test_a_leader_without_a_port_is_copied_from() -> None:
    world = World("unix:/a", of=("unix:/a", B))
    assert choose_way(with_method(world, "auto"), B, ()) is Way.COPY
    assert pick(with_method(world, "auto"), LATER) == B
    assert pick(with_method(world, "replicaof"), LATER) is None


def test_a_copy_that_somebody_began_goes_on() -> None:
    world = World(A).happen(Join(B, f"r{B}", fans_out=True)).win()
    assert choose_way(with_method(world, "auto"), B, ()) is Way.COPY


def test_all_that_keep_a_record_are_under_the_lease() -> None:
    leases = {shard_routing(with_method(World(A), each), {}).lease for each in ("auto", "copy", "replicaof")}
    assert leases == {WRITE_LEASE_SECONDS}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ERR unknown command 'REPLICAOF', with args beginning with: 'x' ", True),
        ("ERR unknown command `REPLICAOF`, with args beginning with: ", True),
        ("NOPERM User default has no permissions to run the 'replicaof' command", True),
        ("NOPERM this user has no permissions to run the 'client|list' command", True),
        ("ERR REPLICAOF not allowed in cluster mode.", True),
        ("ERR This command is not supported", True),
        ("LOADING Redis is loading the dataset in memory", False),
        ("NOAUTH Authentication required.", False),
        ("EXECABORT Transaction discarded because of previous errors.", False),
        ("READONLY You can't write against a read only replica.", False),
    ],
)
def test_what_is_not_allowed(text: str, expected: bool) -> None:
    assert is_not_allowed(text) is expected


def test_what_a_target_holds_is_given_up_only_by_who_is_up_to_date() -> None:
    shard = World(A).shard
    assert shard.view is not None
    older, newer = replace(shard.view, epoch=4), replace(shard.view, epoch=6)
    assert may_overwrite(shard, None, B)
    assert may_overwrite(shard, shard.record, B)
    assert may_overwrite(shard, encode(older), B)
    assert not may_overwrite(shard, encode(newer), B)
    assert not may_overwrite(shard, b"damaged", B)
    assert not may_overwrite(shard, None, A)
    assert not may_overwrite(World(A).happen(Join(B)).win().shard, None, B)


@pytest.mark.parametrize("is_back", [False, True])
def test_who_is_brought_back_is_chosen_when_its_turn_has_come(
    is_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backends of other shards come first; another proxy may have brought it back meanwhile."""
    world, brought = World(A), set[tuple[str, str]]()

    class Standing:
        def shard(self) -> ShardState:
            return world.shard

        def is_in_use(self) -> bool:
            return True

    async def bring_back(shard: ShardState, leader: str, target: str) -> bool:
        brought.add((leader, target))
        return True

    async def main() -> None:
        limiter = trio.CapacityLimiter(1)
        await limiter.acquire_on_behalf_of("another shard")
        resync = Resync(cast(Desk, Standing()), Owner("x", "p", "s"), limiter, lambda: LATER)
        monkeypatch.setattr(resync, "_bring_back", bring_back)
        resync.ask(None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(resync.run)
            await trio.sleep(60)
            assert limiter.statistics().tasks_waiting == 1
            if is_back:
                world.happen(Join(B)).win().happen(Admit(B, f"r{B}", 6)).win()
            limiter.release_on_behalf_of("another shard")
            await trio.sleep(60)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert brought == (set() if is_back else {(A, B)})
