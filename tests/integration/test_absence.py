"""The record of absent shards on real servers, and what is done to a server that comes back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import trio
from support.control import until_equal
from support.raw import RawClient
from support.servers import Server
from support.store import PROTOCOLS, SERVERS, connect, contents

from proxy.control.absence import Absence, absence_key, encode
from proxy.control.model import Reason
from proxy.tasks import keyspace, swap
from proxy.tasks.link import Link, LinkError
from proxy.tasks.prober import probe

T = TypeVar("T")
KEY = absence_key("p")
SECONDS = 5.0
NEW = Absence("p", 3, ("s1",))


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(resources, protocol: str) -> Callable[..., Server]:  # type: ignore[no-untyped-def]
    return lambda *arguments: resources.enter_context(SERVERS[protocol](*arguments))


opened: list[Link] = []


def run(main: Callable[[], Awaitable[T]]) -> T:
    """`trio.run` that closes every link of the test at its end."""

    async def whole() -> T:
        try:
            return await main()
        finally:
            for link in opened:
                link.close()
            opened.clear()

    return trio.run(whole)


def link_to(server: Server, protocol: str) -> Link:
    opened.append(Link(server.address, protocol, None, 1.0))
    return opened[-1]


def put(server: Server, protocol: str, key: str, value: bytes) -> None:
    with connect(protocol, server.port) as store:
        store.set(key.encode(), value)


def get(server: Server, protocol: str, key: str) -> bytes | None:
    with connect(protocol, server.port) as store:
        return store.get(key.encode())


async def rest(_: float) -> None:
    await trio.lowlevel.checkpoint()


def test_a_record_goes_to_all_and_only_over_older_ones(start: Callable[..., Server], protocol: str) -> None:
    one, two, three = start(), start(), start()
    put(two, protocol, KEY, encode(Absence("p", 2, ("s9",))))

    async def main() -> None:
        links = {each.address: link_to(each, protocol) for each in (one, two, three)}
        outcome = await swap.record(NEW, links, SECONDS)
        assert (outcome.is_recorded, set(outcome.told)) == (True, set(links))
        assert await swap.record(NEW, links, SECONDS) == outcome, "it stands there already"
        older = Absence("p", 2)
        assert await swap.record(older, links, SECONDS) == swap.Outcome(False, found=encode(NEW))
        rival = Absence("p", 3, ("s2",))
        assert await swap.record(rival, links, SECONDS) == swap.Outcome(False, found=encode(NEW))
        result = await probe(links[three.address], None, SECONDS, KEY)
        assert (result.absent, result.absent_known, result.items) == (encode(NEW), True, 0)

    run(main)


def test_who_cannot_take_it_is_passed_over(start: Callable[..., Server], protocol: str) -> None:
    dead, damaged, good = start(), start(), start()
    dead.kill9()
    put(damaged, protocol, KEY, b"not ours")

    async def main() -> None:
        links = {each.address: link_to(each, protocol) for each in (dead, damaged, good)}
        outcome = await swap.record(NEW, links, SECONDS)
        assert outcome == swap.Outcome(True, (good.address,))
        del links[good.address]
        assert await swap.record(NEW, links, SECONDS) == swap.Outcome(False)

    run(main)
    assert get(damaged, protocol, KEY) == b"not ours"


def test_of_rivals_that_race_one_wins_and_the_others_see_it(
    start: Callable[..., Server], protocol: str
) -> None:
    one, two = start(), start()

    async def main() -> None:
        for epoch in range(1, 21):
            outcomes: list[tuple[Absence, swap.Outcome]] = []

            async def write(
                absence: Absence, links: dict[str, Link], into: list[tuple[Absence, swap.Outcome]]
            ) -> None:
                into.append((absence, await swap.record(absence, links, SECONDS)))

            async with trio.open_nursery() as nursery:
                for writer in range(6):
                    links = {each.address: link_to(each, protocol) for each in (one, two)}
                    absence = Absence("p", epoch, (f"s{writer}",))
                    nursery.start_soon(write, absence, links, outcomes)
            won = [absence for absence, outcome in outcomes if outcome.is_recorded]
            assert len(won) == 1
            assert {each.found for _, each in outcomes if not each.is_recorded} == {encode(won[0])}

    run(main)


def test_without_scripts_it_is_swapped_all_the_same(start_redis: Callable[..., Server]) -> None:
    server = start_redis("--rename-command", "EVAL", "")

    async def main() -> None:
        links = {server.address: link_to(server, "redis")}
        assert (await swap.record(NEW, links, SECONDS)).is_recorded
        assert (await swap.record(NEW.swept([]), links, SECONDS)).is_recorded
        assert not (await swap.record(NEW, links, SECONDS)).is_recorded

    run(main)


def test_marks_end_by_themselves(start: Callable[..., Server], protocol: str) -> None:
    server = start()

    async def main() -> None:
        link = link_to(server, protocol)
        assert await swap.marked(link, "m", SECONDS) is None
        await swap.mark(link, "m", "me", 0.5, SECONDS)
        assert await swap.marked(link, "m", SECONDS) == b"me"
        await until_equal(lambda: swap.marked(link, "m", SECONDS), None)

    run(main)


def test_a_walk_shows_every_wanted_key_and_delete_takes_them(
    start: Callable[..., Server], protocol: str
) -> None:
    server = start()
    with connect(protocol, server.port) as store:
        for number in range(3000):
            store.set(b"key:%d" % number, b"x")

    async def main() -> None:
        link = link_to(server, protocol)
        found, is_all = await keyspace.walk(link, 1, lambda key: key.endswith(b"7"), rest, SECONDS)
        assert is_all
        assert sorted(found) == sorted((0, b"key:%d" % number) for number in range(7, 3000, 10))
        assert await keyspace.delete(link, [*found, (0, b"nobody")], rest, SECONDS) == 300

    run(main)
    assert len(contents(server)) == 2700


def test_a_walk_that_finds_too_many_says_so(
    start: Callable[..., Server], protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyspace, "KEPT_LIMIT", 100)
    server = start()
    with connect(protocol, server.port) as store:
        for number in range(5000):
            store.set(b"key:%d" % number, b"x")

    async def main() -> None:
        link = link_to(server, protocol)
        rounds, is_all = 0, False
        while not is_all:
            rounds += 1
            found, is_all = await keyspace.walk(link, 1, lambda key: True, rest, SECONDS)
            await keyspace.delete(link, found, rest, SECONDS)
        assert rounds > 1

    run(main)
    assert contents(server) == {}


def test_a_server_is_emptied_under_its_record_alone(start: Callable[..., Server], protocol: str) -> None:
    server = start()
    put(server, protocol, "k", b"old")

    async def main() -> None:
        link = link_to(server, protocol)
        with pytest.raises(keyspace.NotEmptied, match="does not hold the record"):
            await keyspace.empty(link, "p", 2, encode(NEW), SECONDS)
        await swap.put(link, NEW.enter("s1", 0), SECONDS)
        with connect(protocol, server.port) as user:
            with pytest.raises(keyspace.NotEmptied, match="does not hold the record"):
                await keyspace.empty(link, "p", 2, encode(NEW), SECONDS)
            assert user.get(b"k") == b"old", "it is in use, and nobody's connection was closed"

    run(main)

    async def again() -> bool:
        return await keyspace.empty(link_to(server, protocol), "p", 2, encode(NEW.enter("s1", 0)), SECONDS)

    assert run(again)
    assert contents(server) == {}
    assert not run(again), "an empty one is only looked at, whatever record it has"


def test_a_server_of_another_pool_is_not_emptied(start: Callable[..., Server], protocol: str) -> None:
    server = start()
    put(server, protocol, "k", b"old")
    put(server, protocol, absence_key("q"), b"{}")
    put(server, protocol, KEY, encode(NEW))

    async def main() -> None:
        with pytest.raises(keyspace.NotEmptied, match="another pool"):
            await keyspace.empty(link_to(server, protocol), "p", 2, encode(NEW), SECONDS)

    run(main)
    assert get(server, protocol, "k") == b"old"


def test_a_memcached_that_does_not_let_us_look_is_not_emptied(start_memcached: Callable[..., Server]) -> None:
    server = start_memcached("-X")
    put(server, "memcached", "k", b"old")
    put(server, "memcached", KEY, encode(NEW))

    async def main() -> None:
        with pytest.raises(LinkError) as caught:
            await keyspace.empty(link_to(server, "memcached"), "p", 2, encode(NEW), SECONDS)
        assert caught.value.reason is Reason.PROTOCOL

    run(main)
    assert get(server, "memcached", "k") == b"old"


def test_a_redis_that_refuses_to_be_flushed_says_why(start_redis: Callable[..., Server]) -> None:
    server = start_redis("--rename-command", "FLUSHDB", "")
    put(server, "redis", "k", b"old")
    put(server, "redis", KEY, encode(NEW))

    async def main() -> None:
        with pytest.raises(keyspace.NotEmptied, match="unknown command"):
            await keyspace.empty(link_to(server, "redis"), "p", 2, encode(NEW), SECONDS)

    run(main)


def test_no_connection_from_before_outlives_the_emptying(start_redis: Callable[..., Server]) -> None:
    server = start_redis()
    put(server, "redis", "k", b"old")
    put(server, "redis", KEY, encode(NEW))
    with RawClient(server.port) as late, RawClient(server.port) as other:
        assert late.ask(b"PING\r\n") == b"+PONG\r\n"
        for number in (b"1", b"2"):
            assert other.ask(b"SELECT %b\r\n" % number) == b"+OK\r\n"
            assert other.ask(b"SET k old\r\n") == b"+OK\r\n"

        async def main() -> bool:
            return await keyspace.empty(link_to(server, "redis"), "p", 2, encode(NEW), SECONDS)

        assert run(main)
        late.expect_closed()
    # Database 2 is not the pool's.
    assert contents(server) == {b"database 2: k": (b"string", b"old")}
