"""When a lost shard's keys go elsewhere, when it gets them back, and what must have happened before.

Called by `proxy.tasks.remap` after everything that is learnt of the pool; takes shard states and a clock
reading, returns the new `Remap` and what is to be done. Knows no IO. Only for pools with
``on_shard_loss: remap``.

    present ──► gone for `fall` probes ──► recorded absent ──► SETTLING ──► absent: keys with others
       ▲                                                                               │
       │                                                          answers for `rise` probes
    swept  ◄── present, not swept ◄── SETTLING ◄── recorded as returned ◄── emptied ◄──┘

**Which shards.** Any: replicated ones whose in-sync members are all gone, and those of a single backend.
A server that answers, whatever it says, is not gone (a condition is not a death), nor is anybody while
the prober blames our own network (`failover.is_panic`): those members are not even silent. First contact
counts as well, but only after `fall` probes: a proxy that starts while a shard is dead does as the others.
A shard is declared absent only if another one can take its keys.

**Why there is a time of settling.** A proxy that follows a new record stops serving the shard's keys at
once, and serves them at the new place `settle_seconds` later; in between they are answered with the error of
a lost shard. Each proxy that still reads some backend of the pool has seen the record by then, and
what it had sent before is answered or given up. So no two proxies serve a key at two places, on the way
there and on the way back, without a clock being compared.

**Blindness.** One proxy that cannot reach a shard has it declared absent for all: they must agree, and it
cannot know better. As long as it stays blind it says so beside the record (a key with some seconds to
live), and nobody empties the shard meanwhile; else the two would drive it in and out for ever.

**Return.** A shard is emptied only if it is recorded absent, that and the newest record have settled, each
of its members that answers is ready and has no record that we cannot read, and nobody is blind to it. It is
emptied under the record as it stands on that backend, so a proxy that comes late finds another one and does
nothing. A replicated shard gets a fresh view of those that were emptied, far above the old one; a member
that was away, or missed that view in the confusion, is stale by it and refilled from the others. One that
restarted empty is only looked at.

**Leftovers.** What was written to other shards in its absence is still there, and would be found, stale,
if it were lost again. So a shard that returned is swept: every other present shard is walked through, and
keys whose home is absent or returned and which do not belong there are deleted. Until that is recorded as
done the shard is not declared absent again: its keys are answered with errors meanwhile.

**What remains.** A proxy that is frozen, or sees only the lost shard, for longer than the time of settling
goes on with the old table: reads through it may be stale. If no shard of the pool is seen by both of two
proxies, both decide; when they meet again, everybody either had absent is emptied (`absence.merge`). Bytes
of a request that the network, not a host, delivers after all this time are not held back by anything on
Memcached; Redis closes every connection before it is emptied, and the engine resets its own when it gives
up a shard. If every record of a pool is lost while a shard is absent (all backends flushed past the proxy,
and all proxies restarted), it is used as it is found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from proxy.control.absence import Absence, encode, merge, parse
from proxy.control.finding import is_ready, unreadable
from proxy.control.model import BLINDING, Condition, PoolSpec, ProbeResult, Reason
from proxy.control.state import Member, ShardState


class Standing(StrEnum):
    """What the pool's keys have to do with a shard."""

    PRESENT = "present"
    SETTLING = "settling"
    """Its keys are on their way, there or back: nobody serves them."""
    ABSENT = "absent"
    """Its keys are with others."""


@dataclass(frozen=True, slots=True)
class Remap:
    """What is known of one pool's absences.

    Args:
        record: the newest one seen.
        data: its bytes, empty without one.
        since: by shard, when we began to follow the change that settles or has settled.
        followed: when we began to follow the record.
        proposed: the record on its way to the backends.
        rival: what must follow a record of our epoch that differs from ours.
        has_begun: every shard was contacted, so that the newest record is known.
    """

    pool: PoolSpec
    record: Absence
    data: bytes = b""
    since: Mapping[str, float] | None = None
    followed: float = -math.inf
    proposed: Absence | None = None
    rival: Absence | None = None
    has_begun: bool = False


@dataclass(frozen=True, slots=True)
class Propose:
    """Record it by compare-and-set; ``shards`` are those it is about, for the log."""

    record: Absence
    shards: tuple[str, ...]
    reason: Reason


@dataclass(frozen=True, slots=True)
class PutBack:
    """The backend has no record or an old one."""

    address: str
    record: Absence


@dataclass(frozen=True, slots=True)
class Empty:
    """Make sure these members of an absent shard hold nothing; then `emptied`."""

    shard: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sweep:
    """Delete leftovers of these shards from all others; then `finished`. ``is_urgent``: clients wait."""

    shards: tuple[str, ...]
    is_urgent: bool


