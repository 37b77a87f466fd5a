"""Measures what a lost backend costs and how long its return takes: ``make recovery``, or see ``--help``.

For each protocol: the pause in writes and the failed requests when a leader is killed, again and again; the
time until a backend that came back empty is in sync, for a given amount of data, with requests going on; the
latency of a write with and without a replica. `bench/README.md` has the method.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from load import LOADGEN, loadgen
from report import RESULTS, machine
from run import refuse_debug_engine
from support.cluster import Cluster
from support.eventually import eventually
from support.servers import MemcachedServer, Server
from support.store import SERVERS, connect
from support.traffic import Traffic

VALUE_BYTES = 1024
PROTOCOLS = ("redis", "memcached")
HEALTHY = {
    "health": {"interval": "1s", "timeout": "500ms"},
    "timeouts": {"connect": "250ms", "request": "1s"},
}
"""The defaults of the configuration, which the tests' own clusters have not."""
BACK_SECONDS = 600.0
LEAD, FOLLOWER = 0, 1

Figures = dict[str, float]


class _Large(MemcachedServer):
    """A memcached with room for what is copied, and as many threads as it has by default."""

    def command(self) -> list[str]:
        return [*super().command(), "-m", "4096", "-t", "4"]


@contextmanager
def cluster(protocol: str, replicas: int, rate: str = "0") -> Iterator[Cluster]:
    """One shard of that many backends behind a proxy with the default settings."""
    options: dict[str, Any] = {**HEALTHY, "resync": {"auto": True, "rate": rate}}
    with Cluster(protocol, replicas=replicas, servers={**SERVERS, "memcached": _Large}, **options) as made:
        yield made


def kill_leaders(protocol: str, rounds: int) -> Figures:
    """kill -9 of the leader under load; it returns and is in sync again before the next one."""
    pauses = []
    with cluster(protocol, 2) as made:
        port = made.proxy.ports["p"]
        with Traffic(lambda: connect(protocol, port), writers=4, readers=4) as traffic:
            for _ in range(rounds):
                lead = made.shard_status()["lead"]
                victim = next(each for each in made.servers[0] if each.address == lead)
                traffic.flow(500)
                before = traffic.writes
                began = time.monotonic()
                victim.kill9()
                eventually(partial(_more_writes, traffic, before), within=10)
                pauses.append(time.monotonic() - began)
                traffic.flow(500)
                victim.restart()
                made.proxy.wait_state("p", victim.address, "in_sync", within=BACK_SECONDS)
            traffic.flow(500)
        with connect(protocol, port) as client:
            lost = traffic.lost(client)
    return {
        "kills": rounds,
        "first_write_ms_median": statistics.median(pauses) * 1000,
        "first_write_ms_max": max(pauses) * 1000,
        "longest_wait_of_a_write_ms": traffic.longest_pause() * 1000,
        "failed_reads_or_stale": len(traffic.violations),
        "failed_writes": len(traffic.failed_writes),
        "lost_writes": len(lost),
    }


def _more_writes(traffic: Traffic, before: int) -> bool:
    """True once every writer was answered after the loss, and not only those whose answer was on its way."""
    return traffic.writes > before + 8


def bring_back(protocol: str, mebibytes: int) -> Figures:
    """A backend that returns empty to a shard that holds so much, with requests going on meanwhile."""
    keys = mebibytes * 2**20 // VALUE_BYTES
    with cluster(protocol, 2) as made:
        port = made.proxy.ports["p"]
        options = ["--value-bytes", str(VALUE_BYTES), "--keys", str(keys), "--clients", "10"]
        loadgen(protocol, port, *options, "--populate", "yes", "--pipeline", "50")
        victim: Server = made.servers[0][FOLLOWER]
        with Traffic(lambda: connect(protocol, port), writers=2, readers=2) as traffic:
            victim.kill9()
            traffic.flow(200)
            began = time.monotonic()
            victim.restart()
            made.proxy.wait_state("p", victim.address, "in_sync", within=BACK_SECONDS)
            seconds = time.monotonic() - began
            traffic.flow(200)
        done = next(line for line in made.proxy.log_text().splitlines() if " resynchronised " in line)
        told = dict(word.split("=", 1) for word in done.split() if "=" in word)
        copied = made.proxy.resident_bytes() / 2**20
    return {
        "mebibytes": mebibytes,
        "keys": keys,
        "seconds_until_in_sync": seconds,
        "mebibytes_per_second": mebibytes / seconds,
        "writes_held_ms": float(told["write_pause_ms"]),
        "longest_wait_of_a_write_ms": traffic.longest_pause() * 1000,
        "failed_reads_or_stale": len(traffic.violations),
        "failed_writes": len(traffic.failed_writes),
        "proxy_resident_mib": copied,
    }


def write_latency(protocol: str, seconds: float) -> Figures:
    """One client that waits for each answer, writes only: median and 99th percentile in microseconds."""
    found: Figures = {}
    for name, replicas in (("alone", 1), ("replicated", 2)):
        with cluster(protocol, replicas) as made:
            options = ["--value-bytes", "32", "--keys", "1000", "--clients", "1", "--pipeline", "1"]
            options += ["--sets", "1", "--gets", "0", "--seconds", str(seconds)]
            report = loadgen(protocol, made.proxy.ports["p"], *options)
            found |= {f"{name}_p50_us": float(report["p50_us"]), f"{name}_p99_us": float(report["p99_us"])}
    return found


def show(results: dict[str, dict[str, Figures]], console: Console) -> None:
    """One table per measurement, a column per protocol."""
    for measurement, by_protocol in results.items():
        table = Table("", *by_protocol, title=measurement, title_justify="left")
        for name in next(iter(by_protocol.values())):
            table.add_row(name, *(f"{figures[name]:,.1f}" for figures in by_protocol.values()))
        console.print(table)


def main() -> None:
    """Runs everything, prints the tables, writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=8, help="leaders killed, one after the other (8)")
    parser.add_argument("--mebibytes", type=int, default=1024, help="held by the one brought back (1024)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a measurement of latency (3)")
    parser.add_argument("--protocol", choices=PROTOCOLS, action="append", help="only this one")
    options = parser.parse_args()
    refuse_debug_engine()
    if not LOADGEN.exists():
        sys.exit(f"{LOADGEN} is missing; `make recovery` builds it")
    console = Console(width=None if sys.stdout.isatty() else 120)
    results: dict[str, dict[str, Figures]] = {"write latency": {}, "leader killed": {}, "backend back": {}}
    for protocol in options.protocol or PROTOCOLS:
        console.print(f"{protocol}: latency of a write", highlight=False)
        results["write latency"][protocol] = write_latency(protocol, options.seconds)
        console.print(f"{protocol}: {options.kills} leaders killed", highlight=False)
        results["leader killed"][protocol] = kill_leaders(protocol, options.kills)
        console.print(f"{protocol}: {options.mebibytes} MiB brought back", highlight=False)
        results["backend back"][protocol] = bring_back(protocol, options.mebibytes)
    show(results, console)
    moment = datetime.now(UTC)
    content: dict[str, Any] = {"at": moment.isoformat(timespec="seconds"), "machine": machine()} | results
    path = RESULTS / f"recovery-{moment:%Y-%m-%dT%H%M%SZ}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    console.print(f"written: {path}", soft_wrap=True)


if __name__ == "__main__":
    main()
