"""From a view that is wanted to the `Commit` that records it: who is told, in what order, and on what terms.

Called by `proxy.control.shard`. Changes nothing, and does not know why a view is wanted.
"""

from __future__ import annotations

import itertools

from proxy.control import quorum
from proxy.control.event import Commit
from proxy.control.finding import Finding, measure
from proxy.control.model import View
from proxy.control.state import ShardState


def commit_of(shard: ShardState, view: View) -> Commit:
    """Those that leave ahead of the first who stays are arbiters; those behind are witnesses, and so is
    every other backend whose vote counts. One that shows a record we cannot use decides nothing.

    Where the last one in sync is a new process, whose data would be the truth whatever it is, all others are
    arbiters: one that was stale as far as we know may have been brought back since."""
    old = shard.view.in_sync if shard.view else ()
    ahead = tuple(itertools.takewhile(lambda address: address not in view.in_sync, old))
    behind = tuple(address for address in old[len(ahead) :] if address not in view.in_sync)
    if shard.votes_needed:
        told = {*view.in_sync, *view.joining, *old}
        behind += tuple(each.address for each in shard.members if each.address not in told)
    elif shard.view is not None and _is_reborn(shard.view, view):
        ahead += tuple(each.address for each in shard.members if each.address not in (*view.in_sync, *ahead))
        behind = ()
    arbiters, witnesses = (
        tuple(address for address in each if _may_decide(shard, address)) for each in (ahead, behind)
    )
    skips = quorum.skips(shard)
    return Commit(view, _blank(shard, view), arbiters, witnesses, shard.votes_needed, skips)


def _is_reborn(old: View, view: View) -> bool:
    return any(view.run_of(each) != old.run_of(each) for each in view.in_sync if each in old.in_sync)


def _blank(shard: ShardState, view: View) -> tuple[str, ...]:
    asked = view.in_sync
    if shard.votes_needed:
        asked = tuple(each.address for each in shard.members) if quorum.may_blank_vote(shard) else ()
    return tuple(address for address in asked if shard.is_configured(address) and _is_blank(shard, address))


def _is_blank(shard: ShardState, address: str) -> bool:
    member = shard.member(address)
    if member.seen is None or not member.seen.record_known or member.seen.record is not None:
        return False
    # One that was missing once may have been flushed; that is not known yet, so not blank.
    return shard.view is None or measure(shard, member) is not Finding.UNSURE


def _may_decide(shard: ShardState, address: str) -> bool:
    if not shard.is_configured(address):
        return False
    member = shard.member(address)
    return member.seen is None or member.seen.record is None or quorum.held(shard, member) is not None
