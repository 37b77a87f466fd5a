"""The single writer: everything that is learnt goes through here into `step`, and what follows is done.

    probers ──┐                                     ┌─► commits and restores, a task each
    engine  ──┼─► one queue ─► step(shard, event) ──┼─► probes asked for
    outcomes ─┘                                     └─► one routing table for all that changed ─► engine

Built and run by ``app``; asked by ``admin`` for `status` and `samples`. Nothing else changes a shard's
state. The loop itself never waits for a backend, so that a slow one delays nobody else's failover.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import trio

from proxy.config import Config
from proxy.control.absence import absence_key
from proxy.control.event import (
    Action,
    Commit,
    CommitFailed,
    CommitLost,
    CommitWon,
    ConnectionFailed,
    EngineEvent,
    Event,
    Probed,
    ProbeNow,
    Restore,
    VerifyFailed,
    WriteFailed,
)
from proxy.control.failover import is_panic
from proxy.control.fence import Owner
from proxy.control.model import SILENCE, BackendState, PoolSpec, ProbeResult, Reason, Transition
from proxy.control.pools import pool_specs
from proxy.control.remap import Standing
from proxy.control.routing import Routing, build
from proxy.control.shard import step
from proxy.control.state import ShardState, new_shard
from proxy.control.view import parse, view_key
from proxy.errors import EngineError
from proxy.log import Log
from proxy.tasks import views
from proxy.tasks.hold import Brake, Hold
from proxy.tasks.link import Link, LinkError
from proxy.tasks.prober import Prober
from proxy.tasks.remap import Remapper
from proxy.tasks.resync import Resync
from proxy.tasks.status import Counts, Sample, status_body

QUEUE_LENGTH = 1024
"""Messages on their way to the loop; senders wait beyond that. Each backend has at most a few."""

_log = Log("controller")

Place = tuple[int, int]
"""Position of a pool, position of a shard in it."""


@dataclass(frozen=True, slots=True)
class Outdated:
    """The routing table must be published, whatever the shards are."""


Message = tuple[Place, Event | ProbeResult] | EngineEvent | Outdated
_OUTCOMES = {CommitWon: "won", CommitLost: "lost", CommitFailed: "failed"}


class Plane(Brake, Protocol):
    """What the controller needs of `proxy.dataplane.Dataplane`."""

    def start(self, routing: Routing) -> None: ...
    def publish(self, routing: Routing) -> None: ...
    def locate(self, pool: int, key: bytes) -> tuple[int, int]: ...
    def events(self) -> AsyncIterator[EngineEvent]: ...


@dataclass(slots=True)
class _Backend:
    """One backend's tools. ``entered``: table version since which it gets every write."""

    link: Link
    prober: Prober
    entered: int = 0
    is_restoring: bool = False


class _Desk:
    """One shard as `proxy.tasks.resync` sees it."""

    def __init__(self, controller: Controller, place: Place) -> None:
        self._controller = controller
        self._place = place

    def shard(self) -> ShardState:
        return self._controller._shards[self._place]

    def is_in_use(self) -> bool:
        remapper = self._controller._remappers.get(self._place[0])
        return remapper is None or remapper.standing(self.shard()) is Standing.PRESENT

    async def send(self, event: Event) -> None:
        await self._controller._sender.send((self._place, event))

    async def until(self, condition: Callable[[ShardState], bool], seconds: float) -> bool:
        with trio.move_on_after(seconds):
            while not condition(self.shard()):
                await self._controller._turned.wait()
        return condition(self.shard())


class _PoolDesk:
    """One pool as `proxy.tasks.remap` sees it."""

    def __init__(self, controller: Controller, pool_at: int) -> None:
        self._controller = controller
        self._pool_at = pool_at
        spec = controller._pools[pool_at]
        self._places: dict[str, Place] = {
            backend.address: (pool_at, shard_at)
            for shard_at, shard in enumerate(spec.shards)
            for backend in shard.backends
        }

    def shards(self) -> Sequence[ShardState]:
        return self._controller._grouped()[self._pool_at][1]

    def link(self, address: str) -> Link:
        return self._controller._backends[self._places[address], address].link

    def open_link(self, address: str) -> Link:
        pool = self._controller._pools[self._pool_at]
        return Link(address, pool.protocol, pool.login, pool.connect_timeout)

    def probe_now(self, address: str) -> None:
        self._controller._backends[self._places[address], address].prober.probe_now()

    def locate(self, key: bytes) -> tuple[int, int]:
        return self._controller._plane.locate(self._pool_at, key)

    async def republish(self) -> None:
        await self._controller._sender.send(Outdated())


