"""Small requests beside one client with huge values: how long they wait behind those.

The server itself waits while it takes such a value, so the same load straight to it is measured too.
"""

import threading
from contextlib import ExitStack

from load import loadgen
from peers import DIRECT, OURS, Running, start
from scenarios import Layout
from support.raw import RawClient

VALUE_BYTES = 16 * 2**20
CLIENTS = 10
SECONDS = 3.0


def measure(seconds: float = SECONDS) -> dict[str, float]:
    """Percentiles of small reads and of small writes in milliseconds, alone and beside values of 16 MiB."""
    facts: dict[str, float] = {}
    with ExitStack() as stack:
        for running in start(Layout(protocol="redis", shards=1), [DIRECT, OURS], stack):
            loadgen("redis", running.port, "--populate", "yes", "--keys", "10000", "--pipeline", "20")
            facts |= _percentiles(running, "alone", seconds)
            over = threading.Event()
            moved = [0]
            thread = threading.Thread(target=_move, args=(running, over, moved))
            thread.start()
            try:
                facts |= _percentiles(running, "beside_16mib", seconds)
            finally:
                over.set()
                thread.join()
            facts[f"large_{running.name}_values_per_second"] = moved[0] / (2 * seconds)
    return facts


def _percentiles(running: Running, name: str, seconds: float) -> dict[str, float]:
    facts = {}
    for what, mix in {"reads": ("0", "1"), "writes": ("1", "0")}.items():
        options = ["--keys", "10000", "--clients", str(CLIENTS), "--seconds", str(seconds)]
        report = loadgen("redis", running.port, *options, "--sets", mix[0], "--gets", mix[1])
        for percentile in ("p99", "p999"):
            place = f"large_{running.name}_{what}_{name}_{percentile}_ms"
            facts[place] = float(report[f"{percentile}_us"]) / 1000
    return facts


def _move(running: Running, over: threading.Event, moved: list[int]) -> None:
    """Writes and reads the value until told to stop; counts how often."""
    value = b"v" * VALUE_BYTES
    with RawClient(running.port, timeout=60) as client:
        while not over.is_set():
            client.send(b"*3\r\n$3\r\nSET\r\n$4\r\nhuge\r\n$%d\r\n" % VALUE_BYTES + value + b"\r\n")
            client.read_line()
            client.send(b"*2\r\n$3\r\nGET\r\n$4\r\nhuge\r\n")
            client.read_line()
            left = VALUE_BYTES + 2
            while left:
                # In parts that are dropped at once: one buffer for all of it would be copied over and over.
                left -= len(client.read_exactly(min(left, 65_536)))
            moved[0] += 1
