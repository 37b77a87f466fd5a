"""How each fault of a schedule is done and undone, on real processes and relays, and how often it bit.

Called by `chaos.run`, from one thread per fault. Knows how to break things, not what must survive it. A
fault that nobody felt proves nothing, so each deed returns a count of its effect: connections it hit,
packets it took, writes that were refused, events that the proxies noticed.
"""

from __future__ import annotations

import contextlib
import http.client
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from chaos.gates import Gate, Route
from chaos.schedule import Fault
from support.clock import Clock
from support.eventually import eventually
from support.network import Network
from support.ports import unread_connections
from support.proxy_process import ProxyProcess
from support.servers import RedisServer, Server
from support.store import RedisStore
from support.wire import Weather

RESET_SECONDS = 0.1
"""Pause between the resets of one fault."""
AFTERMATH_SECONDS = 1.0
"""For so long after it was stopped a proxy may still answer with what it waited for in vain: twice its time
limit for a request."""


@dataclass
class Stage:
    """All that can be broken.

    Args:
        servers, gates: by shard and position.
        survivors: per shard, the backend that is left alone.
        network: where each proxy is in a namespace of its own.
        clocks: of the processes whose clocks may jump, by their ids (`id`).
        is_persistent: the servers keep what they hold over a restart.

    Attributes:
        interruptions: ``(proxy, from, to)`` of restarts.
        kills: those of them that left writes half done.
        blackouts: ``(from, to)``: when the last copy of a shard was broken. Whoever begins one ends it.
    """

    servers: list[list[Server]]
    gates: list[list[Gate]]
    proxies: list[ProxyProcess]
    survivors: tuple[int, ...]
    network: Network | None = None
    clocks: Mapping[int, Clock] = field(default_factory=dict)
    is_persistent: bool = False
    interruptions: list[tuple[int, float, float]] = field(default_factory=list)
    kills: list[tuple[int, float, float]] = field(default_factory=list)
    blackouts: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._locks = {id(each): threading.RLock() for row in self.servers for each in row}
        self._locks |= {number: threading.RLock() for number in range(len(self.proxies))}

    def server(self, fault: Fault) -> Server:
        """The backend it is about."""
        return self.servers[fault.shard][fault.backend]

    def routes(self, fault: Fault) -> list[Route]:
        """The ways to the backend it is about: of all proxies, or of one."""
        routes = self.gates[fault.shard][fault.backend].routes
        return routes if fault.proxy is None else [routes[fault.proxy]]

    @contextmanager
    def alone(self, *things: Server | int) -> Iterator[None]:
        """Nobody else breaks these servers or proxies meanwhile: a process cannot be stopped while it is
        restarted. A fault that comes too late for that follows when the other has ended."""
        locks = [self._locks[each if isinstance(each, int) else id(each)] for each in things]
        for lock in locks:
            lock.acquire()
        try:
            yield
        finally:
            for lock in locks:
                lock.release()


Deed = Callable[[Stage, Fault], int]
"""Breaks what the fault says, mends it after its time, and returns how often it bit."""


def _until_noticed(deed: Callable[[Stage, Fault], object]) -> Deed:
    """Counts what the proxies noticed: probes that failed, and what their engines reported."""

    def counted(stage: Stage, fault: Fault) -> int:
        before = _noticed(stage)
        deed(stage, fault)
        after = _noticed(stage)
        # A proxy that was restarted meanwhile counts from nought.
        return sum(max(0, late - early) for early, late in zip(before, after, strict=True))

    return counted


def _noticed(stage: Stage) -> list[int]:
    found = []
    for proxy in stage.proxies:
        count = 0.0
        # It may be down by another fault just now.
        with contextlib.suppress(OSError, RuntimeError, http.client.HTTPException):
            count = proxy.metric("shardproxy_engine_events_total")
            count += proxy.metric("shardproxy_backend_probes_total")
            count -= proxy.metric("shardproxy_backend_probes_total", result="answers")
        found.append(int(count))
    return found


def _kill(stage: Stage, fault: Fault) -> None:
    server = stage.server(fault)
    with stage.alone(server):
        server.kill9()
        time.sleep(fault.seconds)
        server.restart()


def _stop(stage: Stage, fault: Fault) -> int:
    server = stage.server(fault)
    with stage.alone(server):
        return _stop_these([server], fault)


def _stop_all(stage: Stage, fault: Fault) -> int:
    servers = stage.servers[fault.shard]
    with stage.alone(*servers):
        return _stop_these(servers, fault)


