"""One attempt to bring a backend back, as the procedures see it: the shard, the lease, the account kept.

Made by `proxy.tasks.resync`; used by `proxy.tasks.following` and `proxy.tasks.copying`. Must not know how a
backend is brought back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from proxy.control.event import Event
from proxy.control.fence import Owner
from proxy.control.model import ProbeResult
from proxy.control.reserved import lease_key
from proxy.control.resync import LEASE_SECONDS, Progress, Trouble
from proxy.control.routing import resp_request
from proxy.control.state import ShardState
from proxy.control.view import view_key
from proxy.log import Log
from proxy.tasks import lease
from proxy.tasks.link import Link, LinkError, Talk
from proxy.tasks.prober import probe
from proxy.tasks.wire import ErrorReply, Reply, reason_of

LOOK_SECONDS = 0.05
"""Between two looks at what is waited for."""
REPORT_SECONDS = 5.0
"""Between two log lines about one copy."""
UNDO_SECONDS = 1.0
BATCH_SECONDS = 5.0
"""For one exchange of a batch of keys."""

_log = Log("resync")


class Desk(Protocol):
    """What is needed of the controller, for one shard."""

    def shard(self) -> ShardState:
        """As it is now."""
        ...

    def is_in_use(self) -> bool:
        """False while the shard's keys are with other shards, or on their way there or back."""
        ...

    async def send(self, event: Event) -> None: ...

    async def until(self, condition: Callable[[ShardState], bool], seconds: float) -> bool:
        """True once the condition holds and what follows from it is published; False if it does not."""
        ...


class GivenUp(Exception):
    """For ``trouble``; ``detail`` is the server's reason, if it gave one."""

    def __init__(self, trouble: Trouble, detail: str = "") -> None:
        super().__init__(trouble.value)
        self.trouble = trouble
        self.detail = detail


class NotAllowed(GivenUp):
    """The server at ``address`` does not let us do what the servers' own replication takes."""

    def __init__(self, address: str, detail: str) -> None:
        super().__init__(Trouble.NOT_ALLOWED, detail)
        self.address = address


@dataclass
class Job:
    """The attempt. Its connections are its own: the shared ones are for probes and views.

    Args:
        leader, target: connections to both.
        clock: monotonic seconds.
    """

    desk: Desk
    owner: Owner
    leader: Link
    target: Link
    clock: Callable[[], float]
    progress: Progress
    leased_until: float = 0.0
    reported: float = 0.0
    pauses: list[float] = field(default_factory=list)
    """Seconds of each time that writes were held."""

    def close(self) -> None:
        """Closes both connections."""
        self.leader.close()
        self.target.close()

    @property
    def seconds(self) -> float:
        """For one exchange."""
        return max(self.desk.shard().pool.health.timeout, 2 * LOOK_SECONDS)

    @property
    def is_moot(self) -> bool:
        """The leader is another one by now, or the target is in sync."""
        shard = self.desk.shard()
        return shard.lead != self.leader.address or self.target.address in shard.in_sync

    @property
    def view_key(self) -> str:
        """The reserved key that holds the shard's record."""
        return view_key(self.owner.pool, self.owner.shard)

    async def look(self, link: Link) -> ProbeResult:
        """Asks one of both servers for what probes ask.

        Raises:
            LinkError: it gave no usable answer.
        """
        seen = await probe(link, self.view_key, self.seconds)
        if seen.failure is not None:
            raise LinkError(seen.failure)
        return seen

    async def prolong(self) -> bool:
        """Takes the lease, or keeps it; False if another proxy has it.

        Raises:
            LinkError: the leader gave no usable answer.
        """
        asked = self.clock()
        key = lease_key(self.owner.pool, self.owner.shard)
        is_held = await lease.hold(self.leader, key, self.owner.proxy, LEASE_SECONDS, self.seconds)
        self.leased_until = asked + LEASE_SECONDS if is_held else 0.0
        return is_held

    async def keep_lease(self) -> None:
        """Prolongs the lease in time.

        Raises:
            GivenUp: another proxy has it.
            LinkError: the leader gave no usable answer.
        """
        if self.leased_until - self.clock() < LEASE_SECONDS * 2 / 3 and not await self.prolong():
            raise GivenUp(Trouble.LEASE_LOST)

    def check_lease(self, margin: float = 0.0) -> None:
        """To be called right before what must not happen once another proxy may be at work, or have been.

        Args:
            margin: seconds that it may take.

        Raises:
            GivenUp: the lease has run out by our own clock, or may before that is done.
        """
        if self.leased_until - self.clock() <= margin:
            raise GivenUp(Trouble.LEASE_LOST)

    async def let_go(self) -> None:
        """Gives the lease back, if it is still held."""
        if self.leased_until > self.clock():
            key = lease_key(self.owner.pool, self.owner.shard)
            try:
                await lease.release(self.leader, key, self.owner.proxy, UNDO_SECONDS)
            except LinkError as error:
                _log.debug("lease not given back", reason=error.reason.value)
        self.leased_until = 0.0

    def report(self) -> None:
        """A log line about the progress, now and then."""
        progress, now = self.progress, self.clock()
        if now - self.reported <= REPORT_SECONDS:
            return
        self.reported = now
        left = progress.seconds_left(now)
        _log.info(
            "resynchronising",
            pool=self.owner.pool,
            shard=self.owner.shard,
            backend=progress.target,
            phase=progress.phase.value,
            bytes=progress.done,
            expected_bytes=progress.total,
            bytes_per_second=int(progress.rate(now)),
            seconds_left="unknown" if left is None else round(left),
        )


def is_joining(shard: ShardState, target: str) -> bool:
    """True if the view lists it as joining."""
    return shard.view is not None and target in shard.view.joining


def asking(*words: str | bytes) -> Callable[[Talk], Awaitable[Reply]]:
    """One request to a Redis; an error is a `LinkError`."""

    async def work(talk: Talk) -> Reply:
        (reply,) = await talk(resp_request(*words), 1)
        if isinstance(reply, ErrorReply):
            raise LinkError(reason_of(reply))
        return reply

    return work
