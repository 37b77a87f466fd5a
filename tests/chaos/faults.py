"""How each fault of a schedule is done and undone, on real processes and relays.

Called by `chaos.run`, from one thread per fault. Knows how to break things, not what must survive it.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from chaos.gates import Gate, Route
from chaos.schedule import Fault
from support.eventually import eventually
from support.proxy_process import ProxyProcess
from support.servers import Server
from support.store import RedisStore

RESET_SECONDS = 0.1
"""Pause between the resets of one fault."""


@dataclass
class Stage:
    """All that can be broken.

    Args:
        servers, gates: by shard and position.
        survivors: per shard, the backend that is left alone.

    Attributes:
        interruptions: ``(proxy, from, to)`` of restarts.
        kills: those of them that left writes half done.
    """

    servers: list[list[Server]]
    gates: list[list[Gate]]
    proxies: list[ProxyProcess]
    survivors: tuple[int, ...]
    interruptions: list[tuple[int, float, float]] = field(default_factory=list)
    kills: list[tuple[int, float, float]] = field(default_factory=list)

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


Deed = Callable[[Stage, Fault], None]


def perform(stage: Stage, fault: Fault, start: float) -> None:
    """Waits for the fault's moment, breaks what it says, and mends it after its time.

    Args:
        start: when the clients began.
    """
    time.sleep(max(0.0, start + fault.at - time.monotonic()))
    DEEDS[fault.sort](stage, fault)


def _kill(stage: Stage, fault: Fault) -> None:
    server = stage.server(fault)
    with stage.alone(server):
        server.kill9()
        time.sleep(fault.seconds)
        server.restart()


def _stop(stage: Stage, fault: Fault) -> None:
    server = stage.server(fault)
    with stage.alone(server):
        server.stop()
        time.sleep(fault.seconds)
        server.cont()


def _stop_all(stage: Stage, fault: Fault) -> None:
    servers = stage.servers[fault.shard]
    with stage.alone(*servers):
        for server in servers:
            server.stop()
        time.sleep(fault.seconds)
        for server in servers:
            server.cont()


def _configure(server: Server, *pairs: tuple[str, str]) -> None:
    with RedisStore(server.port) as store:
        for name, value in pairs:
            store.ask("CONFIG", "SET", name, value)


def _oom(stage: Stage, fault: Fault) -> None:
    server = stage.server(fault)
    with stage.alone(server):
        _configure(server, ("maxmemory-policy", "noeviction"), ("maxmemory", "1"))
        time.sleep(fault.seconds)
        _configure(server, ("maxmemory", "0"))


def _oom_all(stage: Stage, fault: Fault) -> None:
    # Whoever refuses a write that another takes is out, so the survivor is the last to refuse and the
    # first to take writes again.
    survivor = stage.servers[fault.shard][stage.survivors[fault.shard]]
    others = [server for server in stage.servers[fault.shard] if server is not survivor]
    with stage.alone(*others, survivor):
        for server in (*others, survivor):
            _configure(server, ("maxmemory", "1"))
        time.sleep(fault.seconds)
        for server in (survivor, *others):
            _configure(server, ("maxmemory", "0"))


def _misconf(stage: Stage, fault: Fault) -> None:
    """A snapshot that cannot be put in its place, as on a full disk: the server then refuses writes."""
    server = stage.server(fault)
    with stage.alone(server):
        obstacle = server.directory / "obstacle.rdb"
        obstacle.mkdir(exist_ok=True)
        (obstacle / "x").touch()
        with RedisStore(server.port) as store:
            for name, value in (("dbfilename", obstacle.name), ("save", "3600 1000000")):
                store.ask("CONFIG", "SET", name, value)
            store.ask("BGSAVE")
            eventually(lambda: b"rdb_last_bgsave_status:err" in store.ask("INFO", "persistence"))
            time.sleep(fault.seconds)
            store.ask("CONFIG", "SET", "save", "")
            store.ask("CONFIG", "SET", "dbfilename", "dump.rdb")
        shutil.rmtree(obstacle)


def _reset(stage: Stage, fault: Fault) -> None:
    until = time.monotonic() + fault.seconds
    while True:
        for route in stage.routes(fault):
            route.reset()
        if time.monotonic() > until:
            return
        time.sleep(RESET_SECONDS)


def _on_routes(begin: Callable[[Route, Fault], None]) -> Deed:
    def deed(stage: Stage, fault: Fault) -> None:
        for route in stage.routes(fault):
            begin(route, fault)
        time.sleep(fault.seconds)
        for route in stage.routes(fault):
            route.pass_through()

    return deed


def _proxy_kill(stage: Stage, fault: Fault) -> None:
    _restart_proxy(stage, fault, ProxyProcess.kill9)


def _proxy_restart(stage: Stage, fault: Fault) -> None:
    _restart_proxy(stage, fault, ProxyProcess.terminate)


def _restart_proxy(stage: Stage, fault: Fault, end: Callable[[ProxyProcess], object]) -> None:
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


DEEDS: Mapping[str, Deed] = {
    "kill": _kill,
    "stop": _stop,
    "oom": _oom,
    "misconf": _misconf,
    "oom_all": _oom_all,
    "stop_all": _stop_all,
    "reset": _reset,
    "cut": _on_routes(lambda route, fault: route.cut_replies(int(fault.amount))),
    "cut_reset": _on_routes(lambda route, fault: route.cut_replies(int(fault.amount), reset=True)),
    "black_hole": _on_routes(lambda route, _: route.black_hole()),
    "delay": _on_routes(lambda route, fault: route.delay(fault.amount)),
    "refuse": _on_routes(lambda route, _: route.refuse()),
    "proxy_kill": _proxy_kill,
    "proxy_restart": _proxy_restart,
}
"""By the names of `chaos.schedule.SORTS`."""
