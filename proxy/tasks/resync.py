"""Brings the stale backends of one shard back, one at a time, and keeps account of it.

Made by `proxy.tasks.controller`, one per shard; asked for progress by the status page and metrics. When and
which is decided in `proxy.control.resync`; how is the procedures' business. Changes no shard state.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Protocol

import trio

from proxy.control.fence import Owner
from proxy.control.model import BackendState
from proxy.control.resync import Phase, Progress, Trouble, Way, backoff, choose_way, pick
from proxy.control.state import ShardState
from proxy.log import Log
from proxy.tasks.copying import Copying
from proxy.tasks.following import Following
from proxy.tasks.job import LOOK_SECONDS, Desk, GivenUp, Job, NotAllowed
from proxy.tasks.link import Link, LinkError
from proxy.tasks.status import Sample
from proxy.tasks.wire import listing_reader

_log = Log("resync")
_FIRST_PHASES = {Way.FOLLOW: Phase.LINKING, Way.COPY: Phase.PREPARING}


class Procedure(Protocol):
    """A way to bring a backend back, for one attempt."""

    async def work(self) -> None:
        """Returns once the target is in sync; raises `GivenUp` or `LinkError` if that did not work out."""
        ...

    async def undo(self) -> None:
        """Leaves the target in a state from which the next attempt can begin."""
        ...


class Resync:
    """The work for one shard.

    Args:
        desk: the shard.
        owner: names this proxy's connections for the shard.
        limiter: how many shards of the pool may be at it at once.
        clock: monotonic seconds.
    """

    def __init__(
        self, desk: Desk, owner: Owner, limiter: trio.CapacityLimiter, clock: Callable[[], float]
    ) -> None:
        self._desk = desk
        self._owner = owner
        self._limiter = limiter
        self._clock = clock
        self._asked = trio.Event()
        self._wanted: str | None = None
        self._retry_at = 0.0
        self._failures = 0
        self._refusing: set[str] = set()
        self._job: Job | None = None
        self._scope = trio.CancelScope()
        self._results: Counter[tuple[str, str]] = Counter()
        self._pauses = [0, 0.0]

    def __repr__(self) -> str:
        return f"<Resync {self._owner.pool}/{self._owner.shard} {self.progress}>"

    @property
    def progress(self) -> Progress | None:
        """Of the attempt under way."""
        return self._job.progress if self._job is not None and self._job.leased_until else None

    def ask(self, target: str | None) -> None:
        """Has ``target``, or the first that is stale, brought back now, whatever the configuration says."""
        self._wanted = target
        self._retry_at = 0.0
        self._asked.set()

    def stop(self) -> None:
        """Ends the attempt under way: the shard's keys are with others, and it will be emptied. Nothing that
        was read from it before may be written to its other backends after that."""
        self._scope.cancel()

    def samples(self) -> Iterator[Sample]:
        """What is counted here, for ``/metrics``."""
        place = (self._owner.pool, self._owner.shard)
        for (target, result), count in self._results.items():
            yield "resync_runs_total", (*place, target, result), float(count)
        yield "resync_switches_total", place, float(self._pauses[0])
        yield "resync_write_pause_seconds_total", place, self._pauses[1]
        progress = self.progress
        if progress is not None:
            yield "resync_copied_bytes", (*place, progress.target), float(progress.done)
            yield "resync_expected_bytes", (*place, progress.target), float(progress.total)

    async def run(self) -> None:
        """Never returns."""
        while True:
            is_asked = await self._wait_turn()
            if self._next(is_asked) is None:
                if is_asked and not self._is_stale(self._desk.shard()):
                    self._asked = trio.Event()
                continue
            is_ours = False
            async with self._limiter:
                # While it waited for others, who leads may have changed, or who is stale.
                found = self._next(is_asked)
                if found is None:
                    continue
                with trio.CancelScope() as self._scope:
                    is_ours = await self._bring_back(*found)
            if is_asked and is_ours:
                self._asked = trio.Event()

    def _next(self, is_asked: bool) -> tuple[ShardState, str, str] | None:
        """The shard as it is, its leader, and who is to be brought back; None if nobody is, or not now."""
        shard = self._desk.shard()
        # What somebody was asked to begin is finished, whatever has become of him.
        is_wanted = is_asked or shard.pool.resync_auto or bool(shard.fed)
        if not is_wanted or (not is_asked and self._clock() < self._retry_at):
            return None
        target = pick(shard, self._clock(), self._wanted if is_asked else None)
        if target is None or shard.lead is None or not self._desk.is_in_use():
            return None
        return shard, shard.lead, target

    def _note_failure(self, error: Exception) -> float:
        """Seconds until the next attempt, which may be another way."""
        if isinstance(error, NotAllowed) and self._desk.shard().pool.may_copy:
            self._refusing.add(error.address)
            return 0.0
        self._failures += 1
        wait = backoff(self._failures)
        self._retry_at = self._clock() + wait * (0.5 + random.random())
        return wait

    def _is_stale(self, shard: ShardState) -> bool:
        stale = [each.address for each in shard.members if each.state is BackendState.STALE]
        return bool(stale) if self._wanted is None else self._wanted in stale

    async def _wait_turn(self) -> bool:
        """Waits for the next look at the shard; True if somebody asks."""
        interval = self._desk.shard().pool.health.interval
        if self._asked.is_set():
            await trio.sleep(LOOK_SECONDS)
        else:
            with trio.move_on_after(interval * (0.5 + random.random())):
                await self._asked.wait()
        return self._asked.is_set()

    async def _bring_back(self, shard: ShardState, leader: str, target: str) -> bool:
        """One attempt; False if another proxy is at it."""
        pool = shard.pool
        reader = listing_reader if pool.protocol == "redis" else None
        to_leader, to_target = (
            Link(each, pool.protocol, pool.login, pool.connect_timeout, reader=reader)
            for each in (leader, target)
        )
        began = self._clock()
        way = choose_way(shard, target, self._refusing)
        progress = Progress(leader, target, began, began, _FIRST_PHASES[way])
        job = Job(self._desk, self._owner, to_leader, to_target, self._clock, progress)
        self._job = job
        try:
            return await self._attempt(job, way)
        finally:
            self._job = None
            with trio.CancelScope(shield=True):
                await job.let_go()
            job.close()

    async def _attempt(self, job: Job, way: Way) -> bool:
        target, began = job.target.address, self._clock()
        fields = {"pool": self._owner.pool, "shard": self._owner.shard, "backend": target}
        procedure: Procedure = Copying(job) if way is Way.COPY else Following(job)
        try:
            if not await job.prolong():
                return False
            job.reported = began
            _log.info("resynchronisation begins", leader=job.leader.address, way=way.value, **fields)
            await procedure.work()
        except (GivenUp, LinkError) as error:
            trouble = error.trouble if isinstance(error, GivenUp) else Trouble.UNREACHABLE
            detail = error.detail if isinstance(error, GivenUp) else error.reason.value
            wait = self._note_failure(error)
            self._results[target, trouble.value] += 1
            _log.warning(
                "resynchronisation given up",
                reason=trouble.value,
                detail=detail,
                again_seconds=wait,
                **fields,
            )
            if trouble is not Trouble.LEASE_LOST:
                await procedure.undo()
            return bool(wait)  # who asked is not done with, if there is another way
        else:
            self._failures = 0
            self._results[target, "done"] += 1
            seconds, done = self._clock() - began, job.progress.done
            _log.info(
                "resynchronised",
                seconds=round(seconds, 3),
                bytes=done,
                bytes_per_second=int(done / seconds) if seconds else 0,
                write_pause_ms=round(1000 * (job.pauses[-1] if job.pauses else 0.0), 1),
                **fields,
            )
        finally:
            self._pauses[0] += len(job.pauses)
            self._pauses[1] += sum(job.pauses)
        return True