class Controller:
    """The shards of all pools.

    Args:
        config: the whole configuration.
        plane: the engine.
        clock: monotonic seconds.
    """

    def __init__(self, config: Config, plane: Plane, clock: Callable[[], float]) -> None:
        self._pools: tuple[PoolSpec, ...] = pool_specs(config)
        self._plane = plane
        self._clock = clock
        self._shards: dict[Place, ShardState] = {}
        self._backends: dict[tuple[Place, str], _Backend] = {}
        self._resolved: dict[str, str] = {}
        self._counts = Counts()
        self._table_epoch = 0
        self._standings: dict[tuple[str, str], Standing] = {}
        self._is_outdated = True
        self._running = trio.Event()
        self._turned = trio.Event()
        self._proxy = secrets.token_hex(8)
        self._holds: dict[Place, Hold] = {}
        self._resyncs: dict[Place, Resync] = {}
        self._remappers = {
            pool_at: Remapper(_PoolDesk(self, pool_at), pool, self._proxy, clock)
            for pool_at, pool in enumerate(self._pools)
            if pool.on_shard_loss == "remap"
        }
        limiters = [trio.CapacityLimiter(pool.resync_parallel) for pool in self._pools]
        self._sender, self._receiver = trio.open_memory_channel[Message](QUEUE_LENGTH)
        for place, pool, spec in self._places():
            shard = self._shards[place] = new_shard(pool, spec, clock())
            key = view_key(pool.name, spec.name) if shard.keeps_view else None
            absent_key = absence_key(pool.name) if place[0] in self._remappers else None
            owner = Owner(self._proxy, pool.name, spec.name)
            name = owner.control() if shard.keeps_view else ""
            if shard.keeps_view:
                if pool.may_follow:
                    self._holds[place] = Hold(plane, place, owner, self._linker(place), pool.health.timeout)
                self._resyncs[place] = Resync(_Desk(self, place), owner, limiters[place[0]], clock)
            for backend in spec.backends:
                link = Link(backend.address, pool.protocol, pool.login, pool.connect_timeout, name)
                prober = Prober(link, pool.health, key, self._reporter(place), absent_key=absent_key)
                self._backends[place, backend.address] = _Backend(link, prober)

    def __repr__(self) -> str:
        shards = " ".join(f"{shard.spec.name}:{shard.phase.value}" for shard in self._shards.values())
        return f"<Controller table {self._table_epoch} {shards}>"

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Never returns. ``started()`` once the engine serves with the first table.

        The first table waits for the first probe of every backend and for the views these ask for,
        all bounded by their timeouts; shards that are lost then do not hold up the others.

        Raises:
            EngineError: the engine did not start.
        """
        try:
            async with trio.open_nursery() as nursery:
                for backend in self._backends.values():
                    nursery.start_soon(backend.prober.run)
                nursery.start_soon(self._forward_engine_events)
                nursery.start_soon(self._loop, nursery)
                await self._running.wait()
                task_status.started()
                for hold in self._holds.values():
                    nursery.start_soon(hold.run)
                for resync in self._resyncs.values():
                    nursery.start_soon(resync.run)
                for remapper in self._remappers.values():
                    nursery.start_soon(remapper.run)
        finally:
            for backend in self._backends.values():
                backend.link.close()

    def status(self) -> dict[str, Any]:
        """The body of ``GET /api/v1/status``."""
        progress = {
            (self._labels(place), resync.progress.target): resync.progress
            for place, resync in self._resyncs.items()
            if resync.progress is not None
        }
        return status_body(
            self._grouped(), self._table_epoch, self._clock(), time.time(), progress, self._standings
        )

    def ask_resync(self, pool: str, shard: str, backend: str | None) -> str | None:
        """Has a stale backend (the first, if none is named) brought back now; the state it is in says more.

        Returns:
            None, or why that cannot be.
        """
        place = next((place for place in self._shards if self._labels(place) == (pool, shard)), None)
        if place is None:
            return f"there is no shard {shard!r} in a pool {pool!r}"
        if place not in self._resyncs:
            return f"shard {shard!r} has one backend, which is the truth whatever it holds"
        members = self._shards[place].members
        if backend is not None and not self._shards[place].is_configured(backend):
            return f"shard {shard!r} has no backend {backend!r}"
        if not any(each.state is BackendState.STALE and backend in (None, each.address) for each in members):
            return "nothing to do: " + (f"{backend} is not stale" if backend else "no backend is stale")
        self._resyncs[place].ask(backend)
        return None

    def samples(self) -> Iterable[Sample]:
        """What is counted here, for ``/metrics``."""
        yield "routing_table_epoch", (), float(self._table_epoch)
        for place, shard in self._shards.items():
            yield "view_conflicts_total", self._labels(place), float(shard.conflicts)
        yield from self._counts.samples()
        for resync in self._resyncs.values():
            yield from resync.samples()
        for remapper in self._remappers.values():
            yield from remapper.samples()

    # Messages in.

    def _reporter(self, place: Place) -> Callable[[ProbeResult | ConnectionFailed], Any]:
        async def report(finding: ProbeResult | ConnectionFailed) -> None:
            await self._sender.send((place, finding))

        return report

    async def _forward_engine_events(self) -> None:
        # Before the start there are none, and the engine's descriptor need not exist.
        await self._running.wait()
        async for event in self._plane.events():
            await self._sender.send(event)

    async def _loop(self, nursery: trio.Nursery) -> None:
        while True:
            message = await self._receiver.receive()
            while True:
                self._take(message, nursery)
                try:
                    message = self._receiver.receive_nowait()
                except trio.WouldBlock:
                    break
            self._publish()
            self._steer()
            self._turned.set()
            self._turned = trio.Event()

    def _steer(self) -> None:
        """After publishing: held writes must find the table that they waited for."""
        if not self._running.is_set() or self._is_outdated:
            return
        for place, hold in self._holds.items():
            shard = self._shards[place]
            hold.steer(shard.held_epoch, shard.view.lead if shard.view else "")

    def _take(self, message: Message, nursery: trio.Nursery) -> None:
        if isinstance(message, Outdated):
            self._is_outdated = True
            return
        if isinstance(message, EngineEvent):
            self._counts.engine_events[message.kind,] += 1
            found = self._translate(message)
            if found is None:
                return
            place, event = found
        else:
            place, content = message
            event = self._probed(place, content) if isinstance(content, ProbeResult) else content
        before = self._shards[place]
        shard, actions = step(before, event, self._clock())
        self._shards[place] = shard
        self._is_outdated |= shard.revision != before.revision
        if isinstance(event, Probed) and place[0] in self._remappers:
            self._is_outdated |= self._remappers[place[0]].saw(event.result)
        for action in actions:
            self._perform(place, action, nursery)
        if shard.lead != before.lead and before.lead is not None:
            self._counts.failovers[(*self._labels(place), shard.reason.value)] += 1

    def _translate(self, event: EngineEvent) -> tuple[Place, Event] | None:
        """The event in our words; None for those that ask for nothing."""
        place = (event.pool, event.shard)
        shard = self._shards.get(place)
        if shard is None or not 0 <= event.backend < len(shard.members):
            return None
        address = shard.members[event.backend].address
        if event.kind == "connection_failed":
            return place, ConnectionFailed(address, event.detail)
        if event.kind == "verify_failed":
            return place, VerifyFailed(address)
        if event.kind == "write_failed" and event.table_epoch >= self._backends[place, address].entered:
            return place, WriteFailed(address)
        # A write that failed before the backend was last brought into sync is made good by that.
        return None

    def _probed(self, place: Place, result: ProbeResult) -> Probed:
        outcome = result.failure or result.condition or Reason.ANSWERS
        self._counts.probes[(*self._labels(place), result.address, outcome.value)] += 1
        if result.resolved and self._resolved.get(result.address) != result.resolved:
            self._resolved[result.address] = result.resolved
            self._is_outdated = True
        return Probed(result, result.failure in SILENCE and self._is_panic(place, result.address))

    def _is_panic(self, place: Place, address: str) -> bool:
        """Counts a first failure too: when one reaches ``fall``, those cut off with it are close behind."""
        now = self._clock()
        total = silent = 0
        for other, shard in self._shards.items():
            for member in shard.members:
                is_this = other == place and member.address == address
                if member.silent and not is_this and now - member.since > shard.waits_long:
                    continue  # long gone: it says nothing about what is happening now
                total += 1
                silent += is_this or member.failure in SILENCE
        return is_panic(total, silent, self._pools[place[0]].panic_threshold)

    # Actions out.

    def _perform(self, place: Place, action: Action, nursery: trio.Nursery) -> None:
        if isinstance(action, Commit):
            nursery.start_soon(self._commit, place, action)
        elif isinstance(action, Restore):
            backend = self._backends[place, action.address]
            if not backend.is_restoring:
                backend.is_restoring = True
                nursery.start_soon(self._restore, place, action)
        elif isinstance(action, ProbeNow):
            self._backends[place, action.address].prober.probe_now()
        else:
            self._report(place, action)

    async def _commit(self, place: Place, action: Commit) -> None:
        view = action.view
        asked = (*action.arbiters, *action.witnesses, *view.in_sync, *view.joining)
        # Another proxy's view that we vote for may list backends that are not configured here.
        backends = {address: self._backends.get((place, address)) for address in asked}
        links = {address: backend.link for address, backend in backends.items() if backend is not None}
        seconds = self._pools[place[0]].health.timeout
        outcome = await views.commit(action, links, seconds)
        self._counts.view_writes[(*self._labels(place), _OUTCOMES[type(outcome)])] += 1
        await self._sender.send((place, outcome))

    async def _restore(self, place: Place, action: Restore) -> None:
        backend = self._backends[place, action.address]
        pool, shard = self._labels(place)
        view = parse(action.record, pool, shard)
        try:
            if not isinstance(view, Reason):
                seconds = self._pools[place[0]].health.timeout
                is_there = await views.restore(action, view, backend.link, seconds)
                self._counts.view_writes[pool, shard, "restored" if is_there else "lost"] += 1
        except LinkError as error:
            _log.debug("record not restored", backend=action.address, reason=error.reason.value)
        finally:
            backend.is_restoring = False
        backend.prober.probe_now()

    def _report(self, place: Place, change: Transition) -> None:
        pool, shard = self._labels(place)
        fields = {"pool": pool, "shard": shard, "reason": change.reason.value, "epoch": change.epoch}
        if not change.address:
            _log.info("shard has a new view", lead=change.new, was=change.old, **fields)
            return
        if change.old != change.new:
            self._counts.state_changes[pool, shard, change.address, change.new] += 1
        write = _log.warning if change.new in ("down", "stale") else _log.info
        write("backend changed", backend=change.address, state=change.new, was=change.old, **fields)

    def _publish(self) -> None:
        """One table for everything that changed since the last."""
        if not self._is_outdated or (not self._running.is_set() and not self._is_ready()):
            return
        standings = {
            self._labels((pool_at, shard_at)): standing
            for pool_at, remapper in self._remappers.items()
            for shard_at, standing in enumerate(remapper.standings())
        }
        routing = build(
            self._table_epoch + 1,
            self._grouped(),
            self._resolved,
            self._proxy,
            {each.remap.pool.name: each.remap for each in self._remappers.values()},
            self._clock(),
        )
        if not self._running.is_set():
            self._plane.start(routing)
            self._running.set()
        else:
            try:
                self._plane.publish(routing)
            except EngineError as error:
                # Only while the engine stops; the next change tries again.
                _log.error("routing table not published", epoch=routing.epoch, error=str(error))
                return
        self._table_epoch = routing.epoch
        self._standings = standings
        for place, resync in self._resyncs.items():
            if standings.get(self._labels(place), Standing.PRESENT) is not Standing.PRESENT:
                resync.stop()
        self._is_outdated = False
        for (place, address), backend in self._backends.items():
            shard = self._shards[place]
            if address not in (*shard.in_sync, *shard.fed):
                backend.entered = 0
            elif not backend.entered:
                backend.entered = routing.epoch
        _log.debug("routing table published", epoch=routing.epoch)

    def _is_ready(self) -> bool:
        return all(shard.is_contacted and shard.pending is None for shard in self._shards.values())

    # Small questions.

    def _linker(self, place: Place) -> Callable[[str], Link]:
        return lambda address: self._backends[place, address].link

    def _places(self) -> Iterable[tuple[Place, PoolSpec, Any]]:
        for pool_at, pool in enumerate(self._pools):
            for shard_at, spec in enumerate(pool.shards):
                yield (pool_at, shard_at), pool, spec

    def _grouped(self) -> list[tuple[PoolSpec, list[ShardState]]]:
        return [
            (pool, [self._shards[pool_at, shard_at] for shard_at in range(len(pool.shards))])
            for pool_at, pool in enumerate(self._pools)
        ]

    def _labels(self, place: Place) -> tuple[str, str]:
        pool = self._pools[place[0]]
        return pool.name, pool.shards[place[1]].name
