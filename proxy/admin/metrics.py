"""Metrics: the table of those the control plane keeps, and one collector that merges all on scrape.

Three sources meet here, read only when somebody asks: the engine's counters (`Engine.statistics`,
described by ``_engine.metrics()``), the state of shards and backends (`StatusSource.status`), and the
control plane's own counters (`StatusSource.samples`). Nothing is counted in Python per request.

Names begin with ``shardproxy_`` and use base units; labels are pool, shard, backend and closed lists
of words, never a key, an error text or a client's address. Called by ``admin.server``; built by ``app``.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from proxy.log import Log

PREFIX: Final = "shardproxy_"
STATES: Final = ("in_sync", "joining", "stale", "down")

_log = Log("metrics")


class MetricRow(NamedTuple):
    """One metric. ``name`` has no prefix; a counter's ends in ``_total``."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


_SHARD = ("pool", "shard")
_BACKEND = ("pool", "shard", "backend")

# The list of the control plane's metrics. The first group is read off the status, the second comes
# from `StatusSource.samples`, whose labels are in this order.
METRICS: Final = (
    MetricRow("build_info", "gauge", "Always 1; what runs.", ("version", "engine_profile", "python")),
    MetricRow("config_info", "gauge", "Always 1; digest of the configuration in use.", ("digest",)),
    MetricRow("ready", "gauge", "1 while /readyz answers 200."),
    MetricRow("shard_epoch", "gauge", "Epoch of the shard's view.", _SHARD),
    MetricRow("shard_available", "gauge", "1 if a backend leads the shard.", _SHARD),
    MetricRow("shard_remapped", "gauge", "1 while the shard's keys are with other shards.", _SHARD),
    MetricRow("shard_replicas_in_sync", "gauge", "Backends of the shard that are in sync.", _SHARD),
    MetricRow(
        "backend_state", "gauge", "1 for the state the backend is in, 0 for others.", (*_BACKEND, "state")
    ),
    MetricRow("backend_leads", "gauge", "1 if the backend leads its shard.", _BACKEND),
    MetricRow(
        "backend_last_state_change_timestamp_seconds", "gauge", "When the state last changed.", _BACKEND
    ),
    MetricRow("routing_table_epoch", "gauge", "Version of the routing table that workers use."),
    MetricRow("backend_probes_total", "counter", "Health probes by result.", (*_BACKEND, "result")),
    MetricRow(
        "backend_state_changes_total", "counter", "Transitions by the state entered.", (*_BACKEND, "state")
    ),
    MetricRow("failovers_total", "counter", "Changes of a shard's lead.", (*_SHARD, "reason")),
    MetricRow("view_writes_total", "counter", "Attempts to record a view, by result.", (*_SHARD, "result")),
    MetricRow("view_conflicts_total", "counter", "Two views of one epoch seen.", _SHARD),
    MetricRow("resync_runs_total", "counter", "Resynchronisations by result.", (*_BACKEND, "result")),
    MetricRow("resync_copied_bytes", "gauge", "Copied by a resynchronisation under way here.", _BACKEND),
    MetricRow("resync_expected_bytes", "gauge", "What it is expected to copy, an estimate.", _BACKEND),
    MetricRow("resync_switches_total", "counter", "Times writes were held to admit a backend.", _SHARD),
    MetricRow("resync_write_pause_seconds_total", "counter", "For how long, in all.", _SHARD),
    MetricRow("shard_absences_total", "counter", "Times a lost shard's keys went to others.", _SHARD),
    MetricRow("shard_emptied_total", "counter", "Backends of it emptied here before it came back.", _SHARD),
    MetricRow(
        "leftovers_deleted_total",
        "counter",
        "Keys deleted here whose shard has them again.",
        _SHARD,
    ),
    MetricRow("engine_events_total", "counter", "Events received from the engine.", ("kind",)),
)


class StatusSource(Protocol):
    """What the admin surface asks of the controller. Both are quick and change nothing."""

    def status(self) -> Mapping[str, Any]:
        """The body of ``GET /api/v1/status``."""
        ...

    def samples(self) -> Iterable[tuple[str, Sequence[str] | Mapping[str, str], float]]:
        """``(name, labels, value)`` of metrics in `METRICS`; labels by name or in the table's order."""
        ...


