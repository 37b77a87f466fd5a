"""`views: majority`: which view may be followed, and which is to be recorded next, by who has voted for what.

Called by `proxy.control.shard`. A backend votes by taking a record, in sync or not, and takes one of an
epoch only; so of the views that follow one view at most one gets a majority of the *configured* backends,
and only that one counts. Two halves of a network cannot both have it, and who sees no majority cannot
know what the others have recorded: it serves nothing.

Whoever finds a newer view without knowing that it has its majority votes for it too, as another proxy may
have seen it through, and makes one of its own only if none can win any more. It is the vote of Paxos, with
the epoch as the ballot and the records of the backends as what they accepted. A backend that comes back
without its record has lost its vote, and cannot cast it again before somebody gives it the view that won.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from proxy.control.model import Reason, View
from proxy.control.state import Member, ShardState
from proxy.control.view import beats, next_view, parse


def held(shard: ShardState, member: Member) -> View | None:
    """The view that the member was last seen to hold: its vote."""
    if member.seen is None or member.seen.record is None:
        return None
    return followable(shard, member.seen.record)


def followable(shard: ShardState, record: bytes) -> View | None:
    """The view in a record; None if it is none that we could follow."""
    found = parse(record, shard.pool.name, shard.spec.name)
    return None if isinstance(found, Reason) or not any(map(shard.is_configured, found.in_sync)) else found


def has_majority(shard: ShardState, view: View) -> bool:
    """True if enough backends were seen to hold it."""
    return sum(held(shard, each) == view for each in shard.members) >= shard.votes_needed


def candidate_view(shard: ShardState) -> View | None:
    """The newer view to be recorded before any of our own: one that can still win, or the next round.

    None if nobody shows a view that is newer than ours.
    """
    votes = [held(shard, each) for each in shard.members]
    return elect(votes, shard.votes_needed, above=shard.epoch)


def elect(votes: Sequence[View | None], needed: int, *, above: int) -> View | None:
    """The view that the newest votes ask for.

    Args:
        votes: what each configured backend holds, as far as known.
        needed: how many make a majority of them.
        above: the epoch that has been decided.

    Of several views of the newest epoch the one with most votes that can still win. If all votes are cast
    and none can, nobody has acknowledged anything under any of them, and a next epoch begins with the
    members of the one with most votes.
    """
    newest = max((view.epoch for view in votes if view is not None), default=0)
    if newest <= above:
        return None
    counts = Counter(view for view in votes if view is not None and view.epoch == newest)
    total = sum(counts.values())
    first = next(iter(counts))
    for each in counts:
        if counts[each] > counts[first] or (counts[each] == counts[first] and beats(each, first)):
            first = each
    can_win = len(votes) - (total - counts[first]) >= needed
    return first if can_win else next_view(first, first.in_sync, lead=first.lead)
