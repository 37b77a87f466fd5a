"""Promise P5: reads go on while one in-sync replica is reachable, from the first request on.

Nothing here waits for the health checker: it is set so slow that it cannot have helped.
"""

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.store import PROTOCOLS, RedisStore, connect

from proxy.control.view import view_key

pytestmark = [pytest.mark.fault, pytest.mark.parametrize("protocol", PROTOCOLS)]

SLOW_HEALTH = {"interval": "60s", "timeout": "1s"}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("reads", ["primary", "spread"])
@pytest.mark.parametrize("victim", [0, 1])
def test_the_first_read_after_a_death_is_answered(
    protocol: str, victim: int, reads: str, workers: int
) -> None:
    with Cluster(protocol, workers=workers, reads=reads, health=SLOW_HEALTH) as cluster:
        clients = [cluster.connect() for _ in range(4)]
        for number, client in enumerate(clients):
            client.set(b"k%d" % number, b"v")
            assert client.get(b"k%d" % number) == b"v"
        cluster.servers[0][victim].kill9()
        for _ in range(5):
            for number, client in enumerate(clients):
                assert client.get(b"k%d" % number) == b"v"
        for client in clients:
            client.raw.close()


def test_reads_in_flight_are_asked_of_another(protocol: str) -> None:
    with Cluster(protocol, relays=True, health=SLOW_HEALTH, timeouts={"request": "5s"}) as cluster:
        with cluster.connect() as client:
            client.set(b"k", b"v" * 100)
            # Half of the leader's answer comes, then the connection breaks.
            cluster.relays[0][0].cut_replies(50, reset=True)
            client.raw.send(client.get_request(b"k") * 10)
            assert [client.read_get() for _ in range(10)] == [b"v" * 100] * 10


def test_reads_in_flight_on_the_last_copy_are_asked_again(protocol: str) -> None:
    # Chaos seed 70092: a proxy that brings a backend back cuts the connections of those that do not hold.
    with Cluster(protocol, relays=True, timeouts={"request": "5s"}) as cluster:
        with cluster.connect() as client:
            client.set(b"k", b"v")
            cluster.servers[0][1].kill9()
            cluster.wait_state(1, "down")
            lead = cluster.relays[0][0]
            lead.delay(0.3)
            client.raw.send(client.get_request(b"k") * 10)
            eventually(lambda: cluster.proxy.metric("shardproxy_backend_inflight") >= 10)
            lead.delay(0)
            lead.reset()
            assert [client.read_get() for _ in range(10)] == [b"v"] * 10


def test_a_silent_leader_costs_one_request_timeout(protocol: str) -> None:
    with Cluster(protocol, relays=True, health=SLOW_HEALTH, timeouts={"request": "300ms"}) as cluster:
        with cluster.connect() as client:
            client.set(b"k", b"v")
            cluster.relays[0][0].black_hole()
            assert client.get(b"k") == b"v"


@pytest.mark.parametrize("resp3", [False, True])
def test_a_read_while_a_view_is_being_recorded_waits_for_it(protocol: str, resp3: bool) -> None:
    # The survivor already holds the record of the view to come, the engine still has the table of the
    # one before: a new connection to the survivor shows something unexpected, and nobody else is left.
    if resp3 and protocol == "memcached":
        pytest.skip("a Redis protocol")
    timeouts, health = {"request": "5s", "connect": "1s"}, {"interval": "1s", "timeout": "1s"}
    with Cluster(protocol, relays=True, timeouts=timeouts, health=health) as cluster:
        key = view_key("p", "s1").encode()
        with connect(protocol, cluster.servers[0][1].port) as survivor, cluster.connect() as client:
            if resp3:
                assert isinstance(client, RedisStore)
                client.hello3()
            before = survivor.get(key)
            assert before is not None
            cluster.relays[0][1].delay(0.5)
            cluster.relays[0][0].refuse()
            eventually(lambda: survivor.get(key) != before, what="the new view is recorded")
            # Answers already under way still come late, the engine's own at once.
            cluster.relays[0][1].delay(0)
            assert client.get(b"k") is None
        cluster.wait_state(0, "down")
