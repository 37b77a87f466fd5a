"""Copies a Memcached key by key for `proxy.tasks.copying`, as `proxy.control.memcached_copying` says.

Must not know views, leases or phases. Asks both servers, and says which keys are to be copied again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import trio

from proxy.control.copying import Key, KeyList
from proxy.control.event import Restore
from proxy.control.memcached_copying import (
    RELATIVE_SECONDS_LIMIT,
    Mark,
    Shown,
    add_request,
    fetch_request,
    give_back_request,
    has_meta,
    is_added,
    is_alike,
    is_changed,
    is_reserved,
    is_worth_copying,
    mark_requests,
    read_dump_line,
    read_mark,
    take_back_request,
    token_request,
)
from proxy.control.resync import LEASE_SECONDS, STALL_SECONDS, Trouble
from proxy.control.view import RESERVED_PREFIX
from proxy.tasks import views
from proxy.tasks.job import BATCH_SECONDS, LOOK_SECONDS, GivenUp, Job
from proxy.tasks.link import Link, Talk
from proxy.tasks.wire import DumpReader, Listing, MetaReader, MetaReply, Reply

DUMP_SECONDS = 300.0
"""For a list of all keys: a server writes a million of them in about a second."""
WRITE_SECONDS = LEASE_SECONDS / 3
"""For a copy under way to the target, after which the lease may be over."""
REPLY_SLACK_BYTES = 64 * 1024
VIEW_PREFIX = f"{RESERVED_PREFIX}view:".encode()


class MemcachedCopier:
    """One attempt's asking."""

    renews_view = False

    def __init__(self, job: Job) -> None:
        self._job = job
        self._shard = job.desk.shard
        self._address = job.target.address
        self._source = self._sink = job.leader  # others once it is known how large items are
        self._held = self._keys = KeyList()
        self._batches: Iterator[tuple[bool, list[Key]]] | None = None
        self._taken: list[tuple[Link, Key, int]] = []  # stale items that our asking has won
        self._is_comparing = False

    def close(self) -> None:
        """Closes the connections of its own."""
        for link in {self._source, self._sink} - {self._job.leader}:
            link.close()

    async def check(self) -> None:
        """Opens them, if both servers can do what is needed."""
        item_bytes = await self._check_able(self._job.leader)
        await self._check_able(self._job.target)
        pool = self._shard().pool
        self._source, self._sink = (
            Link(
                each.address,
                "memcached",
                pool.login,
                pool.connect_timeout,
                reader=partial(MetaReader, item_bytes + REPLY_SLACK_BYTES),
            )
            for each in (self._job.leader, self._job.target)
        )

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

    async def prepare(self) -> None:
        """Gives the target the record that it is stale by. What it holds is compared later, key by key."""
        job, ours = self._job, self._job.view_key.encode()
        foreign: list[bytes] = []

        def look(key: Key) -> None:
            if is_reserved(key) and key.word.startswith(VIEW_PREFIX) and key.word != ours:
                foreign.append(key.word)

        await self._dump(job.target, look)
        if foreign:
            raise GivenUp(Trouble.FOREIGN_RECORD, foreign[0].decode("utf-8", "replace"))
        shard = self._shard()
        if shard.view is None or shard.view.joining or self._address in shard.view.in_sync:
            raise GivenUp(Trouble.LEADER_CHANGED)
        # Where votes count, what one without a record has voted for went with it: it is given one in time.
        order = Restore(self._address, shard.record, blank=not shard.votes_needed)
        if not await views.restore(order, shard.view, job.target, job.seconds):
            raise GivenUp(Trouble.TARGET_CHANGED)

    async def begin(self) -> int:
        """Takes the names of all keys that the target has, and the leader; returns bytes."""
        self._held, self._keys = [await self._names(each) for each in (self._job.target, self._job.leader)]
        return self._held.size + self._keys.size

    async def _names(self, link: Link) -> KeyList:
        keys = KeyList()
        await self._dump(link, lambda key: None if is_reserved(key) else keys.append(key))
        return keys

    async def more(self, size_limit: int) -> list[Key]:
        """The next keys, none at the end: those that the target has, then the leader's."""
        if self._batches is None:
            self._batches = (
                (keys is self._held, batch)
                for keys in (self._held, self._keys)
                for batch in keys.batches(size_limit)
            )
        self._is_comparing, batch = next(self._batches, (False, []))
        return batch

    async def finish(self) -> None:
        """Nothing is left behind."""

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

    async def copy(self, batch: Sequence[Key]) -> list[Key]:
        """Copies these keys, or compares what the target has of them; returns those to copy again."""
        again = await (self._check_batch(batch) if self._is_comparing else self._copy_batch(batch))
        await self._give_back()
        return again

    async def _check_batch(self, batch: Sequence[Key]) -> list[Key]:
        differing, gone = await self._compare(batch)
        return [*await self._take_back(differing), *gone]

    async def _copy_batch(self, batch: Sequence[Key]) -> list[Key]:
        fetched = await self._show(self._source, batch, fetch_request)
        wanted = [
            (key, item)
            for key, item in zip(batch, fetched, strict=True)
            if item is not None and is_worth_copying(item)
        ]
        has_moments = any(item.ttl > RELATIVE_SECONDS_LIMIT for _, item in wanted)
        now = await self._target_clock() if has_moments else 0
        request = b"".join(add_request(key, item, now) for key, item in wanted)
        self._job.check_lease(WRITE_SECONDS)
        added: list[tuple[Key, Shown, int]] = []
        occupied: list[Key] = []
        for (key, item), reply in zip(
            wanted, await self._meta(self._sink, request, len(wanted)), strict=True
        ):
            token, is_new = reply.number(b"c"), is_added(item, reply.status, reply.flags)
            if is_new and token is not None:
                added.append((key, item, token))
            elif is_new is False:
                occupied.append(key)
            else:
                raise GivenUp(Trouble.REFUSED, _text(reply))
        shown = await self._show(self._source, [key for key, _, _ in added], token_request)
        changed, same = [], []
        for (key, item, token), now_there in zip(added, shown, strict=True):
            if is_changed(item, now_there):
                changed.append((key, token, now_there is not None))
            elif not item.is_placeholder:
                same.append((key, item.mark, token))
        await self._mark(same)
        differing, gone = await self._compare(occupied)
        # The batch may have broken off before: the target has a copy of what the leader has lost since.
        copied = {key for key, _ in wanted}
        orphaned, _ = await self._compare([key for key in batch if key not in copied])
        return [*await self._take_back([*changed, *differing, *orphaned]), *gone]

    async def _mark(self, copies: Sequence[tuple[Key, Mark, int]]) -> None:
        """Marks verified copies as the leader's items are marked."""
        requests = [request for copy in copies for request in mark_requests(*copy)]
        await self._meta(self._sink, b"".join(requests), len(requests))

    async def _give_back(self) -> None:
        """Marks what our asking has won as stale again."""
        for link in {link for link, _, _ in self._taken}:
            found = [give_back_request(key, token) for each, key, token in self._taken if each is link]
            await self._meta(link, b"".join(found), len(found))
        self._taken.clear()

    async def _compare(self, keys: Sequence[Key]) -> tuple[list[tuple[Key, int, bool]], list[Key]]:
        """Those that the target holds otherwise: key, token there, whether the leader has it. And those
        that it holds no more."""
        there: list[tuple[Key, Shown]] = []
        gone = []
        for part in _parts(keys):
            shown = await self._show(self._sink, part, fetch_request)
            there += [(key, item) for key, item in zip(part, shown, strict=True) if item is not None]
            gone += [key for key, item in zip(part, shown, strict=True) if item is None]
        differing = []
        for part in _parts([key for key, _ in there]):
            shown = await self._show(self._source, part, fetch_request)
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

    async def _show(
        self, link: Link, keys: Sequence[Key], ask: Callable[[Sequence[Key]], bytes]
    ) -> list[Shown | None]:
        shown = [_shown(reply) for reply in await self._meta(link, ask(keys), len(keys))]
        self._taken += [
            (link, key, item.token)
            for key, item in zip(keys, shown, strict=True)
            if item is not None and item.mark is Mark.TAKEN
        ]
        return shown


def _shown(reply: MetaReply) -> Shown | None:
    if reply.status == b"EN":
        return None
    token = reply.number(b"c")
    if reply.status not in (b"VA", b"HD") or token is None:
        raise GivenUp(Trouble.REFUSED, _text(reply))
    ttl = reply.number(b"t")
    mark = read_mark(reply.flags)
    return Shown(token, reply.number(b"f") or 0, -1 if ttl is None else ttl, reply.data, mark)


def _parts(keys: Sequence[Key]) -> Iterable[list[Key]]:
    return KeyList(keys).batches()


def _text(reply: Reply) -> str:
    """What a server said, for a log line; never a value or a key."""
    if isinstance(reply, MetaReply):
        return reply.status.decode("ascii", "replace")
    return reply.decode("utf-8", "replace")[:100] if isinstance(reply, bytes) else "an answer of another kind"