def _stop_these(servers: list[Server], fault: Fault) -> int:
    for server in servers:
        server.stop()
    time.sleep(fault.seconds)
    waiting = sum(unread_connections(server.pid) for server in servers)
    for server in servers:
        server.cont()
    return waiting


def _configure(server: Server, *pairs: tuple[str, str]) -> None:
    with RedisStore(server.port) as store:
        for name, value in pairs:
            store.ask("CONFIG", "SET", name, value)


def _refusals(server: Server, error: str) -> int:
    """How often the server has answered with this error in this life."""
    with RedisStore(server.port) as store:
        lines = store.ask("INFO", "errorstats").decode().splitlines()
    prefix = f"errorstat_{error}:count="
    return sum(int(line.removeprefix(prefix)) for line in lines if line.startswith(prefix))


def _oom(stage: Stage, fault: Fault) -> int:
    server = stage.server(fault)
    with stage.alone(server):
        before = _refusals(server, "OOM")
        _configure(server, ("maxmemory-policy", "noeviction"), ("maxmemory", "1"))
        time.sleep(fault.seconds)
        _configure(server, ("maxmemory", "0"))
        return _refusals(server, "OOM") - before


def _oom_all(stage: Stage, fault: Fault) -> int:
    # Whoever refuses a write that another takes is out, so the survivor is the last to refuse and the
    # first to take writes again.
    survivor = stage.servers[fault.shard][stage.survivors[fault.shard]]
    others = [server for server in stage.servers[fault.shard] if server is not survivor]
    with stage.alone(*others, survivor):
        before = _refusals(survivor, "OOM")
        for server in (*others, survivor):
            _configure(server, ("maxmemory", "1"))
        time.sleep(fault.seconds)
        for server in (survivor, *others):
            _configure(server, ("maxmemory", "0"))
        return _refusals(survivor, "OOM") - before


def _misconf(stage: Stage, fault: Fault) -> int:
    """A snapshot that cannot be put in its place, as on a full disk: the server then refuses writes."""
    server = stage.server(fault)
    with stage.alone(server):
        obstacle = server.directory / "obstacle.rdb"
        obstacle.mkdir(exist_ok=True)
        (obstacle / "x").touch()
        before = _refusals(server, "MISCONF")
        with RedisStore(server.port) as store:
            for name, value in (("dbfilename", obstacle.name), ("save", "3600 1000000")):
                store.ask("CONFIG", "SET", name, value)
            store.ask("BGSAVE")
            eventually(lambda: b"rdb_last_bgsave_status:err" in store.ask("INFO", "persistence"))
            time.sleep(fault.seconds)
            store.ask("CONFIG", "SET", "save", "")
            store.ask("CONFIG", "SET", "dbfilename", "dump.rdb")
        shutil.rmtree(obstacle)
        return _refusals(server, "MISCONF") - before


def _reset(routes: list[Route], fault: Fault) -> None:
    until = time.monotonic() + fault.seconds
    while True:
        for route in routes:
            route.reset()
        if time.monotonic() > until:
            return
        time.sleep(RESET_SECONDS)


def _hold(begin: Callable[[Route, Fault], None]) -> Callable[[list[Route], Fault], None]:
    def deed(routes: list[Route], fault: Fault) -> None:
        for route in routes:
            begin(route, fault)
        time.sleep(fault.seconds)
        for route in routes:
            route.pass_through()

    return deed


def _on_routes(deed: Callable[[list[Route], Fault], None]) -> Deed:
    return lambda stage, fault: _disturb(stage.routes(fault), deed, fault)


def _on_link(deed: Callable[[list[Route], Fault], None]) -> Deed:
    return lambda stage, fault: _disturb([stage.gates[fault.shard][fault.backend].peers], deed, fault)


def _disturb(routes: list[Route], deed: Callable[[list[Route], Fault], None], fault: Fault) -> int:
    before = sum(route.disturbed for route in routes)
    deed(routes, fault)
    return sum(route.disturbed for route in routes) - before


def _on_wire(make: Callable[[float], tuple[Weather, Weather]]) -> Deed:
    """Weather towards the backends and from them."""

    def deed(stage: Stage, fault: Fault) -> int:
        network = stage.network
        assert network is not None
        port = stage.gates[fault.shard][fault.backend].port
        edges = range(len(stage.proxies)) if fault.proxy is None else [fault.proxy]
        there, back = make(fault.amount)
        before = network.counts()
        for edge in edges:
            network.set(edge, port, to_hub=there, from_hub=back)
        time.sleep(fault.seconds)
        for edge in edges:
            network.set(edge, port, to_hub=Weather(), from_hub=Weather())
        counted = network.counts() - before
        return counted["overtook"] if back.delay else counted["lost"]

    return deed


