"""Promise P9: health checks, scrapes and lost backends elsewhere do not pause request handling."""

import http.client
import threading
import time
from collections.abc import Callable

import pytest
from support.cluster import Cluster
from support.eventually import PATIENCE
from support.proxy_process import ProxyProcess, pool
from support.servers import MemcachedServer, RedisServer
from support.store import PROTOCOLS, QUICK, connect, keys_on

LATENCY_SECONDS = 0.25
"""Far above what a loaded machine does to a thread of its own, far below a stall worth the name."""
REQUESTS = 1500


def longest_request(ask: Callable[[], object], count: int = REQUESTS) -> float:
    """Seconds of the slowest of so many requests."""
    longest = 0.0
    for _ in range(count):
        start = time.monotonic()
        ask()
        longest = max(longest, time.monotonic() - start)
    return longest


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scrapes_do_not_pause_requests(protocol: str) -> None:
    with Cluster(protocol, shards=2, workers=2) as cluster, cluster.connect() as client:
        client.set(b"k", b"v")
        done = threading.Event()
        scrapes = [0]

        def scrape() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", cluster.proxy.ports["admin"], timeout=10)
            while not done.is_set():
                for path in ("/metrics", "/api/v1/status"):
                    connection.request("GET", path)
                    connection.getresponse().read()
                    scrapes[0] += 1
            connection.close()

        thread = threading.Thread(target=scrape)
        thread.start()
        try:
            longest = longest_request(lambda: client.get(b"k"))
            longest = max(longest, longest_request(lambda: client.set(b"k", b"v")))
        finally:
            done.set()
            thread.join()
        print(f"{protocol}: longest request {longest * 1000:.1f} ms during {scrapes[0]} scrapes")
        assert scrapes[0] > 10
        assert longest < LATENCY_SECONDS * PATIENCE


@pytest.mark.fault
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_hanging_shard_does_not_pause_the_others(protocol: str) -> None:
    # Its probes and commits run into their timeouts meanwhile.
    with Cluster(protocol, shards=2, relays=True) as cluster:
        lost, well = keys_on(cluster.proxy, "p", 1, [row[0] for row in cluster.servers])
        with cluster.connect() as client, cluster.connect() as victim:
            for relay in cluster.relays[0]:
                relay.black_hole()
            victim.raw.send(victim.get_request(lost[0]))
            longest = longest_request(lambda: client.get(well[0]), REQUESTS // 2)
            longest = max(longest, longest_request(lambda: client.set(well[0], b"v"), REQUESTS // 2))
            assert longest < LATENCY_SECONDS * PATIENCE
            assert b"ERR" in victim.raw.read_line().upper()


@pytest.mark.fault
def test_a_pool_that_fails_does_not_pause_another() -> None:
    with RedisServer() as redis, MemcachedServer() as one, MemcachedServer() as two:
        pools = {
            "r": pool("redis", [redis.address], **QUICK),
            "m": pool("memcached", [one.address, two.address], **QUICK),
        }
        with ProxyProcess({"pools": pools}) as proxy, connect("redis", proxy.ports["r"]) as client:
            stop = threading.Event()

            def break_things() -> None:
                while not stop.is_set():
                    one.restart()

            thread = threading.Thread(target=break_things)
            thread.start()
            try:
                longest = longest_request(lambda: client.set(b"k", b"v"))
            finally:
                stop.set()
                thread.join()
            assert longest < LATENCY_SECONDS * PATIENCE
