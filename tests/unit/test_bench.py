"""Of the benchmarks: scenarios and their names, medians, what is judged how, what load generators say."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import report
import run
from charts import file_name
from load import GENERATORS, Result, generator_for
from memtier import Report, arguments, parse
from peers import DIRECT, OURS, PEERS
from report import document_of, median, medians_of, ratio
from rich.console import Console
from run import EXTRAS, selected
from run import parse as parse_options
from scenarios import GROUPS, MOST_KEYS_BYTES, WIRES, Scenario, chosen, size
from targets import TARGETS, How, Target, Verdict, judge

from proxy import _engine

RESULT = Result(
    requests=1000,
    ops_per_second=100_000.0,
    p50_ms=0.1,
    p99_ms=0.5,
    p999_ms=1.0,
    max_ms=2.0,
    cpu_us=8.0,
    resident_mib=30.0,
    errors=0,
    generator_share=0.5,
)


def made(**fields: float) -> Result:
    return replace(RESULT, **fields)


# Scenarios.


def test_scenarios_have_names_of_their_own() -> None:
    everything = [each for group in chosen(everything=True).values() for each in group]
    assert len({each.name for each in everything}) == len(set(everything))
    for few, all_of_them in zip(chosen(False).values(), chosen(True).values(), strict=True):
        assert few
        assert set(few) <= set(all_of_them)


@pytest.mark.parametrize(
    ("scenario", "name"),
    [
        (Scenario(), "redis c50 P1"),
        (Scenario(wire="memcache_text", clients=1, pipeline=64), "memcache_text c1 P64"),
        (Scenario(gets=1, replicas=2, ack="quorum"), "redis c50 P1 1:1 replicas=2 ack=quorum"),
        (Scenario(keys_per_get=100, shards=256, sets=0), "redis c50 P1 0:10 get100 shards=256"),
        (Scenario(value_bytes=65_536, workers=2), "redis c50 P1 64KiB workers=2"),
        (Scenario(idle=10_000, fault="kill"), "redis c50 P1 idle=10000 kill"),
    ],
)
def test_a_name_says_what_is_not_usual(scenario: Scenario, name: str) -> None:
    assert scenario.name == name


def test_all_keys_fit_into_a_memcached() -> None:
    for group in chosen(everything=True).values():
        for scenario in group:
            assert 64 <= scenario.keys <= 100_000
            assert scenario.keys * scenario.value_bytes <= max(MOST_KEYS_BYTES, 64 * scenario.value_bytes)


def test_everything_is_everything() -> None:
    """What README.md lists, on each protocol's servers."""
    measured = {each for group in chosen(everything=True).values() for each in group}
    for wire in ("redis", "memcache_text"):
        wanted = {
            Scenario(wire=wire, clients=clients, pipeline=pipeline)
            for clients in (1, 50, 500, 10_000)
            for pipeline in (1, 16, 64)
        }
        wanted |= {Scenario(wire=wire, value_bytes=count) for count in (32, 1024, 65_536, 2**20 - 512)}
        wanted |= {Scenario(wire=wire, gets=gets) for gets in (10, 1, 0)}
        wanted |= {
            Scenario(wire=wire, clients=10, sets=0, keys_per_get=keys, shards=shards)
            for keys in (10, 100)
            for shards in (1, 4, 256)
        }
        wanted |= {
            Scenario(wire=wire, pipeline=16, gets=1, replicas=2, ack=ack)
            for ack in ("all", "quorum", "primary")
        }
        wanted |= {Scenario(wire=wire, pipeline=pipeline, workers=2) for pipeline in (1, 16, 64)}
        wanted |= {Scenario(wire=wire, idle=10_000), Scenario(wire=wire, gets=1, replicas=1, fault="kill")}
        assert wanted <= measured, wire
    for wire in WIRES:
        assert {Scenario(wire=wire, pipeline=pipeline) for pipeline in (1, 16, 64)} <= measured


@pytest.mark.parametrize(("count", "text"), [(32, "32B"), (1024, "1KiB"), (65_536, "64KiB"), (2**20, "1MiB")])
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_only_chooses_by_group_and_by_scenario() -> None:
    groups, extras = selected(parse_options(["--only", "^idle: "]))
    assert list(groups) == ["idle"]
    assert extras == []
    groups, extras = selected(parse_options(["--only", "memory"]))
    assert (groups, extras) == ({}, ["memory"])
    groups, extras = selected(parse_options([]))
    assert (list(groups), extras) == ([group.name for group in GROUPS], list(EXTRAS))


