"""The engine behind `Dataplane`: tables in, events out, and its errors as ours."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import pytest
import trio
from support.control import make_config, until
from support.ports import free_port
from support.raw import RawClient
from support.relay import Relay
from support.servers import RedisServer

from proxy.control.event import EngineEvent
from proxy.control.routing import BackendRouting, PoolRouting, Routing, ShardRouting
from proxy.dataplane import Dataplane
from proxy.engine_config import engine_config
from proxy.errors import EngineError

GRACE_SECONDS = 0.2


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        yield bound


def routing(
    address: str, *, epoch: int = 1, lead: int | None = 0, spare: str = "", replica: str = ""
) -> Routing:
    """One shard led by its first backend; ``spare`` is one that is not in sync, ``replica`` one that is."""
    members = () if lead is None else (0, 1) if replica else (0,)
    backends = tuple(BackendRouting(each, each, ()) for each in (address, replica, spare) if each)
    shard = ShardRouting("s0", 1, backends, lead, members, members, False, 0, b"")
    return Routing(epoch, (PoolRouting("fnv1a_64", "ketama", "", (shard,)),))


def run(
    listener: socket.socket,
    address: str,
    story: Callable[[Dataplane, list[EngineEvent]], Awaitable[None]],
    spare: str = "",
    workers: int = 1,
) -> None:
    """Runs ``story`` with an engine that serves one backend, and its events as they come."""
    config = make_config("redis", [[address, spare] if spare else [address]])
    config = config.model_copy(update={"workers": workers})
    plane = Dataplane(engine_config(config, {"p": [listener.fileno()]}))
    seen: list[EngineEvent] = []

    async def collect() -> None:
        async for event in plane.events():
            seen.append(event)  # noqa: PERF401 - a comprehension would keep them until the end

    async def main() -> None:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                plane.start(routing(address, spare=spare))
                nursery.start_soon(collect)
                await story(plane, seen)
                plane.shutdown(GRACE_SECONDS)
                await plane.wait_stopped()
                nursery.cancel_scope.cancel()

    trio.run(main)


def test_it_serves_and_stops(listener: socket.socket, redis_server: RedisServer) -> None:
    async def story(plane: Dataplane, seen: list[EngineEvent]) -> None:
        with RawClient(listener.getsockname()[1]) as client:
            assert await trio.to_thread.run_sync(client.ask, b"SET a 1\r\n") == b"+OK\r\n"
        plane.publish(routing(redis_server.address, epoch=2, lead=None))
        with RawClient(listener.getsockname()[1]) as client:
            assert (await trio.to_thread.run_sync(client.ask, b"GET a\r\n")).startswith(b"-")
        assert repr(plane) == "<Dataplane table 2>"

    run(listener, redis_server.address, story)


def test_a_backend_that_is_not_there_is_an_event(listener: socket.socket) -> None:
    async def story(plane: Dataplane, seen: list[EngineEvent]) -> None:
        with RawClient(listener.getsockname()[1]) as client:
            assert (await trio.to_thread.run_sync(client.ask, b"GET a\r\n")).startswith(b"-")
        await until(lambda: seen)
        assert replace(seen[0], table_epoch=0) == EngineEvent("connection_failed", 0, 0, 0, 0, "refused")
        assert seen[0].table_epoch == 1

    run(listener, f"127.0.0.1:{free_port()}", story)


def test_a_table_the_engine_refuses_is_an_error_of_ours(listener: socket.socket) -> None:
    async def story(plane: Dataplane, seen: list[EngineEvent]) -> None:
        with pytest.raises(EngineError, match="table 1"):
            plane.publish(routing("127.0.0.1:1", epoch=1))
        with pytest.raises(EngineError, match="table 2"):
            plane.publish(replace(routing("127.0.0.1:1", epoch=2), pools=()))

    run(listener, "127.0.0.1:1", story)


def test_a_pause_waits_for_the_write_in_flight_and_holds_the_next(
    listener: socket.socket, redis_server: RedisServer
) -> None:
    # One of two backends is in sync: such a write is no replicated one, and counts all the same.
    with Relay(redis_server.port) as relay:

        async def story(plane: Dataplane, seen: list[EngineEvent]) -> None:
            with RawClient(listener.getsockname()[1]) as client, RawClient(redis_server.port) as direct:
                assert await trio.to_thread.run_sync(client.ask, b"SET a 1\r\n") == b"+OK\r\n"
                relay.delay(0.2)
                client.send(b"SET a 2\r\n")
                await trio.sleep(0.05)
                assert await trio.to_thread.run_sync(plane.pause_writes, 0, 0)
                assert direct.ask(b"GET a\r\n") == b"$1\r\n2\r\n", "it was in flight"
                assert client.read_line() == b"+OK\r\n"
                relay.pass_through()
                client.send(b"SET a 3\r\n")
                await trio.sleep(0.3)
                assert direct.ask(b"GET a\r\n") == b"$1\r\n2\r\n"
                plane.resume_writes(0, 0)
                assert await trio.to_thread.run_sync(client.read_line) == b"+OK\r\n"

        run(listener, relay.address, story, spare="127.0.0.1:1")


def test_a_worker_that_has_stopped_is_not_waited_for(
    listener: socket.socket, redis_server: RedisServer
) -> None:
    # Chaos seed 80052: a view that changed while one of several workers was still draining held the proxy up.
    with Relay(redis_server.port) as relay:

        async def story(plane: Dataplane, seen: list[EngineEvent]) -> None:
            with RawClient(listener.getsockname()[1]) as client:
                assert await trio.to_thread.run_sync(client.ask, b"SET a 1\r\n") == b"+OK\r\n"
                relay.delay(2.0)
                client.send(b"SET a 2\r\n")
                await trio.sleep(0.05)
                plane.shutdown(10.0)
                begun = trio.current_time()
                plane.publish(routing(relay.address, epoch=2))
                await trio.to_thread.run_sync(plane.pause_writes, 0, 0)
                assert trio.current_time() - begun < 4.0, "as long as a lost worker is waited for"

        run(listener, relay.address, story, workers=4)


def test_a_read_that_waited_for_writes_is_answered_when_they_are_given_up(
    listener: socket.socket, start_redis: Callable[..., RedisServer]
) -> None:
    # Chaos seed 170088: what another worker was handed got the error of the write before it.
    lead, replica = (f"127.0.0.1:{start_redis().port}" for _ in range(2))

    async def story(plane: Dataplane, seen: list[EngineEvent]) -> None:
        plane.publish(routing(lead, epoch=2, replica=replica))
        assert await trio.to_thread.run_sync(plane.pause_writes, 0, 0)
        clients = [RawClient(listener.getsockname()[1]) for _ in range(4)]  # of both workers
        for client in clients:
            client.send(b"SET a 1\r\nGET a\r\nGET b\r\n")
        for client in clients:
            reply = await trio.to_thread.run_sync(client.read_line)
            assert reply.startswith(b"-CLUSTERDOWN write timed out"), reply
            assert await trio.to_thread.run_sync(client.read_reply) == b"$-1\r\n"
            assert client.read_reply() == b"$-1\r\n"
            client.close()

    run(listener, lead, story, spare=replica, workers=2)
