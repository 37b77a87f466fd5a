"""Somebody dies or hangs while a Redis is copied key by key, where that differs from a Memcached.

The rest is in test_copying_losses.py.
"""

from __future__ import annotations

import pytest
from support.copying import REDIS, SLOW, A, B, assert_equal, fill, managed, outlived
from support.refill import traffic_through, wait_back, wait_phase
from support.store import RedisStore, connect

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
    with outlived(REDIS, A, 2500) as (cluster, worker, _):
        wait_back(cluster, A, worker)
        with connect("redis", worker.ports["p"]) as client:
            client.set(b"k", b"1")
        assert_equal(cluster)


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
