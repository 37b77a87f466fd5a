"""The shard state machine: what an event makes of each backend, and what is to be done about it.

Called by `proxy.tasks.controller` (the only writer of shard states) as ``step(shard, event, now)``.
Must not know sockets, tasks or the clock; ``now`` is an argument.

    event ──► facts about members ──► finding per member ──► TRANSITIONS[state, finding] ──► new states
                    │                                                  │
                    └──► newer view seen: adopt                        └──► failover.choose ──► Commit a view

Every decision is made from the facts as they stand after the event, never from the event alone, so
a lost or doubled event changes nothing that the next probe does not put right.

The table is in `proxy.control.transitions`, the words for what is found in `proxy.control.finding`.

The law that keeps acknowledged writes: the backends in state in_sync are exactly the view's in-sync
set, or nobody (the shard is lost). A member that must go stays in_sync until the view without it is
recorded on a survivor; the engine holds writes for that long and has stopped reading from it.

Longer than other files, so that all that may happen to a shard in one step can be read in one place.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from proxy.control import failover, quorum, succession
from proxy.control.event import (
    Action,
    Admit,
    CommitFailed,
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
from proxy.control.failover import Candidate, Choice, Standing
from proxy.control.finding import (
    Finding,
    as_candidate,
    candidate,
    explain,
    is_other_life,
    is_ready,
    measure,
    unreadable,
)
from proxy.control.model import (
    BLINDING,
    BackendState,
    Incarnation,
    ProbeResult,
    Reason,
    Transition,
    View,
)
from proxy.control.proposal import commit_of
from proxy.control.state import Member, ShardState, routing_facts
from proxy.control.transitions import TRANSITIONS, Effect
from proxy.control.view import beats, encode, first_view, is_conflict, next_view

CONTACT_TRIES = 2
"""A first probe that timed out is tried once more before the shard goes on without the backend: a busy
machine at start is common, and starting without a member costs its resynchronisation."""


def step(shard: ShardState, event: Event, now: float) -> tuple[ShardState, tuple[Action, ...]]:
    """The shard after the event, and what is to be done.

    Events about addresses that are not configured, and outcomes of commits that are no longer
    pending, change nothing. The routing table is to be published whenever ``revision`` rose.
    """
    return _Step(shard, now).take(event)


class _Step:
    """One step in progress: the shard being rewritten and the actions so far."""

    def __init__(self, shard: ShardState, now: float) -> None:
        self.before = shard
        self.shard = shard
        self.now = now
        self.actions: list[Action] = []
        self.is_republished = False

    def take(self, event: Event) -> tuple[ShardState, tuple[Action, ...]]:
        getattr(self, _HANDLERS[type(event)])(event)
        if self.shard.keeps_view:
            self._settle()
        else:
            self._settle_alone()
        self._log_view()
        if self.is_republished or routing_facts(self.shard) != routing_facts(self.before):
            self.shard = replace(self.shard, revision=self.shard.revision + 1)
        return self.shard, tuple(dict.fromkeys(self.actions))

    # Facts.

    def on_probed(self, event: Probed) -> None:
        result = event.result
        if not self.shard.is_configured(result.address):
            return
        self.shard = replace(self.shard, is_short=False)
        member = self.shard.member(result.address)
        rules = self.shard.pool.health
        if result.failure is not None:
            fails = member.fails + 1
            is_contacted = member.contacted or fails >= CONTACT_TRIES or result.failure is not Reason.TIMEOUT
            # A lost connection is reason to go on without it sooner. Where nobody else is left, giving up
            # costs every read: the last one keeps its tries, and they are made at once.
            is_last = self.shard.in_sync == (member.address,)
            is_gone = fails >= rules.fall or (member.warned and not is_last) or not member.contacted
            if not is_contacted or (is_last and member.warned and not is_gone):
                self.actions.append(ProbeNow(result.address))
            # What our own network may be to blame for is no reason to go on where only a majority may.
            is_excused = event.panic and not self.shard.votes_needed
            silent = member.silent or (is_gone and not is_excused)
            self._note(
                member,
                fails=fails,
                passes=0,
                failure=result.failure,
                silent=silent,
                warned=member.warned and is_last,
                contacted=is_contacted,
            )
            return
        passes = member.passes + 1
        # A shard nobody leads has nothing to lose by believing the first answer.
        is_back = passes >= rules.rise or not member.contacted or self.shard.lead is None
        if member.seen is not None and not member.silent and is_other_life(member, result):
            self._note(member, missing=0, flushes=None)
            member = self.shard.member(result.address)
        missing = member.missing + 1 if result.record_known and result.record is None else 0
        self._note(
            member,
            seen=result,
            contacted=True,
            fails=0,
            passes=passes,
            failure=Reason.NONE,
            silent=member.silent and not is_back,
            warned=False,
            unrecorded=False,
            missing=missing,
            flushes=result.flushes if result.record is not None else member.flushes,
            lineage=result.lineage if result.record is not None else member.lineage,
        )
        self.shard = quorum.note_answer(self.shard, member, result)
        if result.record is not None:
            self._adopt(result.record, result.address)
        if member.doubted and result.record_known and result.record == self.shard.record:
            self._note(self.shard.member(result.address), doubted=False)
            self.is_republished = True

    def on_connection_failed(self, event: ConnectionFailed) -> None:
        if self.shard.is_configured(event.address):
            self._note(self.shard.member(event.address), warned=True)
            # Another proxy may have admitted who was joining, and then there is somebody to go on with.
            joining = self.shard.view.joining if self.shard.view is not None else ()
            self.actions.extend(map(ProbeNow, (event.address, *filter(self.shard.is_configured, joining))))

    def on_verify_failed(self, event: VerifyFailed) -> None:
        # What the connection showed may be older than what we know by now; a fresh look decides.
        if self.shard.is_configured(event.address):
            self._note(self.shard.member(event.address), doubted=True)
            self.actions.append(ProbeNow(event.address))

    def on_write_failed(self, event: WriteFailed) -> None:
        if not self.shard.is_configured(event.address):
            return
        member = self.shard.member(event.address)
        if member.state is not BackendState.IN_SYNC and event.address not in self.shard.fed:
            return
        self._note(member, write_failed=True)
        self.actions.append(ProbeNow(event.address))

    def on_commit_won(self, event: CommitWon) -> None:
        if event.view != self.shard.pending:
            return
        record = encode(event.view)
        told = (*event.view.in_sync, *event.view.joining)
        if quorum.needs_all(self.shard):
            told = tuple(each.address for each in self.shard.members)
        for address in filter(self.shard.is_configured, told):
            member = self.shard.member(address)
            if address not in event.missed and member.seen is not None:
                # What was found before (nothing, after a flush) is out of date: we wrote it ourselves.
                seen = replace(member.seen, record=record, record_known=True)
                self._note(member, seen=seen, missing=0, flushes=seen.flushes, lineage=seen.lineage)
        if event.is_fresh:
            self.shard = quorum.note_recorded(self.shard, event.view)
        self._follow(event.view, record, self.shard.reason)
        self.actions.extend(ProbeNow(address) for address in event.missed)

    def on_commit_lost(self, event: CommitLost) -> None:
        if event.view != self.shard.pending:
            return
        self._give_up(event.view, event.placed)
        rival = None if event.record is None else quorum.followable(self.shard, event.record)
        if event.record is not None:
            self._note_record(event.address, event.record)
            if event.placed and rival is not None and self._end_tie(event.view, rival):
                return
            self._adopt(event.record, event.address)
        if self.shard.is_configured(event.address):
            is_vote = self.shard.votes_needed > 0 and rival is not None
            if self.shard.epoch < event.view.epoch and not is_vote:
                # It holds nothing we can follow: it will refuse the next try as well.
                self._note(self.shard.member(event.address), unrecorded=True)
            self.actions.append(ProbeNow(event.address))

    def _end_tie(self, ours: View, rival: View) -> bool:
        """Somebody took our view and somebody the rival: either may count elsewhere, so neither is followed.
        Who is in both has what was acknowledged under either, and goes on; False if nobody is."""
        common = [each for each in rival.in_sync if each in ours.in_sync and self.shard.is_configured(each)]
        if self.shard.votes_needed or rival.epoch != ours.epoch or not common:
            return False
        lead = rival.lead if rival.lead in common else common[0]
        self._propose(next_view(rival, common, lead=lead), Reason.CONFLICT)
        return True

    def on_commit_failed(self, event: CommitFailed) -> None:
        if event.view != self.shard.pending:
            return
        self._give_up(event.view, event.placed)
        for address in filter(self.shard.is_configured, event.missed):
            self._note(self.shard.member(address), warned=True)
            self.actions.append(ProbeNow(address))
        if self.shard.is_configured(event.address):
            self._note(self.shard.member(event.address), unrecorded=True, warned=True)
            self.actions.append(ProbeNow(event.address))

    def _give_up(self, view: View, placed: bool) -> None:
        if self.shard.votes_needed:
            self.shard = replace(self.shard, pending=None, is_short=True)
        else:
            self.shard = replace(self.shard, pending=None, tried=view if placed else self.shard.tried)

    def _note_record(self, address: str, record: bytes) -> None:
        """What a commit was shown counts like a probe: who shows what we cannot follow is asked no more."""
        if self.shard.is_configured(address):
            member = self.shard.member(address)
            if member.seen is not None:
                self._note(member, seen=replace(member.seen, record=record, record_known=True))

    def on_join(self, event: Join) -> None:
        view = self.shard.view
        if view is None or not self._is_settled() or not self.shard.is_configured(event.address):
            return
        is_renewed = event.fans_out and self.shard.fed == (event.address,)
        is_renewed = is_renewed and view.run_of(event.address) == event.run
        is_free = not view.joining and self.shard.member(event.address).state is _STALE
        if is_free or is_renewed:
            joining, runs = (event.address,), {event.address: event.run}
            following = next_view(
                view, view.in_sync, lead=view.lead, runs=runs, joining=joining, fans_out=event.fans_out
            )
            self._propose(following, Reason.JOINING)

    def on_admit(self, event: Admit) -> None:
        view = self.shard.view
        if view is None or view.epoch != event.epoch or event.address not in view.joining:
            return
        if self._is_settled():
            members, runs = (*view.in_sync, event.address), {event.address: event.run}
            self._propose(next_view(view, members, lead=view.lead, runs=runs), Reason.REJOINED)

    def on_dismiss(self, event: Dismiss) -> None:
        view = self.shard.view
        if view is not None and event.address in view.joining and self.shard.pending is None:
            self._note_joining_since(-math.inf)  # over: `_settle` proposes the view without it

    def _is_settled(self) -> bool:
        """True if the view is as it should be and nothing is on its way to change it."""
        if self.shard.pending is not None or self.shard.view is None or self.shard.lead is None:
            return False
        choice = self._choice()
        return choice.survivors == self.shard.view.in_sync and not choice.runs

    # Views.

    def _adopt(self, record: bytes, source: str) -> None:
        """Follows the view in the record if it beats ours; counts a conflict once per meeting."""
        if not self.shard.keeps_view or record == self.shard.record:
            return
        found = quorum.followable(self.shard, record)
        if found is None:
            return
        if self.shard.votes_needed:
            if found.epoch > self.shard.epoch and quorum.has_majority(self.shard, found):
                self._follow(found, record, Reason.ADOPTED)
            return
        pending = self.shard.pending
        if pending is not None and found.epoch <= pending.epoch:
            return  # our own, or a rival that was first or will be refused: the outcome tells, and soon
        ours = self.shard.view
        reason = Reason.ADOPTED
        if ours is not None:
            if is_conflict(found, ours):
                if source not in found.in_sync:
                    return  # it was told as one that leaves, perhaps as the only one; that decides nothing
                if record != self.shard.rival:
                    self.shard = replace(self.shard, conflicts=self.shard.conflicts + 1, rival=record)
                reason = Reason.CONFLICT
            if not beats(found, ours):
                return
        self._follow(found, record, reason)

    def _follow(self, view: View, record: bytes, reason: Reason) -> None:
        """Takes the view as ours. A commit from the old one can no longer win and is forgotten; its
        outcome, should it come, no longer matches."""
        before = self.shard.view
        was_lost = before is not None and self.shard.lead is None
        known = before.in_sync if before is not None else view.in_sync
        # Who is fed on has missed what it has missed.
        fed_on = set(self.shard.fed) & set(view.joining if view.fans_out else ())
        tried = self.shard.tried
        if tried is not None and (tried == view or tried.epoch < view.epoch):
            tried = None
        self.shard = replace(self.shard, view=view, record=record, pending=None, tried=tried, reason=reason)
        self.shard = succession.note(self.shard, before, view)
        self.shard = quorum.note_undecided(self.shard)
        self._note_joining_since(self.now)
        for member in self.shard.members:
            if member.address not in view.in_sync:
                left = self.now if before is None or member.address in before.in_sync else member.left
                is_failing = member.write_failed and member.address in fed_on
                self._note(member, write_failed=is_failing, left=left)
            elif member.address not in known:
                self._believe(member)
        if self.shard.has_strangers:
            # Whoever has them configured reads from them. Nothing is served before a view without them.
            for member in self.shard.members:
                if member.state is BackendState.IN_SYNC:
                    self._enter(member, BackendState.STALE, Reason.OTHER_MEMBERS)
            return
        survivors = self._choice().survivors
        if (
            self.shard.is_outvoted
            or not self.shard.is_contacted
            or not survivors
            or (was_lost and survivors != view.in_sync)
        ):
            return
        for member in self.shard.members:
            if member.address in view.in_sync:
                # Even one we cannot reach: our writes to it must fail and wait for the next view, since
                # this view tells every other proxy that it may be read.
                self._move(member, Finding.ELECTED)

    def _believe(self, member: Member) -> None:
        """Takes the view's word for a member that was brought back: it was busy with that until just now,
        so what our probes last saw is no reason to have it leave again. The next probe is."""
        view = self.shard.view
        assert view is not None
        seen = member.seen or ProbeResult(member.address)
        seen = replace(
            seen,
            failure=None,
            condition=None,
            incarnation=Incarnation(view.run_of(member.address)),
            record=self.shard.record,
            record_known=True,
        )
        self._note(member, seen=seen, silent=False, fails=0, failure=Reason.NONE, warned=False, missing=0)
        self._note(self.shard.member(member.address), unrecorded=False)
        self.actions.append(ProbeNow(member.address))

    # Judgement.

    def _settle(self) -> None:
        """Draws states from facts, then starts the commit that is due, if any."""
        if not self.shard.is_contacted:
            return
        view = self.shard.view
        if view is None:
            self._contact()
            return
        self.shard = quorum.note_undecided(self.shard)
        choice = self._choice()
        if choice.reason is Reason.LAST_COPY and choice.survivors == view.in_sync:
            self._keep_last(choice)
            choice = self._choice()
        is_outvoted = self.shard.is_outvoted
        is_lost = is_outvoted or (not choice.survivors and choice.is_final)
        agrees = choice.survivors == view.in_sync and not choice.runs
        for member in self.shard.members:
            self._judge(member, is_lost=is_lost, agrees=agrees)
        if is_lost:
            since = self.shard.lost_since
            reason = Reason.NO_MAJORITY if is_outvoted else choice.reason
            self.shard = replace(self.shard, lost_since=self.now if since is None else since, reason=reason)
        elif self.shard.lead is not None and self.shard.lost_since is not None:
            reason = Reason.ANSWERS if self.shard.reason in _WAITS else self.shard.reason
            self.shard = replace(self.shard, lost_since=None, reason=reason)
        if not self.shard.hears_enough or self._vote():
            return
        is_over = self._is_joining_over(view)
        # What is left of a view of ours that lost must not be found and win: a newer one ends it.
        is_haunted = self.shard.tried is not None and self.shard.tried.epoch == view.epoch
        is_awaited = quorum.can_be_readmitted(self.shard)
        is_due = is_over or is_haunted or is_awaited or not agrees
        if choice.survivors and self.shard.pending is None and is_due:
            following = next_view(view, choice.survivors, lead=choice.lead, runs=choice.runs)
            self._propose(following, self._cause(choice, is_over=is_over, agrees=agrees))
        elif self.shard.held_epoch and self.shard.lead is not None:
            # Clients wait: what follows is in the leader's record milliseconds from now.
            self.actions.append(ProbeNow(self.shard.lead))

    def _cause(self, choice: Choice, *, is_over: bool, agrees: bool) -> Reason:
        if agrees and self.shard.votes_needed and not is_over:
            return Reason.RESTARTED  # somebody lost its record, and can vote again when it has this one
        if agrees:
            return Reason.NOT_JOINED if is_over else Reason.CONFLICT
        return Reason.OTHER_MEMBERS if self.shard.has_strangers else choice.reason

    def _vote(self) -> bool:
        """With `views: majority`: True if nothing of our own may be proposed now; a newer view that somebody
        shows goes first."""
        if not self.shard.votes_needed:
            return False
        newer = quorum.candidate_view(self.shard)
        if newer is not None and self.shard.pending is None and not self.shard.is_short:
            self._propose(newer, Reason.ADOPTED)
        return newer is not None or self.shard.is_short

    def _is_joining_over(self, view: View) -> bool:
        """Whoever had the writes held is through by now, or gone; or one that is fed cannot be any more."""
        if not view.joining or self.shard.joining_since == -math.inf:
            return bool(view.joining)
        if not view.fans_out:
            return self.now - self.shard.joining_since >= 2 * self.shard.pool.hold_limit
        if not all(map(self.shard.is_configured, view.joining)):
            return True  # another configuration has it, and would take our writes for its own
        return any(measure(self.shard, self.shard.member(each)) in _UNFIT for each in view.joining)

    def _note_joining_since(self, moment: float) -> None:
        self.shard = replace(self.shard, joining_since=moment)

    def _keep_last(self, choice: Choice) -> None:
        """A write never removes the last in-sync backend: publish it again, so that what waited goes on."""
        for address in choice.survivors:
            member = self.shard.member(address)
            if member.write_failed:
                self._note(member, write_failed=False)
                self.is_republished = True

    def _judge(self, member: Member, *, is_lost: bool, agrees: bool) -> None:
        finding = measure(self.shard, member)
        move = TRANSITIONS[member.state, finding]
        if finding is Finding.UNSURE or (finding is Finding.OUTSIDE and member.state is BackendState.IN_SYNC):
            self.actions.append(ProbeNow(member.address))
        if move.restore and self._wants_record(member):
            is_blank = member.seen is not None and member.seen.record is None
            is_elected = self.shard.votes_needed > 0
            self.actions.append(Restore(member.address, self.shard.record, is_blank, is_elected))
        is_listed = self.shard.view is not None and member.address in self.shard.view.in_sync
        if move.effect is Effect.LEAVE and is_listed and not is_lost:
            self._note(member, leaving=explain(self.shard, member, finding))
            return
        if member.leaving is not Reason.NONE and finding in _STAYING:
            self._note(member, leaving=Reason.NONE)
        if move.effect is Effect.ENTER and not agrees:
            return
        self._move(member, finding)

    def _wants_record(self, member: Member) -> bool:
        seen, view = member.seen, self.shard.view
        if seen is None or not seen.record_known or seen.record == self.shard.record:
            return False
        if seen.record is None and quorum.must_be_readmitted(self.shard, member.address):
            return False
        if view is None or member.address not in view.joining:
            return True
        # What follows the leader by itself has its record too; and one that is missing may mean a flush.
        return view.fans_out and (seen.record is not None or member.missing > 1)

    def _propose(self, view: View, reason: Reason) -> None:
        if quorum.skips(self.shard):
            view = replace(view, epoch=view.epoch + 1)
        self.shard = replace(quorum.note_proposal(self.shard, view), pending=view, reason=reason)
        self.actions.append(commit_of(self.shard, view))

    def _contact(self) -> None:
        """No view yet: wait for every first probe, then let bootstrap choose."""
        if self.shard.pending is not None:
            return
        if self.shard.lost_since is None:
            self.shard = replace(self.shard, lost_since=self.now)
        if not self.shard.hears_enough:
            choice = Choice((), "", Reason.NO_MAJORITY)
        elif self._vote():
            return
        else:
            choice = self._first_choice()
        self.shard = replace(self.shard, reason=choice.reason)
        for member in self.shard.members:
            if member.silent:
                self._enter(member, BackendState.DOWN, member.failure)
            elif not choice.survivors:
                self._enter(member, BackendState.STALE, self._first_impression(member, choice))
        if choice.survivors:
            names = self.shard.pool.name, self.shard.spec.name
            self._propose(first_view(*names, choice.lead, choice.runs), choice.reason)

    def _first_choice(self) -> Choice:
        """Bootstrap's choice, unless somebody holds a record that we cannot read: then nothing is touched."""
        shard = self.shard
        for member in shard.members:
            damage = unreadable(shard, member)
            if damage is not None:
                return Choice((), "", damage)
        reachable = [
            as_candidate(member, Standing.USABLE)
            for member in shard.members
            if not member.silent and not member.unrecorded and is_ready(member.seen)
        ]
        choice = failover.bootstrap(
            shard.pool.bootstrap, reachable, configured=len(shard.members), waited=self._has_waited()
        )
        return choice if not choice.survivors else self._unless_hidden(choice, reachable)

    def _unless_hidden(self, choice: Choice, reachable: Sequence[Candidate]) -> Choice:
        """Nobody while one answers without letting us look (it loads its data) that may be the truth by the
        same rule: it will tell, and would be emptied otherwise, however long it has been waited for."""
        counted: Iterable[Member] = self.shard.members
        holders = [each.address for each in reachable if not each.is_empty]
        if self.shard.pool.bootstrap == "sync" and holders:
            counted = itertools.takewhile(lambda each: each.address != holders[0], counted)
        for member in counted:
            condition = member.seen.condition if member.seen is not None and not member.silent else None
            if condition in BLINDING:
                return Choice((), "", Reason(condition.value))
        return choice

    def _settle_alone(self) -> None:
        """Without replicas the first backend is the truth, whatever process it is."""
        for position, member in enumerate(self.shard.members):
            if not member.contacted:
                continue
            if member.write_failed:
                self._note(member, write_failed=False)
                self.is_republished = True
                member = self.shard.members[position]
            if member.silent:
                self._enter(member, BackendState.DOWN, member.failure)
            elif position == 0:
                self._enter(member, BackendState.IN_SYNC, explain(self.shard, member, Finding.CURRENT))
            else:
                self._enter(member, BackendState.STALE, Reason.NOT_REPLICATED)
        lost = self.shard.lead is None
        self.shard = replace(
            self.shard,
            lost_since=(self.shard.lost_since or self.now) if lost else None,
            reason=Reason.NOBODY_REACHABLE if lost else Reason.ANSWERS,
        )

    def _has_waited(self) -> bool:
        since = self.shard.lost_since
        return since is not None and self.now - since >= self.shard.waits_long

    def _choice(self) -> Choice:
        assert self.shard.view is not None
        candidates = [
            candidate(self.shard, self.shard.member(address))
            for address in self.shard.view.in_sync
            if self.shard.is_configured(address)
        ]
        return failover.choose(self.shard.view, candidates, waited=self._has_waited())

    def _first_impression(self, member: Member, choice: Choice) -> Reason:
        condition = member.seen.condition if member.seen else None
        damage = unreadable(self.shard, member)
        return damage or (Reason(condition.value) if condition is not None else choice.reason)

    # Writing.

    def _note(self, member: Member, **facts: object) -> None:
        changed = replace(member, **facts)  # type: ignore[arg-type]
        members = tuple(changed if each.address == member.address else each for each in self.shard.members)
        self.shard = replace(self.shard, members=members)

    def _move(self, member: Member, finding: Finding) -> None:
        member = self.shard.member(member.address)
        self._enter(member, TRANSITIONS[member.state, finding].state, explain(self.shard, member, finding))

    def _enter(self, member: Member, state: BackendState, reason: Reason) -> None:
        """The only place where a member's state changes, and so the only place that reports it."""
        member = self.shard.member(member.address)
        if state is member.state and reason is member.reason:
            return
        since = member.since if state is member.state else self.now
        self._note(member, state=state, reason=reason, since=since, leaving=Reason.NONE)
        self.actions.append(
            Transition(member.address, member.state.value, state.value, reason, self.shard.epoch)
        )

    def _log_view(self) -> None:
        if self.shard.view is not None and self.shard.view != self.before.view:
            old = self.before.lead or "nobody"
            self.actions.append(
                Transition("", old, self.shard.lead or "nobody", self.shard.reason, self.shard.epoch)
            )


_STALE = BackendState.STALE
_WAITS = frozenset({Reason.NOBODY_REACHABLE, Reason.WAITING_FOR_OTHERS, Reason.NO_MAJORITY})
_UNFIT = frozenset({Finding.SILENT, Finding.REBORN, Finding.UNREADABLE, Finding.SUSPECT})
"""Findings about one that is fed by which it cannot become equal any more."""
_STAYING = frozenset({Finding.CURRENT, Finding.LAGGING, Finding.HELD, Finding.ELECTED})

_HANDLERS: dict[type, str] = {
    Probed: "on_probed",
    ConnectionFailed: "on_connection_failed",
    VerifyFailed: "on_verify_failed",
    WriteFailed: "on_write_failed",
    CommitWon: "on_commit_won",
    CommitLost: "on_commit_lost",
    CommitFailed: "on_commit_failed",
    Join: "on_join",
    Admit: "on_admit",
    Dismiss: "on_dismiss",
}
