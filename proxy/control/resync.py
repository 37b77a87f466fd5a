"""Which backend is brought back next, how far that is, and when it is given up. Values only.

Called by `proxy.tasks.resync`. How it is done is in `proxy.control.following` (by the servers' own
replication, Redis only) and `proxy.control.copying` (key by key). Must not know sockets, tasks or the clock.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum

from proxy.control.finding import Finding, measure
from proxy.control.model import BackendState, Condition, Reason
from proxy.control.state import Member, ShardState
from proxy.control.view import beats, parse

STALL_SECONDS = 20.0
"""Without progress for so long the copy is given up: twice the leader's ping period, and more than a
server needs to fork and write its first bytes."""
BACKOFF_SECONDS, BACKOFF_LIMIT = 0.5, 30.0
LEASE_SECONDS = 3.0
"""How long after the death of the proxy that does the work another one takes over."""


class Phase(StrEnum):
    """Where a resynchronisation is."""

    LINKING = "linking"
    PREPARING = "preparing"
    JOINING = "joining"
    SETTLING = "settling"
    COPYING = "copying"
    FOLLOWING = "following"
    SWITCHING = "switching"


class Way(StrEnum):
    """How a backend is brought back."""

    FOLLOW = "follow"
    """By the servers' own replication (`proxy.control.following`)."""
    COPY = "copy"
    """Key by key (`proxy.control.copying`)."""


class Trouble(StrEnum):
    """Why it was given up, for the log line and the metric."""

    LEADER_CHANGED = "leader_changed"
    TARGET_CHANGED = "target_changed"
    OTHER_MASTER = "other_master"
    STALLED = "stalled"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    NOT_HELD = "not_held"
    NOT_RECORDED = "not_recorded"
    LEASE_LOST = "lease_lost"
    FOREIGN_RECORD = "foreign_record"
    UNSUPPORTED = "unsupported"
    NEVER_EQUAL = "never_equal"
    NOT_ALLOWED = "not_allowed"


@dataclass(frozen=True, slots=True)
class Progress:
    """One resynchronisation under way, for the log, the metrics and the status page.

    Args:
        moved: when it last got on, in the caller's clock.
        done, total: bytes; total is an estimate where the server does not tell, 0 before it is known.
    """

    leader: str
    target: str
    began: float
    moved: float
    phase: Phase
    done: int = 0
    total: int = 0

    def is_stalled(self, now: float) -> bool:
        """True if nothing has moved for too long. Following a leader that writes faster than the target
        reads does not count: it is bounded by the leader's output buffer limit, which ends the link."""
        return self.phase is not Phase.FOLLOWING and now - self.moved > STALL_SECONDS

    def rate(self, now: float) -> float:
        """Bytes per second since it began."""
        return self.done / (now - self.began) if now > self.began else 0.0

    def seconds_left(self, now: float) -> float | None:
        """Estimate; None while nothing has been copied."""
        rate = self.rate(now)
        return (self.total - self.done) / rate if rate else None


def pick(shard: ShardState, now: float, wanted: str | None = None) -> str | None:
    """The next backend to bring back: ``wanted``, or the first that can be; None if there is none.

    Only one that missed a view or came back as another process: a record that cannot be read is left
    alone, as somebody else may need it. Nothing is begun while the leader does not answer well. One that
    is fed already is for whoever gets the lease: the proxy that began it may be gone.
    """
    view = shard.view
    if view is None or shard.lead is None or shard.pending is not None:
        return None
    leader = shard.member(shard.lead)
    if leader.fails or leader.leaving is not Reason.NONE:
        return None
    if leader.seen is None or leader.seen.condition is not None:
        return None
    if shard.votes_needed and leader.seen.record != shard.record:
        return None  # a copy of an older record would take back a vote
    if view.joining:
        known = [each for each in shard.fed if shard.is_configured(each) and wanted in (None, each)]
        return known[0] if known and measure(shard, shard.member(known[0])) is Finding.COPYING else None
    if not shard.pool.may_copy and shard.lead.startswith("unix:"):
        return None  # REPLICAOF takes a host and a port
    for member in shard.members:
        if wanted not in (None, member.address) or member.state is not BackendState.STALE:
            continue
        is_able = member.seen is not None and member.seen.condition in (None, Condition.READONLY)
        is_able = is_able and not member.fails and _is_left(shard, member, now)
        if is_able and measure(shard, member) is Finding.OUTSIDE:
            return member.address
    return None


def _is_left(shard: ShardState, member: Member, now: float) -> bool:
    """No proxy follows a view any more in which the member is in sync.

    Who does not know yet that it has left takes its answers for the shard's: emptied, it would have every key
    absent, and counters and conditional writes would be decided by that on the others as well. A new process
    has no connection from before, and a new one is shown the record first.
    """
    return member.reason is Reason.RESTARTED or now - member.left >= shard.pool.health.adoption_seconds


def choose_way(shard: ShardState, target: str, refusing: Container[str]) -> Way:
    """How ``target`` is brought back.

    Args:
        refusing: addresses of servers that did not allow what the servers' own replication takes.
    """
    pool = shard.pool
    if not pool.may_follow or target in shard.fed:
        return Way.COPY  # what somebody has begun goes on
    if not pool.may_copy:
        return Way.FOLLOW
    lead = shard.lead or ""
    is_possible = not lead.startswith("unix:") and target not in refusing and lead not in refusing
    return Way.FOLLOW if is_possible else Way.COPY


def may_overwrite(shard: ShardState, record: bytes | None, target: str) -> bool:
    """Whether the target's data may be given up, by the record it holds right now.

    Not if we are behind the times (it may be in sync by then, or the only one left), nor while somebody
    joins, nor if the record is one that we cannot read.
    """
    view = shard.view
    if view is None or view.joining or target in view.in_sync:
        return False
    if record is None:
        return not shard.votes_needed  # it is given one first (`quorum`)
    found = parse(record, view.pool, view.shard)
    return not isinstance(found, Reason) and not beats(found, view)


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row, at least one."""
    return min(BACKOFF_LIMIT, BACKOFF_SECONDS * 2.0 ** (min(failures, 20) - 1))
