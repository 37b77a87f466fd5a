"""A backend that is brought back, as tests see it: waiting for it, and requests that go on meanwhile.

Called by the integration tests of resynchronisation. Knows nothing of how it is done.
"""

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

from support.beside import beside
from support.cluster import Cluster
from support.eventually import eventually
from support.proxy_process import ProxyProcess
from support.random_writes import RANDOM_WRITES
from support.store import RedisStore, connect
from support.traffic import Traffic

BACK_SECONDS = 30.0
"""Some of it are pauses between attempts; most is for a loaded machine."""


def wait_back(cluster: Cluster, number: int, *proxies: ProxyProcess) -> None:
    """Waits until a backend is in sync for all of these, or for the cluster's own proxy."""
    for each in proxies or (cluster.proxy,):
        each.wait_state("p", cluster.address(number), "in_sync", within=BACK_SECONDS)


def phases(proxy: ProxyProcess) -> list[str]:
    """How far the resynchronisations are that this proxy does."""
    shards = proxy.status()["pools"]["p"]["shards"].values()
    return [each["resync"]["phase"] for shard in shards for each in shard["backends"] if "resync" in each]


def wait_phase(cluster: Cluster, phase: str, *proxies: ProxyProcess) -> ProxyProcess:
    """The proxy that is at it, once it has come that far."""

    def found() -> ProxyProcess | None:
        at_work = (each for each in proxies or (cluster.proxy,) if phase in phases(each))
        return next(at_work, None)

    worker = eventually(found, within=15, what=f"a proxy is {phase}")
    assert isinstance(worker, ProxyProcess)
    return worker


@contextmanager
def traffic_through(protocol: str, *proxies: ProxyProcess, writers: int = 4) -> Iterator[Traffic]:
    """Traffic through all of these; no violation and no failed write when the block ends, nothing lost."""
    ports = itertools.cycle([each.ports["p"] for each in proxies])
    with Traffic(lambda: connect(protocol, next(ports)), writers=writers, readers=4) as traffic:
        yield traffic
        traffic.flow(500)
    assert traffic.violations == [], traffic.violations[:5]
    assert traffic.failed_writes == [], traffic.failed_writes[:5]
    for each in proxies:
        if each.is_running():
            with connect(protocol, each.ports["p"]) as client:
                assert traffic.lost(client) == []


@contextmanager
def random_writes(protocol: str, port: int, seed: int, *, resp3: bool = False) -> Iterator[None]:
    """One client that sends random writes of all kinds until the block ends."""
    write, read = RANDOM_WRITES[protocol]

    def run(is_over: Event) -> None:
        rng = random.Random(seed)
        with connect(protocol, port) as client:
            if resp3 and isinstance(client, RedisStore):
                client.hello3()
            while not is_over.is_set():
                requests = [write(rng) for _ in range(rng.randrange(1, 8))]
                client.raw.send(b"".join(requests))
                for _ in requests:
                    read(client)

    with beside(run):
        yield
