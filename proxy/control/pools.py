"""From the configuration to the values the control plane decides with.

Called once by `proxy.tasks.controller`. The one place in ``control/`` that knows the schema's words.
"""

from __future__ import annotations

from proxy.config import Config
from proxy.control.model import BackendSpec, HealthSpec, PoolSpec, ShardSpec


def pool_specs(config: Config) -> tuple[PoolSpec, ...]:
    """Every pool, in the order of the file, which is the order of positions in the engine."""
    return tuple(_pool(name, config) for name in config.pools)


def _pool(name: str, config: Config) -> PoolSpec:
    pool = config.pools[name]
    login = pool.backend_auth
    health = pool.health
    return PoolSpec(
        name=name,
        protocol=pool.protocol,
        shards=tuple(
            ShardSpec(
                shard.name,
                tuple(BackendSpec(backend.address, backend.zone) for backend in shard.backends),
                shard.weight,
            )
            for shard in pool.shards
        ),
        hash=pool.hash,
        distribution=pool.distribution,
        hash_tag=pool.hash_tag,
        replication=pool.replication.mode,
        reads=pool.reads,
        zone=config.zone,
        views=pool.views,
        bootstrap=pool.bootstrap,
        panic_threshold=pool.panic_threshold,
        health=HealthSpec(health.interval_seconds, health.timeout_seconds, health.fall, health.rise),
        login=(login.user, login.password.reveal()) if login is not None else None,
        connect_timeout=pool.timeouts.connect_seconds,
        request_timeout=pool.timeouts.request_seconds,
        resync_auto=pool.resync.auto,
        resync_parallel=pool.resync.parallel,
        resync_rate=pool.resync.rate,
        on_shard_loss=pool.on_shard_loss,
        resync_method=pool.resync.method,
        databases=pool.databases if pool.protocol == "redis" else 1,
        routes=pool.routes_by_position,
        leads=pool.leads_by_position(config.pools),
    )
