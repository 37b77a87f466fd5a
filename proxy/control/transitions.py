"""The one table of the shard state machine: what each finding makes of a backend in each state.

Read by `proxy.control.shard`; total over states and findings, which a test checks. The comment at each
state is what holds for every backend in it. Nothing else in the program changes a backend's state.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from proxy.control.finding import Finding
from proxy.control.model import BackendState


class Effect(Enum):
    """When the new state of a `Move` takes hold."""

    NOW = "now"
    LEAVE = "leave"
    """At once if the view no longer lists it or the shard is lost; else with the view without it."""
    ENTER = "enter"
    """As soon as everybody the view lists can be used; until then a view without the rest comes first."""


@dataclass(frozen=True, slots=True)
class Move:
    """``state`` it moves to, when, and whether its record is to be put back."""

    state: BackendState
    effect: Effect = Effect.NOW
    restore: bool = False


_IN, _JOIN, _STALE, _DOWN = BackendState.IN_SYNC, BackendState.JOINING, BackendState.STALE, BackendState.DOWN
_F = Finding

TRANSITIONS: dict[tuple[BackendState, Finding], Move] = {
    # IN_SYNC: has applied every acknowledged write of the shard, and is in the newest view we know.
    (_IN, _F.CURRENT): Move(_IN),
    (_IN, _F.LAGGING): Move(_IN, restore=True),
    (_IN, _F.UNSURE): Move(_IN),
    (_IN, _F.HELD): Move(_IN),
    (_IN, _F.ELECTED): Move(_IN),
    (_IN, _F.COPYING): Move(_JOIN),
    (_IN, _F.OUTVOTED): Move(_STALE),
    (_IN, _F.OUTSIDE): Move(_STALE),
    (_IN, _F.REBORN): Move(_STALE, Effect.LEAVE),
    (_IN, _F.UNREADABLE): Move(_STALE, Effect.LEAVE),
    (_IN, _F.SUSPECT): Move(_STALE, Effect.LEAVE),
    (_IN, _F.SILENT): Move(_DOWN, Effect.LEAVE),
    # JOINING: its copy is made, or made equal; nobody reads from it. Where the view fans out, it takes writes
    # behind the leader for as long as the view lists it, whatever its state.
    (_JOIN, _F.CURRENT): Move(_IN, Effect.ENTER),
    (_JOIN, _F.LAGGING): Move(_IN, Effect.ENTER, restore=True),
    (_JOIN, _F.UNSURE): Move(_JOIN),
    (_JOIN, _F.HELD): Move(_JOIN),
    (_JOIN, _F.ELECTED): Move(_IN),
    (_JOIN, _F.COPYING): Move(_JOIN, restore=True),
    (_JOIN, _F.OUTVOTED): Move(_STALE),
    (_JOIN, _F.OUTSIDE): Move(_STALE),
    (_JOIN, _F.REBORN): Move(_STALE),
    (_JOIN, _F.UNREADABLE): Move(_STALE),
    (_JOIN, _F.SUSPECT): Move(_STALE),
    (_JOIN, _F.SILENT): Move(_DOWN),
    # STALE: answers, but may lack acknowledged writes; neither read nor written until resynchronised.
    # It is given the newest record all the same, so that it can testify against itself later.
    (_STALE, _F.CURRENT): Move(_IN, Effect.ENTER),
    (_STALE, _F.LAGGING): Move(_IN, Effect.ENTER, restore=True),
    (_STALE, _F.UNSURE): Move(_STALE),
    (_STALE, _F.HELD): Move(_STALE),
    (_STALE, _F.ELECTED): Move(_IN),
    (_STALE, _F.COPYING): Move(_JOIN, restore=True),
    (_STALE, _F.OUTVOTED): Move(_STALE),
    (_STALE, _F.OUTSIDE): Move(_STALE, restore=True),
    (_STALE, _F.REBORN): Move(_STALE),
    (_STALE, _F.UNREADABLE): Move(_STALE),
    (_STALE, _F.SUSPECT): Move(_STALE),
    (_STALE, _F.SILENT): Move(_DOWN),
    # DOWN: nothing usable answers there, as far as we know; what it holds is not known either.
    (_DOWN, _F.CURRENT): Move(_IN, Effect.ENTER),
    (_DOWN, _F.LAGGING): Move(_IN, Effect.ENTER, restore=True),
    (_DOWN, _F.UNSURE): Move(_DOWN),
    (_DOWN, _F.HELD): Move(_DOWN),
    (_DOWN, _F.ELECTED): Move(_IN),
    (_DOWN, _F.COPYING): Move(_JOIN, restore=True),
    (_DOWN, _F.OUTVOTED): Move(_STALE),
    (_DOWN, _F.OUTSIDE): Move(_STALE, restore=True),
    (_DOWN, _F.REBORN): Move(_STALE),
    (_DOWN, _F.UNREADABLE): Move(_STALE),
    (_DOWN, _F.SUSPECT): Move(_DOWN),
    (_DOWN, _F.SILENT): Move(_DOWN),
}
