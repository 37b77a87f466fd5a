"""`views: majority`: which view may be followed, and which is to be recorded next, by who has voted for what.

Called by `proxy.control.shard`. A backend votes by taking a record, in sync or not, and takes one of an
epoch only; so of the views that follow one view at most one gets a majority of the *configured* backends,
and only that one counts. Two halves of a network cannot both have it, and who sees no majority cannot
know what the others have recorded: it serves nothing.

Whoever finds a newer view without knowing that it has its majority votes for it too, as another proxy may
have seen it through, and makes one of its own only if none can win any more. It is the vote of Paxos, with
the epoch as the ballot and the records of the backends as what they accepted. Nor is anybody read under a
view when a newer one is known that does not get its votes from those we see: it may have them from others
(`ShardState.is_undecided`).

A backend that comes back without its record, or evicts it, has lost its vote, and cannot cast it again
before it is given a view that won. Not any such view: it may have voted for the next one, which has won by
that vote, or will. What it voted for is of no account any more once a majority of the others has gone from
older records to a view that was proposed when it was known to be blank: whoever counted its vote for another
view of that epoch needs one of them too, and for a later one has shown them the epoch before. So a next view
is recorded first, and the blank one gets that (`can_be_readmitted`).

Of two backends the other one has a part in every view, but cannot make one alone. It is the blank one's vote
that makes the next view win, once the other one has taken it. That view leaves out an epoch: the blank one
may have voted for the one between, and whoever saw that must not take the two for rivals of which neither
won (`skips`). Each of these rules has an instance of `tests/model` that breaks without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from proxy.control.finding import Finding, is_other_life, measure
from proxy.control.model import ProbeResult, Reason, View
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
    return elect(votes, shard.votes_needed, above=shard.epoch, skips=skips(shard))


def note_undecided(shard: ShardState) -> ShardState:
    """The shard, with what it waits for before anybody may be read."""
    if not shard.votes_needed:
        return shard
    waits = shard.is_short or shard.lead is None
    return replace(shard, is_undecided=waits and candidate_view(shard) is not None)


def _is_blank(member: Member) -> bool:
    seen = member.seen
    return not member.silent and seen is not None and seen.record_known and seen.record is None


def note_answer(shard: ShardState, before: Member, result: ProbeResult) -> ShardState:
    """What is known of a member without a record holds for that life of it, while it has none."""
    if result.record is None and not is_other_life(before, result):
        return shard
    return _with_members(
        shard,
        lambda each: (
            replace(each, asked_without=0, readmitted=False) if each.address == result.address else each
        ),
    )


def note_proposal(shard: ShardState, view: View) -> ShardState:
    """Notes who is blank by the time a view is proposed."""
    return _with_members(
        shard, lambda each: replace(each, asked_without=view.epoch) if _is_blank(each) else each
    )


def note_recorded(shard: ShardState, view: View) -> ShardState:
    """A majority went from older records to this view: who was blank when it was proposed may be given it."""
    return _with_members(
        shard,
        lambda each: (
            replace(each, readmitted=True) if _is_blank(each) and each.asked_without == view.epoch else each
        ),
    )


def _with_members(shard: ShardState, change: Callable[[Member], Member]) -> ShardState:
    return replace(shard, members=tuple(map(change, shard.members)))


def must_be_readmitted(shard: ShardState, address: str) -> bool:
    """True if it lost its vote with its record, and may be given none yet but by a commit."""
    is_readmitted = shard.member(address).readmitted and not needs_all(shard)
    return shard.votes_needed > 0 and not is_readmitted


def can_be_readmitted(shard: ShardState) -> bool:
    """True if somebody waits for that, and there are enough others to do without its vote."""
    view = shard.view
    if view is None or view.joining or not shard.votes_needed:
        return False
    voters = sum(not each.silent and held(shard, each) is not None for each in shard.members)
    return voters + needs_all(shard) >= shard.votes_needed and any(
        _is_blank(each)
        and must_be_readmitted(shard, each.address)
        and measure(shard, each) in (Finding.OUTSIDE, Finding.LAGGING)
        for each in shard.members
    )


def needs_all(shard: ShardState) -> bool:
    """True if no view wins without every one of them."""
    return shard.votes_needed == len(shard.members)


def skips(shard: ShardState) -> bool:
    """True if a next view leaves out an epoch: one of two has lost its record, and the other one has not."""
    has_held = any(held(shard, each) is not None for each in shard.members)
    return needs_all(shard) and has_held and any(map(_is_blank, shard.members))


def may_blank_vote(shard: ShardState) -> bool:
    """True if those without a record may take one by a commit: the first view, or with the last vote."""
    if needs_all(shard):
        return True
    if shard.view is not None:
        return False
    votes = [held(shard, each) for each in shard.members]
    if candidate_view(shard) is None:
        return True
    is_begun = all(vote is None or vote.epoch == 1 for vote in votes)
    return is_begun and all(
        vote is not None or _is_blank(each) for vote, each in zip(votes, shard.members, strict=True)
    )


def elect(votes: Sequence[View | None], needed: int, *, above: int, skips: bool = False) -> View | None:
    """The view that the newest votes ask for.

    Args:
        votes: what each configured backend holds, as far as known.
        needed: how many make a majority of them.
        above: the epoch that has been decided.
        skips: one has lost its vote without which none can win; what the other one took may have won.

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
    can_win = not skips and len(votes) - (total - counts[first]) >= needed
    return first if can_win else next_view(first, first.in_sync, lead=first.lead)
