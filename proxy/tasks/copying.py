"""Brings a backend back by copying it key by key from its shard's leader while writes go on.

Called by `proxy.tasks.resync` for one attempt. Does what `proxy.control.copying` says (the procedure and why
it is right stand there); what differs by protocol is a `Copier`'s business. Changes no shard state: it sends
events, like everybody else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

import trio

from proxy.control.copying import PASSES_LIMIT, Key, KeyList, Pace, settle_seconds
from proxy.control.event import Admit, Dismiss, Join
from proxy.control.resync import Phase, Trouble
from proxy.control.state import ShardState
from proxy.tasks.job import LOOK_SECONDS, UNDO_SECONDS, GivenUp, Job, is_joining
from proxy.tasks.link import LinkError
from proxy.tasks.memcached_copying import MemcachedCopier
from proxy.tasks.redis_copying import RedisCopier

PATIENCE_SECONDS = 5.0
"""How long batches may fail before the attempt is given up; after less it goes on where it was."""

T = TypeVar("T")


class Copier(Protocol):
    """What differs by protocol. All raise `GivenUp` or `LinkError` if it does not work out.

    ``renews_view``: whoever goes on with what another proxy began does so under a view of his own.
    """

    renews_view: bool

    async def check(self) -> None:
        """Whether both servers can do what is needed, as far as can be told before anything is changed."""
        ...

    async def prepare(self) -> None:
        """Gives the target the record that it is stale by. What it holds may be removed.

        Not if another shard keeps a record there: then it is not ours alone.
        """
        ...

    async def begin(self) -> int:
        """Every write reaches the target from here on. Returns how many bytes there are to copy.

        May be called again after a `LinkError`, as those below."""
        ...

    async def more(self, size_limit: int) -> list[Key]:
        """The next keys, none at the end."""
        ...

    async def copy(self, batch: Sequence[Key]) -> list[Key]:
        """Copies these keys; returns those to copy again."""
        ...

    async def finish(self) -> None:
        """Takes away what was put on the target for the sake of the copy."""
        ...

    def close(self) -> None:
        """Closes the copier's own connections."""
        ...


class Copying:
    """One attempt."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._shard = job.desk.shard
        self._address = job.target.address
        pool = job.desk.shard().pool
        self._pace = Pace(pool.resync_rate)
        self._copier: Copier = MemcachedCopier(job) if pool.protocol == "memcached" else RedisCopier(job)
        self._epoch = 0
        self._run = ""
        self._trouble: Exception | None = None

    async def work(self) -> None:
        """Returns once the target is in sync.

        Raises:
            GivenUp, LinkError: it did not work out.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_lease, nursery.cancel_scope)
            try:
                await self._bring_back()
            except (GivenUp, LinkError) as error:
                self._trouble = self._trouble or error
            finally:
                self._copier.close()
            nursery.cancel_scope.cancel()
        if self._trouble is not None:
            raise self._trouble

    async def undo(self) -> None:
        """Has writes go on without the target."""
        if is_joining(self._shard(), self._address):
            with trio.move_on_after(UNDO_SECONDS):
                await self._job.desk.send(Dismiss(self._address))

    async def _keep_lease(self, scope: trio.CancelScope) -> None:
        while True:
            await trio.sleep(LOOK_SECONDS)
            self._job.report()
            try:
                # Not even if it is free: somebody else may have had it, and be done.
                self._job.check_lease()
                await self._job.keep_lease()
            except (GivenUp, LinkError) as error:
                self._trouble = error
                scope.cancel()

    async def _bring_back(self) -> None:
        await self._copier.check()
        if not is_joining(self._shard(), self._address):
            self._enter(Phase.PREPARING)
            await self._copier.prepare()
            self._enter(Phase.JOINING)
            await self._join()
        elif self._copier.renews_view:
            self._enter(Phase.JOINING)
            await self._join()
        view = self._shard().view
        assert view is not None
        self._epoch, self._run = view.epoch, view.run_of(self._address)
        self._enter(Phase.SETTLING)
        await self._settle()
        self._enter(Phase.COPYING)
        total = await self._patiently(self._copier.begin)
        self._job.progress = replace(self._job.progress, total=total, moved=self._job.clock())
        await self._copy()
        await self._patiently(self._copier.finish)
        await self._admit()

    def _enter(self, phase: Phase) -> None:
        now = self._job.clock()
        self._job.progress = replace(self._job.progress, phase=phase, moved=now)

    # Before the copy.

    async def _join(self) -> None:
        seen = await self._job.look(self._job.target)
        run = seen.incarnation.token if seen.incarnation else ""
        epoch, seconds = self._shard().epoch, 2 * self._job.seconds
        await self._job.desk.send(Join(self._address, run, fans_out=True))

        def is_done(shard: ShardState) -> bool:
            return self._address in shard.fed and shard.epoch > epoch

        if not await self._job.desk.until(is_done, seconds):
            raise GivenUp(Trouble.NOT_RECORDED)

    async def _settle(self) -> None:
        until = self._job.clock() + settle_seconds(self._shard().pool.request_timeout)
        while self._job.clock() < until:
            self._check_view()
            await trio.sleep(LOOK_SECONDS)

    def _check_view(self) -> None:
        shard = self._shard()
        if self._job.is_moot:
            raise GivenUp(Trouble.LEADER_CHANGED)
        if self._address not in shard.fed:
            raise GivenUp(Trouble.TARGET_CHANGED)
        if shard.epoch != self._epoch:
            raise GivenUp(Trouble.LEASE_LOST)  # another proxy goes on with it

    # The copy.

    async def _copy(self) -> None:
        keys = KeyList()
        while batch := await self._patiently(lambda: self._copier.more(self._pace.batch_bytes)):
            await self._copy_batch(batch, keys)
        for _ in range(PASSES_LIMIT):
            if not keys.count:
                return
            again = KeyList()
            for batch in keys.batches(self._pace.batch_bytes):
                await self._copy_batch(batch, again)
            keys = again
        raise GivenUp(Trouble.NEVER_EQUAL, f"{keys.count} keys")

    async def _copy_batch(self, batch: Sequence[Key], again: KeyList) -> None:
        size = sum(key.size for key in batch)

        async def copy() -> list[Key]:
            await trio.sleep(self._pace.delay(size, self._job.clock()))
            return await self._copier.copy(batch)

        for key in await self._patiently(copy):
            again.append(key)
        progress = self._job.progress
        done = min(progress.done + size, progress.total)
        self._job.progress = replace(progress, done=done, moved=self._job.clock())

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Does the work, again after a short failure. What an attempt that broke off has left is compared."""
        until = self._job.clock() + PATIENCE_SECONDS
        while True:
            self._check_view()
            try:
                return await work()
            except LinkError:
                if self._job.clock() > until:
                    raise
            await trio.sleep(LOOK_SECONDS)

    async def _admit(self) -> None:
        """Only if both are what they were, and hold the record under which all this was done."""
        self._check_view()
        job, shard = self._job, self._shard()
        for link in (job.target, job.leader):
            seen = await job.look(link)
            run = shard.view.run_of(link.address) if shard.view is not None else ""
            is_same = seen.incarnation is not None and seen.incarnation.is_same(run)
            if seen.record != shard.record or not is_same:
                raise GivenUp(Trouble.TARGET_CHANGED, link.address)
        await job.desk.send(Admit(self._address, self._run, self._epoch))
        await job.desk.until(lambda shard: shard.epoch > self._epoch, 2 * job.seconds)
        if self._address not in self._shard().in_sync:
            raise GivenUp(Trouble.NOT_RECORDED)
