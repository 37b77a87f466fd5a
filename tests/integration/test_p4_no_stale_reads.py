"""Promise P4: a replica that missed a write serves no reads before the write is acknowledged, and none
after, until it is resynchronised; also across a restart of the proxy.
"""

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.servers import UnequalMemcachedServer
from support.store import PROTOCOLS, MemcachedStore, RedisStore, connect

from proxy.control.view import parse, view_key

pytestmark = [pytest.mark.fault, pytest.mark.parametrize("protocol", PROTOCOLS)]

RECORD = view_key("p", "s1").encode()
SLOW_HEALTH = {"interval": "60s", "timeout": "1s"}


def recorded_members(cluster: Cluster, replica: int) -> tuple[str, ...]:
    """Who is in sync, by the record on a backend."""
    with connect(cluster.protocol, cluster.servers[0][replica].port) as direct:
        record = direct.get(RECORD)
    assert record is not None
    view = parse(record, "p", "s1")
    members: tuple[str, ...] = view.in_sync  # type: ignore[union-attr]
    return members


@pytest.mark.parametrize("victim", [0, 1])
def test_it_is_out_and_recorded_so_before_the_acknowledgement(protocol: str, victim: int) -> None:
    options = {"reads": "spread", "health": SLOW_HEALTH}
    with Cluster(protocol, relays=True, **options) as cluster, cluster.connect() as client:
        client.set(b"k", b"old")
        assert recorded_members(cluster, 1 - victim) == (cluster.address(0), cluster.address(1))
        cluster.relays[0][victim].black_hole()
        client.set(b"k", b"new")
        assert recorded_members(cluster, 1 - victim) == (cluster.address(1 - victim),)
        assert cluster.proxy.backend_states("p")[cluster.address(victim)] != "in_sync"
        cluster.relays[0][victim].reset()  # what it has not seen yet is lost for good
        cluster.relays[0][victim].pass_through()
        assert [client.get(b"k") for _ in range(6)] == [b"new"] * 6
        with connect(protocol, cluster.servers[0][victim].port) as direct:
            assert direct.get(b"k") == b"old"
        cluster.proxy.restart()
        assert cluster.proxy.backend_states("p")[cluster.address(victim)] == "stale"
        with cluster.connect() as again:
            assert [again.get(b"k") for _ in range(6)] == [b"new"] * 6


def test_a_replica_that_refuses_what_the_leader_applied_is_out(protocol: str) -> None:
    """What only its data makes it refuse is mended; its limits are its own."""
    kinds = {"memcached": UnequalMemcachedServer}
    with (
        Cluster(protocol, servers=kinds, reads="spread", health=SLOW_HEALTH) as cluster,
        cluster.connect() as client,
    ):
        if isinstance(client, RedisStore):
            client.set(b"k", b"1")
            with connect(protocol, cluster.servers[0][1].port) as direct:
                assert isinstance(direct, RedisStore)
                direct.ask("CONFIG", "SET", "maxmemory", "1")
            assert client.ask("INCR", "k") == 2
            expected = b"2"
        else:
            assert isinstance(client, MemcachedStore)
            part = b"x" * 300_000
            client.set(b"k", part)
            assert client.ask(b"append k 0 0 %d\r\n%b" % (len(part), part)) == b"STORED"
            expected = part * 2
        assert recorded_members(cluster, 0) == (cluster.address(0),)
        assert [client.get(b"k") for _ in range(6)] == [expected] * 6


def test_a_flushed_replica_is_out_within_a_probe(protocol: str) -> None:
    with Cluster(protocol, reads="spread") as cluster, cluster.connect() as client:
        client.set(b"k", b"v")
        with connect(protocol, cluster.servers[0][1].port) as direct:
            direct.raw.send(b"flush_all\r\n" if protocol == "memcached" else b"FLUSHALL\r\n")
            assert b"OK" in direct.raw.read_line()
        cluster.wait_state(1, "stale")
        assert [client.get(b"k") for _ in range(6)] == [b"v"] * 6


def test_an_evicted_record_is_put_back_and_nobody_is_out(protocol: str) -> None:
    with Cluster(protocol) as cluster, cluster.connect() as client:
        client.set(b"k", b"v")
        with connect(protocol, cluster.servers[0][1].port) as direct:
            if isinstance(direct, RedisStore):
                assert direct.ask("DEL", RECORD) == 1
            else:
                assert isinstance(direct, MemcachedStore)
                assert direct.ask(b"delete %b" % RECORD) == b"DELETED"
            eventually(lambda: direct.get(RECORD) is not None, what="the record is back")
        assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}
        assert cluster.shard_status()["epoch"] == 1


def test_a_flush_through_the_proxy_keeps_the_record(protocol: str) -> None:
    with Cluster(protocol, workers=2) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore | MemcachedStore)
        for _ in range(3):
            client.set(b"k", b"v")
            assert client.ask(b"FLUSHALL" if protocol == "redis" else b"flush_all") == b"OK"
            assert client.get(b"k") is None
            client.set(b"k", b"w")
            assert client.get(b"k") == b"w"
        probes = cluster.proxy.metric("shardproxy_backend_probes_total")
        eventually(lambda: cluster.proxy.metric("shardproxy_backend_probes_total") >= probes + 6)
        assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}
        assert recorded_members(cluster, 0) == recorded_members(cluster, 1)


def test_a_new_process_in_place_of_both_is_the_truth_it_has(protocol: str) -> None:
    # Nobody else is left: the shard comes back empty rather than never, and says so in its view.
    with Cluster(protocol) as cluster, cluster.connect() as client:
        client.set(b"k", b"v")
        for server in cluster.servers[0]:
            server.kill9()
        for server in cluster.servers[0]:
            server.start()

        def is_back() -> bool:
            with cluster.connect() as fresh:
                fresh.set(b"k", b"w")
                return fresh.get(b"k") == b"w"

        eventually(is_back, within=15)
        assert cluster.shard_status()["epoch"] > 1
        # The other one shows itself at its next probe.
        eventually(
            lambda: sorted(cluster.proxy.backend_states("p").values()) == ["in_sync", "stale"],
            within=15,
            what="one in sync, one stale",
        )
