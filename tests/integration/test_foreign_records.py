"""Records that are not ours to follow, and backends that are not ours alone.

The shard says what is wrong, the rest goes on, and nothing that somebody else may need is overwritten.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.proxy_process import ProxyProcess, pool
from support.relay import Relay
from support.servers import MemcachedServer, RedisServer
from support.store import PROTOCOLS, QUICK, Refused, connect

from proxy.admin.client import ask_resync
from proxy.control.model import View
from proxy.control.view import encode, parse, view_key

RECORD = view_key("p", "s1").encode()
STRANGER = "127.0.0.1:1"
RECORDS = {
    "record_damaged": b'{"v":1,"pool":"p"',
    "record_newer_version": b'{"v":2,"shape":"unknown"}',
    "record_foreign": encode(View("other", "s1", 9, STRANGER, (STRANGER,), ("r",))),
}
Start = Callable[..., RedisServer | MemcachedServer]


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(
    protocol: str,
    start_redis: Callable[..., RedisServer],
    start_memcached: Callable[..., MemcachedServer],
) -> Start:
    return start_redis if protocol == "redis" else start_memcached


def shard_of(proxy: ProxyProcess, name: str = "p", shard: str = "s1") -> dict[str, Any]:
    found: dict[str, Any] = proxy.status()["pools"][name]["shards"][shard]
    return found


def backend(proxy: ProxyProcess, address: str, name: str = "p") -> tuple[str, str]:
    """State and reason."""
    rows = shard_of(proxy, name)["backends"]
    (found,) = [each for each in rows if each["address"] == address]
    return found["state"], found["reason"]


def recorded(protocol: str, port: int, key: bytes = RECORD) -> bytes | None:
    with connect(protocol, port) as direct:
        return direct.get(key)


@pytest.mark.parametrize("reason", RECORDS)
def test_one_that_shows_such_a_record_leaves_and_keeps_it(protocol: str, reason: str) -> None:
    with Cluster(protocol, reads="spread") as cluster, cluster.connect() as client:
        client.set(b"k", b"before")
        with connect(protocol, cluster.servers[0][1].port) as direct:
            direct.set(RECORD, RECORDS[reason])
        eventually(lambda: backend(cluster.proxy, cluster.address(1)) == ("stale", reason))
        client.set(b"k", b"after")
        assert [client.get(b"k") for _ in range(4)] == [b"after"] * 4
        assert f"reason={reason}" in cluster.proxy.log_text()
        # Two more probes, after which anything that would be put right would have been.
        probes = cluster.proxy.metric("shardproxy_backend_probes_total", backend=cluster.address(1))
        eventually(
            lambda: (
                cluster.proxy.metric("shardproxy_backend_probes_total", backend=cluster.address(1))
                > probes + 2
            )
        )
        assert recorded(protocol, cluster.servers[0][1].port) == RECORDS[reason]
        assert recorded(protocol, cluster.servers[0][1].port, b"k") == b"before"
        assert cluster.members() == [0]


@pytest.mark.parametrize("reason", RECORDS)
def test_at_first_contact_it_stops_its_shard_alone_until_it_is_gone(
    protocol: str, reason: str, start: Start, start_proxy: Callable[..., ProxyProcess]
) -> None:
    first, second, other = start(), start(), start()
    for server, key, value in ((second, RECORD, RECORDS[reason]), (first, b"k", b"kept")):
        with connect(protocol, server.port) as direct:
            direct.set(key, value)
    shards = [first.address, second.address], [other.address]
    options = {"distribution": "modula", "hash": "crc16"}
    proxy = start_proxy({"pools": {"p": pool(protocol, *shards, **QUICK, **options)}}, wait_ready=False)
    eventually(lambda: shard_of(proxy)["reason"] == reason)
    assert backend(proxy, second.address) == ("stale", reason)
    outcomes = set_on_both_shards(protocol, proxy)
    assert "stored" in outcomes, "the other shard serves"
    assert any("no backend of this shard is in sync" in each for each in outcomes)
    assert recorded(protocol, first.port) is None
    assert recorded(protocol, second.port) == RECORDS[reason]
    with connect(protocol, second.port) as direct:
        direct.raw.ask(b"DEL %b\r\n" % RECORD if protocol == "redis" else b"delete %b\r\n" % RECORD)
    eventually(lambda: shard_of(proxy)["lead"] == first.address)
    assert recorded(protocol, first.port, b"k") == b"kept"


def set_on_both_shards(protocol: str, proxy: ProxyProcess) -> set[str]:
    """Sets keys of both; "stored", and what else was answered."""
    outcomes = set()
    with connect(protocol, proxy.ports["p"]) as client:
        for number in range(20):
            try:
                client.set(b"key:%d" % number, b"v")
            except Refused as refused:
                outcomes.add(str(refused))
            else:
                outcomes.add("stored")
    return outcomes


def test_a_server_of_the_other_protocol_stops_its_shard_alone(
    protocol: str,
    start: Start,
    start_redis: Callable[..., RedisServer],
    start_memcached: Callable[..., MemcachedServer],
    start_proxy: Callable[..., ProxyProcess],
) -> None:
    """It is named as such, and what it holds stays; the other shard serves."""
    kind, start_other = ("memcached", start_memcached) if protocol == "redis" else ("redis", start_redis)
    good, strange = start(), start_other()
    with connect(kind, strange.port) as direct:
        direct.set(b"k", b"theirs")
    options = {"distribution": "modula", "hash": "crc16", "resync": {"auto": True}}
    shards = [good.address], [strange.address]
    proxy = start_proxy({"pools": {"p": pool(protocol, *shards, **{**QUICK, **options})}}, wait_ready=False)
    eventually(lambda: backend_of(proxy, "s2") == ("down", "protocol"))
    outcomes = set_on_both_shards(protocol, proxy)
    assert "stored" in outcomes, "the other shard serves"
    assert any("nothing was applied" in each for each in outcomes)
    assert "reason=protocol" in proxy.log_text()
    assert recorded(kind, strange.port, b"k") == b"theirs"


def backend_of(proxy: ProxyProcess, shard: str) -> tuple[str, str]:
    """State and reason of the only backend of a shard."""
    (found,) = shard_of(proxy, shard=shard)["backends"]
    return found["state"], found["reason"]


def test_two_pools_over_the_same_backends_keep_records_of_their_own(
    protocol: str, start: Start, start_proxy: Callable[..., ProxyProcess]
) -> None:
    one, other = start(), start()
    addresses = [one.address, other.address]
    pools = {name: pool(protocol, addresses, **QUICK) for name in ("p", "q")}
    both = start_proxy({"pools": pools})
    alone = start_proxy({"pools": {"q": pool(protocol, addresses, **QUICK)}})
    with connect(protocol, both.ports["p"]) as client:
        client.set(b"k", b"1")
    for proxy in (both, alone):
        with connect(protocol, proxy.ports["q"]) as client:
            assert client.get(b"k") == b"1"
    views = [
        parse(recorded(protocol, one.port, view_key(each, "s1").encode()) or b"", each, "s1") for each in "pq"
    ]
    assert [view.in_sync for view in views if isinstance(view, View)] == [tuple(addresses)] * 2
    # A flush takes the record of the other pool too; that pool finds its data gone, and goes on.
    with connect(protocol, both.ports["p"]) as client:
        client.raw.ask(b"FLUSHALL\r\n" if protocol == "redis" else b"flush_all\r\n")
    for proxy in (both, alone):
        eventually(lambda proxy=proxy: writes(protocol, proxy.ports["q"]))
    assert {backend(both, each)[0] for each in addresses} == {"in_sync"}, "it knows of its own flush"


def writes(protocol: str, port: int) -> bool:
    with connect(protocol, port) as client:
        client.set(b"k", b"2")
        return client.get(b"k") == b"2"


@pytest.mark.fault
def test_what_is_in_sync_for_another_pool_alone_is_not_overwritten(
    protocol: str, start: Start, start_relay: Callable[[int], Relay], start_proxy: Callable[..., ProxyProcess]
) -> None:
    one, other = start(), start()
    ways = {name: [start_relay(server.port) for server in (one, other)] for name in "pq"}
    pools = {
        name: pool(protocol, [each.address for each in relays], **QUICK) for name, relays in ways.items()
    }
    proxy = start_proxy({"pools": pools})
    with connect(protocol, proxy.ports["p"]) as p, connect(protocol, proxy.ports["q"]) as q:
        p.set(b"p", b"1")
        q.set(b"q", b"1")
        # Each pool loses sight of the backend that the other one goes on with.
        lost = {"p": ways["p"][1], "q": ways["q"][0]}
        for relay in lost.values():
            relay.refuse()
        p.set(b"p", b"2")
        q.set(b"q", b"2")
        for name, relay in lost.items():
            relay.pass_through()
            proxy.wait_state(name, relay.address, "stale")
        # Both have the record of both by now.
        for key in (view_key(name, "s1").encode() for name in "pq"):
            eventually(
                lambda key=key: recorded(protocol, one.port, key) == recorded(protocol, other.port, key)
            )
        for name, relay in lost.items():
            assert ask_resync(f"127.0.0.1:{proxy.ports['admin']}", name, "s1", relay.address) is None
        eventually(
            lambda: proxy.metric("shardproxy_resync_runs_total", result="foreign_record") >= 2, within=15
        )
        assert (p.get(b"p"), q.get(b"q")) == (b"2", b"2")
    assert recorded(protocol, other.port, b"q") == b"2"


def test_other_lists_of_members_agree_on_those_that_both_have(
    protocol: str, start: Start, start_proxy: Callable[..., ProxyProcess]
) -> None:
    ours, shared, theirs = start(), start(), start()
    one = start_proxy({"pools": {"p": pool(protocol, [ours.address, shared.address], **QUICK)}})
    with connect(protocol, one.ports["p"]) as client:
        client.set(b"k", b"1")
    other = start_proxy({"pools": {"p": pool(protocol, [shared.address, theirs.address], **QUICK)}})
    # Who joined later cannot write to `ours`, so it must not stay in sync; and nothing is known of `theirs`.
    eventually(lambda: backend(one, ours.address)[0] == "stale")
    assert backend(other, theirs.address)[0] == "stale"
    assert "other_members" in other.log_text()
    for proxy, value in ((one, b"2"), (other, b"3")):
        with connect(protocol, proxy.ports["p"]) as client:
            client.set(b"k", value)
    for proxy in (one, other):
        with connect(protocol, proxy.ports["p"]) as client:
            assert client.get(b"k") == b"3"
    assert recorded(protocol, ours.port, b"k") == b"1", "stale, and left as it was"
    fields = json.loads(recorded(protocol, shared.port) or b"")
    assert fields["in_sync"] == [shared.address]


def test_lists_with_no_member_in_common_leave_each_other_alone(
    protocol: str, start: Start, start_proxy: Callable[..., ProxyProcess]
) -> None:
    """As the same: a backend that was taken out of another cluster with its data and its record."""
    first, second = start(), start()
    record = encode(View("p", "s1", 7, STRANGER, (STRANGER,), ("r",)))
    with connect(protocol, second.port) as direct:
        direct.set(RECORD, record)
        direct.set(b"k", b"theirs")
    config = {"pools": {"p": pool(protocol, [first.address, second.address], **QUICK)}}
    proxy = start_proxy(config, wait_ready=False)
    eventually(lambda: shard_of(proxy)["reason"] == "record_foreign")
    assert backend(proxy, second.address) == ("stale", "record_foreign")
    assert recorded(protocol, second.port) == record
    assert recorded(protocol, second.port, b"k") == b"theirs"
