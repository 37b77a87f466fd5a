"""What can happen to a shard, and what can be done about it: events in, actions out, all frozen.

Made and performed by `proxy.tasks.controller`, judged by `proxy.control.shard`. Knows no rules.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.control.model import ProbeResult, Reason, Transition, View


@dataclass(frozen=True, slots=True)
class Probed:
    """A probe ended. ``panic``: so many backends are silent that silence proves nothing."""

    result: ProbeResult
    panic: bool = False


@dataclass(frozen=True, slots=True)
class ConnectionFailed:
    """The engine lost, or could not make, a connection."""

    address: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class VerifyFailed:
    """A new connection of the engine showed another record or another process."""

    address: str


@dataclass(frozen=True, slots=True)
class WriteFailed:
    """A write others may have applied failed here; clients wait until the view says so."""

    address: str


@dataclass(frozen=True, slots=True)
class CommitWon:
    """The pending view is recorded on a survivor; ``missed`` could not be told, or lacked the old record.

    ``is_fresh``: a majority had an older record until then, where votes are counted.
    """

    view: View
    missed: tuple[str, ...] = ()
    is_fresh: bool = False


@dataclass(frozen=True, slots=True)
class CommitLost:
    """Another proxy was first; ``record`` is what stands there now (None: it vanished, look again).

    ``placed``: somebody took our view before, and may still show it.
    """

    view: View
    address: str
    record: bytes | None
    placed: bool = False


@dataclass(frozen=True, slots=True)
class CommitFailed:
    """``address`` could not take the pending view; ``placed`` as in `CommitLost`.

    Or too few did for a majority, and nobody in particular is to blame (""): ``missed`` could not be told.
    """

    view: View
    address: str
    reason: Reason
    placed: bool = False
    missed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Join:
    """A stale backend can come closer: a view that lists it as joining is wanted.

    ``run`` is the token of its process. ``fans_out``: writes go to it from then on; otherwise it follows
    the leader by itself, and they are held. One that is fed already is given a new epoch: whoever began to
    fill it under the old one cannot have it admitted any more.
    """

    address: str
    run: str = ""
    fans_out: bool = False


@dataclass(frozen=True, slots=True)
class Admit:
    """It holds all that the leader does, and under the view of ``epoch`` nobody has written since.

    ``run`` is the token of the process that was found to be so.
    """

    address: str
    run: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Dismiss:
    """It did not work out: writes go on without it."""

    address: str


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """What a worker saw, as `_engine.Event` tells it; backends by position."""

    kind: str
    pool: int = 0
    shard: int = 0
    backend: int = 0
    table_epoch: int = 0
    detail: str = ""


Event = (
    Probed
    | ConnectionFailed
    | VerifyFailed
    | WriteFailed
    | CommitWon
    | CommitLost
    | CommitFailed
    | Join
    | Admit
    | Dismiss
)


@dataclass(frozen=True, slots=True)
class Commit:
    """Record ``view`` by compare-and-set on its in-sync members, in order, and on those that join.

    ``arbiters`` are those that leave and stood before the first who stays. They are written first, if
    they answer at all: two proxies that each blame another backend would otherwise both win, each on
    the survivors of its own view. ``witnesses`` leave too and stood behind: they are told with the rest,
    since the first may die, and any of them that knows a rival means that we have lost.

    With ``needed`` it counts as recorded once so many have taken it, whoever they are; backends that are
    in neither view are then among the witnesses.

    ``blank`` names those known to hold no record. Where one is missing otherwise, the member was
    flushed since it was last asked, and writing would hide that for ever: it must be refused. Where votes
    are counted, and this is not the first view, they are told last, and only if all others had an older one.

    ``skips``: the view leaves out an epoch, and does not replace one of that (`quorum.skips`).
    """

    view: View
    blank: tuple[str, ...] = ()
    arbiters: tuple[str, ...] = ()
    witnesses: tuple[str, ...] = ()
    needed: int = 0
    skips: bool = False


@dataclass(frozen=True, slots=True)
class Restore:
    """Put the current record on ``address`` unless something newer is there; ``blank`` as in `Commit`.

    ``elected``: a majority has it, so that no other view of its epoch counts.
    """

    address: str
    record: bytes
    blank: bool = False
    elected: bool = False


@dataclass(frozen=True, slots=True)
class ProbeNow:
    """Do not wait for the interval."""

    address: str


Action = Commit | Restore | ProbeNow | Transition
