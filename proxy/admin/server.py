"""The admin HTTP server: on its own address, off the request path.

    GET /                 this list, as text
    GET /metrics          Prometheus text (or OpenMetrics, by Accept)
    GET /livez            200 while the control plane runs
    GET /readyz           200 once the first routing table is published; 503 before, and while draining
    GET /api/v1/status    pools, shards, backends, states and reasons, as JSON
    POST /api/v1/resync   ?pool=P&shard=S[&backend=A]: bring a stale backend back now

What changes something takes POST, and refuses what a browser sends for a page from elsewhere.

Started by ``app`` with a socket that is already bound, so that a taken address is an error before
anything else starts. Knows the controller only as a `StatusSource`.
"""

import logging
import socket
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Protocol

import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio import serve as hypercorn_serve
from hypercorn.typing import ASGIFramework
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from proxy.admin.metrics import StatusSource

# Scrapers and probes keep one connection; a peer that sends nothing is dropped.
KEEP_ALIVE_SECONDS = 75
READ_TIMEOUT_SECONDS = 10
BACKLOG = 128
NO_STORE = {"cache-control": "no-store"}

Handler = Callable[[Request], Awaitable[Response]]


class Phase(StrEnum):
    """Where the process is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class Lifecycle:
    """The phase, owned and changed by ``app``, read by ``/readyz`` and the metrics."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING

    @property
    def is_ready(self) -> bool:
        return self.phase is Phase.READY

    def __repr__(self) -> str:
        return f"<Lifecycle {self.phase}>"


class Operator(Protocol):
    """What can be asked of the controller. Each returns None, or why it cannot be done."""

    def ask_resync(self, pool: str, shard: str, backend: str | None) -> str | None:
        """Bring a stale backend back now."""
        ...


def make_app(
    source: StatusSource,
    metrics: CollectorRegistry,
    lifecycle: Lifecycle,
    operator: Operator | None = None,
) -> Starlette:
    """The ASGI application; tests drive it without a socket. Without ``operator`` it is read-only."""

    # Handlers are `async` although none waits: starlette would run plain functions in threads, beside
    # the single writer of the state they read.
    async def index(request: Request) -> Response:
        lines = [f"GET {path:<17} {text}" for path, (_, text) in endpoints.items()]
        lines += [f"POST {path:<16} {text}" for path, (_, text) in orders.items()]
        return PlainTextResponse("shardproxy admin\n\n" + "\n".join(lines) + "\n")

    async def scrape(request: Request) -> Response:
        encoder, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encoder(metrics), headers={"content-type": content_type, **NO_STORE})

    async def live(request: Request) -> Response:
        return PlainTextResponse("ok\n", headers=NO_STORE)

    async def ready(request: Request) -> Response:
        code = 200 if lifecycle.is_ready else 503
        return PlainTextResponse(f"{lifecycle.phase}\n", status_code=code, headers=NO_STORE)

    async def status(request: Request) -> Response:
        return JSONResponse(dict(source.status()), headers=NO_STORE)

    async def resync(request: Request) -> Response:
        words = request.query_params
        if "origin" in request.headers:
            return JSONResponse({"error": "not from a browser"}, status_code=403, headers=NO_STORE)
        if operator is None or not words.get("pool") or not words.get("shard"):
            return JSONResponse({"error": "name a pool and a shard"}, status_code=400, headers=NO_STORE)
        refusal = operator.ask_resync(words["pool"], words["shard"], words.get("backend"))
        if refusal is not None:
            return JSONResponse({"error": refusal}, status_code=409, headers=NO_STORE)
        return JSONResponse({"accepted": True}, status_code=202, headers=NO_STORE)

    orders: dict[str, tuple[Handler, str]] = {}
    if operator is not None:
        orders["/api/v1/resync"] = (resync, "?pool=P&shard=S[&backend=A]: bring a stale backend back now")
    endpoints: dict[str, tuple[Handler, str]] = {
        "/": (index, "this list"),
        "/metrics": (scrape, "Prometheus metrics"),
        "/livez": (live, "200 while the control plane runs"),
        "/readyz": (ready, "200 while clients are served; 503 when starting or draining"),
        "/api/v1/status": (status, "pools, shards, backends and their states, as JSON"),
    }
    routes = [Route(path, handler) for path, (handler, _) in endpoints.items()]
    routes += [Route(path, handler, methods=["POST"]) for path, (handler, _) in orders.items()]
    return Starlette(routes=routes)


async def serve(
    app: ASGIFramework,
    listener: socket.socket,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until cancelled. Takes the socket over.

    ``task_status.started()`` is called once requests are answered.
    """
    config = HypercornConfig()
    config.bind = [f"fd://{listener.detach()}"]
    config.backlog = BACKLOG
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")  # at `warning`, see log.setup
    config.include_server_header = False
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.read_timeout = READ_TIMEOUT_SECONDS
    config.graceful_timeout = 1
    async with trio.open_nursery() as nursery:
        await nursery.start(hypercorn_serve, app, config)
        task_status.started()
