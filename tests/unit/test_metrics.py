"""Metrics: one scrape merges engine, status and controller, and nothing appears twice."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from proxy.admin.metrics import METRICS, STATES, Info, ShardproxyCollector, from_status, registry, unix_time

STATUS = {
    "pools": {
        "p": {
            "epoch": 7,
            "protocol": "redis",
            "shards": {
                "s1": {
                    "epoch": 3,
                    "lead": "a:1",
                    "backends": [
                        {"address": "a:1", "zone": "a", "state": "in_sync", "drained": False,
                         "reason": "none", "since": "2026-01-01T00:00:00Z"},
                        {"address": "b:1", "zone": "b", "state": "down", "drained": False,
                         "reason": "refused", "since": 1767225600.5},
                    ],
                },
                "s2": {"epoch": 4, "lead": None, "backends": []},
            },
        }
    }
}  # fmt: skip


class Row(NamedTuple):
    """As `_engine.Metric`."""

    name: str
    kind: str
    help: str
    labels: list[str]


class Sample(NamedTuple):
    """As `_engine.Sample`."""

    name: str
    labels: list[str]
    value: float
    buckets: list[int] = []  # noqa: RUF012  (never changed)


ENGINE_ROWS = [
    Row("requests_total", "counter", "Requests.", ["pool", "command", "result"]),
    Row("clients", "gauge", "Clients now.", ["pool"]),
    Row("request_duration_seconds", "histogram", "How long.", ["pool"]),
]
ENGINE_SAMPLES = [
    Sample("requests_total", ["p", "get", "ok"], 12),
    Sample("requests_total", ["p", "set", "ok"], 3),
    Sample("clients", ["p"], 2),
    Sample("request_duration_seconds", ["p"], 0.75, [5, 0, 4, 1]),
]


class FakeSource:
    def __init__(self, samples: Iterable[tuple[str, Sequence[str] | Mapping[str, str], float]] = ()) -> None:
        self._samples = list(samples)

    def status(self) -> Mapping[str, Any]:
        return STATUS

    def samples(self) -> Iterable[tuple[str, Sequence[str] | Mapping[str, str], float]]:
        return self._samples


def scrape(
    source: FakeSource | None = None, statistics: Any = lambda: ENGINE_SAMPLES, ready: bool = True
) -> dict[str, float]:
    """A scrape as ``{'name{label="value"}': number}``, read back by the library's own parser."""
    collector = ShardproxyCollector(
        engine_metrics=ENGINE_ROWS,
        histogram_bounds=[0.001, 0.1, 1.0],
        statistics=statistics,
        source=source or FakeSource(),
        is_ready=lambda: ready,
        info=Info("1.2.3", "release", "abcdef", "3.11.7"),
    )
    text = generate_latest(registry(collector)).decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            series = f"{sample.name}{{{labels}}}"
            assert series not in found, f"{series} appears twice"
            found[series] = sample.value
    return found


def test_engine_counters_gauges_and_histograms() -> None:
    found = scrape()
    assert found["shardproxy_requests_total{command=get,pool=p,result=ok}"] == 12
    assert found["shardproxy_requests_total{command=set,pool=p,result=ok}"] == 3
    assert found["shardproxy_clients{pool=p}"] == 2
    buckets = [
        found[f"shardproxy_request_duration_seconds_bucket{{le={le},pool=p}}"]
        for le in ("0.001", "0.1", "1", "+Inf")
    ]
    assert buckets == [5, 5, 9, 10]
    assert found["shardproxy_request_duration_seconds_count{pool=p}"] == 10
    assert found["shardproxy_request_duration_seconds_sum{pool=p}"] == 0.75


