"""Somebody dies or hangs while a backend is copied key by key: proxies, the target, the leader.

What is copied is tested in test_redis_copying.py.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from support.redis_copying import SLOW, A, B, assert_equal, fill, managed
from support.refill import traffic_through, wait_back, wait_phase
from support.store import RedisStore, Refused, connect

pytestmark = pytest.mark.fault


def test_another_proxy_goes_on_when_the_one_at_work_dies() -> None:
    with managed(reads="spread", resync=SLOW) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        fill(client, 4000)
        proxies = [cluster.proxy, cluster.start_proxy()]
        cluster.servers[0][A].kill9()
        cluster.servers[0][A].restart()
        worker = wait_phase(cluster, "copying", *proxies)
        survivor = next(each for each in proxies if each is not worker)
        with traffic_through("redis", survivor) as traffic:
            worker.kill9()
            traffic.flow(500)
            wait_back(cluster, A, survivor)
            traffic.flow(500)
        assert survivor.metric("shardproxy_resync_runs_total", result="done") == 1
        with connect("redis", cluster.servers[0][A].port) as direct:
            assert isinstance(direct, RedisStore)
            assert b"cmdstat_flushall" not in direct.ask("INFO", "commandstats"), "it was not emptied again"
        assert_equal(cluster)


def test_a_proxy_that_hung_at_work_changes_nothing_any_more() -> None:
    with managed(reads="spread", resync=SLOW) as cluster:
        proxies = [cluster.proxy, cluster.start_proxy()]
        with cluster.connect() as client:
            assert isinstance(client, RedisStore)
            fill(client, 2500)
        cluster.servers[0][A].kill9()
        cluster.servers[0][A].restart()
        worker = wait_phase(cluster, "copying", *proxies)
        survivor = next(each for each in proxies if each is not worker)
        worker.stop()
        wait_back(cluster, A, survivor)
        with connect("redis", survivor.ports["p"]) as client:
            assert isinstance(client, RedisStore)
            for number in range(2500):
                client.ask("DEL", f"fill{number}")
        worker.cont()
        wait_back(cluster, A, worker)
        with connect("redis", worker.ports["p"]) as client:
            client.set(b"k", b"1")
        assert_equal(cluster)


def test_the_target_dies_half_way() -> None:
    with managed(reads="spread", resync=SLOW) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        fill(client, 2000)
        with traffic_through("redis", cluster.proxy) as traffic:
            for _ in range(2):
                cluster.servers[0][A].kill9()
                cluster.servers[0][A].restart()
                wait_phase(cluster, "copying")
            cluster.servers[0][A].kill9()
            traffic.flow()
            cluster.servers[0][A].restart()
            wait_back(cluster, A)
            traffic.flow(500)


def test_the_target_hangs_for_a_moment() -> None:
    with managed(reads="spread", resync=SLOW) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        fill(client, 2500)
        cluster.servers[0][B].kill9()
        cluster.servers[0][B].restart()
        wait_phase(cluster, "copying")
        cluster.servers[0][B].stop()
        client.set(b"fill3", b"new")  # not before the target is out
        cluster.servers[0][B].cont()
        wait_back(cluster, B)
        assert_equal(cluster)


def test_the_leader_dies_half_way() -> None:
    with managed(resync=SLOW) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
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
        assert_equal(cluster)


def test_three_replicas_and_one_more_that_dies() -> None:
    with managed(replicas=3, reads="spread", resync=SLOW) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        fill(client, 2000)
        with traffic_through("redis", cluster.proxy) as traffic:
            cluster.servers[0][2].kill9()
            cluster.servers[0][2].restart()
            wait_phase(cluster, "copying")
            cluster.servers[0][A].kill9()
            traffic.flow(500)
            cluster.servers[0][A].restart()
            wait_back(cluster, 2)
            wait_back(cluster, A)
            traffic.flow(500)
        assert_equal(cluster)


def test_a_proxy_that_hung_meanwhile_writes_to_nobody_alone() -> None:
    # It knows nothing of the joining backend, has a connection to the leader and a request to send there.
    with managed(reads="spread", resync=SLOW) as cluster, cluster.connect() as client:
        assert isinstance(client, RedisStore)
        fill(client, 1500)
        hanging = cluster.start_proxy()
        with connect("redis", hanging.ports["p"]) as behind:
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
            assert_equal(cluster)
