"""From measurements to what is read: medians, ratios, a table, a dated JSON file."""

import dataclasses
import json
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from load import GENERATOR_BUSY, ROOT, Result
from rich.console import Console
from rich.table import Table
from support.servers import find_program, has_program

RESULTS = Path(__file__).resolve().parent / "results"

Measurements = Mapping[str, Mapping[str, Sequence[Result]]]
"""Scenario name → target name → one result per round."""


def median(results: Sequence[Result]) -> Result:
    """The median of each field on its own."""
    names = [field.name for field in dataclasses.fields(Result)]
    return Result(**{name: statistics.median(getattr(r, name) for r in results) for name in names})


def print_table(measurements: Measurements, console: Console) -> None:
    """One block per scenario. CPU is compared with nutcracker, throughput with both others."""
    table = Table(caption="medians; CPU is user+system time of the target's process per request")
    for column in ("scenario", "target"):
        table.add_column(column)
    against = ("ops/s", "/ direct", "/ nutcracker", "CPU µs", "/ nutcracker")
    for column in (*against, "p50 ms", "p99 ms", "MiB", "errors"):
        table.add_column(column, justify="right")
    busy = False
    for scenario, targets in measurements.items():
        medians = {name: median(results) for name, results in targets.items() if results}
        direct, peer = medians.get("direct"), medians.get("nutcracker")
        for name, row in medians.items():
            limited = row.generator_share > GENERATOR_BUSY
            busy |= limited
            table.add_row(
                scenario if name == next(iter(medians)) else "",
                name,
                f"{row.ops_per_second:,.0f}{'*' if limited else ''}",
                _ratio(row.ops_per_second, direct.ops_per_second if direct else None),
                _ratio(row.ops_per_second, peer.ops_per_second if peer else None),
                f"{row.cpu_us:.2f}",
                _ratio(row.cpu_us, peer.cpu_us if peer else None),
                f"{row.p50_ms:.3f}",
                f"{row.p99_ms:.3f}",
                f"{row.resident_mib:.0f}",
                f"{row.errors:.0f}",
            )
        table.add_section()
    console.print(table)
    if busy:
        console.print("* the load generator used its whole core: the target could have done more")


def _ratio(value: float, base: float | None) -> str:
    return f"{value / base:.2f}" if base else ""


def print_replica_cost(measurements: Measurements, console: Console) -> None:
    """What a copy of every write costs: the same scenario with and without it."""
    for scenario, targets in measurements.items():
        with_replica = measurements.get(f"{scenario} replica", {}).get("shardproxy")
        without = targets.get("shardproxy")
        if with_replica and without:
            ratio = median(with_replica).cpu_us / median(without).cpu_us
            console.print(f"{scenario}: CPU with a replica / without: {ratio:.2f}")


def write_json(measurements: Measurements, settings: Mapping[str, object]) -> Path:
    """Writes every round and what it was measured on; returns the path, dated in UTC."""
    document = {
        "settings": dict(settings),
        "machine": machine(),
        "medians": {
            scenario: {name: dataclasses.asdict(median(rows)) for name, rows in targets.items() if rows}
            for scenario, targets in measurements.items()
        },
        "rounds": {
            scenario: {name: [dataclasses.asdict(row) for row in rows] for name, rows in targets.items()}
            for scenario, targets in measurements.items()
        },
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def machine() -> dict[str, object]:
    """What it is measured on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": model[0].partition(": ")[2] if model else platform.machine(),
        "cores": len(model),
        "kernel": platform.release(),
        "commit": _first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "redis-server": _first_line("redis-server", "--version"),
        "memcached": _first_line("memcached", "-V"),
        "nutcracker": _first_line("nutcracker", "--version"),
    }


def _first_line(program: str, *arguments: str) -> str:
    if not has_program(program):
        return ""
    done = subprocess.run([find_program(program), *arguments], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).partition("\n")[0].strip()
