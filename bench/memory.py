"""What the proxy's process takes: after its start, for each idle client, and after a burst of large values.

Resident memory as the kernel counts it, so what the allocator keeps for itself counts too.
"""

import socket
import threading
import time
from contextlib import ExitStack

from load import idle_clients
from peers import OURS, Running, start
from scenarios import Layout
from support.raw import RawClient

FEW, MANY = 100, 10_000
BURST_CLIENTS = 64
VALUE_BYTES = 2**20
REST_SECONDS = 3.0
"""Clients that asked for nothing for two seconds have given their buffers back."""
SETTLE_SECONDS = 10.0


def resident_mib(running: Running) -> float:
    """Now."""
    return running.process.resident_bytes() / 2**20


def measure(scale: int = MANY) -> dict[str, float]:
    """All of it, over two Redis servers without replicas.

    Args:
        scale: how many idle clients.
    """
    facts: dict[str, float] = {}
    with ExitStack() as stack:
        (proxy,) = start(Layout(protocol="redis"), [OURS], stack)
        facts["started_mib"] = resident_mib(proxy)
        facts |= idle(proxy, scale)
    with ExitStack() as stack:
        (proxy,) = start(Layout(protocol="redis"), [OURS], stack)
        facts |= burst(proxy)
    return facts


def idle(proxy: Running, count: int) -> dict[str, float]:
    """KiB per client: of those that have said nothing yet, and of those that rest after a request each."""
    with idle_clients(proxy.port, FEW):
        before = resident_mib(proxy)
        with idle_clients(proxy.port, count) as clients:
            _ask(clients[-1])  # the last is accepted behind all others
            silent = resident_mib(proxy) - before
            for each in clients:
                _ask(each)
            time.sleep(REST_SECONDS)
            rested = resident_mib(proxy) - before
    return {
        "idle_client_silent_kib": silent * 1024 / count,
        "idle_client_kib": rested * 1024 / count,
    }


def _ask(client: socket.socket) -> None:
    client.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
    client.recv(64)


def burst(proxy: Running) -> dict[str, float]:
    """What is kept when clients with values of 1 MiB have gone quiet; they stay connected."""
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(proxy.port, timeout=60)) for _ in range(BURST_CLIENTS)]
        for client in clients:
            _write_and_read(client, "small", b"v" * 32)
        time.sleep(REST_SECONDS)
        before = highest = resident_mib(proxy)
        value = b"v" * VALUE_BYTES
        threads = [
            threading.Thread(target=_write_and_read, args=(client, f"large{number}", value))
            for number, client in enumerate(clients)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            highest = max(highest, resident_mib(proxy))
            time.sleep(0.02)
        settled, until = resident_mib(proxy), time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < until:
            time.sleep(0.2)
            settled = min(settled, resident_mib(proxy))
    return {
        "burst_peak_mib": highest - before,
        "kept_after_burst_mib": settled - before,
    }


def _write_and_read(client: RawClient, key: str, value: bytes) -> None:
    head = f"*3\r\n$3\r\nSET\r\n${len(key)}\r\n{key}\r\n${len(value)}\r\n".encode()
    client.send(head + value + b"\r\n")
    assert client.read_line() == b"+OK\r\n"
    client.send(f"*2\r\n$3\r\nGET\r\n${len(key)}\r\n{key}\r\n".encode())
    client.read_line()
    client.read_exactly(len(value) + 2)
