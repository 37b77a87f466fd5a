"""Runs a load generator against a port and reads what it reports.

Two are known: the project's own (`proxy/engine/src/bin/loadgen.rs`, both protocols, mixed reads and
writes) and redis-benchmark, as a second opinion that shares no line of code with us.
"""

import csv
import io
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from scenarios import Scenario
from support.servers import cpu_seconds, find_program
from targets import Target

ROOT = Path(__file__).resolve().parent.parent
LOADGEN = ROOT / "proxy/engine/target/release/loadgen"
KEYS = 100_000

GENERATOR_BUSY = 0.95
"""Share of a core above which the load generator, not the target, may have set the pace."""


@dataclass(frozen=True)
class Result:
    """One measurement. CPU time and memory are those of the target's process alone."""

    requests: int
    ops_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    resident_mib: float
    errors: int
    generator_share: float
    """CPU time of the load generator over the time it ran; 0 where it does not tell."""


class LoadFailed(RuntimeError):
    """The generator ended with an error, or nearly every request was answered with one."""


def populate(target: Target, scenario: Scenario) -> None:
    """Writes every key once, so that reads find values."""
    _loadgen(target, scenario, "--populate", "yes", "--pipeline", "100")


def measure(target: Target, scenario: Scenario, seconds: float, generator: str) -> Result:
    """Puts the load on the target for about that long."""
    before = cpu_seconds(target.process.pid)
    run = _run_redis_benchmark if generator == "redis-benchmark" else _run_loadgen
    requests, ops_per_second, p50_ms, p99_ms, errors, share = run(target, scenario, seconds)
    used = cpu_seconds(target.process.pid) - before
    return Result(
        requests=requests,
        ops_per_second=ops_per_second,
        p50_ms=p50_ms,
        p99_ms=p99_ms,
        cpu_us=used / requests * 1e6,
        resident_mib=target.process.resident_bytes() / 2**20,
        errors=errors,
        generator_share=share,
    )


Measured = tuple[int, float, float, float, int, float]


def _run_loadgen(target: Target, scenario: Scenario, seconds: float) -> Measured:
    mix = ["--sets", str(scenario.sets), "--gets", str(scenario.gets), "--seconds", str(seconds)]
    report = _loadgen(target, scenario, *mix, "--pipeline", str(scenario.pipeline))
    return (
        int(report["requests"]),
        float(report["ops_per_second"]),
        float(report["p50_us"]) / 1000,
        float(report["p99_us"]) / 1000,
        int(report["errors"]),
        float(report["own_cpu_seconds"]) / float(report["seconds"]),
    )


def _loadgen(target: Target, scenario: Scenario, *arguments: str) -> dict[str, float | str]:
    options = ["--clients", str(scenario.clients), "--value-bytes", str(scenario.value_bytes)]
    options += ["--keys", str(KEYS)]
    try:
        return loadgen(target.protocol, target.port, *options, *arguments)
    except LoadFailed as failure:
        raise LoadFailed(f"{target.name}, {scenario.name}: {failure}") from None


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


def _run_redis_benchmark(target: Target, scenario: Scenario, seconds: float) -> Measured:
    """It runs a number of requests, not a time, and all writes before all reads: the mix is 1:1."""
    count = int(seconds * (10_000 if scenario.clients == 1 else 30_000 * min(scenario.pipeline, 16)))
    options = ["-p", str(target.port), "-t", "set,get", "-n", str(count), "-c", str(scenario.clients)]
    options += ["-P", str(scenario.pipeline), "-d", str(scenario.value_bytes), "-r", str(KEYS), "--csv"]
    done = subprocess.run(
        [find_program("redis-benchmark"), *options], capture_output=True, text=True, check=False
    )
    rows = [row for row in csv.DictReader(io.StringIO(done.stdout)) if row.get("rps")]
    if done.returncode or len(rows) != 2:
        raise LoadFailed(f"{target.name}, {scenario.name}: {done.stdout}{done.stderr}")
    elapsed = sum(count / float(row["rps"]) for row in rows)
    requests = count * len(rows)
    worst_p50 = max(float(row["p50_latency_ms"]) for row in rows)
    worst_p99 = max(float(row["p99_latency_ms"]) for row in rows)
    return requests, requests / elapsed, worst_p50, worst_p99, 0, 0.0