Action = Propose | PutBack | Empty | Sweep


def new_remap(pool: PoolSpec) -> Remap:
    """Nothing is known yet."""
    return Remap(pool, Absence(pool.name))


def settle_seconds(pool: PoolSpec) -> float:
    """From following a record until serving by it: everybody who reads any backend has followed it too
    (a pause between probes, one that fails or a write of the record, one that succeeds), and has no
    request under way that it took before. A replicated shard's may have waited in a queue for twice the
    request timeout before it was sent."""
    is_replicated = any(pool.keeps_view(shard) for shard in pool.shards)
    requests = (3 if is_replicated else 1) * pool.request_timeout
    return pool.health.adoption_seconds + pool.health.timeout + requests


def standing(remap: Remap, shard: ShardState, now: float) -> Standing:
    """What the routing table and the status page say of the shard."""
    name = shard.spec.name
    if not _has_settled(remap, name, now):
        return Standing.SETTLING
    if name in remap.record.absent:
        return Standing.ABSENT
    # The view it was emptied under is not known here yet: an older one may name who was not emptied.
    is_behind = shard.keeps_view and shard.epoch < remap.record.floors.get(name, 0)
    return Standing.SETTLING if is_behind else Standing.PRESENT


def _has_settled(remap: Remap, name: str, now: float) -> bool:
    since = (remap.since or {}).get(name)
    return since is None or now >= since + settle_seconds(remap.pool)


# What is learnt.


def observe(remap: Remap, data: bytes | None, now: float) -> Remap:
    """After a backend showed this record: follows it if it is newer, notes a rival of the same epoch."""
    if data is None or data == remap.data:
        return remap
    found = parse(data, remap.pool.name)
    if isinstance(found, Reason) or found.epoch < remap.record.epoch:
        return remap
    if found.epoch > remap.record.epoch:
        return follow(remap, found, now)
    return replace(remap, rival=merge(remap.record, found))


def follow(remap: Remap, record: Absence, now: float) -> Remap:
    """Takes the record as ours; whatever it changes begins to settle."""
    before, after = remap.record, record
    changed = set(before.absent) ^ set(after.absent)
    if not remap.has_begun:
        # Others may be about to follow it as well: what is new to us may be new to them.
        changed |= set(after.absent) | set(after.floors)
    since = {name: moment for name, moment in (remap.since or {}).items() if name not in changed}
    since |= dict.fromkeys(changed, now)
    following = replace(remap, record=after, data=encode(after), since=since, followed=now)
    return replace(following, proposed=None, rival=None)


def begin(remap: Remap) -> Remap:
    """Every shard was contacted."""
    return replace(remap, has_begun=True)


def recorded(remap: Remap, record: Absence, now: float) -> Remap:
    """Our proposal stands on the backends."""
    return follow(remap, record, now) if record == remap.proposed else remap


def refused(remap: Remap, record: Absence, found: bytes | None, now: float) -> Remap:
    """It does not, because of ``found``, or because nobody could take it (None)."""
    if record == remap.proposed:
        remap = replace(remap, proposed=None)
    return observe(remap, found, now)


def emptied(remap: Remap, name: str, floor: int) -> tuple[Remap, tuple[Action, ...]]:
    """A shard holds nothing, under a view of epoch ``floor``: it may come back, if nothing else is under way.
    Otherwise it is looked at again later, which is quick, as it is empty."""
    if remap.proposed is not None or remap.rival is not None or name not in remap.record.absent:
        return remap, ()
    return _propose(remap, remap.record.enter(name, floor), (name,), Reason.EMPTIED)


def finished(remap: Remap, names: Sequence[str], epoch: int) -> tuple[Remap, tuple[Action, ...]]:
    """Shards were swept under the record of ``epoch``."""
    if remap.proposed is not None or remap.rival is not None or epoch != remap.record.epoch:
        return remap, ()
    return _propose(remap, remap.record.swept(names), tuple(names), Reason.SWEPT)


# What is to be done.


