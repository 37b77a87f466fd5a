"""The shard state machine against a small world that restarts, flushes, cuts off and races at will.

The world keeps what a proxy cannot see: which process holds which record, and which backends have
every acknowledged write. A write is acknowledged when everybody whom the table lists has applied it.
Other proxies commit views of their own. The promise checked after each step: whoever the table lets
be read has every acknowledged write, unless the last copy was destroyed.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.control.event import (
    Action,
    Commit,
    CommitFailed,
    CommitLost,
    CommitWon,
    ConnectionFailed,
    Event,
    Probed,
    Restore,
    VerifyFailed,
    WriteFailed,
)
from proxy.control.model import (
    BackendSpec,
    BackendState,
    Condition,
    HealthSpec,
    Incarnation,
    PoolSpec,
    ProbeResult,
    Reason,
    ShardSpec,
    View,
)
from proxy.control.routing import shard_routing
from proxy.control.shard import step
from proxy.control.state import ShardState, new_shard, readable
from proxy.control.view import encode, parse
from proxy.tasks.views import may_write

ADDRESSES = ("a:1", "b:1", "c:1")
POSITIONS = st.integers(min_value=0, max_value=len(ADDRESSES) - 1)


@dataclass
class Server:
    """A real server as the world knows it. ``has_all``: it applied every acknowledged write."""

    address: str
    life: int = 0
    flushes: int = 0
    record: bytes | None = None
    is_up: bool = True
    has_all: bool = True
    condition: Condition | None = None
    items: int = 0

    @property
    def run(self) -> str:
        return f"{self.address}-{self.life}"


class ShardMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        spec = ShardSpec("s", tuple(BackendSpec(each) for each in ADDRESSES))
        pool = PoolSpec("p", "redis", (spec,), health=HealthSpec(interval=1.0, fall=2, rise=2))
        self.now = 0.0
        self.shard: ShardState = new_shard(pool, spec, 0.0)
        self.servers = [Server(each) for each in ADDRESSES]
        self.commits: list[Commit] = []

    # What may happen.

    @rule(at=POSITIONS)
    def probe(self, at: int) -> None:
        self.now += 0.3
        server = self.servers[at]
        if not server.is_up:
            self.happen(Probed(ProbeResult(server.address, failure=Reason.REFUSED)))
            return
        blind = server.condition is Condition.LOADING
        self.happen(
            Probed(
                ProbeResult(
                    server.address,
                    condition=server.condition,
                    incarnation=Incarnation(server.run),
                    record=None if blind else server.record,
                    record_known=not blind,
                    flushes=server.flushes,
                    items=server.items,
                )
            )
        )

    @rule(at=POSITIONS, keeps_record=st.booleans())
    def restart(self, at: int, keeps_record: bool) -> None:
        server = self.servers[at]
        server.life += 1
        server.flushes, server.is_up, server.condition = 0, True, None
        server.has_all, server.items = False, 1 if keeps_record else 0
        server.record = server.record if keeps_record else None

    @rule(at=POSITIONS)
    def flush(self, at: int) -> None:
        server = self.servers[at]
        server.flushes += 1
        server.record, server.has_all, server.items = None, False, 0

    @rule(at=POSITIONS)
    def evict(self, at: int) -> None:
        self.servers[at].record = None

    @rule(at=POSITIONS, up=st.booleans())
    def cut_or_heal(self, at: int, up: bool) -> None:
        self.servers[at].is_up = up

    @rule(at=POSITIONS, condition=st.sampled_from([None, Condition.LOADING, Condition.MISCONF]))
    def condition_changes(self, at: int, condition: Condition | None) -> None:
        self.servers[at].condition = condition

    @rule(at=POSITIONS)
    def connection_fails(self, at: int) -> None:
        self.happen(ConnectionFailed(ADDRESSES[at], "eof"))

    @rule(at=POSITIONS)
    def verification_fails(self, at: int) -> None:
        self.happen(VerifyFailed(ADDRESSES[at]))

    @rule()
    def write(self) -> None:
        """The engine sends a write to everybody in the table; those whom it fails on are reported."""
        targets = [self.server(each) for each in self.shard.in_sync]
        applied = [each for each in targets if self.takes_data(each)]
        failed = [each for each in targets if each not in applied]
        if not applied:
            return
        for each in self.servers:
            each.items += each in applied
        if not failed:
            for each in self.servers:
                each.has_all = each.has_all and each in applied
            return
        for each in failed:
            before = self.shard.in_sync
            self.happen(WriteFailed(each.address))
            if len(before) == 1:
                assert self.shard.in_sync == before, "a write never removes the last"
        # Not acknowledged: that waits for the table without them.

    @rule(deliver=st.booleans())
    def commit_ends(self, deliver: bool) -> None:
        if not self.commits:
            return
        commit = self.commits.pop(0)
        view = commit.view
        outcome = self.arbitrate(commit) or self.compare_and_set(commit)
        if deliver:
            self.happen(outcome)
        elif view == self.shard.pending:
            self.happen(CommitFailed(view, view.in_sync[0], Reason.TIMEOUT, self.stands(view)))

    @rule(at=POSITIONS)
    def another_proxy_drops_one(self, at: int) -> None:
        """Another proxy saw a write fail; it is as careful as we are."""
        holder = self.newest()
        if holder is None or len(holder.in_sync) < 2 or ADDRESSES[at] not in holder.in_sync:
            return
        rest = tuple(each for each in holder.in_sync if each != ADDRESSES[at])
        runs = tuple(holder.run_of(each) for each in rest)
        view = View("p", "s", holder.epoch + 1, rest[0], rest, runs, parent=holder.in_sync)
        survivor = self.server(rest[0])
        if not survivor.is_up or survivor.run != runs[0] or survivor.record != encode(holder):
            return
        # Who leaves is told as well, where it answers: no rival of this epoch can be made without it.
        left = self.servers[at]
        if left.is_up and left.record is not None and left.condition is not Condition.LOADING:
            left.record = encode(view)
        survivor.record = encode(view)

    @rule()
    def time_passes(self) -> None:
        self.now += 7.0

    # The world's answers.

    def server(self, address: str) -> Server:
        return self.servers[ADDRESSES.index(address)]

    def takes_data(self, server: Server) -> bool:
        """A new connection is verified: the process the view names, with the table's record."""
        view = self.shard.view
        is_named = view is not None and view.run_of(server.address) == server.run
        return server.is_up and server.condition is None and is_named and server.record == self.shard.record

    def newest(self) -> View | None:
        views = [parse(each.record, "p", "s") for each in self.servers if each.record]
        found = [each for each in views if isinstance(each, View)]
        return max(found, key=lambda each: each.epoch, default=None)

    def stands(self, view: View) -> bool:
        return any(each.record == encode(view) for each in self.servers)

    def arbitrate(self, commit: Commit, witnesses: bool = False) -> Event | None:
        for address in commit.witnesses if witnesses else commit.arbiters:
            server = self.server(address)
            held = parse(server.record, "p", "s") if server.record else None
            if not server.is_up or server.condition is Condition.LOADING or not isinstance(held, View):
                continue
            if held != commit.view and held.epoch >= commit.view.epoch:
                return CommitLost(commit.view, address, server.record, self.stands(commit.view))
            server.record = encode(commit.view)
        return None

    def compare_and_set(self, commit: Commit) -> Event:
        view, blank = commit.view, commit.blank
        missed = []
        for position, address in enumerate(view.in_sync):
            server = self.server(address)
            if not server.is_up or server.condition is Condition.LOADING:
                if position == 0:
                    return CommitFailed(view, address, Reason.TIMEOUT, self.stands(view))
                missed.append(address)
                continue
            held = parse(server.record, "p", "s") if server.record else None
            if isinstance(held, View) and held != view and held.epoch >= view.epoch:
                return CommitLost(view, address, server.record, self.stands(view))
            if server.record is None and address not in blank:
                if position == 0:
                    return CommitLost(view, address, None, self.stands(view))
                missed.append(address)
                continue
            server.record = encode(view)
        return self.arbitrate(commit, witnesses=True) or CommitWon(view, tuple(missed))

    def happen(self, event: Event) -> None:
        before = self.shard
        self.shard, actions = step(self.shard, event, self.now)
        self.check_views(before)
        for action in actions:
            self.perform(action)

    def perform(self, action: Action) -> None:
        if isinstance(action, Commit):
            self.commits.append(action)
        elif isinstance(action, Restore):
            server = self.server(action.address)
            ours = parse(action.record, "p", "s")
            assert isinstance(ours, View)
            is_free = may_write(server.record, ours, blank=action.blank, settles=True, address=action.address)
            if server.is_up and is_free:
                server.record = action.record

    def check_views(self, before: ShardState) -> None:
        assert self.shard.epoch >= before.epoch, "epochs only rise"
        view = self.shard.view
        if view is None or view == before.view:
            return
        listed = [self.server(each) for each in view.in_sync]
        intact = [self.server(each) for each in before.view.in_sync] if before.view else []
        is_destroyed = not any(each.has_all and each.is_up for each in intact)
        if before.view is None or (is_destroyed and len(listed) == 1):
            # Writes are acknowledged from the first view on; and where every in-sync copy was
            # destroyed, what the last survivor holds is what there is from now on.
            for each in self.servers:
                each.has_all = each in listed

    # What always holds.

    @invariant()
    def the_table_is_the_view_or_nobody(self) -> None:
        listed = self.shard.view.in_sync if self.shard.view else ()
        assert self.shard.in_sync in ((), listed)

    @invariant()
    def one_lead_from_the_in_sync(self) -> None:
        assert (self.shard.lead is None) == (not self.shard.in_sync)
        if self.shard.lead is not None and self.shard.view is not None:
            assert self.shard.lead == self.shard.view.lead

    @invariant()
    def only_in_sync_backends_are_routed_to(self) -> None:
        table = shard_routing(self.shard, {})
        allowed = {
            position
            for position, member in enumerate(self.shard.members)
            if member.state is BackendState.IN_SYNC
        }
        assert set(table.in_sync) == allowed
        assert set(table.reads) <= allowed
        assert table.lead is None or table.lead in allowed
        assert bool(table.reads) == bool(allowed)

    @invariant()
    def at_most_one_view_is_pending_and_it_follows_ours(self) -> None:
        pending = self.shard.pending
        if pending is not None:
            assert pending.epoch == self.shard.epoch + 1
            assert pending.in_sync
            assert pending.lead in pending.in_sync

    @invariant()
    def what_can_be_read_has_every_acknowledged_write(self) -> None:
        """Where a connection would pass verification, there is nothing missing, while anybody has it all."""
        view = self.shard.view
        if view is None or not any(self.holds_truth(each) for each in view.in_sync):
            return  # every in-sync copy was destroyed; the last survivor is the truth whatever it holds
        for address in readable(self.shard):
            server = self.server(address)
            if self.takes_data(server):
                assert server.has_all, f"{address} would serve stale data"

    def holds_truth(self, address: str) -> bool:
        return self.server(address).has_all

    @invariant()
    def steps_are_repeatable(self) -> None:
        event = VerifyFailed(ADDRESSES[0])
        assert step(self.shard, event, self.now) == step(self.shard, event, self.now)


TestShardMachine = ShardMachine.TestCase
TestShardMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
