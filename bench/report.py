"""From measurements to what is read: medians, ratios, tables, a dated JSON file."""

import dataclasses
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from load import GENERATOR_BUSY, ROOT, Result
from peers import DIRECT, OURS, PEERS
from rich.console import Console
from rich.table import Table
from support.servers import find_program, has_program
from targets import NOT_MEASURED, Facts, Medians, Verdict

RESULTS = Path(__file__).resolve().parent / "results"

Measurements = Mapping[str, Mapping[str, Sequence[Result]]]
"""Scenario name → peer name → one result per round."""


def median(results: Sequence[Result]) -> Result:
    """The median of each field on its own."""
    names = [field.name for field in dataclasses.fields(Result)]
    return Result(**{name: statistics.median(getattr(r, name) for r in results) for name in names})


def medians_of(measurements: Measurements) -> Medians:
    """Of all rounds; without those of which there is none."""
    return {
        scenario: {name: median(rows) for name, rows in peers.items() if rows}
        for scenario, peers in measurements.items()
    }


def ratio(value: float, base: float | None) -> str:
    """With two digits; nothing where there is no base."""
    return f"{value / base:.2f}" if base else ""


def print_table(medians: Medians, console: Console) -> None:
    """One block per scenario; ours is compared with the others, not they with each other."""
    table = Table(caption="medians; CPU is user+system time of the peer's process per request; ours / theirs")
    for column in ("scenario", "peer"):
        table.add_column(column)
    columns = ("ops/s", "ours", "CPU µs", "ours", "p50 ms", "p99 ms", "p99.9 ms", "MiB", "errors")
    for column in columns:
        table.add_column(column, justify="right")
    busy = False
    for scenario, rows in medians.items():
        ours = rows.get(OURS)
        for name, row in rows.items():
            limited = row.generator_share > GENERATOR_BUSY
            busy |= limited
            others = ours is not None and name != OURS
            table.add_row(
                scenario if name == next(iter(rows)) else "",
                name,
                f"{row.ops_per_second:,.0f}{'*' if limited else ''}",
                ratio(ours.ops_per_second, row.ops_per_second) if ours and others else "",
                f"{row.cpu_us:.2f}",
                ratio(ours.cpu_us, row.cpu_us) if ours and others else "",
                f"{row.p50_ms:.3f}",
                f"{row.p99_ms:.3f}",
                f"{row.p999_ms:.3f}",
                f"{row.resident_mib:.0f}",
                f"{row.errors:.0f}",
            )
        table.add_section()
    console.print(table)
    if busy:
        console.print("* the load generator used its whole core: the peer could have done more")


def print_verdicts(verdicts: Sequence[Verdict], console: Console) -> None:
    """Each target, whether it is met, and by what."""
    table = Table(title="targets", title_justify="left")
    for column in ("target", "limit", "figure", ""):
        table.add_column(column, justify="left" if column in ("target", "") else "right")
    words = {True: "[green]met[/]", False: "[red]not met[/]", None: "[yellow]not judged[/]"}
    for verdict in verdicts:
        target = verdict.target
        if verdict.why == NOT_MEASURED:
            continue
        bound = "≥" if target.at_least else "≤"
        figure = "" if verdict.figure is None else f"{verdict.figure:,.2f} {target.unit}"
        table.add_row(
            target.name,
            f"{bound} {target.limit:g} {target.unit}",
            figure,
            words[verdict.is_met] + (f": {verdict.why}" if verdict.why else ""),
        )
    if table.row_count:
        console.print(table)
    if left := sum(verdict.why == NOT_MEASURED for verdict in verdicts):
        console.print(f"{left} more targets are of what this run did not measure", highlight=False)


def print_facts(facts: Facts, console: Console) -> None:
    """What was measured besides."""
    if not facts:
        return
    table = Table("besides", title_justify="left")
    table.add_column("", justify="right")
    for name, value in facts.items():
        table.add_row(name, f"{value:,.2f}")
    console.print(table)


def document_of(
    measurements: Measurements, facts: Facts, verdicts: Sequence[Verdict], settings: Mapping[str, object]
) -> dict[str, object]:
    """All of a run: what it ran on, every round, medians, targets."""
    return {
        "settings": dict(settings),
        "machine": machine(),
        "targets": [
            {
                "name": each.target.name,
                "limit": each.target.limit,
                "unit": each.target.unit.strip(),
                "at_least": each.target.at_least,
                "figure": each.figure,
                "met": each.is_met,
                "why": each.why,
            }
            for each in verdicts
        ],
        "facts": dict(facts),
        "medians": {
            scenario: {name: _rounded(row) for name, row in rows.items()}
            for scenario, rows in medians_of(measurements).items()
        },
        "rounds": {
            scenario: {name: [_rounded(row) for row in rows] for name, rows in peers.items()}
            for scenario, peers in measurements.items()
        },
    }


def _rounded(row: Result) -> dict[str, float]:
    return {name: round(value, 4) for name, value in dataclasses.asdict(row).items()}


def write_json(document: Mapping[str, object]) -> Path:
    """Writes it to a file of its own; returns the path, dated in UTC."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def machine() -> dict[str, object]:
    """What it is measured on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": model[0].partition(": ")[2] if model else platform.machine(),
        "cores": cores(),
        "load before": os.getloadavg()[0],
        "kernel": platform.release(),
        "commit": _first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "redis-server": _first_line("redis-server", "--version"),
        "memcached": _first_line("memcached", "-V"),
        "nutcracker": _first_line("nutcracker", "--version"),
        "predixy": _first_line("predixy", "--version"),
        "haproxy": _first_line("haproxy", "-v"),
        "envoy": _first_line("envoy", "--version"),
        "memtier_benchmark": _first_line("memtier_benchmark", "--version"),
    }


def _first_line(program: str, *arguments: str) -> str:
    if not has_program(program):
        return ""
    path = find_program(program)
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    # Some say where they are, which is nobody's business.
    return (done.stdout + done.stderr).replace(path, program).strip().partition("\n")[0].strip()


def unused(names: Sequence[str]) -> list[str]:
    """Why each of the known peers is not measured, where it is not."""
    reasons = {name: peer.missing() for name, peer in PEERS.items() if name in names}
    return [f"{name}: {reason}" for name, reason in reasons.items() if reason and name != DIRECT]
