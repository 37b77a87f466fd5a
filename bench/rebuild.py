"""A routing table of 1,000 shards made anew and adopted while requests go on.

The engine alone, in this process: who belongs to a shard takes two real servers here, not a thousand.
"""

import secrets
import socket
import statistics
import threading
import time
from contextlib import ExitStack

from load import loadgen
from support.servers import RedisServer

from proxy import _engine

SHARDS = 1000
SECONDS = 3.0
PAUSE_SECONDS = 0.1


def table(epoch: int, ports: list[int], shards: int, absent: list[int]) -> _engine.RoutingTable:
    """All of it from scratch, as after a change of membership; without the absent the ring is another."""
    rows = []
    for number in range(shards):
        address = f"127.0.0.1:{ports[number % len(ports)]}"
        backend = _engine.BackendTable(name=address, address=address, verify=[])
        rows.append(
            _engine.ShardTable(
                name=f"s{number}",
                weight=1,
                backends=[backend],
                lead=0,
                in_sync=[0],
                reads=[0],
                spread=False,
                epoch=epoch,
                restore=b"",
            )
        )
    pool = _engine.PoolTable(hash="fnv1a_64", distribution="ketama", hash_tag="", shards=rows, absent=absent)
    return _engine.RoutingTable(epoch=epoch, pools=[pool])


def engine(listener: socket.socket) -> _engine.Engine:
    """With one worker and one pool."""
    pool = _engine.PoolConfig(
        name="bench",
        protocol="redis",
        listeners=[listener.fileno()],
        connect_timeout=1,
        request_timeout=5,
        client_idle_timeout=0,
        client_limit=10_000,
        request_bytes_limit=2**29,
        client_inflight_limit=1024,
        client_output_bytes_limit=2**26,
        backend_inflight_limit=65_536,
        ack="all",
        cross_shard="split",
        keyless_everywhere=False,
        cluster=False,
        databases=16,
        users=[],
        backend_login=None,
        server_version="7.0.15",
    )
    return _engine.Engine(_engine.EngineConfig(workers=1, run_id=secrets.token_hex(20), pools=[pool]))


def measure(shards: int = SHARDS, seconds: float = SECONDS) -> dict[str, float]:
    """Milliseconds to make a table and have it adopted; what becomes of requests meanwhile."""
    with ExitStack() as stack:
        options = ("--maxclients", "20000")
        ports = [stack.enter_context(RedisServer(*options)).port for _ in range(2)]
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
        listener.setblocking(False)
        running = engine(listener)
        running.start(table(1, ports, shards, []))
        stack.callback(running.shutdown, 0.1)
        port = listener.getsockname()[1]
        loadgen("redis", port, "--populate", "yes", "--keys", "100000", "--pipeline", "20")
        quiet = loadgen("redis", port, "--seconds", str(seconds))
        over = threading.Event()
        took: list[float] = []
        publisher = threading.Thread(target=_publish, args=(running, ports, shards, over, took))
        publisher.start()
        try:
            busy = loadgen("redis", port, "--seconds", str(seconds))
        finally:
            over.set()
            publisher.join()
    return {
        "rebuild_ms": statistics.median(took),
        "rebuild_longest_ms": max(took),
        "rebuild_p999_ms": float(busy["p999_us"]) / 1000,
        "no_rebuild_p999_ms": float(quiet["p999_us"]) / 1000,
    }


def _publish(
    running: _engine.Engine, ports: list[int], shards: int, over: threading.Event, took: list[float]
) -> None:
    epoch = 2
    while not over.wait(PAUSE_SECONDS) or not took:
        began = time.perf_counter()
        running.publish(table(epoch, ports, shards, [epoch % shards] if epoch % 2 else []))
        took.append((time.perf_counter() - began) * 1000)
        epoch += 1
