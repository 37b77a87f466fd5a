"""Brings the stale backends of one Redis shard back, one at a time, and keeps account of it.

Made by `proxy.tasks.controller`, one per shard; asked for progress by the status page and metrics. Does
what `proxy.control.resync` says (the procedure and why it is right stand there). Changes no shard state:
it sends events, like everybody else.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import trio

from proxy.control.event import Admit, Dismiss, Event, Join
from proxy.control.fence import Owner, fence
from proxy.control.model import BackendState
from proxy.control.resync import (
    CUT_TRIES,
    LEASE_SECONDS,
    Phase,
    Progress,
    Server,
    Trouble,
    backoff,
    has_caught_up,
    judge,
    lease_key,
    may_overwrite,
    pick,
    read_server,
)
from proxy.control.routing import resp_request
from proxy.control.state import ShardState
from proxy.control.view import RESERVED_PREFIX, view_key
from proxy.log import Log
from proxy.tasks import lease
from proxy.tasks.link import Link, LinkError, Talk
from proxy.tasks.status import Sample
from proxy.tasks.wire import ErrorReply, Reply, info_fields, reason_of

LOOK_SECONDS, FENCE_SECONDS = 0.05, 0.003
"""Between two looks at the servers while they copy, and at who holds its writes."""
REPORT_SECONDS = 5.0
"""Between two log lines about one copy."""
PATIENCE_SECONDS = 5.0
"""How long the target may fail to answer: it does while it loads much at once."""
UNDO_SECONDS = 1.0
SECTIONS = ("server", "replication", "memory")
SCAN_COUNT = "10000"

_log = Log("resync")


class Desk(Protocol):
    """What is needed of the controller, for one shard."""

    def shard(self) -> ShardState:
        """As it is now."""
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


@dataclass(slots=True)
class _Pair:
    """Connections of our own to both servers: the shared ones are for probes and views."""

    leader: Link
    target: Link

    def close(self) -> None:
        self.leader.close()
        self.target.close()


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
        self._lease = lease_key(owner.pool, owner.shard)
        self._asked = trio.Event()
        self._wanted: str | None = None
        self._retry_at = 0.0
        self._failures = 0
        self._leased_until = 0.0
        self._has_begun = False
        self.progress: Progress | None = None
        self._results: Counter[tuple[str, str]] = Counter()
        self._pauses = [0, 0.0]

    def __repr__(self) -> str:
        return f"<Resync {self._owner.pool}/{self._owner.shard} {self.progress}>"

    def ask(self, target: str | None) -> None:
        """Has ``target``, or the first that is stale, brought back now, whatever the configuration says."""
        self._wanted = target
        self._retry_at = 0.0
        self._asked.set()

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
            shard = self._desk.shard()
            if not is_asked and (not shard.pool.resync_auto or self._clock() < self._retry_at):
                continue
            target = pick(shard, self._wanted if is_asked else None)
            if target is None or shard.lead is None:
                if is_asked and not self._is_stale(shard):
                    self._asked = trio.Event()
                continue
            async with self._limiter:
                is_ours = await self._bring_back(shard, shard.lead, target)
            if is_asked and is_ours:
                self._asked = trio.Event()

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
        pair = _Pair(
            *(Link(each, pool.protocol, pool.login, pool.connect_timeout) for each in (leader, target))
        )
        fields = {"pool": pool.name, "shard": shard.spec.name, "backend": target}
        began = self._clock()
        self._has_begun = False
        try:
            if not await self._prolong(pair):
                return False
            _log.info("resynchronisation begins", leader=leader, **fields)
            self.progress = Progress(leader, target, began, began)
            pause = await self._work(pair)
        except (GivenUp, LinkError) as error:
            trouble = error.trouble if isinstance(error, GivenUp) else Trouble.UNREACHABLE
            detail = error.detail if isinstance(error, GivenUp) else error.reason.value
            self._failures += 1
            wait = backoff(self._failures)
            self._retry_at = self._clock() + wait * (0.5 + random.random())
            self._results[target, trouble.value] += 1
            _log.warning(
                "resynchronisation given up",
                reason=trouble.value,
                detail=detail,
                again_seconds=wait,
                **fields,
            )
            if trouble is not Trouble.LEASE_LOST:
                await self._undo(pair)
        else:
            self._failures = 0
            self._results[target, "done"] += 1
            seconds, done = self._clock() - began, self.progress.done
            _log.info(
                "resynchronised",
                seconds=round(seconds, 3),
                bytes=done,
                bytes_per_second=int(done / seconds) if seconds else 0,
                write_pause_ms=round(pause * 1000, 1),
                **fields,
            )
        finally:
            self.progress = None
            await self._let_go(pair)
        return True

    async def _undo(self, pair: _Pair) -> None:
        """A replica of a leader that fails would empty itself when that one returns empty."""
        target = pair.target.address
        if not self._has_begun or self._desk.shard().member(target).state is BackendState.IN_SYNC:
            return
        try:
            await pair.target.exchange(_asking("REPLICAOF", "NO", "ONE"), UNDO_SECONDS)
        except LinkError as error:
            _log.debug("replication not ended", backend=target, reason=error.reason.value)

    async def _let_go(self, pair: _Pair) -> None:
        with trio.CancelScope(shield=True):
            if self._leased_until > self._clock():
                try:
                    await lease.release(pair.leader, self._lease, self._owner.proxy, UNDO_SECONDS)
                except LinkError as error:
                    _log.debug("lease not given back", reason=error.reason.value)
            self._leased_until = 0.0
        pair.close()

    # The copy.

    async def _work(self, pair: _Pair) -> float:
        """Returns the seconds for which writes were held."""
        shard = self._desk.shard()
        assert shard.view is not None
        leader_run = shard.view.run_of(pair.leader.address)
        target_run = (await self._look(pair.target)).run
        await self._refuse_foreign(pair)
        await self._follow(pair)
        tries, silent_since = 0, None
        reported = self._clock()
        while True:
            if self._is_moot(pair):
                raise GivenUp(Trouble.LEADER_CHANGED)
            await self._keep_lease(pair)
            leader = await self._look(pair.leader)
            try:
                target = await self._look(pair.target)
                silent_since = None
            except LinkError:
                silent_since = silent_since or self._clock()
                if self._clock() - silent_since > PATIENCE_SECONDS:
                    raise
                await trio.sleep(LOOK_SECONDS)
                continue
            phase = judge(leader, target, leader_run, target_run)
            if isinstance(phase, Trouble):
                raise GivenUp(phase)
            now = self._clock()
            assert self.progress is not None
            self.progress = self.progress.advance(phase, leader, target, now)
            if phase is Phase.LINKING:
                await self._follow(pair)
            elif phase is Phase.SWITCHING and self._is_joinable(pair.target.address):
                tries += 1
                pause = await self._switch(pair, target.run, is_cutting=tries > CUT_TRIES)
                if pause is not None:
                    return pause
                await trio.sleep(backoff(tries) * random.random())
            if self.progress.is_stalled(self._clock()):
                raise GivenUp(Trouble.STALLED, phase.value)
            if self._clock() - reported > REPORT_SECONDS:
                reported = self._clock()
                self._report()
            await trio.sleep(LOOK_SECONDS)

    def _report(self) -> None:
        progress = self.progress
        assert progress is not None
        now = self._clock()
        left = progress.seconds_left(now)
        _log.info(
            "resynchronising",
            pool=self._owner.pool,
            shard=self._owner.shard,
            backend=progress.target,
            phase=progress.phase.value,
            bytes=progress.done,
            expected_bytes=progress.total,
            bytes_per_second=int(progress.rate(now)),
            seconds_left="unknown" if left is None else round(left),
        )

    def _is_moot(self, pair: _Pair) -> bool:
        shard = self._desk.shard()
        return shard.lead != pair.leader.address or pair.target.address in shard.in_sync

    def _is_joinable(self, target: str) -> bool:
        return self._desk.shard().member(target).state is BackendState.STALE

    async def _follow(self, pair: _Pair) -> None:
        """Makes the target a replica of the leader; the same again changes nothing.

        Only if its own record does not say that we are behind the times: another proxy may have brought it
        back meanwhile, and it may be all there is by now. The server itself sees to that (WATCH).
        """
        login = self._desk.shard().pool.login
        if login is not None:
            for name, value in (("masteruser", login[0]), ("masterauth", login[1])):
                if value:
                    await pair.target.exchange(_asking("CONFIG", "SET", name, value), self._seconds)
        host, _, port = pair.leader.address.rpartition(":")
        key = view_key(self._owner.pool, self._owner.shard)
        change = [("MULTI",), ("REPLICAOF", host.strip("[]"), port), ("EXEC",)]

        async def work(talk: Talk) -> None:
            watched, record = await talk(resp_request("WATCH", key) + resp_request("GET", key), 2)
            shard = self._desk.shard()
            if watched != b"OK" or not (record is None or isinstance(record, bytes)):
                raise GivenUp(Trouble.REFUSED, "GET")
            if not may_overwrite(shard, record, pair.target.address):
                raise GivenUp(Trouble.TARGET_CHANGED)
            self._has_begun = True
            replies = await talk(b"".join(resp_request(*words) for words in change), len(change))
            refusal = next((each for each in _flat(replies) if isinstance(each, ErrorReply)), None)
            if refusal is not None:
                raise GivenUp(Trouble.REFUSED, refusal.text)
            if replies[-1] is None:
                raise GivenUp(Trouble.TARGET_CHANGED)

        await pair.target.exchange(work, self._seconds)

    async def _refuse_foreign(self, pair: _Pair) -> None:
        """Leaves a target alone that another shard keeps a record on, unless the leader has it too."""
        pattern, ours = f"{RESERVED_PREFIX}view:*", view_key(self._owner.pool, self._owner.shard)
        cursor = b"0"
        while True:
            request = _asking("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT)
            reply = await pair.target.exchange(request, self._seconds)
            if not isinstance(reply, list) or len(reply) != 2 or not isinstance(reply[1], list):
                raise GivenUp(Trouble.REFUSED, "SCAN")
            for key in reply[1]:
                assert isinstance(key, bytes)
                is_ours = key == ours.encode()
                if not is_ours and not await pair.leader.exchange(_asking("EXISTS", key), self._seconds):
                    raise GivenUp(Trouble.FOREIGN_RECORD, key.decode("utf-8", "replace"))
            cursor = reply[0] if isinstance(reply[0], bytes) else b"0"
            if cursor == b"0":
                return

    # The lease.

    @property
    def _seconds(self) -> float:
        return max(self._desk.shard().pool.health.timeout, 2 * LOOK_SECONDS)

    async def _prolong(self, pair: _Pair) -> bool:
        asked = self._clock()
        is_held = await lease.hold(pair.leader, self._lease, self._owner.proxy, LEASE_SECONDS, self._seconds)
        self._leased_until = asked + LEASE_SECONDS if is_held else 0.0
        return is_held

    async def _keep_lease(self, pair: _Pair) -> None:
        if self._leased_until - self._clock() < LEASE_SECONDS * 2 / 3 and not await self._prolong(pair):
            raise GivenUp(Trouble.LEASE_LOST)

    # The switch.

    async def _switch(self, pair: _Pair, run: str, *, is_cutting: bool) -> float | None:
        """Has writes held, ends the replication and has the target admitted.

        Returns:
            Seconds for which writes were held, None if it did not work out; then they go on without it.
        """
        target, limit = pair.target.address, self._desk.shard().pool.hold_limit
        began = self._clock()
        await self._desk.send(Join(target, run))
        try:
            if not await self._desk.until(lambda shard: _is_joining(shard, target), limit):
                return None
            began = self._clock()
            epoch = self._desk.shard().epoch
            try:
                await self._stop_writers(pair, epoch, began + limit / 2, is_cutting=is_cutting)
                await self._end_replication(pair, run, epoch, began + limit)
            except (GivenUp, LinkError) as error:
                detail = error.detail if isinstance(error, GivenUp) else error.reason.value
                _log.info("switch put off", backend=target, reason=str(error), detail=detail)
                return None
            await self._desk.send(Admit(target, run, epoch))
            await self._desk.until(lambda shard: shard.epoch > epoch, limit)
        finally:
            if _is_joining(self._desk.shard(), target):
                with trio.move_on_after(UNDO_SECONDS, shield=True):
                    await self._desk.send(Dismiss(target))
        pause = self._clock() - began
        self._pauses[0] += 1
        self._pauses[1] += pause
        return pause if target in self._desk.shard().in_sync else None

    async def _stop_writers(self, pair: _Pair, epoch: int, deadline: float, *, is_cutting: bool) -> None:
        woken: set[str] = set()
        while True:
            listing = await pair.leader.exchange(_asking("CLIENT", "LIST"), self._seconds)
            if not isinstance(listing, bytes):
                raise GivenUp(Trouble.REFUSED, "CLIENT LIST")
            found = fence(listing, self._owner.pool, self._owner.shard, epoch)
            is_held_here = self._owner.proxy in found.holding
            if is_held_here and not found.missing:
                return
            if self._clock() > deadline:
                if not is_cutting or not is_held_here:
                    raise GivenUp(Trouble.NOT_HELD, ",".join(sorted(found.missing)))
                await self._kill(pair, found.cut)
                _log.warning("connections of other proxies cut", proxies=",".join(sorted(found.missing)))
                return
            asleep = [each for proxy, each in found.wake if proxy not in woken | {self._owner.proxy}]
            woken |= {proxy for proxy, _ in found.wake}
            await self._kill(pair, asleep)
            await trio.sleep(FENCE_SECONDS)

    async def _kill(self, pair: _Pair, connections: list[int] | tuple[int, ...]) -> None:
        if connections:
            requests = [resp_request("CLIENT", "KILL", "ID", str(each)) for each in connections]

            async def work(talk: Talk) -> None:
                for reply in await talk(b"".join(requests), len(requests)):
                    if isinstance(reply, ErrorReply):
                        raise GivenUp(Trouble.REFUSED, reply.text)

            await pair.leader.exchange(work, self._seconds)

    async def _end_replication(self, pair: _Pair, run: str, epoch: int, deadline: float) -> None:
        """Once the target has applied all that the leader wrote, the record that has writes held included:
        by that, whoever is behind the times sees that he is. Nobody writes there any more."""
        leader = await self._look(pair.leader)
        shard, key = self._desk.shard(), view_key(self._owner.pool, self._owner.shard)

        async def work(talk: Talk) -> bool:
            target = await _read(talk)
            if target.run != run or target.role != "slave":
                raise GivenUp(Trouble.TARGET_CHANGED)
            (record,) = await talk(resp_request("GET", key), 1)
            if not has_caught_up(leader, target) or record != shard.record:
                if shard.epoch != epoch:
                    raise GivenUp(Trouble.LEADER_CHANGED)
                return False
            (reply,) = await talk(resp_request("REPLICAOF", "NO", "ONE"), 1)
            if isinstance(reply, ErrorReply):
                raise GivenUp(Trouble.REFUSED, reply.text)
            return True

        while not await pair.target.exchange(work, self._seconds):
            if self._clock() > deadline:
                raise GivenUp(Trouble.STALLED, Phase.SWITCHING.value)
            await trio.sleep(FENCE_SECONDS)

    async def _look(self, link: Link) -> Server:
        return await link.exchange(_read, self._seconds)


def _flat(replies: list[Reply]) -> Iterator[Reply]:
    for reply in replies:
        if isinstance(reply, list):
            yield from reply
        yield reply


def _is_joining(shard: ShardState, target: str) -> bool:
    return shard.view is not None and target in shard.view.joining


async def _read(talk: Talk) -> Server:
    replies = await talk(b"".join(resp_request("INFO", each) for each in SECTIONS), len(SECTIONS))
    info: dict[str, str] = {}
    for reply in replies:
        if isinstance(reply, ErrorReply):
            raise LinkError(reason_of(reply))
        info |= info_fields(reply)
    return read_server(info)


def _asking(*words: str | bytes) -> Callable[[Talk], Awaitable[Reply]]:
    async def work(talk: Talk) -> Reply:
        (reply,) = await talk(resp_request(*words), 1)
        if isinstance(reply, ErrorReply):
            raise LinkError(reason_of(reply))
        return reply

    return work
