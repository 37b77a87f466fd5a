"""Brings a Memcached back by copying it key by key from its shard's leader while writes go on.

Called by `proxy.tasks.resync` for one attempt. Does what `proxy.control.copying` says (the procedure and why
it is right stand there). Changes no shard state: it sends events, like everybody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

import trio

from proxy.control.copying import (
    PASSES_LIMIT,
    RELATIVE_SECONDS_LIMIT,
    Key,
    KeyList,
    Pace,
    Shown,
    add_request,
    fetch_request,
    has_meta,
    is_alike,
    is_changed,
    is_reserved,
    is_worth_copying,
    read_dump_line,
    settle_seconds,
    take_back_request,
    token_request,
)
from proxy.control.event import Admit, Dismiss, Join, Restore
from proxy.control.model import ProbeResult
from proxy.control.resync import STALL_SECONDS, Phase, Trouble, may_overwrite
from proxy.control.view import RESERVED_PREFIX, view_key
from proxy.tasks import views
from proxy.tasks.job import LOOK_SECONDS, UNDO_SECONDS, GivenUp, Job, is_joining
from proxy.tasks.link import Link, LinkError, Talk
from proxy.tasks.prober import probe
from proxy.tasks.wire import DumpReader, Listing, MetaReader, MetaReply, Reply

BATCH_SECONDS = 5.0
"""For one exchange of a batch."""
PATIENCE_SECONDS = 5.0
"""How long batches may fail before the attempt is given up; after less it goes on where it was."""
DUMP_SECONDS = 300.0
"""For a list of all keys: a server writes a million of them in about a second."""
EMPTY_TRIES = 3
REPLY_SLACK_BYTES = 64 * 1024
VIEW_PREFIX = f"{RESERVED_PREFIX}view:".encode()


class Copying:
    """One attempt."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._shard = job.desk.shard
        self._address = job.target.address
        self._pace = Pace(job.desk.shard().pool.resync_rate)
        self._source = self._sink = job.leader  # others once it is known how large items are
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
                for link in {self._source, self._sink} - {self._job.leader}:
                    link.close()
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
                await self._job.keep_lease()
            except (GivenUp, LinkError) as error:
                self._trouble = error
                scope.cancel()

    async def _bring_back(self) -> None:
        job = self._job
        item_bytes = await self._check_able(job.leader)
        await self._check_able(job.target)
        self._source, self._sink = (
            Link(
                each.address,
                "memcached",
                self._shard().pool.login,
                self._shard().pool.connect_timeout,
                reader=partial(MetaReader, item_bytes + REPLY_SLACK_BYTES),
            )
            for each in (job.leader, job.target)
        )
        if not is_joining(self._shard(), self._address):
            self._enter(Phase.EMPTYING)
            await self._empty()
            self._enter(Phase.JOINING)
            await self._join()
        view = self._shard().view
        assert view is not None
        self._epoch, self._run = view.epoch, view.run_of(self._address)
        self._enter(Phase.SETTLING)
        await self._settle()
        self._enter(Phase.COPYING)
        await self._copy(await self._list())
        await self._admit()

    def _enter(self, phase: Phase) -> None:
        now = self._job.clock()
        self._job.progress = replace(self._job.progress, phase=phase, moved=now)

    async def _check_able(self, link: Link) -> int:
        """Returns the largest item the server takes, in bytes."""

        async def ask(talk: Talk) -> list[Reply]:
            return await talk(b"version\r\nstats settings\r\n", 2)

        version, settings = await link.exchange(ask, self._job.seconds)
        if not isinstance(version, bytes) or not has_meta(version):
            raise GivenUp(Trouble.UNSUPPORTED, f"{link.address} is older than 1.6: it has no meta commands")
        told = settings.statistics if isinstance(settings, Listing) else {}
        if told.get(b"cas_enabled") == b"no":
            raise GivenUp(Trouble.UNSUPPORTED, f"{link.address} runs with -C: it has no CAS tokens")
        size = told.get(b"item_size_max", b"")
        return int(size) if size.isdigit() else 1 << 20

    # Before it joins.

    async def _empty(self) -> None:
        """Removes what the target holds, and gives it the record that it is stale by.

        Not if another shard keeps a record there: then it is not ours alone.
        """
        job, ours = self._job, view_key(self._job.owner.pool, self._job.owner.shard).encode()
        for _ in range(EMPTY_TRIES):
            found: list[Key] = []
            is_empty = True

            def look(key: Key, found: list[Key] = found) -> None:
                nonlocal is_empty
                if not is_reserved(key):
                    is_empty = False
                elif key.word.startswith(VIEW_PREFIX) and key.word != ours:
                    found.append(key)

            await self._dump(job.target, look)
            if found:
                raise GivenUp(Trouble.FOREIGN_RECORD, found[0].word.decode("utf-8", "replace"))
            if is_empty:
                break
            seen = await self._look(job.target)
            # Right before it, as it cannot be taken back.
            if not may_overwrite(self._shard(), seen.record, self._address):
                raise GivenUp(Trouble.TARGET_CHANGED)
            if not await job.prolong():
                raise GivenUp(Trouble.LEASE_LOST)
            reply = await self._tell(job.target, b"flush_all\r\n")
            if reply != b"OK":
                raise GivenUp(Trouble.REFUSED, f"flush_all: {_text(reply)}")
        else:
            raise GivenUp(Trouble.TARGET_CHANGED, "others write to it")
        shard = self._shard()
        if shard.view is None or shard.view.joining or self._address in shard.view.in_sync:
            raise GivenUp(Trouble.LEADER_CHANGED)
        order = Restore(self._address, shard.record, blank=True)
        if not await views.restore(order, shard.view, job.target, job.seconds):
            raise GivenUp(Trouble.TARGET_CHANGED)

    async def _join(self) -> None:
        seen = await self._look(self._job.target)
        run = seen.incarnation.token if seen.incarnation else ""
        await self._job.desk.send(Join(self._address, run, fans_out=True))
        seconds = 2 * self._job.seconds
        if not await self._job.desk.until(lambda shard: self._address in shard.fed, seconds):
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
        if shard.epoch != self._epoch or self._address not in shard.fed:
            raise GivenUp(Trouble.TARGET_CHANGED)

    # The copy.

    async def _list(self) -> KeyList:
        keys = KeyList()
        await self._dump(self._job.leader, lambda key: None if is_reserved(key) else keys.append(key))
        self._job.progress = replace(self._job.progress, total=keys.size, moved=self._job.clock())
        return keys

    async def _dump(self, link: Link, take: Callable[[Key], None]) -> None:
        """All keys of a server; it must be alone on its connection."""

        def line(text: bytes) -> None:
            key = read_dump_line(text)
            if key is not None:
                take(key)

        pool, began = self._shard().pool, self._job.clock()
        apart = Link(
            link.address, "memcached", pool.login, pool.connect_timeout, reader=lambda: DumpReader(line)
        )

        async def ask(talk: Talk) -> Reply:
            return (await talk(b"lru_crawler metadump hash\r\n", 1))[0]

        try:
            while True:
                reply = await apart.exchange(ask, DUMP_SECONDS)
                if reply == b"END":
                    return
                is_busy = isinstance(reply, bytes) and reply.startswith((b"BUSY", b"ERROR locked"))
                if not is_busy or self._job.clock() - began > STALL_SECONDS:
                    raise GivenUp(Trouble.REFUSED, f"lru_crawler metadump: {_text(reply)}")
                await trio.sleep(LOOK_SECONDS)
        finally:
            apart.close()

    async def _copy(self, keys: KeyList) -> None:
        for _ in range(PASSES_LIMIT):
            again = KeyList()
            for batch in keys.batches(self._pace.batch_bytes):
                for key in await self._copy_patiently(batch):
                    again.append(key)
                progress = self._job.progress
                done = min(progress.done + sum(key.size for key in batch), progress.total)
                self._job.progress = replace(progress, done=done, moved=self._job.clock())
            if not again.count:
                return
            keys = again
        raise GivenUp(Trouble.NEVER_EQUAL, f"{keys.count} keys")

    async def _copy_patiently(self, batch: Sequence[Key]) -> list[Key]:
        """Returns the keys to copy again. What an attempt that broke off has left is compared."""
        until = self._job.clock() + PATIENCE_SECONDS
        while True:
            self._check_view()
            await trio.sleep(self._pace.delay(sum(key.size for key in batch), self._job.clock()))
            try:
                return await self._copy_batch(batch)
            except LinkError:
                if self._job.clock() > until:
                    raise
            await trio.sleep(LOOK_SECONDS)

    async def _copy_batch(self, batch: Sequence[Key]) -> list[Key]:
        fetched = await self._show(self._source, fetch_request(batch), len(batch))
        wanted = [
            (key, item)
            for key, item in zip(batch, fetched, strict=True)
            if item is not None and is_worth_copying(item)
        ]
        has_moments = any(item.ttl > RELATIVE_SECONDS_LIMIT for _, item in wanted)
        now = await self._target_clock() if has_moments else 0
        request = b"".join(add_request(key, item, now) for key, item in wanted)
        added: list[tuple[Key, Shown, int]] = []
        occupied: list[Key] = []
        for (key, item), reply in zip(
            wanted, await self._meta(self._sink, request, len(wanted)), strict=True
        ):
            token = reply.number(b"c")
            if reply.status == b"HD" and token is not None:
                added.append((key, item, token))
            elif reply.status == b"NS":
                occupied.append(key)
            else:
                raise GivenUp(Trouble.REFUSED, _text(reply))
        shown = await self._show(self._source, token_request([key for key, _, _ in added]), len(added))
        changed = [
            (key, token, now is not None)
            for (key, item, token), now in zip(added, shown, strict=True)
            if is_changed(item, now)
        ]
        differing, gone = await self._compare(occupied)
        return [*await self._take_back([*changed, *differing]), *gone]

    async def _compare(self, keys: Sequence[Key]) -> tuple[list[tuple[Key, int, bool]], list[Key]]:
        """Those that the target holds otherwise: key, token there, whether the leader has it. And those
        that it holds no more."""
        there: list[tuple[Key, Shown]] = []
        gone = []
        for part in _parts(keys):
            shown = await self._show(self._sink, fetch_request(part), len(part))
            there += [(key, item) for key, item in zip(part, shown, strict=True) if item is not None]
            gone += [key for key, item in zip(part, shown, strict=True) if item is None]
        differing = []
        for part in _parts([key for key, _ in there]):
            shown = await self._show(self._source, fetch_request(part), len(part))
            for (key, held), item in zip(there[: len(part)], shown, strict=True):
                if not is_alike(held, item):
                    differing.append((key, held.token, item is not None))
            del there[: len(part)]
        return differing, gone

    async def _take_back(self, copies: Sequence[tuple[Key, int, bool]]) -> list[Key]:
        """Removes old copies, unless something newer stands there; returns what to copy again."""
        request = b"".join(take_back_request(key, token) for key, token, _ in copies)
        replies = await self._meta(self._sink, request, len(copies))
        again = []
        for (key, _, is_there), reply in zip(copies, replies, strict=True):
            if reply.status not in (b"HD", b"NF", b"EX"):
                raise GivenUp(Trouble.REFUSED, _text(reply))
            if is_there and reply.status != b"EX":
                again.append(key)
        return again

    async def _admit(self) -> None:
        """Only if both are what they were, and hold the record under which all this was done."""
        self._check_view()
        job, shard = self._job, self._shard()
        for link in (job.target, job.leader):
            seen = await self._look(link)
            run = shard.view.run_of(link.address) if shard.view is not None else ""
            is_same = seen.incarnation is not None and seen.incarnation.is_same(run)
            if seen.record != shard.record or not is_same:
                raise GivenUp(Trouble.TARGET_CHANGED, link.address)
        await job.desk.send(Admit(self._address, self._run, self._epoch))
        await job.desk.until(lambda shard: shard.epoch > self._epoch, 2 * job.seconds)
        if self._address not in self._shard().in_sync:
            raise GivenUp(Trouble.NOT_RECORDED)

    # Asking.

    async def _look(self, link: Link) -> ProbeResult:
        key = view_key(self._job.owner.pool, self._job.owner.shard)
        seen = await probe(link, key, self._job.seconds)
        if seen.failure is not None:
            raise LinkError(seen.failure)
        return seen

    async def _target_clock(self) -> int:
        reply = await self._tell(self._job.target, b"stats\r\n")
        told = reply.statistics.get(b"time", b"") if isinstance(reply, Listing) else b""
        if not told.isdigit():
            raise GivenUp(Trouble.REFUSED, "stats")
        return int(told)

    async def _tell(self, link: Link, request: bytes) -> Reply:
        async def work(talk: Talk) -> Reply:
            return (await talk(request, 1))[0]

        return await link.exchange(work, self._job.seconds)

    async def _meta(self, link: Link, request: bytes, count: int) -> list[MetaReply]:
        if not count:
            return []

        async def work(talk: Talk) -> list[Reply]:
            return await talk(request, count)

        replies = await link.exchange(work, BATCH_SECONDS)
        for reply in replies:
            if not isinstance(reply, MetaReply):
                raise GivenUp(Trouble.REFUSED, f"{link.address}: {_text(reply)}")
        return [reply for reply in replies if isinstance(reply, MetaReply)]

    async def _show(self, link: Link, request: bytes, count: int) -> list[Shown | None]:
        return [_shown(reply) for reply in await self._meta(link, request, count)]


def _shown(reply: MetaReply) -> Shown | None:
    if reply.status == b"EN":
        return None
    token = reply.number(b"c")
    if reply.status not in (b"VA", b"HD") or token is None:
        raise GivenUp(Trouble.REFUSED, _text(reply))
    ttl = reply.number(b"t")
    return Shown(token, reply.number(b"f") or 0, -1 if ttl is None else ttl, reply.data)


def _parts(keys: Sequence[Key]) -> Iterable[list[Key]]:
    return KeyList(keys).batches()


def _text(reply: Reply) -> str:
    """What a server said, for a log line; never a value or a key."""
    if isinstance(reply, MetaReply):
        return reply.status.decode("ascii", "replace")
    return reply.decode("utf-8", "replace")[:100] if isinstance(reply, bytes) else "an answer of another kind"