# What a run says before it measures.


def test_a_debug_engine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_engine, "build_profile", "debug")
    with pytest.raises(SystemExit, match="the engine is a debug build"):
        run.refuse_debug_engine()
    monkeypatch.setattr(_engine, "build_profile", "release")
    run.refuse_debug_engine()


def test_too_few_cores_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(record=True, width=400, file=io.StringIO())
    monkeypatch.setattr(run, "cores", lambda: 3)
    run.say_cores([Scenario(), Scenario(workers=2)], console)
    assert "3 cores, and 1 of 2 scenarios want up to 4" in console.export_text()
    monkeypatch.setattr(run, "cores", lambda: 4)
    run.say_cores([Scenario(), Scenario(workers=2)], console)
    assert console.export_text() == ""


def test_who_is_not_here_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    told = report.unused(["predixy", "envoy", DIRECT, OURS])
    assert told == ["predixy: predixy is not on PATH", "envoy: envoy is not on PATH"]


def test_versions_do_not_tell_where_programs_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "envoy"
    program.write_text('#!/bin/sh\necho "$0  version: 1.2"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert report.machine()["envoy"] == "envoy  version: 1.2"


# Peers.


@pytest.mark.parametrize(
    ("peer", "scenario", "can"),
    [
        ("nutcracker", Scenario(), True),
        ("nutcracker", Scenario(wire="resp3"), False),
        ("nutcracker", Scenario(replicas=1), False),
        ("nutcracker", Scenario(workers=2), False),
        ("predixy", Scenario(wire="memcache_text"), False),
        (DIRECT, Scenario(wire="memcache_binary"), True),
        (DIRECT, Scenario(replicas=1, fault="kill"), False),
        (OURS, Scenario(replicas=2, fault="kill", workers=2), True),
    ],
)
def test_peers_do_what_they_can(peer: str, scenario: Scenario, can: bool) -> None:
    assert PEERS[peer].can(scenario) == can


# Load generators.

MEMTIER: dict[str, Any] = {
    "ALL STATS": {
        "Totals": {
            "Count": 160_504,
            "Ops/sec": 159_479.5,
            "Max Latency": 89.599,
            "Connection Errors": 0,
            "Percentile Latencies": {"p50.00": 0.079, "p99.00": 1.375, "p99.90": 5.119},
        }
    }
}


def test_memtiers_report_is_read() -> None:
    assert parse(json.dumps(MEMTIER)) == Report(160_504, 159_479.5, 0.079, 1.375, 5.119, 89.599, 0)


@pytest.mark.parametrize("broken", [{}, {"ALL STATS": {"Totals": {"Count": 0}}}])
def test_a_report_without_figures_is_an_error(broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a report"):
        parse(json.dumps(broken))


def test_a_report_without_requests_is_an_error() -> None:
    empty = json.loads(json.dumps(MEMTIER))
    empty["ALL STATS"]["Totals"]["Count"] = 0
    with pytest.raises(ValueError, match="no request answered"):
        parse(json.dumps(empty))


def test_memtier_is_told_the_scenario() -> None:
    words = arguments(Scenario(clients=7, pipeline=16, sets=1, gets=1, value_bytes=1024), 6380, 2.0)
    assert {"--port=6380", "--clients=7", "--pipeline=16", "--ratio=1:1", "--data-size=1024"} <= set(words)


def test_errors_are_counted_where_they_matter() -> None:
    # memtier_benchmark does not count them, so a failover is never its.
    assert not GENERATORS["memtier"].can(Scenario(replicas=1, fault="kill"))
    assert GENERATORS["loadgen"].can(Scenario(replicas=1, fault="kill"))
    assert generator_for(Scenario(wire="memcache_binary"), "loadgen") is None
    assert not GENERATORS["memtier"].can(Scenario(keys_per_get=10))


# Medians, and what is judged by them.


def test_medians_are_taken_field_by_field() -> None:
    rows = [made(cpu_us=1.0, p99_ms=9.0), made(cpu_us=5.0, p99_ms=1.0), made(cpu_us=2.0, p99_ms=2.0)]
    assert median(rows) == made(cpu_us=2.0, p99_ms=2.0)
    assert medians_of({"s": {"a": rows, "failed": []}}) == {"s": {"a": median(rows)}}
    assert (ratio(1.0, 4.0), ratio(1.0, 0.0), ratio(1.0, None)) == ("0.25", "", "")


def verdict_of(
    name: str, medians: dict[str, dict[str, Result]], facts: dict[str, float], cores: int
) -> Verdict:
    (found,) = [each for each in judge(medians, facts, cores) if each.target.name == name]
    return found


def test_the_best_peer_is_the_one_to_beat() -> None:
    rows = {
        DIRECT: made(cpu_us=1.0, ops_per_second=500_000.0),
        "haproxy": made(cpu_us=2.0, ops_per_second=400_000.0),  # moves bytes only
        "nutcracker": made(cpu_us=12.0, ops_per_second=70_000.0),
        "predixy": made(cpu_us=10.0, ops_per_second=90_000.0),
        OURS: made(cpu_us=7.0, ops_per_second=80_000.0),
    }
    medians = {Scenario().name: rows}
    cpu = verdict_of("CPU per request, redis, P=1, against the best peer", medians, {}, 2)
    assert cpu.figure == pytest.approx(0.7)
    assert cpu.is_met
    throughput = verdict_of("throughput, redis, P=1, not below any peer", medians, {}, 2)
    assert throughput.figure == pytest.approx(80 / 90)
    assert throughput.is_met is False


def test_differences_and_scenarios_are_compared() -> None:
    alone = {Scenario(clients=1).name: {DIRECT: made(p50_ms=0.063), OURS: made(p50_ms=0.080)}}
    latency = verdict_of("median latency of one client, redis, more than direct", alone, {}, 2)
    assert latency.figure == pytest.approx(17.0)
    assert latency.is_met
    idle = {Scenario(idle=count).name: {OURS: made(cpu_us=cpu)} for count, cpu in ((100, 8.0), (10_000, 9.6))}
    cost = verdict_of("CPU per request, 10,000 idle clients against 100", idle, {}, 2)
    assert cost.figure == pytest.approx(1.2)
    assert cost.is_met is False


def test_what_was_not_measured_is_not_judged() -> None:
    verdicts = judge({}, {}, 2)
    assert [each.target for each in verdicts] == list(TARGETS)
    assert all(each.is_met is None and each.why for each in verdicts)
    only_ours = {Scenario().name: {OURS: RESULT}}
    assert verdict_of("CPU per request, redis, P=1, against the best peer", only_ours, {}, 2).figure is None


def test_two_workers_are_not_judged_on_two_cores() -> None:
    rows = {
        Scenario(pipeline=16).name: {OURS: made(ops_per_second=100_000.0)},
        Scenario(pipeline=16, workers=2).name: {OURS: made(ops_per_second=180_000.0)},
    }
    name = "throughput of two workers against one"
    assert verdict_of(name, rows, {}, 2).why == "needs 4 cores, here are 2"
    assert verdict_of(name, rows, {}, 4).is_met


def test_facts_are_judged_by_name() -> None:
    name = "memory of an idle client"
    assert verdict_of(name, {}, {"idle_client_kib": 1.4}, 2).is_met
    assert verdict_of(name, {}, {"idle_client_kib": 1.6}, 2).is_met is False


def test_targets_are_of_scenarios_that_are_measured_by_default() -> None:
    measured = {each for group in chosen(everything=False).values() for each in group}
    assert len({target.name for target in TARGETS}) == len(TARGETS)
    for target in TARGETS:
        assert bool(target.fact) != bool(target.metric)
        if target.metric:
            assert hasattr(RESULT, target.metric)
            assert {target.scenario, target.base or target.scenario} <= measured


def test_a_run_is_written_whole() -> None:
    target = Target(name="t", limit=1.0, fact="f", how=How.ALONE)
    document = document_of({"s": {OURS: [RESULT]}}, {"f": 2.0}, [Verdict(target, 2.0)], {"rounds": 1})
    read = json.loads(json.dumps(document))
    assert read["targets"] == [
        {
            "name": "t",
            "limit": 1.0,
            "unit": "times",
            "at_least": False,
            "figure": 2.0,
            "met": False,
            "why": "",
        }
    ]
    assert read["medians"]["s"][OURS] == read["rounds"]["s"][OURS][0]
    assert {"cpu", "cores", "kernel", "commit"} <= set(read["machine"])


def test_pictures_have_names_that_every_file_system_takes() -> None:
    assert file_name("redis c50 P1 1:1 ack=all") == "redis-c50-P1-1-1-ack-all.svg"