def test_state_of_shards_and_backends() -> None:
    found = scrape()
    assert found["shardproxy_shard_epoch{pool=p,shard=s1}"] == 3
    assert found["shardproxy_shard_available{pool=p,shard=s1}"] == 1
    assert found["shardproxy_shard_available{pool=p,shard=s2}"] == 0
    assert found["shardproxy_shard_replicas_in_sync{pool=p,shard=s1}"] == 1
    for backend, state in (("a:1", "in_sync"), ("b:1", "down")):
        for other in STATES:
            series = f"shardproxy_backend_state{{backend={backend},pool=p,shard=s1,state={other}}}"
            assert found[series] == (other == state)
    assert found["shardproxy_backend_leads{backend=a:1,pool=p,shard=s1}"] == 1
    assert found["shardproxy_backend_leads{backend=b:1,pool=p,shard=s1}"] == 0
    since = "shardproxy_backend_last_state_change_timestamp_seconds{backend=%s,pool=p,shard=s1}"
    assert found[since % "a:1"] == 1767225600
    assert found[since % "b:1"] == 1767225600.5


def test_controller_samples_by_position_or_name() -> None:
    found = scrape(
        FakeSource(
            [
                ("failovers_total", ("p", "s1", "refused"), 2),
                ("view_conflicts_total", {"shard": "s1", "pool": "p"}, 1),
                ("routing_table_epoch", (), 9),
            ]
        )
    )
    assert found["shardproxy_failovers_total{pool=p,reason=refused,shard=s1}"] == 2
    assert found["shardproxy_view_conflicts_total{pool=p,shard=s1}"] == 1
    assert found["shardproxy_routing_table_epoch{}"] == 9


def test_a_sample_of_the_controller_replaces_the_one_from_the_status() -> None:
    found = scrape(FakeSource([("shard_epoch", ("p", "s1"), 99)]))
    assert found["shardproxy_shard_epoch{pool=p,shard=s1}"] == 99


def test_samples_that_do_not_fit_are_left_out_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    bad: list[tuple[str, Sequence[str] | Mapping[str, str], float]]
    bad = [("no_such", (), 1), ("failovers_total", ("p",), 1), ("failovers_total", {"pool": "p"}, 1)]
    found = scrape(FakeSource(bad))
    assert not any("no_such" in series or "failovers" in series for series in found)
    assert len(caplog.records) == 3


def test_info_readiness_and_process() -> None:
    found = scrape()
    assert found["shardproxy_build_info{engine_profile=release,python=3.11.7,version=1.2.3}"] == 1
    assert found["shardproxy_config_info{digest=abcdef}"] == 1
    assert found["shardproxy_ready{}"] == 1
    assert scrape(ready=False)["shardproxy_ready{}"] == 0
    assert found["process_resident_memory_bytes{}"] > 0


def test_a_scrape_survives_an_engine_that_has_stopped(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> list[Sample]:
        raise RuntimeError("the engine does not run")

    found = scrape(statistics=broken)
    assert not any("requests_total" in series for series in found)
    assert found["shardproxy_shard_epoch{pool=p,shard=s1}"] == 3
    assert "cannot be read" in caplog.text


def test_engine_and_control_plane_may_not_share_a_name() -> None:
    with pytest.raises(ValueError, match="shard_epoch"):
        ShardproxyCollector(
            engine_metrics=[Row("shard_epoch", "gauge", "", [])], histogram_bounds=[], statistics=list,
            source=FakeSource(), is_ready=lambda: True, info=Info("", "", ""),
        )  # fmt: skip


def test_the_table_keeps_the_rules_of_names() -> None:
    assert len({row.name for row in METRICS}) == len(METRICS)
    for row in METRICS:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", row.name)
        assert not row.name.startswith("shardproxy_")
        assert (row.kind == "counter") == row.name.endswith("_total")
        assert row.help.endswith(".")
        assert set(row.labels) <= {
            "pool", "shard", "backend", "state", "result", "reason", "kind", "version", "engine_profile",
            "python", "digest",
        }  # fmt: skip


def test_every_sample_of_a_status_is_in_the_table() -> None:
    rows = {row.name: row for row in METRICS}
    for name, labels, _ in from_status(STATUS):
        assert len(labels) == len(rows[name].labels)


@pytest.mark.parametrize(
    ("since", "seconds"),
    [(12, 12.0), (1.5, 1.5), ("1970-01-01T00:00:10+00:00", 10.0), ("", None), ("soon", None), (None, None)],
)
def test_since(since: object, seconds: float | None) -> None:
    assert unix_time(since) == seconds
