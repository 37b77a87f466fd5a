"""A backend that is out of memory still takes the record, or two proxies could go on without each other."""

from __future__ import annotations

from collections.abc import Callable

import trio
from support.servers import RedisServer
from support.store import RedisStore

from proxy.control.event import Commit, CommitLost, CommitWon
from proxy.control.model import View
from proxy.control.view import encode, view_key
from proxy.tasks.link import Link
from proxy.tasks.views import commit

SECONDS = 5.0


def test_a_full_backend_decides_between_two_proxies(start_redis: Callable[..., RedisServer]) -> None:
    full, one, other = start_redis(), start_redis(), start_redis()
    addresses = full.address, one.address, other.address
    first = View("p", "s", 1, full.address, addresses, ("r", "r", "r"))
    with RedisStore(full.port) as store:
        store.set(view_key("p", "s").encode(), encode(first))
        store.ask("CONFIG", "SET", "maxmemory", "1")

    # It refused a write that another took, so both want to go on without it, each with another one.
    def without(member: RedisServer) -> View:
        return View("p", "s", 2, member.address, (member.address,), ("r",))

    async def race() -> list[object]:
        links = {address: Link(address, "redis", None, 1.0) for address in addresses}
        try:
            return [
                await commit(Commit(without(one), (one.address,), (full.address,)), links, SECONDS),
                await commit(Commit(without(other), (other.address,), (full.address,)), links, SECONDS),
            ]
        finally:
            for link in links.values():
                link.close()

    won, lost = trio.run(race)
    assert won == CommitWon(without(one))
    assert lost == CommitLost(without(other), full.address, encode(without(one)))
