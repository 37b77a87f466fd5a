"""A backend is lost while clients write and read: no read fails, no acknowledged write is lost.

Writers raise a number per key and readers compare what they read with what was acknowledged before
they asked, so a stale read shows as well as a failed one. The pause in writes is printed (``-rP``).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.cluster import Cluster
from support.eventually import PATIENCE, eventually
from support.servers import UnequalMemcachedServer
from support.store import PROTOCOLS, MemcachedStore, RedisStore, Store, connect
from support.traffic import Traffic

pytestmark = [pytest.mark.fault, pytest.mark.parametrize("protocol", PROTOCOLS)]

LEADER, FOLLOWER = 0, 1
KILL_PAUSE_SECONDS = 0.1
"""Target for the pause in writes when a backend dies and its kernel says so."""
PAUSE_SECONDS = 1.0
"""Most that a loaded machine may make of it; the target is for the printed number."""


@contextmanager
def traffic_through(cluster: Cluster) -> Iterator[Traffic]:
    """Traffic that must have seen no violation when the block ends, and nothing lost on a survivor."""
    with Traffic(cluster.connect) as traffic:
        yield traffic
        traffic.flow()
    assert traffic.violations == []
    with cluster.connect() as client:
        assert traffic.lost(client) == []
    states = cluster.proxy.backend_states("p")
    for number, server in enumerate(cluster.servers[0]):
        if states[cluster.address(number)] == "in_sync":
            with connect(cluster.protocol, server.port) as direct:
                assert traffic.lost(direct) == []


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("victim", [LEADER, FOLLOWER])
def test_kill_nine(protocol: str, victim: int, workers: int) -> None:
    with Cluster(protocol, workers=workers) as cluster:
        with traffic_through(cluster) as traffic:
            before = cluster.shard_status()
            assert before["lead"] == cluster.address(LEADER)
            cluster.servers[0][victim].kill9()
            cluster.wait_state(victim, "down", "stale")
            after = cluster.shard_status()
            assert after["lead"] == cluster.address(1 - victim) if victim == LEADER else before["lead"]
            assert after["epoch"] == before["epoch"] + 1
        assert traffic.failed_writes == []
        pause = traffic.longest_pause()
        print(f"{protocol}, victim {victim}, {workers} workers: writes paused for {pause * 1000:.0f} ms")
        assert pause < PAUSE_SECONDS * PATIENCE


@pytest.mark.parametrize("victim", [LEADER, FOLLOWER])
def test_a_killed_backend_that_returns_empty_is_not_read(protocol: str, victim: int) -> None:
    with Cluster(protocol, reads="spread") as cluster, traffic_through(cluster) as traffic:
        cluster.servers[0][victim].kill9()
        traffic.flow()
        cluster.servers[0][victim].restart()
        cluster.wait_state(victim, "stale")
        traffic.flow()
        returned = cluster.servers[0][victim]
        with connect(protocol, returned.port) as direct:
            assert direct.get(next(iter(traffic.acknowledged))) is None


@pytest.mark.parametrize("victim", [LEADER, FOLLOWER])
def test_a_backend_that_restarts_between_two_probes_is_not_read(protocol: str, victim: int) -> None:
    # Only the record that each new connection must show tells it from the process that was there.
    slow = {"interval": "30s", "timeout": "500ms"}
    with Cluster(protocol, reads="spread", health=slow) as cluster, traffic_through(cluster) as traffic:
        cluster.servers[0][victim].restart()
        traffic.flow()
        cluster.wait_state(victim, "stale", "down")
        traffic.flow()
        with connect(protocol, cluster.servers[0][victim].port) as direct:
            assert direct.get(next(iter(traffic.acknowledged))) is None


@pytest.mark.parametrize("victim", [LEADER, FOLLOWER])
def test_a_stopped_backend(protocol: str, victim: int) -> None:
    with Cluster(protocol) as cluster:
        with traffic_through(cluster) as traffic:
            cluster.servers[0][victim].stop()
            cluster.wait_state(victim, "down", "stale")
            traffic.flow()
            cluster.servers[0][victim].cont()
            # It lacks what was written meanwhile, and what it gets to read now are writes of before.
            cluster.wait_state(victim, "stale")
            traffic.flow()
        assert traffic.failed_writes == []
        pause = traffic.longest_pause()
        print(f"{protocol}, stopped {victim}: writes paused for {pause * 1000:.0f} ms")


@pytest.mark.parametrize("victim", [LEADER, FOLLOWER])
def test_connections_are_reset(protocol: str, victim: int) -> None:
    with Cluster(protocol, relays=True) as cluster, traffic_through(cluster) as traffic:
        for _ in range(3):
            cluster.relays[0][victim].reset()
            traffic.flow(50)
        assert cluster.shard_status()["lead"] is not None


def test_the_last_one_is_cut_off_again_and_again(protocol: str) -> None:
    # As by the fence of another proxy's resynchronisation: probes fail as well, and nobody else could go on.
    with Cluster(protocol, relays=True) as cluster:
        cluster.servers[0][FOLLOWER].kill9()
        cluster.wait_state(FOLLOWER, "down")
        relay, leader = cluster.relays[0][LEADER], cluster.address(LEADER)
        for _ in range(8):
            for _ in range(3):  # no more probes fail than there are resets, and the first is done over
                before = relay.accepted
                relay.reset()
                eventually(lambda: relay.accepted > before)  # noqa: B023  # called before it changes
            passed = cluster.proxy.metric("shardproxy_backend_probes_total", backend=leader, result="answers")
            eventually(
                lambda: (
                    cluster.proxy.metric("shardproxy_backend_probes_total", backend=leader, result="answers")
                    > passed  # noqa: B023
                )
            )
        changes = [line for line in cluster.proxy.log_text().splitlines() if leader in line]
        assert not [line for line in changes if "state=down" in line]


def test_the_proxy_restarts_while_a_backend_is_stale(protocol: str) -> None:
    with Cluster(protocol) as cluster:
        with traffic_through(cluster):
            cluster.servers[0][LEADER].kill9()
            cluster.wait_state(LEADER, "down", "stale")
        with traffic_through(cluster) as traffic:
            cluster.servers[0][LEADER].restart()
            cluster.wait_state(LEADER, "stale")
            traffic.flow()
        epoch = cluster.shard_status()["epoch"]
        cluster.proxy.restart()
        with cluster.connect() as client:
            assert traffic.lost(client) == []
        # Nothing but the record on the survivor could have told it.
        assert cluster.proxy.backend_states("p")[cluster.address(LEADER)] == "stale"
        assert cluster.shard_status()["lead"] == cluster.address(FOLLOWER)
        assert cluster.shard_status()["epoch"] == epoch


def test_a_second_proxy_adopts_within_a_probe_interval(protocol: str) -> None:
    interval = 0.5
    health = {"interval": f"{interval * 1000:.0f}ms", "timeout": "500ms"}
    servers = {"memcached": UnequalMemcachedServer}
    with Cluster(protocol, servers=servers, reads="spread", health=health) as cluster:
        second = cluster.start_proxy()
        with connect(protocol, second.ports["p"]) as other, cluster.connect() as client:
            part = b"1" if protocol == "redis" else b"1" * 300_000
            client.set(b"k", part)
            if protocol == "redis":
                with connect(protocol, cluster.servers[0][FOLLOWER].port) as direct:
                    assert isinstance(direct, RedisStore)
                    direct.ask("CONFIG", "SET", "maxmemory", "1")
            # The follower refuses what the leader applies; only the first proxy can know that.
            append(client, part)
            start, count = time.monotonic(), "shardproxy_backend_probes_total"
            leader = cluster.address(LEADER)
            probes = second.metric(count, backend=leader)
            assert cluster.proxy.backend_states("p")[cluster.address(FOLLOWER)] == "stale"
            # One probe may have been under way already; the next one cannot but show the record.
            eventually(lambda: second.metric(count, backend=leader) >= probes + 2, within=interval * 8)
            second.wait_state("p", cluster.address(FOLLOWER), "stale", within=interval / 5)
            print(f"{protocol}: adopted after {time.monotonic() - start:.2f} s, interval {interval} s")
            assert [other.get(b"k") for _ in range(8)] == [part * 2] * 8
            assert second.status()["pools"]["p"]["shards"]["s1"]["epoch"] == cluster.shard_status()["epoch"]


def append(client: Store, part: bytes) -> None:
    """Appends to ``k``, which was as long."""
    if isinstance(client, MemcachedStore):
        assert client.ask(b"append k 0 0 %d\r\n%b" % (len(part), part)) == b"STORED"
    else:
        assert client.raw.ask(b"APPEND k %b\r\n" % part) == b":2\r\n"


def test_a_proxy_that_stood_still_blames_nobody(protocol: str) -> None:
    # What has come meanwhile is read before anything is too late.
    metric = "shardproxy_backend_inflight"
    with Cluster(protocol, workers=2) as cluster, cluster.connect() as client:
        client.set(b"k", b"1")
        for number in range(2, 6):
            leader = cluster.servers[0][LEADER]
            leader.stop()
            client.raw.send(client.set_request(b"k", b"%d" % number))
            eventually(lambda: cluster.proxy.metric(metric, backend=cluster.address(LEADER)) > 0, within=5)
            cluster.proxy.stop()
            leader.cont()
            time.sleep(0.6)  # longer than the request timeout
            cluster.proxy.cont()
            client.read_set()
        assert cluster.members() == [LEADER, FOLLOWER]
        assert cluster.proxy.metric("shardproxy_replica_write_failures_total") == 0
