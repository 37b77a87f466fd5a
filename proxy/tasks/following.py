"""Brings a Redis back by its own replication: REPLICAOF, a moment in which writes are held, and its end.

Called by `proxy.tasks.resync` for one attempt. Does what `proxy.control.following` says (the procedure and
why it is right stand there). Changes no shard state: it sends events, like everybody else.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import trio

from proxy.control.event import Admit, Dismiss, Join
from proxy.control.fence import fence, traffic_of
from proxy.control.following import (
    CUT_TRIES,
    Server,
    advance,
    has_caught_up,
    is_not_allowed,
    judge,
    read_server,
)
from proxy.control.model import BackendState
from proxy.control.resync import Phase, Trouble, backoff, may_overwrite
from proxy.control.routing import resp_request
from proxy.control.view import RESERVED_PREFIX, lives, view_key
from proxy.log import Log
from proxy.tasks.job import LOOK_SECONDS, UNDO_SECONDS, GivenUp, Job, NotAllowed, asking, is_joining
from proxy.tasks.link import Link, LinkError, Talk
from proxy.tasks.wire import ErrorReply, Reply, info_fields, reason_of

FENCE_SECONDS = 0.003
"""Between two looks at who holds its writes."""
PATIENCE_SECONDS = 5.0
"""How long the target may fail to answer: it does while it loads much at once."""
SECTIONS = ("server", "replication", "memory")
SCAN_COUNT = "10000"

_log = Log("resync")


class Following:
    """One attempt."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._leader, self._target = job.leader, job.target
        self._shard = job.desk.shard
        self._has_begun = False

    async def work(self) -> None:
        """Returns once the target is in sync.

        Raises:
            GivenUp, LinkError: it did not work out.
        """
        shard = self._shard()
        assert shard.view is not None
        leader_run = shard.view.run_of(self._leader.address)
        target_run = (await self._look(self._target)).run
        await self._refuse_foreign((await self._look(self._leader)).run)
        await self._follow()
        job = self._job
        tries, silent_since = 0, None
        while True:
            if job.is_moot:
                raise GivenUp(Trouble.LEADER_CHANGED)
            await job.keep_lease()
            leader = await self._look(self._leader)
            try:
                target = await self._look(self._target)
                silent_since = None
            except LinkError:
                silent_since = silent_since or job.clock()
                if job.clock() - silent_since > PATIENCE_SECONDS:
                    raise
                await trio.sleep(LOOK_SECONDS)
                continue
            phase = judge(leader, target, leader_run, target_run)
            if isinstance(phase, Trouble):
                raise GivenUp(phase)
            job.progress = advance(job.progress, phase, leader, target, job.clock())
            if phase is Phase.LINKING:
                await self._follow()
            elif phase is Phase.SWITCHING and self._is_joinable(self._target.address):
                tries += 1
                if await self._switch(target.run, is_cutting=tries > CUT_TRIES):
                    return
                await trio.sleep(backoff(tries) * random.random())
            if job.progress.is_stalled(job.clock()):
                raise GivenUp(Trouble.STALLED, phase.value)
            job.report()
            await trio.sleep(LOOK_SECONDS)

    def _is_joinable(self, target: str) -> bool:
        return self._shard().member(target).state is BackendState.STALE

    async def _follow(self) -> None:
        """Makes the target a replica of the leader; the same again changes nothing.

        Only if its own record does not say that we are behind the times: another proxy may have brought it
        back meanwhile, and it may be all there is by now. The server itself sees to that (WATCH).
        """
        login = self._shard().pool.login
        if login is not None:
            for name, value in (("masteruser", login[0]), ("masterauth", login[1])):
                if value:
                    await self._ask(self._target, "CONFIG", "SET", name, value)
        host, _, port = self._leader.address.rpartition(":")
        key = view_key(self._job.owner.pool, self._job.owner.shard)
        change = [("MULTI",), ("REPLICAOF", host.strip("[]"), port), ("EXEC",)]

        async def work(talk: Talk) -> None:
            watched, record = await talk(resp_request("WATCH", key) + resp_request("GET", key), 2)
            shard = self._shard()
            if watched != b"OK" or not (record is None or isinstance(record, bytes)):
                raise GivenUp(Trouble.REFUSED, "GET")
            if not may_overwrite(shard, record, self._target.address):
                raise GivenUp(Trouble.TARGET_CHANGED)
            self._has_begun = True
            replies = await talk(b"".join(resp_request(*words) for words in change), len(change))
            refusal = next((each for each in _flat(replies) if isinstance(each, ErrorReply)), None)
            if refusal is not None:
                raise self._refused(self._target, refusal)
            if replies[-1] is None:
                raise GivenUp(Trouble.TARGET_CHANGED)

        await self._target.exchange(work, self._job.seconds)

    async def _refuse_foreign(self, leader_run: str) -> None:
        """Leaves a target alone that another shard keeps a record on: its truth may be there and nowhere
        else. Not if by that record, as both have it, the leader's process has all that the target has."""
        pattern, ours = f"{RESERVED_PREFIX}view:*", view_key(self._job.owner.pool, self._job.owner.shard)
        cursor = b"0"
        while True:
            request = asking("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT)
            reply = await self._target.exchange(request, self._job.seconds)
            if not isinstance(reply, list) or len(reply) != 2 or not isinstance(reply[1], list):
                raise GivenUp(Trouble.REFUSED, "SCAN")
            for key in reply[1]:
                assert isinstance(key, bytes)
                if key == ours.encode():
                    continue
                for link in (self._target, self._leader):
                    record = await self._ask(link, "GET", key)
                    if not leader_run or not isinstance(record, bytes) or leader_run not in lives(record):
                        raise GivenUp(Trouble.FOREIGN_RECORD, key.decode("utf-8", "replace"))
            cursor = reply[0] if isinstance(reply[0], bytes) else b"0"
            if cursor == b"0":
                return

    # The switch.

    async def _switch(self, run: str, *, is_cutting: bool) -> bool:
        """Has writes held, ends the replication and has the target admitted. False if that did not work out;
        then they go on without it."""
        target, limit = self._target.address, self._shard().pool.hold_limit
        began = self._job.clock()
        await self._job.desk.send(Join(target, run))
        try:
            if not await self._job.desk.until(lambda shard: is_joining(shard, target), limit):
                return False
            began = self._job.clock()
            epoch = self._shard().epoch
            try:
                await self._stop_writers(epoch, began + limit / 2, is_cutting=is_cutting)
                await self._end_replication(run, epoch, began + limit)
            except NotAllowed:
                raise
            except (GivenUp, LinkError) as error:
                detail = error.detail if isinstance(error, GivenUp) else error.reason.value
                _log.info("switch put off", backend=target, reason=str(error), detail=detail)
                return False
            await self._job.desk.send(Admit(target, run, epoch))
            await self._job.desk.until(lambda shard: shard.epoch > epoch, limit)
        finally:
            if is_joining(self._shard(), target):
                with trio.move_on_after(UNDO_SECONDS, shield=True):
                    await self._job.desk.send(Dismiss(target))
        self._job.pauses.append(self._job.clock() - began)
        return target in self._shard().in_sync

    async def undo(self) -> None:
        """A replica of a leader that fails would empty itself when that one returns empty."""
        if not self._has_begun or self._shard().member(self._target.address).state is BackendState.IN_SYNC:
            return
        try:
            await self._target.exchange(asking("REPLICAOF", "NO", "ONE"), UNDO_SECONDS)
        except LinkError as error:
            _log.debug("replication not ended", backend=self._target.address, reason=error.reason.value)

    async def _stop_writers(self, epoch: int, deadline: float, *, is_cutting: bool) -> None:
        woken: set[str] = set()
        while True:
            listing = await self._leader.exchange(
                lambda talk: self._clients(self._leader, talk), self._job.seconds
            )
            found = fence(listing, self._job.owner.pool, self._job.owner.shard, epoch)
            is_held_here = self._job.owner.proxy in found.holding
            if is_held_here and not found.missing:
                return
            if self._job.clock() > deadline:
                if not is_cutting or not is_held_here:
                    raise GivenUp(Trouble.NOT_HELD, ",".join(sorted(found.missing)))
                await self._kill(found.cut)
                _log.warning("connections of other proxies cut", proxies=",".join(sorted(found.missing)))
                return
            asleep = [each for proxy, each in found.wake if proxy not in woken | {self._job.owner.proxy}]
            woken |= {proxy for proxy, _ in found.wake}
            await self._kill(asleep)
            await trio.sleep(FENCE_SECONDS)

    async def _kill(self, connections: Sequence[int]) -> None:
        if connections:
            await self._leader.exchange(
                lambda talk: self._kill_on(self._leader, connections, talk), self._job.seconds
            )

    async def _kill_on(self, link: Link, connections: Sequence[int], talk: Talk) -> None:
        requests = [resp_request("CLIENT", "KILL", "ID", str(each)) for each in connections]
        for reply in await talk(b"".join(requests), len(requests)):
            if isinstance(reply, ErrorReply):
                raise self._refused(link, reply)

    async def _end_replication(self, run: str, epoch: int, deadline: float) -> None:
        """Once the target has applied all that the leader wrote, the record that has writes held included:
        by that, whoever is behind the times sees that he is. Nobody writes there any more."""
        leader = await self._look(self._leader)
        shard, key = self._shard(), view_key(self._job.owner.pool, self._job.owner.shard)

        async def work(talk: Talk) -> bool:
            target = await _read(talk)
            if target.run != run or target.role != "slave":
                raise GivenUp(Trouble.TARGET_CHANGED)
            (record,) = await talk(resp_request("GET", key), 1)
            if not has_caught_up(leader, target) or record != shard.record:
                if shard.epoch != epoch:
                    raise GivenUp(Trouble.LEADER_CHANGED)
                return False
            await self._close_traffic(talk)
            (reply,) = await talk(resp_request("REPLICAOF", "NO", "ONE"), 1)
            if isinstance(reply, ErrorReply):
                raise GivenUp(Trouble.REFUSED, reply.text)
            return True

        while not await self._target.exchange(work, self._job.seconds):
            if self._job.clock() > deadline:
                raise GivenUp(Trouble.STALLED, Phase.SWITCHING.value)
            await trio.sleep(FENCE_SECONDS)

    async def _close_traffic(self, talk: Talk) -> None:
        """What a proxy sent the target before it gave it up may still be on its way. The target refuses that
        as a replica, and would take it once it is none. A new connection looks at the record first."""
        listing = await self._clients(self._target, talk)
        found = traffic_of(listing, self._job.owner.pool, self._job.owner.shard)
        await self._kill_on(self._target, found, talk)

    async def _clients(self, link: Link, talk: Talk) -> bytes:
        listing = await self._say(link, talk, "CLIENT", "LIST")
        if not isinstance(listing, bytes):
            raise GivenUp(Trouble.REFUSED, "CLIENT LIST")
        return listing

    async def _ask(self, link: Link, *words: str | bytes) -> Reply:
        return await link.exchange(lambda talk: self._say(link, talk, *words), self._job.seconds)

    async def _say(self, link: Link, talk: Talk, *words: str | bytes) -> Reply:
        (reply,) = await talk(resp_request(*words), 1)
        if isinstance(reply, ErrorReply):
            raise self._refused(link, reply)
        return reply

    @staticmethod
    def _refused(link: Link, reply: ErrorReply) -> GivenUp:
        if is_not_allowed(reply.text):
            return NotAllowed(link.address, reply.brief)
        return GivenUp(Trouble.REFUSED, reply.brief)

    async def _look(self, link: Link) -> Server:
        return await link.exchange(_read, self._job.seconds)


def _flat(replies: list[Reply]) -> Iterator[Reply]:
    for reply in replies:
        if isinstance(reply, list):
            yield from reply
        yield reply


async def _read(talk: Talk) -> Server:
    replies = await talk(b"".join(resp_request("INFO", each) for each in SECTIONS), len(SECTIONS))
    info: dict[str, str] = {}
    for reply in replies:
        if isinstance(reply, ErrorReply):
            raise LinkError(reason_of(reply))
        info |= info_fields(reply)
    return read_server(info)
