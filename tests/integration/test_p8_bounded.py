"""Promise P8: every memory, queue and wait has a bound, and what one client or backend does costs the
others nothing.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Event

import pytest
from support.beside import beside
from support.cluster import Cluster
from support.eventually import eventually
from support.proxy_process import ProxyProcess
from support.raw import Closed, RawClient
from support.store import PROTOCOLS, RedisStore, Store, keys_on

pytestmark = pytest.mark.parametrize("protocol", PROTOCOLS)

MIB = 1 << 20
BIG = b"x" * (MIB - 1000)
"""Nearly the largest value that memcached takes."""


@contextmanager
def others_are_served(cluster: Cluster, key: bytes = b"others") -> Iterator[None]:
    """A client that writes and reads all the time the block lasts, and must not see an error."""
    served = [0]

    def serve(is_over: Event) -> None:
        with cluster.connect() as client:
            while not is_over.is_set() or served[0] < 10:
                client.set(key, b"%d" % served[0])
                assert client.get(key) == b"%d" % served[0]
                served[0] += 1

    with beside(serve):
        yield
    assert served[0] >= 10


@contextmanager
def memory_stays_below(proxy: ProxyProcess, extra_bytes: int) -> Iterator[None]:
    """The process grows by no more than so much while the block lasts, looked at all the time."""
    before = proxy.resident_bytes()
    most = [before]

    def watch(is_over: Event) -> None:
        while not is_over.wait(0.005):
            most[0] = max(most[0], proxy.resident_bytes())

    with beside(watch):
        yield
    grown = most[0] - before
    print(f"grew by {grown / MIB:.1f} MiB of {extra_bytes / MIB:.0f} MiB")
    assert grown < extra_bytes


def push(client: RawClient, data: Callable[[], bytes], total: int) -> int:
    """Sends until so many bytes went, or nothing more is taken for half a second, or it is closed."""
    client.socket.settimeout(0.5)
    sent = 0
    chunk = b""
    try:
        while sent < total:
            chunk = chunk or data()
            count = client.socket.send(chunk)
            chunk = chunk[count:]
            sent += count
    except (TimeoutError, ConnectionError):
        pass
    client.socket.settimeout(10)
    return sent


# --- clients that never read -----------------------------------------------------------------------


def test_a_client_that_never_reads_small_replies(protocol: str) -> None:
    # Its requests wait once a little output has piled up; it costs the kernel's buffers and that.
    with Cluster(protocol) as cluster, cluster.connect() as owner:
        owner.set(b"k", b"v" * 1000)
        with others_are_served(cluster), memory_stays_below(cluster.proxy, 16 * MIB):
            with RawClient(cluster.proxy.ports["p"], receive_buffer=4096) as client:
                sent = push(client, lambda: owner.get_request(b"k") * 1000, 256 * MIB)
                assert sent < 256 * MIB, "all of it was taken"


def test_a_client_that_never_reads_big_replies_is_closed(protocol: str) -> None:
    # Less than 64 replies, which one client may be owed whatever they weigh: with more it only had to wait.
    limits = {"client_output_bytes": "2MiB", "request_bytes": "2MiB"}
    # On a busy machine 64 MiB may take longer than a request of the tests may: it would be owed errors only.
    timeouts = {"request": "5s"}
    with Cluster(protocol, limits=limits, timeouts=timeouts) as cluster, cluster.connect() as owner:
        owner.set(b"k", BIG)
        with (
            others_are_served(cluster),
            memory_stays_below(cluster.proxy, 64 * MIB),
            RawClient(cluster.proxy.ports["p"], receive_buffer=4096) as client,
        ):
            client.send(owner.get_request(b"k") * 200)
            eventually(lambda: cluster.proxy.metric("shardproxy_client_output_limit_closed_total") == 1)
            got = client.expect_closed()
            assert len(got) < 32 * MIB


# --- backends that do not take what they get -------------------------------------------------------


@pytest.mark.fault
def test_a_backend_that_takes_nothing(protocol: str) -> None:
    timeouts = {"request": "5s"}
    health = {"interval": "5s", "timeout": "5s"}
    options = {"timeouts": timeouts, "health": health}
    with Cluster(protocol, shards=2, replicas=1, relays=True, **options) as cluster:
        stuck, well = keys_on(cluster.proxy, "p", 1, [row[0] for row in cluster.servers])
        cluster.relays[0][0].black_hole()
        with others_are_served(cluster, well[0]), memory_stays_below(cluster.proxy, 48 * MIB):
            clients = [cluster.connect() for _ in range(4)]
            for client in clients:
                request = client.set_request(stuck[0], b"x" * 100_000)
                sent = push(client.raw, lambda request=request: request, 64 * MIB)
                assert sent < 64 * MIB, "all of it was taken"
            for client in clients:
                client.raw.close()


@pytest.mark.fault
def test_a_slow_replica_slows_writers_down_instead_of_filling_memory(protocol: str) -> None:
    with Cluster(protocol, relays=True) as cluster:
        cluster.relays[0][1].delay(0.01)
        with memory_stays_below(cluster.proxy, 48 * MIB), cluster.connect() as client:
            request = client.set_request(b"k", b"x" * 50_000)
            writer = threading.Thread(target=lambda: client.raw.send(request * 1000))
            writer.start()
            for _ in range(1000):
                client.read_set()
            writer.join()
        assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


# --- limits ----------------------------------------------------------------------------------------


def test_too_many_clients_are_told_so(protocol: str) -> None:
    text = {
        "redis": b"-ERR max number of clients reached\r\n",
        "memcached": b"ERROR Too many open connections\r\n",
    }
    with Cluster(protocol, workers=2, limits={"clients": 5}) as cluster:
        clients = [cluster.connect() for _ in range(5)]
        for client in clients:
            client.set(b"k", b"v")
        with RawClient(cluster.proxy.ports["p"]) as extra:
            assert extra.expect_closed() == text[protocol]
        for client in clients:
            assert client.get(b"k") == b"v"
        clients.pop().raw.close()

        def accepted() -> bool:
            with cluster.connect() as client:
                return client.get(b"k") == b"v"

        eventually(accepted, what="the place of one that left is free")
        for client in clients:
            client.raw.close()


@pytest.mark.parametrize("limit", ["client_inflight", "backend_inflight"])
@pytest.mark.parametrize("workers", [1, 2])
def test_requests_beyond_the_inflight_limit_wait(protocol: str, limit: str, workers: int) -> None:
    with Cluster(protocol, shards=2, workers=workers, limits={limit: 4}) as cluster:
        clients = [cluster.connect() for _ in range(3)]
        for number, client in enumerate(clients):
            requests = [
                client.set_request(b"%d:%d" % (number, i), b"v") + client.get_request(b"%d:%d" % (number, i))
                for i in range(300)
            ]
            client.raw.send(b"".join(requests))
        for client in clients:
            for _ in range(300):
                client.read_set()
                assert client.read_get() == b"v"
            client.raw.close()


def test_requests_above_the_size_limit(protocol: str) -> None:
    limits = {"request_bytes": "64KiB", "client_output_bytes": "1MiB"}
    with Cluster(protocol, limits=limits) as cluster, cluster.connect() as client:
        client.set(b"k", b"x" * 60_000)
        with others_are_served(cluster), memory_stays_below(cluster.proxy, 16 * MIB):
            with RawClient(cluster.proxy.ports["p"]) as greedy:
                if protocol == "redis":
                    greedy.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$400000000\r\n")
                    push(greedy, lambda: b"x" * MIB, 64 * MIB)
                    assert b"-ERR" in expect_some(greedy)
                else:
                    # As the server does: the value is read and dropped, the connection lives.
                    greedy.send(b"set k 0 0 30000000\r\n")
                    push(greedy, lambda: b"x" * 30_000_000 + b"\r\n", 30_000_002)
                    assert greedy.read_line() == b"SERVER_ERROR object too large for cache\r\n"
                    greedy.send(b"version\r\n")
                    assert greedy.read_line().startswith(b"VERSION")
        # A memcached drops the value that one too large was to replace.
        assert client.get(b"k") == (b"x" * 60_000 if protocol == "redis" else None)


def expect_some(client: RawClient) -> bytes:
    """What it sends until it closes, if a reset has not taken it away."""
    try:
        return client.read_line()
    except (Closed, ConnectionError) as closed:
        pytest.fail(f"no error before the end: {closed}")


def test_half_a_request_and_silence(protocol: str) -> None:
    with Cluster(protocol, workers=2) as cluster, memory_stays_below(cluster.proxy, 16 * MIB):
        half = {"redis": b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100\r\nxx", "memcached": b"set k 0 0 100\r\nxx"}
        idle = []
        for _ in range(200):
            client = RawClient(cluster.proxy.ports["p"])
            client.send(half[protocol])
            idle.append(client)
        with others_are_served(cluster):
            pass
        idle[0].send(b"x" * 98 + b"\r\n")
        assert idle[0].read_line() in (b"+OK\r\n", b"STORED\r\n")
        for client in idle:
            client.close()


def test_memory_of_large_values_is_given_back(protocol: str) -> None:
    """And not only to the allocator, which keeps what it once had; the clients stay."""
    with Cluster(protocol, replicas=1) as cluster, ExitStack() as stack:
        clients = [stack.enter_context(cluster.connect()) for _ in range(24)]
        clients[0].set(b"small", b"value")
        before = cluster.proxy.resident_bytes()
        with ThreadPoolExecutor(len(clients)) as pool:
            for _ in range(3):
                list(pool.map(lambda client: client.set(b"big", BIG), clients))
                assert set(pool.map(lambda client: client.get(b"big"), clients)) == {BIG}
        highest = cluster.proxy.resident_bytes()
        assert highest > before + 8 * MIB
        eventually(lambda: cluster.proxy.resident_bytes() < before + 4 * MIB, within=15)
        print(f"before {before / MIB:.1f}, then {highest / MIB:.1f} MiB")


def test_a_large_value_is_held_once(protocol: str) -> None:
    """On its way to a backend and on its way back: a buffer changes hands, it is not copied."""
    value = b"x" * (48 * MIB) if protocol == "redis" else BIG
    timeouts = {"request": "30s"}
    with Cluster(protocol, replicas=1, timeouts=timeouts) as cluster, cluster.connect() as client:
        client.set(b"k", b"small")
        with memory_stays_below(cluster.proxy, len(value) * 3 // 2 + 4 * MIB):
            for _ in range(2):
                client.set(b"k", value)
                client.raw.send(client.get_request(b"k"))
                client.raw.read_line()
                left = len(value) + 2
                while left:
                    # In parts, as one buffer for all of it would be copied over and over.
                    left -= len(client.raw.read_exactly(min(left, 65_536)))
                if protocol == "memcached":
                    client.raw.expect(b"END\r\n")


def test_idle_clients_are_closed(protocol: str) -> None:
    with Cluster(protocol, timeouts={"client_idle": "1s"}) as cluster:
        with RawClient(cluster.proxy.ports["p"]) as idle, cluster.connect() as busy:
            seen: list[bytes] = []
            thread = threading.Thread(target=lambda: seen.append(idle.expect_closed()))
            thread.start()
            while thread.is_alive():
                busy.set(b"k", b"v")
            thread.join()
            assert seen == [b""]
            busy.set(b"k", b"w")


def test_clients_that_vanish(protocol: str) -> None:
    with Cluster(protocol, workers=2) as cluster, others_are_served(cluster):
        for number in range(100):
            client: Store = cluster.connect()
            client.raw.send(client.set_request(b"v%d" % number, b"x" * 10_000) * 20)
            client.raw.send(client.get_request(b"v%d" % number) * 20)
            if number % 2:
                client.raw.reset()
            else:
                client.raw.close()
        eventually(lambda: cluster.proxy.metric("shardproxy_client_connections") == 1)
        eventually(lambda: cluster.proxy.metric("shardproxy_backend_inflight") <= 2)


def test_garbage(protocol: str, rng: object) -> None:
    import random

    assert isinstance(rng, random.Random)
    with Cluster(protocol, workers=2) as cluster, others_are_served(cluster):
        for _ in range(150):
            with RawClient(cluster.proxy.ports["p"]) as client:
                words = [
                    b"*3\r\n",
                    b"$-5\r\n",
                    b"$3\r\nSET\r\n",
                    b"set a 0 0 -1\r\n",
                    b"get " + b"k" * 300 + b"\r\n",
                ]
                words += [
                    rng.randbytes(rng.randint(1, 200)),
                    b"\r\n",
                    b"*-1\r\n",
                    b"*99999999\r\n",
                    b"mg a v\r\n",
                ]
                push(client, lambda words=words: b"".join(rng.sample(words, 4)), 400)
        assert cluster.proxy.is_running()


def test_an_unknown_command_closes_nothing(protocol: str) -> None:
    with Cluster(protocol) as cluster, cluster.connect() as client:
        client.raw.send(b"nonsense\r\n" * 100)
        for _ in range(100):
            line = client.raw.read_line()
            expected = b"-ERR unknown command" if isinstance(client, RedisStore) else b"ERROR\r\n"
            assert line.startswith(expected)
        client.set(b"k", b"v")
