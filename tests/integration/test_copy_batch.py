"""One batch of a copy between two real memcached servers, with writes that come in its middle.

What other proxies write arrives at the leader first and then at the target; here both happen between two
steps of the copy, where the race is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import pytest
import trio
from support.servers import MemcachedServer
from support.store import MemcachedStore

from proxy.control.copying import Key
from proxy.control.fence import Owner
from proxy.control.model import BackendSpec, PoolSpec, ShardSpec
from proxy.control.resync import LEASE_SECONDS, Phase, Progress
from proxy.control.state import ShardState, new_shard
from proxy.tasks.job import Desk, GivenUp, Job
from proxy.tasks.link import Link
from proxy.tasks.memcached_copying import MemcachedCopier
from proxy.tasks.wire import MetaReader, MetaReply

KEYS = [Key(b"a", 70), Key(b"b", 70), Key(b"c", 70)]
Deed = Callable[[], None]


@dataclass
class Pair:
    """A leader that holds a, b and c, and an empty target."""

    leader: MemcachedServer
    target: MemcachedServer

    def ask(self, request: bytes, *servers: MemcachedServer) -> None:
        """Sends a request to the leader and then to the target, or to those named."""
        for server in servers or (self.leader, self.target):
            with MemcachedStore(server.port) as store:
                assert not store.ask(request).startswith((b"ERROR", b"CLIENT", b"SERVER"))

    def contents(self) -> tuple[object, object]:
        found = []
        for server in (self.leader, self.target):
            with MemcachedStore(server.port) as store:
                found.append(store.contents())
        return found[0], found[1]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with MemcachedServer() as leader, MemcachedServer() as target:
        made = Pair(leader, target)
        for key in (b"a", b"b", b"c"):
            made.ask(b"set %b 5 0 3\r\nold" % key, leader)
        yield made


class Interrupted(MemcachedCopier):
    """Does ``deeds[n]`` before the n-th question it asks the servers."""

    deeds: Sequence[Deed | None] = ()

    async def _meta(self, link: Link, request: bytes, count: int) -> list[MetaReply]:
        deed, *self.deeds = self.deeds or [None]
        if deed is not None:
            await trio.to_thread.run_sync(deed)
        return await super()._meta(link, request, count)


class _Desk:
    def __init__(self, shard: ShardState) -> None:
        self._shard = shard

    def shard(self) -> ShardState:
        return self._shard


FETCH, ADD, VERIFY, TAKE_BACK = range(4)
"""The questions of a batch, in their order."""


def copy(pair: Pair, deeds: dict[int, Deed], lease_seconds: float = LEASE_SECONDS) -> list[bytes]:
    """Copies all keys, once, with deeds before some of the questions; returns those to copy again.

    Raises:
        GivenUp: as `MemcachedCopier.copy`.
    """
    addresses = (pair.leader.address, pair.target.address)
    spec = ShardSpec("s", tuple(map(BackendSpec, addresses)))
    shard = new_shard(PoolSpec("p", "memcached", (spec,)), spec, 0.0)

    async def main() -> list[bytes]:
        links = [Link(each, "memcached", None, 1.0) for each in addresses]
        progress = Progress(*addresses, 0.0, 0.0, Phase.COPYING)
        desk = cast(Desk, _Desk(shard))
        job = Job(desk, Owner("1", "p", "s"), *links, trio.current_time, progress)
        job.leased_until = trio.current_time() + lease_seconds
        copying = Interrupted(job)
        reader = partial(MetaReader, 1 << 20)
        copying._source, copying._sink = (
            Link(each, "memcached", None, 1.0, reader=reader) for each in addresses
        )
        copying.deeds = [deeds.get(number) for number in range(TAKE_BACK + 3)]
        try:
            with trio.fail_after(10):
                return [key.word for key in await copying.copy(KEYS)]
        finally:
            for link in (*links, copying._source, copying._sink):
                link.close()

    return trio.run(main)


def test_a_quiet_batch_is_equal(pair: Pair) -> None:
    assert copy(pair, {}) == []
    leader, target = pair.contents()
    assert leader == target


@pytest.mark.parametrize("moment", [FETCH, ADD, VERIFY])
def test_a_key_that_is_deleted_meanwhile_does_not_come_back(pair: Pair, moment: int) -> None:
    copy(pair, {moment: lambda: pair.ask(b"delete b")})
    leader, target = pair.contents()
    assert leader == target
    assert b"b" not in cast(dict[bytes, object], target)


@pytest.mark.parametrize("moment", [FETCH, ADD, VERIFY, TAKE_BACK])
def test_a_newer_value_stays(pair: Pair, moment: int) -> None:
    copy(pair, {moment: lambda: pair.ask(b"set b 6 0 3\r\nnew")})
    leader, target = pair.contents()
    assert leader == target


def test_nothing_is_added_when_another_proxy_may_be_at_work(pair: Pair) -> None:
    # As after a stop between fetching and adding: the target may be in sync by then, and the keys deleted.
    with pytest.raises(GivenUp, match="lease_lost"):
        copy(pair, {}, lease_seconds=0.5)
    leader, target = pair.contents()
    assert leader
    assert target == {}


def test_a_value_that_the_target_is_still_to_get(pair: Pair) -> None:
    # Changed on the leader, and the copy of the old value is in place before the target hears of it.
    again = copy(pair, {ADD: lambda: pair.ask(b"set b 6 0 3\r\nnew", pair.leader)})
    assert again == [b"b"], "taken back, and to be copied again"
    assert copy(pair, {}) == []
    leader, target = pair.contents()
    assert leader == target


@pytest.mark.parametrize("moment", [FETCH, ADD, VERIFY])
def test_a_flush_meanwhile(pair: Pair, moment: int) -> None:
    copy(pair, {moment: lambda: pair.ask(b"flush_all")})
    assert pair.contents() == ({}, {})


def test_an_old_copy_that_nobody_has_verified_is_replaced(pair: Pair) -> None:
    # Its proxy died between the add and the look at the leader.
    pair.ask(b"set a 5 0 3\r\nxxx", pair.target)
    pair.ask(b"set c 5 0 3\r\nold", pair.target)
    assert copy(pair, {}) == [b"a"]
    assert copy(pair, {}) == []
    leader, target = pair.contents()
    assert leader == target


def test_an_old_copy_of_what_the_leader_has_lost_is_removed(pair: Pair) -> None:
    # The batch broke off before it could be verified, and is done again.
    pair.ask(b"set b 5 0 3\r\nold", pair.target)
    pair.ask(b"delete b", pair.leader)
    assert copy(pair, {}) == []
    leader, target = pair.contents()
    assert leader == target


def test_a_write_between_the_two_looks_at_an_occupied_key_wins(pair: Pair) -> None:
    pair.ask(b"set a 5 0 3\r\nxxx", pair.target)
    # FETCH, ADD, VERIFY, then the look at the target and the one at the leader.
    copy(pair, {4: lambda: pair.ask(b"set a 7 0 3\r\nnew")})
    leader, target = pair.contents()
    assert cast(dict[bytes, object], target)[b"a"] == cast(dict[bytes, object], leader)[b"a"]
