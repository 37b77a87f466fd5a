"""The targets: what is to be reached, as a table, and how each is judged by the medians of a run.

A figure is a ratio of two medians of one run wherever it can be, since those hold on other machines too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from load import Result
from peers import DIRECT, OURS
from scenarios import Scenario

Medians = Mapping[str, Mapping[str, Result]]
"""Scenario name → peer name → the median of each field."""
Facts = Mapping[str, float]
"""What the measurements besides the scenarios found, by name."""

NOT_MEASURED = "not measured"
BEST = "best peer"
"""Of the others that do the same job: spread keys over the backends."""
MORE_IS_BETTER = {"ops_per_second"}


PLAIN = Scenario()


class How(Enum):
    """How a figure comes of ours and what it is compared with."""

    RATIO = "ratio"
    DIFFERENCE = "difference"
    ALONE = "alone"


@dataclass(frozen=True, kw_only=True)
class Target:
    """One line of the list.

    Attributes:
        metric: a field of `Result`; or empty, and ``fact`` names what else was measured.
        scenario: whose figure of ours it is.
        base: the scenario it is compared with; the same one unless given.
        against: whose figure in it: `BEST`, a peer's name.
        scale: by which the figure is multiplied, to come into ``unit``.
        at_least: the limit is a lower one.
    """

    name: str
    limit: float
    scenario: Scenario = PLAIN
    metric: str = ""
    fact: str = ""
    base: Scenario | None = None
    against: str = BEST
    how: How = How.RATIO
    scale: float = 1.0
    unit: str = "times"
    at_least: bool = False

    @property
    def needs_cores(self) -> int:
        """Below so many its figure would be the machine's: what compares throughput with itself."""
        is_scaling = self.metric in MORE_IS_BETTER and self.base is not None
        return self.scenario.cores if is_scaling else 1


@dataclass(frozen=True)
class Verdict:
    """A target and what came of it; ``figure`` is None where there is none, and ``why`` says so."""

    target: Target
    figure: float | None
    why: str = ""

    @property
    def is_met(self) -> bool | None:
        """None if it was not judged."""
        if self.figure is None:
            return None
        if self.target.at_least:
            return self.figure >= self.target.limit
        return self.figure <= self.target.limit


def _cpu(wire: str, pipeline: int, limit: float) -> Target:
    name = f"CPU per request, {wire}, P={pipeline}, against the best peer"
    return Target(name=name, metric="cpu_us", limit=limit, scenario=Scenario(wire=wire, pipeline=pipeline))


def _throughput(wire: str, pipeline: int) -> Target:
    return Target(
        name=f"throughput, {wire}, P={pipeline}, not below any peer",
        metric="ops_per_second",
        limit=1.0,
        scenario=Scenario(wire=wire, pipeline=pipeline),
        at_least=True,
    )


def _copies(wire: str, pipeline: int) -> Target:
    written = Scenario(wire=wire, pipeline=pipeline, gets=1)
    return Target(
        name=f"every write to one replica, ack all, {wire}, P={pipeline}, against none",
        metric="cpu_us",
        limit=1.6,
        scenario=Scenario(wire=wire, pipeline=pipeline, gets=1, replicas=1),
        base=written,
        against=OURS,
    )


def _failover(wire: str, metric: str, name: str, limit: float, unit: str) -> Target:
    return Target(
        name=f"{name}, {wire}, kill -9 of a leader under load",
        metric=metric,
        limit=limit,
        scenario=Scenario(wire=wire, gets=1, replicas=1, fault="kill"),
        how=How.ALONE,
        unit=unit,
    )


_WIRES = ("redis", "memcache_text")
_IDLE_FEW, _IDLE_MANY = Scenario(idle=100), Scenario(idle=10_000)

