"""Small requests beside large values: they wait neither for one on its way to a server nor for one on its
way back, and no request of one client overtakes another (P1).

The relay holds a transfer up in its middle, so that whoever stood behind it would wait for ever.
"""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from support.cluster import Cluster
from support.eventually import eventually
from support.raw import RawClient
from support.store import PROTOCOLS, Store, connect
from support.store import command as redis

MIB = 1 << 20
STALL_BYTES = MIB // 4
LARGE = b"v" * (MIB - 1000)
"""Nearly the largest that memcached takes."""
HUGE = b"v" * (16 * MIB)
"""More than all buffers on the way to a server take."""
OPTIONS = {
    "timeouts": {"request": "30s"},
    "health": {"interval": "10s", "timeout": "10s"},
}
ASIDE = "shardproxy_reads_aside_total"


@contextmanager
def large_values(cluster: Cluster) -> Iterator[Callable[[], None]]:
    """A client that writes and reads a large value over and over; ends with the block, or when told to."""
    over = threading.Event()

    def move() -> None:
        with connect(cluster.protocol, cluster.proxy.ports["p"]) as client:
            while not over.is_set():
                client.set(b"large", LARGE)
                assert client.get(b"large") == LARGE

    thread = threading.Thread(target=move)

    def end() -> None:
        over.set()
        thread.join()

    thread.start()
    try:
        yield end
    finally:
        end()


def warm_up(cluster: Cluster, client: Store) -> None:
    """Until the connections for reads that keep clear of large values are there, and the value is."""
    client.set(b"small", b"value")
    with large_values(cluster):

        def is_used() -> bool:
            assert client.get(b"small") == b"value"
            return cluster.proxy.metric(ASIDE) > 10

        eventually(is_used, within=20)


def stalled(cluster: Cluster) -> None:
    eventually(lambda: cluster.relays[0][0].stalled() > 0, what="a large transfer is held up")


@pytest.mark.parametrize("replicas", [1, 2])
def test_reads_do_not_wait_for_a_large_write(replicas: int) -> None:
    with Cluster("redis", replicas=replicas, relays=True, **OPTIONS) as cluster, cluster.connect() as small:
        warm_up(cluster, small)
        cluster.relays[0][0].stall_large(STALL_BYTES)
        with cluster.connect() as other:
            writer = threading.Thread(target=other.set, args=(b"large", HUGE))
            writer.start()
            stalled(cluster)
            for _ in range(100):
                assert small.get(b"small") == b"value"
            # What is not a read keeps its place, and so does what this client asks behind it.
            small.raw.send(redis("SET", "small", "other") + redis("GET", "small"))
            with cluster.connect() as third:
                for _ in range(20):
                    assert third.get(b"small") == b"value"
            cluster.relays[0][0].pass_through()
            small.raw.expect(b"+OK\r\n$5\r\nother\r\n")
            writer.join()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("replicas", [1, 2])
def test_nothing_waits_for_a_large_read(protocol: str, replicas: int) -> None:
    with (
        Cluster(protocol, replicas=replicas, relays=True, **OPTIONS) as cluster,
        cluster.connect() as small,
        cluster.connect() as large,
    ):
        warm_up(cluster, small)
        large.set(b"large", LARGE)
        before = cluster.proxy.metric(ASIDE)

        def is_aside() -> bool:
            assert large.get(b"large") == LARGE
            return cluster.proxy.metric(ASIDE) >= before + 3

        eventually(is_aside, what="whoever reads large values reads them on a lane of its own")
        cluster.relays[0][0].stall_large(STALL_BYTES)
        large.raw.send(large.get_request(b"large"))
        stalled(cluster)
        for number in range(100):
            small.set(b"small", b"%d" % number)
            assert small.get(b"small") == b"%d" % number
        cluster.relays[0][0].pass_through()
        assert large.read_get() == LARGE


def use_side_lanes(cluster: Cluster, client: Store) -> None:
    """Reads until some of them have gone aside."""
    before = cluster.proxy.metric(ASIDE)
    with cluster.connect() as writer:

        def is_used() -> bool:
            writer.set(b"other", LARGE)
            assert client.get(b"small") == b"value"
            return cluster.proxy.metric(ASIDE) > before + 50

        eventually(is_used, within=20)


