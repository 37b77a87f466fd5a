"""Configuration and bound sockets -> what the engine is started with.

Called by ``app``. The one place that knows both the schema's words and the engine's; opens nothing.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from proxy import _engine
from proxy.config import Config, PoolConfig

# What clients are told that they talk to, whatever runs behind: libraries switch features on by it, so it
# is the oldest server that has all we offer (the versions of Debian 12, which the tests run against).
SERVER_VERSIONS: Final = {"redis": "7.0.15", "memcached": "1.6.18"}


def engine_config(config: Config, descriptors: Mapping[str, Sequence[int]]) -> _engine.EngineConfig:
    """The engine's configuration.

    Args:
        config: the whole file.
        descriptors: listening sockets of each pool, by name; the engine duplicates them.

    Raises:
        ValueError: the engine refuses a value, in its words.
    """
    pools = [_pool(name, pool, descriptors[name]) for name, pool in config.pools.items()]
    return _engine.EngineConfig(workers=config.workers, run_id=secrets.token_hex(20), pools=pools)


def _pool(name: str, pool: PoolConfig, descriptors: Sequence[int]) -> _engine.PoolConfig:
    login = pool.backend_auth
    return _engine.PoolConfig(
        name=name,
        protocol=pool.protocol,
        listeners=list(descriptors),
        connect_timeout=pool.timeouts.connect_seconds,
        request_timeout=pool.timeouts.request_seconds,
        client_idle_timeout=pool.timeouts.client_idle_seconds,
        client_limit=pool.limits.clients,
        request_bytes_limit=pool.limits.request_bytes,
        client_inflight_limit=pool.limits.client_inflight,
        client_output_bytes_limit=pool.limits.client_output_bytes,
        backend_inflight_limit=pool.limits.backend_inflight,
        ack=pool.replication.ack,
        cross_shard=pool.cross_shard,
        keyless_everywhere=pool.keyless_scripts == "all",
        cluster=pool.cluster == "emulate",
        databases=pool.databases,
        users=[(user.name, user.password.reveal()) for user in pool.auth.users],
        backend_login=(login.user, login.password.reveal()) if login is not None else None,
        server_version=SERVER_VERSIONS[pool.protocol],
        admin_commands=list(pool.admin_commands),
    )
