"""What is known of one shard: facts about its members, the state drawn from them, the view.

Rewritten only by `proxy.control.shard`; read by `proxy.control.routing`, the status page and metrics.
Holds no rules beyond what follows from the values themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.control.model import (
    BLINDING,
    BackendState,
    Condition,
    Phase,
    PoolSpec,
    ProbeResult,
    Reason,
    ShardSpec,
    View,
)

WAIT_FALLS = 3
"""A lost shard whose members came back as new processes waits this many times ``fall`` intervals for
the rest: longer than anybody else needs to notice, short enough for a cache."""


@dataclass(frozen=True, slots=True)
class Member:
    """Facts about one backend, and the state drawn from them.

    Args:
        seen: the last answer; None before the first.
        contacted: the first probe ended, either way (a timeout counts when it is the second).
        fails, passes: probes in a row.
        failure: why the last probe failed, NONE if it did not.
        silent: ``fall`` was reached and ``rise`` not yet again.
        warned: the engine lost a connection since the last probe, so one failed probe is enough (for the last
            one in sync: `fall` of them, without a pause between them).
        leaving: why it must leave the view, while it is still in it.
        write_failed: a write failed here and no view without it was recorded yet.
        unrecorded: it could not take a view; until it next answers.
        left: when we began to follow a view in which it is not in sync.
        doubted: a connection of the engine was shown something else than the table says, and waits for
            the next one; until the record is found to be right after all.
        missing: probes in a row that found no record.
        flushes, lineage: flush count, and whose data it held, when the record was last there.
        asked_without: epoch of the last view that was proposed while it had no record; 0 if none was.
        readmitted: that view was recorded without its vote, so it may be given a record (`quorum`).
    """

    address: str
    state: BackendState = BackendState.DOWN
    reason: Reason = Reason.NOT_CONTACTED
    since: float = 0.0
    seen: ProbeResult | None = None
    contacted: bool = False
    fails: int = 0
    passes: int = 0
    failure: Reason = Reason.NONE
    silent: bool = True
    warned: bool = False
    leaving: Reason = Reason.NONE
    write_failed: bool = False
    unrecorded: bool = False
    left: float = 0.0
    doubted: bool = False
    missing: int = 0
    flushes: int | None = None
    lineage: str = ""
    asked_without: int = 0
    readmitted: bool = False
    drained: bool = False


@dataclass(frozen=True, slots=True)
class ShardState:
    """All that is known of one shard. ``record`` is the view's bytes as found, empty without a view.

    ``pending`` is the view being committed; ``tried`` one of ours that lost, or was given up, after somebody
    took it: while our view is not newer, what is left of it may be taken for the winner.
    ``joining_since`` is when we began to follow a view with somebody joining, under which writes are held;
    ``lost_since`` when the last usable member went; ``rival`` the last record that was in conflict, so that
    it is counted once; ``predecessors`` who led, or may have, before the view of epoch ``succession``;
    ``is_short``: with `views: majority`, a view did not get its votes, and nothing is proposed before
    somebody is asked again; ``is_undecided``: somebody shows a newer view that we cannot have decided;
    ``revision`` rises when the routing table must be published again.
    """

    pool: PoolSpec
    spec: ShardSpec
    members: tuple[Member, ...]
    keeps_view: bool
    view: View | None = None
    record: bytes = b""
    pending: View | None = None
    tried: View | None = None
    joining_since: float = 0.0
    lost_since: float | None = None
    reason: Reason = Reason.NOT_CONTACTED
    conflicts: int = 0
    rival: bytes = b""
    predecessors: tuple[str, ...] = ()
    succession: int = 0
    is_short: bool = False
    is_undecided: bool = False
    revision: int = 0

    @property
    def epoch(self) -> int:
        """Epoch of the view; 0 where none is kept or known."""
        return self.view.epoch if self.view else 0

    @property
    def in_sync(self) -> tuple[str, ...]:
        """Addresses in state in_sync, in order of succession."""
        names = [each.address for each in self.members if each.state is BackendState.IN_SYNC]
        order = self.view.in_sync if self.view else ()
        return tuple(sorted(names, key=lambda name: order.index(name) if name in order else len(order)))

    @property
    def lead(self) -> str | None:
        """Who decides, or None if the shard is lost."""
        in_sync = self.in_sync
        if self.view is not None and self.view.lead in in_sync:
            return self.view.lead
        return in_sync[0] if in_sync else None

    @property
    def succeeds(self) -> bool:
        """Who led before may still decide writes, for proxies that reach it and have not heard that it left.
        One that refuses connections is dead; when it returns it is asked for the record. (What on the way
        refuses them in its name, to us alone, is not told apart.)"""
        return any(
            not self.is_configured(each) or self.member(each).failure is not Reason.REFUSED
            for each in self.predecessors
        )

    @property
    def phase(self) -> Phase:
        """What the shard is doing, for people."""
        if not self.is_contacted or (self.keeps_view and self.view is None):
            return Phase.CONTACT
        if self.lead is None:
            return Phase.LOST
        return Phase.COMMITTING if self.pending is not None else Phase.SERVING

    @property
    def is_contacted(self) -> bool:
        """True once every first probe ended; before that nobody can say which view is the newest."""
        return all(each.contacted for each in self.members)

    @property
    def votes_needed(self) -> int:
        """As `PoolSpec.votes_needed`."""
        return self.pool.votes_needed(self.spec)

    @property
    def has_strangers(self) -> bool:
        """The view has backends in sync that are not configured: writes of ours would miss them."""
        return self.view is not None and not all(map(self.is_configured, self.view.in_sync))

    @property
    def is_outvoted(self) -> bool:
        """With `views: majority`: others may have gone on without those that we see."""
        return self.is_undecided or not self.hears_enough

    @property
    def hears_enough(self) -> bool:
        """With `views: majority`: enough answer for a view to be recorded, and enough of them have a record
        for a newer one to be known."""
        needed = self.votes_needed
        if sum(not each.silent for each in self.members) < needed:
            return False
        recorded = sum(map(_has_record, self.members))
        return not needed or self.view is None or recorded > len(self.members) - needed

    @property
    def held_epoch(self) -> int:
        """Epoch of the view under which writes are held, 0 if they are not."""
        return self.epoch if self.view is not None and self.view.joining and not self.view.fans_out else 0

    @property
    def fed(self) -> tuple[str, ...]:
        """Addresses of those that join and get every write meanwhile. The view says so, not their state:
        one that fails has to be out of the view before a write that it missed is acknowledged."""
        return self.view.joining if self.view is not None and self.view.fans_out else ()

    @property
    def waits_long(self) -> float:
        """Seconds a lost shard waits for old processes before it settles for new ones."""
        return WAIT_FALLS * self.pool.health.fall * self.pool.health.interval

    def is_configured(self, address: str) -> bool:
        """True if the address is one of the shard's backends."""
        return any(each.address == address for each in self.members)

    def member(self, address: str) -> Member:
        """The member of that address.

        Raises:
            KeyError: it is not configured.
        """
        for each in self.members:
            if each.address == address:
                return each
        raise KeyError(address)


