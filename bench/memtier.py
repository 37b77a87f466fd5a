"""memtier_benchmark: its command line for a scenario, and what its report says."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scenarios import Scenario

PROGRAM = "memtier_benchmark"
PERCENTILES = ("p50.00", "p99.00", "p99.90")


@dataclass(frozen=True)
class Report:
    """What a load generator saw; times in milliseconds."""

    requests: int
    ops_per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    errors: int


def arguments(scenario: Scenario, port: int, seconds: float) -> list[str]:
    """One thread, for the whole time, on the keys that were written before."""
    wire = "redis" if scenario.wire == "redis" else scenario.wire
    options = {
        "host": "127.0.0.1",
        "port": port,
        "protocol": wire,
        "threads": 1,
        "clients": scenario.clients,
        "pipeline": scenario.pipeline,
        "ratio": f"{scenario.sets}:{scenario.gets}",
        "data-size": scenario.value_bytes,
        "key-minimum": 1,  # it takes no smaller one
        "key-maximum": scenario.keys - 1,
        "test-time": max(1, round(seconds)),
    }
    return [*(f"--{name}={value}" for name, value in options.items()), "--hide-histogram"]


def can(scenario: Scenario) -> bool:
    """True if it makes that load and counts it right, which it does not with reads of many keys."""
    return scenario.keys_per_get == 1


def parse(text: str) -> Report:
    """What ``--json-out-file`` wrote.

    Raises:
        ValueError: it is not that, or nothing was answered.
    """
    document: Mapping[str, Any] = json.loads(text)
    try:
        totals = document["ALL STATS"]["Totals"]
        latencies = [float(totals["Percentile Latencies"][name]) for name in PERCENTILES]
        report = Report(
            int(totals["Count"]),
            float(totals["Ops/sec"]),
            latencies[0],
            latencies[1],
            latencies[2],
            float(totals["Max Latency"]),
            int(totals.get("Connection Errors", 0)),
        )
    except (KeyError, TypeError) as missing:
        raise ValueError(f"not a report of {PROGRAM}: {missing}") from missing
    if report.requests == 0:
        raise ValueError(f"{PROGRAM} had no request answered")
    return report
