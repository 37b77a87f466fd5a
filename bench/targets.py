"""What is measured against what: servers alone, nutcracker, and this proxy, over equal backends.

All are started once and stay up for the whole run; each is limited to one thread, so that CPU per
request and throughput say the same about the code.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from support.process import Process
from support.proxy_process import ProxyProcess, pool
from support.servers import MemcachedServer, Nutcracker, RedisServer, Server

SHARDS = 2
SERVERS: dict[str, Callable[[], Server]] = {"redis": RedisServer, "memcached": MemcachedServer}


@dataclass(frozen=True)
class Target:
    """Where the load goes, and the process whose CPU time and memory count."""

    name: str
    protocol: str
    replicas: int
    process: Process
    port: int


def _direct(protocol: str, _replicas: int, backends: list[list[Server]], _stack: ExitStack) -> Target:
    server = backends[0][0]
    return Target("direct", protocol, 0, server, server.port)


def _nutcracker(protocol: str, _replicas: int, backends: list[list[Server]], stack: ExitStack) -> Target:
    relay = stack.enter_context(Nutcracker([f"{shard[0].address}:1" for shard in backends], protocol))
    return Target("nutcracker", protocol, 0, relay, relay.port)


def _shardproxy(protocol: str, replicas: int, backends: list[list[Server]], stack: ExitStack) -> Target:
    shards = [[server.address for server in shard] for shard in backends]
    options = {"hash": "fnv1a_64", "distribution": "ketama"}
    proxy = stack.enter_context(ProxyProcess({"pools": {"bench": pool(protocol, *shards, **options)}}))
    return Target("shardproxy", protocol, replicas, proxy, proxy.ports["bench"])


TARGETS = {"direct": _direct, "nutcracker": _nutcracker, "shardproxy": _shardproxy}
"""By name, in the order they are measured in; ratios are taken to the first two."""

REPLICATED = {"shardproxy"}
"""Those that can send a write to a second backend."""


def start(names: list[str], protocols: set[str], replica_counts: set[int], stack: ExitStack) -> list[Target]:
    """Starts backends and the named targets in front of them; ``stack`` ends them.

    Each number of replicas has backends of its own, since a proxy notes in them who belongs to a shard.
    """
    targets = []
    for protocol in sorted(protocols):
        for replicas in sorted(replica_counts):
            wanted = [name for name in names if not replicas or name in REPLICATED]
            if not wanted:
                continue
            backends = [
                [stack.enter_context(SERVERS[protocol]()) for _ in range(1 + replicas)] for _ in range(SHARDS)
            ]
            targets += [TARGETS[name](protocol, replicas, backends, stack) for name in wanted]
    return targets