def decide(remap: Remap, shards: Sequence[ShardState], now: float) -> tuple[Remap, tuple[Action, ...]]:
    """Everything that is due. What takes long may be asked for again and again; whoever does it knows."""
    if not remap.has_begun or remap.proposed is not None:
        return remap, ()
    actions: list[Action] = list(_put_backs(remap, shards))
    if remap.rival is not None:
        shared = tuple(set(remap.rival.absent) - set(remap.record.absent))
        remap, proposal = _propose(remap, remap.rival, shared, Reason.CONFLICT)
        return remap, (*actions, *proposal)
    leavers = _leavers(remap, shards, now)
    if leavers:
        record = remap.record.leave(leavers)
        remap, proposal = _propose(remap, record, leavers, Reason.NOBODY_REACHABLE)
        return remap, (*actions, *proposal)
    # What is old to us may be new to others, if this record was made of two: they may use the shard yet.
    is_calm = now >= remap.followed + settle_seconds(remap.pool)
    for shard in shards:
        if is_calm and standing(remap, shard, now) is Standing.ABSENT:
            takers = _takers(shard, now)
            if takers:
                actions.append(Empty(shard.spec.name, takers))
    waiting = [s for s in shards if s.spec.name in remap.record.floors]
    if waiting and all(_has_settled(remap, shard.spec.name, now) for shard in waiting):
        names = tuple(shard.spec.name for shard in waiting)
        actions.append(Sweep(names, any(map(is_gone, waiting))))
    return remap, tuple(actions)


def is_gone(shard: ShardState) -> bool:
    """True if nobody is left who could serve it: everyone who counts has failed ``fall`` probes in a row."""
    view = shard.view
    counted: Sequence[Member] = shard.members if shard.keeps_view else shard.members[:1]
    if view is not None:
        counted = [member for member in counted if member.address in view.in_sync]
    fall = shard.pool.health.fall
    return (
        shard.lead is None
        and bool(counted)
        and all(member.silent and member.fails >= fall for member in counted)
    )


def blind_to(remap: Remap, shards: Sequence[ShardState]) -> tuple[str, ...]:
    """Absent shards that we cannot reach: they must not be emptied and used while that is so."""
    absent = remap.record.absent
    return tuple(shard.spec.name for shard in shards if shard.spec.name in absent and is_gone(shard))


def answering(shards: Sequence[ShardState], *, but: Sequence[str] = ()) -> tuple[str, ...]:
    """Addresses that can take a record, in configuration order; ``but`` names shards to leave out."""
    return tuple(
        member.address
        for shard in shards
        if shard.spec.name not in but
        for member in shard.members
        if member.fails == 0 and member.seen is not None and member.seen.absent_known
    )


def _propose(
    remap: Remap, record: Absence, names: tuple[str, ...], reason: Reason
) -> tuple[Remap, tuple[Action, ...]]:
    return replace(remap, proposed=record), (Propose(record, tuple(sorted(names)), reason),)


def _put_backs(remap: Remap, shards: Sequence[ShardState]) -> list[PutBack]:
    if remap.record.epoch == 0 or remap.rival is not None:
        return []
    addresses = answering(shards)
    seen = {m.address: m.seen for shard in shards for m in shard.members if m.address in addresses}
    return [PutBack(address, remap.record) for address in addresses if _lacks(seen[address], remap)]


def _lacks(seen: ProbeResult | None, remap: Remap) -> bool:
    if seen is None or seen.absent == remap.data:
        return False
    if seen.condition is Condition.READONLY:
        return False  # a replica in the middle of being refilled: its leader's record comes along
    found = None if seen.absent is None else parse(seen.absent, remap.pool.name)
    return found is None or (isinstance(found, Absence) and found.epoch < remap.record.epoch)


def _leavers(remap: Remap, shards: Sequence[ShardState], now: float) -> tuple[str, ...]:
    present = [shard for shard in shards if standing(remap, shard, now) is Standing.PRESENT]
    if not any(shard.lead is not None for shard in present):
        return ()  # nobody to go to
    floors = remap.record.floors
    return tuple(s.spec.name for s in present if is_gone(s) and s.spec.name not in floors)


def _takers(shard: ShardState, now: float) -> tuple[str, ...]:
    """Members that are back for good and can be emptied. All of them, or after a while those there are."""
    counted = shard.members if shard.keeps_view else shard.members[:1]
    back = [member for member in counted if _is_back(shard, member)]
    if not back or any(unreadable(shard, member) is not None for member in counted):
        return ()
    has_waited = now - min(member.since for member in back) >= shard.waits_long
    return tuple(member.address for member in back) if has_waited or len(back) == len(counted) else ()


def _is_back(shard: ShardState, member: Member) -> bool:
    seen = member.seen
    if seen is None or member.silent or member.fails or member.passes < shard.pool.health.rise:
        return False
    if seen.absent is not None and isinstance(parse(seen.absent, shard.pool.name), Reason):
        return False
    if shard.keeps_view:
        return is_ready(seen)
    return seen.absent_known and seen.condition not in BLINDING | {Condition.READONLY}
