"""The admin server: what each endpoint answers, over ASGI and over a real socket."""

import contextlib
import json
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import httpx
import pytest
import trio
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from proxy.admin.client import ask_resync, fetch_status, print_status, summary
from proxy.admin.server import Lifecycle, Phase, make_app, serve
from proxy.errors import AdminUnreachableError

NOW = 1_767_225_600.0
STATUS: dict[str, Any] = {
    "pools": {
        "sessions": {
            "epoch": 9,
            "protocol": "redis",
            "shards": {
                "s1": {
                    "epoch": 4,
                    "lead": "127.0.0.1:7001",
                    "backends": [
                        {"address": "127.0.0.1:7001", "zone": "a", "state": "in_sync", "drained": False,
                         "reason": "none", "since": NOW - 90},
                        {"address": "127.0.0.1:7002", "zone": "b", "state": "down", "drained": True,
                         "reason": "refused", "since": "2025-12-31T22:00:00Z"},
                    ],
                },
                "s2": {"epoch": 1, "lead": None, "reason": "nobody_reachable", "backends": [
                    {"address": "unix:/m", "zone": "", "state": "stale", "drained": False,
                     "reason": "restarted", "since": NOW - 3},
                ]},
            },
        }
    }
}  # fmt: skip


class FakeSource:
    def status(self) -> Mapping[str, Any]:
        return STATUS

    def samples(self) -> Iterable[tuple[str, Sequence[str], float]]:
        return ()


class OneGauge(Collector):
    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily("shardproxy_x", "A gauge.", value=5)


def make(lifecycle: Lifecycle | None = None) -> Starlette:
    metrics = CollectorRegistry()
    metrics.register(OneGauge())
    return make_app(FakeSource(), metrics, lifecycle or Lifecycle())


def get(app: Starlette, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://proxy") as client:
            return await client.request(method, path, headers=headers)

    return trio.run(ask)


def test_index_lists_every_endpoint() -> None:
    answer = get(make(), "/")
    assert answer.status_code == 200
    for path in ("/metrics", "/livez", "/readyz", "/api/v1/status"):
        assert f"GET {path} " in answer.text
        assert get(make(), path).status_code in {200, 503}


def test_metrics_in_both_formats() -> None:
    answer = get(make(), "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "shardproxy_x 5.0\n" in answer.text
    answer = get(make(), "/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("phase", "code"), [(Phase.STARTING, 503), (Phase.READY, 200), (Phase.DRAINING, 503)]
)
def test_readyz_follows_the_phase_and_livez_does_not(phase: Phase, code: int) -> None:
    lifecycle = Lifecycle()
    assert lifecycle.phase is Phase.STARTING
    lifecycle.phase = phase
    answer = get(make(lifecycle), "/readyz")
    assert (answer.status_code, answer.text) == (code, f"{phase}\n")
    assert get(make(lifecycle), "/livez").status_code == 200


def test_status_is_the_controllers() -> None:
    answer = get(make(), "/api/v1/status")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == STATUS


class FakeOperator:
    """Knows one shard."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []

    def ask_resync(self, pool: str, shard: str, backend: str | None) -> str | None:
        if (pool, shard) != ("sessions", "s2"):
            return "there is no such shard"
        self.asked.append((pool, shard, backend))
        return None


def test_a_resynchronisation_can_be_asked_for() -> None:
    operator = FakeOperator()
    app = make_app(FakeSource(), CollectorRegistry(), Lifecycle(), operator)
    assert get(app, "/api/v1/resync?pool=sessions&shard=s2").status_code == 405
    assert get(app, "/api/v1/resync?pool=sessions", method="POST").status_code == 400
    refused = get(app, "/api/v1/resync?pool=sessions&shard=s9", method="POST")
    assert (refused.status_code, refused.json()) == (409, {"error": "there is no such shard"})
    page = get(app, "/api/v1/resync?pool=sessions&shard=s2", method="POST", origin="http://elsewhere")
    assert page.status_code == 403
    assert operator.asked == []
    with served(app) as address:
        assert ask_resync(address, "sessions", "s2", "unix:/m") is None
        assert ask_resync(address, "sessions", "s9", None) == "there is no such shard"
    assert operator.asked == [("sessions", "s2", "unix:/m")]
    with served(make()) as address, pytest.raises(AdminUnreachableError, match="answered 404 without a word"):
        ask_resync(address, "sessions", "s2", None)


def test_nothing_can_be_changed() -> None:
    assert get(make(), "/api/v1/status", method="POST").status_code == 405
    assert get(make(), "/nothing").status_code == 404


@contextlib.contextmanager
def served(app: Any) -> Iterator[str]:
    """Runs the real server on a free port in a thread of its own; yields the address."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"

    async def run(stop: trio.Event, started: Any) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, app, listener)
            started(trio.lowlevel.current_trio_token())
            await stop.wait()
            nursery.cancel_scope.cancel()

    import queue
    import threading

    tokens: queue.Queue[trio.lowlevel.TrioToken] = queue.Queue()
    stop = trio.Event()
    thread = threading.Thread(target=partial(trio.run, run, stop, tokens.put))
    thread.start()
    token = tokens.get(timeout=5)
    try:
        yield address
    finally:
        token.run_sync_soon(stop.set)
        thread.join(timeout=5)
        assert not thread.is_alive()


def test_the_client_reads_a_real_server() -> None:
    with served(make()) as address:
        raw, parsed = fetch_status(address)
        assert fetch_status(f"http://{address}/")[1] == STATUS
    assert json.loads(raw) == parsed == STATUS


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(
        AdminUnreachableError, match=f"nothing listens on 127.0.0.1:{port}: is shardproxy running"
    ):
        fetch_status(f"127.0.0.1:{port}")


def test_somebody_else_listens() -> None:
    async def empty(request: Request) -> Response:
        return JSONResponse([])

    other = Starlette(routes=[Route("/{path:path}", empty)])
    with (
        served(other) as address,
        pytest.raises(AdminUnreachableError, match="answered 200 without a status"),
    ):
        fetch_status(address)


def test_an_address_that_is_none() -> None:
    with pytest.raises(AdminUnreachableError, match="9180: expected host:port"):
        fetch_status("9180")


def test_the_table_says_who_leads_and_why_others_do_not() -> None:
    import io

    from rich.console import Console

    from proxy.admin.client import status_table

    output = io.StringIO()
    console = Console(file=output, width=160)
    console.print(status_table(STATUS, now=NOW))
    lines = [" ".join(line.split()) for line in output.getvalue().splitlines()]
    assert lines == [
        "pool shard epoch lead backend zone state since reason",
        "sessions s1 4 * 127.0.0.1:7001 a in_sync 1m ago",
        "127.0.0.1:7002 b down drained 2h ago refused",
        "sessions s2 1 unix:/m stale 3s ago restarted",
        "nobody leads requests get errors: nobody_reachable",
    ]
    print_status(STATUS, Console(file=output, width=40))
    assert "2 shards, 1 with a lead; 3 backends: 1 in_sync, 1 stale, 1 down" in output.getvalue()
    assert summary({"pools": {}}) == "0 shards, 0 with a lead; 0 backends: none"


def test_the_table_has_colours_on_a_terminal() -> None:
    import io

    from rich.console import Console

    output = io.StringIO()
    print_status(STATUS, Console(file=output, width=160, force_terminal=True, color_system="standard"))
    assert "\x1b[32min_sync" in output.getvalue()
    assert "\x1b[31mdown" in output.getvalue()