def _clock(stage: Stage, fault: Fault) -> int:
    server = stage.server(fault)
    clock = stage.clocks[id(server)]
    if isinstance(server, RedisServer):
        return _jump(clock, fault)

    def restart() -> None:
        # Memcached reads the time of day when it starts, and keeps to that whatever becomes of it.
        server.kill9()
        server.restart()

    with stage.alone(server):
        return _jump(clock, fault, restart)


def _proxy_clock(stage: Stage, fault: Fault) -> int:
    assert fault.proxy is not None
    proxy = stage.proxies[fault.proxy]

    def look() -> None:
        # Its status has the time of day, which it seldom needs otherwise.
        with contextlib.suppress(OSError, RuntimeError, http.client.HTTPException):
            proxy.status()

    return _jump(stage.clocks[id(proxy)], fault, look)


def _jump(clock: Clock, fault: Fault, look: Callable[[], None] = lambda: None) -> int:
    before = clock.readings
    clock.jump(fault.amount)
    look()
    time.sleep(fault.seconds)
    clock.jump(0)
    return clock.readings - before


def _proxy_stop(stage: Stage, fault: Fault) -> int:
    assert fault.proxy is not None
    proxy = stage.proxies[fault.proxy]
    with stage.alone(fault.proxy):
        since = time.monotonic()
        proxy.stop()
        time.sleep(fault.seconds)
        waiting = unread_connections(proxy.pid)
        proxy.cont()
        # What it was asked meanwhile has run out of time.
        stage.interruptions.append((fault.proxy, since, time.monotonic() + AFTERMATH_SECONDS))
    return waiting


def _proxy_kill(stage: Stage, fault: Fault) -> int:
    return _restart_proxy(stage, fault, ProxyProcess.kill9)


def _proxy_restart(stage: Stage, fault: Fault) -> int:
    return _restart_proxy(stage, fault, ProxyProcess.terminate)


def _restart_proxy(stage: Stage, fault: Fault, end: Callable[[ProxyProcess], object]) -> int:
    assert fault.proxy is not None
    proxy = stage.proxies[fault.proxy]
    with stage.alone(fault.proxy):
        since = time.monotonic()
        end(proxy)
        if end is ProxyProcess.kill9:
            stage.kills.append((fault.proxy, since, time.monotonic()))
        time.sleep(fault.seconds / 4)
        proxy.restart()
        stage.interruptions.append((fault.proxy, since, time.monotonic()))
    return 1


DEEDS: Mapping[str, Deed] = {
    "kill": _until_noticed(_kill),
    "stop": _stop,
    "oom": _oom,
    "misconf": _misconf,
    "oom_all": _oom_all,
    "stop_all": _stop_all,
    "reset": _on_routes(_reset),
    "cut": _on_routes(_hold(lambda route, fault: route.cut_replies(int(fault.amount)))),
    "cut_reset": _on_routes(_hold(lambda route, fault: route.cut_replies(int(fault.amount), reset=True))),
    "black_hole": _on_routes(_hold(lambda route, _: route.black_hole())),
    "delay": _on_routes(_hold(lambda route, fault: route.delay(fault.amount))),
    "refuse": _on_routes(_hold(lambda route, _: route.refuse())),
    "proxy_kill": _proxy_kill,
    "proxy_restart": _proxy_restart,
    "loss": _on_wire(lambda share: (Weather(loss=share), Weather(loss=share))),
    "partition": _on_wire(lambda _: (Weather(loss=1.0), Weather(loss=1.0))),
    "lose_requests": _on_wire(lambda _: (Weather(loss=1.0), Weather())),
    "lose_replies": _on_wire(lambda _: (Weather(), Weather(loss=1.0))),
    "reorder": _on_wire(lambda seconds: (Weather(delay=seconds), Weather(delay=seconds))),
    "clock": _clock,
    "proxy_clock": _proxy_clock,
    "link_reset": _on_link(_reset),
    "link_hole": _on_link(_hold(lambda route, _: route.black_hole())),
    "link_delay": _on_link(_hold(lambda route, fault: route.delay(fault.amount))),
    "proxy_stop": _proxy_stop,
}
"""By the names of `chaos.schedule.SORTS`."""