@pytest.mark.fault
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_read_fails_when_its_backend_dies(protocol: str) -> None:
    """Neither a small one on a side lane, nor a large one half of which has come."""
    with (
        Cluster(protocol, timeouts={"request": "5s"}) as cluster,
        cluster.connect() as small,
        cluster.connect() as large,
    ):
        warm_up(cluster, small)
        large.set(b"large", LARGE)
        over = threading.Event()
        failures: list[object] = []

        def read() -> None:
            try:
                while not over.is_set():
                    assert large.get(b"large") == LARGE
            except Exception as failure:
                failures.append(failure)

        reader = threading.Thread(target=read)
        reader.start()
        use_side_lanes(cluster, small)
        cluster.servers[0][0].kill9()
        for _ in range(300):
            assert small.get(b"small") == b"value"
        use_side_lanes(cluster, small)
        over.set()
        reader.join()
        assert failures == []


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("workers", [1, 2])
def test_requests_of_a_client_keep_their_order_beside_large_values(
    replicas: int, workers: int, rng: random.Random
) -> None:
    """Each client has keys of its own, so it knows every reply; it goes from lane to lane all the time."""
    with (
        Cluster("redis", shards=2, replicas=replicas, workers=workers, **OPTIONS) as cluster,
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(RawClient(cluster.proxy.ports["p"], timeout=30)) for _ in range(6)]
        models: list[dict[bytes, bytes]] = [{} for _ in clients]
        with large_values(cluster):
            batches = 0
            while batches < 100 or cluster.proxy.metric(ASIDE) < 500:
                expected = []
                for number, (client, model) in enumerate(zip(clients, models, strict=True)):
                    asked = [ask(rng, number, model) for _ in range(rng.choice((1, 1, 2, 5, 20)))]
                    client.send(b"".join(request for request, _ in asked))
                    expected.append(b"".join(reply for _, reply in asked))
                for client, replies in zip(clients, expected, strict=True):
                    client.expect(replies)
                batches += 1


def ask(rng: random.Random, number: int, model: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    """A request of a client, mostly a read, and what its reply has to be."""
    keys = [b"%d:%d" % (number, rng.randrange(4)) for _ in range(3)]
    kind = rng.choice(("get", "get", "get", "get", "mget", "set", "incr", "del"))
    key = keys[0]
    if kind == "get":
        return redis("GET", key), bulk(model.get(key))
    if kind == "mget":
        return redis("MGET", *keys), b"*3\r\n" + b"".join(bulk(model.get(each)) for each in keys)
    if kind == "set":
        model[key] = b"%d" % rng.randrange(1000)
        return redis("SET", key, model[key]), b"+OK\r\n"
    if kind == "incr":
        model[key] = b"%d" % (int(model.get(key, b"0")) + 1)
        return redis("INCR", key), b":%b\r\n" % model[key]
    return redis("DEL", key), b":%d\r\n" % (model.pop(key, None) is not None)


def bulk(value: bytes | None) -> bytes:
    return b"$-1\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


def test_a_batch_that_leaves_in_two_pieces_is_answered_whole() -> None:
    """A connection is written a share at a time. A server that has the first piece answers the first command
    of a batch before it has the rest, which still has to be sent."""
    share = MIB // 4
    with Cluster("redis", replicas=2, **OPTIONS) as cluster, cluster.connect() as client:
        for count, size in enumerate(range(share - 400, share, 4), 1):
            # A script's effects travel as the state of its keys: MULTI, the script, DUMP, EXEC.
            client.raw.send(
                redis("SET", "large", b"v" * size)
                + redis("EVAL", "return redis.call('INCR', KEYS[1])", 1, "count")
                + redis("GET", "count")
            )
            client.raw.expect(b"+OK\r\n:%d\r\n$%d\r\n%d\r\n" % (count, len(str(count)), count))
        assert cluster.differences() == {}
        assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}
