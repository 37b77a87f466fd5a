"""A wall clock that jumps under a server or the proxy: what has no expiry stays, the replicas agree."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.clock import Clock, why_not
from support.servers import MemcachedServer, RedisServer
from support.store import MemcachedStore, RedisStore

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(bool(reason := why_not()), reason=reason),
]


@pytest.fixture
def clock() -> Iterator[Clock]:
    made = Clock()
    yield made
    made.close()


def test_redis_takes_the_jump_for_the_time(clock: Clock) -> None:
    server = RedisServer()
    server.environment = clock.environment
    with server, RedisStore(server.port) as store:
        store.ask("SET", "kept", "1")
        store.ask("SET", "gone", "1", "EX", "100")
        before = int(store.ask("TIME")[0])
        assert clock.readings == 0
        clock.jump(600)
        assert int(store.ask("TIME")[0]) >= before + 600
        assert store.ask("GET", "kept") == b"1"
        assert store.ask("GET", "gone") is None
        clock.jump(-600)
        assert int(store.ask("TIME")[0]) < before
        assert clock.readings > 0


def test_memcached_reads_it_when_it_starts(clock: Clock) -> None:
    server = MemcachedServer()
    server.environment = clock.environment
    with server:
        before = memcached_time(server)
        clock.jump(600)
        server.restart()
        assert memcached_time(server) >= before + 600
        assert clock.readings > 0


def memcached_time(server: MemcachedServer) -> int:
    with MemcachedStore(server.port) as store:
        store.raw.send(b"stats\r\n")
        lines = store.raw.read_until(b"END\r\n").splitlines()
        return next(int(line.split()[2]) for line in lines if line.startswith(b"STAT time "))
