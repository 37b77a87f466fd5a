"""The engine as the control plane sees it: values in, values out, its errors as ours.

Built by ``app``, driven by `proxy.tasks.controller`; the only module that runs `_engine.Engine`.
Translates `Routing` field by field and decides nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import trio

from proxy import _engine
from proxy.control.event import EngineEvent
from proxy.control.routing import PoolRouting, Routing, ShardRouting
from proxy.errors import EngineError

EVENTS_AT_ONCE = 256
"""Events taken from the engine before other tasks get a turn."""


class Dataplane:
    """The worker threads. `start` once, `publish` as often as needed, `shutdown` once.

    Raises:
        ValueError, OSError: the engine refuses its configuration.
    """

    def __init__(self, config: _engine.EngineConfig) -> None:
        self._engine = _engine.Engine(config)
        self._stopped = trio.Event()
        self._epoch = 0
        self._pools: list[_engine.PoolTable] = []

    def __repr__(self) -> str:
        return f"<Dataplane table {self._epoch}{' stopped' if self._stopped.is_set() else ''}>"

    @property
    def version(self) -> str:
        """The engine's version."""
        return _engine.__version__

    @property
    def build_profile(self) -> str:
        """``release`` or ``debug``."""
        return _engine.build_profile

    @property
    def histogram_bounds_seconds(self) -> Sequence[float]:
        """Upper bounds of the buckets of every histogram."""
        return _engine.HISTOGRAM_BOUNDS_SECONDS

    def metrics(self) -> list[_engine.Metric]:
        """The engine's list of metrics."""
        return _engine.metrics()

    def statistics(self) -> list[_engine.Sample]:
        """Their values now."""
        return self._engine.statistics()

    def start(self, routing: Routing) -> None:
        """Starts the workers with the first table; clients are accepted from here on.

        Raises:
            EngineError: the engine refused the table or could not start.
        """
        try:
            pools = [_pool(pool) for pool in routing.pools]
            self._engine.start(_engine.RoutingTable(epoch=routing.epoch, pools=pools))
        except (ValueError, OSError, RuntimeError) as error:
            raise EngineError(f"the engine did not start: {error}") from error
        self._epoch, self._pools = routing.epoch, pools

    def publish(self, routing: Routing) -> None:
        """Every worker has adopted the table when this returns; it blocks for a worker's loop turn.

        Raises:
            EngineError: the engine refused the table or no longer runs.
        """
        try:
            pools = [_pool(pool) for pool in routing.pools]
            self._epoch = self._engine.publish(_engine.RoutingTable(epoch=routing.epoch, pools=pools))
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"the engine refused routing table {routing.epoch}: {error}") from error
        self._pools = pools

    def locate(self, pool: int, key: bytes) -> tuple[int, int]:
        """Position of the shard that has the key by the table in force, and of its home: the one that would
        have it if no shard were absent."""
        route = self._pools[pool].route(key)
        return route.shard, route.home

    def pause_writes(self, pool: int, shard: int) -> bool:
        """Holds writes to the shard; True once none is in flight, False if that took too long. Blocks.

        Raises:
            EngineError: the engine does not run.
        """
        try:
            return self._engine.pause_writes(pool, shard)
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"writes cannot be held: {error}") from error

    def resume_writes(self, pool: int, shard: int) -> None:
        """Undoes `pause_writes`.

        Raises:
            EngineError: the engine does not run.
        """
        try:
            self._engine.resume_writes(pool, shard)
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"writes cannot be resumed: {error}") from error

    async def events(self) -> AsyncIterator[EngineEvent]:
        """What the workers see, as they see it, until cancelled. One reader at a time."""
        while True:
            await trio.lowlevel.wait_readable(self._engine.fileno())
            for event in self._engine.drain_events(EVENTS_AT_ONCE):
                if event.kind == "stopped":
                    self._stopped.set()
                yield EngineEvent(
                    event.kind, event.pool, event.shard, event.backend, event.table_epoch, event.detail
                )

    def shutdown(self, grace_seconds: float) -> None:
        """No new clients; requests in flight get ``grace_seconds``. Returns at once."""
        self._engine.shutdown(grace_seconds)

    async def wait_stopped(self) -> None:
        """Returns when every worker has ended. `events` must be read meanwhile."""
        await self._stopped.wait()


def _pool(pool: PoolRouting) -> _engine.PoolTable:
    return _engine.PoolTable(
        hash=pool.hash,
        distribution=pool.distribution,
        hash_tag=pool.hash_tag,
        shards=[_shard(shard) for shard in pool.shards],
        absent=pool.absent,
        routes=pool.routes,
        leads=pool.leads,
    )


def _shard(shard: ShardRouting) -> _engine.ShardTable:
    return _engine.ShardTable(
        name=shard.name,
        weight=shard.weight,
        backends=[
            _engine.BackendTable(name=each.name, address=each.address, verify=list(each.verify))
            for each in shard.backends
        ],
        lead=shard.lead,
        in_sync=list(shard.in_sync),
        reads=list(shard.reads),
        spread=shard.spread,
        epoch=shard.epoch,
        restore=shard.restore,
        joining=list(shard.joining),
        lease=shard.lease,
        succession=shard.succession,
        succeeds=shard.succeeds,
        reserved=list(shard.reserved),
    )
