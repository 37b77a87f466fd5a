"""A backend that answers but refuses what would change it still takes part in deciding who goes on.

It is skipped where it refuses (before Redis 7 when out of memory, after a failed snapshot, as a replica);
then the next in succession decides, whom all proxies ask, and what the first one shows counts all the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import trio
from support.eventually import eventually
from support.ports import free_port
from support.servers import RedisServer
from support.store import RedisStore

from proxy.control.event import Commit, CommitLost, CommitWon
from proxy.control.model import View
from proxy.control.view import beats, encode, next_view, view_key
from proxy.tasks.link import Link
from proxy.tasks.views import commit

SECONDS = 5.0
KEY = view_key("p", "s").encode()
T = TypeVar("T")
Outcome = object


def out_of_memory(server: RedisServer, store: RedisStore) -> None:
    store.ask("CONFIG", "SET", "maxmemory", "1")


def unsaved(server: RedisServer, store: RedisStore) -> None:
    """A snapshot that cannot be put in its place, as on a full disk."""
    obstacle = server.directory / "obstacle.rdb"
    obstacle.mkdir(exist_ok=True)
    (obstacle / "x").touch()
    store.ask("CONFIG", "SET", "save", "3600 1000000")
    store.ask("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes")
    store.ask("BGSAVE")
    eventually(lambda: b"rdb_last_bgsave_status:err" in store.ask("INFO", "persistence"))


def replica_of_nobody(server: RedisServer, store: RedisStore) -> None:
    store.ask("REPLICAOF", "127.0.0.1", str(free_port()))


def relent(store: RedisStore) -> None:
    """Takes back whatever made it refuse."""
    store.ask("REPLICAOF", "NO", "ONE")
    store.ask("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
    store.ask("CONFIG", "SET", "maxmemory", "0")


REFUSALS = {"oom": out_of_memory, "misconf": unsaved, "readonly": replica_of_nobody}
OPTIONS = {
    # Without scripts the record cannot go beyond the memory limit, as before Redis 7.
    "oom": ("--rename-command", "EVAL", ""),
    "misconf": ("--dbfilename", "obstacle.rdb"),
    "readonly": (),
}


class Shard:
    """Three servers with the record of one view, the first of which refuses writes."""

    def __init__(self, servers: list[RedisServer], refusal: str) -> None:
        self.servers = servers
        self.addresses = tuple(each.address for each in servers)
        self.view = View("p", "s", 1, self.addresses[0], self.addresses, ("r", "r", "r"))
        for server in servers:
            self.put(server, self.view)
        with RedisStore(servers[0].port) as store:
            REFUSALS[refusal](servers[0], store)

    def put(self, server: RedisServer, view: View) -> None:
        with RedisStore(server.port) as store:
            store.set(KEY, encode(view))

    def record(self, at: int) -> bytes | None:
        with RedisStore(self.servers[at].port) as store:
            return store.get(KEY)

    def of(self, *positions: int) -> View:
        """The next view with these members."""
        survivors = [self.addresses[at] for at in positions]
        return next_view(self.view, survivors, lead=survivors[0])

    def action(self, view: View) -> Commit:
        """As `proxy.control.shard` would have it."""
        first = self.addresses.index(view.in_sync[0])
        gone = [each for each in self.addresses if each not in view.in_sync]
        ahead = tuple(each for each in gone if each in self.addresses[:first])
        return Commit(view, (), ahead, tuple(each for each in gone if each not in ahead))

    def run(self, main: Callable[[dict[str, Link]], Awaitable[T]]) -> T:
        async def whole() -> T:
            links = {address: Link(address, "redis", None, 1.0) for address in self.addresses}
            try:
                return await main(links)
            finally:
                for link in links.values():
                    link.close()

        return trio.run(whole)

    def commit(self, view: View) -> Outcome:
        async def main(links: dict[str, Link]) -> Outcome:
            return await commit(self.action(view), links, SECONDS)

        return self.run(main)


@pytest.fixture(params=["oom", "misconf", "readonly"])
def refusal(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shard(refusal: str, start_redis: Callable[..., RedisServer]) -> Shard:
    return Shard([start_redis(*OPTIONS[refusal]), start_redis(), start_redis()], refusal)


def test_a_full_backend_with_scripts_takes_the_record(start_redis: Callable[..., RedisServer]) -> None:
    shard = Shard([start_redis(), start_redis(), start_redis()], "oom")
    ours, theirs = shard.of(1), shard.of(2)
    assert shard.commit(ours) == CommitWon(ours)
    assert shard.record(0) == encode(ours)
    assert shard.commit(theirs) == CommitLost(theirs, shard.addresses[0], encode(ours))


def test_two_that_blame_each_others_backend_cannot_both_win(shard: Shard) -> None:
    async def race(links: dict[str, Link]) -> None:
        view = shard.view
        for _ in range(10):
            for each in shard.servers[1:]:
                shard.put(each, view)
            outcomes: dict[str, Outcome] = {}

            async def go(view: View, outcomes: dict[str, Outcome]) -> None:
                theirs = {address: Link(address, "redis", None, 1.0) for address in shard.addresses}
                outcomes[view.lead] = await commit(shard.action(view), theirs, SECONDS)
                for link in theirs.values():
                    link.close()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(go, shard.of(1), outcomes)
                nursery.start_soon(go, shard.of(2), outcomes)
            assert sorted(type(each).__name__ for each in outcomes.values()) == ["CommitLost", "CommitWon"]

    shard.run(race)
    assert shard.record(0) == encode(shard.view), "it refused them all"


def test_a_record_it_shows_counts_although_it_takes_none(shard: Shard, refusal: str) -> None:
    with RedisStore(shard.servers[0].port) as store:
        relent(store)
        store.set(KEY, encode(shard.of(0, 2)))
        REFUSALS[refusal](shard.servers[0], store)
    ours = shard.of(1, 2)
    assert shard.commit(ours) == CommitLost(ours, shard.addresses[0], encode(shard.of(0, 2)))
    assert shard.record(1) == encode(shard.view), "nothing was written"


def test_a_rival_that_it_takes_later_loses_and_is_known_to(shard: Shard) -> None:
    """The trace "view without: succession" of tests/model."""
    ours, theirs = shard.of(1, 2), shard.of(0, 2)
    assert shard.commit(ours) == CommitWon(ours)
    with RedisStore(shard.servers[0].port) as store:
        relent(store)
    outcome = shard.commit(theirs)
    assert isinstance(outcome, CommitLost)
    assert (outcome.record, outcome.placed) == (encode(ours), True)
    assert shard.record(0) == encode(theirs)
    assert beats(ours, theirs)
    assert not beats(theirs, ours)
