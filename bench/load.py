"""One measurement: a load generator put on a peer, what it reports, and what the peer's process used.

Three are known: memtier_benchmark, which knows all protocols; the project's own
(`proxy/engine/src/bin/loadgen.rs`), which counts errors and is always there; and redis-benchmark.
"""

import csv
import io
import json
import resource
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import memtier
from memtier import Report
from peers import OURS, Running
from scenarios import Scenario
from support.proxy_process import ProxyProcess
from support.servers import cpu_seconds, find_program, has_program

ROOT = Path(__file__).resolve().parent.parent
LOADGEN = ROOT / "proxy/engine/target/release/loadgen"

GENERATOR_BUSY = 0.95
"""Share of a core above which the load generator, not the peer, may have set the pace."""
IN_SYNC_SECONDS = 30.0


@dataclass(frozen=True)
class Result:
    """One measurement. CPU time and memory are those of the peer's process alone."""

    requests: float
    ops_per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    cpu_us: float
    resident_mib: float
    errors: float
    generator_share: float
    """CPU time of the load generator over the time it ran."""


class LoadFailed(RuntimeError):
    """The generator ended with an error, or nearly every request was answered with one."""


def generator_for(scenario: Scenario, wanted: str) -> str | None:
    """The one to use, ``wanted`` being ``"auto"`` or one of `GENERATORS`; None if none can make that load."""
    order = list(GENERATORS) if wanted == "auto" else [wanted]
    for name in order:
        if GENERATORS[name].can(scenario) and GENERATORS[name].is_here():
            return name
    return None


def populate(running: Running, scenario: Scenario) -> None:
    """Writes every key once, so that reads find values."""
    options = ["--clients", "10", "--value-bytes", str(scenario.value_bytes), "--keys", str(scenario.keys)]
    pipeline = "100" if scenario.value_bytes < 4096 else "1"
    loadgen(running.layout.protocol, running.port, *options, "--populate", "yes", "--pipeline", pipeline)


def measure(running: Running, scenario: Scenario, seconds: float, generator: str) -> Result:
    """Puts the load on a peer for about that long.

    Raises:
        LoadFailed: no figures came of it.
    """
    with idle_clients(running.port, scenario.idle), _fault(running, scenario, seconds / 2):
        before, children, began = cpu_seconds(running.process.pid), _children_cpu(), time.monotonic()
        try:
            report = GENERATORS[generator].run(running, scenario, seconds)
        except (LoadFailed, ValueError) as failure:
            raise LoadFailed(f"{running.name}, {scenario.name}: {failure}") from None
        used = cpu_seconds(running.process.pid) - before
        share = (_children_cpu() - children) / (time.monotonic() - began)
        resident = running.process.resident_bytes() / 2**20
    return Result(
        report.requests,
        report.ops_per_second,
        report.p50_ms,
        report.p99_ms,
        report.p999_ms,
        report.max_ms,
        used / report.requests * 1e6,
        resident,
        report.errors,
        share,
    )


def _children_cpu() -> float:
    """User and system time of the child processes that have ended and were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def idle_clients(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections that ask for nothing."""
    opened: list[socket.socket] = []
    try:
        # One by one, so that those that are open are closed when the next one fails.
        opened.extend(socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(count))
        yield opened
    finally:
        for each in opened:
            each.close()


def _fault(running: Running, scenario: Scenario, after: float) -> AbstractContextManager[None]:
    return _killed_leader(running, after) if scenario.fault == "kill" else nullcontext()


@contextmanager
def _killed_leader(running: Running, after: float) -> Iterator[None]:
    """Kills the leader of the first shard so much later; has it back in sync afterwards."""
    proxy = running.process
    assert isinstance(proxy, ProxyProcess), f"{running.name} is not {OURS}"
    shard = proxy.status()["pools"]["bench"]["shards"]["s1"]
    lead = next(each for each in running.backends[0] if each.address == shard["lead"])
    timer = threading.Timer(after, lead.kill9)
    timer.start()
    try:
        yield
    finally:
        timer.join()
        lead.restart()
        proxy.wait_state("bench", lead.address, "in_sync", within=IN_SYNC_SECONDS)


