"""``on_shard_loss: remap``: a lost shard's keys live elsewhere, and no old value comes back with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from support.eventually import eventually
from support.proxy_process import ProxyProcess, pool
from support.raw import RawClient
from support.relay import Relay
from support.servers import Server
from support.store import PROTOCOLS, QUICK, SERVERS, Refused, Store, connect, contents
from support.traffic import Traffic

from proxy.config import load
from proxy.placement import Placement

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


def test_old_data_that_comes_back_is_never_read(resources: ExitStack, protocol: str) -> None:
    """A shard is stopped, not killed, and goes on with all it had, under traffic through two proxies."""
    world = World(resources, protocol, [1, 1, 1])
    proxies = [world.proxy(), world.proxy()]
    turns = itertools.cycle(proxies)

    def anybody() -> Store:
        return connect(protocol, next(turns).ports["p"])

    with Traffic(anybody, keys=40, forgets=True) as traffic:
        before = keys_with(world, 1, b"traffic:")
        assert before
        world.server(1).stop()
        for proxy in proxies:
            wait_phase(proxy, 1, "remapped")
        traffic.flow()
        world.server(1).cont()
        for proxy in proxies:
            wait_phase(proxy, 1, "serving")
        traffic.flow()
        wait_swept(world, 0)
        traffic.flow()
        world.server(1).stop()  # and once more, with what was written between
        for proxy in proxies:
            wait_phase(proxy, 1, "remapped")
        traffic.flow()
        world.server(1).cont()
        for proxy in proxies:
            wait_phase(proxy, 1, "serving")
        traffic.flow()
    assert not traffic.violations, traffic.violations[:5]
    emptied = sum(proxy.metric("shardproxy_shard_emptied_total", shard="s2") for proxy in proxies)
    assert emptied >= 2


def keys_with(world: World, shard: int, prefix: bytes) -> set[bytes]:
    return {key for key in contents(world.server(shard)) if key.startswith(prefix)}


def test_lost_twice_with_different_values(resources: ExitStack, protocol: str) -> None:
    world = World(resources, protocol, [1, 1])
    proxy = world.proxy()
    client = world.client(proxy)
    fill(client, b"1")
    mine = keys_of(world, 1)
    world.server(1).kill9()
    wait_phase(proxy, 1, "remapped")
    fill(client, b"2")
    world.server(1).restart()
    wait_phase(proxy, 1, "serving")
    wait_swept(world, 0)
    fill(client, b"3")
    world.server(1).kill9()
    wait_phase(proxy, 1, "remapped")
    found = read(client)
    assert {found[key] for key in mine} == {None}, "2 would be a leftover of the first time"
    assert {found[key] for key in KEYS if key not in mine} == {b"3"}


def test_where_leftovers_cannot_be_found_a_shard_is_not_remapped_again(resources: ExitStack) -> None:
    """A memcached that does not show its keys (-X) keeps old ones, so they must never be asked for."""
    world = World(resources, "memcached", [0, 1])
    world.shards[0].append(resources.enter_context(SERVERS["memcached"]("-X")))
    proxy = world.proxy()
    client = world.client(proxy)
    fill(client, b"1")
    mine = keys_of(world, 1)
    world.server(1).kill9()
    wait_phase(proxy, 1, "remapped")
    fill(client, b"2")
    world.server(1).restart()
    wait_phase(proxy, 1, "serving")
    eventually(lambda: "what=sweep" in proxy.log_text(), what="says that it cannot sweep")
    world.server(1).kill9()
    wait_phase(proxy, 1, "lost")
    failures = proxy.metric("shardproxy_backend_probes_total", shard="s2", result="refused")
    eventually(
        lambda: proxy.metric("shardproxy_backend_probes_total", shard="s2", result="refused") > failures + 5
    )
    assert phase(proxy, 1) == "lost"
    assert all(isinstance(answer(lambda key=key: client.get(key)), Refused | None) for key in mine)
    assert client.get(next(key for key in KEYS if key not in mine)) == b"2", "the other shard goes on"


def test_a_proxy_that_alone_cannot_reach_a_shard_agrees_with_the_others(
    resources: ExitStack, protocol: str, start_relay: Callable[[int], Relay]
) -> None:
    world = World(resources, protocol, [1, 1, 1])
    relay = start_relay(world.server(1).port)
    one = world.proxy({world.server(1).address: relay.address})
    two = world.proxy()
    first, second = world.client(one), world.client(two)
    fill(second, b"1")
    mine = keys_of(world, 1)
    assert set(read(first).values()) == {b"1"}

    relay.black_hole()
    wait_phase(one, 1, "remapped")
    wait_phase(two, 1, "remapped")
    fill(first, b"2")
    assert set(read(second).values()) == {b"2"}, "the second one reaches the old values and must not"
    three = world.proxy()
    third = world.client(three)
    wait_phase(three, 1, "remapped")
    assert set(read(third).values()) == {b"2"}, "one that starts reads the record before it serves"
    passed = two.metric("shardproxy_backend_probes_total", shard="s2", result="answers")
    eventually(
        lambda: two.metric("shardproxy_backend_probes_total", shard="s2", result="answers") > passed + 10
    )
    assert keys_of(world, 1) == mine, "nobody empties it while somebody is blind to it"
    assert phase(two, 1) == "remapped"

    relay.pass_through()
    for proxy in (one, two, three):
        wait_phase(proxy, 1, "serving")
    for client in (first, second, third):
        found = read(client)
        assert {found[key] for key in mine} == {None}
    wait_swept(world, 0)


def test_a_proxy_that_starts_beside_a_dead_shard_remaps_it(resources: ExitStack, protocol: str) -> None:
    world = World(resources, protocol, [1, 1, 1])
    world.server(1).kill9()
    proxy = world.proxy()
    wait_phase(proxy, 1, "remapped")
    client = world.client(proxy)
    fill(client, b"1")
    assert set(read(client).values()) == {b"1"}
    assert keys_of(world, 0) | keys_of(world, 2) == set(KEYS)
    # `shardproxy route` tells beforehand where they go.
    found = {"s1": keys_of(world, 0), "s3": keys_of(world, 2)}
    placement = Placement(load(proxy.config_path).config.pools["p"])
    for key in KEYS:
        home, heir = placement.place(key).shard.name, placement.heir(key)
        assert heir is not None
        assert key in found[heir.name if home == "s2" else home]


def test_a_replicated_shard_returns_empty_with_a_fresh_view(resources: ExitStack, protocol: str) -> None:
    world = World(resources, protocol, [2, 2], resync={"auto": True})
    proxy = world.proxy()
    client = world.client(proxy)
    fill(client, b"1")
    mine = keys_of(world, 1)
    before = proxy.status()["pools"]["p"]["shards"]["s2"]["epoch"]
    world.server(1, 0).kill9()
    assert set(read(client).values()) == {b"1"}, "one that is left serves all"
    world.server(1, 1).stop()
    wait_phase(proxy, 1, "remapped")
    fill(client, b"2")
    assert set(read(client).values()) == {b"2"}
    world.server(1, 1).cont()
    world.server(1, 0).restart()
    wait_phase(proxy, 1, "serving")
    found = read(client)
    assert {found[key] for key in mine} == {None}
    status = proxy.status()["pools"]["p"]["shards"]["s2"]
    assert status["epoch"] > before + 1
    for member in world.shards[1]:  # both were emptied; one may have missed the view all the same
        proxy.wait_state("p", member.address, "in_sync", within=20)
    fill(client, b"3")
    wait_swept(world, 0)  # a memcached shows its keys to one at a time
    assert contents(world.server(1, 0)) == contents(world.server(1, 1))
    assert keys_of(world, 0).isdisjoint(mine)


def test_all_shards_lost_is_an_error_as_ever(resources: ExitStack, protocol: str) -> None:
    world = World(resources, protocol, [1, 1])
    proxy = world.proxy()
    client = world.client(proxy)
    fill(client, b"1")
    world.server(0).kill9()
    wait_phase(proxy, 0, "remapped")
    world.server(1).kill9()
    wait_phase(proxy, 1, "lost")
    assert all(isinstance(answer(lambda key=key: client.get(key)), Refused) for key in KEYS)
    world.server(1).restart()
    wait_phase(proxy, 1, "serving")
    fill(client, b"2")
    assert set(read(client).values()) == {b"2"}, "the one that is back has all keys"
    world.server(0).restart()
    wait_phase(proxy, 0, "serving")


def test_error_keeps_its_keys_its_own(resources: ExitStack, protocol: str) -> None:
    world = World(resources, protocol, [1, 1], on_shard_loss="error")
    proxy = world.proxy()
    client = world.client(proxy)
    fill(client, b"1")
    mine = keys_of(world, 1)
    world.server(1).stop()
    wait_phase(proxy, 1, "lost")
    failures = proxy.metric("shardproxy_backend_probes_total", shard="s2", result="timeout")
    eventually(
        lambda: proxy.metric("shardproxy_backend_probes_total", shard="s2", result="timeout") > failures + 5
    )
    assert all(isinstance(answer(lambda key=key: client.get(key)), Refused) for key in mine)
    world.server(1).cont()
    wait_phase(proxy, 1, "serving")
    assert set(read(client).values()) == {b"1"}
    assert record(world, 0) == "", "no record is kept"


def test_a_flush_leaves_the_record(resources: ExitStack) -> None:
    world = World(resources, "memcached", [1, 1, 2])
    proxy = world.proxy()
    client = world.client(proxy)
    fill(client, b"1")
    world.server(1).kill9()
    wait_phase(proxy, 1, "remapped")
    assert client.ask(b"flush_all") == b"OK"  # type: ignore[attr-defined]
    assert '"absent":["s2"]' in record(world, 0), "put back behind the flush"
    assert '"absent":["s2"]' in record(world, 2)
    assert set(read(client).values()) == {None}
    fill(client, b"2")
    assert set(read(client).values()) == {b"2"}
    assert proxy.backend_states("p")[world.server(2).address] == "in_sync", "so was the view"


def test_a_record_that_was_deleted_is_put_back(resources: ExitStack, protocol: str) -> None:
    world = World(resources, protocol, [1, 1, 1])
    proxy = world.proxy()
    world.server(1).kill9()
    wait_phase(proxy, 1, "remapped")
    with RawClient(world.server(0).port) as raw:
        raw.send(b"FLUSHALL\r\n" if protocol == "redis" else b"flush_all\r\n")
        assert raw.read_line() in (b"+OK\r\n", b"OK\r\n")
    eventually(lambda: '"absent":["s2"]' in record(world, 0), what="put back")


def test_a_server_with_another_pools_record_is_not_emptied(resources: ExitStack, protocol: str) -> None:
    world = World(resources, protocol, [1, 1])
    proxy = world.proxy()
    client = world.client(proxy)
    fill(client, b"1")
    mine = keys_of(world, 1)
    with connect(protocol, world.server(1).port) as store:
        store.set(b"__shardproxy:view:other/s", b"{}")
    world.server(1).stop()
    wait_phase(proxy, 1, "remapped")
    world.server(1).cont()
    eventually(lambda: "also belongs to another pool" in proxy.log_text(), within=20, what="says why")
    assert phase(proxy, 1) == "remapped"
    assert keys_of(world, 1) == mine
    delete = b"DEL %b\r\n" if protocol == "redis" else b"delete %b\r\n"
    with RawClient(world.server(1).port) as raw:
        raw.send(delete % b"__shardproxy:view:other/s")
        assert raw.read_line() in (b":1\r\n", b"DELETED\r\n")
    wait_phase(proxy, 1, "serving")
    found = read(client)
    assert {found[key] for key in mine} == {None}


def test_two_halves_that_met_again_serve_nothing_old(resources: ExitStack, protocol: str) -> None:
    """Each proxy alone reaches another shard, so both decide; what they wrote meanwhile is all given up."""
    world = World(resources, protocol, [1, 1])
    to_first = resources.enter_context(Relay(world.server(0).port))
    to_second = resources.enter_context(Relay(world.server(1).port))
    one = world.proxy({world.server(1).address: to_second.address})
    two = world.proxy({world.server(0).address: to_first.address})
    first, second = world.client(one), world.client(two)
    fill(first, b"0")
    to_second.refuse()
    to_first.refuse()
    wait_phase(one, 1, "remapped")
    wait_phase(two, 0, "remapped")
    fill(first, b"1")
    fill(second, b"2")
    to_second.pass_through()
    to_first.pass_through()
    wait_swept(world, 0, within=40)
    for proxy in (one, two):
        for shard in (0, 1):
            wait_phase(proxy, shard, "serving")
    assert set(read(first).values()) == set(read(second).values()) == {None}
    fill(second, b"3")
    assert set(read(first).values()) == {b"3"}


def test_emptied_while_backends_are_brought_back_by_themselves(resources: ExitStack, protocol: str) -> None:
    """A stale backend of a shard is filled from its leader; nothing of that may outlive the emptying."""
    world = World(resources, protocol, [2, 2], resync={"auto": True})
    proxy = world.proxy()
    client = world.client(proxy)
    with connect(protocol, world.server(1).port) as store:
        old = [b"old:%d" % number for number in range(2000)]
        for key in old:
            store.set(key, b"x" * 100)
    fill(client, b"1")
    for _ in range(2):
        for member in world.shards[1]:
            member.stop()
        wait_phase(proxy, 1, "remapped")
        for member in world.shards[1]:
            member.cont()
        world.server(1, 1).kill9()
        world.server(1, 1).restart()
        wait_phase(proxy, 1, "serving")
        fill(client, b"2")
        for member in world.shards[1]:
            proxy.wait_state("p", member.address, "in_sync", within=30)
        wait_swept(world, 0)
        assert set(read(client).values()) == {b"2"}
        held = contents(world.server(1, 0))
        assert held == contents(world.server(1, 1))
        assert not set(held) & set(old)
