"""Views on real servers: compare-and-set, and what a probe tells about a process and its data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import pytest
import trio
from support.ports import free_port
from support.raw import RawClient
from support.relay import Relay
from support.servers import MemcachedServer, RedisServer

from proxy.control.event import Commit, CommitFailed, CommitLost, CommitWon, Restore
from proxy.control.model import Condition, Incarnation, ProbeResult, Reason, View
from proxy.control.routing import verify_pairs
from proxy.control.view import encode, parse, view_key
from proxy.tasks.link import Link, LinkError
from proxy.tasks.prober import probe
from proxy.tasks.views import ARBITER_SECONDS, commit, restore

T = TypeVar("T")
KEY = view_key("p", "s")
SECONDS = 5.0
Server = RedisServer | MemcachedServer
Start = Callable[..., Server]


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


opened: list[Link] = []


def run(main: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """`trio.run` that closes every link of the test at its end, as pytest minds open sockets."""

    async def whole() -> T:
        try:
            return await main(*arguments)
        finally:
            for link in opened:
                link.close()
            opened.clear()

    return trio.run(whole)


def link_to(server: Server, protocol: str, login: tuple[str, bytes] | None = None) -> Link:
    return open_link(server.address, protocol, login)


def open_link(address: str, protocol: str, login: tuple[str, bytes] | None = None) -> Link:
    opened.append(Link(address, protocol, login, 1.0))
    return opened[-1]


def view_on(*servers: Server, epoch: int = 1, run: str = "r") -> View:
    addresses = tuple(server.address for server in servers)
    return View("p", "s", epoch, addresses[0], addresses, tuple(run for _ in addresses))


def ask(server: Server, request: bytes) -> bytes:
    with RawClient(server.port) as client:
        return client.ask(request)


def flush(server: Server, protocol: str) -> None:
    assert ask(server, b"FLUSHALL\r\n" if protocol == "redis" else b"flush_all\r\n") in (
        b"+OK\r\n",
        b"OK\r\n",
    )


def delete(server: Server, protocol: str) -> None:
    answer = ask(server, f"{'DEL' if protocol == 'redis' else 'delete'} {KEY}\r\n".encode())
    assert answer in (b":1\r\n", b"DELETED\r\n")


def probed(server: Server, protocol: str) -> ProbeResult:
    return run(probe, link_to(server, protocol), KEY, SECONDS)


def test_a_first_view_is_added_and_the_next_replaces_it(start: Start, protocol: str) -> None:
    server = start()

    async def main() -> None:
        links = {server.address: link_to(server, protocol)}
        one = view_on(server)
        two = replace(one, epoch=2)
        assert await commit(Commit(one, (server.address,)), links, SECONDS) == CommitWon(one)
        assert await commit(Commit(two), links, SECONDS) == CommitWon(two)
        assert await commit(Commit(two), links, SECONDS) == CommitWon(two), "it stands there already"
        lost = await commit(Commit(replace(one, runs=("x",))), links, SECONDS)
        assert lost == CommitLost(replace(one, runs=("x",)), server.address, encode(two))

    run(main)
    assert probed(server, protocol).record == encode(view_on(server, epoch=2))


def test_of_writers_that_race_exactly_one_wins(start: Start, protocol: str) -> None:
    server = start()
    writers = 8

    async def main() -> None:
        links = [{server.address: link_to(server, protocol)} for _ in range(writers)]
        for epoch in range(1, 21):
            outcomes: list[CommitWon | CommitLost | CommitFailed] = []

            async def write(position: int, view: View, outcomes: list[object]) -> None:
                blank = (server.address,) if view.epoch == 1 else ()
                outcomes.append(await commit(Commit(view, blank), links[position], SECONDS))

            async with trio.open_nursery() as nursery:
                for position in range(writers):
                    view = view_on(server, epoch=epoch, run=f"writer-{position}")
                    nursery.start_soon(write, position, view, outcomes)
            won = [each for each in outcomes if isinstance(each, CommitWon)]
            lost = [each for each in outcomes if isinstance(each, CommitLost)]
            assert (len(won), len(lost)) == (1, writers - 1)
            assert {each.record for each in lost} == {encode(won[0].view)}, "the losers saw the winner"

    run(main)


def test_every_member_gets_it_and_who_could_not_is_named(start: Start, protocol: str) -> None:
    first, second, third = start(), start(), start()

    async def main() -> None:
        links = {each.address: link_to(each, protocol) for each in (first, second, third)}
        view = view_on(first, second, third)
        assert await commit(Commit(view, tuple(links)), links, SECONDS) == CommitWon(view)
        third.kill9()
        following = replace(view, epoch=2)
        assert await commit(Commit(following), links, SECONDS) == CommitWon(following, (third.address,))
        first.kill9()
        last = replace(view, epoch=3)
        outcome = await commit(Commit(last), links, SECONDS)
        assert isinstance(outcome, CommitFailed)
        assert (outcome.address, outcome.reason) == (first.address, Reason.REFUSED)

    run(main)
    assert probed(second, protocol).record == encode(replace(view_on(first, second, third), epoch=2))


def test_two_that_blame_each_others_backend_cannot_both_win(start: Start, protocol: str) -> None:
    first, second = start(), start()

    async def main() -> None:
        ours = {each.address: link_to(each, protocol) for each in (first, second)}
        theirs = {each.address: link_to(each, protocol) for each in (first, second)}
        view = view_on(first, second)
        await commit(Commit(view, tuple(ours)), ours, SECONDS)
        for epoch in range(2, 22):
            outcomes: list[CommitWon | CommitLost | CommitFailed] = []

            async def write(action: Commit, links: dict[str, Link], into: list[object]) -> None:
                into.append(await commit(action, links, SECONDS))

            without_second = Commit(replace(view_on(first), epoch=epoch))
            without_first = Commit(replace(view_on(second), epoch=epoch), arbiters=(first.address,))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write, without_second, ours, outcomes)
                nursery.start_soon(write, without_first, theirs, outcomes)
            assert sorted(type(each).__name__ for each in outcomes) == ["CommitLost", "CommitWon"]

    run(main)


def test_an_arbiter_that_does_not_answer_holds_nobody_up(
    start: Start, protocol: str, start_relay: Callable[[int], Relay]
) -> None:
    first, second = start(), start()
    relay = start_relay(first.port)

    async def main() -> None:
        links = {
            relay.address: open_link(relay.address, protocol),
            second.address: link_to(second, protocol),
        }
        relay.black_hole()
        view = view_on(second, epoch=2)
        began = trio.current_time()
        action = Commit(view, (second.address,), (relay.address,))
        assert await commit(action, links, SECONDS) == CommitWon(view)
        assert trio.current_time() - began < 10 * ARBITER_SECONDS

    run(main)


def test_a_flush_is_not_covered_up(start: Start, protocol: str) -> None:
    first, second = start(), start()

    async def main() -> None:
        links = {each.address: link_to(each, protocol) for each in (first, second)}
        view = view_on(first, second)
        await commit(Commit(view, tuple(links)), links, SECONDS)
        flush(second, protocol)
        following = replace(view, epoch=2)
        assert await commit(Commit(following), links, SECONDS) == CommitWon(following, (second.address,))
        action = Restore(second.address, encode(following))
        assert not await restore(action, following, links[second.address], SECONDS)
        assert (await probe(links[second.address], KEY, SECONDS)).record is None
        flush(first, protocol)
        last = replace(view, epoch=3)
        assert await commit(Commit(last), links, SECONDS) == CommitLost(last, first.address, None)

    run(main)


def test_an_evicted_record_is_put_back_but_never_over_a_newer_one(start: Start, protocol: str) -> None:
    server = start()

    async def main() -> None:
        link = link_to(server, protocol)
        old, new = view_on(server, epoch=4), view_on(server, epoch=5)
        assert await restore(Restore(server.address, encode(new), blank=True), new, link, SECONDS)
        assert not await restore(Restore(server.address, encode(old), blank=True), old, link, SECONDS)
        delete(server, protocol)
        assert await restore(Restore(server.address, encode(old), blank=True), old, link, SECONDS)

    run(main)
    assert probed(server, protocol).record == encode(view_on(server, epoch=4))


def test_a_record_that_is_not_ours_to_judge_is_left_alone(start: Start, protocol: str) -> None:
    server = start()
    foreign = b'{"v":2,"shape":"unknown"}'
    if protocol == "redis":
        ask(
            server,
            b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n"
            % (len(KEY), KEY.encode(), len(foreign), foreign),
        )
    else:
        ask(server, b"set %s 0 0 %d\r\n%s\r\n" % (KEY.encode(), len(foreign), foreign))
    view = view_on(server, epoch=99)

    async def main() -> CommitWon | CommitLost | CommitFailed:
        return await commit(Commit(view), {server.address: link_to(server, protocol)}, SECONDS)

    assert run(main) == CommitLost(view, server.address, foreign)
    assert parse(foreign, "p", "s") is Reason.RECORD_NEWER_VERSION
    assert probed(server, protocol).record == foreign


def test_a_key_of_another_type_is_damage_not_a_crash(start_redis: Callable[..., RedisServer]) -> None:
    server = start_redis()
    ask(server, f"LPUSH {KEY} x\r\n".encode())
    result = probed(server, "redis")
    assert (result.record, result.record_known) == (b"", True)
    view = view_on(server)

    async def main() -> CommitWon | CommitLost | CommitFailed:
        return await commit(
            Commit(view, (server.address,)), {server.address: link_to(server, "redis")}, SECONDS
        )

    assert run(main) == CommitLost(view, server.address, b"")
    assert ask(server, f"TYPE {KEY}\r\n".encode()) == b"+list\r\n"


def test_one_process_keeps_its_incarnation_and_the_next_has_another(start: Start, protocol: str) -> None:
    server = start()
    before = probed(server, protocol).incarnation
    assert before is not None
    assert before.token
    run(trio.sleep, 1.2)  # memcached's clock ticks once a second; the start time must not move with it
    assert probed(server, protocol).incarnation == before
    server.kill9()
    assert probed(server, protocol).failure is Reason.REFUSED
    server.restart()
    after = probed(server, protocol).incarnation
    assert after is not None
    assert not after.is_same(before.token)


def test_flushes_are_counted_and_items_are_without_the_record(start: Start, protocol: str) -> None:
    server = start()
    one = view_on(server)

    async def main() -> None:
        link = link_to(server, protocol)
        empty = await probe(link, KEY, SECONDS)
        assert (empty.items, empty.record, empty.record_known) == (0, None, True)
        await commit(Commit(one, (server.address,)), {server.address: link}, SECONDS)
        assert (await probe(link, KEY, SECONDS)).items == 0
        ask(server, b"SET a 1\r\n" if protocol == "redis" else b"set a 0 0 1\r\n1\r\n")
        filled = await probe(link, KEY, SECONDS)
        assert (filled.items, filled.flushes) == (1, empty.flushes)
        delete(server, protocol)
        evicted = await probe(link, KEY, SECONDS)
        assert (evicted.record, evicted.flushes) == (None, empty.flushes)
        flush(server, protocol)
        assert (await probe(link, KEY, SECONDS)).flushes == (empty.flushes or 0) + 1

    run(main)


def test_verify_pairs_find_their_needles_on_a_real_server(start: Start, protocol: str) -> None:
    server = start()
    token = (probed(server, protocol).incarnation or Incarnation("")).token
    view = view_on(server, run=token)

    async def main() -> None:
        await commit(Commit(view, (server.address,)), {server.address: link_to(server, protocol)}, SECONDS)

    run(main)
    pairs = verify_pairs(protocol, KEY, view, encode(view), server.address)
    assert len(pairs) == 2
    for request, needle in pairs:
        with RawClient(server.port) as client:
            client.send(request)
            client.read_until(needle)


@pytest.mark.parametrize("good", [True, False])
def test_a_login_that_is_wrong_is_a_condition_not_a_death(
    start_redis: Callable[..., RedisServer], good: bool
) -> None:
    server = start_redis("--requirepass", "secret")

    async def main() -> ProbeResult:
        login = ("", b"secret" if good else b"wrong")
        return await probe(link_to(server, "redis", login), KEY, SECONDS)

    result = run(main)
    assert result.failure is None
    assert result.condition is (None if good else Condition.NOAUTH)
    assert result.record_known is good


def test_a_replica_is_readonly(start_redis: Callable[..., RedisServer]) -> None:
    primary = start_redis()
    replica = start_redis("--replicaof", f"127.0.0.1 {primary.port}")
    assert probed(replica, "redis").condition is Condition.READONLY


def test_a_full_server_without_scripts_says_oom(start_redis: Callable[..., RedisServer]) -> None:
    server = start_redis(
        "--maxmemory", "1", "--maxmemory-policy", "noeviction", "--rename-command", "EVAL", ""
    )
    view = view_on(server)

    async def main() -> CommitWon | CommitLost | CommitFailed:
        return await commit(
            Commit(view, (server.address,)), {server.address: link_to(server, "redis")}, SECONDS
        )

    assert run(main) == CommitFailed(view, server.address, Reason.OOM)


def test_silence_ends_with_a_timeout_and_the_next_exchange_works(
    start: Start, protocol: str, start_relay: Callable[[int], Relay]
) -> None:
    server = start()
    relay = start_relay(server.port)

    async def main() -> None:
        link = open_link(relay.address, protocol)
        assert (await probe(link, KEY, SECONDS)).failure is None
        relay.black_hole()
        assert (await probe(link, KEY, 0.1)).failure is Reason.TIMEOUT
        relay.pass_through()
        assert (await probe(link, KEY, SECONDS)).failure is None
        relay.reset()
        assert (await probe(link, KEY, SECONDS)).failure is None, "an idle connection that died is replaced"

    run(main)


def test_a_closed_idle_connection_is_noticed(start: Start, protocol: str) -> None:
    server = start()

    async def main() -> None:
        link = link_to(server, protocol)
        await probe(link, KEY, SECONDS)
        with trio.move_on_after(0.05) as scope:
            await link.wait_lost()
        assert scope.cancelled_caught
        server.kill9()
        with trio.fail_after(SECONDS):
            await link.wait_lost()

    run(main)


@pytest.mark.parametrize(
    ("address", "reason"),
    [("127.0.0.1:{port}", Reason.REFUSED), ("unix:/nowhere/at/all.sock", Reason.REFUSED)],
)
def test_failures_have_reasons(address: str, reason: Reason) -> None:
    async def main() -> None:
        link = open_link(address.format(port=free_port()), "redis")

        async def work(talk: Callable[[bytes, int], Awaitable[object]]) -> None:
            await talk(b"PING\r\n", 1)

        with pytest.raises(LinkError) as caught:
            await link.exchange(work, SECONDS)
        assert caught.value.reason is reason

    run(main)
