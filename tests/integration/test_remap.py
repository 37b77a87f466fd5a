"""``on_shard_loss: remap``: a lost shard's keys live elsewhere, and no old value comes back with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from support.eventually import eventually
from support.proxy_process import ProxyProcess, pool
from support.servers import Server
from support.store import PROTOCOLS, QUICK, SERVERS, Refused, Store, connect, contents

pytestmark = pytest.mark.fault

KEYS = [b"key:%d" % number for number in range(120)]


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class World:
    """Shards of real servers, and proxies over all of them."""

    def __init__(self, resources: ExitStack, protocol: str, shards: list[int], **options: object) -> None:
        self.resources = resources
        self.protocol = protocol
        kind = SERVERS[protocol]
        self.shards = [[resources.enter_context(kind()) for _ in range(count)] for count in shards]
        self.options = {**QUICK, "on_shard_loss": "remap", **options}

    def server(self, shard: int, member: int = 0) -> Server:
        return self.shards[shard][member]

    def proxy(self, seen_as: dict[str, str] | None = None) -> ProxyProcess:
        """One more proxy. ``seen_as`` replaces addresses; shard names keep keys where they are."""
        other = seen_as or {}
        rows = [[other.get(each.address, each.address) for each in shard] for shard in self.shards]
        config = {"pools": {"p": pool(self.protocol, *rows, **self.options)}}
        return self.resources.enter_context(ProxyProcess(config))

    def client(self, proxy: ProxyProcess) -> Store:
        return self.resources.enter_context(connect(self.protocol, proxy.ports["p"]))


def phase(proxy: ProxyProcess, shard: int) -> str:
    return str(proxy.status()["pools"]["p"]["shards"][f"s{shard + 1}"]["phase"])


def wait_phase(proxy: ProxyProcess, shard: int, expected: str, *, within: float = 20.0) -> None:
    eventually(lambda: phase(proxy, shard) == expected, within=within, what=f"s{shard + 1} is {expected}")


def record(world: World, shard: int) -> str:
    """The pool's record on a shard's first backend, as text."""
    with connect(world.protocol, world.server(shard).port) as store:
        found = store.get(b"__shardproxy:absent:p")
    return (found or b"").decode()


def wait_swept(world: World, shard: int, *, within: float = 20.0) -> None:
    def swept() -> bool:
        text = record(world, shard)
        assert '"absent":[],"returned":{}' in text, text
        return True

    eventually(swept, within=within, what="the record says that all is swept")


def fill(client: Store, value: bytes) -> None:
    for key in KEYS:
        client.set(key, value)


def read(client: Store) -> dict[bytes, bytes | None]:
    return {key: client.get(key) for key in KEYS}


def keys_of(world: World, shard: int) -> set[bytes]:
    return set(contents(world.server(shard))) & set(KEYS)


def answer(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Refused as refused:
        return refused


def test_keys_of_a_lost_shard_live_elsewhere_and_others_stay(resources: ExitStack, protocol: str) -> None:
    world = World(resources, protocol, [1, 1, 1])
    proxy = world.proxy()
    client = world.client(proxy)
    fill(client, b"1")
    homes = [keys_of(world, shard) for shard in range(3)]
    assert all(homes)

    world.server(1).kill9()
    wait_phase(proxy, 1, "remapped")
    found = read(client)
    assert {key for key in KEYS if found[key] is None} == homes[1], "lost data is gone, the rest is there"
    fill(client, b"2")
    assert set(read(client).values()) == {b"2"}
    assert homes[0] <= keys_of(world, 0), "no other key moved"
    assert homes[2] <= keys_of(world, 2)
    assert keys_of(world, 0) | keys_of(world, 2) == set(KEYS)
    assert proxy.metric("shardproxy_shard_remapped", shard="s2") == 1
    assert proxy.metric("shardproxy_shard_remapped") == 1

    world.server(1).restart()
    wait_phase(proxy, 1, "serving")
    found = read(client)
    assert {key for key in KEYS if found[key] is None} == homes[1], "it came back empty"
    wait_swept(world, 0)
    assert keys_of(world, 0) == homes[0], "nothing is left of it elsewhere"
    assert keys_of(world, 2) == homes[2]
    assert proxy.metric("shardproxy_shard_remapped") == 0