# Generators.


def _run_memtier(running: Running, scenario: Scenario, seconds: float) -> Report:
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        arguments = memtier.arguments(scenario, running.port, seconds)
        done = subprocess.run(
            [find_program(memtier.PROGRAM), *arguments, f"--json-out-file={report.name}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LoadFailed(done.stderr.strip()[-500:])
        return memtier.parse(Path(report.name).read_text())


def _run_loadgen(running: Running, scenario: Scenario, seconds: float) -> Report:
    options = ["--clients", str(scenario.clients), "--value-bytes", str(scenario.value_bytes)]
    options += ["--keys", str(scenario.keys), "--pipeline", str(scenario.pipeline)]
    options += ["--sets", str(scenario.sets), "--gets", str(scenario.gets), "--seconds", str(seconds)]
    options += ["--keys-per-get", str(scenario.keys_per_get)]
    report = loadgen(running.layout.protocol, running.port, *options)
    return Report(
        requests=int(report["requests"]),
        ops_per_second=float(report["ops_per_second"]),
        p50_ms=float(report["p50_us"]) / 1000,
        p99_ms=float(report["p99_us"]) / 1000,
        p999_ms=float(report["p999_us"]) / 1000,
        max_ms=float(report["max_us"]) / 1000,
        errors=int(report["errors"]),
    )


def loadgen(protocol: str, port: int, *arguments: str) -> dict[str, float | str]:
    """Runs our own load generator and returns what it reports.

    Raises:
        LoadFailed: it ended with an error, or most requests were answered with one.
    """
    options = ["--protocol", protocol, "--address", f"127.0.0.1:{port}"]
    done = subprocess.run([LOADGEN, *options, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadFailed(done.stderr.strip())
    report: dict[str, float | str] = json.loads(done.stdout)
    if float(report["errors"]) * 2 > float(report["requests"]):
        raise LoadFailed(f"{report['errors']} errors: {report['first_error']}")
    return report


def _run_redis_benchmark(running: Running, scenario: Scenario, seconds: float) -> Report:
    """It runs a number of requests, not a time, and all writes before all reads: the mix is 1:1."""
    count = int(seconds * (10_000 if scenario.clients == 1 else 30_000 * min(scenario.pipeline, 16)))
    options = ["-p", str(running.port), "-t", "set,get", "-n", str(count), "-c", str(scenario.clients)]
    options += ["-P", str(scenario.pipeline), "-d", str(scenario.value_bytes), "-r", str(scenario.keys)]
    done = subprocess.run(
        [find_program("redis-benchmark"), *options, "--csv"], capture_output=True, text=True, check=False
    )
    rows = [row for row in csv.DictReader(io.StringIO(done.stdout)) if row.get("rps")]
    if done.returncode or len(rows) != 2:
        raise LoadFailed(f"{done.stdout}{done.stderr}")
    elapsed = sum(count / float(row["rps"]) for row in rows)
    requests = count * len(rows)
    p50, p99, slowest = (
        max(float(row[name]) for row in rows)
        for name in ("p50_latency_ms", "p99_latency_ms", "max_latency_ms")
    )
    return Report(requests, requests / elapsed, p50, p99, slowest, slowest, 0)


@dataclass(frozen=True)
class Generator:
    """A program that makes load."""

    can: Callable[[Scenario], bool]
    is_here: Callable[[], bool]
    run: Callable[[Running, Scenario, float], Report]


def _is_text(scenario: Scenario) -> bool:
    return scenario.wire in ("redis", "memcache_text")


GENERATORS = {
    "memtier": Generator(
        lambda scenario: memtier.can(scenario) and not scenario.fault,  # it does not count errors
        lambda: has_program(memtier.PROGRAM),
        _run_memtier,
    ),
    "loadgen": Generator(_is_text, LOADGEN.exists, _run_loadgen),
    "redis-benchmark": Generator(
        lambda each: each.wire == "redis" and each.keys_per_get == 1 and each.sets == each.gets,
        lambda: has_program("redis-benchmark"),
        _run_redis_benchmark,
    ),
}
"""In the order in which they are preferred."""