TARGETS: Sequence[Target] = (
    _cpu("redis", 1, 0.75),
    _cpu("redis", 16, 0.70),
    _cpu("redis", 64, 0.45),
    _cpu("memcache_text", 1, 0.75),
    _cpu("memcache_text", 16, 0.5),
    _cpu("memcache_text", 64, 0.4),
    *(_throughput(wire, pipeline) for wire in _WIRES for pipeline in (1, 16, 64)),
    Target(
        name="throughput, redis, P=64, against one direct server",
        metric="ops_per_second",
        limit=0.75,
        scenario=Scenario(pipeline=64),
        against=DIRECT,
        at_least=True,
    ),
    *(
        Target(
            name=f"median latency of one client, {wire}, more than direct",
            metric="p50_ms",
            limit=20.0,
            scenario=Scenario(wire=wire, clients=1),
            against=DIRECT,
            how=How.DIFFERENCE,
            scale=1000.0,
            unit="µs",
        )
        for wire in _WIRES
    ),
    *(
        Target(
            name=f"99.9th percentile under load, {wire}, against the best peer",
            metric="p999_ms",
            limit=1.0,
            scenario=Scenario(wire=wire),
        )
        for wire in _WIRES
    ),
    *(_copies(wire, pipeline) for wire in _WIRES for pipeline in (1, 16)),
    *(
        Target(
            name=f"CPU of a read of 100 keys over 4 shards, {wire}, against one direct server",
            metric="cpu_us",
            limit=1.3,
            scenario=Scenario(wire=wire, clients=10, sets=0, keys_per_get=100, shards=4),
            against=DIRECT,
        )
        for wire in _WIRES
    ),
    Target(
        name="throughput of two workers against one",
        metric="ops_per_second",
        limit=1.7,
        scenario=Scenario(pipeline=16, workers=2),
        base=Scenario(pipeline=16),
        against=OURS,
        at_least=True,
    ),
    Target(
        name="CPU per request, 256 shards against 1",
        metric="cpu_us",
        limit=1.1,
        scenario=Scenario(pipeline=16, shards=256),
        base=Scenario(pipeline=16, shards=1),
        against=OURS,
    ),
    Target(
        name="CPU per request, 10,000 idle clients against 100",
        metric="cpu_us",
        limit=1.1,
        scenario=_IDLE_MANY,
        base=_IDLE_FEW,
        against=OURS,
    ),
    Target(name="memory of an idle client", fact="idle_client_kib", limit=1.5, how=How.ALONE, unit="KiB"),
    Target(name="memory after the start", fact="started_mib", limit=40.0, how=How.ALONE, unit="MiB"),
    Target(
        name="memory kept after 64 clients wrote and read 1 MiB at once",
        fact="kept_after_burst_mib",
        limit=2.0,
        how=How.ALONE,
        unit="MiB",
    ),
    Target(
        name="a table of 1,000 shards made and adopted",
        fact="rebuild_ms",
        limit=50.0,
        how=How.ALONE,
        unit="ms",
    ),
    *(_failover(wire, "errors", "failed requests", 0.0, "") for wire in _WIRES),
    *(_failover(wire, "max_ms", "longest wait", 100.0, "ms") for wire in _WIRES),
)


def judge(medians: Medians, facts: Facts, cores: int) -> list[Verdict]:
    """Every target, in the list's order."""
    return [_judge(target, medians, facts, cores) for target in TARGETS]


def _judge(target: Target, medians: Medians, facts: Facts, cores: int) -> Verdict:
    if target.fact:
        figure = facts.get(target.fact)
        return Verdict(target, figure, "" if figure is not None else NOT_MEASURED)
    if cores < target.needs_cores:
        return Verdict(target, None, f"needs {target.needs_cores} cores, here are {cores}")
    ours = medians.get(target.scenario.name, {}).get(OURS)
    if ours is None:
        return Verdict(target, None, NOT_MEASURED)
    value = float(getattr(ours, target.metric))
    if target.how is How.ALONE:
        return Verdict(target, value * target.scale)
    rows = medians.get((target.base or target.scenario).name, {})
    other = _other(target, rows)
    if other is None:
        return Verdict(target, None, f"no figure of {target.against} in this run")
    if target.how is How.DIFFERENCE:
        return Verdict(target, (value - other) * target.scale)
    return Verdict(target, value / other if other else None, "" if other else "the other is 0")


def _other(target: Target, rows: Mapping[str, Result]) -> float | None:
    """What ours is compared with."""
    if target.against != BEST:
        row = rows.get(target.against)
        return None if row is None else float(getattr(row, target.metric))
    # Those that move bytes only are faster, and no substitute.
    peers = [row for name, row in rows.items() if name not in (OURS, DIRECT, "haproxy")]
    values = [float(getattr(row, target.metric)) for row in peers]
    if not values:
        return None
    return max(values) if target.metric in MORE_IS_BETTER else min(values)
