"""The controller with real servers and an engine that only remembers: what it publishes, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
from support.control import FakePlane, make_config, run_controller, until, until_equal
from support.raw import RawClient
from support.relay import Relay
from support.servers import MemcachedServer, RedisServer

from proxy.control.event import Commit
from proxy.control.view import encode, parse, view_key
from proxy.tasks.controller import Controller
from proxy.tasks.link import Link
from proxy.tasks.prober import probe
from proxy.tasks.views import commit

Server = RedisServer | MemcachedServer
Start = Callable[..., Server]
KEY = view_key("p", "s0")


@pytest.fixture(params=["redis", "memcached"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(
    protocol: str,
    start_redis: Callable[..., RedisServer],
    start_memcached: Callable[..., MemcachedServer],
) -> Start:
    return start_redis if protocol == "redis" else start_memcached


def states(controller: Controller, shard: str = "s0") -> list[str]:
    return [each["state"] for each in controller.status()["pools"]["p"]["shards"][shard]["backends"]]


def reasons(controller: Controller, shard: str = "s0") -> list[str]:
    return [each["reason"] for each in controller.status()["pools"]["p"]["shards"][shard]["backends"]]


def ask(server: Server, request: bytes) -> bytes:
    with RawClient(server.port) as client:
        return client.ask(request)


async def record_on(server: Server, protocol: str) -> bytes | None:
    link = Link(server.address, protocol, None, 1.0)
    try:
        return (await probe(link, KEY, 1.0)).record
    finally:
        link.close()


def test_empty_backends_serve_at_once_with_their_view_recorded(start: Start, protocol: str) -> None:
    a, b = start(), start()

    async def story(controller: Controller, plane: FakePlane) -> None:
        shard = plane.shard()
        assert (len(plane.tables), shard.lead, shard.in_sync, shard.epoch) == (1, 0, (0, 1), 1)
        assert await record_on(a, protocol) == await record_on(b, protocol)
        assert (await record_on(a, protocol) or b"?") in shard.restore
        assert states(controller) == ["in_sync", "in_sync"]

    run_controller(make_config(protocol, [[a.address, b.address]]), story)


@pytest.mark.fault
def test_a_killed_backend_leaves_and_comes_back_stale(start: Start, protocol: str) -> None:
    a, b = start(), start()

    async def story(controller: Controller, plane: FakePlane) -> None:
        a.kill9()
        # Far less than fall x interval: the closed control connection is warning enough.
        await until(lambda: plane.shard().in_sync == (1,), within=2.0)
        assert (plane.shard().lead, plane.shard().epoch) == (1, 2)
        assert states(controller) == ["down", "in_sync"]
        a.restart()
        await until(lambda: states(controller) == ["stale", "in_sync"])
        await until(lambda: reasons(controller)[0] == "restarted")
        assert plane.shard().in_sync == (1,)
        assert ("failovers_total", ("p", "s0", "committed"), 1.0) in list(controller.samples())

    run_controller(make_config(protocol, [[a.address, b.address]]), story)


@pytest.mark.fault
def test_a_restart_between_two_probes_is_noticed(start: Start, protocol: str) -> None:
    a, b = start(), start()

    async def story(controller: Controller, plane: FakePlane) -> None:
        b.kill9()
        b.restart()
        await until(lambda: states(controller) == ["in_sync", "stale"])
        assert plane.shard().in_sync == (0,)

    config = make_config(protocol, [[a.address, b.address]], health={"interval": "2s", "timeout": "1s"})
    run_controller(config, story)


def test_a_failed_write_is_in_the_view_before_it_is_in_the_table(start: Start, protocol: str) -> None:
    a, b = start(), start()

    async def story(controller: Controller, plane: FakePlane) -> None:
        began = trio.current_time()
        plane.tell("write_failed", 0, 1)
        await until(lambda: plane.shard().in_sync == (0,))
        assert trio.current_time() - began < 0.25, "a client is waiting; the next probe is 30 s away"
        found = parse(await record_on(a, protocol) or b"", "p", "s0")
        assert (found.epoch, found.in_sync) == (2, (a.address,))  # type: ignore[union-attr]
        assert reasons(controller)[1] == "write_failed"
        epoch = plane.tables[-1].epoch
        plane.tell("write_failed", 0, 0)
        await until(lambda: plane.tables[-1].epoch > epoch)
        assert plane.shard().in_sync == (0,), "the last is never removed"

    config = make_config(protocol, [[a.address, b.address]], health={"interval": "30s", "timeout": "1s"})
    run_controller(config, story)


def test_a_slow_shard_delays_no_other(
    start: Start, protocol: str, start_relay: Callable[[int], Relay]
) -> None:
    servers = [start() for _ in range(4)]
    relay = start_relay(servers[0].port)
    slow = relay.address

    async def story(controller: Controller, plane: FakePlane) -> None:
        relay.black_hole()
        plane.tell("write_failed", 0, 1)
        began = trio.current_time()
        plane.tell("write_failed", 1, 1)
        await until(lambda: plane.shard(1).in_sync == (0,))
        assert trio.current_time() - began < 0.5
        assert plane.shard(0).in_sync == (0, 1), "its survivor has not answered"
        relay.pass_through()
        await until(lambda: len(plane.shard(0).in_sync) == 1, within=10.0)

    shards = [[slow, servers[1].address], [servers[2].address, servers[3].address]]
    run_controller(make_config(protocol, shards, health={"interval": "30s", "timeout": "2s"}), story)


def test_a_view_of_another_proxy_is_adopted_at_the_next_probe(start: Start, protocol: str) -> None:
    a, b = start(), start()

    async def story(controller: Controller, plane: FakePlane) -> None:
        ours = parse(await record_on(a, protocol) or b"", "p", "s0")
        theirs = replace(ours, epoch=7, lead=b.address, in_sync=(b.address,), runs=ours.runs[1:])  # type: ignore[type-var, union-attr]
        link = Link(b.address, protocol, None, 1.0)
        await commit(Commit(theirs), {b.address: link}, 1.0)  # type: ignore[arg-type]
        link.close()
        await until(lambda: plane.shard().epoch == 7)
        assert (plane.shard().lead, plane.shard().in_sync) == (1, (1,))
        assert reasons(controller)[0] == "missed_view"
        spread = encode(theirs)  # type: ignore[arg-type]
        await until_equal(lambda: record_on(a, protocol), spread)

    run_controller(make_config(protocol, [[a.address, b.address]]), story)


def test_an_evicted_record_is_put_back(start: Start, protocol: str) -> None:
    a, b = start(), start()

    async def story(controller: Controller, plane: FakePlane) -> None:
        record = await record_on(b, protocol)
        ask(b, f"{'DEL' if protocol == 'redis' else 'delete'} {KEY}\r\n".encode())
        await until_equal(lambda: record_on(b, protocol), record)
        assert states(controller) == ["in_sync", "in_sync"]
        assert plane.shard().epoch == 1

    run_controller(make_config(protocol, [[a.address, b.address]]), story)


def test_a_flushed_backend_is_stale(start: Start, protocol: str) -> None:
    a, b = start(), start()

    async def story(controller: Controller, plane: FakePlane) -> None:
        ask(b, b"FLUSHALL\r\n" if protocol == "redis" else b"flush_all\r\n")
        await until(lambda: states(controller) == ["in_sync", "stale"])
        assert reasons(controller)[1] == "flushed"

    run_controller(make_config(protocol, [[a.address, b.address]]), story)


def test_a_proxy_that_starts_finds_out_who_is_stale(start: Start, protocol: str) -> None:
    a, b = start(), start()
    config = make_config(protocol, [[a.address, b.address]])

    async def drop_a(controller: Controller, plane: FakePlane) -> None:
        plane.tell("write_failed", 0, 0)
        await until(lambda: plane.shard().in_sync == (1,))

    async def look(controller: Controller, plane: FakePlane) -> None:
        assert (plane.shard().lead, plane.shard().in_sync, plane.shard().epoch) == (1, (1,), 2)
        assert states(controller) == ["stale", "in_sync"]

    run_controller(config, drop_a)
    run_controller(config, look)


@pytest.mark.fault
def test_a_saved_record_does_not_make_a_restarted_redis_pass(start_redis: Callable[..., RedisServer]) -> None:
    a, b = start_redis("--appendonly", "yes"), start_redis()
    config = make_config("redis", [[a.address, b.address]])

    async def nothing(controller: Controller, plane: FakePlane) -> None:
        assert plane.shard().in_sync == (0, 1)

    async def look(controller: Controller, plane: FakePlane) -> None:
        assert states(controller) == ["stale", "in_sync"]

    run_controller(config, nothing)
    ask(a, b"CONFIG SET appendfsync always\r\n")
    a.terminate()
    a.restart()
    run_controller(config, look)


@pytest.mark.fault
def test_a_single_backend_keeps_no_view_and_may_restart(start: Start, protocol: str) -> None:
    a = start()

    async def story(controller: Controller, plane: FakePlane) -> None:
        shard = plane.shard()
        assert (shard.lead, shard.epoch, shard.restore, shard.backends[0].verify) == (0, 0, b"", ())
        assert await record_on(a, protocol) is None
        a.kill9()
        await until(lambda: plane.shard().lead is None)
        a.restart()
        await until(lambda: plane.shard().lead == 0)

    run_controller(make_config(protocol, [[a.address]]), story)


@pytest.mark.fault
def test_a_lost_shard_comes_back_with_its_last_survivor(start: Start, protocol: str) -> None:
    a, b = start(), start()

    async def story(controller: Controller, plane: FakePlane) -> None:
        b.kill9()
        await until(lambda: plane.shard().in_sync == (0,))
        a.kill9()
        await until(lambda: plane.shard().lead is None)
        assert states(controller) == ["down", "down"]
        a.restart()
        await until(lambda: plane.shard().lead == 0)
        assert plane.shard().epoch == 3
        b.restart()
        await until(lambda: states(controller) == ["in_sync", "stale"])

    run_controller(make_config(protocol, [[a.address, b.address]]), story)


def test_names_are_resolved(start: Start, protocol: str) -> None:
    a = start()

    async def story(controller: Controller, plane: FakePlane) -> None:
        assert plane.shard().backends[0].name == f"localhost:{a.port}"
        assert plane.shard().backends[0].address == f"127.0.0.1:{a.port}"

    run_controller(make_config(protocol, [[f"localhost:{a.port}"]]), story)


def test_the_status_has_the_shape_others_rely_on(start: Start, protocol: str) -> None:
    a, b = start(), start()

    async def story(controller: Controller, plane: FakePlane) -> None:
        pool = controller.status()["pools"]["p"]
        assert (pool["epoch"], pool["protocol"]) == (plane.tables[-1].epoch, protocol)
        shard = pool["shards"]["s0"]
        assert (shard["epoch"], shard["lead"]) == (1, a.address)
        backend = shard["backends"][0]
        assert set(backend) == {"address", "zone", "state", "drained", "reason", "since"}
        assert (backend["state"], backend["drained"], backend["reason"]) == ("in_sync", False, "answers")

    run_controller(make_config(protocol, [[a.address, b.address]]), story)


@pytest.mark.fault
def test_silence_of_most_is_our_own_network_and_keeps_the_table(
    start: Start, protocol: str, start_relay: Callable[[int], Relay]
) -> None:
    relays = [start_relay(start().port) for _ in range(2)]

    async def story(controller: Controller, plane: FakePlane) -> None:
        def timeouts() -> int:
            probes = [each for each in controller.samples() if each[0] == "backend_probes_total"]
            return sum(int(value) for _, labels, value in probes if labels[-1] == "timeout")

        for relay in relays:
            relay.black_hole()
        await until(lambda: timeouts() >= 12)
        assert plane.shard().in_sync == (0, 1)
        assert states(controller) == ["in_sync", "in_sync"]
        relays[0].pass_through()
        await until(lambda: plane.shard().in_sync == (0,))
        assert states(controller) == ["in_sync", "down"]

    config = make_config(
        protocol,
        [[relay.address for relay in relays]],
        health={"interval": "30ms", "timeout": "100ms", "fall": 3, "rise": 2},
    )
    run_controller(config, story)
