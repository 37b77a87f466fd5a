"""Who leads a shard, who stays in sync with it, or nobody and why.

Called by `proxy.control.shard` after each event; takes what is known of the view's members and
returns a `Choice`. Must not know how it was learnt, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from proxy.control.model import Reason, View


class Standing(Enum):
    """What a member listed in the view is good for."""

    USABLE = "usable"
    """The process the view names, not known to be gone."""
    SUSPECT = "suspect"
    """As usable, but a write failed on it, so it may lack one."""
    REBORN = "reborn"
    """It answers and takes data, but it is a new process or was flushed."""
    ABSENT = "absent"
    """It does not answer, is not ready, or holds a record we must not touch."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A member of the view. ``can_record``: False after it failed to take one, until it answers again.
    ``is_loading``: what it holds is still to be seen."""

    address: str
    standing: Standing
    run: str = ""
    is_empty: bool = True
    can_record: bool = True
    is_loading: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """The members that stay, in order of succession, and who of them leads.

    ``survivors`` empty: nobody, for ``reason``; ``is_final`` then tells a lost shard from one where
    the next probe decides and nothing should change meanwhile. ``runs`` holds new tokens.
    """

    survivors: tuple[str, ...]
    lead: str
    reason: Reason
    runs: Mapping[str, str] = field(default_factory=dict)
    is_final: bool = True


def choose(view: View, candidates: Sequence[Candidate], *, waited: bool) -> Choice:
    """Decides the shard's next membership.

    1. Whoever is usable stays; leadership stays or goes to the next in order.
    2. If only suspects are left, exactly one of them stays: each may lack a write the other has,
       so two would disagree. This is why a write never removes the last in-sync backend.
    3. If all are reborn or absent, the last in-sync survivor is the truth whatever it holds. With
       several, wait until each of them answers (one may be the old process behind a broken network)
       or ``waited`` says that was long enough; then one that holds data, the lead first. One that loads its
       data is waited for as long as that takes, if nobody else holds any.

    Args:
        candidates: one per address of ``view.in_sync`` that is still configured, in that order.
        waited: True once the shard was lost for ``fall`` intervals, three times.
    """
    able = [each for each in candidates if each.can_record]
    usable = tuple(each.address for each in able if each.standing is Standing.USABLE)
    if usable:
        return Choice(usable, view.lead if view.lead in usable else usable[0], Reason.COMMITTED)
    suspects = [each for each in able if each.standing is Standing.SUSPECT]
    if suspects:
        last = _lead_first(view, suspects)[0].address
        return Choice((last,), last, Reason.LAST_COPY)
    if any(each.standing in (Standing.USABLE, Standing.SUSPECT) for each in candidates):
        return Choice((), "", Reason.VIEW_NOT_TAKEN, is_final=False)
    reborn = [each for each in able if each.standing is Standing.REBORN]
    if not reborn:
        return Choice((), "", Reason.NOBODY_REACHABLE)
    has_data_to_come = any(each.is_loading for each in candidates) and all(each.is_empty for each in reborn)
    if (len(reborn) < len(candidates) and not waited) or has_data_to_come:
        return Choice((), "", Reason.WAITING_FOR_OTHERS)
    ordered = sorted(_lead_first(view, reborn), key=lambda each: each.is_empty)
    truth = ordered[0]
    return Choice((truth.address,), truth.address, Reason.LAST_COPY, {truth.address: truth.run})


def _lead_first(view: View, candidates: Sequence[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda each: each.address != view.lead)


def bootstrap(mode: str, reachable: Sequence[Candidate], *, configured: int, waited: bool) -> Choice:
    """First contact with a shard none of whose backends has a record.

    Args:
        mode: ``sync``: the first listed is the truth unless it is empty and another is not; empty ones
            agree with an empty truth, all others are to be resynchronised. ``trust``: whoever answers
            is in sync. ``refuse``: nobody, until the operator decides.
        reachable: those that answer and take writes, in configuration order.
        configured: how many there are in all. If those that answer are all empty and some do not
            answer, the data may be with them, so that is waited for (``waited``) first.
    """
    if mode == "refuse":
        return Choice((), "", Reason.BOOTSTRAP_REFUSED)
    if not reachable:
        return Choice((), "", Reason.NOBODY_REACHABLE)
    holders = [each for each in reachable if not each.is_empty]
    if not holders and len(reachable) < configured and not waited:
        return Choice((), "", Reason.WAITING_FOR_OTHERS)
    chosen = list(reachable) if mode == "trust" or not holders else holders[:1]
    runs = {each.address: each.run for each in chosen}
    return Choice(tuple(runs), chosen[0].address, Reason.BOOTSTRAPPED, runs)


def is_panic(total: int, silent: int, threshold: float) -> bool:
    """True if so many backends fell silent at once that the fault is our own network.

    Refusals do not count as silence: whoever refuses has been reached.
    """
    return total > 0 and silent > total * threshold
