"""From facts to one word: what a member is, measured against the shard's view.

Called by `proxy.control.shard`, which decides what follows from a finding. Changes nothing.
"""

from __future__ import annotations

from enum import StrEnum

from proxy.control.failover import Candidate, Standing
from proxy.control.model import BLINDING, Condition, ProbeResult, Reason
from proxy.control.state import Member, ShardState
from proxy.control.view import parse


class Finding(StrEnum):
    """What is known of one member, measured against the view. The most damning one that holds."""

    CURRENT = "current"
    """Answers; the view lists it in sync, names this process, and its record is the view's."""
    LAGGING = "lagging"
    """As current, but its record is older or was evicted: put it back."""
    UNSURE = "unsure"
    """As current, but its record was missing once: ask again before judging."""
    HELD = "held"
    """Answers with a condition that hides the record; not a death, what was true stays true."""
    ELECTED = "elected"
    """A view that was just adopted or committed lists it in sync."""
    COPYING = "copying"
    """The view lists it as joining."""
    OUTVOTED = "outvoted"
    """As those above, but with `views: majority` none can be seen: others may go on without us."""
    OUTSIDE = "outside"
    """Answers; the view does not list it: it missed a view, so it may have missed writes."""
    REBORN = "reborn"
    """The view lists it, in sync or joining, but it is another process, or this one was flushed."""
    UNREADABLE = "unreadable"
    """Its record is damaged, of a newer version, or of another shard; it is left alone."""
    SUSPECT = "suspect"
    """A write or a view failed on it, or may have."""
    SILENT = "silent"
    """``fall`` probes failed in a row, or it refused twice."""


STANDINGS: dict[Finding, Standing] = {
    Finding.CURRENT: Standing.USABLE,
    Finding.LAGGING: Standing.USABLE,
    Finding.UNSURE: Standing.USABLE,
    Finding.HELD: Standing.USABLE,
    Finding.ELECTED: Standing.USABLE,
    Finding.OUTVOTED: Standing.USABLE,
    Finding.COPYING: Standing.ABSENT,
    Finding.OUTSIDE: Standing.ABSENT,
    Finding.REBORN: Standing.REBORN,
    Finding.UNREADABLE: Standing.ABSENT,
    Finding.SUSPECT: Standing.SUSPECT,
    Finding.SILENT: Standing.ABSENT,
}


def measure(shard: ShardState, member: Member) -> Finding:
    """The most damning finding that holds. The shard must have a view."""
    view, seen = shard.view, member.seen
    assert view is not None
    if member.silent or seen is None:
        return Finding.SILENT
    is_listed = member.address in view.in_sync
    is_joining = member.address in view.joining
    if (is_listed or is_joining) and not _is_named_life(shard, member):
        return Finding.REBORN
    if unreadable(shard, member) is not None:
        return Finding.UNREADABLE
    is_fed = is_joining and view.fans_out
    if (is_listed or is_fed) and member.missing > 1 and _was_flushed(member):
        return Finding.REBORN
    if is_fed and member.write_failed:
        return Finding.SUSPECT
    if not is_listed:
        return Finding.COPYING if is_joining else Finding.OUTSIDE
    if member.write_failed or member.unrecorded:
        return Finding.SUSPECT
    if shard.is_outvoted:
        return Finding.OUTVOTED
    if not seen.record_known:
        return Finding.HELD
    if seen.record is None:
        return Finding.UNSURE if member.missing < 2 else Finding.LAGGING
    return Finding.CURRENT if seen.record == shard.record else Finding.LAGGING


def _is_named_life(shard: ShardState, member: Member) -> bool:
    incarnation = member.seen.incarnation if member.seen else None
    return incarnation is None or shard.view is None or incarnation.is_same(shard.view.run_of(member.address))


def _was_flushed(member: Member) -> bool:
    """A record that was evicted and one that went with the data look alike, but for what the server counts,
    and for whose data it has: a replica drops its own without a flush. Of one that does not tell, nor whether
    it is the same process, expect the worse."""
    seen = member.seen
    if member.flushes is None or seen is None or seen.incarnation is None or not seen.incarnation.token:
        return True
    return seen.flushes != member.flushes or seen.lineage != member.lineage


def unreadable(shard: ShardState, member: Member) -> Reason | None:
    """Why the member's record is none we can use; None if it is, or if there is none."""
    seen = member.seen
    if member.silent or seen is None or seen.record is None or seen.record == shard.record:
        return None
    found = parse(seen.record, shard.pool.name, shard.spec.name)
    if isinstance(found, Reason):
        return found
    return None if any(map(shard.is_configured, found.in_sync)) else Reason.RECORD_FOREIGN


def explain(shard: ShardState, member: Member, finding: Finding) -> Reason:
    """The reason that goes with a finding, into the log line, the metric and the status page."""
    seen = member.seen
    if finding is Finding.SILENT:
        return member.failure if member.failure is not Reason.NONE else member.reason
    if finding is Finding.UNREADABLE:
        return unreadable(shard, member) or Reason.RECORD_DAMAGED
    if finding is Finding.REBORN:
        return Reason.FLUSHED if _is_named_life(shard, member) else Reason.RESTARTED
    if finding is Finding.SUSPECT:
        return Reason.WRITE_FAILED if member.write_failed else Reason.VIEW_NOT_TAKEN
    if finding is Finding.OUTVOTED:
        return Reason.NO_MAJORITY
    if finding is Finding.OUTSIDE and member.leaving is not Reason.NONE:
        return member.leaving
    if seen is not None and seen.condition is not None:
        return Reason(seen.condition.value)
    if finding is not Finding.OUTSIDE:
        return Reason.ANSWERS
    if member.reason in _TELLING:
        return member.reason
    if seen is not None and seen.record is None:
        return Reason.DIFFERS if shard.epoch <= 1 else Reason.RESTARTED
    return Reason.MISSED_VIEW


_TELLING = frozenset(
    {
        Reason.RESTARTED,
        Reason.FLUSHED,
        Reason.WRITE_FAILED,
        Reason.VIEW_NOT_TAKEN,
        Reason.DIFFERS,
        Reason.MISSED_VIEW,
    }
)
"""A stale backend keeps the reason it became stale for; what came later tells less."""


def candidate(shard: ShardState, member: Member) -> Candidate:
    """The member as `proxy.control.failover` sees it."""
    standing = STANDINGS[measure(shard, member)]
    if standing is Standing.REBORN and not is_ready(member.seen):
        standing = Standing.ABSENT
    return as_candidate(member, standing)


def as_candidate(member: Member, standing: Standing) -> Candidate:
    """The member with a standing found otherwise (first contact has no view to measure against)."""
    seen = member.seen
    run = seen.incarnation.token if seen and seen.incarnation else ""
    # One that does not say how much it holds may hold anything.
    is_empty = seen is not None and seen.items == 0
    is_loading = seen is not None and seen.condition is Condition.LOADING and not member.silent
    return Candidate(member.address, standing, run, is_empty, not member.unrecorded, is_loading)


def is_other_life(member: Member, result: ProbeResult) -> bool:
    """True if the answer comes from another process than the answer before."""
    before = member.seen.incarnation if member.seen else None
    after = result.incarnation
    return before is not None and after is not None and not before.is_same(after.token)


def is_ready(seen: ProbeResult | None) -> bool:
    """It can become the truth: takes writes, and shows what it holds."""
    return seen is not None and seen.record_known and seen.condition not in BLINDING | {Condition.READONLY}