def _has_record(member: Member) -> bool:
    """A server that a script keeps busy does not show it, but takes no other one meanwhile."""
    seen = member.seen
    return (
        not member.silent
        and seen is not None
        and (seen.record is not None or seen.condition is Condition.BUSY)
    )


def new_shard(pool: PoolSpec, spec: ShardSpec, now: float) -> ShardState:
    """A shard nobody has asked yet: every backend down, not contacted."""
    members = tuple(Member(each.address, since=now) for each in spec.backends)
    return ShardState(pool, spec, members, pool.keeps_view(spec))


def _is_poor_to_read(member: Member) -> bool:
    """In sync, but about to leave or busy: reads try it only where nobody else is in sync."""
    condition = member.seen.condition if member.seen else None
    return member.silent or member.leaving is not Reason.NONE or condition in BLINDING


def readable(shard: ShardState) -> tuple[str, ...]:
    """In-sync addresses reads may use, in order of succession with the lead first."""
    in_sync = [shard.lead, *(each for each in shard.in_sync if each != shard.lead)] if shard.lead else []
    willing = [each for each in in_sync if each and not _is_poor_to_read(shard.member(each))]
    return tuple(willing or [each for each in in_sync if each])


def routing_facts(shard: ShardState) -> object:
    """Everything the routing table draws from the shard; equal means nothing to publish."""
    reads = tuple((each.state, _is_poor_to_read(each)) for each in shard.members)
    return shard.record, shard.lead, shard.succession, shard.succeeds, reads
