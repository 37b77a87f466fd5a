"""Random faults, one after the other, under traffic: the promises hold whatever happens to whom.

A shard of three backends suffers two faults, so that one is always left. Which ones, when, and to
whom is drawn from the seed (``SHARDPROXY_TEST_SEED``); what was drawn is printed.
"""

import itertools
import random
import threading
from collections.abc import Callable

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.random_writes import RANDOM_WRITES
from support.store import PROTOCOLS, RedisStore, Store, connect
from support.traffic import Traffic

pytestmark = pytest.mark.fault

Fault = Callable[[Cluster, int], None]


def stop_and_go_on(cluster: Cluster, victim: int) -> None:
    cluster.servers[0][victim].stop()
    cluster.wait_state(victim, "down", "stale")
    cluster.servers[0][victim].cont()


def hang_and_go_on(cluster: Cluster, victim: int) -> None:
    cluster.relays[0][victim].black_hole()
    cluster.wait_state(victim, "down", "stale")
    cluster.relays[0][victim].pass_through()


def cut_and_go_on(cluster: Cluster, victim: int) -> None:
    cluster.relays[0][victim].cut_replies(500, reset=True)
    cluster.wait_state(victim, "down", "stale")
    cluster.relays[0][victim].pass_through()


def refuse_and_go_on(cluster: Cluster, victim: int) -> None:
    cluster.relays[0][victim].refuse()
    cluster.wait_state(victim, "down", "stale")
    cluster.relays[0][victim].pass_through()


FAULTS: dict[str, Fault] = {
    "killed": lambda cluster, victim: cluster.servers[0][victim].kill9(),
    "killed and restarted": lambda cluster, victim: cluster.servers[0][victim].restart() and None,
    "stopped and continued": stop_and_go_on,
    "black hole for a time": hang_and_go_on,
    "replies cut for a time": cut_and_go_on,
    "refuses for a time": refuse_and_go_on,
    "connections reset": lambda cluster, victim: cluster.relays[0][victim].reset(),
}


@pytest.mark.parametrize("reads", ["primary", "spread"])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_two_random_faults(protocol: str, workers: int, reads: str, rng: random.Random) -> None:
    turn = itertools.count()
    with Cluster(protocol, replicas=3, workers=workers, relays=True, reads=reads) as cluster:

        def connection() -> Store:
            client = cluster.connect()
            if isinstance(client, RedisStore) and next(turn) % 2:
                client.hello3()
            return client

        victims = rng.sample(range(3), 2)
        with Traffic(connection, writers=3, readers=3) as traffic:
            for victim in victims:
                name = rng.choice(sorted(FAULTS))
                print(f"backend {victim}: {name}")
                FAULTS[name](cluster, victim)
                traffic.flow()
        assert traffic.violations == []
        with connection() as client:
            assert traffic.lost(client) == []
        assert cluster.members()
        for member in cluster.members():
            with connect(protocol, cluster.servers[0][member].port) as direct:
                assert traffic.lost(direct) == []
        print(f"{traffic.writes} writes, {len(traffic.failed_writes)} failed, {traffic.reads} reads")
        assert traffic.failed_writes == []


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_survivors_agree_after_a_random_fault(protocol: str, workers: int, rng: random.Random) -> None:
    # Writes of every kind are in flight when it happens, and some have an outcome nobody knows.
    write, read = RANDOM_WRITES[protocol]
    with Cluster(protocol, replicas=3, workers=workers, relays=True) as cluster:
        done = threading.Event()
        rounds = [0] * 4
        failures: list[object] = []

        def run(number: int) -> None:
            own = random.Random(rng.random())
            try:
                with cluster.connect() as client:
                    if isinstance(client, RedisStore) and number % 2:
                        client.hello3()
                    while not done.is_set():
                        requests = [write(own) for _ in range(own.randint(1, 40))]
                        client.raw.send(b"".join(requests))
                        for _ in requests:
                            read(client)
                        rounds[number] += 1
            except Exception as exception:
                failures.append(exception)

        def flow() -> None:
            before = list(rounds)
            eventually(
                lambda: failures or all(now > then + 3 for now, then in zip(rounds, before, strict=True)),
                within=20,
            )

        threads = [threading.Thread(target=run, args=(number,)) for number in range(len(rounds))]
        for thread in threads:
            thread.start()
        try:
            flow()
            victim = rng.randrange(3)
            name = rng.choice(sorted(FAULTS))
            print(f"backend {victim}: {name}")
            FAULTS[name](cluster, victim)
            flow()
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert failures == []
        assert len(cluster.members()) >= 2
        assert cluster.differences() == {}