class EngineMetric(Protocol):
    """As `_engine.Metric`."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def help(self) -> str: ...
    @property
    def labels(self) -> Sequence[str]: ...


class EngineSample(Protocol):
    """As `_engine.Sample`."""

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> Sequence[str]: ...
    @property
    def value(self) -> float: ...
    @property
    def buckets(self) -> Sequence[int]: ...


class ShardproxyCollector(Collector):
    """Everything of ours, read at the moment of the scrape.

    Args:
        engine_metrics: the engine's list, ``_engine.metrics()``.
        histogram_bounds: ``_engine.HISTOGRAM_BOUNDS_SECONDS``.
        statistics: returns the engine's samples; an error of its is logged and its part left out,
            so that a scrape during shutdown still shows the rest.
        source: the controller.
        is_ready: what ``/readyz`` says.
        info: labels of ``build_info`` and ``config_info``.
    """

    def __init__(
        self,
        *,
        engine_metrics: Sequence[EngineMetric],
        histogram_bounds: Sequence[float],
        statistics: Callable[[], Sequence[EngineSample]],
        source: StatusSource,
        is_ready: Callable[[], bool],
        info: "Info",
    ) -> None:
        self._engine_rows = {row.name: row for row in engine_metrics}
        ours = {row.name for row in METRICS}
        if clash := ours & self._engine_rows.keys():
            raise ValueError(f"metrics of engine and control plane share names: {sorted(clash)}")
        self._bounds = [f"{bound:g}" for bound in histogram_bounds] + ["+Inf"]
        self._statistics = statistics
        self._source = source
        self._is_ready = is_ready
        self._info = info

    def describe(self) -> Iterable[Metric]:
        return ()  # names are the registry's business only on collision, and ours all have the prefix

    def collect(self) -> Iterator[Metric]:
        yield from self._control_plane()
        yield from self._engine()

    def _control_plane(self) -> Iterator[Metric]:
        families = {row.name: (_family(row), row) for row in METRICS}
        # A later sample replaces an earlier one with the same labels: never the same series twice.
        series: dict[tuple[str, tuple[str, ...]], float] = {}
        for name, labels, value in [
            *self._own(),
            *from_status(self._source.status()),
            *self._source.samples(),
        ]:
            row = families[name][1] if name in families else None
            values = _ordered(labels, row) if row is not None else None
            if values is None:
                _log.error("sample does not fit the table of metrics", name=name, labels=labels)
                continue
            series[name, values] = value
        for (name, values), value in series.items():
            family, row = families[name]
            family.add_sample(PREFIX + name, dict(zip(row.labels, values, strict=True)), value)
        yield from (family for family, _ in families.values())

    def _own(self) -> Iterator[tuple[str, Sequence[str], float]]:
        yield "build_info", (self._info.version, self._info.engine_profile, self._info.python), 1
        yield "config_info", (self._info.config_digest,), 1
        yield "ready", (), float(self._is_ready())

    def _engine(self) -> Iterator[Metric]:
        try:
            samples = self._statistics()
        except Exception:
            _log.exception("the engine's statistics cannot be read")
            return
        families = {name: _family(row) for name, row in self._engine_rows.items()}
        for sample in samples:
            row = self._engine_rows[sample.name]
            labels = dict(zip(row.labels, sample.labels, strict=True))
            if row.kind == "histogram":
                self._histogram(families[sample.name], PREFIX + sample.name, labels, sample)
            else:
                families[sample.name].add_sample(PREFIX + sample.name, labels, sample.value)
        yield from families.values()

    def _histogram(self, family: Metric, name: str, labels: dict[str, str], sample: EngineSample) -> None:
        total = 0
        for bound, count in zip(self._bounds, sample.buckets, strict=True):
            total += count
            family.add_sample(f"{name}_bucket", {**labels, "le": bound}, total)
        family.add_sample(f"{name}_count", labels, total)
        family.add_sample(f"{name}_sum", labels, sample.value)


class Info(NamedTuple):
    """What runs; the labels of the two info metrics."""

    version: str
    engine_profile: str
    config_digest: str
    python: str = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"


def registry(collector: Collector) -> CollectorRegistry:
    """A registry of its own (tests run many in one process): ours plus ``process_*``."""
    result = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=result)
    result.register(collector)
    return result


def from_status(status: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """The samples that a status body holds, so that page and metrics cannot disagree."""
    for pool, pool_status in status["pools"].items():
        for shard, shard_status in pool_status["shards"].items():
            yield "shard_epoch", (pool, shard), shard_status["epoch"]
            yield "shard_available", (pool, shard), float(shard_status["lead"] is not None)
            yield "shard_remapped", (pool, shard), float(shard_status.get("phase") == "remapped")
            backends = shard_status["backends"]
            in_sync = sum(backend["state"] == "in_sync" for backend in backends)
            yield "shard_replicas_in_sync", (pool, shard), in_sync
            for backend in backends:
                place = (pool, shard, backend["address"])
                for state in STATES:
                    yield "backend_state", (*place, state), float(backend["state"] == state)
                yield "backend_leads", place, float(backend["address"] == shard_status["lead"])
                if (since := unix_time(backend["since"])) is not None:
                    yield "backend_last_state_change_timestamp_seconds", place, since


def unix_time(since: object) -> float | None:
    """Seconds since 1970 of a status body's ``since``, written as such or as an RFC 3339 text."""
    if isinstance(since, int | float):
        return float(since)
    if isinstance(since, str):
        from datetime import datetime

        try:
            return datetime.fromisoformat(since).timestamp()
        except ValueError:
            return None
    return None


def _ordered(labels: Sequence[str] | Mapping[str, str], row: MetricRow) -> tuple[str, ...] | None:
    if isinstance(labels, Mapping):
        return tuple(labels[name] for name in row.labels) if labels.keys() == set(row.labels) else None
    return tuple(labels) if len(labels) == len(row.labels) else None


def _family(row: EngineMetric | MetricRow) -> Metric:
    # The library names a counter's family without the suffix that its samples carry.
    name = row.name.removesuffix("_total") if row.kind == "counter" else row.name
    return Metric(PREFIX + name, row.help, row.kind)
