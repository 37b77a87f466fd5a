"""The target, the leader or a proxy dies or hangs while a backend is copied key by key, in both protocols.

What is copied is tested in test_copying.py and test_redis_copying.py.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from support.copying import AUTO, MEMCACHED, REDIS, SLOW, A, B, Copied, fill
from support.eventually import eventually
from support.refill import traffic_through, wait_back, wait_phase
from support.store import Refused, connect

pytestmark = pytest.mark.fault


@pytest.fixture(params=[MEMCACHED, REDIS], ids=lambda copied: copied.protocol)
def copied(request: pytest.FixtureRequest) -> Copied:
    assert isinstance(request.param, Copied)
    return request.param


def test_the_target_dies_half_way(copied: Copied) -> None:
    with copied.start(reads="spread", resync=SLOW) as cluster, cluster.connect() as client:
        fill(client, 2000)
        with traffic_through(copied.protocol, cluster.proxy) as traffic:
            for _ in range(2):
                cluster.servers[0][A].kill9()
                cluster.servers[0][A].restart()
                wait_phase(cluster, "copying")
            cluster.servers[0][A].kill9()
            traffic.flow()
            cluster.servers[0][A].restart()
            wait_back(cluster, A)
            traffic.flow(500)


def test_the_leader_dies_half_way(copied: Copied) -> None:
    with copied.start(resync=SLOW) as cluster, cluster.connect() as client:
        fill(client, 2000)
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        wait_phase(cluster, "copying")
        cluster.servers[0][A].kill9()
        cluster.wait_state(A, "down")
        with pytest.raises(Refused):
            client.get(b"fill1")
        assert cluster.proxy.backend_states("p")[cluster.address(B)] != "in_sync", "it holds a part only"
        cluster.servers[0][A].restart()  # empty, which is all there is now
        wait_back(cluster, A)
        wait_back(cluster, B)
        client.set(b"k", b"1")
        copied.assert_same(cluster)


def test_three_replicas_and_one_more_that_dies(copied: Copied) -> None:
    with copied.start(replicas=3, reads="spread", resync=SLOW) as cluster, cluster.connect() as client:
        fill(client, 2000)
        with traffic_through(copied.protocol, cluster.proxy) as traffic:
            cluster.servers[0][2].kill9()
            cluster.servers[0][2].restart()
            wait_phase(cluster, "copying")
            cluster.servers[0][A].kill9()
            traffic.flow(500)
            cluster.servers[0][A].restart()
            wait_back(cluster, 2)
            wait_back(cluster, A)
            traffic.flow(500)
        copied.assert_same(cluster)


def test_a_proxy_that_hung_meanwhile_writes_to_nobody_alone(copied: Copied) -> None:
    # It knows nothing of the joining backend, has a connection to the leader and a request to send there.
    with copied.start(reads="spread", resync=SLOW) as cluster, cluster.connect() as client:
        fill(client, 1500)
        hanging = cluster.start_proxy()
        with connect(copied.protocol, hanging.ports["p"]) as behind:
            behind.set(b"fill3", b"1")
            cluster.servers[0][B].kill9()
            hanging.wait_state("p", cluster.address(B), "down")
            behind.set(b"fill3", b"2")
            hanging.stop()
            cluster.servers[0][B].restart()
            wait_back(cluster, B, cluster.proxy)
            for number in range(20):  # more than one moment: some at once, some after a look around
                behind.raw.send(behind.set_request(b"fill%d" % number, b"late%d" % number))
            hanging.cont()
            for _ in range(20):
                with suppress(Refused):
                    behind.read_set()  # whatever it is told, both have the write or neither
            hanging.wait_state("p", cluster.address(B), "in_sync")
            copied.assert_same(cluster)


@pytest.mark.parametrize("replicas", [2, 3])
def test_who_may_lack_what_a_stopped_proxy_has_written_leaves_again(copied: Copied, replicas: int) -> None:
    # It cannot know where it was stopped: right before it wrote, that was long after the end of its lease.
    with copied.start(replicas=replicas, resync=AUTO) as cluster:
        stopped = cluster.start_proxy(resync={"auto": False})
        leader, back = cluster.servers[0][A], cluster.address(B)
        with connect(copied.protocol, stopped.ports["p"]) as client, cluster.connect() as reader:
            client.set(b"k", b"1")
            cluster.servers[0][B].kill9()
            stopped.wait_state("p", back, "down")
            client.set(b"k", b"2")
            leader.stop()
            client.raw.send(client.set_request(b"k", b"3"))
            count = "shardproxy_backend_inflight"
            eventually(lambda: stopped.metric(count, backend=cluster.address(A)) > 0, within=5)
            stopped.stop()
            leader.cont()
            eventually(lambda: reader.get(b"k") == b"3", within=5)
            cluster.servers[0][B].restart()
            wait_back(cluster, B, cluster.proxy)
            stopped.cont()
            # An error, or, if there are two that have it, it waits until the third has left.
            with suppress(Refused):
                client.read_set()
                assert replicas == 3
                assert stopped.backend_states("p")[back] != "in_sync"
            failures = "shardproxy_replica_write_failures_total"
            eventually(lambda: stopped.metric(failures, backend=back) > 0, within=10)
            wait_back(cluster, B, cluster.proxy, stopped)
            copied.assert_same(cluster)
            client.set(b"k", b"4")
            assert reader.get(b"k") == b"4"
